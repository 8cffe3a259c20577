//! Columns of a segment written anew, on chunks that were claimed for them, or completed where they are: the
//! heart of rebuild.
//!
//! The segment is settled, so it does not change underneath. Record by record, each block is read from the
//! column itself where that still can be, or else reconstructed from k verified ones; it goes to the new chunk
//! only if both of its witnesses agree. The new chunk's headers name the new chunk. Of a doubted column, whose
//! target is its own chunk, only what is missing or wrong is written.

use super::band::{Ask, Band};
use super::{Found, Stripes, View};
use crate::checksum::pointer_crc;
use crate::device::{Aligned, write_full};
use crate::error::Result;
use crate::format::record::{Owner, Record};
use crate::format::superblock::ChunkAddress;
use crate::pool::Fault;
use crate::runtime::join_all;
use crate::types::{BLOCK, BLOCK_U64, Column, Place, Row, SegmentId};
use crate::zoo::{Bug, planted};
use bytes::Bytes;

/// Rows that are in memory at once for each segment: a column's part of them is one I/O of 256 KiB.
const ROWS_AT_ONCE: usize = 64;

/// A block of a column; `None` where it is there already.
type Piece = Option<Bytes>;

/// A column and the chunk that is to hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refill {
    /// The column.
    pub column: Column,
    /// Where it is to be. Nothing else is there, but for a doubted column what there is of it.
    pub target: ChunkAddress,
}

/// What became of a segment's columns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refilled {
    /// Every target was written to its end. Durable only after [`Stripes::flush`].
    pub written_through: bool,
    /// What was in rows of which fewer than k blocks are left: so that some column could not be made.
    pub at_risk: Vec<(Owner, Place)>,
    /// Bytes of members that were read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

impl Stripes {
    /// Writes columns of a settled segment onto new chunks.
    ///
    /// # Errors
    /// When the segment is unknown, or a header cannot be encoded again.
    pub async fn refill(&self, segment: SegmentId, refills: &[Refill]) -> Result<Refilled> {
        let view = self.wide_view(&self.view(segment)?);
        let rows = self.space.with(|space| space.get(segment).map_or(0, |found| found.rows));
        let _pin = self.pin(segment);
        let mut done = Refilled { written_through: true, ..Refilled::default() };
        let mut row = Row(0);
        while row.0 < rows && done.written_through {
            row = match self.find_record(&view, row, None).await {
                Found::Record(record) => {
                    let next = row.plus(u16::from(record.rows) + 1);
                    self.refill_record(&view, *record, refills, &mut done).await?;
                    next
                }
                // What lies behind may still be found.
                Found::Broken { rows, .. } => {
                    let next = row.plus(u16::from(rows) + 1);
                    self.copy_rows(&view, row.plus(1), next, refills, &mut done).await;
                    next
                }
                Found::Nothing { .. } => {
                    // Nothing but a header lies in the first row; an old one must not be found in another chunk.
                    if row.0 > 0 {
                        self.copy_rows(&view, row, row.plus(1), refills, &mut done).await;
                    }
                    row.plus(1)
                }
            };
        }
        Ok(done)
    }

    /// Rows that no header describes any more, as the columns themselves have them: whoever has a pointer to them can
    /// still tell whether they are right.
    async fn copy_rows(&self, view: &View, mut at: Row, end: Row, refills: &[Refill], done: &mut Refilled) {
        while at < end && done.written_through {
            let count = ROWS_AT_ONCE.min(usize::from(end.0 - at.0));
            let reads = refills.iter().map(|refill| async move {
                match is_in_place(view, refill) {
                    true => vec![None; count],
                    false => self.span(view, refill.column, at, count).await,
                }
            });
            let mut pieces: Vec<Vec<Piece>> = join_all(reads.collect()).await;
            done.read += pieces.iter().flatten().flatten().count() as u64 * BLOCK_U64;
            self.write_columns(at, refills, &mut pieces, done).await;
            at = at.plus(u16::try_from(count).expect("a record's rows"));
        }
    }

    async fn refill_record(
        &self,
        view: &View,
        mut record: Record,
        refills: &[Refill],
        done: &mut Refilled,
    ) -> Result<()> {
        record.columns.clone_from(&view.columns);
        for refill in refills {
            record.columns[usize::from(refill.column.0)] = Some(refill.target);
        }
        let described = usize::from(record.description_rows) * usize::from(view.scheme.width());
        let headers = record.draft()?.seal(&record.witnesses[..described])?;
        let mut pieces: Vec<Vec<Piece>> = Vec::with_capacity(refills.len());
        for refill in refills {
            let header = headers.column(refill.column)?;
            let there = match is_in_place(view, refill) {
                true => self.raw(view, refill.column, record.row).await,
                false => None,
            };
            let is_there = there.is_some_and(|block| block[..] == header[..]);
            pieces.push(vec![
                (!is_there && !planted(Bug::RefillHeadless)).then(|| Aligned::copy_of(&header).freeze()),
            ]);
        }
        let rows = usize::from(record.rows);
        let mut at = record.row;
        let mut first = 0;
        loop {
            let count = ROWS_AT_ONCE.min(rows - first);
            self.gather_columns(view, &record, first, count, refills, &mut pieces, done).await;
            self.write_columns(at, refills, &mut pieces, done).await;
            first += count;
            if first == rows || !done.written_through {
                return Ok(());
            }
            at = record.row.plus(1 + u16::try_from(first).expect("a record's row"));
        }
    }

