//! What all members of an array share: one ring, which one thread drives, and each member's lane to it.
//!
//! Invariants:
//! - An operation that was taken is carried out, also if its device is dropped or the thread ends in good order;
//!   if the thread ends otherwise, whoever waits is told.
//! - The thread looks at the queue and says that it sleeps under one lock. So an operation that it has not seen comes
//!   after that word: whoever adds it, or another before, finds the word, takes it back and rings the bell.
//! - At most `LANES_MAX` lanes with at most `DEPTH` operations each are with the kernel: the ring's queue of
//!   completions has room for all. What is beyond a lane's depth waits in that lane, in order, and for nobody else's:
//!   a member that hangs keeps no other waiting, nor the thread. Who submits bounds how much that is: writes by the
//!   write buffer, reads by their tasks.

use super::deadline::Race;
use super::file::Operation;
use super::uring::Turner;
use super::{DeviceError, Pending};
use crate::runtime::{Completer, Owned, Sleep, ticket};
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Operations of one member that the kernel has at once.
pub(super) const DEPTH: usize = 64;
/// Members of one ring.
pub(super) const LANES_MAX: usize = 255;

/// The ring of an array: members are opened on it. Clones are the same ring.
#[derive(Clone)]
pub struct Ring {
    shared: Arc<Shared>,
}

/// What the ring's thread shares with those who submit.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// The thread sleeps, or is about to, and nobody has rung for an operation.
    asleep: AtomicBool,
    pub(super) bell: Arc<Bell>,
}

#[derive(Default)]
struct Queue {
    operations: VecDeque<(Arc<Lane>, Operation)>,
    lanes: usize,
    /// Who wants to know when there is no lane.
    vacant: Vec<Completer<()>>,
    closed: bool,
}

/// Ends the sleep of the ring's thread. The kernel watches the event for writes; nobody ever reads it.
pub(super) struct Bell {
    pub(super) event: OwnedFd,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let written = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        assert_eq!(written, Ok(8), "an event takes a one unless it holds 2^64 - 2");
    }
}

impl Ring {
    /// Asks the kernel for a ring. What is returned with it is to be driven by one thread.
    ///
    /// # Errors
    /// Those of the kernel, if it has none to give or one that lacks what is needed here.
    pub fn new() -> io::Result<(Ring, Turner)> {
        let bell = Arc::new(Bell { event: eventfd(0, EventfdFlags::CLOEXEC)? });
        let shared = Shared { queue: Mutex::default(), asleep: AtomicBool::new(false), bell };
        let shared = Arc::new(shared);
        let turner = Turner::new(shared.clone())?;
        Ok((Ring { shared }, turner))
    }

    /// A lane for the operations on a file that takes direct I/O; `None` if there are too many already.
    pub(super) fn lane(&self, file: Arc<File>) -> Option<Arc<Lane>> {
        let mut queue = self.shared.queue.lock();
        if queue.closed || queue.lanes == LANES_MAX {
            return None;
        }
        queue.lanes += 1;
        let waits = begins_by_waiting(&file);
        let is_memory = is_memory(&file);
        let place = Place { shared: self.shared.clone() };
        Some(Arc::new(Lane { file, waits, is_memory, load: Owned::default(), place }))
    }

    /// Waits until no member is open on the ring and no operation is under way, so that all claims are gone; an error
    /// if that takes longer than `limit`.
    pub fn vacant(&self, limit: Sleep) -> Pending<()> {
        let (completer, ticket) = ticket();
        let mut queue = self.shared.queue.lock();
        match queue.lanes {
            0 => completer.complete(()),
            _ => queue.vacant.push(completer),
        }
        drop(queue);
        let pending = Box::pin(async move { ticket.await.map_err(|_| DeviceError::Gone) });
        Box::pin(Race { pending, limit, last: None })
    }
}

