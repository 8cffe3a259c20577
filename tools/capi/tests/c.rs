//! C programs, compiled by the compiler that Rust links with, against the header and both libraries.
//!
//! Cargo builds neither library for a test, because no Rust program links them: so the test asks it to. What the
//! workspace's tests are built of has other features than what is built without them: asked for together with them, the
//! libraries are all that is left to build.

use engine::types::Scheme;
use engine::volume::{Array, CreateOptions, OpenOptions};
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Runs a command; what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}\n{complained}", output.status);
    said.into_owned()
}

/// The folder that has both libraries.
fn libraries() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder in the target's");
        let mut cargo = Command::new(env!("CARGO"));
        // What cargo says to tests about their package is not for it: build scripts would run again for a change, and
        // with one of them (ring's) nearly everything.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text == "OUT_DIR" || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(&name);
            }
        }
        cargo.args(
            "build --locked --quiet --workspace --lib --bins --tests --profile test --target-dir".split(' '),
        );
        run(cargo.arg(target).current_dir(env!("CARGO_MANIFEST_DIR")));
        target.join("debug")
    })
}

/// How a program is linked.
#[derive(Clone, Copy)]
enum Linking {
    Shared,
    Static,
}

/// Compiles a program of this package, so that it runs in `folder`.
fn compile(source: &str, linking: Linking, folder: &Path) -> Command {
    let (package, built) = (Path::new(env!("CARGO_MANIFEST_DIR")), libraries());
    let program = folder.join("program");
    let mut cc = Command::new("cc");
    cc.args([
        "-std=c11",
        "-D_POSIX_C_SOURCE=200809L",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        "-O1",
        "-o",
    ]);
    cc.arg(&program).arg("-I").arg(package.join("include")).arg(package.join(source));
    match linking {
        Linking::Shared => {
            symlink(built.join("libparitas.so"), folder.join("libparitas.so.0")).expect("a link");
            cc.arg("-L").arg(built).args(["-lparitas", "-pthread"]);
        }
        Linking::Static => {
            cc.arg(built.join("libparitas.a")).args(static_libraries());
        }
    }
    run(&mut cc);
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", folder);
    command
}

/// What else a program needs that has the whole library in it: as the file for pkg-config says.
fn static_libraries() -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("libparitas.pc.in");
    let text = fs::read_to_string(file).expect("a file for pkg-config");
    let line = text.lines().find_map(|line| line.strip_prefix("Libs.private:")).expect("a line");
    line.split_whitespace().map(str::to_owned).collect()
}

/// An array of 2+1 with a volume.
fn array(folder: &Path, volume: &str) -> PathBuf {
    let place = folder.join("array");
    fs::create_dir(&place).expect("a folder");
    let members: Vec<PathBuf> = (0..3).map(|i| place.join(format!("m{i}"))).collect();
    let options =
        CreateOptions { size: Some(64 << 20), scheme: Scheme::new(2, 1), ..CreateOptions::default() };
    let array = Array::create(&members, &options).expect("made");
    array.create_volume(volume, 1 << 20, None).expect("created");
    array.close().expect("closed");
    place
}

/// What the example leaves is there, also when a member is not.
fn tour(linking: Linking) {
    let folder = tempfile::tempdir().expect("a folder");
    let place = array(folder.path(), "mail");
    let said = run(compile("examples/tour.c", linking, folder.path()).arg(&place).arg("mail"));
    assert!(
        said.contains("3 of 3 members in use\nvolume mail: 1048576 bytes, 1 more members may be lost\n"),
        "{said}"
    );
    fs::remove_file(place.join("m1")).expect("lost");
    let array = Array::open(&place, &OpenOptions::default()).expect("opened");
    let volume = array.volume("mail").expect("there");
    assert!(volume.read((1 << 20) - 512, 512).expect("read").starts_with(b"written from C\0"));
    for block in 0..64u8 {
        let bytes = volume.read(u64::from(block) << 12, 1 << 12).expect("read");
        assert!(bytes == vec![block + 1; 1 << 12], "block {block}");
    }
    array.close().expect("closed");
}

/// What the example makes is there, also when a member is not.
fn made(linking: Linking) {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("array");
    fs::create_dir(&place).expect("a folder");
    let members = [place.join("m0"), place.join("m1")];
    let said = run(compile("examples/tour.c", linking, folder.path()).arg("mail").args(&members));
    assert!(said.contains("2 of 2 members in use\nvolume mail: 1048576 bytes, 1 more"), "{said}");
    fs::remove_file(&members[1]).expect("lost");
    let array = Array::open(&place, &OpenOptions::default()).expect("opened");
    let read = array.volume("mail").expect("there").read((1 << 20) - 512, 512).expect("read");
    assert!(read.starts_with(b"written from C\0"));
    array.close().expect("closed");
}

fn checks(linking: Linking) {
    let folder = tempfile::tempdir().expect("a folder");
    let place = array(folder.path(), "v");
    let nothing = folder.path().join("nothing");
    fs::create_dir(&nothing).expect("a folder");
    run(compile("tests/checks.c", linking, folder.path()).arg(&place).arg(&nothing));
}

#[test]
fn the_example_runs_with_the_shared_library() {
    tour(Linking::Shared);
}

#[test]
fn the_example_runs_with_the_static_library() {
    tour(Linking::Static);
}

#[test]
fn the_example_makes_arrays() {
    made(Linking::Shared);
    made(Linking::Static);
}

#[test]
fn callers_are_answered_as_the_header_says_by_the_shared_library() {
    checks(Linking::Shared);
}

#[test]
fn callers_are_answered_as_the_header_says_by_the_static_library() {
    checks(Linking::Static);
}
