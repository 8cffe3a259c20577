//! Members whose superblocks are destroyed, across crashes while they are taken back.

use super::scene::Scene;
use crate::commit::Upkeep;
use crate::format::superblock::MemberState;
use crate::limits::RING_BYTES;
use crate::maintain::Pace;
use crate::sim::{Fault, Rot};
use crate::types::{BLOCK_U64, Slot, VolumeId};

const RING_BLOCKS: u64 = RING_BYTES / BLOCK_U64;

/// An array of 2+1 on three members, of which the second has neither superblocks nor one whole row of its data.
fn beheaded() -> (Scene, VolumeId) {
    let scene = Scene::new((2, 1), 32, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 1024);
    life.write(id, 0, 200, 1);
    life.flush(id);
    life.checkpoint();
    life.write(id, 300, 100, 2);
    life.flush(id);
    let blocks: Vec<(usize, u64)> = [0, 150, 300, 390]
        .into_iter()
        .flat_map(|lba| life.blocks(life.segment(id, lba)))
        .filter(|(disk, block)| *disk == 1 && block % 32 > 2)
        .collect();
    assert!(blocks.len() > 60);
    life.kill();
    let end = 2 * RING_BLOCKS + 80 * 32;
    scene.disks[1].rot(0..RING_BLOCKS, Rot::Garbage);
    scene.disks[1].rot(end - RING_BLOCKS..end, Rot::Garbage);
    for (_, block) in blocks {
        scene.disks[1].rot(block..block + 1, Rot::Garbage);
    }
    (scene, id)
}

#[test]
fn one_without_superblocks_is_trusted_only_after_a_rebuild_whenever_the_power_fails() {
    let mut events = 0;
    let mut is_open = false;
    while !is_open {
        let (scene, id) = beheaded();
        is_open = scene.fail_opening(events);
        let life = scene.open_for_upkeep();
        let state = life.shard.core().stripes().pool.superblock().members[1].state;
        assert_eq!(state, MemberState::Active, "after {events} events");
        let done = life.run(async move |shard| shard.rebuild(Pace::default()).await).expect("rebuilt");
        assert!(done.written > 0 && (done.lost, done.missing) == (0, 0), "after {events} events: {done:?}");
        life.power_loss();
        scene.disks[0].vanish();
        let life = scene.open();
        life.expect(id, 0, 200, 1);
        life.expect(id, 300, 100, 2);
        assert!(life.shard.damage().is_empty(), "after {events} events");
        events += 7;
    }
    assert!(events > 100, "only {events} events");
}

// One operation of a member without superblocks hung while the opening read it. It was taken into use all the same, and
// nobody wrote to it: no batch was ever whole, nobody suspected it, and the array failed (seed 2755).
#[test]
fn one_without_superblocks_that_hangs_while_it_is_read_stays_out() {
    let mut out = 0;
    for events in (0..400).step_by(5) {
        let (scene, id) = beheaded();
        let life = scene.open_while(events, Upkeep::OnDemand, || scene.disks[1].inject(Fault::Hang));
        life.write(id, 600, 10, 3);
        life.flush(id);
        life.checkpoint();
        let state = life.shard.core().stripes().pool.superblock().members[1].state;
        out += u32::from(state == MemberState::Out);
        life.expect(id, 300, 100, 2);
        life.expect(id, 600, 10, 3);
    }
    assert!(out > 40, "{out} stayed out");
}

#[test]
fn without_upkeep_it_stays_out_and_its_chunks_are_read_where_nothing_else_is_left() {
    let (scene, id) = beheaded();
    let life = scene.open();
    assert_eq!(life.shard.core().stripes().pool.superblock().members[1].state, MemberState::Out);
    let segment = life.segment(id, 0);
    // A row that the second member still has, whole, loses a block of another one.
    let row = life.headers(segment).iter().find(|(disk, _)| *disk == 0).expect("a header").1 + 2;
    scene.disks[0].rot(row..row + 1, Rot::Garbage);
    life.expect(id, 0, 200, 1);
    life.expect(id, 300, 100, 2);
    assert!(life.shard.damage().is_empty());
}

// Two members were replaced, and the second new one got the slot of the first old one, whose superblocks were zeros and
// whose chunks still said that they lie in that slot. Once the new one was away, the old one was taken for it (seed
// 50013572): it would have got superblocks, and the new one, back again, would have been refused as its copy.
#[test]
fn a_member_that_left_is_not_taken_for_the_one_that_has_its_slot_now() {
    let mut scene = Scene::new((2, 1), 32, &[80; 3]);
    let life = scene.open_for_upkeep();
    let id = life.volume("mail", 1024);
    life.write(id, 0, 200, 1);
    life.flush(id);
    for old in [0, 1] {
        let candidate = scene.add();
        life.run(async move |shard| shard.replace_member(Slot(old), candidate).await).expect("replaced");
        let rebuilt = life.run(async move |shard| shard.rebuild(Pace::default()).await).expect("rebuilt");
        assert_eq!((rebuilt.missing, rebuilt.lost), (0, 0));
        life.checkpoint();
    }
    assert_eq!(
        life.shard.core().stripes().pool.superblock().members[0].path,
        "disk4",
        "a slot is used again"
    );
    life.write(id, 100, 50, 2);
    life.flush(id);
    life.kill();
    scene.disks[4].vanish();
    let life = scene.open_for_upkeep();
    assert_eq!(life.shard.core().stripes().pool.superblock().members[0].state, MemberState::Out);
    life.write(id, 120, 50, 3);
    life.flush(id);
    life.kill();
    scene.disks[4].come_back();
    let life = scene.open_for_upkeep();
    assert_eq!(life.shard.core().stripes().pool.active().len(), 3, "it is in use again");
    life.expect(id, 0, 100, 1);
    life.expect(id, 100, 20, 2);
    life.expect(id, 120, 50, 3);
}
