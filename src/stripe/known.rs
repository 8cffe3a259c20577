//! Records that were found a moment ago: who reads one block that must be reconstructed will soon read its neighbours,
//! and the header of a record costs more I/O than they do.
//!
//! Invariants:
//! - A record is remembered only once it was verified. What the map points to never changes, and the number of a
//!   segment is never given out again; so what is remembered of a place stays true, but for the chunks, which
//!   rebuilds change.
//! - At most [`RECORDS_MAX`] are remembered, and no more than describe [`BLOCKS_MAX`] blocks, but for a single one.

use super::{Found, Stripes, View};
use crate::format::record::Record;
use crate::types::{Row, SegmentId};
use std::collections::VecDeque;
use std::sync::Arc;

/// Records that are remembered.
const RECORDS_MAX: usize = 32;
/// Blocks that these describe, parity included, each of which takes some 50 bytes: 3 MiB.
const BLOCKS_MAX: usize = 1 << 16;

/// The records, the oldest first.
#[derive(Default)]
pub(super) struct Known {
    records: VecDeque<(SegmentId, Arc<Record>)>,
    /// Blocks that they describe.
    blocks: usize,
}

impl Known {
    fn get(&self, segment: SegmentId, row: Row) -> Option<Arc<Record>> {
        let found = self.records.iter().rev().find(|(at, record)| *at == segment && record.row == row);
        found.map(|(_, record)| record.clone())
    }

    fn insert(&mut self, segment: SegmentId, record: Arc<Record>) {
        if self.get(segment, record.row).is_some() {
            return;
        }
        self.blocks += blocks(&record);
        self.records.push_back((segment, record));
        while self.records.len() > RECORDS_MAX || (self.blocks > BLOCKS_MAX && self.records.len() > 1) {
            self.blocks -= self.records.pop_front().map_or(0, |(_, oldest)| blocks(&oldest));
        }
    }
}

/// Blocks that a record describes.
fn blocks(record: &Record) -> usize {
    usize::from(record.rows) * usize::from(record.scheme.width())
}

impl Stripes {
    /// The record whose header is in `row`, which a pointer names; its chunks may have changed since.
    pub(super) async fn known_record(&self, view: &View, row: Row) -> Option<Arc<Record>> {
        if let Some(record) = self.known.with(|known| known.get(view.segment, row)) {
            return Some(record);
        }
        let Found::Record(record) = self.find_record(view, row, None).await else { return None };
        let record = Arc::<Record>::from(record);
        self.known.with(|known| known.insert(view.segment, record.clone()));
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::types::{Epoch, Nonce, Scheme, Sequence, Uuid};

    fn record(scheme: Scheme, row: u16, rows: u8) -> Arc<Record> {
        Arc::new(Record {
            array: Uuid([1; 16]),
            chunk_blocks: 512,
            segment: SegmentId(2),
            scheme,
            columns: vec![None; scheme.width().into()],
            row: Row(row),
            rows,
            description_rows: 1,
            epoch: Epoch(4),
            nonce: Nonce(5),
            sequence: Sequence(7),
            group: (Sequence(7), Sequence(7)),
            intervals: Vec::new(),
            changes: Vec::new(),
            entries: Vec::new(),
            witnesses: Vec::new(),
        })
    }

    fn remembered(known: &Known) -> Vec<u16> {
        known.records.iter().map(|(_, record)| record.row.0).collect()
    }

    #[test]
    fn the_oldest_records_make_room_for_new_ones() {
        let mut known = Known::default();
        let narrow = Scheme::new(4, 2).expect("sound");
        (0..40).for_each(|row| known.insert(SegmentId(2), record(narrow, row, 9)));
        assert_eq!(remembered(&known), (8..40).collect::<Vec<_>>());
        assert_eq!(known.blocks, 32 * 9 * 6);
        known.insert(SegmentId(2), record(narrow, 20, 9));
        assert_eq!(remembered(&known).len(), 32, "what is remembered already is not remembered twice");
    }

    #[test]
    fn wide_records_are_bounded_by_what_they_describe() {
        let mut known = Known::default();
        let wide = Scheme::new(200, 55).expect("sound");
        (0..5).for_each(|row| known.insert(SegmentId(2), record(wide, row, 100)));
        assert_eq!(remembered(&known), [3, 4]);
        let widest = record(wide, 9, 255);
        let blocks_of_widest = blocks(&widest);
        known.insert(SegmentId(2), widest);
        known.insert(SegmentId(2), record(wide, 10, 255));
        assert_eq!(remembered(&known), [10], "one is remembered, however wide");
        assert_eq!(known.blocks, blocks_of_widest);
    }
}
