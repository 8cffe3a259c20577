//! Random histories of a tree against a `BTreeMap`.

use crate::format::page::{Key, TreeId, Value};
use crate::map::testing::{Dropped, Forest, Random, block_on};
use std::collections::BTreeMap;

type Model = BTreeMap<Key, Value>;
type Updates = BTreeMap<Key, Option<Value>>;

/// Four keys share a first half.
fn key(number: u64) -> Key {
    Key(number / 4, number % 4)
}

fn value(random: &mut Random) -> Value {
    [u8::try_from(random.below(200)).expect("small"); 16]
}

fn batch(random: &mut Random, model: &Model, keys: u64) -> Updates {
    let mut updates = Updates::new();
    let most = 1 + random.below(keys / 4);
    let size = 1 + random.below(most);
    let start = random.below(keys);
    match random.below(8) {
        0 | 1 => updates.extend((0..size).map(|_| (key(random.below(keys)), Some(value(random))))),
        2 => updates.extend((0..size).map(|_| (key(random.below(keys)), None))),
        3 => updates.extend((start..start + size).map(|number| (key(number), Some(value(random))))),
        4 => updates.extend((start..start + size * 3).map(|number| (key(number), None))),
        5 => {
            updates.extend(model.iter().filter(|_| random.below(3) == 0).map(|(&key, &old)| (key, Some(old))))
        }
        6 if random.below(8) == 0 => {
            updates.extend(model.keys().filter(|_| random.below(20) > 0).map(|&key| (key, None)));
        }
        _ => updates.extend((0..size).map(|_| {
            let put = random.below(2) == 0;
            (key(random.below(keys)), put.then(|| value(random)))
        })),
    }
    updates
}

fn apply(model: &mut Model, updates: &Updates) -> Dropped {
    let mut dropped = Dropped::new();
    for (&key, &new) in updates {
        let old = match new {
            Some(new) => model.insert(key, new),
            None => model.remove(&key),
        };
        dropped.extend(old.filter(|old| Some(*old) != new).map(|old| (key, old)));
    }
    dropped
}

fn entries(model: &Model) -> Vec<(Key, Value)> {
    model.iter().map(|(&key, &value)| (key, value)).collect()
}

fn compare(forest: &Forest, model: &Model, random: &mut Random, keys: u64) {
    assert_eq!(forest.contents(), entries(model));
    for _ in 0..5 {
        let at = key(random.below(keys + 8));
        assert_eq!(block_on(forest.tree().get(at)).expect("sound"), model.get(&at).copied());
        let last = model.range(..=at).next_back().map(|(&key, &value)| (key, value));
        assert_eq!(block_on(forest.tree().last_at_or_before(at)).expect("sound"), last);

        let to = key(random.below(keys + 8));
        let limit = usize::try_from(random.below(40)).expect("small");
        let found = block_on(forest.tree().scan(at, to, limit)).expect("sound");
        let all: Vec<_> = model.iter().filter(|(key, _)| (at..to).contains(key)).collect();
        let first: Vec<_> = all.iter().take(limit).map(|(key, value)| (**key, **value)).collect();
        assert_eq!(found.entries, first);
        match found.next {
            None => assert_eq!(all.len(), first.len(), "nothing may be left"),
            Some(next) => {
                assert!(first.last().is_none_or(|last| last.0 < next) && at <= next && next < to);
                assert!(all.get(first.len()).is_none_or(|(key, _)| next <= **key), "nothing is left out");
            }
        }
    }
}

fn history(seed: u64, fanout: usize, keys: u64, batches: usize) {
    let mut random = Random::new(seed);
    let mut forest = Forest::new(TreeId::Segments, fanout);
    let mut model = Model::new();
    for _ in 0..batches {
        let updates = batch(&mut random, &model, keys);
        let before = model.clone();
        let expected = apply(&mut model, &updates);
        let updates: Vec<_> = updates.into_iter().collect();
        let root = forest.root;
        assert_eq!(forest.merge(&updates), expected);
        if model == before {
            assert_eq!((forest.root, forest.emitted), (root, 0), "what changes nothing writes nothing");
        }
        compare(&forest, &model, &mut random, keys);
    }
}

#[test]
fn deep_trees_follow_the_model() {
    for seed in 1..=12 {
        history(seed, 4, 60 * seed, 500);
    }
}

#[test]
fn trees_of_real_pages_follow_the_model() {
    for seed in 1..=6 {
        history(seed, 126, 1500 * seed, 150);
    }
}

#[test]
fn odd_fanouts_follow_the_model() {
    for fanout in [5, 7, 9, 16] {
        history(1, fanout, 700, 500);
    }
}

#[test]
fn removing_ranges_bit_by_bit_follows_the_model() {
    for seed in 1..=150 {
        let mut random = Random::new(seed);
        let fanout = [4, 7, 126][usize::try_from(seed % 3).expect("small")];
        let keys = 400 * u64::try_from(fanout).expect("small") / 4;
        let mut forest = Forest::new(TreeId::Damage, fanout);
        let mut model = Model::new();
        for number in (0..keys).filter(|_| random.below(3) > 0) {
            model.insert(key(number), [1; 16]);
        }
        let puts: Vec<_> = model.iter().map(|(&key, &value)| (key, Some(value))).collect();
        forest.merge(&puts);

        let (mut from, to) = (key(random.below(keys)), key(random.below(keys)));
        let born_before = random.below(6);
        let leaves_max = usize::try_from(1 + random.below(5)).expect("small");
        let gone = |key: &Key| (from..to).contains(key) && key.1 < born_before;
        let mut expected: Dropped = entries(&model);
        expected.retain(|(key, _)| gone(key));
        model.retain(|key, _| !gone(key));

        let mut dropped = Dropped::new();
        loop {
            let (some, rest) = forest.remove_range((from, to), born_before, leaves_max);
            assert!(some.len() <= leaves_max * fanout, "{} of {leaves_max} leaves", some.len());
            dropped.extend(some);
            let Some(rest) = rest else { break };
            assert!(from < rest && rest < to, "the cursor moves on");
            assert!(model.range(from..rest).all(|(key, _)| key.1 >= born_before));
            from = rest;
        }
        assert_eq!(dropped, expected);
        assert_eq!(forest.contents(), entries(&model));
    }
}
