//! Admission: what is accepted will find its place (rule 13). ENOSPC is decided here, never later.

use super::core::Core;
use crate::error::{Error, Kind, Result};
use crate::format::record::Change;
use crate::space::{Reserve, runway_quota};
use crate::types::{BLOCK, BLOCK_U64, Lba, Number, Scheme, VolumeId};
use bytes::Bytes;
use std::collections::BTreeSet;

/// Rows of a batch that is sealed because it is full.
const BATCH_ROWS: u64 = 64;
/// Changes and volumes of a batch at most: the description must fit beside the blocks of the widest scheme.
const BATCH_CHANGES: usize = 32;
/// Rows of a batch's share of records: headers, descriptions, rounding, at each segment it touches.
const OVERHEAD_ROWS: u64 = 4;

/// The chunks of each member that user data leaves for the next two checkpoints, and how many leaves a merge
/// may touch so that one half of it is enough.
pub(super) fn reserve(chunk_rows: u16, meta: Scheme, chunks_min: u32, members: usize) -> (Reserve, u64) {
    let pages = pages_per_segment(chunk_rows, meta);
    let smallest = u64::from(chunks_min / 16);
    // The runway must hold it, and as much again for user data.
    let most = (runway_quota(members) / 4) as u64;
    // One segment is being filled, one holds the segment table.
    let segments = (smallest / 2).min(most).max(64u64.div_ceil(pages) + 2);
    let leaves = (segments - 2) * pages / 3;
    let chunks = u32::try_from(2 * segments).unwrap_or(u32::MAX);
    (Reserve(chunks), leaves.max(8))
}

