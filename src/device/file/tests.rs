//! What holds for members of either kind. Where the kernel grants no ring, both are of the blocking kind.

use super::*;
use crate::device::open::open_within;
use crate::device::{Aligned, read_full, write_full};
use crate::runtime::{Clock, Driver, SystemClock, join_all};
use crate::types::{BLOCK, BLOCK_U64};
use std::time::Duration;
use tempfile::NamedTempFile;

/// Names the file that a child process of a test is to open.
const CHILD: &str = "PARITAS_TEST_OPEN";

/// A way to open files: as the blocking kind, or on a ring of its own where the system grants one.
struct Open {
    ring: Option<(Ring, Driver)>,
}

impl Open {
    fn both() -> [Open; 2] {
        let ring = Ring::new().ok().map(|(ring, turner)| {
            let driver = Driver::start_with("test", turner).expect("a thread");
            (ring, driver)
        });
        [Open { ring: None }, Open { ring }]
    }

    fn open(&self, path: &Path, mode: OpenMode, wait: Duration) -> io::Result<FileDevice> {
        open_within(path, mode, self.ring.as_ref().map(|(ring, _)| ring), wait)
    }

    /// Waits until the devices that were dropped are gone.
    fn vacant(&self) {
        if let Some((ring, driver)) = &self.ring {
            let vacant = ring.vacant(SystemClock::new().sleep(Duration::from_secs(10)));
            driver.block_on(vacant).expect("no panic").expect("in time");
        }
    }
}

fn file(blocks: u64) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a temporary file");
    file.as_file().set_len(blocks * BLOCK_U64).expect("room");
    file
}

/// Runs a test on a fresh file, once with each opener.
fn on_both(blocks: u64, test: impl Fn(&NamedTempFile, &Open, Arc<FileDevice>)) {
    for open in Open::both() {
        let file = file(blocks);
        let device = open.open(file.path(), OpenMode::ReadWrite, CLAIM_WAIT).expect("opens");
        test(&file, &open, Arc::new(device));
    }
}

fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    Driver::start("test").expect("a thread").block_on(future).expect("no panic")
}

fn piece(fill: u8, blocks: usize) -> Bytes {
    Aligned::copy_of(&vec![fill; blocks * BLOCK]).freeze()
}

/// A block that no other number gives.
fn numbered(number: u64) -> Bytes {
    Aligned::copy_of(&number.wrapping_add(1).to_le_bytes().repeat(BLOCK / 8)).freeze()
}

fn is_busy(open: &Open, file: &NamedTempFile, wait: Duration) -> bool {
    let opened = open.open(file.path(), OpenMode::ReadWrite, wait);
    opened.is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
}

#[test]
fn pieces_are_written_one_after_the_other_and_read_back_aligned() {
    on_both(16, |file, _, device| {
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
    });
}

#[test]
fn more_pieces_than_the_kernel_takes_are_written_all_the_same() {
    on_both(1500, |file, _, device| {
        let pieces: Vec<Bytes> = (0..1500).map(numbered).collect();
        let expected = pieces.concat();
        wait(async move { write_full(&*device, 0, pieces).await }).expect("written");
        assert!(std::fs::read(file.path()).expect("the file") == expected);
    });
}

#[test]
fn nothing_is_read_and_written_where_nothing_is_asked() {
    on_both(1, |_, _, device| {
        assert_eq!(wait(device.read(BLOCK_U64, 0)), Ok(Bytes::new()));
        assert_eq!(wait(device.write(0, Vec::new())), Ok(0));
        assert_eq!(wait(device.write(0, vec![Bytes::new()])), Ok(0));
    });
}

#[test]
fn a_file_that_became_shorter_gives_fewer_bytes_and_then_an_error() {
    on_both(8, |file, _, device| {
        file.as_file().set_len(BLOCK_U64 + 512).expect("truncated");
        let short = device.read(0, 4 * BLOCK);
        assert_eq!(wait(short).expect("read").len(), BLOCK + 512);
        let read = wait(async move { read_full(&*device, 0, 4 * BLOCK).await });
        assert!(matches!(read, Err(DeviceError::Io(_))), "{read:?}");
    });
}

#[test]
fn what_is_misaligned_or_past_the_end_is_refused() {
    on_both(2, |file, open, device| {
        assert!(matches!(wait(device.read(2 * BLOCK_U64, BLOCK)), Err(DeviceError::Invalid(_))));
        assert!(matches!(wait(device.read(512, BLOCK)), Err(DeviceError::Invalid(_))));
        assert!(matches!(wait(device.write(BLOCK_U64, vec![piece(1, 2)])), Err(DeviceError::Invalid(_))));
        let reader = open.open(file.path(), OpenMode::ReadOnly, CLAIM_WAIT).expect("opens");
        assert!(matches!(wait(reader.write(0, vec![piece(1, 1)])), Err(DeviceError::Invalid(_))));
        assert!(std::fs::read(file.path()).expect("the file").iter().all(|byte| *byte == 0));
    });
}

