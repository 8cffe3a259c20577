//! Failures that are rehearsed: reads are exact whatever is injected, nobody overlooks it, and it ends when it is
//! removed.

mod common;

use common::{Bench, Ended, MIB, expect, holey, noise, padded, paritas};
use serde_json::{Value, json};

/// Between the superblocks of a member.
const DATA: &str = "1M+62M";

fn inject(bench: &Bench, code: i32, args: &[&str]) -> Ended {
    let array = bench.array();
    let mut all = vec!["inject", array.as_str()];
    all.extend(args);
    expect(code, &all)
}

fn status(bench: &Bench) -> Value {
    paritas(&["status", &bench.array(), "--json"]).json()
}

fn errors(status: &Value, slot: usize, kind: &str) -> u64 {
    status["members"][slot]["errors"][kind].as_u64().expect("a number")
}

fn listed(bench: &Bench) -> Vec<String> {
    let list = inject(bench, 0, &["--list", "--json"]).json();
    let faults = list["injected"].as_array().expect("a list").iter();
    faults.map(|fault| format!("{} {}", fault["slot"], fault["kind"].as_str().expect("text"))).collect()
}

#[test]
fn what_goes_in_comes_out_whatever_strikes_two_members_and_status_says_what_happened() {
    let (old, new) = (holey(1, 5 * MIB), noise(2, 3 * MIB));
    // What is injected, the state that the members are in then, and which errors were counted.
    let cases: &[(&[&str], &str, &str)] = &[
        (&["read-error", "--range", DATA], "active", "read"),
        (&["read-error", "--range", DATA, "--chance", "20%"], "active", "read"),
        (&["read-error"], "out", ""),
        (&["write-error"], "out", ""),
        (&["write-error", "--range", DATA], "out", "write"),
        (&["flush-error"], "out", ""),
        (&["slow", "--delay", "3ms"], "active", ""),
        (&["lost-write", "--range", DATA], "active", "checksum"),
        (&["misdirected-write", "--range", DATA, "--count", "3"], "active", ""),
        (&["bit-flip", "--range", DATA], "active", "checksum"),
        (&["vanish"], "missing", ""),
    ];
    for (fault, state, counted) in cases {
        let bench = Bench::new(6, "4+2");
        bench.import("old", &old);
        for member in ["m2", "4"] {
            let mut args = vec![member];
            args.extend(*fault);
            inject(&bench, 0, &args);
        }
        assert!(bench.export("old") == padded(&old), "{fault:?}");
        bench.import("new", &new);
        assert!(bench.export("new") == new, "{fault:?}");
        assert!(bench.export("old") == padded(&old), "{fault:?}");
        let now = status(&bench);
        for slot in [2, 4] {
            assert_eq!(now["members"][slot]["state"], *state, "{fault:?}: {now}");
            if !counted.is_empty() {
                assert!(errors(&now, slot, counted) > 0, "{fault:?}: {now}");
            }
        }
        assert_eq!(errors(&now, 0, "read") + errors(&now, 0, "write"), 0, "{fault:?}: {now}");
        assert_eq!(now["injected"].as_array().map(Vec::len), Some(2), "{fault:?}");
        inject(&bench, 0, &["--remove", "all"]);
        let scrub = expect(0, &["scrub", &bench.array(), "--json"]);
        assert!(!scrub.err.contains("on purpose"), "{fault:?}: {scrub:?}");
        assert_eq!(scrub.json()["lost"], 0, "{fault:?}: {scrub:?}");
        expect(0, &["status", &bench.array()]);
        bench.lose(0);
        bench.lose(5);
        assert!(bench.export("old") == padded(&old), "{fault:?}: as redundant as ever");
        assert!(bench.export("new") == new, "{fault:?}: as redundant as ever");
    }
}

