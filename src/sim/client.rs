//! Clients of a simulated array: what they ask for is drawn from the seed, what they get is checked.

use super::hub::SimHub;
use super::model::{VolumeModel, ZEROS, content, fill};
use super::rng::Rng;
use super::script::CallId;
use crate::commit::FILL_MAX;
use crate::error::{Kind, Result};
use crate::format::superblock::{MemberRecord, MemberState};
use crate::runtime::Owned;
use crate::types::{BLOCK, BLOCK_U64, Lba, SECTOR_U64, Scheme, VolumeId};
use crate::volume::Shard;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What all clients of a run share.
#[derive(Default)]
pub struct Shared {
    /// The volumes as they should be.
    pub volumes: BTreeMap<VolumeId, VolumeModel>,
    /// Those of them that are being deleted, or that were deleted in this life: whether that was answered.
    pub dying: BTreeMap<VolumeId, bool>,
    /// Volumes that were made smaller in this life, or are being: what was asked of their ends may be refused.
    pub shrunk: BTreeSet<VolumeId>,
    /// Volumes that are being made, or whose making failed: perhaps they are there. By name.
    pub births: BTreeMap<String, (Scheme, u64)>,
    /// Members that faults may strike at once: no volume tolerates fewer.
    pub tolerance: u8,
    /// Volumes that were made, beside the first ones, and deleted.
    pub born: u64,
    /// See [`Shared::born`].
    pub died: u64,
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
    /// The volumes that are here to stay, and their sizes.
    pub fn sizes(&self) -> Vec<(VolumeId, u64)> {
        let lives = |volume: &&VolumeModel| !self.dying.contains_key(&volume.id);
        self.volumes.values().filter(lives).map(|volume| (volume.id, volume.blocks())).collect()
    }

    /// Notes the first failure.
    pub fn fail(&mut self, text: String) {
        self.failure.get_or_insert(text);
    }
}

/// One client.
pub struct Client {
    /// The run.
    pub hub: SimHub,
    /// Who it is, and its next call.
    pub next: CallId,
    /// The array.
    pub shard: Shard,
    /// What all clients share.
    pub shared: Arc<Owned<Shared>>,
    /// Its chance.
    pub rng: Rng,
}

/// Blocks of a call at most: a full array of few small chunks has room for no more at a time.
const LONGEST: u64 = 24;
/// Volumes at most.
const VOLUMES: usize = 4;
/// Data columns at most.
const WIDEST: u64 = 4;
/// Blocks of a call that fills the array.
const FILL: u64 = 16;

impl Client {
    /// A line of the story: a call and its outcome.
    fn tell<T>(&self, what: impl FnOnce() -> String, outcome: &Result<T>) {
        let who = self.next.client;
        self.hub.tell(|| match outcome {
            Ok(_) => format!("{who}: {}", what()),
            Err(error) => format!("{who}: {}: {error}", what()),
        });
    }

