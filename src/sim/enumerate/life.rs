//! One life of the engine's process on the members of a run.

use super::history::{Expected, tagged};
use super::members::Members;
use crate::commit::{Config, CreateOptions, OpenOptions};
use crate::error::Error;
use crate::runtime::{Executor, Order, Owned};
use crate::types::{Lba, Scheme, VolumeId};
use crate::volume::Shard;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Events after which a call that has not come to an end counts as hung.
const EVENTS_MAX: u64 = 100_000;

/// Blocks of a chunk, and chunks of a member: the fewest that leave room beside the reserves.
pub(super) const CHUNK_BLOCKS: u32 = 16;
pub(super) const CHUNKS: u64 = 40;

/// See the head of this file.
pub(super) struct Life {
    pub(super) members: Members,
    executor: Executor,
}

impl Life {
    pub(super) fn new(members: &Members) -> Life {
        Life { members: members.clone(), executor: Executor::new(Order::Fifo) }
    }

    /// Runs a future to its end.
    pub(super) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, String> {
        let slot = Arc::new(Owned::new(None));
        let answer = slot.clone();
        self.executor.spawner().spawn(async move {
            let output = future.await;
            answer.with(|slot| *slot = Some(output));
        });
        for _ in 0..EVENTS_MAX {
            self.executor.run_until_stalled();
            if let Some(output) = slot.with(Option::take) {
                return Ok(output);
            }
            if !self.members.step(true) {
                return Err("the engine waits for nothing that can happen".into());
            }
        }
        Err("the engine does not come to an end".into())
    }

    /// Lets the engine do what it does by itself, as far as no time passes.
    pub(super) fn rest(&self) -> Result<(), String> {
        for _ in 0..EVENTS_MAX {
            self.executor.run_until_stalled();
            if !self.members.step(false) {
                return Ok(());
            }
        }
        Err("the engine does not come to rest".into())
    }

    /// Makes the array.
    pub(super) fn create(&self, scheme: Scheme) -> Result<(), String> {
        let options = CreateOptions {
            name: "array".into(),
            scheme,
            chunk_blocks: Some(CHUNK_BLOCKS),
            labels: Vec::new(),
        };
        let (env, members) = (self.members.env(self.executor.spawner()), self.members.candidates());
        let made = self.run(async move { Shard::create(&env, members, options).await })?;
        made.map(|_| ()).map_err(|error| format!("mkfs: {error}"))
    }

    /// Opens the array.
    pub(super) fn open(&self) -> Result<Result<Shard, Error>, String> {
        let config = Config {
            write_buffer: 256 << 10,
            map_cache: 64 << 10,
            overlay: 1 << 12,
            deadline: Duration::from_secs(30),
        };
        let (env, members) = (self.members.env(self.executor.spawner()), self.members.candidates());
        let options = OpenOptions { config, ..OpenOptions::default() };
        let opened = self.run(async move { Shard::open(env, members, options).await })?;
        Ok(opened.map(|(shard, _)| shard))
    }

    /// Opens what a crash left, and checks that it is what it may be, and that it can be worked with.
    pub(super) fn recover(&self, expected: &Expected, scheme: Scheme) -> Result<(), String> {
        let mut expected = expected.clone();
        let shard = match self.open()? {
            Ok(shard) => shard,
            Err(error) if expected.is_made => return Err(format!("open: {error}")),
            Err(_) => {
                self.members.promise(Expected::default());
                self.create(scheme)?;
                expected.is_made = true;
                expected.volumes.clear();
                self.members.promise(expected.clone());
                self.open()?.map_err(|error| format!("open after mkfs: {error}"))?
            }
        };
        expected.is_made = true;
        self.settle(&shard, &mut expected)?;
        self.members.promise(expected.clone());
        let Some(name) = expected.volumes.keys().next().cloned() else { return Ok(()) };
        self.work(&shard, expected, &name)?;
        self.inspect(&shard)
    }

    /// Checks each volume against its history, which from here on begins with what was found.
    fn settle(&self, shard: &Shard, expected: &mut Expected) -> Result<(), String> {
        if !shard.damage().is_empty() {
            return Err("a crash alone led to recorded damage".into());
        }
        for volume in shard.volumes() {
            let history = expected
                .volumes
                .get_mut(&volume.name)
                .filter(|history| history.scheme == volume.scheme)
                .ok_or_else(|| format!("volume '{}' must not be there", volume.name))?;
            let number =
                shard.core().catalog().with(|catalog| catalog.get(volume.id).map(|volume| volume.durable));
            let number = number.map_err(|error| error.to_string())?;
            let found = self.read(shard, volume.id, volume.blocks)?;
            history.check(number, &found).map_err(|text| format!("volume '{}': {text}", volume.name))?;
            history.settle(number);
        }
        let is_there = |name: &String| shard.find(name).is_ok();
        if let Some((name, _)) =
            expected.volumes.iter().find(|(name, history)| history.must_be && !is_there(name))
        {
            return Err(format!("volume '{name}' is not there"));
        }
        expected.volumes.retain(|name, _| is_there(name));
        Ok(())
    }

    fn read(&self, shard: &Shard, id: VolumeId, blocks: u64) -> Result<Vec<Option<bytes::Bytes>>, String> {
        if blocks == 0 {
            return Ok(Vec::new());
        }
        let shard = shard.clone();
        let found = self.run(async move { shard.read_blocks(id, Lba(0), blocks).await })?;
        found.map_err(|error| format!("read: {error}"))
    }

    /// Writes a block, flushes and reads it.
    fn work(&self, shard: &Shard, mut expected: Expected, name: &str) -> Result<(), String> {
        let volume = shard.find(name).map_err(|error| error.to_string())?;
        let history = expected.volumes.get_mut(name).expect("just listed");
        let content = tagged(1_000_000 + history.issued().0, 0);
        let mut blocks = history.newest().clone();
        blocks[0] = Some(content.clone());
        history.push(blocks);
        self.members.promise(expected.clone());
        let (handle, id) = (shard.clone(), volume.id);
        let done = self.run(async move {
            handle.write(id, Lba(0), content).await?;
            handle.flush(id).await
        })?;
        let number = done.map_err(|error| format!("write and flush after the crash: {error}"))?;
        let history = expected.volumes.get_mut(name).expect("just listed");
        history.flushed = number;
        let found = self.read(shard, volume.id, volume.blocks)?;
        history
            .check(number, &found)
            .map_err(|text| format!("volume '{name}', written after the crash: {text}"))?;
        self.members.promise(expected);
        match shard.core().progress().evictions {
            0 => Ok(()),
            _ => Err("a member was evicted though none failed".into()),
        }
    }

    /// Compares the tables with the maps.
    fn inspect(&self, shard: &Shard) -> Result<(), String> {
        let shard = shard.clone();
        let checked = self.run(async move { shard.core().check().await })?;
        checked.map_err(|error| format!("invariants: {error}"))
    }
}