#[test]
fn nobody_overlooks_what_is_injected() {
    let bench = Bench::new(4, "2+2");
    bench.import("v", &noise(3, MIB));
    let (array, volume) = (bench.array(), bench.volume("v"));
    let out = bench.beside("out");
    let (out, file) = (out.to_str().expect("UTF-8"), bench.file("data", &noise(3, MIB)));
    inject(&bench, 0, &["m1", "read-error", "--range", DATA, "--count", "7"]);
    let commands: &[&[&str]] = &[
        &["status", &array],
        &["volume", "list", &array],
        &["volume", "create", &bench.volume("w"), "--size", "1M"],
        &["volume", "resize", &bench.volume("w"), "--size", "2M"],
        &["volume", "delete", &bench.volume("w")],
        &["import", &file, &volume],
        &["export", &volume, out],
        &["scrub", &array],
        &["rebuild", &array],
        &["clear", &array],
        &["inject", &array, "--list"],
        &["inject", &array, "m1", "slow", "--delay", "1ms"],
    ];
    for args in commands {
        let mut args = args.to_vec();
        args.push("--json");
        let ended = expect(0, &args);
        assert!(ended.err.contains("faults are injected into member 1"), "{args:?}: {ended:?}");
        assert!(ended.err.contains("on purpose: read-error range=1M+62M count=7"), "{args:?}: {ended:?}");
        ended.json();
    }
    let exported = expect(0, &["export", &volume, out]);
    assert!(exported.err.contains("read-error range=1M+62M count=7: struck 7 times"), "{exported:?}");
    let text = expect(0, &["status", &array]).out;
    assert!(text.contains("injected on purpose\n  member 1 ("), "{text}");
    let expected = json!([
        { "slot": 1, "path": bench.member(1), "kind": "read-error", "offset": MIB, "length": 62 * MIB,
          "chance": 1.0, "count": 7, "delay": null },
        { "slot": 1, "path": bench.member(1), "kind": "slow", "offset": null, "length": null,
          "chance": 1.0, "count": null, "delay": 0.001 },
    ]);
    assert_eq!(status(&bench)["injected"], expected);
    assert_eq!(inject(&bench, 0, &["--list", "--json"]).json()["injected"], expected);
}

#[test]
fn faults_are_listed_and_removed_by_member_and_go_where_the_members_go() {
    let bench = Bench::new(3, "2+1");
    let data = noise(4, MIB);
    bench.import("v", &data);
    assert_eq!(listed(&bench), [""; 0]);
    inject(&bench, 0, &["0", "bit-flip", "--chance", "1/1000"]);
    inject(&bench, 0, &["m1", "vanish"]);
    inject(&bench, 0, &[bench.member(1).to_str().expect("UTF-8"), "hang", "--count", "1"]);
    assert_eq!(listed(&bench), ["0 bit-flip", "1 vanish", "1 hang"]);
    assert_eq!(status(&bench)["members"][1]["state"], "missing");
    // The members are elsewhere now, under other names, and so are their faults.
    std::fs::rename(bench.beside("array/m1"), bench.beside("array/other")).expect("renamed");
    std::fs::rename(bench.beside("array/m1.inject"), bench.beside("array/other.inject")).expect("renamed");
    let moved = bench.beside("moved");
    std::fs::rename(bench.array(), &moved).expect("moved");
    std::fs::rename(&moved, bench.array()).expect("moved back");
    assert_eq!(listed(&bench), ["0 bit-flip", "1 vanish", "1 hang"]);
    assert!(!status(&bench).to_string().contains("left alone"));
    assert!(bench.export("v") == data);
    let removed = inject(&bench, 0, &["--remove", "other", "--json"]).json();
    assert_eq!(removed, json!({ "removed": [{ "slot": 1, "path": bench.beside("array/other") }] }));
    assert_eq!(listed(&bench), ["0 bit-flip"]);
    assert!(!bench.beside("array/other.inject").exists());
    expect(0, &["scrub", &bench.array()]);
    // A fault without its member strikes nothing, and is named.
    std::fs::rename(bench.beside("array/m0"), bench.beside("m0")).expect("moved");
    let ended = expect(1, &["status", &bench.array()]);
    assert!(ended.err.contains("m0.inject strikes nothing"), "{ended:?}");
    assert_eq!(inject(&bench, 0, &["--remove", "all", "--json"]).json()["removed"][0]["slot"], 0);
    assert_eq!(inject(&bench, 0, &["--remove", "all", "--json"]).json(), json!({ "removed": [] }));
    let ended = expect(1, &["status", &bench.array()]);
    assert!(!ended.err.contains("inject"), "{ended:?}");
    inject(&bench, 65, &["--remove", "m7"]);
    inject(&bench, 65, &["m7", "hang"]);
}

