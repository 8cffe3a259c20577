//! PURE: what a merge does to the entries of a leaf. It asks an edit which leaf to visit next and then, entry
//! by entry, what becomes of it.

use crate::error::Result;
use crate::format::page::{Key, Value};
use crate::types::{Lba, Number, Place, Pointer};
use crate::zoo::{Bug, planted};

/// What becomes of the next entry of a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// It stays.
    Keep,
    /// It goes.
    Remove,
    /// This one takes its place.
    Replace(Key, Value),
    /// This one comes before it; it is asked about again.
    Insert(Key, Value),
    /// This one, asked for, does not come in; the old one is asked about again.
    Refuse(Key, Value),
    /// An update without effect is done with; the entry is asked about again.
    Skip,
    /// The leaf is written anew whatever becomes of its entries; this one is asked about again.
    Open,
    /// The leaf has no entry left and no new one comes behind.
    Done,
}

/// A change of a tree, in the order of the keys.
pub(super) trait Edit: Send {
    /// A key in the next leaf to visit. Not before the high fence of a leaf that is done. `None`: no more.
    fn target(&self) -> Option<Key>;
    /// Whether it has something to do in the leaf between these fences, as far as it can tell beforehand.
    fn wants(&self, _low: Key, _high: Option<Key>) -> bool {
        false
    }
    /// Decides on the next entry of the leaf that ends before `high`, or on what comes behind the last.
    fn step(&mut self, old: Option<(Key, Value)>, high: Option<Key>) -> Result<Step>;
}

/// The first of sorted updates, if its key belongs into the leaf that ends before `high`.
fn first_below<T>(updates: &[T], high: Option<Key>, key: impl Fn(&T) -> Key) -> Option<&T> {
    updates.first().filter(|update| high.is_none_or(|high| key(update) < high))
}

/// Whether one of sorted updates has its key between the fences.
fn any_between<T>(updates: &[T], low: Key, high: Option<Key>, key: impl Fn(&T) -> Key) -> bool {
    let from = updates.partition_point(|update| key(update) < low);
    first_below(&updates[from..], high, key).is_some()
}

/// Puts and deletes single keys.
pub(super) struct Batch<'a>(&'a [(Key, Option<Value>)]);

impl<'a> Batch<'a> {
    /// # Panics
    ///
    /// If the keys do not rise.
    pub(super) fn new(updates: &'a [(Key, Option<Value>)]) -> Batch<'a> {
        assert!(updates.is_sorted_by(|a, b| a.0 < b.0), "the keys of a batch rise");
        Batch(updates)
    }
}

impl Edit for Batch<'_> {
    fn target(&self) -> Option<Key> {
        self.0.first().map(|update| update.0)
    }

    fn wants(&self, low: Key, high: Option<Key>) -> bool {
        any_between(self.0, low, high, |update| update.0)
    }

    fn step(&mut self, old: Option<(Key, Value)>, high: Option<Key>) -> Result<Step> {
        let Some(&(key, new)) = first_below(self.0, high, |update| update.0) else {
            return Ok(if old.is_some() { Step::Keep } else { Step::Done });
        };
        if old.is_some_and(|old| old.0 < key) {
            return Ok(Step::Keep);
        }
        self.0 = &self.0[1..];
        Ok(match (old.filter(|old| old.0 == key), new) {
            (Some(old), Some(new)) if old.1 == new => Step::Keep,
            (Some(_), Some(new)) => Step::Replace(key, new),
            (Some(_), None) => Step::Remove,
            (None, Some(new)) => Step::Insert(key, new),
            (None, None) => Step::Skip,
        })
    }
}

/// An update of a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapUpdate {
    /// The address.
    pub lba: Lba,
    /// The number that wrote the block.
    pub birth: Number,
    /// Where the block is now; `None` when it was trimmed.
    pub pointer: Option<Pointer>,
    /// For a block that the cleaner moved, the place it leaves: the update applies only where the map still
    /// points there. `None` for a write: it applies unless the map has a newer one.
    pub from: Option<Place>,
}

impl MapUpdate {
    fn key(&self) -> Key {
        Key(self.lba.0, self.birth.0)
    }
}

/// Puts the newest block of each LBA into a map; older ones go.
pub(super) struct MapBatch<'a>(&'a [MapUpdate]);

