//! What cannot be is refused, by a sentence that says why, and nothing has changed then.

use super::scene::{Life, Scene};
use crate::device::Device;
use crate::error::{Kind, Result};
use crate::limits::{CHUNKS_MAX, MEMBERS_MAX, RING_BYTES};
use crate::maintain::Pace;
use crate::pool::Candidate;
use crate::sim::{Nth, Op, SimDisk};
use crate::types::{BLOCK_U64, Lba, Slot};
use bytes::Bytes;
use std::sync::Arc;

fn said<T>(result: Result<T>, kind: Kind, what: &str) {
    let error = result.err().expect(what);
    assert!(error.kind() == kind && error.to_string().contains(what), "{error:?}");
}

/// Disks with room for so many chunks of 8 blocks each.
fn disks(scene: &Scene, chunks: &[u64]) -> Vec<SimDisk> {
    chunks.iter().map(|chunks| scene.hub.disk(2 * RING_BYTES + chunks * 8 * BLOCK_U64)).collect()
}

#[test]
fn an_array_that_cannot_be_is_not_made() {
    let mut scene = Scene::new((1, 1), 8, &[64; 2]);
    let refused = |disks: Vec<SimDisk>, scheme, chunk_blocks, what| {
        let untouched = Scene { hub: scene.hub.clone(), disks, config: scene.config };
        said(untouched.create(scheme, chunk_blocks), Kind::Invalid, what);
        assert!(untouched.disks.iter().all(|disk| disk.used_blocks().next().is_none()));
    };
    refused(disks(&scene, &[64; 3]), (2, 2), 8, "2+2 needs 4 to 255 members, 3 are given");
    refused(disks(&scene, &[64; 256]), (2, 2), 8, "2+2 needs 4 to 255 members, 256 are given");
    for chunk_blocks in [4, 24, 1 << 16] {
        refused(disks(&scene, &[64; 3]), (2, 1), chunk_blocks, "a power of two, not ");
    }
    refused(disks(&scene, &[64, 15, 64]), (2, 1), 8, "disk1 is too small to be a member");
    refused(disks(&scene, &[CHUNKS_MAX - 127, 64, 64]), (2, 1), 8, "choose a larger chunk size");
    // Every operation of one that fails, until it is made.
    let mut texts = Vec::new();
    for op in [Op::Write, Op::Flush] {
        for nth in 0.. {
            scene.disks = disks(&scene, &[64; 3]);
            scene.disks[1].fail_nth(Some(Nth { op: Some(op), from: nth, times: 1 }));
            match scene.create((2, 1), 8) {
                Ok(_) => break,
                Err(error) => texts.push((error.kind(), error.to_string())),
            }
        }
    }
    assert!(texts.iter().all(|(kind, _)| *kind == Kind::Io), "{texts:?}");
    let when = |what: &str| texts.iter().any(|(_, text)| text.contains(what));
    assert!(when("disk1: ") && when("superblock of member 1"), "{texts:?}");
}

fn replace(life: &Life, old: u8, disk: &SimDisk) -> Result<Slot> {
    let candidate = Candidate { device: Arc::new(disk.clone()), path: format!("new{}", disk.index()) };
    life.run(async move |shard| shard.replace_member(Slot(old), candidate).await)
}

#[test]
fn a_member_that_cannot_be_spared_or_replaced_stays() {
    let scene = Scene::new((2, 1), 32, &[80; 4]);
    let life = scene.open_for_upkeep();
    let id = life.volume("mail", 256);
    life.write(id, 0, 200, 1);
    life.flush(id);
    let fail = |slot| life.run(async move |shard| shard.fail_member(Slot(slot)).await);
    said(fail(4), Kind::NotFound, "4");
    fail(3).expect("three of four stay");
    life.run(async move |shard| shard.rebuild(Pace::default()).await).expect("rebuilt");
    said(fail(2), Kind::Refused, "only 2 members would be left in use, too few to write the array");

    let small = scene.hub.disk(2 * RING_BYTES + 15 * 32 * BLOCK_U64);
    said(replace(&life, 2, &small), Kind::Refused, "has 15 chunks: too few or too many");
    let huge = scene.hub.disk(2 * RING_BYTES + CHUNKS_MAX * 32 * BLOCK_U64);
    said(replace(&life, 2, &huge), Kind::Refused, "too few or too many");
    let new = || scene.hub.disk(scene.disks[0].len());
    for op in [Op::Write, Op::Flush] {
        let failing = new();
        failing.fail_nth(Some(Nth { op: Some(op), from: 0, times: 1 }));
        said(replace(&life, 2, &failing), Kind::Io, "new");
    }
    replace(&life, 2, &new()).expect("replaced");
    said(replace(&life, 2, &new()), Kind::Refused, "member 2 (disk2) is being replaced already");
    life.expect(id, 0, 200, 1);
}

// Counting the slots of as many members as there can be overflowed, where overflows are looked for.
#[test]
fn an_array_of_as_many_members_as_there_can_be_works_and_takes_no_more() {
    let scene = Scene::new((1, 1), 8, &[64; MEMBERS_MAX]);
    let life = scene.open_for_upkeep();
    let id = life.volume("mail", 64);
    life.write(id, 0, 40, 1);
    life.flush(id);
    let new = scene.hub.disk(scene.disks[0].len());
    said(replace(&life, 2, &new), Kind::Refused, "the member table has 255 rows, and all are in use");
    life.power_loss();
    scene.disks[254].vanish();
    let life = scene.open_for_upkeep();
    life.run(async move |shard| shard.rebuild(Pace::default()).await).expect("rebuilt");
    life.expect(id, 0, 40, 1);
}

#[test]
fn calls_that_say_nothing_are_refused() {
    let scene = Scene::new((1, 1), 32, &[80; 2]);
    let life = scene.open();
    let id = life.volume("mail", 64);
    for bytes in [0, 512, 4095] {
        let data = Bytes::from(vec![1; bytes]);
        let written = life.run(async move |shard| shard.write(id, Lba(0), data).await);
        said(written, Kind::Invalid, &format!("{bytes} bytes are not a number of 4 KiB blocks"));
    }
    let trimmed = life.run(async move |shard| shard.trim(id, Lba(0), 0).await);
    said(trimmed, Kind::Invalid, "a trim of no blocks");
}
