//! The damage list: what is lost, as `status` shows it and its tree keeps it.
//!
//! Invariants: ranges of lost blocks do not overlap; there are at most [`DAMAGE_MAX`] entries. What does not fit
//! is not forgotten by the map, only not listed: who reads it is told, and lists it.

use crate::format::page::Key;
use crate::format::tables::{DamageCause, DamageRecord};
use crate::limits::DAMAGE_MAX;
use crate::types::{Lba, Number, VolumeId};
use std::collections::BTreeMap;

/// What is lost.
#[derive(Clone, Debug, Default)]
pub struct DamageList {
    records: BTreeMap<Key, DamageRecord>,
    /// Counts the changes.
    version: u64,
    /// The change up to which the list is durable.
    saved: u64,
}

fn end(record: &DamageRecord) -> Lba {
    record.lba.plus(record.blocks.into())
}

impl DamageList {
    /// The list of a checkpoint.
    pub fn new(records: Vec<DamageRecord>) -> DamageList {
        let records = records.into_iter().map(|record| (record.key(), record)).collect();
        DamageList { records, ..DamageList::default() }
    }

    /// The entries: volume by volume, lost blocks before lost writes.
    pub fn values(&self) -> impl Iterator<Item = &DamageRecord> {
        self.records.values()
    }

    /// The entry that begins last of those that begin there or before, in the same address space.
    fn before(&self, at: &DamageRecord) -> Option<DamageRecord> {
        let (_, last) = self.records.range(..=at.key()).next_back()?;
        Some(*last).filter(|last| last.volume == at.volume && last.cause == at.cause)
    }

    /// Remembers that a range is lost. One that continues the one before it extends it.
    pub fn record(&mut self, record: DamageRecord) {
        let before = self.before(&record);
        if before.is_some_and(|last| end(&last) >= end(&record)) {
            return;
        }
        self.version += 1;
        if record.cause == DamageCause::BeyondTolerance {
            self.mend(record.volume, record.lba, record.blocks.into());
        }
        if let Some(mut last) = self.before(&record)
            && end(&last) == record.lba
            && let Some(blocks) = last.blocks.checked_add(record.blocks)
        {
            last.blocks = blocks;
            self.records.insert(last.key(), last);
            return;
        }
        if self.records.len() >= DAMAGE_MAX && !self.make_room(record.cause) {
            return;
        }
        self.records.insert(record.key(), record);
    }

    /// Lost blocks are found again by whoever reads them, lost writes by nobody: they take the place.
    fn make_room(&mut self, cause: DamageCause) -> bool {
        let mut blocks = self.records.iter().rev();
        let spare = blocks.find(|(_, record)| record.cause == DamageCause::BeyondTolerance);
        match spare.map(|(key, _)| *key).filter(|_| cause == DamageCause::LostRecords) {
            Some(key) => self.records.remove(&key).is_some(),
            None => false,
        }
    }

    /// Blocks were written anew, or trimmed: they are no longer lost.
    pub fn mend(&mut self, volume: VolumeId, lba: Lba, blocks: u64) {
        let (first, last) = (DamageRecord::first_key(volume), Key(volume.0.into(), lba.0 + blocks));
        let touched = self.records.range(first..last).rev().take_while(|(_, record)| end(record) > lba);
        let touched: Vec<Key> = touched.map(|(key, _)| *key).collect();
        for key in touched {
            let record = self.records.remove(&key).expect("just seen");
            self.version += 1;
            for (from, to) in [(record.lba.0, lba.0), (lba.0 + blocks, end(&record).0)] {
                if from < to {
                    let blocks = u32::try_from(to - from).expect("a part of the record");
                    let part = DamageRecord { lba: Lba(from), blocks, ..record };
                    self.records.insert(part.key(), part);
                }
            }
        }
    }

    /// A volume is deleted: what was lost of it is of no account.
    pub fn forget(&mut self, volume: VolumeId) {
        let before = self.records.len();
        self.records.retain(|_, record| record.volume != volume);
        self.version += u64::from(self.records.len() != before);
    }

