//! The page: a node of every tree, one block. And the pointer, which is the value in maps and inner pages.
//!
//! Invariants, asserted when a page is encoded and verified when one is decoded: the level is below
//! [`LEVELS_MAX`]; at most [`PAGE_ENTRIES`] keys ascend from `low` to below `high`; an inner page has
//! entries, and its first key is `low`.

use crate::error::{Error, Result};
use crate::format::wire::{Check, Reader, Writer, count, ensure};
use crate::types::{BLOCK, Column, Place, Pointer, Row, SegmentId, VolumeId};

/// A key: for a map (LBA, birth), for the tables see [`crate::format::tables`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Key(pub u64, pub u64);

/// A value: in a map and in an inner page an encoded [`Pointer`].
pub type Value = [u8; 16];

/// Entries of a full page.
pub const PAGE_ENTRIES: usize = 126;
/// Levels of a tree: bounds every descent. Half-full pages reach 2^51 entries with nine.
pub const LEVELS_MAX: u8 = 16;
/// No volume has this number or a larger one: [`TreeId::number`] keeps volumes and trees apart.
pub const VOLUME_IDS_END: u32 = 0x7FFF_FFF0;

const MAGIC: [u8; 4] = *b"PTpg";
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 32;
/// Stands for a `high` of `None`. It is above every key, because no key may be equal to it.
const NO_HIGH: Key = Key(u64::MAX, u64::MAX);

const _: () = assert!(HEADER_BYTES + PAGE_ENTRIES * ENTRY_BYTES == BLOCK);

/// Which tree a page belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TreeId {
    /// The map of a volume.
    Map(VolumeId),
    /// The segment table.
    Segments,
    /// The volume table.
    Volumes,
    /// The damage list.
    Damage,
}

/// A node of a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The tree.
    pub tree: TreeId,
    /// 0 for a leaf.
    pub level: u8,
    /// The checkpoint that wrote it.
    pub generation: u64,
    /// No key in it is smaller.
    pub low: Key,
    /// Every key in it is smaller; `None` when it is the last of its level.
    pub high: Option<Key>,
    /// Sorted, distinct. In an inner page each key is the low key of a child, the first equal to `low`.
    pub entries: Vec<(Key, Value)>,
}

impl TreeId {
    const MAP: u32 = 0x8000_0000;
    const SEGMENTS: u32 = 0xFFFF_FFF0;
    const VOLUMES: u32 = 0xFFFF_FFF1;
    const DAMAGE: u32 = 0xFFFF_FFF2;

    /// The tree as the owner in a page's [`crate::types::Identity`]. It is no volume's number, so that a page
    /// never passes for user data.
    ///
    /// # Panics
    ///
    /// If the map's volume is 0 or not below [`VOLUME_IDS_END`].
    pub fn number(self) -> u32 {
        match self {
            TreeId::Map(VolumeId(volume)) => {
                assert!((1..VOLUME_IDS_END).contains(&volume), "no volume has the number {volume}");
                TreeId::MAP | volume
            }
            TreeId::Segments => TreeId::SEGMENTS,
            TreeId::Volumes => TreeId::VOLUMES,
            TreeId::Damage => TreeId::DAMAGE,
        }
    }

    /// The tree with this number; `None` if there is none.
    pub fn from_number(number: u32) -> Option<TreeId> {
        match number {
            TreeId::SEGMENTS => Some(TreeId::Segments),
            TreeId::VOLUMES => Some(TreeId::Volumes),
            TreeId::DAMAGE => Some(TreeId::Damage),
            _ => {
                let volume = number.checked_sub(TreeId::MAP)?;
                (1..VOLUME_IDS_END).contains(&volume).then_some(TreeId::Map(VolumeId(volume)))
            }
        }
    }
}

impl Page {
    /// The page as one block.
    ///
    /// # Panics
    ///
    /// If an invariant of the page is broken: such a page could not be read back.
    pub fn encode(&self) -> Vec<u8> {
        if let Err(broken) = self.check() {
            panic!("a page of {:?}, level {}: {broken}", self.tree, self.level);
        }
        let high = self.high.unwrap_or(NO_HIGH);
        let mut writer = Writer::with_capacity(BLOCK);
        writer.bytes(&MAGIC);
        writer.u32(self.tree.number());
        writer.u8(self.level);
        writer.u8(count(self.entries.len()));
        writer.zeros(6);
        writer.u64(self.generation);
        for half in [self.low.0, self.low.1, high.0, high.1] {
            writer.u64(half);
        }
        writer.zeros(8);
        for (key, value) in &self.entries {
            writer.u64(key.0);
            writer.u64(key.1);
            writer.bytes(value);
        }
        writer.pad(BLOCK);
        writer.into_bytes()
    }

