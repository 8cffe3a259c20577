//! Members that come back, fail by hand, are replaced; and what must be true when everything was rebuilt.

use super::run::{Checked, Life, Run};
use super::script::{CallId, Caller};
use crate::commit::Reins;
use crate::error::Kind;
use crate::format::superblock::{JobKind, MemberState};
use crate::limits::RING_BYTES;
use crate::maintain::Pace;
use crate::pool::Candidate;
use crate::space::Lacking;
use crate::types::{BLOCK_U64, SegmentId, Slot};
use crate::volume::Shard;
use std::sync::Arc;

/// The path of a disk.
fn path(index: usize) -> String {
    format!("disk{index}")
}

/// The slot that a disk has now.
pub(super) fn slot_of(shard: &Shard, index: usize) -> Option<(Slot, MemberState)> {
    let members = shard.core().stripes().pool.superblock().members;
    let found = (0..=u8::MAX)
        .map(Slot)
        .zip(members)
        .find(|(_, record)| record.path == path(index) && record.state != MemberState::Removed);
    found.map(|(slot, record)| (slot, record.state))
}

/// Whether every segment has all its columns.
pub(super) fn is_whole(shard: &Shard) -> bool {
    let space = &shard.core().stripes().space;
    space.with(|space| space.lacking(SegmentId(u64::MAX)).is_empty() && space.lacking_open().is_empty())
}

impl Run {
    /// So many of twelve members that are gone come back, with what they held.
    pub(super) fn bring_back(&mut self, of_twelve: u64) {
        for index in 0..self.disks.len() {
            if self.disks[index].is_gone() && self.rng.chance(of_twelve, 12) {
                self.disks[index].come_back();
                self.count("member returned", 1);
            }
        }
    }

    /// Somebody replaces a member, fails one, or asks for a rebuild, while clients are at it.
    pub(super) fn operate(&mut self, life: &Life) {
        let shard = life.shard.clone().expect("opened");
        let shared = self.shared.clone();
        let spawner = life.executor.spawner();
        let known: Vec<usize> = (0..self.disks.len())
            .filter(|index| slot_of(&shard, *index).is_some_and(|(_, state)| state != MemberState::Leaving))
            .collect();
        let weak: Vec<usize> = known.iter().copied().filter(|index| self.weak.contains(index)).collect();
        let mut what = self.rng.below(8);
        let choose = if weak.is_empty() || self.rng.chance(1, 4) { &known } else { &weak };
        let index = choose[self.rng.index(choose.len())];
        let (slot, _) = slot_of(&shard, index).expect("known");
        if what == 1 && !self.weak.contains(&index) {
            // A member that fails is one of those that may.
            match self.may_weaken() && is_whole(&shard) {
                true => self.weak.push(index),
                false => what = 0,
            }
        }
        if what > 2 && !self.weak.contains(&index) && !self.scars.is_empty() {
            // Its columns might move to members that are weak.
            what = 0;
        }
        match what {
            0 => self.count("rebuild by hand", 1),
            1 => self.count("member failed by hand", 1),
            2 => self.count("scrub by hand", 1),
            _ => self.count("replacement", 1),
        }
        let new = (what > 2).then(|| self.new_disk());
        if !self.hub.makes(CallId { life: self.life, client: Caller::Operator, nth: 0 }) {
            return;
        }
        let names = ["rebuilds", "fails", "scrubs"];
        let name = names.get(usize::try_from(what).expect("small")).copied().unwrap_or("replaces");
        self.hub.tell(|| format!("operator {name} (disk {index})"));
        spawner.spawn(async move {
            let outcome = match (what, new) {
                (0, _) => shard.rebuild(Pace { bytes_per_second: Some(1 << 20) }).await.map(|_| ()),
                (2, _) => shard.scrub().await.map(|_| ()),
                (_, Some(new)) => match shard.replace_member(slot, new).await {
                    Ok(_) => shard.rebuild(Pace::default()).await.map(|_| ()),
                    Err(error) => Err(error),
                },
                (_, None) => shard.fail_member(slot).await,
            };
            if let Err(error) = outcome
                && !matches!(error.kind(), Kind::Refused | Kind::ReadOnly | Kind::Closed | Kind::NoSpace)
            {
                shared.with(|shared| shared.fail(format!("operator: {error}")));
            }
        });
    }

