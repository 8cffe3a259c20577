//! Reading a record: first the header of any column, then the description.

use crate::checksum::{crc64_around, witness};
use crate::error::{Error, Kind, Result};
use crate::format::record::draft::ABSENT;
use crate::format::record::{Change, Entry, Interval, Owner, Plan, Record};
use crate::format::superblock::ChunkAddress;
use crate::format::wire::Reader;
use crate::types::{BLOCK, Chunk, Column, Epoch, Nonce, Row, SegmentId, Sequence, Slot, Uuid};
use crate::zoo::{Bug, planted};

pub(super) const MAGIC: [u8; 8] = *b"PARITASr";
pub(super) const CRC_AT: usize = 8;
pub(super) const COLUMN_AT: usize = 86;
/// The format's major version ([`crate::format::superblock::MAJOR`]), for those who have no superblock.
pub(super) const VERSION: u8 = 1;

const _: () = assert!(VERSION as u16 == crate::format::superblock::MAJOR);

/// Where a header is expected to have been read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// The array.
    pub array: Uuid,
    /// The segment.
    pub segment: SegmentId,
    /// The column.
    pub column: Column,
    /// The row.
    pub row: Row,
}

/// What the header of one column tells by itself: enough to read and reconstruct the description blocks,
/// and, with them, to finish the record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderPart {
    /// The column whose header it is.
    pub column: Column,
    /// The record as far as it goes: intervals, changes and entries are empty, and of the witnesses there are
    /// only those of the description rows.
    pub record: Record,
    plan: Plan,
    intervals: usize,
    changes: usize,
    pub(super) preamble: usize,
    pub(super) inline: Vec<u8>,
}

impl HeaderPart {
    /// Reads a header block.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`] if the block is no header. [`Kind::Corrupt`] if it is a damaged one or one that
    /// contradicts itself. [`Kind::Refused`] if it is sound but not the `expected` one, or of a format that
    /// this version does not understand.
    pub fn decode(block: &[u8], expected: Option<Expected>) -> Result<HeaderPart> {
        let mut reader = Reader::new("record header", block);
        if block.len() != BLOCK {
            return Err(reader.corrupt("length", format_args!("{} bytes, not {BLOCK}", block.len())));
        }
        if reader.array("magic")? != MAGIC {
            return Err(Error::new(Kind::NotFound, "no record header here"));
        }
        let is_whole = reader.u64("checksum")? == crc64_around(block, CRC_AT);
        if !is_whole && !planted(Bug::HeaderUnchecked) {
            return Err(reader.corrupt("checksum", "the header is damaged or torn"));
        }
        let part = HeaderPart::take(reader)?;
        let found = part.found();
        match expected {
            Some(expected) if expected != found && !planted(Bug::HeaderMisplaced) => {
                let text = format!("record header: {expected:?} wanted, {found:?} found");
                Err(Error::new(Kind::Refused, text))
            }
            _ => Ok(part),
        }
    }

    fn found(&self) -> Expected {
        let Record { array, segment, row, .. } = self.record;
        Expected { array, segment, column: self.column, row }
    }

    /// Everything behind the checksum.
    fn take(mut reader: Reader<'_>) -> Result<HeaderPart> {
        let reader = &mut reader;
        let array = Uuid(reader.array("array")?);
        let segment = SegmentId(reader.u64("segment")?);
        let epoch = Epoch(reader.u64("epoch")?);
        let nonce = Nonce(reader.u64("nonce")?);
        let sequence = Sequence(reader.u64("sequence")?);
        let group = (Sequence(reader.u64("group first")?), Sequence(reader.u64("group last")?));
        let row = Row(reader.u16("row")?);
        let rows = reader.u8("rows")?;
        let description_rows = reader.u8("description rows")?;
        let scheme = reader.scheme("scheme")?;
        let column = Column(reader.u8("column")?);
        let version = reader.u8("version")?;
        if version != VERSION {
            let text =
                format!("record header: format {version}, this version of paritas reads {VERSION} only");
            return Err(Error::new(Kind::Refused, text));
        }
        let chunk_blocks = reader.u32("chunk blocks")?;
        let preamble = reader.length("length of intervals and changes")?;
        let intervals = reader.length("intervals")?;
        let changes = reader.length("changes")?;
        let columns = scheme.columns().map(|_| take_column(reader)).collect::<Result<Vec<_>>>()?;
        if columns.get(usize::from(column.0)).copied().flatten().is_none() {
            return Err(
                reader.corrupt("column", format_args!("column {column} has no chunk to hold a header"))
            );
        }
        let plan = Plan::of_rows(scheme, rows, preamble)
            .filter(|plan| plan.description_rows == description_rows)
            .ok_or_else(|| reader.corrupt("description rows", "not as the record's size demands"))?;
        let blocks = usize::from(description_rows) * usize::from(scheme.width());
        let witnesses = (0..blocks).map(|_| reader.u64("witness")).collect::<Result<_>>()?;
        let inline = reader.bytes("description", reader.left())?.to_vec();
        let record = Record {
            array,
            chunk_blocks,
            segment,
            scheme,
            columns,
            row,
            rows,
            description_rows,
            epoch,
            nonce,
            sequence,
            group,
            intervals: Vec::new(),
            changes: Vec::new(),
            entries: Vec::new(),
            witnesses,
        };
        record.check_header().map_err(|broken| reader.corrupt("header", broken))?;
        Ok(HeaderPart { column, record, plan, intervals, changes, preamble, inline })
    }

