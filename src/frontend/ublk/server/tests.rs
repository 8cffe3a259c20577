//! The kernel's part is played by the test: its file is an ordinary one, where it writes descriptors, and where the
//! bytes of requests lie as in the kernel's.

use super::*;
use crate::error::Kind;
use crate::frontend::ublk::wire::{DESCRIPTOR_BYTES, bytes_at, operation};
use crate::volume::{Array, CreateOptions, OpenOptions};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

const SIZE: u64 = 8 << 20;
const MOST: usize = 1 << 20;
const TAGS: u16 = 64;

/// What plays the kernel, and what it is served by.
struct Bench {
    file: Arc<File>,
    tasks: Tasks,
    bell: Arc<Bell>,
    answers: BTreeMap<u16, i32>,
    array: Array,
    said: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(read_only: bool) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let members: Vec<_> = (0..3).map(|i| folder.path().join(format!("m{i}"))).collect();
        let options = CreateOptions { size: Some(64 << 20), ..CreateOptions::default() };
        let array = Array::create(&members, &options).expect("made");
        array.create_volume("v", SIZE, None).expect("created");
        Bench::serve(folder, array, read_only)
    }

    fn serve(folder: tempfile::TempDir, array: Array, read_only: bool) -> Bench {
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        file.set_len(4096).expect("room for descriptors");
        let bell = Bell::new().expect("an event");
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let complaints = Complaints::new(move |text| heard.lock().push(text.to_owned()));
        let volume = array.volume("v").expect("there");
        let tasks = Tasks::new(volume, read_only, MOST, complaints, file.clone(), TAGS, bell.clone());
        let tasks = tasks.expect("mapped");
        Bench { file, tasks, bell, answers: BTreeMap::new(), array, said, folder }
    }

    /// Hands a request over.
    fn ask(&mut self, tag: u16, word: u32, offset: u64, length: u64) {
        let sectors = u32::try_from(length / 512).expect("few");
        let mut descriptor = [word.to_ne_bytes(), sectors.to_ne_bytes()].concat();
        descriptor.extend((offset / 512).to_ne_bytes());
        self.file.write_all_at(&descriptor, u64::from(tag) * DESCRIPTOR_BYTES as u64).expect("written");
        if let Some(answer) = self.tasks.begin(tag) {
            assert!(self.answers.insert(tag, answer).is_none(), "answered twice");
        }
    }

    fn ask_write(&mut self, tag: u16, word: u32, offset: u64, data: &[u8]) {
        self.file.write_all_at(data, bytes_at(0, tag)).expect("written");
        self.ask(tag, word, offset, data.len() as u64);
    }

    /// What a request is answered with.
    fn answer(&mut self, tag: u16) -> i32 {
        let mut woken = Vec::new();
        loop {
            if let Some(answer) = self.answers.remove(&tag) {
                return answer;
            }
            if self.bell.lie_down() {
                poll(&mut [PollFd::new(&*self.bell, PollFlags::IN)], None).expect("polled");
                self.bell.wake_up(true);
            }
            self.tasks.woken(&mut woken);
            for tag in woken.drain(..) {
                if let Some(answer) = self.tasks.look(tag) {
                    assert!(self.answers.insert(tag, answer).is_none(), "answered twice");
                }
            }
        }
    }

    fn call(&mut self, word: u32, offset: u64, length: u64) -> i32 {
        self.ask(0, word, offset, length);
        self.answer(0)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> i32 {
        self.ask_write(0, operation::WRITE, offset, data);
        self.answer(0)
    }

    fn read(&mut self, offset: u64, length: usize) -> std::result::Result<Vec<u8>, i32> {
        let answer = self.call(operation::READ, offset, length as u64);
        if answer < 0 {
            return Err(answer);
        }
        assert_eq!(usize::try_from(answer).expect("bytes"), length);
        Ok(self.bytes(0, length))
    }

    fn bytes(&self, tag: u16, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, bytes_at(0, tag)).expect("given");
        bytes
    }

    /// As after kill -9: nothing is closed.
    fn killed(self) -> Array {
        let Bench { tasks, array, folder, .. } = self;
        drop((tasks, array));
        Array::open(folder.path(), &OpenOptions::default()).expect("opened")
    }
}