    /// Somebody gives the array back, while it is open, what it gave up and what is there again.
    pub(super) fn return_members(&mut self, life: &Life) {
        let shard = life.shard.clone().expect("opened");
        let call = CallId { life: self.life, client: Caller::Operator, nth: 2 };
        for index in self.weak.clone() {
            let disk = self.disks[index].clone();
            if disk.is_gone() && self.rng.chance(1, 2) {
                disk.come_back();
            }
            let Some((slot, MemberState::Out)) = slot_of(&shard, index) else { continue };
            // Who claims it waits for what was begun there.
            if disk.is_gone() || !disk.is_idle() || !self.hub.makes(call) {
                continue;
            }
            self.count("member returned while open", 1);
            self.hub.tell(|| format!("operator returns member {slot} (disk {index})"));
            let (shard, shared) = (shard.clone(), self.shared.clone());
            let member = Candidate { device: Arc::new(disk), path: path(index) };
            life.executor.spawner().spawn(async move {
                // It is one of those that fail, and another one may have its place by now.
                if let Err(error) = shard.return_member(slot, member).await
                    && !matches!(
                        error.kind(),
                        Kind::NotFound
                            | Kind::Refused
                            | Kind::ReadOnly
                            | Kind::Closed
                            | Kind::NoSpace
                            | Kind::Io
                    )
                {
                    shared.with(|shared| shared.fail(format!("operator returns {slot}: {error}")));
                }
            });
        }
    }

    /// Somebody holds jobs back, or to a speed.
    pub(super) fn hold(&mut self, shard: &Shard) {
        let kind = [JobKind::Rebuild, JobKind::Scrub][self.rng.index(2)];
        let paused = self.rng.chance(1, 2);
        let limit = Some(1 << (14 + self.rng.below(8))).filter(|_| !paused);
        if !self.hub.makes(CallId { life: self.life, client: Caller::Operator, nth: 1 }) {
            return;
        }
        self.count(if paused { "job paused" } else { "job limited" }, 1);
        self.hub.tell(|| format!("operator holds {kind:?}: paused {paused}, limit {limit:?}"));
        shard.core().hold(kind, |reins| *reins = Reins { paused, limit, ..*reins });
    }

    /// A blank disk.
    fn new_disk(&mut self) -> Candidate {
        let chunk = u64::from(self.chunk_blocks) * BLOCK_U64;
        let chunks = 40 + self.rng.below(100);
        let disk = self.hub.disk(2 * RING_BYTES + chunks * chunk);
        disk.set_plan(self.benign());
        self.disks.push(disk.clone());
        Candidate { device: Arc::new(disk), path: path(self.disks.len() - 1) }
    }

    /// Disks that are no members any more can do no harm any more.
    pub(super) fn forget_replaced(&mut self, life: &Life) {
        let shard = life.shard.clone().expect("opened");
        let before = self.weak.len();
        self.members = (0..self.disks.len()).filter(|index| slot_of(&shard, *index).is_some()).collect();
        self.weak.retain(|index| self.members.contains(index));
        self.count("member replaced", (before - self.weak.len()) as u64);
    }

    /// Whether no member is gone or out of use: one that failed and was not replaced counts as lost.
    fn are_all_in_use(&self, shard: &Shard) -> bool {
        let state = |index: &usize| slot_of(shard, *index).map(|(_, state)| state);
        let in_use =
            |index: &usize| !self.disks[*index].is_gone() && state(index) == Some(MemberState::Active);
        self.members.iter().all(in_use)
    }

    /// Whether one more member may be weak.
    fn may_weaken(&self) -> bool {
        self.weak.len() < usize::from(self.tolerance) && self.scars.is_empty()
    }

