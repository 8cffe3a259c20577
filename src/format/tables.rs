//! What the values of the trees mean: segment table, volume table, damage list. Every key is two 64-bit
//! numbers, every value 16 bytes ([`crate::format::page`]). A row of a table is one or several entries whose
//! keys share their first half.
//!
//! The functions that make entries panic if a row breaks a rule that the functions that read entries verify:
//! what could not be read back must not be written.

mod damage;
mod segment;
mod volume;

use crate::format::superblock::{ChunkAddress, Root};
use crate::types::{Lba, Number, Row, Scheme, SegmentId, VolumeId};

/// Where a segment's column is, and what it is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColumnState {
    /// Written with the segment; complete.
    Complete(ChunkAddress),
    /// Allocated but not yet rebuilt.
    Partial(ChunkAddress),
    /// The segment was born without it, or its chunk was given up.
    Absent,
}

/// A row of the segment table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentRecord {
    /// The segment.
    pub id: SegmentId,
    /// Its scheme.
    pub scheme: Scheme,
    /// Whether it is sealed; an open one may grow behind `rows`.
    pub sealed: bool,
    /// Rows in use.
    pub rows: Row,
    /// Blocks that a map or a parent page points to.
    pub live: u32,
    /// Its columns, one per data and parity chunk.
    pub columns: Vec<ColumnState>,
}

/// A range of a volume that a trim has emptied but whose map entries are not all removed yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tombstone {
    /// The trim: it hides what was born before.
    pub number: Number,
    /// The first block still to be removed.
    pub lba: Lba,
    /// How many.
    pub blocks: u64,
}

/// A row of the volume table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeRecord {
    /// The volume.
    pub id: VolumeId,
    /// Its name.
    pub name: String,
    /// Its scheme.
    pub scheme: Scheme,
    /// Its size in blocks.
    pub blocks: u64,
    /// The map holds its history up to here.
    pub number: Number,
    /// Blocks that its map points to.
    pub used: u64,
    /// Its map.
    pub root: Option<Root>,
    /// A deleted volume stays until its blocks are counted out.
    pub deleted: bool,
    /// Trims not yet worked off, oldest first.
    pub tombstones: Vec<Tombstone>,
}

/// A range of a volume that is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DamageRecord {
    /// The volume.
    pub volume: VolumeId,
    /// The first lost block.
    pub lba: Lba,
    /// How many.
    pub blocks: u32,
    /// What destroyed it.
    pub cause: DamageCause,
    /// When, in seconds since 1970.
    pub time: u64,
}

/// Why a range is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DamageCause {
    /// More columns of a row were unreadable or wrong than the scheme tolerates.
    BeyondTolerance,
    /// Records that no checkpoint covered were lost, or may have been, because nobody could tell: `lba` is the first
    /// lost number, `blocks` how many.
    LostRecords,
}