#[test]
fn what_is_kept_and_cannot_be_read_refuses_the_opening_until_it_is_removed() {
    let bench = Bench::new(3, "2+1");
    let data = noise(5, MIB);
    bench.import("v", &data);
    let out = bench.beside("out");
    let out = out.to_str().expect("UTF-8");
    std::fs::write(bench.beside("array/m1.inject"), "# mine\nread-error\nread-eror count=1\n")
        .expect("written");
    let (array, volume) = (bench.array(), bench.volume("v"));
    let commands: [&[&str]; 4] = [
        &["status", &array],
        &["export", &volume, out],
        &["inject", &array, "--list"],
        &["inject", &array, "m1", "hang"],
    ];
    for args in commands {
        let ended = expect(65, args);
        assert!(ended.err.contains("m1.inject:3: 'read-eror' is no kind of fault"), "{args:?}: {ended:?}");
    }
    inject(&bench, 0, &["--remove", "m1"]);
    assert!(bench.export("v") == data);
    // Nor is a member made, or put in another's place, that would be struck unasked.
    let new = bench.beside("array/new");
    std::fs::write(bench.beside("array/new.inject"), "hang\n").expect("written");
    let refused = expect(65, &["replace", &array, "m0", new.to_str().expect("UTF-8")]);
    assert!(refused.err.contains("new.inject"), "{refused:?}");
    let fault = bench.beside("array/x.inject");
    expect(65, &["replace", &array, "m0", fault.to_str().expect("UTF-8")]);
    assert!(!new.exists() && !fault.exists());
}

#[test]
fn rot_is_said_survived_and_healed_and_leaves_superblocks_alone_unless_it_is_told_to_hit_them() {
    let bench = Bench::new(6, "4+2");
    let data = noise(6, 5 * MIB);
    bench.import("v", &data);
    let told = inject(&bench, 0, &["m3", "rot", "--count", "20", "--seed", "7", "--json"]).json();
    let rotten = told["rotten"].as_array().expect("a list").clone();
    assert_eq!((rotten.len(), &told["slot"], &told["seed"]), (20, &3.into(), &7.into()));
    let inside = |at: &Value| (MIB as u64..63 * MIB as u64).contains(&at.as_u64().expect("a number"));
    assert!(rotten.iter().all(inside), "{told}");
    // The same seed flips the same bits back.
    assert_eq!(inject(&bench, 0, &["m3", "rot", "--count", "20", "--seed", "7", "--json"]).json(), told);
    assert_eq!(expect(0, &["scrub", &bench.array(), "--json"]).json()["healed"], 0);
    // On two members, everywhere.
    for member in ["m1", "m4"] {
        let told = inject(&bench, 0, &[member, "rot", "--range", "1M+10M", "--json"]).json();
        assert_eq!(told["rotten"].as_array().map(Vec::len), Some(10 * MIB / 4096));
        assert_eq!(told["beyond_tolerance"], false);
    }
    assert!(bench.export("v") == data);
    let scrub = expect(0, &["scrub", &bench.array(), "--json"]).json();
    assert!(scrub["healed"].as_u64() > Some(0) && scrub["lost"] == 0, "{scrub}");
    assert_eq!(expect(0, &["scrub", &bench.array(), "--json"]).json()["healed"], 0);
    let told = inject(&bench, 0, &["m1", "rot", "--range", "0+1M", "--json"]).json();
    assert_eq!(told["rotten"].as_array().map(Vec::len), Some(MIB / 4096));
    let scrub = expect(0, &["scrub", &bench.array(), "--json"]).json();
    assert!(scrub["superblocks"].as_u64() > Some(0), "{scrub}");
    assert!(bench.export("v") == data);
    inject(&bench, 65, &["m1", "rot", "--range", "65M+1M"]);
}

#[test]
fn what_is_more_than_the_array_tolerates_is_done_and_said_plainly() {
    let bench = Bench::new(4, "3+1");
    bench.import("v", &noise(7, MIB));
    let first = inject(&bench, 0, &["m0", "read-error", "--range", DATA]);
    assert!(!first.err.contains("tolerates"), "{first:?}");
    let again = inject(&bench, 0, &["m0", "slow", "--delay", "1ms"]);
    assert!(!again.err.contains("tolerates"), "one member, twice: {again:?}");
    let second = inject(&bench, 0, &["m1", "read-error", "--range", DATA, "--json"]);
    assert!(second.err.contains("2 members in use are struck, and the array tolerates 1"), "{second:?}");
    assert_eq!((&second.json()["struck"], &second.json()["beyond_tolerance"]), (&2.into(), &true.into()));
    // Beyond tolerance nothing is made up, and nothing is lost once it ends.
    let out = bench.beside("out");
    paritas(&["export", &bench.volume("v"), out.to_str().expect("UTF-8")]);
    inject(&bench, 0, &["--remove", "all"]);
    assert!(bench.export("v") == noise(7, MIB));
    // A member that is missing already leaves the less.
    bench.lose(2);
    let one = inject(&bench, 0, &["m0", "bit-flip"]);
    assert!(one.err.contains("1 members in use are struck, and the array tolerates 0"), "{one:?}");
}

