//! Members that promise more than the file system below them has. Each of these tests needs root, tmpfs and ext4.

use crate::array::{Array, MEMBER, errors, text};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system, mounted for as long as this lives.
struct Mounted {
    path: PathBuf,
}

#[track_caller]
fn system(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().expect("installed");
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

impl Mounted {
    /// In memory, with so many MiB.
    #[track_caller]
    fn tmpfs(path: &Path, mib: u32) -> Mounted {
        std::fs::create_dir(path).expect("a folder");
        system("mount", &["-t", "tmpfs", "-o", &format!("size={mib}M"), "tmpfs", &text(path)]);
        Mounted { path: path.into() }
    }

    fn resize(&self, mib: u32) {
        system("mount", &["-o", &format!("remount,size={mib}M"), &text(&self.path)]);
    }

    /// In a file, with so many MiB.
    #[track_caller]
    fn ext4(path: &Path, image: &Path, mib: u64) -> Mounted {
        std::fs::create_dir(path).expect("a folder");
        File::create(image).and_then(|file| file.set_len(mib << 20)).expect("made");
        system("mke2fs", &["-q", "-t", "ext4", "-m", "0", &text(image)]);
        system("mount", &["-o", "loop", &text(image), &text(path)]);
        Mounted { path: path.into() }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // If it is still in use, it goes with the last user.
        let _in_use = Command::new("umount").arg("--lazy").arg(&self.path).status().is_err();
    }
}

fn blank(path: &Path) -> PathBuf {
    File::create(path).and_then(|file| file.set_len(MEMBER)).expect("made");
    path.into()
}

#[test]
#[ignore = "needs root: tests/kernel"]
fn members_whose_file_system_is_full_are_evicted_and_come_back_when_there_is_room() {
    for full in [&[3][..], &[0, 5]] {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("array");
        std::fs::create_dir(&place).expect("a folder");
        let mut small = Vec::new();
        let members: Vec<PathBuf> = (0..6)
            .map(|i| {
                let member = place.join(format!("m{i}"));
                if full.contains(&i) {
                    small.push(Mounted::tmpfs(&folder.path().join(format!("small{i}")), 6));
                    let there = blank(&small.last().expect("pushed").path.join("member"));
                    std::os::unix::fs::symlink(there, &member).expect("linked");
                    member
                } else {
                    blank(&member)
                }
            })
            .collect();
        let mut array = Array::new(&place, &members, "4+2");
        let mut life = array.open();
        array.steps(&mut life, 600);
        array.verify(&mut life);
        life.close();
        let status = array.status(1);
        for i in full {
            assert!(errors(&status, *i, "write") > 0, "{status}");
            assert_eq!(status["members"][i]["state"], "out", "{status}");
        }
        small.iter().for_each(|mounted| mounted.resize(64));
        array.run(0, "rebuild", &[]);
        array.is_whole();
        array.verify_by_export();
    }
}

#[test]
#[ignore = "needs root: tests/kernel"]
fn an_array_whose_file_system_is_full_says_so_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("array");
    let image = folder.path().join("image");
    let _mounted = Mounted::ext4(&place, &image, 160);
    let members: Vec<PathBuf> = (0..6).map(|i| blank(&place.join(format!("m{i}")))).collect();
    let mut array = Array::new(&place, &members, "4+2");
    let mut life = array.open();
    array.steps(&mut life, 100);
    let ballast = place.join(".ballast");
    let mut file = File::create(&ballast).expect("made");
    let filled = std::io::copy(&mut std::io::repeat(1).take(1 << 30), &mut file);
    assert!(filled.is_err(), "the file system takes all");
    drop(file);
    array.begin_steps(&mut life, 20_000);
    let error = life.answer().expect_err("there is no room for it");
    assert!(error.starts_with("ReadOnly:") && error.contains("more member(s) failed"), "{error}");
    let flushed = life.flushed;
    life.end();
    // Who only looks finds it whole, and who reads is served without a byte written.
    array.status(0);
    array.recover(flushed.expect("the first hundred"));
    std::fs::remove_file(&ballast).expect("removed");
    array.after_kill(flushed);
    let mut life = array.open();
    array.steps(&mut life, 100);
    array.verify(&mut life);
    life.close();
    array.is_whole();
}
