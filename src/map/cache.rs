//! PURE: the pages kept in memory, within a stated size (rule 11).
//!
//! CLOCK: a hand goes round over the pages; one that was used since the hand last passed gets a second
//! chance, the first one that was not makes room. A page enters unused: what a scan reads once goes first.
//! Places are never reused, so a page in the cache is never stale; removing what was retired only makes room.
//!
//! Invariants: `index` has exactly the places of `slots`, each with its position; `hand` is a position, or 0;
//! there are at most `capacity` slots.

use crate::format::page::{Key, PAGE_ENTRIES, Page, Value};
use crate::types::{Column, Place};
use crate::zoo::{Bug, planted};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::mem::size_of;
use std::sync::Arc;

/// Memory that a cached page takes: its entries, itself with the counts of its `Arc`, and its share of the
/// cache's own tables, which double when they are full.
pub const PAGE_MEMORY: usize = PAGE_ENTRIES * size_of::<(Key, Value)>()
    + size_of::<Page>()
    + 2 * size_of::<usize>()
    + 2 * size_of::<Slot>()
    + 3 * size_of::<(Place, usize)>();

/// A hasher without a random seed: one history runs the same way each time (rule 12).
type Index = HashMap<Place, usize, BuildHasherDefault<DefaultHasher>>;

/// What a cache did since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStats {
    /// Lookups that found their page.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Pages that made room for others.
    pub evictions: u64,
}

#[derive(Debug)]
struct Slot {
    place: Place,
    page: Arc<Page>,
    used: bool,
}

/// Pages by their place.
#[derive(Debug)]
pub struct PageCache {
    capacity: usize,
    slots: Vec<Slot>,
    index: Index,
    hand: usize,
    stats: CacheStats,
}

/// What a page is looked up by.
fn key(place: Place) -> Place {
    if planted(Bug::CacheMixesColumns) { Place { column: Column(0), ..place } } else { place }
}

impl PageCache {
    /// A cache of as many pages as fit `bytes` of memory; possibly none.
    pub fn new(bytes: usize) -> PageCache {
        PageCache::with_pages(bytes / PAGE_MEMORY)
    }

    /// A cache of `capacity` pages.
    pub fn with_pages(capacity: usize) -> PageCache {
        PageCache {
            capacity,
            slots: Vec::new(),
            index: Index::default(),
            hand: 0,
            stats: CacheStats::default(),
        }
    }

    /// The page at `place`.
    pub fn get(&mut self, place: Place) -> Option<Arc<Page>> {
        let Some(&at) = self.index.get(&key(place)) else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        let slot = &mut self.slots[at];
        slot.used = true;
        Some(slot.page.clone())
    }

    /// Keeps the page at `place`, instead of another one if the cache is full.
    pub fn insert(&mut self, place: Place, page: Arc<Page>) {
        let place = key(place);
        if let Some(&at) = self.index.get(&place) {
            self.slots[at].page = page;
            return;
        }
        let slot = Slot { place, page, used: false };
        if self.slots.len() < self.capacity {
            self.index.insert(place, self.slots.len());
            self.slots.push(slot);
        } else if self.capacity > 0 {
            let at = self.victim();
            self.stats.evictions += 1;
            self.index.remove(&self.slots[at].place);
            self.index.insert(place, at);
            self.slots[at] = slot;
        }
    }

    /// Forgets the page at `place`.
    pub fn remove(&mut self, place: Place) {
        let Some(at) = self.index.remove(&place) else { return };
        self.slots.swap_remove(at);
        if let Some(moved) = self.slots.get(at) {
            self.index.insert(moved.place, at);
        }
        if self.hand >= self.slots.len() {
            self.hand = 0;
        }
    }

    /// Pages in it.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no page is in it.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Pages that it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// What it did so far.
    pub fn stats(&self) -> CacheStats {
        self.stats
    }

