//! One commit of the superblock, cut off: every copy of it is there, torn or not there, in every combination (F03).
//!
//! What comes back is the state before the commit or the one after, never a mix, and everything is exact in both.

use super::assembly::Array;
use super::base::End;
use super::player::Player;
use super::stage::{Checked, MEMBER_BYTES, Stage};
use super::{Case, Cases};
use crate::commit::OpenOptions;
use crate::layout::{ring_offsets, slot_offset};
use crate::limits::{RING_SLOTS, SLOT_BYTES};
use std::sync::Arc;

/// What a crash leaves of one copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Old,
    New,
    /// The first sectors of the new one, then the old one.
    Torn,
}

/// A copy that a commit changes: member, byte, what it was and what it is to be.
struct Copy {
    member: usize,
    offset: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

/// All cases of the array; fates of copies as digits. More copies than six are only there or not there.
pub(super) fn cases(arrays: &[(String, End, Arc<Array>)]) -> Cases {
    let mut cases = Vec::new();
    for (place, _, array) in
        arrays.iter().filter(|(_, end, array)| *end == End::Killed && array.base.images.len() <= 4)
    {
        let copies = 2 * u32::try_from(array.base.images.len()).expect("few");
        let fates: u32 = if copies > 6 { 2 } else { 3 };
        for case in 0..fates.pow(copies) {
            let array = array.clone();
            let chosen: Vec<u32> = (0..copies).map(|copy| case / fates.pow(copy) % fates).collect();
            let name: String = chosen.iter().map(u32::to_string).collect();
            cases.push(Case::new(format!("members/{place}/commit/{name}"), move || {
                let fate = |digit: &u32| [Fate::Old, Fate::New, Fate::Torn][*digit as usize];
                cut_off(&array, &chosen.iter().map(fate).collect::<Vec<_>>())
            }));
        }
    }
    cases
}

fn cut_off(array: &Array, fates: &[Fate]) -> Checked<()> {
    let stage = Stage::of(&array.base.images);
    let open = stage.must_open()?;
    let before = slots(&stage);
    let mut player =
        Player { open: &open, expected: array.base.expected.clone(), tag: 500, errors: Vec::new() };
    // The commit says that there is one volume more, and that another is gone.
    player.create("new", array.scheme, 4)?;
    player.succeeded()?;
    let mut expected = player.expected;
    expected.volumes.get_mut("new").expect("just made").must_be = false;
    drop(open);
    stage.hub.kill();
    let copies: Vec<Copy> = before
        .into_iter()
        .zip(slots(&stage))
        .filter(|(old, new)| old.2 != new.2)
        .map(|((member, offset, old), (_, _, new))| Copy { member, offset, old, new })
        .collect();
    if copies.len() != fates.len() {
        return Err(format!("a commit wrote {} copies, not {}", copies.len(), fates.len()));
    }
    for (copy, fate) in copies.iter().zip(fates) {
        let torn =
            copy.new.iter().zip(&copy.old).position(|(new, old)| new != old).unwrap_or(0) / 512 * 512 + 512;
        let content = match fate {
            Fate::Old => copy.old.clone(),
            Fate::New => copy.new.clone(),
            Fate::Torn => [&copy.new[..torn], &copy.old[torn..]].concat(),
        };
        stage.disks[copy.member].poke(copy.offset, &content);
    }
    let open = stage.must_open()?;
    let there = open.shard.find("new").is_ok();
    let found = fates.contains(&Fate::New);
    // A torn copy may be whole: what differs may fit into its first sectors.
    if there != found && !(there && fates.contains(&Fate::Torn)) {
        return Err(format!(
            "the newest copy is {}, and volume 'new' is {there}",
            if found { "new" } else { "old" }
        ));
    }
    open.expect(&expected)?;
    let found = open.scrub()?;
    if found.lost > 0 || found.reduced > 0 {
        return Err(format!("scrub: {found:?}"));
    }
    open.expect_whole()?;
    open.inspect()?;
    drop(open);
    stage.hub.power_loss();
    let members = stage.candidates();
    let open =
        stage.open_as(members, OpenOptions::default())?.map_err(|error| format!("once more: {error}"))?;
    if open.shard.find("new").is_ok() != there {
        return Err("it has changed its mind".into());
    }
    open.expect(&expected)
}

/// Every slot of every ring.
fn slots(stage: &Stage) -> Vec<(usize, u64, Vec<u8>)> {
    let (front, back) = ring_offsets(MEMBER_BYTES);
    let mut found = Vec::new();
    for (member, disk) in stage.disks.iter().enumerate() {
        for ring in [front, back] {
            for slot in 0..RING_SLOTS {
                let offset = slot_offset(ring, slot);
                found.push((member, offset, disk.peek(offset, SLOT_BYTES)));
            }
        }
    }
    found
}
