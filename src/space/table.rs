//! The segment table in memory. Its size is bounded by [`crate::limits::CHUNKS_MAX`], not by what is stored.
//!
//! Invariants ([`Space::check`]):
//! - a chunk belongs to at most one segment, or is free;
//! - `applied <= rows <= chunk_blocks`: rows up to `applied` are in the map, rows up to `rows` are written or
//!   being written;
//! - `live` counts the pointers of the durable trees, `pending` those of the overlays that wait to be merged:
//!   a segment dies when both are 0, it is sealed and no I/O on it is pending (rule 5);
//! - the log enters only chunks of the runway, which a durable checkpoint lists (rule 5).

use super::allocate::Purpose;
use crate::error::{Error, Result};
use crate::format::superblock::{ChunkAddress, MemberRecord, MemberState};
use crate::format::tables::{ColumnState, SegmentRecord};
use crate::types::{Chunk, Column, Row, Scheme, SegmentId, Slot};
use crate::zoo::{Bug, Mark, planted, reach, reach_if};
use std::collections::{BTreeMap, BTreeSet};

/// One redundancy group.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its scheme.
    pub scheme: Scheme,
    /// Its columns.
    pub columns: Vec<ColumnState>,
    /// Nothing will be added.
    pub sealed: bool,
    /// Rows written or being written.
    pub rows: u16,
    /// Rows whose records the map has.
    pub applied: u16,
    /// Pointers to it in the durable trees.
    pub live: u32,
    /// Pointers to it in the overlays.
    pub pending: u32,
    /// I/O on it that has not completed.
    pub pins: u32,
    /// What it is written for. Boot segments are listed in the superblock instead of in the table.
    pub purpose: Purpose,
}

impl Segment {
    /// Where a column is, if it was written.
    pub fn column(&self, column: Column) -> Option<ChunkAddress> {
        match self.columns.get(usize::from(column.0))? {
            ColumnState::Complete(address) => Some(*address),
            ColumnState::Partial(_) | ColumnState::Absent => None,
        }
    }

    /// The chunks it occupies.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkAddress> + '_ {
        self.columns.iter().filter_map(|state| match state {
            ColumnState::Complete(address) | ColumnState::Partial(address) => Some(*address),
            ColumnState::Absent => None,
        })
    }

    /// A segment that replay found and the table does not have yet.
    pub fn found(scheme: Scheme, columns: &[Option<ChunkAddress>], rows: u16) -> Segment {
        Segment {
            scheme,
            columns: columns
                .iter()
                .map(|column| column.map_or(ColumnState::Absent, ColumnState::Complete))
                .collect(),
            sealed: true,
            rows,
            applied: rows,
            live: 0,
            pending: 0,
            pins: 0,
            purpose: Purpose::Data,
        }
    }

    fn is_dead(&self) -> bool {
        self.is_settled()
            && (self.live == 0 || planted(Bug::FreedWhileLive))
            && self.pending == 0
            && !self.is_pinned()
    }

    fn is_pinned(&self) -> bool {
        reach_if(self.pins > 0, Mark::SegmentPinned);
        self.pins > 0
    }

    /// Nothing will be added and nothing is under way.
    pub fn is_settled(&self) -> bool {
        self.sealed && self.applied == self.rows
    }

    /// Its row of the table as of `applied`.
    pub fn record(&self, id: SegmentId) -> SegmentRecord {
        SegmentRecord {
            id,
            scheme: self.scheme,
            sealed: self.is_settled(),
            rows: Row(self.applied),
            live: self.live,
            columns: self.columns.clone(),
        }
    }
}

/// The chunks of one member.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    /// Whether new segments may use it.
    pub(super) active: bool,
    /// Chunks on it.
    pub(super) chunks: u32,
    /// Those in no segment.
    pub(super) free: BTreeSet<Chunk>,
    /// Those of `free` that the durable checkpoint lists.
    pub(super) runway: BTreeSet<Chunk>,
}

impl Member {
    /// A free chunk, rather one that the log does not enter.
    pub(super) fn off_runway(&self) -> Option<Chunk> {
        let other = self.free.iter().rev().find(|chunk| !self.runway.contains(chunk));
        other.or(self.free.last()).copied()
    }

    /// A free chunk is free no more.
    pub(super) fn take(&mut self, chunk: Chunk) {
        assert!(self.free.remove(&chunk), "only what is free is taken");
        self.runway.remove(&chunk);
    }
}

