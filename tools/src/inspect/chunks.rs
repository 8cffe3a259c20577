//! The chunks of one member and the records in them, as far as the member alone can tell.
//!
//! Everything that is read is hostile. A header counts only where it says itself that it lies.

use super::rings;
use crate::progress;
use paritas::device::Image;
use paritas::error::Kind;
use paritas::format::record::{Glimpse, HeaderPart};
use paritas::format::superblock::{ChunkAddress, Superblock};
use paritas::layout::Geometry;
use paritas::limits::{CHUNK_BLOCKS_MAX, RING_BYTES};
use paritas::types::{BLOCK, BLOCK_U64, Chunk, Row, Slot, Uuid};

/// How far behind ring A the first header is searched when no superblock says how large chunks are: two of the
/// largest chunks.
pub(super) const SEARCH_BYTES: u64 = 2 * CHUNK_BLOCKS_MAX as u64 * BLOCK_U64;

/// How the member is cut, and whose it is.
pub(super) struct Layout {
    pub(super) array: Uuid,
    pub(super) slot: Slot,
    pub(super) geometry: Geometry,
    pub(super) chunks: u32,
    /// Whether a superblock says so; else a record does.
    pub(super) by_superblock: bool,
}

impl Layout {
    /// As the newest superblock says, or else the first record.
    pub(super) fn of(image: &Image, slots: &[rings::RingSlot]) -> Option<Layout> {
        match rings::newest(slots) {
            Some(newest) => Some(Layout::by_superblock(image, newest)),
            None => Layout::by_records(image),
        }
    }

    fn by_superblock(image: &Image, newest: &Superblock) -> Layout {
        let geometry = Geometry { chunk_blocks: newest.chunk_blocks };
        let recorded =
            newest.members.get(usize::from(newest.slot.0)).map_or(u32::MAX, |member| member.chunks);
        let chunks = recorded.min(geometry.chunks_on(image.len()));
        Layout { array: newest.array, slot: newest.slot, geometry, chunks, by_superblock: true }
    }

    fn by_records(image: &Image) -> Option<Layout> {
        let mut block = vec![0; BLOCK];
        let end = image.len().min(RING_BYTES + SEARCH_BYTES);
        (RING_BYTES..end).step_by(BLOCK).find_map(|offset| {
            image.read(offset, &mut block).ok()?;
            let part = HeaderPart::decode(&block, None).ok()?;
            let geometry = Geometry { chunk_blocks: part.record.chunk_blocks };
            let own = own_address(&part)?;
            let chunks = geometry.chunks_on(image.len());
            // A stored copy of another array's member would say another place.
            let lies_here =
                own.chunk.0 < chunks && geometry.byte_offset(own.chunk, part.record.row) == offset;
            let layout =
                Layout { array: part.record.array, slot: own.slot, geometry, chunks, by_superblock: false };
            lies_here.then_some(layout)
        })
    }

    /// Whether the header is one of this member's, for this place.
    fn owns(&self, part: &HeaderPart, chunk: Chunk, row: Row) -> bool {
        part.record.array == self.array
            && part.record.chunk_blocks == self.geometry.chunk_blocks
            && part.record.row == row
            && own_address(part) == Some(ChunkAddress { slot: self.slot, chunk })
    }
}

fn own_address(part: &HeaderPart) -> Option<ChunkAddress> {
    part.record.columns.get(usize::from(part.column.0)).copied().flatten()
}

/// What a block is that could be a header.
pub(super) enum Head {
    Record(Box<HeaderPart>),
    Zeros,
    /// Why it is no sound header, though it was meant as one.
    Damaged(String),
    /// Data, or a header of something else.
    Other,
}

fn head(image: &Image, layout: &Layout, chunk: Chunk, row: Row) -> Head {
    let mut block = vec![0; BLOCK];
    if let Err(error) = image.read(layout.geometry.byte_offset(chunk, row), &mut block) {
        return Head::Damaged(format!("cannot be read: {error}"));
    }
    match HeaderPart::decode(&block, None) {
        Ok(part) if layout.owns(&part, chunk, row) => Head::Record(Box::new(part)),
        Ok(_) => Head::Other,
        Err(error) if error.kind() != Kind::NotFound => Head::Damaged(error.to_string()),
        Err(_) if block.iter().all(|byte| *byte == 0) => Head::Zeros,
        Err(_) => Head::Other,
    }
}

/// Looks at the first block of every chunk, in the order of the chunks.
pub(super) fn each_head(image: &Image, layout: &Layout, mut visit: impl FnMut(Chunk, Head)) {
    let bar = progress::count("looking at chunks", Some(layout.chunks.into()));
    for chunk in (0..layout.chunks).map(Chunk) {
        visit(chunk, head(image, layout, chunk, Row(0)));
        bar.inc(1);
    }
    bar.finish_and_clear();
}

/// A record in a chunk.
pub(super) struct Seen {
    pub(super) part: HeaderPart,
    /// What this column tells of its blocks, or why it tells nothing.
    pub(super) glimpse: Result<Glimpse, String>,
}

/// The records of the chunk that begins with `first`, and what ends them.
pub(super) fn records(
    image: &Image,
    layout: &Layout,
    chunk: Chunk,
    first: HeaderPart,
) -> (Vec<Seen>, String) {
    let segment = first.record.segment;
    let (mut seen, mut part) = (Vec::new(), first);
    loop {
        let next = u32::from(part.record.row.0) + u32::from(part.record.rows) + 1;
        let glimpse = glimpse(image, layout, chunk, &part).map_err(|error| error.to_string());
        seen.push(Seen { part, glimpse });
        let Some(row) = u16::try_from(next).ok().filter(|_| next < layout.geometry.chunk_blocks) else {
            return (seen, "the chunk is full".into());
        };
        part = match head(image, layout, chunk, Row(row)) {
            Head::Record(part) if part.record.segment == segment => *part,
            Head::Record(_) | Head::Other => return (seen, format!("older content from row {row} on")),
            Head::Zeros => return (seen, format!("zeros from row {row} on")),
            Head::Damaged(why) => return (seen, format!("row {row}: {why}")),
        };
    }
}

fn glimpse(
    image: &Image,
    layout: &Layout,
    chunk: Chunk,
    part: &HeaderPart,
) -> paritas::error::Result<Glimpse> {
    let read = |row: u8| {
        let mut block = vec![0; BLOCK];
        let row = part.record.row.plus(u16::from(row) + 1);
        image.read(layout.geometry.byte_offset(chunk, row), &mut block).ok().map(|()| block)
    };
    let own: Vec<(usize, Vec<u8>)> =
        part.own_description().filter_map(|(index, row)| Some((index, read(row)?))).collect();
    part.glimpse(&own)
}
