//! Records that were found a moment ago: who reads one block that must be reconstructed will soon read its neighbours,
//! and the header of a record costs more I/O than they do.
//!
//! Invariants:
//! - A record is remembered only once it was verified. What the map points to never changes, and the number of a
//!   segment is never given out again; so what is remembered of a place stays true, but for the chunks, which
//!   rebuilds change.
//! - At most [`RECORDS_MAX`] are remembered.

use super::{Found, Stripes, View};
use crate::format::record::Record;
use crate::types::{Row, SegmentId};
use std::collections::VecDeque;
use std::sync::Arc;

/// Records that are remembered: a few MiB at most.
const RECORDS_MAX: usize = 32;

/// The records, the oldest first.
#[derive(Default)]
pub(super) struct Known {
    records: VecDeque<(SegmentId, Arc<Record>)>,
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
        if self.records.len() == RECORDS_MAX {
            self.records.pop_front();
        }
        self.records.push_back((segment, record));
    }
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
