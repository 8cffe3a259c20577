//! Disks that fail as a file system in user space lets them: each of these tests needs root and FUSE.

use crate::array::{Array, DATA, MEMBER, errors, text};
use crate::disk::{Disk, Faults, Way};
use crate::load::Life;
use fuser::Errno;
use std::path::PathBuf;
use std::time::Duration;

/// Disks, and an array of scheme 4+2 on them.
struct Bench {
    folder: tempfile::TempDir,
    disks: Vec<Disk>,
    array: Array,
    way: Way,
}

impl Bench {
    fn new(way: Way) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("array");
        std::fs::create_dir(&place).expect("a folder");
        let disks: Vec<Disk> = (0..6).map(|i| disk(&folder, &format!("m{i}"), way)).collect();
        let members: Vec<PathBuf> = disks.iter().map(|disk| disk.path().into()).collect();
        let array = Array::new(&place, &members, "4+2");
        Bench { folder, disks, array, way }
    }

    fn set(&self, struck: &[usize], faults: &Faults) {
        struck.iter().for_each(|i| self.disks[*i].set(faults.clone()));
    }

    /// The disks work again, and each has struck.
    #[track_caller]
    fn release(&self, struck: &[usize]) {
        for i in struck {
            self.disks[*i].release();
            assert!(self.disks[*i].struck() > 0, "disk {i} has never failed");
        }
    }

    /// Takes the disks out for good and puts new ones in their place.
    #[track_caller]
    fn replace(&mut self, disks: &[usize]) {
        for i in disks {
            let new = disk(&self.folder, &format!("new{i}"), self.way);
            self.array.run(0, "replace", &[&format!("m{i}"), &text(new.path())]);
            self.disks[*i] = new;
        }
    }

    /// Two disks that were never struck are gone: what is there has its full redundancy.
    #[track_caller]
    fn bears_the_loss_of_others(mut self, struck: &[usize]) {
        let others: Vec<usize> = (0..6).filter(|i| !struck.contains(i)).take(2).collect();
        self.set(&others, &Faults { gone: Some(Errno::ENODEV), ..Faults::default() });
        self.array.verify_by_export();
        let ways =
            self.disks.iter().enumerate().filter(|(i, _)| !others.contains(i)).map(|(_, disk)| disk.reads());
        let direct = ways.map(|(direct, _)| direct).min().expect("some are left");
        assert_eq!(direct > 0, self.way == Way::Ring, "{direct} reads past the page cache");
    }
}

fn disk(folder: &tempfile::TempDir, name: &str, way: Way) -> Disk {
    let backing = folder.path().join(format!("{name}.backing"));
    Disk::new(&folder.path().join("array").join(name), &backing, MEMBER, way).expect("mounted")
}

/// Runs a test where one member, and where as many as the array tolerates, are struck; driven either way.
fn each(test: impl Fn(Bench, &[usize])) {
    for (way, struck) in [(Way::Ring, &[0][..]), (Way::Ring, &[1, 4]), (Way::Blocking, &[2, 3])] {
        test(Bench::new(way), struck);
    }
}

#[test]
#[ignore = "needs root and FUSE: tests/kernel"]
fn what_cannot_be_read_is_reconstructed_charged_and_rewritten() {
    each(|mut bench, struck| {
        let mut life = bench.array.open();
        bench.array.steps(&mut life, 60);
        bench.set(struck, &Faults { unreadable: vec![DATA], ..Faults::default() });
        bench.array.verify(&mut life);
        bench.array.steps(&mut life, 20);
        bench.array.verify(&mut life);
        life.close();
        let status = bench.array.status(0);
        struck.iter().for_each(|i| assert!(errors(&status, *i, "read") > 0, "{status}"));
        bench.array.is_whole();
        bench.release(struck);
        bench.bears_the_loss_of_others(struck);
    });
}

#[test]
#[ignore = "needs root and FUSE: tests/kernel"]
fn what_rots_is_reconstructed_charged_and_healed() {
    each(|mut bench, struck| {
        let mut life = bench.array.open();
        bench.array.steps(&mut life, 60);
        struck.iter().for_each(|i| bench.disks[*i].rot(DATA, 1 << 15));
        bench.array.verify(&mut life);
        life.close();
        let status = bench.array.status(0);
        struck.iter().for_each(|i| assert!(errors(&status, *i, "checksum") > 0, "{status}"));
        bench.array.is_whole();
        bench.bears_the_loss_of_others(struck);
    });
}

