//! Where a block is now, for those who found it in a segment and want to know whether anybody wants it.

use super::core::Core;
use crate::error::Result;
use crate::format::page::TreeId;
use crate::format::superblock::Root;
use crate::map::{Known, Tree};
use crate::types::{Lba, Number, Pointer, VolumeId};

impl Core {
    /// The newest durable pointer to a block; `None` for a hole, and for a volume that is gone.
    ///
    /// # Errors
    /// When the map is damaged.
    pub(crate) async fn locate(&self, volume: VolumeId, lba: Lba) -> Result<Option<(Pointer, Number)>> {
        loop {
            let (known, root) = self.catalog.with(|catalog| {
                let root = catalog.get(volume).ok().map(|found| found.root);
                (catalog.lookup(volume, lba), root)
            });
            let Some(root) = root else { return Ok(None) };
            let hidden = match known {
                Known::At(pointer, birth) => return Ok(Some((pointer, birth))),
                Known::Hole => return Ok(None),
                Known::AskTree(hidden) => hidden,
            };
            match Tree::new(self, TreeId::Map(volume), root).newest(lba).await {
                Ok(found) => {
                    let seen = found.filter(|(birth, _)| *birth >= hidden);
                    return Ok(seen.map(|(birth, pointer)| (pointer, birth)));
                }
                Err(error) if self.is_root(volume, root) => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Whether a volume's durable tree is still this one. The pages of one that is not may be gone: whoever
    /// could not read them looks again.
    pub(crate) fn is_root(&self, volume: VolumeId, root: Option<Root>) -> bool {
        self.catalog.with(|catalog| catalog.root(volume)) == root
    }
}