impl<'a> MapBatch<'a> {
    /// # Panics
    ///
    /// If the addresses do not rise.
    pub(super) fn new(updates: &'a [MapUpdate]) -> MapBatch<'a> {
        assert!(updates.is_sorted_by(|a, b| a.lba < b.lba), "the addresses of a batch rise");
        MapBatch(updates)
    }
}

impl Edit for MapBatch<'_> {
    fn target(&self) -> Option<Key> {
        self.0.first().map(|update| Key(update.lba.0, 0))
    }

    fn wants(&self, low: Key, high: Option<Key>) -> bool {
        any_between(self.0, low, high, |update| Key(update.lba.0, 0))
    }

    fn step(&mut self, old: Option<(Key, Value)>, high: Option<Key>) -> Result<Step> {
        let Some(update) = first_below(self.0, high, |update| Key(update.lba.0, 0)) else {
            return Ok(if old.is_some() { Step::Keep } else { Step::Done });
        };
        if old.is_some_and(|old| old.0.0 < update.lba.0) {
            return Ok(Step::Keep);
        }
        self.0 = &self.0[1..];
        let key = update.key();
        let old = old.filter(|old| old.0.0 == key.0);
        let Some(pointer) = update.pointer else {
            return Ok(if old.is_some_and(|old| old.0 <= key) { Step::Remove } else { Step::Skip });
        };
        let new = pointer.to_value();
        if old == Some((key, new)) {
            return Ok(Step::Keep);
        }
        Ok(match (old, update.from) {
            (None, None) => Step::Insert(key, new),
            (Some(old), None) if old.0 <= key && !planted(Bug::MergeKeepsOld) => Step::Replace(key, new),
            (Some(old), Some(from)) if old.0 == key && Pointer::from_value(&old.1)?.place == from => {
                Step::Replace(key, new)
            }
            _ => Step::Refuse(key, new),
        })
    }
}

/// Another edit, and leaves that are written anew without a change: the page mover's way of emptying a segment.
pub(super) struct Touching<'a, E> {
    edit: E,
    keys: &'a [Key],
}

impl<'a, E> Touching<'a, E> {
    /// # Panics
    ///
    /// If the keys do not rise.
    pub(super) fn new(edit: E, keys: &'a [Key]) -> Touching<'a, E> {
        assert!(keys.is_sorted_by(|a, b| a < b), "the keys to touch rise");
        Touching { edit, keys }
    }
}

impl<E: Edit> Edit for Touching<'_, E> {
    fn target(&self) -> Option<Key> {
        self.edit.target().into_iter().chain(self.keys.first().copied()).min()
    }

    fn wants(&self, low: Key, high: Option<Key>) -> bool {
        self.edit.wants(low, high) || any_between(self.keys, low, high, |key| *key)
    }

    fn step(&mut self, old: Option<(Key, Value)>, high: Option<Key>) -> Result<Step> {
        let here = self.keys.partition_point(|key| high.is_none_or(|high| *key < high));
        if here == 0 {
            return self.edit.step(old, high);
        }
        self.keys = &self.keys[here..];
        // An empty leaf, that of an empty tree, is nothing to write.
        if old.is_some() { Ok(Step::Open) } else { self.edit.step(old, high) }
    }
}

/// Removes what lies in a range of keys and was born before a number, from a limited number of leaves.
pub(super) struct Removal {
    from: Key,
    to: Key,
    born_before: u64,
    leaves_left: usize,
    /// Everything before it is done; `None` when the tree ends there.
    cursor: Option<Key>,
}

impl Removal {
    pub(super) fn new(from: Key, to: Key, born_before: u64, leaves_max: usize) -> Removal {
        Removal { from, to, born_before, leaves_left: leaves_max, cursor: Some(from) }
    }

    /// Where the range goes on.
    pub(super) fn rest(&self) -> Option<Key> {
        self.cursor.filter(|cursor| *cursor < self.to)
    }
}

impl Edit for Removal {
    fn target(&self) -> Option<Key> {
        self.rest().filter(|_| self.leaves_left > 0)
    }

    fn step(&mut self, old: Option<(Key, Value)>, high: Option<Key>) -> Result<Step> {
        // A leaf that is visited only to feed a run is not part of the range that is done.
        let counts = self.leaves_left > 0;
        let Some((key, _)) = old else {
            if counts {
                self.leaves_left -= 1;
                self.cursor = high;
            }
            return Ok(Step::Done);
        };
        let to = Key(self.to.0 - u64::from(planted(Bug::LongTrimShort)), self.to.1);
        let goes = counts && self.from <= key && key < to && key.1 < self.born_before;
        Ok(if goes { Step::Remove } else { Step::Keep })
    }
}
