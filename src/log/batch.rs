//! A batch: writes and trims of one stream that become durable together. Overwrites are absorbed.
//!
//! Invariants: the numbers of each volume in it form one interval; a block is younger than every change of
//! the batch that covers it; it is immutable once sealed.

use crate::format::record::Change;
use crate::map::Claim;
use crate::types::{BLOCK_U64, Lba, Number, VolumeId};
use crate::zoo::{Bug, planted};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;

/// What the write buffer says of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Buffered {
    /// Its bytes.
    Data(Bytes),
    /// It was trimmed: zeros.
    Hole,
}

/// Writes and trims that become durable together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    blocks: BTreeMap<(VolumeId, Lba), (Number, Bytes)>,
    changes: Vec<Change>,
    /// For each volume the number before the first and the last one in it.
    spans: BTreeMap<VolumeId, (Number, Number)>,
    /// Blocks of each volume that were accepted as new.
    claims: BTreeMap<VolumeId, Claim>,
}

impl Batch {
    /// Adds a block. `number` is the newest of its volume.
    pub fn write(&mut self, volume: VolumeId, lba: Lba, number: Number, block: Bytes) {
        self.cover(volume, number);
        self.blocks.insert((volume, lba), (number, block));
    }

    /// Adds a change; a trim drops the blocks that it covers.
    pub fn change(&mut self, change: Change) {
        match change {
            Change::Trim { volume, number, lba, blocks } => {
                self.cover(volume, number);
                let covered: Vec<(VolumeId, Lba)> = self
                    .blocks
                    .range((volume, lba)..(volume, lba.plus(blocks)))
                    .map(|(key, _)| *key)
                    .collect();
                for key in covered.into_iter().filter(|_| !planted(Bug::TrimSparesBatch)) {
                    self.blocks.remove(&key);
                }
            }
            Change::Resize { volume, number, .. } => self.cover(volume, number),
        }
        self.changes.push(change);
    }

    fn cover(&mut self, volume: VolumeId, number: Number) {
        let span = self.spans.entry(volume).or_insert((Number(number.0 - 1), number));
        assert!(number == span.1 || number == span.1.next(), "the numbers of a batch have no gap");
        span.1 = number;
    }

    /// Some of its blocks are new to the map.
    pub fn claim(&mut self, volume: VolumeId, claim: Claim) {
        self.claims.entry(volume).or_default().add(claim);
    }

    /// Blocks of each volume that were accepted as new.
    pub fn claims(&self) -> impl Iterator<Item = (VolumeId, Claim)> + '_ {
        self.claims.iter().map(|(volume, claim)| (*volume, *claim))
    }

    /// Enters what the batch says of consecutive blocks, the first of them at `lba`; leaves the others alone.
    pub fn look(&self, volume: VolumeId, lba: Lba, seen: &mut [Option<Buffered>]) {
        for change in &self.changes {
            match change {
                Change::Trim { volume: other, lba: first, blocks, .. } if *other == volume => {
                    let trimmed = lba.which(seen.len(), *first, *blocks);
                    seen[trimmed].fill(Some(Buffered::Hole));
                }
                Change::Trim { .. } | Change::Resize { .. } => {}
            }
        }
        let range = (volume, lba)..(volume, lba.plus(seen.len() as u64));
        for ((_, at), (_, block)) in self.blocks.range(range) {
            let written = lba.which(seen.len(), *at, 1);
            seen[written].fill(Some(Buffered::Data(block.clone())));
        }
    }

    /// The first block that is written in a range of a volume.
    pub fn first_written(&self, volume: VolumeId, range: Range<Lba>) -> Option<Lba> {
        let mut blocks = self.blocks.range((volume, range.start)..(volume, range.end));
        blocks.next().map(|((_, lba), _)| *lba)
    }

    /// The blocks in order of volume and address.
    pub fn blocks(&self) -> impl Iterator<Item = (VolumeId, Lba, Number, &Bytes)> {
        self.blocks.iter().map(|((volume, lba), (number, block))| (*volume, *lba, *number, block))
    }

    /// The changes in order of their numbers.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// For each volume the number before the first and the last one in the batch.
    pub fn spans(&self) -> impl Iterator<Item = (VolumeId, Number, Number)> + '_ {
        self.spans.iter().map(|(volume, (after, through))| (*volume, *after, *through))
    }

    /// Blocks in it.
    pub fn len(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Bytes of the write buffer that it takes.
    pub fn bytes(&self) -> u64 {
        self.len() * BLOCK_U64 + self.changes.len() as u64 * 64
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}
