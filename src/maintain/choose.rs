//! Which segments are worth emptying. Pure.

use crate::commit::blocks_per_segment;
use crate::space::{Purpose, Segment, Space};
use crate::types::{Scheme, SegmentId, Slot};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// How hard room is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    /// Whatever gives the most room for the work, old segments first: what is young may die by itself.
    Some,
    /// The emptiest, as long as anything is gained.
    Any,
}

impl Need {
    /// How full a segment may be, in 32nds.
    fn fullest(self) -> u64 {
        match self {
            Need::Some => 28,
            Need::Any => 31,
        }
    }
}

/// A segment that may be emptied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Victim {
    /// The segment.
    pub(super) id: SegmentId,
    /// Its scheme.
    pub(super) scheme: Scheme,
    /// Blocks of it that are live.
    pub(super) live: u64,
    /// Blocks of user data that a full segment of its scheme has.
    pub(super) room: u64,
}

/// What the cleaner remembers of segments that it walked through in vain: their live blocks at that time. It
/// comes back when there are fewer.
pub(super) type Walked = BTreeMap<SegmentId, u32>;

/// The segments of the log worth emptying, best first: until they are gone they are settled, in no overlay, and
/// nobody reads them.
pub(super) fn victims(space: &Space, walked: &Walked, need: Need) -> Vec<Victim> {
    let movable = movable(space, walked);
    let ages = (1..=movable.len()).rev();
    let is_worth_it =
        |victim: &Victim| victim.live * 32 <= victim.room * need.fullest() && victim.live < victim.room;
    let mut found: Vec<(u128, Victim)> = movable
        .into_iter()
        .zip(ages)
        .filter(|((victim, _), _)| is_worth_it(victim))
        .map(|((victim, _), age)| (score(&victim, age, need), victim))
        .collect();
    found.sort_by_key(|(score, victim)| (Reverse(*score), victim.id));
    found.into_iter().map(|(_, victim)| victim).collect()
}

/// Segments to be written again only because of where they lie: on members of which no more than `least` chunks are
/// free, while others have more. A wide segment needs room on many members, and what is freed is spread by chance. Each
/// of them, one after the other, makes what is free more even; so there is an end.
pub(super) fn uneven(space: &Space, walked: &Walked, least: usize) -> Vec<Victim> {
    let mut free = space.free_of_members();
    if free.values().all(|chunks| *chunks > least) {
        return Vec::new();
    }
    let mut found = movable(space, walked);
    found.sort_by_key(|(victim, _)| (victim.live, victim.id));
    let mut chosen = Vec::new();
    // By width: the table may be long, and only what is chosen changes them.
    let mut targets: BTreeMap<u8, BTreeSet<Slot>> = BTreeMap::new();
    for (victim, segment) in found {
        let width = space.fit(victim.scheme).width();
        let to = targets.entry(width).or_insert_with(|| roomiest(&free, width.into()));
        let from: BTreeSet<Slot> =
            segment.chunks().map(|at| at.slot).filter(|slot| free.contains_key(slot)).collect();
        let (gives, takes): (Vec<Slot>, Vec<Slot>) =
            (from.difference(to).copied().collect(), to.difference(&from).copied().collect());
        let sum = |slots: &[Slot]| slots.iter().map(|slot| free[slot]).sum::<usize>();
        let is_short = gives.iter().any(|slot| free[slot] <= least);
        if is_short && gives.len() == takes.len() && sum(&takes) > sum(&gives) + takes.len() {
            gives.into_iter().for_each(|slot| *free.entry(slot).or_default() += 1);
            takes.into_iter().for_each(|slot| *free.entry(slot).or_default() -= 1);
            targets.clear();
            chosen.push(victim);
        }
    }
    chosen
}

/// The members on which a segment of this width would be opened.
fn roomiest(free: &BTreeMap<Slot, usize>, width: usize) -> BTreeSet<Slot> {
    let mut slots: Vec<Slot> = free.keys().copied().collect();
    slots.sort_by_key(|slot| (Reverse(free[slot]), *slot));
    slots.into_iter().take(width).collect()
}

/// The segments of the log that can be emptied, oldest first.
fn movable<'a>(space: &'a Space, walked: &Walked) -> Vec<(Victim, &'a Segment)> {
    let mut rooms: BTreeMap<Scheme, u64> = BTreeMap::new();
    let mut found = Vec::new();
    for (id, segment) in space.iter() {
        if segment.purpose.is_log() && is_movable(segment) && walked.get(&id) != Some(&segment.live) {
            let scheme = segment.scheme;
            let room = *rooms.entry(scheme).or_insert_with(|| blocks_per_segment(space.chunk_rows(), scheme));
            found.push((Victim { id, scheme, live: segment.live.into(), room }, segment));
        }
    }
    found
}

