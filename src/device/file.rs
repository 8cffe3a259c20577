//! Members that are files or block devices, through the page cache: the portable kind.
//!
//! Invariants:
//! - Operations run one after the other on the device's own thread, in the order of their submission, so a flush
//!   covers at least what the port promises.
//! - The claim is a lock on the open file that does the I/O: it lasts until the last operation has ended, also
//!   if its owner is killed.
//! - At most `QUEUE_MAX` operations wait; whoever submits more waits too.

use super::{Aligned, Device, DeviceError, Pending, check_range, check_write};
use crate::runtime::{Completer, ticket};
use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Operations that wait for one device's thread.
const QUEUE_MAX: usize = 256;
/// How long an opener waits for the owner before it: a killed one's last operation may still be on its way.
const CLAIM_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const CLAIM_POLL: Duration = Duration::from_millis(20);

/// What a device is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// To be read, whoever else has it open.
    ReadOnly,
    /// To be read and written, by nobody else.
    ReadWrite,
}

/// A regular file or block device as a member.
pub struct FileDevice {
    file: Arc<File>,
    mode: OpenMode,
    len: u64,
    /// Started by the first operation.
    worker: Mutex<Option<Worker>>,
}

struct Worker {
    queue: SyncSender<Operation>,
    thread: JoinHandle<()>,
}

type Answer<T> = Completer<Result<T, DeviceError>>;

enum Operation {
    Read { offset: u64, len: usize, answer: Answer<Bytes> },
    Write { offset: u64, pieces: Vec<Bytes>, answer: Answer<usize> },
    Flush { answer: Answer<()> },
}

impl FileDevice {
    /// Opens what is at `path`; its length is fixed from here on.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] if somebody else had it open for writing for two seconds, or it is mounted;
    /// [`io::ErrorKind::InvalidInput`] if it is neither a regular file nor a block device.
    pub fn open(path: impl AsRef<Path>, mode: OpenMode) -> io::Result<FileDevice> {
        FileDevice::open_within(path.as_ref(), mode, CLAIM_WAIT)
    }

    fn open_within(path: &Path, mode: OpenMode, wait: Duration) -> io::Result<FileDevice> {
        let kind = std::fs::metadata(path)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let text = format!("{} is neither a regular file nor a block device", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut options = OpenOptions::new();
        options.read(true);
        if mode == OpenMode::ReadWrite {
            options.write(true);
            if kind.is_block_device() {
                // The kernel's own claim: refuses what is mounted or part of another array.
                let exclusive = rustix::fs::OFlags::EXCL.bits();
                options.custom_flags(i32::try_from(exclusive).expect("a low bit"));
            }
        }
        let deadline = Instant::now() + wait;
        let file = loop {
            match try_claim(&options, path, mode) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    thread::sleep(CLAIM_POLL);
                }
                claimed => break claimed?,
            }
        };
        let len = (&file).seek(SeekFrom::End(0))?;
        Ok(FileDevice { file: Arc::new(file), mode, len, worker: Mutex::new(None) })
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
            None => Worker::start(self.file.clone()).map_err(|error| device_error(&error))?,
        };
        let started = worker.insert(started);
        started.queue.send(operation).map_err(|_| DeviceError::Io("the device's thread is gone".into()))
    }
}

impl Device for FileDevice {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, len: usize) -> Pending<Bytes> {
        let checked = check_range(self.len, offset, len);
        self.submit(checked, |answer| Operation::Read { offset, len, answer })
    }

    /// Fewer bytes are written, too, where there are more pieces than the kernel takes at once.
    fn write(&self, offset: u64, pieces: Vec<Bytes>) -> Pending<usize> {
        let checked = match self.mode {
            OpenMode::ReadWrite => check_write(self.len, offset, &pieces).map(|_| ()),
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
        if let Some(Worker { queue, thread }) = self.worker.get_mut().take() {
            drop(queue);
            // An answer may drop the last handle on the device's own thread; it then ends by itself.
            if thread.thread().id() != thread::current().id() {
                // Whoever waited for an operation that panicked has been told.
                let _panicked = thread.join().is_err();
            }
        }
    }
}

/// Opens the file and, to write, claims it.
fn try_claim(options: &OpenOptions, path: &Path, mode: OpenMode) -> io::Result<File> {
    let file = options.open(path)?;
    if mode == OpenMode::ReadWrite {
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                let text = format!("{} is open for writing elsewhere", path.display());
                io::Error::new(io::ErrorKind::ResourceBusy, text)
            }
            TryLockError::Error(error) => error,
        })?;
    }
    Ok(file)
}

