//! Members that are block devices: loop devices over files. Each of these tests needs root and loop devices.

use crate::array::{Array, DATA, MEMBER, errors, text};
use crate::common::{expect, paritas};
use crate::disk::{Disk, Faults, Way};
use fuser::Errno;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A device that one test has given back is the next that another is given: the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A loop device. It is told to go with whoever has it open last, and this test has it open: so it goes when the test
/// ends, however that is.
struct Loop {
    path: PathBuf,
    /// Keeps it until it is dropped.
    holder: Option<File>,
}

/// Runs a program of the system that must succeed, and returns what it says.
#[track_caller]
fn system(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("installed");
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

impl Loop {
    /// A device over a file, with sectors of so many bytes.
    #[track_caller]
    fn over(file: &Path, sector: u32) -> Loop {
        let sector = sector.to_string();
        let args = ["--find", "--show", "--direct-io=on", "--sector-size", &sector, &text(file)];
        let path = PathBuf::from(system("losetup", &args));
        let holder = File::open(&path).expect("there");
        system("losetup", &["--detach", &text(&path)]);
        Loop { path, holder: Some(holder) }
    }

    /// A device over a new blank file.
    fn new(file: &Path, len: u64, sector: u32) -> Loop {
        File::create(file).and_then(|file| file.set_len(len)).expect("made");
        Loop::over(file, sector)
    }

    /// Takes it away, if nobody else has it open: else it goes when they close it.
    fn detach(&mut self) {
        self.holder = None;
    }

    fn is_attached(&self) -> bool {
        Command::new("losetup").arg(&self.path).output().expect("installed").status.success()
    }
}

/// Devices, and a folder with links to them, which names the array.
struct Bench {
    folder: tempfile::TempDir,
    loops: Vec<Loop>,
    array: Array,
}

impl Bench {
    fn new(len: u64, sector: u32) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let loops: Vec<Loop> =
            (0..3).map(|i| Loop::new(&folder.path().join(format!("{i}.backing")), len, sector)).collect();
        let place = folder.path().join("array");
        std::fs::create_dir(&place).expect("a folder");
        let members: Vec<PathBuf> = (0..3).map(|i| place.join(format!("m{i}"))).collect();
        for (member, device) in members.iter().zip(&loops) {
            std::os::unix::fs::symlink(&device.path, member).expect("linked");
        }
        let array = Array::new(&place, &members, "2+1");
        Bench { folder, loops, array }
    }

    fn volume(&self, name: &str) -> String {
        format!("{}:{name}", self.folder.path().join("array").display())
    }

    /// Gives a device a name among those of the array.
    fn link(&self, name: &str, device: &Loop) -> PathBuf {
        let path = self.folder.path().join("array").join(name);
        // A device that is gone may have left its name behind.
        let _none = std::fs::remove_file(&path).is_err();
        std::os::unix::fs::symlink(&device.path, &path).expect("linked");
        path
    }

    fn backing(&self, i: usize) -> PathBuf {
        self.folder.path().join(format!("{i}.backing"))
    }
}

#[test]
#[ignore = "needs root and loop devices: tests/kernel"]
fn devices_of_any_sector_and_size_are_members() {
    let _turn = turn();
    for (len, sector) in [(MEMBER, 512), (MEMBER, 4096), (MEMBER + 512, 512), (MEMBER + (1 << 20) - 512, 512)]
    {
        let mut bench = Bench::new(len, sector);
        let mut life = bench.array.open();
        bench.array.steps(&mut life, 200);
        bench.array.verify(&mut life);
        bench.array.begin_steps(&mut life, 2000);
        life.until_flushed();
        let flushed = life.kill();
        bench.array.after_kill(flushed);
        bench.array.is_whole();
        let status = bench.array.status(0);
        for member in status["members"].as_array().expect("a list") {
            assert_eq!(member["size"], len, "{status}");
        }
    }
}

