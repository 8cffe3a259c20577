//! The verified read: the one way by which bytes leave the engine (rule 6).

use super::span::Prompt;
use super::{Stripes, View};
use crate::checksum::pointer_crc;
use crate::error::{Error, Result};
use crate::types::{Column, Identity, Pointer, Row};
use bytes::Bytes;

/// A block to be read, and what it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Where it is and what it sums to.
    pub pointer: Pointer,
    /// What it is.
    pub identity: Identity,
}

impl Wanted {
    fn matches(&self, block: &[u8]) -> bool {
        pointer_crc(block, &self.identity) == self.pointer.crc
    }

    /// Whether `next` lies right behind in the same column.
    pub fn precedes(&self, next: &Wanted) -> bool {
        let (a, b) = (self.pointer.place, next.pointer.place);
        a.segment == b.segment && a.column == b.column && u32::from(a.row.0) + 1 == u32::from(b.row.0)
    }
}

impl Stripes {
    /// Reads a run of blocks that lie one behind the other in a column: one I/O, each block verified. What
    /// is unreadable or wrong is read once more, then reconstructed and healed in place; what takes too long is
    /// reconstructed. `None` for a block that is lost: more of its row is damaged than the scheme tolerates.
    ///
    /// # Errors
    /// When the segment is unknown.
    ///
    /// # Panics
    /// When the run is empty or not contiguous.
    pub async fn read(&self, run: &[Wanted]) -> Result<Vec<Option<Bytes>>> {
        assert!(run.windows(2).all(|pair| pair[0].precedes(&pair[1])), "a run is contiguous");
        let place = run[0].pointer.place;
        let view = self.view(place.segment)?;
        if place.column.0 >= view.scheme.k() {
            return Err(Error::corrupt(format!(
                "a pointer names column {} of segment {}, which has {} data columns",
                place.column,
                place.segment,
                view.scheme.k()
            )));
        }
        let _pin = self.pin(place.segment);
        let blocks = match self.prompt_span(&view, place.column, place.row, run.len()).await {
            Prompt::Answered(span) => self.verified(&view, run, span).await,
            Prompt::Late(late) => {
                let blocks = self.restored(&view, run, vec![None; run.len()], false).await;
                match blocks.iter().all(Option::is_some) {
                    true => {
                        self.count(|counters| counters.hedged += 1);
                        blocks
                    }
                    false => {
                        let span = self.wait_for(&view, late).await;
                        self.verified(&view, run, span).await
                    }
                }
            }
        };
        let lost = blocks.iter().filter(|block| block.is_none()).count() as u64;
        self.count(|counters| counters.lost += lost);
        Ok(blocks)
    }

    /// The blocks of a run, of which `blocks` was read.
    async fn verified(
        &self,
        view: &View,
        run: &[Wanted],
        mut blocks: Vec<Option<Bytes>>,
    ) -> Vec<Option<Bytes>> {
        for (wanted, block) in run.iter().zip(&mut blocks) {
            if block.as_ref().is_some_and(|bytes| wanted.matches(bytes)) {
                continue;
            }
            let place = wanted.pointer.place;
            if block.is_some() {
                self.charge_checksum(view, place.column);
            }
            // Once more: a transfer may have failed where the medium did not.
            let again = self.raw(view, place.column, place.row).await;
            *block = again.filter(|bytes| wanted.matches(bytes));
        }
        match blocks.iter().all(Option::is_some) {
            true => blocks,
            false => self.restored(view, run, blocks, true).await,
        }
    }

    /// The blocks of a run, those that are missing reconstructed, and healed where they are known to be bad.
    async fn restored(
        &self,
        view: &View,
        run: &[Wanted],
        mut blocks: Vec<Option<Bytes>>,
        heal: bool,
    ) -> Vec<Option<Bytes>> {
        // The checksum in a pointer is too short to choose by among what may be stale; witnesses are not.
        let wide = self.wide_view(view);
        let column = run[0].pointer.place.column;
        let mut at = 0;
        while at < run.len() {
            if blocks[at].is_some() {
                at += 1;
                continue;
            }
            let header = run[at].pointer.header_row();
            let end = (at..run.len())
                .find(|&next| blocks[next].is_some() || run[next].pointer.header_row() != header)
                .unwrap_or(run.len());
            let rebuilt = self.restore(&wide, header, column, &run[at..end]).await;
            for ((block, restored), wanted) in blocks[at..end].iter_mut().zip(rebuilt).zip(&run[at..end]) {
                if heal && let Some(bytes) = &restored {
                    self.heal(&wide, wanted.pointer.place.row, column, bytes.clone()).await;
                }
                *block = restored;
            }
            at = end;
        }
        blocks
    }

    /// Reconstructs consecutive blocks of one record, and checks both witnesses.
    async fn restore(&self, view: &View, header: Row, column: Column, run: &[Wanted]) -> Vec<Option<Bytes>> {
        let Some(record) = self.known_record(view, header).await else {
            return vec![None; run.len()];
        };
        let first = run[0].pointer;
        let known = run.iter().all(|wanted| {
            wanted.pointer.back <= record.rows && {
                let entry = record.entry(wanted.pointer.back - 1, column);
                entry.owner.identity() == Some(wanted.identity) && entry.crc == wanted.pointer.crc
            }
        });
        if !known {
            return vec![None; run.len()];
        }
        let offset = usize::from(first.back - 1);
        let mut blocks = self
            .rebuild_rows(view, first.place.row, run.len(), column, |index, other| {
                let row = u8::try_from(offset + index).expect("within the record");
                record.witness(row, other)
            })
            .await;
        for (wanted, block) in run.iter().zip(&mut blocks) {
            let trusted = self.bugs.has(crate::zoo::Bug::ParityUnverified);
            *block = block.take().filter(|bytes| trusted || wanted.matches(bytes));
        }
        blocks
    }
}
