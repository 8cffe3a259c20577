//! Commands on an array that a server has open: they work as on one that nobody has open.

mod common;

use common::server::Server;
use common::{Bench, MIB, command, expect, noise, padded, paritas};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

/// Looks again and again until it is so.
fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        thread::sleep(Duration::from_millis(20));
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Sockets of servers that were left behind or run, of one array.
fn sockets(bench: &Bench) -> usize {
    let status = expect(0, &["status", &bench.array(), "--json"]).json();
    let uuid = status["uuid"].as_str().expect("a UUID").to_owned();
    let entries = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    names.filter(|name| name.starts_with(&uuid[..8])).count()
}

#[test]
fn volumes_are_made_filled_and_removed_in_a_server() {
    let bench = Bench::new(3, "2+1");
    let array = bench.array();
    let (mut server, _) = Server::start(&bench, &[]);
    expect(0, &["volume", "create", &bench.volume("a"), "--size", "16M"]);
    expect(65, &["volume", "create", &bench.volume("a"), "--size", "16M"]);
    let listed = expect(0, &["volume", "list", &array, "--json"]).json();
    assert_eq!(listed["volumes"][0]["name"], "a");
    let data = noise(1, 3 * MIB + 77);
    bench.import("b", &data);
    assert!(bench.export("b") == padded(&data));
    expect(0, &["volume", "resize", &bench.volume("b"), "--size", "1M"]);
    assert!(bench.export("b") == data[..MIB]);
    expect(0, &["volume", "delete", &bench.volume("a")]);
    expect(65, &["export", &bench.volume("a"), text(&bench.beside("none"))]);
    expect(64, &["volume", "resize", &bench.volume("b"), "--size", "1"]);
    assert_eq!(server.signal(Signal::TERM), Some(0));
    // What was done there is there.
    assert!(bench.export("b") == data[..MIB]);
    assert_eq!(sockets(&bench), 0, "its socket is gone with it");
}

