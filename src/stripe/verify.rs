//! Whether a record is there as a whole, and giving it back the redundancy that a crash took.

use super::{Stripes, View};
use crate::checksum::witness;
use crate::device::Aligned;
use crate::error::Result;
use crate::format::record::{HeaderPart, Record};
use crate::runtime::join_all;
use crate::types::{BLOCK, Column, Row};

/// Rows that are read at once: bounds the memory for the widest scheme.
const ROWS_AT_ONCE: usize = 16;

impl Stripes {
    /// Reads every block of a record on every member in use. `false` when a row cannot be reconstructed: the
    /// record is torn. Otherwise each block and header that is missing or wrong is written again, with the
    /// bytes that its witness proves.
    ///
    /// # Errors
    /// When a header cannot be encoded again.
    pub async fn make_whole(&self, view: &View, record: &Record) -> Result<bool> {
        let rows = usize::from(record.rows);
        for first in (0..rows).step_by(ROWS_AT_ONCE) {
            let count = ROWS_AT_ONCE.min(rows - first);
            if !self.make_rows_whole(view, record, first, count).await {
                return Ok(false);
            }
        }
        self.mend_headers(view, record, record.row).await?;
        Ok(true)
    }

    /// What is read once and found good is what the rest is rebuilt from: a second read might not be as good.
    async fn make_rows_whole(&self, view: &View, record: &Record, first: usize, count: usize) -> bool {
        let begin = record.row.plus(1 + u16::try_from(first).expect("a record's row"));
        let reads = view.scheme.columns().map(|column| self.span(view, column, begin, count));
        let spans = join_all(reads.collect()).await;
        for index in 0..count {
            let row = u8::try_from(first + index).expect("a record's row");
            let (mut good, mut wrong) = (Vec::new(), Vec::new());
            for (column, span) in view.scheme.columns().zip(&spans) {
                match &span[index] {
                    Some(block) if witness(block) == record.witness(row, column) => {
                        good.push((column, block))
                    }
                    _ => wrong.push(column),
                }
            }
            if good.len() < usize::from(view.scheme.k()) {
                return false;
            }
            let at = begin.plus(u16::try_from(index).expect("a record's row"));
            for column in wrong.into_iter().filter(|column| self.is_in_use(view, *column)) {
                let available: Vec<(Column, &[u8])> =
                    good.iter().map(|(column, block)| (*column, block.as_ref())).collect();
                let mut block = Aligned::zeroed(BLOCK);
                let rebuilt =
                    self.codec(view.scheme).reconstruct(&available, &[column], &mut [block.as_mut()]);
                if rebuilt.is_err() || witness(block.as_ref()) != record.witness(row, column) {
                    return false;
                }
                self.heal(view, at, column, block.freeze()).await;
            }
        }
        true
    }

    async fn mend_headers(&self, view: &View, record: &Record, row: Row) -> Result<()> {
        let width = usize::from(view.scheme.width());
        let described = usize::from(record.description_rows) * width;
        let headers = record.draft()?.seal(&record.witnesses[..described])?;
        for column in view.scheme.columns().filter(|column| self.is_in_use(view, *column)) {
            let found = self.raw(view, column, row).await;
            let whole = headers.column(column)?;
            if found.as_ref().is_none_or(|block| block[..] != whole[..]) {
                debug_assert!(HeaderPart::decode(&whole, None).is_ok());
                self.heal(view, row, column, Aligned::copy_of(&whole).freeze()).await;
            }
        }
        Ok(())
    }

    fn is_in_use(&self, view: &View, column: Column) -> bool {
        view.columns[usize::from(column.0)].is_some_and(|address| self.pool.device(address.slot).is_some())
    }
}
