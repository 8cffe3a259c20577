//! Byte addresses: ranges that begin or end inside a block.
//!
//! The blocks at the edges are read, changed and written whole, as part of the call's one step of the history.
//! What others write to them meanwhile is noted (`log/edits.rs`), so that of two calls that overlap in time
//! one comes after the other, block by block, and neither waits. A range of whole blocks takes the way of
//! [`Shard::write`] and [`Shard::trim`] and knows nothing of this.

use super::Shard;
use super::read::joined;
use crate::commit::{Editing, Step};
use crate::device::{Frame, place};
use crate::error::{Error, Result};
use crate::limits::WRITE_BLOCKS_MAX;
use crate::log::Buffered;
use crate::runtime::join_all;
use crate::types::{BLOCK, BLOCK_U64, Lba, Number, SECTOR_U64, VolumeId};
use crate::zoo::{Bug, planted};
use bytes::{Buf, Bytes};
use std::ops::Range;

/// Bytes of a call that are one step of the history.
const STEP: u64 = WRITE_BLOCKS_MAX * BLOCK_U64;

/// A range of bytes, both ends at multiples of a sector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    start: u64,
    end: u64,
}

/// A block that a range covers in part.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Edge {
    lba: Lba,
    /// The bytes of it that are in the range.
    part: Range<usize>,
}

impl Span {
    fn new(offset: u64, len: u64) -> Result<Span> {
        if !offset.is_multiple_of(SECTOR_U64) || !len.is_multiple_of(SECTOR_U64) {
            return Err(Error::invalid(format!(
                "{len} bytes at {offset}: offset and length must be multiples of {SECTOR_U64}"
            )));
        }
        let end = offset.checked_add(len).filter(|end| *end <= u64::MAX - BLOCK_U64);
        let end = end.ok_or_else(|| {
            Error::invalid(format!("{len} bytes at {offset} reach past the end of every volume"))
        })?;
        Ok(Span { start: offset, end })
    }

    fn is_whole(self) -> bool {
        self.start.is_multiple_of(BLOCK_U64) && self.end.is_multiple_of(BLOCK_U64)
    }

    /// The first block that it touches.
    fn first(self) -> Lba {
        Lba(self.start / BLOCK_U64)
    }

    /// The blocks that it touches.
    fn blocks(self) -> u64 {
        self.end.div_ceil(BLOCK_U64) - self.first().0
    }

    /// The blocks that it covers whole; where they would be, when there are none.
    fn inner(self) -> Range<u64> {
        let first = self.start.div_ceil(BLOCK_U64);
        first..(self.end / BLOCK_U64).max(first)
    }

    /// The blocks that it covers in part, one or two, in order of address.
    fn edges(self) -> Vec<Edge> {
        let edge = |lba: u64| {
            let within = |at: u64| {
                let at = at.saturating_sub(lba * BLOCK_U64).min(BLOCK_U64);
                usize::try_from(at).expect("at most a block")
            };
            Edge { lba: Lba(lba), part: within(self.start)..within(self.end) }
        };
        let front = (!self.start.is_multiple_of(BLOCK_U64)).then_some(self.start / BLOCK_U64);
        let back = (!self.end.is_multiple_of(BLOCK_U64)).then_some(self.end / BLOCK_U64);
        front.into_iter().chain(back.filter(|back| Some(*back) != front)).map(edge).collect()
    }

    /// The steps of a call: one up to [`STEP`] bytes, else cut at block boundaries.
    fn steps(self) -> Vec<Span> {
        if self.end - self.start <= STEP {
            return vec![self];
        }
        let base = self.start - self.start % BLOCK_U64;
        let starts = (0..).map(|index| base + index * STEP).take_while(|start| *start < self.end);
        starts.map(|start| Span { start: start.max(self.start), end: self.end.min(start + STEP) }).collect()
    }
}

/// A block at the edge of a range, and what it was.
struct Old<'a> {
    edge: Edge,
    editing: Editing<'a>,
    /// `None` for zeros.
    read: Option<Bytes>,
}

