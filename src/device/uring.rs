//! The thread of a member whose operations go through io_uring: many at once, past the page cache.
//!
//! Invariants:
//! - From its push to its completion the kernel uses the memory of an operation. That memory lies on the heap
//!   and belongs to a slot of [`InFlight`], which its completion alone vacates. What is left there when the
//!   thread ends otherwise is leaked, the claimed file with it.
//! - A slot has at most one entry in the queues, and both queues have room for all slots: neither overflows.
//! - Only this thread submits, and it ends last: a request may be cancelled when the thread that submitted it ends.
//! - The thread sleeps in the kernel. A read of the event is in flight while the queue was seen empty and not
//!   closed since the bell was last heard; otherwise an operation is.

// The kernel writes into memory behind the compiler's back; nothing safe can say so.
#![allow(unsafe_code)]

use super::file::{Answer, Operation};
use super::{Aligned, DeviceError};
use bytes::Bytes;
use io_uring::{IoUring, Probe, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::forget;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

/// Operations of one device that the kernel has at once.
const DEPTH: usize = 128;
/// Entries of the submission queue: the first power of two with room for all operations and the event's read.
const ENTRIES: u32 = 256;
/// The most bytes that one operation moves: what the kernel cuts everything to, in whole blocks.
const TRANSFER_MAX: usize = 0x7fff_f000;
/// The most pieces that the kernel takes at once.
const PIECES_MAX: usize = 1024;
/// How often in a row an operation may be put off before that is an error.
const RETRIES_MAX: u32 = 1000;
/// How long the thread rests when the kernel has no memory for a request.
const REST: Duration = Duration::from_millis(1);

/// A ring that no thread drives yet.
pub(super) struct Ring {
    ring: IoUring,
    bell: Arc<Bell>,
}

/// Wakes the ring's thread.
///
/// Who submits makes the operation visible first and rings then; the thread marks the bell as heard first and
/// looks then. So either it sees the operation or the bell rings again.
pub(super) struct Bell {
    event: OwnedFd,
    /// The event is, or is about to be, written, and the thread has not heard of it.
    rung: AtomicBool,
}

impl Bell {
    /// To be called after every operation, and once nobody will submit any more.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            let written = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
            assert_eq!(written, Ok(8), "an event takes a one unless it holds 2^64 - 2");
        }
    }

    fn heard(&self) {
        self.rung.swap(false, Ordering::AcqRel);
    }
}

impl Ring {
    /// Asks the kernel for a ring.
    ///
    /// # Errors
    /// Those of the kernel, if it has none to give or one that lacks what is needed here.
    pub(super) fn new() -> io::Result<Ring> {
        let ring = IoUring::new(ENTRIES)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [opcode::Read::CODE, opcode::Write::CODE, opcode::Writev::CODE, opcode::Fsync::CODE];
        if !needed.iter().all(|code| probe.is_supported(*code)) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Ring { ring, bell: Arc::new(Bell { event, rung: AtomicBool::new(false) }) })
    }

    /// What is to be rung after every submission.
    pub(super) fn bell(&self) -> Arc<Bell> {
        self.bell.clone()
    }

    /// Carries out all operations until nobody can submit any more. Returns early if the ring is broken; then
    /// all tickets tell that nobody answers.
    pub(super) fn run(mut self, file: Arc<File>, operations: &Receiver<Operation>) {
        let mut flight = InFlight::new(file, self.bell.clone());
        let mut completions = Vec::with_capacity(DEPTH);
        let mut open = true;
        let mut listening = false;
        loop {
            let mut seen_empty = false;
            while open && !seen_empty && flight.operations(listening) < DEPTH {
                match operations.try_recv() {
                    Ok(operation) => {
                        let key = flight.insert(Request::new(operation));
                        self.push(&mut flight, key);
                    }
                    Err(TryRecvError::Empty) => seen_empty = true,
                    Err(TryRecvError::Disconnected) => open = false,
                }
            }
            // While there may be more in the queue the last ring may have been the one that tells of the end.
            if open && seen_empty && !listening {
                let key = flight.insert(Request::Listen { word: Box::new([0; 8]) });
                self.push(&mut flight, key);
                listening = true;
            }
            if flight.is_empty() {
                return;
            }
            if let Err(error) = self.ring.submit_and_wait(1) {
                match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    Some(Errno::AGAIN | Errno::BUSY) => thread::sleep(REST),
                    _ => return,
                }
            }
            completions.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result())));
            for (key, result) in completions.drain(..) {
                let key = usize::try_from(key).expect("a key of ours");
                if flight.is_put_off(key, result) {
                    self.push(&mut flight, key);
                    continue;
                }
                let request = flight.remove(key);
                if matches!(request, Request::Listen { .. }) {
                    self.bell.heard();
                    listening = false;
                } else {
                    request.finish(result);
                }
            }
        }
    }

    /// Queues the request in slot `key`, which has no entry in the queues.
    fn push(&mut self, flight: &mut InFlight, key: usize) {
        let entry = flight.entry(key).user_data(key as u64);
        // SAFETY: all that the entry points to belongs to the slot's request: heap memory, which stays in place
        // while the request moves. The request leaves the slot by `remove` after this entry's completion, or is
        // leaked by `InFlight::drop`. Nothing reads or writes the memory in between: the methods of
        // `Request` are called before the push and after the removal only. `InFlight` keeps both descriptors
        // open, and the kernel takes its own references to the files when the entry is submitted.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("a slot has at most one entry, and there are more entries than slots");
    }
}

