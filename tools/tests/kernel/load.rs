//! The process that has the array open: this program once more, which takes one order a line and answers with one.
//! Where it hangs or is killed, the test and its disks go on.
//!
//! | order | what it does |
//! | --- | --- |
//! | `steps FROM TO` | takes these steps of the volume's history, and flushes at the end |
//! | `read FILE` | writes what the volume holds into a file |
//! | `burst COUNT` | so many reads at once |
//! | `status`, `scrub`, `close` | what they say |
//!
//! The answer begins with `> `, and then with `ok`, or with `error` and its kind.

use crate::history::{Flush, History, SECTOR, Verb};
use paritas::error::{Error, Result};
use paritas::types::{BLOCK, BLOCK_U64};
use paritas::volume::{Array, OpenOptions, Volume};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// Tells the process which array, and how long its members have.
const PLACE: &str = "PARITAS_KERNEL_PLACE";
const DEADLINE: &str = "PARITAS_KERNEL_DEADLINE";
/// Longer than this is a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The most that one call writes or reads.
const LONGEST: u64 = 1 << 20;

/// The name of the volume.
pub(crate) const VOLUME: &str = "v";

/// The process. Does nothing when it is run like any test.
#[test]
fn child() {
    let (Ok(place), Ok(deadline)) = (std::env::var(PLACE), std::env::var(DEADLINE)) else { return };
    let deadline = Duration::from_millis(deadline.parse().expect("a number"));
    let options = OpenOptions { deadline, ..OpenOptions::default() };
    let opened = Array::open(place, &options).and_then(|array| Ok((array.volume(VOLUME)?, array)));
    let (volume, array) = match opened {
        Ok(opened) => opened,
        Err(error) => return tell(Err(error)),
    };
    tell(Ok(String::new()));
    for order in std::io::stdin().lines() {
        let order = order.expect("a line");
        let done = obey(&order, &array, &volume);
        tell(done);
    }
}

fn tell(answer: Result<String>) {
    let mut out = std::io::stdout().lock();
    let line = match answer {
        Ok(text) => format!("> ok {text}"),
        Err(error) => format!("> error {:?}: {error}", error.kind()),
    };
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
}

fn obey(order: &str, array: &Array, volume: &Volume) -> Result<String> {
    let words: Vec<&str> = order.split(' ').collect();
    match words[..] {
        ["steps", from, to] => steps(volume, from.parse().expect("a number"), to.parse().expect("a number")),
        ["read", file] => read(volume, Path::new(file)),
        ["burst", count] => burst(volume, count.parse().expect("a number")),
        ["status"] => {
            let status = array.status()?;
            Ok(format!("{:?} {:?}", status.state, status.work))
        }
        ["scrub"] => array.scrub().map(|done| format!("lost {} reduced {}", done.lost, done.reduced)),
        ["close"] => array.close().map(|()| String::new()),
        _ => panic!("no such order: {order}"),
    }
}

/// Says how far it came, also if it fails.
fn steps(volume: &Volume, from: u64, to: u64) -> Result<String> {
    let history = History::new(VOLUME, volume.size()?);
    for number in from..=to {
        let step = history.step(number);
        let (offset, len) = (step.sector * SECTOR as u64, step.sectors * SECTOR as u64);
        let done = match step.verb {
            Verb::Write => volume.write(offset, history.content(step)),
            Verb::WriteDurable => volume.write_durable(offset, history.content(step)),
            Verb::Trim => volume.trim(offset, len),
            Verb::WriteZeroes => volume.write_zeroes(offset, len),
        };
        done.map_err(|error| error.context(&format!("step {number}")))?;
        if step.flush != Flush::None {
            volume.flush()?;
            println!("> flushed {number}");
        }
    }
    volume.flush()?;
    println!("> flushed {to}");
    Ok(String::new())
}

