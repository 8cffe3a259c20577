//! Metadata built anew from what headers alone say.

use super::scene::{Life, Scene};
use crate::error::Kind;
use crate::sim::Rot;
use crate::types::{Lba, SegmentId};

/// Garbage over every segment that holds pages of tables and maps, and zeros over the superblocks of these disks.
fn destroy(scene: &Scene, life: Life, beheaded: std::ops::Range<usize>) {
    let pages: Vec<SegmentId> = life.shard.core().stripes().space.with(|space| {
        space.iter().filter(|(_, segment)| !segment.purpose.is_log()).map(|(id, _)| id).collect()
    });
    let blocks: Vec<_> = pages.into_iter().flat_map(|id| life.blocks(id)).collect();
    life.kill();
    for (disk, block) in blocks {
        scene.disks[disk].rot(block..block + 1, Rot::Garbage);
    }
    beheaded.for_each(|disk| scene.behead(disk));
}

#[test]
fn without_any_page_volumes_are_what_the_headers_of_their_records_say() {
    let scene = Scene::new((2, 1), 64, &[80; 3]);
    let life = scene.open();
    let (mail, other) = (life.volume("mail", 256), life.volume("other", 256));
    for (lba, blocks, tag) in [(0, 100, 1), (20, 40, 2)] {
        life.write(mail, lba, blocks, tag);
        life.flush(mail);
    }
    life.run(async move |shard| shard.trim(mail, Lba(30), 10).await).expect("trimmed");
    life.run(async move |shard| shard.resize(mail, 512).await).expect("resized");
    life.write(mail, 35, 1, 3);
    life.flush(mail);
    life.write(other, 5, 2, 4);
    life.flush(other);
    life.checkpoint();
    destroy(&scene, life, 0..3);

    assert_eq!(scene.try_open(false).map(drop).map_err(|error| error.kind()), Err(Kind::NotFound));
    let salvaged = scene.salvage().expect("salvaged");
    assert!(salvaged.is_renamed && salvaged.missing.is_empty());
    let names = [(mail, 512), (other, 7)].map(|(id, _)| (format!("salvaged-{id}"), true));
    assert_eq!(salvaged.volumes, names);
    let life = scene.open();
    let sizes: Vec<(u32, u64)> =
        life.shard.volumes().iter().map(|volume| (volume.id.0, volume.blocks)).collect();
    assert_eq!(sizes, [(mail.0, 512), (other.0, 7)], "as the last change of size said, or to the last block");
    for (lba, blocks, tag) in [(0, 20, 1), (20, 10, 2), (35, 1, 3), (40, 20, 2), (60, 40, 1)] {
        life.expect(mail, lba, blocks, tag);
    }
    for lba in [30, 34, 36, 39, 100, 511] {
        let block = life.run(async move |shard| shard.read(mail, Lba(lba), 1).await).expect("read");
        assert!(block.iter().all(|byte| *byte == 0), "{lba}");
    }
    life.expect(other, 5, 2, 4);
    life.run(async move |shard| shard.core().check().await).expect("sound");
}

#[test]
fn chunks_of_two_arrays_are_not_salvaged_as_one() {
    let scene = Scene::new((1, 1), 32, &[80; 2]);
    let other = Scene { hub: scene.hub.clone(), disks: Vec::new(), config: scene.config };
    let mut all = scene.disks.clone();
    all.extend((0..2).map(|_| scene.hub.disk(crate::device::Device::len(&scene.disks[0]))));
    let other = Scene { disks: all[2..].to_vec(), ..other };
    other.create((1, 1), 32).expect("made");
    for scene in [&scene, &other] {
        let life = scene.open();
        let id = life.volume("mail", 64);
        life.write(id, 0, 8, 1);
        life.flush(id);
        life.kill();
        (0..2).for_each(|disk| scene.behead(disk));
    }
    let both = Scene { hub: scene.hub.clone(), disks: all, config: scene.config };
    let error = both.salvage().expect_err("two arrays");
    assert!(error.kind() == Kind::Refused && error.to_string().contains("put one apart"), "{error:?}");
    let none = Scene { hub: scene.hub.clone(), disks: Vec::new(), config: scene.config };
    assert_eq!(none.salvage().map(drop).map_err(|error| error.kind()), Err(Kind::NotFound));
    assert_eq!(scene.salvage().expect("salvaged").volumes.len(), 1);
}

#[test]
fn a_member_without_superblocks_takes_its_place_in_an_array_without_pages() {
    let scene = Scene::new((2, 1), 64, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 256);
    life.write(id, 0, 100, 1);
    life.flush(id);
    life.checkpoint();
    destroy(&scene, life, 1..2);
    assert_eq!(scene.try_open(false).map(drop).map_err(|error| error.kind()), Err(Kind::Corrupt));
    let salvaged = scene.salvage().expect("salvaged");
    assert!(!salvaged.is_renamed && salvaged.missing.is_empty(), "{salvaged:?}");
    let life = scene.open();
    life.expect(id, 0, 100, 1);
    assert_eq!(life.shard.core().stripes().pool.active().len(), 3);
}
