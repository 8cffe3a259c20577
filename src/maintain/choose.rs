//! Which segments are worth emptying. Pure.

use crate::commit::blocks_per_segment;
use crate::space::{Purpose, Segment, Space};
use crate::types::{Scheme, SegmentId};
use std::collections::BTreeMap;

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
    let mut found: Vec<(u128, Victim)> = Vec::new();
    let mut rooms: BTreeMap<Scheme, u64> = BTreeMap::new();
    let count = space.iter().count();
    for (index, (id, segment)) in space.iter().enumerate() {
        if !segment.purpose.is_log() || !is_movable(segment) || walked.get(&id) == Some(&segment.live) {
            continue;
        }
        let scheme = segment.scheme;
        let room = *rooms.entry(scheme).or_insert_with(|| blocks_per_segment(space.chunk_rows(), scheme));
        let victim = Victim { id, scheme, live: segment.live.into(), room };
        if victim.live * 32 > room * need.fullest() || victim.live >= room {
            continue;
        }
        let age = count - index;
        found.push((score(&victim, age, need), victim));
    }
    found.sort_by_key(|(score, victim)| (std::cmp::Reverse(*score), victim.id));
    found.into_iter().map(|(_, victim)| victim).collect()
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
