//! The n-th operation of a member fails, for every n of a workload: once, or that and all after it.
//!
//! On as many members as are tolerated every call must succeed, but for the making of an array, which needs all of
//! them, and the replacement by a member that fails. On more, calls may fail with what they then say; whatever is read
//! is right all the same. In both cases the process then dies, or the power fails, the members are well again, and the
//! array opens with every volume a prefix of its history that has everything that was flushed; it becomes whole, says
//! so, and any m members may be lost.

use super::super::enumerate::Expected;
use super::phases::{Phase, Played};
use super::stage::{Checked, MEMBER_BYTES, Open, Stage, is_honest};
use super::{Tally, Unit, guarded};
use crate::commit::OpenOptions;
use crate::format::superblock::MemberState;
use crate::sim::{Nth, Op};
use crate::types::{Scheme, Slot};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What fails.
const MODES: [(&str, Option<Op>, u64); 7] = [
    ("read", Some(Op::Read), 1),
    ("reads", Some(Op::Read), u64::MAX),
    ("write", Some(Op::Write), 1),
    ("writes", Some(Op::Write), u64::MAX),
    ("flush", Some(Op::Flush), 1),
    ("flushes", Some(Op::Flush), u64::MAX),
    ("everything", None, u64::MAX),
];

const OPS: [Op; 3] = [Op::Read, Op::Write, Op::Flush];

/// Runs that one unit has.
const UNIT: usize = 32;

/// One failure, or one on each of several members.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Strike {
    disks: Vec<usize>,
    mode: usize,
    n: u64,
}

struct Operations {
    phase: Phase,
}

/// The schemes of the arrays.
const SCHEMES: [(u8, u8); 3] = [(1, 1), (2, 1), (2, 2)];

fn operations() -> Checked<Vec<Operations>> {
    let mut found = Vec::new();
    for (k, m) in SCHEMES {
        let scheme = Scheme::new(k, m).ok_or("no such scheme")?;
        found.extend(Phase::all(scheme)?.into_iter().map(|phase| Operations { phase }));
    }
    Ok(found)
}

/// Every so many-th failure of each workload, on each set of members.
///
/// # Errors
/// What went wrong without any fault.
pub fn nth_operation(every: u64) -> Result<Vec<Unit>, String> {
    let mut units = Vec::new();
    for operations in operations()? {
        let operations = Arc::new(operations);
        let every = usize::try_from(every).unwrap_or(usize::MAX);
        let strikes: Vec<Strike> = operations.strikes()?.into_iter().step_by(every).collect();
        for strikes in strikes.chunks(UNIT) {
            let (operations, strikes) = (operations.clone(), strikes.to_vec());
            units.push(Unit::new(move || {
                let mut tally = Tally::default();
                for strike in &strikes {
                    tally.count(|| operations.name(strike), || operations.check(strike));
                }
                tally
            }));
        }
    }
    Ok(units)
}

impl Operations {
    fn place(&self) -> String {
        let scheme = self.phase.scheme;
        format!("nth/{}+{}/{}", scheme.k(), scheme.m(), self.phase.name)
    }

    fn name(&self, strike: &Strike) -> String {
        let disks: String = strike.disks.iter().map(usize::to_string).collect();
        format!("{}/{disks}/{}/{}", self.place(), MODES[strike.mode].0, strike.n)
    }

    /// All that can fail, as many times as it is asked for without any failure.
    fn strikes(&self) -> Checked<Vec<Strike>> {
        let stage = Stage::of(&self.phase.images);
        let played = self.phase.play(&stage)?;
        if let Some((what, error)) = played.errors.first() {
            return Err(format!("{}, without any failure: {what}: {error}", self.place()));
        }
        if self.phase.name == "clean" && played.cleaned == 0
            || self.phase.name == "mend" && played.rebuilt == 0
        {
            return Err(format!("{} does nothing of what it is for", self.place()));
        }
        let (disks, m) = (self.phase.images.len(), usize::from(self.phase.scheme.m()));
        let mut found = Vec::new();
        for count in BTreeSet::from([1, m, m + 1]) {
            // Several members fail together: those that lie side by side, from each one on.
            for first in 0..disks {
                let mut set: Vec<usize> = (first..first + count).map(|disk| disk % disks).collect();
                set.sort_unstable();
                for (mode, (_, op, _)) in MODES.iter().enumerate() {
                    let of = |counts: [u64; 3]| match op {
                        Some(op) => counts[*op as usize],
                        None => counts.iter().sum(),
                    };
                    let submitted = |disk: &usize| of(OPS.map(|op| stage.disks[*disk].submitted(op)));
                    let most = set.iter().map(submitted).max().unwrap_or(0);
                    found.extend((0..most).map(|n| Strike { disks: set.clone(), mode, n }));
                }
            }
        }
        Ok(found)
    }

    /// Whether one of those that fail is no member at first.
    fn is_new(&self, strike: &Strike) -> bool {
        strike.disks.contains(&self.phase.members)
    }

