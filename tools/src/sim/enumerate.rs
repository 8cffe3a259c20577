//! `paritas sim --crash-enumeration`: every image that a crash may leave behind small workloads.

use super::jobs;
use crate::cli::Sim;
use crate::outcome::{Exit, Failure, Report, say};
use crate::progress;
use paritas::sim::enumerate::{self, Enumeration, Limits, Tally, schemes, stories};
use paritas::types::Scheme;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::scope;
use std::time::Instant;

pub(crate) fn run(args: &Sim) -> Result<Report, Failure> {
    let limits = Limits { runs: args.runs.max(1), followed: args.follow, again: args.again.max(1) };
    let begun = Instant::now();
    let arrays = schemes().map(|scheme| (scheme, Enumeration::new(scheme)));
    let stories = stories(usize::try_from(args.ops).expect("a small number"));
    let work: Vec<_> =
        arrays.iter().flat_map(|array| stories.iter().map(move |story| (array, story))).collect();
    let next = AtomicUsize::new(0);
    let tallies: Mutex<BTreeMap<String, Tally>> = Mutex::default();
    let bar = progress::count("workloads", Some(work.len() as u64));
    scope(|scope| {
        for _ in 0..jobs(args) {
            scope.spawn(|| {
                while let Some(((scheme, array), story)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tally = match array {
                        Ok(array) => array.explore(story, &limits),
                        Err(what) => broken(*scheme, what),
                    };
                    let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
                    tallies.entry(scheme.to_string()).or_default().add(tally);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let tallies = tallies.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(report(args, &limits, work.len(), &tallies, begun.elapsed().as_secs_f64()))
}

/// The array that everything begins with cannot be made.
fn broken(scheme: Scheme, what: &str) -> Tally {
    let failure =
        enumerate::Failure { image: format!("{}+{}/make", scheme.k(), scheme.m()), what: what.into() };
    Tally { failed: 1, failures: vec![failure], ..Tally::default() }
}

fn report(
    args: &Sim,
    limits: &Limits,
    workloads: usize,
    tallies: &BTreeMap<String, Tally>,
    seconds: f64,
) -> Report {
    let mut all = Tally::default();
    tallies.values().for_each(|tally| all.add(tally.clone()));
    for failure in &all.failures {
        say(&format!("{}: {}; repeat it with: paritas sim --image {0}", failure.image, failure.what));
    }
    let mut text = format!(
        "{} crash images behind {workloads} workloads of up to {} calls, {} failed; {} runs, {:.0} a second\n",
        all.images,
        args.ops,
        all.failed,
        all.runs,
        all.runs as f64 / seconds.max(1e-9),
    );
    for (scheme, tally) in tallies {
        text.push_str(&format!("{:>24}  {scheme}\n", tally.images));
    }
    text.push_str(&format!(
        "of these {} of crashes of a recovery, {} moments in all\n\
         left out: {:.3e} images at {} moments by the limit of {} runs ({} after a recovery), {} of them with untorn \
         writes left out too; the recoveries of {} runs did not crash, by the limit of {} at a moment\n",
        all.again,
        all.moments,
        all.left_out as f64,
        all.cut,
        limits.runs,
        limits.again,
        all.cut_untorn,
        all.unfollowed,
        limits.followed,
    ));
    let failed: Vec<Value> =
        all.failures.iter().map(|failure| json!({ "image": failure.image, "what": failure.what })).collect();
    let of_scheme = |(scheme, tally): (&String, &Tally)| (scheme.clone(), count(tally.images));
    let document = json!({
        "images": count(all.images),
        "failures": all.failed,
        "seconds": seconds,
        "workloads": workloads,
        "runs": all.runs,
        "moments": all.moments,
        "images_of_recoveries": count(all.again),
        "images_by_scheme": tallies.iter().map(of_scheme).collect::<serde_json::Map<_, _>>(),
        "left_out": {
            "images": count(all.left_out),
            "moments": all.cut,
            "moments_with_untorn_writes": all.cut_untorn,
            "recoveries_that_did_not_crash": all.unfollowed,
        },
        "limits": {
            "ops": args.ops,
            "runs": limits.runs,
            "follow": limits.followed,
            "again": limits.again,
        },
        "failed": failed,
    });
    Report { exit: if all.failed == 0 { Exit::Done } else { Exit::Lost }, json: document, text }
}

/// Exact as far as JSON's integers go.
fn count(images: u128) -> Value {
    u64::try_from(images).map_or_else(|_| json!(images as f64), Value::from)
}

/// Runs one image again.
pub(crate) fn repeat(image: &str) -> Result<Report, Failure> {
    match enumerate::repeat(image) {
        Ok(()) => {
            Ok(Report::done(json!({ "image": image, "failures": 0 }), format!("{image}: nothing is wrong\n")))
        }
        Err(what) => Err(Failure::lost(format!("{image}: {what}"))),
    }
}
