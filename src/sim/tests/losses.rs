//! Writes that were durable and are lost: every flush says so until somebody acknowledges it.

use super::scene::{Life, Scene, data};
use crate::error::Kind;
use crate::format::page::{Key, TreeId};
use crate::maintain::Pace;
use crate::map::Tree;
use crate::sim::{Rot, SimDisk};
use crate::types::{Lba, Number, Scheme, Slot, VolumeId};

/// An array whose volume has lost its first two writes with their records, and kept the third.
fn after_a_loss() -> (Scene, VolumeId) {
    let scene = Scene::new((2, 1), 32, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 1024);
    // Three records, of which only the last knows that those before it were durable, in a segment of its own.
    life.write(id, 0, 40, 1);
    life.flush(id);
    let first = life.segment(id, 0);
    life.write(id, 100, 40, 2);
    life.flush(id);
    life.write(id, 200, 4, 3);
    life.flush(id);
    assert_ne!(life.segment(id, 200), first);
    let headers = life.headers(first);
    life.kill();
    for (disk, block) in headers {
        scene.disks[disk].rot(block..block + 1, Rot::Garbage);
    }
    (scene, id)
}

fn flush(life: &Life, id: VolumeId) -> Result<Number, Kind> {
    life.run(async move |shard| shard.flush(id).await).map_err(|error| error.kind())
}

#[test]
fn a_flush_fails_until_the_loss_is_acknowledged_across_restarts() {
    let (scene, id) = after_a_loss();
    let life = scene.open();
    life.expect(id, 200, 4, 3);
    let error = life.run(async move |shard| shard.flush(id).await).expect_err("writes are lost");
    assert_eq!(error.kind(), Kind::LostWrites { volume: id });
    let text = error.to_string();
    assert!(text.contains("2 writes") && text.contains("'mail'") && text.contains("paritas clear"), "{text}");
    // Another volume has lost nothing. Neither a write nor a restart acknowledges anything.
    let other = life.volume("other", 64);
    assert_eq!(flush(&life, other), Ok(Number(0)));
    life.write(id, 0, 250, 4);
    assert_eq!(flush(&life, id), Err(Kind::LostWrites { volume: id }));
    life.run(async move |shard| shard.close().await).expect("closing is not acknowledging, but not kept");
    life.kill();
    let life = scene.open();
    life.expect(id, 0, 250, 4);
    assert_eq!(flush(&life, id), Err(Kind::LostWrites { volume: id }));
    let cleared = life.run(async move |shard| shard.clear().await).expect("acknowledged");
    assert_eq!(cleared.iter().map(|record| (record.lba.0, record.blocks)).collect::<Vec<_>>(), [(1, 2)]);
    assert_eq!(flush(&life, id), Ok(Number(4)));
    // Durable on return.
    life.power_loss();
    let life = scene.open();
    assert_eq!(flush(&life, id), Ok(Number(4)));
    assert!(life.shard.damage().is_empty());
}

#[test]
fn a_loss_whose_acknowledgement_is_not_durable_stays_listed() {
    let (scene, id) = after_a_loss();
    let life = scene.open();
    let listed = life.shard.damage();
    assert_eq!(listed.len(), 1);
    scene.disks[0].vanish();
    scene.disks[1].vanish();
    let cleared = life.run(async move |shard| shard.clear().await).map_err(|error| error.kind());
    assert_eq!(cleared, Err(Kind::ReadOnly));
    assert_eq!(life.shard.damage(), listed);
    assert_eq!(flush(&life, id), Err(Kind::LostWrites { volume: id }));
}

