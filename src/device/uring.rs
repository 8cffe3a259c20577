//! The thread's side of the ring: many operations of many members at once, past the page cache, with one call to the
//! kernel for all of them.
//!
//! Invariants:
//! - From its push to its completion the kernel uses the memory of an operation. That memory lies on the heap
//!   and belongs to a slot of [`InFlight`], which its completion alone vacates. What is left there when the
//!   thread ends otherwise is leaked, the claimed files with it.
//! - A slot is at most once in the backlog or in the queues, and the queue of completions has room for all slots: it
//!   never overflows.
//! - Only one thread submits, and it ends last ([`Reactor::finish`]): a request may be cancelled when the thread that
//!   submitted it ends. One that is cancelled is made once more.
//! - What is done at once, in a member that lies in memory, has neither a slot nor an entry; it is answered where all
//!   others are, and the thread does not sleep before.
//! - The thread sleeps in the kernel, and only while the kernel watches the bell's event.

#![allow(unsafe_code)] // The kernel writes into memory behind the compiler's back; nothing safe can say so.

use super::file::{Answer, Operation};
use super::ring::{DEPTH, LANES_MAX, Lane, Shared};
use super::{DeviceError, Room};
use crate::runtime::Reactor;
use bytes::Bytes;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};
use rustix::event::PollFlags;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::forget;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

/// Entries of the submission queue: so many begin with one call.
const ENTRIES: u32 = 256;
/// Entries of the completion queue.
const COMPLETIONS: u32 = 1 << 14;
/// The bell rings twice a sleep at most, once for tasks and once for operations; this leaves room for a few sleeps.
const _: () =
    assert!(LANES_MAX * DEPTH + 16 <= COMPLETIONS as usize, "no room for all operations and the bell");
/// What completions of the bell's watch are marked with; the others with their slot.
const BELL: u64 = u64::MAX;
/// The most bytes that one operation moves: what the kernel cuts everything to, in whole blocks.
const TRANSFER_MAX: usize = 0x7fff_f000;
/// The most pieces that the kernel takes at once.
const PIECES_MAX: usize = 1024;
/// Threads of the kernel for operations that cannot begin without waiting. By default there are four for each
/// processor: those of one member that hangs could take all, and those of others would wait for ever. These are enough
/// for three such members, and as many as a machine with 64 processors has anyway.
#[allow(clippy::cast_possible_truncation)] // A small constant.
const WORKERS: u32 = 4 * DEPTH as u32;
/// Bytes of an operation on a member in memory that this thread moves itself: more take longer to copy than another
/// thread takes to wake.
const AT_ONCE_MAX: usize = 32 << 10;
/// How often in a row an operation may be put off before that is an error.
const RETRIES_MAX: u32 = 1000;
/// How long the thread rests when the kernel has no memory for a request.
const REST: Duration = Duration::from_millis(1);
/// How long the thread, at its end, waits for a device: then it leaves memory and claim behind.
const PATIENCE: Duration = Duration::from_secs(30);

/// What drives a [`Ring`](super::Ring): the reactor of one thread.
pub struct Turner {
    ring: IoUring,
    shared: Arc<Shared>,
    flight: InFlight,
    /// Slots whose requests are to be pushed.
    backlog: VecDeque<usize>,
    /// Where the queue is emptied to.
    incoming: VecDeque<(Arc<Lane>, Operation)>,
    /// What was done at once, with its result.
    done: VecDeque<(Request, i32)>,
    /// Whether the kernel watches the bell.
    listening: bool,
    /// It refused to: nothing would end a sleep.
    deaf: bool,
    /// Whether the kernel knows whose ring it is.
    enabled: bool,
    patience: Duration,
}

/// A ring for one thread, whose completions wait until that thread asks for them instead of interrupting it. Which
/// thread that is the call tells that enables the ring.
fn deferred() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(COMPLETIONS).setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    builder.setup_r_disabled().build(ENTRIES)
}