/// The segment table, and what is free.
#[derive(Clone, Debug)]
pub struct Space {
    pub(super) chunk_blocks: u16,
    pub(super) members: Vec<Member>,
    pub(super) segments: BTreeMap<SegmentId, Segment>,
    pub(super) next: SegmentId,
    /// Changed since the last durable checkpoint.
    dirty: BTreeSet<SegmentId>,
}

impl Space {
    /// An empty table. Segment numbers go on from `next`.
    ///
    /// # Errors
    /// When the chunk size cannot be addressed by rows.
    pub fn new(chunk_blocks: u32, members: &[MemberRecord], next: SegmentId) -> Result<Space> {
        let chunk_blocks =
            u16::try_from(chunk_blocks).map_err(|_| Error::corrupt("the chunk size is out of range"))?;
        let members = members
            .iter()
            .map(|record| Member {
                active: record.state == MemberState::Active,
                chunks: record.chunks,
                free: (0..record.chunks).map(Chunk).collect(),
                runway: BTreeSet::new(),
            })
            .collect();
        Ok(Space { chunk_blocks, members, segments: BTreeMap::new(), next, dirty: BTreeSet::new() })
    }

    /// Rows of a segment.
    pub fn chunk_rows(&self) -> u16 {
        self.chunk_blocks
    }

    /// Adds a row of a durable table, or a segment that replay found.
    ///
    /// # Errors
    /// When a chunk is out of range or belongs to another segment.
    pub fn insert(&mut self, id: SegmentId, segment: Segment) -> Result<()> {
        if segment.rows > self.chunk_blocks || segment.applied > segment.rows {
            return Err(Error::corrupt(format!("segment {id} has more rows than its chunks")));
        }
        let chunks: Vec<ChunkAddress> = segment.chunks().collect();
        for address in &chunks {
            let member = self.members.get_mut(usize::from(address.slot.0));
            if !member.is_some_and(|member| member.free.remove(&address.chunk)) {
                return Err(Error::corrupt(format!(
                    "segment {id} claims chunk {} of member {}, which is not free",
                    address.chunk, address.slot
                )));
            }
            self.members[usize::from(address.slot.0)].runway.remove(&address.chunk);
        }
        if self.segments.insert(id, segment).is_some() {
            return Err(Error::corrupt(format!("segment {id} is listed twice")));
        }
        self.next = self.next.max(SegmentId(id.0 + 1));
        Ok(())
    }

    /// Where segment numbers go on.
    pub fn next_segment(&self) -> SegmentId {
        self.next
    }

    /// Replay found that a segment of the table had grown.
    pub fn grow(&mut self, id: SegmentId, rows: u16) {
        let segment = self.change(id);
        reach_if(rows > segment.rows, Mark::SegmentGrown);
        segment.rows = segment.rows.max(rows);
        segment.applied = segment.rows;
    }

    /// What replay found in a segment may be missing on members that were not in use then: their columns are
    /// not trusted any more.
    pub fn doubt_absent(&mut self, id: SegmentId) {
        let in_use: Vec<bool> = self.members.iter().map(|member| member.active).collect();
        for column in &mut self.change(id).columns {
            if let ColumnState::Complete(at) = *column
                && !in_use[usize::from(at.slot.0)]
            {
                reach(Mark::ColumnDoubted);
                *column = ColumnState::Partial(at);
            }
        }
    }

    /// Nothing that a member holds is trusted any more: all its columns are to be verified.
    pub fn doubt_member(&mut self, slot: Slot) {
        let holds = |segment: &Segment| {
            segment.columns.iter().any(|c| matches!(c, ColumnState::Complete(at) if at.slot == slot))
        };
        let doubted: Vec<SegmentId> =
            self.segments.iter().filter(|(_, segment)| holds(segment)).map(|(id, _)| *id).collect();
        for id in doubted {
            for column in &mut self.change(id).columns {
                if let ColumnState::Complete(at) = *column
                    && at.slot == slot
                {
                    reach(Mark::MemberDoubted);
                    *column = ColumnState::Partial(at);
                }
            }
        }
    }

    /// The table's row of a segment must be written again.
    pub fn touch(&mut self, id: SegmentId) {
        self.change(id);
    }

    /// These members are in use, and no others.
    pub fn keep_active(&mut self, slots: &BTreeSet<Slot>) {
        for (slot, member) in (0..=u8::MAX).map(Slot).zip(&mut self.members) {
            member.active = slots.contains(&slot);
            if !member.active {
                member.runway.clear();
            }
        }
    }

    /// The segment, if there is one.
    pub fn get(&self, id: SegmentId) -> Option<&Segment> {
        self.segments.get(&id)
    }

