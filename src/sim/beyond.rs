//! More members vanish than volumes tolerate: what is lost is named, listed, and nothing else is.

use super::model::content;
use super::run::{Checked, Life, Run, STEPS_MAX};
use crate::commit::Upkeep;
use crate::error::{Error, Kind};
use crate::format::superblock::ChunkAddress;
use crate::format::tables::{ColumnState, DamageCause};
use crate::types::{Lba, Place, Pointer, VolumeId};
use crate::volume::Shard;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Lost blocks that are written anew.
const REWRITES: usize = 6;

impl Run {
    /// More members vanish than the weakest volume tolerates, but not more than the metadata does: exactly the
    /// blocks that cannot be reconstructed are lost, all others are exact, and nothing of a volume that tolerates
    /// as many is lost. Members that faults have struck are among those that vanish, so that nothing else is
    /// damaged.
    pub(super) fn beyond(&mut self) -> Checked<()> {
        self.hub.tell(|| "more members vanish than volumes tolerate".into());
        let (metadata, is_whole) = self.left;
        let were_all_here = self.members.iter().all(|index| !self.disks[*index].is_gone());
        let weak = self.weak.len() as u64;
        let more = u64::from(metadata).saturating_sub(weak);
        let gone = weak + if self.rng.chance(1, 2) { more } else { self.rng.below(more + 1) };
        for &index in &self.weak {
            self.disks[index].vanish();
        }
        for _ in weak..gone {
            self.lose_one();
        }
        // Where room is short, a checkpoint may find none on the members that are left.
        let read_only = self.full || !were_all_here || self.rng.chance(1, 2);
        let mut life = self.life();
        self.open(&mut life, STEPS_MAX, read_only)?.expect("opened to the end");
        let shard = life.shard.clone().expect("opened");
        let mut lost = BTreeSet::new();
        for (id, blocks) in self.shared.with(|shared| shared.sizes()) {
            let m = self.shared.with(|shared| shared.volumes[&id].scheme.m());
            for at in 0..blocks {
                if !self.beyond_block(&life, &shard, (id, at), is_whole)? {
                    continue;
                }
                if is_whole && u64::from(m) >= gone {
                    return Err(format!("volume {id}: block {at} is lost with {gone} members, its m is {m}"));
                }
                lost.insert((id, at));
            }
        }
        check_listed(&shard, &lost)?;
        if !read_only {
            self.write_anew(&life, &shard, lost)?;
        }
        self.crash(life);
        self.too_few(&shard)?;
        if self.rng.chance(1, 2) { self.all_return() } else { Ok(()) }
    }

    /// All members are back with what they hold: so is everything, whatever was done without them.
    fn all_return(&mut self) -> Checked<()> {
        for &index in &self.members {
            self.disks[index].come_back();
        }
        let mut life = self.life();
        // Without upkeep they would stay out of use.
        self.open_with(&mut life, STEPS_MAX, false, Upkeep::Background)?.expect("opened to the end");
        self.settle(&life).map_err(|what| format!("all members are back: {what}"))
    }

    /// One more member vanishes.
    fn lose_one(&mut self) {
        let here: Vec<usize> =
            self.members.iter().copied().filter(|index| !self.disks[*index].is_gone()).collect();
        self.disks[here[self.rng.index(here.len())]].vanish();
    }

    /// Lost blocks that are written anew are there, and no longer listed.
    fn write_anew(&mut self, life: &Life, shard: &Shard, mut lost: BTreeSet<(VolumeId, u64)>) -> Checked<()> {
        for (id, at) in lost.clone().into_iter().take(REWRITES) {
            let tag = self.shared.with(|shared| {
                shared.tags += 1;
                shared.tags
            });
            let (handle, data) = (shard.clone(), Bytes::from(content(tag, Lba(at))));
            let written = self.finish(life, async move {
                let number = handle.write(id, Lba(at), data).await?;
                handle.flush(id).await?;
                Ok::<_, Error>((number, handle.read_blocks(id, Lba(at), 1).await?))
            })?;
            match written {
                Ok((number, read)) => self.shared.with(|shared| {
                    let volume = shared.volumes.get_mut(&id).expect("volumes stay");
                    volume.accepted(number, Lba(at), 1, tag)?;
                    volume.flushed = number;
                    volume.check_read(number, Lba(at), &read)
                })?,
                // The members that are left may have none for it.
                Err(error) if error.kind() == Kind::NoSpace => break,
                Err(error) => return Err(format!("volume {id}: block {at} written anew: {error}")),
            }
            lost.remove(&(id, at));
        }
        check_listed(shard, &lost)
    }

