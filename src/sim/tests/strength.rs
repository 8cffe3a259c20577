//! Volumes that are stronger than the array they are made on: metadata becomes as strong first.

use super::scene::{Life, Scene};
use crate::error::Kind;
use crate::format::page::TreeId;
use crate::format::superblock::ChunkAddress;
use crate::sim::{Rot, SimDisk};
use crate::types::{Lba, Scheme, VolumeId};

fn scheme(k: u8, m: u8) -> Scheme {
    Scheme::new(k, m).expect("a scheme")
}

fn create(life: &Life, name: &str, scheme: Scheme, blocks: u64) -> Result<VolumeId, Kind> {
    let name = name.to_owned();
    life.run(async move |shard| shard.create_volume(&name, scheme, blocks).await)
        .map_err(|error| error.kind())
}

fn check(life: &Life) {
    life.run(async move |shard| shard.core().check().await).expect("sound");
}

fn meta(life: &Life) -> Scheme {
    life.shard.core().stripes().pool.meta_scheme()
}

/// Blocks of a volume that are lost, the others being exact.
fn lost(life: &Life, id: VolumeId, blocks: u64, tag: u64) -> Vec<u64> {
    let is_lost = |&at: &u64| {
        let read = life.run(async move |shard| shard.read(id, Lba(at), 1).await);
        match read {
            Ok(block) => {
                assert!(block == crate::sim::model::content(tag, Lba(at)), "block {at}");
                false
            }
            Err(error) => {
                assert_eq!(error.kind(), Kind::DataLoss { volume: id, lba: Lba(at) });
                true
            }
        }
    };
    (0..blocks).filter(is_lost).collect()
}

/// Blocks of a volume that lie only on these members.
fn only_there(life: &Life, id: VolumeId, blocks: u64, gone: &[usize]) -> Vec<u64> {
    let on = |at: &ChunkAddress| gone.contains(&usize::from(at.slot.0));
    let lies_there = |&at: &u64| {
        let segment = life.segment(id, at);
        let columns = life.shard.core().stripes().view(segment).expect("in the table").columns;
        columns.iter().flatten().all(on)
    };
    (0..blocks).filter(lies_there).collect()
}

/// A mirror on four members with a volume of its own scheme and then one of three copies.
fn weak_and_strong() -> (Scene, VolumeId, VolumeId) {
    let scene = Scene::new((1, 1), 16, &[120; 4]);
    let life = scene.open();
    let weak = life.volume("weak", 1024);
    life.write(weak, 0, 1024, 1);
    life.flush(weak);
    life.checkpoint();
    assert_eq!(meta(&life), scheme(1, 1));
    let strong = create(&life, "strong", scheme(1, 2), 256).expect("created");
    assert_eq!(meta(&life), scheme(1, 2));
    check(&life);
    life.write(strong, 0, 256, 2);
    life.flush(strong);
    life.kill();
    (scene, weak, strong)
}

#[test]
fn with_any_two_members_lost_a_strong_volume_is_exact_and_a_weak_one_misses_what_lay_there() {
    for first in 0..4 {
        for second in 0..first {
            let (scene, weak, strong) = weak_and_strong();
            let life = scene.open();
            let expected = only_there(&life, weak, 1024, &[first, second]);
            life.kill();
            let gone: Vec<SimDisk> = [first, second].map(|disk| scene.disks[disk].clone()).into();
            gone.iter().for_each(SimDisk::vanish);
            let life = scene.open();
            assert_eq!(lost(&life, strong, 256, 2), [], "{first} and {second} are gone");
            assert_eq!(lost(&life, weak, 1024, 1), expected, "{first} and {second} are gone");
            // And it is written on, and survives a crash.
            life.write(strong, 0, 64, 3);
            life.flush(strong);
            life.power_loss();
            let life = scene.open();
            life.expect(strong, 0, 64, 3);
            life.expect(strong, 64, 192, 2);
        }
    }
}

#[test]
fn after_a_crash_at_any_moment_of_its_creation_a_strong_volume_is_there_with_strong_metadata_or_is_not() {
    let (mut before, mut after) = (0, 0);
    for events in 0.. {
        let scene = Scene::new((1, 1), 16, &[80; 4]);
        let life = scene.open();
        let weak = life.volume("weak", 1024);
        for lba in (0..1024).step_by(128) {
            life.write(weak, lba, 128, 1);
        }
        life.flush(weak);
        life.checkpoint();
        let answer = life.start(async move |shard| shard.create_volume("strong", scheme(1, 2), 64).await);
        life.step(events * 7);
        let is_made = answer.take().map(|made| made.expect("made")).is_some();
        life.power_loss();
        let life = scene.open();
        check(&life);
        let is_there = life.shard.find("strong").is_ok();
        assert!(is_there || !is_made, "it was made, and is gone");
        assert!(!is_there || meta(&life) == scheme(1, 2));
        life.expect(weak, 0, 1024, 1);
        (before, after) = (before + u64::from(!is_there), after + u64::from(is_there));
        // What was begun can be done again.
        match is_there {
            true => assert_eq!(create(&life, "strong", scheme(1, 2), 64), Err(Kind::Exists)),
            false => drop(create(&life, "strong", scheme(1, 2), 64).expect("made")),
        }
        check(&life);
        if is_made {
            break;
        }
    }
    assert!(before > 10 && after > 0, "{before} {after}");
}

