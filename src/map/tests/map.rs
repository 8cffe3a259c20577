//! Maps: the newest block of an LBA wins, a move applies only where the map still points.

use crate::format::page::{Key, TreeId};
use crate::map::edit::MapUpdate;
use crate::map::testing::{Dropped, Forest, Random, block_on, pointer_at};
use crate::types::{Lba, Number, Pointer, VolumeId};
use std::collections::BTreeMap;

type Model = BTreeMap<Lba, (Number, Pointer)>;

fn write(lba: u64, birth: u64, pointer: u64) -> MapUpdate {
    MapUpdate { lba: Lba(lba), birth: Number(birth), pointer: Some(pointer_at(pointer)), from: None }
}

fn trimmed(lba: u64, number: u64) -> MapUpdate {
    MapUpdate { pointer: None, ..write(lba, number, 0) }
}

fn moved(lba: u64, birth: u64, pointer: u64, from: u64) -> MapUpdate {
    MapUpdate { from: Some(pointer_at(from).place), ..write(lba, birth, pointer) }
}

fn entry(lba: u64, birth: u64, at: u64) -> (Key, [u8; 16]) {
    (Key(lba, birth), pointer_at(at).to_value())
}

fn map(fanout: usize) -> Forest {
    Forest::new(TreeId::Map(VolumeId(3)), fanout)
}

#[test]
fn a_newer_block_replaces_an_older_one_and_not_the_other_way_round() {
    let mut map = map(4);
    assert_eq!(map.merge_map(&[write(5, 2, 100), write(6, 3, 101)]), []);
    assert_eq!(map.merge_map(&[write(5, 7, 102)]), [entry(5, 2, 100)]);
    assert_eq!(map.merge_map(&[write(5, 4, 103)]), [entry(5, 4, 103)], "too late");
    assert_eq!(map.contents(), [entry(5, 7, 102), entry(6, 3, 101)]);
    let newest = |lba| block_on(map.tree().newest(Lba(lba))).expect("sound");
    assert_eq!(newest(5), Some((Number(7), pointer_at(102))));
    assert_eq!(newest(4), None);
    assert_eq!(newest(7), None);
}

#[test]
fn a_move_applies_only_where_the_map_points_to_the_place_it_leaves() {
    let mut map = map(4);
    map.merge_map(&[write(5, 2, 100)]);
    assert_eq!(map.merge_map(&[moved(5, 2, 200, 101)]), [entry(5, 2, 200)], "from elsewhere");
    assert_eq!(map.merge_map(&[moved(5, 1, 200, 100)]), [entry(5, 1, 200)], "of another birth");
    assert_eq!(map.merge_map(&[moved(6, 2, 200, 100)]), [entry(6, 2, 200)], "of what is gone");
    assert_eq!(map.emitted, 0);
    assert_eq!(map.merge_map(&[moved(5, 2, 200, 100)]), [entry(5, 2, 100)]);
    assert_eq!(map.merge_map(&[moved(5, 2, 200, 100)]), [], "done already");
    assert_eq!(map.emitted, 0);
    assert_eq!(map.contents(), [entry(5, 2, 200)]);
}

#[test]
fn touched_leaves_leave_their_places_and_nothing_else_changes() {
    let mut map = map(4);
    let first: Vec<_> = (0..100).map(|lba| write(lba, 1, lba)).collect();
    map.merge_map(&first);
    for keys in [vec![0], vec![50], vec![99], vec![7, 8, 9, 90], (0..100).collect()] {
        let (before, contents) = (map.reachable(), map.contents());
        let keys: Vec<Key> = keys.into_iter().map(|lba| Key(lba, 0)).collect();
        assert_eq!(map.touch(&[], &keys), []);
        assert_eq!(map.contents(), contents);
        block_on(map.tree().check(&mut |_, _| ())).expect("sound");
        for key in keys {
            for level in 0..=map.root.expect("not empty").level {
                let place = block_on(map.tree().page_at(level, key)).expect("sound").expect("there").place;
                assert!(!before.contains_key(&place), "{key:?} on level {level}");
            }
        }
    }
    assert_eq!(map.touch(&[write(50, 2, 500), trimmed(60, 2)], &[Key(51, 0), Key(60, 0)]).len(), 2);
    let mut empty = Forest::new(TreeId::Map(VolumeId(3)), 4);
    assert_eq!(empty.touch(&[], &[Key(5, 0)]), []);
    assert_eq!(empty.touch(&[write(5, 1, 1)], &[Key(2, 0), Key(9, 0)]), []);
    assert_eq!(empty.contents(), [entry(5, 1, 1)]);
}

