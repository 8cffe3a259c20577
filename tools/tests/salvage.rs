//! Superblocks are destroyed: members are known by their chunks.

mod common;

use common::{Bench, MIB, expect, holey, padded, paritas};

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Garbage over both ends of a member, superblocks and some chunks.
fn behead(bench: &Bench, member: usize) {
    bench.garbage(member, 0, 2 * MIB);
    bench.garbage(member, 62 * MIB, 2 * MIB);
}

fn state(status: &serde_json::Value, slot: usize) -> String {
    status["members"][slot]["state"].as_str().expect("a word").to_owned()
}

#[test]
fn members_without_superblocks_are_known_by_their_chunks_and_rebuilt() {
    let data = holey(1, 9 * MIB + 345);
    for (first, second) in [(2, 3), (0, 5), (1, 4), (0, 1)] {
        let bench = Bench::new(6, "4+2");
        bench.import("v", &data);
        behead(&bench, 1);
        behead(&bench, 4);
        let status = expect(1, &["status", &bench.array(), "--json"]);
        assert!(status.err.contains("its superblocks are destroyed"), "{status:?}");
        assert_eq!((state(&status.json(), 1), state(&status.json(), 0)), ("out".into(), "active".into()));
        assert!(bench.export("v") == padded(&data));
        let done = expect(0, &["rebuild", &bench.array(), "--json"]).json();
        assert!(number(&done["written"]) > 0 && number(&done["lost"]) == 0, "{done}");
        assert!(number(&done["written"]) < 4 * MIB as u64, "only what is wrong: {done}");
        let status = expect(0, &["status", &bench.array(), "--json"]);
        assert!(status.err.is_empty(), "{status:?}");
        bench.lose(first);
        bench.lose(second);
        assert!(bench.export("v") == padded(&data), "{first} and {second}");
    }
}

#[test]
fn what_a_member_without_superblocks_holds_is_read_where_nothing_else_is_left() {
    let bench = Bench::new(6, "4+2");
    let data = holey(2, 5 * MIB);
    bench.import("v", &data);
    bench.garbage(0, 0, MIB);
    bench.garbage(0, 63 * MIB, MIB);
    bench.lose(2);
    bench.lose(3);
    // Three current members of six are too few to write; nothing is lost all the same.
    let file = bench.beside("out");
    expect(0, &["export", &bench.volume("v"), file.to_str().expect("UTF-8")]);
    assert!(std::fs::read(file).expect("exported") == padded(&data));
}

#[test]
fn an_array_that_moved_and_one_named_by_a_member_know_theirs_too() {
    let bench = Bench::new(3, "2+1");
    let data = holey(3, 9 * MIB);
    bench.import("v", &data);
    behead(&bench, 1);
    let moved = bench.beside("moved");
    std::fs::rename(bench.array(), &moved).expect("moved");
    for place in [moved.clone(), moved.join("m1"), moved.join("m2")] {
        let status = expect(1, &["status", place.to_str().expect("UTF-8")]);
        assert!(status.err.contains("member 1") && status.err.contains("destroyed"), "{status:?}");
    }
    std::fs::rename(moved.join("m1"), moved.join("renamed")).expect("moved");
    let place = moved.join("m2");
    expect(1, &["rebuild", place.to_str().expect("UTF-8")]);
    expect(0, &["rebuild", moved.to_str().expect("UTF-8")]);
    expect(0, &["status", moved.to_str().expect("UTF-8")]);
}

#[test]
fn a_stranger_and_a_copy_are_no_members() {
    let bench = Bench::new(3, "2+1");
    let data = holey(4, 9 * MIB);
    bench.import("v", &data);
    std::fs::copy(bench.member(1), bench.beside("array/copy")).expect("copied");
    behead(&bench, 1);
    std::fs::copy(bench.member(1), bench.beside("array/another")).expect("copied");
    // With superblocks it is the member, whatever its name; what has none is left alone.
    let status = paritas(&["status", &bench.array()]);
    assert_eq!(status.code, 0, "{status:?}");
    assert!(status.err.contains("m1 ") && status.err.contains("another "), "{status:?}");
    std::fs::remove_file(bench.beside("array/copy")).expect("removed");
    std::fs::remove_file(bench.member(1)).expect("removed");
    // Another file at its path holds no chunks, and is no member either.
    std::fs::write(bench.member(1), common::noise(1, 64 * MIB)).expect("written");
    std::fs::rename(bench.beside("array/another"), bench.beside("another")).expect("moved");
    let status = expect(1, &["status", &bench.array()]);
    assert!(status.err.contains("left alone") && status.err.contains("is missing"), "{status:?}");
}