#[test]
#[ignore = "needs root and loop devices: tests/kernel"]
fn a_device_in_use_is_refused_to_everybody_else() {
    let _turn = turn();
    let mut bench = Bench::new(MEMBER, 512);
    let device = text(&bench.loops[1].path);
    let (place, volume) = (text(&bench.folder.path().join("array")), bench.volume("w"));
    let data = text(&bench.backing(0));
    let life = bench.array.open();
    for args in [
        &["import", &data, &volume, "--json"][..],
        &["scrub", &place, "--json"],
        &["mkfs", "--force", &device, "--json"],
    ] {
        let refused = expect(65, args).json();
        assert_eq!(refused["error"]["kind"], "busy", "{args:?}: {refused}");
    }
    let mount = Command::new("mount").args([&device, "/mnt"]).output().expect("installed");
    assert!(!mount.status.success(), "a member was mounted");
    bench.array.status(0);
    life.kill();
    bench.array.after_kill(None);
    // And an array is not made of a device that is mounted.
    let other = Loop::new(&bench.folder.path().join("other"), MEMBER, 512);
    let point = bench.folder.path().join("point");
    std::fs::create_dir(&point).expect("a folder");
    system("mke2fs", &["-q", "-t", "ext4", &text(&other.path)]);
    system("mount", &[&text(&other.path), &text(&point)]);
    let refused = expect(65, &["mkfs", "--force", &text(&other.path), "--json"]).json();
    let replaced = paritas(&["replace", &place, "m0", &text(&other.path), "--force", "--json"]);
    system("umount", &[&text(&point)]);
    assert_eq!(refused["error"]["kind"], "busy", "{refused}");
    assert_eq!(replaced.code, 65, "{replaced:?}");
    bench.array.is_whole();
}

#[test]
#[ignore = "needs root and loop devices: tests/kernel"]
fn a_device_that_is_detached_serves_to_the_end_and_is_missing_then() {
    let _turn = turn();
    let mut bench = Bench::new(MEMBER, 4096);
    let mut life = bench.array.open();
    bench.array.steps(&mut life, 50);
    bench.loops[1].detach();
    assert!(bench.loops[1].is_attached(), "the array has it open");
    bench.array.steps(&mut life, 50);
    bench.array.verify(&mut life);
    life.close();
    assert!(!bench.loops[1].is_attached(), "nobody has it open");
    let status = bench.array.status(1);
    assert_eq!(status["members"][1]["state"], "missing", "{status}");
    let mut life = bench.array.open();
    bench.array.steps(&mut life, 50);
    life.close();
    // It comes back under another name.
    let back = Loop::over(&bench.backing(1), 4096);
    bench.link("m1", &back);
    bench.array.run(0, "rebuild", &[]);
    bench.array.is_whole();
    bench.array.verify_by_export();
    // And a new one takes the place of another that is gone.
    bench.loops[2].detach();
    let new = Loop::new(&bench.folder.path().join("new"), MEMBER, 512);
    bench.array.run(0, "replace", &["m2", &text(&bench.link("new", &new))]);
    bench.array.is_whole();
    bench.loops[0].detach();
    bench.array.verify_by_export();
}

/// The devices lie on disks that fail: so they fail as block devices do.
#[test]
#[ignore = "needs root, FUSE and loop devices: tests/kernel"]
fn a_device_that_fails_loses_nothing_and_is_replaced() {
    let _turn = turn();
    let io = Some(Errno::EIO);
    for (faults, kind) in [
        (Faults { unreadable: vec![DATA], ..Faults::default() }, "read"),
        (Faults { write_error: io, ..Faults::default() }, "write"),
        (Faults { flush_errors: 1, ..Faults::default() }, "flush"),
        (Faults { gone: io, ..Faults::default() }, "write"),
    ] {
        let mut bench = Bench::new(MEMBER, 512);
        let disk = bench.folder.path().join("disk");
        let disk =
            Disk::new(&disk, &bench.folder.path().join("disk.backing"), MEMBER, Way::Ring).expect("mounted");
        let failing = Loop::over(disk.path(), 512);
        let path = bench.link("failing", &failing);
        bench.array.run(0, "replace", &["m1", &text(&path)]);
        bench.array.is_whole();
        let mut life = bench.array.open();
        bench.array.steps(&mut life, 40);
        disk.set(faults);
        bench.array.steps(&mut life, 40);
        bench.array.verify(&mut life);
        life.close();
        let code = i32::from(kind != "read");
        let status = bench.array.status(code);
        let mut members = status["members"].as_array().expect("a list").iter();
        let slot = members.position(|member| member["path"] == text(&path)).expect("a member");
        assert!(errors(&status, slot, kind) > 0, "{kind}: {status}");
        disk.release();
        let new = Loop::new(&bench.folder.path().join("new"), MEMBER, 512);
        bench.array.run(0, "replace", &[&slot.to_string(), &text(&bench.link("new", &new))]);
        bench.array.is_whole();
        bench.loops[0].detach();
        bench.array.verify_by_export();
    }
}
