//! The members of an open array.
//!
//! Invariants: only active members are written, only these, leaving and recognised ones are read; the epoch is
//! raised, and durable on every member that stays, before an eviction counts; at least n-m members stay active,
//! beyond that nobody is evicted. Who is in use because it was found, by an opening or later, or not because an opening
//! did not find it, is durably so only together with the next checkpoint: whoever was away from the log behind the last
//! one must not answer for its end.

use super::chronicle::SILENT;
use super::elect::{count, quorum};
use super::rings::{answers, write_rings};
use crate::device::{Device, DeviceError};
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{
    Checkpoint, Event, EventKind, MemberRecord, MemberState, PastEpoch, Superblock,
};
use crate::limits::{HISTORY_MAX, PATH_BYTES_MAX};
use crate::runtime::{Clock, Owned, join_all};
use crate::types::{Epoch, Nonce, Scheme, Slot, Uuid};
use crate::zoo::{Bug, Mark, planted, reach, reach_if};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What records say about the array and the opening that wrote them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The array.
    pub array: Uuid,
    /// The epoch.
    pub epoch: Epoch,
    /// The opening.
    pub nonce: Nonce,
    /// Blocks in a chunk.
    pub chunk_blocks: u32,
}

/// What a member did wrong; indexes [`MemberRecord::errors`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A read failed.
    Read = 0,
    /// A write failed.
    Write = 1,
    /// A flush failed.
    Flush = 2,
    /// Bytes did not match their checksum.
    Checksum = 3,
}

pub(super) struct State {
    /// The newest superblock; `slot` is a placeholder.
    pub(super) superblock: Superblock,
    pub(super) devices: Vec<Option<Arc<dyn Device>>>,
    /// Members that failed a write or a flush, or fell silent, and wait to be evicted.
    pub(super) suspects: BTreeMap<Slot, Fault>,
    /// Members that did not answer an operation in time.
    pub(super) hung: BTreeSet<Slot>,
    /// Members known by their chunks alone: out of use, and read where nothing else is left.
    pub(super) recognised: BTreeSet<Slot>,
    /// Members whose state changed because they were found or not found, until a checkpoint is durable.
    changed: BTreeMap<Slot, Changed>,
}

/// A change that is not durable yet.
#[derive(Clone, Copy, Debug)]
struct Changed {
    /// The state before it, and since when it was that.
    from: (MemberState, Epoch),
    /// What is to be told of it, and when it happened.
    event: (EventKind, u64),
}

/// The members in use.
pub struct Pool {
    pub(super) state: Owned<State>,
    /// For when things happened.
    pub(super) clock: Arc<dyn Clock>,
}

impl Pool {
    /// A pool over `devices`, indexed by slot: of every member that is there, whatever its state.
    pub fn new(superblock: Superblock, devices: Vec<Option<Arc<dyn Device>>>, clock: Arc<dyn Clock>) -> Pool {
        assert_eq!(superblock.members.len(), devices.len());
        Pool {
            state: Owned::new(State {
                superblock,
                devices,
                suspects: BTreeMap::new(),
                hung: BTreeSet::new(),
                recognised: BTreeSet::new(),
                changed: BTreeMap::new(),
            }),
            clock,
        }
    }

    /// What records are marked with.
    pub fn identity(&self) -> Identity {
        self.state.with(|state| Identity {
            array: state.superblock.array,
            epoch: state.superblock.epoch,
            nonce: state.superblock.nonce,
            chunk_blocks: state.superblock.chunk_blocks,
        })
    }

    /// The newest superblock.
    pub fn superblock(&self) -> Superblock {
        self.state.with(|state| state.superblock.clone())
    }

    /// The protection that all metadata has at least.
    pub fn meta_scheme(&self) -> Scheme {
        self.state.with(|state| state.superblock.meta_scheme)
    }

