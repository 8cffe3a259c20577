//! Members fail, are replaced, come back: the commands on real files.

mod common;

use common::{Bench, MIB, expect, holey, padded, paritas};

fn healthy(bench: &Bench) {
    let status = expect(0, &["status", &bench.array(), "--json"]).json();
    assert_eq!(status["jobs"], serde_json::json!([]), "{status}");
}

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn two_lost_members_are_replaced_and_then_any_other_two_may_be_lost() {
    let data = holey(1, 7 * MIB + 123);
    for (first, second) in [(2, 3), (2, 5), (0, 5)] {
        let bench = Bench::new(6, "4+2");
        bench.import("v", &data);
        bench.lose(1);
        bench.lose(4);
        let (one, four) = (bench.beside("array/new1"), bench.beside("array/new4"));
        let done =
            expect(0, &["replace", &bench.array(), "m1", one.to_str().expect("UTF-8"), "--json"]).json();
        assert!(number(&done["written"]) >= MIB as u64 && number(&done["lost"]) == 0, "{done}");
        expect(1, &["status", &bench.array()]);
        let gone = bench.member(4);
        expect(0, &["replace", &bench.array(), gone.to_str().expect("UTF-8"), four.to_str().expect("UTF-8")]);
        healthy(&bench);
        expect(65, &["replace", &bench.array(), "m1", bench.beside("array/x").to_str().expect("UTF-8")]);
        assert!(!bench.beside("array/x").exists(), "what is refused has created nothing");
        bench.lose(first);
        bench.lose(second);
        assert!(bench.export("v") == padded(&data), "{first} and {second}");
    }
}

#[test]
fn a_member_that_still_reads_is_read_while_it_is_replaced() {
    let bench = Bench::new(3, "2+1");
    let data = holey(2, 5 * MIB);
    bench.import("v", &data);
    let new = bench.beside("array/new");
    let done = expect(0, &["replace", &bench.array(), "0", new.to_str().expect("UTF-8"), "--json"]).json();
    let (read, written) = (number(&done["read"]), number(&done["written"]));
    assert!(read <= written, "from the member itself, not from two others: {done}");
    healthy(&bench);
    bench.lose(0);
    bench.lose(1);
    assert!(bench.export("v") == padded(&data));
    // What was replaced is no member any more, and passes for none.
    assert!(!paritas(&["status", &bench.array()]).err.contains("m0"));
}

#[test]
fn a_replaced_member_says_that_it_left_and_may_be_used_again() {
    let bench = Bench::new(3, "2+1");
    let data = holey(4, 5 * MIB);
    bench.import("v", &data);
    let (old, new) = (bench.member(0), bench.beside("array/new"));
    let (old, new) = (old.to_str().expect("UTF-8"), new.to_str().expect("UTF-8"));
    expect(0, &["replace", &bench.array(), "0", new]);
    assert!(paritas(&["status", &bench.array()]).err.contains("m0 was replaced and is no member any more"));
    let alone = bench.beside("alone");
    std::fs::create_dir(&alone).expect("made");
    std::fs::copy(old, alone.join("m0")).expect("copied");
    let alone = expect(2, &["status", alone.to_str().expect("UTF-8")]);
    assert!(alone.err.contains("is no member of an array and holds none"), "{}", alone.err);
    expect(0, &["replace", &bench.array(), new, old]);
    healthy(&bench);
    bench.lose(1);
    assert!(bench.export("v") == padded(&data));
}

#[test]
fn a_blank_file_takes_the_place_of_what_was_at_its_path() {
    let bench = Bench::new(4, "mirror3");
    let data = holey(3, 3 * MIB);
    bench.import("v", &data);
    bench.lose(2);
    std::fs::write(bench.member(2), b"").expect("made");
    let path = bench.member(2);
    let path = path.to_str().expect("UTF-8");
    expect(0, &["replace", &bench.array(), path, path]);
    healthy(&bench);
    let size = std::fs::metadata(path).expect("there").len();
    assert_eq!(size, 64 * MIB as u64, "as large as the old one");
    bench.lose(0);
    bench.lose(1);
    assert!(bench.export("v") == padded(&data));
}

#[test]
fn what_holds_something_is_replaced_with_only_by_force() {
    let bench = Bench::new(3, "2+1");
    bench.import("v", &holey(4, MIB));
    let new = bench.file("array/other", &common::noise(1, 70 * MIB));
    expect(65, &["replace", &bench.array(), "m1", &new]);
    healthy(&bench);
    expect(65, &["replace", &bench.array(), "m1", bench.member(2).to_str().expect("UTF-8"), "--force"]);
    expect(0, &["replace", &bench.array(), "m1", &new, "--force"]);
    healthy(&bench);
}

