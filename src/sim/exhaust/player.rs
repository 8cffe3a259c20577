//! Somebody who asks an array for things and writes down what may come of it.
//!
//! A call that fails may have been accepted all the same: then its number has been given out, and what it makes of the
//! volume may be there later, or not.

use super::super::enumerate::{Blocks, Expected, History, patched, tagged};
use super::stage::{Checked, Open};
use crate::error::{Error, Result as Answer};
use crate::types::{BLOCK, Lba, Number, Scheme, VolumeId};
use crate::volume::Shard;
use bytes::Bytes;
use std::future::Future;

pub(super) struct Player<'a> {
    pub(super) open: &'a Open,
    pub(super) expected: Expected,
    /// The tag of the next write.
    pub(super) tag: u64,
    /// What failed.
    pub(super) errors: Vec<(String, Error)>,
}

impl Player<'_> {
    /// Notes how a call ended; whether it succeeded.
    pub(super) fn note<T>(&mut self, what: &str, outcome: Answer<T>) -> Option<T> {
        outcome.map_err(|error| self.errors.push((what.into(), error))).ok()
    }

    fn history(&mut self, name: &str) -> &mut History {
        self.expected.volumes.get_mut(name).expect("a volume of the story")
    }

    fn id(&self, name: &str) -> Checked<VolumeId> {
        self.open.shard.find(name).map(|volume| volume.id).map_err(|error| error.to_string())
    }

    /// Something is asked for that makes `next` of a volume.
    fn change<F>(
        &mut self,
        what: &str,
        name: &str,
        next: Blocks,
        call: impl FnOnce(Shard, VolumeId) -> F,
    ) -> Checked<()>
    where
        F: Future<Output = Answer<Number>> + Send + 'static,
    {
        let id = self.id(name)?;
        self.history(name).push(next);
        let outcome = self.open.run(|shard| call(shard, id))?;
        let issued = self.history(name).issued();
        if let Some(number) = self.note(what, outcome) {
            return if number == issued { Ok(()) } else { Err(format!("number {number}, not {issued}")) };
        }
        let given =
            self.open.shard.core().catalog().with(|catalog| catalog.get(id).map(|volume| volume.issued));
        match given.map_err(|error| error.to_string())? {
            given if given == issued => Ok(()),
            given if given.0 + 1 == issued.0 => {
                self.history(name).pop();
                Ok(())
            }
            given => Err(format!("a {what} that failed left number {given} behind {issued}")),
        }
    }

    pub(super) fn write(&mut self, name: &str, lba: usize, blocks: usize) -> Checked<()> {
        self.tag += 1;
        let data: Vec<u8> = (lba..lba + blocks).flat_map(|at| tagged(self.tag, at).to_vec()).collect();
        let next = patched(self.history(name).newest(), lba * BLOCK, &data);
        let data = Bytes::from(data);
        self.change("write", name, next, async move |shard: Shard, id| {
            shard.write(id, Lba(lba as u64), data).await
        })
    }

    pub(super) fn trim(&mut self, name: &str, lba: usize, blocks: usize) -> Checked<()> {
        let mut next = self.history(name).newest().clone();
        next[lba..lba + blocks].fill(None);
        self.change("trim", name, next, async move |shard: Shard, id| {
            shard.trim(id, Lba(lba as u64), blocks as u64).await
        })
    }

    pub(super) fn resize(&mut self, name: &str, blocks: usize) -> Checked<()> {
        let mut next = self.history(name).newest().clone();
        next.resize(blocks, None);
        self.change("resize", name, next, async move |shard: Shard, id| shard.resize(id, blocks as u64).await)
    }

    pub(super) fn flush(&mut self, name: &str) -> Checked<()> {
        let id = self.id(name)?;
        let outcome = self.open.run(async move |shard| shard.flush(id).await)?;
        if let Some(number) = self.note("flush", outcome) {
            let history = self.history(name);
            if number != history.issued() {
                return Err(format!("flush: answered {number}, but {} was accepted", history.issued()));
            }
            history.flushed = number;
        }
        Ok(())
    }

    /// Reads a whole volume, which must be what it is to be now, or an error.
    pub(super) fn read(&mut self, name: &str) -> Checked<()> {
        let (id, blocks) = (self.id(name)?, self.history(name).newest().len() as u64);
        let outcome = self.open.run(async move |shard| shard.read_blocks(id, Lba(0), blocks).await)?;
        match self.note("read", outcome) {
            Some(found) => {
                let history = self.history(name);
                history.check(history.issued(), &found).map_err(|text| format!("read of '{name}': {text}"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn create(&mut self, name: &str, scheme: Scheme, blocks: usize) -> Checked<()> {
        self.expected.volumes.insert(name.into(), History::new(scheme, blocks));
        let owned = name.to_owned();
        let outcome =
            self.open.run(async move |shard| shard.create_volume(&owned, scheme, blocks as u64).await)?;
        if self.note("create", outcome).is_some() {
            self.history(name).must_be = true;
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, name: &str) -> Checked<()> {
        let id = self.id(name)?;
        self.history(name).must_be = false;
        let outcome = self.open.run(async move |shard| shard.delete_volume(id).await)?;
        if self.note("delete", outcome).is_some() {
            self.expected.volumes.remove(name);
        }
        Ok(())
    }

    pub(super) fn checkpoint(&mut self) -> Checked<()> {
        let outcome = self.open.run(async move |shard| shard.checkpoint().await)?;
        self.note("checkpoint", outcome);
        Ok(())
    }

    pub(super) fn close(&mut self) -> Checked<()> {
        let outcome = self.open.run(async move |shard| shard.close().await)?;
        if self.note("close", outcome).is_some() {
            for history in self.expected.volumes.values_mut() {
                history.flushed = history.issued();
            }
        }
        Ok(())
    }

    /// Whether a volume is there, as far as the engine says.
    pub(super) fn has(&self, name: &str) -> bool {
        self.open.shard.find(name).is_ok()
    }

    /// Nothing failed.
    pub(super) fn succeeded(&self) -> Checked<()> {
        match self.errors.first() {
            None => Ok(()),
            Some((what, error)) => Err(format!("{what}: {error}")),
        }
    }
}
