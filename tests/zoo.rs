//! The bug zoo: engines that are wrong on purpose. The simulator must catch every one within a stated number
//! of seeds, or by an operation that fails; a row per bug says how soon it did. Needs the feature `zoo` (`tools/zoo`).

use paritas::sim::enumerate::{Act, Enumeration, Limits, Story, repeat};
use paritas::sim::shrink::{Small, shrink};
use paritas::sim::{self, Scenario, Script, perform};
use paritas::types::Scheme;
use paritas::zoo::{self, Bug, Mark};
use std::collections::BTreeMap;
use std::panic::{set_hook, take_hook};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};

/// Seeds within which every bug must be caught.
const SEEDS: u64 = 1000;

/// Seeds within which every mark must be reached that is not by an operation that fails.
const MARKING_SEEDS: u64 = 2000;

/// Of those, this many-th.
const FAILING_EVERY: u64 = 43;

/// Of all assemblies of small arrays, this many-th.
const ASSEMBLED_EVERY: u64 = 109;

/// Seeds that an engine without a bug must pass here; thousands of others do `tools/check`.
const SOUND: u64 = 20;

/// Bugs that only more failures show than volumes tolerate, and the operations that fail then.
const BY_FAILURES: [(Bug, &str); 3] = [
    (Bug::UnreadTaken, "nth/1+1/work/01/reads/22"),
    (Bug::OlderElected, "nth/1+1/work/01/reads/4"),
    (Bug::NotIntroduced, "nth/2+1/mend/23/write/2"),
];

/// Bugs that a scenario shows sooner than the usual mix of faults does.
const BY_SCENARIO: [(Bug, Scenario); 3] = [
    (Bug::SwapCommits, Scenario::Members),
    (Bug::HistoryForgotten, Scenario::Members),
    (Bug::PagesUnwritten, Scenario::Power),
];

/// The bugs to run: those that `PARITAS_ZOO` names, or all.
fn chosen() -> Vec<Bug> {
    let names = std::env::var("PARITAS_ZOO").unwrap_or_default();
    let names: Vec<&str> = names.split_whitespace().collect();
    let is_chosen = |bug: &Bug| names.is_empty() || names.contains(&format!("{bug:?}").as_str());
    Bug::ALL.iter().copied().filter(is_chosen).collect()
}

#[test]
fn every_planted_bug_is_caught() {
    let bugs = chosen();
    let next = AtomicUsize::new(0);
    // What panics here is caught, and told in a row.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let missed: Vec<Bug> = scope(|scope| {
        let jobs = available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(|| run_some(&bugs, &next))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic leaves it")).collect()
    });
    set_hook(hook);
    println!("{} of {} planted bugs are caught", bugs.len() - missed.len(), bugs.len());
    assert!(missed.is_empty(), "not caught within {SEEDS} seeds: {missed:?}");
}

/// Runs bugs that nobody runs yet. Returns those that are not caught.
fn run_some(bugs: &[Bug], next: &AtomicUsize) -> Vec<Bug> {
    let mut missed = Vec::new();
    while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
        if let Some((_, case)) = BY_FAILURES.iter().find(|(other, _)| *other == bug) {
            match zoo::with(bug, || sim::exhaust::repeat(case)) {
                Err(what) => println!("{bug:?} caught by \"{what}\" in {case}"),
                Ok(()) => {
                    println!("{bug:?} NOT CAUGHT in {case}");
                    missed.push(bug);
                }
            }
            continue;
        }
        match (0..SEEDS).find_map(|seed| Some((seed, caught(seed, bug)?))) {
            Some((seed, what)) => println!("{bug:?} caught by \"{what}\" after {} seeds", seed + 1),
            None => {
                println!("{bug:?} NOT CAUGHT within {SEEDS} seeds");
                missed.push(bug);
            }
        }
    }
    missed
}

