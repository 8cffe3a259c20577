//! Exit codes, JSON and refusals: what scripts rely on.

mod common;

use common::{Bench, MIB, expect, fingerprint, noise};
use std::path::Path;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn wrong_use_is_64_and_help_is_0() {
    let bench = Bench::new(2, "mirror");
    let (array, volume) = (bench.array(), bench.volume("v"));
    expect(0, &["--help"]);
    expect(0, &["--version"]);
    expect(0, &["volume", "create", "--help"]);
    let wrong: &[&[&str]] = &[
        &[],
        &["fly"],
        &["status"],
        &["status", &array, "--fast"],
        &["mkfs"],
        &["mkfs", "--scheme", "banana", "a"],
        &["mkfs", "--size", "1X", "a"],
        &["mkfs", "--size", "9E", "a"],
        &["volume"],
        &["volume", "create", &volume],
        &["volume", "create", &array, "--size", "1M"],
        &["volume", "create", &volume, "--size", "1000"],
        &["volume", "create", &volume, "--size", "0"],
        &["volume", "create", &format!("{array}:a/b"), "--size", "1M"],
        &["import", "x"],
        &["export", &array, "x"],
        &["inject", &array],
        &["inject", &array, "m0"],
    ];
    for args in wrong {
        let ended = expect(64, args);
        assert!(ended.out.is_empty() && !ended.err.is_empty(), "{args:?}: {ended:?}");
        let mut args = args.to_vec();
        args.insert(0, "--json");
        let ended = expect(64, &args);
        assert!(ended.json()["error"]["message"].is_string(), "{args:?}: {ended:?}");
    }
}

#[test]
fn json_is_one_document_wherever_the_option_stands() {
    let bench = Bench::new(2, "mirror");
    let array = bench.array();
    for args in [
        ["--json", "volume", "list", &array],
        ["volume", "--json", "list", &array],
        ["volume", "list", "--json", &array],
        ["volume", "list", &array, "--json"],
    ] {
        assert_eq!(expect(0, &args).json(), serde_json::json!({ "volumes": [] }));
    }
    let ended = expect(65, &["volume", "delete", &bench.volume("x"), "--json"]);
    assert_eq!(ended.json()["error"]["kind"], "not-found");
    expect(64, &["export", &bench.volume("x"), "-", "--json"]);
}

#[test]
fn status_says_everything_that_scripts_rely_on() {
    let bench = Bench::new(6, "4+2");
    bench.import("v", &noise(1, MIB));
    let status = expect(0, &["status", &bench.array(), "--json"]).json();
    assert_eq!(status["name"], "array");
    assert_eq!(status["uuid"].as_str().expect("a UUID").len(), 36);
    assert_eq!(status["state"], "healthy");
    assert_eq!(status["jobs"], serde_json::json!([]));
    assert_eq!(status["damage"], serde_json::json!([]));
    assert_eq!(status["injected"], serde_json::json!([]));
    assert_eq!(status["format"], "1.0");
    assert!(status.get("write_amplification").is_some());
    let members = status["members"].as_array().expect("a list");
    assert_eq!(members.len(), 6);
    for (slot, member) in members.iter().enumerate() {
        assert_eq!(member["slot"], slot);
        assert_eq!(member["path"], text(&bench.member(slot)));
        assert_eq!(member["state"], "active");
        assert_eq!(member["size"], 64 * MIB);
        assert!(member["used"].as_u64().expect("a number") >= MIB as u64 / 4);
        for kind in ["read", "write", "flush", "checksum"] {
            assert_eq!(member["errors"][kind], 0);
        }
    }
    let volume = &status["volumes"][0];
    assert_eq!((volume["name"].as_str(), volume["scheme"].as_str()), (Some("v"), Some("4+2")));
    assert_eq!((&volume["size"], &volume["used"]), (&MIB.into(), &MIB.into()));
    assert_eq!(volume["tolerance"], 2);

    bench.lose(3);
    let status = expect(1, &["status", &bench.array(), "--json"]).json();
    assert_eq!(
        (status["state"].as_str(), status["members"][3]["state"].as_str()),
        (Some("degraded"), Some("missing"))
    );
    assert_eq!(status["volumes"][0]["tolerance"], 1);
    expect(2, &["status", text(&bench.beside("nowhere"))]);
}

#[test]
fn status_and_list_write_nothing() {
    let bench = Bench::new(3, "2+1");
    bench.import("v", &noise(2, MIB));
    bench.lose(1);
    let before = fingerprint(Path::new(&bench.array()));
    expect(1, &["status", &bench.array()]);
    expect(0, &["volume", "list", text(&bench.member(0))]);
    assert_eq!(fingerprint(Path::new(&bench.array())), before);
}