#[test]
fn only_one_opens_to_write_and_everybody_to_read() {
    let ways = Open::both();
    for (first, second) in [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(a, b)| (&ways[a], &ways[b])) {
        let file = file(1);
        let owner = first.open(file.path(), OpenMode::ReadWrite, CLAIM_WAIT).expect("opens");
        assert!(is_busy(second, &file, Duration::ZERO));
        assert!(second.open(file.path(), OpenMode::ReadOnly, CLAIM_WAIT).is_ok());
        drop(owner);
        // A process that another test is just starting shares the open file for a moment.
        assert!(!is_busy(second, &file, CLAIM_WAIT));
    }
}

#[test]
fn another_process_is_refused_too() {
    if let Some(path) = std::env::var_os(CHILD) {
        let opened = open_within(path.as_ref(), OpenMode::ReadWrite, None, Duration::ZERO);
        let error = opened.err().map(|error| error.kind());
        assert_eq!(error, Some(io::ErrorKind::ResourceBusy));
        return;
    }
    on_both(1, |file, _, device| {
        let child_finds_it_busy = || {
            let name = "device::file::tests::another_process_is_refused_too";
            let mut child = std::process::Command::new(std::env::current_exe().expect("this program"));
            child.args(["--exact", name]).env(CHILD, file.path());
            child.output().expect("a process").status.success()
        };
        assert!(child_finds_it_busy());
        drop(device);
        assert!(!child_finds_it_busy());
    });
}

#[test]
fn an_opener_waits_for_the_owner_before_it() {
    on_both(1, |file, open, device| {
        let owner = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(device);
        });
        assert!(!is_busy(open, file, CLAIM_WAIT));
        owner.join().expect("no panic");
    });
}

#[test]
fn operations_that_were_submitted_complete_though_the_device_is_dropped() {
    on_both(512, |file, open, device| {
        let pending: Vec<_> = (0..512).map(|i| device.write(i * BLOCK_U64, vec![piece(7, 1)])).collect();
        drop(device);
        open.vacant();
        assert!(std::fs::read(file.path()).expect("the file").iter().all(|byte| *byte == 7));
        for write in pending {
            assert_eq!(wait(write), Ok(BLOCK));
        }
    });
}

#[test]
fn writes_that_nobody_waits_for_are_not_lost() {
    const BLOCKS: u64 = 300;
    on_both(BLOCKS, |file, open, device| {
        for i in 0..BLOCKS {
            drop(device.write(i * BLOCK_U64, vec![numbered(i)]));
            // Overwrites memory that was freed too early.
            drop(piece(0xee, 1));
        }
        drop(device);
        open.vacant();
        let expected: Vec<Bytes> = (0..BLOCKS).map(numbered).collect();
        assert!(std::fs::read(file.path()).expect("the file") == expected.concat());
    });
}

#[test]
fn reads_that_nobody_waits_for_harm_nobody() {
    on_both(64, |file, open, device| {
        std::fs::write(file.path(), [5].repeat(64 * BLOCK)).expect("written");
        let mut other = Vec::new();
        for i in 0..640 {
            drop(device.read(i % 64 * BLOCK_U64, BLOCK));
            other.push(Aligned::zeroed(BLOCK));
        }
        drop(device);
        open.vacant();
        assert!(other.iter().all(|buffer| buffer.as_ref().iter().all(|byte| *byte == 0)));
    });
}

#[test]
fn a_thousand_operations_at_once_complete_with_their_own_bytes() {
    const BLOCKS: u64 = 1000;
    on_both(BLOCKS, |_, _, device| {
        let writes: Vec<_> = (0..BLOCKS).map(|i| device.write(i * BLOCK_U64, vec![numbered(i)])).collect();
        assert_eq!(wait(join_all(writes)), vec![Ok(BLOCK); 1000]);
        let reads: Vec<_> = (0..BLOCKS).rev().map(|i| device.read(i * BLOCK_U64, BLOCK)).collect();
        let flushes: Vec<_> = (0..8).map(|_| device.flush()).collect();
        for (read, i) in wait(join_all(reads)).into_iter().zip((0..BLOCKS).rev()) {
            assert_eq!(read, Ok(numbered(i)), "{i}");
        }
        assert_eq!(wait(join_all(flushes)), vec![Ok(()); 8]);
    });
}

