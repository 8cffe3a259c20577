//! What is measured, the same for both sides: jobs, their offsets and limits, and what came of them.

use crate::outcome::Failure;
use paritas::device::Aligned;
use paritas::types::{BLOCK, BLOCK_U64};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Set when the user wants no more: jobs end, and everything is put back as it was.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on an interrupt ends jobs instead of the process.
pub(super) fn catch_interrupts() -> Result<(), Failure> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
        .map_err(|error| Failure::io(format!("cannot catch interrupts: {error}")))
}

/// An error once the user wants no more.
pub(super) fn check_interrupt() -> Result<(), Failure> {
    match INTERRUPTED.load(Ordering::Relaxed) {
        true => Err(Failure::io("interrupted; nothing is left behind")),
        false => Ok(()),
    }
}

/// What one operation of a job does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Read,
    Write,
    /// A write and a flush, one after the other.
    FlushedWrite,
}

/// Operations of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) verb: Verb,
    pub(super) random: bool,
    /// Bytes of an operation.
    pub(super) size: usize,
    /// Operations at a time.
    pub(super) depth: usize,
    /// Bytes that the offsets are taken from, from 0 on.
    pub(super) span: u64,
    /// The job ends after this time,
    pub(super) time: Duration,
    /// or when so many bytes were moved.
    pub(super) bytes: u64,
}

/// Says where a job's next operation goes, until it is over.
pub(super) struct Pace {
    job: Job,
    started: Instant,
    issued: u64,
    state: u64,
}

impl Pace {
    pub(super) fn start(job: Job) -> Pace {
        Pace { job, started: Instant::now(), issued: 0, state: 0x9E37_79B9_7F4A_7C15 }
    }

    /// The next offset; `None` when the job is over.
    ///
    /// # Errors
    /// When the user wants no more.
    pub(super) fn next(&mut self) -> Result<Option<u64>, Failure> {
        check_interrupt()?;
        let size = self.job.size as u64;
        if self.issued + size > self.job.bytes || self.started.elapsed() >= self.job.time {
            return Ok(None);
        }
        let places = (self.job.span / size).max(1);
        let place = match self.job.random {
            true => self.random() % places,
            false => self.issued / size % places,
        };
        self.issued += size;
        Ok(Some(place * size))
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 11
    }
}

/// How a job went.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) operations: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) bytes_per_second: f64,
    pub(super) operations_per_second: f64,
    /// Not of a rebuild, which is one long operation.
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    /// Of this process, kernel included.
    pub(super) cpu_us_per_operation: f64,
}

/// Watches a job.
pub(super) struct Meter {
    started: Instant,
    cpu: Duration,
    operations: u64,
    bytes: u64,
    latencies: Histogram,
}

impl Meter {
    pub(super) fn start() -> Meter {
        let latencies = Histogram::new();
        Meter { started: Instant::now(), cpu: cpu_time(), operations: 0, bytes: 0, latencies }
    }

    /// A part of one long operation was done: so many bytes, in operations of this size.
    pub(super) fn moved(&mut self, bytes: u64, size: usize) {
        self.operations += bytes / size as u64;
        self.bytes += bytes;
    }

    /// An operation that began then has ended.
    pub(super) fn done(&mut self, begun: Instant, bytes: usize) {
        self.operations += 1;
        self.bytes += bytes as u64;
        self.latencies.add(begun.elapsed());
    }

