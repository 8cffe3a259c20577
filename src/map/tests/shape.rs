//! How many pages are loaded, written and left behind, and how full they are.

use crate::error::Result;
use crate::format::page::{Key, Page, TreeId, Value};
use crate::map::testing::{Forest, Memory, Random, Written, block_on};
use crate::map::{PageSource, Tree};
use crate::types::{Place, Pointer};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

fn put(number: u64, value: u8) -> (Key, Option<Value>) {
    (Key(number, 0), Some([value; 16]))
}

fn filled(fanout: usize, keys: u64) -> Forest {
    let mut forest = Forest::new(TreeId::Volumes, fanout);
    let puts: Vec<_> = (0..keys).map(|number| put(number * 2, 1)).collect();
    forest.merge(&puts);
    forest
}

/// The same tree, with only the pages on the path to `key` in memory.
fn path_alone(forest: &Forest, key: Key) -> Forest {
    let mut alone = Forest::new(forest.id, forest.fanout);
    alone.root = forest.root;
    alone.memory = forest.memory.clone();
    alone.memory.0.retain(|_, page| page.low <= key && page.high.is_none_or(|high| key < high));
    assert_eq!(alone.memory.0.len(), forest.height());
    alone
}

#[test]
fn a_batch_that_touches_one_leaf_loads_and_writes_one_page_per_level() {
    for (fanout, keys) in [(4, 1000), (126, 100_000)] {
        let mut forest = filled(fanout, keys);
        let height = forest.height();
        assert!(height >= 3);
        for number in [0, keys / 3, keys - 1] {
            // The leaf is full: overwrite, make room, use it.
            let key = Key(number * 2, 0);
            for change in [put(number * 2, 7), (key, None), put(number * 2 + 1, 7)] {
                let alone = path_alone(&forest, key);
                let mut written = Written::default();
                let batch = [change];
                let (tree, mut replaced) = (alone.tree(), |_, _| ());
                let merge = tree.merge(&mut written, 9, &batch, &[], &mut replaced);
                assert!(block_on(merge).expect("pages enough").is_some());
                assert_eq!((written.emitted.len(), written.retired.len()), (height, height));
                forest.merge(&[change]);
                assert_eq!((forest.emitted, forest.height()), (height, height));
            }
        }
    }
}

/// A source that notes what is asked for beforehand, and which leaves are loaded.
#[derive(Default)]
struct Watched {
    memory: Memory,
    asked: Mutex<BTreeSet<Place>>,
    loaded: Mutex<BTreeSet<Place>>,
}

impl PageSource for Watched {
    async fn load(&self, tree: TreeId, level: u8, pointer: Pointer) -> Result<Arc<Page>> {
        if level == 0 {
            self.loaded.lock().expect("no panic").insert(pointer.place);
        }
        self.memory.load(tree, level, pointer).await
    }

    async fn prefetch(&self, _: TreeId, level: u8, pointers: Vec<Pointer>) {
        assert_eq!(level, 0);
        self.asked.lock().expect("no panic").extend(pointers.iter().map(|pointer| pointer.place));
    }
}

#[test]
fn the_leaves_that_a_batch_changes_are_asked_for_beforehand_and_no_others() {
    let forest = filled(126, 100_000);
    for spread in [1, 60, 700, 9000] {
        let source = Watched { memory: forest.memory.clone(), ..Watched::default() };
        let batch: Vec<_> = (0..50).map(|number| put(number * spread * 2, 7)).collect();
        let (mut written, mut replaced) = (Written::default(), |_, _| ());
        let tree = Tree::new(&source, forest.id, forest.root);
        let merge = tree.merge(&mut written, 9, &batch, &[], &mut replaced);
        assert!(block_on(merge).expect("all pages").is_some());
        let (asked, loaded) = (source.asked.into_inner(), source.loaded.into_inner());
        let (asked, loaded) = (asked.expect("no panic"), loaded.expect("no panic"));
        match spread {
            1 => assert!(asked.is_empty() && loaded.len() == 1, "one leaf is read at once"),
            // Where only one leaf below a page is changed, there is nothing to read beside it.
            9000 => assert!(asked.is_subset(&loaded), "{asked:?} {loaded:?}"),
            _ => assert_eq!(asked, loaded, "{spread}"),
        }
    }
}

