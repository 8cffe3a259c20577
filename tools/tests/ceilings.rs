//! The system has no more to give: memory, threads, open files, room in a file.
//!
//! A child opens an array, writes and flushes, under a limit that strikes somewhere on its way. It may be refused, and
//! then says why; it may end in an abort where memory is short, for Rust does; it never hangs and never panics.
//! Whatever became of it, the array then opens and has everything that it had said is flushed, and the write under way
//! or not.
//!
//! What this shows of the n-th allocation: it fails in one of some places on the way, drawn over all of them, at a
//! build's own order; and as the process ends at once, it is one more way to be killed, without power loss.

use paritas::types::{BLOCK, Scheme};
use paritas::volume::{Array, CreateOptions, OpenOptions, Volume};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::alloc::{GlobalAlloc, Layout, System};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The system's memory, until a request that is to fail.
struct Failing;

/// Requests that are left before one fails; 0 once it has failed, and in all processes but the child.
static LEFT: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static MEMORY: Failing = Failing;

impl Failing {
    fn fails() -> bool {
        LEFT.load(Ordering::Relaxed) > 0 && LEFT.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

// An allocator cannot be written without. Each function hands on to the system's, whose contract is the same, or
// answers that there is no memory.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if Failing::fails() { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if Failing::fails() { std::ptr::null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if Failing::fails() { std::ptr::null_mut() } else { unsafe { System.realloc(block, layout, size) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}

/// Tells the child what to do.
const PLACE: &str = "PARITAS_CEILING_PLACE";
const LIMIT: &str = "PARITAS_CEILING_LIMIT";
const ROUND: &str = "PARITAS_CEILING_ROUND";

/// Places that one child writes to, once each.
const PLACES: usize = 3;
/// So many writes.
const WRITES: u64 = PLACES as u64;
/// Blocks of each.
const BLOCKS: usize = 40;
/// Longer than this is a hang.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests that never come: the child counts.
const MANY: u64 = 1 << 40;

/// The bytes of a write.
fn content(tag: u64) -> Vec<u8> {
    (0..BLOCKS * BLOCK / 8).flat_map(|word| (tag << 32 | word as u64).to_le_bytes()).collect()
}

/// The child. Does nothing when it is run like any test.
#[test]
fn child() {
    let (Ok(place), Ok(limit), Ok(round)) =
        (std::env::var(PLACE), std::env::var(LIMIT), std::env::var(ROUND))
    else {
        return;
    };
    let round: u64 = round.parse().expect("a number");
    let (what, value) = limit.split_once('=').expect("a limit");
    let value: u64 = value.parse().expect("a number");
    let lower = |resource, to: u64| {
        setrlimit(resource, Rlimit { current: Some(to), maximum: Some(to) }).expect("lowered");
    };
    match what {
        "files" => lower(Resource::Nofile, value),
        "size" => lower(Resource::Fsize, value),
        "memory" => {
            let pages = std::fs::read_to_string("/proc/self/statm").expect("readable");
            let pages: u64 = pages.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number");
            lower(Resource::As, pages * 4096 + value);
        }
        "requests" => LEFT.store(value, Ordering::Relaxed),
        "later" => {}
        _ => panic!("no such limit"),
    }
    let later = (what == "later").then_some(value);
    if let Err(error) = work(&place, round, later) {
        println!("refused {:?}: {error}", error.kind());
    }
    let left = LEFT.swap(0, Ordering::Relaxed);
    println!("requested {}", value.saturating_sub(left));
}

/// Opens, writes, flushes, closes. The limit may begin to count when the array is open.
fn work(place: &str, round: u64, later: Option<u64>) -> paritas::error::Result<()> {
    let array = Array::open(place, &OpenOptions::default())?;
    if let Some(requests) = later {
        LEFT.store(requests, Ordering::Relaxed);
    }
    let volume = array.volume("v")?;
    for write in 0..WRITES {
        let tag = round * WRITES + write + 1;
        volume.write(write * (BLOCKS * BLOCK) as u64, content(tag))?;
        volume.flush()?;
        println!("flushed {tag}");
    }
    array.close()
}

/// An array, and what its volume holds.
struct Bench {
    folder: tempfile::TempDir,
    round: u64,
    /// The tag of each place.
    tags: [u64; PLACES],
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let members: Vec<PathBuf> = (0..3).map(|i| folder.path().join(format!("m{i}"))).collect();
        let options =
            CreateOptions { size: Some(64 << 20), scheme: Scheme::new(2, 1), ..CreateOptions::default() };
        let array = Array::create(&members, &options).expect("made");
        let bytes = WRITES * (BLOCKS * BLOCK) as u64;
        let volume = array.create_volume("v", bytes, None).expect("created");
        (0..WRITES).for_each(|at| volume.write(at * (BLOCKS * BLOCK) as u64, content(0)).expect("written"));
        array.close().expect("closed");
        Bench { folder, round: 0, tags: [0; PLACES] }
    }

    /// A child under a limit, and the array after it. Returns what it said, and how it ended.
    #[track_caller]
    fn child(&mut self, limit: &str) -> (String, ExitStatus) {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["child", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(PLACE, self.folder.path()).env(LIMIT, limit).env(ROUND, self.round.to_string());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let begun = Instant::now();
        while child.try_wait().expect("waited for").is_none() {
            if begun.elapsed() > PATIENCE {
                child.kill().expect("killed");
                panic!("{limit}: it hangs");
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        let output = child.wait_with_output().expect("ended");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{limit}: {said}");
        self.check(limit, &said);
        (said, output.status)
    }

    /// The array opens and has what was flushed.
    #[track_caller]
    fn check(&mut self, limit: &str, said: &str) {
        let flushed =
            (0..WRITES).filter(|at| said.contains(&format!("flushed {}\n", self.round * WRITES + at + 1)));
        let flushed = flushed.count();
        let array = Array::open(self.folder.path(), &OpenOptions::default())
            .unwrap_or_else(|error| panic!("after {limit}: {error}"));
        let volume = array.volume("v").expect("found");
        for at in 0..PLACES {
            let new = self.round * WRITES + at as u64 + 1;
            let found = read(&volume, at);
            if found == content(new) {
                assert!(at <= flushed, "after {limit}: write {at} is there, and {flushed} were flushed");
                self.tags[at] = new;
            } else {
                assert!(
                    at >= flushed && found == content(self.tags[at]),
                    "after {limit}: place {at}: {said}"
                );
            }
        }
        assert!(array.status().expect("open").damage.is_empty());
        array.close().expect("closed");
        self.round += 1;
    }
}

fn read(volume: &Volume, at: usize) -> Vec<u8> {
    volume.read((at * BLOCKS * BLOCK) as u64, BLOCKS * BLOCK).expect("read").to_vec()
}

const SIGABRT: i32 = 6;
const SIGXFSZ: i32 = 25;

#[test]
fn whichever_request_for_memory_fails_nothing_flushed_is_lost() {
    let mut bench = Bench::new();
    let mut count = |from: &str| -> u64 {
        let (said, status) = bench.child(&format!("{from}={MANY}"));
        assert!(status.success(), "{said}");
        said.lines().find_map(|line| line.split_once("requested ")?.1.parse().ok()).expect("counted")
    };
    let (all, later) = (count("requests"), count("later"));
    assert!(all > 500 && later > 100, "{all} requests, {later} of them when it is open");
    let (mut aborted, mut flushed) = (0, 0);
    for at in 1..=16 {
        for limit in [format!("requests={}", all * at / 17), format!("later={}", later * at / 17)] {
            let (said, status) = bench.child(&limit);
            assert!(status.success() || status.signal() == Some(SIGABRT), "{limit}: {status}: {said}");
            aborted += u32::from(!status.success());
            flushed += u32::from(said.contains("flushed"));
        }
    }
    assert!(aborted > 20 && flushed > 3, "{aborted} aborted, {flushed} had flushed something");
}

#[test]
fn with_too_few_open_files_it_says_so() {
    let mut bench = Bench::new();
    let (mut refused, mut done) = (0, 0);
    for files in 3..24 {
        let (said, status) = bench.child(&format!("files={files}"));
        assert!(status.success(), "{files}: {status}: {said}");
        refused += u32::from(said.contains("refused"));
        done += u32::from(!said.contains("refused"));
    }
    assert!(refused > 2 && done > 2, "{refused} refused, {done} done");
}

#[test]
fn with_too_little_address_space_for_its_threads_it_says_so() {
    let mut bench = Bench::new();
    let (mut refused, mut done) = (0, 0);
    for kib in (0..64).map(|at| at * 512) {
        let (said, status) = bench.child(&format!("memory={}", kib << 10));
        assert!(status.success() || status.signal() == Some(SIGABRT), "{kib} KiB: {status}: {said}");
        refused += u32::from(said.contains("refused"));
        done += u32::from(status.success() && !said.contains("refused"));
        if done > 3 {
            break;
        }
    }
    assert!(refused > 0, "{refused} refused, {done} done");
}

/// Members of which two are larger than a file may grow, under that limit.
struct Limited {
    folder: tempfile::TempDir,
}

impl Limited {
    const LIMIT: u64 = 80 << 20;

    fn new() -> Limited {
        let limited = Limited { folder: tempfile::tempdir().expect("a folder") };
        let members: Vec<String> = (0..6).map(|i| limited.path(&format!("array/m{i}"))).collect();
        std::fs::create_dir(limited.path("array")).expect("made");
        for (member, mib) in members.iter().zip([64, 64, 96, 64, 96, 64]) {
            std::fs::File::create(member).and_then(|file| file.set_len(mib << 20)).expect("made");
        }
        let mut args = vec!["mkfs", "--scheme", "4+2"];
        args.extend(members.iter().map(String::as_str));
        limited.run(None, 0, &args);
        limited
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").into()
    }

    /// Runs the command, which must end with `code`. Returns all that it said.
    #[track_caller]
    fn run(&self, limit: Option<u64>, code: i32, args: &[&str]) -> String {
        let limit = limit.map_or("unlimited".to_owned(), |bytes| (bytes >> 10).to_string());
        let mut command = Command::new("bash");
        command.args(["-c", "ulimit -f \"$0\"; exec \"$@\"", &limit, env!("CARGO_BIN_EXE_paritas")]);
        let output = command.args(args).stdin(Stdio::null()).output().expect("bash runs");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

#[test]
fn a_file_that_may_grow_no_further_is_a_member_that_takes_no_writes() {
    let limited = Limited::new();
    let data = content(1).repeat(20);
    std::fs::write(limited.path("data"), &data).expect("written");
    let (array, volume, other) = (limited.path("array"), limited.path("array:v"), limited.path("array:w"));
    let file = limited.path("data");
    // Two members cannot be written to their ends: the others go on without them.
    limited.run(Some(Limited::LIMIT), 0, &["import", &file, &volume]);
    let status = limited.run(None, 1, &["status", &array]);
    assert_eq!(status.matches("  out  ").count(), 2, "{status}");
    // None can.
    let said = limited.run(Some(8 << 20), 2, &["import", &file, &other]);
    assert!(said.contains("4 more member(s) failed"), "{said}");
    limited.run(None, 0, &["rebuild", &array]);
    limited.run(None, 0, &["export", &volume, &limited.path("back")]);
    assert!(std::fs::read(limited.path("back")).expect("exported") == data);
    limited.run(None, 0, &["scrub", &array]);
    limited.run(None, 0, &["status", &array]);
}

#[test]
fn a_program_that_does_not_listen_is_killed_by_the_limit_and_loses_nothing_flushed() {
    let mut bench = Bench::new();
    for size in [8 << 20, 48 << 20, (64 << 20) - 4096] {
        let (said, status) = bench.child(&format!("size={size}"));
        assert!(status.success() || status.signal() == Some(SIGXFSZ), "{size}: {status}: {said}");
    }
}
