//! A writer that is killed at a random moment loses nothing that it had flushed, and leaves a prefix.

mod common;
#[path = "../src/endure/history.rs"]
mod history;

use common::{Bench, MIB, expect};
use history::{History, Model};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

/// Runs the writer, kills it some time after its first flush, and returns the last step that it said is flushed.
fn write_and_kill(bench: &Bench, after: u64, time: Duration) -> u64 {
    let after_text = after.to_string();
    let mut writer = common::command(&["__endure", "writer", &bench.array(), "v", "--after", &after_text]);
    let mut writer = writer.stdout(Stdio::piped()).spawn().expect("started");
    let lines = BufReader::new(writer.stdout.take().expect("piped")).lines();
    let steps = lines.filter_map(|line| line.expect("a line").strip_prefix("v ").map(str::to_owned));
    let mut steps = steps.map(|step| step.parse().expect("a number"));
    let first = steps.next().expect("it flushes before it ends");
    std::thread::sleep(time);
    writer.kill().expect("killed");
    writer.wait().expect("ended");
    steps.fold(first, u64::max)
}

/// Which step a killed writer came to.
fn advance(bench: &Bench, model: &mut Model, base: u64, flushed: u64) -> Result<u64, String> {
    let bytes = bench.export("v");
    let mut seen = Vec::new();
    History::new("v", bytes.len() as u64).recognise(&bytes, &mut seen)?;
    model.advance(&seen, base, flushed)
}

/// `tests/kill9` runs many of these.
#[test]
fn rounds_of_kill_lose_nothing_flushed() {
    let tally = expect(0, &["__endure", "kill9", "--rounds", "12", "--json"]).json();
    for what in ["flushes", "steps", "unflushed"] {
        assert!(tally[what].as_u64().is_some_and(|count| count > 0), "{what}: {tally}");
    }
}

#[test]
fn after_a_kill_two_members_may_be_rotten_or_gone() {
    for (trial, name) in ["gone", "rotten", "one of each"].iter().enumerate() {
        let bench = Bench::new(6, "4+2");
        expect(0, &["volume", "create", &bench.volume("v"), "--size", "4M"]);
        let mut model = Model::new(History::new("v", 4 << 20));
        let flushed = write_and_kill(&bench, 0, Duration::from_millis(300));
        assert!(flushed > 0);
        match trial {
            0 => [2, 3].into_iter().for_each(|member| bench.lose(member)),
            1 => [0, 5].into_iter().for_each(|member| bench.garbage(member, 0, 40 * MIB)),
            _ => {
                bench.lose(1);
                bench.garbage(4, MIB, 30 * MIB);
            }
        }
        let found = advance(&bench, &mut model, 0, flushed);
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        // And it goes on from there.
        let flushed = write_and_kill(&bench, found, Duration::from_millis(300));
        let found = advance(&bench, &mut model, found, flushed);
        found.unwrap_or_else(|error| panic!("{name}, later: {error}"));
    }
}
