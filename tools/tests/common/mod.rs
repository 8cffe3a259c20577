//! The real binary on real files.

#![allow(dead_code)] // Each test program uses a part.

pub(crate) mod schema;
pub(crate) mod server;

use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) const MIB: usize = 1 << 20;
pub(crate) const BLOCK: usize = 4096;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The one JSON document on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paritas"));
    // Sockets of servers, away from those of this machine.
    command.args(args).stdin(Stdio::null()).env("PARITAS_RUN", env!("CARGO_TARGET_TMPDIR"));
    command
}

pub(crate) fn paritas<S: AsRef<OsStr>>(args: &[S]) -> Ended {
    let output = command(args).output().expect("the binary runs");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<String> = args.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
    if words.iter().any(|word| word == "--json") {
        schema::demand(&words.iter().map(String::as_str).collect::<Vec<_>>(), &out);
    }
    Ended {
        code: output.status.code().expect("no signal"),
        out,
        err: String::from_utf8_lossy(&output.stderr).into(),
    }
}

/// Runs a command that must end with `code`.
#[track_caller]
pub(crate) fn expect<S: AsRef<OsStr> + std::fmt::Debug>(code: i32, args: &[S]) -> Ended {
    let ended = paritas(args);
    assert_eq!(ended.code, code, "{args:?}: {ended:?}");
    ended
}

/// Members in a directory of their own, and room beside it.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// A place without an array.
    pub(crate) fn empty() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("array")).expect("a folder");
        Bench { folder }
    }

    /// An array of so many members of 64 MiB.
    pub(crate) fn new(members: usize, scheme: &str) -> Bench {
        let bench = Bench::empty();
        let mut args: Vec<String> = ["mkfs", "--size", "64M", "--scheme", scheme].map(String::from).into();
        args.extend((0..members).map(|i| bench.member(i).to_str().expect("UTF-8").to_owned()));
        expect(0, &args);
        bench
    }

    pub(crate) fn array(&self) -> String {
        self.beside("array").to_str().expect("UTF-8").into()
    }

    pub(crate) fn volume(&self, name: &str) -> String {
        format!("{}:{name}", self.array())
    }

    pub(crate) fn member(&self, i: usize) -> PathBuf {
        self.beside("array").join(format!("m{i}"))
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file beside the array and returns its path.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.beside(name);
        std::fs::write(&path, bytes).expect("written");
        path.to_str().expect("UTF-8").into()
    }

    /// Imports bytes into a volume.
    pub(crate) fn import(&self, name: &str, bytes: &[u8]) {
        let file = self.file("imported", bytes);
        expect(0, &["import", &file, &self.volume(name)]);
    }

    /// Exports a volume and returns its bytes.
    #[track_caller]
    pub(crate) fn export(&self, name: &str) -> Vec<u8> {
        let file = self.beside("exported");
        expect(0, &["export", &self.volume(name), file.to_str().expect("UTF-8")]);
        std::fs::read(file).expect("exported")
    }

    pub(crate) fn lose(&self, i: usize) {
        std::fs::remove_file(self.member(i)).expect("removed");
    }

    /// Garbage over a range of a member.
    pub(crate) fn garbage(&self, i: usize, offset: usize, len: usize) {
        let file = std::fs::OpenOptions::new().write(true).open(self.member(i)).expect("opened");
        let bytes = noise(u64::try_from(i + offset).expect("small"), len);
        file.write_all_at(&bytes, offset as u64).expect("written");
    }
}

/// The same bytes for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Noise with runs of zeros of all lengths.
pub(crate) fn holey(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = noise(seed, len);
    let (mut at, mut gap) = (3 * BLOCK, BLOCK);
    while at < len {
        let end = (at + gap).min(len);
        bytes[at..end].fill(0);
        at = end + 60 * BLOCK;
        gap = if gap > MIB { BLOCK } else { gap * 2 + 512 };
    }
    bytes
}

/// What a volume made from a file holds.
pub(crate) fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// All bytes of all members and their names, to see that nothing changed.
pub(crate) fn fingerprint(folder: &Path) -> Vec<(PathBuf, u64, u64)> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut found: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("a file");
            let words = bytes.chunks(8).map(|word| {
                let mut whole = [0; 8];
                whole[..word.len()].copy_from_slice(word);
                u64::from_le_bytes(whole)
            });
            let sum = words.fold(0, |sum: u64, word| sum.wrapping_mul(0x0100_0000_01B3) ^ word);
            (path, bytes.len() as u64, sum)
        })
        .collect();
    found.sort();
    found
}
