//! PURE: where things lie on a member.
//!
//! ```text
//! | ring A | chunk 0 | chunk 1 | ... | chunk n-1 | (rest) | ring B |
//! 0        1 MiB                                 end of the device, rounded down to a block
//! ```

use crate::limits::{CHUNK_BLOCKS_MAX, CHUNKS_MAX, RING_BYTES, RING_SLOTS, SLOT_BYTES};
use crate::types::{BLOCK_U64, Chunk, Row};
use crate::zoo::{Bug, planted};

/// Chunks of an array beyond which [`default_chunk_blocks`] chooses larger ones.
const CHUNKS_PREFERRED: u64 = 1 << 17;
/// Chunks of the smallest member below which [`default_chunk_blocks`] chooses smaller ones.
const MEMBER_CHUNKS_PREFERRED: u32 = 256;
/// The chunk that fits most arrays: 1 MiB.
const CHUNK_BLOCKS_USUAL: u32 = 256;
/// The smallest chunk that [`default_chunk_blocks`] chooses: 64 KiB.
const CHUNK_BLOCKS_SMALL: u32 = 16;

/// The cut of every member of an array into chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Blocks in a chunk.
    pub chunk_blocks: u32,
}

impl Geometry {
    /// Bytes of a chunk.
    pub fn chunk_bytes(self) -> u64 {
        u64::from(self.chunk_blocks) * BLOCK_U64
    }

    /// Whole chunks between the rings of a device of `len_bytes` bytes, at most [`CHUNKS_MAX`].
    ///
    /// # Panics
    ///
    /// If a chunk has no blocks.
    pub fn chunks_on(self, len_bytes: u64) -> u32 {
        let (_, back) = ring_offsets(len_bytes);
        let chunks = back.saturating_sub(RING_BYTES) / self.chunk_bytes();
        u32::try_from(chunks.min(CHUNKS_MAX)).expect("CHUNKS_MAX fits u32")
    }

    /// The byte at which a row of a chunk begins on its member.
    pub fn byte_offset(self, chunk: Chunk, row: Row) -> u64 {
        debug_assert!(u32::from(row.0) < self.chunk_blocks);
        RING_BYTES + u64::from(chunk.0) * self.chunk_bytes() + u64::from(row.0) * BLOCK_U64
    }
}

/// The bytes at which ring A and ring B begin on a device of `len_bytes` bytes. On a device too short for
/// both they overlap, or even reach beyond its end; such a device has no chunks and can be no member.
pub fn ring_offsets(len_bytes: u64) -> (u64, u64) {
    let end = len_bytes - len_bytes % BLOCK_U64;
    (0, end.saturating_sub(RING_BYTES))
}

/// The byte at which the slot of a superblock commit begins in the ring that begins at `ring_start`.
/// Successive commits take successive slots.
pub fn slot_offset(ring_start: u64, commit: u64) -> u64 {
    const { assert!(SLOT_BYTES as u64 * RING_SLOTS <= RING_BYTES) };
    let slot = if planted(Bug::RingStuck) { 0 } else { commit % RING_SLOTS };
    ring_start + slot * SLOT_BYTES as u64
}

