//! What destroys asks first, where a person sits at a terminal, and only there.

mod common;

use common::server::Server;
use common::{Bench, Ended, MIB, command, expect, fingerprint, noise, paritas};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

/// The end of what is typed at a terminal.
const CONTROL_D: &str = "\u{4}";

/// Where standard error goes beside the terminal that the standard input is.
#[derive(Clone, Copy, PartialEq)]
enum Errors {
    ToTheTerminal,
    Elsewhere,
}

/// Runs a command at a terminal at which that was typed. What it says on standard error is what the terminal shows.
fn at_terminal(args: &[&str], typed: &str, errors: Errors) -> Ended {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).expect("a terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("unlocked");
    let theirs = ioctl_tiocgptpeer(&ours, flags).expect("its other side");
    let mut ours = File::from(ours);
    ours.write_all(typed.as_bytes()).expect("typed");
    let mut command = command(args);
    command.stdin(theirs.try_clone().expect("a copy")).stdout(Stdio::piped());
    match errors {
        Errors::ToTheTerminal => command.stderr(theirs),
        Errors::Elsewhere => {
            drop(theirs);
            command.stderr(Stdio::piped())
        }
    };
    let child = command.spawn().expect("started");
    drop(command);
    let mut shown = Vec::new();
    // Ends with an error, as terminals do, when nobody has the other side open any more.
    let _hung_up = ours.read_to_end(&mut shown).is_err();
    let output = child.wait_with_output().expect("ended");
    shown.extend(output.stderr);
    Ended {
        code: output.status.code().expect("no signal"),
        out: String::from_utf8_lossy(&output.stdout).into(),
        err: String::from_utf8_lossy(&shown).into(),
    }
}

fn is_asked(ended: &Ended) -> bool {
    ended.err.contains("type 'yes'")
}

/// The command asks, and names that; changes nothing on the array but for a yes; and asks no script.
#[track_caller]
fn asks(array: &str, args: &[&str], named: &[&str], code: i32) {
    let before = fingerprint(Path::new(array));
    for answer in ["no\n", "\n", "y\n", CONTROL_D] {
        let ended = at_terminal(args, answer, Errors::ToTheTerminal);
        assert!(ended.code == 65 && is_asked(&ended), "{args:?} {answer:?}: {ended:?}");
        for name in named {
            assert!(ended.err.contains(name), "{args:?} {name:?}: {ended:?}");
        }
        assert!(ended.err.contains("nothing was changed"), "{args:?}: {ended:?}");
    }
    assert!(fingerprint(Path::new(array)) == before, "{args:?} has changed something");
    let json = [args, &["--json"]].concat();
    let ended = at_terminal(&json, "no\n", Errors::ToTheTerminal);
    assert_eq!((ended.code, ended.json()["error"]["kind"].as_str()), (65, Some("refused")), "{ended:?}");
    let ended = at_terminal(args, "yes\n", Errors::ToTheTerminal);
    assert!(ended.code == code && is_asked(&ended), "{args:?}: {ended:?}");
}

/// The command does not ask a person.
#[track_caller]
fn asks_nobody(args: &[&str], code: i32) {
    let ended = at_terminal(args, "no\n", Errors::ToTheTerminal);
    assert!(ended.code == code && !is_asked(&ended), "{args:?}: {ended:?}");
}

#[test]
fn volumes_are_deleted_and_cut_off_only_when_the_person_says_yes() {
    for is_served in [false, true] {
        let bench = Bench::new(3, "2+1");
        let array = bench.array();
        let data = noise(1, 2 * MIB);
        bench.import("v", &data);
        let mut server = is_served.then(|| Server::start(&bench, &["--scrub-every", "never"]).0);
        let v = bench.volume("v");
        asks(&array, &["volume", "resize", &v, "--size", "1M"], &["'v'", "'array'", "1.00 MiB"], 0);
        asks_nobody(&["volume", "resize", &v, "--size", "4M"], 0);
        asks_nobody(&["volume", "resize", &v, "--size", "1M", "--yes"], 0);
        assert!(bench.export("v") == data[..MIB]);
        asks(&array, &["volume", "delete", &v], &["delete", "'v'", "'array'", "1.00 MiB"], 0);
        // What is not there is not asked about.
        asks_nobody(&["volume", "delete", &v], 65);
        bench.import("v", &data);
        asks_nobody(&["volume", "delete", &v, "-y"], 0);
        bench.import("v", &data);
        // Who cannot see the question is not asked, nor who cannot answer it.
        let ended = at_terminal(&["volume", "delete", &v], "no\n", Errors::Elsewhere);
        assert!(ended.code == 0 && !is_asked(&ended), "{ended:?}");
        bench.import("v", &data);
        expect(0, &["volume", "delete", &v]);
        if let Some(server) = &mut server {
            assert_eq!(server.signal(Signal::TERM), Some(0));
        }
    }
}

