//! What a segment says of itself: headers and descriptions, read from whichever column still has them.

use super::Stripes;
use super::span::Prompt;
use crate::checksum::witness;
use crate::device::read_full;
use crate::error::{Error, Result};
use crate::format::record::{Expected, HeaderPart, Record};
use crate::format::superblock::ChunkAddress;
use crate::format::tables::ColumnState;
use crate::types::{BLOCK, Column, Nonce, Row, Scheme, SegmentId};
use bytes::Bytes;

/// A segment as far as reading needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// The segment.
    pub segment: SegmentId,
    /// Its scheme.
    pub scheme: Scheme,
    /// Its columns; `None` where there is nothing to read.
    pub columns: Vec<Option<ChunkAddress>>,
}

/// What is in a row where a record should begin.
#[derive(Debug)]
pub enum Found {
    /// The record.
    Record(Box<Record>),
    /// A header, but too little of its description is left. The next record begins behind its rows.
    Broken {
        /// Rows behind the header.
        rows: u8,
        /// Columns that were read and do not hold what the header says.
        wrong: Vec<Column>,
    },
    /// No header.
    Nothing {
        /// Columns that were read and have none there.
        read: Vec<Column>,
    },
}

impl Stripes {
    /// A segment of the table.
    ///
    /// # Errors
    /// When the table has no such segment.
    pub fn view(&self, segment: SegmentId) -> Result<View> {
        self.space.with(|space| {
            let found = space
                .get(segment)
                .ok_or_else(|| Error::corrupt(format!("segment {segment} is not in the table")))?;
            let columns = found.scheme.columns().map(|column| found.column(column)).collect();
            Ok(View { segment, scheme: found.scheme, columns })
        })
    }

    /// A segment with its doubted columns, too: for reads that the witnesses verify.
    pub(super) fn wide_view(&self, view: &View) -> View {
        let mut wide = view.clone();
        self.space.with(|space| {
            let columns = space.get(view.segment).map_or(&[][..], |found| &found.columns);
            for (state, column) in columns.iter().zip(&mut wide.columns) {
                if let ColumnState::Partial(at) = state {
                    column.get_or_insert(*at);
                }
            }
        });
        wide
    }

    /// Whether a column of a segment is there but not known to be complete.
    pub(super) fn is_doubted(&self, view: &View, column: Column) -> bool {
        self.space.with(|space| {
            let state = space.get(view.segment).map(|found| found.columns[usize::from(column.0)]);
            matches!(state, Some(ColumnState::Partial(_)))
        })
    }

    /// One block of a column, unverified; only for what carries its own checksum.
    pub(super) async fn raw(&self, view: &View, column: Column, row: Row) -> Option<Bytes> {
        let address = view.columns[usize::from(column.0)]?;
        let (device, offset) = self.locate_to_read(address, row, 1)?;
        match read_full(device.as_ref(), offset, BLOCK).await {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.blame_read(address.slot, &error);
                None
            }
        }
    }

    /// The record whose header is in `row`, from the first column that still has it. With `nonce`, only a
    /// record of that opening counts.
    pub async fn find_record(&self, view: &View, row: Row, nonce: Option<Nonce>) -> Found {
        let mut best = Found::Nothing { read: Vec::new() };
        let mut late = Vec::new();
        for column in view.scheme.columns() {
            match self.prompt_span(view, column, row, 1).await {
                Prompt::Answered(span) => {
                    best = best.or(self.record_by(view, row, column, span, nonce).await);
                }
                Prompt::Late(read) => late.push((column, read)),
            }
            if matches!(best, Found::Record(_)) {
                return best;
            }
        }
        for (column, read) in late {
            let span = self.wait_for(view, read).await;
            best = best.or(self.record_by(view, row, column, span, nonce).await);
            if matches!(best, Found::Record(_)) {
                return best;
            }
        }
        best
    }

    /// The record that a column's header describes.
    async fn record_by(
        &self,
        view: &View,
        row: Row,
        column: Column,
        span: Vec<Option<Bytes>>,
        nonce: Option<Nonce>,
    ) -> Found {
        let Some(block) = span.into_iter().next().flatten() else {
            return Found::Nothing { read: Vec::new() };
        };
        let nothing = Found::Nothing { read: vec![column] };
        let expected = Expected { array: self.pool.identity().array, segment: view.segment, column, row };
        let Ok(part) = HeaderPart::decode(&block, Some(expected)) else { return nothing };
        let counts = nonce.is_none_or(|nonce| nonce == part.record.nonce);
        let is_ours = part.record.chunk_blocks == self.geometry.chunk_blocks;
        if !counts || !is_ours || part.record.scheme != view.scheme {
            return nothing;
        }
        match self.describe(view, row, &part).await {
            Some(blocks) => match part.finish(&blocks) {
                Ok(record) => Found::Record(Box::new(record)),
                Err(_) => Found::Broken { rows: part.record.rows, wrong: view.scheme.columns().collect() },
            },
            None => Found::Broken { rows: part.record.rows, wrong: self.misfits(view, row, &part).await },
        }
    }

    /// The first block of a chunk; read once more if that fails.
    pub async fn first_block(&self, address: ChunkAddress) -> Option<Bytes> {
        for _ in 0..2 {
            let (device, offset) = self.locate_to_read(address, Row(0), 1)?;
            match read_full(device.as_ref(), offset, BLOCK).await {
                Ok(block) => return Some(block),
                Err(error) => self.blame_read(address.slot, &error),
            }
        }
        None
    }

    /// Columns that were read and do not hold what a header says of the description behind it.
    async fn misfits(&self, view: &View, row: Row, part: &HeaderPart) -> Vec<Column> {
        let mut wrong = Vec::new();
        let count = part.record.description_rows;
        for column in view.scheme.columns() {
            let span = self.span(view, column, row.plus(1), usize::from(count)).await;
            let misfit = |(behind, block): (u8, &Option<Bytes>)| {
                block.as_ref().is_some_and(|block| witness(block) != part.record.witness(behind, column))
            };
            if (0..count).zip(&span).any(misfit) {
                wrong.push(column);
            }
        }
        wrong
    }

    /// The blocks of a header's description, verified by the header's own witnesses; `None` if one is lost.
    async fn describe(&self, view: &View, row: Row, part: &HeaderPart) -> Option<Vec<Bytes>> {
        let (k, needs) = (usize::from(view.scheme.k()), part.needs());
        let column = |index: usize| Column(u8::try_from(index).expect("k fits u8"));
        let wanted =
            (0..needs).step_by(k).map(|from| (0..k.min(needs - from)).map(column).collect()).collect();
        let behind = |index: usize| u8::try_from(index).expect("description rows fit u8");
        let witnesses = |index: usize, column: Column| part.record.witness(behind(index), column);
        let found = self.verified_or_rebuilt(view, row.plus(1), wanted, &witnesses).await;
        found.into_iter().flatten().collect()
    }
}

impl Found {
    /// What two columns say together: a record before a broken one before none.
    fn or(self, other: Found) -> Found {
        match (self, other) {
            (Found::Nothing { mut read }, Found::Nothing { read: more }) => {
                read.extend(more);
                Found::Nothing { read }
            }
            (found, Found::Nothing { .. }) => found,
            (_, found) => found,
        }
    }
}
