//! What replay could not read, and whose history may go on there.
//!
//! A record that was acknowledged as durable has a header on every member that its segment has a column on, and so
//! has what is in the rows behind it. One member that shows something else proves that it never was: so where a member
//! that was in use when it was written answers, an end of the log is an end. Where nobody can answer for it, because
//! members are away or their reads fail, the history of whoever writes there is in doubt.
//!
//! Of a chunk of the runway nobody knows who else would answer for it, and most are free. One that cannot be read, on a
//! member that otherwise answers, has a bad sector where most probably nothing is; only members that do not answer at
//! all may hide a segment.

use crate::format::superblock::ChunkAddress;
use crate::pool::Witnesses;
use crate::stripe::View;
use crate::types::{Column, Number, Scheme, Slot, VolumeId};
use crate::zoo::{Bug, Mark, planted, reach};
use std::collections::{BTreeMap, BTreeSet};

/// Where nobody can answer for the end of the log.
pub(super) struct Doubts<'a> {
    witnesses: &'a Witnesses,
    /// Members with chunks in the runway.
    listed: BTreeSet<Slot>,
    /// Those of them whose chunks could not all be read.
    unread: BTreeSet<Slot>,
    /// Those of them that may have missed something, or do not answer at all.
    silent: BTreeSet<Slot>,
    /// Schemes of segments that end where nobody answers.
    schemes: BTreeSet<Scheme>,
    /// Volumes whose next record is there but cannot be verified, and its last number.
    volumes: BTreeMap<VolumeId, Number>,
}

