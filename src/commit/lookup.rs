//! Where a block is now, for those who found it in a segment and want to know whether anybody wants it.

use super::core::Core;
use crate::error::Result;
use crate::format::page::TreeId;
use crate::map::{Known, Tree};
use crate::types::{Lba, Number, Pointer, VolumeId};

impl Core {
    /// The newest durable pointer to a block; `None` for a hole, and for a volume that is gone.
    ///
    /// # Errors
    /// When the map is damaged.
    pub(crate) async fn locate(&self, volume: VolumeId, lba: Lba) -> Result<Option<(Pointer, Number)>> {
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
        let found = Tree::new(self, TreeId::Map(volume), root).newest(lba).await?;
        Ok(found.filter(|(birth, _)| *birth >= hidden).map(|(birth, pointer)| (pointer, birth)))
    }
}