    /// All segments in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (SegmentId, &Segment)> {
        self.segments.iter().map(|(id, segment)| (*id, segment))
    }

    pub(super) fn change(&mut self, id: SegmentId) -> &mut Segment {
        self.dirty.insert(id);
        self.segments.get_mut(&id).expect("a segment that is written or pointed to is in the table")
    }

    /// Rows of a segment were taken for a record.
    pub fn extend(&mut self, id: SegmentId, rows: u16) -> Row {
        let limit = self.chunk_blocks;
        let segment = self.change(id);
        assert!(!segment.sealed, "segment {id} is sealed");
        let first = segment.rows;
        segment.rows += rows;
        assert!(segment.rows <= limit, "segment {id} is written past its end");
        Row(first)
    }

    /// The records of a segment up to `rows` are in the map.
    pub fn apply(&mut self, id: SegmentId, rows: u16) {
        let segment = self.change(id);
        segment.applied = segment.applied.max(rows);
        assert!(segment.applied <= segment.rows);
    }

    /// Nothing more will be added to a segment. What was taken but not applied by now is given up.
    pub fn seal(&mut self, id: SegmentId) {
        self.change(id).sealed = true;
    }

    /// Rows of a sealed segment that were taken and that no batch waits for any more count as never taken: nothing
    /// points to them.
    pub fn settle(&mut self, id: SegmentId) {
        if planted(Bug::GivenUpUnsettled) {
            return;
        }
        let segment = self.change(id);
        reach_if(segment.rows > segment.applied, Mark::SegmentGivenUp);
        segment.rows = segment.applied;
    }

    /// Pointers appeared in (or left) an overlay.
    pub fn pend(&mut self, id: SegmentId, change: i64) {
        let segment = self.change(id);
        segment.pending = add(segment.pending, change).expect("an overlay lost a pointer it never had");
    }

    /// Pointers appeared in (or left) the durable trees, by the checkpoint being written: all or none.
    ///
    /// # Errors
    /// When more left than there were: the image contradicts itself.
    pub fn count(&mut self, changes: &BTreeMap<SegmentId, i64>) -> Result<()> {
        for (id, change) in changes {
            let segment = self.segments.get(id).ok_or_else(|| {
                Error::corrupt(format!("a tree points to segment {id}, which is not in the table"))
            })?;
            add(segment.live, *change).ok_or_else(|| {
                Error::corrupt(format!("segment {id} has fewer live blocks than were replaced"))
            })?;
        }
        for (id, change) in changes {
            let segment = self.segments.get_mut(id).expect("found above");
            segment.live = add(segment.live, *change).expect("checked above");
        }
        Ok(())
    }

    /// I/O on the segment begins: its chunks are not reused until [`Space::unpin`].
    pub fn pin(&mut self, id: SegmentId) -> bool {
        match self.segments.get_mut(&id) {
            Some(segment) => {
                segment.pins += 1;
                true
            }
            None => false,
        }
    }

    /// I/O on the segment completed.
    pub fn unpin(&mut self, id: SegmentId) {
        let segment = self.segments.get_mut(&id).expect("a pinned segment stays in the table");
        segment.pins -= 1;
    }

    /// Segments changed since the last durable checkpoint.
    pub fn dirty(&self) -> &BTreeSet<SegmentId> {
        &self.dirty
    }

    /// Takes the list of changed segments; whatever changes from now on belongs to the next checkpoint.
    pub fn take_dirty(&mut self) -> BTreeSet<SegmentId> {
        std::mem::take(&mut self.dirty)
    }

    /// Segments that nothing points to and nothing touches.
    pub fn dead(&self) -> Vec<SegmentId> {
        self.segments.iter().filter(|(_, segment)| segment.is_dead()).map(|(id, _)| *id).collect()
    }

    /// Removes a dead segment whose removal is durable on all members in use: its chunks are free (rule 5).
    pub fn remove(&mut self, id: SegmentId) {
        let segment = self.segments.remove(&id).expect("only a listed segment is removed");
        assert!(segment.pins == 0 && segment.pending == 0, "segment {id} is removed while in use");
        for address in segment.chunks().skip(usize::from(planted(Bug::ChunkLeaked))) {
            self.members[usize::from(address.slot.0)].free.insert(address.chunk);
        }
        self.dirty.remove(&id);
        reach(Mark::SegmentFreed);
    }

    /// The planted bug of that name: what [`Space::remove`] frees may be entered at once.
    pub(crate) fn reuse_early(&mut self, id: SegmentId) {
        let chunks: Vec<ChunkAddress> =
            self.segments.get(&id).into_iter().flat_map(Segment::chunks).collect();
        self.remove(id);
        for address in chunks {
            self.members[usize::from(address.slot.0)].runway.insert(address.chunk);
        }
    }

    /// What a segment of the table was written for, as its records say.
    pub fn reclassify(&mut self, id: SegmentId, purpose: Purpose) {
        self.change(id).purpose = purpose;
    }

    /// A member is in use, or is no more.
    pub fn set_active(&mut self, slot: Slot, active: bool) {
        self.members[usize::from(slot.0)].active = active;
    }

    /// Members that new segments may use.
    pub fn active(&self) -> usize {
        self.members.iter().filter(|member| member.active).count()
    }

    /// Chunks on members in use that are in no segment.
    pub fn free_chunks(&self) -> u64 {
        self.members.iter().filter(|member| member.active).map(|member| member.free.len() as u64).sum()
    }

    /// Chunks of a member that are in a segment.
    pub fn used_chunks(&self, slot: Slot) -> u32 {
        self.members.get(usize::from(slot.0)).map_or(0, |member| {
            member.chunks - u32::try_from(member.free.len()).expect("free chunks are some of all chunks")
        })
    }

    /// Asserts the invariants; for tests and the simulator.
    pub fn check(&self) {
        let mut seen = BTreeSet::new();
        for (id, segment) in &self.segments {
            assert!(segment.applied <= segment.rows && segment.rows <= self.chunk_blocks, "segment {id}");
            assert_eq!(segment.columns.len(), usize::from(segment.scheme.width()), "segment {id}");
            let mut slots = BTreeSet::new();
            for address in segment.chunks() {
                assert!(seen.insert(address), "{address:?} is in two segments");
                assert!(slots.insert(address.slot), "segment {id} has two columns on one member");
                assert!(!self.members[usize::from(address.slot.0)].free.contains(&address.chunk));
            }
        }
        for member in &self.members {
            assert!(member.runway.is_subset(&member.free), "the runway names chunks that are taken");
        }
    }
}

