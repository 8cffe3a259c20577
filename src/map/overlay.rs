//! What the log has added and the trees do not have yet.
//!
//! Invariant: an entry is younger than every trim of the same overlay that covers it, because a trim removes
//! the entries that it covers. So an entry speaks first, then the trims.

use crate::format::page::PAGE_ENTRIES;
use crate::format::tables::Tombstone;
use crate::types::{Lba, Number, Pointer, VolumeId};
use crate::zoo::{Bug, planted};
use std::collections::BTreeMap;
use std::ops::Range;

/// A trim of at most this many blocks becomes as many holes; a longer one is kept as a range.
pub(super) const TRIM_AS_HOLES: u64 = 512;

/// Entries that a leaf has at least, but for the last one: a quarter of [`PAGE_ENTRIES`].
const LEAF_ENTRIES_MIN: u64 = PAGE_ENTRIES as u64 / 4;
/// Entries that a leaf usually has at least: a half.
pub(super) const LEAF_ENTRIES_USUAL: u64 = PAGE_ENTRIES as u64 / 2;

/// The newest state of a block: where it is, or that it was trimmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Update {
    /// The number that made it so.
    pub birth: Number,
    /// `None` for a hole.
    pub pointer: Option<Pointer>,
}

/// One volume's part of an overlay.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    entries: BTreeMap<Lba, Update>,
    trims: Vec<Tombstone>,
    runs: u64,
    /// A trim was among what it was told.
    has_holes: bool,
}

impl Layer {
    /// The entries in order of address.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (Lba, Update)> + '_ {
        self.entries.iter().map(|(lba, update)| (*lba, *update))
    }

    /// The long trims, oldest first.
    pub fn trims(&self) -> &[Tombstone] {
        &self.trims
    }

    /// The first block of a range that was written.
    pub(super) fn first_mapped(&self, range: Range<Lba>) -> Option<Lba> {
        let mut mapped = self.entries.range(range).filter(|(_, update)| update.pointer.is_some());
        mapped.next().map(|(lba, _)| *lba)
    }

    /// How many leaves of the tree a merge can touch at most: a single block is in one, a longer run ends in
    /// two, and between these every leaf is at least a quarter full.
    pub(super) fn leaves(&self) -> u64 {
        let entries = self.entries.len() as u64;
        self.runs + self.runs.min(entries - self.runs) + entries / LEAF_ENTRIES_MIN
    }

    /// Whether something of it makes room: a hole or a trim.
    pub(super) fn has_holes(&self) -> bool {
        self.has_holes
    }

    fn look(&self, lba: Lba, seen: &mut [Option<Update>]) {
        for trim in self.trims.iter().filter(|_| !planted(Bug::LongTrimUnseen)) {
            let trimmed = lba.which(seen.len(), trim.lba, trim.blocks);
            seen[trimmed].fill(Some(Update { birth: trim.number, pointer: None }));
        }
        for (at, update) in self.entries.range(lba..lba.plus(seen.len() as u64)) {
            let written = lba.which(seen.len(), *at, 1);
            seen[written].fill(Some(*update));
        }
    }

    fn insert(&mut self, lba: Lba, update: Update) -> Option<Update> {
        let old = self.entries.insert(lba, update);
        if old.is_none() {
            self.runs = self.runs + 1 - self.neighbours(lba);
        }
        old
    }

    fn remove(&mut self, lba: Lba) -> Option<Update> {
        let old = self.entries.remove(&lba)?;
        self.runs = self.runs + self.neighbours(lba) - 1;
        Some(old)
    }

    fn neighbours(&self, lba: Lba) -> u64 {
        let before = lba.0.checked_sub(1).is_some_and(|before| self.entries.contains_key(&Lba(before)));
        u64::from(before) + u64::from(self.entries.contains_key(&lba.plus(1)))
    }
}

/// What the log has added since some moment, for all volumes.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    layers: BTreeMap<VolumeId, Layer>,
    entries: u64,
    claims: BTreeMap<VolumeId, Claim>,
}

/// Blocks that were accepted as new: they take room that the trees do not count yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Claim {
    /// How many.
    pub blocks: u64,
    /// Nobody looked: some may overwrite others.
    pub guessed: bool,
}

impl Claim {
    /// Both together.
    pub fn add(&mut self, other: Claim) {
        self.blocks += other.blocks;
        self.guessed |= other.guessed;
    }
}

impl Overlay {
    /// Enters what the overlay says of consecutive blocks, the first of them at `lba`; leaves the others alone.
    pub fn look(&self, volume: VolumeId, lba: Lba, seen: &mut [Option<Update>]) {
        if let Some(layer) = self.layers.get(&volume) {
            layer.look(lba, seen);
        }
    }

    /// A block was written. Returns the pointer that it replaces.
    pub fn insert(&mut self, volume: VolumeId, lba: Lba, birth: Number, pointer: Pointer) -> Option<Pointer> {
        self.put(volume, lba, Update { birth, pointer: Some(pointer) })
    }

    fn put(&mut self, volume: VolumeId, lba: Lba, update: Update) -> Option<Pointer> {
        let old = self.layers.entry(volume).or_default().insert(lba, update);
        self.entries += u64::from(old.is_none());
        old.and_then(|update| update.pointer)
    }

