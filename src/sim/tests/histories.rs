//! Which superblock speaks for the array, and who may still speak at all.

use super::scene::Scene;
use crate::error::Kind;
use crate::limits::HISTORY_MAX;
use crate::pool::{read_rings, write_rings};

#[test]
fn a_member_that_was_away_for_longer_than_epochs_are_remembered_is_one_of_the_array() {
    let scene = Scene::new((2, 1), 32, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 64);
    life.write(id, 0, 40, 1);
    life.flush(id);
    life.kill();
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
    let scene = Scene::new((2, 1), 32, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 64);
    life.write(id, 0, 40, 1);
    life.flush(id);
    life.kill();
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

#[test]
fn an_array_with_a_feature_that_this_version_can_only_read_is_only_read() {
    let scene = Scene::new((2, 1), 32, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 64);
    life.write(id, 0, 40, 1);
    life.flush(id);
    let disks = scene.disks.clone();
    life.run(async move |_| {
        for disk in &disks {
            let found = read_rings(disk).await;
            let mut newest = found.copies.into_iter().max_by_key(|copy| copy.commit).expect("a superblock");
            newest.features.ro_compat |= 1 << 62;
            newest.commit += 1;
            write_rings(disk, &newest).await.expect("written");
        }
    });
    life.kill();
    let error = scene.try_open(false).map(drop).expect_err("not to be written");
    assert!(error.kind() == Kind::ReadOnly && error.to_string().contains("can only read"), "{error:?}");
    scene.try_open(true).expect("read").expect(id, 0, 40, 1);
}
