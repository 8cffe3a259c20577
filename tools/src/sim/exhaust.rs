//! `paritas sim --every-block`, `--every-assembly`, `--nth-operation`: sets of faults that are tried as a whole.

use super::jobs;
use crate::cli::Sim;
use crate::outcome::{Exit, Failure, Report, say};
use crate::progress;
use paritas::sim::exhaust::{self, Extent, Tally, Unit};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::scope;
use std::time::Instant;

pub(crate) fn run(args: &Sim) -> Result<Report, Failure> {
    let begun = Instant::now();
    // `images` or `runs`: what a case is.
    let (units, what) = if args.every_block {
        let extent =
            Extent { every: args.every, every_blank: args.every, pairs: if args.every == 1 { 4 } else { 0 } };
        (exhaust::every_block(&extent), "images")
    } else if args.every_assembly {
        (exhaust::every_assembly(args.every), "runs")
    } else {
        (exhaust::nth_operation(args.every), "runs")
    };
    let units = units.map_err(|what| Failure::lost(format!("without any fault: {what}")))?;
    let tally = try_all(args, &units);
    Ok(report(&tally, what, begun.elapsed().as_secs_f64()))
}

fn try_all(args: &Sim, units: &[Unit]) -> Tally {
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    let bar = progress::count("units", Some(units.len() as u64));
    scope(|scope| {
        for _ in 0..jobs(args) {
            scope.spawn(|| {
                while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = unit.run();
                    tally.lock().unwrap_or_else(PoisonError::into_inner).add(found);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn report(tally: &Tally, what: &str, seconds: f64) -> Report {
    for failure in &tally.failures {
        say(&format!("{}: {}; repeat it with: paritas sim --case {0}", failure.name, failure.what));
    }
    let text = format!(
        "{} {what}, {} failed, {:.0} a second\n",
        tally.runs,
        tally.failed,
        tally.runs as f64 / seconds.max(1e-9),
    );
    let failed: Vec<Value> =
        tally.failures.iter().map(|failure| json!({ "case": failure.name, "what": failure.what })).collect();
    let document =
        json!({ what: tally.runs, "failures": tally.failed, "seconds": seconds, "failed": failed });
    Report { exit: if tally.failed == 0 { Exit::Done } else { Exit::Lost }, json: document, text }
}

/// Runs one case again.
pub(crate) fn repeat(case: &str) -> Result<Report, Failure> {
    match exhaust::repeat(case) {
        Ok(()) => {
            Ok(Report::done(json!({ "case": case, "failures": 0 }), format!("{case}: nothing is wrong\n")))
        }
        Err(what) => Err(Failure::lost(format!("{case}: {what}"))),
    }
}