#[test]
#[ignore = "needs root and FUSE: tests/kernel"]
fn writes_that_are_lost_or_land_elsewhere_are_noticed_and_healed() {
    each(|mut bench, struck| {
        for faults in [
            Faults { lost_writes: Some(3), ..Faults::default() },
            Faults { misdirected_writes: Some((3, 1 << 20)), ..Faults::default() },
        ] {
            let mut life = bench.array.open();
            bench.array.steps(&mut life, 30);
            bench.set(struck, &faults);
            bench.array.steps(&mut life, 60);
            bench.array.verify(&mut life);
            bench.release(struck);
            life.close();
            bench.array.is_whole();
        }
        bench.bears_the_loss_of_others(struck);
    });
}

#[test]
#[ignore = "needs root and FUSE: tests/kernel"]
fn a_member_that_takes_no_writes_is_evicted_and_comes_back() {
    each(|mut bench, struck| {
        for errno in [Errno::EIO, Errno::ENOSPC, Errno::EROFS] {
            let mut life = bench.array.open();
            bench.array.steps(&mut life, 20);
            bench.set(struck, &Faults { write_error: Some(errno), ..Faults::default() });
            bench.array.steps(&mut life, 40);
            bench.array.verify(&mut life);
            life.close();
            let status = bench.array.status(1);
            for i in struck {
                assert!(errors(&status, *i, "write") > 0, "{errno:?}: {status}");
                assert_eq!(status["members"][i]["state"], "out", "{errno:?}: {status}");
            }
            bench.release(struck);
            bench.array.run(0, "rebuild", &[]);
            bench.array.is_whole();
            bench.array.run(0, "clear", &[]);
        }
        bench.bears_the_loss_of_others(struck);
    });
}

#[test]
#[ignore = "needs root and FUSE: tests/kernel"]
fn a_flush_that_fails_and_then_succeeds_has_kept_nothing_and_loses_nothing() {
    each(|mut bench, struck| {
        let mut life = bench.array.open();
        bench.array.steps(&mut life, 20);
        bench.set(struck, &Faults { flush_errors: 1, ..Faults::default() });
        bench.array.steps(&mut life, 40);
        bench.array.verify(&mut life);
        life.close();
        let status = bench.array.status(1);
        for i in struck {
            assert!(errors(&status, *i, "flush") > 0, "{status}");
            assert_eq!(status["members"][i]["state"], "out", "{status}");
        }
        bench.release(struck);
        bench.array.run(0, "rebuild", &[]);
        bench.array.is_whole();
        bench.bears_the_loss_of_others(struck);
    });
}

#[test]
#[ignore = "needs root and FUSE: tests/kernel"]
fn what_lies_about_its_flushes_and_loses_power_loses_nothing() {
    each(|mut bench, struck| {
        for steps in [1, 40, 400] {
            let mut life = bench.array.open();
            bench.array.steps(&mut life, 20);
            bench.set(struck, &Faults { lying_flush: true, ..Faults::default() });
            bench.array.steps(&mut life, steps);
            bench.array.begin_steps(&mut life, 2000);
            life.until_flushed();
            let flushed = life.kill();
            bench.disks.iter().for_each(Disk::lose_power);
            bench.release(struck);
            bench.array.after_kill(flushed);
        }
        bench.array.is_whole();
        bench.bears_the_loss_of_others(struck);
    });
}

#[test]
#[ignore = "needs root and FUSE: tests/kernel"]
fn a_slow_member_is_not_waited_for() {
    each(|mut bench, struck| {
        let mut life = bench.array.open();
        bench.array.steps(&mut life, 40);
        bench.set(struck, &Faults { slow: Duration::from_millis(500), ..Faults::default() });
        bench.array.verify(&mut life);
        let status = life.ask("status").expect("told");
        assert!(!status.contains("hedged: 0,"), "{status}");
        assert!(status.contains("Healthy"), "{status}");
        bench.release(struck);
        bench.array.steps(&mut life, 20);
        bench.array.verify(&mut life);
        life.close();
        bench.array.is_whole();
        bench.bears_the_loss_of_others(struck);
    });
}

