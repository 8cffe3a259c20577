//! Members that come back shorter, longer, or with everything in another place (F26).
//!
//! Up to m of them may. The array opens and is exact; nothing is asked of a member behind its end; what is written then
//! stays exact as well; and when each such member is replaced, or is as it was before, any m may be lost again.

use super::assembly::{Array, write};
use super::base::End;
use super::stage::{CHUNK_BLOCKS, Checked, MEMBER_BYTES, Stage, lose_any, subsets};
use super::{Case, Cases};
use crate::limits::RING_BYTES;
use crate::maintain::Pace;
use crate::types::{BLOCK, BLOCK_U64, Slot};
use crate::volume::State;
use std::sync::Arc;

const CHUNK: i64 = CHUNK_BLOCKS as i64 * BLOCK_U64 as i64;
const RING: i64 = RING_BYTES as i64;
const BLOCK_I: i64 = BLOCK_U64 as i64;

/// What has become of a member: its name, the bytes that it grew by, and by how much everything moved.
const CHANGES: [(&str, i64, i64); 14] = [
    ("cut-block", -BLOCK_I, 0),
    ("cut-chunk", -CHUNK, 0),
    ("cut-ring", -RING, 0),
    ("cut-half", -(MEMBER_BYTES as i64 / 2 / BLOCK_I * BLOCK_I), 0),
    ("cut-two-rings", -(MEMBER_BYTES as i64 - 2 * RING), 0),
    ("cut-all-but-a-ring", -(MEMBER_BYTES as i64 - RING), 0),
    ("cut-all", -(MEMBER_BYTES as i64), 0),
    ("grown-block", BLOCK_I, 0),
    ("grown-chunk", CHUNK, 0),
    ("grown-ring", RING, 0),
    ("grown-double", MEMBER_BYTES as i64, 0),
    ("shifted-block", 0, BLOCK_I),
    ("shifted-back", 0, -BLOCK_I),
    ("shifted-ring", RING, RING),
];

/// All cases of these arrays.
pub(super) fn cases(arrays: &[(String, End, Arc<Array>)]) -> Cases {
    let mut cases = Vec::new();
    for (place, _, array) in arrays {
        let (members, m) = (array.base.images.len(), usize::from(array.scheme.m()));
        for set in subsets(members).filter(|set| set.len() == m || set.len() == 1) {
            for change in CHANGES {
                let (array, set) = (array.clone(), set.clone());
                let who: String = set.iter().map(usize::to_string).collect();
                cases.push(Case::new(format!("members/{place}/{}/{who}", change.0), move || {
                    changed(&array, &set, change)
                }));
            }
        }
    }
    cases
}

/// The members, some of them changed.
fn stage(array: &Array, set: &[usize], (_, grown, moved): (&str, i64, i64)) -> Checked<Stage> {
    let whole = Stage::of(&array.base.images);
    let mut stage = Stage::of(&[]);
    for (at, old) in whole.disks.iter().enumerate() {
        if !set.contains(&at) {
            stage.add(MEMBER_BYTES).restore(&array.base.images[at]);
            continue;
        }
        let bytes = MEMBER_BYTES.checked_add_signed(grown).ok_or("no such size")?;
        let disk = stage.add(bytes);
        for block in old.used_blocks() {
            let Some(offset) = (block * BLOCK_U64).checked_add_signed(moved) else { continue };
            if offset + BLOCK_U64 <= bytes {
                disk.poke(offset, &old.peek(block * BLOCK_U64, BLOCK));
            }
        }
    }
    Ok(stage)
}

fn changed(array: &Array, set: &[usize], change: (&str, i64, i64)) -> Checked<()> {
    let mut stage = stage(array, set, change)?;
    let open = stage.must_open()?;
    open.expect(&array.base.expected)?;
    let mut expected = write(&open, &array.base.expected, 1000)?;
    for round in 0..6 {
        expected = write(&open, &expected, 2000 + 100 * round)?;
        open.run(async move |shard| shard.checkpoint().await)?
            .map_err(|error| format!("checkpoint: {error}"))?;
    }
    stage.check_requests()?;
    drop(open);
    stage.hub.power_loss();
    let open = stage.must_open().map_err(|text| format!("once more: {text}"))?;
    open.expect(&expected).map_err(|text| format!("once more: {text}"))?;
    let found = open.scrub()?;
    if found.lost > 0 {
        return Err(format!("scrub: {found:?}"));
    }
    stage.check_requests()?;
    // Whoever is not in full use is replaced; a longer one may go on.
    let out: Vec<usize> = (0..array.base.images.len())
        .filter(|disk| !open.election.members.contains(&Some(*disk)) || is_out(&open, *disk))
        .collect();
    if out.is_empty() != (open.state() == State::Healthy) {
        return Err(format!("members {out:?} are out of use, and the array is {:?}", open.state()));
    }
    for disk in &out {
        stage.add(MEMBER_BYTES);
        let new = stage.candidate(stage.disks.len() - 1);
        let slot = Slot(u8::try_from(*disk).expect("few"));
        open.run(async move |shard| shard.replace_member(slot, new).await)?
            .map_err(|error| format!("replacing member {disk}: {error}"))?;
    }
    let rebuilt = open.run(async move |shard| shard.rebuild(Pace::default()).await)?;
    let rebuilt = rebuilt.map_err(|error| format!("rebuild: {error}"))?;
    if rebuilt.lost > 0 || rebuilt.missing > 0 {
        return Err(format!("rebuild: {rebuilt:?}"));
    }
    open.expect_whole()?;
    open.expect(&expected)?;
    open.inspect()?;
    stage.check_requests()?;
    drop(open);
    stage.hub.power_loss();
    if out.is_empty() && change.1 == 0 {
        return lose_any(&stage.images(), array.scheme.m().into(), &expected);
    }
    // Members that went are no part of it any more.
    for disk in out.iter().rev() {
        stage.disks.remove(*disk);
    }
    let m = usize::from(array.scheme.m());
    for left in subsets(stage.disks.len()).filter(|left| left.len() == stage.disks.len() - m) {
        let members = left.iter().map(|disk| stage.candidate(*disk)).collect();
        let open = stage
            .open_as(members, crate::commit::OpenOptions { read_only: true, ..Default::default() })?
            .map_err(|error| format!("with {left:?} alone: {error}"))?;
        open.expect(&expected).map_err(|text| format!("with {left:?} alone: {text}"))?;
    }
    stage.check_requests()
}

fn is_out(open: &super::stage::Open, disk: usize) -> bool {
    let pool = &open.shard.core().stripes().pool;
    pool.device(Slot(u8::try_from(disk).expect("few"))).is_none()
}

#[cfg(test)]
mod tests {
    use super::super::assembly::Array;
    use super::*;
    use crate::sim::exhaust::base::Base;
    use crate::types::Scheme;

    // A member that had lost its end was used on: read and written behind its end, with its second ring over chunks.
    #[test]
    fn a_member_of_another_size_or_shifted_does_no_harm() {
        let scheme = Scheme::new(2, 1).expect("sound");
        let base = Base::new(scheme, 3, End::Killed).expect("made");
        let array = Arc::new(Array { scheme, base });
        let cases = cases(&[("here".into(), End::Killed, array)]);
        assert_eq!(cases.len(), 3 * CHANGES.len());
        for case in cases.iter().step_by(3) {
            assert_eq!((case.run)(), Ok(()), "{}", case.name);
        }
    }
}
