//! The record: what one append adds to a segment. A header block in every column, then whole rows.
//!
//! Writing one takes two steps, because the header holds the checksums of the parity of rows that hold
//! description: [`Record::draft`] gives the description blocks ([`Draft::blocks`]); when they are encoded
//! like all other data, [`Draft::seal`] takes the witnesses of their rows and gives the header of every
//! column ([`Headers::column`]). Reading one takes two steps as well: [`HeaderPart::decode`] gives what it
//! takes to read and reconstruct the description blocks, [`HeaderPart::finish`] the record, and
//! [`HeaderPart::glimpse`] what can be told without the other members. How many rows a
//! record takes, and how many blocks go into a room, is the business of [`Plan`].

mod draft;
mod glimpse;
mod header;
mod plan;
mod rules;
mod stream;
#[cfg(test)]
mod tests;

pub use draft::{Draft, Headers};
pub use glimpse::Glimpse;
pub use header::{Expected, HeaderPart};
pub use plan::Plan;

use crate::format::superblock::ChunkAddress;
use crate::types::{
    Column, Epoch, Identity, Lba, Nonce, Number, Place, Row, Scheme, SegmentId, Sequence, Uuid, VolumeId,
};

/// What a data-column block of a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Zeros that fill the last row.
    Fill,
    /// A part of the record's own description.
    Description,
    /// User data.
    Data {
        /// The volume.
        volume: VolumeId,
        /// The address in it.
        lba: Lba,
        /// The number that wrote it.
        birth: Number,
    },
    /// User data moved by the cleaner; it counts only where the map still points to `from`.
    Moved {
        /// The volume.
        volume: VolumeId,
        /// The address in it.
        lba: Lba,
        /// The number that wrote it.
        birth: Number,
        /// The place it leaves.
        from: Place,
    },
    /// A page of a tree.
    Page {
        /// The tree ([`crate::format::page::TreeId`] as its number).
        tree: u32,
        /// Its level; 0 is a leaf.
        level: u8,
        /// The first half of its low key: finds its parent.
        low: u64,
        /// The checkpoint generation that wrote it.
        generation: u64,
    },
}

/// A data-column block: what it is, and the checksum that its pointer carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What it is.
    pub owner: Owner,
    /// CRC-32 mixed with its identity; 0 for fill and description.
    pub crc: u32,
}

/// The numbers of one volume that a record completes (rule 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interval {
    /// The volume.
    pub volume: VolumeId,
    /// The number before the first one completed.
    pub after: Number,
    /// The last one completed.
    pub through: Number,
    /// The number known durable when the record was written.
    pub durable: Number,
}

/// A change that is no block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Blocks read as zeros from here on. It covers every block of the range born before `number`.
    Trim {
        /// The volume.
        volume: VolumeId,
        /// The number of the trim.
        number: Number,
        /// The first block.
        lba: Lba,
        /// How many.
        blocks: u64,
    },
    /// The volume has `blocks` blocks from `number` on.
    Resize {
        /// The volume.
        volume: VolumeId,
        /// The number of the resize.
        number: Number,
        /// Its new size.
        blocks: u64,
    },
}

/// What a record is, apart from its bytes: the same in the header of every column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The array.
    pub array: Uuid,
    /// Blocks in each of the array's chunks: lets `salvage` find them when every superblock is lost.
    pub chunk_blocks: u32,
    /// The segment.
    pub segment: SegmentId,
    /// Its scheme.
    pub scheme: Scheme,
    /// Where the segment's columns are; `None` for a column that the segment was born without.
    pub columns: Vec<Option<ChunkAddress>>,
    /// The row of the header.
    pub row: Row,
    /// Rows behind the header.
    pub rows: u8,
    /// How many of them, from the first on, hold (also) description; as [`Plan`] says.
    pub description_rows: u8,
    /// The epoch in which it was written.
    pub epoch: Epoch,
    /// The opening that wrote it.
    pub nonce: Nonce,
    /// Its position in the log.
    pub sequence: Sequence,
    /// The first and the last record of the group that counts only together; both itself when alone.
    pub group: (Sequence, Sequence),
    /// What it completes, one per volume, in the order of their ids. In a group only the last record has any.
    pub intervals: Vec<Interval>,
    /// What it changes besides blocks, oldest first. In a group only the last record has any.
    pub changes: Vec<Change>,
    /// One per data-column block, row by row: `rows * k`. [`Owner::Description`] the first
    /// [`Plan::description_blocks`], and no others.
    pub entries: Vec<Entry>,
    /// CRC-64/NVME of every block, parity too, row by row: `rows * (k+m)`. That of an absent
    /// column is that of the bytes it would hold.
    pub witnesses: Vec<u64>,
}

impl Owner {
    /// The identity that the pointer checksum is mixed with; `None` for fill and description.
    pub fn identity(&self) -> Option<Identity> {
        match *self {
            Owner::Fill | Owner::Description => None,
            Owner::Data { volume, lba, birth } | Owner::Moved { volume, lba, birth, .. } => {
                Some(Identity { owner: volume.0, lba, birth })
            }
            Owner::Page { tree, level, .. } => {
                Some(Identity { owner: tree, lba: Lba(u64::from(level)), birth: Number(0) })
            }
        }
    }
}

impl Record {
    /// What [`Plan`] needs to know of a record besides its blocks: the bytes that these take.
    pub fn preamble_bytes(intervals: &[Interval], changes: &[Change]) -> usize {
        stream::preamble_bytes(intervals, changes)
    }
    /// The entry of a data-column block in the `row`-th row behind the header.
    pub fn entry(&self, row: u8, column: Column) -> &Entry {
        &self.entries[usize::from(row) * usize::from(self.scheme.k()) + usize::from(column.0)]
    }
    /// The blocks of the `row`-th row behind the header that somebody may want, and where they are.
    pub fn owners(&self, row: u8) -> impl Iterator<Item = (Owner, Place)> + '_ {
        let at = self.row.plus(1 + u16::from(row));
        let columns = (0..self.scheme.k()).map(Column);
        let owned = columns.map(move |column| {
            (self.entry(row, column).owner, Place { segment: self.segment, row: at, column })
        });
        owned.filter(|(owner, _)| owner.identity().is_some())
    }
    /// The witness of a block in the `row`-th row behind the header.
    pub fn witness(&self, row: u8, column: Column) -> u64 {
        self.witnesses[usize::from(row) * usize::from(self.scheme.width()) + usize::from(column.0)]
    }
}