    /// All metadata has become stronger. Durable with the next commit.
    ///
    /// # Panics
    /// If it would be weaker.
    pub fn raise_meta_scheme(&self, scheme: Scheme) {
        self.state.with(|state| {
            assert!(scheme.m() > state.superblock.meta_scheme.m(), "metadata never grows weaker");
            state.superblock.meta_scheme = scheme;
        });
    }

    /// Members that count: neither removed, nor replaced, nor waiting.
    pub fn count(&self) -> usize {
        self.state.with(|state| count(&state.superblock))
    }

    /// The device of a member in use.
    pub fn device(&self, slot: Slot) -> Option<Arc<dyn Device>> {
        self.state.with(|state| state.device(slot))
    }

    /// The device of a member that can be read: one in use, one that is leaving, or one known by its chunks.
    pub fn reader(&self, slot: Slot) -> Option<Arc<dyn Device>> {
        self.state.with(|state| match state.superblock.members.get(usize::from(slot.0))?.state {
            MemberState::Active | MemberState::Leaving => state.devices[usize::from(slot.0)].clone(),
            MemberState::Out if state.recognised.contains(&slot) => {
                state.devices[usize::from(slot.0)].clone()
            }
            _ => None,
        })
    }

    /// All members in use.
    pub fn active(&self) -> Vec<(Slot, Arc<dyn Device>)> {
        self.state.with(|state| state.active())
    }

    /// Charges an error to a member.
    pub fn charge(&self, slot: Slot, fault: Fault) {
        let now = self.now();
        self.state.with(|state| {
            if let Some(record) = state.superblock.members.get_mut(usize::from(slot.0)) {
                let count = &mut record.errors[fault as usize];
                *count = count.saturating_add(1);
                state.note_member(EventKind::MemberErred, now, slot, fault as u64);
            }
        });
    }

    /// Zeroes all error counts; durable with the next commit.
    pub fn forget_errors(&self) {
        self.state
            .with(|state| state.superblock.members.iter_mut().for_each(|record| record.errors = [0; 4]));
    }

    /// A member failed a write or a flush, which is charged to it: what it holds is no longer known (rule 7). It must
    /// be evicted before anything more is acknowledged.
    pub fn suspect(&self, slot: Slot, fault: Fault) {
        self.charge(slot, fault);
        self.distrust(slot, fault);
    }

    fn distrust(&self, slot: Slot, fault: Fault) {
        self.state.with(|state| {
            if state.device(slot).is_some() {
                state.suspects.entry(slot).or_insert(fault);
            }
        });
    }

    /// A member does not answer: a suspect, and not even asked to read any more.
    pub fn give_up(&self, slot: Slot) {
        reach(Mark::MemberHung);
        self.distrust(slot, Fault::Read);
        self.state.with(|state| state.hung.insert(slot));
    }

    /// Whether a member does not answer.
    pub fn is_hung(&self, slot: Slot) -> bool {
        self.state.with(|state| state.hung.contains(&slot))
    }

    /// Reads of members that failed, counted with the array.
    pub fn read_errors(&self) -> u64 {
        let failed = |record: &MemberRecord| u64::from(record.errors[Fault::Read as usize]);
        self.state.with(|state| state.superblock.members.iter().map(failed).sum())
    }

    /// Whether a member in use reads what it was given last, its superblock.
    pub async fn answers(&self, slot: Slot) -> bool {
        let commit = self.state.with(|state| state.superblock.commit);
        match self.device(slot).filter(|_| !self.is_hung(slot)) {
            Some(device) => answers(device.as_ref(), commit).await,
            None => false,
        }
    }

    /// Whether a member waits to be evicted.
    pub fn has_suspects(&self) -> bool {
        self.state.with(|state| !state.suspects.is_empty())
    }

    /// How many members must be in use to write: n-m.
    pub fn quorum(&self) -> usize {
        self.state.with(|state| quorum(&state.superblock))
    }