#[test]
fn calls_are_served_while_metadata_grows_stronger() {
    let scene = Scene::new((2, 1), 8, &[400; 5]);
    let life = scene.open();
    let weak = life.volume("weak", 4096);
    for lba in (0..4096).step_by(256) {
        life.write(weak, lba, 256, 1);
    }
    life.flush(weak);
    life.checkpoint();
    let before = life.shard.core().progress().checkpoints;
    let answer = life.start(async move |shard| shard.create_volume("strong", scheme(2, 3), 64).await);
    let mut rounds = 0;
    let strong = loop {
        if let Some(made) = answer.take() {
            break made.expect("made");
        }
        let lba = rounds * 64 % 4096;
        life.write(weak, lba, 64, 2);
        life.flush(weak);
        life.expect(weak, lba, 64, 2);
        rounds += 1;
    };
    assert!(rounds > 3, "it took {rounds} writes");
    assert!(life.shard.core().progress().checkpoints - before > 10, "in bounded steps");
    assert_eq!(meta(&life), scheme(2, 3));
    check(&life);
    life.write(strong, 0, 64, 3);
    life.flush(strong);
    life.kill();
    for disk in [0, 2, 4] {
        scene.disks[disk].vanish();
    }
    let life = scene.open();
    life.expect(strong, 0, 64, 3);
}

#[test]
fn a_striped_array_has_two_copies_of_its_metadata_and_more_for_a_stronger_volume() {
    let scene = Scene::new((3, 0), 16, &[80; 3]);
    let life = scene.open();
    assert_eq!(meta(&life), scheme(1, 1));
    let striped = life.volume("striped", 64);
    life.write(striped, 0, 64, 1);
    let strong = create(&life, "strong", scheme(1, 2), 64).expect("created");
    life.write(strong, 0, 64, 2);
    life.flush(striped);
    life.flush(strong);
    life.checkpoint();
    assert_eq!(create(&life, "wide", scheme(2, 2), 64), Err(Kind::Refused));
    check(&life);
    life.kill();
    scene.disks[0].vanish();
    scene.disks[1].vanish();
    let life = scene.open();
    life.expect(strong, 0, 64, 2);
    assert!(!lost(&life, striped, 64, 1).is_empty());
}

#[test]
fn a_degraded_array_takes_a_volume_as_strong_as_all_its_members_allow() {
    let scene = Scene::new((1, 1), 16, &[80; 4]);
    let life = scene.open();
    let weak = life.volume("weak", 512);
    life.write(weak, 0, 512, 1);
    life.kill();
    scene.disks[3].vanish();
    let life = scene.open();
    let strong = create(&life, "strong", scheme(1, 3), 64).expect("created");
    life.write(strong, 0, 64, 2);
    life.flush(strong);
    check(&life);
    life.kill();
    // Of its four columns one was never there: it survives two more losses.
    scene.disks[0].vanish();
    scene.disks[1].vanish();
    let life = scene.open();
    life.expect(strong, 0, 64, 2);
}

#[test]
fn without_room_for_stronger_metadata_a_strong_volume_is_refused_and_all_goes_on() {
    let scene = Scene::new((1, 1), 16, &[80; 3]);
    let life = scene.open();
    let weak = life.volume("weak", 4096);
    let mut full = 0;
    for lba in (0..4096).step_by(16) {
        let data = super::scene::data(lba, 16, 1);
        match life.run(async move |shard| shard.write(weak, Lba(lba), data).await) {
            Ok(_) => full = lba + 16,
            Err(error) => {
                assert_eq!(error.kind(), Kind::NoSpace);
                break;
            }
        }
    }
    assert!(full > 256 && full < 4096, "{full}");
    let refused = life.run(async move |shard| shard.create_volume("strong", scheme(1, 2), 64).await);
    let error = refused.expect_err("no room");
    assert_eq!(error.kind(), Kind::NoSpace);
    assert!(error.to_string().contains("metadata"), "{error}");
    assert!(life.shard.find("strong").is_err());
    for lba in (0..full).step_by(16) {
        life.write(weak, lba, 16, 2);
    }
    life.flush(weak);
    life.run(async move |shard| shard.trim(weak, Lba(0), full / 2).await).expect("trimmed");
    life.flush(weak);
    create(&life, "strong", scheme(1, 2), 64).expect("there is room now");
    check(&life);
    life.expect(weak, full / 2, full - full / 2, 2);
}

// There seemed to be room, and then there was not: metadata was to be stronger from then on, what is kept free for it
// grew, and stayed so when the volume had been refused. So calls that add no block found no room any more.
#[test]
fn what_is_kept_free_for_stronger_metadata_is_given_back_when_it_cannot_be_written() {
    let mut scene = Scene::new((2, 1), 16, &[120; 5]);
    scene.config.map_cache = 0;
    let life = scene.open();
    let weak = life.volume("weak", 1024);
    life.write(weak, 0, 500, 1);
    life.flush(weak);
    life.checkpoint();
    // A page that the walk through the map has to read, and nobody before it.
    life.volume("other", 64);
    let core = life.shard.core();
    let root = core.root(TreeId::Map(weak)).expect("it has a map").pointer.place;
    for (disk, block) in life.blocks(root.segment).into_iter().skip(root.row.0.into()).step_by(16) {
        scene.disks[disk].rot(block..block + 1, Rot::Zero);
    }
    let (reserves, written) = (core.reserves(), core.progress().checkpoints);
    assert!(create(&life, "strong", scheme(1, 4), 64).is_err());
    assert!(core.progress().checkpoints > written, "it fails late");
    assert_eq!((core.reserves(), meta(&life)), (reserves, scheme(2, 1)));
}
