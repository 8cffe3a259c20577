//! What the chunks say: which device is which member, which segments there are, and where their columns lie.

use crate::device::{Device, read_full};
use crate::error::{Error, Kind, Result};
use crate::format::record::{HeaderPart, Record};
use crate::format::superblock::ChunkAddress;
use crate::format::tables::ColumnState;
use crate::layout::Geometry;
use crate::limits::RING_BYTES;
use crate::pool::Candidate;
use crate::types::{BLOCK, BLOCK_U64, Chunk, Column, Epoch, Row, Scheme, SegmentId, Slot, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes that are read at once while the first header is looked for.
const STRIDE: usize = 256 << 10;

/// The array whose chunks are looked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Origin {
    pub(super) array: Uuid,
    pub(super) chunk_blocks: u32,
}

/// A header that was found where it says that it is.
struct Own {
    at: ChunkAddress,
    columns: Vec<Option<ChunkAddress>>,
}

/// The first block of a chunk.
struct Header {
    segment: SegmentId,
    scheme: Scheme,
    column: Column,
    epoch: Epoch,
    own: Own,
}

/// The headers of one device that lie in the chunks that they name.
async fn read(device: &dyn Device, origin: Origin) -> Vec<Header> {
    let geometry = Geometry { chunk_blocks: origin.chunk_blocks };
    let mut headers = Vec::new();
    for chunk in (0..geometry.chunks_on(device.len())).map(Chunk) {
        let offset = geometry.byte_offset(chunk, Row(0));
        let Ok(block) = read_full(device, offset, BLOCK).await else { continue };
        let Ok(HeaderPart { column, record, .. }) = HeaderPart::decode(&block, None) else { continue };
        let is_ours = record.array == origin.array
            && record.chunk_blocks == origin.chunk_blocks
            && record.row == Row(0);
        let own = record.columns[usize::from(column.0)].filter(|own| is_ours && own.chunk == chunk);
        let Some(at) = own else { continue };
        let Record { segment, scheme, epoch, columns, .. } = record;
        headers.push(Header { segment, scheme, column, epoch, own: Own { at, columns } });
    }
    headers
}

/// The slot that most headers say.
fn most(headers: &[Header]) -> Option<Slot> {
    let mut slots: BTreeMap<Slot, u32> = BTreeMap::new();
    for header in headers {
        *slots.entry(header.own.at.slot).or_default() += 1;
    }
    slots.into_iter().max_by_key(|(_, count)| *count).map(|(slot, _)| slot)
}

/// What the first blocks of all chunks say.
#[derive(Default)]
pub(super) struct Scan {
    /// Which candidate is the member in a slot, by most of its headers.
    pub(super) members: BTreeMap<Slot, usize>,
    /// The newest epoch of any header.
    pub(super) epoch: Epoch,
    segments: BTreeMap<SegmentId, (Scheme, BTreeMap<Column, Vec<Own>>)>,
}

/// A segment as its headers place it.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) scheme: Scheme,
    /// Complete where the column's own header was seen, else to be verified.
    pub(super) columns: Vec<ColumnState>,
}

/// The array that a device holds chunks of: the first header that lies where it says. `None` without any.
pub(super) async fn origin(device: &dyn Device) -> Option<Origin> {
    let mut at = RING_BYTES;
    let end = device.len().saturating_sub(RING_BYTES);
    while at + BLOCK_U64 <= end {
        let left = usize::try_from((end - at) / BLOCK_U64 * BLOCK_U64).unwrap_or(usize::MAX);
        let len = STRIDE.min(left);
        if let Ok(bytes) = read_full(device, at, len).await {
            for (index, block) in (0u64..).zip(bytes.chunks(BLOCK)) {
                let Ok(part) = HeaderPart::decode(block, None) else { continue };
                let record = &part.record;
                let Some(own) = record.columns[usize::from(part.column.0)] else { continue };
                let geometry = Geometry { chunk_blocks: record.chunk_blocks };
                if geometry.byte_offset(own.chunk, record.row) == at + index * BLOCK_U64 {
                    return Some(Origin { array: record.array, chunk_blocks: record.chunk_blocks });
                }
            }
        }
        at += len as u64;
    }
    None
}

