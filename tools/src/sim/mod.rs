//! `paritas sim`: the engine on simulated members, seed by seed.

mod enumerate;
mod exhaust;
mod page;
mod story;
mod sweep;

use crate::cli::Sim;
use crate::outcome::{Exit, Failure, Report, say};
use paritas::sim::{EVENTS, Scenario};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::thread::available_parallelism;
use story::Story;
use sweep::{Sweep, sweep};

/// Failing runs that are made small.
const SHRUNK_MAX: usize = 3;

/// Threads for so many jobs.
pub(crate) fn jobs(args: &Sim) -> u64 {
    let jobs = args.jobs.unwrap_or_else(|| available_parallelism().map_or(1, |cores| cores.get() as u64));
    jobs.clamp(1, 1024)
}

pub(crate) fn command(args: &Sim) -> Result<Report, Failure> {
    // A panic in the engine is what a run found, not the end of the command.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(image) = &args.image {
        enumerate::repeat(image)
    } else if let Some(case) = &args.case {
        exhaust::repeat(case)
    } else if !args.replay.is_empty() {
        story::replay(&args.replay)
    } else if args.crash_enumeration {
        enumerate::run(args)
    } else if args.every_block || args.every_assembly || args.nth_operation {
        exhaust::run(args)
    } else {
        run_seeds(args)
    }
}

fn run_seeds(args: &Sim) -> Result<Report, Failure> {
    if let Some(folder) = &args.report {
        fs::create_dir_all(folder).map_err(|error| Failure::io(format!("{}: {error}", folder.display())))?;
    }
    let sweep = sweep(args)?;
    for (seed, text) in &sweep.failures {
        let scenario = scenario_words(args.scenario);
        say(&format!("seed {seed}: {text}; repeat it with: paritas sim --seeds 1 --seed {seed}{scenario}"));
    }
    let mut stories = Vec::new();
    if args.shrink {
        let folder = args.report.as_deref().unwrap_or(Path::new("."));
        for seed in sweep.failures.keys().take(SHRUNK_MAX) {
            let story = Story::of_seed(*seed, args.scenario)?;
            let file = story.keep(folder)?;
            say(&format!("seed {seed} as small as it gets: {}", file.display()));
            stories.push(story);
        }
    }
    let report = report(args, &sweep, &stories);
    if let Some(folder) = &args.report {
        let write = |name: &str, text: String| {
            let file = folder.join(name);
            fs::write(&file, text).map_err(|error| Failure::io(format!("{}: {error}", file.display())))
        };
        write("report.json", format!("{:#}\n", report.json))?;
        write("index.html", page::page(args.scenario, &sweep, &stories))?;
    }
    Ok(report)
}

/// The option that chooses this scenario.
fn scenario_words(scenario: Scenario) -> String {
    if scenario == Scenario::Standard { String::new() } else { format!(" --scenario {scenario}") }
}

/// Events that never happened.
fn missing(sweep: &Sweep) -> Vec<&'static str> {
    EVENTS.into_iter().filter(|event| sweep.counts.get(*event).is_none_or(|count| *count == 0)).collect()
}

fn report(args: &Sim, sweep: &Sweep, stories: &[Story]) -> Report {
    let missing = if args.require_all { missing(sweep) } else { Vec::new() };
    for event in &missing {
        say(&format!("'{event}' never happened in these seeds"));
    }
    let clean = sweep.failures.is_empty() && missing.is_empty();
    let seeds = sweep.traces.len();
    let mut text = format!(
        "{seeds} seeds from {} on{}, {} failed, {:.1} seeds/s, trace {:016x}\n",
        args.seed,
        scenario_words(args.scenario),
        sweep.failures.len(),
        seeds as f64 / sweep.seconds.max(1e-9),
        sweep.trace()
    );
    for (event, count) in &sweep.counts {
        text.push_str(&format!("{count:>12}  {event}\n"));
    }
    for story in stories {
        text.push_str(&format!("\n{story}"));
    }
    let failed: Vec<Value> =
        sweep.failures.iter().map(|(seed, what)| json!({ "seed": seed, "what": what })).collect();
    let document = json!({
        "scenario": args.scenario.name(),
        "seeds": seeds,
        "failures": sweep.failures.len(),
        "seconds": sweep.seconds,
        "trace": format!("{:016x}", sweep.trace()),
        "faults": sweep.counts,
        "failed": failed,
        "missing": missing,
        "stories": stories.iter().map(Story::json).collect::<Vec<_>>(),
    });
    Report { exit: if clean { Exit::Done } else { Exit::Lost }, json: document, text }
}
