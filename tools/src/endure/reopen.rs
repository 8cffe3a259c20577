//! The hidden `__endure reopen`: opens an array on members whose operations are counted, and verifies samples of what
//! [`super::scatter`] wrote.

use super::history::mix;
use super::scatter::{content, place};
use super::{ReopenArgs, file_error};
use crate::names::show_size;
use crate::outcome::{Failure, Report};
use bytes::Bytes;
use paritas::commit::OpenOptions;
use paritas::device::{Device, OpenMode, Pending, Ring, open};
use paritas::error::Error;
use paritas::pool::Candidate;
use paritas::runtime::{Driver, Dropped, Env};
use paritas::types::BLOCK_U64;
use paritas::volume::Shard;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Operations on all members so far.
#[derive(Debug, Default)]
struct Counters {
    reads: AtomicU64,
    read: AtomicU64,
    writes: AtomicU64,
    written: AtomicU64,
    flushes: AtomicU64,
}

/// What happened between two looks at the counters.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Counts {
    milliseconds: u128,
    reads: u64,
    bytes_read: u64,
    writes: u64,
    bytes_written: u64,
    flushes: u64,
}

impl Counters {
    /// Counts since the last time.
    fn take(&self, time: Duration) -> Counts {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Counts {
            milliseconds: time.as_millis(),
            reads: take(&self.reads),
            bytes_read: take(&self.read),
            writes: take(&self.writes),
            bytes_written: take(&self.written),
            flushes: take(&self.flushes),
        }
    }
}

impl Counts {
    fn text(&self, what: &str) -> String {
        let (read, written) = (show_size(self.bytes_read), show_size(self.bytes_written));
        format!(
            "{what}: {} ms, {} reads of {read}, {} writes of {written}, {} flushes",
            self.milliseconds, self.reads, self.writes, self.flushes
        )
    }
}

/// A member that counts.
struct Counted {
    device: Box<dyn Device>,
    counters: Arc<Counters>,
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

impl Device for Counted {
    fn len(&self) -> u64 {
        self.device.len()
    }

    fn read(&self, offset: u64, len: usize) -> Pending<Bytes> {
        count(&self.counters.reads, 1);
        count(&self.counters.read, len);
        self.device.read(offset, len)
    }

    fn write(&self, offset: u64, pieces: Vec<Bytes>) -> Pending<usize> {
        count(&self.counters.writes, 1);
        count(&self.counters.written, pieces.iter().map(Bytes::len).sum());
        self.device.write(offset, pieces)
    }

    fn flush(&self) -> Pending<()> {
        count(&self.counters.flushes, 1);
        self.device.flush()
    }
}

pub(super) fn run(args: &ReopenArgs) -> Result<Report, Failure> {
    let counters = Arc::new(Counters::default());
    let (ring, turner) = Ring::new().map_err(|error| file_error(&error))?;
    let driver = Driver::start_with("paritas", turner).map_err(|error| file_error(&error))?;
    let mut members: Vec<Candidate> = Vec::new();
    for path in files(&args.volume.volume.array)? {
        let device = open(&path, OpenMode::ReadWrite, Some(&ring)).map_err(|error| file_error(&error))?;
        let device = Counted { device: Box::new(device), counters: counters.clone() };
        let path = path.to_str().ok_or_else(|| Failure::usage("a member's path is not UTF-8"))?;
        members.push(Candidate { device: Arc::new(device), path: path.into() });
    }
    let env = Env::system(driver.spawner()).map_err(|error| file_error(&error))?;
    let begun = Instant::now();
    let opened = driver.block_on(Shard::open(env, members, OpenOptions::default()));
    let (shard, _) = settle(opened)?;
    let opening = counters.take(begun.elapsed());

    let volume = settle(driver.block_on({
        let (shard, name) = (shard.clone(), args.volume.volume.volume.clone());
        async move { shard.find(&name) }
    }))?;
    let samples = Samples::choose(args.writes, args.samples, volume.blocks);
    let begun = Instant::now();
    for (lba, number) in &samples.newest {
        let (shard, lba) = (shard.clone(), *lba);
        let read = driver.block_on(async move { shard.read_at(volume.id, lba * BLOCK_U64, BLOCK_U64).await });
        let wanted = number.map_or_else(|| vec![0; paritas::types::BLOCK], content);
        if settle(read)? != wanted {
            return Err(Failure::lost(format!("block {lba} is not what write {number:?} left")));
        }
    }
    let reading = counters.take(begun.elapsed());
    let begun = Instant::now();
    settle(driver.block_on({
        let shard = shard.clone();
        async move { shard.core().close().await }
    }))?;
    let closing = counters.take(begun.elapsed());
    let verified = samples.newest.len();
    let text = format!(
        "{}\n{}\n{}",
        opening.text("opened"),
        reading.text(&format!("{verified} blocks verified")),
        closing.text("closed")
    );
    let document = json!({ "opening": opening, "samples": verified, "reading": reading, "closing": closing });
    Ok(Report::done(document, text))
}

fn settle<T>(answer: Result<Result<T, Error>, Dropped>) -> Result<T, Failure> {
    Ok(answer.map_err(|Dropped| Failure::io("the engine has stopped"))??)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| file_error(&error))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(|error| file_error(&error))?;
    paths.sort();
    Ok(paths)
}

/// Blocks, and which write was the last to each.
struct Samples {
    newest: BTreeMap<u64, Option<u64>>,
}

impl Samples {
    /// The newest writes, others at random, and blocks that hardly any write met.
    fn choose(writes: u64, samples: u64, blocks: u64) -> Samples {
        let chosen = (0..samples).map(|index| match index % 4 {
            0 => place(writes.saturating_sub(1 + index), blocks),
            1 => mix(index) % blocks,
            _ => place(mix(index) % writes.max(1), blocks),
        });
        let mut newest: BTreeMap<u64, Option<u64>> = chosen.map(|lba| (lba, None)).collect();
        for number in 0..writes {
            if let Some(newest) = newest.get_mut(&place(number, blocks)) {
                *newest = Some(number);
            }
        }
        Samples { newest }
    }
}