    /// How many description blocks [`HeaderPart::finish`] needs: the first ones of the data columns, row by
    /// row.
    pub fn needs(&self) -> usize {
        self.plan.description_blocks
    }

    /// The record, given its description blocks; none when it needs none.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`] if these are not as many whole blocks as [`HeaderPart::needs`] says.
    /// [`Kind::Corrupt`] if one does not match its witness (the message names it), or the description
    /// contradicts itself.
    pub fn finish(&self, description_blocks: &[impl AsRef<[u8]>]) -> Result<Record> {
        if description_blocks.len() != self.needs() {
            let text = format!("{} description blocks for {}", description_blocks.len(), self.needs());
            return Err(Error::invalid(text));
        }
        let mut stream = Vec::with_capacity(self.inline.len() + self.needs() * BLOCK);
        stream.extend_from_slice(&self.inline);
        for (block, (row, column)) in description_blocks.iter().zip(self.data_places()) {
            let block = block.as_ref();
            if block.len() != BLOCK {
                return Err(Error::invalid(format!("a description block of {} bytes", block.len())));
            }
            if witness(block) != self.record.witness(row, column) {
                let text =
                    format!("description block in row {row}, column {column} does not match its witness");
                return Err(Error::corrupt(text));
            }
            stream.extend_from_slice(block);
        }
        self.take_stream(&stream)
    }

    /// The places of the data-column blocks, row by row.
    fn data_places(&self) -> impl Iterator<Item = (u8, Column)> {
        let k = self.record.scheme.k();
        (0..self.record.rows).flat_map(move |row| (0..k).map(move |column| (row, Column(column))))
    }

    fn take_stream(&self, stream: &[u8]) -> Result<Record> {
        let mut reader = Reader::new("record description", stream);
        let mut record = self.record.clone();
        // These counts are as hostile as all else: every interval and change is read from these bytes alone.
        let mut preamble = Reader::new("record description", reader.bytes("preamble", self.preamble)?);
        (record.intervals, record.changes) = self.take_preamble(&mut preamble)?;
        let cells = usize::from(record.rows) * usize::from(record.scheme.k());
        record.entries.reserve_exact(cells);
        record.entries.resize(self.needs(), Entry { owner: Owner::Description, crc: 0 });
        for _ in self.needs()..cells {
            record.entries.push(Entry::take(&mut reader)?);
        }
        let blocks = usize::from(record.rows) * usize::from(record.scheme.width());
        record.witnesses.reserve_exact(blocks - record.witnesses.len());
        for _ in record.witnesses.len()..blocks {
            record.witnesses.push(reader.u64("witness")?);
        }
        reader.zeros_to_end()?;
        record.check_description(self.plan).map_err(|broken| reader.corrupt("description", broken))?;
        Ok(record)
    }

    /// Intervals and changes, which take all bytes of the reader.
    pub(super) fn take_preamble(&self, reader: &mut Reader<'_>) -> Result<(Vec<Interval>, Vec<Change>)> {
        let intervals = (0..self.intervals).map(|_| Interval::take(reader)).collect::<Result<_>>()?;
        let changes = (0..self.changes).map(|_| Change::take(reader)).collect::<Result<_>>()?;
        if reader.left() > 0 {
            return Err(reader.corrupt("changes", format_args!("{} bytes too many", reader.left())));
        }
        Ok((intervals, changes))
    }
}

fn take_column(reader: &mut Reader<'_>) -> Result<Option<ChunkAddress>> {
    match (reader.u8("column slot")?, reader.u32("column chunk")?) {
        (ABSENT, 0) => Ok(None),
        (ABSENT, _) => Err(reader.corrupt("column chunk", "an absent column has none")),
        (slot, chunk) => Ok(Some(ChunkAddress { slot: Slot(slot), chunk: Chunk(chunk) })),
    }
}
