//! What a scenario needs: an array on simulated members that do exactly what they are told.

use crate::commit::{Config, CreateOptions, OpenOptions, Salvaged, Upkeep, salvage};
use crate::device::Device;
use crate::error::Result;
use crate::format::superblock::ChunkAddress;
use crate::limits::RING_BYTES;
use crate::pool::{Candidate, Election, read_rings};
use crate::runtime::{Executor, Order, Owned};
use crate::sim::model::content;
use crate::sim::{Rot, SimDisk, SimHub};
use crate::types::{BLOCK, BLOCK_U64, Epoch, Lba, Scheme, SegmentId, Uuid, VolumeId};
use crate::volume::Shard;
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;

/// Steps after which a scenario that does not end counts as hung.
const STEPS_MAX: u64 = 500_000;

/// An array, open or not.
pub(super) struct Scene {
    pub(super) hub: SimHub,
    pub(super) disks: Vec<SimDisk>,
    pub(super) config: Config,
}

/// One life of the engine's process.
pub(super) struct Life {
    hub: SimHub,
    executor: Executor,
    pub(super) shard: Shard,
}

/// The answer of something that was started.
pub(super) struct Answer<T>(Arc<Owned<Option<T>>>);

impl<T> Answer<T> {
    /// The answer, once it is there.
    pub(super) fn take(&self) -> Option<T> {
        self.0.with(Option::take)
    }

    fn is_there(&self) -> bool {
        self.0.with(|slot| slot.is_some())
    }
}

fn start<T: Send + 'static>(
    executor: &Executor,
    future: impl Future<Output = T> + Send + 'static,
) -> Answer<T> {
    let slot = Arc::new(Owned::new(None));
    let answer = Answer(slot.clone());
    executor.spawner().spawn(async move {
        let output = future.await;
        slot.with(|slot| *slot = Some(output));
    });
    answer
}

fn finish<T>(hub: &SimHub, executor: &Executor, answer: &Answer<T>) -> T {
    for _ in 0..STEPS_MAX {
        executor.run_until_stalled();
        if let Some(output) = answer.take() {
            return output;
        }
        assert!(hub.step(), "the engine waits for nothing that can happen");
    }
    panic!("the engine does not come to an end");
}

impl Scene {
    /// A new array on members of so many chunks each.
    pub(super) fn new(scheme: (u8, u8), chunk_blocks: u32, chunks: &[u64]) -> Scene {
        let hub = SimHub::new(1);
        hub.set_early_timers(0);
        let blocks = u64::from(chunk_blocks);
        let disks: Vec<SimDisk> =
            chunks.iter().map(|chunks| hub.disk(2 * RING_BYTES + chunks * blocks * BLOCK_U64)).collect();
        let scene = Scene { hub, disks, config: Config::default() };
        scene.create(scheme, chunk_blocks).expect("made");
        scene
    }

    /// Makes an array of the disks.
    pub(super) fn create(&self, scheme: (u8, u8), chunk_blocks: u32) -> Result<Uuid> {
        let executor = Executor::new(Order::Fifo);
        let env = self.hub.env(executor.spawner());
        let options = CreateOptions {
            name: "scene".into(),
            scheme: Scheme::new(scheme.0, scheme.1).expect("a scheme"),
            chunk_blocks: Some(chunk_blocks),
            labels: Vec::new(),
        };
        let candidates = self.candidates();
        let made = start(&executor, async move { Shard::create(&env, candidates, options).await });
        finish(&self.hub, &executor, &made)
    }

    /// One more disk, as large as the first.
    pub(super) fn add(&mut self) -> Candidate {
        let disk = self.hub.disk(self.disks[0].len());
        self.disks.push(disk.clone());
        Candidate { device: Arc::new(disk), path: format!("disk{}", self.disks.len() - 1) }
    }

    /// A disk as a member.
    pub(super) fn candidate(&self, index: usize) -> Candidate {
        Candidate { device: Arc::new(self.disks[index].clone()), path: format!("disk{index}") }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let there = (0..self.disks.len()).filter(|index| !self.disks[*index].is_gone());
        there.map(|index| self.candidate(index)).collect()
    }