    /// The first of a volume's writes that were durable and are lost, and how many there are.
    pub fn lost_writes(&self, volume: VolumeId) -> Option<(Number, u64)> {
        let records = self.records.range(DamageRecord::first_key(volume)..=DamageRecord::last_key(volume));
        let mut lost =
            records.map(|(_, record)| record).filter(|record| record.cause == DamageCause::LostRecords);
        let first = lost.next()?;
        let more: u64 = lost.map(|record| u64::from(record.blocks)).sum();
        Some((Number(first.lba.0), u64::from(first.blocks) + more))
    }

    /// Empties the list. Returns what it held.
    pub fn clear(&mut self) -> Vec<DamageRecord> {
        self.version += 1;
        std::mem::take(&mut self.records).into_values().collect()
    }

    /// Counts the changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The change up to which the list must be written, if it differs from the durable one.
    pub fn unsaved(&self) -> Option<u64> {
        (self.version > self.saved).then_some(self.version)
    }

    /// The list is durable up to this change.
    pub fn saved(&mut self, version: u64) {
        self.saved = version;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V: VolumeId = VolumeId(1);

    fn lost(lba: u64, blocks: u32) -> DamageRecord {
        DamageRecord { volume: V, lba: Lba(lba), blocks, cause: DamageCause::BeyondTolerance, time: 7 }
    }

    fn ranges(list: &DamageList) -> Vec<(u64, u32)> {
        list.values().map(|record| (record.lba.0, record.blocks)).collect()
    }

    #[test]
    fn ranges_are_joined_split_and_never_overlap() {
        let mut list = DamageList::default();
        for (lba, blocks) in [(10, 1), (11, 1), (10, 1), (20, 2), (13, 1), (12, 1), (9, 30)] {
            list.record(lost(lba, blocks));
            list.record(DamageRecord { volume: VolumeId(2), ..lost(lba, blocks) });
        }
        list.forget(VolumeId(2));
        assert_eq!(ranges(&list), [(9, 30)]);
        list.mend(V, Lba(0), 10);
        list.mend(V, Lba(15), 2);
        list.mend(V, Lba(100), 10);
        assert_eq!(ranges(&list), [(10, 5), (17, 22)]);
        list.mend(VolumeId(2), Lba(0), 1 << 40);
        list.mend(V, Lba(12), 1 << 40);
        assert_eq!(ranges(&list), [(10, 2)]);
    }

    #[test]
    fn lost_writes_and_lost_blocks_with_the_same_number_do_not_hide_each_other() {
        let mut list = DamageList::default();
        let writes = DamageRecord { cause: DamageCause::LostRecords, ..lost(5, 3) };
        list.record(writes);
        assert_eq!(list.lost_writes(VolumeId(2)), None);
        list.record(lost(5, 1));
        assert_eq!(ranges(&list), [(5, 1), (5, 3)]);
        list.mend(V, Lba(0), 100);
        assert_eq!(ranges(&list), [(5, 3)], "what was lost of the history is not written anew");
        list.record(DamageRecord { lba: Lba(20), ..writes });
        assert_eq!(list.lost_writes(V), Some((Number(5), 6)));
    }

    #[test]
    fn a_full_list_drops_blocks_but_no_writes() {
        let mut list = DamageList::default();
        let max = u64::try_from(DAMAGE_MAX).expect("small");
        (0..=max).for_each(|at| list.record(lost(2 * at, 1)));
        list.record(DamageRecord { cause: DamageCause::LostRecords, ..lost(5, 3) });
        assert_eq!(list.values().count(), DAMAGE_MAX);
        assert_eq!(list.lost_writes(V), Some((Number(5), 3)));
    }

    #[test]
    fn what_changes_while_the_list_is_written_is_written_next() {
        let mut list = DamageList::new(vec![lost(1, 1)]);
        assert_eq!(list.unsaved(), None);
        list.record(lost(5, 1));
        let version = list.unsaved().expect("changed");
        list.clear();
        list.saved(version);
        assert!(list.unsaved().is_some_and(|next| next > version));
    }
}