/// What the simulator says of the engine with this bug, in one line; `None` when it finds nothing wrong.
fn caught(seed: u64, bug: Bug) -> Option<String> {
    let fitting = BY_SCENARIO.iter().find(|(other, _)| *other == bug).map(|(_, scenario)| *scenario);
    let script = Script { scenario: fitting.unwrap_or(Scenario::Standard), ..Script::of(seed) };
    let what = zoo::with(bug, || perform(&script, false)).outcome.failure?;
    Some(what.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn a_caught_bug_is_told_by_a_few_calls_and_faults_that_a_file_can_keep() {
    let bug = Bug::TrimForgotten;
    let seed = (0..SEEDS).find(|seed| caught(*seed, bug).is_some()).expect("caught");
    let all = zoo::with(bug, || perform(&Script::of(seed), false));
    let small = shrink(Script::of(seed), 1000, &|script| zoo::with(bug, || perform(script, false)));
    let Small { script, told, runs } = small.expect("it fails");
    println!("{bug:?}: {} calls and {} faults became", all.calls.len(), all.faults.len());
    println!("{} and {} with {runs} runs:\n{script}", told.calls.len(), told.faults.len());
    assert!(4 * told.calls.len() < all.calls.len() && 4 * told.faults.len() < all.faults.len());
    let kept: Script = script.to_string().parse().expect("what is written is read");
    let again = zoo::with(bug, || perform(&kept, true));
    assert_eq!(again.outcome.failure, told.outcome.failure);
    println!("{}", again.story.join("\n"));
    assert!(again.story.iter().any(|line| line.contains("trim")), "{:#?}", again.story);
    assert_eq!(perform(&kept, false).outcome.failure, None, "the sound engine passes");
}

/// Whatever may happen to the engine does, while it is watched: a mark that nothing reaches is a state that nobody
/// tests. Operations that fail and assemblies come first, forged arrays with the seeds: some marks take more damage
/// than volumes tolerate.
#[test]
fn every_mark_is_reached() {
    let mut failing = sim::exhaust::nth_operation(FAILING_EVERY).expect("the engine has no bug");
    failing.extend(sim::exhaust::every_assembly(ASSEMBLED_EVERY).expect("the engine has no bug"));
    let forgery = sim::exhaust::Forgery::new().expect("the engine has no bug");
    let (next, reached) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<Mark, String>::new()));
    let take = |by: &str| {
        let mut reached = reached.lock().expect("nobody panics");
        for mark in zoo::take_marks() {
            reached.entry(mark).or_insert_with(|| by.to_owned());
        }
        reached.len() == Mark::ALL.len()
    };
    let run = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let seed = at.saturating_sub(failing.len()) as u64;
            let is_all = match failing.get(at) {
                Some(unit) => {
                    assert_eq!(unit.run().failures, []);
                    take("an operation that fails, or an assembly")
                }
                None => {
                    assert_eq!(sim::run(seed).failure, None, "seed {seed}");
                    take(&format!("seed {seed}"));
                    assert_eq!(forgery.try_on(&forged(seed)), Ok(()), "forgery {seed}");
                    take(&format!("forgery {seed}"))
                }
            };
            if is_all || seed >= MARKING_SEEDS {
                return;
            }
        }
    };
    scope(|scope| (0..available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(run))));
    let reached = reached.into_inner().expect("nobody panics");
    reached.iter().for_each(|(mark, by)| println!("{mark:?} reached by {by}"));
    println!("{} of {} marks are reached", reached.len(), Mark::ALL.len());
    let missing: Vec<&Mark> = Mark::ALL.iter().filter(|mark| !reached.contains_key(mark)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

/// What the forgery of this number changes.
fn forged(seed: u64) -> Vec<u8> {
    let mut word = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let step = |_: u8| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()[3]
    };
    (0..16).map(step).collect()
}

/// Runs the engine itself: it must pass where the others are caught.
#[test]
fn an_engine_without_a_bug_is_not_caught() {
    let seeds = std::env::var("PARITAS_ZOO_SOUND").ok().and_then(|seeds| seeds.parse().ok());
    let failed = (0..seeds.unwrap_or(SOUND)).filter_map(|seed| Some((seed, sim::run(seed).failure?)));
    let failed: Vec<(u64, String)> = failed.inspect(|(seed, what)| println!("seed {seed}: {what}")).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn crash_enumeration_catches_bugs_that_a_crash_shows_and_names_the_image() {
    let limits = Limits { runs: 2000, followed: 0, again: 1 };
    let write = vec![Act::Overwrite, Act::Flush];
    let trim = vec![Act::Flush, Act::Trim, Act::Flush];
    for (bug, acts) in [(Bug::SkipFlush, write), (Bug::TrimForgotten, trim)] {
        let story = Story::Acts(acts);
        let explore = || Enumeration::new(Scheme::MIRROR).expect("made").explore(&story, &limits);
        let sound = explore();
        assert!(sound.failures.is_empty() && sound.images > 0, "{story}: {:?}", sound.failures);
        let tally = zoo::with(bug, explore);
        let failure = tally.failures.first().unwrap_or_else(|| panic!("{bug:?} is not caught by {story}"));
        println!(
            "{bug:?}: {} of {} runs fail: {}: {}",
            tally.failed, tally.runs, failure.image, failure.what
        );
        assert_eq!(zoo::with(bug, || repeat(&failure.image)), Err(failure.what.clone()));
        assert_eq!(repeat(&failure.image), Ok(()));
    }
}