#[test]
fn volumes_and_files_are_written_over_only_when_the_person_says_yes() {
    for is_served in [false, true] {
        let bench = Bench::new(3, "2+1");
        let array = bench.array();
        let (old, new) = (noise(2, MIB), noise(3, MIB));
        let mut server = is_served.then(|| Server::start(&bench, &["--scrub-every", "never"]).0);
        let (old_file, new_file) = (bench.file("old", &old), bench.file("new", &new));
        let v = bench.volume("v");
        asks_nobody(&["import", &old_file, &v], 0);
        asks(&array, &["import", &new_file, &v], &["'v'", "'array'"], 0);
        assert!(bench.export("v") == new);
        asks_nobody(&["import", &old_file, &v, "--yes"], 0);
        let large = bench.file("large", &noise(4, 2 * MIB));
        asks_nobody(&["import", &large, &v], 65);
        let none = bench.beside("none");
        let none = none.to_str().expect("UTF-8");
        asks_nobody(&["export", &v, none], 0);
        asks(&array, &["export", &v, &new_file], &["new?"], 0);
        assert!(std::fs::read(&new_file).expect("there") == old);
        if let Some(server) = &mut server {
            assert_eq!(server.signal(Signal::TERM), Some(0));
        }
    }
}

#[test]
fn members_are_made_over_what_they_hold_only_when_the_person_says_yes() {
    let bench = Bench::new(3, "2+1");
    let array = bench.array();
    bench.import("v", &noise(5, MIB));
    let m: Vec<String> = (0..3).map(|i| bench.member(i).to_str().expect("UTF-8").to_owned()).collect();
    let stuff = bench.file("array/stuff", &noise(6, 64 * MIB));
    let force = |yes: &'static [&str]| {
        let members = [m[0].as_str(), m[1].as_str(), stuff.as_str()];
        [&["mkfs", "--force"], members.as_slice(), yes].concat()
    };
    asks(
        &array,
        &force(&[]),
        &["m0: a member of array 'array'", "m1: a member", "stuff: it is not blank"],
        0,
    );
    // Without force it is refused as ever, and what is blank holds nothing.
    asks_nobody(&["mkfs", &m[0], &m[1]], 65);
    asks_nobody(&force(&["--yes"]), 0);
    let blank = bench.beside("blank");
    asks_nobody(&["mkfs", "--force", "--size", "64M", blank.to_str().expect("UTF-8")], 0);

    let other = Bench::new(3, "2+1");
    other.import("v", &noise(7, MIB));
    for is_served in [false, true] {
        let mut server = is_served.then(|| Server::start(&other, &["--scrub-every", "never"]).0);
        let stuff = other.file("stuff", &noise(8, 64 * MIB));
        asks(&other.array(), &["replace", &other.array(), "1", &stuff, "--force"], &["stuff: it is not"], 0);
        expect(0, &["replace", &other.array(), "stuff", other.member(1).to_str().expect("UTF-8")]);
        if let Some(server) = &mut server {
            assert_eq!(server.signal(Signal::TERM), Some(0));
        }
    }
}

#[test]
fn losses_are_acknowledged_only_when_the_person_says_yes() {
    for is_served in [false, true] {
        let bench = Bench::new(2, "stripe");
        bench.import("v", &noise(9, 8 * MIB));
        asks_nobody(&["clear", &bench.array()], 0);
        bench.garbage(0, 2 * MIB, 4 * MIB);
        expect(2, &["scrub", &bench.array()]);
        let mut server = is_served.then(|| Server::start(&bench, &["--scrub-every", "never"]).0);
        let lost =
            || paritas(&["status", &bench.array(), "--json"]).json()["damage"].as_array().map(Vec::len);
        assert!(lost() > Some(0));
        asks(&bench.array(), &["clear", &bench.array()], &["'array'", "entries"], 0);
        assert_eq!(lost(), Some(0));
        if let Some(server) = &mut server {
            assert_eq!(server.signal(Signal::TERM), Some(0));
        }
    }
}

#[test]
fn members_are_damaged_and_metadata_made_anew_only_when_the_person_says_yes() {
    for is_served in [false, true] {
        let bench = Bench::new(3, "2+1");
        let array = bench.array();
        bench.import("v", &noise(10, MIB));
        let mut server = is_served.then(|| Server::start(&bench, &["--scrub-every", "never"]).0);
        asks(&array, &["inject", &array, "m0", "rot", "--count", "3"], &["rot", "m0", "'array'"], 0);
        asks(&array, &["inject", &array, "m1", "lost-write"], &["lost-write", "m1"], 0);
        // What ends when it is removed is not asked about.
        asks_nobody(&["inject", &array, "m1", "read-error", "--range", "1M+4K"], 0);
        asks_nobody(&["inject", &array, "--remove", "all"], 0);
        if let Some(server) = &mut server {
            assert_eq!(server.signal(Signal::TERM), Some(0));
        }
    }
    let bench = Bench::new(3, "2+1");
    let data = noise(11, MIB);
    bench.import("v", &data);
    asks_nobody(&["salvage", &bench.array()], 65);
    for i in 0..3 {
        bench.garbage(i, 0, MIB);
        bench.garbage(i, 63 * MIB, MIB);
    }
    asks(&bench.array(), &["salvage", &bench.array()], &["array", "metadata"], 0);
    assert!(bench.export("v") == data);
}
