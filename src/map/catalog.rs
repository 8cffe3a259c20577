//! The volumes, and everything the engine knows of where their blocks are without reading a page.
//!
//! Invariants: `durable` is the number up to which the overlays (and the trees below them) hold a volume's
//! history; `issued` is the newest number given out; `merged <= durable <= issued`. A lookup asks the
//! active overlay, then the frozen one, then the tombstones, then the tree, and all four at one moment.

use super::damage::DamageList;
use super::overlay::{LEAF_ENTRIES_USUAL, Overlay, Update};
use crate::error::{Error, Kind, Result};
use crate::format::superblock::Root;
use crate::format::tables::{DamageRecord, Tombstone, VolumeRecord};
use crate::limits::{NAME_BYTES_MAX, TOMBSTONE_LAST, VOLUME_BLOCKS_MAX, VOLUMES_MAX};
use crate::types::{Lba, Number, Place, Pointer, Scheme, VolumeId};
use crate::zoo::{Bug, planted};
use std::collections::BTreeMap;
use std::ops::Range;

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
    /// The newest trim that was accepted: what was mapped before it may not be any more.
    pub trimmed: Number,
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
    /// Blocks that the cleaner is moving, and the places they leave. Whatever else enters the overlay for one
    /// of them takes it out: the move must not undo it.
    moving: BTreeMap<(VolumeId, Lba), Place>,
    /// What the log added since the last freeze.
    pub active: Overlay,
    /// What a checkpoint is merging now.
    pub frozen: Overlay,
    /// Where volume numbers go on.
    pub next: u32,
    /// What is lost.
    pub damage: DamageList,
}

