//! A record says what is in it in its header, and in rows behind that where the header is too short. What is left when
//! these rows are lost beyond m, and the data is not.

use super::scene::{Life, Scene};
use crate::device::Device;
use crate::error::Kind;
use crate::maintain::Pace;
use crate::pool::Candidate;
use crate::sim::Rot;
use crate::types::{BLOCK_U64, Lba, Slot, VolumeId};
use crate::volume::Shard;
use std::sync::Arc;

/// Blocks of a record that its header alone cannot describe.
const BLOCKS: u64 = 100;

/// A volume with such a record, and the blocks of the row behind its headers: the rest of the description, data,
/// and the parity of both.
fn described(scene: &Scene, life: &Life) -> (VolumeId, Vec<(usize, u64)>) {
    let id = life.volume("mail", 1024);
    life.write(id, 0, BLOCKS, 1);
    life.flush(id);
    let headers = life.headers(life.segment(id, 0));
    assert_eq!(headers.len(), 3, "one record");
    let behind: Vec<(usize, u64)> = headers.into_iter().map(|(disk, block)| (disk, block + 1)).collect();
    let first = scene.disks[behind[0].0].peek(behind[0].1 * BLOCK_U64, 8);
    assert_ne!(first[..], super::scene::data(0, 1, 1)[..8], "it holds description");
    (id, behind)
}

fn spoil(scene: &Scene, blocks: &[(usize, u64)]) {
    for &(disk, block) in blocks {
        scene.disks[disk].rot(block..block + 1, Rot::Garbage);
    }
}

async fn lost(shard: Shard, id: VolumeId) -> Vec<u64> {
    let mut lost = Vec::new();
    for lba in 0..BLOCKS {
        match shard.read(id, Lba(lba), 1).await {
            Ok(_) => {}
            Err(error) if error.kind() == (Kind::DataLoss { volume: id, lba: Lba(lba) }) => lost.push(lba),
            Err(error) => panic!("{error:?}"),
        }
    }
    lost
}

#[test]
fn a_record_without_its_description_is_read_and_a_scrub_says_that_it_has_no_redundancy() {
    let scene = Scene::new((2, 1), 64, &[80; 3]);
    let life = scene.open();
    let (id, behind) = described(&scene, &life);
    life.run(async move |shard| shard.close().await).expect("closed");
    life.kill();
    let life = scene.open();
    spoil(&scene, &behind[..1]);
    life.expect(id, 0, BLOCKS, 1);
    let scrub = life.run(async move |shard| shard.scrub().await).expect("scrubbed");
    assert_eq!((scrub.healed > 0, scrub.reduced), (true, 0), "one of three is made again");
    spoil(&scene, &[behind[0], behind[2]]);
    let scrub = life.run(async move |shard| shard.scrub().await).expect("scrubbed");
    assert_eq!((scrub.lost, scrub.reduced), (0, 1));
    life.expect(id, 0, BLOCKS, 1);
    // Nothing can be made again: what is lost with a member are its blocks and no others.
    scene.disks[behind[0].0].vanish();
    let gone = life.run(async move |shard| lost(shard, id).await);
    assert!((40..=60).contains(&gone.len()), "{gone:?}");
    life.write(id, 0, BLOCKS, 2);
    life.flush(id);
    life.expect(id, 0, BLOCKS, 2);
}

// The rows of such a record were left out on the new member, and the old one, which had them, was let go.
#[test]
fn a_rebuild_keeps_what_it_cannot_describe_as_long_as_the_old_member_reads() {
    for headless in [false, true] {
        let scene = Scene::new((2, 1), 64, &[80; 3]);
        let life = scene.open_for_upkeep();
        let (id, behind) = described(&scene, &life);
        life.checkpoint();
        spoil(&scene, &[behind[0], behind[2]]);
        if headless {
            let headers: Vec<(usize, u64)> = behind.iter().map(|&(disk, block)| (disk, block - 1)).collect();
            spoil(&scene, &headers);
        }
        for old in 0..3u8 {
            let new = scene.hub.disk(scene.disks[0].len());
            let candidate = Candidate { device: Arc::new(new), path: format!("new{old}") };
            life.run(async move |shard| shard.replace_member(Slot(old), candidate).await).expect("replaced");
            let rebuilt = life.run(async move |shard| shard.rebuild(Pace::default()).await).expect("rebuilt");
            assert_eq!((rebuilt.missing, rebuilt.lost), (0, 0));
            life.expect(id, 0, BLOCKS, 1);
        }
    }
}

#[test]
fn durable_writes_without_their_description_are_lost_and_named_and_what_follows_is_not() {
    let scene = Scene::new((2, 1), 64, &[80; 3]);
    let life = scene.open();
    let (id, behind) = described(&scene, &life);
    life.write(id, 200, 40, 2);
    life.flush(id);
    life.write(id, 300, 4, 3);
    life.flush(id);
    life.kill();
    spoil(&scene, &behind);
    let life = scene.open();
    life.expect(id, 200, 40, 2);
    life.expect(id, 300, 4, 3);
    let error = life.run(async move |shard| shard.flush(id).await).expect_err("a write is lost");
    assert_eq!(error.kind(), Kind::LostWrites { volume: id });
    let lost: Vec<(u64, u32)> =
        life.shard.damage().iter().map(|record| (record.lba.0, record.blocks)).collect();
    assert_eq!(lost, [(1, 1)]);
}
