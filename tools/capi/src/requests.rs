//! Requests that the engine has, and those that it is done with, in the order in which it was: the inside of a queue.
//!
//! Invariants:
//! - A slot's waker puts the slot's number into the list of those to be looked at; whoever takes it from there polls
//!   the request, so each is polled when it was begun and when it has something to say, and never else.
//! - Locks are taken in the order slots, list. Wakers take the second one only, and no lock is held when one is called.
//! - With a descriptor, it can be read just as long as the list is not empty.

use bytes::Bytes;
use engine::error::Result;
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// What a request will answer: what was read, or nothing.
pub(crate) type Doing = Pin<Box<dyn Future<Output = Result<Bytes>> + Send>>;

/// A queue of requests, each with a tag of whoever made it.
pub(crate) struct Requests<T> {
    slots: Mutex<Slots<T>>,
    list: Arc<List>,
}

struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

struct Slot<T> {
    waker: Waker,
    request: Option<(T, Doing)>,
}

/// Requests that have something to say.
struct List {
    state: Mutex<Listed>,
    changed: Condvar,
}

struct Listed {
    ready: VecDeque<usize>,
    /// Requests that were begun and not given back yet.
    in_flight: usize,
    /// Can be read while `ready` is not empty.
    event: Option<OwnedFd>,
}

impl Listed {
    fn push(&mut self, slot: usize) {
        if self.ready.is_empty()
            && let Some(event) = &self.event
        {
            // It fails only when 2^64 were written without a read.
            let _written = rustix::io::write(event, &1u64.to_ne_bytes()).is_ok();
        }
        self.ready.push_back(slot);
    }

    fn pop(&mut self) -> Option<usize> {
        let slot = self.ready.pop_front()?;
        if self.ready.is_empty()
            && let Some(event) = &self.event
        {
            let _emptied = rustix::io::read(event, &mut [0; 8]).is_ok();
        }
        Some(slot)
    }
}

/// Wakes one slot.
struct Call {
    list: Arc<List>,
    slot: usize,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.list.state.lock().push(self.slot);
        self.list.changed.notify_one();
    }
}

/// There is no room for another request.
#[derive(Debug)]
pub(crate) struct Full;

impl<T> Requests<T> {
    /// A queue of at most `depth` requests.
    pub(crate) fn new(depth: usize) -> Requests<T> {
        let state = Listed { ready: VecDeque::with_capacity(depth), in_flight: 0, event: None };
        let list = Arc::new(List { state: Mutex::new(state), changed: Condvar::new() });
        let slot = |slot| Slot { waker: Arc::new(Call { list: list.clone(), slot }).into(), request: None };
        let slots = Slots { slots: (0..depth).map(slot).collect(), free: (0..depth).rev().collect() };
        Requests { slots: Mutex::new(slots), list }
    }

    /// Begins a request.
    ///
    /// # Errors
    /// [`Full`]; then nothing was begun.
    pub(crate) fn submit(&self, tag: T, mut doing: Doing) -> std::result::Result<(), Full> {
        let mut slots = self.slots.lock();
        let index = slots.free.pop().ok_or(Full)?;
        self.list.state.lock().in_flight += 1;
        let slot = &mut slots.slots[index];
        // The engine has it from the first poll on. Its call waits for this lock, behind which the request is found.
        if let Poll::Ready(result) = doing.as_mut().poll(&mut Context::from_waker(&slot.waker)) {
            doing = Box::pin(std::future::ready(result));
            slot.waker.wake_by_ref();
        }
        slot.request = Some((tag, doing));
        Ok(())
    }

    /// Waits for at least `min` requests, or all in flight if these are fewer, and not beyond `until`; gives back at
    /// most `max` that are done, in the order in which they were.
    pub(crate) fn wait(&self, min: usize, max: usize, until: Option<Instant>) -> Vec<(T, Result<Bytes>)> {
        let mut done = Vec::new();
        while done.len() < max {
            let Some(slot) = self.list.next(done.len() < min, until) else { break };
            done.extend(self.finish(slot));
        }
        done
    }

    /// The request in a slot, if it is done.
    fn finish(&self, index: usize) -> Option<(T, Result<Bytes>)> {
        let mut slots = self.slots.lock();
        let slot = &mut slots.slots[index];
        let (_, doing) = slot.request.as_mut()?;
        let Poll::Ready(result) = doing.as_mut().poll(&mut Context::from_waker(&slot.waker)) else {
            return None;
        };
        let (tag, _) = slot.request.take()?;
        slots.free.push(index);
        let mut state = self.list.state.lock();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            // Whoever still waits has nothing to wait for.
            self.list.changed.notify_all();
        }
        Some((tag, result))
    }

    /// What can be read while requests are done and not given back. Closed with the queue.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub(crate) fn descriptor(&self) -> io::Result<RawFd> {
        let mut state = self.list.state.lock();
        if let Some(event) = &state.event {
            return Ok(event.as_raw_fd());
        }
        let begun = u32::from(!state.ready.is_empty());
        let event = eventfd(begun, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(state.event.insert(event).as_raw_fd())
    }
}