fn error(errno: Errno) -> i32 {
    -errno.raw_os_error()
}

#[test]
fn what_is_written_is_read_anywhere() {
    let mut bench = Bench::new(false);
    let data: Vec<u8> = (0..1u32 << 20).map(|i| (i % 251) as u8).collect();
    for (offset, length) in
        [(0, 4096), (0, 1 << 20), (SIZE - 4096, 4096), (512 * 9, 512), (512 * 15, 4096 * 3 + 512)]
    {
        assert_eq!(usize::try_from(bench.write(offset, &data[..length])), Ok(length));
        assert!(bench.read(offset, length) == Ok(data[..length].to_vec()), "{length} at {offset}");
    }
    assert!(bench.read(1 << 20, 4096) == Ok(vec![0; 4096]));
    for (offset, length) in [(SIZE, 512), (SIZE - 512, 1024)] {
        assert_eq!(bench.write(offset, &data[..length]), error(Errno::INVAL));
        assert_eq!(bench.read(offset, length), Err(error(Errno::INVAL)));
    }
    assert_eq!(bench.call(operation::READ, 0, 2 << 20), error(Errno::INVAL), "more than was agreed");
    assert_eq!(bench.call(10, 0, 4096), error(Errno::OPNOTSUPP));
    assert!(bench.said.lock().iter().all(|text| text.starts_with("volume v: ")));
}

#[test]
fn many_requests_are_under_way_at_once_and_each_gets_its_own_answer() {
    let mut bench = Bench::new(false);
    for round in 1..20u8 {
        for tag in 0..TAGS {
            let fill = round ^ u8::try_from(tag).expect("few").rotate_left(3);
            bench.ask_write(tag, operation::WRITE, u64::from(tag) * 512, &[fill; 512]);
        }
        assert!((0..TAGS).all(|tag| bench.answer(tag) == 512));
        (0..TAGS).for_each(|tag| bench.ask(tag, operation::READ, u64::from(tag) * 512, 512));
        for tag in (0..TAGS).rev() {
            assert_eq!(bench.answer(tag), 512);
            let fill = round ^ u8::try_from(tag).expect("few").rotate_left(3);
            assert!(bench.bytes(tag, 512) == [fill; 512], "round {round}, {tag}");
        }
    }
}

#[test]
fn what_is_flushed_or_durable_outlives_the_process() {
    let mut bench = Bench::new(false);
    assert_eq!(bench.write(0, &[7; 8192]), 8192);
    assert_eq!(bench.call(operation::FLUSH, 0, 0), 0);
    let array = bench.killed();
    assert!(array.volume("v").expect("there").read(0, 8192).expect("read") == [7; 8192][..]);
    array.close().expect("closed");
    let mut bench = Bench::new(false);
    bench.ask_write(5, operation::WRITE | operation::DURABLE, 4096, &[8; 4096]);
    assert_eq!(bench.answer(5), 4096);
    let array = bench.killed();
    assert!(array.volume("v").expect("there").read(4096, 4096).expect("read") == [8; 4096][..]);
}

#[test]
fn ranges_are_discarded_or_made_zeros_with_space_or_without() {
    let mut bench = Bench::new(false);
    assert_eq!(bench.write(65_536, &[1; 65_536]), 65_536);
    assert_eq!(bench.call(operation::DISCARD, 65_536 + 8192, 8192), 0);
    assert_eq!(bench.call(operation::WRITE_ZEROES, 65_536 + 32_768 + 512, 1024), 0);
    assert_eq!(bench.call(operation::WRITE_ZEROES, 65_536 + 40_960, 4096), 0);
    assert_eq!(bench.call(operation::WRITE_ZEROES | operation::STORED, 65_536 + 49_152, 4096), 0);
    let mut expected = vec![1; 65_536];
    expected[8192..16_384].fill(0);
    expected[32_768 + 512..32_768 + 1536].fill(0);
    expected[40_960..45_056].fill(0);
    expected[49_152..53_248].fill(0);
    assert!(bench.read(65_536, 65_536) == Ok(expected));
    let extents = bench.tasks.volume.extents(65_536, 65_536).expect("told");
    let holes: u64 = extents.iter().filter(|extent| extent.is_hole).map(|extent| extent.bytes).sum();
    assert_eq!(holes, 8192 + 4096);
    assert_eq!(bench.call(operation::DISCARD, SIZE, 4096), error(Errno::INVAL));
}

