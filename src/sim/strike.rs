//! What befalls a member all at once: a weak one vanishes, goes and comes, loses its superblocks, or rots; any may lose
//! its power before the others do.

use super::disk::{Rot, SimDisk};
use super::fault::Fault;
use super::run::{Life, Run};
use crate::device::Device;
use crate::limits::RING_BYTES;
use crate::runtime::Clock;
use crate::types::BLOCK_U64;
use std::time::Duration;

/// What the engine does not notice of members that froze: less than the time after which it gives one up.
const UNNOTICED: Duration = Duration::from_secs(20);

/// Moments at which a member goes or comes, the last one first.
#[derive(Default)]
pub(super) struct Flaps {
    disk: Option<SimDisk>,
    moments: Vec<u64>,
}

impl Flaps {
    /// Lets the member go or come, if it is time.
    pub(super) fn at(&mut self, now: u64) {
        let Some(disk) = &self.disk else { return };
        while self.moments.pop_if(|moment| *moment <= now).is_some() {
            if disk.is_gone() {
                disk.flap();
            } else {
                disk.vanish();
            }
        }
    }
}

impl Run {
    /// When in a life of so many events a weak member goes and comes, if any does.
    pub(super) fn flaps(&mut self, events: u64) -> Flaps {
        let Some(&index) = self.weak.get(self.rng.index(self.weak.len().max(1))) else {
            return Flaps::default();
        };
        let disk = self.disks[index].clone();
        if !self.rng.chance(self.mix.flaps, 24) || disk.is_gone() || !self.hub.lets(&disk, Fault::Flap) {
            return Flaps::default();
        }
        let begin = self.rng.below(events);
        let mut moments: Vec<u64> = (0..2 + self.rng.below(8)).map(|_| begin + self.rng.below(200)).collect();
        moments.sort_unstable_by_key(|moment| std::cmp::Reverse(*moment));
        Flaps { disk: Some(disk), moments }
    }

    /// What hung on weak members, in whole or in part, comes to its end after all.
    pub(super) fn complete_late(&mut self) {
        for &index in &self.weak {
            let disk = &self.disks[index];
            if self.hub.lets(disk, Fault::Late) {
                disk.complete_late();
            }
        }
    }

    /// The power goes from one member to the next, any of them, and the engine works on with those that are left, for
    /// too short a time to give anybody up.
    pub(super) fn freeze_some(&mut self, life: &Life) {
        let since = self.hub.monotonic();
        for _ in 0..1 + self.rng.below(3) {
            let disk = self.disks[self.rng.index(self.disks.len())].clone();
            if self.hub.lets(&disk, Fault::Freeze) {
                disk.freeze();
            }
            for _ in 0..self.rng.below(100) {
                life.executor.run_until_stalled();
                // What falls due later than that is known to nobody: the executor runs no more.
                if !self.hub.step() || self.hub.monotonic() - since > UNNOTICED {
                    return;
                }
            }
        }
    }

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
