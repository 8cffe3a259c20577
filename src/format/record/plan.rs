//! How large a record is: rows, description, what fits into a room.
//!
//! A description row takes `8 * width` bytes of witnesses from the stream and puts them into the header,
//! where the stream then has as much less room. So how many blocks the description needs does not depend on
//! how many rows hold description, and everything here is a closed form of one line:
//!
//! `stream + header = FIXED + 5 width + preamble + 40 (rows k - blocks) + 8 rows width <= 4096 (1 + blocks)`

use crate::limits::RECORD_ROWS_MAX;
use crate::types::{BLOCK, Scheme};

/// Bytes of the header before the column table.
pub(super) const FIXED_BYTES: usize = 104;
/// Bytes of a column in the column table.
pub(super) const COLUMN_BYTES: usize = 5;
/// Bytes of an entry.
pub(super) const ENTRY_BYTES: usize = 40;
/// Bytes of a witness.
pub(super) const WITNESS_BYTES: usize = 8;
/// What one more description block makes room for: itself, and the entry that it needs no more.
const BLOCK_AND_ENTRY: usize = BLOCK + ENTRY_BYTES;

const _: () = assert!(
    FIXED_BYTES + 255 * (COLUMN_BYTES + WITNESS_BYTES) <= BLOCK,
    "the header has room for one description row of the widest scheme"
);

/// The shape of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Rows behind the header.
    pub rows: u8,
    /// How many of them, from the first on, hold description: as few as can be.
    pub description_rows: u8,
    /// The data-column blocks, from the first on, that hold description.
    pub description_blocks: usize,
    /// The data-column blocks left for data, pages and fill.
    pub blocks: usize,
}

impl Plan {
    /// The smallest record for `blocks` blocks besides description, where intervals and changes take
    /// `preamble` bytes ([`super::Record::preamble_bytes`]). `None` if there is none: the caller splits it.
    pub fn for_blocks(scheme: Scheme, blocks: usize, preamble: usize) -> Option<Plan> {
        let k = usize::from(scheme.k());
        let first = u8::try_from(blocks.div_ceil(k)).ok()?;
        let mut plans = (first..=u8::MAX).filter_map(|rows| Plan::of_rows(scheme, rows, preamble));
        plans.find(|plan| plan.blocks >= blocks)
    }

    /// The record with the most blocks that fits into `room` rows, that of the header included. `None` if
    /// there is none, not even one without blocks.
    pub fn for_room(scheme: Scheme, room: u32, preamble: usize) -> Option<Plan> {
        let rows = room.checked_sub(1)?.min(RECORD_ROWS_MAX.into());
        let rows =
            u8::try_from(rows).expect("RECORD_ROWS_MAX fits u8").min(rows_described(scheme, preamble)?);
        Plan::of_rows(scheme, rows, preamble)
    }

    /// Rows that the record takes, its header's included.
    pub fn rows_with_header(&self) -> u16 {
        u16::from(self.rows) + 1
    }

    /// The record of `rows` rows. `None` if these cannot hold its description, or the header cannot hold
    /// the witnesses of the rows that do.
    pub fn of_rows(scheme: Scheme, rows: u8, preamble: usize) -> Option<Plan> {
        let k = usize::from(scheme.k());
        let cells = usize::from(rows) * k;
        let total = usize::from(rows) * usize::from(scheme.width());
        let all = preamble.checked_add(ENTRY_BYTES * cells + WITNESS_BYTES * total)?;
        let description_blocks = all.saturating_sub(stream_room(scheme)).div_ceil(BLOCK_AND_ENTRY);
        let description_rows = description_blocks.div_ceil(k);
        (description_rows <= usize::from(rows).min(description_rows_max(scheme))).then(|| Plan {
            rows,
            description_rows: u8::try_from(description_rows).expect("at most as many as rows"),
            description_blocks,
            blocks: cells - description_blocks,
        })
    }
}

/// Bytes of the header that are left for witnesses of description rows and for the stream.
fn stream_room(scheme: Scheme) -> usize {
    BLOCK - FIXED_BYTES - COLUMN_BYTES * usize::from(scheme.width())
}

/// Where in the header the stream begins.
pub(super) fn stream_at(scheme: Scheme, description_rows: u8) -> usize {
    let width = usize::from(scheme.width());
    FIXED_BYTES + COLUMN_BYTES * width + WITNESS_BYTES * usize::from(description_rows) * width
}

/// The most description rows whose witnesses the header can hold.
pub(super) fn description_rows_max(scheme: Scheme) -> usize {
    stream_room(scheme) / (WITNESS_BYTES * usize::from(scheme.width()))
}

