//! What is true of every sound superblock: the same rules when one is written and when one is read.

use crate::format::page::{LEVELS_MAX, VOLUME_IDS_END};
use crate::format::superblock::{Checkpoint, MemberRecord, MemberState, PastEpoch, Superblock};
use crate::format::tables::{ColumnState, SegmentRecord};
use crate::format::wire::{Check, ensure};
use crate::limits::{
    BOOT_COLUMNS_MAX, BOOT_SEGMENTS_MAX, CHUNK_BLOCKS_MAX, CHUNK_BLOCKS_MIN, CHUNKS_MAX, HISTORY_MAX,
    LABEL_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, RUNWAY_CHUNKS_MAX,
};

impl Superblock {
    pub(super) fn check(&self) -> Check {
        ensure(self.name.len() <= NAME_BYTES_MAX, "the array's name is at most 240 bytes long")?;
        ensure(
            (CHUNK_BLOCKS_MIN..=CHUNK_BLOCKS_MAX).contains(&self.chunk_blocks),
            "a chunk has between 8 and 32768 blocks",
        )?;
        ensure(self.members.len() <= MEMBERS_MAX, "an array has at most 255 members")?;
        ensure(usize::from(self.slot.0) < self.members.len(), "the own slot is in the member table")?;
        ensure(self.history.len() <= HISTORY_MAX, "at most 32 earlier epochs are remembered")?;
        let newest_first = |a: &PastEpoch, b: &PastEpoch| a.epoch > b.epoch;
        ensure(self.history.is_sorted_by(newest_first), "earlier epochs are remembered newest first")?;
        ensure(self.history.iter().all(|past| past.epoch < self.epoch), "earlier epochs are earlier")?;
        for member in &self.members {
            member.check(self)?;
        }
        let in_array = self.members.iter().filter(|member| member.state != MemberState::Removed);
        let chunks: u64 = in_array.map(|member| u64::from(member.chunks)).sum();
        ensure(chunks <= CHUNKS_MAX, "an array has at most 2^20 chunks")?;
        ensure(
            self.jobs.is_sorted_by(|a, b| a.kind < b.kind),
            "there is one job of a kind, in the order of their kinds",
        )?;
        self.events.check(self.members.len())?;
        self.checkpoint.check(self)
    }
}

impl MemberRecord {
    fn check(&self, superblock: &Superblock) -> Check {
        ensure(self.path.len() <= PATH_BYTES_MAX, "a member's path is at most 255 bytes long")?;
        ensure(self.label.len() <= LABEL_BYTES_MAX, "a member's label is at most 32 bytes long")?;
        ensure(self.since <= superblock.epoch, "no member's state is younger than the epoch")
    }
}

impl Checkpoint {
    fn check(&self, superblock: &Superblock) -> Check {
        ensure(
            (1..=VOLUME_IDS_END).contains(&self.next_volume),
            "volume numbers are between 1 and 2^31 - 16",
        )?;
        let roots = [self.segments, self.volumes, self.damage];
        ensure(roots.iter().flatten().all(|root| root.level < LEVELS_MAX), "a tree has at most 16 levels")?;
        ensure(self.boot.len() <= BOOT_SEGMENTS_MAX, "at most 64 segments hold the segment table")?;
        ensure(
            self.boot.is_sorted_by(|a, b| a.id < b.id),
            "the segments of the segment table are in the order of their numbers",
        )?;
        self.boot.iter().try_for_each(SegmentRecord::check)?;
        let columns: usize = self.boot.iter().map(|segment| segment.columns.len()).sum();
        ensure(columns <= BOOT_COLUMNS_MAX, "the segments of the segment table have at most 1024 columns")?;
        ensure(
            self.boot.iter().all(|segment| u32::from(segment.rows.0) <= superblock.chunk_blocks),
            "no segment of the segment table has more rows than a chunk",
        )?;
        let mut chunks =
            self.boot.iter().flat_map(|segment| &segment.columns).filter_map(ColumnState::address);
        ensure(
            chunks.all(|at| usize::from(at.slot.0) < superblock.members.len()),
            "the segment table is on members of the array",
        )?;
        ensure(self.runway.len() <= RUNWAY_CHUNKS_MAX, "the runway has at most 2048 chunks")?;
        ensure(
            self.runway.iter().all(|at| usize::from(at.slot.0) < superblock.members.len()),
            "the runway is on members of the array",
        )?;
        ensure(
            self.runway.iter().all(|at| u64::from(at.chunk.0) < CHUNKS_MAX),
            "the runway is on possible chunks",
        )
    }
}
