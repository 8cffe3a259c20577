//! Writing a record.

use crate::checksum::crc64_around;
use crate::error::{Error, Result};
use crate::format::record::header::{COLUMN_AT, CRC_AT, MAGIC, VERSION};
use crate::format::record::plan::stream_at;
use crate::format::record::{Plan, Record, stream};
use crate::format::superblock::ChunkAddress;
use crate::format::wire::{Writer, count};
use crate::types::{BLOCK, Chunk, Column, Slot};

/// Stands for the slot of an absent column.
pub(super) const ABSENT: u8 = u8::MAX;

/// A record whose description is encoded, but whose description rows have no witnesses yet.
#[derive(Clone, Debug)]
pub struct Draft {
    columns: Vec<Option<ChunkAddress>>,
    /// How many witnesses the headers wait for.
    witnesses: usize,
    /// The header up to the witnesses: checksum and column zero.
    head: Vec<u8>,
    /// The stream, padded: what goes into the header, then whole blocks.
    stream: Vec<u8>,
    /// Bytes of the stream that go into the header.
    inline: usize,
}

/// The headers of a record, one for every column.
#[derive(Clone, Debug)]
pub struct Headers {
    columns: Vec<Option<ChunkAddress>>,
    block: Vec<u8>,
}

impl Record {
    /// Encodes the description. Of the witnesses, those of the description rows may still be anything.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Invalid`], naming the rule, if the record could not be read back: a bound does
    /// not hold, it contradicts itself, or its rows are not as [`Plan`] says.
    pub fn draft(&self) -> Result<Draft> {
        let invalid = |broken: String| Error::invalid(format!("record {}: {broken}", self.sequence));
        self.check_header().map_err(invalid)?;
        let preamble = stream::preamble_bytes(&self.intervals, &self.changes);
        let plan = Plan::of_rows(self.scheme, self.rows, preamble)
            .filter(|plan| plan.description_rows == self.description_rows)
            .ok_or_else(|| invalid("broken rule: the rows are as planned".to_owned()))?;
        self.check_description(plan).map_err(invalid)?;

        let head = self.head(preamble);
        let inline = BLOCK - stream_at(self.scheme, self.description_rows);
        let room = inline + plan.description_blocks * BLOCK;
        let mut writer = Writer::with_capacity(room);
        self.put_stream(plan, &mut writer);
        writer.zeros(room.checked_sub(writer.len()).expect("the plan has room for the stream"));
        let witnesses = self.witnesses.len() - self.witnesses_behind().len();
        Ok(Draft { columns: self.columns.clone(), witnesses, head, stream: writer.into_bytes(), inline })
    }

    fn witnesses_behind(&self) -> &[u64] {
        &self.witnesses[usize::from(self.description_rows) * usize::from(self.scheme.width())..]
    }

    fn put_stream(&self, plan: Plan, writer: &mut Writer) {
        self.intervals.iter().for_each(|interval| interval.put(writer));
        self.changes.iter().for_each(|change| change.put(writer));
        self.entries[plan.description_blocks..].iter().for_each(|entry| entry.put(writer));
        self.witnesses_behind().iter().for_each(|&witness| writer.u64(witness));
    }

    fn head(&self, preamble: usize) -> Vec<u8> {
        let mut writer = Writer::with_capacity(BLOCK);
        writer.bytes(&MAGIC);
        writer.u64(0);
        writer.bytes(&self.array.0);
        writer.u64(self.segment.0);
        writer.u64(self.epoch.0);
        writer.u64(self.nonce.0);
        writer.u64(self.sequence.0);
        writer.u64(self.group.0.0);
        writer.u64(self.group.1.0);
        writer.u16(self.row.0);
        writer.u8(self.rows);
        writer.u8(self.description_rows);
        writer.scheme(self.scheme);
        writer.u8(0);
        writer.u8(VERSION);
        writer.u32(self.chunk_blocks);
        writer.u32(count(preamble));
        writer.u32(count(self.intervals.len()));
        writer.u32(count(self.changes.len()));
        for column in &self.columns {
            let at = column.unwrap_or(ChunkAddress { slot: Slot(ABSENT), chunk: Chunk(0) });
            writer.u8(at.slot.0);
            writer.u32(at.chunk.0);
        }
        writer.into_bytes()
    }
}

impl Draft {
    /// The description blocks, in the order of their places: row by row, data column by data column.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.stream[self.inline..].chunks_exact(BLOCK)
    }

    /// The headers, given the witnesses of all blocks of the description rows, row by row.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Invalid`] if these are not as many as the description rows have blocks.
    pub fn seal(&self, witnesses: &[u64]) -> Result<Headers> {
        if witnesses.len() != self.witnesses {
            let text =
                format!("{} witnesses for {} blocks of description rows", witnesses.len(), self.witnesses);
            return Err(Error::invalid(text));
        }
        let mut writer = Writer::with_capacity(BLOCK);
        writer.bytes(&self.head);
        witnesses.iter().for_each(|&witness| writer.u64(witness));
        writer.bytes(&self.stream[..self.inline]);
        debug_assert_eq!(writer.len(), BLOCK);
        Ok(Headers { columns: self.columns.clone(), block: writer.into_bytes() })
    }
}

impl Headers {
    /// The header block of a column.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Invalid`] if the segment has no such column, or it is absent: a header lies in
    /// the chunk that its column table names. Whoever writes headers into a new chunk names that chunk first.
    pub fn column(&self, column: Column) -> Result<Vec<u8>> {
        if self.columns.get(usize::from(column.0)).copied().flatten().is_none() {
            return Err(Error::invalid(format!("column {column} has no chunk to hold a header")));
        }
        let mut block = self.block.clone();
        block[COLUMN_AT] = column.0;
        let crc = crc64_around(&block, CRC_AT);
        block[CRC_AT..CRC_AT + 8].copy_from_slice(&crc.to_le_bytes());
        Ok(block)
    }
}