#[test]
fn lookups_load_only_the_path() {
    let key = Key(444, 0);
    let alone = path_alone(&filled(4, 500), key);
    let tree = alone.tree();
    assert_eq!(block_on(tree.get(key)).expect("enough"), Some([1; 16]));
    assert_eq!(block_on(tree.get(Key(444, 1))).expect("enough"), None);
    assert_eq!(block_on(tree.last_at_or_before(key)).expect("enough"), Some((key, [1; 16])));
    let scan = block_on(tree.scan(key, Key(500, 0), 1)).expect("enough");
    assert_eq!(scan.entries, [(key, [1; 16])]);
    assert!(scan.next.is_some());
    assert_eq!(block_on(tree.scan(key, Key(444, 1), 9)).expect("enough").next, None);
    assert!(block_on(tree.scan(key, Key(600, 0), 99)).is_err(), "the other pages are gone");
}

#[test]
fn what_changes_nothing_loads_its_leaves_and_writes_nothing() {
    let mut forest = filled(4, 500);
    let root = forest.root;
    let same: Vec<_> = (0..500).map(|number| put(number * 2, 1)).collect();
    let absent: Vec<_> = (0..500).map(|number| (Key(number * 2 + 1, 0), None)).collect();
    for batch in [same, absent, Vec::new()] {
        assert_eq!(forest.merge(&batch), []);
        assert_eq!((forest.emitted, forest.root), (0, root));
    }
}

#[test]
fn an_unchanged_neighbour_is_not_written_with_a_changed_one() {
    let mut forest = filled(4, 1000);
    let height = forest.height();
    let mut batch = vec![put(800, 9)];
    batch.extend((401..1000).map(|number| put(number * 2, 1)));
    forest.merge(&batch);
    assert_eq!(forest.emitted, height);
}

#[test]
fn keys_that_come_in_order_leave_pages_more_than_nine_tenths_full() {
    for (fanout, keys, size) in [(126, 40_000, 1000), (126, 6_000, 7), (126, 1_500, 1), (40, 2_000, 3)] {
        let mut forest = Forest::new(TreeId::Volumes, fanout);
        let puts: Vec<_> = (0..keys).map(|number| put(number, 1)).collect();
        for batch in puts.chunks(size) {
            forest.merge(batch);
        }
        assert!(forest.fill() > 0.9, "{} of {fanout} with batches of {size}", forest.fill());
    }
}

#[test]
fn keys_that_come_in_any_order_leave_pages_more_than_six_tenths_full() {
    for (fanout, keys, size) in [(126, 100_000, 2000), (126, 12_000, 40), (126, 12_000, 300), (16, 3000, 2)] {
        let mut random = Random::new(size);
        let mut forest = Forest::new(TreeId::Volumes, fanout);
        for _ in 0..keys / size {
            let mut batch: Vec<_> = (0..size).map(|_| put(random.below(1 << 30), 1)).collect();
            batch.sort_unstable();
            batch.dedup_by_key(|update| update.0);
            forest.merge(&batch);
        }
        assert!(forest.fill() > 0.6, "{} of {fanout} with batches of {size}", forest.fill());
    }
}

#[test]
fn a_tree_shrinks_with_what_is_in_it() {
    for (fanout, keys) in [(4, 3000), (126, 60_000)] {
        let mut forest = filled(fanout, keys);
        let (height, pages) = (forest.height(), forest.memory.0.len());
        let mut random = Random::new(keys);
        let mut left: Vec<u64> = (0..keys).collect();
        while left.len() > 1 {
            let gone: Vec<_> = left.extract_if(.., |_| random.below(10) > 0).collect();
            forest.merge(&gone.iter().map(|number| (Key(number * 2, 0), None)).collect::<Vec<_>>());
            let most = left.len() * 4 / fanout * 3 / 2 + forest.height();
            assert!(forest.memory.0.len() <= most, "{} keys in {} pages", left.len(), forest.memory.0.len());
        }
        assert!(forest.height() <= 1 && height >= 3 && pages > 100);
        forest.merge(&left.iter().map(|number| (Key(number * 2, 0), None)).collect::<Vec<_>>());
        assert!(forest.root.is_none() && forest.memory.0.is_empty());
    }
}
