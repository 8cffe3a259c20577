//! What arrays remember of what happened to them, and what servers say of it.

mod common;

use common::server::Server;
use common::{Bench, command, expect};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

fn kinds(document: &Value) -> Vec<&str> {
    let events = document["events"].as_array().expect("a list");
    events.iter().map(|event| event["kind"].as_str().expect("a name")).collect()
}

#[test]
fn an_array_that_nobody_has_open_tells_what_happened() {
    let bench = Bench::new(3, "2+1");
    expect(0, &["volume", "create", &bench.volume("v"), "--size", "1M"]);
    bench.lose(1);
    expect(0, &["volume", "delete", &bench.volume("v")]);
    let told = expect(0, &["events", &bench.array(), "--json"]).json();
    assert_eq!(kinds(&told), ["created", "volume-created", "member-absent", "volume-deleted"]);
    let last = &told["events"][3];
    assert_eq!((&last["name"], &last["number"], &last["count"]), (&"v".into(), &4.into(), &1.into()));
    let lines = expect(0, &["events", &bench.array(), "--count", "2"]).out;
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("Z  member 1 (") && lines[0].ends_with(" is out of use: it was not there"));
    assert!(lines[1].ends_with("Z  volume 'v' was deleted"));
    // Too few to be opened to write, and to be asked all the same.
    bench.lose(2);
    expect(2, &["volume", "create", &bench.volume("w"), "--size", "1M"]);
    assert_eq!(kinds(&expect(0, &["events", &bench.array(), "--json"]).json()), kinds(&told));
}

#[test]
fn a_server_tells_what_happens_while_it_happens() {
    let bench = Bench::new(3, "2+1");
    let (mut server, _) = Server::start(&bench, &["--scrub-every", "never"]);
    let array = bench.array();
    let follow = ["events", &array, "--follow", "--count", "0", "--json"];
    let mut follower =
        command(&follow).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let mut lines = BufReader::new(follower.stdout.take().expect("piped")).lines();
    let mut next = || -> Value {
        serde_json::from_str(&lines.next().expect("goes on").expect("read")).expect("a document")
    };
    expect(0, &["volume", "create", &bench.volume("v"), "--size", "1M"]);
    // It may have been there before the follower looked for the first time; what comes then is told.
    expect(0, &["fail", &array, "m2"]);
    let mut told = next();
    if told["kind"] == "volume-created" {
        told = next();
    }
    assert_eq!((&told["kind"], &told["member"]), (&"member-failed".into(), &2.into()));
    follower.kill().expect("killed");
    follower.wait().expect("ended");
    assert_eq!(server.signal(Signal::TERM), Some(0));
}

#[test]
fn what_a_server_says_may_be_json() {
    let bench = Bench::new(3, "2+1");
    let listen = format!("unix:{}", bench.beside("socket").to_str().expect("UTF-8"));
    let args = ["serve", &bench.array(), "--listen", &listen, "--scrub-every", "never", "--log", "json"];
    let mut server = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut ready = String::new();
    BufReader::new(server.stdout.take().expect("piped")).read_line(&mut ready).expect("said");
    expect(0, &["volume", "create", &bench.volume("v"), "--size", "1M"]);
    kill_process(Pid::from_child(&server), Signal::TERM).expect("alive");
    let lines = BufReader::new(server.stderr.take().expect("piped")).lines();
    let said: Vec<Value> =
        lines.map(|line| serde_json::from_str(&line.expect("read")).expect("an object")).collect();
    let made = said.iter().find(|line| line["kind"] == "volume-created").expect("told");
    assert_eq!((&made["level"], &made["volume"]), (&"INFO".into(), &1.into()));
    assert_eq!(made["message"], "volume 'v' was made, 1048576 bytes");
    assert!(server.wait().expect("ended").success());
}