impl Turner {
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Turner> {
        let (ring, enabled) = match deferred() {
            Ok(ring) => (ring, false),
            Err(_older_kernel) => (IoUring::builder().setup_cqsize(COMPLETIONS).build(ENTRIES)?, true),
        };
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let io = [opcode::Read::CODE, opcode::Write::CODE, opcode::Writev::CODE, opcode::Fsync::CODE];
        let needed = io.iter().chain(&[opcode::PollAdd::CODE]).all(|code| probe.is_supported(*code));
        // Waiting for a limited time, and watching for more than one event, which came with the tags.
        let watches = ring.params().is_feature_ext_arg() && ring.params().is_feature_resource_tagging();
        if !watches || !needed {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // A kernel that cannot be told so has its own number.
        let _older_kernel = ring.submitter().register_iowq_max_workers(&mut [WORKERS, 0]).is_err();
        Ok(Turner {
            ring,
            shared,
            flight: InFlight::default(),
            backlog: VecDeque::new(),
            incoming: VecDeque::new(),
            done: VecDeque::new(),
            listening: false,
            deaf: false,
            enabled,
            patience: PATIENCE,
        })
    }

    /// Takes in what was submitted.
    fn take(&mut self, sleep: bool) {
        self.shared.take(&mut self.incoming, sleep);
        while let Some((lane, operation)) = self.incoming.pop_front() {
            if lane.is_memory && operation.bytes() <= AT_ONCE_MAX {
                let mut request = Request::new(operation);
                let result = request.carry_out(&lane.file);
                self.done.push_back((request, result));
            } else if let Some(operation) = lane.begin(operation) {
                self.begin(Slot::new(lane, Request::new(operation)));
            }
        }
    }

    fn begin(&mut self, slot: Slot) {
        let key = self.flight.insert(slot);
        self.backlog.push_back(key);
    }

    /// Puts as much of the backlog into the submission queue as it has room for; to `listen` comes first.
    fn push(&mut self, listen: bool) {
        let mut queue = self.ring.submission();
        if listen && !self.listening && !queue.is_full() {
            let event = types::Fd(self.shared.bell.event.as_raw_fd());
            let entry = opcode::PollAdd::new(event, u32::from(PollFlags::IN.bits())).multi(true);
            // SAFETY: the entry points to nothing, and `shared` keeps the descriptor open.
            let pushed = unsafe { queue.push(&entry.build().user_data(BELL)) };
            pushed.expect("the queue is not full");
            self.listening = true;
        }
        while !queue.is_full()
            && let Some(key) = self.backlog.pop_front()
        {
            let entry = self.flight.entry(key).user_data(key as u64);
            // SAFETY: all that the entry points to belongs to the slot's request: heap memory, which stays in place
            // while the request moves. The request leaves the slot by `remove` after this entry's completion, or is
            // leaked by `InFlight::drop`. Nothing reads or writes the memory in between: the methods of
            // `Request` are called before the push and after the removal only. The slot's lane keeps the
            // descriptor open, and the kernel takes its own reference to the file when the entry is submitted.
            let pushed = unsafe { queue.push(&entry) };
            pushed.expect("the queue is not full");
        }
    }

    /// Hands the queue to the kernel, and waits for a completion if there is nothing else to do.
    fn enter(&mut self, wait: Option<Option<Duration>>) -> io::Result<()> {
        let want = usize::from(wait.is_some() && self.backlog.is_empty() && self.listening);
        let queue = self.ring.submission();
        if want == 0 && queue.is_empty() && !queue.taskrun() {
            return Ok(());
        }
        drop(queue);
        if !self.enabled {
            self.ring.submitter().register_enable_rings()?;
            self.enabled = true;
        }
        let entered = match wait.flatten() {
            None => self.ring.submit_and_wait(want),
            Some(limit) => {
                let limit = Timespec::from(limit);
                self.ring.submitter().submit_with_args(want, &SubmitArgs::new().timespec(&limit))
            }
        };
        match entered.as_ref().err().and_then(Errno::from_io_error) {
            Some(Errno::INTR | Errno::TIME) => Ok(()),
            Some(Errno::AGAIN | Errno::BUSY) => {
                thread::sleep(REST);
                Ok(())
            }
            _ => entered.map(|_| ()),
        }
    }

    /// Carries out what was submitted until nothing is left or the time is over.
    fn drain(&mut self) -> io::Result<()> {
        let end = Instant::now() + self.patience;
        loop {
            self.take(false);
            if self.flight.is_empty() {
                self.complete();
                return Ok(());
            }
            self.push(true);
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.deaf {
                return Ok(());
            }
            self.enter(Some(Some(left)))?;
            self.complete();
        }
    }
}

impl Reactor for Turner {
    fn alarm(&self) -> Waker {
        self.shared.alarm()
    }

