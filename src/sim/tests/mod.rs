//! A few seeds, with every test run; the thousands are `paritas sim`. And scenarios: what once went wrong, or
//! needs exact timing, told step by step.

mod losses;
mod regressions;
mod scene;
mod sectors;

use super::run;
use crate::zoo::Bugs;

#[test]
fn seeds_are_clean_and_each_repeats_itself() {
    for seed in 0..30 {
        let outcome = run(seed, Bugs::NONE);
        assert_eq!(outcome.failure, None, "seed {seed}");
        assert_eq!(run(seed, Bugs::NONE).trace, outcome.trace, "seed {seed} took another course");
    }
}
