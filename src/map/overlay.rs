//! What the log has added and the trees do not have yet.
//!
//! Invariant: an entry is younger than every trim of the same overlay that covers it, because a trim removes
//! the entries that it covers. So an entry speaks first, then the trims.

use crate::format::tables::Tombstone;
use crate::types::{Lba, Number, Pointer, VolumeId};
use std::collections::BTreeMap;

/// A trim of at most this many blocks becomes as many holes; a longer one is kept as a range.
pub(super) const TRIM_AS_HOLES: u64 = 512;

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
}

impl Layer {
    /// The entries in order of address.
    pub fn entries(&self) -> impl Iterator<Item = (Lba, Update)> + '_ {
        self.entries.iter().map(|(lba, update)| (*lba, *update))
    }

    /// The long trims, oldest first.
    pub fn trims(&self) -> &[Tombstone] {
        &self.trims
    }

    fn get(&self, lba: Lba) -> Option<Update> {
        if let Some(update) = self.entries.get(&lba) {
            return Some(*update);
        }
        let trim = self.trims.iter().rev().find(|trim| covers(trim, lba))?;
        Some(Update { birth: trim.number, pointer: None })
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

/// Whether a trim covers a block.
pub(super) fn covers(trim: &Tombstone, lba: Lba) -> bool {
    lba >= trim.lba && lba.0 - trim.lba.0 < trim.blocks
}

/// What the log has added since some moment, for all volumes.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    layers: BTreeMap<VolumeId, Layer>,
    entries: u64,
}

impl Overlay {
    /// What the overlay says of a block; `None` when it says nothing.
    pub fn get(&self, volume: VolumeId, lba: Lba) -> Option<Update> {
        self.layers.get(&volume)?.get(lba)
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
        if blocks <= TRIM_AS_HOLES {
            let hole = Update { birth: number, pointer: None };
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

    /// How many leaves a merge can touch at most: a run of neighbours ends in two, and between these every
    /// leaf is at least a quarter full.
    pub fn leaves(&self) -> u64 {
        let runs: u64 = self.layers.values().map(|layer| layer.runs).sum();
        let trims: usize = self.layers.values().map(|layer| layer.trims.len()).sum();
        2 * runs + self.entries / 31 + trims as u64
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
            assert_eq!(overlay.get(V, Lba(5)), Some(Update { birth: Number(2), pointer: None }));
            overlay.insert(V, Lba(5), Number(3), pointer(2));
            assert_eq!(overlay.get(V, Lba(5)).and_then(|update| update.pointer), Some(pointer(2)));
            assert_eq!(overlay.get(V, Lba(blocks)), None);
            assert_eq!(overlay.get(VolumeId(2), Lba(5)), None);
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
