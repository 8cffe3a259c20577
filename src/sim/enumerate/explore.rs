//! From one story to all its images.
//!
//! The images of a moment are walked by their decisions (see [`super::members`]): a run that ends has met some; for
//! each that the script did not prescribe, every other answer makes a new script. So the runs divide the images among
//! them, and the sum of what they stand for is exactly what was covered. Runs with the fewest torn writes come first.

use super::history::Expected;
use super::image::{Image, Moment};
use super::life::{CHUNK_BLOCKS, CHUNKS, Life};
use super::members::{Members, Remains};
use super::workload::{Begin, Story, Teller, schemes};
use crate::limits::RING_BYTES;
use crate::types::{BLOCK_U64, Scheme};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// How far an enumeration goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Recoveries for one moment at which the power fails. What is left out is counted.
    pub runs: usize,
    /// Of these, how many are followed: the power fails at every moment of them as well, once more.
    pub followed: usize,
    /// Recoveries for one such moment.
    pub again: usize,
}

/// An image on which the engine failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Its name, for [`repeat`].
    pub image: String,
    /// What went wrong.
    pub what: String,
}

/// What was covered, and what was not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Crash images: pairs of a moment and a content of all members, no two of a moment the same, each of which was
    /// recovered, checked, written and read, or agrees with one that was on every block that this has read.
    pub images: u128,
    /// Of these, images of a crash of a recovery.
    pub again: u128,
    /// Runs: the images that the engine was run on.
    pub runs: u64,
    /// Moments at which the power failed.
    pub moments: u64,
    /// Moments where [`Limits::runs`] or [`Limits::again`] left images out.
    pub cut: u64,
    /// Of these, moments where not even all subsets of untorn writes came to their turn.
    pub cut_untorn: u64,
    /// Images that were left out there.
    pub left_out: u128,
    /// Runs that were not followed because of [`Limits::followed`].
    pub unfollowed: u64,
    /// Images that failed, as runs.
    pub failed: u64,
    /// The first of them.
    pub failures: Vec<Failure>,
}

/// Failures that are kept word by word.
const FAILURES_KEPT: usize = 20;

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: Tally) {
        self.images = self.images.saturating_add(other.images);
        self.again = self.again.saturating_add(other.again);
        self.runs += other.runs;
        self.moments += other.moments;
        self.cut += other.cut;
        self.cut_untorn += other.cut_untorn;
        self.left_out = self.left_out.saturating_add(other.left_out);
        self.unfollowed += other.unfollowed;
        self.failed += other.failed;
        let room = FAILURES_KEPT.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
    }

    fn fail(&mut self, image: String, what: String) {
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(Failure { image, what });
        }
    }
}

/// The enumeration of one scheme.
#[derive(Clone)]
pub struct Enumeration {
    teller: Teller,
    begin: Begin,
}

struct Root {
    image: Arc<Image>,
    expected: Arc<Expected>,
    path: String,
    depth: u64,
}

struct Leaf {
    failure: Option<String>,
    remains: Remains,
}

impl Enumeration {
    /// For arrays of this scheme on as many members as it is wide.
    ///
    /// # Errors
    /// What went wrong without any crash.
    pub fn new(scheme: Scheme) -> Result<Enumeration, String> {
        let bytes = 2 * RING_BYTES + CHUNKS * u64::from(CHUNK_BLOCKS) * BLOCK_U64;
        let teller = Teller { scheme, bytes };
        let (_, begin) = teller.make()?;
        Ok(Enumeration { teller, begin })
    }

    /// Covers all images of a story that no shorter one has.
    pub fn explore(&self, story: &Story, limits: &Limits) -> Tally {
        let mut tally = Tally::default();
        let name = format!("{}/{story}", key(self.teller.scheme));
        match guarded(|| self.teller.tell(&self.begin, story)) {
            Ok(None) => {}
            Err(what) => tally.fail(name, format!("without a crash: {what}")),
            Ok(Some(told)) => {
                for (at, moment) in told.moments.iter().enumerate() {
                    self.walk(&root(&told.image, moment, format!("{name}/{at}"), 0), limits, &mut tally);
                }
            }
        }
        tally
    }

