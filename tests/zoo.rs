//! The bug zoo: engines that are wrong on purpose. The simulator must catch every one within a stated number
//! of seeds; a row per bug says how soon it did. Needs the feature `zoo` (`tools/zoo`).

use paritas::sim;
use paritas::zoo::{Bug, Bugs};
use std::panic::catch_unwind;

/// Seeds within which every bug must be caught.
const SEEDS: u64 = 1000;

#[test]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        match (0..SEEDS).find_map(|seed| Some((seed, caught(seed, bug)?))) {
            Some((seed, what)) => println!("{bug:?} caught by \"{what}\" after {} seeds", seed + 1),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not caught within {SEEDS} seeds: {missed:?}");
}

/// What the simulator says of the engine with this bug; `None` when it finds nothing wrong.
fn caught(seed: u64, bug: Bug) -> Option<String> {
    match catch_unwind(|| sim::run(seed, Bugs::planted(bug))) {
        Ok(outcome) => outcome.failure,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Some(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("an assertion").to_owned())
        }
    }
}