    /// The page that a block holds. A page carries no checksum of its own: whoever reads it has compared the
    /// block with the pointer in its parent before (rule 6).
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Corrupt`] if the block is no page or a page that breaks an invariant.
    pub fn decode(block: &[u8]) -> Result<Page> {
        let mut reader = Reader::new("page", block);
        if block.len() != BLOCK {
            return Err(reader.corrupt("length", format_args!("{} bytes, not {BLOCK}", block.len())));
        }
        if reader.array("magic")? != MAGIC {
            return Err(reader.corrupt("magic", "not a page"));
        }
        let number = reader.u32("tree")?;
        let tree = TreeId::from_number(number)
            .ok_or_else(|| reader.corrupt("tree", format_args!("no tree has the number {number:#x}")))?;
        let level = reader.u8("level")?;
        let entries = usize::from(reader.u8("entries")?);
        reader.zeros(6)?;
        let generation = reader.u64("generation")?;
        let low = Key(reader.u64("low")?, reader.u64("low")?);
        let high = Key(reader.u64("high")?, reader.u64("high")?);
        let high = (high != NO_HIGH).then_some(high);
        reader.zeros(8)?;
        let mut page = Page { tree, level, generation, low, high, entries: Vec::new() };
        page.entries.reserve_exact(entries);
        for _ in 0..entries {
            let key = Key(reader.u64("key")?, reader.u64("key")?);
            page.entries.push((key, reader.array("value")?));
        }
        reader.zeros_to_end()?;
        page.check().map_err(|broken| reader.corrupt("page", broken))?;
        Ok(page)
    }

    fn check(&self) -> Check {
        let keys = || self.entries.iter().map(|entry| entry.0);
        ensure(self.level < LEVELS_MAX, "a tree has at most 16 levels")?;
        ensure(self.entries.len() <= PAGE_ENTRIES, "a page has at most 126 entries")?;
        ensure(self.high != Some(NO_HIGH), "the largest key is no fence")?;
        let high = self.high.unwrap_or(NO_HIGH);
        ensure(self.low < high, "the low fence is below the high one")?;
        ensure(keys().is_sorted_by(|a, b| a < b), "keys ascend")?;
        ensure(keys().next().is_none_or(|first| first >= self.low), "no key is below the low fence")?;
        ensure(keys().next_back().is_none_or(|last| last < high), "every key is below the high fence")?;
        ensure(
            self.level == 0 || keys().next() == Some(self.low),
            "an inner page begins with a child at its low fence",
        )
    }
}

impl Pointer {
    /// The pointer as the value of an entry.
    pub fn to_value(&self) -> Value {
        let mut value = Value::default();
        value[..8].copy_from_slice(&self.place.segment.0.to_le_bytes());
        value[8..10].copy_from_slice(&self.place.row.0.to_le_bytes());
        value[10] = self.place.column.0;
        value[11] = self.back;
        value[12..].copy_from_slice(&self.crc.to_le_bytes());
        value
    }

    /// The pointer that a value holds.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Corrupt`] if the value can be no pointer: its column is 255, or it reaches back
    /// to no row or beyond row 0.
    pub fn from_value(value: &Value) -> Result<Pointer> {
        let mut reader = Reader::new("pointer", value);
        let segment = SegmentId(reader.u64("segment")?);
        let row = Row(reader.u16("row")?);
        let column = Column(reader.u8("column")?);
        let pointer = Pointer {
            place: Place { segment, row, column },
            back: reader.u8("back")?,
            crc: reader.u32("crc")?,
        };
        if column.0 == u8::MAX || pointer.back == 0 || u16::from(pointer.back) > row.0 {
            return Err(Error::corrupt(format!("pointer: {pointer:?} names no block")));
        }
        Ok(pointer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(keys: &[u64]) -> Page {
        Page {
            tree: TreeId::Map(VolumeId(7)),
            level: 0,
            generation: 3,
            low: Key(10, 0),
            high: Some(Key(20, 0)),
            entries: keys.iter().map(|&lba| (Key(lba, 1), [u8::try_from(lba).expect("small"); 16])).collect(),
        }
    }

    fn refused(block: &[u8], at: usize, value: u8) -> bool {
        let mut broken = block.to_vec();
        assert_ne!(broken[at], value);
        broken[at] = value;
        Page::decode(&broken).is_err()
    }

    #[test]
    fn pages_come_back_as_they_were() {
        let full = Page {
            tree: TreeId::Damage,
            low: Key(0, 0),
            high: None,
            entries: (0..126).map(|i| (Key(u64::MAX, i), [1; 16])).collect(),
            ..leaf(&[])
        };
        let inner = Page { level: 15, low: Key(11, 1), ..leaf(&[11, 12]) };
        for page in [leaf(&[]), leaf(&[10, 19]), full, inner] {
            assert_eq!(Page::decode(&page.encode()).expect("sound"), page);
        }
    }

    #[test]
    fn a_page_whose_keys_leave_order_or_fences_is_corrupt() {
        let block = leaf(&[10, 11, 12]).encode();
        let key = |i: usize| HEADER_BYTES + i * ENTRY_BYTES;
        assert!(refused(&block, key(0), 9), "below low");
        assert!(refused(&block, key(0), 12), "not ascending");
        assert!(refused(&block, key(1), 12), "equal but for the second half");
        assert!(refused(&block, key(2), 20), "not below high");
        assert!(refused(&block, 40, 10), "high not above the keys");
        assert!(refused(&leaf(&[]).encode(), 40, 10), "high not above low");
    }

    #[test]
    fn an_inner_page_begins_at_its_low_fence_and_is_never_empty() {
        let mut block = leaf(&[10, 11]).encode();
        block[8] = 1;
        assert!(Page::decode(&block).is_err());
        let mut block = leaf(&[]).encode();
        block[8] = 1;
        assert!(Page::decode(&block).is_err());
    }

    #[test]
    fn a_tree_has_at_most_sixteen_levels() {
        let mut block = Page { level: 15, low: Key(10, 1), ..leaf(&[10]) }.encode();
        block[8] = 16;
        assert!(Page::decode(&block).is_err());
    }

    #[test]
    #[should_panic(expected = "at most 126 entries")]
    fn a_page_too_full_is_not_encoded() {
        let entries = (0..127).map(|i| (Key(10, i), [0; 16])).collect();
        Page { entries, ..leaf(&[]) }.encode();
    }

    #[test]
    #[should_panic(expected = "the largest key is no fence")]
    fn a_page_with_a_high_fence_that_would_be_read_as_none_is_not_encoded() {
        Page { high: Some(NO_HIGH), ..leaf(&[]) }.encode();
    }

    #[test]
    fn magic_tree_level_count_and_reserved_bytes_are_verified() {
        let block = leaf(&[10]).encode();
        for (at, value) in [(0, 0), (7, 0), (8, 16), (9, 127), (10, 1), (15, 1), (56, 1), (96, 1), (4095, 1)]
        {
            assert!(refused(&block, at, value), "byte {at}");
        }
        assert!(Page::decode(&block[..4095]).is_err());
        assert!(Page::decode(&[block, vec![0]].concat()).is_err());
    }

    #[test]
    #[should_panic(expected = "keys ascend")]
    fn a_page_out_of_order_is_not_encoded() {
        leaf(&[12, 11]).encode();
    }

    #[test]
    fn no_tree_has_the_number_of_a_volume_or_of_another_tree() {
        let trees = [1, 2, VOLUME_IDS_END - 1].map(|volume| TreeId::Map(VolumeId(volume)));
        let mut numbers = Vec::new();
        for tree in trees.into_iter().chain([TreeId::Segments, TreeId::Volumes, TreeId::Damage]) {
            assert_eq!(TreeId::from_number(tree.number()), Some(tree));
            assert!(tree.number() >= VOLUME_IDS_END);
            numbers.push(tree.number());
        }
        assert!(numbers.is_sorted_by(|a, b| a < b));
        for nothing in [0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFEF + 4, u32::MAX] {
            assert_eq!(TreeId::from_number(nothing), None, "{nothing:#x}");
        }
    }

    #[test]
    fn pointers_come_back_as_they_were() {
        let place = Place { segment: SegmentId(0x0102_0304_0506_0708), row: Row(0x0A09), column: Column(11) };
        let pointer = Pointer { place, back: 12, crc: 0x100F_0E0D };
        assert_eq!(pointer.to_value(), [8, 7, 6, 5, 4, 3, 2, 1, 9, 10, 11, 12, 13, 14, 15, 16]);
        assert_eq!(Pointer::from_value(&pointer.to_value()).expect("sound"), pointer);
    }

    #[test]
    fn a_pointer_that_reaches_no_header_is_corrupt() {
        let place = Place { segment: SegmentId(1), row: Row(5), column: Column(254) };
        for (back, sound) in [(0, false), (1, true), (5, true), (6, false)] {
            let value = Pointer { place, back, crc: 0 }.to_value();
            assert_eq!(Pointer::from_value(&value).is_ok(), sound, "{back}");
        }
        let place = Place { column: Column(255), ..place };
        assert!(Pointer::from_value(&Pointer { place, back: 1, crc: 0 }.to_value()).is_err());
    }
}
