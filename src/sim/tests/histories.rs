//! Which superblock speaks for the array, and who may still speak at all.

use super::scene::Scene;
use crate::checksum::crc64_around;
use crate::device::Device;
use crate::error::Kind;
use crate::layout::{ring_offsets, slot_offset};
use crate::limits::{HISTORY_MAX, RING_SLOTS};
use crate::sim::SimDisk;
use crate::types::VolumeId;

/// Where a superblock has its length, and its features.
const LENGTH_AT: u64 = 20;
const INCOMPAT_AT: u64 = 24;
const RO_COMPAT_AT: u64 = 32;

/// An array of 2+1 whose first life has flushed the first 40 blocks of a volume, with 1.
fn written() -> (Scene, VolumeId) {
    let scene = Scene::new((2, 1), 32, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 64);
    life.write(id, 0, 40, 1);
    life.flush(id);
    life.kill();
    (scene, id)
}

#[test]
fn a_member_that_was_away_for_longer_than_epochs_are_remembered_is_one_of_the_array() {
    let (scene, id) = written();
    scene.disks[0].vanish();
    for tag in 2..HISTORY_MAX as u64 + 5 {
        let life = scene.open();
        life.write(id, 0, 4, tag);
        life.flush(id);
        life.kill();
    }
    scene.disks[0].come_back();
    let life = scene.open_for_upkeep();
    assert_eq!(life.shard.core().stripes().pool.active().len(), 3, "it is in use again");
    life.expect(id, 0, 4, HISTORY_MAX as u64 + 4);
    life.expect(id, 4, 36, 1);
}

// Two openings that died before they were durable on more than one member, and an epoch of the others that is older
// than theirs and finished.
#[test]
fn an_unfinished_epoch_is_no_history_however_new_it_is() {
    let (scene, id) = written();
    for _ in 0..2 {
        let before = [1, 2].map(|disk| scene.disks[disk].snapshot());
        scene.open().kill();
        before.iter().zip([1, 2]).for_each(|(image, disk)| scene.disks[disk].restore(image));
    }
    scene.disks[0].vanish();
    let life = scene.open();
    life.write(id, 0, 8, 2);
    life.flush(id);
    life.kill();
    scene.disks[0].come_back();
    let life = scene.open_for_upkeep();
    life.expect(id, 0, 8, 2);
    life.expect(id, 8, 32, 1);
    assert_eq!(life.shard.core().stripes().pool.active().len(), 3);
}

/// Sets a bit that no version knows among the features of every superblock of a disk.
fn with_feature(disk: &SimDisk, at: u64) {
    let (front, back) = ring_offsets(disk.len());
    for slot in [front, back].into_iter().flat_map(|ring| (0..RING_SLOTS).map(move |slot| (ring, slot))) {
        let offset = slot_offset(slot.0, slot.1);
        let len = disk.peek(offset + LENGTH_AT, 4).try_into().expect("four bytes");
        let len = usize::try_from(u32::from_le_bytes(len)).expect("small");
        if disk.peek(offset, 8) == *b"PARITASs" {
            disk.poke(offset + at + 7, &[1 << 6]);
            disk.poke(offset + 8, &crc64_around(&disk.peek(offset, len), 8).to_le_bytes());
        }
    }
}

#[test]
fn an_array_with_a_feature_that_this_version_can_only_read_is_only_read() {
    let (scene, id) = written();
    scene.disks.iter().for_each(|disk| with_feature(disk, RO_COMPAT_AT));
    let error = scene.try_open(false).map(drop).expect_err("not to be written");
    assert!(error.kind() == Kind::ReadOnly && error.to_string().contains("can only read"), "{error:?}");
    scene.try_open(true).expect("read").expect(id, 0, 40, 1);
}

#[test]
fn a_member_that_only_a_later_version_can_read_is_left_alone_and_alone_is_refused() {
    let (scene, id) = written();
    with_feature(&scene.disks[2], INCOMPAT_AT);
    let life = scene.open();
    life.expect(id, 0, 40, 1);
    assert_eq!(life.shard.core().stripes().pool.active().len(), 2);
    life.kill();
    scene.disks[0].vanish();
    scene.disks[1].vanish();
    let error = scene.try_open(true).map(drop).expect_err("of a later version");
    assert!(error.kind() == Kind::Refused && error.to_string().contains("62"), "{error:?}");
    assert_eq!(scene.salvage().map(drop).map_err(|error| error.kind()), Err(Kind::Refused));
}