impl Scan {
    /// Reads the first block of every chunk of every candidate. `known` are the members by their superblocks.
    ///
    /// # Errors
    /// [`Kind::Refused`] when two candidates say that they are the same member.
    pub(super) async fn of(
        candidates: &[Candidate],
        origin: Origin,
        known: &[Option<usize>],
    ) -> Result<Scan> {
        let mut scan = Scan::default();
        for (index, candidate) in candidates.iter().enumerate() {
            let headers = read(candidate.device.as_ref(), origin).await;
            let Some(slot) = most(&headers) else { continue };
            let superblocks = known.get(usize::from(slot.0)).copied().flatten();
            if superblocks.is_some_and(|member| member != index) {
                continue;
            }
            if let Some(other) = scan.members.insert(slot, index) {
                let text = format!(
                    "{} and {} both say that they are member {slot}; take one of them away",
                    candidates[other].path, candidate.path
                );
                return Err(Error::new(Kind::Refused, text));
            }
            for header in headers.into_iter().filter(|header| header.own.at.slot == slot) {
                scan.take(header);
            }
        }
        Ok(scan)
    }

    fn take(&mut self, header: Header) {
        let Header { segment, scheme, column, epoch, own } = header;
        self.epoch = self.epoch.max(epoch);
        let (known, columns) = self.segments.entry(segment).or_insert_with(|| (scheme, BTreeMap::new()));
        if *known == scheme {
            columns.entry(column).or_default().push(own);
        }
    }

    /// The slots that a column may be in.
    pub(super) fn slots(&self) -> BTreeSet<Slot> {
        let owns = self.segments.values().flat_map(|(_, columns)| columns.values().flatten());
        owns.flat_map(|own| own.columns.iter().flatten().map(|at| at.slot)).collect()
    }

    /// Where the columns of each segment are. A header is believed where it lies itself. Of two headers of one
    /// column, one of them left by a rebuild, that counts which agrees with more of the others. Only where a
    /// column has none, the others say where it is, the younger segments first.
    pub(super) fn place(&self, chunks: &BTreeMap<Slot, u32>) -> BTreeMap<SegmentId, Placed> {
        let mut taken: BTreeSet<ChunkAddress> = BTreeSet::new();
        let mut placed = BTreeMap::new();
        for (id, (scheme, columns)) in &self.segments {
            let score = |own: &Own| {
                let agrees = |column: &Column, at: &Option<ChunkAddress>| {
                    columns.get(column).is_some_and(|owns| owns.iter().any(|other| Some(other.at) == *at))
                };
                let lines = scheme.columns().zip(&own.columns);
                lines.filter(|(column, at)| agrees(column, at)).count()
            };
            let mut slots = BTreeSet::new();
            let own = scheme.columns().map(|column| {
                let owns = columns.get(&column).map_or(&[][..], Vec::as_slice).iter();
                let fits =
                    |own: &&Own| chunks.get(&own.at.slot).is_some_and(|chunks| own.at.chunk.0 < *chunks);
                let best = owns.filter(fits).max_by_key(|own| score(own))?;
                slots.insert(best.at.slot).then_some(best.at)
            });
            let states: Vec<ColumnState> =
                own.map(|at| at.map_or(ColumnState::Absent, ColumnState::Complete)).collect();
            if states.iter().all(|state| *state == ColumnState::Absent) {
                continue;
            }
            taken.extend(states.iter().filter_map(ColumnState::address));
            placed.insert(*id, Placed { scheme: *scheme, columns: states });
        }
        for (id, segment) in placed.iter_mut().rev() {
            let owns = self.segments[id].1.values().flatten();
            let tables: Vec<&Own> = owns.collect();
            let mut slots: BTreeSet<Slot> =
                segment.columns.iter().filter_map(ColumnState::address).map(|at| at.slot).collect();
            for (column, state) in segment.columns.iter_mut().enumerate() {
                if *state != ColumnState::Absent {
                    continue;
                }
                let said = tables.iter().filter_map(|own| own.columns[column]);
                let fits = |at: &ChunkAddress| {
                    let exists = chunks.get(&at.slot).is_some_and(|chunks| at.chunk.0 < *chunks);
                    exists && !slots.contains(&at.slot) && !taken.contains(at)
                };
                if let Some(at) = said.into_iter().find(fits) {
                    *state = ColumnState::Partial(at);
                    slots.insert(at.slot);
                    taken.insert(at);
                }
            }
        }
        placed
    }
}
