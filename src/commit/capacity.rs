//! How much an array holds: reserves, and the fill up to which new blocks are accepted (rule 13).
//!
//! Members of any sizes and volumes of several schemes share the chunks, so fill is a sum of fractions: the
//! segments that the blocks of one scheme need at best, of the segments that would fit if nothing else were
//! there. A set of segments fits if these fractions add up to at most one (let each have its fraction of every
//! member). At [`FILL_MAX`] the emptiest segment is so empty that the cleaner still gains by moving what is
//! left in it.

use super::core::Core;
use crate::format::record::Plan;
use crate::format::superblock::{MemberState, Superblock};
use crate::limits::WRITE_BLOCKS_MAX;
use crate::space::{Reserves, Space, runway_quota};
use crate::types::Scheme;
use std::collections::BTreeMap;

/// One, as a fraction of room.
pub(crate) const WHOLE: u64 = 1_000_000;
/// The fill up to which new blocks are accepted: 15/16.
pub(crate) const FILL_MAX: u64 = 937_500;
/// Entries that a page of a map is reckoned to have. On average they are two thirds full; the rest is for pages
/// that are dead and not yet emptied by the page mover.
pub(super) const ENTRIES_PER_PAGE: u64 = 42;
/// Segments of a scheme that are only partly filled: that of fresh and that of moved blocks.
const OPEN_SEGMENTS: u64 = 2;
/// Segments of pages that are only partly filled: one of the segment table, one of the others.
pub(super) const OPEN_OF_PAGES: u64 = 2;
/// A call may need one in so many segments at once; a longer one waits until the cleaner finds it more.
pub(super) const CALL_SHARE: u64 = 8;
/// Rows of a segment that a batch may lose at its end: a header of its own for the part that goes on in the
/// next segment, the last row that it only fills partly, one row too few for a record.
const LOST_ROWS: u64 = 3;

/// What is kept free, and what a checkpoint may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    /// What is kept free.
    pub(super) reserves: Reserves,
    /// Pages that a checkpoint may write: half of its reserve is enough for them.
    pub(super) pages_max: u64,
}

impl Limits {
    /// Those of an array whose pages have the scheme `meta`.
    pub(super) fn of(superblock: &Superblock, chunk_rows: u16, meta: Scheme) -> Limits {
        let there = superblock.members.iter().filter(|record| record.state != MemberState::Removed);
        let smallest = there.map(|record| record.chunks).min().unwrap_or(0);
        let (reserves, pages_max) = reserves(chunk_rows, meta, smallest, superblock.members.len());
        Limits { reserves, pages_max }
    }

    /// Pages that merging the overlay may take; the rest is for pages that are written anew without a change.
    pub(super) fn budget(self) -> u64 {
        self.pages_max - self.pages_max / 8
    }
}

/// What is kept free, and how many pages a checkpoint may write so that half of its reserve is enough.
fn reserves(chunk_rows: u16, meta: Scheme, chunks_min: u32, members: usize) -> (Reserves, u64) {
    let pages = pages_per_segment(chunk_rows, meta);
    // The runway must hold both, and twice as much for user data.
    let quota = runway_quota(members) as u64;
    // One segment is being filled, one holds the segment table.
    let segments = (u64::from(chunks_min) / 40).min(quota / 4).max(64u64.div_ceil(pages) + 2);
    let cleaner = (u64::from(chunks_min) / 40).min(quota / 8).max(CLEANER_CHUNKS_MIN);
    let chunks = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    (Reserves { checkpoint: chunks(2 * segments), cleaner: chunks(cleaner) }, (segments - 2) * pages)
}

/// The cleaner's reserve at least: each crash may leave it one segment that is hardly filled.
const CLEANER_CHUNKS_MIN: u64 = 4;

pub(super) fn pages_per_segment(chunk_rows: u16, meta: Scheme) -> u64 {
    // A record of pages spends a header and at most two description rows on up to 33 rows.
    let rows = u64::from(chunk_rows).saturating_sub(3 * u64::from(chunk_rows).div_ceil(33));
    rows.max(1) * u64::from(meta.k())
}

