//! Segments that lack columns, and chunks for them.
//!
//! A chunk is claimed before anything is written to it: it is neither free nor in a segment until it is either
//! adopted as a column or given back. After a crash it is free again, because no table names it.

use super::allocate::{Purpose, Reserves};
use super::table::{Segment, Space};
use crate::format::superblock::{ChunkAddress, MemberRecord};
use crate::format::tables::ColumnState;
use crate::types::{Chunk, Column, SegmentId, Slot};
use crate::zoo::{Bug, Mark, planted, reach};
use std::collections::BTreeSet;

/// A segment that lacks columns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lacking {
    /// The segment.
    pub segment: SegmentId,
    /// The columns that are not complete on a member in use.
    pub columns: Vec<Column>,
    /// How many more columns it could lose without losing data; below 0 when data is lost.
    pub spare: i16,
    /// Rows that each of them has.
    pub rows: u16,
}

impl Space {
    /// A member joins the array, in use; it may take a slot that was free.
    ///
    /// # Panics
    /// When a segment has a chunk in that slot.
    pub fn add_member(&mut self, slot: Slot, record: &MemberRecord) {
        assert_eq!(self.used_chunks(slot), 0, "a slot that is taken again is empty");
        let member = super::table::Member {
            active: true,
            chunks: record.chunks,
            free: (0..record.chunks).map(Chunk).collect(),
            runway: BTreeSet::new(),
        };
        let at = usize::from(slot.0);
        match self.members.get_mut(at) {
            Some(old) => *old = member,
            None => {
                assert_eq!(self.members.len(), at, "slots have no gaps");
                self.members.push(member);
            }
        }
    }

    /// Segments with something in them that lack columns, the most endangered first. Of those that are being
    /// written, or are `next` or later, none.
    pub fn lacking(&self, next: SegmentId) -> Vec<Lacking> {
        let mut found: Vec<Lacking> = self
            .segments
            .range(..next)
            .filter(|(_, segment)| segment.is_settled() && segment.live + segment.pending > 0)
            .filter_map(|(id, segment)| {
                let columns: Vec<Column> =
                    segment.scheme.columns().filter(|column| !self.has(*id, *column)).collect();
                let lost = i16::try_from(columns.len()).expect("at most 255 columns");
                (lost > 0).then(|| Lacking {
                    segment: *id,
                    columns,
                    spare: i16::from(segment.scheme.m()) - lost,
                    rows: segment.rows,
                })
            })
            .collect();
        found.sort_by_key(|lacking| (lacking.spare, lacking.segment));
        found
    }

    /// A segment that would lose data if this member were lost, too.
    pub fn needs(&self, slot: Slot) -> Option<SegmentId> {
        let wanted = self.segments.iter().filter(|(_, segment)| segment.live + segment.pending > 0);
        let mut at_risk = wanted.filter(|(id, segment)| {
            let left = segment.scheme.columns().filter(|column| {
                self.has(**id, *column) && segment.column(*column).is_some_and(|at| at.slot != slot)
            });
            segment.chunks().any(|at| at.slot == slot) && left.count() < usize::from(segment.scheme.k())
        });
        at_risk.next().map(|(id, _)| *id)
    }