/// The most rows that as much description as the header has witnesses for can describe.
fn rows_described(scheme: Scheme, preamble: usize) -> Option<u8> {
    let k = usize::from(scheme.k());
    let blocks = description_rows_max(scheme) * k;
    let room = (stream_room(scheme) + blocks * BLOCK_AND_ENTRY).checked_sub(preamble)?;
    let rows = room / (ENTRY_BYTES * k + WITNESS_BYTES * usize::from(scheme.width()));
    Some(u8::try_from(rows).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemes() -> impl Iterator<Item = Scheme> {
        let all = (1..=255u8).flat_map(|k| (0..=255 - k).map(move |m| (k, m)));
        all.filter_map(|(k, m)| Scheme::new(k, m))
    }

    fn some_schemes() -> impl Iterator<Item = Scheme> {
        schemes().filter(|scheme| {
            let (k, m, width) = (scheme.k(), scheme.m(), scheme.width());
            k < 3 && !(4..=251).contains(&m)
                || width == 255 && k % 16 == 1
                || (k, m) == (8, 2)
                || (k, m) == (255, 0)
        })
    }

    const PREAMBLES: [usize; 8] = [0, 32, 320, 677, 2_720, 5_000, 40_000, 1_000_000];

    /// Bytes of header and description blocks together, counted piece by piece, and the room they have.
    fn need_and_room(scheme: Scheme, plan: Plan, preamble: usize) -> (usize, usize) {
        let (rows, d) = (usize::from(plan.rows), plan.description_blocks);
        let (k, width) = (usize::from(scheme.k()), usize::from(scheme.width()));
        let need = 104 + 5 * width + preamble + 40 * (rows * k - d) + 8 * rows * width;
        (need, 4096 * (1 + d))
    }

    #[test]
    fn every_plan_fits_and_none_has_a_description_block_too_many() {
        for scheme in some_schemes() {
            for preamble in PREAMBLES {
                for plan in (0..=255).filter_map(|rows| Plan::of_rows(scheme, rows, preamble)) {
                    let (need, room) = need_and_room(scheme, plan, preamble);
                    assert!(need <= room, "{scheme} {plan:?}");
                    let cells = usize::from(plan.rows) * usize::from(scheme.k());
                    assert_eq!(plan.blocks + plan.description_blocks, cells);
                    assert_eq!(
                        usize::from(plan.description_rows),
                        plan.description_blocks.div_ceil(scheme.k().into())
                    );
                    assert!(stream_at(scheme, plan.description_rows) <= BLOCK);
                    if plan.description_blocks > 0 {
                        let fewer = Plan { description_blocks: plan.description_blocks - 1, ..plan };
                        let (need, room) = need_and_room(scheme, fewer, preamble);
                        assert!(need > room, "{scheme} {plan:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_plan_for_blocks_is_the_smallest_that_holds_them() {
        for scheme in some_schemes() {
            for preamble in PREAMBLES {
                let plans: Vec<Plan> =
                    (0..=255).filter_map(|rows| Plan::of_rows(scheme, rows, preamble)).collect();
                for blocks in (0..600).chain([5_000, 20_000, 30_000, 65_025, 65_026]) {
                    let smallest = plans.iter().find(|plan| plan.blocks >= blocks).copied();
                    assert_eq!(Plan::for_blocks(scheme, blocks, preamble), smallest, "{scheme} {blocks}");
                }
            }
        }
    }

    #[test]
    fn the_plan_for_a_room_is_the_one_with_most_blocks() {
        for scheme in some_schemes() {
            for preamble in PREAMBLES {
                let plans: Vec<Plan> =
                    (0..=255).filter_map(|rows| Plan::of_rows(scheme, rows, preamble)).collect();
                for room in (0..300).chain([u32::MAX]) {
                    let fitting = plans.iter().filter(|plan| u32::from(plan.rows) < room);
                    let most = fitting.max_by_key(|plan| (plan.blocks, plan.rows)).copied();
                    assert_eq!(Plan::for_room(scheme, room, preamble), most, "{scheme} {preamble} {room}");
                }
            }
        }
    }

    #[test]
    fn under_every_scheme_a_block_or_a_page_of_changes_is_a_record() {
        for scheme in schemes() {
            let block = Plan::for_blocks(scheme, 1, 32).expect("one block");
            assert!(block.rows <= 2, "{scheme}");
            assert!(Plan::for_blocks(scheme, 0, 600).is_some_and(|plan| plan.rows <= 1), "{scheme}");
            assert_eq!(Plan::for_blocks(scheme, 0, 32).map(|plan| plan.rows), Some(0));
            let most = Plan::for_room(scheme, u32::MAX, 32).expect("some");
            assert!(most.blocks >= 2 && Plan::for_blocks(scheme, 2, 32).is_some(), "{scheme}");
        }
    }

    #[test]
    fn the_widest_mirror_has_records_of_three_rows() {
        let widest = Scheme::new(1, 254).expect("sound");
        let most = Plan { rows: 3, description_rows: 1, description_blocks: 1, blocks: 2 };
        assert_eq!(Plan::for_room(widest, 1_000, 32), Some(most));
    }

    #[test]
    fn usual_schemes_fill_records_of_255_rows() {
        for (k, m) in [(1, 0), (1, 1), (1, 2), (4, 1), (8, 2), (10, 4), (16, 4)] {
            let scheme = Scheme::new(k, m).expect("sound");
            assert_eq!(Plan::for_room(scheme, 1_000, 640).map(|plan| plan.rows), Some(255), "{scheme}");
        }
    }
}
