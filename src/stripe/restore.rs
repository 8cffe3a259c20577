//! What the runs of a call miss, reconstructed record by record: from what the call has read of the same rows, and
//! from whatever else they need, which is read once for all.
//!
//! Invariants:
//! - What the call has matches pointers, and their checksum is too short to compute anything from it: it counts as a
//!   good block of its row only once its witness has been verified.
//! - What is answered matches both witnesses.

use super::band::{Ask, Band};
use super::read::Reading;
use super::{Stripes, View, Wanted};
use crate::format::record::Record;
use crate::format::superblock::ChunkAddress;
use crate::runtime::join_all;
use crate::types::{Column, Row, SegmentId};
use crate::zoo::{Bug, planted};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A block that a call misses: the number of its run, and its place there.
type Index = (usize, usize);

/// The blocks of rows that a call has.
type AtHand = BTreeMap<(SegmentId, Row), Vec<(Column, Bytes)>>;

/// A block to be restored.
struct Missing {
    index: Index,
    wanted: Wanted,
    /// Where it was read in vain; `None` if it was not read, because its column was doubted or absent.
    read_at: Option<ChunkAddress>,
    /// It is known to be bad, and not only late.
    is_bad: bool,
}

impl Stripes {
    /// Puts what is missing in its place, as far as it can be reconstructed, and heals what is known to be bad.
    pub(super) async fn restore(&self, readings: &mut [&mut Reading<'_>]) {
        let (records, at_hand) = survey(readings);
        let restored = records.iter().map(|((_, header), missing)| {
            let view = &readings[missing[0].index.0].view;
            self.restore_record(view, *header, missing, &at_hand)
        });
        for ((run, at), block) in join_all(restored.collect()).await.into_iter().flatten() {
            readings[run].blocks[at] = Some(block);
        }
    }

    /// Reconstructs blocks of one record, verifies, and heals. Returns those that it brought back. `view` is from when
    /// the call began to read.
    async fn restore_record(
        &self,
        view: &View,
        header: Row,
        missing: &[Missing],
        at_hand: &AtHand,
    ) -> Vec<(Index, Bytes)> {
        // The checksum in a pointer is too short to choose by among what may be stale; witnesses are not.
        let mut wide = self.view_now(view);
        loop {
            let restored = self.restore_by(&wide, header, missing, at_hand).await;
            let now = self.view_now(view);
            // Nothing is lost that a rebuild has put elsewhere meanwhile.
            if restored.len() == missing.len() || now == wide {
                return restored;
            }
            wide = now;
        }
    }

    /// The segment with its columns, doubted ones too, as they are now.
    fn view_now(&self, before: &View) -> View {
        self.wide_view(&self.view(before.segment).unwrap_or_else(|_| before.clone()))
    }

    /// [`Stripes::restore_record`] with the columns as they are in `view`.
    async fn restore_by(
        &self,
        view: &View,
        header: Row,
        missing: &[Missing],
        at_hand: &AtHand,
    ) -> Vec<(Index, Bytes)> {
        let Some(record) = self.known_record(view, header).await else { return Vec::new() };
        let missing: Vec<&Missing> =
            missing.iter().filter(|missing| is_known(&record, &missing.wanted)).collect();
        let blocks = self.reconstruct(view, &record, &missing, at_hand).await;
        let trusted = planted(Bug::ParityUnverified);
        let restored: Vec<(&Missing, Bytes)> = missing
            .into_iter()
            .zip(blocks)
            .filter_map(|(missing, block)| Some((missing, block?)))
            .filter(|(missing, block)| trusted || missing.wanted.matches(block))
            .collect();
        let bad = restored.iter().filter(|(missing, _)| missing.is_bad);
        let heals = bad.map(|(missing, block)| {
            let place = missing.wanted.pointer.place;
            self.heal(view, place.row, place.column, block.clone())
        });
        join_all(heals.collect()).await;
        restored.into_iter().map(|(missing, block)| (missing.index, block)).collect()
    }

    /// Blocks that a record describes, from others of their rows.
    async fn reconstruct(
        &self,
        view: &View,
        record: &Record,
        missing: &[&Missing],
        at_hand: &AtHand,
    ) -> Vec<Option<Bytes>> {
        let rows = missing.iter().map(|missing| missing.wanted.pointer.place.row.0);
        let (Some(first), Some(last)) = (rows.clone().min(), rows.max()) else { return Vec::new() };
        let mut columns = vec![BTreeSet::new(); usize::from(last - first) + 1];
        for missing in missing {
            let place = missing.wanted.pointer.place;
            columns[usize::from(place.row.0 - first)].insert(place.column);
        }
        let columns = columns.into_iter().map(|columns| columns.into_iter().collect()).collect();
        let mut band = Band::new(view.scheme, Row(first), columns);
        let behind = |index: usize| {
            let row = usize::from(first) + index - usize::from(record.row.0) - 1;
            u8::try_from(row).expect("within the record")
        };
        let witnesses = |index: usize, column: Column| record.witness(behind(index), column);
        for missing in missing {
            let place = missing.wanted.pointer.place;
            // What is somewhere else by now, or was not read, may be good.
            if missing.read_at == view.columns[usize::from(place.column.0)] {
                band.give_up(usize::from(place.row.0 - first), place.column);
            }
        }
        for index in 0..band.len() {
            let row = Row(first).plus(u16::try_from(index).expect("a record's row"));
            for (column, block) in at_hand.get(&(view.segment, row)).into_iter().flatten() {
                band.give_up(index, *column);
                let ask = Ask { column: *column, first: index, count: 1 };
                self.sift(view, &mut band, ask, vec![Some(block.clone())], &witnesses);
            }
        }
        self.gather(view, &mut band, Vec::new(), &witnesses).await;
        let blocks = self.regenerate(view, &band, &witnesses);
        let block = |missing: &&Missing| {
            let place = missing.wanted.pointer.place;
            let index = usize::from(place.row.0 - first);
            let at = band.wanted(index).binary_search(&place.column).ok()?;
            blocks[index][at].clone()
        };
        missing.iter().map(block).collect()
    }
}

/// What the runs miss, by the rows of the headers that describe it, and what they have of the same rows.
fn survey(readings: &[&mut Reading<'_>]) -> (BTreeMap<(SegmentId, Row), Vec<Missing>>, AtHand) {
    let mut records: BTreeMap<_, Vec<Missing>> = BTreeMap::new();
    let mut at_hand = AtHand::new();
    for (run, reading) in readings.iter().enumerate() {
        for (at, wanted) in reading.run.iter().enumerate().filter(|(at, _)| reading.blocks[*at].is_none()) {
            let (pointer, place) = (wanted.pointer, wanted.pointer.place);
            let read_at = reading.view.columns[usize::from(place.column.0)];
            let missing =
                Missing { index: (run, at), wanted: *wanted, read_at, is_bad: reading.late.is_none() };
            records.entry((place.segment, pointer.header_row())).or_default().push(missing);
            at_hand.insert((place.segment, place.row), Vec::new());
        }
    }
    for reading in readings {
        for (wanted, block) in reading.run.iter().zip(&reading.blocks) {
            let place = wanted.pointer.place;
            if let (Some(block), Some(row)) = (block, at_hand.get_mut(&(place.segment, place.row))) {
                row.push((place.column, block.clone()));
            }
        }
    }
    (records, at_hand)
}

/// Whether a record has this block.
fn is_known(record: &Record, wanted: &Wanted) -> bool {
    let pointer = wanted.pointer;
    pointer.back <= record.rows && {
        let entry = record.entry(pointer.back - 1, pointer.place.column);
        entry.owner.identity() == Some(wanted.identity) && entry.crc == pointer.crc
    }
}