impl Worker {
    fn start(file: Arc<File>) -> io::Result<Worker> {
        let (queue, operations) = sync_channel(QUEUE_MAX);
        let run = move || run(&file, &operations);
        let thread = thread::Builder::new().name("paritas-io".into()).spawn(run)?;
        Ok(Worker { queue, thread })
    }
}

fn run(file: &File, operations: &Receiver<Operation>) {
    for operation in operations {
        match operation {
            Operation::Read { offset, len, answer } => answer.complete(read(file, offset, len)),
            Operation::Write { offset, pieces, answer } => {
                let written = write(file, offset, &pieces);
                // The buffers go back before the writer goes on.
                drop(pieces);
                answer.complete(written);
            }
            Operation::Flush { answer } => {
                answer.complete(file.sync_data().map_err(|error| device_error(&error)));
            }
        }
    }
}

fn read(file: &File, offset: u64, len: usize) -> Result<Bytes, DeviceError> {
    let mut buffer = Aligned::zeroed(len);
    let read = uninterrupted(|| file.read_at(buffer.as_mut(), offset))?;
    let mut bytes = buffer.freeze();
    bytes.truncate(read);
    Ok(bytes)
}

fn write(file: &File, offset: u64, pieces: &[Bytes]) -> Result<usize, DeviceError> {
    // Of more pieces than the kernel takes at once, rustix passes on the first.
    let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    uninterrupted(|| Ok(rustix::io::pwritev(file, &slices, offset)?))
}

/// Once more if a signal came.
fn uninterrupted(mut operation: impl FnMut() -> io::Result<usize>) -> Result<usize, DeviceError> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(|error| device_error(&error)),
        }
    }
}