/// Blocks of user data in a segment that is filled with the largest records.
pub(crate) fn blocks_per_segment(chunk_rows: u16, scheme: Scheme) -> u64 {
    let largest = Plan::for_room(scheme, u32::MAX, 0).expect("every scheme has a record");
    let rows = largest.rows_with_header();
    let rest = Plan::for_room(scheme, u32::from(chunk_rows % rows), 0).map_or(0, |plan| plan.blocks);
    (u64::from(chunk_rows / rows) * largest.blocks as u64 + rest as u64).max(1)
}

/// Rows that a batch of `blocks` blocks takes at most, with `preamble` bytes of intervals and changes.
pub(super) fn rows_of(scheme: Scheme, blocks: u64, preamble: u64) -> u64 {
    let (k, width) = (u64::from(scheme.k()), u64::from(scheme.width()));
    let data = blocks.div_ceil(k);
    let described = (data * (40 * k + 8 * width) + preamble).div_ceil(4096 * k);
    let largest = Plan::for_room(scheme, u32::MAX, 0).map_or(1, |plan| u64::from(plan.rows)).max(1);
    data + described + (data + described).div_ceil(largest).max(1)
}

/// Segments that a batch takes at most.
pub(super) fn segments_of(chunk_rows: u16, scheme: Scheme, blocks: u64, preamble: u64) -> u64 {
    segments_of_rows(chunk_rows, rows_of(scheme, blocks, preamble))
}

/// Segments that batches of so many rows take at most.
pub(super) fn segments_of_rows(chunk_rows: u16, rows: u64) -> u64 {
    rows.div_ceil(u64::from(chunk_rows).saturating_sub(LOST_ROWS).max(1))
}

/// What so many live blocks of each scheme, their maps and what is always half filled take of the room.
pub(super) fn fill(space: &Space, reserves: Reserves, meta: Scheme, live: &BTreeMap<Scheme, u64>) -> u64 {
    let rows = space.chunk_rows();
    let share = |wanted: Scheme, segments: u64| {
        let all = space.most_segments(wanted, reserves).max(1);
        (segments.saturating_mul(WHOLE) / all, all)
    };
    let (mut sum, mut call) = (0u64, 0u64);
    for (&wanted, &blocks) in live {
        let scheme = space.fit(wanted);
        // Where nothing lives, open segments are given up when room is short, and a call needs one again.
        let open = if blocks > 0 { OPEN_SEGMENTS } else { 0 };
        let (part, all) = share(wanted, blocks.div_ceil(blocks_per_segment(rows, scheme)) + open);
        sum = sum.saturating_add(part);
        // The largest call must find its room at once, without the blocks that it replaces being free.
        let largest = segments_of(rows, scheme, if blocks > 0 { WRITE_BLOCKS_MAX } else { 0 }, 0);
        call = call.max(share(wanted, largest.min(all / CALL_SHARE).max(1)).0);
    }
    let pages = live.values().sum::<u64>().div_ceil(ENTRIES_PER_PAGE);
    let needed = pages.div_ceil(pages_per_segment(rows, space.fit(meta))) + OPEN_OF_PAGES;
    let (metadata, _) = share(meta, needed);
    sum.saturating_add(call).saturating_add(metadata)
}

impl Core {
    /// What everything accepted and `more` blocks of one scheme take of the room.
    pub(super) fn fill_with(&self, scheme: Scheme, more: u64) -> u64 {
        let mut live = self.accepted();
        *live.entry(scheme).or_default() += more;
        self.fill_of(&live)
    }

    /// For each scheme the blocks that everything accepted has.
    pub(super) fn accepted(&self) -> BTreeMap<Scheme, u64> {
        let mut live = self.catalog.with(|catalog| catalog.live());
        self.log.with(|log| {
            for (scheme, blocks) in log.claimed() {
                *live.entry(scheme).or_default() += blocks;
            }
        });
        live
    }

    /// What so many live blocks of each scheme take of the room, in parts of [`WHOLE`]; new blocks are
    /// accepted up to [`FILL_MAX`].
    pub(crate) fn fill_of(&self, live: &BTreeMap<Scheme, u64>) -> u64 {
        self.fill_at(self.meta_scheme(), self.reserves(), live)
    }

