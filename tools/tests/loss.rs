//! What goes in comes out, whichever m members are gone and whatever garbage lies on as many.

mod common;

use common::{BLOCK, Bench, MIB, expect, holey, noise, padded};
use std::os::unix::fs::MetadataExt;

#[test]
fn a_file_with_holes_comes_back_as_it_was_and_sparse() {
    let bench = Bench::new(6, "4+2");
    let data = holey(1, 9 * MIB + 1000);
    bench.import("v", &data);
    assert!(bench.export("v") == padded(&data));
    let exported = std::fs::metadata(bench.beside("exported")).expect("exported");
    assert!(exported.blocks() * 512 < 8 * MIB as u64, "{} blocks", exported.blocks());
    let list = expect(0, &["volume", "list", &bench.array(), "--json"]).json();
    let used = list["volumes"][0]["used"].as_u64().expect("a number");
    let full = data.chunks(BLOCK).filter(|block| block.iter().any(|byte| *byte != 0)).count();
    assert_eq!(used, (full * BLOCK) as u64, "zeros take no space");
}

#[test]
fn a_second_import_keeps_what_lies_behind_the_file_and_zeros_what_is_zero() {
    let bench = Bench::new(4, "mirror");
    let old = noise(2, 2 * MIB);
    bench.import("v", &old);
    let mut new = holey(3, MIB + 1234);
    new[..2 * BLOCK].fill(0);
    bench.import("v", &new);
    let mut expected = old;
    expected[..new.len()].copy_from_slice(&new);
    assert!(bench.export("v") == expected);
    let large = bench.file("large", &noise(4, 2 * MIB + 1));
    expect(65, &["import", &large, &bench.volume("v")]);
    assert!(bench.export("v") == expected);
}

#[test]
fn what_comes_in_on_stdin_makes_a_volume_as_large_as_it_is() {
    use std::io::Write;
    let bench = Bench::new(2, "mirror");
    let data = holey(5, 3 * MIB + 5000);
    let target = bench.volume("v");
    let mut child = common::command(&["import", "-", &target]);
    let mut child = child.stdin(std::process::Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("piped").write_all(&data).expect("taken");
    assert!(child.wait().expect("ended").success());
    let out = common::command(&["export", &target, "-"]).output().expect("ran");
    assert!(out.status.success());
    assert!(out.stdout == padded(&data));
    expect(64, &["import", "-", &bench.volume("nothing")]);
    expect(65, &["export", &bench.volume("nothing"), "-"]);
}

#[test]
fn any_two_of_six_members_may_be_lost_at_4_2() {
    let data = holey(6, 3 * MIB + 77);
    for first in 0..6 {
        for second in first + 1..6 {
            let bench = Bench::new(6, "4+2");
            bench.import("v", &data);
            bench.lose(first);
            bench.lose(second);
            assert_eq!(common::paritas(&["status", &bench.array()]).code, 1, "{first} and {second}");
            assert!(bench.export("v") == padded(&data), "{first} and {second}");
            // Two more writes, and an opening, without them.
            bench.import("w", &data);
            assert!(bench.export("w") == padded(&data), "{first} and {second}, written since");
        }
    }
}

#[test]
fn a_volume_stronger_than_its_array_survives_what_its_own_scheme_says() {
    let (weak, strong) = (noise(8, 3 * MIB), holey(9, 2 * MIB));
    let bench = Bench::new(4, "mirror");
    bench.import("weak", &weak);
    let volume = bench.volume("strong");
    expect(0, &["volume", "create", &volume, "--size", "2M", "--scheme", "mirror3"]);
    bench.import("strong", &strong);
    let volumes = |code| {
        let status = expect(code, &["status", &bench.array(), "--json"]).json();
        let row = |volume: &serde_json::Value| {
            (
                volume["scheme"].as_str().expect("text").to_owned(),
                volume["tolerance"].as_i64().expect("a number"),
            )
        };
        status["volumes"].as_array().expect("a list").iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(volumes(0), [("mirror".to_owned(), 1), ("mirror3".to_owned(), 2)]);
    bench.lose(0);
    assert_eq!(volumes(1), [("mirror".to_owned(), 0), ("mirror3".to_owned(), 1)]);
    bench.lose(1);
    assert_eq!(volumes(2), [("mirror".to_owned(), -1), ("mirror3".to_owned(), 0)]);
    assert!(bench.export("strong") == padded(&strong));
    // The weak one has lost what lay on both, and nothing else can be wrong.
    expect(2, &["export", &bench.volume("weak"), bench.beside("lost").to_str().expect("UTF-8")]);
    bench.import("strong", &weak[..2 * MIB]);
    assert!(bench.export("strong") == weak[..2 * MIB]);
}

#[test]
fn two_of_four_members_may_be_lost_at_mirror3() {
    let data = holey(7, 2 * MIB);
    for (first, second) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        let bench = Bench::new(4, "mirror3");
        bench.import("v", &data);
        bench.lose(first);
        bench.lose(second);
        assert!(bench.export("v") == data, "{first} and {second}");
    }
}

#[test]
fn three_of_twelve_members_may_be_lost_at_8_3() {
    let data = holey(8, 6 * MIB);
    for lost in [[0, 1, 2], [3, 7, 11], [9, 10, 11], [0, 5, 6]] {
        let bench = Bench::new(12, "8+3");
        bench.import("v", &data);
        lost.into_iter().for_each(|member| bench.lose(member));
        assert!(bench.export("v") == data, "{lost:?}");
    }
}

#[test]
fn garbage_over_much_of_two_members_loses_nothing() {
    let data = holey(9, 5 * MIB);
    let end = 64 * MIB;
    // Parts of two members, whole blocks or not: superblocks, chunks, everything but a little.
    let areas: &[[(usize, usize); 2]] = &[
        [(0, MIB), (0, MIB)],
        [(end - MIB, MIB), (0, MIB)],
        [(0, end - BLOCK), (BLOCK, end - BLOCK)],
        [(MIB, 10 * MIB), (MIB, 10 * MIB)],
        [(0, 32 * MIB), (32 * MIB, 32 * MIB)],
        [(300_001, 2_777_777), (1_234_567, 7_654_321)],
        [(MIB + 64, 3 * MIB), (0, end - MIB)],
    ];
    for (trial, [first, second]) in areas.iter().enumerate() {
        let bench = Bench::new(6, "4+2");
        bench.import("v", &data);
        let (a, b) = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (0, 3)][trial];
        bench.garbage(a, first.0, first.1);
        bench.garbage(b, second.0, second.1);
        assert!(bench.export("v") == data, "{first:?} of {a} and {second:?} of {b}");
        // And once more, after what was met was healed or put out of use.
        assert!(bench.export("v") == data, "again: {first:?} of {a} and {second:?} of {b}");
    }
}