    /// The blocks of the wanted columns in some rows of a record, behind what `pieces` has already.
    #[allow(clippy::too_many_arguments)] // Which rows of which record of which segment, and where to.
    async fn gather_columns(
        &self,
        view: &View,
        record: &Record,
        first: usize,
        count: usize,
        refills: &[Refill],
        pieces: &mut [Vec<Piece>],
        done: &mut Refilled,
    ) {
        if count == 0 {
            return;
        }
        let behind = |index: usize| u8::try_from(first + index).expect("a record's row");
        let begin = record.row.plus(1 + u16::from(behind(0)));
        let witnesses = |index: usize, column: Column| record.witness(behind(index), column);
        let reads = refills.iter().map(|refill| self.span(view, refill.column, begin, count));
        let own = join_all(reads.collect()).await;
        let wanted: Vec<Column> = refills.iter().map(|refill| refill.column).collect();
        let mut band = Band::new(view.scheme, begin, vec![wanted.clone(); count]);
        for (column, span) in wanted.iter().zip(own) {
            (0..count).for_each(|index| band.give_up(index, *column));
            let ask = Ask { column: *column, first: 0, count };
            self.sift(view, &mut band, ask, span, &witnesses);
        }
        self.gather(view, &mut band, Vec::new(), &witnesses).await;
        done.read += band.sifted * BLOCK_U64;
        let zeros = Aligned::zeroed(BLOCK).freeze();
        for (index, row) in self.regenerate(view, &band, &witnesses).into_iter().enumerate() {
            let mut complete = true;
            for ((refill, pieces), block) in refills.iter().zip(pieces.iter_mut()).zip(row) {
                let column = refill.column;
                if planted(Bug::RefillZeros) && column.0 >= view.scheme.k() {
                    pieces.push(Some(zeros.clone()));
                    continue;
                }
                let is_read = band.good(index, column).is_some();
                let block = block.filter(|block| is_sound(record, behind(index), column, block));
                complete &= block.is_some();
                let is_there = block.is_some() && is_read && is_in_place(view, refill);
                pieces.push((!is_there).then(|| block.unwrap_or_else(|| zeros.clone())));
            }
            if !complete {
                done.at_risk.extend(record.owners(behind(index)));
            }
        }
    }

    async fn write_columns(
        &self,
        at: Row,
        refills: &[Refill],
        pieces: &mut [Vec<Piece>],
        done: &mut Refilled,
    ) {
        let mut writes = Vec::with_capacity(refills.len());
        for (refill, pieces) in refills.iter().zip(pieces) {
            for (first, run) in runs(std::mem::take(pieces)) {
                done.written += run.len() as u64 * BLOCK_U64;
                let Some((device, offset)) = self.locate(refill.target, at.plus(first)) else {
                    done.written_through = false;
                    return;
                };
                let slot = refill.target.slot;
                writes.push(async move { (slot, write_full(device.as_ref(), offset, run).await) });
            }
        }
        for (slot, outcome) in join_all(writes).await {
            if outcome.is_err() {
                self.pool.suspect(slot, Fault::Write);
                done.written_through = false;
            }
        }
    }
}

/// Whether a column is completed where it is.
fn is_in_place(view: &View, refill: &Refill) -> bool {
    view.columns[usize::from(refill.column.0)] == Some(refill.target)
}

/// The pieces to be written, in runs of neighbours, each with the place of its first.
fn runs(pieces: Vec<Piece>) -> Vec<(u16, Vec<Bytes>)> {
    let mut runs: Vec<(u16, Vec<Bytes>)> = Vec::new();
    let mut goes_on = false;
    for (at, piece) in (0u16..).zip(pieces) {
        match (piece, runs.last_mut()) {
            (Some(piece), Some((_, run))) if goes_on => run.push(piece),
            (Some(piece), _) => {
                runs.push((at, vec![piece]));
                goes_on = true;
            }
            (None, _) => goes_on = false,
        }
    }
    runs
}

/// The other witness: the checksum that a pointer would carry.
fn is_sound(record: &Record, row: u8, column: Column, block: &[u8]) -> bool {
    if column.0 >= record.scheme.k() {
        return true;
    }
    let entry = record.entry(row, column);
    entry.owner.identity().is_none_or(|identity| pointer_crc(block, &identity) == entry.crc)
}
