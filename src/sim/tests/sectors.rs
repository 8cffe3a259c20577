//! Calls that change blocks in part.

use super::scene::{Life, Scene};
use crate::error::{Error, Kind};
use crate::sim::{Rot, SimDisk};
use crate::types::{BLOCK, BLOCK_U64, Lba, Number, VolumeId};
use bytes::Bytes;

fn array() -> (Scene, Life, VolumeId) {
    let scene = Scene::new((2, 1), 32, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 1024);
    (scene, life, id)
}

fn fill(byte: u8, len: usize) -> Bytes {
    Bytes::from(vec![byte; len])
}

fn read(life: &Life, id: VolumeId, offset: u64, len: u64) -> Vec<u8> {
    life.run(async move |shard| shard.read_at(id, offset, len).await).expect("read").to_vec()
}

/// The block is on the members and nowhere else, so that who reads it has to wait.
fn settled(life: &Life, id: VolumeId, lba: u64, byte: u8) {
    life.run(async move |shard| shard.write(id, Lba(lba), fill(byte, BLOCK)).await).expect("written");
    life.flush(id);
}

#[test]
fn writes_of_different_parts_of_a_block_at_one_time_all_last() {
    let (scene, life, id) = array();
    settled(&life, id, 7, 1);
    let base = 7 * BLOCK_U64;
    let parts: Vec<_> = (0..8u8)
        .map(|part| {
            let offset = base + u64::from(part) * 512;
            life.start(async move |shard| shard.write_at(id, offset, fill(10 + part, 512)).await)
        })
        .collect();
    assert!(parts.iter().all(|part| part.take().is_none()), "they overlap: each waits for the members");
    for part in &parts {
        life.wait(part).expect("written");
    }
    let expected: Vec<u8> = (0..8u8).flat_map(|part| vec![10 + part; 512]).collect();
    assert_eq!(read(&life, id, base, BLOCK_U64), expected);
    life.flush(id);
    life.power_loss();
    assert_eq!(read(&scene.open(), id, base, BLOCK_U64), expected);
}

#[test]
fn a_write_or_trim_of_the_whole_block_meanwhile_comes_before() {
    for trims in [false, true] {
        let (_scene, life, id) = array();
        settled(&life, id, 7, 1);
        let part =
            life.start(async move |shard| shard.write_at(id, 7 * BLOCK_U64 + 512, fill(2, 1024)).await);
        let whole = life.start(async move |shard| match trims {
            true => shard.trim(id, Lba(0), 1024).await,
            false => shard.write(id, Lba(6), fill(3, 3 * BLOCK)).await,
        });
        let whole = whole.take().expect("it waits for nothing").expect("accepted");
        assert!(part.take().is_none());
        // It leaves the write buffer, and even the overlay, before the other goes on: it is not forgotten.
        let number = life.wait(&part).expect("written");
        assert_eq!(number, whole.next());
        let mut expected = vec![if trims { 0 } else { 3 }; BLOCK];
        expected[512..1536].fill(2);
        assert_eq!(read(&life, id, 7 * BLOCK_U64, BLOCK_U64), expected);
    }
}

#[test]
fn a_call_up_to_one_mib_is_one_step_whatever_it_begins_and_ends_in() {
    let (_scene, life, id) = array();
    let write = |offset, len| {
        life.run(async move |shard| shard.write_at(id, offset, fill(5, len)).await).expect("written")
    };
    assert_eq!(write(512, 1 << 20), Number(1));
    assert_eq!(write(512, (1 << 20) + 512), Number(3));
    let trim = |offset, len| life.run(async move |shard| shard.trim_at(id, offset, len).await);
    assert_eq!(trim(1024, 2 << 20), Ok(Number(4)));
    let bytes = read(&life, id, 0, (2 << 20) + 2048);
    assert!(bytes[..512].iter().all(|byte| *byte == 0));
    assert!(bytes[512..1024].iter().all(|byte| *byte == 5));
    assert!(bytes[1024..].iter().all(|byte| *byte == 0));
}

