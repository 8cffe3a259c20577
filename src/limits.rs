//! Every bound of the engine, with assertions between them. Each is known at open (rule 11).

use crate::types::{BLOCK, Number};

/// Members of one array. Slot 255 is no member.
pub const MEMBERS_MAX: usize = 255;
/// Bytes of one superblock ring; one at each end of a member.
pub const RING_BYTES: u64 = 1 << 20;
/// Superblock slots in a ring.
pub const RING_SLOTS: u64 = 8;
/// Bytes of one superblock slot: the longest superblock.
pub const SLOT_BYTES: usize = 128 << 10;
/// Smallest chunk, in blocks.
pub const CHUNK_BLOCKS_MIN: u32 = 8;
/// Largest chunk, in blocks: a [`crate::types::Row`] must name every block.
pub const CHUNK_BLOCKS_MAX: u32 = 1 << 15;
/// Chunks of an array, all members together: bounds the segment table in memory.
pub const CHUNKS_MAX: u64 = 1 << 20;
/// Rows of a record behind its header: [`crate::types::Pointer::back`] must reach the header from each.
pub const RECORD_ROWS_MAX: u16 = 255;
/// Bytes of a volume's or array's name.
pub const NAME_BYTES_MAX: usize = 240;
/// Bytes of a member's recorded path; a longer one is recorded by its file name alone.
pub const PATH_BYTES_MAX: usize = 255;
/// Bytes of a member's failure-domain label.
pub const LABEL_BYTES_MAX: usize = 32;
/// Volumes of an array.
pub const VOLUMES_MAX: usize = 4096;
/// Blocks of a volume: 2^63 bytes.
pub const VOLUME_BLOCKS_MAX: u64 = 1 << 51;
/// Chunks that the log may enter between two checkpoints.
pub const RUNWAY_CHUNKS_MAX: usize = 2048;
/// Segments that hold the pages of the segment table.
pub const BOOT_SEGMENTS_MAX: usize = 64;
/// Columns of all of them.
pub const BOOT_COLUMNS_MAX: usize = 1024;
/// The largest number of a tombstone: that of a deleted volume, which hides everything.
pub const TOMBSTONE_LAST: Number = Number((1 << 56) - 1);
/// Ranges in the damage list.
pub const DAMAGE_MAX: usize = 1 << 14;
/// Bytes of all events that the superblock of the largest array remembers.
pub const EVENTS_BYTES_MIN: usize = 8 << 10;
/// How many more for each member that it has less than that.
pub const EVENTS_BYTES_PER_MEMBER: usize = 64;
/// Bytes of an event's text.
pub const EVENT_TEXT_BYTES_MAX: usize = 255;
/// Jobs that a superblock remembers: one of each kind.
pub const JOBS_MAX: usize = 2;
/// Epochs before this one that a superblock remembers.
pub const HISTORY_MAX: usize = 32;
/// Blocks of one write call that become durable as one: 1 MiB.
pub const WRITE_BLOCKS_MAX: u64 = 256;

const _: () = assert!(RING_SLOTS * SLOT_BYTES as u64 == RING_BYTES);
const _: () = assert!(CHUNK_BLOCKS_MAX <= u16::MAX as u32 + 1);
const _: () = assert!(SLOT_BYTES.is_multiple_of(BLOCK));
const _: () = assert!(RECORD_ROWS_MAX == u8::MAX as u16);