#[test]
fn beyond_m_the_rest_is_exported_and_what_is_lost_is_named() {
    let bench = Bench::new(6, "4+2");
    let data = noise(10, 4 * MIB);
    bench.import("v", &data);
    for member in 0..3 {
        bench.garbage(member, 2 * MIB, 200_000);
    }
    let file = bench.beside("out").to_str().expect("UTF-8").to_owned();
    let ended = expect(2, &["export", &bench.volume("v"), &file, "--json"]);
    let lost = ended.json()["lost"].as_array().expect("a list").clone();
    let out = std::fs::read(&file).expect("exported");
    assert_eq!(out.len(), data.len());
    let mut expected = data.clone();
    for range in &lost {
        let at = |field: &str| usize::try_from(range[field].as_u64().expect("a number")).expect("small");
        let (offset, length) = (at("offset"), at("length"));
        expected[offset..offset + length].fill(0);
        assert!(ended.err.contains(&format!("{length} bytes at {offset}")), "{ended:?}");
    }
    assert!(!lost.is_empty() && out == expected, "{lost:?}");
    let status = expect(2, &["status", &bench.array(), "--json"]).json();
    assert_eq!(status["state"], "damaged");
    let listed: u64 = status["damage"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            assert_eq!(entry["volume"], "v");
            assert!(entry["time"].as_u64().expect("a number") > 1_600_000_000);
            entry["length"].as_u64().expect("a number")
        })
        .sum();
    let exported: u64 = lost.iter().map(|range| range["length"].as_u64().expect("a number")).sum();
    assert_eq!(listed, exported);
    // Writing anew what was lost clears it.
    bench.import("v", &data);
    assert!(bench.export("v") == data);
    assert_eq!(expect(0, &["status", &bench.array(), "--json"]).json()["damage"], serde_json::json!([]));
}

#[test]
fn with_too_few_members_what_can_be_read_is_read() {
    let bench = Bench::new(6, "4+2");
    let data = holey(11, MIB);
    bench.import("v", &data);
    (0..3).for_each(|member| bench.lose(member));
    let status = expect(2, &["status", &bench.array(), "--json"]).json();
    assert_eq!(status["state"], "failed");
    assert_eq!(status["members"].as_array().expect("a list").len(), 6);
    let ended =
        common::paritas(&["export", &bench.volume("v"), bench.beside("out").to_str().expect("UTF-8")]);
    assert_eq!(ended.code, 2, "{ended:?}");
    expect(2, &["import", &bench.file("more", &data), &bench.volume("w")]);
}

#[test]
fn clear_acknowledges_damage_and_the_blocks_stay_lost_until_overwritten() {
    let bench = Bench::new(6, "4+2");
    let data = noise(12, 4 * MIB);
    bench.import("v", &data);
    for member in 0..3 {
        bench.garbage(member, 2 * MIB, 200_000);
    }
    let file = bench.beside("out").to_str().expect("UTF-8").to_owned();
    let export = ["export", &bench.volume("v"), &file];
    expect(2, &export);
    let status = expect(2, &["status", &bench.array(), "--json"]).json();
    let cleared = expect(0, &["clear", &bench.array(), "--json"]).json();
    assert_eq!(cleared["cleared"], status["damage"]);
    let status = expect(0, &["status", &bench.array(), "--json"]).json();
    assert_eq!(status["damage"], serde_json::json!([]));
    for member in status["members"].as_array().expect("a list") {
        assert!(member["errors"].as_object().expect("counts").values().all(|count| *count == 0), "{member}");
    }
    expect(2, &export);
    expect(2, &["status", &bench.array()]);
    bench.import("v", &data);
    let text = expect(0, &["clear", &bench.array()]).out;
    assert!(text.starts_with("no damage was recorded"), "{text}");
    assert!(bench.export("v") == data);
    expect(0, &["status", &bench.array()]);
    expect(2, &["clear", bench.beside("nothing").to_str().expect("UTF-8")]);
    expect(64, &["clear"]);
}