    /// Open segments that lack columns.
    pub fn lacking_open(&self) -> BTreeSet<SegmentId> {
        let open = self.segments.iter().filter(|(_, segment)| !segment.sealed);
        open.filter(|(id, segment)| segment.scheme.columns().any(|column| !self.has(**id, column)))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Open segments of the log in which nothing lives and nothing is under way.
    pub fn idle_open(&self) -> BTreeSet<SegmentId> {
        let is_idle = |segment: &Segment| {
            let is_untouched = segment.live == 0 && segment.pending == 0 && segment.pins == 0;
            segment.purpose.is_log() && !segment.sealed && segment.applied == segment.rows && is_untouched
        };
        self.segments.iter().filter(|(_, segment)| is_idle(segment)).map(|(id, _)| *id).collect()
    }

    /// Whether a column is complete on a member in use.
    pub fn has(&self, id: SegmentId, column: Column) -> bool {
        let address = self.segments.get(&id).and_then(|segment| segment.column(column));
        address.is_some_and(|at| self.members[usize::from(at.slot.0)].active)
    }

    /// Claims a chunk for a column that a segment lacks: the one that it has already, where that is on a member
    /// in use, else one on the member with the most room that has no other column of the segment. `None` when
    /// there is no room beside the reserves, or the segment is gone.
    pub fn claim(
        &mut self,
        id: SegmentId,
        column: Column,
        taken: &[ChunkAddress],
        reserves: Reserves,
    ) -> Option<ChunkAddress> {
        let segment = self.segments.get(&id)?;
        if let ColumnState::Partial(at) = segment.columns[usize::from(column.0)]
            && self.members[usize::from(at.slot.0)].active
        {
            return Some(at);
        }
        let others: BTreeSet<Slot> =
            segment.chunks().chain(taken.iter().copied()).map(|at| at.slot).collect();
        let keep = reserves.kept_from(Purpose::Data);
        let (slot, _) = (0..=u8::MAX)
            .map(Slot)
            .zip(&self.members)
            .filter(|(_, member)| member.active && member.free.len() > keep)
            .filter(|(slot, _)| !others.contains(slot) || planted(Bug::TwoColumnsOnOneMember))
            .max_by_key(|(slot, member)| (member.free.len(), std::cmp::Reverse(*slot)))?;
        let member = &mut self.members[usize::from(slot.0)];
        let chunk = member.off_runway().expect("it has more than the reserve");
        member.take(chunk);
        Some(ChunkAddress { slot, chunk })
    }

    /// Gives a chunk back that was free when it was claimed. One that a column had already goes with its segment, which
    /// may be gone by now, and another may have the chunk.
    ///
    /// # Panics
    /// When it is free.
    pub fn give_back(&mut self, address: ChunkAddress) {
        let is_news = self.members[usize::from(address.slot.0)].free.insert(address.chunk);
        assert!(is_news, "only what was taken is given back");
        reach(Mark::ClaimGivenBack);
    }

    /// A claimed chunk holds the column now, durably. The one that held it before is free.
    ///
    /// # Panics
    /// When there is no such segment.
    pub fn adopt(&mut self, id: SegmentId, column: Column, address: ChunkAddress) {
        let state = &mut self.change(id).columns[usize::from(column.0)];
        let old = std::mem::replace(state, ColumnState::Complete(address));
        reach(match old.address() {
            None => Mark::ColumnAdded,
            Some(old) if old == address => Mark::ColumnFilledInPlace,
            Some(_) => Mark::ColumnFilledElsewhere,
        });
        if let Some(old) = old.address().filter(|old| *old != address) {
            // It is on a member that is not in use: nobody takes it before that member comes back, and that is
            // behind the checkpoint that writes this row, also while the array is open.
            assert!(!self.members[usize::from(old.slot.0)].active, "a column in use is not replaced");
            self.members[usize::from(old.slot.0)].free.insert(old.chunk);
        }
    }

    /// Whether no segment has a chunk on a member.
    pub fn is_empty(&self, slot: Slot) -> bool {
        self.used_chunks(slot) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::superblock::MemberState;
    use crate::types::{Epoch, Scheme, Uuid};

    fn record(chunks: u32) -> MemberRecord {
        MemberRecord {
            uuid: Uuid([1; 16]),
            state: MemberState::Active,
            since: Epoch(0),
            chunks,
            errors: [0; 4],
            path: String::new(),
            label: String::new(),
        }
    }

    fn reserves(checkpoint: u32) -> Reserves {
        Reserves { checkpoint, cleaner: 0 }
    }

    /// Four members of ten chunks with one 2+1 segment on the first three.
    fn space() -> (Space, SegmentId) {
        let records: Vec<MemberRecord> = (0..4).map(|_| record(10)).collect();
        let mut space = Space::new(8, &records, SegmentId(5)).expect("sound");
        let columns: Vec<_> =
            (0..3).map(|slot| Some(ChunkAddress { slot: Slot(slot), chunk: Chunk(2) })).collect();
        let found = Segment::found(Scheme::new(2, 1).expect("sound"), &columns, 8);
        space.insert(SegmentId(1), Segment { live: 3, purpose: Purpose::Data, ..found }).expect("sound");
        (space, SegmentId(1))
    }

    #[test]
    fn what_a_member_held_is_claimed_on_another_one_and_adopted() {
        let (mut space, id) = space();
        assert!(space.lacking(SegmentId(9)).is_empty());
        space.set_active(Slot(1), false);
        let lacking = space.lacking(SegmentId(9)).remove(0);
        assert_eq!((lacking.columns.as_slice(), lacking.spare), (&[Column(1)][..], 0));
        assert!(space.lacking(id).is_empty(), "it is not covered yet");
        let address = space.claim(id, Column(1), &[], reserves(2)).expect("there is room");
        assert_eq!(address.slot, Slot(3));
        space.give_back(address);
        let address = space.claim(id, Column(1), &[], reserves(2)).expect("there is room");
        space.adopt(id, Column(1), address);
        assert!(space.lacking(SegmentId(9)).is_empty() && space.is_empty(Slot(1)));
        space.check();
    }

    #[test]
    fn without_a_fourth_member_or_room_nothing_is_claimed() {
        let (mut space, id) = space();
        space.set_active(Slot(0), false);
        assert_eq!(space.claim(id, Column(0), &[], reserves(10)), None);
        let taken = space.claim(id, Column(0), &[], reserves(2)).expect("there is room");
        assert_eq!(space.claim(id, Column(2), &[taken], reserves(2)), None);
    }

    #[test]
    fn a_doubted_column_is_filled_again_where_it_is() {
        let (mut space, id) = space();
        space.set_active(Slot(2), false);
        space.doubt_absent(id);
        space.set_active(Slot(2), true);
        assert_eq!(space.lacking(SegmentId(9))[0].columns, [Column(2)]);
        let address = space.claim(id, Column(2), &[], reserves(2)).expect("its own");
        assert_eq!(address, ChunkAddress { slot: Slot(2), chunk: Chunk(2) });
        space.adopt(id, Column(2), address);
        space.check();
    }

    // A rebuild completed a doubted column where it was, and gave its chunk back because the segment had been freed
    // meanwhile: another segment had the chunk by then, and a third one got it as well (seed 927).
    #[test]
    #[should_panic(expected = "only what was taken is given back")]
    fn the_chunk_of_a_segment_that_is_gone_is_not_given_back() {
        let (mut space, id) = space();
        space.doubt_member(Slot(2));
        let address = space.claim(id, Column(2), &[], reserves(2)).expect("its own");
        space.remove(id);
        space.give_back(address);
    }

    #[test]
    fn a_new_member_takes_a_new_slot_or_an_empty_one() {
        let (mut space, _) = space();
        space.add_member(Slot(4), &record(7));
        space.set_active(Slot(3), false);
        space.add_member(Slot(3), &record(20));
        assert_eq!((space.active(), space.used_chunks(Slot(3))), (5, 0));
        space.check();
    }
}
