//! The kernel's part is played by the test: its messages go through a socket instead of /dev/fuse.

use super::*;
use crate::volume::{Array, CreateOptions, OpenOptions};
use fuser::SessionACL;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

const EPERM: i32 = 1;
const EIO: i32 = 5;
const ENXIO: i32 = 6;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EOPNOTSUPP: i32 = 95;

const SIZE: u64 = 8 << 20;

/// What plays the kernel.
struct Kernel {
    socket: UnixDatagram,
    owner: u32,
    number: u64,
    /// Answers that somebody else waits for.
    early: BTreeMap<u64, (i32, Vec<u8>)>,
}

/// Little-endian fields, one behind the other.
fn fields(words: &[(u64, usize)]) -> Vec<u8> {
    words.iter().flat_map(|(value, bytes)| value.to_le_bytes()[..*bytes].to_vec()).collect()
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

impl Kernel {
    /// Sends a request, and returns its number.
    fn send(&mut self, opcode: u32, body: &[u8]) -> u64 {
        self.number += 1;
        let length = 40 + body.len() as u64;
        let header = [(length, 4), (opcode.into(), 4), (self.number, 8), (1, 8), (self.owner.into(), 4)];
        let mut message = fields(&header);
        message.resize(40, 0);
        message.extend(body);
        assert_eq!(self.socket.send(&message).expect("sent"), message.len());
        self.number
    }

    /// The answer to a request: an error, or none, and what else there is.
    fn answer(&mut self, number: u64) -> (i32, Vec<u8>) {
        loop {
            if let Some(answer) = self.early.remove(&number) {
                return answer;
            }
            let mut message = vec![0; 256 << 10];
            let length = self.socket.recv(&mut message).expect("answered");
            message.truncate(length);
            assert_eq!(u32::from_le_bytes(message[..4].try_into().expect("4")) as usize, length);
            let error = i32::from_le_bytes(message[4..8].try_into().expect("4"));
            let unique = u64::from_le_bytes(message[8..16].try_into().expect("8"));
            let known = self.early.insert(unique, (-error, message.split_off(16)));
            assert!(known.is_none(), "answered twice");
        }
    }

    fn call(&mut self, opcode: u32, body: &[u8]) -> (i32, Vec<u8>) {
        let number = self.send(opcode, body);
        self.answer(number)
    }

    fn send_read(&mut self, offset: u64, length: u64) -> u64 {
        self.send(15, &fields(&[(0, 8), (offset, 8), (length, 4), (0, 4), (0, 8), (0, 8)]))
    }

    fn read(&mut self, offset: u64, length: u64) -> (i32, Vec<u8>) {
        let number = self.send_read(offset, length);
        self.answer(number)
    }

    fn send_write(&mut self, offset: u64, data: &[u8]) -> u64 {
        let mut body = fields(&[(0, 8), (offset, 8), (data.len() as u64, 4), (0, 4), (0, 8), (0, 8)]);
        body.extend(data);
        self.send(16, &body)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> i32 {
        let number = self.send_write(offset, data);
        let (error, body) = self.answer(number);
        if error == 0 {
            assert_eq!(body, fields(&[(data.len() as u64, 4), (0, 4)]));
        }
        error
    }

    fn fsync(&mut self) -> i32 {
        self.call(20, &fields(&[(0, 8), (0, 8)])).0
    }

    fn allocate(&mut self, mode: u32, offset: u64, length: u64) -> i32 {
        self.call(43, &fields(&[(0, 8), (offset, 8), (length, 8), (mode.into(), 4), (0, 4)])).0
    }

    fn seek(&mut self, offset: u64, whence: u32) -> std::result::Result<u64, i32> {
        let (error, body) = self.call(46, &fields(&[(0, 8), (offset, 8), (whence.into(), 4), (0, 4)]));
        if error == 0 { Ok(number(&body, 0)) } else { Err(error) }
    }

    fn size(&mut self) -> std::result::Result<u64, i32> {
        let (error, body) = self.call(3, &fields(&[(0, 8), (0, 8)]));
        // Behind how long it may be remembered, and the inode.
        if error == 0 { Ok(number(&body, 24)) } else { Err(error) }
    }
}

struct Bench {
    kernel: Kernel,
    served: Option<Served>,
    array: Array,
    volume: Volume,
    said: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(members: usize, read_only: bool) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let paths: Vec<PathBuf> = (0..members).map(|i| folder.path().join(format!("m{i}"))).collect();
        let options = CreateOptions { size: Some(64 << 20), ..CreateOptions::default() };
        let array = Array::create(&paths, &options).expect("made");
        array.create_volume("v", SIZE, None).expect("made");
        Bench::serve(folder, array, read_only)
    }

    fn serve(folder: tempfile::TempDir, array: Array, read_only: bool) -> Bench {
        let volume = array.volume("v").expect("there");
        let found = std::fs::metadata(folder.path()).expect("there");
        let owner = (found.uid(), found.gid());
        let (here, there) = UnixDatagram::pair().expect("sockets");
        let mut kernel = Kernel { socket: here, owner: owner.0, number: 0, early: BTreeMap::new() };
        // Version 7.38, with asynchronous direct I/O and large requests.
        let flags = 1 | 1 << 5 | 1 << 15 | 1 << 22;
        let mut hello = fields(&[(7, 4), (38, 4), (128 << 10, 4), (flags, 4)]);
        hello.resize(64, 0);
        let first = kernel.send(26, &hello);
        let tasks = Arc::new(Tasks::default());
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let file = OneFile {
            volume: volume.clone(),
            read_only,
            owner,
            tasks: tasks.clone(),
            complaints: Arc::new(Complaints::new(move |text| heard.lock().push(text.to_owned()))),
        };
        let session = Session::from_fd(file, OwnedFd::from(there), SessionACL::Owner, Config::default())
            .expect("agreed");
        let (error, agreed) = kernel.answer(first);
        assert_eq!(error, 0);
        let short = |at: usize| u16::from_le_bytes(agreed[at..at + 2].try_into().expect("2"));
        let long = |at: usize| u32::from_le_bytes(agreed[at..at + 4].try_into().expect("4"));
        assert_ne!(long(12) & (1 << 15), 0, "direct I/O is asynchronous");
        assert_eq!(
            (short(16), long(20), short(28)),
            (128, 1 << 20, 256),
            "requests, bytes and pages of each"
        );
        let served = Some(Served::start(session, tasks).expect("threads"));
        Bench { kernel, served, array, volume, said, folder }
    }

    /// The mount goes; its threads end.
    fn end(&mut self) {
        let (error, _) = self.kernel.call(38, &[]);
        assert_eq!(error, 0);
        self.served.take().expect("once").end().expect("ended");
    }
}

#[test]
fn what_is_written_is_read_anywhere_and_ends_where_the_volume_does() {
    let mut bench = Bench::new(3, false);
    let data: Vec<u8> = (0..131_072u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(bench.kernel.size(), Ok(SIZE));
    for (offset, length) in [(0, 131_072), (SIZE - 4096, 4096), (512 * 9, 512), (512 * 15, 4096 * 3 + 512)] {
        assert_eq!(bench.kernel.write(offset, &data[..length]), 0);
        assert_eq!(bench.kernel.read(offset, length as u64), (0, data[..length].to_vec()));
    }
    assert_eq!(bench.kernel.write(0, &data), 0);
    for (offset, length) in [(0usize, 1usize), (1, 511), (511, 2), (4095, 4098), (100, 70_000)] {
        let found = bench.kernel.read(offset as u64, length as u64);
        assert!(found == (0, data[offset..offset + length].to_vec()), "{length} at {offset}");
    }
    assert_eq!(bench.kernel.read(SIZE - 700, 4096).1.len(), 700);
    for (offset, length) in [(SIZE, 512), (SIZE + 512, 512), (1 << 50, 4096)] {
        assert_eq!(bench.kernel.read(offset, length), (0, vec![]));
    }
    for (offset, length) in [(0, 100), (1, 512), (SIZE, 512), (SIZE - 512, 1024)] {
        assert_eq!(bench.kernel.write(offset, &data[..length]), EINVAL, "{length} at {offset}");
    }
    assert!(bench.said.lock().iter().all(|text| text.starts_with("volume v: ")));
    assert_eq!(bench.kernel.read(SIZE - 4096, 4096), (0, data[..4096].to_vec()));
    // Through the library, too.
    assert!(bench.volume.read(0, 4096).expect("read") == data[..4096]);
    bench.end();
}

#[test]
fn neighbours_in_a_block_lose_nothing_of_each_other() {
    let mut bench = Bench::new(3, false);
    for round in 1..30u8 {
        let fill = |i: u8| [round ^ i.rotate_left(3); 512];
        let writes: Vec<u64> =
            (0..64).map(|i| bench.kernel.send_write(u64::from(i) * 512, &fill(i))).collect();
        for number in writes {
            assert_eq!(bench.kernel.answer(number).0, 0);
        }
        let (error, found) = bench.kernel.read(0, 64 * 512);
        let whole: Vec<u8> = (0..64).flat_map(fill).collect();
        assert!(error == 0 && found == whole, "round {round}");
    }
    bench.end();
}

#[test]
fn many_requests_are_under_way_at_once_and_each_gets_its_own_answer() {
    let mut bench = Bench::new(3, false);
    for i in 0..128u8 {
        assert_eq!(bench.kernel.write(u64::from(i) * 4096, &[i + 1; 4096]), 0);
    }
    assert_eq!(bench.kernel.fsync(), 0);
    let reads: Vec<u64> = (0..128).map(|i| bench.kernel.send_read(i * 4096, 4096)).collect();
    for (number, fill) in reads.into_iter().zip(1..=128u8).rev() {
        assert!(bench.kernel.answer(number) == (0, vec![fill; 4096]));
    }
    bench.end();
}

#[test]
fn what_is_synced_outlives_the_process_and_what_is_not_need_not() {
    let mut bench = Bench::new(3, false);
    assert_eq!(bench.kernel.write(0, &[7; 8192]), 0);
    assert_eq!(bench.kernel.fsync(), 0);
    let before = bench.array.status().expect("open").volumes[0].size;
    assert_eq!(before, SIZE);
    bench.end();
    let Bench { array, volume, folder, .. } = bench;
    // Not closed: as after kill -9.
    drop((array, volume));
    let array = Array::open(folder.path(), &OpenOptions::default()).expect("opened");
    assert!(array.volume("v").expect("there").read(0, 8192).expect("read") == [7; 8192][..]);
}

#[test]
fn holes_and_zeros_are_made_found_and_take_no_space() {
    let mut bench = Bench::new(3, false);
    assert_eq!(bench.kernel.seek(0, 3), Err(ENXIO), "nothing is stored");
    assert_eq!(bench.kernel.seek(5, 4), Ok(5));
    assert_eq!(bench.kernel.write(65_536, &[1; 65_536]), 0);
    assert_eq!(bench.kernel.allocate(3, 65_536 + 8192, 8192), 0);
    assert_eq!(bench.kernel.allocate(0x10, 65_536 + 32_768 + 512, 1024), 0);
    assert_eq!(bench.kernel.seek(100, 3), Ok(65_536));
    assert_eq!(bench.kernel.seek(65_536 + 100, 3), Ok(65_536 + 100));
    assert_eq!(bench.kernel.seek(65_536, 4), Ok(65_536 + 8192));
    assert_eq!(bench.kernel.seek(65_536 + 8193, 3), Ok(65_536 + 16_384));
    assert_eq!(bench.kernel.seek(65_536 + 16_384, 4), Ok(131_072));
    assert_eq!((bench.kernel.seek(131_072, 3), bench.kernel.seek(SIZE, 4)), (Err(ENXIO), Err(ENXIO)));
    let mut expected = vec![1; 65_536];
    expected[8192..16_384].fill(0);
    expected[32_768 + 512..32_768 + 1536].fill(0);
    assert!(bench.kernel.read(65_536, 65_536) == (0, expected));
    assert_eq!(bench.kernel.write(SIZE - 4096, &[2; 4096]), 0);
    assert_eq!(bench.kernel.seek(SIZE - 4096, 4), Ok(SIZE), "the end is a hole");
    for (mode, offset, length, error) in
        [(0, 0, 4096, EOPNOTSUPP), (1, 0, 4096, EOPNOTSUPP), (3, 1, 512, EINVAL), (3, SIZE, 4096, EINVAL)]
    {
        assert_eq!(bench.kernel.allocate(mode, offset, length), error);
    }
    bench.end();
}

#[test]
fn a_size_that_changes_is_seen_and_nobody_changes_it_through_the_file() {
    let mut bench = Bench::new(3, false);
    bench.volume.resize(2 * SIZE).expect("grown");
    assert_eq!(bench.kernel.size(), Ok(2 * SIZE));
    assert_eq!(bench.kernel.write(2 * SIZE - 512, &[3; 512]), 0);
    bench.volume.resize(SIZE).expect("shrunk");
    assert_eq!((bench.kernel.size(), bench.kernel.read(SIZE, 512)), (Ok(SIZE), (0, vec![])));
    // The eighth word says what is to be set: the size.
    let mut cut = fields(&[(1 << 3, 4)]);
    cut.resize(88, 0);
    assert_eq!(bench.kernel.call(4, &cut).0, EPERM);
    assert_eq!(bench.kernel.size(), Ok(SIZE));
    // Blocks of 4096 bytes: what a loop device gives back comes in these.
    let (error, found) = bench.kernel.call(17, &[]);
    assert_eq!((error, number(&found, 0)), (0, SIZE / 4096));
    assert_eq!(u32::from_le_bytes(found[40..44].try_into().expect("4")), 4096);
    bench.end();
}

#[test]
fn nobody_writes_what_is_read_only() {
    let mut bench = Bench::new(3, true);
    bench.volume.write(0, vec![9; 4096]).expect("the library may");
    assert_eq!(bench.kernel.write(0, &[1; 4096]), EROFS);
    assert_eq!((bench.kernel.allocate(3, 0, 4096), bench.kernel.allocate(0x11, 0, 4096)), (EROFS, EROFS));
    assert_eq!((bench.kernel.fsync(), bench.kernel.read(0, 4096)), (0, (0, vec![9; 4096])));
    bench.end();
}

#[test]
fn errors_are_the_kernels_and_their_reasons_are_said() {
    let mut bench = Bench::new(3, false);
    let big = bench.array.create_volume("big", 1 << 30, None).expect("made");
    let full = (0..1024u64).map(|i| big.write(i << 20, vec![5; 1 << 20])).find_map(Result::err);
    assert_eq!(full.expect("no room for it").kind(), Kind::NoSpace);
    let refused = (0..64).map(|i| bench.kernel.write(i * 131_072, &[6; 131_072])).find(|error| *error != 0);
    assert_eq!(refused, Some(ENOSPC));
    assert!(bench.said.lock().iter().any(|text| text.starts_with("volume v: ")), "{:?}", bench.said);
    drop(big);
    bench.array.delete_volume("big").expect("deleted");
    bench.array.delete_volume("v").expect("deleted");
    assert_eq!((bench.kernel.size(), bench.kernel.read(0, 512).0), (Err(ENODEV), ENODEV));
    bench.array.close().expect("closed");
    assert_eq!(bench.kernel.fsync(), ENODEV);
    bench.end();
}

#[test]
fn blocks_that_are_lost_are_errors_and_others_are_not() {
    let mut bench = Bench::new(2, false);
    assert_eq!(bench.kernel.write(0, &[4; 65_536]), 0);
    assert_eq!(bench.kernel.fsync(), 0);
    bench.end();
    let Bench { array, volume, folder, .. } = bench;
    array.close().expect("closed");
    drop((array, volume));
    // Both copies of some block: every place that holds its bytes.
    for member in ["m0", "m1"] {
        let path = folder.path().join(member);
        let mut bytes = std::fs::read(&path).expect("read");
        let places: Vec<usize> =
            (0..bytes.len()).step_by(4096).filter(|at| bytes[*at..at + 4096] == [4; 4096]).collect();
        assert_eq!(places.len(), 16);
        bytes[places[3]] ^= 1;
        std::fs::write(&path, bytes).expect("written");
    }
    let array = Array::open(folder.path(), &OpenOptions::default()).expect("opened");
    let mut bench = Bench::serve(folder, array, false);
    let found: Vec<i32> = (0..16).map(|i| bench.kernel.read(i * 4096, 4096).0).collect();
    assert_eq!(found.iter().filter(|error| **error == EIO).count(), 1, "{found:?}");
    assert_eq!(found.iter().filter(|error| **error == 0).count(), 15, "{found:?}");
    assert!(bench.said.lock().iter().any(|text| text.contains("lost")), "{:?}", bench.said);
    bench.end();
}