    /// A range was trimmed. Returns the pointers that it drops.
    pub fn trim(&mut self, volume: VolumeId, number: Number, lba: Lba, blocks: u64) -> Vec<Pointer> {
        self.layers.entry(volume).or_default().has_holes = true;
        if blocks <= TRIM_AS_HOLES {
            let hole = Update { birth: number, pointer: None };
            let blocks = blocks - u64::from(planted(Bug::TrimShort));
            return (0..blocks).filter_map(|index| self.put(volume, lba.plus(index), hole)).collect();
        }
        let layer = self.layers.entry(volume).or_default();
        let covered: Vec<Lba> = layer.entries.range(lba..lba.plus(blocks)).map(|(lba, _)| *lba).collect();
        let dropped = covered.into_iter().filter_map(|lba| layer.remove(lba)).collect::<Vec<_>>();
        self.entries -= dropped.len() as u64;
        layer.trims.push(Tombstone { number, lba, blocks });
        dropped.into_iter().filter_map(|update| update.pointer).collect()
    }

    /// A volume is no more. Returns the pointers that go with it.
    pub fn forget(&mut self, volume: VolumeId) -> Vec<Pointer> {
        let Some(layer) = self.layers.remove(&volume) else { return Vec::new() };
        self.entries -= layer.entries.len() as u64;
        layer.entries.into_values().filter_map(|update| update.pointer).collect()
    }

    /// The volumes it says something of.
    pub fn layers(&self) -> impl Iterator<Item = (VolumeId, &Layer)> {
        self.layers.iter().map(|(volume, layer)| (*volume, layer))
    }

    /// One volume's part.
    pub fn layer(&self, volume: VolumeId) -> Option<&Layer> {
        self.layers.get(&volume)
    }

    /// Entries held.
    pub fn len(&self) -> u64 {
        self.entries
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Blocks were accepted that the tree may not have had.
    pub fn claim(&mut self, volume: VolumeId, claim: Claim) {
        self.claims.entry(volume).or_default().add(claim);
    }

    /// What was claimed, volume by volume.
    pub fn claims(&self) -> impl Iterator<Item = (VolumeId, Claim)> + '_ {
        self.claims.iter().map(|(volume, claim)| (*volume, *claim))
    }

    /// What was claimed of one volume.
    pub fn claimed(&self, volume: VolumeId) -> Claim {
        self.claims.get(&volume).copied().unwrap_or_default()
    }

    /// Pointers held for each call of `visit`.
    pub fn pointers(&self) -> impl Iterator<Item = Pointer> + '_ {
        self.layers.values().flat_map(|layer| layer.entries.values().filter_map(|update| update.pointer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Column, Place, Row, SegmentId};

    #[test]
    fn single_blocks_touch_a_leaf_each_and_runs_two_and_what_lies_between() {
        let mut overlay = Overlay::default();
        for lba in [10, 20, 30] {
            overlay.insert(V, Lba(lba), Number(lba), pointer(lba));
        }
        assert_eq!(overlay.layers[&V].leaves(), 3);
        overlay.insert(V, Lba(11), Number(40), pointer(1));
        assert_eq!(overlay.layers[&V].leaves(), 4);
        for lba in 12..=100 {
            overlay.insert(V, Lba(lba), Number(100 + lba), pointer(1));
        }
        assert_eq!(overlay.layers[&V].leaves(), 2 + 91 / 31);
    }

    fn pointer(segment: u64) -> Pointer {
        let place = Place { segment: SegmentId(segment), row: Row(1), column: Column(0) };
        Pointer { place, back: 1, crc: 0 }
    }

    const V: VolumeId = VolumeId(1);

    #[test]
    fn a_write_after_a_trim_is_seen_and_one_before_is_not() {
        for blocks in [10, 10_000] {
            let mut overlay = Overlay::default();
            assert_eq!(overlay.insert(V, Lba(5), Number(1), pointer(1)), None);
            assert_eq!(overlay.trim(V, Number(2), Lba(0), blocks), vec![pointer(1)]);
            let look = |overlay: &Overlay, volume, lba| {
                let mut seen = [None; 3];
                overlay.look(volume, Lba(lba), &mut seen);
                seen
            };
            let hole = Some(Update { birth: Number(2), pointer: None });
            assert_eq!(look(&overlay, V, 5), [hole; 3]);
            overlay.insert(V, Lba(5), Number(3), pointer(2));
            let block = Some(Update { birth: Number(3), pointer: Some(pointer(2)) });
            assert_eq!(look(&overlay, V, 4), [hole, block, hole]);
            assert_eq!(look(&overlay, V, blocks - 2), [hole, hole, None]);
            assert_eq!(look(&overlay, VolumeId(2), 5), [None; 3]);
        }
    }

    #[test]
    fn runs_of_neighbours_are_counted_whatever_the_order() {
        let mut overlay = Overlay::default();
        for lba in [10, 12, 11, 40, 41, 13, 39] {
            overlay.insert(V, Lba(lba), Number(lba), pointer(lba));
        }
        assert_eq!(overlay.layers[&V].runs, 2);
        overlay.trim(V, Number(99), Lba(11), TRIM_AS_HOLES + 1);
        assert_eq!(overlay.layers[&V].runs, 1);
        assert_eq!(overlay.len(), 1);
    }
}
