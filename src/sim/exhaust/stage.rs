//! Members that do what they are told, and a life of the engine's process on them in which nothing panics: what goes
//! wrong is a text, so that a thousand runs can be one test.

use super::super::enumerate::{Expected, is_same};
use super::super::media::Image;
use super::super::{SimDisk, SimHub};
use crate::commit::{Config, CreateOptions, OpenOptions, Upkeep};
use crate::error::{Error, Kind};
use crate::limits::RING_BYTES;
use crate::pool::{Candidate, Election};
use crate::runtime::{Executor, Order, Owned};
use crate::types::{BLOCK_U64, Lba, Scheme};
use crate::volume::{Scrub, Shard, State, condition};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// What went wrong, or nothing.
pub(super) type Checked<T> = Result<T, String>;

/// Events after which a call that has not come to an end counts as hung.
const EVENTS_MAX: u64 = 300_000;

/// Blocks of a chunk, and chunks of a member: the fewest that leave room beside the reserves.
pub(super) const CHUNK_BLOCKS: u32 = 16;
pub(super) const CHUNKS: u64 = 40;
/// Bytes of a member.
pub(super) const MEMBER_BYTES: u64 = 2 * RING_BYTES + CHUNKS * CHUNK_BLOCKS as u64 * BLOCK_U64;

/// Members, and the time they live in.
pub(super) struct Stage {
    pub(super) hub: SimHub,
    pub(super) disks: Vec<SimDisk>,
}

impl Stage {
    /// So many blank members.
    pub(super) fn blank(members: usize) -> Stage {
        Stage::new(1, members)
    }

    fn new(seed: u64, members: usize) -> Stage {
        let hub = SimHub::new(seed);
        hub.set_early_timers(0);
        let disks = (0..members).map(|_| hub.disk(MEMBER_BYTES)).collect();
        Stage { hub, disks }
    }

    /// Members that hold this. No nonce is drawn a second time that they may hold from the stage where they were made.
    pub(super) fn of(images: &[Image]) -> Stage {
        let stage = Stage::new(2, images.len());
        stage.disks.iter().zip(images).for_each(|(disk, image)| disk.restore(image));
        stage
    }

    /// One more disk.
    pub(super) fn add(&mut self, bytes: u64) -> SimDisk {
        let disk = self.hub.disk(bytes);
        self.disks.push(disk.clone());
        disk
    }

    /// What the members hold.
    pub(super) fn images(&self) -> Vec<Image> {
        self.disks.iter().map(SimDisk::snapshot).collect()
    }

    /// A disk as something that may be a member.
    pub(super) fn candidate(&self, disk: usize) -> Candidate {
        Candidate { device: Arc::new(self.disks[disk].clone()), path: format!("disk{disk}") }
    }

    /// All of them, in order.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        (0..self.disks.len()).map(|disk| self.candidate(disk)).collect()
    }

    pub(super) fn life(&self) -> Life {
        Life { hub: self.hub.clone(), executor: Executor::new(Order::Fifo) }
    }

    /// Makes an array of all members.
    pub(super) fn create(&self, scheme: Scheme) -> Checked<Result<(), Error>> {
        let life = self.life();
        let options = CreateOptions {
            name: "array".into(),
            scheme,
            chunk_blocks: Some(CHUNK_BLOCKS),
            labels: Vec::new(),
        };
        let (env, members) = (self.hub.env(life.executor.spawner()), self.candidates());
        Ok(life.run(async move { Shard::create(&env, members, options).await })?.map(drop))
    }

    /// Opens the array, to work on its members.
    pub(super) fn open(&self, members: Vec<Candidate>) -> Checked<Result<Open, Error>> {
        self.open_as(members, OpenOptions { upkeep: Upkeep::OnDemand, ..OpenOptions::default() })
    }

    /// Opens the array as these options say, but with small limits.
    pub(super) fn open_as(
        &self,
        members: Vec<Candidate>,
        options: OpenOptions,
    ) -> Checked<Result<Open, Error>> {
        let life = self.life();
        let config = Config {
            write_buffer: 256 << 10,
            map_cache: 64 << 10,
            overlay: 1 << 12,
            deadline: Duration::from_secs(30),
        };
        let env = self.hub.env(life.executor.spawner());
        let options = OpenOptions { config, ..options };
        let opened = life.run(async move { Shard::open(env, members, options).await })?;
        Ok(opened.map(|(shard, election)| Open { life, shard, election }))
    }

    /// Opens the array with all members, which must succeed.
    pub(super) fn must_open(&self) -> Checked<Open> {
        self.open(self.candidates())?.map_err(|error| format!("open: {error}"))
    }

    /// No operation was misaligned or out of range.
    pub(super) fn check_requests(&self) -> Checked<()> {
        match self.hub.refused() {
            0 => Ok(()),
            count => Err(format!("{count} misaligned or out-of-range requests")),
        }
    }

    /// A sum over all that the members hold.
    pub(super) fn sum(&self) -> u64 {
        let mut sum = 0xCBF2_9CE4_8422_2325_u64;
        for disk in &self.disks {
            for block in disk.used_blocks() {
                let content = disk.peek(block * BLOCK_U64, crate::types::BLOCK);
                for word in [block, crate::checksum::crc64(&content)] {
                    sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(29);
                }
            }
        }
        sum
    }
}

