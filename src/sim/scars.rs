//! Damage on members that are sound otherwise: a few blocks of a few rows, on as many columns as the weak members
//! leave to the row's redundancy. Tolerance is by row, not by member (F36): every member may be damaged somewhere,
//! and nothing is lost.
//!
//! Until a scrub has healed them, scarred rows need the weak members to stay the same: no other member may become
//! weak, and no column may move from a sound member to a weak one; not by a crash either, after which it is where it
//! was in the last checkpoint.

use super::disk::Rot;
use super::fault::Fault;
use super::run::{Life, Run};
use super::upkeep::slot_of;
use crate::format::superblock::{ChunkAddress, JobKind, MemberState};
use crate::format::tables::ColumnState;
use crate::layout::Geometry;
use crate::space::Segment;
use crate::types::{BLOCK_U64, Column, Row, SegmentId, Slot};
use std::collections::{BTreeMap, BTreeSet};

/// Columns that were damaged, by row.
pub(super) type Scars = BTreeMap<(SegmentId, Row), BTreeSet<Column>>;

/// Rows that are scarred at once at most.
const ROWS_MAX: u64 = 30;

impl Run {
    /// Damages blocks of sound members.
    pub(super) fn scar(&mut self, life: &Life) {
        let shard = life.shard.clone().expect("opened");
        let mut sound: BTreeMap<Slot, usize> = BTreeMap::new();
        for index in 0..self.disks.len() {
            match slot_of(&shard, index) {
                Some(_) if self.weak.contains(&index) || self.disks[index].is_gone() => {}
                Some((slot, MemberState::Active)) => drop(sound.insert(slot, index)),
                // Its columns are on their way to other members, which may be weak.
                Some((_, MemberState::Leaving)) => return,
                _ => {}
            }
        }
        let is_moving = shard.core().stripes().pool.job(JobKind::Rebuild).is_some();
        if is_moving || shard.core().progress().busy {
            return;
        }
        let space = &shard.core().stripes().space;
        let settled: Vec<(SegmentId, Segment)> = space.with(|space| {
            let settled = space.iter().filter(|(_, segment)| segment.is_settled() && segment.rows > 0);
            settled.map(|(id, segment)| (id, segment.clone())).collect()
        });
        if settled.is_empty() {
            return;
        }
        for _ in 0..1 + self.rng.below(ROWS_MAX) {
            let (id, segment) = &settled[self.rng.index(settled.len())];
            let row = Row(u16::try_from(self.rng.below(segment.rows.into())).expect("a row of a segment"));
            self.scar_row(*id, segment, row, &sound);
        }
    }

    fn scar_row(&mut self, id: SegmentId, segment: &Segment, row: Row, sound: &BTreeMap<Slot, usize>) {
        let old = self.scars.get(&(id, row)).cloned().unwrap_or_default();
        let mut good: Vec<(Column, ChunkAddress, usize)> = Vec::new();
        for (column, state) in segment.scheme.columns().zip(&segment.columns) {
            if let ColumnState::Complete(at) = state
                && let Some(disk) = sound.get(&at.slot)
                && !old.contains(&column)
            {
                good.push((column, *at, *disk));
            }
        }
        let geometry = Geometry { chunk_blocks: self.chunk_blocks };
        let spare = good.len().saturating_sub(segment.scheme.k().into());
        for _ in 0..spare.min(1 + self.rng.index(spare.max(1))) {
            let (column, at, index) = good.swap_remove(self.rng.index(good.len()));
            let disk = self.disks[index].clone();
            if self.hub.lets(&disk, Fault::Rot) {
                let block = geometry.byte_offset(at.chunk, row) / BLOCK_U64;
                let kind = [Rot::Flip, Rot::Garbage, Rot::Zero, Rot::Nick][self.rng.index(4)];
                disk.rot(block..block + 1, kind);
                self.scars.entry((id, row)).or_default().insert(column);
                self.count("sound member damaged", 1);
            }
        }
    }
}
