//! A process that is going to be killed: a [`super::writer`], and what it said until then.

use super::file_error;
use crate::outcome::Failure;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const SIGKILL: i32 = 9;

/// What a writer said.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// It had opened the array.
    pub(crate) opened: bool,
    /// For each volume the newest step that is durable.
    pub(crate) flushed: BTreeMap<String, u64>,
    /// Flushes acknowledged.
    pub(crate) flushes: u64,
    /// Bytes that the cleaner moved.
    pub(crate) moved: u64,
}

/// A running writer.
struct Victim {
    child: Child,
    told: JoinHandle<Result<Told, Failure>>,
}

/// Lets a writer write these volumes, from the step behind `after` on, and kills it after that time. Without a
/// volume it only opens the array.
pub(crate) fn write_and_kill(
    array: &Path,
    volumes: &[&str],
    after: u64,
    time: Duration,
) -> Result<Told, Failure> {
    let victim = Victim::start(array, volumes, after)?;
    thread::sleep(time);
    victim.kill()
}

impl Victim {
    fn start(array: &Path, volumes: &[&str], after: u64) -> Result<Victim, Failure> {
        let program = std::env::current_exe().map_err(|error| file_error(&error))?;
        let mut child = Command::new(program)
            .args(["__endure", "writer", "--after", &after.to_string()])
            .arg(array)
            .args(volumes)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| file_error(&error))?;
        let out = child.stdout.take().ok_or_else(|| Failure::io("the writer has no standard output"))?;
        let told = thread::spawn(move || {
            BufReader::new(out).lines().try_fold(Told::default(), |told, line| {
                let line = line.map_err(|error| file_error(&error))?;
                listen(told, &line)
            })
        });
        Ok(Victim { child, told })
    }

    fn kill(mut self) -> Result<Told, Failure> {
        let ended = self.child.kill().and_then(|()| self.child.wait()).map_err(|error| file_error(&error))?;
        if ended.signal() != Some(SIGKILL) {
            return Err(Failure::lost(format!("the writer ended by itself: {ended}")));
        }
        self.told.join().map_err(|_| Failure::io("the listener ended"))?
    }
}

fn listen(mut told: Told, line: &str) -> Result<Told, Failure> {
    let wrong = || Failure::io(format!("the writer said '{line}'"));
    match line.split_once(' ') {
        None if line == "opened" => told.opened = true,
        None => return Err(wrong()),
        Some((what, number)) => {
            let number = number.parse().map_err(|_| wrong())?;
            if what == "moved" {
                told.moved = number;
            } else {
                told.flushes += 1;
                let newest = told.flushed.entry(what.to_owned()).or_default();
                *newest = number.max(*newest);
            }
        }
    }
    Ok(told)
}
