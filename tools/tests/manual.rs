//! Completions, manual pages, and what is shown while one waits.

mod common;

use common::{Bench, MIB, command, expect, noise};
use std::process::{Command, Stdio};

/// The commands that a user may see.
fn commands() -> Vec<String> {
    let help = expect(0, &["--help"]).out;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names.map(str::to_owned).collect();
    assert!(names.contains(&"inspect".into()) && names.contains(&"bench".into()), "{names:?}");
    names
}

#[test]
fn every_shell_gets_a_script_that_it_understands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = expect(0, &["completions", shell]).out;
        for word in commands().iter().map(String::as_str).chain(["records", "seconds", "chance"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains("__endure"), "{shell}: a command that nobody is to see");
        let json = expect(0, &["completions", shell, "--json"]).json();
        assert_eq!((json["shell"].as_str(), json["script"].as_str()), (Some(shell), Some(script.as_str())));
        let checked = Command::new(shell).arg("-n").stdin(Stdio::piped()).spawn();
        let Ok(mut checked) = checked else { continue };
        let mut input = checked.stdin.take().expect("piped");
        std::io::Write::write_all(&mut input, script.as_bytes()).expect("read");
        drop(input);
        assert!(checked.wait().expect("ended").success(), "{shell}");
    }
    expect(64, &["completions", "teco"]);
    expect(64, &["completions"]);
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let bench = Bench::empty();
    let folder = bench.beside("new/man1");
    let folder = folder.to_str().expect("UTF-8");
    let pages = expect(0, &["man", folder, "--json"]).json();
    let pages: Vec<&str> = pages["pages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|page| page.as_str().expect("a name"))
        .collect();
    for name in commands().iter().filter(|name| *name != "help") {
        assert!(pages.contains(&format!("paritas-{name}.1").as_str()), "{name}: {pages:?}");
    }
    assert!(!pages.iter().any(|page| page.contains("__endure")), "{pages:?}");
    let page = std::fs::read_to_string(bench.beside("new/man1/paritas-inspect.1")).expect("a page");
    assert!(page.contains(".SH NAME") && page.contains("records"));
    let page = std::fs::read_to_string(bench.beside("new/man1/paritas-inject.1")).expect("a page");
    assert!(page.contains("misdirected") && page.contains("chance") && page.contains("MEMBER.inject"));
    expect(74, &["man", "/dev/null/man1"]);
}

/// What a command shows on a terminal: its standard error, and its standard output apart from it.
fn on_a_terminal(bench: &Bench, args: &[&str]) -> Option<(String, String)> {
    let program = command(args);
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().expect("UTF-8"));
    let words: Vec<String> =
        std::iter::once(quoted(program.get_program())).chain(program.get_args().map(quoted)).collect();
    let (shown, out) = (bench.beside("shown"), bench.beside("out"));
    let line = format!("{} > '{}'", words.join(" "), out.display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line]).arg(&shown);
    let ended = script.stdin(Stdio::null()).stdout(Stdio::null()).status().ok()?;
    assert!(ended.success(), "{args:?}");
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).expect("written")).into_owned();
    Some((read(shown), read(out)))
}

#[test]
fn progress_is_shown_on_a_terminal_only_and_never_among_the_answers() {
    let bench = Bench::new(3, "2+1");
    let file = bench.file("data", &noise(1, 24 * MIB));
    let (volume, out) = (bench.volume("v"), bench.beside("exported"));
    let out = out.to_str().expect("UTF-8");
    let members: Vec<String> =
        (10..13).map(|i| bench.member(i).to_str().expect("UTF-8").to_owned()).collect();
    let mut measure =
        vec!["bench", "--json", "--scheme", "2+1", "--size", "64M", "--seconds", "0.1", "--members"];
    measure.extend(members.iter().map(String::as_str));
    let import = ["import", &file, &volume, "--json", "--yes"];
    let export = ["export", &volume, out, "--json", "--yes"];
    let all: [(&[&str], &str); 3] = [(&import, "importing"), (&export, "exporting"), (&measure, "measuring")];
    for (args, word) in all {
        let ended = expect(0, args);
        assert!(ended.err.is_empty(), "{args:?}: {ended:?}");
        ended.json();
        let Some((shown, out)) = on_a_terminal(&bench, args) else { return };
        assert!(shown.contains(word) && shown.contains("eta "), "{args:?}: {shown}");
        assert!(shown.contains("/s eta"), "a rate: {shown}");
        serde_json::from_str::<serde_json::Value>(&out).expect("one document and nothing else");
    }
}

#[test]
fn by_its_second_name_it_makes_arrays() {
    let bench = Bench::empty();
    let link = bench.beside("mkfs.paritas");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_paritas"), &link).expect("linked");
    let members = [0, 1].map(|i| bench.member(i));
    let made = Command::new(&link).args(["--size", "64M", "--json"]).args(&members).output().expect("ran");
    assert!(made.status.success(), "{made:?}");
    expect(0, &["status", &bench.array()]);
    let refused = Command::new(&link).args(["status", &bench.array()]).output().expect("ran");
    assert_eq!(refused.status.code(), Some(64), "it makes arrays, and does nothing else: {refused:?}");
}
