//! Blocks become a record: places, checksums, description, parity, one buffer list per column. Pure.

use crate::checksum::{pointer_crc, witness};
use crate::codec::Codec;
use crate::device::{Aligned, Frame, Room};
use crate::error::Result;
use crate::format::record::{Change, Entry, Interval, Owner, Plan, Record};
use crate::format::superblock::ChunkAddress;
use crate::pool::Identity;
use crate::types::{BLOCK, Column, Place, Pointer, Row, Scheme, SegmentId, Sequence};
use crate::zoo::{Bug, planted};
use bytes::Bytes;

/// Rows of one column that neighbours in LBA order fill before the next column: 64 KiB.
const RUN_ROWS: u8 = 16;

/// A block for a record.
#[derive(Clone, Debug)]
pub struct Payload {
    /// What it is; it has an identity.
    pub owner: Owner,
    /// Its 4096 bytes.
    pub bytes: Bytes,
}

/// Where a record goes and what it says besides blocks.
#[derive(Clone, Debug)]
pub struct Head {
    /// The array and the opening.
    pub identity: Identity,
    /// The segment.
    pub segment: SegmentId,
    /// Its scheme.
    pub scheme: Scheme,
    /// Its columns.
    pub columns: Vec<Option<ChunkAddress>>,
    /// The header's row.
    pub row: Row,
    /// Rows of the record.
    pub plan: Plan,
    /// Its position in the log.
    pub sequence: Sequence,
    /// The group that counts only together.
    pub group: (Sequence, Sequence),
    /// What it completes.
    pub intervals: Vec<Interval>,
    /// What it changes.
    pub changes: Vec<Change>,
}

/// A record ready to be written.
#[derive(Debug)]
pub struct Packed {
    /// What it says.
    pub record: Record,
    /// For each column the header and the blocks, in row order.
    pub columns: Vec<Vec<Bytes>>,
    /// A pointer for each payload block.
    pub pointers: Vec<Pointer>,
}

impl Packed {
    /// Bytes that it takes on all members together.
    pub fn bytes(&self) -> u64 {
        self.columns.iter().flatten().map(|piece| piece.len() as u64).sum()
    }
}

/// How much of a batch one record takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fit {
    /// Blocks in it.
    pub blocks: usize,
    /// Its rows.
    pub plan: Plan,
    /// It takes all blocks, and intervals and changes with them.
    pub is_last: bool,
}

impl Fit {
    /// The record for `blocks` blocks and `preamble` bytes of intervals and changes in `left` rows, or for as
    /// many of the blocks as fit. `None` when not even one does.
    pub fn of(scheme: Scheme, blocks: usize, preamble: usize, left: u16) -> Option<Fit> {
        let whole = Plan::for_blocks(scheme, blocks, preamble);
        if let Some(plan) = whole.filter(|plan| plan.rows_with_header() <= left) {
            return Some(Fit { blocks, plan, is_last: true });
        }
        let plan = Plan::for_room(scheme, u32::from(left), 0)?;
        let room = plan.blocks.min(blocks);
        let plan = Plan::for_blocks(scheme, room, 0)?;
        (room > 0).then_some(Fit { blocks: room, plan, is_last: false })
    }
}

