//! Every set of members in every order, every split in two, doubles, strangers.
//!
//! With n - m members or more the array opens, is exact, and goes on when the others are back. With fewer it is
//! refused, clearly, and nothing on any member changes. The order in which members are given means nothing. Two parts
//! that were both written are refused, and both histories are named. A double or a stranger is left alone and named.

use super::super::enumerate::Expected;
use super::super::rng::Rng;
use super::base::{Base, End};
use super::player::Player;
use super::stage::{Checked, MEMBER_BYTES, Open, Stage, subsets};
use super::{Case, Cases, sizes, superblocks};
use crate::commit::{OpenOptions, Upkeep};
use crate::error::{Error, Kind};
use crate::format::superblock::Superblock;
use crate::layout::{ring_offsets, slot_offset};
use crate::limits::{RING_BYTES, RING_SLOTS, SLOT_BYTES};
use crate::types::{BLOCK, BLOCK_U64, Scheme, Uuid};
use crate::volume::State;
use std::sync::Arc;

/// Schemes, and members of the array.
pub(super) const ARRAYS: [((u8, u8), usize); 9] = [
    ((1, 1), 2),
    ((2, 1), 3),
    ((1, 2), 3),
    ((2, 2), 4),
    ((1, 3), 4),
    ((3, 2), 5),
    ((4, 2), 6),
    ((3, 3), 6),
    ((2, 1), 6),
];

/// An array whose members are given in other ways.
pub(super) struct Array {
    pub(super) scheme: Scheme,
    pub(super) base: Base,
}

impl Array {
    fn members(&self) -> usize {
        self.base.images.len()
    }

    /// How many must be there.
    fn quorum(&self) -> usize {
        self.members() - usize::from(self.scheme.m())
    }
}

type Check = Box<dyn Fn(&Array) -> Checked<()> + Send + Sync>;

/// All cases of all arrays.
pub(super) fn all() -> Checked<Cases> {
    let arrays = arrays()?;
    let mut found = cases(&arrays);
    found.extend(sizes::cases(&arrays));
    found.extend(superblocks::cases(&arrays));
    Ok(found)
}

/// Each array, how it was left, and its place in names.
fn arrays() -> Checked<Vec<(String, End, Arc<Array>)>> {
    let mut found = Vec::new();
    for ((k, m), members) in ARRAYS {
        let scheme = Scheme::new(k, m).ok_or("no such scheme")?;
        for end in End::ALL {
            let base = Base::new(scheme, members, end)?;
            found.push((format!("{k}+{m}x{members}/{end}"), end, Arc::new(Array { scheme, base })));
        }
    }
    Ok(found)
}

fn cases(arrays: &[(String, End, Arc<Array>)]) -> Cases {
    let mut cases = Vec::new();
    for (place, _, array) in arrays {
        let members = array.members();
        let mut add = |name: String, case: Check| {
            let array = array.clone();
            cases.push(Case::new(format!("members/{place}/{name}"), move || case(&array)));
        };
        for order in orders(members) {
            add(
                format!("order/{}", digits(&order)),
                Box::new(move |array| order_means_nothing(array, &order)),
            );
        }
        for part in subsets(members).filter(|part| part.first() == Some(&0) && part.len() < members) {
            add(format!("split/{}", digits(&part)), Box::new(move |array| parts_meet(array, &part)));
        }
        for member in 0..members {
            add(format!("twice/{member}"), Box::new(move |array| one_device_twice(array, member)));
            add(format!("copy/{member}"), Box::new(move |array| a_copy_beside_it(array, member)));
            add(format!("stranger/{member}"), Box::new(move |array| strangers(array, member)));
        }
    }
    cases
}

/// Up to four members: every subset in every order. More: all of them in every order, the rest forwards and backwards.
fn orders(members: usize) -> Vec<Vec<usize>> {
    let mut found = Vec::new();
    for set in subsets(members) {
        if members <= 4 || set.len() == members {
            permute(&mut set.clone(), 0, &mut found);
        } else {
            found.push(set.iter().rev().copied().collect());
            found.push(set);
        }
    }
    found.sort();
    found.dedup();
    found
}

