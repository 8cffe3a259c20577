//! The hidden `__endure overwrite`: an array full to a stated share takes blocks at random, from several threads at a
//! time, each of which waits for its call. Then every block is read and compared, before and after a new opening.

use super::history::mix;
use super::{OverwriteArgs, file_error};
use crate::bench::load::Histogram;
use crate::names::{SchemeName, show_size};
use crate::outcome::{Failure, Report, say};
use paritas::error::Kind;
use paritas::types::{BLOCK, BLOCK_U64};
use paritas::volume::{Array, CreateOptions, OpenOptions, Volume};
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Callers at a time. The blocks with the same remainder belong to one caller.
const CALLERS: u64 = 4;
/// Writes of one caller between two flushes.
const FLUSH_EVERY: u64 = 1000;
/// Writes whose rate is one figure.
const WINDOW: u64 = 50_000;
/// Blocks of a call that fills or reads.
const LARGE: u64 = 256;

#[derive(Debug, Serialize)]
struct Figures {
    scheme: String,
    raw_bytes: u64,
    /// What the array accepted before it said that it is full.
    accepted_bytes: u64,
    live_bytes: u64,
    live_of_raw_k_percent: u64,
    writes: u64,
    seconds: f64,
    /// Writes per second of each window.
    rates: Vec<u64>,
    write_p50_us: u128,
    write_p99_us: u128,
    write_p9999_us: u128,
    longest_write_ms: u128,
    longest_flush_ms: u128,
    /// Bytes on members per byte written, parity included; and the parts of it.
    amplification: f64,
    amplification_by_cleaner: f64,
    amplification_by_metadata: f64,
    peak_memory: u64,
    blocks_verified: u64,
    reopen_ms: u128,
}

pub(super) fn run(args: &OverwriteArgs) -> Result<Report, Failure> {
    let folder =
        tempfile::Builder::new().prefix("paritas-overwrite.").tempdir().map_err(|e| file_error(&e))?;
    let figures = measure(args, folder.path().to_owned())?;
    let mut sorted = figures.rates.clone();
    sorted.sort_unstable();
    let rate = |at: usize| sorted.get(at).copied().unwrap_or(0);
    let text = format!(
        "{} on {}: full at {}, {} live ({} % of what k/(k+m) of the members is).\n\
         {} random 4 KiB writes in {:.0} s; per {WINDOW}: least {}, median {}, most {} writes/s\n\
         write call: p50 {} us, p99 {} us, p99.99 {} us, longest {} ms; longest flush {} ms\n\
         bytes on members per byte written: {:.2}, of which cleaner {:.2}, metadata {:.2}\n\
         peak memory of the process: {}; {} blocks verified twice; reopened in {} ms",
        figures.scheme,
        show_size(figures.raw_bytes),
        show_size(figures.accepted_bytes),
        show_size(figures.live_bytes),
        figures.live_of_raw_k_percent,
        figures.writes,
        figures.seconds,
        rate(0),
        rate(sorted.len() / 2),
        rate(sorted.len().saturating_sub(1)),
        figures.write_p50_us,
        figures.write_p99_us,
        figures.write_p9999_us,
        figures.longest_write_ms,
        figures.longest_flush_ms,
        figures.amplification,
        figures.amplification_by_cleaner,
        figures.amplification_by_metadata,
        show_size(figures.peak_memory),
        figures.blocks_verified,
        figures.reopen_ms,
    );
    Ok(Report::done(json!(figures), text))
}

#[allow(clippy::cast_precision_loss)] // Ratios for people.
fn measure(args: &OverwriteArgs, folder: PathBuf) -> Result<Figures, Failure> {
    let members = usize::from(args.scheme.on(4).width());
    let scheme = args.scheme.on(members);
    let paths: Vec<PathBuf> = (0..members).map(|i| folder.join(format!("m{i}"))).collect();
    let options = CreateOptions { scheme: Some(scheme), size: Some(args.size), ..Default::default() };
    let array = Array::create(&paths, &options)?;
    let raw_bytes = args.size * members as u64;
    let raw_k = args.size * u64::from(scheme.k());
    let volume = array.create_volume("v", raw_k, None)?;
    let accepted = fill(&volume)?;
    let blocks = accepted * args.fill / 100 / CALLERS * CALLERS;
    volume.trim(blocks * BLOCK_U64, raw_k - blocks * BLOCK_U64)?;
    volume.flush()?;
    say(&format!("filled with {}", show_size(blocks * BLOCK_U64)));

    let before = array.status()?.work;
    let begun = Instant::now();
    let (versions, calls, rates) = overwrite(&volume, blocks, args.writes)?;
    volume.flush()?;
    let seconds = begun.elapsed().as_secs_f64();
    let work = array.status()?.work;
    let per_byte = |bytes: u64| bytes as f64 / (work.accepted - before.accepted) as f64;
    verify(&volume, &versions)?;
    let peak_memory = peak_memory()?;
    array.close()?;
    drop((volume, array));
    let begun = Instant::now();
    let array = Array::open(&folder, &OpenOptions::default())?;
    let reopen_ms = begun.elapsed().as_millis();
    let blocks_verified = verify(&array.volume("v")?, &versions)?;
    array.close()?;
    Ok(Figures {
        scheme: SchemeName::spell(scheme),
        raw_bytes,
        accepted_bytes: accepted * BLOCK_U64,
        live_bytes: blocks * BLOCK_U64,
        live_of_raw_k_percent: blocks * BLOCK_U64 * 100 / raw_k,
        writes: args.writes,
        seconds,
        rates,
        write_p50_us: calls.writes.percentile(0.5).unwrap_or_default().as_micros(),
        write_p99_us: calls.writes.percentile(0.99).unwrap_or_default().as_micros(),
        write_p9999_us: calls.writes.percentile(0.9999).unwrap_or_default().as_micros(),
        longest_write_ms: calls.writes.percentile(1.0).unwrap_or_default().as_millis(),
        longest_flush_ms: calls.flushes.percentile(1.0).unwrap_or_default().as_millis(),
        amplification: per_byte(work.written - before.written),
        amplification_by_cleaner: per_byte(work.moved - before.moved),
        amplification_by_metadata: per_byte(work.metadata - before.metadata),
        peak_memory,
        blocks_verified,
        reopen_ms,
    })
}