/// What the kernel is doing, and the memory that it does it with.
enum Request {
    Read { offset: u64, buffer: Aligned, answer: Answer<Bytes> },
    Write { offset: u64, pieces: Vec<Bytes>, slices: Box<[IoSlice<'static>]>, answer: Answer<usize> },
    Flush { answer: Answer<()> },
    Listen { word: Box<[u8; 8]> },
}

impl Request {
    fn new(operation: Operation) -> Request {
        match operation {
            Operation::Read { offset, len, answer } => {
                Request::Read { offset, buffer: Aligned::zeroed(len.min(TRANSFER_MAX)), answer }
            }
            Operation::Write { offset, pieces, answer } => {
                let slices = pieces.iter().take(PIECES_MAX).map(|piece| {
                    // SAFETY: the bytes are immutable, stay in place when `piece` moves, and live as long as it;
                    // it lies in the same request, whose `slices` nobody reads but the kernel.
                    IoSlice::new(unsafe { std::slice::from_raw_parts(piece.as_ptr(), piece.len()) })
                });
                Request::Write { offset, slices: slices.collect(), pieces, answer }
            }
            Operation::Flush { answer } => Request::Flush { answer },
        }
    }

    fn entry(&mut self, file: types::Fd, event: types::Fd) -> squeue::Entry {
        match self {
            Request::Read { offset, buffer, .. } => {
                let buffer = buffer.as_mut();
                let len = u32::try_from(buffer.len()).expect("at most TRANSFER_MAX");
                opcode::Read::new(file, buffer.as_mut_ptr(), len).offset(*offset).build()
            }
            Request::Write { offset, pieces, slices, .. } => match pieces.as_slice() {
                [piece] => {
                    let len = u32::try_from(piece.len().min(TRANSFER_MAX)).expect("a smaller constant");
                    opcode::Write::new(file, piece.as_ptr(), len).offset(*offset).build()
                }
                // An `IoSlice` is an `iovec` in memory, which the standard library promises.
                _ => {
                    let count = u32::try_from(slices.len()).expect("at most PIECES_MAX");
                    opcode::Writev::new(file, slices.as_ptr().cast(), count).offset(*offset).build()
                }
            },
            Request::Flush { .. } => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
            Request::Listen { word } => opcode::Read::new(event, word.as_mut_ptr(), 8).build(),
        }
    }

    /// Answers whoever waits.
    fn finish(self, result: i32) {
        let result = usize::try_from(result)
            .map_err(|_| DeviceError::of(&io::Error::from_raw_os_error(result.wrapping_neg())));
        match self {
            Request::Read { buffer, answer, .. } => answer.complete(result.map(|read| {
                let mut bytes = buffer.freeze();
                bytes.truncate(read);
                bytes
            })),
            Request::Write { pieces, slices, answer, .. } => {
                // The buffers go back before the writer goes on.
                drop((slices, pieces));
                answer.complete(result);
            }
            Request::Flush { answer } => answer.complete(result.map(|_| ())),
            Request::Listen { .. } => {}
        }
    }

    /// Lets go of whoever waits, and never of the memory.
    fn leak(self) {
        match self {
            Request::Read { buffer, .. } => forget(buffer),
            Request::Write { pieces, slices, .. } => forget((pieces, slices)),
            Request::Flush { .. } => {}
            Request::Listen { word } => forget(word),
        }
    }
}

/// The requests that the kernel has.
struct InFlight {
    file: Arc<File>,
    bell: Arc<Bell>,
    slots: Vec<Option<Slot>>,
    vacant: Vec<usize>,
}

struct Slot {
    request: Request,
    retries: u32,
}

impl InFlight {
    fn new(file: Arc<File>, bell: Arc<Bell>) -> InFlight {
        let slots: Vec<_> = (0..=DEPTH).map(|_| None).collect();
        InFlight { file, bell, vacant: (0..slots.len()).collect(), slots }
    }

    fn is_empty(&self) -> bool {
        self.vacant.len() == self.slots.len()
    }

    /// How many requests are operations, and not the event's read.
    fn operations(&self, listening: bool) -> usize {
        self.slots.len() - self.vacant.len() - usize::from(listening)
    }

    fn insert(&mut self, request: Request) -> usize {
        let key = self.vacant.pop().expect("as many slots as operations, and one for the event");
        self.slots[key] = Some(Slot { request, retries: 0 });
        key
    }

    fn remove(&mut self, key: usize) -> Request {
        let slot = self.slots[key].take().expect("an entry completes once");
        self.vacant.push(key);
        slot.request
    }

    fn entry(&mut self, key: usize) -> squeue::Entry {
        let slot = self.slots[key].as_mut().expect("an occupied slot");
        let (file, event) = (types::Fd(self.file.as_raw_fd()), types::Fd(self.bell.event.as_raw_fd()));
        slot.request.entry(file, event)
    }

    /// Whether the request is to be made once more: a signal came, or the kernel had no room for it.
    fn is_put_off(&mut self, key: usize, result: i32) -> bool {
        let slot = self.slots[key].as_mut().expect("an entry completes once");
        let put_off = [Errno::INTR, Errno::AGAIN].map(Errno::raw_os_error).contains(&result.wrapping_neg());
        slot.retries += u32::from(put_off);
        put_off && slot.retries <= RETRIES_MAX
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.is_empty() {
            forget(self.file.clone());
            self.slots.drain(..).flatten().for_each(|slot| slot.request.leak());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::ticket;
    use crate::types::BLOCK;

    fn flight() -> InFlight {
        let event = eventfd(0, EventfdFlags::CLOEXEC).expect("an event");
        let bell = Bell { event, rung: AtomicBool::new(false) };
        InFlight::new(Arc::new(tempfile::tempfile().expect("a file")), Arc::new(bell))
    }

    #[test]
    fn what_is_put_off_is_tried_again_but_not_for_ever() {
        let mut flight = flight();
        let (answer, ticket) = ticket();
        let key = flight.insert(Request::Flush { answer });
        assert!(!flight.is_put_off(key, 0));
        assert!(!flight.is_put_off(key, -Errno::IO.raw_os_error()));
        for _ in 0..RETRIES_MAX / 2 {
            assert!(flight.is_put_off(key, -Errno::INTR.raw_os_error()));
            assert!(flight.is_put_off(key, -Errno::AGAIN.raw_os_error()));
        }
        assert!(!flight.is_put_off(key, -Errno::AGAIN.raw_os_error()));
        flight.remove(key).finish(-Errno::NOSPC.raw_os_error());
        assert_eq!(ticket.wait(), Ok(Err(DeviceError::NoSpace)));
    }

    #[test]
    fn a_thread_that_ends_early_keeps_the_memory_and_the_claim_and_tells_who_waits() {
        let mut flight = flight();
        let file = flight.file.clone();
        let piece = Bytes::from(vec![3; BLOCK]);
        let (answer, ticket) = ticket();
        flight.insert(Request::new(Operation::Write { offset: 0, pieces: vec![piece.clone()], answer }));
        drop(flight);
        assert!(ticket.wait().is_err());
        assert!(!piece.is_unique(), "the kernel's bytes were let go");
        assert_eq!(Arc::strong_count(&file), 2, "the claim was let go");
    }

    #[test]
    fn a_thread_that_ends_in_time_keeps_nothing() {
        let mut flight = flight();
        let file = flight.file.clone();
        let piece = Bytes::from(vec![3; BLOCK]);
        let (answer, ticket) = ticket();
        let key =
            flight.insert(Request::new(Operation::Write { offset: 0, pieces: vec![piece.clone()], answer }));
        flight.remove(key).finish(4096);
        drop(flight);
        assert_eq!(ticket.wait(), Ok(Ok(BLOCK)));
        assert!(piece.is_unique());
        assert_eq!(Arc::strong_count(&file), 1);
    }
}
