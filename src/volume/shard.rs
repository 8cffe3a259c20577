//! An open array as its tasks see it.

use crate::commit::{Core, CreateOptions, OpenOptions, Upkeep};
use crate::device::{Aligned, Frame};
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{EventKind, JobKind};
use crate::format::tables::DamageRecord;
use crate::limits::WRITE_BLOCKS_MAX;
use crate::maintain::{Pace, Rebuilt, Scrub};
use crate::pool::{Candidate, Election};
use crate::runtime::Env;
use crate::types::{BLOCK, BLOCK_U64, Lba, Number, Scheme, Slot, Uuid, VolumeId};
use crate::zoo::{Bug, planted};
use bytes::Bytes;
use std::sync::Arc;

/// An open array. Its futures run on the executor of its [`Env`].
#[derive(Clone)]
pub struct Shard {
    pub(super) core: Arc<Core>,
}

/// A volume, as listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeInfo {
    /// The volume.
    pub id: VolumeId,
    /// Its name.
    pub name: String,
    /// Its scheme.
    pub scheme: Scheme,
    /// Its size in blocks.
    pub blocks: u64,
    /// Blocks in use, as of the last checkpoint.
    pub used: u64,
}

impl Shard {
    /// Makes a new array. See [`crate::commit::create`].
    ///
    /// # Errors
    /// Those of [`crate::commit::create`].
    pub async fn create(env: &Env, members: Vec<Candidate>, options: CreateOptions) -> Result<Uuid> {
        crate::commit::create(env, members, options).await
    }

    /// Opens an array. See [`crate::commit::open`].
    ///
    /// # Errors
    /// Those of [`crate::commit::open`].
    pub async fn open(env: Env, members: Vec<Candidate>, options: OpenOptions) -> Result<(Shard, Election)> {
        let spawner = env.spawner.clone();
        let background = options.upkeep == Upkeep::Background && !options.read_only;
        let (core, election) = crate::commit::open(env, members, options).await?;
        if core.writable().is_ok() {
            spawner.spawn(crate::maintain::clean(core.clone()));
        }
        if background {
            spawner.spawn(crate::maintain::run(core.clone()));
        }
        Ok((Shard { core }, election))
    }

    /// The core, for status and for invariants.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The volumes.
    pub fn volumes(&self) -> Vec<VolumeInfo> {
        self.core.catalog().with(|catalog| {
            let listed = catalog.iter().filter(|(_, volume)| !volume.deleted);
            listed
                .map(|(id, volume)| VolumeInfo {
                    id,
                    name: volume.name.clone(),
                    scheme: volume.scheme,
                    blocks: volume.blocks,
                    used: volume.used,
                })
                .collect()
        })
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn find(&self, name: &str) -> Result<VolumeInfo> {
        self.volumes()
            .into_iter()
            .find(|volume| volume.name == name)
            .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no volume '{name}'")))
    }

    /// Ranges that are lost.
    pub fn damage(&self) -> Vec<DamageRecord> {
        self.core.catalog().with(|catalog| catalog.damage.values().copied().collect())
    }

    /// Makes a volume; durable on return. One that is stronger than the array's metadata has all of that written
    /// anew first, as strong as itself.
    ///
    /// # Errors
    /// [`Kind::Exists`], [`Kind::Invalid`]; [`Kind::Refused`] for more columns than members; [`Kind::NoSpace`] when
    /// there is no room for stronger metadata; or why it could not be made durable.
    pub async fn create_volume(&self, name: &str, scheme: Scheme, blocks: u64) -> Result<VolumeId> {
        self.core.writable()?;
        let members = self.core.stripes().pool.count();
        if usize::from(scheme.width()) > members {
            let text = format!("{scheme} needs {} members, the array has {members}", scheme.width());
            return Err(Error::new(Kind::Refused, text));
        }
        self.core.catalog().with(|catalog| catalog.check_new(name, blocks))?;
        self.core.raise_metadata(scheme.m()).await?;
        let id = self.core.catalog().with(|catalog| {
            let id = catalog.create(name, scheme, blocks)?;
            self.core.note_volume(catalog, EventKind::VolumeCreated, id, blocks * BLOCK_U64);
            Ok(id)
        })?;
        if !planted(Bug::CreateUnsynced) {
            self.core.checkpoint().await?;
        }
        Ok(id)
    }

    /// Deletes a volume; durable on return. Its space is counted out in the background.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or why it could not be made durable.
    pub async fn delete_volume(&self, id: VolumeId) -> Result<()> {
        self.core.writable()?;
        match self.core.flush_volume(id).await {
            // What finds no room any more needs none.
            Err(error) if error.kind() == Kind::NoSpace => {}
            outcome => drop(outcome?),
        }
        let dropped = self.core.catalog().with(|catalog| {
            self.core.note_volume(catalog, EventKind::VolumeDeleted, id, 0);
            catalog.delete(id)
        })?;
        self.core.stripes().space.with(|space| {
            dropped.iter().for_each(|pointer| space.pend(pointer.place.segment, -1));
        });
        self.core.note_change();
        if planted(Bug::DeleteUnsynced) {
            return Ok(());
        }
        self.core.checkpoint().await
    }

    /// Writes whole blocks. Returns the number of the last step. Not durable before a flush.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a range outside the volume or a length that is no multiple of 4096,
    /// [`Kind::NoSpace`], [`Kind::ReadOnly`].
    pub async fn write(&self, id: VolumeId, lba: Lba, data: Bytes) -> Result<Number> {
        if data.is_empty() || !data.len().is_multiple_of(BLOCK) {
            return Err(Error::invalid(format!("{} bytes are not a number of 4 KiB blocks", data.len())));
        }
        self.check(id, lba, (data.len() / BLOCK) as u64)?;
        let step = usize::try_from(WRITE_BLOCKS_MAX).expect("a small number") * BLOCK;
        let mut number = Number(0);
        for (index, start) in (0u64..).zip((0..data.len()).step_by(step)) {
            let part = aligned(data.slice(start..data.len().min(start + step)));
            let blocks = (0..part.len() / BLOCK).map(|at| part.slice(at * BLOCK..(at + 1) * BLOCK)).collect();
            number = self.core.accept_write(id, lba.plus(index * WRITE_BLOCKS_MAX), blocks).await?;
        }
        Ok(number)
    }

    /// Makes blocks read as zeros and frees their space.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a range outside the volume, [`Kind::NoSpace`], [`Kind::ReadOnly`].
    pub async fn trim(&self, id: VolumeId, lba: Lba, blocks: u64) -> Result<Number> {
        if blocks == 0 {
            return Err(Error::invalid("a trim of no blocks"));
        }
        self.core.accept_trim(id, lba, blocks).await
    }

    /// Changes a volume's size. Shrinking discards what is cut off. Not durable before a flush.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an impossible size, [`Kind::NoSpace`], [`Kind::ReadOnly`].
    pub async fn resize(&self, id: VolumeId, blocks: u64) -> Result<Number> {
        let number = self.core.accept_resize(id, blocks).await?;
        self.core.catalog().with(|catalog| {
            self.core.note_volume(catalog, EventKind::VolumeResized, id, blocks * BLOCK_U64);
        });
        Ok(number)
    }

    /// Makes everything accepted before this call durable, with full redundancy. Returns the durable number.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`] when too few members are left; then nothing of what is missing is known durable.
    /// [`Kind::LostWrites`] until [`Shard::clear`], when durable writes of the volume are known to be lost.
    pub async fn flush(&self, id: VolumeId) -> Result<Number> {
        let number = self.core.flush_volume(id).await.map_err(|error| self.core.unflushed(id, error))?;
        self.core.check_losses(id)?;
        Ok(number)
    }

    /// Acknowledges what is known to be lost: see [`Core::clear`].
    ///
    /// # Errors
    /// As [`Core::clear`].
    pub async fn clear(&self) -> Result<Vec<DamageRecord>> {
        self.core.clear().await
    }

    /// Takes a member out for good, as if it broke; durable on return.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::Refused`] when data needs it, or why it could not be made durable.
    pub async fn fail_member(&self, slot: Slot) -> Result<()> {
        self.core.fail_member(slot).await
    }

    /// Puts a new member, which is wiped, in the place of another; durable on return. What the old one held is
    /// not rebuilt then: see [`Shard::rebuild`].
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::Refused`] when it is being replaced already or the new one is too small,
    /// [`Kind::Io`] when the new one fails.
    pub async fn replace_member(&self, old: Slot, new: Candidate) -> Result<Slot> {
        self.core.replace_member(old, new).await
    }

    /// Takes a member back into use that was given up and is there again; durable on return. What it missed is not
    /// rebuilt then: see [`Shard::rebuild`]. Nothing of what was begun there before may be under way any more.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::Refused`] when the member is not out of use or what was found is not it,
    /// [`Kind::Io`] when it fails.
    pub async fn return_member(&self, slot: Slot, member: Candidate) -> Result<()> {
        self.core.return_member(slot, member).await
    }