impl<'a> Doubts<'a> {
    pub(super) fn new(witnesses: &'a Witnesses) -> Doubts<'a> {
        Doubts {
            witnesses,
            listed: BTreeSet::new(),
            unread: BTreeSet::new(),
            silent: BTreeSet::new(),
            schemes: BTreeSet::new(),
            volumes: BTreeMap::new(),
        }
    }

    /// The first block of a chunk of the runway was read, or could not be.
    pub(super) fn chunk(&mut self, address: ChunkAddress, was_read: bool) {
        self.listed.insert(address.slot);
        if !was_read && !planted(Bug::UnreadTaken) {
            self.unread.insert(address.slot);
        }
        if !self.answers_for(address.slot) {
            self.silent.insert(address.slot);
        }
    }

    /// Whether a member has all that was ever durable in the segments that it has a part of.
    fn answers_for(&self, slot: Slot) -> bool {
        self.witnesses.in_use.contains(&slot) || self.witnesses.informed.contains(&slot)
    }

    /// Members whose chunks of the runway could not all be read.
    pub(super) fn unread(&self) -> &BTreeSet<Slot> {
        &self.unread
    }

    /// A member does not answer at all.
    pub(super) fn silent(&mut self, slot: Slot) {
        self.silent.insert(slot);
    }

    /// Whether one of these columns, which were read, lies on a member that answers for it.
    pub(super) fn is_proven(&self, view: &View, columns: impl IntoIterator<Item = Column>) -> bool {
        let slots = columns.into_iter().filter_map(|column| view.columns[usize::from(column.0)]);
        slots.into_iter().any(|address| self.answers_for(address.slot)) || planted(Bug::UnreadTaken)
    }

    /// A segment ends where only these columns could be read.
    pub(super) fn end(&mut self, view: &View, read: Vec<Column>) {
        if !self.is_proven(view, read) {
            reach(Mark::EndUnproven);
            self.schemes.insert(view.scheme);
        }
    }

    /// The history of a volume goes on with a record that cannot be verified.
    pub(super) fn record(&mut self, volume: VolumeId, through: Number) {
        self.volumes.insert(volume, through);
    }

    /// The last number that a volume may have lost, whose history was found up to `at`.
    pub(super) fn of(&self, volume: VolumeId, scheme: Scheme, at: Number) -> Option<Number> {
        // Where members are missing, segments are narrower, with the same m.
        let writes = |other: &Scheme| other.m() == scheme.m() && other.k() <= scheme.k();
        let hidden = self.hides_segment(scheme) || self.schemes.iter().any(writes);
        match self.volumes.get(&volume).filter(|through| **through > at) {
            Some(through) => Some(*through),
            None => hidden.then(|| at.next()),
        }
    }

    /// Whether a whole segment may lie in chunks for which nobody answers. It has as many columns as its scheme, or
    /// as there were members in use. If these had become fewer by then than the scheme has columns, it has one on each
    /// that is in use now.
    fn hides_segment(&self, scheme: Scheme) -> bool {
        let width = usize::from(scheme.width());
        let hides = |silent: usize, listed: usize| silent > 0 && silent >= width.min(listed);
        let in_use = |slots: &BTreeSet<Slot>| slots.intersection(&self.witnesses.in_use).count();
        hides(self.silent.len(), self.listed.len()) || hides(in_use(&self.silent), in_use(&self.listed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Chunk, SegmentId};

    fn slots(slots: &[u8]) -> BTreeSet<Slot> {
        slots.iter().map(|slot| Slot(*slot)).collect()
    }

    fn in_use(of: &[u8]) -> Witnesses {
        Witnesses { in_use: slots(of), ..Witnesses::default() }
    }

    fn at(slot: u8) -> ChunkAddress {
        ChunkAddress { slot: Slot(slot), chunk: Chunk(slot.into()) }
    }

    fn lost(doubts: &Doubts, k: u8, m: u8) -> Option<Number> {
        doubts.of(VolumeId(1), Scheme::new(k, m).expect("valid"), Number(7))
    }

    #[test]
    fn members_that_do_not_answer_hide_segments_that_are_no_wider() {
        let all = in_use(&[0, 1, 2, 3, 4, 5]);
        let mut doubts = Doubts::new(&all);
        (0..6).for_each(|slot| doubts.chunk(at(slot), slot > 1));
        assert_eq!(doubts.unread(), &slots(&[0, 1]));
        assert_eq!(lost(&doubts, 1, 1), None, "bad sectors in free chunks");
        (0..2).for_each(|slot| doubts.silent(Slot(slot)));
        assert_eq!(lost(&doubts, 4, 2), None);
        assert_eq!(lost(&doubts, 2, 1), None);
        assert_eq!(lost(&doubts, 1, 1), Some(Number(8)));
        (2..6).for_each(|slot| doubts.silent(Slot(slot)));
        assert_eq!(lost(&doubts, 4, 2), Some(Number(8)));
        assert_eq!(lost(&Doubts::new(&all), 1, 0), None, "there is no runway");
    }

    #[test]
    fn segments_that_were_opened_without_an_absent_member_are_narrower() {
        // Member 1 was evicted under this runway: what was written since lies on member 0 alone.
        let zero = in_use(&[0]);
        let mut doubts = Doubts::new(&zero);
        doubts.chunk(at(1), true);
        doubts.chunk(at(0), true);
        assert_eq!(lost(&doubts, 1, 1), None, "what was written to both is on member 0, too");
        doubts.silent(Slot(0));
        assert_eq!(lost(&doubts, 1, 1), Some(Number(8)));
        assert_eq!(lost(&doubts, 4, 2), Some(Number(8)));
    }

    #[test]
    fn the_end_of_a_segment_is_proven_by_one_member_that_missed_nothing() {
        let two = in_use(&[1, 2]);
        let scheme = Scheme::new(2, 1).expect("valid");
        let view = View { segment: SegmentId(1), scheme, columns: vec![Some(at(0)), Some(at(1)), None] };
        let mut doubts = Doubts::new(&two);
        doubts.end(&view, vec![Column(0), Column(1)]);
        assert_eq!(lost(&doubts, 2, 1), None);
        // Member 0 was evicted; it was there until then, if it knows of the checkpoint.
        let informed = Witnesses { informed: slots(&[0]), ..two.clone() };
        let mut answered = Doubts::new(&informed);
        answered.chunk(at(0), true);
        answered.end(&view, vec![Column(0)]);
        assert_eq!(lost(&answered, 2, 1), None);
        doubts.end(&view, vec![Column(0)]);
        assert_eq!(lost(&doubts, 2, 1), Some(Number(8)));
        assert_eq!(lost(&doubts, 4, 1), Some(Number(8)), "its segments may be as narrow");
        assert_eq!(lost(&doubts, 1, 1), None);
        assert_eq!(lost(&doubts, 2, 2), None);
        doubts.record(VolumeId(1), Number(12));
        assert_eq!(lost(&doubts, 2, 2), Some(Number(12)));
    }
}
