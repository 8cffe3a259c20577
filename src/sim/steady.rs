//! An array kept at one fill under random overwrites: what cleaning costs, and whether it goes on for ever.

use super::disk::SimDisk;
use super::hub::SimHub;
use super::model::content;
use crate::commit::{Config, CreateOptions, OpenOptions, blocks_per_segment};
use crate::error::Result;
use crate::layout::Geometry;
use crate::limits::RING_BYTES;
use crate::pool::Candidate;
use crate::runtime::{Executor, Order, Owned};
use crate::types::{BLOCK_U64, Lba, Scheme, VolumeId};
use crate::volume::Shard;
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;

/// An array and how it is used.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The scheme of the array and of its volume.
    pub scheme: Scheme,
    /// Members.
    pub members: usize,
    /// Chunks of each.
    pub chunks: u32,
    /// Blocks of a chunk.
    pub chunk_blocks: u32,
    /// Live blocks as a share of those that user data may fill at all, in percent.
    pub percent: u64,
    /// Blocks overwritten.
    pub overwrites: u64,
    /// Blocks of one call.
    pub call: u64,
}

/// What a run cost.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Cost {
    /// Blocks that were overwritten in the measured half of the run.
    pub written: u64,
    /// Blocks that the cleaner moved meanwhile.
    pub moved: u64,
    /// Bytes that went to members for pages of trees, per byte written.
    pub metadata: f64,
    /// Bytes that went to members in all, per byte written.
    pub all: f64,
    /// Checkpoints meanwhile.
    pub checkpoints: u64,
    /// The fewest and the most segments that were free, beside all reserves, in the first half and the second.
    pub free: [(u64, u64); 2],
    /// Segments that user data may fill at all.
    pub segments: u64,
    /// Live blocks as a share of the room in segments that held user data, on average.
    pub fill: f64,
}

impl Cost {
    /// Blocks written per block overwritten: 1 without cleaning.
    pub fn amplification(&self) -> f64 {
        #[allow(clippy::cast_precision_loss)] // A ratio for people: 53 bits are plenty.
        let (moved, written) = (self.moved as f64, self.written.max(1) as f64);
        1.0 + moved / written
    }

    /// What greedy cleaning costs at this fill under uniform random overwrites: 1 / (1 - u), where the share u
    /// of a victim that is still live solves fill = (1 - u) / -ln u.
    pub fn theory(&self) -> f64 {
        let (mut low, mut high) = (0.0f64, 1.0f64);
        for _ in 0..60 {
            let u = f64::midpoint(low, high);
            if (1.0 - u) / -u.ln() < self.fill { low = u } else { high = u }
        }
        1.0 / (1.0 - low)
    }
}

struct World {
    hub: SimHub,
    executor: Executor,
}

impl World {
    /// Runs a future to its end.
    ///
    /// # Panics
    /// When the engine waits for nothing that can happen.
    fn finish<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let slot = Arc::new(Owned::new(None));
        let answer = slot.clone();
        self.executor.spawner().spawn(async move {
            let output = future.await;
            answer.with(|slot| *slot = Some(output));
        });
        loop {
            self.executor.run_until_stalled();
            if let Some(output) = slot.with(Option::take) {
                return output;
            }
            assert!(self.hub.step(), "the engine waits for nothing that can happen");
        }
    }
}

/// Fills an array to `plan.percent`, overwrites random blocks, and measures the second half of that. The
/// array's invariants are checked at the end.
///
/// # Errors
/// The first call that fails: none should.
///
/// # Panics
/// When the array hangs.
pub fn steady(plan: Plan, seed: u64) -> Result<Cost> {
    let hub = SimHub::new(seed);
    hub.set_early_timers(0);
    let mut rng = hub.rng("steady");
    let bytes =
        2 * RING_BYTES + u64::from(plan.chunks) * Geometry { chunk_blocks: plan.chunk_blocks }.chunk_bytes();
    let disks: Vec<SimDisk> = (0..plan.members).map(|_| hub.disk(bytes)).collect();
    let world = World { hub, executor: Executor::new(Order::Fifo) };
    let env = world.hub.env(world.executor.spawner());
    let candidates = || {
        let disks = disks.iter().enumerate();
        let candidate = |(index, disk): (usize, &SimDisk)| Candidate {
            device: Arc::new(disk.clone()),
            path: format!("disk{index}"),
        };
        disks.map(candidate).collect::<Vec<_>>()
    };
    let options = CreateOptions {
        name: "steady".into(),
        scheme: plan.scheme,
        chunk_blocks: Some(plan.chunk_blocks),
        labels: Vec::new(),
    };
    let (made, members) = (env.clone(), candidates());
    world.finish(async move { Shard::create(&made, members, options).await })?;
    let config = Config { write_buffer: 1 << 20, ..Config::default() };
    let options = OpenOptions { config, ..OpenOptions::default() };
    let members = candidates();
    let (shard, _) = world.finish(async move { Shard::open(env, members, options).await })?;
    let segments = shard.core().segments_for_users(plan.scheme);
    let per_segment = blocks_per_segment(shard.core().stripes().chunk_rows(), plan.scheme);
    let blocks = segments * per_segment * plan.percent / 100;
    let handle = shard.clone();
    let id = world.finish(async move { handle.create_volume("v", plan.scheme, blocks).await })?;
    let mut tag = 0;
    for lba in (0..blocks).step_by(64) {
        tag += 1;
        world.finish(write(shard.clone(), id, lba, 64.min(blocks - lba), tag))?;
    }
    let free = |shard: &Shard| shard.core().free_and_low(plan.scheme).0;
    let mut cost = Cost::default();
    for (half, range) in cost.free.iter_mut().enumerate() {
        let before = (shard.core().progress(), shard.core().stripes().counters());
        *range = (u64::MAX, 0);
        let (mut written, mut calls, mut used) = (0, 0, 0);
        while written < plan.overwrites / 2 {
            let lba = rng.below(blocks - plan.call + 1);
            tag += 1;
            written += plan.call;
            world.finish(write(shard.clone(), id, lba, plan.call, tag))?;
            let now = free(&shard);
            calls += 1;
            used +=
                shard.core().stripes().space.with(|space| {
                    space.iter().filter(|(_, segment)| segment.purpose.is_log()).count() as u64
                });
            *range = (range.0.min(now), range.1.max(now));
        }
        let after = (shard.core().progress(), shard.core().stripes().counters());
        if half == 1 {
            cost.written = written;
            cost.moved = after.0.moved_blocks - before.0.moved_blocks;
            cost.checkpoints = after.0.checkpoints - before.0.checkpoints;
            #[allow(clippy::cast_precision_loss)] // Ratios for people: 53 bits are plenty.
            let per_byte = |bytes: u64| bytes as f64 / (written * BLOCK_U64) as f64;
            cost.metadata = per_byte(after.1.metadata - before.1.metadata);
            cost.all = per_byte(after.1.written - before.1.written);
            #[allow(clippy::cast_precision_loss)] // A ratio for people: 53 bits are plenty.
            let fill = (blocks * calls) as f64 / (used * per_segment) as f64;
            cost.fill = fill;
        }
    }
    cost.segments = segments;
    let handle = shard.clone();
    world.finish(async move { handle.core().check().await })?;
    world.finish(async move { shard.close().await })?;
    Ok(cost)
}

async fn write(shard: Shard, id: VolumeId, lba: u64, blocks: u64, tag: u64) -> Result<()> {
    let data: Vec<u8> = (lba..lba + blocks).flat_map(|at| content(tag, Lba(at))).collect();
    shard.write(id, Lba(lba), Bytes::from(data)).await.map(drop)
}
