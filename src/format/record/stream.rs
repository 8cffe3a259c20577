//! The description stream: intervals, changes, entries, witnesses.

use crate::error::Result;
use crate::format::record::plan::ENTRY_BYTES;
use crate::format::record::{Change, Entry, Interval, Owner};
use crate::format::wire::{Reader, Writer};
use crate::types::{Column, Lba, Number, Place, Row, SegmentId, VolumeId};

/// Bytes of an interval.
const INTERVAL_BYTES: usize = 32;

const FILL: u8 = 1;
const DATA: u8 = 2;
const MOVED: u8 = 3;
const PAGE: u8 = 4;

const TRIM: u8 = 1;
const RESIZE: u8 = 2;

/// Bytes of intervals and changes.
pub(super) fn preamble_bytes(intervals: &[Interval], changes: &[Change]) -> usize {
    intervals.len() * INTERVAL_BYTES + changes.iter().map(Change::bytes).sum::<usize>()
}

impl Interval {
    pub(super) fn put(&self, writer: &mut Writer) {
        writer.u32(self.volume.0);
        writer.zeros(4);
        writer.u64(self.after.0);
        writer.u64(self.through.0);
        writer.u64(self.durable.0);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Interval> {
        let volume = VolumeId(reader.u32("interval volume")?);
        reader.zeros(4)?;
        Ok(Interval {
            volume,
            after: Number(reader.u64("interval after")?),
            through: Number(reader.u64("interval through")?),
            durable: Number(reader.u64("interval durable")?),
        })
    }
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Change::Trim { .. } => 32,
            Change::Resize { .. } => 24,
        }
    }

    pub(super) fn put(&self, writer: &mut Writer) {
        let head = |writer: &mut Writer, kind: u8, volume: VolumeId, number: Number| {
            writer.u8(kind);
            writer.zeros(3);
            writer.u32(volume.0);
            writer.u64(number.0);
        };
        match *self {
            Change::Trim { volume, number, lba, blocks } => {
                head(writer, TRIM, volume, number);
                writer.u64(lba.0);
                writer.u64(blocks);
            }
            Change::Resize { volume, number, blocks } => {
                head(writer, RESIZE, volume, number);
                writer.u64(blocks);
            }
        }
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Change> {
        let kind = reader.u8("change")?;
        reader.zeros(3)?;
        let volume = VolumeId(reader.u32("change volume")?);
        let number = Number(reader.u64("change number")?);
        match kind {
            TRIM => {
                let (lba, blocks) = (Lba(reader.u64("trim address")?), reader.u64("trim blocks")?);
                Ok(Change::Trim { volume, number, lba, blocks })
            }
            RESIZE => Ok(Change::Resize { volume, number, blocks: reader.u64("new size")? }),
            _ => Err(reader.corrupt("change", format_args!("no change has the number {kind}"))),
        }
    }
}

/// An entry as it lies in the stream, before its kind gives the fields their meaning.
#[derive(Default)]
struct RawEntry {
    kind: u8,
    column: u8,
    row: u16,
    crc: u32,
    owner: u32,
    address: u64,
    number: u64,
    segment: u64,
}

impl Entry {
    pub(super) fn put(&self, writer: &mut Writer) {
        let raw = self.raw();
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0] = raw.kind;
        bytes[1] = raw.column;
        bytes[2..4].copy_from_slice(&raw.row.to_le_bytes());
        bytes[4..8].copy_from_slice(&raw.crc.to_le_bytes());
        bytes[8..12].copy_from_slice(&raw.owner.to_le_bytes());
        bytes[16..24].copy_from_slice(&raw.address.to_le_bytes());
        bytes[24..32].copy_from_slice(&raw.number.to_le_bytes());
        bytes[32..].copy_from_slice(&raw.segment.to_le_bytes());
        writer.bytes(&bytes);
    }

    fn raw(&self) -> RawEntry {
        let data = |kind, volume: VolumeId, lba: Lba, birth: Number| RawEntry {
            kind,
            owner: volume.0,
            address: lba.0,
            number: birth.0,
            ..RawEntry::default()
        };
        let raw = match self.owner {
            Owner::Fill => RawEntry { kind: FILL, ..RawEntry::default() },
            Owner::Description => unreachable!("a check has refused stored entries of description"),
            Owner::Data { volume, lba, birth } => data(DATA, volume, lba, birth),
            Owner::Moved { volume, lba, birth, from } => RawEntry {
                column: from.column.0,
                row: from.row.0,
                segment: from.segment.0,
                ..data(MOVED, volume, lba, birth)
            },
            Owner::Page { tree, level, low, generation } => RawEntry {
                kind: PAGE,
                column: level,
                owner: tree,
                address: low,
                number: generation,
                ..RawEntry::default()
            },
        };
        RawEntry { crc: self.crc, ..raw }
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Entry> {
        let kind = reader.u8("entry")?;
        let column = reader.u8("entry column or level")?;
        let row = reader.u16("entry row")?;
        let crc = reader.u32("entry checksum")?;
        let owner = reader.u32("entry owner")?;
        reader.zeros(4)?;
        let address = reader.u64("entry address")?;
        let number = reader.u64("entry number")?;
        let segment = reader.u64("entry segment")?;
        let (volume, lba, birth) = (VolumeId(owner), Lba(address), Number(number));
        let from = Place { segment: SegmentId(segment), row: Row(row), column: Column(column) };
        let (owner, unused) = match kind {
            FILL => (Owner::Fill, [column.into(), row.into(), owner.into(), address, number, segment]),
            DATA => (Owner::Data { volume, lba, birth }, [column.into(), row.into(), segment, 0, 0, 0]),
            MOVED => (Owner::Moved { volume, lba, birth, from }, [0; 6]),
            PAGE => {
                let page = Owner::Page { tree: owner, level: column, low: address, generation: number };
                (page, [row.into(), segment, 0, 0, 0, 0])
            }
            _ => return Err(reader.corrupt("entry", format_args!("no owner has the number {kind}"))),
        };
        if unused != [0; 6] {
            return Err(reader.corrupt("entry", "reserved bytes are not zero"));
        }
        Ok(Entry { owner, crc })
    }
}