#[test]
fn a_trim_removes_an_older_block_and_nothing_else() {
    let mut map = map(4);
    assert_eq!(map.merge_map(&[trimmed(5, 9)]), [], "of an empty map");
    assert_eq!(map.root, None);
    map.merge_map(&[write(5, 2, 100), write(6, 3, 101)]);
    let root = map.root;
    assert_eq!(map.merge_map(&[trimmed(4, 9), trimmed(5, 1), trimmed(6, 2), trimmed(7, 9)]), []);
    assert_eq!((map.emitted, map.root), (0, root), "absent or younger than the trim");
    assert_eq!(map.merge_map(&[trimmed(5, 3)]), [entry(5, 2, 100)]);
    assert_eq!(map.contents(), [entry(6, 3, 101)]);
    assert_eq!(map.merge_map(&[trimmed(6, 4)]), [entry(6, 3, 101)]);
    assert_eq!(map.root, None);
}

#[test]
fn all_births_of_an_lba_belong_into_one_leaf_wherever_pages_split() {
    let mut map = map(4);
    let high = u64::MAX / 2;
    let first: Vec<_> = (0..200).map(|lba| write(lba, high, 1000 + lba)).collect();
    map.merge_map(&first);
    for lba in 0..200 {
        let dropped = map.merge_map(&[write(lba, high + 1, 2000 + lba)]);
        assert_eq!(dropped, [entry(lba, high, 1000 + lba)]);
        assert_eq!(map.merge_map(&[write(lba, 1, 1)]), [entry(lba, 1, 1)]);
        assert_eq!(map.emitted, 0);
    }
    assert_eq!(map.contents().len(), 200);
}

#[test]
fn random_maps_follow_the_model() {
    for seed in 1..=20 {
        let mut random = Random::new(seed);
        let fanout = if seed % 4 == 0 { 126 } else { 4 };
        let lbas = 40 * seed;
        let mut map = map(fanout);
        let mut model = Model::new();
        let mut at = 1_000_000;
        let mut removed = 0;
        for round in 1..=200 {
            let density = 1 + random.below(20);
            let mut updates = Vec::new();
            let mut expected = Dropped::new();
            for lba in (0..lbas).filter(|_| random.below(density) == 0).collect::<Vec<_>>() {
                at += 1;
                let old = model.get(&Lba(lba)).copied();
                let birth = random.below(round * 10);
                let update = match (old, random.below(6)) {
                    (Some((birth, old)), 0) => moved(lba, birth.0, at, old.place.segment.0),
                    (_, 1) => moved(lba, birth, at, random.below(at)),
                    (Some((birth, old)), 2) => MapUpdate { birth, pointer: Some(old), ..write(lba, 0, 0) },
                    (Some((birth, _)), 3) => trimmed(lba, birth.0 + random.below(3)),
                    (_, 4) => trimmed(lba, birth),
                    _ => write(lba, birth, at),
                };
                updates.push(update);
                let Some(new) = update.pointer else {
                    if let Some((birth, pointer)) = old.filter(|old| old.0 <= update.birth) {
                        expected.push((Key(lba, birth.0), pointer.to_value()));
                        model.remove(&update.lba);
                        removed += 1;
                    }
                    continue;
                };
                let unchanged = old == Some((update.birth, new));
                let applies = match update.from {
                    None => old.is_none_or(|old| old.0 <= update.birth),
                    Some(from) => old.is_some_and(|old| old.0 == update.birth && old.1.place == from),
                };
                if unchanged {
                    continue;
                }
                let (gone, pointer) = match old {
                    _ if !applies => (update.birth, new),
                    Some(old) => old,
                    None => {
                        model.insert(update.lba, (update.birth, new));
                        continue;
                    }
                };
                expected.push((Key(lba, gone.0), pointer.to_value()));
                if applies {
                    model.insert(update.lba, (update.birth, new));
                }
            }
            assert_eq!(map.merge_map(&updates), expected);
            if random.below(5) == 0 {
                let from = random.below(lbas);
                let to = from + random.below(lbas);
                let number = random.below(round * 10);
                let (_, rest) = map.remove_range((Key(from, 0), Key(to, 0)), number, usize::MAX);
                assert_eq!(rest, None);
                model.retain(|lba, old| !(from..to).contains(&lba.0) || old.0.0 >= number);
            }
            let contents: Vec<_> =
                model.iter().map(|(lba, old)| (Key(lba.0, old.0.0), old.1.to_value())).collect();
            assert_eq!(map.contents(), contents);
            let lba = Lba(random.below(lbas));
            assert_eq!(block_on(map.tree().newest(lba)).expect("sound"), model.get(&lba).copied());
        }
        assert!(removed > 100, "{removed} trims removed something: the test is worth nothing");
    }
}