/// A block was overwritten or trimmed while the cleaner moved it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overtaken;

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
            trimmed: Number(0),
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
        self.check_new(name, blocks)?;
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
            trimmed: Number(0),
        };
        self.volumes.insert(id, volume);
        Ok(id)
    }

    /// Whether a volume could be added.
    ///
    /// # Errors
    /// As [`Catalog::create`].
    pub fn check_new(&self, name: &str, blocks: u64) -> Result<()> {
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
        Ok(())
    }

    /// The durable tree of a volume's blocks.
    pub fn root(&self, id: VolumeId) -> Option<Root> {
        self.volumes.get(&id).and_then(|volume| volume.root)
    }

    /// A write enters the map. Returns the pointer that it replaces in the overlay.
    pub fn write(&mut self, id: VolumeId, lba: Lba, birth: Number, pointer: Pointer) -> Option<Pointer> {
        self.moving.remove(&(id, lba));
        if !planted(Bug::DamageKept) {
            self.damage.mend(id, lba, 1);
        }
        self.active.insert(id, lba, birth, pointer)
    }

    /// A trim enters the map. Returns the pointers that it drops from the overlay.
    pub fn trim(&mut self, id: VolumeId, number: Number, lba: Lba, blocks: u64) -> Vec<Pointer> {
        if !planted(Bug::TrimSparesMoves) {
            self.forget_moves((id, lba), (id, lba.plus(blocks)));
        }
        self.damage.mend(id, lba, blocks);
        self.active.trim(id, number, lba, blocks)
    }

    /// A volume is deleted: a tombstone covers all of it. Returns the pointers that go from the overlay.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn delete(&mut self, id: VolumeId) -> Result<Vec<Pointer>> {
        let volume = self.get_mut(id)?;
        volume.deleted = true;
        volume.tombstones =
            vec![Tombstone { number: TOMBSTONE_LAST, lba: Lba(0), blocks: VOLUME_BLOCKS_MAX }];
        self.damage.forget(id);
        self.forget_moves((id, Lba(0)), (id, Lba(u64::MAX)));
        Ok(self.active.forget(id))
    }

    /// The cleaner begins to move a block that the map has at `from`.
    pub fn begin_move(&mut self, id: VolumeId, lba: Lba, from: Place) {
        self.moving.insert((id, lba), from);
    }

    /// The cleaner's copy of a block is durable. `Err` if the block was overwritten or trimmed meanwhile: the
    /// copy is dead. Otherwise the map has it, and the pointer is returned that it replaces in the overlay.
    ///
    /// # Errors
    /// [`Overtaken`].
    pub fn end_move(
        &mut self,
        (id, lba, birth): (VolumeId, Lba, Number),
        from: Place,
        pointer: Pointer,
    ) -> std::result::Result<Option<Pointer>, Overtaken> {
        if self.moving.get(&(id, lba)) != Some(&from) {
            return Err(Overtaken);
        }
        self.moving.remove(&(id, lba));
        Ok(self.active.insert(id, lba, birth, pointer))
    }

    /// Whether the cleaner is still moving the block away from there.
    pub fn is_moving(&self, id: VolumeId, lba: Lba, from: Place) -> bool {
        self.moving.get(&(id, lba)) == Some(&from)
    }

    /// The cleaner gives up moving a block.
    pub fn cancel_move(&mut self, id: VolumeId, lba: Lba) {
        self.moving.remove(&(id, lba));
    }

    /// The cleaner gives up all moves.
    pub fn cancel_moves(&mut self) {
        self.moving.clear();
    }

    fn forget_moves(&mut self, from: (VolumeId, Lba), to: (VolumeId, Lba)) {
        let covered: Vec<(VolumeId, Lba)> = self.moving.range(from..to).map(|(key, _)| *key).collect();
        for key in covered {
            self.moving.remove(&key);
        }
    }

    /// How many pages a merge of the active overlay writes at most: for each leaf that it touches one, one above
    /// it and one for splitting; and no more than the whole tree has. (Pages are at least half full, but for
    /// what trims leave behind; the reserve is twice what this says.)
    pub fn pages(&self) -> u64 {
        let layers = self.active.layers().map(|(id, layer)| {
            let used = self.volumes.get(&id).map_or(0, |volume| volume.used);
            let leaves = (used + layer.entries().len() as u64) / LEAF_ENTRIES_USUAL + 2;
            let all = leaves + leaves / LEAF_ENTRIES_USUAL + 2;
            (3 * layer.leaves()).min(all) + 3 * layer.trims().len() as u64
        });
        layers.sum()
    }

    /// Whether a checkpoint will find fewer blocks in the trees than they have now, or some of the claims wrong.
    pub fn may_shrink(&self) -> bool {
        let overlays = [&self.active, &self.frozen];
        let stones = self.volumes.values().any(|volume| !volume.tombstones.is_empty());
        let layers = || overlays.iter().flat_map(|overlay| overlay.layers());
        let claims = || overlays.iter().flat_map(|overlay| overlay.claims());
        stones || layers().any(|(_, layer)| layer.has_holes()) || claims().any(|(_, claim)| claim.guessed)
    }

    /// For each scheme the blocks that its volumes have in the trees or that were claimed since.
    pub fn live(&self) -> BTreeMap<Scheme, u64> {
        let mut live: BTreeMap<Scheme, u64> = BTreeMap::new();
        for (id, volume) in &self.volumes {
            let claimed = self.active.claimed(*id).blocks + self.frozen.claimed(*id).blocks;
            *live.entry(volume.scheme).or_default() += volume.used + claimed;
        }
        live
    }

    /// What is known of a block, as of the newest durable number.
    pub fn lookup(&self, id: VolumeId, lba: Lba) -> Known {
        self.look(id, lba, 1)[0]
    }

    /// What is known of consecutive blocks, the first of them at `lba`.
    pub fn look(&self, id: VolumeId, lba: Lba, blocks: usize) -> Vec<Known> {
        let mut seen = vec![None; blocks];
        let mut overlays = [&self.frozen, &self.active];
        if planted(Bug::FrozenFirst) {
            overlays.reverse();
        }
        for overlay in overlays {
            overlay.look(id, lba, &mut seen);
        }
        let mut hidden = vec![Number(0); blocks];
        let volume = self.volumes.get(&id);
        for stone in volume.iter().flat_map(|volume| &volume.tombstones) {
            let trimmed = lba.which(blocks, stone.lba, stone.blocks);
            hidden[trimmed].iter_mut().for_each(|number| *number = stone.number.max(*number));
        }
        let known = |(seen, hidden): (Option<Update>, Number)| match seen {
            Some(Update { pointer: Some(pointer), birth }) => Known::At(pointer, birth),
            None if volume.is_some() => Known::AskTree(hidden),
            _ => Known::Hole,
        };
        seen.into_iter().zip(hidden).map(known).collect()
    }

    /// The first block of a range that the overlays have somewhere on the members.
    pub fn first_mapped(&self, id: VolumeId, range: Range<Lba>) -> Option<Lba> {
        let layers = [&self.active, &self.frozen].into_iter().filter_map(|overlay| overlay.layer(id));
        layers.filter_map(|layer| layer.first_mapped(range.clone())).min()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u32, name: &str) -> VolumeRecord {
        VolumeRecord {
            id: VolumeId(id),
            name: name.to_owned(),
            scheme: Scheme::MIRROR,
            blocks: 8,
            number: Number(0),
            used: 0,
            root: None,
            deleted: false,
            tombstones: Vec::new(),
        }
    }

    #[test]
    fn a_table_with_a_volume_twice_or_one_that_was_never_made_is_corrupt() {
        let text = |ids: &[u32]| {
            let records = ids.iter().map(|id| record(*id, "v")).collect();
            let error = Catalog::new(records, Vec::new(), 3).expect_err("refused");
            assert_eq!(error.kind(), Kind::Corrupt);
            error.to_string()
        };
        assert_eq!(text(&[1, 2, 1]), "volume 1 is listed twice");
        for id in [0, 3] {
            assert_eq!(text(&[id]), format!("volume number {id} was never given out"));
        }
    }

    #[test]
    fn a_catalog_that_is_full_takes_no_more_volumes() {
        let most = u32::try_from(VOLUMES_MAX).expect("small");
        let records = |most| (1..=most).map(|id| record(id, &format!("v{id}"))).collect();
        let nearly = Catalog::new(records(most - 1), Vec::new(), most + 1).expect("sound");
        nearly.check_new("more", 8).expect("there is room for one");
        let full = Catalog::new(records(most), Vec::new(), most + 1).expect("sound");
        assert_eq!(full.check_new("more", 8).map_err(|error| error.kind()), Err(Kind::NoSpace));
    }
}
