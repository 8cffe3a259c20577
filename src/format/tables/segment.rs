//! Segment table: key (segment, 0) says what the segment is, key (segment, 1 + column) where a column is.

use crate::error::{Error, Result};
use crate::format::page::{Key, Value};
use crate::format::superblock::ChunkAddress;
use crate::format::tables::{ColumnState, SegmentRecord};
use crate::format::wire::{Check, Reader, Writer, ensure};
use crate::limits::{CHUNK_BLOCKS_MAX, CHUNKS_MAX};
use crate::types::{Chunk, Column, Row, SegmentId, Slot};

const SEALED: u8 = 1;

const ABSENT: u8 = 0;
const COMPLETE: u8 = 1;
const PARTIAL: u8 = 2;

impl ColumnState {
    /// The chunk of the column, if it has one.
    pub fn address(&self) -> Option<ChunkAddress> {
        match *self {
            ColumnState::Complete(at) | ColumnState::Partial(at) => Some(at),
            ColumnState::Absent => None,
        }
    }

    fn value(&self) -> Value {
        let state = match self {
            ColumnState::Absent => return Value::default(),
            ColumnState::Complete(_) => COMPLETE,
            ColumnState::Partial(_) => PARTIAL,
        };
        let mut value = Value::default();
        if let Some(at) = self.address() {
            value[..2].copy_from_slice(&[state, at.slot.0]);
            value[4..8].copy_from_slice(&at.chunk.0.to_le_bytes());
        }
        value
    }

    fn from_value(value: &Value) -> Result<ColumnState> {
        let mut reader = Reader::new("segment column", value);
        let state = reader.u8("state")?;
        let slot = Slot(reader.u8("slot")?);
        reader.zeros(2)?;
        let at = ChunkAddress { slot, chunk: Chunk(reader.u32("chunk")?) };
        reader.zeros_to_end()?;
        match state {
            ABSENT if *value == Value::default() => Ok(ColumnState::Absent),
            COMPLETE => Ok(ColumnState::Complete(at)),
            PARTIAL => Ok(ColumnState::Partial(at)),
            _ => Err(reader.corrupt("state", format_args!("{state} with slot {slot}"))),
        }
    }
}

impl SegmentRecord {
    /// The smallest key of the segment's row.
    pub fn first_key(id: SegmentId) -> Key {
        Key(id.0, 0)
    }

    /// The largest key that the segment's row can have.
    pub fn last_key(id: SegmentId) -> Key {
        Key(id.0, 255)
    }

    /// The key of one column.
    pub fn column_key(id: SegmentId, column: Column) -> Key {
        Key(id.0, 1 + u64::from(column.0))
    }

    /// The row as entries, in the order of their keys.
    ///
    /// # Panics
    ///
    /// If it breaks a rule that [`SegmentRecord::from_entries`] verifies.
    pub fn entries(&self) -> Vec<(Key, Value)> {
        if let Err(broken) = self.check() {
            panic!("segment {}: {broken}", self.id);
        }
        let mut writer = Writer::with_capacity(16);
        writer.scheme(self.scheme);
        writer.u8(if self.sealed { SEALED } else { 0 });
        writer.zeros(1);
        writer.u16(self.rows.0);
        writer.zeros(2);
        writer.u32(self.live);
        writer.pad(16);
        let mut head = Value::default();
        head.copy_from_slice(&writer.into_bytes());
        let columns = self.scheme.columns().zip(&self.columns);
        let columns = columns.map(|(column, state)| (Self::column_key(self.id, column), state.value()));
        std::iter::once((Self::first_key(self.id), head)).chain(columns).collect()
    }

    /// The row that these entries are: all whose key begins with the segment, in order.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Corrupt`] if they are no row.
    pub fn from_entries(entries: &[(Key, Value)]) -> Result<SegmentRecord> {
        let [(Key(id, 0), head), columns @ ..] = entries else {
            return Err(Error::corrupt("segment table: a segment without its first entry"));
        };
        let id = SegmentId(*id);
        let mut reader = Reader::new("segment", head);
        let scheme = reader.scheme("scheme")?;
        let flags = reader.u8("flags")?;
        if flags & !SEALED != 0 {
            return Err(reader.corrupt("flags", format_args!("{flags:#x}")));
        }
        reader.zeros(1)?;
        let rows = Row(reader.u16("rows")?);
        reader.zeros(2)?;
        let live = reader.u32("live blocks")?;
        reader.zeros_to_end()?;
        if !columns
            .iter()
            .map(|entry| entry.0)
            .eq(scheme.columns().map(|column| Self::column_key(id, column)))
        {
            return Err(Error::corrupt(format!("segment {id}: not one entry per column of {scheme}")));
        }
        let columns = columns.iter().map(|entry| ColumnState::from_value(&entry.1)).collect::<Result<_>>()?;
        let record = SegmentRecord { id, scheme, sealed: flags & SEALED != 0, rows, live, columns };
        record.check().map_err(|broken| Error::corrupt(format!("segment {id}: {broken}")))?;
        Ok(record)
    }