    /// The same, with metadata of this scheme and these reserves.
    pub(super) fn fill_at(&self, meta: Scheme, reserves: Reserves, live: &BTreeMap<Scheme, u64>) -> u64 {
        self.stripes.space.with(|space| fill(space, reserves, meta, live))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::superblock::MemberRecord;
    use crate::layout::{Geometry, default_chunk_blocks};
    use crate::limits::RING_BYTES;
    use crate::types::{BLOCK_U64, Epoch, SegmentId, Uuid};

    const MIB: u64 = 1 << 20;

    fn space(sizes: &[u64]) -> Space {
        let chunk_blocks = default_chunk_blocks(sizes);
        let member = |size: &u64| MemberRecord {
            uuid: Uuid::default(),
            state: MemberState::Active,
            since: Epoch(0),
            chunks: Geometry { chunk_blocks }.chunks_on(*size),
            errors: [0; 4],
            path: String::new(),
            label: String::new(),
        };
        let members: Vec<MemberRecord> = sizes.iter().map(member).collect();
        Space::new(chunk_blocks, &members, SegmentId(0)).expect("sound")
    }

    /// Superblocks, reserves and the metadata of a full array, as a share of the members in percent.
    fn overhead(member: u64, members: usize, scheme: Scheme) -> f64 {
        let space = space(&vec![member; members]);
        let rows = space.chunk_rows();
        let chunk = u64::from(rows) * BLOCK_U64;
        let chunks = Geometry { chunk_blocks: rows.into() }.chunks_on(member);
        let (reserves, _) = reserves(rows, scheme, chunks, members);
        let kept = u64::from(reserves.checkpoint + reserves.cleaner) * chunk;
        let blocks = space.most_segments(scheme, reserves) * blocks_per_segment(rows, scheme);
        let pages = blocks.div_ceil(ENTRIES_PER_PAGE).div_ceil(pages_per_segment(rows, scheme));
        let metadata = pages * u64::from(scheme.width()) * chunk / members as u64;
        (2 * RING_BYTES + kept + metadata) as f64 * 100.0 / member as f64
    }

    #[test]
    fn superblocks_reserves_and_metadata_take_a_small_share_of_the_members() {
        for (k, m, members) in [(1, 1, 2), (1, 2, 3), (2, 1, 3), (4, 1, 5), (4, 2, 6), (8, 2, 12), (8, 3, 24)]
        {
            let scheme = Scheme::new(k, m).expect("sound");
            for shift in 26..41 {
                let size = 1u64 << shift;
                let most = if size * members as u64 >= 4096 * MIB { 10.0 } else { 15.0 };
                let taken = overhead(size, members, scheme);
                assert!(taken <= most, "{members} members of {} MiB, {scheme}: {taken:.1} %", size / MIB);
            }
        }
    }

    #[test]
    fn a_batch_never_takes_more_rows_than_reckoned() {
        for (k, m) in [(1, 0), (1, 1), (2, 1), (4, 2), (8, 2), (10, 4), (1, 30), (1, 254), (16, 4)] {
            let scheme = Scheme::new(k, m).expect("sound");
            for blocks in 0..=300usize {
                for preamble in [32, 64, 1000] {
                    let Some(plan) = Plan::for_blocks(scheme, blocks, preamble) else { continue };
                    let reckoned = rows_of(scheme, blocks as u64, preamble as u64);
                    assert!(u64::from(plan.rows_with_header()) <= reckoned, "{scheme} {blocks} {preamble}");
                }
            }
        }
    }

    #[test]
    fn fill_grows_with_blocks_and_is_whole_when_the_segments_are_gone() {
        let space = space(&[256 * MIB, 256 * MIB, 512 * MIB]);
        let scheme = Scheme::new(1, 1).expect("sound");
        let (reserves, _) = reserves(space.chunk_rows(), scheme, 254, 3);
        let at = |blocks| fill(&space, reserves, scheme, &BTreeMap::from([(scheme, blocks)]));
        let all = space.most_segments(scheme, reserves) * blocks_per_segment(space.chunk_rows(), scheme);
        assert!(at(0) < at(1) && at(1) < at(all / 2) && at(all / 2) < FILL_MAX);
        assert!(at(all) > WHOLE);
        assert!(at(all * 85 / 100) <= FILL_MAX, "{}", at(all * 85 / 100));
    }
}
