//! What a connection's thread shares with the engine's: requests in flight, and replies on their way out.
//!
//! A client that has one request in flight waits for two threads to wake, one after the other: that of the engine, and
//! that of its connection, only to send what the engine has done. So the engine's thread sends it itself where there
//! is nothing else to do or to say: the connection's thread sleeps, this is the only request, and nothing waits to be
//! sent.
//!
//! Invariants:
//! - While the connection's thread is awake, it holds the lock; who wakes it tries to have the lock, and never waits.
//! - Sending never waits for the client. Whatever is left to be done or said the bell is rung for.
//! - What takes long is for the connection's thread, as large replies and encryption do, and what failed, of which it
//!   tells people.

use super::budget::Lease;
use super::output::Output;
use super::perform::{Failed, Outcome};
use super::stream::Stream;
use crate::frontend::bell::Bell;
use crate::frontend::nbd::reply;
use crate::frontend::nbd::request::Header;
use crate::frontend::nbd::wire::Mode;
use parking_lot::Mutex;
use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Bytes of a reply that the engine's thread sends: to copy more takes longer than to wake another thread.
const AT_ONCE_MAX: usize = 64 << 10;

pub(super) type Doing = Pin<Box<dyn Future<Output = Result<Outcome, Failed>> + Send>>;

/// A request that the engine has.
pub(super) struct Pending {
    pub(super) header: Header,
    pub(super) lease: Lease,
    pub(super) doing: Doing,
}

pub(super) struct Line {
    bell: Arc<Bell>,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) stream: Stream,
    pub(super) output: Output,
    pub(super) mode: Mode,
    pub(super) pending: Vec<Pending>,
    /// What is lent to those.
    pub(super) pending_bytes: u64,
    /// The connection's thread sleeps, and does not need to know of a request that is done.
    pub(super) is_quiet: bool,
}

impl Line {
    pub(super) fn new(bell: Arc<Bell>, stream: Stream, output: Output, mode: Mode) -> Arc<Line> {
        let state = State { stream, output, mode, pending: Vec::new(), pending_bytes: 0, is_quiet: false };
        Arc::new(Line { bell, state: Mutex::new(state) })
    }

    /// Answers the only request in flight; `false` when the connection's thread is to see to it.
    fn answer(self: &Arc<Line>) -> bool {
        let Some(mut state) = self.state.try_lock() else { return false };
        let State { pending, output, stream, is_quiet, .. } = &mut *state;
        let ([only], true) = (pending.as_mut_slice(), *is_quiet && output.is_empty() && stream.is_plain())
        else {
            return false;
        };
        let waker = Waker::from(self.clone());
        match only.doing.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => true,
            Poll::Ready(Ok(outcome)) if outcome.bytes() <= AT_ONCE_MAX => {
                let Pending { header, lease, .. } = state.take(0);
                state.reply(&header, lease, outcome);
                state.send().is_ok() && state.output.is_empty()
            }
            Poll::Ready(outcome) => {
                only.doing = Box::pin(ready(outcome));
                false
            }
        }
    }
}

impl Wake for Line {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.answer() {
            self.bell.ring();
        }
    }
}

impl State {
    /// Whether something waits for the client to take it.
    pub(super) fn waits(&self) -> bool {
        !self.output.is_empty() || self.stream.is_pushing()
    }

    /// Sends what the client takes now. Returns whether that was anything.
    pub(super) fn send(&mut self) -> io::Result<bool> {
        let sent = self.output.send(&mut self.stream)?;
        self.stream.push()?;
        Ok(sent)
    }

    /// A request that is done.
    pub(super) fn take(&mut self, index: usize) -> Pending {
        let done = self.pending.swap_remove(index);
        self.pending_bytes -= done.lease.bytes;
        done
    }

