//! Clients of a simulated array: what they ask for is drawn from the seed, what they get is checked.

use super::model::{VolumeModel, ZEROS, content};
use super::rng::Rng;
use crate::commit::FILL_MAX;
use crate::error::Kind;
use crate::format::superblock::{MemberRecord, MemberState};
use crate::runtime::Owned;
use crate::types::{BLOCK_U64, Lba, SECTOR_U64, VolumeId};
use crate::volume::Shard;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What all clients of a run share.
#[derive(Default)]
pub struct Shared {
    /// The volumes as they should be.
    pub volumes: BTreeMap<VolumeId, VolumeModel>,
    /// Tags given out.
    pub tags: u64,
    /// The first thing that went wrong.
    pub failure: Option<String>,
    /// Times that the array was full.
    pub full: u64,
    /// Times that the array took no more writes because too few members were left.
    pub refused: u64,
    /// Operations done.
    pub done: u64,
    /// Calls that added no block and were accepted after the array had been full.
    pub overwritten: u64,
    /// Calls under way that add blocks, by what they may add.
    adding: u64,
    /// The array was full in this life.
    was_full: bool,
}

impl Shared {
    /// Notes the first failure.
    pub fn fail(&mut self, text: String) {
        self.failure.get_or_insert(text);
    }
}

/// One client.
pub struct Client {
    /// The array.
    pub shard: Shard,
    /// What all clients share.
    pub shared: Arc<Owned<Shared>>,
    /// Its chance.
    pub rng: Rng,
    /// Operations that it will do.
    pub operations: u64,
}

/// Blocks of a call at most: a full array of few small chunks has room for no more at a time.
const LONGEST: u64 = 24;
/// Blocks of a call that fills the array.
const FILL: u64 = 16;

impl Client {
    /// A client that will do so many operations.
    pub fn new(shard: Shard, shared: Arc<Owned<Shared>>, rng: Rng, operations: u64) -> Client {
        Client { shard, shared, rng, operations }
    }

    /// Writes new blocks until the array is full.
    pub async fn fill(&mut self) {
        let volumes: Vec<(VolumeId, u64)> = self
            .shared
            .with(|shared| shared.volumes.values().map(|volume| (volume.id, volume.blocks())).collect());
        for (id, blocks) in volumes {
            for lba in (0..blocks).step_by(16) {
                let full = self.shared.with(|shared| shared.full);
                self.write_at(id, Lba(lba), FILL.min(blocks - lba)).await;
                if self.shared.with(|shared| shared.full != full || shared.failure.is_some()) {
                    return;
                }
            }
        }
    }

    /// Whether the array always had all its members: then it holds what it promises.
    fn is_settled(&self) -> bool {
        let pool = &self.shard.core().stripes().pool;
        let members = pool.superblock().members;
        let always =
            |record: &MemberRecord| record.state == MemberState::Active && record.since == members[0].since;
        members.iter().all(always) && !pool.has_suspects()
    }

    /// A call was refused for want of room. Legal when live blocks, and what other calls may be adding, fill
    /// the array; or when it has lost members.
    fn check_full(&self, adds: u64, what: &str) {
        let settled = self.is_settled();
        self.shared.with(|shared| {
            shared.full += 1;
            shared.was_full = true;
            if !settled {
                return;
            }
            let mut live = BTreeMap::new();
            for volume in shared.volumes.values() {
                let scheme = self.shard.core().scheme(volume.id).expect("volumes stay");
                *live.entry(scheme).or_default() += volume.live();
            }
            // What is being added counts for the volume that takes the most room for it.
            let fills = live.clone().into_keys().map(|scheme| {
                let mut live = live.clone();
                *live.entry(scheme).or_default() += shared.adding;
                self.shard.core().fill_of(&live)
            });
            let fill = fills.max().unwrap_or_default();
            if adds == 0 {
                shared.fail(format!("{what}: refused for want of room, although it adds no block"));
            } else if fill <= FILL_MAX {
                shared.fail(format!("{what}: refused for want of room at {fill} of {FILL_MAX}"));
            }
        });
    }

