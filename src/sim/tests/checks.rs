//! The check that the simulator makes of the whole core ([`crate::commit::Core::check`]) finds what it is there for;
//! what contradicts itself on the members is an error that names it.

use super::scene::{Life, Scene};
use crate::error::Kind;
use crate::sim::Rot;
use crate::stripe::Wanted;
use crate::types::{Column, Lba, Scheme, SegmentId, VolumeId};

/// An open array with a volume whose blocks are in a durable map.
fn opened() -> (Scene, Life, VolumeId) {
    let scene = Scene::new((2, 1), 32, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 256);
    life.write(id, 0, 40, 1);
    life.flush(id);
    life.checkpoint();
    (scene, life, id)
}

#[track_caller]
fn found(life: &Life, what: &str) {
    let error = life.run(async move |shard| shard.core().check().await).expect_err(what);
    assert!(error.kind() == Kind::Corrupt && error.to_string().contains(what), "{error:?}");
}

#[test]
fn a_wrong_count_a_missing_segment_and_a_page_too_weak_are_found() {
    let (_scene, life, id) = opened();
    let core = life.shard.core().clone();
    let space = |change: &dyn Fn(&mut crate::space::Space)| core.stripes().space.with(|space| change(space));
    let segment = life.segment(id, 0);
    let check = || life.run(async move |shard| shard.core().check().await);
    check().expect("sound");
    space(&|space| space.count(&[(segment, 1)].into()).expect("there"));
    found(&life, "live and pending blocks, the table says");
    space(&|space| space.count(&[(segment, -1)].into()).expect("there"));
    space(&|space| space.pend(segment, 1));
    found(&life, "live and pending blocks, the table says");
    space(&|space| space.pend(segment, -1));
    check().expect("sound again");
    let set = |scheme| core.catalog().with(|catalog| catalog.entry(id).expect("there").scheme = scheme);
    set(Scheme::new(1, 2).expect("a scheme"));
    found(&life, "volume 1 is stronger than the metadata");
    set(Scheme::new(2, 1).expect("a scheme"));
    space(&|space| space.remove(segment));
    found(&life, "which is not in the table");
    core.stripes().pool.raise_meta_scheme(Scheme::new(1, 2).expect("a scheme"));
    found(&life, "of pages survives less than 2 losses");
}

#[test]
fn a_pointer_to_a_column_or_a_segment_that_is_not_there_is_an_error() {
    let (_scene, life, id) = opened();
    let wanted = life.run(async move |shard| shard.core().locate(id, Lba(0)).await).expect("read");
    let wanted = wanted.expect("mapped");
    let read = |change: fn(&mut Wanted), what: &str| {
        let mut wanted = wanted;
        change(&mut wanted);
        let read = life.run(async move |shard| shard.core().stripes().read(&[wanted]).await);
        let error = read.expect_err(what);
        assert!(error.kind() == Kind::Corrupt && error.to_string().contains(what), "{error:?}");
    };
    read(|wanted| wanted.pointer.place.column = Column(2), "which has 2 data columns");
    read(|wanted| wanted.pointer.place.segment = SegmentId(77), "segment 77 is not in the table");
}

// The cleaner cannot move what it cannot verify: it lists the block, and the segment stays.
#[test]
fn a_block_that_is_lost_is_listed_by_the_cleaner_that_would_move_it() {
    let scene = Scene::new((1, 1), 16, &[60; 2]);
    let life = scene.open();
    let id = life.volume("mail", 300);
    let calls = || (0..300).step_by(15);
    for lba in calls() {
        life.write(id, lba, 15, 1);
        life.flush(id);
    }
    let segment = life.segment(id, 3);
    assert_eq!(life.segment(id, 4), segment);
    let place = life.run(async move |shard| shard.locate(id, Lba(3)).await).expect("mapped").expect("there");
    let row = usize::from(place.place.row.0);
    for column in life.blocks(segment).chunks(16) {
        let (disk, block) = column[row];
        scene.disks[disk].rot(block..block + 1, Rot::Garbage);
    }
    life.write(id, 0, 3, 2);
    life.write(id, 5, 10, 2);
    for tag in 2..30 {
        if !life.shard.damage().is_empty() {
            break;
        }
        calls().skip(1).for_each(|lba| life.write(id, lba, 15, tag));
        life.flush(id);
    }
    let damage = life.shard.damage();
    assert_eq!(damage.iter().map(|record| (record.lba.0, record.blocks)).collect::<Vec<_>>(), [(3, 1)]);
    life.expect(id, 4, 1, 1);
    life.checkpoint();
    let live = life.shard.core().stripes().space.with(|space| space.get(segment).map(|found| found.live));
    assert_eq!(live, Some(1), "nothing but the lost block");
    assert_ne!(life.segment(id, 4), segment);
}
