//! Changes of the member table that somebody asked for: a member fails, is replaced, has left; and what the
//! table says of jobs. All are in memory until [`Pool::settle`] or [`Pool::publish`] makes them durable.

use super::elect::quorum;
use super::members::Pool;
use super::rings::{erase_rings, write_rings};
use crate::device::{Device, DeviceError};
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{EventKind, Job, JobKind, MemberRecord, MemberState, Superblock};
use crate::limits::MEMBERS_MAX;
use crate::types::{Scheme, Slot};
use crate::zoo::{Bug, Mark, planted, reach};
use std::sync::Arc;

/// Seconds of a day.
const DAY: u64 = 86_400;

impl Pool {
    /// Takes a member out for good and raises the epoch.
    ///
    /// # Errors
    /// [`Kind::Refused`] when too few members would stay.
    pub fn fail(&self, slot: Slot) -> Result<()> {
        let now = self.now();
        self.state.with(|state| {
            let was_active = state.device(slot).is_some();
            let stay = state.active().len() - usize::from(was_active);
            if stay < quorum(&state.superblock) {
                let text = format!("only {stay} members would be left in use, too few to write the array");
                return Err(Error::new(Kind::Refused, text));
            }
            state.raise_epoch();
            state.suspects.remove(&slot);
            let epoch = state.superblock.epoch;
            let record = &mut state.superblock.members[usize::from(slot.0)];
            (record.state, record.since) = (MemberState::Failed, epoch);
            state.note_member(EventKind::MemberFailed, now, slot, 0);
            reach(Mark::MemberFailed);
            Ok(())
        })
    }

    /// The slot for a new member: that of one that was removed, of those that `is_vacant`, or a new one.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the table is full.
    pub fn vacant_slot(&self, is_vacant: impl Fn(Slot) -> bool) -> Result<Slot> {
        self.state.with(|state| {
            let members = &state.superblock.members;
            let mut removed = (0..=u8::MAX)
                .map(Slot)
                .zip(members)
                .filter(|(_, record)| record.state == MemberState::Removed);
            match removed.find(|(slot, _)| is_vacant(*slot)) {
                Some((slot, _)) => {
                    reach(Mark::SlotReused);
                    Ok(slot)
                }
                None if members.len() < MEMBERS_MAX => {
                    reach(Mark::SlotAdded);
                    Ok(Slot(u8::try_from(members.len()).expect("fewer than 255")))
                }
                None => {
                    let text = format!("the member table has {MEMBERS_MAX} rows, and all are in use");
                    Err(Error::new(Kind::Refused, text))
                }
            }
        })
    }

    /// Makes a device a member in its own superblocks, before anybody else knows of it. They are older than all others:
    /// until these name it, it is none. So a table that counts on it never finds it without superblocks; and it is
    /// never without any, which would leave the word to old chunks of this array.
    ///
    /// # Errors
    /// When the device fails. It is no member then, and what superblocks it had may be gone.
    pub async fn introduce(
        &self,
        slot: Slot,
        record: &MemberRecord,
        device: &dyn Device,
    ) -> std::result::Result<(), DeviceError> {
        if planted(Bug::NotIntroduced) {
            return erase_rings(device, None).await;
        }
        let mut superblock = Superblock { slot, commit: 0, ..self.superblock() };
        set_row(&mut superblock, slot, record.clone());
        write_rings(device, &superblock).await?;
        erase_rings(device, Some(superblock.commit)).await
    }

    /// Puts a new member into the table, in use from now on, in the place of `old`, which leaves; and raises the
    /// epoch. `slot` is vacant.
    pub fn replace(&self, old: Slot, slot: Slot, record: MemberRecord, device: Arc<dyn Device>) {
        let now = self.now();
        self.state.with(|state| {
            state.raise_epoch();
            state.suspects.remove(&old);
            let epoch = state.superblock.epoch;
            let leaving = &mut state.superblock.members[usize::from(old.0)];
            reach(match leaving.state {
                MemberState::Active => Mark::MemberReplaced,
                _ => Mark::AbsentReplaced,
            });
            (leaving.state, leaving.since) = (MemberState::Leaving, epoch);
            let record = MemberRecord { state: MemberState::Active, since: epoch, ..record };
            set_row(&mut state.superblock, slot, record);
            state.note_member(EventKind::MemberReplaced, now, old, 0);
            state.note_member(EventKind::MemberJoined, now, slot, 0);
            state.devices.resize(state.superblock.members.len(), None);
            state.devices[usize::from(slot.0)] = Some(device);
            state.hung.remove(&slot);
        });
    }