fn pages_per_segment(chunk_rows: u16, meta: Scheme) -> u64 {
    // A record of pages spends a header and at most two description rows on up to 33 rows.
    let rows = u64::from(chunk_rows) - 3 * u64::from(chunk_rows).div_ceil(33).max(1);
    rows.max(1) * u64::from(meta.k())
}

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
    /// Leaves that the frozen overlay may touch.
    pub(super) fn checkpoint_budget(&self) -> u64 {
        self.leaves_max
    }

    /// Rows that a call of `blocks` blocks may need at most.
    fn rows_for(&self, scheme: Scheme, blocks: u64) -> u64 {
        let fit = self.stripes.space.with(|space| space.fit(scheme));
        let data = blocks.div_ceil(u64::from(fit.k()));
        data + data.div_ceil(8) + OVERHEAD_ROWS
    }

    /// Waits for room in the write buffer and on the members.
    async fn admit(&self, scheme: Scheme, blocks: u64) -> Result<u64> {
        let bytes = blocks * BLOCK_U64;
        loop {
            let listen = self.changed.listen();
            self.writable()?;
            let buffered = self.log.with(|log| log.bytes());
            if buffered == 0 || buffered + bytes <= self.config.write_buffer {
                break;
            }
            if self.log.with(|log| log.seal_all()) {
                self.changed.notify_all();
            }
            if !self.flush_written().await {
                listen.await;
            }
        }
        let rows = self.rows_for(scheme, blocks);
        if !self.has_room(scheme, rows) {
            // What is dead becomes free with the next checkpoint.
            if self.may_free() {
                self.checkpoint().await?;
            }
            if !self.has_room(scheme, rows) {
                return Err(Error::new(
                    Kind::NoSpace,
                    "the array is full: delete or trim something, or add members",
                ));
            }
        }
        Ok(rows)
    }

    /// Whether a checkpoint may free chunks.
    fn may_free(&self) -> bool {
        let overlay = self.catalog.with(|catalog| !catalog.active.is_empty() || !catalog.frozen.is_empty());
        overlay || self.stripes.space.with(|space| !space.dead().is_empty())
    }

    /// Whether everything promised and `rows` more rows of `scheme` fit beside the reserve.
    fn has_room(&self, scheme: Scheme, rows: u64) -> bool {
        let mut promised: Vec<(Scheme, u64)> = self.log.with(|log| log.promised_rows().collect());
        match promised.iter_mut().find(|(other, _)| *other == scheme) {
            Some((_, sum)) => *sum += rows,
            None => promised.push((scheme, rows)),
        }
        self.stripes.space.with(|space| {
            let usable = u64::from(space.chunk_rows()).saturating_sub(OVERHEAD_ROWS).max(1);
            let mut segments = 0;
            let mut widest = scheme;
            for (scheme, rows) in promised {
                segments += rows.div_ceil(usable);
                if scheme.width() > widest.width() {
                    widest = scheme;
                }
            }
            segments <= space.free_segments(widest, self.reserve)
        })
    }

    /// Flushes the members when something is written and waits for nothing else.
    async fn flush_written(&self) -> bool {
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
        let rows = self.admit(scheme, count).await?;
        let number = self.issue(volume, lba, count)?;
        self.log.with(|log| log.write(scheme, volume, lba, number, blocks, rows));
        self.progress.with(|progress| progress.accepted += count * BLOCK_U64);
        self.seal_if_full(scheme);
        Ok(number)
    }

    /// Accepts what `compose` gives in the moment of acceptance, at most `blocks` blocks of it, under one number.
    pub(crate) async fn accept_step(
        &self,
        volume: VolumeId,
        blocks: u64,
        compose: impl FnOnce() -> Step,
    ) -> Result<Number> {
        let scheme = self.scheme(volume)?;
        let mut rows = self.admit(scheme, blocks).await?;
        let Step { range: (first, span), hole, runs } = compose();
        debug_assert!(runs.iter().flat_map(|(_, blocks)| blocks).all(|block| block.len() == BLOCK));
        let number = self.issue(volume, first, span)?;
        let stored: usize = runs.iter().map(|(_, blocks)| blocks.len()).sum();
        self.progress.with(|progress| progress.accepted += stored as u64 * BLOCK_U64);
        self.log.with(|log| {
            if let Some((lba, blocks)) = hole {
                let trim = Change::Trim { volume, number, lba, blocks };
                log.change(scheme, trim, std::mem::take(&mut rows));
            }
            for (lba, blocks) in runs {
                log.write(scheme, volume, lba, number, blocks, std::mem::take(&mut rows));
            }
        });
        self.seal_if_full(scheme);
        Ok(number)
    }

    /// Accepts a trim under one number.
    pub(crate) async fn accept_trim(&self, volume: VolumeId, lba: Lba, blocks: u64) -> Result<Number> {
        let scheme = self.scheme(volume)?;
        let rows = self.admit(scheme, 0).await?;
        let number = self.issue(volume, lba, blocks)?;
        self.log.with(|log| log.change(scheme, Change::Trim { volume, number, lba, blocks }, rows));
        self.seal_if_full(scheme);
        Ok(number)
    }

    /// Accepts a new size under one number. Shrinking trims what is cut off.
    pub(crate) async fn accept_resize(&self, volume: VolumeId, blocks: u64) -> Result<Number> {
        crate::map::check_size(blocks)?;
        let scheme = self.scheme(volume)?;
        let old = self.catalog.with(|catalog| catalog.get(volume).map(|volume| volume.blocks))?;
        if blocks < old {
            self.accept_trim(volume, Lba(blocks), old - blocks).await?;
        }
        let rows = self.admit(scheme, 0).await?;
        let number = self.issue(volume, Lba(0), 0)?;
        self.catalog.with(|catalog| catalog.get_mut(volume).map(|volume| volume.blocks = blocks))?;
        self.log.with(|log| log.change(scheme, Change::Resize { volume, number, blocks }, rows));
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
        let k = self.stripes.space.with(|space| space.fit(scheme)).k();
        self.log.with(|log| {
            if log.open_blocks(scheme) >= BATCH_ROWS * u64::from(k)
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
            self.flush_volume(volume).await?;
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
