//! A few seeds, with every test run; the thousands are `paritas sim`. And scenarios: what once went wrong, or
//! needs exact timing, told step by step.

mod beheaded;
mod checks;
mod degraded;
mod descriptions;
mod full;
mod histories;
mod jobs;
mod large;
mod losses;
mod refusals;
mod regressions;
mod salvage;
mod scene;
mod sectors;
mod slow;
mod strength;

use super::run;
use super::steady::{Plan, steady};
use crate::types::Scheme;

fn plan(percent: u64, overwrites: u64) -> Plan {
    let scheme = Scheme::new(2, 1).expect("sound");
    Plan { scheme, members: 3, chunks: 300, chunk_blocks: 32, percent, overwrites, call: 4 }
}

#[test]
fn an_array_85_percent_full_takes_overwrites_for_ever() {
    let cost = steady(plan(85, 120_000), 1).expect("no overwrite is refused");
    let [first, second] = cost.free;
    assert!(cost.moved > 0 && cost.written >= 60_000, "{cost:?}");
    assert!(second.1 <= first.1 && second.1 * 10 <= cost.segments * 2, "free segments are steady: {cost:?}");
}

#[test]
fn cleaning_costs_what_theory_says() {
    for percent in [60, 70, 80] {
        let cost = steady(plan(percent, 24_000), 2).expect("no overwrite is refused");
        let theory = cost.theory();
        let measured = cost.amplification();
        assert!(
            (0.6 * theory..1.35 * theory).contains(&measured),
            "{percent} %: {measured:.2}, theory {theory:.2}"
        );
    }
}

#[test]
fn seeds_are_clean_and_each_repeats_itself() {
    for seed in 0..30 {
        let outcome = run(seed);
        assert_eq!(outcome.failure, None, "seed {seed}");
        assert_eq!(run(seed).trace, outcome.trace, "seed {seed} took another course");
    }
}
