//! Trees that no merge has written: errors, never panics, never endless walks (rule 10).

use crate::error::{Kind, Result};
use crate::format::page::{Key, Page, TreeId, Value};
use crate::format::superblock::Root;
use crate::map::edit::MapUpdate;
use crate::map::testing::{Forest, Random, Written, block_on, pointer_at};
use crate::types::{Lba, Number, Place, VolumeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a page is made to be, and how.
type Defect<'a> = (&'a str, &'a dyn Fn(&mut Page));

const MAP: TreeId = TreeId::Map(VolumeId(3));

fn update(lba: u64) -> MapUpdate {
    MapUpdate { lba: Lba(lba), birth: Number(9), pointer: Some(pointer_at(7)), from: None }
}

/// A map of 200 LBAs, of four levels.
fn map() -> Forest {
    let mut map = Forest::new(MAP, 4);
    let updates: Vec<_> = (0..200).map(update).collect();
    map.merge_map(&updates);
    assert_eq!(map.height(), 4);
    map
}

/// What each way of walking a tree says.
fn walks(map: &Forest) -> [Result<()>; 6] {
    let tree = map.tree();
    let everything: Vec<_> = (0..210).map(|lba| MapUpdate { birth: Number(10), ..update(lba) }).collect();
    let all = (Key::default(), Key(u64::MAX, u64::MAX));
    let mut written = Written::default();
    [
        block_on(tree.check(&mut |_, _| ())),
        block_on(tree.scan(all.0, all.1, usize::MAX)).map(drop),
        (0..210).try_for_each(|lba| block_on(tree.newest(Lba(lba))).map(drop)),
        (0..210).try_for_each(|lba| block_on(tree.last_at_or_before(Key(lba, 5))).map(drop)),
        block_on(tree.merge_map(&mut written, 2, &everything, &[], &mut |_, _| ())).map(drop),
        block_on(tree.remove_range(&mut written, 2, all, 100, usize::MAX, &mut |_, _| ())).map(drop),
    ]
}

/// The middle page of a level: the edges have fences of their own.
fn middle(map: &Forest, level: u8) -> Place {
    let pages = map.reachable();
    let mut pages: Vec<_> = pages.iter().filter(|(_, page)| page.level == level).collect();
    pages.sort_by_key(|(_, page)| page.low);
    *pages[pages.len() / 2].0
}

fn spoil(map: &mut Forest, place: Place, how: &dyn Fn(&mut Page)) {
    let page = Arc::make_mut(map.memory.0.get_mut(&place).expect("a page of the tree"));
    how(page);
}

#[test]
fn a_page_that_is_not_what_its_parent_says_is_an_error_for_every_walk() {
    let defects: [Defect; 9] = [
        ("belongs to another tree", &|page| page.tree = TreeId::Map(VolumeId(4))),
        ("has another level", &|page| page.level ^= 1),
        ("has another low fence", &|page| page.low.0 -= 1),
        ("has another high fence", &|page| page.high = None),
        ("is empty", &|page| page.entries.clear()),
        ("has too many entries", &|page| page.entries = vec![page.entries[0]; 5]),
        ("has a key below its low fence", &|page| page.entries[0].0 = Key::default()),
        ("has a key at or above its high fence", &|page| {
            let at = page.entries.len() - 1;
            page.entries[at].0 = page.high.expect("not at the edge");
        }),
        ("has keys out of order", &|page| page.entries[1] = page.entries[0]),
    ];
    for level in 0..3 {
        for (what, how) in &defects {
            let mut map = map();
            let place = middle(&map, level);
            spoil(&mut map, place, how);
            for (walk, outcome) in walks(&map).into_iter().enumerate() {
                let error = outcome.expect_err(what);
                assert_eq!(error.kind(), Kind::Corrupt, "walk {walk}");
                let text = error.to_string();
                assert!(text.contains("map of volume 3, key") && text.contains(what), "{text}");
            }
        }
    }
}

#[test]
fn an_inner_page_whose_first_key_is_not_its_fence_is_an_error() {
    for level in 1..3 {
        let mut map = map();
        let place = middle(&map, level);
        spoil(&mut map, place, &|page| page.entries[0].0.0 += 1);
        for outcome in walks(&map) {
            let error = outcome.expect_err("a gap between children");
            assert!(error.to_string().contains("first key that is not its low fence"), "{error}");
        }
    }
}

#[test]
fn a_check_finds_pages_that_a_merge_would_have_joined() {
    let check = |forest: &Forest| block_on(forest.tree().check(&mut |_, _| ()));
    for (id, name) in [(TreeId::Segments, "segment table"), (TreeId::Volumes, "volume table")] {
        let mut forest = Forest::new(id, 8);
        let puts: Vec<_> = (0..30).map(|number| (Key(number, 0), Some([1; 16]))).collect();
        forest.merge(&puts);
        check(&forest).expect("as it was merged");
        let mut thin = forest;
        let place = middle(&thin, 0);
        spoil(&mut thin, place, &|page| page.entries.truncate(1));
        let error = check(&thin).expect_err("a leaf that is too empty").to_string();
        assert!(error.contains(name) && error.contains("a page of only 1 entries"), "{error}");
        let root = thin.root.expect("not empty").pointer.place;
        spoil(&mut thin, root, &|page| page.entries.truncate(1));
        let error = check(&thin).expect_err("a root that is one level too high").to_string();
        assert!(error.contains(name) && error.contains("the root has only one child"), "{error}");
    }
}

#[test]
fn a_map_page_that_splits_an_lba_is_an_error() {
    let mut fence = map();
    let place = middle(&fence, 1);
    spoil(&mut fence, place, &|page| page.entries[1].0.1 = 1);
    let mut twice = map();
    let place = middle(&twice, 0);
    spoil(&mut twice, place, &|page| page.entries[1].0 = Key(page.entries[0].0.0, 10));
    for (map, what) in [(fence, "has a fence inside an LBA"), (twice, "has two entries of one LBA")] {
        for outcome in walks(&map) {
            let error = outcome.expect_err(what);
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}

#[test]
fn a_page_that_points_to_itself_or_to_no_place_is_an_error() {
    for level in 1..4 {
        let mut itself = map();
        let place = middle(&itself, level);
        spoil(&mut itself, place, &|page| {
            for entry in &mut page.entries {
                entry.1 = pointer_at(place.segment.0).to_value();
            }
        });
        let mut nowhere = map();
        let place = middle(&nowhere, level);
        spoil(&mut nowhere, place, &|page| page.entries.iter_mut().for_each(|entry| entry.1 = [0; 16]));
        for outcome in walks(&itself).into_iter().chain(walks(&nowhere)) {
            assert_eq!(outcome.expect_err("no such child").kind(), Kind::Corrupt);
        }
    }
}

#[test]
fn a_root_of_an_impossible_level_is_an_error() {
    for level in [0, 2, 4, 12, 13, 255] {
        let mut map = map();
        map.root = map.root.map(|root| Root { level, ..root });
        for outcome in walks(&map) {
            assert_eq!(outcome.expect_err("another level").kind(), Kind::Corrupt, "{level}");
        }
    }
}

#[test]
fn a_tree_that_cannot_grow_further_is_an_error() {
    // Full pages down the left edge; nothing else is loaded.
    let mut deep = Forest::new(TreeId::Damage, 4);
    let mut high = None;
    for level in (0..=12u8).rev() {
        let number = 1000 + u64::from(level);
        let entries: Vec<(Key, Value)> = (0..4u64)
            .map(|child| match level {
                0 => (Key(child * 2, 0), [1; 16]),
                _ => (Key(child << (level * 4), 0), pointer_at(number - 1).to_value()),
            })
            .collect();
        let next = entries[1].0;
        let page = Page { tree: deep.id, level, generation: 0, low: Key::default(), high, entries };
        deep.memory.0.insert(pointer_at(number).place, Arc::new(page));
        high = Some(next);
    }
    deep.root = Some(Root { pointer: pointer_at(1012), level: 12 });
    let mut written = Written::default();
    let more = [(Key(1, 0), Some([2; 16]))];
    let outcome = block_on(deep.tree().merge(&mut written, 1, &more, &[], &mut |_, _| ()));
    let error = outcome.expect_err("a root above the highest level");
    assert!(error.to_string().contains("too deep"), "{error}");
}

/// A tree whose pages are sound but filled at random, down to one entry.
fn sparse(random: &mut Random, keys: u64) -> (Forest, BTreeMap<Key, Value>) {
    let mut forest = Forest::new(TreeId::Damage, 4);
    let model: BTreeMap<Key, Value> = (0..keys).map(|key| (Key(key * 2, 0), [1; 16])).collect();
    let mut entries: Vec<_> = model.iter().map(|(&key, &value)| (key, value)).collect();
    let mut number = 1_000_000;
    let mut level = 0;
    loop {
        let mut above = Vec::new();
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let most = rest.len().min(if random.below(3) > 0 { 1 } else { 4 });
            let count = if level >= 4 { rest.len().min(4) } else { most };
            let (page, behind) = rest.split_at(count);
            let low = if above.is_empty() { Key::default() } else { page[0].0 };
            let (high, entries) = (behind.first().map(|next| next.0), page.to_vec());
            number += 1;
            let page = Page { tree: forest.id, level, generation: 0, low, high, entries };
            forest.memory.0.insert(pointer_at(number).place, Arc::new(page));
            above.push((low, pointer_at(number).to_value()));
            rest = behind;
        }
        if above.len() == 1 {
            forest.root = Some(Root { pointer: pointer_at(number), level });
            return (forest, model);
        }
        entries = above;
        level += 1;
    }
}

#[test]
fn a_sparse_tree_is_merged_all_the_same() {
    for seed in 1..=300 {
        let mut random = Random::new(seed);
        let keys = 2 + random.below(120);
        let (mut forest, mut model) = sparse(&mut random, keys);
        for round in 0..10 {
            let density = 1 + random.below(12);
            let mut updates = Vec::new();
            for key in (0..keys * 2).map(|key| Key(key, 0)) {
                if random.below(density) == 0 {
                    let value = (random.below(4) == 0).then_some([3; 16]);
                    updates.push((key, value));
                    model.remove(&key);
                    model.extend(value.map(|value| (key, value)));
                }
            }
            let mut written = Written::starting(10_000 * (round + 1));
            let root = block_on(forest.tree().merge(&mut written, 1, &updates, &[], &mut |_, _| ()));
            forest.root = root.expect("a sparse tree");
            for place in written.retired {
                assert!(forest.memory.0.remove(&place).is_some());
            }
            forest.memory.0.extend(written.emitted);
            let contents: Vec<_> = model.iter().map(|(&key, &value)| (key, value)).collect();
            assert_eq!(forest.contents(), contents, "seed {seed}");
        }
    }
}

#[test]
fn whatever_is_in_the_pages_no_walk_panics_or_goes_on_for_ever() {
    let mut errors = 0;
    for seed in 1..=3000 {
        let mut random = Random::new(seed);
        let mut map = map();
        let places: Vec<_> = map.memory.0.keys().copied().collect();
        for _ in 0..=random.below(3) {
            let mut pick = |len: usize| usize::try_from(random.below(len as u64)).expect("small");
            let place = places[pick(places.len())];
            let other = places[pick(places.len())];
            let (what, at, to) = (pick(9), pick(4), pick(4));
            let page = Arc::make_mut(map.memory.0.get_mut(&place).expect("there"));
            let (at, to) = (at % page.entries.len().max(1), to % page.entries.len().max(1));
            if page.entries.is_empty() {
                continue;
            }
            match what {
                0 => page.entries[at].1 = pointer_at(other.segment.0).to_value(),
                1 => page.entries.swap(at, to),
                2 => drop(page.entries.remove(at)),
                3 => page.entries[at].0.0 = to as u64 * 31,
                4 => page.entries[at].0.1 = to as u64,
                5 => page.level = page.level.wrapping_add(u8::try_from(to).expect("small")).wrapping_sub(1),
                6 => page.low = page.entries[at].0,
                7 => page.high = Some(page.entries[at].0),
                _ => page.entries[at].1 = [u8::try_from(to).expect("small"); 16],
            }
        }
        errors += walks(&map).iter().filter(|outcome| outcome.is_err()).count();
    }
    assert!(errors > 9000, "{errors}");
}