/// Zeros over all superblocks of a member.
fn unname(bench: &Bench, member: usize) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(bench.member(member)).expect("opened");
    for offset in [0, 63 * MIB] {
        file.write_all_at(&vec![0; MIB], offset as u64).expect("written");
    }
}

#[test]
fn without_any_superblock_salvage_brings_back_every_volume() {
    let bench = Bench::new(6, "4+2");
    let (first, second) = (holey(5, 9 * MIB + 77), holey(6, 3 * MIB));
    bench.import("one", &first);
    expect(0, &["volume", "create", &bench.volume("two"), "--size", "4M", "--scheme", "mirror3"]);
    bench.import("two", &second);
    expect(0, &["volume", "create", &bench.volume("gone"), "--size", "4M"]);
    bench.import("gone", &second);
    expect(0, &["volume", "delete", &bench.volume("gone")]);
    // Trimmed, and written anew.
    bench.import("one", &[vec![0; 2 * MIB], first[2 * MIB..].to_vec()].concat());
    bench.import("one", &first[..MIB]);
    let list = expect(0, &["volume", "list", &bench.array(), "--json"]).json();
    expect(65, &["salvage", &bench.array()]);
    (0..6).for_each(|member| unname(&bench, member));
    expect(2, &["status", &bench.array()]);
    let done = expect(0, &["salvage", &bench.array(), "--json"]).json();
    assert_eq!(done["missing"], serde_json::json!([]), "{done}");
    let now = expect(0, &["volume", "list", &bench.array(), "--json"]).json();
    assert_eq!(now, list);
    let mut one = padded(&first);
    one[MIB..2 * MIB].fill(0);
    let two = [second.clone(), vec![0; MIB]].concat();
    assert!(bench.export("one") == one && bench.export("two") == two);
    expect(0, &["status", &bench.array()]);
    expect(65, &["salvage", &bench.array()]);
    bench.lose(0);
    bench.lose(3);
    bench.import("more", &second);
    assert!(bench.export("one") == one && bench.export("two") == two && bench.export("more") == second);
}

#[test]
fn salvage_needs_no_more_members_than_reading_does() {
    let bench = Bench::new(6, "4+2");
    let data = holey(7, 6 * MIB);
    bench.import("v", &data);
    (0..6).for_each(|member| unname(&bench, member));
    bench.lose(1);
    bench.garbage(4, MIB, 5 * MIB);
    let done = expect(1, &["salvage", &bench.array(), "--json"]).json();
    assert_eq!(done["missing"], serde_json::json!([1]), "{done}");
    assert!(bench.export("v") == padded(&data));
}

#[test]
fn a_segment_of_metadata_that_is_gone_on_all_members_is_made_anew_from_headers() {
    let bench = Bench::new(6, "4+2");
    let data = holey(8, 6 * MIB);
    bench.import("v", &data);
    // Pages go to the last chunks of the members.
    (0..6).for_each(|member| bench.garbage(member, 55 * MIB, 8 * MIB));
    expect(2, &["status", &bench.array()]);
    let done = expect(0, &["salvage", &bench.array()]);
    assert!(done.err.contains("may be there again"), "{done:?}");
    assert!(bench.export("salvaged-1") == padded(&data)[..data.len()]);
}

#[test]
fn an_array_of_which_too_many_members_are_away_is_not_salvaged_without_them() {
    let bench = Bench::new(4, "2+1");
    bench.import("v", &common::noise(21, common::MIB));
    bench.lose(1);
    bench.lose(2);
    let refused = expect(65, &["salvage", &bench.array()]);
    assert!(refused.err.contains("bring others back"), "{refused:?}");
}
