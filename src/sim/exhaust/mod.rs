//! Sets of faults that are small enough to be tried one by one, all of them.
//!
//! A failure has a name, by which [`repeat`] runs it once more.
//!
//! | module | what it is |
//! | --- | --- |
//! | `damage` | every block of a small array damaged in every way, alone and in pairs |
//! | `assembly` | every set of members in every order, splits, doubles, strangers |
//! | `sizes` | members that come back shorter, longer, shifted |
//! | `superblocks` | one commit, cut off in every way |
//! | `operations` | the n-th operation of a member fails |
//! | `forge` | superblocks and records that somebody changed, with their checksums |
//! | `phases` | what is asked for meanwhile |
//! | `stage` | members, and a life of the engine's process that ends in a text whatever happens |
//! | `player` | who asks for things and knows what may come of it |
//! | `base` | the small array, and what its blocks ever held |

mod assembly;
mod base;
mod damage;
mod forge;
mod operations;
mod phases;
mod player;
mod sizes;
mod stage;
mod superblocks;

pub use damage::{Extent, every_block};
pub use forge::Forgery;
pub use operations::nth_operation;

use super::enumerate::guarded;
use crate::types::Scheme;

/// A case in which the engine failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Its name, for [`repeat`].
    pub name: String,
    /// What went wrong.
    pub what: String,
}

/// Failures that are kept word by word.
const FAILURES_KEPT: usize = 40;

/// What was tried.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Cases.
    pub runs: u64,
    /// Of these, cases that failed.
    pub failed: u64,
    /// The first of them.
    pub failures: Vec<Failure>,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: Tally) {
        self.runs += other.runs;
        self.failed += other.failed;
        let room = FAILURES_KEPT.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
    }

    /// One more case; a panic is a failure like others.
    fn count(&mut self, name: impl FnOnce() -> String, case: impl FnOnce() -> Result<(), String>) {
        self.runs += 1;
        if let Err(what) = guarded(case) {
            self.failed += 1;
            if self.failures.len() < FAILURES_KEPT {
                self.failures.push(Failure { name: name(), what });
            }
        }
    }
}

/// Some of the cases of a set, for one thread.
pub struct Unit(Box<dyn Fn() -> Tally + Send + Sync>);

impl Unit {
    fn new(run: impl Fn() -> Tally + Send + Sync + 'static) -> Unit {
        Unit(Box::new(run))
    }

    /// Tries them.
    pub fn run(&self) -> Tally {
        (self.0)()
    }
}

/// A case that has a name.
struct Case {
    name: String,
    run: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

type Cases = Vec<Case>;

impl Case {
    fn new(name: String, run: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Case {
        Case { name, run: Box::new(run) }
    }
}

/// Cases that one unit has.
const UNIT: usize = 16;

/// Every so many-th of them, in units.
fn units(cases: Cases, every: u64) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut cases = cases.into_iter().step_by(usize::try_from(every).unwrap_or(usize::MAX)).peekable();
    while cases.peek().is_some() {
        let some: Cases = cases.by_ref().take(UNIT).collect();
        units.push(Unit::new(move || {
            let mut tally = Tally::default();
            some.iter().for_each(|case| tally.count(|| case.name.clone(), || (case.run)()));
            tally
        }));
    }
    units
}

/// Every so many-th of the ways to give small arrays their members.
///
/// # Errors
/// What went wrong without any fault.
pub fn every_assembly(every: u64) -> Result<Vec<Unit>, String> {
    Ok(units(assembly::all()?, every))
}

/// Runs a case once more.
///
/// # Errors
/// What goes wrong, or why there is no such case.
pub fn repeat(name: &str) -> Result<(), String> {
    match name.split_once('/') {
        Some(("block", rest)) => damage::repeat(rest),
        Some(("nth", _)) => operations::repeat(name),
        Some(("members", _)) => repeat_one_of(assembly::all()?, name),
        _ => Err("there is no such case".into()),
    }
}

fn repeat_one_of(cases: Cases, name: &str) -> Result<(), String> {
    let case = cases.into_iter().find(|case| case.name == name).ok_or("there is no such case")?;
    guarded(|| (case.run)())
}

/// The scheme that a part of a name says.
fn scheme(text: Option<&str>) -> Option<Scheme> {
    let (k, m) = text?.split_once('+')?;
    Scheme::new(k.parse().ok()?, m.parse().ok()?)
}