/// Packs each block of `payload` at its place: a row behind the header, and a data column.
///
/// # Errors
/// When the record breaks a rule of the format: a defect of the caller.
///
/// # Panics
/// When a place lies outside the plan, or a block is not 4096 bytes.
pub fn pack(head: Head, payload: &[Payload], places: &[(u8, Column)], codec: &Codec) -> Result<Packed> {
    let (k, m) = (usize::from(head.scheme.k()), usize::from(head.scheme.m()));
    let rows = usize::from(head.plan.rows);
    let described_blocks = head.plan.description_blocks;
    let zeros = Aligned::zeroed(BLOCK).freeze();
    let mut blocks = vec![zeros; rows * k];
    let mut entries = vec![Entry { owner: Owner::Fill, crc: 0 }; rows * k];
    for entry in &mut entries[..described_blocks] {
        entry.owner = Owner::Description;
    }
    assert!(payload.len() <= places.len(), "the payload does not fit the record");
    let mut pointers = Vec::with_capacity(payload.len());
    for (block, &(row, column)) in payload.iter().zip(places) {
        assert_eq!(block.bytes.len(), BLOCK);
        let identity = block.owner.identity().expect("a payload block has an identity");
        let crc = pointer_crc(&block.bytes, &identity);
        let at = usize::from(row) * k + usize::from(column.0);
        entries[at] = Entry { owner: block.owner, crc };
        blocks[at] = block.bytes.clone();
        let back = row + 1;
        let place = Place { segment: head.segment, row: head.row.plus(u16::from(back)), column };
        pointers.push(Pointer { place, back, crc });
    }
    let mut record = Record {
        array: head.identity.array,
        segment: head.segment,
        chunk_blocks: head.identity.chunk_blocks,
        scheme: head.scheme,
        columns: head.columns,
        row: head.row,
        rows: head.plan.rows,
        description_rows: head.plan.description_rows,
        epoch: head.identity.epoch,
        nonce: head.identity.nonce,
        sequence: head.sequence,
        group: head.group,
        intervals: head.intervals,
        changes: head.changes,
        entries,
        witnesses: vec![0; rows * (k + m)],
    };
    let mut parity: Vec<Room> = (0..m).map(|_| Room::new(rows * BLOCK)).collect();
    // The description holds the witnesses of the rows behind it, so these come first.
    let described = usize::from(head.plan.description_rows);
    protect(&mut record, &blocks, &mut parity, codec, described..rows);
    let draft = record.draft()?;
    for (block, description) in blocks.iter_mut().zip(draft.blocks()) {
        *block = Frame::copy_of(description).freeze();
    }
    protect(&mut record, &blocks, &mut parity, codec, 0..described);
    let headers = draft.seal(&record.witnesses[..described * (k + m)])?;

    let mut columns: Vec<Vec<Bytes>> = Vec::with_capacity(k + m);
    for (column, address) in record.scheme.columns().zip(&record.columns) {
        columns.push(match address {
            Some(_) => vec![Frame::copy_of(&headers.column(column)?).freeze()],
            None => Vec::new(),
        });
    }
    for (at, block) in blocks.into_iter().enumerate() {
        columns[at % k].push(block);
    }
    for (column, parity) in columns[k..].iter_mut().zip(parity) {
        if rows > 0 {
            column.push(parity.freeze());
        }
    }
    Ok(Packed { record, columns, pointers })
}

fn protect(
    record: &mut Record,
    blocks: &[Bytes],
    parity: &mut [Room],
    codec: &Codec,
    rows: std::ops::Range<usize>,
) {
    let (k, width) = (usize::from(record.scheme.k()), usize::from(record.scheme.width()));
    for row in rows {
        let data: Vec<&[u8]> = blocks[row * k..(row + 1) * k].iter().map(AsRef::as_ref).collect();
        let span = row * BLOCK..(row + 1) * BLOCK;
        let mut outputs: Vec<&mut [u8]> =
            parity.iter_mut().map(|column| &mut column.as_mut()[span.clone()]).collect();
        if row == 0 || row + 1 < record.rows.into() || !planted(Bug::LastRowUnprotected) {
            codec.encode(&data, &mut outputs);
        } else {
            outputs.iter_mut().for_each(|output| output.fill(0));
        }
        let witnesses = &mut record.witnesses[row * width..(row + 1) * width];
        let all = data.into_iter().chain(outputs.iter().map(|output| &**output));
        for (slot, block) in witnesses.iter_mut().zip(all) {
            *slot = witness(block);
        }
    }
}

/// The data places of a record in the order in which user data fills them: runs of `RUN_ROWS` rows down one
/// column, then the next column.
pub fn places(plan: Plan, scheme: Scheme) -> Vec<(u8, Column)> {
    let k = usize::from(scheme.k());
    let described = plan.description_blocks;
    let mut places = Vec::with_capacity(usize::from(plan.rows) * k);
    let mut band = 0;
    while band < plan.rows {
        let end = band.saturating_add(RUN_ROWS).min(plan.rows);
        for column in 0..scheme.k() {
            places.extend((band..end).map(|row| (row, Column(column))));
        }
        band = end;
    }
    places.retain(|&(row, column)| usize::from(row) * k + usize::from(column.0) >= described);
    places
}
