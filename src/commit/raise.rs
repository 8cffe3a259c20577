//! Metadata grows as strong as the strongest volume.
//!
//! Every block is found through the trees, so no volume may be stronger than they are. Before a volume is made
//! that would be:
//!
//! 1. *Room.* All pages must fit a second time, at their new strength, beside all reserves.
//! 2. *Target.* From here on every new page is as strong as wanted, also those of other checkpoints.
//! 3. *Pages.* The trees are walked in the order of their keys; as many weak pages as a checkpoint may write anew
//!    are touched, and a checkpoint is written; and so on, while calls go on being served.
//! 4. *Segment table.* It is written anew, whole, by the first checkpoint after 2.
//! 5. *Superblock.* It says that all metadata is so strong, in the commit that makes the volume, or before.
//!
//! A crash or an error before 5 leaves an array whose pages are in part stronger than it says, which harms nobody.
//! A page that is younger than 2 is strong, an older one that is still in its tree is met by the walk: so nothing
//! weak is left behind it. Metadata never grows weaker again.

use super::admit::RECOUNTS;
use super::capacity::{ENTRIES_PER_PAGE, FILL_MAX, Limits};
use super::core::Core;
use super::room::no_space;
use crate::error::{Error, Kind, Result};
use crate::format::page::{Key, TreeId};
use crate::format::superblock::Root;
use crate::map::Tree;
use crate::space::{Purpose, Reserves};
use crate::types::{Pointer, Scheme, SegmentId};
use crate::zoo::{Bug, Mark, planted, reach};
use std::collections::VecDeque;

/// Weak pages that one checkpoint writes anew at most: bounds how long it keeps writers waiting.
const WEAK_PAGES_MAX: usize = 4096;

/// The scheme of metadata that is to survive the loss of `m` of `members` members: as wide as before where that
/// many are there.
pub(super) fn strengthened(meta: Scheme, m: u8, members: usize) -> Scheme {
    if m <= meta.m() {
        return meta;
    }
    let most = u8::try_from(members).unwrap_or(u8::MAX).saturating_sub(m).max(1);
    Scheme::new(meta.k().min(most), m).expect("no wider than the members, or than a mirror")
}

/// How far a walk through all trees has come that touches weak pages.
pub(super) struct Walk {
    /// Pages of segments that survive fewer losses are weak.
    least: u8,
    trees: VecDeque<TreeId>,
    from: Key,
}

/// Metadata is being made stronger, until this is dropped.
struct Raising<'a>(&'a Core);

impl Drop for Raising<'_> {
    fn drop(&mut self) {
        self.0.progress.with(|progress| progress.raising = false);
        // Old pages are dead now: whoever gave up looks again.
        self.0.note_change();
        self.0.changed.notify_all();
    }
}

impl Core {
    /// Makes all metadata survive the loss of `m` members. The next checkpoint says so durably; until that is
    /// written, nothing may rely on it.
    ///
    /// # Errors
    /// [`Kind::NoSpace`] when there is no room for stronger metadata, or why it could not be written: then some
    /// pages are stronger than they need to be, and nothing else has changed.
    pub(crate) async fn raise_metadata(&self, m: u8) -> Result<()> {
        let _raising = self.raising().await;
        let pool = &self.stripes.pool;
        let wanted = strengthened(pool.meta_scheme(), m, pool.count());
        if wanted == pool.meta_scheme() {
            return Ok(());
        }
        let raised = self.raise_to(wanted).await;
        match raised {
            Ok(()) => {
                pool.raise_meta_scheme(wanted);
                self.progress.with(|progress| progress.raises += 1);
            }
            Err(_) => {
                reach(Mark::RaiseFailed);
                self.stop_aiming().await;
            }
        }
        raised
    }

    /// Makes every page as strong as wanted.
    async fn raise_to(&self, wanted: Scheme) -> Result<()> {
        self.aim(wanted).await.map_err(|error| no_room(wanted, error))?;
        let mut walk = self.walk_pages(wanted.m());
        while !planted(Bug::PagesLeftWeak) && self.touch_weak(&mut walk).await? {
            let pages = 3 * self.touches_max() as u64;
            self.wait_for_pages(wanted, pages, self.reserves())
                .await
                .map_err(|error| no_room(wanted, error))?;
            self.checkpoint().await?;
        }
        if self.has_weak_table(wanted.m()) {
            self.checkpoint().await?;
        }
        Ok(())
    }

    /// New pages are again as strong as all of them are, and no more is kept free than these need.
    async fn stop_aiming(&self) {
        let _turn = self.turn().await;
        let superblock = self.stripes.pool.superblock();
        let limits = Limits::of(&superblock, self.stripes.chunk_rows(), superblock.meta_scheme);
        self.limits.with(|now| *now = limits);
        self.target.with(|target| *target = superblock.meta_scheme);
    }

    /// Whether metadata is being made stronger.
    pub fn is_raising(&self) -> bool {
        self.progress.with(|progress| progress.raising)
    }