fn read(volume: &Volume, file: &Path) -> Result<String> {
    let failed = |error: std::io::Error| Error::io(error.to_string());
    let mut file = std::fs::File::create(file).map_err(failed)?;
    let size = volume.size()?;
    for offset in (0..size).step_by(1 << 20) {
        let len = usize::try_from((size - offset).min(LONGEST)).expect("at most 1 MiB");
        file.write_all(&volume.read(offset, len)?).map_err(failed)?;
    }
    Ok(String::new())
}

/// Reads blocks all over the volume, all at once.
fn burst(volume: &Volume, count: u64) -> Result<String> {
    let blocks = volume.size()? / BLOCK_U64;
    let read = |i: u64| Box::pin(volume.read_async(i * 7919 % blocks * BLOCK_U64, BLOCK));
    let mut reads: Vec<_> = (0..count).map(read).collect();
    let mut context = Context::from_waker(Waker::noop());
    while !reads.is_empty() {
        let mut failed = None;
        reads.retain_mut(|read| match read.as_mut().poll(&mut context) {
            Poll::Ready(Err(error)) => {
                failed = Some(error);
                false
            }
            polled => polled.is_pending(),
        });
        failed.map_or(Ok(()), Err)?;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(String::new())
}

/// A process that has the array open.
pub(crate) struct Life {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
    /// The last step that it said is flushed.
    pub(crate) flushed: Option<u64>,
}

/// What it answers: what it says, or the kind of the error and what that says.
pub(crate) type Answer = std::result::Result<String, String>;

impl Life {
    /// Starts it. The first answer is whether the array is open.
    pub(crate) fn start(place: &Path, deadline: Duration) -> (Life, Answer) {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["load::child", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(PLACE, place).env(DEADLINE, deadline.as_millis().to_string());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this program starts");
        let (send, answers) = channel();
        let out = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || {
            for line in out.lines().map_while(std::result::Result::ok) {
                let Some((_, answer)) = line.split_once("> ") else { continue };
                if send.send(answer.to_owned()).is_err() {
                    return;
                }
            }
        });
        let orders = child.stdin.take();
        let mut life = Life { child, orders, answers, flushed: None };
        let opened = life.answer();
        (life, opened)
    }

    /// Gives an order without waiting for its end.
    pub(crate) fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("not ended");
        writeln!(orders, "{order}").expect("it listens");
    }

    /// The answer to the oldest order.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        loop {
            let line = match self.answers.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("it ended: {:?}", self.child.wait()));
                }
            };
            match line.split_once(' ') {
                Some(("flushed", number)) => self.flushed = Some(number.parse().expect("a number")),
                Some(("ok", text)) => return Ok(text.into()),
                Some(("error", text)) => return Err(text.into()),
                _ => panic!("no answer: {line}"),
            }
        }
    }

    /// Gives an order and waits for its end.
    #[track_caller]
    pub(crate) fn ask(&mut self, order: &str) -> Answer {
        self.order(order);
        self.answer()
    }

    /// Waits until something was flushed.
    #[track_caller]
    pub(crate) fn until_flushed(&mut self) {
        let line = self.answers.recv_timeout(PATIENCE).expect("it goes on");
        let number = line.strip_prefix("flushed ").unwrap_or_else(|| panic!("no flush: {line}"));
        self.flushed = Some(number.parse().expect("a number"));
    }

    /// Kills it, and takes note of what it said before.
    pub(crate) fn kill(mut self) -> Option<u64> {
        self.child.kill().expect("it runs");
        self.child.wait().expect("ended");
        while let Ok(line) = self.answers.recv_timeout(PATIENCE) {
            if let Some(number) = line.strip_prefix("flushed ") {
                self.flushed = Some(number.parse().expect("a number"));
            }
        }
        self.flushed
    }

    /// Closes the array in good order.
    #[track_caller]
    pub(crate) fn close(mut self) {
        self.ask("close").expect("closed");
        self.end();
    }

    /// Ends without closing the array.
    #[track_caller]
    pub(crate) fn end(mut self) {
        self.orders = None;
        let begun = std::time::Instant::now();
        while self.child.try_wait().expect("waited for").is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // It has ended, or the test fails anyway.
        let _ended = self.child.kill().is_err();
    }
}
