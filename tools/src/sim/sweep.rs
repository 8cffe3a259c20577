//! Many seeds, on all cores.

use super::jobs;
use crate::cli::Sim;
use crate::outcome::Failure;
use crate::progress;
use indicatif::ProgressBar;
use paritas::sim::{Outcome, Scenario, Script, perform};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::scope;
use std::time::{Duration, Instant};

/// What all seeds did together.
#[derive(Default)]
pub(super) struct Sweep {
    /// What happened on the members, by seed.
    pub(super) traces: BTreeMap<u64, u64>,
    /// How often each thing happened.
    pub(super) counts: BTreeMap<String, u64>,
    /// What went wrong, by seed.
    pub(super) failures: BTreeMap<u64, String>,
    pub(super) seconds: f64,
}

impl Sweep {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.traces.insert(seed, outcome.trace);
        for (event, count) in outcome.counts {
            *self.counts.entry(event).or_default() += count;
        }
        if let Some(text) = outcome.failure {
            self.failures.insert(seed, text);
        }
    }

    /// A hash over the traces of all seeds, in their order.
    pub(super) fn trace(&self) -> u64 {
        self.traces.values().fold(0xCBF2_9CE4_8422_2325, |hash: u64, trace| {
            (hash ^ trace).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23)
        })
    }
}

/// Seeds that are still to come.
struct Work {
    scenario: Scenario,
    next: AtomicU64,
    end: u64,
    until: Option<Instant>,
}

impl Work {
    fn take(&self) -> Option<u64> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return None;
        }
        // All that come later leave the counter alone, so that it does not run over.
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| (next < self.end).then_some(next + 1))
            .ok()
    }
}

/// Runs the seeds that `args` ask for.
pub(super) fn sweep(args: &Sim) -> Result<Sweep, Failure> {
    let seeds = args.seeds.unwrap_or(u64::MAX - args.seed);
    let end = args
        .seed
        .checked_add(seeds)
        .ok_or_else(|| Failure::usage(format!("there are no {seeds} seeds from {} on", args.seed)))?;
    let begun = Instant::now();
    let until = args.minutes.map(|minutes| begun + Duration::from_secs(60 * minutes));
    let work = Work { scenario: args.scenario, next: AtomicU64::new(args.seed), end, until };
    let sweep = Mutex::new(Sweep::default());
    let bar = progress::count("seeds", args.seeds);
    scope(|scope| {
        // This thread is one of them: memory costs less where there is no other.
        for _ in 1..jobs(args) {
            scope.spawn(|| run(&work, &sweep, &bar));
        }
        run(&work, &sweep, &bar);
    });
    bar.finish_and_clear();
    let mut sweep = sweep.into_inner().unwrap_or_else(PoisonError::into_inner);
    sweep.seconds = begun.elapsed().as_secs_f64();
    Ok(sweep)
}

fn run(work: &Work, sweep: &Mutex<Sweep>, bar: &ProgressBar) {
    while let Some(seed) = work.take() {
        let script = Script { scenario: work.scenario, ..Script::of(seed) };
        let outcome = perform(&script, false).outcome;
        bar.inc(1);
        sweep.lock().unwrap_or_else(PoisonError::into_inner).add(seed, outcome);
    }
}