#[test]
fn the_step_survives_a_crash_whole_or_not_at_all() {
    for events in (0..120).step_by(3) {
        let (scene, life, id) = array();
        settled(&life, id, 0, 1);
        settled(&life, id, 2, 1);
        let calls = life.start(async move |shard| {
            shard.write_at(id, 512, fill(2, 2 * BLOCK)).await?;
            shard.flush(id).await?;
            shard.trim_at(id, 1024, 2 * BLOCK_U64).await?;
            shard.flush(id).await
        });
        life.step(events);
        let done = calls.take().is_some();
        life.power_loss();
        let found = read(&scene.open(), id, 0, 3 * BLOCK_U64);
        let before = [vec![1; BLOCK], vec![0; BLOCK], vec![1; BLOCK]].concat();
        let mut written = before.clone();
        written[512..512 + 2 * BLOCK].fill(2);
        let mut trimmed = written.clone();
        trimmed[1024..1024 + 2 * BLOCK].fill(0);
        assert!([&before, &written, &trimmed].contains(&&found), "{events} events: neither of the states");
        assert!(!done || found == trimmed, "{events} events: it was flushed");
    }
}

#[test]
fn zeros_take_no_space() {
    let (_scene, life, id) = array();
    settled(&life, id, 7, 1);
    for part in 0..8 {
        let offset = 7 * BLOCK_U64 + part * 512;
        life.run(async move |shard| shard.trim_at(id, offset, 512).await).expect("trimmed");
    }
    life.flush(id);
    life.checkpoint();
    assert_eq!(life.shard.find("mail").expect("there").used, 0);
    assert_eq!(read(&life, id, 7 * BLOCK_U64, BLOCK_U64), [0; BLOCK]);
}

/// Whether a block holds the same byte over and over: one of [`settled`], or its parity.
fn is_filled(disk: &SimDisk, block: u64) -> bool {
    let bytes = disk.peek(block * BLOCK_U64, BLOCK);
    bytes[0] != 0 && bytes.iter().all(|byte| *byte == bytes[0])
}

#[test]
fn a_part_of_a_lost_block_cannot_be_written_and_the_error_names_it() {
    let (scene, life, id) = array();
    settled(&life, id, 7, 1);
    settled(&life, id, 8, 1);
    for disk in &scene.disks {
        let blocks = disk.used_blocks().filter(|block| is_filled(disk, *block));
        blocks.for_each(|block| disk.rot(block..block + 1, Rot::Garbage));
    }
    let lost = Kind::DataLoss { volume: id, lba: Lba(7) };
    let named = |error: Error, bytes: &str| {
        let text = error.to_string();
        assert!(text.contains(&format!("bytes {bytes} of volume 'mail' are lost")), "{text}");
        assert_eq!(error.kind(), lost);
    };
    let read = life.run(async move |shard| shard.read(id, Lba(0), 64).await);
    named(read.map(|_| ()).expect_err("lost"), "28672 to 36864");
    assert_eq!(
        life.shard.damage().iter().map(|record| (record.lba.0, record.blocks)).collect::<Vec<_>>(),
        [(7, 2)]
    );
    let write =
        |byte| life.start(async move |shard| shard.write_at(id, 7 * BLOCK_U64 + 512, fill(byte, 512)).await);
    named(life.wait(&write(2)).expect_err("lost"), "28672 to 32768");
    let trim = life.run(async move |shard| shard.trim_at(id, 7 * BLOCK_U64 - 512, 1024).await);
    named(trim.expect_err("lost"), "28672 to 32768");
    // Once it is written anew while the other waits, that is what the other builds on.
    let part = write(2);
    life.run(async move |shard| shard.write(id, Lba(7), fill(3, BLOCK)).await).expect("written");
    life.wait(&part).expect("written");
    let mut expected = [3; BLOCK];
    expected[512..1024].fill(2);
    assert!(self::read(&life, id, 7 * BLOCK_U64, BLOCK_U64) == expected);
}