    pub(super) fn reply(&mut self, header: &Header, lease: Lease, outcome: Outcome) {
        let (mode, output) = (self.mode, &mut self.output);
        match outcome {
            Outcome::Done => reply::done(output.tail(), mode, header),
            Outcome::Data(parts) => {
                reply::data(output.tail(), mode, header, parts.iter().map(|part| part.len()).sum());
                output.push(parts, lease);
            }
            Outcome::Runs(runs) => reply::status(output.tail(), mode, header, &runs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::super::listen::Socket;
    use super::*;
    use crate::frontend::nbd::wire::{Errno, command};
    use bytes::Bytes;
    use rustix::net::sockopt::set_socket_send_buffer_size;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    /// A line whose thread sleeps, its bell, and the client.
    fn quiet() -> (Arc<Line>, Arc<Bell>, UnixStream) {
        quiet_with(1 << 20)
    }

    /// The same, with a socket that takes so many bytes, or as few as there can be.
    fn quiet_with(takes: usize) -> (Arc<Line>, Arc<Bell>, UnixStream) {
        let (own, client) = UnixStream::pair().expect("a pair");
        set_socket_send_buffer_size(&own, takes).expect("set");
        own.set_nonblocking(true).expect("set");
        client.set_nonblocking(true).expect("set");
        let bell = Bell::new().expect("an event");
        let stream = Stream::new(Arc::new(Socket::Unix(own)));
        let line = Line::new(bell.clone(), stream, Output::default(), Mode::Simple);
        line.state.lock().is_quiet = true;
        (line, bell, client)
    }

    fn add(line: &Line, bell: &Arc<Bell>, cookie: u64, doing: Doing) {
        let header = Header { flags: 0, kind: command::READ, cookie, offset: 0, length: 3, payload: 0 };
        let lease = Budget::new(512).lend(512, bell).expect("there is enough");
        let mut state = line.state.lock();
        state.pending_bytes += lease.bytes;
        state.pending.push(Pending { header, lease, doing });
    }

    fn done() -> Doing {
        Box::pin(ready(Ok(Outcome::Data(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")]))))
    }

    fn data(bytes: usize) -> Doing {
        Box::pin(ready(Ok(Outcome::Data(vec![Bytes::from(vec![3; bytes])]))))
    }

    /// What the client got, and whether the bell was rung.
    fn after_a_wake(line: &Arc<Line>, bell: &Bell, client: &mut UnixStream) -> (Vec<u8>, bool) {
        Waker::from(line.clone()).wake();
        let mut got = [0; 64];
        let count = client.read(&mut got).unwrap_or(0);
        let rung = !bell.lie_down();
        bell.wake_up(false);
        (got[..count].to_vec(), rung)
    }

    #[test]
    fn the_only_request_of_a_quiet_line_is_answered_at_once_and_its_thread_sleeps_on() {
        let (line, bell, mut client) = quiet();
        add(&line, &bell, 7, done());
        let (got, rung) = after_a_wake(&line, &bell, &mut client);
        assert!(got.len() == 16 + 3 && got.ends_with(b"\x07abc") && !rung, "{got:?}");
        let state = line.state.lock();
        assert!(state.pending.is_empty() && state.pending_bytes == 0 && !state.waits());
    }

    #[test]
    fn whatever_is_more_than_that_is_left_to_the_thread() {
        let failed =
            || -> Doing { Box::pin(ready(Err(Failed { error: Errno::Io, text: "text".into(), at: None }))) };
        for case in ["awake", "busy", "two", "waits", "failed", "large", "not done"] {
            let (line, bell, mut client) = quiet();
            let doing = match case {
                "failed" => failed(),
                "large" => data(AT_ONCE_MAX + 1),
                _ => done(),
            };
            add(&line, &bell, 7, doing);
            let mut held = None;
            match case {
                "awake" => held = Some(line.state.lock()),
                "busy" => line.state.lock().is_quiet = false,
                "two" => add(&line, &bell, 8, Box::pin(std::future::pending())),
                "waits" => line.state.lock().output.tail().push(1),
                "not done" => line.state.lock().pending[0].doing = Box::pin(std::future::pending()),
                _ => {}
            }
            let (got, rung) = after_a_wake(&line, &bell, &mut client);
            assert!(got.is_empty() && rung == (case != "not done"), "{case}");
            drop(held);
            let mut state = line.state.lock();
            assert!(!state.pending.is_empty(), "{case}: nothing is lost");
            if case == "failed" {
                let polled = state.pending[0].doing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(matches!(polled, Poll::Ready(Err(Failed { error: Errno::Io, .. }))));
            }
        }
    }

    #[test]
    fn a_reply_that_the_client_does_not_take_whole_is_left_to_the_thread() {
        let (line, bell, mut client) = quiet_with(0);
        add(&line, &bell, 7, data(AT_ONCE_MAX));
        let (got, rung) = after_a_wake(&line, &bell, &mut client);
        assert!(!got.is_empty() && rung && line.state.lock().waits());
    }
}
