//! What is true of every sound record: the same rules when one is written and when one is read.

use crate::format::page::{LEVELS_MAX, TreeId, VOLUME_IDS_END};
use crate::format::record::{Change, Entry, Owner, Plan, Record};
use crate::format::wire::{Check, ensure};
use crate::limits::{CHUNK_BLOCKS_MAX, CHUNK_BLOCKS_MIN, CHUNKS_MAX, TOMBSTONE_LAST, VOLUME_BLOCKS_MAX};
use crate::types::{Lba, Number, VolumeId};

impl Record {
    /// The rules of what is in every header.
    pub(super) fn check_header(&self) -> Check {
        ensure(
            (CHUNK_BLOCKS_MIN..=CHUNK_BLOCKS_MAX).contains(&self.chunk_blocks),
            "a chunk has between 8 and 32768 blocks",
        )?;
        ensure(
            u32::from(self.row.0) + u32::from(self.rows) < self.chunk_blocks,
            "a record ends inside its segment",
        )?;
        ensure(self.group.0 <= self.sequence && self.sequence <= self.group.1, "a record is in its group")?;
        self.check_columns()
    }

    fn check_columns(&self) -> Check {
        let width = usize::from(self.scheme.width());
        ensure(self.columns.len() == width, "the column table has a line per column")?;
        let mut taken = [false; 256];
        let mut present = 0u8;
        for at in self.columns.iter().flatten() {
            ensure(at.slot.0 != u8::MAX, "slot 255 is no member")?;
            ensure(u64::from(at.chunk.0) < CHUNKS_MAX, "a member has at most 2^20 chunks")?;
            let before = std::mem::replace(&mut taken[usize::from(at.slot.0)], true);
            ensure(!before, "the columns of a segment are on different members")?;
            present += 1;
        }
        ensure(present >= self.scheme.k(), "at most m columns are absent")
    }

    /// The rules of what is in the description.
    pub(super) fn check_description(&self, plan: Plan) -> Check {
        let last = self.sequence == self.group.1;
        ensure(
            last || self.intervals.is_empty() && self.changes.is_empty(),
            "in a group only the last record completes or changes something",
        )?;
        ensure(
            self.intervals.is_sorted_by(|a, b| a.volume < b.volume),
            "intervals are in the order of their volumes",
        )?;
        for interval in &self.intervals {
            ensure(
                (1..VOLUME_IDS_END).contains(&interval.volume.0),
                "volume numbers are between 1 and 2^31 - 16",
            )?;
            ensure(interval.after <= interval.through, "an interval ends where it begins or later")?;
            let last = interval.through.max(interval.durable);
            ensure(last < TOMBSTONE_LAST, "histories end before number 2^56 - 1")?;
        }
        self.changes.iter().try_for_each(Change::check)?;
        let cells = usize::from(self.rows) * usize::from(self.scheme.k());
        ensure(self.entries.len() == cells, "a record has an entry per data-column block")?;
        let (described, stored) = self.entries.split_at(plan.description_blocks);
        let description = Entry { owner: Owner::Description, crc: 0 };
        ensure(described.iter().all(|entry| *entry == description), "description comes first")?;
        stored.iter().try_for_each(Entry::check)?;
        let blocks = usize::from(self.rows) * usize::from(self.scheme.width());
        ensure(self.witnesses.len() == blocks, "a record has a witness per block")
    }
}

impl Change {
    fn check(&self) -> Check {
        match *self {
            Change::Trim { volume, number, lba, blocks } => {
                check_version(volume, number)?;
                let end = lba.0.checked_add(blocks);
                ensure(end.is_some_and(|end| end <= VOLUME_BLOCKS_MAX), "a trim ends below 2^51 blocks")
            }
            Change::Resize { volume, number, blocks } => {
                check_version(volume, number)?;
                ensure(blocks <= VOLUME_BLOCKS_MAX, "a volume has at most 2^51 blocks")
            }
        }
    }
}

impl Entry {
    fn check(&self) -> Check {
        match self.owner {
            Owner::Fill => ensure(self.crc == 0, "fill has no checksum in its entry"),
            Owner::Description => ensure(false, "description comes first"),
            Owner::Data { volume, lba, birth } => check_data(volume, lba, birth),
            Owner::Moved { volume, lba, birth, from } => {
                check_data(volume, lba, birth)?;
                ensure(from.column.0 != u8::MAX, "a segment has at most 255 columns")
            }
            Owner::Page { tree, level, .. } => {
                ensure(TreeId::from_number(tree).is_some(), "a page belongs to a tree")?;
                ensure(level < LEVELS_MAX, "a tree has at most 16 levels")
            }
        }
    }
}

fn check_data(volume: VolumeId, lba: Lba, birth: Number) -> Check {
    check_version(volume, birth)?;
    ensure(lba.0 < VOLUME_BLOCKS_MAX, "a volume has at most 2^51 blocks")
}

fn check_version(volume: VolumeId, number: Number) -> Check {
    ensure((1..VOLUME_IDS_END).contains(&volume.0), "volume numbers are between 1 and 2^31 - 16")?;
    ensure(number.0 > 0, "histories begin with number 1")?;
    ensure(number < TOMBSTONE_LAST, "histories end before number 2^56 - 1")
}