#[test]
fn threads_that_submit_at_once_all_get_their_own() {
    on_both(800, |_, _, device| {
        thread::scope(|scope| {
            for first in 0..8 {
                let device = &device;
                scope.spawn(move || {
                    for i in (first..800).step_by(8) {
                        assert_eq!(wait(device.write(i * BLOCK_U64, vec![numbered(i)])), Ok(BLOCK));
                        assert_eq!(wait(device.read(i * BLOCK_U64, BLOCK)), Ok(numbered(i)));
                    }
                });
            }
        });
    });
}

#[test]
fn the_last_handle_may_go_on_the_devices_own_thread() {
    on_both(1, |file, open, device| {
        let holder = device.clone();
        let write = device.write(0, vec![piece(9, 1)]);
        let (done, is_done) = std::sync::mpsc::channel();
        let watched = WakeDrops(Mutex::new(Some((device, done))));
        let mut write = write;
        let waker = std::task::Waker::from(Arc::new(watched));
        let polled = write.as_mut().poll(&mut std::task::Context::from_waker(&waker));
        drop(holder);
        if polled.is_pending() {
            is_done.recv_timeout(Duration::from_secs(10)).expect("woken");
            drop(waker);
        } else {
            drop(waker);
        }
        assert!(!is_busy(open, file, CLAIM_WAIT));
        assert_eq!(std::fs::read(file.path()).expect("the file"), piece(9, 1));
    });
}

/// A waker that gives up a device where it is woken.
struct WakeDrops(Mutex<Option<(Arc<FileDevice>, std::sync::mpsc::Sender<()>)>>);

impl std::task::Wake for WakeDrops {
    fn wake(self: Arc<Self>) {
        if let Some((device, done)) = self.0.lock().take() {
            drop(device);
            done.send(()).expect("somebody waits");
        }
    }
}

#[test]
fn directories_and_character_devices_are_no_members() {
    for open in Open::both() {
        for path in ["/", "/dev/null"] {
            let error =
                open.open(Path::new(path), OpenMode::ReadOnly, CLAIM_WAIT).err().map(|error| error.kind());
            assert_eq!(error, Some(io::ErrorKind::InvalidInput), "{path}");
        }
    }
}

#[test]
fn the_blocking_kind_starts_no_thread_before_the_first_operation() {
    let file = file(1);
    let device = FileDevice::open(file.path(), OpenMode::ReadWrite).expect("opens");
    let is_started = || matches!(&device.way, Way::Blocking(worker) if worker.lock().is_some());
    assert!(!is_started());
    wait(device.flush()).expect("flushed");
    assert!(is_started());
}

/// A waker that panics where it is woken.
struct Panics;

impl std::task::Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("as this test wants it");
    }
}

#[test]
fn a_thread_that_panics_breaks_its_device_and_nobody_waits_for_ever() {
    on_both(64, |_, _, device| {
        let waker = std::task::Waker::from(Arc::new(Panics));
        let mut reads = Vec::new();
        let mut is_waited_for = false;
        while !is_waited_for {
            let mut read = device.read(0, 64 * BLOCK);
            is_waited_for = read.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending();
            reads.push(read);
        }
        let others: Vec<_> = (0..64).map(|i| device.read(i * BLOCK_U64, BLOCK)).collect();
        // Each ends, well or not.
        let _ended = wait(join_all(others));
        let mut broken = false;
        for _ in 0..1000 {
            broken = broken || wait(device.flush()).is_err();
        }
        assert!(broken);
    });
}

#[test]
fn members_of_both_kinds_serve_one_thread() {
    let [blocking, ring] = Open::both();
    let files: Vec<_> = (0..4).map(|_| file(64)).collect();
    let opened = files.iter().zip([&blocking, &ring].into_iter().cycle());
    let devices: Vec<_> = opened
        .map(|(file, open)| open.open(file.path(), OpenMode::ReadWrite, CLAIM_WAIT).expect("opens"))
        .collect();
    let task = async move {
        for round in 0..50_u64 {
            let writes = devices.iter().zip(round..);
            let writes: Vec<_> = writes.map(|(device, i)| device.write(0, vec![numbered(i)])).collect();
            assert_eq!(join_all(writes).await, vec![Ok(BLOCK); 4]);
            let flushes: Vec<_> = devices.iter().map(Device::flush).collect();
            assert_eq!(join_all(flushes).await, vec![Ok(()); 4]);
            let reads: Vec<_> = devices.iter().map(|device| device.read(0, BLOCK)).collect();
            let expected: Vec<_> = (round..round + 4).map(|i| Ok(numbered(i))).collect();
            assert_eq!(join_all(reads).await, expected);
        }
    };
    match &ring.ring {
        Some((_, driver)) => driver.block_on(task).expect("no panic"),
        None => wait(task),
    }
}
