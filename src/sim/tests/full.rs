//! Arrays that are full: what adds no block goes on (rule 13).

use super::scene::{Life, Scene};
use crate::error::Kind;
use crate::types::{Lba, Scheme, VolumeId};

fn create(life: &Life, name: &str, (k, m): (u8, u8), blocks: u64) -> VolumeId {
    let (name, scheme) = (name.to_owned(), Scheme::new(k, m).expect("a scheme"));
    life.run(async move |shard| shard.create_volume(&name, scheme, blocks).await).expect("created")
}

/// Writes new blocks, a few at a time, until the array takes no more. Returns how many it took.
fn fill(life: &Life, id: VolumeId, blocks: u64, step: u64) -> u64 {
    for lba in (0..blocks).step_by(usize::try_from(step).expect("small")) {
        let data = super::scene::data(lba, step, 1);
        if let Err(error) = life.run(async move |shard| shard.write(id, Lba(lba), data).await) {
            assert_eq!(error.kind(), Kind::NoSpace);
            life.flush(id);
            return lba;
        }
    }
    panic!("the array never was full");
}

// Each scheme that was ever written keeps a segment open. Where nothing lives in these, nobody needs them; of an array
// of small members they were a tenth, and neither trims nor overwrites found room any more.
#[test]
fn open_segments_in_which_nothing_lives_are_given_up_when_room_is_short() {
    let scene = Scene::new((1, 0), 16, &[40; 5]);
    let life = scene.open();
    let schemes = [(2, 1), (1, 2), (3, 1), (2, 2), (4, 1), (1, 3), (3, 2), (2, 3)];
    let idle: Vec<VolumeId> =
        (0..).zip(schemes).map(|(at, scheme)| create(&life, &format!("v{at}"), scheme, 64)).collect();
    let main = create(&life, "main", (1, 0), 4000);
    let trim =
        |id| life.run(async move |shard| shard.trim(id, Lba(0), 64).await).map_err(|error| error.kind());
    idle.iter().for_each(|id| assert_eq!(trim(*id).map(drop), Ok(())));
    idle.iter().for_each(|id| life.flush(*id));
    let blocks = fill(&life, main, 4000, 4);
    for tag in 2..6 {
        idle.iter().for_each(|id| assert_eq!(trim(*id).map(drop), Ok(())));
        (0..blocks).step_by(4).for_each(|lba| life.write(main, lba, 4, tag));
        life.expect(main, 0, blocks, tag);
    }
}

// While a member is away the others fill up, and when it is back all that is free is on it.
#[test]
fn room_is_spread_where_a_wide_segment_finds_it_on_too_few_members() {
    let scene = Scene::new((1, 1), 16, &[100; 4]);
    let life = scene.open();
    let wide = create(&life, "wide", (1, 3), 4000);
    let narrow = create(&life, "narrow", (1, 1), 4000);
    scene.disks[3].vanish();
    life.write(narrow, 0, 1, 1);
    life.flush(narrow);
    let blocks = fill(&life, narrow, 4000, 15);
    life.kill();
    scene.disks[3].come_back();
    let life = scene.open_for_upkeep();
    let more = fill(&life, wide, 4000, 15);
    life.write(wide, 0, 110, 2);
    life.flush(wide);
    life.expect(wide, 0, 110, 2);
    life.expect(wide, 110, more - 110, 1);
    life.expect(narrow, 0, blocks, 1);
    life.run(async move |shard| shard.core().check().await).expect("sound");
}
