//! Redundancy in motion: records onto the columns of a segment, verified blocks back.
//!
//! Bytes leave the engine, and enter parity, only after they were verified against a checksum that was read
//! from elsewhere (rule 6). [`Stripes::read`] is the only way to the user's bytes.

mod band;
mod known;
mod pack;
mod read;
mod reconstruct;
mod record;
mod refill;
mod restore;
mod scrub;
mod span;
mod verify;
mod write;

pub use pack::{Fit, Head, Packed, Payload, pack, places};
pub use read::Wanted;
pub use record::{Found, View};
pub use refill::{Refill, Refilled};
pub use scrub::Scrubbed;
pub use verify::Torn;

use crate::codec::Codec;
use crate::device::Device;
use crate::format::superblock::ChunkAddress;
use crate::layout::Geometry;
use crate::pool::Pool;
use crate::runtime::{Env, Owned};
use crate::space::Space;
use crate::types::{Row, Scheme, SegmentId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What redundancy works with: the members, the segment table, the codes.
pub struct Stripes {
    /// The members in use.
    pub pool: Arc<Pool>,
    /// The segment table.
    pub space: Owned<Space>,
    geometry: Geometry,
    codecs: Owned<BTreeMap<Scheme, Arc<Codec>>>,
    /// Whether members may be written, to heal them.
    writable: bool,
    counters: Owned<Counters>,
    known: Owned<known::Known>,
    hedge: span::Hedge,
}

/// What redundancy did since the array was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Blocks that were answered by reconstruction.
    pub reconstructed: u64,
    /// Reads that were answered by reconstruction because their member took too long.
    pub hedged: u64,
    /// Blocks that were rewritten in place with their verified bytes.
    pub healed: u64,
    /// Blocks that redundancy could not bring back.
    pub lost: u64,
    /// Bytes written to members by records.
    pub written: u64,
    /// Those of them by which the cleaner moved blocks.
    pub moved: u64,
    /// Those of them that hold pages of trees.
    pub metadata: u64,
}

impl Stripes {
    /// Over the members of `pool` and the segments of `space`.
    pub fn new(env: Env, pool: Arc<Pool>, space: Space, writable: bool) -> Stripes {
        let geometry = Geometry { chunk_blocks: pool.identity().chunk_blocks };
        Stripes {
            pool,
            space: Owned::new(space),
            geometry,
            codecs: Owned::new(BTreeMap::new()),
            writable,
            counters: Owned::new(Counters::default()),
            known: Owned::default(),
            hedge: span::Hedge::new(env),
        }
    }

    /// The code of a scheme, made once. The number of schemes in use is bounded by the number of volumes.
    pub fn codec(&self, scheme: Scheme) -> Arc<Codec> {
        self.codecs
            .with(|codecs| codecs.entry(scheme).or_insert_with(|| Arc::new(Codec::new(scheme))).clone())
    }

    /// What redundancy did since the array was opened.
    pub fn counters(&self) -> Counters {
        self.counters.with(|counters| *counters)
    }

    /// Rows of a segment.
    pub fn chunk_rows(&self) -> u16 {
        self.space.with(|space| space.chunk_rows())
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        self.counters.with(change);
    }

    /// The device and byte offset of a row to be written, if the member is in use.
    fn locate(&self, address: ChunkAddress, row: Row) -> Option<(Arc<dyn Device>, u64)> {
        if self.pool.is_hung(address.slot) {
            return None;
        }
        let device = self.pool.device(address.slot)?;
        let offset = self.offset(device.as_ref(), address, row, 1)?;
        Some((device, offset))
    }

    /// The device and byte offset of so many rows to be read, if the member can be.
    fn locate_to_read(
        &self,
        address: ChunkAddress,
        row: Row,
        count: usize,
    ) -> Option<(Arc<dyn Device>, u64)> {
        if self.pool.is_hung(address.slot) {
            return None;
        }
        let device = self.pool.reader(address.slot)?;
        let offset = self.offset(device.as_ref(), address, row, count)?;
        Some((device, offset))
    }

    /// Where rows of a chunk begin on a member. Forged records and pages name rows and chunks that it does not have.
    fn offset(&self, device: &dyn Device, address: ChunkAddress, row: Row, count: usize) -> Option<u64> {
        let is_row = usize::from(row.0) + count <= self.geometry.chunk_blocks as usize;
        let is_chunk = address.chunk.0 < self.geometry.chunks_on(device.len());
        (is_row && is_chunk).then(|| self.geometry.byte_offset(address.chunk, row))
    }

    /// Keeps a segment's chunks from being reused while I/O on them is pending.
    pub(crate) fn pin(&self, segment: SegmentId) -> Option<Pin<'_>> {
        self.space.with(|space| space.pin(segment)).then(|| Pin { stripes: self, segment })
    }
}

/// Keeps the chunks of a segment from being reused until it is dropped.
pub(crate) struct Pin<'a> {
    stripes: &'a Stripes,
    segment: SegmentId,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.stripes.space.with(|space| space.unpin(self.segment));
    }
}
