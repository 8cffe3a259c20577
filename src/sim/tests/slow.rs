//! Members that take their time: nobody waits for them who can do without.

use super::scene::{Life, Scene, data};
use crate::sim::{Fault, Rot};
use crate::types::{Lba, VolumeId};

/// The disks that hold the columns of a block's segment, the block's own first.
fn columns(life: &Life, id: VolumeId, lba: u64) -> Vec<usize> {
    let view = life.shard.core().stripes().view(life.segment(id, lba)).expect("in the table");
    view.columns.iter().map(|at| usize::from(at.expect("there").slot.0)).collect()
}

#[test]
fn a_read_does_not_wait_for_a_member_that_does_not_answer() {
    let scene = Scene::new((1, 2), 8, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 64);
    life.write(id, 0, 7, 1);
    life.flush(id);
    let disks = columns(&life, id, 0);
    // The block's own member, and then also one that would have been asked instead.
    for hung in [&disks[..1], &disks[..2]] {
        hung.iter().for_each(|disk| scene.disks[*disk].inject(Fault::Hang));
        let before = life.shard.core().stripes().counters().hedged;
        life.expect(id, 0, 7, 1);
        assert_eq!(life.shard.core().stripes().counters().hedged, before + 1);
        assert_eq!(life.shard.core().progress().evictions, 0, "nobody waited until it counts as hung");
        hung.iter().for_each(|disk| scene.disks[*disk].unhang());
        life.step(100);
    }
}

#[test]
fn a_read_waits_for_a_slow_member_where_the_others_do_not_suffice() {
    for slow_header in [false, true] {
        let scene = Scene::new((2, 1), 8, &[80; 3]);
        let life = scene.open();
        let id = life.volume("mail", 64);
        life.write(id, 0, 2, 1);
        life.flush(id);
        let disks = columns(&life, id, 0);
        let segment = life.segment(id, 0);
        let (_, row) = *life.headers(segment).iter().find(|(disk, _)| *disk == disks[2]).expect("a header");
        scene.disks[disks[2]].rot(row + 1..row + 2, Rot::Zero);
        scene.disks[disks[0]].inject(Fault::Slow);
        if slow_header {
            scene.disks[disks[1]].inject(Fault::Slow);
        }
        let read = life.run(async move |shard| shard.read(id, Lba(0), 1).await);
        assert_eq!(read, Ok(data(0, 1, 1)));
        assert_eq!(life.shard.core().stripes().counters().hedged, 0);
    }
}

#[test]
fn a_member_that_nobody_waited_for_is_evicted_all_the_same_if_it_never_answers() {
    let scene = Scene::new((1, 1), 8, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 64);
    life.write(id, 0, 7, 1);
    life.flush(id);
    let own = columns(&life, id, 0)[0];
    scene.disks[own].inject(Fault::Hang);
    life.expect(id, 0, 7, 1);
    assert_eq!(life.shard.core().progress().evictions, 0);
    // Until the read counts as hung; then whoever writes next evicts the member.
    life.step(1000);
    life.write(id, 7, 7, 2);
    life.flush(id);
    assert_eq!(life.shard.core().progress().evictions, 1);
    life.expect(id, 0, 7, 1);
}
