//! Runs that fail, made small, kept and told.

use crate::outcome::{Exit, Failure, Report};
use paritas::sim::shrink::{Small, shrink};
use paritas::sim::{Scenario, Script, Told, perform};
use serde_json::{Value, json};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Runs that making one small takes at most.
const RUNS_MAX: u64 = 1000;

/// A run and what happens in it.
pub(super) struct Story {
    pub(super) script: Script,
    told: Told,
}

impl Story {
    fn of(script: Script) -> Story {
        let told = perform(&script, true);
        Story { script, told }
    }

    /// The story of a seed that fails, made small.
    pub(super) fn of_seed(seed: u64, scenario: Scenario) -> Result<Story, Failure> {
        let script = Script { scenario, ..Script::of(seed) };
        let small = shrink(script, RUNS_MAX, &|script| perform(script, false));
        let Small { script, .. } =
            small.ok_or_else(|| Failure::lost(format!("seed {seed} failed once, and not again")))?;
        Ok(Story::of(script))
    }

    fn failure(&self) -> Option<&str> {
        self.told.outcome.failure.as_deref()
    }

    /// Keeps the run as a file that can be replayed.
    pub(super) fn keep(&self, folder: &Path) -> Result<PathBuf, Failure> {
        let file = folder.join(format!("seed-{}.run", self.script.seed));
        let mut text = String::new();
        for line in self.failure().unwrap_or_default().lines() {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&self.script.to_string());
        fs::write(&file, text).map_err(|error| Failure::io(format!("{}: {error}", file.display())))?;
        Ok(file)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "seed": self.script.seed,
            "scenario": self.script.scenario.name(),
            "failure": self.failure(),
            "lives": self.told.lives,
            "members": self.told.members,
            "calls": self.told.calls.len(),
            "faults": self.told.faults.len(),
            "script": self.script.to_string(),
            "story": self.told.story,
        })
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { lives, members, calls, faults, story, .. } = &self.told;
        writeln!(
            f,
            "seed {}, {}: {lives} lives, {members} members, {} calls, {} faults that a script may leave out",
            self.script.seed,
            self.script.scenario,
            calls.len(),
            faults.len()
        )?;
        story.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// Runs what the files describe.
pub(super) fn replay(files: &[PathBuf]) -> Result<Report, Failure> {
    let mut stories = Vec::new();
    for file in files {
        let named = |what: String| format!("{}: {what}", file.display());
        let text = fs::read_to_string(file).map_err(|error| Failure::io(named(error.to_string())))?;
        let script = text.parse().map_err(|what: String| Failure::usage(named(what)))?;
        stories.push(Story::of(script));
    }
    let failures = stories.iter().filter(|story| story.failure().is_some()).count();
    let document = json!({
        "runs": stories.len(),
        "failures": failures,
        "stories": stories.iter().map(Story::json).collect::<Vec<_>>(),
    });
    let text = stories.iter().map(ToString::to_string).collect();
    Ok(Report { exit: if failures == 0 { Exit::Done } else { Exit::Lost }, json: document, text })
}
