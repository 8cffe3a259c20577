//! The invariants that span the whole core, counted from the ground up; for tests and the simulator.

use super::core::Core;
use crate::error::{Error, Result};
use crate::format::page::TreeId;
use crate::format::superblock::Root;
use crate::map::Tree;
use crate::space::Purpose;
use crate::types::{Pointer, SegmentId};
use std::collections::{BTreeMap, BTreeSet};

impl Core {
    /// No volume may be stronger than the metadata, and no page weaker than the superblock says.
    fn check_strength(&self, pages: &BTreeSet<SegmentId>) -> Result<()> {
        let least = self.stripes.pool.meta_scheme().m();
        let stronger = self
            .catalog
            .with(|catalog| catalog.iter().find(|(_, volume)| volume.scheme.m() > least).map(|(id, _)| id));
        if let Some(id) = stronger {
            return Err(Error::corrupt(format!("volume {id} is stronger than the metadata")));
        }
        let is_weak = |id: &SegmentId| self.m_of(*id) < least;
        match pages.iter().find(|id| is_weak(id)) {
            Some(id) => {
                Err(Error::corrupt(format!("segment {id} of pages survives less than {least} losses")))
            }
            None => Ok(()),
        }
    }

    /// Walks every tree and compares what it finds with the live counts of the segment table.
    ///
    /// # Errors
    /// When a tree is damaged or a count is wrong.
    ///
    /// # Panics
    /// When the segment table contradicts itself.
    pub async fn check(&self) -> Result<()> {
        let _turn = self.turn().await;
        self.stripes.space.with(|space| space.check());
        let mut live: BTreeMap<SegmentId, u32> = BTreeMap::new();
        let checkpoint = self.stripes.pool.superblock().checkpoint;
        let mut trees: Vec<(TreeId, Option<Root>)> = vec![
            (TreeId::Segments, checkpoint.segments),
            (TreeId::Volumes, checkpoint.volumes),
            (TreeId::Damage, checkpoint.damage),
        ];
        self.catalog.with(|catalog| {
            trees.extend(catalog.iter().map(|(id, volume)| (TreeId::Map(id), volume.root)));
        });
        let mut pages: BTreeSet<SegmentId> = BTreeSet::new();
        for (id, root) in trees {
            let mut broken = None;
            let mut visit = |page: &crate::format::page::Page, pointer: Pointer| {
                *live.entry(pointer.place.segment).or_default() += 1;
                pages.insert(pointer.place.segment);
                if page.level > 0 || !matches!(id, TreeId::Map(_)) {
                    return;
                }
                for (_, value) in &page.entries {
                    match Pointer::from_value(value) {
                        Ok(pointer) => *live.entry(pointer.place.segment).or_default() += 1,
                        Err(error) => broken = Some(error),
                    }
                }
            };
            Tree::new(self, id, root).check(&mut visit).await?;
            if let Some(error) = broken {
                return Err(error);
            }
        }
        self.check_strength(&pages)?;
        let mut pending: BTreeMap<SegmentId, u32> = BTreeMap::new();
        self.catalog.with(|catalog| {
            for pointer in catalog.active.pointers().chain(catalog.frozen.pointers()) {
                *pending.entry(pointer.place.segment).or_default() += 1;
            }
        });
        self.stripes.space.with(|space| {
            for (id, segment) in space.iter() {
                let counted = (live.remove(&id).unwrap_or(0), pending.remove(&id).unwrap_or(0));
                if counted != (segment.live, segment.pending) {
                    return Err(Error::corrupt(format!(
                        "segment {id} ({:?}) has {counted:?} live and pending blocks, the table says {:?}",
                        segment.purpose,
                        (segment.live, segment.pending)
                    )));
                }
                if segment.purpose == Purpose::Boot && segment.pending > 0 {
                    return Err(Error::corrupt(format!("boot segment {id} holds user data")));
                }
            }
            Ok(())
        })?;
        match live.keys().chain(pending.keys()).next() {
            Some(id) => {
                Err(Error::corrupt(format!("a tree points to segment {id}, which is not in the table")))
            }
            None => Ok(()),
        }
    }
}
