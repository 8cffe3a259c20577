//! What `--json` prints is what `paritas schema` describes. Every command that any test runs with `--json` is held
//! against it as well (`common/schema.rs`).

mod common;

use common::schema::{check, demand, names};
use common::server::Server;
use common::{Bench, MIB, expect, noise, paritas};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::BufRead;

/// Makes a document wrong.
type Change<'a> = &'a dyn Fn(&mut Value);

/// Commands with commands of their own.
const FAMILIES: [&str; 1] = ["volume"];

/// The commands that help lists below some words.
fn commands(words: &[&str]) -> Vec<String> {
    let help = expect(0, &[words, &["--help"]].concat()).out;
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What a name says goes on below it, further in.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().expect("a name").to_owned()).collect()
}

#[test]
fn every_command_is_described_and_its_description_is_printed() {
    let described = names();
    let whole = expect(0, &["schema", "--json"]).json();
    let text = expect(0, &["schema"]).out;
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), whole);
    let mut seen = 0;
    for name in commands(&[]).iter().filter(|name| *name != "help") {
        let below: Vec<String> = match FAMILIES.contains(&name.as_str()) {
            true => commands(&[name]).into_iter().filter(|below| below != "help").collect(),
            false => vec![String::new()],
        };
        for below in below {
            let words: Vec<&str> =
                [name.as_str(), &below].into_iter().filter(|word| !word.is_empty()).collect();
            assert!(described.contains(&words.join("-")), "{words:?} is not described");
            let one = expect(0, &[&["schema"], words.as_slice()].concat()).out;
            let one: Value = serde_json::from_str(&one).expect("JSON");
            assert_eq!(one["$ref"], format!("#/$defs/{}", words.join("-")));
            assert_eq!(one["$defs"], whole["$defs"]);
            seen += 1;
        }
    }
    assert!(seen > 25, "{seen}");
    expect(64, &["schema", "fly"]);
    expect(64, &["schema", "volume", "fly", "--json"]);
}

#[test]
fn what_is_not_as_it_is_described_is_found() {
    let whole = expect(0, &["schema", "--json"]).json();
    let bench = Bench::new(2, "mirror");
    let good = expect(0, &["status", &bench.array(), "--json"]).json();
    let wrong = |change: Change<'_>| {
        let mut document = good.clone();
        change(&mut document);
        check(&whole, &whole["$defs"]["status"], &document)
    };
    assert_eq!(wrong(&|_| {}), Ok(()));
    let changes: [(Change<'_>, &str); 7] = [
        (&|status| status["state"] = "well".into(), "state: \"well\" is none of"),
        (&|status| status["members"][1]["slot"] = (-1).into(), "members: 1: slot: -1 is too small"),
        (&|status| status["members"][0]["size"] = 0.5.into(), "members: 0: size: 0.5 is no"),
        (&|status| status["members"][0]["errors"] = json!({}), "\"read\" is missing"),
        (&|status| status["volumes"] = Value::Null, "volumes: null is no"),
        (&|status| status["mood"] = "fine".into(), "mood is not described"),
        (&|status| status["damage"] = json!([{}]), "damage: 0: loss: "),
    ];
    for (change, why) in changes {
        let found = wrong(change).expect_err(why);
        assert!(found.contains(why), "{found}");
    }
    let scrub = &whole["$defs"]["scrub"];
    assert_eq!(check(&whole, scrub, &json!({ "stopped": true })), Ok(()));
    assert!(check(&whole, scrub, &json!({ "stopped": "true" })).is_err());
}