    /// With fewer members than n - m nobody may write: those that are missing could do so as well.
    fn too_few(&mut self, shard: &Shard) -> Checked<()> {
        let pool = &shard.core().stripes().pool;
        let least = pool.count().saturating_sub(pool.meta_scheme().m().into());
        let here = |run: &Run| run.members.iter().filter(|index| !run.disks[**index].is_gone()).count();
        while here(self) >= least.max(1) {
            self.lose_one();
        }
        // Nor does anybody bring a member back that was replaced long ago: alone, it does not know that.
        let strangers = (0..self.disks.len()).filter(|index| !self.members.contains(index));
        strangers.for_each(|index| self.disks[index].vanish());
        let mut life = self.life();
        match self.open(&mut life, STEPS_MAX, false) {
            Ok(_) => Err(format!("opened for writing with fewer than {least} members")),
            Err(_) => Ok(()),
        }
    }

    /// Returns whether a block is lost.
    fn beyond_block(
        &mut self,
        life: &Life,
        shard: &Shard,
        (id, at): (VolumeId, u64),
        is_whole: bool,
    ) -> Checked<bool> {
        let handle = shard.clone();
        let (read, place) = self.finish(life, async move {
            (handle.read_blocks(id, Lba(at), 1).await, handle.locate(id, Lba(at)).await)
        })?;
        let (may_fail, may_succeed) = match place {
            Ok(None) => (false, true),
            Ok(Some(pointer)) => fate(shard, pointer)?,
            // Pages lack redundancy where anything does.
            Err(error) if is_whole => return Err(format!("the map beyond m: {error}")),
            Err(_) => (true, false),
        };
        match read {
            Ok(data) if may_succeed => self.shared.with(|shared| {
                let model = &shared.volumes[&id];
                model.check_read(model.issued, Lba(at), &data).map(|()| false)
            }),
            Ok(_) => Err(format!("volume {id}: block {at} was read although its row is lost")),
            Err(error) if may_fail && named(&error, id, at) => {
                self.count("loss beyond m", 1);
                Ok(true)
            }
            Err(error) => Err(format!("volume {id}: block {at} beyond m: {error}")),
        }
    }
}

/// Whether a block may be lost, and whether it may be there. A column that is doubted may be good, or not.
fn fate(shard: &Shard, pointer: Pointer) -> Checked<(bool, bool)> {
    let Place { segment, column, .. } = pointer.place;
    let stripes = shard.core().stripes();
    let (k, columns) = stripes
        .space
        .with(|space| space.get(segment).map(|found| (found.scheme.k(), found.columns.clone())))
        .ok_or_else(|| format!("segment {segment} is not in the table"))?;
    let is_there = |at: ChunkAddress| stripes.pool.reader(at.slot).is_some();
    let is_good = |state: &&ColumnState| matches!(state, ColumnState::Complete(at) if is_there(*at));
    let is_readable = |state: &&ColumnState| state.address().is_some_and(is_there);
    let own = &columns[usize::from(column.0)];
    let suffices = |left: usize| left >= usize::from(k);
    let is_sure = is_good(&own) || suffices(columns.iter().filter(is_good).count());
    Ok((!is_sure, is_readable(&own) || suffices(columns.iter().filter(is_readable).count())))
}

fn named(error: &Error, volume: VolumeId, at: u64) -> bool {
    error.kind() == Kind::DataLoss { volume, lba: Lba(at) }
}

/// What was found lost is listed, and nothing else.
fn check_listed(shard: &Shard, lost: &BTreeSet<(VolumeId, u64)>) -> Checked<()> {
    let damage = shard.damage();
    let blocks = damage.iter().filter(|record| record.cause == DamageCause::BeyondTolerance);
    let listed: BTreeSet<(VolumeId, u64)> = blocks
        .flat_map(|record| (0..u64::from(record.blocks)).map(|at| (record.volume, record.lba.0 + at)))
        .collect();
    match listed.symmetric_difference(lost).next() {
        Some((id, at)) if lost.contains(&(*id, *at)) => {
            Err(format!("volume {id}: block {at} is lost, and not listed as damage"))
        }
        Some((id, at)) => Err(format!("volume {id}: block {at} is listed as damage, and not lost")),
        None => Ok(()),
    }
}