#[test]
fn acknowledged_blocks_stay_lost_and_are_listed_again_and_error_counts_are_zero() {
    let scene = Scene::new((2, 1), 32, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 64);
    life.write(id, 0, 8, 1);
    life.flush(id);
    let segment = life.segment(id, 0);
    for (disk, block) in life.blocks(segment) {
        scene.disks[disk].rot(block..block + 1, Rot::Garbage);
    }
    let read = async move |shard: crate::volume::Shard| {
        shard.read(id, Lba(0), 1).await.map(|_| ()).map_err(|error| error.kind())
    };
    let lost = Err(Kind::DataLoss { volume: id, lba: Lba(0) });
    let errors = |life: &Life| {
        let members = life.shard.core().stripes().pool.superblock().members;
        members.iter().flat_map(|member| member.errors).sum::<u32>()
    };
    assert_eq!(life.run(read), lost);
    assert!(!life.shard.damage().is_empty() && errors(&life) > 0);
    life.run(async move |shard| shard.clear().await).expect("acknowledged");
    life.power_loss();
    let life = scene.open();
    assert_eq!((life.shard.damage().len(), errors(&life)), (0, 0));
    assert_eq!(life.run(read), lost);
    assert_eq!(life.shard.damage().len(), 1);
    life.run(async move |shard| shard.trim(id, Lba(0), 64).await).expect("trimmed");
    life.flush(id);
    assert!(life.shard.damage().is_empty(), "zeros are as good as data");
}

#[test]
fn a_flush_that_could_not_write_keeps_failing_and_says_what_is_not_durable() {
    let scene = Scene::new((2, 1), 32, &[80; 3]);
    let life = scene.open();
    let (id, other) = (life.volume("mail", 64), life.volume("other", 64));
    life.write(id, 0, 8, 1);
    life.flush(id);
    life.write(id, 8, 8, 2);
    scene.disks[0].vanish();
    scene.disks[1].vanish();
    for _ in 0..2 {
        let error = life.run(async move |shard| shard.flush(id).await).expect_err("two members are gone");
        assert_eq!(error.kind(), Kind::ReadOnly);
        assert!(error.to_string().starts_with("volume 'mail' is durable up to number 1, "), "{error}");
    }
    assert_eq!(flush(&life, other), Ok(Number(0)), "it has nothing that could be lost");
    let clear = life.run(async move |shard| shard.clear().await);
    assert_eq!(clear.map_err(|error| error.kind()), Err(Kind::ReadOnly));
}

// A read that met a lost page of the map said that the array contradicts itself, of all blocks that it asked for.
#[test]
fn blocks_that_a_lost_page_of_the_map_has_are_named_and_all_others_are_exact() {
    let mut scene = Scene::new((1, 1), 32, &[80; 2]);
    scene.config.map_cache = 0;
    let life = scene.open();
    let id = life.volume("mail", 1024);
    (0..1000).step_by(8).for_each(|lba| life.write(id, lba, 8, 1));
    life.flush(id);
    life.checkpoint();
    let leaf = life.run(async move |shard| {
        let core = shard.core();
        let map = Tree::new(core.as_ref(), TreeId::Map(id), core.root(TreeId::Map(id)));
        map.page_at(0, Key(300, 0)).await
    });
    let place = leaf.expect("a sound map").expect("a leaf").place;
    for (disk, block) in life.blocks(place.segment).into_iter().skip(place.row.0.into()).step_by(32) {
        scene.disks[disk].rot(block..block + 1, Rot::Garbage);
    }
    let read = |lba: u64, blocks: u64| {
        let read = life.run(async move |shard| shard.read(id, Lba(lba), blocks).await);
        read.map(drop).map_err(|error| error.kind())
    };
    let lost: Vec<u64> = (0..1000).filter(|lba| read(*lba, 1).is_err()).collect();
    let (first, last) = (lost[0], lost[lost.len() - 1]);
    assert!(lost.contains(&300) && lost.len() < 200 && last - first + 1 == lost.len() as u64, "{lost:?}");
    assert_eq!(read(first - 20, 200), Err(Kind::DataLoss { volume: id, lba: Lba(first) }));
    assert_eq!(read(first + 1, 200), Err(Kind::DataLoss { volume: id, lba: Lba(first + 1) }));
    life.expect(id, 0, first, 1);
    life.expect(id, last + 1, 999 - last, 1);
    let damage = life.shard.damage();
    assert_eq!((damage.len(), damage[0].lba.0, damage[0].blocks as usize), (1, first, lost.len()));
}