    /// Whether enough members are in use to write.
    pub fn is_writable(&self) -> bool {
        self.state.with(|state| state.active().len() >= quorum(&state.superblock))
    }

    /// Takes the suspects out of use and raises the epoch, in memory; [`Pool::publish`] makes it so. When too
    /// few members would stay, nobody is evicted.
    fn evict_suspects(&self) -> Result<()> {
        let now = self.now();
        self.state.with(|state| {
            let gone: Vec<(Slot, Fault)> =
                state.suspects.iter().map(|(slot, fault)| (*slot, *fault)).collect();
            if gone.is_empty() {
                return Ok(());
            }
            let stay = state.active().len() - gone.len();
            if stay < quorum(&state.superblock) {
                reach(Mark::EvictionRefused);
                return Err(Error::new(
                    Kind::ReadOnly,
                    format!(
                        "{} more member(s) failed and only {stay} would remain, fewer than the {} that the \
                         array needs to be written; reads go on",
                        gone.len(),
                        quorum(&state.superblock)
                    ),
                ));
            }
            reach(if gone.len() > 1 { Mark::SeveralEvicted } else { Mark::MemberEvicted });
            state.suspects.clear();
            state.raise_epoch();
            let epoch = state.superblock.epoch;
            for (slot, fault) in gone {
                let record = &mut state.superblock.members[usize::from(slot.0)];
                record.state = MemberState::Out;
                record.since = epoch;
                state.changed.remove(&slot);
                let cause = if state.hung.contains(&slot) { SILENT } else { fault as u64 };
                state.note_member(EventKind::MemberLost, now, slot, cause);
            }
            Ok(())
        })
    }

    /// A member is known by its chunks alone: it is out of use.
    pub fn doubt(&self, slot: Slot) {
        reach(Mark::MemberRecognised);
        self.state.with(|state| {
            let record = &mut state.superblock.members[usize::from(slot.0)];
            record.state = MemberState::Out;
            state.recognised.insert(slot);
        });
    }

    /// Members known by their chunks alone.
    pub fn recognised(&self) -> BTreeSet<Slot> {
        self.state.with(|state| state.recognised.clone())
    }

    /// Members that were known by their chunks alone are in use, in a new epoch: the segment table doubts their
    /// columns by now, durably. One that did not answer while it was read stays out: nobody would write to it.
    pub fn take_back_recognised(&self) {
        let now = self.now();
        self.state.with(|state| {
            let (hung, slots): (BTreeSet<Slot>, BTreeSet<Slot>) =
                state.recognised.iter().partition(|slot| state.hung.contains(slot));
            state.recognised = hung;
            state.raise_epoch();
            let epoch = state.superblock.epoch;
            for slot in slots {
                reach(Mark::MemberTakenBack);
                let record = &mut state.superblock.members[usize::from(slot.0)];
                (record.state, record.since) = (MemberState::Active, epoch);
                state.note_member(EventKind::MemberBack, now, slot, 0);
            }
        });
    }

