//! The hidden `__endure scatter`: numbered writes of one block each, at random all over a volume.

use super::ScatterArgs;
use super::history::mix;
use super::overwrite::{peak_memory, rate};
use crate::bench::load::Histogram;
use crate::names::show_size;
use crate::outcome::{Failure, Report};
use paritas::types::BLOCK_U64;
use paritas::volume::{Array, OpenOptions};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;
use std::time::Instant;

/// Writes between two flushes.
const FLUSH_EVERY: u64 = 100_000;

pub(super) fn run(args: &ScatterArgs) -> Result<Report, Failure> {
    let mut options = OpenOptions { name: args.volume.choice.name.clone(), ..OpenOptions::default() };
    options.map_cache = args.map_cache.unwrap_or(options.map_cache);
    let array = Array::open(&args.volume.volume.array, &options).map_err(|error| Failure::opening(&error))?;
    let volume = array.volume(&args.volume.volume.volume)?;
    let blocks = volume.size()? / BLOCK_U64;
    let (begun, mut calls) = (Instant::now(), Histogram::new());
    let mut longest_flush = std::time::Duration::ZERO;
    for number in args.from..args.from + args.writes {
        let called = Instant::now();
        volume.write(place(number, blocks) * BLOCK_U64, content(number))?;
        calls.add(called.elapsed());
        if number % FLUSH_EVERY == FLUSH_EVERY - 1 {
            let called = Instant::now();
            volume.flush()?;
            longest_flush = longest_flush.max(called.elapsed());
        }
    }
    volume.flush()?;
    let elapsed = begun.elapsed();
    let work = array.status()?.work;
    let closing = Instant::now();
    if !args.crash {
        array.close()?;
    }
    let peak = peak_memory()?;
    let limit = options.write_buffer + options.map_cache + (128 << 20);
    let longest_write = calls.percentile(1.0).unwrap_or_default();
    let document = json!({
        "writes": args.writes, "seconds": elapsed.as_secs_f64(), "peak_memory": peak, "limit": limit,
        "written": work.written, "metadata": work.metadata, "accepted": work.accepted,
        "longest_write_ms": longest_write.as_millis(), "longest_flush_ms": longest_flush.as_millis(),
    });
    let text = format!(
        "{} random 4 KiB writes in {:.0} s, {} writes/s, p50 {} us, p99 {} us, longest {} ms, longest flush {} ms; \
         written {} for {} (metadata {}); peak memory {} (buffer, map cache and 128 MiB: {}); {}",
        args.writes,
        elapsed.as_secs_f64(),
        rate(args.writes, elapsed),
        calls.percentile(0.5).unwrap_or_default().as_micros(),
        calls.percentile(0.99).unwrap_or_default().as_micros(),
        longest_write.as_millis(),
        longest_flush.as_millis(),
        show_size(work.written),
        show_size(work.accepted),
        show_size(work.metadata),
        show_size(peak),
        show_size(limit),
        if args.crash { "killed".into() } else { format!("closed in {:?}", closing.elapsed()) },
    );
    if args.crash {
        println!("{text}");
        kill_process(getpid(), Signal::KILL).map_err(|error| super::file_error(&error.into()))?;
    }
    Ok(Report::done(document, text))
}

/// The block that a write goes to.
pub(super) fn place(number: u64, blocks: u64) -> u64 {
    mix(number) % blocks
}

/// What it writes.
pub(super) fn content(number: u64) -> Vec<u8> {
    let seed = mix(number ^ 1 << 63);
    (0..BLOCK_U64 / 8).flat_map(|index| (seed ^ index).to_le_bytes()).collect()
}
