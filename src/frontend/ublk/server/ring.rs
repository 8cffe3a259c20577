//! The ring by which the kernel hands over requests and is answered: one call for all of them.
//!
//! Invariants:
//! - A request is asked for once at a time: the queue of entries has room for all of them, and so has that of
//!   completions.
//! - The thread that made the ring is the only one that uses it, which the kernel insists on.
//! - The kernel watches the bell in every sleep.

#![allow(unsafe_code)] // Entries may point to memory; that these do not, nothing safe can say.

use crate::frontend::bell::Bell;
use crate::frontend::ublk::wire::Transfer;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::PollFlags;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// The queue of requests. There is one: the engine has one thread.
const QUEUE: u16 = 0;
/// What completions of the bell's watch are marked with; the others with their request's number.
const BELL: u64 = u64::MAX;

/// The ring of one thread.
pub(super) struct Ring {
    ring: IoUring<squeue::Entry128>,
    file: Arc<File>,
    bell: Arc<Bell>,
    /// Whether the kernel watches the bell.
    is_listening: bool,
    came: VecDeque<(u16, i32)>,
}

impl Ring {
    /// For a device of this many requests, in the thread that will use it.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn new(file: Arc<File>, bell: Arc<Bell>, depth: u16) -> io::Result<Ring> {
        let mut builder = IoUring::<squeue::Entry128>::builder();
        // Completions wait until this thread asks for them instead of interrupting it. Since Linux 6.1.
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let entries = u32::from(depth) * 2;
        let ring = builder.build(entries)?;
        Ok(Ring { ring, file, bell, is_listening: false, came: VecDeque::new() })
    }

    /// Asks for a request, or answers one and asks for the next, with the next call.
    pub(super) fn ask(&mut self, tag: u16, transfer: Transfer) {
        let file = types::Fd(self.file.as_raw_fd());
        let entry = opcode::UringCmd80::new(file, transfer.opcode()).cmd(transfer.command(QUEUE, tag));
        self.push(&entry.build().user_data(tag.into()));
    }

    fn push(&mut self, entry: &squeue::Entry128) {
        // SAFETY: entries here are commands without an address, whose bytes are in the entry, and polls: none points to
        // memory. `self` keeps the descriptors open, and the kernel takes references of its own to their files
        // when the entry is submitted.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("there is room for all requests and the bell");
    }

    /// Hands everything to the kernel, and if there is to be a `sleep`, waits until a request comes, or the bell rings.
    ///
    /// # Errors
    /// Those of the system: then nothing more comes.
    pub(super) fn enter(&mut self, sleep: bool) -> io::Result<()> {
        if !self.is_listening {
            let event = types::Fd(self.bell.as_fd().as_raw_fd());
            let watch = opcode::PollAdd::new(event, u32::from(PollFlags::IN.bits())).multi(true);
            self.push(&watch.build().user_data(BELL).into());
            self.is_listening = true;
        }
        let queue = self.ring.submission();
        if !sleep && queue.is_empty() && !queue.taskrun() {
            return Ok(());
        }
        drop(queue);
        let entered = self.ring.submit_and_wait(usize::from(sleep));
        match entered.as_ref().err().and_then(Errno::from_io_error) {
            None | Some(Errno::INTR | Errno::AGAIN | Errno::BUSY) => {}
            Some(error) => return Err(error.into()),
        }
        for entry in self.ring.completion() {
            if entry.user_data() == BELL {
                // Each ring is told once: what the event has counted need not be read.
                self.is_listening = cqueue::more(entry.flags());
                if entry.result() < 0 {
                    return Err(io::Error::from_raw_os_error(entry.result().wrapping_neg()));
                }
            } else {
                let tag = u16::try_from(entry.user_data()).expect("a number of ours");
                self.came.push_back((tag, entry.result()));
            }
        }
        Ok(())
    }

    /// A request that came, with what the kernel says to that.
    pub(super) fn next(&mut self) -> Option<(u16, i32)> {
        self.came.pop_front()
    }
}