#[test]
fn volumes_are_made_listed_resized_and_deleted() {
    let bench = Bench::new(4, "mirror");
    let volume = bench.volume("v");
    expect(0, &["volume", "create", &volume, "--size", "10M", "--scheme", "2+1"]);
    expect(65, &["volume", "create", &volume, "--size", "10M"]);
    expect(65, &["volume", "create", &bench.volume("w"), "--size", "10M", "--scheme", "4+1"]);
    expect(0, &["volume", "resize", &volume, "--size", "1T"]);
    let list = expect(0, &["volume", "list", &bench.array(), "--json"]).json();
    let expected = serde_json::json!({ "volumes": [
        { "name": "v", "size": 1u64 << 40, "used": 0, "scheme": "2+1", "tolerance": 1 },
    ] });
    assert_eq!(list, expected);
    expect(0, &["volume", "delete", &volume]);
    expect(65, &["volume", "delete", &volume]);
    expect(65, &["volume", "resize", &volume, "--size", "1M"]);
    expect(65, &["export", &volume, text(&bench.beside("out"))]);
    assert!(!bench.beside("out").exists(), "what is refused creates nothing");
    expect(74, &["import", text(&bench.beside("nothing")), &volume]);
    expect(74, &["import", &bench.array(), &volume]);
}

#[test]
fn a_volume_that_does_not_fit_is_refused_and_leaves_nothing() {
    let bench = Bench::new(2, "mirror");
    bench.import("kept", &noise(3, MIB));
    let file = bench.file("large", &noise(4, 80 * MIB));
    expect(65, &["import", &file, &bench.volume("v")]);
    let list = expect(0, &["volume", "list", &bench.array(), "--json"]).json();
    assert_eq!(list["volumes"].as_array().expect("a list").len(), 1);
    bench.import("after", &noise(5, 20 * MIB));
    assert!(bench.export("kept") == noise(3, MIB));
}

#[test]
fn what_mkfs_refuses_is_as_it_was() {
    let bench = Bench::empty();
    let path = |name: &str| text(&bench.beside("array").join(name)).to_owned();
    std::fs::write(path("full"), noise(5, 70 * MIB)).expect("written");
    std::fs::File::create(path("empty")).expect("made");
    std::fs::File::create(path("small")).expect("made").set_len(MIB as u64).expect("sized");
    std::fs::File::create(path("blank")).expect("made").set_len(100 * MIB as u64).expect("sized");
    std::os::unix::fs::symlink(path("blank"), path("link")).expect("linked");
    let (full, empty, small) = (path("full"), path("empty"), path("small"));
    let (blank, link, new, other) = (path("blank"), path("link"), path("new"), path("other"));
    let dotted = format!("{}/./new", bench.array());
    let size = ["--size", "64M"];
    let before = fingerprint(Path::new(&bench.array()));
    let refused: &[(i32, &[&str])] = &[
        (65, &[&full, &new]),
        (65, &[&new, &blank, &full]),
        (65, &[&blank, &link]),
        (65, &[&new, &other, &dotted]),
        (65, &["--scheme", "4+2", &new, &other, &blank]),
        (65, &[&bench.array(), &new]),
        (64, &["--chunk", "100K", &new, &other]),
        (64, &["--size", "63M", &new, &other]),
        (64, &["--name", "", &new, &other]),
        (74, &[&new, &path("nowhere/x")]),
    ];
    for (code, args) in refused {
        let mut all = vec!["mkfs"];
        if !args.contains(&"--size") {
            all.extend(size);
        }
        all.extend(*args);
        let ended = expect(*code, &all);
        assert_eq!(fingerprint(Path::new(&bench.array())), before, "{args:?}");
        let twice = args.contains(&link.as_str()) || args.contains(&dotted.as_str());
        assert_eq!(ended.err.contains("named twice"), twice, "{ended:?}");
    }
    for (code, member) in [(64, &new), (64, &empty), (65, &small)] {
        expect(code, &["mkfs", member.as_str(), blank.as_str()]);
        assert_eq!(fingerprint(Path::new(&bench.array())), before, "{member}");
    }
    // Blank files take the size; one that holds something else keeps its own and must be forced.
    expect(65, &["mkfs", "--size", "80M", &full, &empty]);
    expect(0, &["mkfs", "--size", "80M", "--force", &full, &empty, &small]);
    let len = |path: &str| std::fs::metadata(path).expect("there").len();
    assert_eq!([len(&full), len(&empty), len(&small)], [70, 80, 80].map(|mib| (mib * MIB) as u64));
    expect(65, &["mkfs", &full, &blank]);
    expect(0, &["status", &bench.array()]);
}

#[test]
fn a_second_writer_is_refused_and_a_reader_is_not() {
    use std::io::{BufRead, BufReader};
    let bench = Bench::new(3, "2+1");
    expect(0, &["volume", "create", &bench.volume("v"), "--size", "4M"]);
    let mut writer = common::command(&["__endure", "writer", &bench.array(), "v", "--after", "0"]);
    let mut writer = writer.stdout(std::process::Stdio::piped()).spawn().expect("started");
    let mut line = String::new();
    BufReader::new(writer.stdout.as_mut().expect("piped")).read_line(&mut line).expect("told");
    assert_eq!(line, "opened\n");
    let file = bench.file("data", &noise(6, MIB));
    let ended = expect(65, &["import", &file, &bench.volume("w"), "--json"]);
    assert_eq!(ended.json()["error"]["kind"], "busy");
    expect(65, &["export", &bench.volume("v"), text(&bench.beside("out"))]);
    expect(65, &["mkfs", "--force", text(&bench.member(0)), text(&bench.member(1))]);
    // What is read of a log that grows meanwhile seems to have gaps.
    for _ in 0..20 {
        expect(0, &["status", &bench.array()]);
    }
    writer.kill().expect("killed");
    writer.wait().expect("ended");
    bench.import("w", &noise(6, MIB));
}