#[test]
fn the_callers_folder_input_and_output_are_the_commands() {
    let bench = Bench::new(3, "2+1");
    let (mut server, _) = Server::start(&bench, &[]);
    let data = noise(2, 2 * MIB);
    let mut import = command(&["import", "-", "array:v"]);
    let mut child = import.current_dir(bench.beside("")).stdin(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("piped").write_all(&data).expect("taken");
    assert!(child.wait().expect("ended").success());
    let export = command(&["export", "../array:v", "-"]).current_dir(bench.array()).output().expect("ran");
    assert!(export.status.success() && export.stdout == data);
    let export = command(&["export", "m0:v", "copy"]).current_dir(bench.array()).status().expect("ran");
    assert!(export.success() && std::fs::read(bench.beside("array/copy")).expect("there") == data);
    // A member by its file name, and a new one by a path that leads on from here.
    let replace = command(&["replace", "array", "m1", "new"]).current_dir(bench.beside("")).status();
    assert!(replace.expect("ran").success() && bench.beside("new").exists());
    assert_eq!(server.signal(Signal::TERM), Some(0));
}

#[test]
fn members_fail_are_replaced_rebuilt_and_scrubbed_while_they_are_served() {
    let bench = Bench::new(4, "2+1");
    let array = bench.array();
    let data = noise(3, 6 * MIB);
    bench.import("v", &data);
    let (mut server, _) = Server::start(&bench, &[]);
    expect(0, &["fail", &array, "m2"]);
    expect(65, &["fail", &array, "m2"]);
    expect(65, &["online", &array, "m2"]);
    let status = expect(1, &["status", &array, "--json"]).json();
    assert_eq!(status["members"][2]["state"], "failed");
    expect(0, &["replace", &array, "2", text(&bench.beside("array/new"))]);
    expect(0, &["rebuild", &array, "--limit", "1G"]);
    let scrub = expect(0, &["scrub", &array, "--json"]).json();
    assert!(scrub["read"].as_u64() > Some(6 << 20), "{scrub}");
    expect(0, &["status", &array]);
    expect(0, &["clear", &array]);
    assert!(bench.export("v") == data);
    assert_eq!(server.signal(Signal::TERM), Some(0));
    bench.lose(0);
    assert!(bench.export("v") == data);
}

#[test]
fn faults_strike_the_array_that_is_served_until_they_are_removed() {
    let bench = Bench::new(3, "2+1");
    let array = bench.array();
    let data = noise(4, 4 * MIB);
    bench.import("v", &data);
    let (mut server, _) = Server::start(&bench, &[]);
    let kept = expect(0, &["inject", &array, "m0", "read-error"]);
    assert!(kept.out.contains("at once"), "{kept:?}");
    assert!(bench.beside("array/m0.inject").exists(), "it is kept, too");
    assert!(bench.export("v") == data);
    let errors = |status: &Value| status["members"][0]["errors"]["read"].as_u64().expect("a number");
    let struck = paritas(&["status", &array, "--json"]).json();
    assert!(errors(&struck) > 0, "{struck}");
    let list = expect(0, &["inject", &array, "--list", "--json"]).json();
    assert_eq!(list["injected"].as_array().map(Vec::len), Some(1));
    expect(0, &["inject", &array, "--remove", "m0"]);
    let list = expect(0, &["inject", &array, "--list", "--json"]).json();
    assert_eq!(list["injected"].as_array().map(Vec::len), Some(0));
    assert_eq!(server.signal(Signal::TERM), Some(0));
}

#[test]
fn a_member_that_is_there_again_is_taken_back_while_the_array_is_served() {
    let bench = Bench::new(4, "2+1");
    let array = bench.array();
    let (first, second) = (noise(7, 4 * MIB), noise(8, 4 * MIB));
    bench.import("v", &first);
    let (mut server, _) = Server::start(&bench, &[]);
    let state = || paritas(&["status", &array, "--json"]).json()["members"][1]["state"].clone();
    expect(0, &["inject", &array, "m1", "vanish"]);
    bench.import("v", &second);
    assert_ne!(state(), "active");
    // It fails as soon as it is looked at; then what is there is not it.
    expect(74, &["online", &array, "m1"]);
    expect(0, &["inject", &array, "--remove", "m1"]);
    assert_ne!(state(), "active", "nobody takes it back unasked");
    let own = std::fs::read(bench.member(1)).expect("read");
    let other = bench.beside("other");
    std::fs::write(&other, std::fs::read(bench.member(2)).expect("read")).expect("written");
    expect(65, &["online", &array, "m1", "--at", text(&other)]);
    std::fs::write(&other, vec![0; own.len()]).expect("written");
    expect(65, &["online", &array, "m1", "--at", text(&other)]);
    std::fs::write(&other, &own[..own.len() / 2]).expect("written");
    expect(65, &["online", &array, "m1", "--at", text(&other)]);
    assert_ne!(state(), "active");
    // Elsewhere, as after a cable was plugged in again.
    std::fs::rename(bench.member(1), &other).expect("moved");
    let back = expect(0, &["online", &array, "1", "--at", text(&other), "--json"]).json();
    assert_eq!(
        (&back["slot"], &back["was_in_use"], &back["waited"]),
        (&1.into(), &false.into(), &true.into())
    );
    let status = expect(0, &["status", &array, "--json"]).json();
    assert!(status["members"][1]["path"].as_str().is_some_and(|path| path.ends_with("/other")), "{status}");
    let again = expect(0, &["online", &array, "1", "--json"]).json();
    assert_eq!(again["was_in_use"], true);
    assert!(bench.export("v") == second);
    assert_eq!(server.signal(Signal::TERM), Some(0));
    std::fs::rename(&other, bench.member(1)).expect("moved");
    bench.lose(2);
    assert!(bench.export("v") == second);
}

#[test]
fn a_command_finds_the_array_itself_when_its_server_was_killed() {
    let bench = Bench::new(3, "2+1");
    let data = noise(5, MIB);
    let (mut server, _) = Server::start(&bench, &[]);
    bench.import("v", &data);
    let _killed = server.signal(Signal::KILL);
    assert_eq!(sockets(&bench), 1, "nobody removes it");
    assert!(bench.export("v") == data);
    let (mut server, _) = Server::start(&bench, &[]);
    assert_eq!(sockets(&bench), 1, "the next server does");
    assert!(bench.export("v") == data);
    assert_eq!(server.signal(Signal::TERM), Some(0));
}

#[test]
fn what_was_begun_for_a_caller_that_is_gone_is_undone() {
    let bench = Bench::new(3, "2+1");
    let (mut server, _) = Server::start(&bench, &[]);
    let mut import =
        command(&["import", "-", &bench.volume("v")]).stdin(Stdio::piped()).spawn().expect("started");
    let mut input = import.stdin.take().expect("piped");
    input.write_all(&noise(6, 8 * MIB)).expect("taken");
    let exists = || expect(0, &["volume", "list", &bench.array()]).out.contains("v ");
    assert!(exists());
    import.kill().expect("alive");
    let _killed = import.wait().expect("ended");
    drop(input);
    until(|| !exists());
    assert_eq!(server.signal(Signal::TERM), Some(0));
}

#[test]
fn of_two_servers_the_one_that_is_meant_runs_the_command() {
    let (one, other) = (Bench::new(2, "mirror"), Bench::new(2, "mirror"));
    one.import("v", &noise(7, MIB));
    other.import("v", &noise(8, MIB));
    let (mut first, _) = Server::start(&one, &[]);
    let (mut second, _) = Server::start(&other, &[]);
    assert!(one.export("v") == noise(7, MIB));
    assert!(other.export("v") == noise(8, MIB));
    // Both in one directory, by links.
    let both = one.beside("both");
    std::fs::create_dir(&both).expect("made");
    for (bench, prefix) in [(&one, "a"), (&other, "b")] {
        for i in 0..2 {
            let link = both.join(format!("{prefix}{i}"));
            std::os::unix::fs::symlink(bench.member(i), link).expect("linked");
        }
    }
    let refused = expect(65, &["status", text(&both)]);
    assert!(refused.err.contains("several arrays are meant"), "{refused:?}");
    let status = expect(0, &["status", text(&both.join("b1")), "--json"]).json();
    let uuid = expect(0, &["status", &other.array(), "--json"]).json()["uuid"].clone();
    assert_eq!(status["uuid"], uuid);
    for server in [&mut first, &mut second] {
        assert_eq!(server.signal(Signal::TERM), Some(0));
    }
}

#[test]
fn a_command_that_the_end_of_the_server_interrupts_says_so() {
    let bench = Bench::new(3, "2+1");
    let (mut server, _) = Server::start(&bench, &[]);
    let mut import = command(&["import", "-", &bench.volume("v")])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut input = import.stdin.take().expect("piped");
    input.write_all(&noise(9, 8 * MIB)).expect("taken");
    assert_eq!(server.signal(Signal::TERM), Some(0));
    // Nobody reads any more, or the next piece finds the array closed.
    let _broken = input.write_all(&noise(10, 8 * MIB)).is_err();
    drop(input);
    let ended = import.wait_with_output().expect("ended");
    assert!(!ended.status.success());
    assert!(!ended.stderr.is_empty());
    expect(0, &["status", &bench.array()]);
}

#[test]
fn jobs_are_paused_limited_watched_and_stopped_from_outside() {
    let bench = Bench::new(3, "2+1");
    let array = bench.array();
    bench.import("v", &noise(11, 40 * MIB));
    // Nobody has it open: nobody is there to be told.
    expect(65, &["scrub", &array, "--no-wait"]);
    expect(65, &["rebuild", &array, "--pause"]);
    let (mut server, _) = Server::start(&bench, &["--scrub-every", "never"]);
    let job = || {
        let status = paritas(&["status", &array, "--json"]).json();
        let job = status["jobs"][0].clone();
        (job["kind"].as_str().unwrap_or("").to_owned(), job["state"].as_str().unwrap_or("").to_owned())
    };
    expect(0, &["scrub", &array, "--no-wait", "--limit", "1M"]);
    until(|| job() == ("scrub".into(), "running".into()));
    let refused = expect(65, &["scrub", &array]);
    assert!(refused.err.contains("a scrub is under way"), "{refused:?}");
    expect(0, &["scrub", &array, "--pause"]);
    until(|| job() == ("scrub".into(), "paused".into()));
    let watched = expect(0, &["watch", &array]);
    assert!(watched.out.contains("scrub is paused"), "{watched:?}");
    // It goes on where it was, as fast as it can.
    expect(0, &["scrub", &array, "--no-wait", "--limit", "none"]);
    expect(0, &["watch", &array]);
    let done = paritas(&["status", &array, "--json"]).json();
    assert!(done["jobs"].as_array().is_some_and(Vec::is_empty) && done["scrubbed"].is_u64(), "{done}");
    expect(0, &["scrub", &array, "--no-wait", "--limit", "1M"]);
    until(|| job() == ("scrub".into(), "running".into()));
    expect(0, &["scrub", &array, "--stop"]);
    until(|| job() == (String::new(), String::new()));
    assert_eq!(server.signal(Signal::TERM), Some(0));
}

#[test]
fn a_server_scrubs_what_is_due_by_itself() {
    let bench = Bench::new(3, "2+1");
    let array = bench.array();
    let data = noise(12, 4 * MIB);
    bench.import("v", &data);
    let scrubbed = || paritas(&["status", &array, "--json"]).json()["scrubbed"].clone();
    assert!(scrubbed().is_null());
    let (mut server, _) = Server::start(&bench, &["--scrub-every", "never"]);
    assert_eq!(server.signal(Signal::TERM), Some(0));
    assert!(scrubbed().is_null());
    let (mut server, _) = Server::start(&bench, &[]);
    until(|| scrubbed().is_u64());
    assert_eq!(server.signal(Signal::TERM), Some(0));
    assert!(scrubbed().is_u64() && bench.export("v") == data);
}

#[test]
fn a_caller_that_is_stopped_is_waited_for_unless_the_server_ends() {
    let bench = Bench::new(3, "2+1");
    let array = bench.array();
    let (mut server, _) = Server::start(&bench, &["--scrub-every", "never"]);
    // One that was told something, and is stopped.
    let stopped = |count: &[&str]| {
        let args = [&["iostat", &array, "0.0005", "--json"], count].concat();
        let mut child =
            command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut shown = String::new();
        out.read_line(&mut shown).expect("shown");
        kill_process(Pid::from_child(&child), Signal::STOP).expect("alive");
        (child, out, shown)
    };
    let wake = |(child, mut out, mut shown): (Child, BufReader<ChildStdout>, String)| {
        kill_process(Pid::from_child(&child), Signal::CONT).expect("alive");
        out.read_to_string(&mut shown).expect("shown");
        let ended = child.wait_with_output().expect("ended");
        (ended.status.code(), shown, String::from_utf8(ended.stderr).expect("UTF-8"))
    };
    // More than there is room for on the way: the server has to wait.
    let caller = stopped(&["--count", "1000"]);
    for _ in 0..3 {
        bench.import("v", &noise(15, MIB));
    }
    let (code, shown, said) = wake(caller);
    assert!(code == Some(0) && said.is_empty(), "{code:?} {said}");
    let looks = shown.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole document"));
    assert_eq!(looks.count(), 1000);
    // The end of the server does not wait for it, and it says so when it wakes.
    let caller = stopped(&[]);
    assert_eq!(server.signal(Signal::TERM), Some(0));
    let (code, _, said) = wake(caller);
    assert!(code > Some(0) && said.contains("paritas: "), "{code:?} {said}");
}

#[test]
fn what_volumes_and_members_do_is_shown() {
    let bench = Bench::new(3, "2+1");
    let array = bench.array();
    bench.import("v", &noise(13, MIB));
    expect(65, &["iostat", &array]);
    expect(64, &["iostat", &array, "0"]);
    let (mut server, _) = Server::start(&bench, &["--scrub-every", "never"]);
    let mut look = command(&["iostat", &array, "0.5", "--count", "4", "--json"]);
    let look = look.stdout(Stdio::piped()).spawn().expect("started");
    // It goes on until all have been shown.
    let worker = thread::spawn(move || look.wait_with_output().expect("ended"));
    while !worker.is_finished() {
        bench.import("v", &noise(14, MIB));
    }
    let shown = String::from_utf8(worker.join().expect("no panic").stdout).expect("UTF-8");
    let looks: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(looks.len(), 4, "{shown}");
    let sum = |list: &str, what: &str| -> u64 {
        let rows = looks.iter().flat_map(|look| look[list].as_array().expect("a list"));
        rows.map(|row| row["activity"]["write"][what].as_u64().expect("a number")).sum()
    };
    assert!(sum("volumes", "bytes") >= MIB as u64 && sum("volumes", "failed") == 0, "{shown}");
    assert!(sum("members", "bytes") > sum("volumes", "bytes"), "data, parity and headers: {shown}");
    assert_eq!(looks[0]["members"].as_array().map(Vec::len), Some(3));
    let table = expect(0, &["iostat", &array]).out;
    assert!(
        table.contains("volume v ") && table.contains("  2 m2 ") && table.lines().count() == 6,
        "{table}"
    );
    assert_eq!(server.signal(Signal::TERM), Some(0));
}