#[test]
fn commands_print_what_is_described_where_they_succeed() {
    let bench = Bench::new(4, "2+1");
    let array = bench.array();
    let (v, w) = (bench.volume("v"), bench.volume("w"));
    let file = bench.file("file", &noise(1, MIB));
    let out = bench.beside("out");
    let out = out.to_str().expect("UTF-8");
    let member = |i| bench.member(i).to_str().expect("UTF-8").to_owned();
    let (m0, m4) = (member(0), member(4));
    let alone = bench.beside("alone");
    let pages = bench.beside("pages");
    let all: [(i32, &[&str]); 30] = [
        (0, &["mkfs", "--size", "64M", alone.to_str().expect("UTF-8")]),
        (0, &["volume", "create", &w, "--size", "1M"]),
        (0, &["volume", "resize", &w, "--size", "2M"]),
        (0, &["volume", "list", &array]),
        (0, &["volume", "delete", &w]),
        (0, &["import", &file, &v]),
        (0, &["export", &v, out]),
        (0, &["inspect", &m0, "--records"]),
        (0, &["inspect", &m0, "--chunk", "0"]),
        (0, &["inject", &array, "m0", "slow", "--delay", "1ms", "--range", "1M+4K", "--count", "3"]),
        (0, &["inject", &array, "--list"]),
        (0, &["status", &array]),
        (0, &["inject", &array, "--remove", "all"]),
        (0, &["inject", &array, "m0", "rot", "--count", "2"]),
        (0, &["scrub", &array]),
        (0, &["scrub", &array, "--stop"]),
        (0, &["clear", &array]),
        (0, &["fail", &array, "m0"]),
        (1, &["status", &array]),
        (0, &["replace", &array, "m0", &m4, "--no-wait"]),
        (0, &["rebuild", &array]),
        (0, &["replace", &array, "m1", &m0]),
        (0, &["watch", &array]),
        (65, &["iostat", &array]),
        (65, &["salvage", &array]),
        (65, &["detach", out]),
        (0, &["completions", "bash"]),
        (0, &["man", pages.to_str().expect("UTF-8")]),
        (2, &["sim", "--seeds", "1", "--require-all"]),
        (64, &["sim"]),
    ];
    for (code, args) in all {
        expect(code, &[args, &["--json"]].concat()).json();
    }
    let (mut server, _) = Server::start(&bench, &["--scrub-every", "never"]);
    expect(0, &["iostat", &array, "0.1", "--count", "2", "--json"]);
    expect(0, &["scrub", &array, "--no-wait", "--limit", "1M", "--json"]);
    expect(0, &["scrub", &array, "--pause", "--json"]);
    expect(0, &["rebuild", &array, "--pause", "--json"]);
    expect(0, &["rebuild", &array, "--json"]);
    paritas(&["status", &array, "--json"]).json();
    expect(0, &["scrub", &array, "--stop", "--json"]);
    assert_eq!(server.signal(Signal::TERM), Some(0));
}

#[test]
fn losses_and_what_is_salvaged_are_described() {
    let bench = Bench::new(2, "stripe");
    bench.import("v", &noise(2, 8 * MIB));
    bench.garbage(0, 2 * MIB, 4 * MIB);
    expect(2, &["scrub", &bench.array(), "--json"]);
    let status = expect(2, &["status", &bench.array(), "--json"]).json();
    assert!(status["damage"].as_array().is_some_and(|damage| !damage.is_empty()));
    let out = bench.beside("out");
    expect(2, &["export", &bench.volume("v"), out.to_str().expect("UTF-8"), "--json"]);
    expect(0, &["clear", &bench.array(), "--json"]);

    let bench = Bench::new(3, "2+1");
    bench.import("v", &noise(3, MIB));
    for i in 0..3 {
        bench.garbage(i, 0, MIB);
        bench.garbage(i, 63 * MIB, MIB);
    }
    expect(2, &["status", &bench.array(), "--json"]);
    bench.garbage(0, 0, 4096);
    let member = bench.member(0);
    expect(0, &["inspect", member.to_str().expect("UTF-8"), "--json"]);
    let salvaged = expect(0, &["salvage", &bench.array(), "--json"]).json();
    assert_eq!(salvaged["volumes"][0]["name"], "v");
}

#[test]
fn what_a_server_says_is_described() {
    let bench = Bench::new(2, "mirror");
    expect(0, &["volume", "create", &bench.volume("v"), "--size", "1M"]);
    let (mut server, mut said) = Server::start(&bench, &["--json"]);
    while serde_json::from_str::<Value>(&said).is_err() {
        assert!(server.out.read_line(&mut said).expect("said") > 0, "{said}");
    }
    demand(&["serve", "--json"], &said);
    assert_eq!(server.signal(Signal::TERM), Some(0));
}

#[test]
fn what_is_simulated_is_described() {
    expect(0, &["sim", "--seeds", "2", "--json"]);
    let cases = expect(0, &["sim", "--nth-operation", "--every", "9999", "--json"]).json();
    assert!(cases.as_object().is_some_and(|cases| cases.len() == 4), "{cases}");
    expect(0, &["sim", "--crash-enumeration", "--ops", "0", "--json"]);
    let kept = Bench::empty();
    let run = kept.file("seed.run", b"nothing");
    assert_ne!(paritas(&["sim", "--replay", &run, "--json"]).code, 0);
}