/// Room gained for blocks read and written: (1 - u) / (1 + u), times age where there is time to wait for more.
fn score(victim: &Victim, age: usize, need: Need) -> u128 {
    let (live, room) = (u128::from(victim.live), u128::from(victim.room));
    let gain = (room - live) * 1_000_000 / (room + live);
    match need {
        Need::Some => gain * age as u128,
        Need::Any => gain,
    }
}

fn is_movable(segment: &Segment) -> bool {
    let whole = !segment
        .columns
        .iter()
        .any(|column| matches!(column, crate::format::tables::ColumnState::Partial(_)));
    segment.is_settled() && segment.live > 0 && segment.pending == 0 && segment.pins == 0 && whole
}

/// The emptiest segments of pages, while pages take more than twice the room that they need: at most so many
/// that they have `pages` live pages.
pub(super) fn page_victims(space: &Space, walked: &Walked, pages: u64) -> Vec<SegmentId> {
    let meta = |segment: &Segment| segment.purpose == Purpose::Meta && is_movable(segment);
    let room = |segment: &Segment| u64::from(segment.rows) * u64::from(segment.scheme.k());
    let mut found: Vec<(u64, SegmentId)> = Vec::new();
    let (mut live, mut all) = (0, 0);
    for (id, segment) in space.iter().filter(|(_, segment)| meta(segment)) {
        live += u64::from(segment.live);
        all += room(segment);
        if u64::from(segment.live) * 2 <= room(segment) && walked.get(&id) != Some(&segment.live) {
            found.push((segment.live.into(), id));
        }
    }
    if all <= 2 * live {
        return Vec::new();
    }
    found.sort_unstable();
    let mut sum = 0;
    let fits = |(live, _): &(u64, SegmentId)| {
        sum += live;
        sum <= pages
    };
    found.into_iter().take_while(fits).map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::superblock::{ChunkAddress, MemberRecord, MemberState};
    use crate::types::{Chunk, Epoch, Uuid};

    /// Members of ten chunks, with segments of mirrors, all full, on these pairs of them.
    fn space(members: u8, pairs: &[(u8, u8)]) -> Space {
        let record = MemberRecord {
            uuid: Uuid([1; 16]),
            state: MemberState::Active,
            since: Epoch(0),
            chunks: 10,
            errors: [0; 4],
            path: String::new(),
            label: String::new(),
        };
        let records = vec![record; members.into()];
        let mut space = Space::new(16, &records, SegmentId(0)).expect("sound");
        for (id, (first, second)) in (0..).zip(pairs) {
            let column = |slot| {
                let chunk = (0..).map(Chunk).find(|chunk| !taken(&space, slot, *chunk)).expect("endless");
                Some(ChunkAddress { slot: Slot(slot), chunk })
            };
            let mirror = Scheme::new(1, 1).expect("sound");
            let found = Segment::found(mirror, &[column(*first), column(*second)], 16);
            space.insert(SegmentId(id), Segment { live: 15, ..found }).expect("sound");
        }
        space
    }

    fn taken(space: &Space, slot: u8, chunk: Chunk) -> bool {
        space
            .iter()
            .any(|(_, segment)| segment.chunks().any(|at| at == ChunkAddress { slot: Slot(slot), chunk }))
    }

    fn ids(victims: &[Victim]) -> Vec<u64> {
        victims.iter().map(|victim| victim.id.0).collect()
    }

    #[test]
    fn a_segment_on_members_that_are_full_is_moved_to_those_that_are_not() {
        // Free are 2, 2, 10 and 10 chunks.
        let pairs = [(0, 1); 8];
        let space = space(4, &pairs);
        let free: Vec<usize> = space.free_of_members().into_values().collect();
        assert_eq!(free, [2, 2, 10, 10]);
        assert!(uneven(&space, &Walked::new(), 1).is_empty(), "nobody is short");
        assert_eq!(ids(&uneven(&space, &Walked::new(), 2)), [0], "then nobody is short any more");
        assert_eq!(ids(&uneven(&space, &Walked::new(), 8)).len(), 4, "then all have six");
        assert_eq!(ids(&uneven(&space, &Walked::from([(SegmentId(0), 15)]), 2)), [1]);
    }

    #[test]
    fn nothing_is_moved_where_that_makes_nothing_more_even() {
        // Free are 2, 3 and 3 chunks.
        let space = space(
            3,
            &[(0, 1), (0, 2), (1, 2), (0, 1), (0, 2), (1, 2), (0, 1), (0, 2), (1, 2), (0, 1), (0, 2)],
        );
        assert!(uneven(&space, &Walked::new(), 5).is_empty());
    }
}