/// Writes blocks in order until there is no more room. Returns how many.
fn fill(volume: &Volume) -> Result<u64, Failure> {
    let blocks = volume.size()? / BLOCK_U64;
    let mut at = 0;
    // Large pieces first, then what is left block by block.
    for step in [LARGE, 1] {
        while at + step <= blocks {
            let bytes: Vec<u8> = (at..at + step).flat_map(|lba| content(lba, 0)).collect();
            match volume.write(at * BLOCK_U64, bytes) {
                Ok(()) => at += step,
                Err(error) if error.kind() == Kind::NoSpace => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(at)
}

/// Durations of all calls.
struct Calls {
    writes: Histogram,
    flushes: Histogram,
}

/// Each block's version, the calls, and the writes per second of each window.
fn overwrite(volume: &Volume, blocks: u64, writes: u64) -> Result<(Vec<u32>, Calls, Vec<u64>), Failure> {
    let done = AtomicU64::new(0);
    let (ticks, windows) = channel();
    let started = Instant::now();
    let callers: Vec<_> = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let share = (blocks / CALLERS, writes / CALLERS);
                let (done, ticks) = (&done, ticks.clone());
                scope.spawn(move || overwrite_share(volume, caller, share, done, &ticks))
            })
            .collect();
        callers.into_iter().map(|one| one.join().map_err(|_| Failure::io("a caller ended"))?).collect()
    });
    drop(ticks);
    let mut calls = Calls { writes: Histogram::new(), flushes: Histogram::new() };
    let mut versions = vec![0; usize::try_from(blocks).expect("a list in memory")];
    for (caller, share) in callers.into_iter().enumerate() {
        let (own, own_calls) = share?;
        calls.writes.merge(&own_calls.writes);
        calls.flushes.merge(&own_calls.flushes);
        let places = versions.iter_mut().skip(caller).step_by(usize::try_from(CALLERS).expect("small"));
        places.zip(own).for_each(|(version, own)| *version = own);
    }
    let mut times: Vec<Instant> = windows.into_iter().collect();
    times.sort_unstable();
    let starts = std::iter::once(&started).chain(&times);
    let rates = starts.zip(&times).map(|(from, to)| rate(WINDOW, *to - *from)).collect();
    Ok((versions, calls, rates))
}

fn overwrite_share(
    volume: &Volume,
    caller: u64,
    (blocks, writes): (u64, u64),
    done: &AtomicU64,
    ticks: &Sender<Instant>,
) -> Result<(Vec<u32>, Calls), Failure> {
    let mut calls = Calls { writes: Histogram::new(), flushes: Histogram::new() };
    let mut versions = vec![0u32; usize::try_from(blocks).expect("a list in memory")];
    for number in 0..writes {
        let place = mix(number * CALLERS + caller) % blocks;
        let version = &mut versions[usize::try_from(place).expect("in the list")];
        *version += 1;
        let lba = place * CALLERS + caller;
        let bytes = content(lba, *version);
        let begun = Instant::now();
        volume.write(lba * BLOCK_U64, bytes)?;
        calls.writes.add(begun.elapsed());
        if number % FLUSH_EVERY == FLUSH_EVERY - 1 {
            let begun = Instant::now();
            volume.flush()?;
            calls.flushes.add(begun.elapsed());
        }
        if (done.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(WINDOW) {
            // The receiver outlives the callers.
            let _unheard = ticks.send(Instant::now()).is_err();
        }
    }
    Ok((versions, calls))
}

/// Compares every block. Returns how many there are.
fn verify(volume: &Volume, versions: &[u32]) -> Result<u64, Failure> {
    let pieces = versions.chunks(usize::try_from(LARGE).expect("small"));
    for (first, versions) in (0u64..).step_by(usize::try_from(LARGE).expect("small")).zip(pieces) {
        let bytes = volume.read(first * BLOCK_U64, versions.len() * BLOCK)?;
        for ((lba, block), version) in (first..).zip(bytes.chunks_exact(BLOCK)).zip(versions) {
            if block != content(lba, *version) {
                return Err(Failure::lost(format!("block {lba} is not its version {version}")));
            }
        }
    }
    Ok(versions.len() as u64)
}

/// What a block holds after so many overwrites.
fn content(lba: u64, version: u32) -> Vec<u8> {
    let seed = lba << 32 | u64::from(version);
    (0..BLOCK_U64 / 8).flat_map(|index| (mix(seed) ^ index).to_le_bytes()).collect()
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // For people.
pub(super) fn rate(count: u64, time: Duration) -> u64 {
    (count as f64 / time.as_secs_f64()) as u64
}

/// The most memory that this process has had so far, in bytes.
pub(super) fn peak_memory() -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/self/status").map_err(|error| file_error(&error))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| Failure::io("/proc/self/status does not tell the peak memory"))
}
