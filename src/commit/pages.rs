//! Pages of trees, read through the cache and verified like any block.

use super::core::Core;
use crate::error::{Error, Result};
use crate::format::page::{Page, TreeId};
use crate::map::PageSource;
use crate::runtime::join_all;
use crate::stripe::Wanted;
use crate::types::{Identity, Lba, Number, Pointer};
use std::sync::Arc;

/// Pages that are read together.
const READS_AT_ONCE: usize = 32;

/// The identity that a page's checksum is mixed with.
pub(super) fn identity(tree: TreeId, level: u8) -> Identity {
    Identity { owner: tree.number(), lba: Lba(u64::from(level)), birth: Number(0) }
}

impl PageSource for Core {
    async fn load(&self, tree: TreeId, level: u8, pointer: Pointer) -> Result<Arc<Page>> {
        if let Some(page) = self.cache.with(|cache| cache.get(pointer.place)) {
            return Ok(page);
        }
        let wanted = Wanted { pointer, identity: identity(tree, level) };
        let block = self.stripes.read(&[wanted]).await?.pop().flatten().ok_or_else(|| {
            Error::corrupt(format!(
                "a page of {tree:?} at {:?} is damaged beyond what its redundancy restores",
                pointer.place
            ))
        })?;
        let page = Arc::new(Page::decode(&block)?);
        self.cache.with(|cache| cache.insert(pointer.place, page.clone()));
        Ok(page)
    }

    async fn prefetch(&self, tree: TreeId, level: u8, pointers: Vec<Pointer>) {
        // Pages that would push each other out are better read one by one.
        if pointers.len() > self.cache.with(|cache| cache.capacity()) / 2 {
            return;
        }
        for some in pointers.chunks(READS_AT_ONCE) {
            let loads = some.iter().map(|pointer| self.load(tree, level, *pointer));
            // Whoever loads a page that failed learns why.
            drop(join_all(loads.collect()).await);
        }
    }
}
