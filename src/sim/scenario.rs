//! What a run is about: the standard mix of everything, or much of one thing.

use super::fault::Fault;
use std::fmt;
use std::str::FromStr;

/// What a run is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scenario {
    /// Some of everything.
    #[default]
    Standard,
    /// Power fails and processes die, after every life and in every recovery; members are sound.
    Power,
    /// Members forget, lie and mistake one block for another.
    Rot,
    /// Members are slow, or hang.
    Slow,
    /// Members vanish, come back, fail and are replaced, all the time.
    Members,
    /// Every array is full, and overwritten.
    Full,
}

/// Odds that a scenario sets. Those of twelve are for things that happen once in a life.
pub(super) struct Mix {
    /// Full arrays, of 12.
    pub(super) full: u64,
    /// Runs in which members fail, hang and vanish, and never lie, of 12.
    pub(super) honest: u64,
    /// Lives that end in a crash, of 12; the last one ends well.
    pub(super) crashes: u64,
    /// Openings that are cut short by a crash, of 12.
    pub(super) crashes_in_recovery: u64,
    /// Lives in which somebody works on the members, of 12.
    pub(super) operated: u64,
    /// Strikes on a member that make it vanish, of 12; the others are rot.
    pub(super) vanishes: u64,
    /// Strikes on a member that destroy its superblocks, of 24.
    pub(super) beheads: u64,
    /// Lives in which a weak member goes and comes, faster than anybody could act on it, of 24.
    pub(super) flaps: u64,
    /// Losses of power that strike some members before the others, of 12.
    pub(super) freezes: u64,
    /// Lives in which members that are sound otherwise are damaged here and there, of 12.
    pub(super) scars: u64,
    /// Members that are gone and come back before an opening, of 12.
    pub(super) returns: u64,
    /// Faults of weak members, each in every second run.
    pub(super) faults: &'static [Fault],
    /// How often each strikes, in a million.
    pub(super) per_million: u32,
    /// Faults of which some weak members have one, rarely: a member that shows it is evicted.
    pub(super) fatal: &'static [Fault],
    /// Operations of all members that are slow, in a million.
    pub(super) slow: u32,
}

const LIES: &[Fault] = &[
    Fault::ReadError,
    Fault::LatentError,
    Fault::UnstableRead,
    Fault::StaleRead,
    Fault::MisdirectedRead,
    Fault::LostWrite,
    Fault::MisdirectedWrite,
    Fault::LyingFlush,
];

const STANDARD: Mix = Mix {
    full: 2,
    honest: 4,
    crashes: 9,
    crashes_in_recovery: 4,
    operated: 4,
    vanishes: 3,
    beheads: 1,
    flaps: 2,
    freezes: 3,
    scars: 4,
    returns: 3,
    faults: LIES,
    per_million: 20_000,
    fatal: &[Fault::WriteError, Fault::FlushError, Fault::Hang],
    slow: 2_000,
};

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 6] = [
        Scenario::Standard,
        Scenario::Power,
        Scenario::Rot,
        Scenario::Slow,
        Scenario::Members,
        Scenario::Full,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Standard => "standard",
            Scenario::Power => "power",
            Scenario::Rot => "rot",
            Scenario::Slow => "slow",
            Scenario::Members => "members",
            Scenario::Full => "full",
        }
    }

    pub(super) fn mix(self) -> Mix {
        match self {
            Scenario::Standard => STANDARD,
            Scenario::Power => Mix {
                full: 1,
                honest: 0,
                crashes: 12,
                crashes_in_recovery: 8,
                operated: 0,
                vanishes: 0,
                beheads: 0,
                flaps: 0,
                freezes: 6,
                scars: 0,
                faults: &[],
                fatal: &[],
                ..STANDARD
            },
            Scenario::Rot => Mix {
                full: 1,
                honest: 0,
                vanishes: 0,
                flaps: 0,
                scars: 12,
                per_million: 100_000,
                fatal: &[],
                ..STANDARD
            },
            Scenario::Slow => Mix {
                full: 1,
                honest: 0,
                beheads: 0,
                faults: &[Fault::Slow],
                per_million: 50_000,
                fatal: &[Fault::Hang],
                slow: 20_000,
                ..STANDARD
            },
            Scenario::Members => {
                Mix { full: 1, operated: 12, vanishes: 12, flaps: 12, scars: 0, returns: 6, ..STANDARD }
            }
            Scenario::Full => Mix { full: 12, ..STANDARD },
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Scenario, String> {
        let found = Scenario::ALL.into_iter().find(|scenario| scenario.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Scenario::ALL.into_iter().map(Scenario::name).collect();
            format!("there is no scenario '{text}', but {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_known_by_its_name() {
        assert!(Scenario::ALL.into_iter().all(|scenario| scenario.name().parse() == Ok(scenario)));
        let refused = Scenario::from_str("sunny").expect_err("refused");
        assert_eq!(refused, "there is no scenario 'sunny', but standard, power, rot, slow, members, full");
    }
}
