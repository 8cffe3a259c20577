//! What is asked of a member or a volume, and how long it takes. Counters that never go back: who watches takes the
//! difference of two looks.
//!
//! A time is counted in one of [`BUCKETS`], of which four share each power of two of microseconds: so a percentile is
//! known to a fifth, from 1 us to more than an hour, in less than a KiB for each kind of operation.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Ranges of time that are told apart.
pub const BUCKETS: usize = 128;

/// What may be asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Operation {
    /// A read.
    Read,
    /// A write; of a volume also a trim, which has no bytes.
    Write,
    /// A flush.
    Flush,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 3] = [Operation::Read, Operation::Write, Operation::Flush];

    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Flush => "flush",
        }
    }
}

/// Counts, as they go on.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<[Counters; 3]>);

#[derive(Debug)]
struct Counters {
    begun: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            begun: AtomicU64::default(),
            done: AtomicU64::default(),
            failed: AtomicU64::default(),
            bytes: AtomicU64::default(),
            nanoseconds: AtomicU64::default(),
            buckets: std::array::from_fn(|_| AtomicU64::default()),
        }
    }
}

/// Operations of one kind, since the beginning or between two looks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Under way now.
    pub in_flight: u64,
    /// Done, failed ones too.
    pub done: u64,
    /// Failed.
    pub failed: u64,
    /// Bytes of those that did not fail.
    pub bytes: u64,
    /// How long all of them took together.
    pub time: Duration,
    /// How many took how long.
    buckets: [u64; BUCKETS],
}

/// An operation under way. One that is dropped is done, and has failed.
#[derive(Debug)]
pub struct Tally {
    meter: Meter,
    operation: Operation,
    begun: Duration,
    is_open: bool,
}

impl Meter {
    /// An operation begins, at a time of a clock that never goes back.
    pub fn begin(&self, operation: Operation, now: Duration) -> Tally {
        self.0[operation as usize].begun.fetch_add(1, Ordering::Relaxed);
        Tally { meter: self.clone(), operation, begun: now, is_open: true }
    }

    /// How many there were of one kind.
    pub fn figures(&self, operation: Operation) -> Figures {
        let counters = &self.0[operation as usize];
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // In this order none is under way that has not begun.
        let done = load(&counters.done);
        Figures {
            in_flight: load(&counters.begun).saturating_sub(done),
            done,
            failed: load(&counters.failed),
            bytes: load(&counters.bytes),
            time: Duration::from_nanos(load(&counters.nanoseconds)),
            buckets: std::array::from_fn(|at| load(&counters.buckets[at])),
        }
    }
}