    /// Does all operations.
    pub async fn run(mut self) {
        for _ in 0..self.operations {
            let volumes: Vec<(VolumeId, u64)> = self
                .shared
                .with(|shared| shared.volumes.values().map(|volume| (volume.id, volume.blocks())).collect());
            let (id, blocks) = volumes[self.rng.index(volumes.len())];
            match self.rng.below(100) {
                0..40 => self.write(id, blocks).await,
                40..50 => self.write_bytes(id, blocks).await,
                50..57 => self.trim(id, blocks).await,
                57..60 => self.trim_bytes(id, blocks).await,
                60..75 => self.flush(id).await,
                75..97 => self.read(id, blocks).await,
                _ => self.checkpoint().await,
            }
            self.shared.with(|shared| shared.done += 1);
            if self.shared.with(|shared| shared.failure.is_some()) {
                return;
            }
        }
    }

    fn range(&mut self, size: u64, longest: u64) -> (Lba, u64) {
        // Half of the writes go to a small hot area, so that blocks are overwritten.
        let span = if self.rng.chance(1, 2) { size.min(24) } else { size };
        let lba = self.rng.below(span);
        (Lba(lba), 1 + self.rng.below(longest.min(size - lba)))
    }

    async fn write(&mut self, id: VolumeId, size: u64) {
        let longest = [1, 4, LONGEST][self.rng.index(3)];
        let (lba, blocks) = self.range(size, longest);
        self.write_at(id, lba, blocks).await;
    }

    async fn write_at(&mut self, id: VolumeId, lba: Lba, blocks: u64) {
        // Other clients may trim what this one overwrites.
        let holes = self.shared.with(|shared| {
            shared.adding += blocks;
            shared.volumes[&id].holes_since(shared.volumes[&id].issued, lba, blocks)
        });
        let since = self.shared.with(|shared| shared.volumes[&id].issued);
        let tag = self.shared.with(|shared| {
            shared.tags += 1;
            shared.tags
        });
        let mut data = Vec::new();
        for index in 0..blocks {
            data.extend_from_slice(&content(tag, lba.plus(index)));
        }
        let outcome = self.shard.write(id, lba, Bytes::from(data)).await;
        let later = self.shared.with(|shared| shared.volumes[&id].holes_since(since, lba, blocks));
        let adds = holes.max(later);
        if outcome.as_ref().is_err_and(|error| error.kind() == Kind::NoSpace) {
            self.check_full(adds, &format!("write of {blocks} blocks at {lba}"));
        }
        self.shared.with(|shared| {
            shared.adding -= blocks;
            match outcome {
                Ok(number) => {
                    shared.overwritten += u64::from(adds == 0 && shared.was_full);
                    let volume = shared.volumes.get_mut(&id).expect("volumes stay");
                    if let Err(text) = volume.accepted(number, lba, blocks, tag) {
                        shared.fail(text);
                    }
                }
                Err(error) => refusal(shared, error.kind(), &format!("write: {error}")),
            }
        });
    }

    /// A range of bytes, mostly one that begins and ends inside blocks.
    fn bytes(&mut self, size: u64) -> (u64, u64) {
        let longest = [1, 2, 20][self.rng.index(3)];
        let (lba, blocks) = self.range(size, longest);
        let sectors = BLOCK_U64 / SECTOR_U64;
        let first = self.rng.below(sectors);
        let count = 1 + self.rng.below(blocks * sectors - first);
        (lba.0 * BLOCK_U64 + first * SECTOR_U64, count * SECTOR_U64)
    }

