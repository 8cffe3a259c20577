//! Every block of a small array damaged in every way, alone and in pairs.
//!
//! Blocks of one member may be damaged in any number; blocks of several as long as no row has more bad blocks than it
//! tolerates (F36). Then the array opens, every volume is exactly what it was, nothing is said to be lost, no error is
//! charged to a member that is sound; a scrub heals, and says so only if there was something; a second one finds
//! nothing; and after it any m members may be lost.

use super::super::media::Image;
use super::super::rng::Rng;
use super::base::{Base, End};
use super::stage::{Checked, MEMBER_BYTES, Stage, lose_any};
use super::{Tally, Unit, guarded};
use crate::types::{BLOCK, BLOCK_U64, Scheme};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// How a block is damaged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Way {
    /// One of its bits flips.
    Flip,
    /// One bit of its first 64 bytes flips: where headers say what matters most.
    Nick,
    /// It is all zeros.
    Zeros,
    /// It is random bytes.
    Garbage,
    /// It is what it was before, so many contents ago.
    Stale(usize),
    /// It and a block of a member have changed places.
    Swap(usize, u64),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Flip => f.write_str("flip"),
            Way::Nick => f.write_str("nick"),
            Way::Zeros => f.write_str("zeros"),
            Way::Garbage => f.write_str("garbage"),
            Way::Stale(back) => write!(f, "stale{back}"),
            Way::Swap(member, block) => write!(f, "swap{member}.{block}"),
        }
    }
}

impl Way {
    fn parse(text: &str) -> Option<Way> {
        match text {
            "flip" => Some(Way::Flip),
            "nick" => Some(Way::Nick),
            "zeros" => Some(Way::Zeros),
            "garbage" => Some(Way::Garbage),
            _ => match (text.strip_prefix("stale"), text.strip_prefix("swap")) {
                (Some(back), _) => back.parse().ok().map(Way::Stale),
                (_, Some(at)) => {
                    let (member, block) = at.split_once('.')?;
                    Some(Way::Swap(member.parse().ok()?, block.parse().ok()?))
                }
                _ => None,
            },
        }
    }
}

/// One damaged block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Wound {
    /// The member.
    pub(super) member: usize,
    /// The block on it.
    pub(super) block: u64,
    /// What becomes of it.
    pub(super) way: Way,
}

impl Wound {
    /// Blocks that it damages.
    fn blocks(&self) -> impl Iterator<Item = (usize, u64)> {
        let other = match self.way {
            Way::Swap(member, block) => Some((member, block)),
            _ => None,
        };
        std::iter::once((self.member, self.block)).chain(other)
    }

    fn apply(&self, base: &Base, stage: &Stage) {
        let disk = &stage.disks[self.member];
        let offset = self.block * BLOCK_U64;
        let mut rng = Rng::new(self.block << 8 | self.member as u64);
        match self.way {
            Way::Flip | Way::Nick => {
                let mut content = disk.peek(offset, BLOCK);
                let within = if self.way == Way::Flip { BLOCK } else { 64 };
                content[rng.index(within)] ^= 1 << rng.below(8);
                disk.poke(offset, &content);
            }
            Way::Zeros => disk.poke(offset, &[0; BLOCK]),
            Way::Garbage => {
                let mut content = vec![0; BLOCK];
                rng.fill_bytes(&mut content);
                disk.poke(offset, &content);
            }
            Way::Stale(back) => disk.poke(offset, &base.older[self.member][&self.block][back]),
            Way::Swap(member, block) => {
                let (one, other) =
                    (disk.peek(offset, BLOCK), stage.disks[member].peek(block * BLOCK_U64, BLOCK));
                disk.poke(offset, &other);
                stage.disks[member].poke(block * BLOCK_U64, &one);
            }
        }
    }
}

/// How much is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Of the blocks that hold something every so many-th, by turns in one way; 1 is every one in every way.
    pub every: u64,
    /// Of those that hold nothing, each in one way by turns.
    pub every_blank: u64,
    /// For each block that holds something, so many others at the same time.
    pub pairs: u64,
}

