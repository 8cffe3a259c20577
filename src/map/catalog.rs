//! The volumes, and everything the engine knows of where their blocks are without reading a page.
//!
//! Invariants: `durable` is the number up to which the overlays (and the trees below them) hold a volume's
//! history; `issued` is the newest number given out; `merged <= durable <= issued`. A lookup asks the
//! active overlay, then the frozen one, then the tombstones, then the tree, and all four at one moment.

use super::damage::DamageList;
use super::overlay::{Overlay, covers};
use crate::error::{Error, Kind, Result};
use crate::format::superblock::Root;
use crate::format::tables::{DamageRecord, Tombstone, VolumeRecord};
use crate::limits::{NAME_BYTES_MAX, VOLUME_BLOCKS_MAX, VOLUMES_MAX};
use crate::types::{Lba, Number, Pointer, Scheme, VolumeId};
use std::collections::BTreeMap;

/// A volume.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its scheme.
    pub scheme: Scheme,
    /// Its size in blocks, as accepted.
    pub blocks: u64,
    /// Its size in blocks as of `durable`.
    pub durable_blocks: u64,
    /// The newest number given out.
    pub issued: Number,
    /// The overlays hold its history up to here.
    pub durable: Number,
    /// The durable tree of its blocks.
    pub root: Option<Root>,
    /// Blocks that the tree points to.
    pub used: u64,
    /// Trims that the tree still has to follow, oldest first.
    pub tombstones: Vec<Tombstone>,
    /// Deleted; its blocks are being counted out.
    pub deleted: bool,
}

/// What is known of a block without reading a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// It is there.
    At(Pointer, Number),
    /// It reads as zeros.
    Hole,
    /// The tree knows; whatever it says that was born before this number was trimmed.
    AskTree(Number),
}

/// All volumes.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    volumes: BTreeMap<VolumeId, Volume>,
    /// What the log added since the last freeze.
    pub active: Overlay,
    /// What a checkpoint is merging now.
    pub frozen: Overlay,
    /// Where volume numbers go on.
    pub next: u32,
    /// What is lost.
    pub damage: DamageList,
}

impl Volume {
    fn from_record(record: VolumeRecord) -> Volume {
        Volume {
            name: record.name,
            scheme: record.scheme,
            blocks: record.blocks,
            durable_blocks: record.blocks,
            issued: record.number,
            durable: record.number,
            root: record.root,
            used: record.used,
            tombstones: record.tombstones,
            deleted: record.deleted,
        }
    }
}

impl Catalog {
    /// The catalog of a checkpoint.
    ///
    /// # Errors
    /// When the records contradict each other.
    pub fn new(records: Vec<VolumeRecord>, damage: Vec<DamageRecord>, next: u32) -> Result<Catalog> {
        let mut catalog = Catalog { next: next.max(1), ..Catalog::default() };
        for record in records {
            let id = record.id;
            if id.0 == 0 || id.0 >= catalog.next {
                return Err(Error::corrupt(format!("volume number {id} was never given out")));
            }
            if catalog.volumes.insert(id, Volume::from_record(record)).is_some() {
                return Err(Error::corrupt(format!("volume {id} is listed twice")));
            }
        }
        catalog.damage = DamageList::new(damage);
        Ok(catalog)
    }

    /// A volume that is not deleted.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn get(&self, id: VolumeId) -> Result<&Volume> {
        self.volumes
            .get(&id)
            .filter(|volume| !volume.deleted)
            .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no volume number {id}")))
    }

    /// A volume that is not deleted.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn get_mut(&mut self, id: VolumeId) -> Result<&mut Volume> {
        self.volumes
            .get_mut(&id)
            .filter(|volume| !volume.deleted)
            .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no volume number {id}")))
    }

    /// Every volume, deleted ones too.
    pub fn iter(&self) -> impl Iterator<Item = (VolumeId, &Volume)> {
        self.volumes.iter().map(|(id, volume)| (*id, volume))
    }

    /// A volume, deleted or not.
    pub fn entry(&mut self, id: VolumeId) -> Option<&mut Volume> {
        self.volumes.get_mut(&id)
    }

    /// A deleted volume whose blocks are all counted out is forgotten.
    pub fn remove(&mut self, id: VolumeId) {
        self.volumes.remove(&id);
    }

    /// The volume of that name.
    pub fn find(&self, name: &str) -> Option<VolumeId> {
        self.volumes.iter().find(|(_, volume)| !volume.deleted && volume.name == name).map(|(id, _)| *id)
    }

    /// Adds a volume; the next checkpoint makes it durable.
    ///
    /// # Errors
    /// [`Kind::Exists`], [`Kind::Invalid`] for a bad name or size, [`Kind::NoSpace`] for too many.
    pub fn create(&mut self, name: &str, scheme: Scheme, blocks: u64) -> Result<VolumeId> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains([':', '/', '\0', '\n']) {
            return Err(Error::invalid(format!(
                "'{name}' is no volume name: 1 to {NAME_BYTES_MAX} bytes without ':', '/' and line breaks"
            )));
        }
        if self.find(name).is_some() {
            return Err(Error::new(Kind::Exists, format!("there is a volume '{name}' already")));
        }
        check_size(blocks)?;
        if self.volumes.len() >= VOLUMES_MAX {
            return Err(Error::new(Kind::NoSpace, format!("the array has {VOLUMES_MAX} volumes already")));
        }
        let id = VolumeId(self.next);
        self.next += 1;
        let volume = Volume {
            name: name.into(),
            scheme,
            blocks,
            durable_blocks: blocks,
            issued: Number(0),
            durable: Number(0),
            root: None,
            used: 0,
            tombstones: Vec::new(),
            deleted: false,
        };
        self.volumes.insert(id, volume);
        Ok(id)
    }

    /// What is known of a block, as of the newest durable number.
    pub fn lookup(&self, id: VolumeId, lba: Lba) -> Known {
        for overlay in [&self.active, &self.frozen] {
            if let Some(update) = overlay.get(id, lba) {
                return update.pointer.map_or(Known::Hole, |pointer| Known::At(pointer, update.birth));
            }
        }
        let Some(volume) = self.volumes.get(&id) else { return Known::Hole };
        let trimmed = volume.tombstones.iter().filter(|stone| covers(stone, lba)).map(|stone| stone.number);
        Known::AskTree(trimmed.max().unwrap_or_default())
    }
}

/// Whether a volume may have this many blocks.
///
/// # Errors
/// [`Kind::Invalid`].
pub fn check_size(blocks: u64) -> Result<()> {
    if blocks == 0 || blocks > VOLUME_BLOCKS_MAX {
        return Err(Error::invalid(format!("a volume has 1 to {VOLUME_BLOCKS_MAX} blocks of 4 KiB")));
    }
    Ok(())
}