    /// Salvage has found what there is: the checkpoint to come is newer than `generation`, and metadata has the
    /// scheme `meta`. An array without superblocks has this default scheme; of its members that are not there, those
    /// that nothing needs are removed.
    pub fn found_anew(
        &self,
        generation: u64,
        (default, meta): (Option<Scheme>, Scheme),
        is_needless: impl Fn(Slot) -> bool,
    ) {
        let now = self.now();
        self.state.with(|state| {
            state.superblock.checkpoint.generation = generation;
            state.superblock.meta_scheme = meta;
            let Some(default) = default else { return };
            state.superblock.default_scheme = default;
            let mut removed = Vec::new();
            for (slot, record) in (0..=u8::MAX).map(Slot).zip(&mut state.superblock.members) {
                if record.state == MemberState::Out && is_needless(slot) {
                    record.state = MemberState::Removed;
                    removed.push(slot);
                }
            }
            removed.into_iter().for_each(|slot| state.note_member(EventKind::MemberRemoved, now, slot, 0));
        });
    }

    /// Members that leave.
    pub fn leaving(&self) -> Vec<Slot> {
        self.state.with(|state| {
            let members = (0..=u8::MAX).map(Slot).zip(&state.superblock.members);
            members.filter(|(_, record)| record.state == MemberState::Leaving).map(|(slot, _)| slot).collect()
        })
    }

    /// Nothing refers any more to a member that was leaving: its slot is free. Returns its device, if it is there.
    pub fn remove(&self, slot: Slot) -> Option<Arc<dyn Device>> {
        let now = self.now();
        self.state.with(|state| {
            let epoch = state.superblock.epoch;
            let record = &mut state.superblock.members[usize::from(slot.0)];
            assert_eq!(record.state, MemberState::Leaving, "only who leaves is removed");
            reach(Mark::MemberRemoved);
            (record.state, record.since) = (MemberState::Removed, epoch);
            state.note_member(EventKind::MemberRemoved, now, slot, 0);
            state.devices[usize::from(slot.0)].take()
        })
    }

    /// Tells the device of a member that was removed, durably, that it was. Its chunks still say that they lie in that
    /// slot, which others get: without superblocks it would be taken for one of them.
    ///
    /// # Errors
    /// When the device fails. It has its old superblocks then.
    pub async fn dismiss(&self, slot: Slot, device: &dyn Device) -> std::result::Result<(), DeviceError> {
        let superblock = Superblock { slot, ..self.superblock() };
        let state = superblock.members[usize::from(slot.0)].state;
        assert_eq!(state, MemberState::Removed, "only who was removed is dismissed");
        write_rings(device, &superblock).await
    }

    /// The job of a kind, under way or interrupted.
    pub fn job(&self, kind: JobKind) -> Option<Job> {
        self.state.with(|state| state.superblock.jobs.iter().find(|job| job.kind == kind).copied())
    }

    /// How far a job has come. Durable with the next commit.
    pub fn set_job(&self, job: Job) {
        self.state.with(|state| {
            let jobs = &mut state.superblock.jobs;
            jobs.retain(|other| other.kind != job.kind);
            jobs.push(job);
            jobs.sort_by_key(|job| job.kind);
        });
    }

    /// A scrub came to its end, so many seconds after 1970 began. Durable with the next commit.
    pub fn set_scrubbed(&self, time: u64) {
        // A clock that was never set is no reason to believe that it never was.
        let day = u16::try_from(time / DAY).unwrap_or(u16::MAX).max(1);
        self.state.with(|state| state.superblock.scrubbed = day);
    }

    /// A job is done. Durable with the next commit.
    pub fn end_job(&self, kind: JobKind) {
        self.state.with(|state| state.superblock.jobs.retain(|job| job.kind != kind));
    }
}

/// A row of the member table, or the one behind its end.
fn set_row(superblock: &mut Superblock, slot: Slot, record: MemberRecord) {
    let at = usize::from(slot.0);
    match superblock.members.get_mut(at) {
        Some(row) => *row = record,
        None => superblock.add_member(record),
    }
    assert!(at < superblock.members.len(), "slots are given out one after the other");
}