    /// Writes new blocks until the array is full.
    pub async fn fill(&mut self) {
        let volumes = self.shared.with(|shared| shared.sizes());
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
                *live.entry(volume.scheme).or_default() += volume.live();
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

    /// Makes so many calls.
    pub async fn run(mut self, calls: u64) {
        for nth in 0..calls {
            // What one call draws is its own, so that one that is not made changes no other.
            let mut chance = self.rng.fork("call");
            self.next.nth = nth;
            if self.hub.makes(self.next) {
                std::mem::swap(&mut self.rng, &mut chance);
                self.call().await;
                std::mem::swap(&mut self.rng, &mut chance);
                self.shared.with(|shared| shared.done += 1);
            }
            if self.shared.with(|shared| shared.failure.is_some()) {
                return;
            }
        }
    }

    async fn call(&mut self) {
        let volumes = self.shared.with(|shared| shared.sizes());
        let (id, blocks) = volumes[self.rng.index(volumes.len())];
        match self.rng.below(100) {
            0..40 => self.write(id, blocks).await,
            40..50 => self.write_bytes(id, blocks).await,
            50..57 => self.trim(id, blocks).await,
            57..60 => self.trim_bytes(id, blocks).await,
            60..75 => self.flush(id).await,
            75..94 => self.read(id, blocks).await,
            94..96 => self.resize(id, blocks).await,
            96..98 => self.checkpoint().await,
            _ if volumes.len() < VOLUMES && self.rng.chance(2, 3) => self.create().await,
            // One stays, so that there is always something to do.
            _ if id != volumes[0].0 => self.delete(id).await,
            _ => {}
        }
    }

    /// Makes a volume, perhaps a stronger one than the array ever had.
    async fn create(&mut self) {
        let least = self.shared.with(|shared| shared.tolerance);
        self.create_of(least).await;
    }

    /// Makes a volume that is stronger than the array ever had one, where the members hold such.
    pub async fn outgrow(mut self) {
        let pool = &self.shard.core().stripes().pool;
        let (least, members) = (pool.meta_scheme().m() + 1, pool.count());
        if usize::from(least) < members && self.hub.makes(self.next) {
            self.create_of(least).await;
        }
    }

    async fn create_of(&mut self, least: u8) {
        let members = self.shard.core().stripes().pool.count();
        let scheme = any_scheme(&mut self.rng, least, members);
        let blocks = 16 + self.rng.below(200);
        let name = self.shared.with(|shared| {
            shared.tags += 1;
            let name = format!("c{}", shared.tags);
            shared.births.insert(name.clone(), (scheme, blocks));
            name
        });
        let outcome = self.shard.create_volume(&name, scheme, blocks).await;
        self.tell(|| format!("create {scheme} of {blocks} blocks"), &outcome);
        self.shared.with(|shared| match outcome {
            Ok(id) => {
                shared.births.remove(&name);
                shared.volumes.insert(id, VolumeModel::new(id, scheme, blocks));
                shared.born += 1;
            }
            Err(error) => refusal(shared, None, error.kind(), &format!("create {scheme}: {error}")),
        });
    }

    async fn delete(&mut self, id: VolumeId) {
        self.shared.with(|shared| shared.dying.insert(id, false));
        let outcome = self.shard.delete_volume(id).await;
        self.tell(|| format!("delete volume {id}"), &outcome);
        self.shared.with(|shared| match outcome {
            Ok(()) => {
                shared.dying.insert(id, true);
                shared.died += 1;
            }
            Err(error) => refusal(shared, Some(id), error.kind(), &format!("delete: {error}")),
        });
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
        let mut data = vec![0; usize::try_from(blocks).expect("few blocks") * BLOCK];
        data.chunks_mut(BLOCK).zip(lba.0..).for_each(|(block, at)| fill(block, tag, Lba(at)));
        let outcome = self.shard.write(id, lba, Bytes::from(data)).await;
        self.tell(|| format!("write {blocks} blocks at {lba} of volume {id}, tag {tag}"), &outcome);
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
                Err(error) => refusal(shared, Some(id), error.kind(), &format!("write: {error}")),
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
        let adding = blocks.end - blocks.start;
        self.shared.with(|shared| shared.adding += adding);
        let data = Bytes::from(blocks.map(|lba| content(tag, Lba(lba))).collect::<Vec<_>>().concat());
        let skip = usize::try_from(offset % BLOCK_U64).expect("less than a block");
        let data = data.slice(skip..skip + usize::try_from(len).expect("a few blocks"));
        let outcome = self.shard.write_at(id, offset, data).await;
        self.tell(|| format!("write {len} bytes at {offset} of volume {id}, tag {tag}"), &outcome);
        self.shared.with(|shared| shared.adding -= adding);
        self.shared.with(|shared| match outcome {
            Ok(number) => {
                let volume = shared.volumes.get_mut(&id).expect("volumes stay");
                if let Err(text) = volume.accepted_bytes(number, offset, len, tag) {
                    shared.fail(text);
                }
            }
            Err(error) => refusal(shared, Some(id), error.kind(), &format!("write of bytes: {error}")),
        });
    }

    async fn trim_bytes(&mut self, id: VolumeId, size: u64) {
        let (offset, len) = self.bytes(size);
        let outcome = self.shard.trim_at(id, offset, len).await;
        self.tell(|| format!("trim {len} bytes at {offset} of volume {id}"), &outcome);
        self.shared.with(|shared| match outcome {
            Ok(number) => {
                let volume = shared.volumes.get_mut(&id).expect("volumes stay");
                if let Err(text) = volume.accepted_bytes(number, offset, len, ZEROS) {
                    shared.fail(text);
                }
            }
            Err(error) => refusal(shared, Some(id), error.kind(), &format!("trim of bytes: {error}")),
        });
    }

    async fn trim(&mut self, id: VolumeId, size: u64) {
        let longest = if self.rng.chance(1, 4) { size } else { 40 };
        let (lba, blocks) = self.range(size, longest);
        let outcome = self.shard.trim(id, lba, blocks).await;
        self.tell(|| format!("trim {blocks} blocks at {lba} of volume {id}"), &outcome);
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
            Err(error) => refusal(shared, Some(id), error.kind(), &format!("trim: {error}")),
        });
    }

    async fn resize(&mut self, id: VolumeId, size: u64) {
        let by = 1 + self.rng.below(size / 8 + 8);
        let blocks = if self.rng.chance(1, 2) { size + by } else { size.saturating_sub(by).max(1) };
        // Others may have made it larger by the time that this call is accepted.
        self.shared.with(|shared| shared.shrunk.insert(id));
        let outcome = self.shard.resize(id, blocks).await;
        self.tell(|| format!("resize volume {id} to {blocks} blocks"), &outcome);
        self.shared.with(|shared| match outcome {
            Ok(number) => {
                let volume = shared.volumes.get_mut(&id).expect("volumes stay");
                if let Err(text) = volume.resized(number, blocks) {
                    shared.fail(text);
                }
            }
            Err(error) => refusal(shared, Some(id), error.kind(), &format!("resize: {error}")),
        });
    }

    async fn flush(&mut self, id: VolumeId) {
        let before = self.shared.with(|shared| shared.volumes[&id].issued);
        let outcome = self.shard.flush(id).await;
        self.tell(|| format!("flush volume {id}"), &outcome);
        if outcome.as_ref().is_err_and(|error| error.kind() == Kind::NoSpace) {
            self.check_full(0, "flush");
        }
        self.shared.with(|shared| match outcome {
            Ok(number) if number >= before => {
                let volume = shared.volumes.get_mut(&id).expect("volumes stay");
                volume.flushed = volume.flushed.max(number);
            }
            Ok(number) => shared.fail(format!("flush: answered {number}, but {before} was accepted")),
            Err(error) => refusal(shared, Some(id), error.kind(), &format!("flush: {error}")),
        });
    }

    async fn read(&mut self, id: VolumeId, size: u64) {
        let longest = [1, 8, 64][self.rng.index(3)];
        let (lba, blocks) = self.range(size, longest);
        let since = self.shared.with(|shared| shared.volumes[&id].issued);
        let outcome = self.shard.read_blocks(id, lba, blocks).await;
        self.tell(|| format!("read {blocks} blocks at {lba} of volume {id}"), &outcome);
        self.shared.with(|shared| match outcome {
            Ok(_) if shared.dying.contains_key(&id) => {}
            Ok(data) => {
                if let Err(text) = shared.volumes[&id].check_read(since, lba, &data) {
                    shared.fail(text);
                }
            }
            Err(error) => {
                refusal(shared, Some(id), error.kind(), &format!("read of {blocks} blocks at {lba}: {error}"))
            }
        });
    }

    async fn checkpoint(&mut self) {
        let outcome = self.shard.checkpoint().await;
        self.tell(|| "checkpoint".into(), &outcome);
        if let Err(error) = outcome {
            self.shared.with(|shared| refusal(shared, None, error.kind(), &format!("checkpoint: {error}")));
        }
    }
}

/// Any scheme of at least this m that so many members hold.
pub fn any_scheme(rng: &mut Rng, least: u8, members: usize) -> Scheme {
    let members = u8::try_from(members).expect("a simulated array is small");
    let m = least + u8::try_from(rng.below(u64::from(members - least))).expect("small");
    let k = 1 + u8::try_from(rng.below(u64::from(members - m).min(WIDEST))).expect("small");
    Scheme::new(k, m).expect("valid")
}

/// A call that was refused: legal when the array is full, closed, or too few members are left, or when the volume
/// is gone or has become smaller; a failure otherwise.
fn refusal(shared: &mut Shared, id: Option<VolumeId>, kind: Kind, text: &str) {
    match kind {
        Kind::NoSpace => {}
        Kind::NotFound if id.is_some_and(|id| shared.dying.contains_key(&id)) => {}
        Kind::Invalid if id.is_some_and(|id| shared.shrunk.contains(&id)) => {}
        Kind::ReadOnly | Kind::Closed => shared.refused += 1,
        _ => shared.fail(text.into()),
    }
}