fn permute(set: &mut Vec<usize>, from: usize, found: &mut Vec<Vec<usize>>) {
    if from >= set.len() {
        found.push(set.clone());
    }
    for at in from..set.len() {
        set.swap(from, at);
        permute(set, from + 1, found);
        set.swap(from, at);
    }
}

fn digits(list: &[usize]) -> String {
    if list.is_empty() { "none".into() } else { list.iter().map(usize::to_string).collect() }
}

fn read_only() -> OpenOptions {
    OpenOptions { read_only: true, ..OpenOptions::default() }
}

fn without_upkeep() -> OpenOptions {
    OpenOptions { upkeep: Upkeep::Nothing, ..OpenOptions::default() }
}

fn order_means_nothing(array: &Array, order: &[usize]) -> Checked<()> {
    let stage = Stage::of(&array.base.images);
    let members = || order.iter().map(|disk| stage.candidate(*disk)).collect::<Vec<_>>();
    let before = stage.sum();
    let looked = stage.open_as(members(), read_only())?;
    let enough = order.len() >= array.quorum();
    match looked {
        Ok(open) if enough => open.expect(&array.base.expected)?,
        Ok(open) => open.expect_what_is_left(&array.base.expected)?,
        Err(error) if enough => return Err(format!("to read: {error}")),
        Err(error) => expect_clear(&error)?,
    }
    expect_unchanged(&stage, before)?;
    match stage.open_as(members(), without_upkeep())? {
        Err(error) if enough => return Err(format!("to write: {error}")),
        Err(error) => {
            expect_clear(&error)?;
            if !order.is_empty() && error.kind() != Kind::ReadOnly {
                return Err(format!("too few members, and it says: {error:?}"));
            }
            return expect_unchanged(&stage, before);
        }
        Ok(_) if !enough => return Err(format!("it opened with {} members", order.len())),
        Ok(open) => {
            open.expect(&array.base.expected)?;
            let seats: Vec<Option<usize>> =
                (0..array.members()).map(|disk| order.iter().position(|at| *at == disk)).collect();
            if open.election.members != seats {
                return Err(format!("members are {:?}, not {seats:?}", open.election.members));
            }
            let state = if order.len() == array.members() { State::Healthy } else { State::Degraded };
            if open.state() != state {
                return Err(format!("it says {:?} instead of {state:?}", open.state()));
            }
        }
    }
    stage.hub.power_loss();
    everybody_is_back(&stage, &array.base.expected)
}

/// With all members again everything is there, and as redundant as it was.
fn everybody_is_back(stage: &Stage, expected: &Expected) -> Checked<()> {
    let open = stage.must_open().map_err(|text| format!("with all members again: {text}"))?;
    open.expect(expected).map_err(|text| format!("with all members again: {text}"))?;
    let found = open.scrub()?;
    if found.lost > 0 || found.reduced > 0 {
        return Err(format!("with all members again: {found:?}"));
    }
    open.expect_whole()?;
    open.inspect()?;
    stage.check_requests()
}

fn expect_clear(error: &Error) -> Checked<()> {
    match error.kind() {
        Kind::ReadOnly | Kind::NotFound | Kind::Corrupt | Kind::Refused | Kind::Io => Ok(()),
        _ => Err(format!("no clear refusal: {error:?}")),
    }
}

fn expect_unchanged(stage: &Stage, before: u64) -> Checked<()> {
    stage.check_requests()?;
    if stage.sum() == before { Ok(()) } else { Err("something was written".into()) }
}

/// A part of the members is opened and written, if it is large enough. Returns what is expected of it then.
fn live_alone(
    stage: &Stage,
    array: &Array,
    part: &[usize],
    tag: u64,
) -> Checked<Option<(Superblock, Expected)>> {
    let before = stage.sum();
    let members = part.iter().map(|disk| stage.candidate(*disk)).collect();
    match stage.open_as(members, without_upkeep())? {
        Err(error) if part.len() < array.quorum() => {
            expect_clear(&error)?;
            expect_unchanged(stage, before)?;
            Ok(None)
        }
        Err(error) => Err(format!("{part:?} alone: {error}")),
        Ok(_) if part.len() < array.quorum() => Err(format!("{part:?} opened alone")),
        Ok(open) => {
            open.expect(&array.base.expected)?;
            let expected = write(&open, &array.base.expected, tag)?;
            open.close()?;
            Ok(Some((open.shard.core().stripes().pool.superblock(), expected)))
        }
    }
}