    pub(in crate::format) fn check(&self) -> Check {
        ensure(self.columns.len() == usize::from(self.scheme.width()), "a segment has k+m columns")?;
        ensure(u32::from(self.rows.0) <= CHUNK_BLOCKS_MAX, "a segment has at most 32768 rows")?;
        ensure(
            self.live <= CHUNK_BLOCKS_MAX * u32::from(self.scheme.k()),
            "no more blocks are live than a segment holds",
        )?;
        let mut taken = [false; 256];
        for at in self.columns.iter().filter_map(ColumnState::address) {
            ensure(at.slot.0 != u8::MAX, "slot 255 is no member")?;
            ensure(u64::from(at.chunk.0) < CHUNKS_MAX, "a member has at most 2^20 chunks")?;
            let before = std::mem::replace(&mut taken[usize::from(at.slot.0)], true);
            ensure(!before, "the columns of a segment are on different members")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Scheme;

    fn at(slot: u8) -> ChunkAddress {
        ChunkAddress { slot: Slot(slot), chunk: Chunk(0x0003_0201) }
    }

    fn segment() -> SegmentRecord {
        SegmentRecord {
            id: SegmentId(9),
            scheme: Scheme::new(2, 1).expect("sound"),
            sealed: true,
            rows: Row(0x0708),
            live: 0x0201,
            columns: vec![ColumnState::Complete(at(254)), ColumnState::Partial(at(4)), ColumnState::Absent],
        }
    }

    #[test]
    fn a_row_is_an_entry_for_the_segment_and_one_per_column() {
        let entries = segment().entries();
        assert_eq!(entries[0], (Key(9, 0), [2, 1, 1, 0, 8, 7, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0]));
        assert_eq!(entries[1], (Key(9, 1), [1, 254, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(entries[2], (Key(9, 2), [2, 4, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(entries[3], (Key(9, 3), [0; 16]));
        assert_eq!(SegmentRecord::from_entries(&entries).expect("sound"), segment());
        let widest = SegmentRecord {
            scheme: Scheme::new(1, 254).expect("sound"),
            columns: (0..255).map(|slot| ColumnState::Complete(at(slot))).collect(),
            ..segment()
        };
        assert_eq!(widest.entries()[255].0, SegmentRecord::last_key(widest.id));
        assert_eq!(SegmentRecord::from_entries(&widest.entries()).expect("sound"), widest);
    }

    #[test]
    fn a_row_with_missing_or_foreign_entries_is_corrupt() {
        let entries = segment().entries();
        for len in 0..4 {
            assert!(SegmentRecord::from_entries(&entries[..len]).is_err());
        }
        assert!(SegmentRecord::from_entries(&entries[1..]).is_err());
        let mut more = entries.clone();
        more.push((Key(9, 4), [0; 16]));
        assert!(SegmentRecord::from_entries(&more).is_err());
        let mut foreign = entries;
        foreign[2].0 = Key(10, 2);
        assert!(SegmentRecord::from_entries(&foreign).is_err());
    }

    #[test]
    fn values_out_of_bounds_are_corrupt() {
        let entries = segment().entries();
        let bytes = [(0, 0, 0), (0, 2, 2), (0, 3, 1), (0, 5, 0x81), (0, 10, 1), (0, 15, 1)];
        let columns =
            [(1, 0, 3), (1, 0, 0), (1, 1, 255), (1, 1, 4), (1, 2, 1), (1, 7, 1), (1, 8, 1), (3, 1, 1)];
        for (entry, at, value) in bytes.into_iter().chain(columns) {
            let mut broken = entries.clone();
            assert_ne!(broken[entry].1[at], value);
            broken[entry].1[at] = value;
            assert!(SegmentRecord::from_entries(&broken).is_err(), "entry {entry} byte {at}");
        }
    }

    #[test]
    #[should_panic(expected = "k+m columns")]
    fn a_segment_without_all_its_columns_is_not_written() {
        SegmentRecord { columns: vec![ColumnState::Absent; 2], ..segment() }.entries();
    }

    #[test]
    #[should_panic(expected = "different members")]
    fn a_segment_with_two_columns_on_a_member_is_not_written() {
        SegmentRecord { columns: vec![ColumnState::Complete(at(4)); 3], ..segment() }.entries();
    }
}