    /// Starts an opening: a new epoch with a new nonce, absent members out of use. With `take_back`, members
    /// that were out of use and are there are in use again, except those known by their chunks alone. The states of
    /// members are durable with the first checkpoint.
    pub fn begin(&self, epoch_seen: Epoch, commit_seen: u64, nonce: Nonce, take_back: bool) {
        let now = self.now();
        self.state.with(|state| {
            state.superblock.commit = state.superblock.commit.max(commit_seen);
            state.raise_epoch();
            state.superblock.epoch = state.superblock.epoch.max(Epoch(epoch_seen.0 + 1));
            state.superblock.nonce = nonce;
            let epoch = state.superblock.epoch;
            let (mut changed, mut recognised_now) = (BTreeMap::new(), Vec::new());
            let members = state.superblock.members.iter_mut().zip(&state.devices);
            for (slot, (record, device)) in (0..=u8::MAX).map(Slot).zip(members) {
                let recognised = state.recognised.contains(&slot);
                let state = match (record.state, device.is_some()) {
                    (MemberState::Active, false) => MemberState::Out,
                    (MemberState::Out, true) if take_back && !recognised => MemberState::Active,
                    (state, _) => state,
                };
                if state != record.state || recognised {
                    reach_if(state == MemberState::Active, Mark::MemberBack);
                    reach_if(record.state == MemberState::Active, Mark::MemberAbsent);
                    if recognised {
                        recognised_now.push(slot);
                    } else {
                        let from = (record.state, record.since);
                        let kind = match state {
                            MemberState::Active => EventKind::MemberBack,
                            _ => EventKind::MemberAbsent,
                        };
                        changed.insert(slot, Changed { from, event: (kind, now) });
                    }
                    record.state = state;
                    record.since = epoch;
                }
            }
            state.changed = changed;
            for slot in recognised_now {
                state.note_member(EventKind::MemberRecognised, now, slot, 0);
            }
        });
    }

    /// Sets where members are now; recorded with the next commit, a path longer than [`PATH_BYTES_MAX`] by
    /// its file name alone.
    pub fn record_path(&self, slot: Slot, path: &str) {
        self.state.with(|state| state.superblock.members[usize::from(slot.0)].path = recorded(path));
    }

    /// Makes the member table, and `checkpoint` if there is one, durable on every member in use.
    ///
    /// # Errors
    /// [`Kind::Io`] when a member failed: it is a suspect now, and who owns the log must evict it before
    /// anything more is acknowledged.
    pub async fn publish(&self, checkpoint: Option<Checkpoint>) -> Result<()> {
        let is_checkpoint = checkpoint.is_some();
        let (superblock, devices) = self.state.with(|state| {
            state.superblock.commit += 1;
            (state.durable_with(checkpoint), state.active())
        });
        let writes = devices.iter().map(|(slot, device)| {
            let (slot, device) = (*slot, device.clone());
            let copy = Superblock { slot, ..superblock.clone() };
            async move {
                let outcome = write_rings(device.as_ref(), &copy).await;
                if !matches!(outcome, Ok(()) | Err(DeviceError::Invalid(_))) {
                    // At once: its flush may have failed, and one that the log began must not be trusted after it.
                    self.suspect(slot, Fault::Write);
                }
                (slot, outcome)
            }
        });
        let mut complete = Ok(());
        for (slot, outcome) in join_all(writes.collect()).await {
            match outcome {
                Ok(()) => {}
                Err(DeviceError::Invalid(text)) => return Err(Error::invalid(text)),
                Err(error) => complete = Err(Error::io(format!("superblock of member {slot}: {error}"))),
            }
        }
        if complete.is_ok() {
            self.state.with(|state| {
                if is_checkpoint {
                    state.note_changes();
                }
                state.superblock.checkpoint = superblock.checkpoint;
            });
        }
        complete
    }

    /// Makes the member table durable; whoever fails is evicted, until it is durable on all that remain. Only
    /// while nothing is being written to the log.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`] when too few members remain.
    pub async fn settle(&self) -> Result<()> {
        loop {
            self.evict_suspects()?;
            match self.publish(None).await {
                Err(error) if !self.has_suspects() => return Err(error),
                Err(_) => reach(Mark::EvictedWhileSettling),
                Ok(()) => return Ok(()),
            }
        }
    }
}

impl State {
    pub(super) fn device(&self, slot: Slot) -> Option<Arc<dyn Device>> {
        let record = self.superblock.members.get(usize::from(slot.0))?;
        if record.state == MemberState::Active { self.devices[usize::from(slot.0)].clone() } else { None }
    }

    pub(super) fn active(&self) -> Vec<(Slot, Arc<dyn Device>)> {
        let slots = (0..=u8::MAX).map(Slot).take(self.devices.len());
        slots.filter_map(|slot| Some((slot, self.device(slot)?))).collect()
    }