    /// The position of the page to make room. The cache is full and not empty. Ends within two rounds.
    fn victim(&mut self) -> usize {
        loop {
            let at = self.hand;
            self.hand = (at + 1) % self.slots.len();
            if !std::mem::take(&mut self.slots[at].used) {
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::page::TreeId;
    use crate::map::testing::Random;
    use crate::types::{Column, Row, SegmentId};
    use std::collections::BTreeMap;

    fn place(number: u64) -> Place {
        Place { segment: SegmentId(number), row: Row(1), column: Column(0) }
    }

    fn page(generation: u64) -> Arc<Page> {
        let (low, high) = (Key::default(), None);
        Arc::new(Page { tree: TreeId::Segments, level: 0, generation, low, high, entries: Vec::new() })
    }

    fn has(cache: &PageCache) -> Vec<u64> {
        let mut places: Vec<u64> = cache.index.keys().map(|place| place.segment.0).collect();
        places.sort_unstable();
        places
    }

    #[test]
    fn a_used_page_gets_a_second_chance_and_an_unused_one_goes() {
        let mut cache = PageCache::with_pages(3);
        for number in 1..=3 {
            cache.insert(place(number), page(number));
        }
        assert!(cache.get(place(1)).is_some());
        cache.insert(place(4), page(4));
        assert_eq!(has(&cache), [1, 3, 4]);
        cache.insert(place(5), page(5));
        assert_eq!(has(&cache), [1, 4, 5]);
        cache.insert(place(6), page(6));
        assert_eq!(has(&cache), [4, 5, 6], "its chance is used up");
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_in_use() {
        let mut cache = PageCache::with_pages(10);
        for number in 0..5 {
            cache.insert(place(number), page(number));
        }
        for number in 100..200 {
            for used in 0..5 {
                assert!(cache.get(place(used)).is_some(), "{used} after {number}");
            }
            cache.insert(place(number), page(number));
        }
    }

    #[test]
    fn hits_misses_and_evictions_are_counted() {
        let mut cache = PageCache::with_pages(1);
        assert!(cache.get(place(1)).is_none());
        cache.insert(place(1), page(1));
        assert_eq!(cache.get(place(1)).expect("it is there").generation, 1);
        cache.insert(place(2), page(2));
        assert!(cache.get(place(1)).is_none());
        assert_eq!(cache.stats(), CacheStats { hits: 1, misses: 2, evictions: 1 });
    }

    #[test]
    fn a_cache_without_room_keeps_nothing() {
        let mut cache = PageCache::new(PAGE_MEMORY - 1);
        cache.insert(place(1), page(1));
        assert!(cache.is_empty() && cache.get(place(1)).is_none());
        assert_eq!(PageCache::new(10 * PAGE_MEMORY).capacity(), 10);
    }

    #[test]
    fn whatever_is_done_to_it_the_invariants_hold_and_it_returns_only_what_was_put_in() {
        for seed in 1..=20 {
            let mut random = Random::new(seed);
            let mut cache = PageCache::with_pages(usize::try_from(random.below(20)).expect("small"));
            let mut model = BTreeMap::new();
            for step in 0..2000 {
                let number = random.below(40);
                match random.below(4) {
                    0 => {
                        cache.remove(place(number));
                        model.remove(&number);
                    }
                    1 => {
                        cache.insert(place(number), page(step));
                        model.insert(number, step);
                        let kept = cache.get(place(number)).map(|page| page.generation);
                        assert_eq!(kept, (cache.capacity > 0).then_some(step));
                    }
                    _ => {
                        let found = cache.get(place(number)).map(|page| page.generation);
                        assert!(found.is_none() || found == model.get(&number).copied());
                    }
                }
                assert!(cache.len() <= cache.capacity && cache.index.len() == cache.len());
                assert!(cache.hand == 0 || cache.hand < cache.len());
                for (at, slot) in cache.slots.iter().enumerate() {
                    assert_eq!(cache.index.get(&slot.place), Some(&at));
                }
            }
        }
    }
}