/// The chunk size, in blocks, for a new array of members of these sizes in bytes: 1 MiB, less (down to
/// 64 KiB) while the smallest member would have only few chunks, more while all together would have too many.
pub fn default_chunk_blocks(member_sizes: &[u64]) -> u32 {
    let mut geometry = Geometry { chunk_blocks: CHUNK_BLOCKS_USUAL };
    let smallest = member_sizes.iter().copied().min().unwrap_or(u64::MAX);
    while geometry.chunks_on(smallest) < MEMBER_CHUNKS_PREFERRED && geometry.chunk_blocks > CHUNK_BLOCKS_SMALL
    {
        geometry.chunk_blocks /= 2;
    }
    let total = |geometry: Geometry| -> u64 {
        member_sizes.iter().map(|&size| u64::from(geometry.chunks_on(size))).sum()
    };
    while total(geometry) > CHUNKS_PREFERRED && geometry.chunk_blocks < CHUNK_BLOCKS_MAX {
        geometry.chunk_blocks *= 2;
    }
    geometry.chunk_blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const USUAL: Geometry = Geometry { chunk_blocks: CHUNK_BLOCKS_USUAL };

    #[test]
    fn chunks_fill_the_room_between_the_rings() {
        assert_eq!(USUAL.chunks_on(12 * MIB), 10);
        assert_eq!(USUAL.chunks_on(12 * MIB + BLOCK_U64 - 1), 10);
        assert_eq!(USUAL.chunks_on(12 * MIB - 1), 9);
        assert_eq!(USUAL.chunks_on(13 * MIB), 11);
        assert_eq!(u64::from(USUAL.chunks_on(u64::MAX)), CHUNKS_MAX);
    }

    #[test]
    fn a_device_too_short_for_its_rings_has_no_chunks() {
        for len in [0, 1, BLOCK_U64, MIB, 2 * MIB, 3 * MIB - 1] {
            assert_eq!(USUAL.chunks_on(len), 0, "{len}");
        }
        assert_eq!(USUAL.chunks_on(3 * MIB), 1);
    }

    #[test]
    fn every_chunk_ends_before_the_back_ring() {
        for chunk_blocks in [8, 16, 255, 256, 1 << 15] {
            let geometry = Geometry { chunk_blocks };
            for len in (0..300).map(|i| i * 1_234_567) {
                let (front, back) = ring_offsets(len);
                let chunks = geometry.chunks_on(len);
                if chunks > 0 {
                    assert!(front + RING_BYTES <= geometry.byte_offset(Chunk(0), Row(0)));
                    assert!(geometry.byte_offset(Chunk(chunks - 1), Row(0)) + geometry.chunk_bytes() <= back);
                    assert!(geometry.byte_offset(Chunk(chunks), Row(0)) + geometry.chunk_bytes() > back);
                    assert!(back + RING_BYTES <= len);
                }
            }
        }
    }

    #[test]
    fn rows_and_chunks_follow_one_another() {
        assert_eq!(USUAL.byte_offset(Chunk(0), Row(0)), MIB);
        assert_eq!(USUAL.byte_offset(Chunk(0), Row(255)) + BLOCK_U64, USUAL.byte_offset(Chunk(1), Row(0)));
        let largest = Geometry { chunk_blocks: CHUNK_BLOCKS_MAX };
        assert_eq!(largest.byte_offset(Chunk(3), Row(2)), MIB + (3 << 27) + (2 << 12));
    }

    #[test]
    fn rings_lie_at_both_ends_on_whole_blocks() {
        assert_eq!(ring_offsets(10 * MIB), (0, 9 * MIB));
        assert_eq!(ring_offsets(10 * MIB + 4095), (0, 9 * MIB));
        assert_eq!(ring_offsets(10 * MIB + 4096), (0, 9 * MIB + 4096));
    }

    #[test]
    fn successive_commits_take_successive_slots_of_the_ring() {
        let slots: Vec<u64> =
            (5..15).map(|commit| (slot_offset(MIB, commit) - MIB) / SLOT_BYTES as u64).collect();
        assert_eq!(slots, [5, 6, 7, 0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn the_chunk_size_follows_the_size_of_the_array() {
        let gib = 1024 * MIB;
        assert_eq!(default_chunk_blocks(&[16 * gib; 4]), 256);
        assert_eq!(default_chunk_blocks(&[32 * gib; 4]), 256);
        assert_eq!(default_chunk_blocks(&[33 * gib; 4]), 512);
        assert_eq!(default_chunk_blocks(&[20_000 * gib; 100]), CHUNK_BLOCKS_MAX);
        assert_eq!(default_chunk_blocks(&[258 * MIB; 4]), 256);
        assert_eq!(default_chunk_blocks(&[257 * MIB; 4]), 128);
        assert_eq!(default_chunk_blocks(&[64 * MIB, 8 * gib]), 32);
        assert_eq!(default_chunk_blocks(&[8 * MIB; 3]), 16);
        assert_eq!(default_chunk_blocks(&[]), 256);
    }

    #[test]
    fn an_array_of_default_chunks_has_no_more_of_them_than_preferred() {
        for shift in 22..45 {
            for members in [1, 3, 17, 255] {
                let sizes: Vec<u64> = (0..members).map(|i| (1 << shift) + i * 777 * BLOCK_U64).collect();
                let geometry = Geometry { chunk_blocks: default_chunk_blocks(&sizes) };
                let total: u64 = sizes.iter().map(|&size| u64::from(geometry.chunks_on(size))).sum();
                assert!(total <= CHUNKS_PREFERRED || geometry.chunk_blocks == CHUNK_BLOCKS_MAX);
            }
        }
    }
}
