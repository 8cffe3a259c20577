//! Newtypes for every coordinate of the engine. Arithmetic between different ones exists only through
//! named functions.

use std::fmt;
use std::ops::Range;

/// Bytes in a block: the unit of checksum, mapping and reconstruction.
pub const BLOCK: usize = 4096;
/// [`BLOCK`] for arithmetic on byte offsets.
pub const BLOCK_U64: u64 = BLOCK as u64;
/// Bytes of the unit in which users address a volume; blocks are faster.
pub const SECTOR_U64: u64 = 512;

macro_rules! coordinate {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $inner);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

coordinate!(
    /// Address of a block in a volume, in blocks.
    Lba(u64)
);
coordinate!(
    /// A volume for its whole life; never reused. There is no volume 0.
    VolumeId(u32)
);
coordinate!(
    /// The position of a write, trim or resize in the history of its volume. 0 is "before the first".
    Number(u64)
);
coordinate!(
    /// A place in the member table. At most [`crate::limits::MEMBERS_MAX`].
    Slot(u8)
);
coordinate!(
    /// A chunk of one member, counted from the one behind superblock ring A.
    Chunk(u32)
);
coordinate!(
    /// A segment for its whole life; never reused.
    SegmentId(u64)
);
coordinate!(
    /// One of the k+m chunks of a segment: data columns first, then parity.
    Column(u8)
);
coordinate!(
    /// A block's place in its chunk, in blocks.
    Row(u16)
);
coordinate!(
    /// Raised whenever the set of members in use changes and at every opening for writing.
    Epoch(u64)
);
coordinate!(
    /// Random mark of one opening: tells its records from all others, whatever a chunk held before.
    Nonce(u64)
);

impl Nonce {
    /// That of no opening: in a checkpoint it says that nothing follows.
    pub const NONE: Nonce = Nonce(0);

    /// The mark of an opening, from 64 random bits.
    pub fn from_random(random: u64) -> Nonce {
        Nonce(random.max(1))
    }
}

coordinate!(
    /// Position of a record in the log.
    Sequence(u64)
);

impl Lba {
    /// The address `blocks` further on.
    pub fn plus(self, blocks: u64) -> Lba {
        Lba(self.0 + blocks)
    }

    /// Which of the `count` blocks from here on are among the `blocks` ones from `first` on, counted from here.
    pub fn which(self, count: usize, first: Lba, blocks: u64) -> Range<usize> {
        let until = |lba: u64| usize::try_from(lba.saturating_sub(self.0)).map_or(count, |at| at.min(count));
        until(first.0)..until(first.0.saturating_add(blocks))
    }
}

impl Number {
    /// The number after this one.
    pub fn next(self) -> Number {
        Number(self.0 + 1)
    }
}

impl Sequence {
    /// The sequence number after this one.
    pub fn next(self) -> Sequence {
        Sequence(self.0 + 1)
    }
}

impl Row {
    /// The row `rows` further on. A chunk has at most [`crate::limits::CHUNK_BLOCKS_MAX`] rows.
    pub fn plus(self, rows: u16) -> Row {
        Row(self.0 + rows)
    }
}

/// A 128-bit random identity, printed as a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// A version 4 UUID from 128 random bits.
    pub fn from_random(bits: u128) -> Uuid {
        let mut bytes = bits.to_le_bytes();
        bytes[6] = (bytes[6] & 0x0F) | 0x40;
        bytes[8] = (bytes[8] & 0x3F) | 0x80;
        Uuid(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `k` data and `m` parity columns. A mirror of c copies is 1+(c-1), plain striping is m = 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Scheme {
    k: u8,
    m: u8,
}

impl Scheme {
    /// `None` unless 1 <= k and k+m <= 255.
    pub fn new(k: u8, m: u8) -> Option<Scheme> {
        (k >= 1 && k.checked_add(m).is_some()).then_some(Scheme { k, m })
    }
    /// Two copies.
    pub const MIRROR: Scheme = Scheme { k: 1, m: 1 };
    /// Data columns.
    pub fn k(self) -> u8 {
        self.k
    }
    /// Parity columns: how many columns of a segment may be lost.
    pub fn m(self) -> u8 {
        self.m
    }
    /// Columns, k+m.
    pub fn width(self) -> u8 {
        self.k + self.m
    }
    /// All columns, data first.
    pub fn columns(self) -> impl Iterator<Item = Column> {
        (0..self.width()).map(Column)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.k, self.m) {
            (k, 0) if k > 1 => write!(f, "stripe of {k}"),
            (1, 0) => f.write_str("single"),
            (1, 1) => f.write_str("mirror"),
            (1, m) => write!(f, "mirror{}", u16::from(m) + 1),
            (k, m) => write!(f, "{k}+{m}"),
        }
    }
}

/// A block's place in the log: which block of which column of which segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The segment.
    pub segment: SegmentId,
    /// The row in the segment's chunks.
    pub row: Row,
    /// The column.
    pub column: Column,
}

/// Where a block is, how far back its record's header lies, and what its bytes must sum to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Pointer {
    /// The block's place.
    pub place: Place,
    /// Rows back to the header of the record that holds it (1 for the first row of a record).
    pub back: u8,
    /// CRC-32 of the block, mixed with its identity ([`crate::checksum::pointer_crc`]).
    pub crc: u32,
}

impl Pointer {
    /// The row of the header of the record that holds the block.
    pub fn header_row(&self) -> Row {
        Row(self.place.row.0 - u16::from(self.back))
    }
}

/// What a block is: the part of its identity that its checksum is mixed with. It stays the same when the
/// cleaner moves the block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// For data: the volume. For pages: the tree ([`crate::format::page::TreeId`]).
    pub owner: u32,
    /// For data: the address. For pages: the level, 0 for a leaf.
    pub lba: Lba,
    /// For data: the number that wrote it. For pages: [`Number`] 0.
    pub birth: Number,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_to_the_blocks_that_are_asked_for() {
        let which = |first, blocks| Lba(10).which(5, Lba(first), blocks);
        assert_eq!(which(0, 100), 0..5);
        assert_eq!(which(12, 1), 2..3);
        assert_eq!(which(8, 3), 0..1);
        assert_eq!(which(14, u64::MAX), 4..5);
        for (first, blocks) in [(0, 10), (15, 1), (12, 0), (u64::MAX, 1)] {
            assert!(which(first, blocks).is_empty(), "{first} {blocks}");
        }
    }
}