    /// As all data has its full redundancy, and fewer members are weak than it tolerates, another one becomes so.
    pub(super) fn weaken_another(&mut self, life: &Life) {
        let shard = life.shard.clone().expect("opened");
        if self.is_honest && is_whole(&shard) && self.are_all_in_use(&shard) {
            // Who says when it fails has done no harm that the array does not know of, and all of that is mended.
            for index in std::mem::take(&mut self.weak) {
                self.disks[index].set_plan(self.benign());
                // What hangs there would be known of only when its time is over.
                self.disks[index].unhang();
            }
        }
        if !self.may_weaken() || !is_whole(&shard) || self.rng.chance(1, 2) {
            return;
        }
        let strong: Vec<usize> = (0..self.disks.len())
            .filter(|index| !self.weak.contains(index) && slot_of(&shard, *index).is_some())
            .collect();
        let index = strong[self.rng.index(strong.len())];
        let plan = self.draw_faults();
        self.disks[index].set_plan(plan);
        self.weak.push(index);
    }

    /// With no more faults, a rebuild leaves nothing missing that there is room for.
    pub(super) fn converge(&mut self, life: &Life) -> Checked<()> {
        let shard = life.shard.clone().expect("opened");
        let gone: Vec<usize> = (0..self.disks.len()).filter(|index| self.disks[*index].is_gone()).collect();
        for index in gone {
            let Some((slot, state)) = slot_of(&shard, index) else { continue };
            if state == MemberState::Leaving || self.rng.chance(1, 2) {
                continue;
            }
            let (handle, new) = (shard.clone(), self.new_disk());
            self.finish(life, async move { handle.replace_member(slot, new).await })?
                .map_err(|error| format!("replace: {error}"))?;
        }
        // The cleaner may make the room that one rebuild did not find.
        let mut left = None;
        for _ in 0..4 {
            left = self.rebuild_all(life, &shard)?;
            if left.is_none() {
                break;
            }
        }
        let leaving = shard.core().stripes().pool.leaving();
        if is_whole(&shard) && !leaving.is_empty() {
            return Err(format!("members {leaving:?} still leave, although nothing is left to rebuild"));
        }
        if let Some(lacking) = left {
            return Err(format!("rebuild left {lacking:?}, although there is room"));
        }
        // What is scarred must be healed before anything else may be lost.
        let is_cleaned = !self.scars.is_empty() || self.rng.chance(1, 2);
        if is_cleaned {
            self.clean(life)?;
        }
        if is_whole(&shard) && (is_cleaned || self.is_honest) {
            self.audit(life)?;
            self.forget_replaced(life);
            // All that members ever did is made good.
            if self.are_all_in_use(&shard) {
                self.weak.clear();
            }
        }
        Ok(())
    }

    /// Rebuilds. Returns what lacks columns then although there is room.
    fn rebuild_all(&self, life: &Life, shard: &Shard) -> Checked<Option<Lacking>> {
        let handle = shard.clone();
        let rebuilt = self
            .finish(life, async move { handle.rebuild(Pace::default()).await })?
            .map_err(|error| format!("rebuild: {error}"))?;
        if rebuilt.lost > 0 {
            return Err(format!("rebuild: {} blocks are lost", rebuilt.lost));
        }
        let core = shard.core();
        Ok(core.stripes().space.with(|space| {
            let mut trial = space.clone();
            let mut lacking = space.lacking(SegmentId(u64::MAX)).into_iter();
            lacking.find(|lacking| {
                lacking
                    .columns
                    .iter()
                    .any(|column| trial.claim(lacking.segment, *column, &[], core.reserves()).is_some())
            })
        }))
    }

    /// A scrub heals everything: the next one finds nothing, unless it went on where an interrupted one was.
    fn clean(&mut self, life: &Life) -> Checked<()> {
        let shard = life.shard.clone().expect("opened");
        let mut has_seen_all = false;
        loop {
            let handle = shard.clone();
            let found = self
                .finish(life, async move { handle.scrub().await })?
                .map_err(|error| format!("scrub: {error}"))?;
            if found.lost > 0 {
                return Err(format!("scrub: {} blocks are lost", found.lost));
            }
            if !has_seen_all {
                self.count("healed by scrub", found.healed + found.superblocks);
            } else if found.healed + found.superblocks > 0 {
                return Err(format!("scrub: {} blocks were left to a second one", found.healed));
            } else {
                break;
            }
            has_seen_all = found.resumed == 0;
        }
        self.scars.clear();
        Ok(())
    }
}
