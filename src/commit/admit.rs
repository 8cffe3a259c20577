//! Admission: what is accepted will find its place (rule 13). ENOSPC is decided here, by live blocks.
//!
//! A write takes room for good only with blocks that the map does not have: these are *claimed* until a
//! checkpoint counts them. While the array is far from full every block is claimed unseen; near its capacity
//! the map is asked, so that overwriting goes on for ever.

use super::capacity::FILL_MAX;
use super::core::{Core, Seen};
use super::room::no_space;
use crate::error::{Error, Kind, Result};
use crate::format::page::{Key, TreeId};
use crate::format::record::Change;
use crate::map::{Claim, Known, Tree};
use crate::space::Purpose;
use crate::types::{BLOCK, BLOCK_U64, Lba, Number, Scheme, VolumeId};
use crate::zoo::{Bug, planted};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Rows of a batch that is sealed because it is full, where chunks have as many.
const BATCH_ROWS: u64 = 64;
/// Changes and volumes of a batch at most: the description must fit beside the blocks of the widest scheme.
const BATCH_CHANGES: usize = 32;
/// How often a write of new blocks that finds the array full lets everything be counted again.
pub(super) const RECOUNTS: usize = 16;

/// What a call makes of a range: a hole, and blocks beside it.
pub(crate) struct Step {
    /// The whole range.
    pub(crate) range: (Lba, u64),
    /// What reads as zeros from here on and takes no space.
    pub(crate) hole: Option<(Lba, u64)>,
    /// Runs of blocks, none of them in the hole or in another.
    pub(crate) runs: Vec<(Lba, Vec<Bytes>)>,
}

impl Core {
    /// Pages that merging the overlay may take; the rest of the checkpoint's reserve is for the page mover.
    pub(super) fn checkpoint_budget(&self) -> u64 {
        self.limits.with(|limits| limits.budget())
    }

    /// Waits for room in the write buffer.
    async fn wait_for_buffer(&self, bytes: u64) -> Result<()> {
        loop {
            let listen = self.changed.listen();
            self.writable()?;
            if self.fits_buffer(bytes) {
                return Ok(());
            }
            if self.log.with(|log| log.seal_all()) {
                self.changed.notify_all();
            }
            if self.is_stalled() && self.is_exhausted() {
                return Err(no_space());
            }
            if !self.flush_written().await {
                listen.await;
            }
        }
    }

    fn fits_buffer(&self, bytes: u64) -> bool {
        let buffered = self.log.with(|log| log.bytes());
        buffered == 0 || buffered + bytes <= self.config.write_buffer
    }

    /// Waits until a call that adds no live block can be accepted.
    async fn admit(&self, scheme: Scheme, blocks: u64) -> Result<()> {
        self.throttle(scheme, blocks).await;
        loop {
            self.wait_for_buffer(blocks * BLOCK_U64).await?;
            self.wait_for_room(scheme, blocks).await?;
            if self.fits_buffer(blocks * BLOCK_U64) {
                return Ok(());
            }
        }
    }

    /// Waits until a write can be accepted. Returns how many of its blocks are new.
    async fn admit_write(&self, volume: VolumeId, lba: Lba, blocks: u64) -> Result<Claim> {
        let scheme = self.scheme(volume)?;
        let mut recounts = 0;
        loop {
            self.admit(scheme, blocks).await?;
            if self.is_roomy() || planted(Bug::AdmitAll) || self.fill_with(scheme, blocks) <= FILL_MAX {
                return Ok(Claim { blocks, guessed: true });
            }
            let trimmed = self.trimmed(volume)?;
            let root = self.catalog.with(|catalog| catalog.root(volume));
            let new = match self.count_new(scheme, volume, lba, blocks).await {
                Err(_) if !self.is_root(volume, root) => continue,
                counted => counted?,
            };
            if self.trimmed(volume)? != trimmed || !self.has_room(scheme, blocks, Purpose::Data) {
                continue;
            }
            if new == 0 || self.fill_with(scheme, new) <= FILL_MAX {
                return Ok(Claim { blocks: new, guessed: false });
            }
            if recounts == RECOUNTS || !self.may_recount() {
                return Err(no_space());
            }
            recounts += 1;
            self.flush_all().await?;
            self.checkpoint().await?;
        }
    }