    /// Covers all images of one moment, as far as the limits go.
    fn walk(&self, root: &Root, limits: &Limits, tally: &mut Tally) {
        let total = root.image.count();
        let most = if root.depth == 0 { limits.runs } else { limits.again };
        let (mut covered, mut runs, mut torn) = (0_u128, 0, 0);
        let mut frontier: BTreeMap<u16, Vec<Vec<u16>>> = BTreeMap::from([(0, vec![Vec::new()])]);
        tally.moments += 1;
        while let Some(mut first) = frontier.first_entry() {
            torn = *first.key();
            let Some(script) = first.get_mut().pop() else {
                first.remove();
                continue;
            };
            if runs == most {
                tally.cut += 1;
                tally.cut_untorn += u64::from(torn == 0);
                tally.left_out = tally.left_out.saturating_add(total.saturating_sub(covered));
                break;
            }
            let follows = root.depth == 0 && runs < limits.followed;
            tally.unfollowed += u64::from(root.depth == 0 && !follows);
            runs += 1;
            let leaf = self.check(root, &script, follows);
            covered = covered.saturating_add(leaf.remains.covered);
            let taken: Vec<u16> = leaf.remains.decisions.iter().map(|decision| decision.taken).collect();
            let path = format!("{}/{}", root.path, digits(&taken));
            if let Some(what) = leaf.failure {
                tally.fail(path.clone(), what);
            }
            for (at, moment) in leaf.remains.moments.iter().enumerate() {
                // What comes before the last answer of the script is the same in the run that it comes from.
                if moment.decisions >= script.len() {
                    let next = self::root(&root.image, moment, format!("{path}/{at}"), root.depth + 1);
                    self.walk(&next, limits, tally);
                }
            }
            for (at, decision) in leaf.remains.decisions.iter().enumerate().skip(script.len()) {
                for answer in 1..decision.torn.len() {
                    let scripts = frontier.entry(decision.torn[answer]).or_default();
                    // More than can come to their turn need not be remembered.
                    if scripts.len() <= most - runs {
                        let answer = u16::try_from(answer).expect("a block has few contents");
                        scripts.push(taken[..at].iter().copied().chain([answer]).collect());
                    }
                }
            }
        }
        debug_assert!(
            !frontier.is_empty() || covered == total || total == u128::MAX,
            "{covered} of {total} at {torn}"
        );
        tally.runs += runs as u64;
        tally.images = tally.images.saturating_add(covered);
        if root.depth > 0 {
            tally.again = tally.again.saturating_add(covered);
        }
    }

    /// Runs the engine on the images that a script leads to.
    fn check(&self, root: &Root, script: &[u16], keeps: bool) -> Leaf {
        let Teller { scheme, bytes } = self.teller;
        let members =
            Members::new(&root.image, bytes, root.expected.clone(), script.to_vec(), 2 + root.depth);
        members.with(|world| world.keeps = keeps);
        let outcome = guarded(|| {
            let life = Life::new(&members);
            life.recover(&root.expected, scheme)?;
            life.rest()
        });
        let (remains, refused) = members.end();
        Leaf { failure: outcome.err().or(refused), remains }
    }

    /// The rest of [`repeat`].
    fn again<'a>(&self, story: &str, mut parts: impl Iterator<Item = &'a str> + Clone) -> Result<(), String> {
        let story = Story::parse(story).ok_or("there is no such story")?;
        let told = guarded(|| self.teller.tell(&self.begin, &story))?.ok_or("the story makes no sense")?;
        let (mut before, mut moments, mut depth) = (told.image, told.moments, 0);
        if parts.clone().next().is_none() {
            return Ok(());
        }
        loop {
            let at: usize = parts.next().and_then(|at| at.parse().ok()).ok_or("no moment is named")?;
            let moment = moments.get(at).ok_or("there is no such moment")?;
            let root = root(&before, moment, String::new(), depth);
            let script = parts.next().and_then(undigits).ok_or("no choices are named")?;
            let leaf = self.check(&root, &script, true);
            if parts.clone().next().is_none() {
                return leaf.failure.map_or(Ok(()), Err);
            }
            (before, moments, depth) = (root.image, leaf.remains.moments, depth + 1);
        }
    }
}