    /// Opens the array.
    pub(super) fn open(&self) -> Life {
        self.open_with(0, || {})
    }

    /// Tries to open the array.
    pub(super) fn try_open(&self, read_only: bool) -> Result<Life> {
        let executor = Executor::new(Order::Fifo);
        let env = self.hub.env(executor.spawner());
        let candidates = self.candidates();
        let options = OpenOptions { config: self.config, read_only, ..OpenOptions::default() };
        let opened = start(&executor, async move { Shard::open(env, candidates, options).await });
        let (shard, _) = finish(&self.hub, &executor, &opened)?;
        Ok(Life { hub: self.hub.clone(), executor, shard })
    }

    /// Builds the array's metadata anew.
    pub(super) fn salvage(&self) -> Result<Salvaged> {
        let executor = Executor::new(Order::Fifo);
        let env = self.hub.env(executor.spawner());
        let candidates = self.candidates();
        let salvaged = start(&executor, async move { salvage(env, candidates, "found").await });
        finish(&self.hub, &executor, &salvaged)
    }

    /// Zeros over every superblock of a disk.
    pub(super) fn behead(&self, disk: usize) {
        let blocks = self.disks[disk].len() / BLOCK_U64;
        let ring = RING_BYTES / BLOCK_U64;
        self.disks[disk].rot(0..ring, Rot::Zero);
        self.disks[disk].rot(blocks - ring..blocks, Rot::Zero);
    }

    /// The newest epoch that a disk knows of.
    pub(super) fn epoch_on(&self, disk: usize) -> Epoch {
        let executor = Executor::new(Order::Fifo);
        let disk = self.disks[disk].clone();
        let read = start(&executor, async move { read_rings(&disk).await });
        let found = finish(&self.hub, &executor, &read);
        found.copies.iter().map(|copy| copy.epoch).max().unwrap_or_default()
    }

    /// Opens the array to work on its members, until so many things have happened; then the power fails. Returns
    /// whether it was open by then.
    pub(super) fn fail_opening(&self, events: u64) -> bool {
        let executor = Executor::new(Order::Fifo);
        let opened = self.opening(&executor, Upkeep::OnDemand);
        for _ in 0..events {
            executor.run_until_stalled();
            if opened.is_there() || !self.hub.step() {
                break;
            }
        }
        let is_open = opened.take().map(|opened| opened.expect("opened")).is_some();
        drop(executor);
        self.hub.power_loss();
        is_open
    }

    /// Opens the array to work on its members.
    pub(super) fn open_for_upkeep(&self) -> Life {
        let executor = Executor::new(Order::Fifo);
        let opened = self.opening(&executor, Upkeep::OnDemand);
        let (shard, _) = finish(&self.hub, &executor, &opened).expect("opened");
        Life { hub: self.hub.clone(), executor, shard }
    }

    fn opening(&self, executor: &Executor, upkeep: Upkeep) -> Answer<Result<(Shard, Election)>> {
        let env = self.hub.env(executor.spawner());
        let (candidates, config) = (self.candidates(), self.config);
        let options = OpenOptions { config, upkeep, ..OpenOptions::default() };
        start(executor, async move { Shard::open(env, candidates, options).await })
    }

    /// Opens the array; something happens after so many events on the way.
    pub(super) fn open_with(&self, events: u64, happens: impl FnOnce()) -> Life {
        self.open_while(events, Upkeep::Nothing, happens)
    }

    /// [`Scene::open_with`], and what else is to be done for the array.
    pub(super) fn open_while(&self, events: u64, upkeep: Upkeep, happens: impl FnOnce()) -> Life {
        let executor = Executor::new(Order::Fifo);
        let opened = self.opening(&executor, upkeep);
        for _ in 0..events {
            executor.run_until_stalled();
            if opened.is_there() || !self.hub.step() {
                break;
            }
        }
        happens();
        let (shard, _) = finish(&self.hub, &executor, &opened).expect("opened");
        Life { hub: self.hub.clone(), executor, shard }
    }
}

