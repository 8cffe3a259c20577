//! The requests of a device that are under way: what the kernel asked for, and the engine has not answered.
//!
//! Invariant: what [`Tasks::begin`] does not answer, [`Tasks::look`] answers once.

use super::descriptors::Descriptors;
use super::payload;
use super::woken::Woken;
use crate::error::Result;
use crate::frontend::bell::Bell;
use crate::frontend::complaints::Complaints;
use crate::frontend::ublk::perform::{errno, perform};
use crate::frontend::ublk::request::Request;
use crate::frontend::ublk::wire::bytes_at;
use crate::volume::Volume;
use bytes::Bytes;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

type Doing = Pin<Box<dyn Future<Output = Result<Vec<Bytes>>> + Send>>;

/// The number of the one queue.
const QUEUE: u16 = 0;

/// What is asked of a volume.
pub(super) struct Tasks {
    pub(super) volume: Volume,
    pub(super) read_only: bool,
    /// Bytes that a request moves at most.
    pub(super) most: usize,
    pub(super) complaints: Complaints,
    file: Arc<File>,
    descriptors: Descriptors,
    woken: Arc<Woken>,
    slots: Vec<Slot>,
}

/// A request's place.
struct Slot {
    waker: Waker,
    doing: Option<(Request, Doing)>,
}

impl Tasks {
    /// Of the device whose file this is, for so many requests at a time. The bell rings when some are to be looked at.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn new(
        volume: Volume,
        read_only: bool,
        most: usize,
        complaints: Complaints,
        file: Arc<File>,
        depth: u16,
        bell: Arc<Bell>,
    ) -> io::Result<Tasks> {
        let descriptors = Descriptors::map(&file, depth)?;
        let woken = Woken::new(depth, bell);
        let slots = (0..depth).map(|tag| Slot { waker: woken.waker(tag), doing: None }).collect();
        Ok(Tasks { volume, read_only, most, complaints, file, descriptors, woken, slots })
    }

    /// Begins what a request that the kernel has handed over asks for. Returns what is to be answered, if it is done:
    /// bytes, or the negative number of an error.
    pub(super) fn begin(&mut self, tag: u16) -> Option<i32> {
        let request = match Request::parse(&self.descriptors.read(tag), self.most) {
            Ok(request) if self.read_only && request.writes() => return Some(refused(Errno::ROFS)),
            // Nothing is written, so nothing is to be made durable.
            Ok(Request::Flush) if self.read_only => return Some(0),
            Ok(request) => request,
            Err(errno) => return Some(refused(errno)),
        };
        let payload = match request {
            Request::Write { offset, length, .. } => {
                payload::take(&self.file, bytes_at(QUEUE, tag), offset, length)
            }
            _ => Ok(Bytes::new()),
        };
        let payload = match payload {
            Ok(payload) => payload,
            Err(error) => return Some(self.not_moved(&error)),
        };
        let volume = self.volume.clone();
        let doing: Doing = Box::pin(async move { perform(&volume, request, payload).await });
        self.slots[usize::from(tag)].doing = Some((request, doing));
        // The engine has it from the first poll on.
        self.look(tag)
    }

    /// Looks at a request that was woken, as [`Tasks::begin`] does. One that is answered may be woken still.
    pub(super) fn look(&mut self, tag: u16) -> Option<i32> {
        let slot = &mut self.slots[usize::from(tag)];
        let (request, doing) = slot.doing.as_mut()?;
        let Poll::Ready(outcome) = doing.as_mut().poll(&mut Context::from_waker(&slot.waker)) else {
            return None;
        };
        let request = *request;
        slot.doing = None;
        Some(match outcome {
            Ok(parts) => self.done(tag, request, &parts),
            Err(error) => {
                self.complaints.tell(&format!("volume {}: {error}", self.volume.name()));
                refused(errno(&error))
            }
        })
    }

    /// Puts the numbers of those that were woken there.
    pub(super) fn woken(&self, found: &mut Vec<u16>) {
        self.woken.take(found);
    }

    fn done(&self, tag: u16, request: Request, parts: &[Bytes]) -> i32 {
        let moved = match request {
            Request::Read { length, .. } => {
                if let Err(error) = payload::give(&self.file, bytes_at(QUEUE, tag), parts) {
                    return self.not_moved(&error);
                }
                length
            }
            Request::Write { length, .. } => length,
            Request::Flush | Request::Trim { .. } | Request::WriteZeroes { .. } => 0,
        };
        i32::try_from(moved).expect("at most `most`")
    }

    fn not_moved(&self, error: &io::Error) -> i32 {
        let name = self.volume.name();
        self.complaints.tell(&format!("volume {name}: bytes of a request cannot be moved: {error}"));
        refused(Errno::IO)
    }
}

fn refused(errno: Errno) -> i32 {
    -errno.raw_os_error()
}
