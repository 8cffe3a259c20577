//! Which of the superblocks found is the array's newest state, and which devices are its members.
//!
//! The newest state is chosen by epoch and commit, never by a clock (rule 8). A superblock whose epoch is
//! not in the newest one's history belongs to another history: an unfinished one (not durable on every
//! member that it kept) is no history; a finished one means that both sides were written, and is refused.

use super::rings::Found;
use crate::device::Device;
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{MemberState, PastEpoch, Superblock};
use crate::layout::Geometry;
use crate::types::{Epoch, Slot, Uuid};
use crate::zoo::{Bug, planted};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is said of who was a member.
pub const REPLACED: &str = "was replaced and is no member any more";

/// A device that may be a member.
#[derive(Clone)]
pub struct Candidate {
    /// The device.
    pub device: Arc<dyn Device>,
    /// Where it was found; recorded in the superblocks.
    pub path: String,
}

/// Why a device was left alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Index of the candidate.
    pub candidate: usize,
    /// What it is instead of a member in use.
    pub text: String,
}

/// The newest state and who is there.
#[derive(Debug)]
pub struct Election {
    /// The newest superblock.
    pub newest: Superblock,
    /// The highest epoch seen on any copy of this array, unfinished histories included.
    pub epoch_seen: Epoch,
    /// The highest commit seen.
    pub commit_seen: u64,
    /// For each slot the candidate that is this member, whatever its state.
    pub members: Vec<Option<usize>>,
    /// Those of `members` that have no superblock: their chunks say who they are.
    pub recognised: BTreeSet<Slot>,
    /// Those of `members` that may have a newer superblock, which cannot be read.
    pub blind: BTreeSet<Slot>,
    /// Those of `members` whose own superblocks have the newest checkpoint.
    pub informed: BTreeSet<Slot>,
    /// Devices left alone.
    pub notes: Vec<Note>,
}

/// Members that answer for the end of the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Witnesses {
    /// Those in use when the newest superblock was written: they have missed nothing.
    pub in_use: BTreeSet<Slot>,
    /// Those that may have been evicted since, and were in use behind the newest checkpoint, as they have it.
    /// Segments are given up when one of their members is evicted: so it has all that was ever durable in its own.
    pub informed: BTreeSet<Slot>,
}

impl Election {
    /// Who answers for what follows the newest checkpoint.
    pub fn witnesses(&self) -> Witnesses {
        Witnesses { in_use: self.in_use(), informed: &self.informed - &self.recognised }
    }

    /// Slots in use whose device is there, superblocks included.
    pub fn present(&self) -> BTreeSet<Slot> {
        let in_use = self.in_use().into_iter();
        in_use.filter(|slot| self.members[usize::from(slot.0)].is_some()).collect()
    }

    /// Slots that the newest superblock has in use, whether they are there or not, except those that have none.
    pub fn in_use(&self) -> BTreeSet<Slot> {
        let members = (0..=u8::MAX).map(Slot).zip(&self.newest.members);
        let active = members.filter(|(_, record)| record.state == MemberState::Active).map(|(slot, _)| slot);
        active.filter(|slot| !self.recognised.contains(slot)).collect()
    }

    /// Refuses a superblock that may not be the newest: whoever cannot read all of its own cannot tell. To write,
    /// as many must be able to as the quorum has; to read, one.
    ///
    /// # Errors
    /// [`Kind::Io`].
    pub fn must_be_newest(&self, read_only: bool) -> Result<()> {
        let present = self.present();
        let sure = present.difference(&self.blind).count();
        let enough = if read_only { 1 } else { self.quorum() };
        if self.blind.is_empty() || sure >= enough.min(present.len()) || planted(Bug::OlderElected) {
            return Ok(());
        }
        let names = self
            .blind
            .iter()
            .map(|slot| format!("{slot} ({})", self.newest.members[usize::from(slot.0)].path));
        Err(Error::io(format!(
            "superblocks cannot be read on member(s) {}, so that nobody knows the newest state of array '{}'; nothing \
             was changed: look after their devices and try again, or give up what cannot be read with 'salvage'",
            names.collect::<Vec<_>>().join(", "),
            self.newest.name
        )))
    }

