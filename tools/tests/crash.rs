//! A writer that is killed at a random moment loses nothing that it had flushed, and leaves a prefix.

mod common;
#[path = "../src/history.rs"]
mod history;

use common::{Bench, MIB, expect};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

/// Runs the writer, kills it, and returns the last step that it said is flushed.
fn write_and_kill(bench: &Bench, after: u64, time: Duration) -> u64 {
    let mut writer = common::command(&["__writer", &bench.volume("v"), "--after", &after.to_string()]);
    let mut writer = writer.stdout(Stdio::piped()).spawn().expect("started");
    std::thread::sleep(time);
    writer.kill().expect("killed");
    writer.wait().expect("ended");
    let lines = BufReader::new(writer.stdout.take().expect("piped")).lines();
    lines.last().map_or(after, |line| line.expect("a line").parse().expect("a number"))
}

#[test]
fn rounds_of_kill_lose_nothing_flushed() {
    let bench = Bench::new(6, "4+2");
    expect(0, &["volume", "create", &bench.volume("v"), "--size", "4M"]);
    let mut last = 0;
    for round in 0..10 {
        let time = Duration::from_millis(60 + 37 * (round * round % 11));
        let flushed = write_and_kill(&bench, last, time);
        last =
            history::verify(&bench.export("v"), flushed).unwrap_or_else(|error| panic!("{round}: {error}"));
    }
    assert!(last > 100, "the writers came no further than {last}");
    expect(0, &["status", &bench.array()]);
}

#[test]
fn after_a_kill_two_members_may_be_rotten_or_gone() {
    for (trial, name) in ["gone", "rotten", "one of each"].iter().enumerate() {
        let bench = Bench::new(6, "4+2");
        expect(0, &["volume", "create", &bench.volume("v"), "--size", "4M"]);
        let flushed = write_and_kill(&bench, 0, Duration::from_millis(400));
        assert!(flushed > 0);
        match trial {
            0 => [2, 3].into_iter().for_each(|member| bench.lose(member)),
            1 => [0, 5].into_iter().for_each(|member| bench.garbage(member, 0, 40 * MIB)),
            _ => {
                bench.lose(1);
                bench.garbage(4, MIB, 30 * MIB);
            }
        }
        let found = history::verify(&bench.export("v"), flushed);
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        // And it goes on from there.
        let flushed = write_and_kill(&bench, found, Duration::from_millis(300));
        history::verify(&bench.export("v"), flushed).unwrap_or_else(|error| panic!("{name}, later: {error}"));
    }
}