    fn check(&self, strike: &Strike) -> Checked<()> {
        let phase = &self.phase;
        let mut stage = Stage::of(&phase.images);
        let (_, op, times) = MODES[strike.mode];
        for disk in &strike.disks {
            stage.disks[*disk].fail_nth(Some(Nth { op, from: strike.n, times }));
        }
        let beyond = strike.disks.len() > usize::from(phase.scheme.m());
        let Played { mut expected, errors, .. } = phase.play(&stage)?;
        for (what, error) in &errors {
            let justified = match what.as_str() {
                "mkfs" => true,
                "replace" => beyond || self.is_new(strike),
                _ => beyond && is_honest(error),
            };
            if !justified {
                return Err(format!("{what} failed: {error:?}"));
            }
        }
        match strike.n % 2 {
            0 => stage.hub.power_loss(),
            _ => stage.hub.kill(),
        }
        stage.check_requests()?;
        stage.disks.iter().for_each(|disk| disk.fail_nth(None));
        let open = match stage.open(stage.candidates())? {
            Ok(open) if expected.is_made => open,
            Err(error) if expected.is_made => return Err(format!("open afterwards: {error}")),
            // It was never made. If it opens all the same, it has nothing; and it can be made.
            half_made => {
                half_made.map_or(Ok(()), |open| open.expect(&Expected::default()))?;
                stage.hub.kill();
                stage.create(phase.scheme)?.map_err(|error| format!("mkfs again: {error}"))?;
                stage.must_open()?
            }
        };
        replace_missing(&mut stage, &open)?;
        open.settle(&mut expected).map_err(|text| format!("afterwards: {text}"))?;
        if !beyond {
            open.expect_no_damage()?;
        }
        loop {
            let found = open.scrub()?;
            if found.lost > 0 || found.reduced > 0 {
                return Err(format!("scrub afterwards: {found:?}"));
            }
            // One that was interrupted goes on where it was, and has not seen what became wrong before that.
            if found.resumed == 0 {
                break;
            }
        }
        if beyond {
            open.run(async move |shard| shard.clear().await)?.map_err(|error| format!("clear: {error}"))?;
        }
        open.expect_whole()?;
        open.expect(&expected)?;
        open.inspect()?;
        let members = seats(&open);
        drop(open);
        stage.hub.kill();
        lose_some(&stage, &members, usize::from(phase.scheme.m()), strike.n, &expected)?;
        stage.check_requests()
    }
}

/// A member that failed while it took the place of another has never become one: somebody else does.
fn replace_missing(stage: &mut Stage, open: &Open) -> Checked<()> {
    let members = open.shard.core().stripes().pool.superblock().members;
    for (slot, _) in (0..=u8::MAX).zip(&members).filter(|(_, record)| record.state == MemberState::Out) {
        stage.add(MEMBER_BYTES);
        let new = stage.candidate(stage.disks.len() - 1);
        open.run(async move |shard| shard.replace_member(Slot(slot), new).await)?
            .map_err(|error| format!("replacing member {slot}: {error}"))?;
    }
    Ok(())
}

/// The disks of the members in use.
fn seats(open: &Open) -> Vec<usize> {
    let members = open.shard.core().stripes().pool.superblock().members;
    let active = members.iter().filter(|record| record.state == MemberState::Active);
    active.filter_map(|record| record.path.strip_prefix("disk")?.parse().ok()).collect()
}

/// As many members as may be lost are: those side by side, by turns from each one on.
fn lose_some(stage: &Stage, members: &[usize], m: usize, turn: u64, expected: &Expected) -> Checked<()> {
    let turn = usize::try_from(turn).unwrap_or(0) % members.len().max(1);
    let left: Vec<usize> = (0..members.len() - m).map(|at| members[(turn + at) % members.len()]).collect();
    let candidates = left.iter().map(|disk| stage.candidate(*disk)).collect();
    let open = stage.open_as(candidates, OpenOptions { read_only: true, ..OpenOptions::default() })?;
    let open = open.map_err(|error| format!("with {left:?} alone: {error}"))?;
    open.expect(expected).map_err(|text| format!("with {left:?} alone: {text}"))
}

/// Runs one of them again, by the name that its failure has.
pub(super) fn repeat(name: &str) -> Checked<()> {
    let operations = operations()?;
    let wrong = || String::from("there is no such failure");
    let of = operations.iter().find(|of| name.starts_with(&format!("{}/", of.place()))).ok_or_else(wrong)?;
    let mut parts = name[of.place().len() + 1..].split('/');
    let disks: Option<Vec<usize>> = parts
        .next()
        .map(|digits| digits.chars().map(|digit| digit.to_digit(10).map(|digit| digit as usize)).collect())
        .ok_or_else(wrong)?;
    let mode =
        parts.next().and_then(|word| MODES.iter().position(|mode| mode.0 == word)).ok_or_else(wrong)?;
    let n = parts.next().and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    let disks =
        disks.filter(|disks| disks.iter().all(|disk| *disk < of.phase.images.len())).ok_or_else(wrong)?;
    guarded(|| of.check(&Strike { disks, mode, n }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_so_many_th_operation_fails_and_every_promise_is_kept() {
        let mut tally = Tally::default();
        nth_operation(401).expect("sound").iter().for_each(|unit| tally.add(unit.run()));
        assert_eq!(tally.failures, Vec::new());
        assert!(tally.runs > 20, "{}", tally.runs);
    }

    /// An opening that could not read the log took it for ended, one that could not read a superblock took an older
    /// one for the newest, and a member that failed as it took another's place left too few that counted.
    #[test]
    fn what_cannot_be_read_or_written_at_an_opening_or_a_replacement_changes_nothing_for_good() {
        for name in ["nth/1+1/work/01/reads/22", "nth/1+1/work/01/everything/3", "nth/2+1/mend/23/write/2"] {
            assert_eq!(repeat(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_failure_is_found_again_by_its_name() {
        assert_eq!(repeat("nth/1+1/work/0/write/3"), Ok(()));
        for name in
            ["nth/1+1/play/0/write/3", "nth/1+1/work/9/write/3", "nth/1+1/work/0/dance/3", "nth/1+1/work/0"]
        {
            assert!(repeat(name).is_err(), "{name}");
        }
    }
}
