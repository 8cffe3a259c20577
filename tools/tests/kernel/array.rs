//! An array whose members may fail, and what its volume must hold.

use crate::common::{command, expect, paritas};
use crate::history::{History, Model};
use crate::load::{Answer, Life, PATIENCE, VOLUME};
use serde_json::Value;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Bytes of a member, and of the volume.
pub(crate) const MEMBER: u64 = 64 << 20;
const BYTES: u64 = 8 << 20;
/// Where data lies on a member: between the rings of superblocks.
pub(crate) const DATA: Range<u64> = 1 << 20..MEMBER - (1 << 20);
/// Numbers of steps that belong to one life of the process.
const LIFE: u64 = 1 << 20;
/// What a member has for one operation, unless told.
const DEADLINE: Duration = Duration::from_secs(30);

/// An array, and what its volume must hold.
pub(crate) struct Array {
    place: PathBuf,
    /// For what a volume is read into.
    scratch: tempfile::TempDir,
    model: Model,
    /// The last step that the model has.
    known: u64,
    /// The last step that was asked for, and accepted or not.
    last: u64,
}

impl Array {
    /// Makes an array of these members, and a volume on it. `place` names the array from then on.
    pub(crate) fn new(place: &Path, members: &[PathBuf], scheme: &str) -> Array {
        let mut args: Vec<String> = ["mkfs", "--scheme", scheme].map(String::from).into();
        args.extend(members.iter().map(|path| text(path)));
        expect(0, &args);
        let volume = format!("{}:{VOLUME}", place.display());
        expect(0, &["volume", "create", &volume, "--size", "8M"]);
        let scratch = tempfile::tempdir().expect("a folder");
        let model = Model::new(History::new(VOLUME, BYTES));
        Array { place: place.into(), scratch, model, known: 0, last: 0 }
    }

    /// A process that opens the array.
    #[track_caller]
    pub(crate) fn open(&mut self) -> Life {
        let (life, opened) = self.try_open(DEADLINE);
        opened.expect("opened");
        life
    }

    /// A process that tries to open the array, for whose members so much time is enough.
    pub(crate) fn try_open(&mut self, deadline: Duration) -> (Life, Answer) {
        Life::start(&self.place, deadline)
    }

    /// Steps of the history, which must succeed.
    #[track_caller]
    pub(crate) fn steps(&mut self, life: &mut Life, count: u64) {
        self.begin_steps(life, count);
        life.answer().expect("written and flushed");
    }

    /// Orders steps of the history.
    pub(crate) fn begin_steps(&mut self, life: &mut Life, count: u64) {
        let from = self.last + 1;
        self.last += count;
        life.order(&format!("steps {from} {}", self.last));
    }

    /// Every byte of the volume is as the last step left it, as who has the array open reads it.
    #[track_caller]
    pub(crate) fn verify(&mut self, life: &mut Life) {
        let file = self.scratch.path().join("read");
        life.ask(&format!("read {}", file.display())).expect("all of it is read");
        let flushed = life.flushed.unwrap_or(self.known);
        let found = self.compare(&file, flushed);
        assert_eq!(found, self.last, "steps that were taken");
    }

    /// As a command reads it that opens the array anew.
    #[track_caller]
    pub(crate) fn verify_by_export(&mut self) {
        let found = self.recover(self.last);
        assert_eq!(found, self.last, "steps that were taken");
    }

    /// The array is opened after a crash: the volume holds what was flushed, and more of its history perhaps. Goes on
    /// from there.
    #[track_caller]
    pub(crate) fn recover(&mut self, flushed: u64) -> u64 {
        let file = self.scratch.path().join("exported");
        let volume = format!("{}:{VOLUME}", self.place.display());
        let ended = paritas(&["export", &volume, &text(&file)]);
        assert!(matches!(ended.code, 0 | 1), "{ended:?}");
        self.compare(&file, flushed)
    }

    #[track_caller]
    fn compare(&mut self, file: &Path, flushed: u64) -> u64 {
        let bytes = std::fs::read(file).expect("read");
        let mut seen = Vec::new();
        History::new(VOLUME, BYTES).recognise(&bytes, &mut seen).expect("nothing but what was written");
        let found = self.model.advance(&seen, self.known, flushed.max(self.known));
        self.known = found.unwrap_or_else(|error| panic!("{error}"));
        self.known
    }

    /// The process was killed, and had said that its steps up to `flushed` are. What became of it is found out, and
    /// the numbers that it used are not used again.
    #[track_caller]
    pub(crate) fn after_kill(&mut self, flushed: Option<u64>) {
        self.recover(flushed.unwrap_or(self.known));
        self.known = self.known.next_multiple_of(LIFE);
        self.last = self.known;
    }

    #[track_caller]
    pub(crate) fn status(&self, code: i32) -> Value {
        expect(code, &["status", &text(&self.place), "--json"]).json()
    }

    /// What `status` says while a member hangs. A process that waits for the kernel cannot end: so the member is
    /// released when all is said.
    #[track_caller]
    pub(crate) fn status_of_hanging(&self, release: impl FnOnce()) -> Value {
        let mut command = command(&["status", &text(&self.place), "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
        let mut out = child.stdout.take().expect("piped");
        let (send, said) = channel();
        thread::spawn(move || {
            let mut reader = serde_json::Deserializer::from_reader(&mut out).into_iter::<Value>();
            // The test has given up.
            let _unheard = send.send(reader.next()).is_err();
        });
        let status = said.recv_timeout(PATIENCE);
        release();
        child.wait().expect("ended");
        status.expect("it hangs").expect("it says something").expect("JSON")
    }

    #[track_caller]
    pub(crate) fn run(&self, code: i32, command: &str, args: &[&str]) -> Value {
        let place = text(&self.place);
        let mut all = vec![command, &place, "--json"];
        all.extend(args);
        expect(code, &all).json()
    }

    /// Full redundancy, and nothing that is not healed.
    #[track_caller]
    pub(crate) fn is_whole(&self) {
        let scrubbed = self.run(0, "scrub", &[]);
        assert_eq!(scrubbed["lost"], 0, "{scrubbed}");
        let status = self.status(0);
        assert_eq!(status["state"], "healthy", "{status}");
        assert_eq!(status["damage"], serde_json::json!([]), "{status}");
    }
}

/// How often a kind of error was charged to a member.
#[track_caller]
pub(crate) fn errors(status: &Value, slot: usize, kind: &str) -> u64 {
    status["members"][slot]["errors"][kind].as_u64().unwrap_or_else(|| panic!("{status}"))
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").into()
}