#[test]
#[ignore = "needs root and FUSE: tests/kernel"]
fn a_member_that_vanishes_comes_back_and_vanishes_loses_nothing() {
    each(|mut bench, struck| {
        for errno in [Errno::ENODEV, Errno::ENOENT, Errno::ESTALE, Errno::ENOTCONN] {
            let gone = Faults { gone: Some(errno), ..Faults::default() };
            let mut life = bench.array.open();
            bench.array.steps(&mut life, 20);
            bench.set(struck, &gone);
            bench.array.steps(&mut life, 20);
            bench.array.verify(&mut life);
            life.close();
            let status = bench.array.status(1);
            struck
                .iter()
                .for_each(|i| assert_eq!(status["members"][i]["state"], "missing", "{errno:?}: {status}"));
            // Not there from the beginning.
            let mut life = bench.array.open();
            bench.array.steps(&mut life, 20);
            bench.array.verify(&mut life);
            life.close();
            bench.release(struck);
            bench.array.run(0, "rebuild", &[]);
            bench.array.is_whole();
        }
        bench.set(struck, &Faults { gone: Some(Errno::ENODEV), ..Faults::default() });
        bench.replace(struck);
        bench.array.is_whole();
        bench.bears_the_loss_of_others(struck);
    });
}

/// The kernel does not let a process end while a member owes it an answer: so the disks answer at last.
#[test]
#[ignore = "needs root and FUSE: tests/kernel"]
fn a_member_that_hangs_is_evicted_and_nobody_waits_for_it() {
    let hang = |way: Way, struck: &[usize]| {
        let mut bench = Bench::new(way);
        let (mut life, opened) = bench.array.try_open(Duration::from_secs(2));
        opened.expect("opened");
        bench.array.steps(&mut life, 20);
        bench.set(struck, &Faults { hangs: true, ..Faults::default() });
        bench.array.steps(&mut life, 20);
        bench.array.verify(&mut life);
        bench.array.steps(&mut life, 20);
        let status = life.ask("status").expect("told");
        assert!(status.contains("Degraded"), "{status}");
        life.ask("close").expect("closed");
        bench.release(struck);
        Life::end(life);
        let status = bench.array.status(1);
        struck.iter().for_each(|i| assert_eq!(status["members"][i]["state"], "out", "{status}"));
        bench.array.run(0, "rebuild", &[]);
        bench.array.is_whole();
        bench.bears_the_loss_of_others(struck);
    };
    hang(Way::Ring, &[1, 4]);
    hang(Way::Blocking, &[0]);
}

/// More reads at once than a member's queue, and the kernel's threads for its ring, have room for.
#[test]
#[ignore = "needs root and FUSE: tests/kernel"]
fn readers_do_not_wait_for_a_member_that_hangs_however_many_they_are() {
    for way in [Way::Ring, Way::Blocking] {
        let mut bench = Bench::new(way);
        let (mut life, opened) = bench.array.try_open(Duration::from_secs(2));
        opened.expect("opened");
        bench.array.steps(&mut life, 200);
        bench.set(&[0, 1], &Faults { hangs: true, ..Faults::default() });
        life.ask("burst 6000").expect("read");
        life.ask("close").expect("closed");
        bench.release(&[0, 1]);
        Life::end(life);
        bench.array.run(0, "rebuild", &[]);
        bench.array.is_whole();
    }
}

/// Whoever looks at an array has no more patience than it has itself.
#[test]
#[ignore = "needs root and FUSE: tests/kernel"]
fn commands_do_not_wait_for_ever_for_a_member_that_hangs() {
    let mut bench = Bench::new(Way::Ring);
    let mut life = bench.array.open();
    bench.array.steps(&mut life, 40);
    life.close();
    bench.set(&[2], &Faults { hangs: true, ..Faults::default() });
    let (mut life, opened) = bench.array.try_open(Duration::from_secs(2));
    opened.expect("opened without it");
    bench.array.steps(&mut life, 20);
    bench.array.verify(&mut life);
    life.ask("close").expect("closed");
    let status = bench.array.status_of_hanging(|| bench.disks[2].release());
    assert_eq!(status["members"][2]["state"], "missing", "{status}");
    Life::end(life);
    bench.array.run(0, "rebuild", &[]);
    bench.array.is_whole();
}
