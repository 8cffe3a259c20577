//! Tables of more entries than are looked at in one go.

use super::scene::{Life, Scene};
use crate::types::{BLOCK_U64, Lba, Scheme, VolumeId};

fn name(at: u32) -> String {
    format!("volume number {at}")
}

// Tables are read and compared a few thousand entries at a time.
#[test]
fn thousands_of_volumes_come_back_and_one_that_changes_is_written_alone() {
    let scene = Scene::new((1, 1), 32, &[80; 2]);
    let life = scene.open();
    let create =
        |at: u32| life.shard.core().catalog().with(|catalog| catalog.create(&name(at), Scheme::MIRROR, 64));
    let ids: Vec<VolumeId> = (0..3000).map(|at| create(at).expect("made")).collect();
    life.checkpoint();
    life.kill();
    let life = scene.open();
    let last = ids[2999];
    life.write(last, 0, 8, 1);
    life.flush(last);
    life.run(async move |shard| shard.delete_volume(ids[1500]).await).expect("deleted");
    let before = life.shard.core().stripes().counters().metadata;
    life.write(last, 8, 8, 1);
    life.flush(last);
    life.checkpoint();
    let written = life.shard.core().stripes().counters().metadata - before;
    assert!(written < 64 * BLOCK_U64, "{written} bytes of metadata");
    life.power_loss();
    let life = scene.open();
    let names: Vec<String> = life.shard.volumes().into_iter().map(|volume| volume.name).collect();
    assert_eq!(names, (0..3000).filter(|at| *at != 1500).map(name).collect::<Vec<_>>());
    life.expect(last, 0, 16, 1);
}

#[test]
fn thousands_of_segments_come_back() {
    let scene = Scene::new((1, 1), 8, &[4000; 2]);
    let life = scene.open();
    let id = life.volume("mail", 16 << 10);
    (0..48).for_each(|call| life.write(id, call * 256, 256, 1));
    life.flush(id);
    life.checkpoint();
    let segments = |life: &Life| life.shard.core().stripes().space.with(|space| space.iter().count());
    assert!(segments(&life) > 1500);
    life.write(id, 0, 256, 2);
    life.flush(id);
    life.power_loss();
    let life = scene.open();
    life.expect(id, 0, 256, 2);
    (1..48).for_each(|call| life.expect(id, call * 256, 256, 1));
    life.run(async move |shard| shard.core().check().await).expect("sound");
}

#[test]
fn a_trim_of_more_leaves_than_a_checkpoint_empties_is_seen_at_once_and_goes_on_with_the_next_ones() {
    const BLOCKS: u64 = 20_000;
    let scene = Scene::new((1, 0), 32, &[1500]);
    let life = scene.open();
    let id = life.volume("mail", BLOCKS);
    (0..BLOCKS).step_by(200).for_each(|lba| life.write(id, lba, 200, 1));
    life.flush(id);
    life.checkpoint();
    let zeros = |life: &Life| {
        let read = life.run(async move |shard| shard.read_blocks(id, Lba(1), BLOCKS - 2).await);
        assert!(read.expect("read").iter().all(Option::is_none));
        life.expect(id, 0, 1, 1);
        life.expect(id, BLOCKS - 1, 1, 1);
    };
    let stones = |life: &Life| {
        let catalog = life.shard.core().catalog();
        catalog.with(|catalog| catalog.get(id).expect("made").tombstones.len())
    };
    life.run(async move |shard| shard.trim(id, Lba(1), BLOCKS - 2).await).expect("trimmed");
    life.flush(id);
    zeros(&life);
    life.checkpoint();
    zeros(&life);
    assert_eq!(stones(&life), 1, "it is not done");
    life.kill();
    let life = scene.open();
    zeros(&life);
    assert_eq!(stones(&life), 1, "nor is it after the checkpoint of the opening");
    life.checkpoint();
    zeros(&life);
    assert_eq!(stones(&life), 0);
    life.run(async move |shard| shard.core().check().await).expect("sound");
    life.power_loss();
    zeros(&scene.open());
}
