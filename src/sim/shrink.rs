//! Making a failing run small: the fewest lives, members, calls and faults that still fail in the same way.
//!
//! The way is delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002):
//! leave out halves, then quarters, then single items, for as long as what is left fails.

use super::run::Told;
use super::script::Script;
use std::collections::BTreeSet;

/// A failing run that was made small.
#[derive(Clone, Debug)]
pub struct Small {
    /// What is left of it.
    pub script: Script,
    /// What happens in it.
    pub told: Told,
    /// Runs that it took.
    pub runs: u64,
}

/// Makes a run small, with at most so many runs by `perform`. `None` if it does not fail.
pub fn shrink(script: Script, runs_max: u64, perform: &dyn Fn(&Script) -> Told) -> Option<Small> {
    let told = perform(&script);
    let kind = kind(told.outcome.failure.as_ref()?);
    let mut search = Search { perform, kind, script, told, runs: 1, runs_max };
    loop {
        let before = search.script.clone();
        search.fewer_lives();
        search.fewer_members();
        search.fewer_calls();
        search.fewer_faults();
        if search.script == before || search.runs >= runs_max {
            let Search { script, told, runs, .. } = search;
            return Some(Small { script, told, runs });
        }
    }
}

/// A failure without its numbers: what stays the same of it while a run gets smaller.
fn kind(failure: &str) -> String {
    failure.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The smallest run that fails so far.
struct Search<'a> {
    perform: &'a dyn Fn(&Script) -> Told,
    kind: String,
    script: Script,
    told: Told,
    runs: u64,
    runs_max: u64,
}

impl Search<'_> {
    /// Takes a run if it fails like the first.
    fn take(&mut self, script: Script) -> bool {
        if self.runs >= self.runs_max {
            return false;
        }
        self.runs += 1;
        let told = (self.perform)(&script);
        let fails = told.outcome.failure.as_ref().is_some_and(|failure| kind(failure) == self.kind);
        if fails {
            (self.script, self.told) = (script, told);
        }
        fails
    }

    fn fewer_lives(&mut self) {
        for lives in 0..self.told.lives {
            if self.take(Script { lives: Some(lives), ..self.script.clone() }) {
                return;
            }
        }
    }

    fn fewer_members(&mut self) {
        while self.told.members > 1 {
            let members = Some(self.told.members - 1);
            // Never fewer than the scheme is wide: then it is the same run again.
            if self.script.members == members || !self.take(Script { members, ..self.script.clone() }) {
                return;
            }
        }
    }

    fn fewer_calls(&mut self) {
        let calls = self.told.calls.clone();
        self.least(calls, |script, calls| Script { calls: Some(calls), ..script });
    }

    fn fewer_faults(&mut self) {
        let faults = self.told.faults.clone();
        self.least(faults, |script, faults| Script { faults: Some(faults), ..script });
    }

    fn least<T: Ord + Clone>(&mut self, items: BTreeSet<T>, with: impl Fn(Script, BTreeSet<T>) -> Script) {
        let mut parts = 1;
        let mut left: Vec<T> = items.into_iter().collect();
        while parts <= left.len() && self.runs < self.runs_max {
            let size = left.len().div_ceil(parts);
            let found = (0..left.len()).step_by(size).find_map(|from| {
                let to = (from + size).min(left.len());
                let rest: Vec<T> = left[..from].iter().chain(&left[to..]).cloned().collect();
                let script = with(self.script.clone(), rest.iter().cloned().collect());
                self.take(script).then_some(rest)
            });
            match found {
                Some(rest) => (left, parts) = (rest, parts.max(3) - 1),
                None if size == 1 => break,
                None => parts = (2 * parts).min(left.len()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::Fault;
    use super::super::run::Outcome;
    use super::super::script::{CallId, Caller, FaultId};
    use super::*;

    /// A run of five lives, 40 calls and 30 faults that fails when two of the calls and one of the faults are there.
    fn perform(script: &Script) -> Told {
        let calls = (0..40).map(|nth| CallId { life: 0, client: Caller::Client(0), nth });
        let faults = (0..30).map(|nth| FaultId { disk: 0, fault: Fault::Rot, nth });
        let calls: BTreeSet<CallId> = calls.filter(|call| script.makes(*call)).collect();
        let lets = |fault: &FaultId| script.faults.as_ref().is_none_or(|faults| faults.contains(fault));
        let faults: BTreeSet<FaultId> = faults.filter(lets).collect();
        let lives = script.lives.unwrap_or(5);
        let has = |nth| calls.iter().any(|call| call.nth == nth);
        let fails = lives >= 2 && has(7) && has(31) && faults.iter().any(|fault| fault.nth == 13);
        let failure = fails.then(|| format!("block {} is wrong", calls.len()));
        let members = script.members.unwrap_or(9).max(6);
        let outcome = Outcome { failure, ..Outcome::default() };
        Told { outcome, faults, calls, lives, members, story: Vec::new() }
    }

    #[test]
    fn nothing_is_left_but_what_the_failure_needs() {
        let small = shrink(Script::of(1), 1000, &perform).expect("fails");
        assert_eq!((small.told.lives, small.told.members), (2, 6));
        assert_eq!(small.told.calls.iter().map(|call| call.nth).collect::<Vec<_>>(), [7, 31]);
        assert_eq!(small.told.faults.iter().map(|fault| fault.nth).collect::<Vec<_>>(), [13]);
        assert_eq!(small.told.outcome.failure.as_deref(), Some("block 2 is wrong"));
        assert!(small.runs < 150, "{} runs", small.runs);
    }

    #[test]
    fn a_search_ends_when_it_has_had_its_runs_and_what_it_found_fails() {
        let small = shrink(Script::of(1), 12, &perform).expect("fails");
        assert_eq!(small.runs, 12);
        assert!(perform(&small.script).outcome.failure.is_some());
    }

    #[test]
    fn a_run_that_does_not_fail_is_left_alone() {
        assert!(shrink(Script { lives: Some(1), ..Script::of(1) }, 1000, &perform).is_none());
    }

    #[test]
    fn another_failure_is_not_taken_for_the_first() {
        let perform = |script: &Script| {
            let mut told = perform(script);
            if script.lives.is_some_and(|lives| lives < 4) {
                told.outcome.failure = Some("the array does not open".into());
            }
            told
        };
        assert_eq!(shrink(Script::of(1), 1000, &perform).expect("fails").told.lives, 4);
    }
}
