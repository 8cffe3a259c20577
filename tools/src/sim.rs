//! `paritas sim`: the engine on simulated members, seed by seed.

use crate::cli::Sim;
use crate::enumerate;
use crate::outcome::{Exit, Failure, Report, say};
use crate::progress;
use indicatif::ProgressBar;
use paritas::sim::{EVENTS, Outcome, run};
use paritas::zoo::Bugs;
use serde_json::json;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{available_parallelism, scope};
use std::time::Instant;

/// What all seeds did together.
#[derive(Default)]
struct Sweep {
    outcomes: BTreeMap<u64, u64>,
    counts: BTreeMap<String, u64>,
    failures: BTreeMap<u64, String>,
}

impl Sweep {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.outcomes.insert(seed, outcome.trace);
        for (event, count) in outcome.counts {
            *self.counts.entry(event).or_default() += count;
        }
        if let Some(text) = outcome.failure {
            self.failures.insert(seed, text);
        }
    }

    /// A hash over the traces of all seeds, in their order.
    fn trace(&self) -> u64 {
        self.outcomes.values().fold(0xCBF2_9CE4_8422_2325, |hash: u64, trace| {
            (hash ^ trace).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23)
        })
    }

    fn missing(&self) -> Vec<&'static str> {
        EVENTS.into_iter().filter(|event| self.counts.get(*event).is_none_or(|count| *count == 0)).collect()
    }
}

/// Threads for so many jobs.
pub(crate) fn jobs(args: &Sim) -> u64 {
    let jobs = args.jobs.unwrap_or_else(|| available_parallelism().map_or(1, |cores| cores.get() as u64));
    jobs.clamp(1, 1024)
}

pub(crate) fn command(args: &Sim) -> Result<Report, Failure> {
    // A panic in the engine is what a run found, not the end of the command.
    std::panic::set_hook(Box::new(|_| {}));
    match (&args.image, args.seeds) {
        (Some(image), _) => enumerate::repeat(image),
        (None, Some(seeds)) => run_seeds(args, seeds),
        (None, None) => enumerate::run(args),
    }
}

fn run_seeds(args: &Sim, seeds: u64) -> Result<Report, Failure> {
    let end = args
        .seed
        .checked_add(seeds)
        .ok_or_else(|| Failure::usage(format!("there are no {seeds} seeds from {} on", args.seed)))?;
    let next = AtomicU64::new(args.seed);
    let sweep = Mutex::new(Sweep::default());
    let bar = progress::count("seeds", seeds);
    let begun = Instant::now();
    scope(|scope| {
        for _ in 0..jobs(args) {
            scope.spawn(|| work(&next, end, &sweep, &bar));
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let sweep = sweep.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(report(args, seeds, &sweep, seconds))
}

fn work(next: &AtomicU64, end: u64, sweep: &Mutex<Sweep>, bar: &ProgressBar) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let outcome = catch_unwind(|| run(seed, Bugs::NONE)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
            Outcome { failure: Some(format!("the engine panicked: {text}")), ..Outcome::default() }
        });
        bar.inc(1);
        sweep.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(seed, outcome);
    }
}

fn report(args: &Sim, seeds: u64, sweep: &Sweep, seconds: f64) -> Report {
    for (seed, text) in &sweep.failures {
        say(&format!("seed {seed}: {text}; repeat it with: paritas sim --seeds 1 --seed {seed}"));
    }
    let missing = if args.require_all { sweep.missing() } else { Vec::new() };
    for event in &missing {
        say(&format!("'{event}' never happened in these seeds"));
    }
    let clean = sweep.failures.is_empty() && missing.is_empty();
    let mut text = format!(
        "{} seeds from {} on, {} failed, {:.1} seeds/s, trace {:016x}\n",
        seeds,
        args.seed,
        sweep.failures.len(),
        seeds as f64 / seconds.max(1e-9),
        sweep.trace()
    );
    for (event, count) in &sweep.counts {
        text.push_str(&format!("{count:>12}  {event}\n"));
    }
    let failures: Vec<_> =
        sweep.failures.iter().map(|(seed, what)| json!({ "seed": seed, "what": what })).collect();
    let document = json!({
        "seeds": seeds,
        "failures": sweep.failures.len(),
        "seconds": seconds,
        "trace": format!("{:016x}", sweep.trace()),
        "faults": sweep.counts,
        "failed": failures,
        "missing": missing,
    });
    Report { exit: if clean { Exit::Done } else { Exit::Lost }, json: document, text }
}