    async fn write_bytes(&mut self, id: VolumeId, size: u64) {
        let (offset, len) = self.bytes(size);
        let tag = self.shared.with(|shared| {
            shared.tags += 1;
            shared.tags
        });
        let blocks = offset / BLOCK_U64..(offset + len).div_ceil(BLOCK_U64);
        let data = Bytes::from(blocks.flat_map(|lba| content(tag, Lba(lba))).collect::<Vec<u8>>());
        let skip = usize::try_from(offset % BLOCK_U64).expect("less than a block");
        let data = data.slice(skip..skip + usize::try_from(len).expect("a few blocks"));
        let outcome = self.shard.write_at(id, offset, data).await;
        self.shared.with(|shared| match outcome {
            Ok(number) => {
                let volume = shared.volumes.get_mut(&id).expect("volumes stay");
                if let Err(text) = volume.accepted_bytes(number, offset, len, tag) {
                    shared.fail(text);
                }
            }
            Err(error) => refusal(shared, error.kind(), &format!("write of bytes: {error}")),
        });
    }

    async fn trim_bytes(&mut self, id: VolumeId, size: u64) {
        let (offset, len) = self.bytes(size);
        let outcome = self.shard.trim_at(id, offset, len).await;
        self.shared.with(|shared| match outcome {
            Ok(number) => {
                let volume = shared.volumes.get_mut(&id).expect("volumes stay");
                if let Err(text) = volume.accepted_bytes(number, offset, len, ZEROS) {
                    shared.fail(text);
                }
            }
            Err(error) => refusal(shared, error.kind(), &format!("trim of bytes: {error}")),
        });
    }

    async fn trim(&mut self, id: VolumeId, size: u64) {
        let longest = if self.rng.chance(1, 4) { size } else { 40 };
        let (lba, blocks) = self.range(size, longest);
        let outcome = self.shard.trim(id, lba, blocks).await;
        if outcome.as_ref().is_err_and(|error| error.kind() == Kind::NoSpace) {
            self.check_full(0, &format!("trim of {blocks} blocks at {lba}"));
        }
        self.shared.with(|shared| match outcome {
            Ok(number) => {
                let volume = shared.volumes.get_mut(&id).expect("volumes stay");
                if let Err(text) = volume.accepted(number, lba, blocks, ZEROS) {
                    shared.fail(text);
                }
            }
            Err(error) => refusal(shared, error.kind(), &format!("trim: {error}")),
        });
    }

    async fn flush(&mut self, id: VolumeId) {
        let before = self.shared.with(|shared| shared.volumes[&id].issued);
        let outcome = self.shard.flush(id).await;
        if outcome.as_ref().is_err_and(|error| error.kind() == Kind::NoSpace) {
            self.check_full(0, "flush");
        }
        self.shared.with(|shared| match outcome {
            Ok(number) if number >= before => {
                let volume = shared.volumes.get_mut(&id).expect("volumes stay");
                volume.flushed = volume.flushed.max(number);
            }
            Ok(number) => shared.fail(format!("flush: answered {number}, but {before} was accepted")),
            Err(error) => refusal(shared, error.kind(), &format!("flush: {error}")),
        });
    }

    async fn read(&mut self, id: VolumeId, size: u64) {
        let longest = [1, 8, 64][self.rng.index(3)];
        let (lba, blocks) = self.range(size, longest);
        let since = self.shared.with(|shared| shared.volumes[&id].issued);
        let outcome = self.shard.read_blocks(id, lba, blocks).await;
        self.shared.with(|shared| match outcome {
            Ok(data) => {
                if let Err(text) = shared.volumes[&id].check_read(since, lba, &data) {
                    shared.fail(text);
                }
            }
            Err(error) => {
                refusal(shared, error.kind(), &format!("read of {blocks} blocks at {lba}: {error}"))
            }
        });
    }

    async fn checkpoint(&mut self) {
        if let Err(error) = self.shard.checkpoint().await {
            self.shared.with(|shared| refusal(shared, error.kind(), &format!("checkpoint: {error}")));
        }
    }
}

/// A call that was refused: legal when the array is full, closed, or too few members are left; a failure
/// otherwise.
fn refusal(shared: &mut Shared, kind: Kind, text: &str) {
    match kind {
        Kind::NoSpace => {}
        Kind::ReadOnly | Kind::Closed => shared.refused += 1,
        _ => shared.fail(text.into()),
    }
}
