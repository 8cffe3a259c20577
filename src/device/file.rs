//! Members that are files or block devices, whichever way their operations go.
//!
//! Invariants:
//! - Operations that were submitted complete, also if the device is dropped; the claim lasts until then. The blocking
//!   kind waits for that when it is dropped, for a limited time; for the other, the end of the ring's driver does.
//! - Whoever submits never waits: on the thread that submits, others wait for other members. What waits in the queue
//!   of a member that hangs is bounded as in a ring's lane.

use super::open::{CLAIM_WAIT, Claimed, claim};
use super::ring::{Lane, Ring};
use super::{Device, DeviceError, OpenMode, Pending, blocking, check_range, check_write};
use crate::runtime::{Completer, ticket};
use bytes::Bytes;
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long who drops a device of the blocking kind waits for its operations, and for those of one that was only read.
/// Then its thread keeps memory and claim until they end.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_FOR_READS: Duration = Duration::from_millis(100);

/// Which way the operations of a device go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Through the page cache, one at a time.
    Blocking,
    /// Through io_uring, past the page cache, many at once.
    Ring,
}

/// A regular file or block device as a member.
pub struct FileDevice {
    claimed: Claimed,
    way: Way,
}

enum Way {
    /// A thread of its own, which the first operation starts.
    Blocking(Mutex<Option<Worker>>),
    Ring(Arc<Lane>),
}

struct Worker {
    queue: Sender<Operation>,
    thread: JoinHandle<()>,
    /// Disconnected when the thread has nothing more to do.
    ended: Receiver<()>,
}

pub(super) type Answer<T> = Completer<Result<T, DeviceError>>;

/// What is to be done on a device.
pub(super) enum Operation {
    Read { offset: u64, len: usize, answer: Answer<Bytes> },
    Write { offset: u64, pieces: Vec<Bytes>, answer: Answer<usize> },
    Flush { answer: Answer<()> },
}

impl Operation {
    /// How many it moves.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Operation::Read { len, .. } => *len,
            Operation::Write { pieces, .. } => pieces.iter().map(Bytes::len).sum(),
            Operation::Flush { .. } => 0,
        }
    }
}

impl FileDevice {
    /// Opens what is at `path` as a device of the blocking kind; its length is fixed from here on.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] if somebody else had it open for writing for two seconds, or it is mounted;
    /// [`io::ErrorKind::InvalidInput`] if it is neither a regular file nor a block device.
    pub fn open(path: impl AsRef<Path>, mode: OpenMode) -> io::Result<FileDevice> {
        claim(path.as_ref(), mode, CLAIM_WAIT).map(FileDevice::blocking)
    }

    pub(super) fn blocking(claimed: Claimed) -> FileDevice {
        FileDevice { claimed, way: Way::Blocking(Mutex::new(None)) }
    }

    /// A device over a file that takes direct I/O; `None` if the ring takes no more members.
    pub(super) fn over_ring(claimed: Claimed, ring: &Ring) -> Option<FileDevice> {
        let lane = ring.lane(claimed.file.clone())?;
        Some(FileDevice { claimed, way: Way::Ring(lane) })
    }

    /// Which way its operations go.
    pub fn kind(&self) -> Kind {
        match self.way {
            Way::Blocking(_) => Kind::Blocking,
            Way::Ring(_) => Kind::Ring,
        }
    }

    #[cfg(test)]
    pub(super) fn claimed(&self) -> &Claimed {
        &self.claimed
    }

    /// Submits at once, if the request is valid.
    fn submit<T: Send + 'static>(
        &self,
        checked: Result<(), DeviceError>,
        operation: impl FnOnce(Answer<T>) -> Operation,
    ) -> Pending<T> {
        let (answer, ticket) = ticket();
        let sent = checked.and_then(|()| self.send(operation(answer)));
        Box::pin(async move {
            sent?;
            ticket.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    fn send(&self, operation: Operation) -> Result<(), DeviceError> {
        let worker = match &self.way {
            Way::Blocking(worker) => worker,
            Way::Ring(lane) => {
                lane.submit(operation);
                return Ok(());
            }
        };
        let mut worker = worker.lock();
        let started = match worker.take() {
            Some(started) => started,
            None => Worker::start(&self.claimed).map_err(|error| DeviceError::of(&error))?,
        };
        worker.insert(started).queue.send(operation).map_err(|_| gone())
    }
}

fn gone() -> DeviceError {
    DeviceError::Io("the device's thread is gone".into())
}

impl Device for FileDevice {
    fn len(&self) -> u64 {
        self.claimed.len
    }

    fn read(&self, offset: u64, len: usize) -> Pending<Bytes> {
        let checked = check_range(self.claimed.len, offset, len);
        self.submit(checked, |answer| Operation::Read { offset, len, answer })
    }

    /// Fewer bytes are written, too, where there are more pieces than the kernel takes at once.
    fn write(&self, offset: u64, pieces: Vec<Bytes>) -> Pending<usize> {
        let checked = match self.claimed.mode {
            OpenMode::ReadWrite => check_write(self.claimed.len, offset, &pieces).map(|_| ()),
            OpenMode::ReadOnly => Err(DeviceError::Invalid("the device was opened to be read".into())),
        };
        self.submit(checked, |answer| Operation::Write { offset, pieces, answer })
    }

    fn flush(&self) -> Pending<()> {
        self.submit(Ok(()), |answer| Operation::Flush { answer })
    }
}

impl Drop for FileDevice {
    fn drop(&mut self) {
        if let Way::Blocking(worker) = &mut self.way
            && let Some(Worker { queue, thread, ended }) = worker.get_mut().take()
        {
            drop(queue);
            // An answer may drop the last handle on the device's own thread; it then ends by itself.
            let is_other = thread.thread().id() != thread::current().id();
            let patience = match self.claimed.mode {
                OpenMode::ReadOnly => PATIENCE_FOR_READS,
                OpenMode::ReadWrite => PATIENCE,
            };
            if is_other && ended.recv_timeout(patience) != Err(RecvTimeoutError::Timeout) {
                // Whoever waited for an operation that panicked has been told.
                let _panicked = thread.join().is_err();
            }
        }
    }
}

impl Worker {
    fn start(claimed: &Claimed) -> io::Result<Worker> {
        let (queue, operations) = channel();
        let (ending, ended) = channel();
        let file = claimed.file.clone();
        let run = move || {
            let _ending: Sender<()> = ending;
            blocking::run(&file, &operations);
        };
        let thread = thread::Builder::new().name("paritas-io".into()).spawn(run)?;
        Ok(Worker { queue, thread, ended })
    }
}

#[cfg(test)]
mod tests;
