//! Volumes without a map, from the owners of blocks in headers: of each address the newest birth.
//!
//! Trims that are still in a record apply; what a trim emptied whose record is gone may be there again.

use super::{BLOCKS_MAX, pointer};
use crate::error::{Error, Kind, Result};
use crate::format::record::{Change, Owner, Record};
use crate::format::tables::VolumeRecord;
use crate::types::{Lba, Number, Pointer, Scheme, Sequence, VolumeId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Blocks {
    /// The newest birth of each address; of equal ones the latest copy, which a cleaner may have made.
    newest: BTreeMap<(VolumeId, Lba), (Number, Sequence, Pointer)>,
    trims: Vec<(VolumeId, Number, Lba, u64)>,
    volumes: BTreeMap<VolumeId, Volume>,
}

#[derive(Default)]
struct Volume {
    number: Number,
    /// The newest size that a record tells, and its number.
    size: Option<(Number, u64)>,
    scheme: Option<Scheme>,
}

impl Blocks {
    /// Takes what a record says of these volumes.
    pub(super) fn take(&mut self, record: &Record, volumes: &BTreeSet<VolumeId>) {
        for interval in record.intervals.iter().filter(|interval| volumes.contains(&interval.volume)) {
            let volume = self.volumes.entry(interval.volume).or_default();
            volume.number = volume.number.max(interval.through);
        }
        for change in &record.changes {
            match *change {
                Change::Trim { volume, number, lba, blocks } if volumes.contains(&volume) => {
                    self.trims.push((volume, number, lba, blocks));
                }
                Change::Resize { volume, number, blocks } if volumes.contains(&volume) => {
                    let size = &mut self.volumes.entry(volume).or_default().size;
                    *size = (*size).max(Some((number, blocks)));
                }
                _ => {}
            }
        }
        let k = usize::from(record.scheme.k());
        for (index, entry) in record.entries.iter().enumerate() {
            let (Owner::Data { volume, lba, birth } | Owner::Moved { volume, lba, birth, .. }) = entry.owner
            else {
                continue;
            };
            if !volumes.contains(&volume) {
                continue;
            }
            let known = self.volumes.entry(volume).or_default();
            known.number = known.number.max(birth);
            let wider = known.scheme.is_none_or(|scheme| scheme.width() < record.scheme.width());
            if wider {
                known.scheme = Some(record.scheme);
            }
            let new = (birth, record.sequence, pointer(record, index, k, entry.crc));
            let old = self.newest.entry((volume, lba)).or_insert(new);
            if (new.0, new.1) > (old.0, old.1) {
                *old = new;
            }
        }
    }

    /// # Errors
    /// [`Kind::NoSpace`] when there are more blocks than memory is meant for.
    pub(super) fn check(&self) -> Result<()> {
        if self.newest.len() <= BLOCKS_MAX {
            return Ok(());
        }
        let text = format!(
            "more than {BLOCKS_MAX} blocks are in volumes whose maps are lost; this version salvages no more"
        );
        Err(Error::new(Kind::NoSpace, text))
    }

    /// Everything was taken: trims apply to what is older.
    pub(super) fn settle(&mut self) {
        for (volume, number, lba, blocks) in std::mem::take(&mut self.trims) {
            let range = (volume, lba)..(volume, lba.plus(blocks));
            let covered: Vec<(VolumeId, Lba)> = self
                .newest
                .range(range)
                .filter(|(_, (birth, _, _))| *birth < number)
                .map(|(at, _)| *at)
                .collect();
            for at in covered {
                self.newest.remove(&at);
            }
        }
    }

    /// What headers tell of a volume that its row, if there is one, does not.
    pub(super) fn complete(&self, record: &mut VolumeRecord) {
        let is_unknown = record.number == Number(0) && record.blocks == 0;
        let Some(known) = self.volumes.get(&record.id) else {
            record.blocks = record.blocks.max(1);
            return;
        };
        if let Some((number, blocks)) = known.size.filter(|(number, _)| *number > record.number) {
            (record.number, record.blocks) = (number, blocks);
        }
        record.number = record.number.max(known.number);
        if is_unknown {
            record.scheme = known.scheme.unwrap_or(record.scheme);
            let last = self.newest.range((record.id, Lba(0))..=(record.id, Lba(u64::MAX))).next_back();
            let end = last.map_or(1, |((_, lba), _)| lba.0 + 1);
            record.blocks = if known.size.is_some() { record.blocks } else { end };
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (VolumeId, Lba, Number, Pointer)> + '_ {
        self.newest.iter().map(|((volume, lba), (birth, _, pointer))| (*volume, *lba, *birth, *pointer))
    }
}