impl Old<'_> {
    /// The block as it is now, with its part of the range replaced.
    fn with(&self, new: &[u8]) -> Frame {
        let newest = match self.editing.noted().filter(|_| !planted(Bug::EditStale)) {
            Some(Buffered::Data(bytes)) => Some(bytes),
            Some(Buffered::Hole) => None,
            None if planted(Bug::EdgeZeroed) => None,
            None => self.read.clone(),
        };
        let mut block = Frame::copy_of(newest.as_deref().unwrap_or(&[0; BLOCK]));
        block.as_mut()[self.edge.part.clone()].copy_from_slice(new);
        block
    }
}

impl Shard {
    /// Reads `len` bytes at `offset`, both multiples of 512.
    ///
    /// # Errors
    /// As [`Shard::read`].
    pub async fn read_at(&self, id: VolumeId, offset: u64, len: u64) -> Result<Bytes> {
        self.read_parts_at(id, offset, len).await.map(joined)
    }

    /// [`Shard::read_at`], block by block, as they lie in memory.
    ///
    /// # Errors
    /// As [`Shard::read`].
    pub async fn read_parts_at(&self, id: VolumeId, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        let span = Span::new(offset, len)?;
        let mut parts = self.read_parts(id, span.first(), span.blocks()).await?;
        if let Some(last) = parts.last_mut() {
            let behind = span.first().plus(span.blocks()).0 * BLOCK_U64 - span.end;
            last.truncate(BLOCK - usize::try_from(behind).expect("less than a block"));
        }
        if let Some(first) = parts.first_mut() {
            first.advance(usize::try_from(offset % BLOCK_U64).expect("less than a block"));
        }
        Ok(parts)
    }

    /// Writes at `offset`; it and the length, which is not 0, are multiples of 512. Returns the number of the
    /// last step. Not durable before a flush.
    ///
    /// # Errors
    /// As [`Shard::write`]; [`crate::error::Kind::DataLoss`] when a block that is written in part is lost.
    pub async fn write_at(&self, id: VolumeId, offset: u64, data: Bytes) -> Result<Number> {
        let span = Span::new(offset, data.len() as u64)?;
        if span.is_whole() {
            return self.write(id, span.first(), data).await;
        }
        self.check(id, span.first(), span.blocks())?;
        let mut rest = placed(offset, data);
        let mut number = Number(0);
        for step in span.steps() {
            let part = rest.split_to(usize::try_from(step.end - step.start).expect("bytes in memory"));
            number = match step.is_whole() {
                true => self.write(id, step.first(), part).await?,
                false => self.write_step(id, step, part).await?,
            };
        }
        Ok(number)
    }

    async fn write_step(&self, id: VolumeId, span: Span, mut data: Bytes) -> Result<Number> {
        let olds = self.olds(id, span).await?;
        let compose = || {
            let blocks = (span.first().0..span.first().0 + span.blocks()).map(|lba| {
                match olds.iter().find(|old| old.edge.lba == Lba(lba)) {
                    Some(old) => old.with(&data.split_to(old.edge.part.len())).freeze(),
                    None => data.split_to(BLOCK),
                }
            });
            let runs = vec![(span.first(), blocks.collect())];
            Step { range: (span.first(), span.blocks()), hole: None, runs }
        };
        self.core.accept_step(id, Some(span.first()), span.blocks(), compose).await
    }

    /// Makes `len` bytes at `offset`, both multiples of 512, read as zeros: one step of the history. Whole blocks
    /// give their space free; so do those at the edges of which nothing but zeros is left, the others are
    /// written.
    ///
    /// # Errors
    /// As [`Shard::trim`]; [`crate::error::Kind::DataLoss`] when a block at an edge is lost.
    pub async fn trim_at(&self, id: VolumeId, offset: u64, len: u64) -> Result<Number> {
        let span = Span::new(offset, len)?;
        if span.is_whole() {
            return self.trim(id, span.first(), span.blocks()).await;
        }
        self.check(id, span.first(), span.blocks())?;
        let olds = self.olds(id, span).await?;
        let compose = || {
            let mut hole = span.inner();
            let mut runs = Vec::new();
            for old in &olds {
                let block = old.with(&[0; BLOCK][old.edge.part.clone()]);
                if block.as_ref().iter().any(|byte| *byte != 0) && !planted(Bug::TrimEdgeWide) {
                    runs.push((old.edge.lba, vec![block.freeze()]));
                } else if old.edge.lba.0 < hole.start {
                    hole.start = old.edge.lba.0;
                } else {
                    hole.end = old.edge.lba.0 + 1;
                }
            }
            let hole = (!hole.is_empty()).then(|| (Lba(hole.start), hole.end - hole.start));
            Step { range: (span.first(), span.blocks()), hole, runs }
        };
        self.core.accept_step(id, None, olds.len() as u64, compose).await
    }