    /// Gives all data its full redundancy back, as far as there is room; durable on return.
    ///
    /// # Errors
    /// When the array takes no more writes, or its metadata is damaged.
    pub async fn rebuild(&self, pace: Pace) -> Result<Rebuilt> {
        self.core.hold(JobKind::Rebuild, |reins| reins.paused = false);
        crate::maintain::rebuild(&self.core, pace).await
    }

    /// Rebuilds what is missing, verifies everything and heals what is wrong; durable on return.
    ///
    /// # Errors
    /// When the array takes no more writes, or its metadata is damaged.
    pub async fn scrub(&self) -> Result<Scrub> {
        self.scrub_paced(Pace::default()).await
    }

    /// [`Shard::scrub`] at a pace: bytes that are read.
    ///
    /// # Errors
    /// As [`Shard::scrub`].
    pub async fn scrub_paced(&self, pace: Pace) -> Result<Scrub> {
        self.core.hold(JobKind::Scrub, |reins| reins.paused = false);
        crate::maintain::scrub(&self.core, pace).await
    }

    /// Ends a scrub that is under way or was interrupted, and forgets how far it was; durable on return.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn stop_scrub(&self) -> Result<()> {
        crate::maintain::forget_scrub(&self.core).await
    }

    /// Writes a checkpoint, so that opening has little to replay.
    ///
    /// # Errors
    /// As [`Core::checkpoint`].
    pub async fn checkpoint(&self) -> Result<()> {
        self.core.checkpoint().await
    }

    /// Flushes, writes a last checkpoint and stops the writer.
    ///
    /// # Errors
    /// When something accepted could not be made durable.
    pub async fn close(&self) -> Result<()> {
        self.core.close().await
    }

    pub(super) fn check(&self, id: VolumeId, lba: Lba, blocks: u64) -> Result<()> {
        self.core.catalog().with(|catalog| {
            let volume = catalog.get(id)?;
            crate::commit::check_range(&volume.name, volume.blocks, lba, blocks)
        })
    }
}

/// The same bytes at a block's alignment, as members want them: copied unless they are there already.
pub(super) fn aligned(data: Bytes) -> Bytes {
    match data.as_ptr().addr().is_multiple_of(BLOCK) {
        true => data,
        false if data.len() == BLOCK => Frame::copy_of(&data).freeze(),
        false => Aligned::copy_of(&data).freeze(),
    }
}