impl List {
    /// The next slot to be looked at; waits for one if asked to, as long as any request is in flight.
    fn next(&self, waits: bool, until: Option<Instant>) -> Option<usize> {
        let mut state = self.state.lock();
        loop {
            if let Some(slot) = state.pop() {
                return Some(slot);
            }
            if !waits || state.in_flight == 0 {
                return None;
            }
            match until {
                None => self.changed.wait(&mut state),
                Some(until) if self.changed.wait_until(&mut state, until).timed_out() => return state.pop(),
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::runtime::{Completer, ticket};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::fd::BorrowedFd;
    use std::thread;
    use std::time::Duration;

    /// A request that is done when it is said.
    fn pending() -> (Completer<Bytes>, Doing) {
        let (completer, ticket) = ticket();
        (completer, Box::pin(async { Ok(ticket.await.expect("an answer")) }))
    }

    fn tags<T>(done: Vec<(T, Result<Bytes>)>) -> Vec<T> {
        done.into_iter().map(|(tag, _)| tag).collect()
    }

    #[test]
    fn what_is_done_first_is_given_first_and_room_is_used_again() {
        let requests = Requests::new(2);
        for round in 0..3 {
            let ((first, one), (second, two)) = (pending(), pending());
            requests.submit(round, one).expect("room");
            requests.submit(round + 10, two).expect("room");
            assert!(requests.submit(99, pending().1).is_err(), "there is no room for a third");
            assert!(requests.wait(0, 9, None).is_empty(), "nothing is done");
            second.complete(Bytes::from_static(b"x"));
            let done = requests.wait(0, 9, None);
            assert_eq!((done[0].0, done[0].1.as_deref().ok()), (round + 10, Some(&b"x"[..])));
            first.complete(Bytes::new());
            assert_eq!(tags(requests.wait(9, 9, None)), [round], "no more are in flight");
        }
    }

    #[test]
    fn what_is_done_at_once_is_given_like_all_else() {
        let requests = Requests::new(1);
        requests.submit(7, Box::pin(async { Ok(Bytes::new()) })).expect("room");
        assert_eq!(tags(requests.wait(1, 1, None)), [7]);
    }

    #[test]
    fn a_wait_ends_with_its_time_and_a_later_one_finds_what_it_missed() {
        let requests = Requests::new(1);
        let (completer, doing) = pending();
        requests.submit(7, doing).expect("room");
        assert!(requests.wait(1, 1, Some(Instant::now() + Duration::from_millis(20))).is_empty());
        completer.complete(Bytes::new());
        assert_eq!(tags(requests.wait(1, 1, Some(Instant::now() + Duration::from_secs(600)))), [7]);
    }

    #[test]
    fn threads_that_wait_for_more_than_comes_all_end() {
        let requests = Arc::new(Requests::new(4));
        let begun: Vec<_> = (0..4).map(|_| pending()).collect();
        let (completers, doings): (Vec<_>, Vec<_>) = begun.into_iter().unzip();
        for (tag, doing) in doings.into_iter().enumerate() {
            requests.submit(tag, doing).expect("room");
        }
        let wait = |_| {
            let requests = requests.clone();
            thread::spawn(move || tags(requests.wait(4, 4, None)))
        };
        let waiting: Vec<_> = (0..9).map(wait).collect();
        // Long enough that they sleep, mostly: then whoever takes the last one must wake the others.
        thread::sleep(Duration::from_millis(50));
        completers.into_iter().for_each(|completer| completer.complete(Bytes::new()));
        let mut given: Vec<usize> =
            waiting.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        given.sort_unstable();
        assert_eq!(given, [0, 1, 2, 3], "each is given once");
    }

    #[test]
    fn the_descriptor_can_be_read_as_long_as_something_is_to_be_given() {
        let requests = Requests::new(3);
        let begun: Vec<_> = (0..3).map(|_| pending()).collect();
        let (mut completers, doings): (Vec<_>, Vec<_>) = begun.into_iter().unzip();
        doings.into_iter().for_each(|doing| requests.submit((), doing).expect("room"));
        // It was done before anybody asked for a descriptor.
        completers.remove(0).complete(Bytes::new());
        let event = requests.descriptor().expect("a descriptor");
        assert_eq!(requests.descriptor().expect("a descriptor"), event);
        let is_ready = || {
            let state = requests.list.state.lock();
            let event: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(state.event.as_ref().expect("made"));
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(&event, PollFlags::IN)], Some(&now)).expect("polled") == 1
        };
        assert!(is_ready());
        completers.into_iter().for_each(|completer| completer.complete(Bytes::new()));
        assert_eq!(requests.wait(2, 2, None).len(), 2);
        assert!(is_ready(), "one is left");
        assert_eq!(requests.wait(1, 1, None).len(), 1);
        assert!(!is_ready());
    }
}
