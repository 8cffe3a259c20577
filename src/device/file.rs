//! Members that are files or block devices, whichever way their operations go.
//!
//! Invariants:
//! - One thread carries out the operations. It ends when nobody can submit any more and all have completed, and
//!   the device waits for that before it is gone: so the claim outlasts them.
//! - At most `QUEUE_MAX` operations wait for the thread; whoever submits more waits too.

use super::open::{CLAIM_WAIT, Claimed, claim};
use super::uring::{Bell, Ring};
use super::{Device, DeviceError, OpenMode, Pending, blocking, check_range, check_write};
use crate::runtime::{Completer, ticket};
use bytes::Bytes;
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Operations that wait for one device's thread.
const QUEUE_MAX: usize = 256;

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
    kind: Kind,
    /// That of the blocking kind is started by the first operation.
    worker: Mutex<Option<Worker>>,
}

struct Worker {
    queue: SyncSender<Operation>,
    /// Wakes the thread where the queue does not.
    bell: Option<Arc<Bell>>,
    thread: JoinHandle<()>,
}

pub(super) type Answer<T> = Completer<Result<T, DeviceError>>;

/// What a device's thread is to do.
pub(super) enum Operation {
    Read { offset: u64, len: usize, answer: Answer<Bytes> },
    Write { offset: u64, pieces: Vec<Bytes>, answer: Answer<usize> },
    Flush { answer: Answer<()> },
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
        FileDevice { claimed, kind: Kind::Blocking, worker: Mutex::new(None) }
    }

    /// A device over a file that takes direct I/O.
    ///
    /// # Errors
    /// That of the system, if it has no thread.
    pub(super) fn over_ring(claimed: Claimed, ring: Ring) -> io::Result<FileDevice> {
        let file = claimed.file.clone();
        let bell = Some(ring.bell());
        let worker = Worker::start(bell, move |operations| ring.run(file, operations))?;
        Ok(FileDevice { claimed, kind: Kind::Ring, worker: Mutex::new(Some(worker)) })
    }

    /// Which way its operations go.
    pub fn kind(&self) -> Kind {
        self.kind
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
            ticket.await.unwrap_or_else(|_| Err(DeviceError::Io("the device's thread is gone".into())))
        })
    }

    fn send(&self, operation: Operation) -> Result<(), DeviceError> {
        let mut worker = self.worker.lock();
        let started = match worker.take() {
            Some(started) => started,
            None => {
                let file = self.claimed.file.clone();
                Worker::start(None, move |operations| blocking::run(&file, operations))
                    .map_err(|error| DeviceError::of(&error))?
            }
        };
        let started = worker.insert(started);
        let sent = started.queue.send(operation);
        if let Some(bell) = &started.bell {
            bell.ring();
        }
        sent.map_err(|_| DeviceError::Io("the device's thread is gone".into()))
    }
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
    /// Waits for the operations that were submitted.
    fn drop(&mut self) {
        if let Some(Worker { queue, bell, thread }) = self.worker.get_mut().take() {
            drop(queue);
            if let Some(bell) = bell {
                bell.ring();
            }
            // An answer may drop the last handle on the device's own thread; it then ends by itself.
            if thread.thread().id() != thread::current().id() {
                // Whoever waited for an operation that panicked has been told.
                let _panicked = thread.join().is_err();
            }
        }
    }
}

impl Worker {
    fn start(
        bell: Option<Arc<Bell>>,
        run: impl FnOnce(&Receiver<Operation>) + Send + 'static,
    ) -> io::Result<Worker> {
        let (queue, operations) = sync_channel(QUEUE_MAX);
        let thread = thread::Builder::new().name("paritas-io".into()).spawn(move || run(&operations))?;
        Ok(Worker { queue, bell, thread })
    }
}

#[cfg(test)]
mod tests;