#[test]
fn who_cannot_open_what_is_gone_on_purpose_is_told_why() {
    let bench = Bench::new(4, "2+2");
    bench.import("v", &noise(9, MIB));
    (0..3).for_each(|slot| drop(inject(&bench, 0, &[&slot.to_string(), "vanish"])));
    let file = bench.file("data", &noise(9, MIB));
    let refused = expect(2, &["import", &file, &bench.volume("v")]);
    assert!(refused.err.contains("while faults are injected on purpose"), "{refused:?}");
    let now = expect(2, &["status", &bench.array(), "--json"]).json();
    assert_eq!((&now["state"], now["injected"].as_array().map(Vec::len)), (&"failed".into(), Some(3)));
    inject(&bench, 0, &["--remove", "all"]);
    expect(0, &["status", &bench.array()]);
    assert!(bench.export("v") == noise(9, MIB));
}

#[test]
fn who_inspects_a_member_sees_it_as_it_is_and_is_told_what_strikes_it() {
    let bench = Bench::new(2, "mirror");
    let member = bench.member(1);
    let member = member.to_str().expect("UTF-8");
    inject(&bench, 0, &["m1", "vanish"]);
    let seen = expect(0, &["inspect", member]);
    assert!(seen.err.contains("m1.inject"), "{seen:?}");
    inject(&bench, 0, &["--remove", "m1"]);
    let seen = expect(0, &["inspect", member]);
    assert!(!seen.err.contains("inject"), "{seen:?}");
}

#[test]
fn salvage_waits_until_nothing_is_injected() {
    let bench = Bench::new(3, "2+1");
    let data = noise(8, MIB);
    bench.import("v", &data);
    inject(&bench, 0, &["m1", "read-error"]);
    for i in 0..3 {
        bench.garbage(i, 0, MIB);
        bench.garbage(i, 63 * MIB, MIB);
    }
    let refused = expect(65, &["salvage", &bench.array()]);
    assert!(refused.err.contains("m1.inject"), "{refused:?}");
    std::fs::remove_file(bench.beside("array/m1.inject")).expect("removed");
    expect(0, &["salvage", &bench.array()]);
    assert!(bench.export("v") == data);
}

#[test]
fn wrong_use_of_inject_is_64_and_keeps_nothing() {
    let bench = Bench::new(2, "mirror");
    let wrong: &[&[&str]] = &[
        &[],
        &["m0"],
        &["m0", "melt"],
        &["m0", "slow"],
        &["m0", "hang", "--delay", "1s"],
        &["m0", "slow", "--delay", "1"],
        &["m0", "hang", "--range", "1M"],
        &["m0", "hang", "--range", "1M+0"],
        &["m0", "hang", "--range", "64M+1"],
        &["m0", "flush-error", "--range", "1M+1M"],
        &["m0", "hang", "--chance", "0"],
        &["m0", "hang", "--chance", "101%"],
        &["m0", "hang", "--count", "0"],
        &["m0", "hang", "--seed", "1"],
        &["m0", "rot", "--chance", "5%"],
        &["m0", "rot", "--count", "0"],
        &["--list", "--remove", "all"],
        &["m0", "hang", "--list"],
        &["m0", "hang", "--remove", "all"],
        &["--count", "1"],
    ];
    for args in wrong {
        let ended = inject(&bench, 64, args);
        assert!(ended.out.is_empty() && !ended.err.is_empty(), "{args:?}: {ended:?}");
        let mut args = args.to_vec();
        args.push("--json");
        assert!(inject(&bench, 64, &args).json()["error"]["message"].is_string(), "{args:?}");
        assert!(!bench.beside("array/m0.inject").exists(), "{args:?}");
    }
    assert_eq!(listed(&bench), [""; 0]);
}
