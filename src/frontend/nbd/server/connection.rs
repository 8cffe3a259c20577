//! The life of a connection: one thread, which takes what the client sends, starts what it asks for, sends what is
//! done, and sleeps when there is nothing of that.
//!
//! Invariants:
//! - What is in flight is within the limits of the connection and of all of them: a request is not taken from the
//!   socket before there is room for it.
//! - A read of the engine is answered once, with the cookie of its request; in which order, the engine decides.
//! - Nothing waits for the client without a limit of time, but for its next request.

use super::Shared;
use super::budget::Lease;
use super::connections::Connections;
use super::input::{Input, Payload};
use super::line::{Doing, Line, Pending, State};
use super::listen::Socket;
use super::output::Output;
use super::perform::{Failed, Outcome, perform};
use super::stream::Stream;
use crate::frontend::bell::Bell;
use crate::frontend::nbd::negotiate::{Agreed, Negotiation, Step};
use crate::frontend::nbd::reply;
use crate::frontend::nbd::request::{Command, Header, parse};
use crate::frontend::nbd::wire::{PAYLOAD_MAX, Violation, command};
use crate::volume::Volume;
use bytes::Bytes;
use parking_lot::MutexGuard;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Bytes that a request counts at least, for what is kept of it.
const REQUEST_BYTES: u64 = 512;
/// Bytes of replies without data that wait for their client at most, before it may ask for more.
const HEADERS_MAX: usize = 256 << 10;
/// Bytes that an answer about allocation may have.
const STATUS_BYTES: u64 = 40 << 10;

/// Why a connection ends before its client said so.
enum End {
    /// The client is gone, or the server stops. Nobody need be told.
    Quiet,
    /// Something was wrong with it.
    Failed(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => End::Quiet,
            _ => End::Failed(error.to_string()),
        }
    }
}

impl From<Violation> for End {
    fn from(Violation(text): Violation) -> End {
        End::Failed(text.into())
    }
}

fn late(what: &str) -> End {
    End::Failed(format!("cut off: {what}"))
}

/// Serves a client until it goes.
pub(super) fn serve(shared: &Shared, socket: Socket, bell: Arc<Bell>) {
    let (who, mut wire) = (socket.to_string(), Wire::new(socket, bell));
    let connections = &shared.connections;
    let served = match wire.negotiate(shared) {
        Ok(Some((agreed, volume))) => Session::new(connections, wire, agreed, volume, &who).serve(),
        negotiated => {
            wire.stream.finish();
            negotiated.map(|_| ())
        }
    };
    tell(connections, &who, served);
}

/// Serves a client with whom everything was agreed on elsewhere, until it goes.
pub(super) fn serve_agreed(
    connections: &Connections,
    socket: Socket,
    bell: Arc<Bell>,
    agreed: Agreed,
    volume: Volume,
) {
    let (who, wire) = (socket.to_string(), Wire::new(socket, bell));
    let served = Session::new(connections, wire, agreed, volume, &who).serve();
    tell(connections, &who, served);
}

fn tell(connections: &Connections, who: &str, served: Result<(), End>) {
    if let Err(End::Failed(text)) = served {
        connections.complaints.tell(&format!("{who}: {text}"));
    }
}

/// What a sleep ended with.
#[derive(Clone, Copy)]
struct Woken {
    readable: bool,
    gone: bool,
}