impl Tally {
    /// It is done: `bytes` were moved, or nothing where it failed.
    pub fn end(mut self, bytes: Option<u64>, now: Duration) {
        self.is_open = false;
        let counters = &self.meter.0[self.operation as usize];
        let took = now.saturating_sub(self.begun);
        let add = |counter: &AtomicU64, more: u64| counter.fetch_add(more, Ordering::Relaxed);
        add(&counters.bytes, bytes.unwrap_or(0));
        add(&counters.failed, u64::from(bytes.is_none()));
        add(&counters.nanoseconds, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        add(&counters.buckets[bucket(took)], 1);
        add(&counters.done, 1);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if self.is_open {
            let counters = &self.meter.0[self.operation as usize];
            counters.failed.fetch_add(1, Ordering::Relaxed);
            counters.done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The bucket of a time: four to each power of two of microseconds, the first for less than 4 us.
fn bucket(took: Duration) -> usize {
    let quarters = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let Some(log) = quarters.checked_ilog2().filter(|log| *log >= 2) else {
        return usize::try_from(quarters).expect("less than four");
    };
    let part = quarters >> (log - 2) & 3;
    let at = 4 * (u64::from(log) - 1) + part;
    usize::try_from(at).map_or(BUCKETS - 1, |at| at.min(BUCKETS - 1))
}

/// What all times of a bucket are less than.
fn end_of(bucket: usize) -> Duration {
    let bucket = bucket as u64 + 1;
    match bucket {
        0..4 => Duration::from_micros(bucket),
        _ => Duration::from_micros((4 + bucket % 4) << (bucket / 4 - 1)),
    }
}

impl Figures {
    /// What came after an earlier look; what is under way is as it is.
    #[must_use]
    pub fn since(&self, earlier: &Figures) -> Figures {
        Figures {
            in_flight: self.in_flight,
            done: self.done.saturating_sub(earlier.done),
            failed: self.failed.saturating_sub(earlier.failed),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            time: self.time.saturating_sub(earlier.time),
            buckets: std::array::from_fn(|at| self.buckets[at].saturating_sub(earlier.buckets[at])),
        }
    }

    /// How many took less than a power of two of microseconds, or than the next shorter time that is told apart.
    pub fn within(&self, limit: Duration) -> u64 {
        let is_within = |(at, _): &(usize, &u64)| end_of(*at) <= limit;
        self.buckets.iter().enumerate().take_while(is_within).map(|(_, count)| count).sum()
    }

    /// A time that so many of a thousand took no longer than, to a fifth; `None` when there were none.
    pub fn percentile(&self, per_mille: u64) -> Option<Duration> {
        let total: u64 = self.buckets.iter().sum();
        let wanted = (total * per_mille).div_ceil(1000).max(1);
        let mut passed = 0;
        let reaches = |count: &u64| {
            passed += count;
            passed >= wanted
        };
        self.buckets.iter().position(reaches).map(end_of)
    }
}

/// The meters of things that come and go, by number.
#[derive(Clone, Debug, Default)]
pub struct Meters(Arc<Mutex<BTreeMap<u64, Meter>>>);

impl Meters {
    /// The meter of one, new where there is none yet.
    pub fn of(&self, number: u64) -> Meter {
        self.0.lock().entry(number).or_default().clone()
    }

    /// One is gone for good: who still counts on its meter, counts for nobody.
    pub fn forget(&self, number: u64) {
        self.0.lock().remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn a_time_is_in_the_bucket_that_ends_behind_it_and_begins_before() {
        for micros in (0..10_000).chain([1 << 20, (1 << 30) + 7, 4_000_000_000]) {
            let took = US * micros;
            let at = bucket(took);
            assert!(took < end_of(at), "{micros} us in {at}");
            assert!(at == 0 || took >= end_of(at - 1), "{micros} us in {at}");
            assert!(micros < 8 || end_of(at) <= took * 5 / 4 + US, "{micros} us to a fifth or so");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_is_under_way_done_and_failed_is_counted() {
        let meter = Meter::default();
        let first = meter.begin(Operation::Write, US);
        let second = meter.begin(Operation::Write, US);
        let third = meter.begin(Operation::Write, US * 2);
        assert_eq!(meter.figures(Operation::Write).in_flight, 3);
        first.end(Some(4096), US * 11);
        second.end(None, US * 1001);
        drop(third);
        let figures = meter.figures(Operation::Write);
        assert_eq!((figures.in_flight, figures.done, figures.failed), (0, 3, 2));
        assert_eq!((figures.bytes, figures.time), (4096, US * 1010));
        assert_eq!(meter.figures(Operation::Read).done, 0);
    }

    #[test]
    fn percentiles_are_those_of_what_came_between_two_looks() {
        let meter = Meter::default();
        assert_eq!(meter.figures(Operation::Read).percentile(500), None);
        let ends_after = |micros: u32| meter.begin(Operation::Read, US).end(Some(1), US * (micros + 1));
        (0..100).for_each(|_| ends_after(50_000));
        let before = meter.figures(Operation::Read);
        (0..99).for_each(|_| ends_after(100));
        ends_after(9000);
        let figures = meter.figures(Operation::Read).since(&before);
        assert_eq!((figures.done, figures.bytes), (100, 100));
        let near = |time: Option<Duration>, micros: u32| {
            let time = time.expect("there were some");
            assert!(time > US * micros && time < US * micros * 5 / 4, "{time:?}, not {micros} us");
        };
        near(figures.percentile(500), 100);
        near(figures.percentile(990), 100);
        near(figures.percentile(999), 9000);
        let within = |micros: u32| figures.within(US * micros);
        assert_eq!((within(64), within(128), within(8192), within(16_384)), (0, 99, 99, 100));
    }

    #[test]
    fn meters_are_kept_by_number() {
        let meters = Meters::default();
        meters.of(7).begin(Operation::Flush, US).end(Some(0), US);
        assert_eq!(meters.of(7).figures(Operation::Flush).done, 1);
        assert_eq!(meters.of(8).figures(Operation::Flush).done, 0);
        meters.forget(7);
        assert_eq!(meters.of(7).figures(Operation::Flush).done, 0);
    }
}