    fn submit(&mut self, sleep: bool) -> io::Result<()> {
        if self.deaf {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.take(sleep);
        self.push(sleep);
        let entered = self.enter((sleep && self.done.is_empty()).then_some(None));
        if sleep {
            self.shared.get_up();
        }
        entered
    }

    fn complete(&mut self) {
        while let Some((request, result)) = self.done.pop_front() {
            request.finish(result);
        }
        loop {
            // One at a time: should an answer panic, the others are still in the queue.
            let Some(entry) = self.ring.completion().next() else { return };
            if entry.user_data() == BELL {
                self.listening = cqueue::more(entry.flags());
                self.deaf = entry.result() < 0;
                continue;
            }
            let key = usize::try_from(entry.user_data()).expect("a key of ours");
            if self.flight.is_put_off(key, entry.result()) {
                self.backlog.push_back(key);
                continue;
            }
            let Slot { lane, request, .. } = self.flight.remove(key);
            match lane.end() {
                Some(next) => self.begin(Slot::new(lane, Request::new(next))),
                // The claim goes before the answer, if this was the last.
                None => drop(lane),
            }
            request.finish(entry.result());
        }
    }

    fn finish(&mut self) {
        // If the ring is broken what is left is leaked, as if the time were over.
        let _broken = self.drain().is_err();
    }
}

impl Drop for Turner {
    /// What is still in flight is leaked.
    fn drop(&mut self) {
        drop(self.shared.close());
    }
}

/// What the kernel is doing, and the memory that it does it with.
enum Request {
    Read { offset: u64, buffer: Room, answer: Answer<Bytes> },
    Write { offset: u64, pieces: Vec<Bytes>, slices: Box<[IoSlice<'static>]>, answer: Answer<usize> },
    Flush { answer: Answer<()> },
}

impl Request {
    fn new(operation: Operation) -> Request {
        match operation {
            Operation::Read { offset, len, answer } => {
                Request::Read { offset, buffer: Room::new(len.min(TRANSFER_MAX)), answer }
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

    /// Does it in this thread.
    fn carry_out(&mut self, file: &File) -> i32 {
        loop {
            let moved = match self {
                Request::Read { offset, buffer, .. } => rustix::io::pread(file, buffer.as_mut(), *offset),
                Request::Write { offset, slices, .. } => rustix::io::pwritev(file, slices, *offset),
                Request::Flush { .. } => rustix::fs::fdatasync(file).map(|()| 0),
            };
            match moved {
                Ok(moved) => return i32::try_from(moved).expect("at most AT_ONCE_MAX"),
                Err(Errno::INTR) => {}
                Err(error) => return -error.raw_os_error(),
            }
        }
    }

    fn entry(&mut self, file: types::Fd) -> squeue::Entry {
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
        }
    }

    /// Lets go of whoever waits, and never of the memory.
    fn leak(self) {
        match self {
            Request::Read { buffer, .. } => forget(buffer),
            Request::Write { pieces, slices, .. } => forget((pieces, slices)),
            Request::Flush { .. } => {}
        }
    }
}

/// The requests that the kernel has, or is about to get.
#[derive(Default)]
struct InFlight {
    slots: Vec<Option<Slot>>,
    vacant: Vec<usize>,
}

struct Slot {
    lane: Arc<Lane>,
    request: Request,
    retries: u32,
}

impl Slot {
    fn new(lane: Arc<Lane>, request: Request) -> Slot {
        Slot { lane, request, retries: 0 }
    }
}

impl InFlight {
    fn is_empty(&self) -> bool {
        self.vacant.len() == self.slots.len()
    }

    fn insert(&mut self, slot: Slot) -> usize {
        let key = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        debug_assert!(self.slots.len() <= COMPLETIONS as usize, "more slots than completions have room");
        self.slots[key] = Some(slot);
        key
    }

    fn remove(&mut self, key: usize) -> Slot {
        let slot = self.slots[key].take().expect("an entry completes once");
        self.vacant.push(key);
        slot
    }

    fn entry(&mut self, key: usize) -> squeue::Entry {
        let slot = self.slots[key].as_mut().expect("an occupied slot");
        let entry = slot.request.entry(types::Fd(slot.lane.file.as_raw_fd()));
        if slot.lane.waits { entry.flags(squeue::Flags::ASYNC) } else { entry }
    }

    /// Whether the request is to be made once more: a signal came, the kernel had no room for it, or the thread that
    /// made it is gone.
    fn is_put_off(&mut self, key: usize, result: i32) -> bool {
        let slot = self.slots[key].as_mut().expect("an entry completes once");
        let reasons = [Errno::INTR, Errno::AGAIN, Errno::CANCELED].map(Errno::raw_os_error);
        let put_off = reasons.contains(&result.wrapping_neg());
        slot.retries += u32::from(put_off);
        put_off && slot.retries <= RETRIES_MAX
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        for Slot { lane, request, .. } in self.slots.drain(..).flatten() {
            lane.give_up();
            forget(lane);
            request.leak();
        }
    }
}

#[cfg(test)]
mod tests;
