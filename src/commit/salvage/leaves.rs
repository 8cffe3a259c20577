//! Small tables from whatever leaves of them are left: of each key the newest leaf speaks that has it between its
//! fences, whether or not a path leads there.

use crate::commit::pages::identity;
use crate::format::page::{Key, Page, TreeId, Value};
use crate::format::tables::VolumeRecord;
use crate::log::Opening;
use crate::stripe::{Stripes, Wanted};
use crate::types::{Pointer, SegmentId, Sequence, VolumeId};
use std::collections::{BTreeMap, BTreeSet};

/// How far back a row is looked for whose map can be walked.
const LEAVES_TRIED: usize = 64;

/// A leaf that a header shows.
pub(super) struct Leaf {
    pub(super) tree: TreeId,
    pub(super) pointer: Pointer,
    pub(super) generation: u64,
    pub(super) sequence: Sequence,
    pub(super) opening: Opening,
}

/// The leaves of one table that can be read, the newest first.
pub(super) struct Table {
    leaves: Vec<(Page, Opening)>,
    segments: BTreeSet<SegmentId>,
}

impl Table {
    pub(super) async fn of(leaves: &[Leaf], tree: TreeId, stripes: &Stripes) -> Table {
        let mut shown: Vec<&Leaf> = leaves.iter().filter(|leaf| leaf.tree == tree).collect();
        shown.sort_by_key(|leaf| std::cmp::Reverse((leaf.generation, leaf.opening.epoch, leaf.sequence)));
        let mut table = Table { leaves: Vec::new(), segments: BTreeSet::new() };
        for leaf in shown {
            let wanted = Wanted { pointer: leaf.pointer, identity: identity(tree, 0) };
            let Ok(mut read) = stripes.read(&[wanted]).await else { continue };
            let Some(block) = read.pop().flatten() else { continue };
            let Ok(page) = Page::decode(&block) else { continue };
            if page.tree == tree && page.level == 0 && page.generation == leaf.generation {
                table.segments.insert(leaf.pointer.place.segment);
                table.leaves.push((page, leaf.opening));
            }
        }
        table
    }

    /// The segments that the leaves lie in.
    pub(super) fn segments(&self) -> BTreeSet<SegmentId> {
        self.segments.clone()
    }

    /// The newest entries of all keys.
    pub(super) fn newest(&self) -> Vec<(Key, Value)> {
        self.entries(0, Key::default(), None).into_iter().map(|(key, (value, _))| (key, value)).collect()
    }

    /// Volumes that some leaf has a row of.
    pub(super) fn volumes(&self) -> BTreeSet<VolumeId> {
        let keys = self.leaves.iter().flat_map(|(page, _)| &page.entries).map(|(key, _)| key.0);
        keys.filter_map(|id| u32::try_from(id).ok()).map(VolumeId).collect()
    }

    /// Whether a leaf would have the volume if the table did, so that it is known to have been deleted where none
    /// has it.
    pub(super) fn covers(&self, id: VolumeId) -> bool {
        let key = Key(u64::from(id.0), 0);
        self.leaves.iter().any(|(page, _)| page.low <= key && page.high.is_none_or(|high| key < high))
    }

    /// The rows of a volume, the newest first, and the opening that wrote each. None when the newest leaf says that
    /// there is no such volume.
    pub(super) fn rows(&self, id: VolumeId) -> Vec<(VolumeRecord, Opening)> {
        let (from, to) = (Key(u64::from(id.0), 0), Key(u64::from(id.0) + 1, 0));
        let mut rows: Vec<(VolumeRecord, Opening)> = Vec::new();
        for since in 0..self.leaves.len().min(LEAVES_TRIED) {
            let entries = self.entries(since, from, Some(to));
            if entries.is_empty() && since == 0 {
                let newest = self.leaves.iter().position(|(page, _)| covers(page, from));
                if newest.is_some() {
                    return rows;
                }
            }
            let opening = entries.values().map(|(_, opening)| *opening).max_by_key(|opening| opening.epoch);
            let row: Vec<(Key, Value)> = entries.into_iter().map(|(key, (value, _))| (key, value)).collect();
            let Ok(row) = VolumeRecord::from_entries(&row) else { continue };
            if let Some(opening) = opening
                && rows.last().is_none_or(|(last, _)| *last != row)
            {
                rows.push((row, opening));
            }
        }
        rows
    }

    /// The entries of a range as the leaves from the `since`-th on have them.
    fn entries(&self, since: usize, from: Key, to: Option<Key>) -> BTreeMap<Key, (Value, Opening)> {
        let mut entries = BTreeMap::new();
        let mut spoken: Vec<&Page> = Vec::new();
        let is_wanted = |key: Key| key >= from && to.is_none_or(|to| key < to);
        for (page, opening) in &self.leaves[since..] {
            for (key, value) in page.entries.iter().filter(|(key, _)| is_wanted(*key)) {
                if !spoken.iter().any(|newer| covers(newer, *key)) {
                    entries.insert(*key, (*value, *opening));
                }
            }
            spoken.push(page);
        }
        entries
    }
}

fn covers(page: &Page, key: Key) -> bool {
    page.low <= key && page.high.is_none_or(|high| key < high)
}