    /// One at a time.
    async fn raising(&self) -> Raising<'_> {
        loop {
            let listen = self.changed.listen();
            if self.progress.with(|progress| !std::mem::replace(&mut progress.raising, true)) {
                return Raising(self);
            }
            listen.await;
        }
    }

    /// From its return on all new pages are as strong as wanted.
    async fn aim(&self, wanted: Scheme) -> Result<()> {
        let mut recounts = 0;
        loop {
            let limits = Limits::of(&self.stripes.pool.superblock(), self.stripes.chunk_rows(), wanted);
            let accepted = self.accepted();
            if self.fill_at(wanted, limits.reserves, &accepted) > FILL_MAX {
                if recounts == RECOUNTS || !self.may_recount() {
                    return Err(no_space());
                }
                recounts += 1;
                self.flush_all().await?;
                self.checkpoint().await?;
                continue;
            }
            let pages = accepted.values().sum::<u64>().div_ceil(ENTRIES_PER_PAGE);
            self.wait_for_pages(wanted, pages, limits.reserves).await?;
            if wanted.m() <= self.meta_scheme().m() {
                return Ok(());
            }
            // Pages with fewer data columns take more room: what waits to be merged must fit what a checkpoint
            // may write then. And no checkpoint is under way that began with weak pages.
            self.checkpoint().await?;
            let _turn = self.turn().await;
            let is_cut = self.cut.with(|cut| cut.is_some());
            if !is_cut && self.catalog.with(|catalog| catalog.pages()) < limits.budget() {
                self.limits.with(|now| *now = limits);
                self.target.with(|target| *target = wanted);
                return Ok(());
            }
        }
    }

    /// Waits until so many pages find room beside reserves.
    async fn wait_for_pages(&self, meta: Scheme, pages: u64, reserves: Reserves) -> Result<()> {
        self.wait_until(|| self.has_room_for_pages(meta, pages, reserves), || self.is_exhausted()).await
    }

    /// A walk through all trees as they are now; what is in others is younger.
    pub(super) fn walk_pages(&self, least: u8) -> Walk {
        let mut trees: VecDeque<TreeId> =
            self.catalog.with(|catalog| catalog.iter().map(|(id, _)| TreeId::Map(id)).collect());
        trees.extend([TreeId::Volumes, TreeId::Damage]);
        Walk { least, trees, from: Key::default() }
    }

    /// Has the next checkpoint write weak pages anew, as many as it may. `false`: there were none.
    ///
    /// # Errors
    /// When a tree cannot be read.
    pub(super) async fn touch_weak(&self, walk: &mut Walk) -> Result<bool> {
        let mut left = self.touches_max();
        let least = walk.least;
        let is_weak = |pointer: Pointer| self.m_of(pointer.place.segment) < least;
        let mut from = walk.from;
        let mut any = false;
        while let Some(&tree) = walk.trees.front() {
            let root = self.root(tree);
            let (keys, next) = match Tree::new(self, tree, root).weak_leaves(from, left, is_weak).await {
                Ok(found) => found,
                // The tree has a younger root by now.
                Err(_) if self.root(tree) != root => continue,
                Err(error) => return Err(error),
            };
            any |= !keys.is_empty();
            left -= keys.len();
            keys.into_iter().for_each(|key| self.touch(tree, key));
            from = next.unwrap_or_default();
            if next.is_none() {
                walk.trees.pop_front();
            }
            if left == 0 {
                break;
            }
        }
        walk.from = from;
        Ok(any)
    }

    /// Pages that one checkpoint may write anew without a change, beside those that it merges.
    pub(super) fn touches_max(&self) -> usize {
        let pages = self.limits.with(|limits| limits.pages_max / 24);
        usize::try_from(pages).unwrap_or(usize::MAX).clamp(1, WEAK_PAGES_MAX)
    }

    /// Whether a page of the segment table lies in a segment that survives fewer losses.
    pub(super) fn has_weak_table(&self, least: u8) -> bool {
        self.stripes.space.with(|space| {
            space.iter().any(|(_, segment)| {
                segment.purpose == Purpose::Boot && segment.live > 0 && segment.scheme.m() < least
            })
        })
    }

    /// How many losses a segment survives that is whole.
    pub(super) fn m_of(&self, id: SegmentId) -> u8 {
        self.stripes.space.with(|space| space.get(id).map_or(0, |segment| segment.scheme.m()))
    }

    /// The root of a tree, as of the newest durable checkpoint.
    pub(crate) fn root(&self, tree: TreeId) -> Option<Root> {
        let checkpoint = |root: fn(&crate::format::superblock::Checkpoint) -> Option<Root>| {
            root(&self.stripes.pool.superblock().checkpoint)
        };
        match tree {
            TreeId::Map(volume) => self.catalog.with(|catalog| catalog.root(volume)),
            TreeId::Volumes => checkpoint(|checkpoint| checkpoint.volumes),
            TreeId::Damage => checkpoint(|checkpoint| checkpoint.damage),
            TreeId::Segments => checkpoint(|checkpoint| checkpoint.segments),
        }
    }
}

/// Why metadata cannot become stronger, where room is short.
fn no_room(wanted: Scheme, error: Error) -> Error {
    if error.kind() != Kind::NoSpace {
        return error;
    }
    let text = format!(
        "the array's metadata must survive what its strongest volume does, the loss of {} members, and there is \
         no room to write it so: delete or trim something first",
        wanted.m()
    );
    Error::new(Kind::NoSpace, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_keeps_its_width_where_members_are_there_and_never_weakens() {
        for (meta, m, members, wanted) in [
            ((4, 2), 3, 12, (4, 3)),
            ((4, 2), 3, 6, (3, 3)),
            ((1, 1), 2, 4, (1, 2)),
            ((4, 2), 5, 6, (1, 5)),
            ((4, 2), 1, 6, (4, 2)),
            ((1, 2), 2, 3, (1, 2)),
            ((8, 2), 254, 255, (1, 254)),
        ] {
            let scheme = |(k, m)| Scheme::new(k, m).expect("sound");
            assert_eq!(strengthened(scheme(meta), m, members), scheme(wanted), "{meta:?} {m} {members}");
        }
    }
}