/// A small array, and all that may happen to its blocks.
pub(super) struct Damage {
    scheme: Scheme,
    end: End,
    base: Base,
}

/// Sums of contents of which any m members could be lost.
type Sound = BTreeSet<u64>;

/// Cases that one unit has: they share what was shown of contents that are the same after a scrub.
const UNIT: usize = 128;

/// The schemes of the arrays.
///
/// # Panics
/// Never: they are valid.
pub(super) fn schemes() -> [Scheme; 4] {
    [(1, 1), (2, 1), (1, 2), (2, 2)].map(|(k, m)| Scheme::new(k, m).expect("valid"))
}

impl Damage {
    /// The arrays of a scheme.
    ///
    /// # Errors
    /// What went wrong without any damage.
    pub(super) fn arrays(scheme: Scheme) -> Result<Vec<Damage>, String> {
        End::ALL.into_iter().map(|end| Damage::array(scheme, end)).collect()
    }

    fn array(scheme: Scheme, end: End) -> Checked<Damage> {
        let base = Base::new(scheme, usize::from(scheme.width()), end)?;
        Ok(Damage { scheme, end, base })
    }

    fn name(&self, wounds: &[Wound]) -> String {
        let mut name = format!("{}+{}/{}", self.scheme.k(), self.scheme.m(), self.end);
        for wound in wounds {
            name.push_str(&format!("/{}.{}.{}", wound.member, wound.block, wound.way));
        }
        name
    }

    /// Whether no row loses more than it tolerates.
    fn is_tolerable(&self, wounds: &[Wound]) -> bool {
        let blocks: BTreeSet<(usize, u64)> = wounds.iter().flat_map(Wound::blocks).collect();
        let members: BTreeSet<usize> = blocks.iter().map(|(member, _)| *member).collect();
        let m = usize::from(self.scheme.m());
        // The same place of a ring on all members at once would be one commit that is gone; that is tolerated by
        // members, not by rows.
        let rings = blocks.iter().filter(|at| !self.base.rows.contains_key(at));
        let rings: BTreeSet<usize> = rings.map(|(member, _)| *member).collect();
        let in_row = |at: &(usize, u64)| match self.base.rows.get(at) {
            Some((segment, row)) => blocks
                .iter()
                .filter(|other| self.base.rows.get(other).is_some_and(|(id, at)| (id, at) == (segment, row)))
                .count(),
            None => 0,
        };
        members.len() <= m || rings.len() <= m && blocks.iter().all(|at| in_row(at) <= m)
    }

    /// Every way in which a block can be damaged; with which it changes places is drawn.
    fn ways(&self, member: usize, block: u64, rng: &mut Rng) -> Vec<Way> {
        let mut ways = vec![Way::Flip, Way::Nick, Way::Zeros, Way::Garbage];
        if let Some(older) = self.base.older[member].get(&block) {
            ways.extend((0..older.len()).map(Way::Stale));
        }
        let used = &self.base.used[member];
        let next = used[used.partition_point(|other| *other <= block) % used.len()];
        let drawn = used[rng.index(used.len())];
        ways.extend(
            [next, drawn].into_iter().filter(|other| *other != block).map(|other| Way::Swap(member, other)),
        );
        let other = (member + 1) % self.base.images.len();
        ways.push(Way::Swap(other, block));
        ways
    }

    fn damage_alone(&self, extent: &Extent) -> Vec<Vec<Wound>> {
        let mut found = Vec::new();
        let mut rng = Rng::new(1);
        for member in 0..self.base.images.len() {
            let used: BTreeSet<u64> = self.base.used[member].iter().copied().collect();
            let (mut turn, mut turn_blank) = (member as u64, member as u64);
            for block in 0..MEMBER_BYTES / BLOCK_U64 {
                let (turn, every) = match used.contains(&block) {
                    true => (&mut turn, extent.every),
                    false => (&mut turn_blank, extent.every_blank),
                };
                *turn += 1;
                if *turn % every != 0 {
                    continue;
                }
                let ways = self.ways(member, block, &mut rng);
                let one = usize::try_from(*turn / every).expect("small") % ways.len();
                let is_blank = !used.contains(&block);
                let chosen = if every == 1 && !is_blank { ways.as_slice() } else { &ways[one..=one] };
                found.extend(chosen.iter().map(|way| vec![Wound { member, block, way: *way }]));
            }
        }
        found
    }

