//! `paritas bench`: every row is there, and nothing is left behind, whatever happens.

mod common;

use common::{Bench, MIB, command, expect, noise};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SHORT: [&str; 5] = ["--size", "64M", "--seconds", "0.1", "--json"];

fn args<'a>(scheme: &'a str, members: &'a [String]) -> Vec<&'a str> {
    let mut args = vec!["bench", "--scheme", scheme];
    args.extend(SHORT);
    args.push("--members");
    args.extend(members.iter().map(String::as_str));
    args
}

fn paths(bench: &Bench, count: usize) -> Vec<String> {
    (0..count).map(|i| bench.member(i).to_str().expect("UTF-8").to_owned()).collect()
}

fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(Path::new(folder)).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn every_row_has_its_figures_and_the_members_are_blank_again() {
    let bench = Bench::empty();
    let members = paths(&bench, 4);
    std::fs::File::create(&members[1]).expect("made").set_len(80 * MIB as u64).expect("sized");
    let figures = expect(0, &args("2+1", &members)).json();
    assert_eq!((figures["scheme"].as_str(), figures["members"].as_u64()), (Some("2+1"), Some(4)));
    let rows = figures["rows"].as_array().expect("a list");
    let found: Vec<&str> = rows.iter().map(|row| row["name"].as_str().expect("a name")).collect();
    let expected = [
        "sequential write",
        "sequential read",
        "random read",
        "random write",
        "flushed write",
        "degraded sequential read",
        "degraded random read",
        "rebuild",
    ];
    assert_eq!(found, expected);
    for row in rows {
        for side in ["engine", "plain"] {
            let figure = |name: &str| row[side][name].as_f64().expect("a number");
            assert!(figure("operations") > 0.0 && figure("bytes_per_second") > 0.0, "{row}");
            if (row["name"] != "rebuild") || side == "plain" {
                assert!(figure("p50_us") > 0.0 && figure("p50_us") <= figure("p99_us"), "{row}");
            }
            assert!(figure("cpu_us_per_operation") > 0.0, "{row}");
        }
        assert!(row["ratio"].as_f64() > Some(0.0));
        let writes = row["name"].as_str().expect("a name").contains("write");
        assert_eq!(row["written_per_byte"].is_f64(), writes, "{row}");
        // Two data columns and one of parity, and what describes them.
        assert!(!writes || row["written_per_byte"].as_f64() >= Some(1.5), "{row}");
    }
    assert_eq!(names(&bench.array()), ["m1"]);
    assert!(std::fs::read(&members[1]).expect("there") == vec![0; 80 * MIB]);
}

#[test]
fn members_that_are_not_blank_are_refused_and_stay_as_they_are() {
    let bench = Bench::empty();
    let members = paths(&bench, 3);
    std::fs::write(&members[1], noise(1, 70 * MIB)).expect("written");
    expect(65, &args("2+1", &members));
    assert_eq!(names(&bench.array()), ["m1"]);
    assert!(std::fs::read(&members[1]).expect("there") == noise(1, 70 * MIB));
    // Members of an array, too few members, one of them twice.
    let array = Bench::new(3, "2+1");
    expect(65, &args("2+1", &paths(&array, 3)));
    expect(0, &["status", &array.array()]);
    let empty = Bench::empty();
    let few = paths(&empty, 2);
    expect(65, &args("2+1", &few));
    expect(65, &args("mirror", &[few[0].clone(), few[0].clone()]));
    for seconds in ["-1", "x", "NaN", "1e30", ""] {
        expect(64, &["bench", "--seconds", seconds, "--members", &few[0], &few[1]]);
    }
    assert!(names(&empty.array()).is_empty());
    expect(65, &["bench", "--size", "1P"]);
}

#[test]
fn members_in_memory_are_gone_afterwards_also_after_an_interrupt() {
    if !Path::new("/dev/shm").is_dir() {
        return;
    }
    let mut running = command(&["bench", "--scheme", "2+1", "--size", "64M", "--seconds", "60", "--json"]);
    let mut running = running.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let prefix = format!("paritas-bench-{}-", running.id());
    let is_there = || names("/dev/shm").iter().any(|name| name.starts_with(&prefix));
    let began = Instant::now();
    while !is_there() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(is_there());
    std::thread::sleep(Duration::from_millis(500));
    let killed = Command::new("kill").args(["-INT", &running.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    assert_eq!(running.wait().expect("ended").code(), Some(74));
    assert!(!is_there());
}