#[test]
fn an_array_is_found_by_directory_and_by_any_member_and_after_it_moved() {
    let bench = Bench::new(4, "2+2");
    let data = noise(7, MIB);
    bench.import("v", &data);
    let out = text(&bench.beside("out")).to_owned();
    let exported = |array: &str| {
        expect(0, &["export", &format!("{array}:v"), &out]);
        std::fs::read(&out).expect("exported") == data
    };
    let moved = bench.beside("moved");
    std::fs::rename(bench.array(), &moved).expect("moved");
    assert!(exported(text(&moved)));
    assert!(exported(text(&moved.join("m2"))));
    // Members apart: one of them knows where the others are now.
    let apart = bench.beside("apart");
    std::fs::create_dir(&apart).expect("made");
    std::fs::rename(moved.join("m3"), apart.join("m3")).expect("moved");
    let status = expect(1, &["status", text(&moved), "--json"]).json();
    assert_eq!(status["members"][3]["state"], "missing");
    std::fs::rename(apart.join("m3"), moved.join("m3")).expect("moved back");
    // A member that is gone, or holds garbage, still names its array.
    std::fs::remove_file(moved.join("m0")).expect("removed");
    assert!(exported(text(&moved.join("m0"))));
    std::fs::write(moved.join("m1"), noise(8, 64 * MIB)).expect("overwritten");
    assert!(exported(text(&moved.join("m1"))));
}

#[test]
fn members_in_several_directories_are_found_through_one_of_them() {
    let bench = Bench::empty();
    let paths: Vec<String> = (0..3)
        .map(|i| {
            let folder = bench.beside(&format!("d{i}"));
            std::fs::create_dir(&folder).expect("made");
            text(&folder.join("member")).to_owned()
        })
        .collect();
    let mut args = vec!["mkfs", "--size", "64M", "--scheme", "2+1"];
    args.extend(paths.iter().map(String::as_str));
    expect(0, &args);
    expect(0, &["status", &paths[1]]);
    // A copy stands alone: it is not mixed with its originals.
    let copy = bench.beside("copy");
    std::fs::create_dir(&copy).expect("made");
    std::fs::copy(&paths[1], copy.join("member")).expect("copied");
    let status = expect(2, &["status", text(&copy.join("member")), "--json"]).json();
    let states: Vec<_> =
        status["members"].as_array().expect("a list").iter().map(|member| member["state"].as_str()).collect();
    assert_eq!(states, [Some("missing"), Some("active"), Some("missing")]);
}

#[test]
fn two_arrays_in_a_directory_need_a_choice() {
    let bench = Bench::new(2, "mirror");
    bench.import("v", &noise(9, MIB));
    let others = [text(&bench.member(7)).to_owned(), text(&bench.member(8)).to_owned()];
    expect(0, &["mkfs", "--size", "64M", "--name", "other", &others[0], &others[1]]);
    let ended = expect(65, &["status", &bench.array()]);
    assert!(ended.err.contains("'array'") && ended.err.contains("'other'"), "{ended:?}");
    for (place, name) in [(bench.array(), "other"), (others[1].clone(), "other"), (bench.array(), "array")] {
        let status = expect(0, &["status", &place, "--name", name, "--json"]).json();
        assert_eq!(status["name"], name);
    }
    expect(0, &["status", &others[0]]);
    expect(2, &["status", &bench.array(), "--name", "third"]);
}

#[test]
fn strangers_copies_and_links_are_left_alone_and_named() {
    let bench = Bench::new(3, "2+1");
    let data = noise(10, MIB);
    bench.import("v", &data);
    let beside = |name: &str| bench.beside("array").join(name);
    std::fs::write(beside("notes.txt"), "hello").expect("written");
    std::fs::File::create(beside("blank")).expect("made").set_len(64 * MIB as u64).expect("sized");
    std::fs::copy(bench.member(2), beside("m2.copy")).expect("copied");
    std::os::unix::fs::symlink(bench.member(1), beside("link")).expect("linked");
    std::fs::hard_link(bench.member(0), beside("hard")).expect("linked");
    let ended = expect(0, &["status", &bench.array()]);
    for named in ["notes.txt is no member", "blank is blank", "m2.copy is a copy of member 2"] {
        assert!(ended.err.contains(named), "{named}: {ended:?}");
    }
    assert!(bench.export("v") == data);
    expect(65, &["export", &bench.volume("v"), text(&beside("link"))]);
    assert!(bench.export("v") == data);
}
