//! The bug zoo: engines that are wrong on purpose. The simulator must catch every one within a stated number
//! of seeds; a row per bug says how soon it did. Needs the feature `zoo` (`tools/zoo`).

use paritas::sim;
use paritas::sim::enumerate::{Act, Enumeration, Limits, Story, repeat};
use paritas::types::Scheme;
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

#[test]
fn crash_enumeration_catches_bugs_that_a_crash_shows_and_names_the_image() {
    let limits = Limits { runs: 2000, followed: 0, again: 1 };
    let write = vec![Act::Overwrite, Act::Flush];
    let trim = vec![Act::Flush, Act::Trim, Act::Flush];
    for (bug, acts) in [(Bug::SkipFlush, write), (Bug::TrimForgotten, trim)] {
        let story = Story::Acts(acts);
        let explore = |bugs| Enumeration::new(Scheme::MIRROR, bugs).expect("made").explore(&story, &limits);
        let sound = explore(Bugs::NONE);
        assert!(sound.failures.is_empty() && sound.images > 0, "{story}: {:?}", sound.failures);
        let tally = explore(Bugs::planted(bug));
        let failure = tally.failures.first().unwrap_or_else(|| panic!("{bug:?} is not caught by {story}"));
        println!(
            "{bug:?}: {} of {} runs fail: {}: {}",
            tally.failed, tally.runs, failure.image, failure.what
        );
        assert_eq!(repeat(&failure.image, Bugs::planted(bug)), Err(failure.what.clone()));
        assert_eq!(repeat(&failure.image, Bugs::NONE), Ok(()));
    }
}