    fn damage_in_pairs(&self, extent: &Extent) -> Vec<Vec<Wound>> {
        let mut found = Vec::new();
        let mut rng = Rng::new(2);
        let all: Vec<(usize, u64)> = (0..)
            .zip(&self.base.used)
            .flat_map(|(member, used)| used.iter().map(move |at| (member, *at)))
            .collect();
        for (member, block) in &all {
            for _ in 0..extent.pairs {
                let other = all[rng.index(all.len())];
                let mut wound = |(member, block): (usize, u64)| {
                    let ways = self.ways(member, block, &mut rng);
                    Wound { member, block, way: ways[rng.index(ways.len())] }
                };
                let pair = vec![wound((*member, *block)), wound(other)];
                if other != (*member, *block) {
                    found.push(pair);
                }
            }
        }
        found
    }

    /// All that this extent has, within tolerance.
    pub(super) fn cases(&self, extent: &Extent) -> Vec<Vec<Wound>> {
        let mut cases = self.damage_alone(extent);
        cases.extend(self.damage_in_pairs(extent));
        cases.retain(|wounds| self.is_tolerable(wounds));
        cases
    }

    /// Tries them.
    pub(super) fn run(&self, cases: &[Vec<Wound>]) -> Tally {
        let mut tally = Tally::default();
        let mut sound = Sound::new();
        for wounds in cases {
            tally.count(|| format!("block/{}", self.name(wounds)), || self.check(wounds, &mut sound));
        }
        tally
    }

    fn check(&self, wounds: &[Wound], sound: &mut Sound) -> Checked<()> {
        let stage = Stage::of(&self.base.images);
        wounds.iter().for_each(|wound| wound.apply(&self.base, &stage));
        let changed: BTreeSet<usize> =
            (0..stage.disks.len()).filter(|disk| !self.is_as_before(&stage, *disk, wounds)).collect();
        let open = stage.must_open()?;
        open.expect(&self.base.expected)?;
        let found = open.scrub()?;
        if found.lost > 0 || found.reduced > 0 {
            return Err(format!("scrub: {found:?}"));
        }
        for (slot, errors) in open.errors().iter().enumerate() {
            if *errors != [0; 4] && !changed.contains(&slot) {
                return Err(format!("sound member {slot} is charged with errors: {errors:?}"));
            }
        }
        let work = open.shard.core().stripes().counters();
        if changed.is_empty() && work.healed + found.healed + found.superblocks > 0 {
            return Err(format!("nothing was damaged, and it healed: {found:?}"));
        }
        open.expect_whole().map_err(|text| format!("after a scrub that found {found:?}: {text}"))?;
        open.expect(&self.base.expected).map_err(|text| format!("after the scrub: {text}"))?;
        open.inspect()?;
        drop(open);
        stage.hub.kill();
        stage.check_requests()?;
        self.lose_any(&stage, sound)
    }

    fn is_as_before(&self, stage: &Stage, disk: usize, wounds: &[Wound]) -> bool {
        let before = Stage::of(&self.base.images[disk..=disk]);
        let blocks = wounds.iter().flat_map(Wound::blocks).filter(|(member, _)| *member == disk);
        blocks.into_iter().all(|(_, block)| {
            let content = |disk: &super::super::SimDisk| disk.peek(block * BLOCK_U64, BLOCK);
            content(&stage.disks[disk]) == content(&before.disks[0])
        })
    }