    /// The superblock as it is written, with `checkpoint` if there is one.
    fn durable_with(&self, checkpoint: Option<Checkpoint>) -> Superblock {
        let mut superblock = self.superblock.clone();
        for (slot, Changed { from, event: (kind, time) }) in &self.changed {
            let record = &mut superblock.members[usize::from(slot.0)];
            match checkpoint {
                Some(_) => {
                    let event = Event::new(*kind, *time).at(*slot, &record.path);
                    superblock.note(event);
                }
                None => (record.state, record.since) = *from,
            }
        }
        superblock.checkpoint = checkpoint.unwrap_or(superblock.checkpoint);
        superblock
    }

    /// A member that is out of use is in use again.
    pub(super) fn take_back(&mut self, slot: Slot, device: Arc<dyn Device>, now: u64) {
        self.raise_epoch();
        let epoch = self.superblock.epoch;
        let record = &mut self.superblock.members[usize::from(slot.0)];
        assert_eq!(record.state, MemberState::Out, "only who is out of use is taken back");
        reach(Mark::MemberReturned);
        let changed = Changed { from: (record.state, record.since), event: (EventKind::MemberBack, now) };
        self.changed.insert(slot, changed);
        (record.state, record.since) = (MemberState::Active, epoch);
        self.devices[usize::from(slot.0)] = Some(device);
        self.suspects.remove(&slot);
        self.hung.remove(&slot);
    }

    /// The changes are durable.
    fn note_changes(&mut self) {
        for (slot, Changed { event: (kind, time), .. }) in std::mem::take(&mut self.changed) {
            self.note_member(kind, time, slot, 0);
        }
    }

    pub(super) fn raise_epoch(&mut self) {
        let past = PastEpoch { epoch: self.superblock.epoch, nonce: self.superblock.nonce };
        if !planted(Bug::HistoryForgotten) {
            self.superblock.history.insert(0, past);
        }
        self.superblock.history.truncate(HISTORY_MAX);
        self.superblock.epoch = Epoch(self.superblock.epoch.0 + 1);
    }
}

/// A member table row for a new member. A path longer than [`PATH_BYTES_MAX`] is recorded by its file name.
pub fn new_member(uuid: Uuid, chunks: u32, path: &str, label: String) -> MemberRecord {
    let path = recorded(path);
    MemberRecord { uuid, state: MemberState::Active, since: Epoch(0), chunks, errors: [0; 4], path, label }
}

/// The path as the member table has room for it: whole, or the file name, or the end of that. It is a hint
/// for people; the end of a name tells more than its beginning.
fn recorded(path: &str) -> String {
    if path.len() <= PATH_BYTES_MAX {
        return path.to_owned();
    }
    let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path);
    let from = name.ceil_char_boundary(name.len().saturating_sub(PATH_BYTES_MAX));
    name[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_too_long_is_recorded_by_its_file_name_or_the_end_of_that() {
        let longest = format!("/{}", "d".repeat(PATH_BYTES_MAX - 1));
        assert_eq!(recorded(&longest), longest);
        assert_eq!(recorded(&format!("{longest}/disk.img")), "disk.img");
        assert_eq!(recorded(&format!("{longest}/{}", "x".repeat(PATH_BYTES_MAX))).len(), PATH_BYTES_MAX);
        let wide = "\u{df}".repeat(150);
        assert_eq!(recorded(&wide), "\u{df}".repeat(127));
        assert_eq!(recorded(&format!("/dev/{wide}.img")), "\u{df}".repeat(125) + ".img");
        assert_eq!(recorded(&format!("{longest}/..")).len(), PATH_BYTES_MAX);
        let member = new_member(Uuid([1; 16]), 16, &format!("{longest}/disk.img"), String::new());
        assert_eq!(member.path, "disk.img");
    }
}