    /// How many members must be in use for the array to be written: n - m (rule 8).
    pub fn quorum(&self) -> usize {
        quorum(&self.newest)
    }
}

/// Members that were not removed or replaced.
pub(super) fn count(superblock: &Superblock) -> usize {
    let counts = |state| !matches!(state, MemberState::Removed | MemberState::Spare | MemberState::Leaving);
    superblock.members.iter().filter(|record| counts(record.state)).count()
}

/// n - m, of the members that were not removed or replaced.
pub(super) fn quorum(superblock: &Superblock) -> usize {
    let spared = usize::from(superblock.meta_scheme.m()) + usize::from(planted(Bug::QuorumOff));
    count(superblock).saturating_sub(spared).max(1)
}

fn age(superblock: &Superblock) -> (Epoch, u64) {
    if planted(Bug::ElectByTime) {
        return (Epoch(superblock.nonce.0), superblock.commit);
    }
    (superblock.epoch, if planted(Bug::ElectByEpoch) { 0 } else { superblock.commit })
}

/// The copies of a candidate, but for one that has left: what it was told last is of no weight, and may be old.
fn copies_of(found: &Found) -> &[Superblock] {
    if found.has_left() { &[] } else { &found.copies }
}

/// The newest copy of a candidate. Of two of one commit that say different things of whose they are, the one that more
/// of the others agree with: the other was meant for another member.
pub(super) fn newest_copy(found: &Found, array: Uuid) -> Option<&Superblock> {
    let copies = || copies_of(found).iter().filter(|copy| copy.array == array);
    let agree = |copy: &Superblock| copies().filter(|other| own_uuid(other) == own_uuid(copy)).count();
    copies().max_by_key(|copy| (age(copy), agree(copy)))
}

pub(super) fn own_uuid(superblock: &Superblock) -> Option<Uuid> {
    superblock.members.get(usize::from(superblock.slot.0)).map(|record| record.uuid)
}

/// Whether one superblock says what became of the array after another one.
pub(super) fn descends(newer: &Superblock, older: &Superblock) -> bool {
    let past = PastEpoch { epoch: older.epoch, nonce: older.nonce };
    (newer.epoch, newer.nonce) == (older.epoch, older.nonce)
        || newer.history.contains(&past)
        // Too old to be remembered: the history is full and all of it is younger.
        || newer.history.len() == crate::limits::HISTORY_MAX
            && newer.history.last().is_some_and(|oldest| older.epoch < oldest.epoch)
}