#[test]
fn a_member_that_failed_by_hand_stays_out_until_it_is_replaced_even_by_itself() {
    let bench = Bench::new(3, "2+1");
    let data = holey(5, 2 * MIB);
    bench.import("v", &data);
    expect(0, &["fail", &bench.array(), "m1"]);
    expect(65, &["fail", &bench.array(), "m1"]);
    let refused = expect(65, &["fail", &bench.array(), "m2"]);
    assert!(refused.err.contains("m2"), "{refused:?}");
    expect(1, &["status", &bench.array()]);
    expect(1, &["rebuild", &bench.array()]);
    assert!(bench.export("v") == padded(&data));
    let own = bench.member(1);
    let own = own.to_str().expect("UTF-8");
    expect(65, &["replace", &bench.array(), "m1", own]);
    expect(0, &["replace", &bench.array(), "m1", own, "--force"]);
    healthy(&bench);
    bench.lose(0);
    assert!(bench.export("v") == padded(&data));
}

#[test]
fn a_member_that_comes_back_gets_only_what_it_missed() {
    let bench = Bench::new(4, "2+1");
    let (old, new) = (holey(6, 12 * MIB), holey(7, 2 * MIB));
    bench.import("old", &old);
    let away = bench.beside("away");
    std::fs::rename(bench.member(3), &away).expect("moved");
    bench.import("new", &new);
    expect(1, &["status", &bench.array()]);
    std::fs::rename(&away, bench.member(3)).expect("moved back");
    let done = expect(0, &["rebuild", &bench.array(), "--json"]).json();
    assert!(number(&done["written"]) < MIB as u64, "{done}");
    healthy(&bench);
    for i in 0..4 {
        std::fs::rename(bench.member(i), &away).expect("moved");
        assert!(bench.export("old") == padded(&old) && bench.export("new") == padded(&new), "without {i}");
        std::fs::rename(&away, bench.member(i)).expect("moved back");
        expect(0, &["rebuild", &bench.array()]);
    }
}

#[test]
fn a_rebuild_onto_free_space_needs_no_new_member_and_keeps_to_its_limit() {
    let bench = Bench::new(5, "2+1");
    let data = holey(8, 4 * MIB);
    bench.import("v", &data);
    bench.lose(1);
    let began = std::time::Instant::now();
    let done = expect(1, &["rebuild", &bench.array(), "--limit", "1M", "--json"]).json();
    let written = number(&done["written"]);
    assert!(written > 0 && number(&done["missing"]) == 0, "{done}");
    let least = std::time::Duration::from_millis(((written * 1000) >> 20).saturating_sub(1000));
    assert!(began.elapsed() >= least, "{written} bytes at 1 MiB a second");
    bench.lose(0);
    assert!(bench.export("v") == padded(&data));
    expect(64, &["rebuild", &bench.array(), "--limit", "0"]);
}

#[test]
fn a_replacement_that_is_not_waited_for_is_filled_by_rebuild() {
    let bench = Bench::new(3, "2+1");
    let data = holey(9, 4 * MIB);
    bench.import("v", &data);
    bench.lose(0);
    let new = bench.beside("array/new");
    expect(0, &["replace", &bench.array(), "m0", new.to_str().expect("UTF-8"), "--no-wait"]);
    expect(1, &["status", &bench.array()]);
    assert!(bench.export("v") == padded(&data));
    expect(0, &["rebuild", &bench.array()]);
    healthy(&bench);
    bench.lose(2);
    assert!(bench.export("v") == padded(&data));
}

#[test]
fn a_scrub_heals_whatever_lies_on_two_members_so_that_two_others_may_be_lost() {
    let bench = Bench::new(6, "4+2");
    let data = holey(10, 9 * MIB);
    bench.import("v", &data);
    for i in [1, 4] {
        // Parity, headers, metadata, and most superblocks: the last two slots of a ring are spared.
        bench.garbage(i, MIB, 10 * MIB);
        bench.garbage(i, 63 * MIB, 3 * MIB / 4);
    }
    let done = expect(0, &["scrub", &bench.array(), "--json"]).json();
    assert!(number(&done["healed"]) > 0 && number(&done["superblocks"]) > 0, "{done}");
    assert_eq!(number(&done["lost"]), 0, "{done}");
    let again = expect(0, &["scrub", &bench.array(), "--json"]).json();
    assert_eq!((number(&again["healed"]), number(&again["superblocks"])), (0, 0), "{again}");
    assert!(number(&again["read"]) > 9 * MIB as u64 / 4);
    healthy(&bench);
    bench.lose(0);
    bench.lose(5);
    assert!(bench.export("v") == padded(&data));
}

#[test]
fn a_scrub_of_what_is_beyond_repair_lists_it() {
    let bench = Bench::new(3, "2+1");
    let data = common::noise(11, 4 * MIB);
    bench.import("v", &data);
    for i in [0, 1] {
        bench.garbage(i, 3 * MIB / 2, MIB);
    }
    let done = expect(2, &["scrub", &bench.array(), "--json"]).json();
    assert!(number(&done["lost"]) > 0, "{done}");
    let status = expect(2, &["status", &bench.array(), "--json"]).json();
    assert!(!status["damage"].as_array().expect("a list").is_empty(), "{status}");
}
