//! One's own program on simulated members: what a database, a file system or a queue promises, tested on disks that
//! lie, hang, rot and vanish, under a process that may die at any moment.
//!
//! A [`Setup`] says what the array is made of, [`Setup::run`] tries one seed after the other. For each it makes a
//! [`Trial`]: an array, its members, and everything that will befall them. A test lets the trial [run](Trial::run) a
//! life of the program, as often as it likes. Such a life ends when the program returns, or by a crash: loss of power,
//! with what was not flushed kept, lost or torn, or death of the process. The next life opens the array anew, with
//! crashes on the way. The test keeps what the program was told, outside of its lives, and holds it against what the
//! next one finds.
//!
//! **The program is not changed.** It is handed a [`Life`], whose [`Array`] is the type that it uses on
//! real disks, and whose clock and chance are the ports that an engine has ([`Clock`], [`Entropy`]). It may be
//! `async`, with tasks of its own on [`Life::spawner`], or block: a call that blocks lets the world go on, and if the
//! process dies in it, it never returns; the stack is unwound, and what destructors then ask of the array answers
//! [`Kind::Closed`]. A lock of the test's that is held across such a call is poisoned then. All that happens is on one
//! thread.
//!
//! **What befalls members** is what the engine's own simulation does to them, within the scheme's tolerance m, and
//! [`Setup::scenario`] sets the odds: at most m members at a time are weak, so that they fail, lie, rot, hang and
//! vanish, come back with what they held, or are failed and replaced by hand; all others are slow at times, and damaged
//! only where a row's redundancy allows it. So a program sees no error from a volume that is as strong as the setup's
//! scheme, but [`Kind::NoSpace`]. A third of all seeds have members that fail and never lie. [`Trial::calm`] ends all
//! that, for a last look; [`Trial::lose`] takes more members than the array tolerates.
//!
//! **One seed, one course**, as long as the program asks nobody else for time, chance or an order: no threads, no
//! `HashMap` whose order matters. A seed that failed is run a second time, for its story; [`Failure`] says
//! whether it failed in the same way.
//!
//! Here a program counts, and acknowledges each number when it is durable:
//!
//! ```
//! use paritas::error::Result;
//! use paritas::sim::trial::{Ending, Setup, Verdict};
//! use paritas::volume::{Array, Volume};
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
//!
//! /// The program: it knows nothing of simulation.
//! async fn open(array: &Array) -> Result<Volume> {
//!     match array.volume_async("counter").await {
//!         Ok(volume) => Ok(volume),
//!         Err(_) => array.create_volume_async("counter", 64 << 10, None).await,
//!     }
//! }
//!
//! async fn count(volume: &Volume, number: u64) -> Result<()> {
//!     let mut block = vec![0; 4096];
//!     block[..8].copy_from_slice(&number.to_le_bytes());
//!     volume.write_async(0, block).await?;
//!     volume.flush_async().await
//! }
//!
//! let summary = Setup::default().run(0..5, |trial| {
//!     let acknowledged = Arc::new(AtomicU64::new(0));
//!     for _ in 0..3 {
//!         let acknowledged = acknowledged.clone();
//!         let ending = trial.run(async move |life| {
//!             let volume = open(life.array()).await?;
//!             let found = volume.read_async(0, 4096).await?;
//!             let found = u64::from_le_bytes(found[..8].try_into().expect("eight bytes"));
//!             let promised = acknowledged.load(SeqCst);
//!             assert!(found == promised || found == promised + 1, "found {found}, promised {promised}");
//!             acknowledged.store(found, SeqCst); // what one life was shown, no later one may miss
//!             for number in found + 1..found + 20 {
//!                 count(&volume, number).await?;
//!                 acknowledged.store(number, SeqCst);
//!             }
//!             Verdict::Ok(())
//!         })?;
//!         if let Ending::Returned(outcome) = ending {
//!             outcome?;
//!         }
//!     }
//!     Ok(())
//! })?;
//! assert_eq!((summary.seeds, summary.lives), (5, 15));
//! # Ok::<(), paritas::sim::trial::Failure>(())
//! ```
//!
//! `tests/harness_kv.rs` has more: a key-value store on a volume, and a bug in it that is found.

mod course;
mod life;
mod stage;
#[cfg(test)]
mod tests;

pub use course::{Ending, Trial};
pub use life::Life;

use super::hub::SimHub;
use super::run::{refused, words};
use super::scenario::Scenario;
use super::script::Script;
#[cfg(doc)]
use crate::error::Kind;
#[cfg(doc)]
use crate::runtime::{Clock, Entropy};
use crate::types::Scheme;
#[cfg(doc)]
use crate::volume::Array;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Lines of a story that are shown with its failure.
const LINES: usize = 40;