    #[allow(clippy::cast_precision_loss)] // Figures for people.
    pub(super) fn finish(self) -> Measured {
        let seconds = self.started.elapsed().as_secs_f64();
        let cpu = cpu_time().saturating_sub(self.cpu).as_secs_f64();
        let (operations, bytes) = (self.operations as f64, self.bytes as f64);
        Measured {
            operations: self.operations,
            bytes: self.bytes,
            seconds,
            bytes_per_second: bytes / seconds,
            operations_per_second: operations / seconds,
            p50_us: self.latencies.percentile(0.50).map(micros),
            p99_us: self.latencies.percentile(0.99).map(micros),
            cpu_us_per_operation: cpu * 1e6 / operations.max(1.0),
        }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Time on a processor of all threads of this process, those that the kernel runs for it included.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("a clock that starts at zero");
    Duration::new(seconds, u32::try_from(time.tv_nsec).expect("less than a second"))
}

/// Durations by their size, to 3 %, in a table of fixed size.
pub(crate) struct Histogram {
    counts: Vec<u64>,
}

/// Buckets for each power of two.
const STEPS: u64 = 32;

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram { counts: vec![0; bucket(u64::MAX) + 1] }
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        self.counts[bucket(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))] += 1;
    }

    /// Adds what another one holds.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
    }

    /// The least duration that this share of all do not exceed; `None` of none.
    pub(crate) fn percentile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.counts.iter().sum();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // Off by one in 2^53, and a share of a count is no larger than it.
        let wanted = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        (total > 0).then(|| Duration::from_nanos(value(found.unwrap_or(0))))
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let bucket = match nanoseconds.checked_ilog2() {
        Some(log) if nanoseconds >= STEPS => {
            let shift = u64::from(log) - 5;
            STEPS * shift + (nanoseconds >> shift)
        }
        _ => nanoseconds,
    };
    usize::try_from(bucket).expect("less than 64 times STEPS")
}

/// The smallest value of a bucket.
fn value(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    match (bucket / STEPS).checked_sub(1) {
        Some(shift) => (bucket % STEPS + STEPS) << shift,
        None => bucket,
    }
}

/// Bytes that nothing compresses, in a buffer larger than the caches, aligned.
pub(super) fn noise(len: usize) -> Aligned {
    let mut buffer = Aligned::zeroed(len.next_multiple_of(BLOCK));
    let mut state = 1u64;
    for word in buffer.as_mut().chunks_exact_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.copy_from_slice(&(state ^ state >> 29).to_le_bytes());
    }
    buffer
}

/// Where in the noise the bytes for an offset begin.
pub(super) fn noise_at(noise_len: usize, offset: u64, size: usize) -> usize {
    let places = (noise_len / size).max(1) as u64;
    // Neighbours in time lie apart, so that no cache helps.
    let place = (offset / BLOCK_U64).wrapping_mul(0x9E37_79B9) % places;
    usize::try_from(place).expect("less than a length in memory") * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_without_gaps_and_close() {
        let mut last = 0;
        for value in (0..5000).chain((13..64).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1]))
        {
            let bucket = bucket(value);
            assert!(bucket == last || bucket == last + 1 || value > 5000, "{value}");
            let least = super::value(bucket);
            assert!(least <= value && value - least <= value / STEPS, "{value}: {least}");
            last = bucket;
        }
        assert_eq!(bucket(super::value(bucket(u64::MAX))), bucket(u64::MAX));
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::new();
        (1..=100).for_each(|i| histogram.add(Duration::from_nanos(i)));
        let at = |share| histogram.percentile(share).expect("not empty").as_nanos();
        assert_eq!((at(0.5), at(0.99)), (50, 98), "to 3 %");
        assert_eq!(Histogram::new().percentile(0.5), None);
    }

    #[test]
    fn a_job_ends_by_bytes_or_by_time_and_stays_inside_its_span() {
        let job = Job {
            verb: Verb::Read,
            random: false,
            size: 4096,
            depth: 1,
            span: 3 * 4096 + 100,
            time: Duration::from_secs(60),
            bytes: 5 * 4096,
        };
        let offsets = |job| {
            let mut pace = Pace::start(job);
            std::iter::from_fn(|| pace.next().expect("not interrupted")).collect::<Vec<u64>>()
        };
        assert_eq!(offsets(job), [0, 4096, 8192, 0, 4096]);
        assert!(offsets(Job { time: Duration::ZERO, ..job }).is_empty());
        let random = offsets(Job { random: true, bytes: 1000 * 4096, ..job });
        assert!([0, 4096, 8192].iter().all(|place| random.contains(place)));
        assert!(random.iter().all(|offset| *offset <= 8192));
    }
}