fn add(count: u32, change: i64) -> Option<u32> {
    u32::try_from(i64::from(count) + change).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::pool::new_member;
    use crate::types::Uuid;

    fn space() -> Space {
        let members = [1, 2].map(|uuid| new_member(Uuid([uuid; 16]), 8, "m", String::new()));
        Space::new(8, &members, SegmentId(0)).expect("sound")
    }

    fn segment(chunks: [(u8, u32); 2], rows: u16) -> Segment {
        let at =
            |(slot, chunk)| ColumnState::Complete(ChunkAddress { slot: Slot(slot), chunk: Chunk(chunk) });
        Segment {
            scheme: Scheme::MIRROR,
            columns: chunks.map(at).into(),
            sealed: true,
            rows,
            applied: rows,
            live: 3,
            pending: 0,
            pins: 0,
            purpose: Purpose::Boot,
        }
    }

    #[test]
    fn a_table_that_contradicts_itself_is_corrupt() {
        let mut space = space();
        space.insert(SegmentId(5), segment([(0, 0), (1, 0)], 8)).expect("sound");
        assert_eq!(space.next_segment(), SegmentId(6));
        for (id, chunks, rows, what) in [
            (6, [(0, 1), (1, 1)], 9, "more rows than its chunks"),
            (6, [(0, 0), (1, 1)], 8, "claims chunk 0 of member 0, which is not free"),
            (6, [(0, 2), (1, 8)], 8, "claims chunk 8 of member 1, which is not free"),
            (6, [(0, 3), (2, 1)], 8, "claims chunk 1 of member 2, which is not free"),
            (5, [(0, 4), (1, 4)], 8, "is listed twice"),
        ] {
            let error = space.insert(SegmentId(id), segment(chunks, rows)).expect_err(what);
            assert_eq!(error.kind(), Kind::Corrupt);
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn counts_change_all_or_not_at_all() {
        let mut space = space();
        space.insert(SegmentId(1), segment([(0, 0), (1, 0)], 8)).expect("sound");
        for (changes, what) in [
            ([(1, 4), (2, 1)], "a tree points to segment 2, which is not in the table"),
            ([(1, -4), (0, 0)], "which is not in the table"),
            ([(1, -4), (1, -4)], "segment 1 has fewer live blocks than were replaced"),
        ] {
            let changes = changes.map(|(id, change)| (SegmentId(id), change)).into();
            let error = space.count(&changes).expect_err(what);
            assert!(error.kind() == Kind::Corrupt && error.to_string().contains(what), "{error}");
            assert_eq!(space.get(SegmentId(1)).expect("there").live, 3);
        }
        space.count(&[(SegmentId(1), -3)].into()).expect("as many as there are");
        assert_eq!(space.dead(), [SegmentId(1)]);
    }
}
