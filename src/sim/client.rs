//! Clients of a simulated array: what they ask for is drawn from the seed, what they get is checked.

use super::model::{VolumeModel, ZEROS, content};
use super::rng::Rng;
use crate::error::Kind;
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

impl Client {
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
        let longest = [1, 4, 24][self.rng.index(3)];
        let (lba, blocks) = self.range(size, longest);
        let tag = self.shared.with(|shared| {
            shared.tags += 1;
            shared.tags
        });
        let mut data = Vec::new();
        for index in 0..blocks {
            data.extend_from_slice(&content(tag, lba.plus(index)));
        }
        let outcome = self.shard.write(id, lba, Bytes::from(data)).await;
        self.shared.with(|shared| match outcome {
            Ok(number) => {
                let volume = shared.volumes.get_mut(&id).expect("volumes stay");
                if let Err(text) = volume.accepted(number, lba, blocks, tag) {
                    shared.fail(text);
                }
            }
            Err(error) => refusal(shared, error.kind(), &format!("write: {error}")),
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
        Kind::NoSpace => shared.full += 1,
        Kind::ReadOnly | Kind::Closed => shared.refused += 1,
        _ => shared.fail(text.into()),
    }
}