    /// Whether a checkpoint of everything accepted may find fewer blocks than are counted.
    pub(super) fn may_recount(&self) -> bool {
        self.catalog.with(|catalog| catalog.may_shrink()) || self.log.with(|log| log.may_shrink())
    }

    /// Whether so much is free that there is no need to count.
    fn is_roomy(&self) -> bool {
        self.stripes.space.with(|space| space.is_roomy(self.reserves()))
    }

    fn trimmed(&self, volume: VolumeId) -> Result<Number> {
        self.catalog.with(|catalog| catalog.get(volume).map(|volume| volume.trimmed))
    }

    /// How many of these blocks neither the buffer nor the map has.
    async fn count_new(&self, scheme: Scheme, volume: VolumeId, lba: Lba, blocks: u64) -> Result<u64> {
        let mut ask: BTreeMap<Lba, Number> = BTreeMap::new();
        let mut new = 0;
        let limit = usize::try_from(blocks).unwrap_or(usize::MAX);
        for (index, seen) in (0..).zip(self.look(scheme, volume, lba, limit)) {
            match seen {
                Seen::Bytes(_) | Seen::Known(Known::At(..)) => {}
                Seen::Known(Known::Hole) => new += 1,
                Seen::Known(Known::AskTree(hidden)) => {
                    ask.insert(lba.plus(index), hidden);
                }
            }
        }
        let root = self.catalog.with(|catalog| catalog.root(volume));
        let tree = Tree::new(self, TreeId::Map(volume), root);
        let range = (Key(lba.0, 0), Key(lba.0 + blocks, 0));
        for (key, _) in tree.scan(range.0, range.1, limit).await?.entries {
            if ask.get(&Lba(key.0)).is_some_and(|hidden| key.1 >= hidden.0) {
                ask.remove(&Lba(key.0));
            }
        }
        Ok(new + ask.len() as u64)
    }

    /// Flushes the members when something is written and waits for nothing else.
    pub(super) async fn flush_written(&self) -> bool {
        let ready = self.log.with(|log| !log.flushable().is_empty());
        ready && !self.stripes.pool.has_suspects() && self.flush_members().await
    }

    /// Accepts blocks under one number.
    pub(crate) async fn accept_write(
        &self,
        volume: VolumeId,
        lba: Lba,
        blocks: Vec<Bytes>,
    ) -> Result<Number> {
        debug_assert!(blocks.iter().all(|block| block.len() == BLOCK));
        let scheme = self.scheme(volume)?;
        let count = blocks.len() as u64;
        let claim = self.admit_write(volume, lba, count).await?;
        let number = self.issue(volume, lba, count)?;
        self.log.with(|log| log.write(scheme, (volume, lba, number), blocks, claim));
        self.progress.with(|progress| progress.accepted += count * BLOCK_U64);
        self.seal_if_full(scheme);
        Ok(number)
    }

    /// Accepts what `compose` gives in the moment of acceptance, at most `blocks` blocks of it, under one number.
    /// `new` is the first of them if they may be new to the map.
    pub(crate) async fn accept_step(
        &self,
        volume: VolumeId,
        new: Option<Lba>,
        blocks: u64,
        compose: impl FnOnce() -> Step,
    ) -> Result<Number> {
        let scheme = self.scheme(volume)?;
        let mut claim = match new {
            Some(lba) => self.admit_write(volume, lba, blocks).await?,
            None => self.admit(scheme, blocks).await.map(|()| Claim::default())?,
        };
        let Step { range: (first, span), hole, runs } = compose();
        debug_assert!(runs.iter().flat_map(|(_, blocks)| blocks).all(|block| block.len() == BLOCK));
        let number = self.issue(volume, first, span)?;
        let stored: usize = runs.iter().map(|(_, blocks)| blocks.len()).sum();
        self.progress.with(|progress| progress.accepted += stored as u64 * BLOCK_U64);
        if hole.is_some() {
            self.catalog.with(|catalog| catalog.get_mut(volume).map(|volume| volume.trimmed = number))?;
        }
        self.log.with(|log| {
            if let Some((lba, blocks)) = hole {
                let trim = Change::Trim { volume, number, lba, blocks };
                log.change(scheme, trim);
            }
            for (lba, blocks) in runs {
                log.write(scheme, (volume, lba, number), blocks, std::mem::take(&mut claim));
            }
        });
        self.seal_if_full(scheme);
        Ok(number)
    }

