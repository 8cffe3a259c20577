//! What befalls a weak member all at once: it vanishes, it loses its superblocks, or it rots.

use super::disk::{Rot, SimDisk};
use super::fault::Fault;
use super::run::Run;
use crate::device::Device;
use crate::limits::RING_BYTES;
use crate::types::BLOCK_U64;

impl Run {
    /// Rot, or the loss of a member. Right before a crash mostly rot in what replay will read.
    pub(super) fn strike(&mut self, before_crash: bool) {
        let Some(&index) = self.weak.get(self.rng.index(self.weak.len().max(1))) else { return };
        let disk = self.disks[index].clone();
        if self.rng.chance(self.mix.vanishes, if before_crash { 36 } else { 12 }) {
            if self.hub.lets(&disk, Fault::Vanish) {
                disk.vanish();
            }
            return;
        }
        if self.is_honest {
            return;
        }
        if self.rng.chance(self.mix.beheads, 24) {
            return self.behead(&disk);
        }
        let mut kinds = vec![Rot::Flip, Rot::Garbage, Rot::Zero];
        let mut used: Vec<u64> = disk.used_blocks().collect();
        if self.rng.chance(if before_crash { 5 } else { 2 }, 6) {
            // Headers are few among so many blocks, and replay believes nothing as much as the youngest of them.
            used.retain(|block| disk.peek(block * BLOCK_U64, 8) == *b"PARITASr");
            used.sort_by_key(|block| std::cmp::Reverse(sequence(&disk, *block)));
            used.truncate(6);
            kinds = vec![Rot::Nick];
        }
        if used.is_empty() {
            return;
        }
        for _ in 0..1 + self.rng.below(40) {
            let block = used[self.rng.index(used.len())];
            let kind = kinds[self.rng.index(kinds.len())];
            if self.hub.lets(&disk, Fault::Rot) {
                disk.rot(block..block + 1, kind);
            }
        }
    }

    /// Destroys all superblocks of a member.
    fn behead(&mut self, disk: &SimDisk) {
        let (ring, end) = (RING_BYTES / BLOCK_U64, disk.len() / BLOCK_U64);
        let kind = [Rot::Garbage, Rot::Zero][self.rng.index(2)];
        if self.hub.lets(disk, Fault::Rot) {
            disk.rot(0..ring, kind);
            disk.rot(end - ring..end, kind);
            self.count("superblocks destroyed", 1);
        }
    }
}

/// The sequence number in a record's header.
fn sequence(disk: &SimDisk, block: u64) -> u64 {
    let bytes = disk.peek(block * BLOCK_U64 + 56, 8);
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}
