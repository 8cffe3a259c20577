//! Where a block is now, for those who found it in a segment and want to know whether anybody wants it.

use super::core::Core;
use crate::error::Result;
use crate::format::page::TreeId;
use crate::format::superblock::{EventKind, Root};
use crate::format::tables::{DamageCause, DamageRecord};
use crate::map::{Catalog, Known, Tree};
use crate::stripe::Wanted;
use crate::types::{Identity, Lba, Number, Pointer, VolumeId};
use crate::zoo::{Bug, Mark, planted, reach};

/// What the tree under a root says of a block.
pub(super) type Answer = (Option<Root>, Option<(Number, Pointer)>);

/// What the map has of a block at this moment. `Err` with the root of the tree that must be asked first, unless
/// `answer` is what that one says.
pub(super) fn look(
    catalog: &Catalog,
    (volume, lba): (VolumeId, Lba),
    answer: Option<&Answer>,
) -> std::result::Result<Option<Wanted>, Option<Root>> {
    let root = catalog.root(volume);
    let found = match (catalog.lookup(volume, lba), answer) {
        (Known::Hole, _) => None,
        (Known::At(pointer, birth), _) => Some((birth, pointer)),
        (Known::AskTree(hidden), Some((then, found))) if *then == root => {
            found.filter(|(birth, _)| *birth >= hidden)
        }
        (Known::AskTree(_), _) => return Err(root),
    };
    let wanted = |(birth, pointer)| Wanted { pointer, identity: Identity { owner: volume.0, lba, birth } };
    Ok(found.map(wanted))
}

impl Core {
    /// Does something to what the map has of a block, at the moment at which it has it there.
    ///
    /// # Errors
    /// When the map is damaged.
    async fn at_once<T>(
        &self,
        volume: VolumeId,
        lba: Lba,
        act: impl Fn(&mut Catalog, Option<Wanted>) -> T,
    ) -> Result<T> {
        let mut answer: Option<Answer> = None;
        loop {
            let done = self.catalog.with(|catalog| {
                let found = look(catalog, (volume, lba), answer.as_ref())?;
                Ok(act(catalog, found))
            });
            let root = match done {
                Ok(done) => return Ok(done),
                Err(root) => root,
            };
            match Tree::new(self, TreeId::Map(volume), root).newest(lba).await {
                Ok(found) => answer = Some((root, found)),
                Err(error) if self.is_root(volume, root) => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// The newest durable pointer to a block; `None` for a hole, and for a volume that is gone.
    ///
    /// # Errors
    /// When the map is damaged.
    pub(crate) async fn locate(&self, volume: VolumeId, lba: Lba) -> Result<Option<Wanted>> {
        self.at_once(volume, lba, |_, found| found).await
    }

    /// Lists a block that could not be read as damage, if the map still has it there: one that was overwritten or
    /// trimmed since the read began is not lost, and nothing would take it off the list again. Returns whether it is
    /// lost.
    ///
    /// # Errors
    /// When the map is damaged.
    pub(crate) async fn note_loss(&self, block: &Wanted) -> Result<bool> {
        let (volume, lba) = (VolumeId(block.identity.owner), block.identity.lba);
        let note = |catalog: &mut Catalog, found| {
            let is_lost = found == Some(*block);
            reach(if is_lost { Mark::LossListed } else { Mark::LossOvertaken });
            if is_lost {
                self.list(catalog, volume, lba);
            }
            is_lost
        };
        self.at_once(volume, lba, note).await
    }

    /// Lists a block as damage that the tree under `root` cannot tell the place of, if that tree is still the one to
    /// be asked for it. Returns whether it is.
    pub(crate) fn note_unmapped(&self, volume: VolumeId, lba: Lba, root: Option<Root>) -> bool {
        self.catalog.with(|catalog| {
            let is_lost = look(catalog, (volume, lba), None) == Err(root);
            if is_lost {
                self.list(catalog, volume, lba);
            }
            is_lost
        })
    }

    fn list(&self, catalog: &mut Catalog, volume: VolumeId, lba: Lba) {
        if planted(Bug::LossUnlisted) {
            return;
        }
        let (cause, time) = (DamageCause::BeyondTolerance, self.env.clock.wall_seconds());
        catalog.damage.record(DamageRecord { volume, lba, blocks: 1, cause, time });
        self.note_volume(catalog, EventKind::DataLost, volume, 0);
    }

    /// Something happened to a volume.
    pub(crate) fn note_volume(&self, catalog: &Catalog, kind: EventKind, volume: VolumeId, amount: u64) {
        let name = catalog.get(volume).map_or("", |volume| volume.name.as_str());
        self.stripes.pool.note(kind, |event| event.of(volume, name).amounting_to(amount));
    }

    /// Whether a volume's durable tree is still this one. The pages of one that is not may be gone: whoever
    /// could not read them looks again.
    pub(crate) fn is_root(&self, volume: VolumeId, root: Option<Root>) -> bool {
        self.catalog.with(|catalog| catalog.root(volume)) == root
    }
}