    /// Accepts a trim under one number.
    pub(crate) async fn accept_trim(&self, volume: VolumeId, lba: Lba, blocks: u64) -> Result<Number> {
        let scheme = self.scheme(volume)?;
        self.admit(scheme, 0).await?;
        let number = self.issue(volume, lba, blocks)?;
        self.catalog.with(|catalog| catalog.get_mut(volume).map(|volume| volume.trimmed = number))?;
        self.log.with(|log| log.change(scheme, Change::Trim { volume, number, lba, blocks }));
        self.seal_if_full(scheme);
        Ok(number)
    }

    /// Accepts a new size under one number. Shrinking trims what is cut off, under the same.
    pub(crate) async fn accept_resize(&self, volume: VolumeId, blocks: u64) -> Result<Number> {
        crate::map::check_size(blocks)?;
        let scheme = self.scheme(volume)?;
        self.admit(scheme, 0).await?;
        let number = self.issue(volume, Lba(0), 0)?;
        let old = self.catalog.with(|catalog| {
            let volume = catalog.get_mut(volume)?;
            if blocks < volume.blocks {
                volume.trimmed = number;
            }
            Ok(std::mem::replace(&mut volume.blocks, blocks))
        })?;
        self.log.with(|log| {
            if blocks < old && !planted(Bug::GrowShowsOld) {
                let cut_off = Change::Trim { volume, number, lba: Lba(blocks), blocks: old - blocks };
                log.change(scheme, cut_off);
            }
            log.change(scheme, Change::Resize { volume, number, blocks });
        });
        self.seal_if_full(scheme);
        Ok(number)
    }

    /// The next number of a volume, for a call on this range.
    fn issue(&self, volume: VolumeId, lba: Lba, blocks: u64) -> Result<Number> {
        self.catalog.with(|catalog| {
            let volume = catalog.get_mut(volume)?;
            check_range(&volume.name, volume.blocks, lba, blocks)?;
            volume.issued = volume.issued.next();
            Ok(volume.issued)
        })
    }

    fn seal_if_full(&self, scheme: Scheme) {
        let (k, rows) = self.stripes.space.with(|space| (space.fit(scheme).k(), space.chunk_rows()));
        self.log.with(|log| {
            if log.open_blocks(scheme) >= BATCH_ROWS.min(rows.into()) * u64::from(k)
                || log.open_preamble(scheme) >= BATCH_CHANGES
            {
                log.seal(scheme);
            }
        });
        self.changed.notify_all();
    }

    /// Seals what a volume waits for and waits until it is durable. Returns the durable number.
    pub(crate) async fn flush_volume(&self, volume: VolumeId) -> Result<Number> {
        let (scheme, number) =
            self.catalog.with(|catalog| catalog.get(volume).map(|volume| (volume.scheme, volume.issued)))?;
        self.log.with(|log| log.seal(scheme));
        self.changed.notify_all();
        self.durable_through(volume, number).await?;
        Ok(number)
    }

    /// Makes everything accepted durable.
    pub(crate) async fn flush_all(&self) -> Result<()> {
        let volumes: BTreeSet<VolumeId> = self
            .catalog
            .with(|catalog| catalog.iter().filter(|(_, volume)| !volume.deleted).map(|(id, _)| id).collect());
        for volume in volumes {
            match self.flush_volume(volume).await {
                // It was deleted meanwhile.
                Err(error) if error.kind() == Kind::NotFound => {}
                outcome => drop(outcome?),
            }
        }
        Ok(())
    }
}

/// Whether a range lies in a volume.
///
/// # Errors
/// [`Kind::Invalid`].
pub(crate) fn check_range(name: &str, size: u64, lba: Lba, blocks: u64) -> Result<()> {
    if lba.0.checked_add(blocks).is_none_or(|end| end > size) {
        return Err(Error::invalid(format!(
            "blocks {lba} to {} reach past the end of volume '{name}', which has {size} blocks of 4 KiB",
            lba.0.saturating_add(blocks)
        )));
    }
    Ok(())
}
