//! `paritas sim`: scenarios, reports, and runs that are kept and replayed.

mod common;

use common::{Bench, expect};
use serde_json::Value;
use std::fs;

fn document(text: &str) -> Value {
    serde_json::from_str(text).expect("one JSON document")
}

#[test]
fn a_report_has_what_was_printed_and_a_page_to_look_at() {
    let bench = Bench::empty();
    let folder = bench.beside("report").display().to_string();
    let ended = expect(
        0,
        &["sim", "--seeds", "3", "--seed", "5", "--scenario", "power", "--report", &folder, "--json"],
    );
    let kept = fs::read_to_string(format!("{folder}/report.json")).expect("kept");
    assert_eq!(document(&kept), ended.json());
    assert_eq!((&ended.json()["seeds"], &ended.json()["scenario"]), (&3.into(), &"power".into()));
    let page = fs::read_to_string(format!("{folder}/index.html")).expect("kept");
    assert!(page.contains("0 of 3 seeds failed") && page.contains("never happened"), "{page}");
}

#[test]
fn the_same_seeds_take_the_same_course_and_those_of_another_scenario_another() {
    let trace = |scenario: &str, jobs: &str| {
        let ended = expect(0, &["sim", "--seeds", "4", "--scenario", scenario, "--jobs", jobs, "--json"]);
        ended.json()["trace"].clone()
    };
    assert_eq!(trace("members", "1"), trace("members", "3"));
    assert_ne!(trace("members", "2"), trace("rot", "2"));
}

#[test]
fn a_run_that_was_kept_is_told_and_one_that_is_none_is_refused() {
    let bench = Bench::empty();
    let kept = bench.file(
        "kept.run",
        b"# It failed once.\nparitas run 1\nseed 3\nlives 1\ncalls 0/client0/0 0/client0/1\n",
    );
    let ended = expect(0, &["sim", "--replay", &kept]);
    assert!(
        ended.out.contains("seed 3, standard") && ended.out.contains("more members vanish"),
        "{}",
        ended.out
    );
    let story = &expect(0, &["sim", "--replay", &kept, "--json"]).json()["stories"][0];
    assert!(story["calls"].as_u64().is_some_and(|calls| calls <= 2), "{story}");
    let broken = bench.file("broken.run", b"paritas run 1\nseed many\n");
    let refused = expect(64, &["sim", "--replay", &broken]);
    assert!(refused.err.contains("broken.run: 'many' is no number"), "{}", refused.err);
    expect(74, &["sim", "--replay", "no-such.run"]);
    expect(64, &["sim", "--seeds", "1", "--scenario", "sunny"]);
}

#[test]
fn a_sweep_ends_when_its_minutes_are_over() {
    assert_eq!(expect(0, &["sim", "--minutes", "0", "--json"]).json()["seeds"], 0);
}