    /// The blocks at the edges. One that is lost is no matter when it was written anew meanwhile.
    async fn olds(&self, id: VolumeId, span: Span) -> Result<Vec<Old<'_>>> {
        let begun: Vec<(Edge, Editing<'_>)> =
            span.edges().into_iter().map(|edge| (edge.clone(), self.core.edit(id, edge.lba))).collect();
        let reads = begun.iter().map(|(edge, _)| self.read_blocks(id, edge.lba, 1));
        let reads = join_all(reads.collect()).await;
        let olds = begun.into_iter().zip(reads).map(|((edge, editing), read)| {
            let read = match read {
                Ok(mut blocks) => blocks.pop().flatten(),
                Err(_) if editing.noted().is_some() => None,
                Err(error) => return Err(error.context("reading what the call leaves of a block")),
            };
            Ok(Old { edge, editing, read })
        });
        olds.collect()
    }
}

/// The same bytes where they lie in a block as `offset` does, so that the whole blocks among them are aligned as
/// members want them: copied unless they are there already.
pub(super) fn placed(offset: u64, data: Bytes) -> Bytes {
    let skip = usize::try_from(offset % BLOCK_U64).expect("less than a block");
    if data.as_ptr().addr() % BLOCK == skip {
        return data;
    }
    place(offset, &data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Aligned;

    fn edge(lba: u64, part: Range<usize>) -> Edge {
        Edge { lba: Lba(lba), part }
    }

    #[test]
    fn a_span_knows_its_whole_blocks_and_its_edges() {
        let cases = [
            ((0, 4096), (0, 1), 0..1, vec![]),
            ((512, 512), (0, 1), 1..1, vec![edge(0, 512..1024)]),
            ((3584, 512), (0, 1), 1..1, vec![edge(0, 3584..4096)]),
            ((4096, 512), (1, 1), 1..1, vec![edge(1, 0..512)]),
            ((3584, 1024), (0, 2), 1..1, vec![edge(0, 3584..4096), edge(1, 0..512)]),
            ((8192, 4608), (2, 2), 2..3, vec![edge(3, 0..512)]),
            ((512, 12288), (0, 4), 1..3, vec![edge(0, 512..4096), edge(3, 0..512)]),
        ];
        for ((offset, len), (first, blocks), inner, edges) in cases {
            let span = Span::new(offset, len).expect("aligned");
            let found = (span.first(), span.blocks(), span.inner(), span.edges());
            assert_eq!(found, (Lba(first), blocks, inner, edges), "{len} at {offset}");
            assert_eq!(span.is_whole(), span.edges().is_empty());
        }
        for (offset, len) in [(1, 512), (512, 1), (u64::MAX - 511, 512), (u64::MAX - 511, 1024)] {
            assert!(Span::new(offset, len).is_err(), "{len} at {offset}");
        }
    }

    #[test]
    fn a_call_of_one_mib_is_one_step_wherever_it_begins_and_a_longer_one_is_cut_between_blocks() {
        let steps = |offset, len| -> Vec<(u64, u64)> {
            let span = Span::new(offset, len).expect("aligned");
            span.steps().into_iter().map(|step| (step.start, step.end)).collect()
        };
        assert_eq!(steps(512, STEP), [(512, STEP + 512)]);
        assert_eq!(steps(512, STEP + 512), [(512, STEP), (STEP, STEP + 1024)]);
        assert_eq!(steps(4096, 2 * STEP), [(4096, STEP + 4096), (STEP + 4096, 2 * STEP + 4096)]);
    }

    #[test]
    fn bytes_are_copied_only_to_lie_as_in_their_blocks() {
        let whole = Aligned::zeroed(2 * BLOCK).freeze();
        for (skip, offset, copied) in [(0, 8192, false), (512, 4608, false), (512, 0, true), (0, 512, true)] {
            let data = whole.slice(skip..);
            let at = placed(offset, data.clone());
            assert_eq!(at, data);
            assert_eq!(at.as_ptr() != data.as_ptr(), copied);
            assert_eq!(at.as_ptr().addr() as u64 % BLOCK_U64, offset % BLOCK_U64);
        }
    }
}
