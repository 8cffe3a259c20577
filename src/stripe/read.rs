//! The verified read: the one way by which bytes leave the engine (rule 6).

use super::span::{Late, Prompt};
use super::{Pin, Stripes, View};
use crate::checksum::pointer_crc;
use crate::error::{Error, Result};
use crate::runtime::join_all;
use crate::types::{Identity, Pointer};
use crate::zoo::{Bug, Mark, planted, reach, reach_if};
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
    pub(super) fn matches(&self, block: &[u8]) -> bool {
        pointer_crc(block, &self.identity) == self.pointer.crc
    }

    /// Whether `next` lies right behind in the same column.
    pub fn precedes(&self, next: &Wanted) -> bool {
        let (a, b) = (self.pointer.place, next.pointer.place);
        a.segment == b.segment && a.column == b.column && u32::from(a.row.0) + 1 == u32::from(b.row.0)
    }
}

/// A run of blocks that is being read.
pub(super) struct Reading<'a> {
    pub(super) view: View,
    pub(super) run: &'a [Wanted],
    /// Those that are there match their pointer.
    pub(super) blocks: Vec<Option<Bytes>>,
    /// The read of it, while it is late and nobody waits for it.
    pub(super) late: Option<Late>,
    _pin: Option<Pin<'a>>,
}

impl Reading<'_> {
    fn is_complete(&self) -> bool {
        self.blocks.iter().all(Option::is_some)
    }
}

impl Stripes {
    /// Reads one run, as [`Stripes::read_all`] does.
    ///
    /// # Errors
    /// When the segment is unknown.
    ///
    /// # Panics
    /// When the run is empty or not contiguous.
    pub async fn read(&self, run: &[Wanted]) -> Result<Vec<Option<Bytes>>> {
        self.read_all(&[run]).await.pop().expect("an answer for each run")
    }

    /// Reads runs of blocks, each of which lie one behind the other in a column: one I/O for each run, each block
    /// verified. What is unreadable or wrong is read once more, then reconstructed and healed in place; what takes too
    /// long is reconstructed. What the runs have of a row is not read again for that. `None` for a block that is lost:
    /// more of its row is damaged than the scheme tolerates. Answers are in the order of the runs.
    ///
    /// # Errors
    /// For a run whose segment is unknown.
    ///
    /// # Panics
    /// When a run is empty or not contiguous.
    pub async fn read_all(&self, runs: &[&[Wanted]]) -> Vec<Result<Vec<Option<Bytes>>>> {
        let mut readings = join_all(runs.iter().map(|run| self.begin(run)).collect()).await;
        let mut incomplete: Vec<_> = readings.iter_mut().flatten().collect();
        if !incomplete.iter().all(|reading| reading.is_complete()) {
            self.restore(&mut incomplete).await;
            // Where the others do not suffice, the late ones are waited for after all.
            let waiting =
                incomplete.iter_mut().filter(|reading| reading.late.is_some() && !reading.is_complete());
            let waits: Vec<_> = waiting.map(|reading| self.finish(reading)).collect();
            if !waits.is_empty() {
                join_all(waits).await;
                self.restore(&mut incomplete).await;
            }
        }
        readings.into_iter().map(|reading| reading.map(|reading| self.end(reading))).collect()
    }

    /// Reads a run, unless that takes too long.
    async fn begin<'a>(&'a self, run: &'a [Wanted]) -> Result<Reading<'a>> {
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
        let (blocks, late) = match self.prompt_span(&view, place.column, place.row, run.len()).await {
            Prompt::Answered(blocks) => (self.verified(&view, run, blocks).await, None),
            Prompt::Late(late) => (vec![None; run.len()], Some(late)),
        };
        Ok(Reading { view, run, blocks, late, _pin })
    }

    /// Waits for a run that is late.
    async fn finish(&self, reading: &mut Reading<'_>) {
        if let Some(late) = reading.late.take() {
            reach(Mark::LateAwaited);
            let blocks = self.wait_for(&reading.view, late).await;
            reading.blocks = self.verified(&reading.view, reading.run, blocks).await;
        }
    }

    fn end(&self, reading: Reading<'_>) -> Vec<Option<Bytes>> {
        let lost = reading.blocks.iter().filter(|block| block.is_none()).count() as u64;
        self.count(|counters| {
            counters.lost += lost;
            counters.hedged += u64::from(reading.late.is_some());
        });
        reading.blocks
    }

    /// The blocks of a run, of which `blocks` was read, as far as they match their pointers.
    async fn verified(
        &self,
        view: &View,
        run: &[Wanted],
        mut blocks: Vec<Option<Bytes>>,
    ) -> Vec<Option<Bytes>> {
        for (wanted, block) in run.iter().zip(&mut blocks) {
            if block.as_ref().is_some_and(|bytes| wanted.matches(bytes) || planted(Bug::ReadUnverified)) {
                continue;
            }
            let place = wanted.pointer.place;
            if block.is_some() {
                self.charge_checksum(view, place.column);
            }
            // Once more: a transfer may have failed where the medium did not.
            let again = self.raw(view, place.column, place.row).await;
            *block = again.filter(|bytes| wanted.matches(bytes));
            reach_if(block.is_some(), Mark::ReadAgain);
        }
        blocks
    }
}