/// A life of the engine's process.
pub(super) struct Life {
    hub: SimHub,
    executor: Executor,
}

impl Life {
    /// Runs something to its end.
    pub(super) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Checked<T> {
        self.run_until(u64::MAX, future)?.ok_or_else(|| "the engine does not come to an end".into())
    }

    /// Runs something until so many things have happened. `None` if it has not come to its end by then.
    pub(super) fn run_until<T: Send + 'static>(
        &self,
        events: u64,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Checked<Option<T>> {
        let slot = Arc::new(Owned::new(None));
        let answer = slot.clone();
        self.executor.spawner().spawn(async move {
            let output = future.await;
            answer.with(|slot| *slot = Some(output));
        });
        for _ in 0..events.min(EVENTS_MAX) {
            self.executor.run_until_stalled();
            if let Some(output) = slot.with(Option::take) {
                return Ok(Some(output));
            }
            if !self.hub.step() {
                return Err("the engine waits for nothing that can happen".into());
            }
        }
        Ok(None)
    }
}

/// An open array.
pub(super) struct Open {
    pub(super) life: Life,
    pub(super) shard: Shard,
    pub(super) election: Election,
}

impl Open {
    /// Runs a call to its end.
    pub(super) fn run<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        call: impl FnOnce(Shard) -> F,
    ) -> Checked<T> {
        self.life.run(call(self.shard.clone()))
    }

    /// Every volume is what it may be, and from here on it is what it was found to be.
    pub(super) fn settle(&self, expected: &mut Expected) -> Checked<()> {
        for volume in self.shard.volumes() {
            let history = expected
                .volumes
                .get_mut(&volume.name)
                .ok_or_else(|| format!("volume '{}' must not be there", volume.name))?;
            let number = self
                .shard
                .core()
                .catalog()
                .with(|catalog| catalog.get(volume.id).map(|volume| volume.issued));
            let number = number.map_err(|error| error.to_string())?;
            let (id, blocks) = (volume.id, volume.blocks);
            let found = match blocks {
                0 => Vec::new(),
                _ => self
                    .run(async move |shard| shard.read_blocks(id, Lba(0), blocks).await)?
                    .map_err(|error| format!("read of volume '{}': {error}", volume.name))?,
            };
            history.check(number, &found).map_err(|text| format!("volume '{}': {text}", volume.name))?;
            history.settle(number);
        }
        let is_there = |name: &String| self.shard.find(name).is_ok();
        if let Some((name, _)) =
            expected.volumes.iter().find(|(name, history)| history.must_be && !is_there(name))
        {
            return Err(format!("volume '{name}' is not there"));
        }
        expected.volumes.retain(|name, _| is_there(name));
        Ok(())
    }

    /// Every volume is exactly what it was, and nothing is said to be lost.
    pub(super) fn expect(&self, expected: &Expected) -> Checked<()> {
        self.settle(&mut expected.clone())?;
        self.expect_no_damage()
    }

    /// Too few members are there: every block is what it was at one number of its volume, or is named as lost. If that
    /// number is not the newest, because the last records are on members that are not there alone, the state says that
    /// the array has failed.
    pub(super) fn expect_what_is_left(&self, expected: &Expected) -> Checked<()> {
        let mut is_old = false;
        for (name, history) in &expected.volumes {
            let Ok(volume) = self.shard.find(name) else {
                return Err(format!("volume '{name}' is not there"));
            };
            let id = volume.id;
            let catalog = self.shard.core().catalog();
            let number = catalog.with(|catalog| catalog.get(id).map(|volume| volume.issued));
            let number = number.map_err(|error| error.to_string())?;
            let state = history.at(number).ok_or_else(|| format!("volume '{name}' is at number {number}"))?;
            if number != history.issued() {
                is_old = true;
                if catalog.with(|catalog| catalog.damage.lost_writes(id)).is_none() {
                    return Err(format!(
                        "volume '{name}' is at number {number}, and nothing says that it may be old"
                    ));
                }
            }
            if state.len() as u64 != volume.blocks {
                return Err(format!("volume '{name}' has {} blocks at number {number}", volume.blocks));
            }
            for (lba, wanted) in (0..).zip(state) {
                let found = self.run(async move |shard| shard.read_blocks(id, Lba(lba), 1).await)?;
                let lost = Kind::DataLoss { volume: id, lba: Lba(lba) };
                match found {
                    Ok(found) if is_same(found[0].as_ref(), wanted.as_ref()) => {}
                    Ok(_) => return Err(format!("block {lba} of volume '{name}' is wrong")),
                    Err(error) if error.kind() == lost => {}
                    Err(error) => return Err(format!("block {lba} of volume '{name}': {error:?}")),
                }
            }
        }
        if is_old && self.state() != State::Failed {
            return Err(format!("it shows an older state and says that it is {:?}", self.state()));
        }
        Ok(())
    }

    pub(super) fn expect_no_damage(&self) -> Checked<()> {
        match self.shard.damage().as_slice() {
            [] => Ok(()),
            listed => Err(format!("damage is listed: {listed:?}")),
        }
    }

    /// What `status` says of the array.
    pub(super) fn state(&self) -> State {
        condition(self.shard.core())
    }

    pub(super) fn scrub(&self) -> Checked<Scrub> {
        self.run(async move |shard| shard.scrub().await)?.map_err(|error| format!("scrub: {error}"))
    }

    /// Errors charged to each member: read, write, flush, checksum.
    pub(super) fn errors(&self) -> Vec<[u32; 4]> {
        self.shard.core().stripes().pool.superblock().members.iter().map(|record| record.errors).collect()
    }

    /// Everything has its full redundancy, everything says so, and a scrub has nothing to do.
    pub(super) fn expect_whole(&self) -> Checked<()> {
        let found = self.scrub()?;
        let Scrub { read, resumed, .. } = found;
        if found != (Scrub { read, resumed, ..Scrub::default() }) || resumed > 0 {
            return Err(format!("a scrub had something to do: {found:?}"));
        }
        match self.state() {
            State::Healthy => Ok(()),
            state => Err(format!("after a scrub the array is {state:?}")),
        }
    }

    /// Compares the tables with the maps.
    pub(super) fn inspect(&self) -> Checked<()> {
        let checked = self.run(async move |shard| shard.core().check().await)?;
        checked.map_err(|error| format!("invariants: {error}"))
    }

    pub(super) fn close(&self) -> Checked<()> {
        self.run(async move |shard| shard.close().await)?.map_err(|error| format!("close: {error}"))
    }
}

/// Every set of so many members has the power to be lost: the rest has everything.
pub(super) fn lose_any(images: &[Image], lost: usize, expected: &Expected) -> Checked<()> {
    for set in subsets(images.len()).filter(|set| set.len() == images.len() - lost) {
        let stage = Stage::of(images);
        let members = set.iter().map(|disk| stage.candidate(*disk)).collect();
        let open = stage.open(members)?.map_err(|error| format!("open with {set:?} alone: {error}"))?;
        open.expect(expected).map_err(|text| format!("with {set:?} alone: {text}"))?;
    }
    Ok(())
}

/// All subsets of so many members, as lists in order.
pub(super) fn subsets(members: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..1_usize << members)
        .map(move |set| (0..members).filter(|member| set >> member & 1 == 1).collect::<Vec<usize>>())
}

/// What an error may be of an array that has lost more than it tolerates.
pub(super) fn is_honest(error: &Error) -> bool {
    let is_unreadable = error.kind() == Kind::NotFound && error.to_string().contains("cannot be read");
    is_unreadable
        || matches!(
            error.kind(),
            Kind::ReadOnly | Kind::Io | Kind::DataLoss { .. } | Kind::LostWrites { .. } | Kind::Corrupt
        )
}