/// Sleeps until the client or somebody else has something to say, or until then.
fn sleep(
    socket: &Socket,
    bell: &Bell,
    reads: bool,
    sends: bool,
    until: Option<Instant>,
) -> Result<Woken, End> {
    let mut woken = Woken { readable: false, gone: false };
    if !bell.lie_down() {
        return Ok(woken);
    }
    let mut wanted = PollFlags::empty();
    wanted.set(PollFlags::IN, reads);
    wanted.set(PollFlags::OUT, sends);
    let left = until.map(|until| until.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
    let left = left.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    let mut fds = [PollFd::new(socket, wanted), PollFd::new(bell, PollFlags::IN)];
    let polled = poll(&mut fds, left.as_ref());
    let found = fds[0].revents();
    bell.wake_up(!fds[1].revents().is_empty());
    match polled {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(End::Failed(format!("a connection cannot be waited for: {error}"))),
    }
    woken.gone = found.intersects(PollFlags::HUP | PollFlags::ERR);
    woken.readable = found.contains(PollFlags::IN) || woken.gone;
    Ok(woken)
}

/// A connection before requests come.
struct Wire {
    socket: Arc<Socket>,
    stream: Stream,
    bell: Arc<Bell>,
    input: Input,
    output: Output,
}

impl Wire {
    fn new(socket: Socket, bell: Arc<Bell>) -> Wire {
        let socket = Arc::new(socket);
        let stream = Stream::new(socket.clone());
        Wire { socket, stream, bell, input: Input::new(), output: Output::default() }
    }

    fn sleep(&self, reads: bool, until: Instant) -> Result<Woken, End> {
        let sends = !self.output.is_empty() || self.stream.is_pushing();
        sleep(&self.socket, &self.bell, reads, sends, Some(until))
    }

    /// Sends everything, and waits for it.
    fn send_all(&mut self, until: Instant) -> Result<(), End> {
        loop {
            self.output.send(&mut self.stream)?;
            self.stream.push()?;
            if self.output.is_empty() && !self.stream.is_pushing() {
                return Ok(());
            }
            let woken = self.sleep(false, until)?;
            if woken.gone {
                return Err(End::Quiet);
            }
            if Instant::now() > until {
                return Err(late("it does not take the answers in the handshake"));
            }
        }
    }

    /// The handshake. `None` when the client does not want more.
    fn negotiate(&mut self, shared: &Shared) -> Result<Option<(Agreed, Volume)>, End> {
        let until = Instant::now() + shared.connections.limits.handshake;
        let mut negotiation = Negotiation::new(shared.tls());
        loop {
            let (taken, step) = negotiation.advance(self.input.bytes(), shared)?;
            self.input.consume(taken);
            self.output.tail().extend(negotiation.take_ready());
            if let Step::Transmit(agreed) = step {
                let volume = shared.volumes().into_iter().find(|volume| volume.name() == agreed.export.name);
                let volume = volume.ok_or(End::Quiet)?;
                return Ok(Some((agreed, volume)));
            }
            self.send_all(until)?;
            match step {
                Step::Close => return Ok(None),
                Step::StartTls => {
                    let certificates =
                        shared.options.certificates.as_ref().expect("without them TLS is refused");
                    let session = certificates.session().map_err(|error| End::Failed(error.to_string()))?;
                    let early = self.input.bytes().to_vec();
                    self.input.consume(early.len());
                    self.stream.encrypt(session, &early)?;
                    negotiation.encrypted();
                }
                Step::More => self.receive(shared, until)?,
                Step::Taken | Step::Transmit(_) => {}
            }
        }
    }

    /// Waits for something from the client.
    fn receive(&mut self, shared: &Shared, until: Instant) -> Result<(), End> {
        loop {
            match self.input.fill(&mut self.stream) {
                Ok((0, _)) => return Err(End::Quiet),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            self.sleep(true, until)?;
            if shared.connections.is_stopping() {
                return Err(End::Quiet);
            }
            if Instant::now() > until {
                return Err(late("the handshake takes too long"));
            }
        }
    }
}

/// A request of which bytes are missing.
struct Receiving {
    header: Header,
    lease: Lease,
    payload: Payload,
}

/// The transmission phase.
struct Session<'a> {
    connections: &'a Connections,
    socket: Arc<Socket>,
    bell: Arc<Bell>,
    input: Input,
    line: Arc<Line>,
    agreed: Agreed,
    volume: Volume,
    who: &'a str,
    waker: Waker,
    receiving: Option<Receiving>,
    /// The socket may have something.
    readable: bool,
    /// What is in flight is answered, and nothing else.
    is_closing: bool,
    /// A request is in the buffer and finds no room.
    is_full: bool,
    /// When a request began to come of which bytes are missing.
    began: Option<Instant>,
    /// When something last came, or went.
    came: Instant,
    went: Instant,
    /// Nothing waits for the client to take it.
    is_sent: bool,
    has_complained: bool,
}

impl<'a> Session<'a> {
    fn new(
        connections: &'a Connections,
        wire: Wire,
        agreed: Agreed,
        volume: Volume,
        who: &'a str,
    ) -> Session<'a> {
        let Wire { socket, stream, bell, input, output } = wire;
        let line = Line::new(bell.clone(), stream, output, agreed.mode);
        let waker = Waker::from(line.clone());
        let now = Instant::now();
        Session {
            connections,
            socket,
            bell,
            input,
            line,
            agreed,
            volume,
            who,
            waker,
            receiving: None,
            readable: true,
            is_closing: false,
            is_full: false,
            began: None,
            came: now,
            went: now,
            is_sent: true,
            has_complained: false,
        }
    }

    fn serve(mut self) -> Result<(), End> {
        let line = self.line.clone();
        let mut state = line.state.lock();
        let served = self.run(&mut state);
        state.stream.finish();
        // They know the line, and the line knows them.
        let left = std::mem::take(&mut state.pending);
        drop(state);
        drop(left);
        served
    }

    fn run(&mut self, state: &mut MutexGuard<'_, State>) -> Result<(), End> {
        let limits = &self.connections.limits;
        let mut farewell = None;
        loop {
            self.gather(state);
            self.take_requests(state)?;
            let waits = state.waits();
            let sent = state.send()?;
            if sent || waits && self.is_sent {
                self.went = Instant::now();
            }
            self.is_sent = !state.waits();
            if self.connections.is_stopping() && farewell.is_none() {
                self.is_closing = true;
                farewell = Some(Instant::now() + limits.farewell);
            }
            if self.is_closing && state.pending.is_empty() && self.is_sent {
                return Ok(());
            }
            if self.is_full {
                (self.began, self.came) = (None, Instant::now());
                if sent {
                    // There is room again.
                    continue;
                }
            }
            if !self.is_closing && !self.is_full && self.readable && self.read(&mut state.stream)? {
                continue;
            }
            let reads = !self.is_closing && !self.is_full;
            let stalls = self.began.filter(|_| reads).map(|began| {
                let silent = (self.came + limits.stall, "it stopped in the middle of a request");
                let slow = (began + limits.request, "its request takes too long to come");
                if silent.0 < slow.0 { silent } else { slow }
            });
            let stuck = (!self.is_sent).then(|| (self.went + limits.stall, "it does not take its replies"));
            let leaves = farewell.map(|until| (until, "the server stops"));
            let next = [stalls, stuck, leaves].into_iter().flatten().min_by_key(|(until, _)| *until);
            // What only waits for its next request does not care for a reply that goes out meanwhile.
            state.is_quiet = reads && self.is_sent;
            let (socket, bell, sends) = (&self.socket, &self.bell, !self.is_sent);
            let until = next.map(|(until, _)| until);
            let woken = MutexGuard::unlocked(state, || sleep(socket, bell, reads, sends, until))?;
            state.is_quiet = false;
            self.readable |= woken.readable;
            if woken.gone && !reads {
                return Err(End::Quiet);
            }
            if let Some((until, what)) = next
                && Instant::now() > until
                && !woken.readable
            {
                return Err(late(what));
            }
        }
    }

    /// Answers what the engine has done.
    fn gather(&mut self, state: &mut State) {
        let mut index = 0;
        while index < state.pending.len() {
            let mut context = Context::from_waker(&self.waker);
            match state.pending[index].doing.as_mut().poll(&mut context) {
                Poll::Pending => index += 1,
                Poll::Ready(outcome) => {
                    let Pending { header, lease, .. } = state.take(index);
                    self.answer(state, &header, lease, outcome);
                }
            }
        }
    }

    fn answer(&mut self, state: &mut State, header: &Header, lease: Lease, outcome: Result<Outcome, Failed>) {
        match outcome {
            Ok(outcome) => state.reply(header, lease, outcome),
            Err(Failed { error, text, at }) => {
                reply::error(state.output.tail(), state.mode, header, error, &text, at);
                if !self.has_complained {
                    self.has_complained = true;
                    let name = &self.agreed.export.name;
                    self.connections.complaints.tell(&format!("{}: volume '{name}': {text}", self.who));
                }
            }
        }
    }

    /// Takes bytes from the socket; `false` when none are there.
    fn read(&mut self, stream: &mut Stream) -> Result<bool, End> {
        let read = match &mut self.receiving {
            Some(receiving) => receiving.payload.fill(stream),
            None => self.input.fill(stream),
        };
        match read {
            Ok((0, _)) => {
                // What it asked for before is answered, if it still listens.
                self.is_closing = true;
                Ok(true)
            }
            Ok((_, more)) => {
                self.readable = more;
                self.came = Instant::now();
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Starts every request that has come as a whole and finds room.
    fn take_requests(&mut self, state: &mut State) -> Result<(), End> {
        self.is_full = false;
        while !self.is_closing {
            if let Some(receiving) = self.receiving.take_if(|receiving| receiving.payload.is_whole()) {
                let Receiving { header, lease, payload } = receiving;
                self.start(state, header, lease, payload.finish());
                self.began = None;
            }
            if self.receiving.is_some() {
                break;
            }
            let Some((length, header)) = parse(self.agreed.mode, self.input.bytes())? else {
                let is_partial = !self.input.bytes().is_empty();
                self.began = is_partial.then(|| self.began.unwrap_or_else(Instant::now));
                break;
            };
            let Some(lease) = self.lend(state, &header) else {
                self.is_full = true;
                break;
            };
            self.input.consume(length);
            let input = &mut self.input;
            match Payload::at_once(header.offset, header.payload, input) {
                Some(payload) => {
                    self.start(state, header, lease, payload);
                    self.began = None;
                }
                None => {
                    let payload = Payload::begin(header.offset, header.payload, input);
                    self.receiving = Some(Receiving { header, lease, payload });
                    self.began = Some(self.began.unwrap_or_else(Instant::now));
                }
            }
        }
        Ok(())
    }

    /// Room for a request.
    fn lend(&self, state: &State, header: &Header) -> Option<Lease> {
        let limits = &self.connections.limits;
        let bytes = match header.kind {
            command::READ => header.length.min(PAYLOAD_MAX.into()),
            command::BLOCK_STATUS => STATUS_BYTES,
            _ => header.payload as u64,
        };
        let bytes = bytes.max(REQUEST_BYTES);
        let held = state.pending_bytes + state.output.leased();
        let is_first = state.pending.is_empty() && state.output.is_empty();
        let has_room = state.pending.len() < limits.requests && held + bytes <= limits.connection_bytes;
        if !is_first && !has_room || state.output.plain() > HEADERS_MAX {
            return None;
        }
        self.connections.budget.lend(bytes, &self.bell)
    }

    fn start(&mut self, state: &mut State, header: Header, lease: Lease, payload: Bytes) {
        let command = match header.command(&self.agreed, &payload) {
            Ok(Command::Disconnect) => {
                self.is_closing = true;
                return;
            }
            // Nothing is written, so nothing is to be made durable.
            Ok(Command::Flush) if self.agreed.export.read_only => {
                return reply::done(state.output.tail(), state.mode, &header);
            }
            Ok(command) => command,
            Err(refusal) => {
                let (output, mode) = (state.output.tail(), state.mode);
                return reply::error(output, mode, &header, refusal.error, refusal.text, None);
            }
        };
        let mut doing: Doing = Box::pin(perform(self.volume.clone(), command, payload));
        // The engine has it from the first poll on.
        match doing.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(outcome) => self.answer(state, &header, lease, outcome),
            Poll::Pending => {
                state.pending_bytes += lease.bytes;
                state.pending.push(Pending { header, lease, doing });
            }
        }
    }
}