/// What a test says of a trial, or a program of its life.
pub type Verdict = Result<(), Box<dyn Error + Send + Sync>>;

/// What the array of a trial is made of, and what befalls it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// The array's scheme: no volume may tolerate less, or it loses data that nobody promised to keep.
    pub scheme: Scheme,
    /// Members, as many as the scheme has columns or more.
    pub members: usize,
    /// Bytes of a member, a multiple of 4096, 8 MiB at least. They take no memory before they are written.
    pub member_bytes: u64,
    /// The odds. How full the array is is the program's choice, so [`Scenario::Full`] is like
    /// [`Scenario::Standard`].
    pub scenario: Scenario,
    /// A life that ends in a crash has at most so many events. An event is the end of an operation on a member,
    /// or of a sleep; a small write with its flush takes about ten of them at 2+1.
    pub events: u64,
}

impl Default for Setup {
    /// 2+1 on four members of 16 MiB, some of every fault, crashes within 2,000 events.
    fn default() -> Setup {
        Setup {
            scheme: Scheme::new(2, 1).expect("a valid scheme"),
            members: 4,
            member_bytes: 16 << 20,
            scenario: Scenario::Standard,
            events: 2_000,
        }
    }
}

/// What trials came to that did not fail.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Seeds that were tried.
    pub seeds: u64,
    /// Lives that programs had.
    pub lives: u64,
    /// Those that ended in a crash.
    pub crashes: u64,
    /// How often each thing happened: faults by [`super::Fault::name`], and others of [`super::EVENTS`].
    pub counts: BTreeMap<String, u64>,
    /// A hash of everything that happened. Equal setups, seeds and programs give equal traces.
    pub trace: u64,
}

/// The first seed that failed.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What the program's panic or the test's error said.
    pub message: String,
    /// A hash of everything that happened up to there.
    pub trace: u64,
    /// Whether a second run of the seed took the same course and failed in the same way. If not, the program asks
    /// somebody else than its [`Life`] for time, chance or an order.
    pub repeats: bool,
    /// What happened in the second run, line by line.
    pub story: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.message)?;
        match self.repeats {
            true => Ok(()),
            false => {
                f.write_str(" (another run of this seed went otherwise: the program is not deterministic)")
            }
        }
    }
}

impl fmt::Debug for Failure {
    /// For people, with the end of the story: this is what a test prints that expects none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{self}; what happened before, trace {:016x}:", self.trace)?;
        let told = &self.story[self.story.len().saturating_sub(LINES)..];
        told.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl Error for Failure {}

/// What became of one seed.
struct Tried {
    failure: Option<String>,
    summary: Summary,
    story: Vec<String>,
}

impl Setup {
    /// Tries one seed after the other, until one fails: because the test returns an error, or because it, the program
    /// or a task of it panics. The hook for panics is called as always, so their messages are printed too.
    ///
    /// # Errors
    /// The first seed that failed.
    pub fn run(
        &self,
        seeds: impl IntoIterator<Item = u64>,
        test: impl Fn(&mut Trial) -> Verdict,
    ) -> Result<Summary, Failure> {
        let mut all = Summary::default();
        for seed in seeds {
            let Tried { failure, summary, .. } = self.one(seed, false, &test);
            if let Some(message) = failure {
                let again = self.one(seed, true, &test);
                let trace = summary.trace;
                let repeats = again.failure.as_ref() == Some(&message) && again.summary.trace == trace;
                return Err(Failure { seed, message, trace, repeats, story: again.story });
            }
            all.add(summary);
        }
        Ok(all)
    }

    fn one(&self, seed: u64, told: bool, test: &impl Fn(&mut Trial) -> Verdict) -> Tried {
        let hub = SimHub::new(seed);
        hub.cast(Script { scenario: self.scenario, ..Script::of(seed) }, told);
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let mut trial = Trial::new(hub.clone(), self, seed);
            test(&mut trial).map_err(|error| error.to_string())?;
            Ok(trial.summary())
        }));
        let tried = tried.unwrap_or_else(|panic| Err(words(&*panic).to_owned()));
        let tried = tried.and_then(|summary| refused(&hub).map_or(Ok(summary), Err));
        let (summary, failure) = match tried {
            Ok(summary) => (summary, None),
            Err(message) => (Summary::default(), Some(message)),
        };
        let (.., story) = hub.told();
        Tried { failure, summary: Summary { seeds: 1, trace: hub.trace(), ..summary }, story }
    }
}

impl Summary {
    fn add(&mut self, other: Summary) {
        let Summary { seeds, lives, crashes, counts, trace } = other;
        self.seeds += seeds;
        self.lives += lives;
        self.crashes += crashes;
        for (what, times) in counts {
            *self.counts.entry(what).or_default() += times;
        }
        self.trace = self.trace.rotate_left(7) ^ trace;
    }
}