fn device_error(error: &io::Error) -> DeviceError {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => DeviceError::NoSpace,
        Some(Errno::NODEV | Errno::NXIO | Errno::NOMEDIUM) => DeviceError::Gone,
        _ => DeviceError::Io(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{read_full, write_full};
    use crate::runtime::Driver;
    use crate::types::{BLOCK, BLOCK_U64};
    use tempfile::NamedTempFile;

    /// Names the file that a child process of a test is to open.
    const CHILD: &str = "PARITAS_TEST_OPEN";

    fn file(blocks: u64) -> NamedTempFile {
        let file = NamedTempFile::new().expect("a temporary file");
        file.as_file().set_len(blocks * BLOCK_U64).expect("room");
        file
    }

    fn open(file: &NamedTempFile) -> Arc<FileDevice> {
        Arc::new(FileDevice::open(file.path(), OpenMode::ReadWrite).expect("opens"))
    }

    fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
        Driver::start("test").expect("a thread").block_on(future).expect("no panic")
    }

    fn piece(fill: u8, blocks: usize) -> Bytes {
        Aligned::copy_of(&vec![fill; blocks * BLOCK]).freeze()
    }

    fn is_busy(file: &NamedTempFile, wait: Duration) -> bool {
        let opened = FileDevice::open_within(file.path(), OpenMode::ReadWrite, wait);
        opened.is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
    }

    #[test]
    fn pieces_are_written_one_after_the_other_and_read_back_aligned() {
        let file = file(16);
        let device = open(&file);
        assert_eq!(device.len(), 16 * BLOCK_U64);
        let reader = device.clone();
        let pieces = vec![piece(1, 1), Bytes::new(), piece(2, 3), piece(3, 2)];
        let expected = pieces.concat();
        wait(async move { write_full(&*device, 2 * BLOCK_U64, pieces).await }).expect("written");
        let bytes = wait(async move {
            reader.flush().await?;
            read_full(&*reader, 2 * BLOCK_U64, 6 * BLOCK).await
        });
        let bytes = bytes.expect("read");
        assert_eq!(bytes, expected);
        assert!(bytes.as_ptr().addr().is_multiple_of(BLOCK));
        let content = std::fs::read(file.path()).expect("the file");
        assert_eq!(content[2 * BLOCK..8 * BLOCK], expected);
        assert_eq!(
            (content.len(), content.iter().map(|byte| u64::from(*byte)).sum()),
            (16 * BLOCK, 13 * BLOCK_U64)
        );
    }

    #[test]
    fn more_pieces_than_the_kernel_takes_are_written_all_the_same() {
        let file = file(1500);
        let device = open(&file);
        let pieces: Vec<Bytes> = (0..1500).map(|i| piece(u8::try_from(i % 251).expect("small"), 1)).collect();
        let expected = pieces.concat();
        wait(async move { write_full(&*device, 0, pieces).await }).expect("written");
        assert!(std::fs::read(file.path()).expect("the file") == expected);
    }

    #[test]
    fn a_file_that_became_shorter_gives_fewer_bytes_and_then_an_error() {
        let file = file(8);
        let device = open(&file);
        file.as_file().set_len(BLOCK_U64 + 512).expect("truncated");
        let short = device.read(0, 4 * BLOCK);
        assert_eq!(wait(short).expect("read").len(), BLOCK + 512);
        let read = wait(async move { read_full(&*device, 0, 4 * BLOCK).await });
        assert!(matches!(read, Err(DeviceError::Io(_))), "{read:?}");
    }

    #[test]
    fn what_is_misaligned_or_past_the_end_is_refused() {
        let file = file(2);
        let device = open(&file);
        assert!(matches!(wait(device.read(2 * BLOCK_U64, BLOCK)), Err(DeviceError::Invalid(_))));
        assert!(matches!(wait(device.read(512, BLOCK)), Err(DeviceError::Invalid(_))));
        assert!(matches!(wait(device.write(BLOCK_U64, vec![piece(1, 2)])), Err(DeviceError::Invalid(_))));
        let reader = FileDevice::open(file.path(), OpenMode::ReadOnly).expect("opens");
        assert!(matches!(wait(reader.write(0, vec![piece(1, 1)])), Err(DeviceError::Invalid(_))));
        assert!(std::fs::read(file.path()).expect("the file").iter().all(|byte| *byte == 0));
    }

    #[test]
    fn only_one_opens_to_write_and_everybody_to_read() {
        let file = file(1);
        let first = open(&file);
        assert!(is_busy(&file, Duration::ZERO));
        assert!(FileDevice::open(file.path(), OpenMode::ReadOnly).is_ok());
        drop(first);
        // A process that another test is just starting shares the open file for a moment.
        assert!(!is_busy(&file, CLAIM_WAIT));
    }

    #[test]
    fn another_process_is_refused_too() {
        if let Some(path) = std::env::var_os(CHILD) {
            let opened = FileDevice::open_within(path.as_ref(), OpenMode::ReadWrite, Duration::ZERO);
            let error = opened.err().map(|error| error.kind());
            assert_eq!(error, Some(io::ErrorKind::ResourceBusy));
            return;
        }
        let file = file(1);
        let child_finds_it_busy = || {
            let name = "device::file::tests::another_process_is_refused_too";
            let mut child = std::process::Command::new(std::env::current_exe().expect("this program"));
            child.args(["--exact", name]).env(CHILD, file.path());
            child.output().expect("a process").status.success()
        };
        let device = open(&file);
        assert!(child_finds_it_busy());
        drop(device);
        assert!(!child_finds_it_busy());
    }

    #[test]
    fn an_opener_waits_for_the_owner_before_it() {
        let file = file(1);
        let first = open(&file);
        let owner = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        assert!(!is_busy(&file, CLAIM_WAIT));
        owner.join().expect("no panic");
    }

    #[test]
    fn operations_that_were_submitted_complete_though_the_device_is_dropped() {
        let file = file(QUEUE_MAX as u64 * 2);
        let device = open(&file);
        let pending: Vec<_> =
            (0..2 * QUEUE_MAX as u64).map(|i| device.write(i * BLOCK_U64, vec![piece(7, 1)])).collect();
        drop(device);
        assert!(std::fs::read(file.path()).expect("the file").iter().all(|byte| *byte == 7));
        for write in pending {
            assert_eq!(wait(write), Ok(BLOCK));
        }
    }

    #[test]
    fn directories_and_character_devices_are_no_members() {
        for path in ["/", "/dev/null"] {
            let error = FileDevice::open(path, OpenMode::ReadOnly).err().map(|error| error.kind());
            assert_eq!(error, Some(io::ErrorKind::InvalidInput), "{path}");
        }
    }

    #[test]
    fn no_thread_is_started_before_the_first_operation() {
        let file = file(1);
        let device = open(&file);
        assert!(device.worker.lock().is_none());
        wait(device.flush()).expect("flushed");
        assert!(device.worker.lock().is_some());
    }

    #[test]
    fn an_interrupted_call_is_made_again() {
        let mut results = vec![Ok(5), Err(io::ErrorKind::Interrupted.into()), Err(Errno::INTR.into())];
        assert_eq!(uninterrupted(|| results.pop().expect("not called again")), Ok(5));
    }

    #[test]
    fn errors_of_the_system_say_what_a_member_is_to_do() {
        let error = |errno: Errno| device_error(&errno.into());
        assert!(matches!(error(Errno::IO), DeviceError::Io(_)));
        assert_eq!([Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(error), [const { DeviceError::NoSpace }; 3]);
        assert_eq!([Errno::NODEV, Errno::NXIO].map(error), [const { DeviceError::Gone }; 2]);
    }
}