/// A mirror on four members with a volume of its own scheme and one of three copies, and what was written last to the
/// weak one; then the two members vanish that hold that.
fn without_the_end_of_the_log(closes: bool) -> (Scene, Life, VolumeId, VolumeId) {
    let scene = Scene::new((1, 1), 16, &[120; 4]);
    let life = scene.open();
    let three = Scheme::new(1, 2).expect("valid");
    let strong = life.run(async move |shard| shard.create_volume("strong", three, 64).await).expect("made");
    let weak = life.volume("weak", 64);
    life.write(strong, 0, 8, 1);
    life.flush(strong);
    life.write(weak, 0, 8, 2);
    life.flush(weak);
    let segment = life.segment(weak, 0);
    let columns = life.shard.core().stripes().view(segment).expect("in the table").columns;
    if closes {
        life.run(async move |shard| shard.close().await).expect("closed");
    }
    life.kill();
    columns.iter().flatten().for_each(|address| scene.disks[usize::from(address.slot.0)].vanish());
    let life = scene.open();
    (scene, life, weak, strong)
}

#[test]
fn what_may_have_been_written_last_to_members_that_are_away_is_named() {
    let (scene, life, weak, strong) = without_the_end_of_the_log(false);
    life.expect(strong, 0, 8, 1);
    assert_eq!(flush(&life, strong), Ok(Number(1)));
    let named: Vec<(VolumeId, u64)> =
        life.shard.damage().iter().map(|record| (record.volume, record.lba.0)).collect();
    assert_eq!(named, [(weak, 1)], "its first write");
    assert_eq!(flush(&life, weak), Err(Kind::LostWrites { volume: weak }));
    life.run(async move |shard| shard.clear().await).expect("acknowledged");
    life.write(weak, 8, 8, 3);
    assert_eq!(flush(&life, weak), Ok(Number(1)), "the number of the lost one");
    // What was away is cut: it stays so when they are back.
    life.kill();
    scene.disks.iter().for_each(SimDisk::come_back);
    let life = scene.open();
    life.expect(weak, 8, 8, 3);
    assert_eq!(life.shard.damage(), []);
    let unwritten = life.run(async move |shard| shard.read(weak, Lba(0), 1).await).expect("read");
    assert!(unwritten.iter().all(|byte| *byte == 0));
}

#[test]
fn behind_a_clean_close_nothing_is_missing_whoever_is_away() {
    let (_scene, life, weak, strong) = without_the_end_of_the_log(true);
    assert_eq!(life.shard.damage(), []);
    assert_eq!((flush(&life, weak), flush(&life, strong)), (Ok(Number(1)), Ok(Number(1))));
}

// Metadata is stronger than the weak volume: both members that hold it may be evicted, and the array is still written.
// An opening without upkeep left them out of use, cut what the log had on them alone, and named it as lost.
#[test]
fn what_is_in_the_log_of_members_that_were_evicted_is_found_by_whatever_opening() {
    let scene = Scene::new((1, 1), 16, &[120; 4]);
    let life = scene.open();
    let three = Scheme::new(1, 2).expect("valid");
    let strong = life.run(async move |shard| shard.create_volume("strong", three, 64).await).expect("made");
    let weak = life.volume("weak", 64);
    life.write(weak, 0, 8, 1);
    life.flush(weak);
    let segment = life.segment(weak, 0);
    let columns = life.shard.core().stripes().view(segment).expect("in the table").columns;
    columns.iter().flatten().for_each(|address| scene.disks[usize::from(address.slot.0)].vanish());
    life.write(strong, 0, 8, 2);
    life.flush(strong);
    assert_eq!(life.shard.core().stripes().pool.active().len(), 2);
    life.kill();
    scene.disks.iter().for_each(SimDisk::come_back);
    let life = scene.open();
    life.expect(weak, 0, 8, 1);
    life.expect(strong, 0, 8, 2);
    assert_eq!(life.shard.damage(), []);
}