/// Chooses the newest state of the array among what was found.
///
/// # Errors
/// [`Kind::NotFound`] without any superblock, [`Kind::Refused`] for two arrays (unless `want` names one), two
/// histories, or a format of the future.
pub fn elect(found: &[Found], want: Option<Uuid>) -> Result<Election> {
    let arrays: BTreeSet<Uuid> = found.iter().flat_map(copies_of).map(|copy| copy.array).collect();
    let array = match (want, arrays.len()) {
        (Some(uuid), _) if arrays.contains(&uuid) => uuid,
        (None, 1) => *arrays.first().expect("one array"),
        (None, count) if count > 1 => {
            let names: Vec<String> = arrays.iter().map(Uuid::to_string).collect();
            return Err(Error::new(
                Kind::Refused,
                format!(
                    "members of {count} arrays are here ({}); name one member or the array",
                    names.join(", ")
                ),
            ));
        }
        _ => {
            let damaged: usize = found.iter().map(|found| found.damaged).sum();
            return Err(found.iter().find_map(|found| found.refused.clone()).unwrap_or_else(|| {
                let mut text = String::from("no superblock of an array was found on any of the members");
                if damaged > 0 {
                    text.push_str(&format!("; {damaged} places of one are damaged or cannot be read"));
                }
                Error::new(Kind::NotFound, text)
            }));
        }
    };
    let newest_of: Vec<Option<&Superblock>> = found.iter().map(|found| newest_copy(found, array)).collect();
    let mut heads: Vec<&Superblock> = newest_of.iter().flatten().copied().collect();
    heads.sort_by_key(|head| std::cmp::Reverse(age(head)));
    let newest = choose(&heads, &newest_of)?;

    let mut members: Vec<Option<usize>> = vec![None; newest.members.len()];
    let mut notes = Vec::new();
    for (candidate, head) in newest_of.iter().enumerate() {
        let Some(head) = head else {
            let text = match (&found[candidate].refused, found[candidate].copies.first()) {
                (Some(error), _) => error.to_string(),
                (None, Some(_)) if found[candidate].has_left() => REPLACED.into(),
                (None, Some(_)) => "belongs to another array".into(),
                (None, None) if found[candidate].damaged > 0 => "all of its superblocks are damaged".into(),
                (None, None) => "is no member of an array".into(),
            };
            notes.push(Note { candidate, text });
            continue;
        };
        let slot = usize::from(head.slot.0);
        let record = newest.members.get(slot).filter(|record| record.state != MemberState::Removed);
        if record.map(|record| record.uuid) != own_uuid(head) {
            notes.push(Note { candidate, text: REPLACED.into() });
            continue;
        }
        // What it lost is anybody's guess, and where its second ring would be now lie chunks.
        let chunks = Geometry { chunk_blocks: newest.chunk_blocks }.chunks_on(found[candidate].len);
        if record.is_some_and(|record| chunks < record.chunks) {
            let text = format!("is member {slot} but shorter than it was, {} bytes", found[candidate].len);
            notes.push(Note { candidate, text });
            continue;
        }
        match members[slot] {
            None => members[slot] = Some(candidate),
            Some(other) => {
                let rival = newest_of[other].expect("a chosen candidate has a superblock");
                let (keep, leave) =
                    if age(head) > age(rival) { (candidate, other) } else { (other, candidate) };
                members[slot] = Some(keep);
                notes.push(Note { candidate: leave, text: format!("is a copy of member {slot}") });
            }
        }
    }
    let has_newest = |index: usize| {
        let own = newest_of[index].map(|head| (head.checkpoint.generation, head.checkpoint.nonce));
        own == Some((newest.checkpoint.generation, newest.checkpoint.nonce))
    };
    let those = |says: &dyn Fn(usize) -> bool| {
        let members = (0..=u8::MAX).map(Slot).zip(&members);
        members.filter(|(_, index)| index.is_some_and(says)).map(|(slot, _)| slot).collect()
    };
    Ok(Election {
        epoch_seen: heads.iter().map(|head| head.epoch).max().unwrap_or_default(),
        commit_seen: heads.iter().map(|head| head.commit).max().unwrap_or_default(),
        newest: newest.clone(),
        blind: those(&|index| found[index].is_blind),
        informed: those(&has_newest),
        members,
        recognised: BTreeSet::new(),
        notes,
    })
}

fn choose<'a>(heads: &[&'a Superblock], newest_of: &[Option<&Superblock>]) -> Result<&'a Superblock> {
    let finished = |head: &Superblock| {
        head.members.iter().enumerate().all(|(slot, record)| {
            record.state != MemberState::Active
                || newest_of.iter().flatten().any(|other| {
                    usize::from(other.slot.0) == slot
                        && own_uuid(other) == Some(record.uuid)
                        && descends(other, head)
                })
        })
    };
    let mut newest = heads[0];
    for head in &heads[1..] {
        if descends(newest, head) {
            continue;
        }
        match (finished(newest), finished(head)) {
            (_, false) => {}
            (false, true) => newest = head,
            (true, true) => {
                return Err(Error::new(
                    Kind::Refused,
                    format!(
                        "the array has two histories: epoch {} (member {} and those with it) and epoch {} \
                         (member {} and those with it) evicted each other; open one side alone",
                        newest.epoch, newest.slot, head.epoch, head.slot
                    ),
                ));
            }
        }
    }
    Ok(newest)
}