/// Writes a little, flushes, checks.
pub(super) fn write(open: &Open, expected: &Expected, tag: u64) -> Checked<Expected> {
    let mut player = Player { open, expected: expected.clone(), tag, errors: Vec::new() };
    player.write("a", 1, 3)?;
    player.trim("a", 8, 1)?;
    player.flush("a")?;
    player.read("a")?;
    player.succeeded()?;
    Ok(player.expected)
}

fn parts_meet(array: &Array, part: &[usize]) -> Checked<()> {
    let stage = Stage::of(&array.base.images);
    let rest: Vec<usize> = (0..array.members()).filter(|member| !part.contains(member)).collect();
    let one = live_alone(&stage, array, part, 1000)?;
    let other = live_alone(&stage, array, &rest, 2000)?;
    let before = stage.sum();
    match (one, other) {
        (None, None) => everybody_is_back(&stage, &array.base.expected),
        (Some((_, expected)), None) | (None, Some((_, expected))) => everybody_is_back(&stage, &expected),
        (Some((one, first)), Some((other, second))) => {
            for options in [read_only(), without_upkeep(), OpenOptions::default()] {
                match stage.open_as(stage.candidates(), options)? {
                    Ok(_) => return Err("two histories were opened as one".into()),
                    Err(error) => expect_both_named(&error, &one, &other)?,
                }
                expect_unchanged(&stage, before)?;
            }
            // Each side alone is what it was.
            for (part, expected) in [(part, first), (&rest, second)] {
                let members = part.iter().map(|disk| stage.candidate(*disk)).collect();
                let open = stage.open_as(members, without_upkeep())?;
                open.map_err(|error| format!("{part:?} after they met: {error}"))?.expect(&expected)?;
            }
            Ok(())
        }
    }
}

fn expect_both_named(error: &Error, one: &Superblock, other: &Superblock) -> Checked<()> {
    let text = error.to_string();
    let names = |head: &Superblock| text.contains(&format!("epoch {}", head.epoch));
    match error.kind() {
        Kind::Refused if names(one) && names(other) => Ok(()),
        _ => Err(format!("it does not name both histories, {} and {}: {error:?}", one.epoch, other.epoch)),
    }
}

/// The device of one member is given twice, by two paths.
fn one_device_twice(array: &Array, member: usize) -> Checked<()> {
    let stage = Stage::of(&array.base.images);
    let mut members = stage.candidates();
    let mut again = stage.candidate(member);
    again.path = "another-path".into();
    members.insert(0, again);
    let open = stage.open(members)?.map_err(|error| format!("open: {error}"))?;
    expect_one_note(&open, "is a copy of member")?;
    let expected = write(&open, &array.base.expected, 1000)?;
    drop(open);
    stage.hub.power_loss();
    everybody_is_back(&stage, &expected)
}

/// A byte copy of a member is there too; first it is as new as the member, then older, and it never wins.
fn a_copy_beside_it(array: &Array, member: usize) -> Checked<()> {
    let mut stage = Stage::of(&array.base.images);
    let copy = stage.add(MEMBER_BYTES);
    copy.restore(&array.base.images[member]);
    let mut expected = array.base.expected.clone();
    for round in 0..2 {
        let mut members = stage.candidates();
        // Given first, the copy would win if it were a matter of order.
        members.rotate_right(round);
        let open = stage.open(members)?.map_err(|error| format!("round {round}: {error}"))?;
        expect_one_note(&open, "is a copy of member")?;
        if round > 0 && open.election.members[member] != Some(member + 1) {
            return Err(format!("the older copy is in use: {:?}", open.election.members));
        }
        open.settle(&mut expected).map_err(|text| format!("round {round}: {text}"))?;
        open.expect_no_damage()?;
        expected = write(&open, &expected, 1000 * (round as u64 + 1))?;
        open.close()?;
        drop(open);
        stage.hub.power_loss();
    }
    stage.disks.pop();
    everybody_is_back(&stage, &expected)
}

