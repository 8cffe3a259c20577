//! Whether a record is there as a whole, and giving it back the redundancy that a crash took.

use super::{Stripes, View};
use crate::checksum::witness;
use crate::device::Aligned;
use crate::error::Result;
use crate::format::record::{Expected, HeaderPart, Record};
use crate::runtime::join_all;
use crate::types::{BLOCK, Column};
use crate::zoo::{Bug, Mark, planted, reach};
use std::collections::BTreeSet;

/// Rows that are read at once: bounds the memory for the widest scheme.
const ROWS_AT_ONCE: usize = 16;

/// Rows of a record that cannot be reconstructed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Torn {
    /// The rows, counted from behind the header; none when the record is whole.
    pub rows: Vec<u8>,
    /// Columns that were read and do not hold what they should in one of these rows. Where there are none, nothing
    /// shows that the record was never whole.
    pub wrong: BTreeSet<Column>,
}

impl Stripes {
    /// Reads every block of a record on every member in use. When a row cannot be reconstructed, the record is
    /// torn, and the first such rows are returned. Otherwise each block and header that is missing or wrong is written
    /// again, with the bytes that its witness proves. No member is blamed: a crash may have torn the record.
    ///
    /// # Errors
    /// When a header cannot be encoded again.
    pub async fn make_whole(&self, view: &View, record: &Record) -> Result<Torn> {
        let rows = usize::from(record.rows);
        for first in (0..rows).step_by(ROWS_AT_ONCE) {
            let count = ROWS_AT_ONCE.min(rows - first);
            let torn = self.mend_rows(view, record, first, count, false).await;
            if !torn.rows.is_empty() {
                return Ok(torn);
            }
        }
        if !planted(Bug::MendWithoutHeaders) {
            self.mend_headers(view, record).await?;
        }
        Ok(Torn::default())
    }

    /// Reads and verifies every block of a record on every member that can be read, as [`Stripes::make_whole`] does,
    /// but goes on behind a row that cannot be reconstructed. Returns those rows, counted from behind the header.
    ///
    /// # Errors
    /// When a header cannot be encoded again.
    pub(super) async fn mend(&self, view: &View, record: &Record) -> Result<Vec<u8>> {
        let rows = usize::from(record.rows);
        let mut broken = Vec::new();
        for first in (0..rows).step_by(ROWS_AT_ONCE) {
            let count = ROWS_AT_ONCE.min(rows - first);
            broken.extend(self.mend_rows(view, record, first, count, true).await.rows);
        }
        if planted(Bug::ScrubWithoutHeaders) {
            return Ok(broken);
        }
        self.mend_headers(view, record).await?;
        Ok(broken)
    }

    /// What is read once and found good is what the rest is rebuilt from: a second read might not be as good.
    async fn mend_rows(
        &self,
        view: &View,
        record: &Record,
        first: usize,
        count: usize,
        blames: bool,
    ) -> Torn {
        let begin = record.row.plus(1 + u16::try_from(first).expect("a record's row"));
        let reads = view.scheme.columns().map(|column| self.span(view, column, begin, count));
        let spans = join_all(reads.collect()).await;
        let mut torn = Torn::default();
        for index in 0..count {
            let row = u8::try_from(first + index).expect("a record's row");
            let (mut good, mut wrong) = (Vec::new(), Vec::new());
            for (column, span) in view.scheme.columns().zip(&spans) {
                match &span[index] {
                    Some(block) if witness(block) == record.witness(row, column) => {
                        good.push((column, block))
                    }
                    found => {
                        if found.is_some() && blames {
                            self.charge_checksum(view, column);
                        }
                        wrong.push(column);
                    }
                }
            }
            if good.len() < usize::from(view.scheme.k()) {
                torn.rows.push(row);
                let was_read = |column: &Column| spans[usize::from(column.0)][index].is_some();
                torn.wrong.extend(wrong.into_iter().filter(was_read));
                continue;
            }
            let forgets = blames && planted(Bug::ScrubWithoutParity);
            wrong.retain(|column: &Column| !forgets || column.0 < view.scheme.k());
            let at = begin.plus(u16::try_from(index).expect("a record's row"));
            for column in wrong.into_iter().filter(|column| self.is_in_use(view, *column)) {
                let available: Vec<(Column, &[u8])> =
                    good.iter().map(|(column, block)| (*column, block.as_ref())).collect();
                let mut block = Aligned::zeroed(BLOCK);
                let rebuilt =
                    self.codec(view.scheme).reconstruct(&available, &[column], &mut [block.as_mut()]);
                if rebuilt.is_err() || witness(block.as_ref()) != record.witness(row, column) {
                    // The witnesses contradict each other.
                    torn.rows.push(row);
                    torn.wrong.extend(view.scheme.columns());
                    break;
                }
                reach(Mark::RowMended);
                self.heal(view, at, column, block.freeze()).await;
            }
        }
        torn
    }

    /// A header is as it must be when it says what the others say and names the chunk that it lies in. Those of
    /// a column that was rebuilt name its new chunk, those of the others the old one: each is right.
    async fn mend_headers(&self, view: &View, record: &Record) -> Result<()> {
        let width = usize::from(view.scheme.width());
        let described = usize::from(record.description_rows) * width;
        let here = Record { columns: view.columns.clone(), ..record.clone() };
        let headers = here.draft()?.seal(&record.witnesses[..described])?;
        let (array, row) = (self.pool.identity().array, record.row);
        for column in view.scheme.columns().filter(|column| self.is_in_use(view, *column)) {
            let expected = Expected { array, segment: view.segment, column, row };
            let found = self.raw(view, column, row).await;
            let part = found.and_then(|block| HeaderPart::decode(&block, Some(expected)).ok());
            let at = usize::from(column.0);
            let is_right = part.is_some_and(|part| {
                part.record.sequence == record.sequence
                    && part.record.nonce == record.nonce
                    && part.record.columns[at] == view.columns[at]
            });
            if !is_right {
                reach(Mark::HeaderMended);
                let whole = headers.column(column)?;
                self.heal(view, row, column, Aligned::copy_of(&whole).freeze()).await;
            }
        }
        Ok(())
    }

    fn is_in_use(&self, view: &View, column: Column) -> bool {
        view.columns[usize::from(column.0)].is_some_and(|address| self.pool.device(address.slot).is_some())
    }
}