#[test]
fn nobody_writes_what_is_read_only() {
    let mut bench = Bench::new(true);
    bench.tasks.volume.write(0, vec![9; 4096]).expect("the library may");
    assert_eq!(bench.write(0, &[1; 4096]), error(Errno::ROFS));
    for word in [operation::DISCARD, operation::WRITE_ZEROES] {
        assert_eq!(bench.call(word, 0, 4096), error(Errno::ROFS));
    }
    assert_eq!(bench.call(operation::FLUSH, 0, 0), 0);
    assert!(bench.read(0, 4096) == Ok(vec![9; 4096]));
}

#[test]
fn errors_are_the_kernels_and_their_reasons_are_said() {
    let mut bench = Bench::new(false);
    let big = bench.array.create_volume("big", 1 << 30, None).expect("made");
    let full = (0..1024u64).map(|i| big.write(i << 20, vec![5; MOST])).find_map(crate::error::Result::err);
    assert_eq!(full.expect("no room for it").kind(), Kind::NoSpace);
    let refused = (0..8).map(|i| bench.write(i << 20, &vec![6; MOST])).find(|answer| *answer < 0);
    assert_eq!(refused, Some(error(Errno::NOSPC)));
    assert!(bench.said.lock().iter().any(|text| text.starts_with("volume v: ")), "{:?}", bench.said);
    // The kernel gives no bytes for this one.
    bench.file.set_len(4096).expect("cut off");
    bench.ask(3, operation::WRITE, 0, 512);
    assert_eq!(bench.answer(3), error(Errno::IO));
    bench.array.close().expect("closed");
    assert_eq!(bench.call(operation::FLUSH, 0, 0), error(Errno::NODEV));
}

#[test]
fn blocks_that_are_lost_are_errors_and_others_are_not() {
    let mut bench = Bench::new(false);
    assert_eq!(bench.write(0, &[4; 65_536]), 65_536);
    assert_eq!(bench.call(operation::FLUSH, 0, 0), 0);
    let Bench { tasks, array, folder, .. } = bench;
    array.close().expect("closed");
    drop((tasks, array));
    // Each place that holds a block's bytes, or its parity, but for some of them.
    let mut damaged = 0;
    for member in ["m0", "m1", "m2"] {
        let path = folder.path().join(member);
        let mut bytes = std::fs::read(&path).expect("read");
        for at in (0..bytes.len()).step_by(4096) {
            if bytes[at..at + 4096] == [4; 4096] {
                bytes[at] ^= 1;
                damaged += 1;
            }
        }
        std::fs::write(&path, bytes).expect("written");
    }
    assert!(damaged >= 16);
    let array = Array::open(folder.path(), &OpenOptions::default()).expect("opened");
    let mut bench = Bench::serve(folder, array, false);
    let found: Vec<i32> = (0..16).map(|i| bench.call(operation::READ, i * 4096, 4096)).collect();
    assert!(found.contains(&error(Errno::IO)), "{found:?}");
    assert!(bench.said.lock().iter().any(|text| text.contains("lost")), "{:?}", bench.said);
}

#[test]
fn what_may_be_asked_is_as_the_device_is_to_be() {
    let terms = Terms { sector: 512, read_only: false, mark: 0 };
    let found = parameters(terms, SIZE);
    assert_eq!((found.attributes, found.sector, found.size), (0b1100, 512, SIZE));
    let read_only = parameters(Terms { sector: 4096, read_only: true, ..terms }, SIZE);
    assert_eq!((read_only.attributes, read_only.sector), (1, 4096));
}