// A member came back; an opening took it into use and died before its checkpoint; then the only other one was away. The
// newest superblock said of the member that it was in use, and so it answered for the end of a log that it had missed.
#[test]
fn a_member_that_was_taken_back_by_an_opening_that_died_does_not_answer_for_what_it_missed() {
    let (mut silent, mut refused) = (Vec::new(), 0);
    for events in (0..).step_by(5) {
        let scene = Scene::new((1, 1), 16, &[120; 2]);
        let life = scene.open();
        let id = life.volume("mail", 64);
        life.write(id, 0, 8, 1);
        life.flush(id);
        life.checkpoint();
        scene.disks[1].vanish();
        life.write(id, 0, 8, 2);
        life.flush(id);
        life.power_loss();
        scene.disks[1].come_back();
        let before = scene.epoch_on(1);
        let was_open = scene.fail_opening(events);
        if scene.epoch_on(1) == before {
            // It knows nothing of an epoch without it, and alone it cannot find out.
            continue;
        }
        scene.disks[0].vanish();
        let alone = scene.try_open(false);
        if let Ok(life) = &alone {
            let read = life.run(async move |shard| shard.read(id, Lba(0), 8).await);
            let is_there = read.is_ok_and(|bytes| bytes == data(0, 8, 2));
            if !is_there && flush(life, id).is_ok() && life.shard.damage().is_empty() {
                silent.push(events);
            }
        } else {
            refused += 1;
            scene.disks[0].come_back();
            scene.open().expect(id, 0, 8, 2);
        }
        if was_open {
            break;
        }
    }
    assert!(silent.is_empty(), "a durable write is gone, and nobody says so: after {silent:?} events");
    assert!(refused > 2, "{refused}");
}

// The same of a member that is taken back while the array is open: the process dies on the way.
#[test]
fn a_member_that_was_being_taken_back_does_not_answer_for_what_it_missed() {
    let (mut silent, mut refused, mut returned) = (Vec::new(), 0, false);
    for events in (0..).step_by(3) {
        let scene = Scene::new((1, 1), 16, &[120; 2]);
        let life = scene.open();
        let id = life.volume("mail", 64);
        life.write(id, 0, 8, 1);
        life.flush(id);
        life.checkpoint();
        scene.disks[1].vanish();
        life.write(id, 0, 8, 2);
        life.flush(id);
        scene.disks[1].come_back();
        let (member, before) = (scene.candidate(1), scene.epoch_on(1));
        let back = life.start(async move |shard| shard.return_member(Slot(1), member).await);
        life.step(events);
        if let Some(outcome) = back.take() {
            outcome.expect("it is back");
            returned = true;
            // It has a part in everything from here on.
            life.write(id, 8, 8, 3);
            life.flush(id);
            life.run(async move |shard| shard.rebuild(Pace::default()).await).expect("rebuilt");
            scene.disks[0].vanish();
            life.expect(id, 0, 8, 2);
            life.expect(id, 8, 8, 3);
            break;
        }
        life.power_loss();
        if scene.epoch_on(1) == before {
            continue;
        }
        scene.disks[0].vanish();
        let alone = scene.try_open(false);
        if let Ok(life) = &alone {
            let read = life.run(async move |shard| shard.read(id, Lba(0), 8).await);
            let is_there = read.is_ok_and(|bytes| bytes == data(0, 8, 2));
            if !is_there && flush(life, id).is_ok() && life.shard.damage().is_empty() {
                silent.push(events);
            }
        } else {
            refused += 1;
            scene.disks[0].come_back();
            scene.open().expect(id, 0, 8, 2);
        }
    }
    assert!(silent.is_empty(), "a durable write is gone, and nobody says so: after {silent:?} events");
    assert!(refused > 2 && returned, "{refused}");
}
