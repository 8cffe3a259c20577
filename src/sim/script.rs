//! What a run is made from: a seed, and how much of what it draws takes place. A failing run is made small by leaving
//! out faults, calls, lives and members; what is left is a short text that can be kept and run again.

use super::fault::Fault;
use super::scenario::Scenario;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The first line of a script.
const TITLE: &str = "paritas run 1";

/// A fault of a run, by the disk that it strikes and the place in the order of those of its kind there. What others
/// are left out does not change that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FaultId {
    /// The disk, in the order of creation.
    pub disk: usize,
    /// The kind.
    pub fault: Fault,
    /// Faults of this kind that were drawn before on this disk.
    pub nth: u64,
}

/// A call of a run: who makes it, in which life of the engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId {
    /// Lives of the engine before this one, clean-up and creation left out.
    pub life: u64,
    /// The client.
    pub client: Caller,
    /// Calls of this client before this one.
    pub nth: u64,
}

/// Who makes a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Caller {
    /// One of those that read and write.
    Client(u64),
    /// The one that fails, replaces and rebuilds members.
    Operator,
    /// The one that makes a volume stronger than all others.
    Outgrower,
}

/// A run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Script {
    /// What everything is drawn from.
    pub seed: u64,
    /// What it is about.
    pub scenario: Scenario,
    /// Lives of the engine under faults at most.
    pub lives: Option<u64>,
    /// Members at most, but as many as the scheme is wide.
    pub members: Option<usize>,
    /// The faults that strike; without, all that are drawn.
    pub faults: Option<BTreeSet<FaultId>>,
    /// The calls that are made; without, all that are drawn.
    pub calls: Option<BTreeSet<CallId>>,
}

impl Script {
    /// All that a seed draws.
    pub fn of(seed: u64) -> Script {
        Script { seed, ..Script::default() }
    }

    /// Whether a call is made.
    pub(super) fn makes(&self, call: CallId) -> bool {
        self.calls.as_ref().is_none_or(|calls| calls.contains(&call))
    }
}

impl fmt::Display for FaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.disk, self.fault.name().replace(' ', "-"), self.nth)
    }
}

impl FromStr for FaultId {
    type Err = String;

    fn from_str(text: &str) -> Result<FaultId, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let [disk, name, nth] = parts[..] else { return Err(format!("'{text}' is no DISK/KIND/NUMBER")) };
        let named = |fault: &Fault| fault.name().replace(' ', "-") == name;
        let fault =
            Fault::ALL.into_iter().find(named).ok_or_else(|| format!("there is no fault '{name}'"))?;
        Ok(FaultId { disk: number(disk)?, fault, nth: number(nth)? })
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Client(client) => write!(f, "client{client}"),
            Caller::Operator => f.write_str("operator"),
            Caller::Outgrower => f.write_str("outgrower"),
        }
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.life, self.client, self.nth)
    }
}

impl FromStr for CallId {
    type Err = String;

    fn from_str(text: &str) -> Result<CallId, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let [life, client, nth] = parts[..] else { return Err(format!("'{text}' is no LIFE/CLIENT/NUMBER")) };
        let client = match client {
            "operator" => Caller::Operator,
            "outgrower" => Caller::Outgrower,
            client => Caller::Client(number(client.strip_prefix("client").unwrap_or(client))?),
        };
        Ok(CallId { life: number(life)?, client, nth: number(nth)? })
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is no number"))
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, key: &str, items: Option<&BTreeSet<T>>) -> fmt::Result {
    let Some(items) = items else { return Ok(()) };
    write!(f, "{key}")?;
    items.iter().try_for_each(|item| write!(f, " {item}"))?;
    writeln!(f)
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{TITLE}\nseed {}\nscenario {}", self.seed, self.scenario)?;
        self.lives.map_or(Ok(()), |lives| writeln!(f, "lives {lives}"))?;
        self.members.map_or(Ok(()), |members| writeln!(f, "members {members}"))?;
        list(f, "faults", self.faults.as_ref())?;
        list(f, "calls", self.calls.as_ref())
    }
}

impl FromStr for Script {
    type Err = String;

    /// Lines that begin with `#` are for the reader.
    fn from_str(text: &str) -> Result<Script, String> {
        let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        if lines.next() != Some(TITLE) {
            return Err(format!("a script begins with '{TITLE}'"));
        }
        let mut script = Script::default();
        let mut seen = BTreeSet::new();
        for line in lines {
            let mut words = line.split_whitespace();
            let key = words.next().unwrap_or_default();
            if !seen.insert(key) {
                return Err(format!("'{key}' comes twice"));
            }
            let one = || match line.split_whitespace().collect::<Vec<_>>()[..] {
                [_, value] => number::<u64>(value),
                _ => Err(format!("'{key}' has one number")),
            };
            match key {
                "seed" => script.seed = one()?,
                "scenario" => script.scenario = words.next().unwrap_or_default().parse()?,
                "lives" => script.lives = Some(one()?),
                "members" => {
                    script.members = Some(usize::try_from(one()?).map_err(|error| error.to_string())?)
                }
                "faults" => script.faults = Some(words.map(str::parse).collect::<Result<_, _>>()?),
                "calls" => script.calls = Some(words.map(str::parse).collect::<Result<_, _>>()?),
                _ => return Err(format!("a script has no '{key}'")),
            }
        }
        if seen.contains("seed") { Ok(script) } else { Err("a script has a seed".into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script() -> Script {
        let fault = |fault, nth| FaultId { disk: 3, fault, nth };
        let call = |client, nth| CallId { life: 1, client, nth };
        Script {
            seed: 17,
            scenario: Scenario::Members,
            lives: Some(2),
            members: Some(4),
            faults: Some(Fault::ALL.into_iter().map(|kind| fault(kind, 5)).collect()),
            calls: Some(
                [call(Caller::Client(2), 9), call(Caller::Operator, 0), call(Caller::Outgrower, 0)].into(),
            ),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for script in [script(), Script::of(3), Script { faults: Some(BTreeSet::new()), ..Script::of(0) }] {
            let text = format!("# A story.\n{script}");
            assert!(Script::from_str(&script.to_string()) == Ok(script.clone()), "{text}");
        }
    }

    #[test]
    fn what_is_no_script_is_refused_with_a_reason() {
        let refused = |text: &str| Script::from_str(text).expect_err("refused");
        assert_eq!(refused("seed 1"), "a script begins with 'paritas run 1'");
        assert_eq!(refused("paritas run 1\nlives 2"), "a script has a seed");
        assert_eq!(refused("paritas run 1\nseed 1\nseed 2"), "'seed' comes twice");
        assert_eq!(refused("paritas run 1\nseed"), "'seed' has one number");
        assert_eq!(refused("paritas run 1\nseed 1\nfaults 0/boredom/1"), "there is no fault 'boredom'");
        assert_eq!(refused("paritas run 1\nseed 1\nfaults rot"), "'rot' is no DISK/KIND/NUMBER");
        assert_eq!(refused("paritas run 1\nseed 1\ncalls 1/2"), "'1/2' is no LIFE/CLIENT/NUMBER");
        assert_eq!(refused("paritas run 1\nseed 1\ncalls 1/me/2"), "'me' is no number");
        assert_eq!(refused("paritas run 1\nseed 1\nweather 3"), "a script has no 'weather'");
    }
}