fn expect_one_note(open: &Open, text: &str) -> Checked<()> {
    match open.election.notes.as_slice() {
        [note] if note.text.contains(text) => Ok(()),
        notes => Err(format!("it says {notes:?}, not that one {text}")),
    }
}

/// In the place of a member stands what is none: nothing, noise, a member of another array.
fn strangers(array: &Array, member: usize) -> Checked<()> {
    let other = Base::new(array.scheme, array.members(), End::Closed)?;
    for kind in ["blank", "noise", "foreign"] {
        let stage = Stage::of(&array.base.images);
        let blank = Stage::blank(1);
        stage.disks[member].restore(&blank.disks[0].snapshot());
        match kind {
            "noise" => {
                let mut rng = Rng::new(7);
                let mut noise = vec![0; BLOCK];
                for block in 0..RING_BYTES / BLOCK_U64 {
                    rng.fill_bytes(&mut noise);
                    stage.disks[member].poke(block * BLOCK_U64, &noise);
                }
            }
            "foreign" => {
                // The same history under another name: everything in it would fit, but for the identity.
                stage.disks[member].restore(&other.images[member]);
                rename(&stage, member)?;
                match stage.open(stage.candidates())? {
                    Err(error) if error.kind() == Kind::Refused => {}
                    _ => return Err("members of two arrays were not refused".into()),
                }
            }
            _ => {}
        }
        let held = stage.disks[member].snapshot();
        let wanted = Some(array.base.array);
        let open = stage
            .open_as(
                stage.candidates(),
                OpenOptions { array: wanted, upkeep: Upkeep::OnDemand, ..OpenOptions::default() },
            )?
            .map_err(|error| format!("{kind}: {error}"))?;
        open.expect(&array.base.expected).map_err(|text| format!("{kind}: {text}"))?;
        if open.election.notes.len() != 1 || open.state() != State::Degraded {
            return Err(format!("{kind}: {:?}, {:?}", open.election.notes, open.state()));
        }
        write(&open, &array.base.expected, 1000).map_err(|text| format!("{kind}: {text}"))?;
        open.close()?;
        let untouched = Stage::of(&[held]);
        if untouched.sum() != Stage::of(&[stage.disks[member].snapshot()]).sum() {
            return Err(format!("{kind}: what is no member was written"));
        }
    }
    Ok(())
}

/// Gives every superblock of a disk another array.
fn rename(stage: &Stage, member: usize) -> Checked<()> {
    let disk = &stage.disks[member];
    let (front, back) = ring_offsets(MEMBER_BYTES);
    for ring in [front, back] {
        for slot in 0..RING_SLOTS {
            let offset = slot_offset(ring, slot);
            let bytes = disk.peek(offset, SLOT_BYTES);
            let Ok(mut copy) = Superblock::decode(&bytes) else { continue };
            copy.array = Uuid::from_random(0x5151_0000_0000_5151);
            let mut bytes = copy.encode().map_err(|error| error.to_string())?;
            bytes.resize(SLOT_BYTES, 0);
            disk.poke(offset, &bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Tally, every_assembly, repeat};
    use super::*;

    #[test]
    fn arrays_are_put_together_in_some_of_all_ways() {
        let mut tally = Tally::default();
        every_assembly(109).expect("sound").iter().for_each(|unit| tally.add(unit.run()));
        assert_eq!(tally.failures, Vec::new());
        assert!(tally.runs > 60, "{}", tally.runs);
    }

    #[test]
    fn orders_are_all_there_are() {
        // 0, 1, 2, 3 and 4 of four members, in every order.
        assert_eq!(orders(4).len(), 1 + 4 + 12 + 24 + 24);
        assert_eq!(orders(6).iter().filter(|order| order.len() == 6).count(), 720);
        assert!(subsets(6).all(|set| orders(6).contains(&set)));
    }

    #[test]
    fn a_case_is_found_again_by_its_name() {
        assert_eq!(repeat("members/1+1x2/killed/split/0"), Ok(()));
        assert!(repeat("members/1+1x2/killed/split/7").is_err());
    }
}