impl Life {
    /// Starts something, and lets it come as far as it does without any I/O completing.
    pub(super) fn start<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        task: impl FnOnce(Shard) -> F,
    ) -> Answer<T> {
        let answer = start(&self.executor, task(self.shard.clone()));
        self.executor.run_until_stalled();
        answer
    }

    /// Runs something to its end.
    #[track_caller]
    pub(super) fn run<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        task: impl FnOnce(Shard) -> F,
    ) -> T {
        let answer = start(&self.executor, task(self.shard.clone()));
        self.wait(&answer)
    }

    /// Waits for what was started.
    #[track_caller]
    pub(super) fn wait<T>(&self, answer: &Answer<T>) -> T {
        finish(&self.hub, &self.executor, answer)
    }

    /// Lets `events` things happen, or as many as can.
    pub(super) fn step(&self, events: u64) {
        for _ in 0..events {
            self.executor.run_until_stalled();
            if !self.hub.step() {
                break;
            }
        }
        self.executor.run_until_stalled();
    }

    /// A new volume of the array's scheme.
    pub(super) fn volume(&self, name: &str, blocks: u64) -> VolumeId {
        let scheme = self.shard.core().stripes().pool.superblock().default_scheme;
        let name = name.to_owned();
        self.run(async move |shard| shard.create_volume(&name, scheme, blocks).await).expect("created")
    }

    /// Writes blocks that the tag names.
    pub(super) fn write(&self, id: VolumeId, lba: u64, blocks: u64, tag: u64) {
        let data = data(lba, blocks, tag);
        self.run(async move |shard| shard.write(id, Lba(lba), data).await).expect("written");
    }

    pub(super) fn flush(&self, id: VolumeId) {
        self.run(async move |shard| shard.flush(id).await).expect("flushed");
    }

    pub(super) fn checkpoint(&self) {
        self.run(async move |shard| shard.checkpoint().await).expect("written");
    }

    /// Whether blocks read as the tag names them; what differs is said.
    #[track_caller]
    pub(super) fn expect(&self, id: VolumeId, lba: u64, blocks: u64, tag: u64) {
        let read = self.run(async move |shard| shard.read(id, Lba(lba), blocks).await).expect("read");
        for (at, block) in (lba..).zip(read.chunks(BLOCK)) {
            assert!(block == content(tag, Lba(at)), "block {at} is not that of write {tag}");
        }
    }

    /// The segment that a block lies in.
    pub(super) fn segment(&self, id: VolumeId, lba: u64) -> SegmentId {
        let place = self.run(async move |shard| shard.locate(id, Lba(lba)).await).expect("mapped");
        place.expect("on the members").place.segment
    }

    /// Every block of a segment: the disk, and the block's place on it.
    pub(super) fn blocks(&self, segment: SegmentId) -> Vec<(usize, u64)> {
        let stripes = self.shard.core().stripes();
        let rows = u64::from(stripes.chunk_rows());
        let columns = stripes.view(segment).expect("in the table").columns;
        let block = |at: ChunkAddress, row| {
            (usize::from(at.slot.0), RING_BYTES / BLOCK_U64 + u64::from(at.chunk.0) * rows + row)
        };
        columns.into_iter().flatten().flat_map(|at| (0..rows).map(move |row| block(at, row))).collect()
    }

    /// Those of its blocks that begin a record.
    pub(super) fn headers(&self, segment: SegmentId) -> Vec<(usize, u64)> {
        let is_header = |&(disk, block): &(usize, u64)| {
            self.hub.existing(disk).peek(block * BLOCK_U64, 8) == *b"PARITASr"
        };
        self.blocks(segment).into_iter().filter(is_header).collect()
    }

    /// The process dies, and with it the power of all members.
    pub(super) fn power_loss(self) {
        let Life { hub, executor, shard } = self;
        drop((executor, shard));
        hub.power_loss();
    }

    /// The process dies; what was written stays.
    pub(super) fn kill(self) {
        let Life { hub, executor, shard } = self;
        drop((executor, shard));
        hub.kill();
    }
}

/// Blocks that the tag names.
pub(super) fn data(lba: u64, blocks: u64, tag: u64) -> Bytes {
    (lba..lba + blocks).flat_map(|at| content(tag, Lba(at))).collect::<Vec<u8>>().into()
}