/// A file system in user space takes a dozen operations at a time; who begins another waits until one is done, even
/// who said that he will not wait.
fn begins_by_waiting(file: &File) -> bool {
    const FUSE: rustix::fs::FsWord = 0x6573_5546;
    rustix::fs::fstatfs(file).is_ok_and(|system| system.f_type == FUSE)
}

/// A file system in memory: the kernel cannot begin its operations on the way, and would give each to a thread of its
/// own, though there is nothing to wait for.
fn is_memory(file: &File) -> bool {
    const TMPFS: rustix::fs::FsWord = 0x0102_1994;
    rustix::fs::fstatfs(file).is_ok_and(|system| system.f_type == TMPFS)
}

impl Shared {
    /// Swaps what was submitted for `empty`. With `sleep`, the thread goes to sleep now.
    pub(super) fn take(&self, empty: &mut VecDeque<(Arc<Lane>, Operation)>, sleep: bool) {
        debug_assert!(empty.is_empty(), "operations would go back to the queue");
        let mut queue = self.queue.lock();
        std::mem::swap(&mut queue.operations, empty);
        if sleep {
            self.asleep.store(true, Ordering::Relaxed);
        }
    }

    /// The thread is awake.
    pub(super) fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Takes nothing more.
    pub(super) fn close(&self) -> VecDeque<(Arc<Lane>, Operation)> {
        let mut queue = self.queue.lock();
        queue.closed = true;
        std::mem::take(&mut queue.operations)
    }

    pub(super) fn alarm(&self) -> Waker {
        Waker::from(self.bell.clone())
    }
}

/// A member's way to the ring. It, and so the claim of its file, lasts until its last operation has completed.
pub(super) struct Lane {
    pub(super) file: Arc<File>,
    /// The kernel may wait for the member before it has begun an operation: that is for a thread of its own.
    pub(super) waits: bool,
    /// Where it lies in memory, what is small is done quicker than it is given to somebody else.
    pub(super) is_memory: bool,
    load: Owned<Load>,
    /// Dropped after the file.
    place: Place,
}

/// One of the lanes of a ring.
struct Place {
    shared: Arc<Shared>,
}

/// How much of a lane is under way; only the ring's thread touches it.
#[derive(Default)]
struct Load {
    flying: usize,
    /// Empty unless `DEPTH` operations are flying.
    waiting: VecDeque<Operation>,
}

impl Lane {
    /// Submits. Drops the operation, and so tells whoever waits, if the ring is closed.
    pub(super) fn submit(self: &Arc<Lane>, operation: Operation) {
        let shared = &self.place.shared;
        let mut queue = shared.queue.lock();
        if queue.closed {
            drop(queue);
            drop(operation);
            return;
        }
        queue.operations.push_back((self.clone(), operation));
        drop(queue);
        if shared.asleep.swap(false, Ordering::Relaxed) {
            shared.bell.wake_by_ref();
        }
    }

    /// The operation, if it may begin now; else it waits.
    pub(super) fn begin(&self, operation: Operation) -> Option<Operation> {
        self.load.with(|load| {
            if load.flying == DEPTH {
                load.waiting.push_back(operation);
                return None;
            }
            load.flying += 1;
            Some(operation)
        })
    }

    /// One has completed. Returns the one that begins in its place.
    pub(super) fn end(&self) -> Option<Operation> {
        self.load.with(|load| {
            let next = load.waiting.pop_front();
            load.flying -= usize::from(next.is_none());
            next
        })
    }

    /// Lets go of those who wait.
    pub(super) fn give_up(&self) {
        let waiting = self.load.with(|load| std::mem::take(&mut load.waiting));
        drop(waiting);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let told = {
            let mut queue = self.shared.queue.lock();
            queue.lanes -= 1;
            if queue.lanes > 0 { Vec::new() } else { std::mem::take(&mut queue.vacant) }
        };
        told.into_iter().for_each(|completer| completer.complete(()));
    }
}