/// Runs the engine once more on one image, by the name that its failure has.
///
/// # Errors
/// What goes wrong, or why there is no such image.
pub fn repeat(image: &str) -> Result<(), String> {
    let mut parts = image.split('/');
    let name = parts.next().unwrap_or_default();
    let scheme =
        schemes().into_iter().find(|scheme| key(*scheme) == name).ok_or("there is no such scheme")?;
    let story = parts.next().ok_or("no story is named")?;
    Enumeration::new(scheme)?.again(story, parts)
}

fn root(before: &Image, moment: &Moment, path: String, depth: u64) -> Root {
    Root { image: Arc::new(before.after(moment)), expected: moment.expected.clone(), path, depth }
}

/// A panic in the engine is a failure like others.
pub(in crate::sim) fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        Err(format!("the engine panicked: {text}"))
    })
}

/// How a scheme is named in the name of an image.
fn key(scheme: Scheme) -> String {
    format!("{}+{}", scheme.k(), scheme.m())
}

fn digits(taken: &[u16]) -> String {
    let words: Vec<String> = taken.iter().map(u16::to_string).collect();
    if words.is_empty() { "-".into() } else { words.join(".") }
}

fn undigits(text: &str) -> Option<Vec<u16>> {
    if text == "-" { Some(Vec::new()) } else { text.split('.').map(|word| word.parse().ok()).collect() }
}

#[cfg(test)]
mod tests {
    use super::super::workload::Act;
    use super::*;

    const ALL: Limits = Limits { runs: usize::MAX, followed: 0, again: 0 };

    fn explore(story: Story, limits: &Limits) -> Tally {
        Enumeration::new(Scheme::MIRROR).expect("told").explore(&story, limits)
    }

    #[test]
    fn every_image_of_a_flushed_write_is_covered_and_sound() {
        let tally = explore(Story::Acts(vec![Act::Write, Act::Flush]), &ALL);
        assert_eq!((tally.failures, tally.left_out, tally.cut), (Vec::new(), 0, 0));
        // Each copy is a header, of which one sector is not zeros, and a block: four subsets, and the six ways in
        // which the block tears, with the header or without.
        assert_eq!(tally.images, 1 + 10 * 10);
        assert!(u128::from(tally.runs) < tally.images, "{} runs", tally.runs);
    }

    #[test]
    fn what_a_limit_leaves_out_is_counted() {
        let story = Story::Acts(vec![Act::Write, Act::Flush]);
        let all = explore(story.clone(), &ALL);
        for runs in [1, 2, 7, 30] {
            let some = explore(story.clone(), &Limits { runs, ..ALL });
            assert_eq!(some.images + some.left_out, all.images, "{runs}");
            assert_eq!((some.moments, some.cut), (all.moments, 1));
            assert_eq!(some.cut_untorn, u64::from(runs < 4), "{runs}");
        }
    }

    #[test]
    fn a_recovery_that_is_followed_crashes_as_well() {
        let limits = Limits { runs: 3, followed: 2, again: 4 };
        let tally = explore(Story::Acts(vec![Act::Write, Act::Flush]), &limits);
        assert_eq!((tally.failures, tally.unfollowed), (Vec::new(), 1));
        assert!(tally.again > 50, "{}", tally.again);
    }

    #[test]
    fn an_image_is_found_again_by_its_name() {
        for image in ["1+1/make/2/0", "1+1/open+write+flush/1/1.0", "1+1/open/0/0.1/0/-", "2+1/remake"] {
            assert_eq!(repeat(image), Ok(()), "{image}");
        }
        for image in ["", "1+9/make/0/-", "1+1/dance", "1+1/open/77/-", "1+1/open/0/x", "1+1/open/0"] {
            assert!(repeat(image).is_err(), "{image}");
        }
    }
}