    /// Any m members may be lost. What was shown of the same contents once need not be shown again.
    fn lose_any(&self, stage: &Stage, sound: &mut Sound) -> Checked<()> {
        let sum = stage.sum();
        if sound.contains(&sum) {
            return Ok(());
        }
        let images: Vec<Image> = stage.images();
        lose_any(&images, self.scheme.m().into(), &self.base.expected)
            .map_err(|text| format!("after a scrub, {text}"))?;
        sound.insert(sum);
        Ok(())
    }
}

/// All cases of this extent, of all arrays.
///
/// # Errors
/// What went wrong without any damage.
pub fn every_block(extent: &Extent) -> Result<Vec<Unit>, String> {
    let mut units = Vec::new();
    for scheme in schemes() {
        for damage in Damage::arrays(scheme)? {
            let damage = Arc::new(damage);
            for cases in damage.cases(extent).chunks(UNIT) {
                let (damage, cases) = (damage.clone(), cases.to_vec());
                units.push(Unit::new(move || damage.run(&cases)));
            }
        }
    }
    Ok(units)
}

/// Runs one case again, by the name that its failure has, without the word `block`.
pub(super) fn repeat(name: &str) -> Checked<()> {
    let mut parts = name.split('/');
    let scheme = super::scheme(parts.next()).filter(|scheme| schemes().contains(scheme));
    let scheme = scheme.ok_or("there is no array of such a scheme")?;
    let end = parts.next().ok_or("no end is named")?;
    let end = End::ALL.into_iter().find(|known| known.to_string() == end).ok_or("there is no such end")?;
    let damage = Damage::array(scheme, end)?;
    let wounds: Option<Vec<Wound>> = parts.map(|part| damage.wound(part)).collect();
    guarded(|| damage.check(&wounds.ok_or("there is no such damage")?, &mut Sound::new()))
}

impl Damage {
    fn wound(&self, text: &str) -> Option<Wound> {
        let (member, rest) = text.split_once('.')?;
        let (block, way) = rest.split_once('.')?;
        let (member, block): (usize, u64) = (member.parse().ok()?, block.parse().ok()?);
        let way = Way::parse(way)?;
        let is_there =
            |member: usize, block: u64| member < self.base.images.len() && block < MEMBER_BYTES / BLOCK_U64;
        let is_sound = match way {
            Way::Stale(back) => {
                let older = self.base.older.get(member).and_then(|older| older.get(&block));
                older.is_some_and(|older| back < older.len())
            }
            Way::Swap(other, at) => is_there(other, at),
            _ => true,
        };
        (is_there(member, block) && is_sound).then_some(Wound { member, block, way })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_damage_to_some_blocks_of_every_array_is_healed() {
        let mut tally = Tally::default();
        let units = every_block(&Extent { every: 37, every_blank: 700, pairs: 0 }).expect("made");
        units.iter().for_each(|unit| tally.add(unit.run()));
        assert_eq!(tally.failures, Vec::new());
        assert!(tally.runs > 80, "{}", tally.runs);
    }

    // The newest superblocks of two members changed places, each with a right checksum: both members were taken for
    // copies of the other and left alone, and a third one's bad block was lost.
    #[test]
    fn a_superblock_that_was_meant_for_another_member_says_nothing_of_this_one() {
        assert_eq!(repeat("2+2/closed/1.301.zeros/3.1120.swap0.1120"), Ok(()));
        assert_eq!(repeat("2+1/closed/2.1120.swap0.1120"), Ok(()));
    }

    #[test]
    fn a_case_is_found_again_by_its_name() {
        for name in ["1+1/killed", "2+1/closed/1.300.garbage", "2+1/killed/0.3.swap0.9/0.256.nick"] {
            assert_eq!(repeat(name), Ok(()), "{name}");
        }
        for name in ["", "9+9/killed", "1+1/left", "1+1/killed/7.1.flip", "1+1/killed/0.1.stale99"] {
            assert!(repeat(name).is_err(), "{name}");
        }
    }
}
