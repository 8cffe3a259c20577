//! `paritas rebuild` and `scrub`: long jobs, in this process or in the server that has the array open.

use crate::caller::Caller;
use crate::cli::{self, Job};
use crate::names::{Limit, show_size};
use crate::outcome::{Exit, Failure, Report, say};
use crate::session::{Session, open_for_upkeep};
use crate::status::job_name;
use paritas::types::BLOCK_U64;
use paritas::volume::{Array, JobKind, MemberHealth, MemberStatus, Pace, Rebuilt, Status};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

/// How often a bar moves.
const TICK: Duration = Duration::from_millis(100);

pub(crate) fn rebuild(args: &cli::Rebuild, caller: &Caller) -> Result<Report, Failure> {
    if let Some(report) = elsewhere(&args.job, JobKind::Rebuild, caller)? {
        return Ok(report);
    }
    let start = Instant::now();
    let array = open_for_upkeep(caller, &args.array)?;
    let done = limited(&array, &args.job, JobKind::Rebuild)
        .and_then(|()| watched(&array, caller, Pace::default()))
        .and_then(|work| array.status().map(|status| (work, status)));
    let (work, status) = close_after(&array, done)?;
    let mut document = json!({ "missing": work.rebuilt.missing, "paused": work.rebuilt.paused });
    add(&mut document, &work, start);
    let mut text = told(&work.rebuilt, start, caller);
    let mut missing = idle(&status);
    if work.rebuilt.paused {
        missing.push("it was paused: `paritas rebuild` goes on with it".into());
    } else if work.rebuilt.missing > 0 {
        missing.push(format!(
            "{} columns of segments are still missing: too few members have room for them",
            work.rebuilt.missing
        ));
    }
    missing.iter().for_each(|line| text += &format!("\n{line}"));
    Ok(Report { exit: exit(work.rebuilt.lost > 0, !missing.is_empty()), json: document, text })
}

pub(crate) fn scrub(args: &cli::Scrub, caller: &Caller) -> Result<Report, Failure> {
    if args.stop {
        return stop_scrub(&args.array, caller);
    }
    if let Some(report) = elsewhere(&args.job, JobKind::Scrub, caller)? {
        return Ok(report);
    }
    let start = Instant::now();
    let array = open_for_upkeep(caller, &args.array)?;
    if array.status()?.jobs.iter().any(|job| job.kind == JobKind::Scrub && job.running) {
        return Err(Failure::refused("a scrub is under way: `paritas watch` shows how far it is"));
    }
    let limited = limited(&array, &args.job, JobKind::Scrub);
    let done = limited
        .and_then(|()| {
            watch(&array, caller, "scrubbing", &[JobKind::Rebuild, JobKind::Scrub], || array.scrub())
        })
        .and_then(|scrub| array.status().map(|status| (scrub, status)));
    let (scrub, status) = close_after(&array, done)?;
    let healed = scrub.healed * BLOCK_U64;
    let document = json!({
        "read": scrub.read,
        "resumed": scrub.resumed,
        "written": scrub.written + healed,
        "healed": healed,
        "superblocks": scrub.superblocks,
        "lost": scrub.lost * BLOCK_U64,
        "reduced": scrub.reduced,
        "paused": scrub.paused,
        "stopped": scrub.stopped,
        "seconds": start.elapsed().as_secs_f64(),
    });
    let mut text = format!("verified {} in {:.1} s", show_size(scrub.read), start.elapsed().as_secs_f64());
    if scrub.resumed > 0 {
        text += &format!(", behind {} that an interrupted scrub had verified", show_size(scrub.resumed));
    }
    if scrub.healed > 0 {
        text += &format!(", healed {}", show_size(healed));
    }
    if scrub.superblocks > 0 {
        text += &format!(", wrote {} destroyed superblocks anew", scrub.superblocks);
    }
    if scrub.lost > 0 {
        text += &format!("; {} are lost, see `paritas status`", show_size(scrub.lost * BLOCK_U64));
    }
    let mut missing = idle(&status);
    if scrub.paused {
        missing.push("it was paused: `paritas scrub` goes on with it".into());
    }
    if scrub.stopped {
        missing.push("it was stopped: `paritas scrub` begins anew".into());
    }
    if scrub.reduced > 0 {
        missing
            .push("some of the data has less redundancy than its scheme: too few members have room".into());
    }
    missing.iter().for_each(|line| text += &format!("\n{line}"));
    let is_damaged = scrub.lost > 0 || !status.damage.is_empty();
    Ok(Report { exit: exit(is_damaged, !missing.is_empty()), json: document, text })
}

/// Ends a scrub, whoever began it.
fn stop_scrub(args: &cli::Status, caller: &Caller) -> Result<Report, Failure> {
    let array = open_for_upkeep(caller, args)?;
    let was = array.status()?.jobs.iter().any(|job| job.kind == JobKind::Scrub);
    let stopped = array.stop_scrub();
    close_after(&array, stopped)?;
    let text = if was { "the next scrub begins anew" } else { "no scrub was under way or interrupted" };
    Ok(Report::done(json!({ "stopped": was }), text))
}

/// What is asked of a server alone: to hold a job back, or to do it without anybody who waits. Nothing when the job is
/// to be done now.
fn elsewhere(job: &Job, kind: JobKind, caller: &Caller) -> Result<Option<Report>, Failure> {
    if !job.pause && !job.no_wait {
        return Ok(None);
    }
    let name = job_name(kind);
    let Caller::Elsewhere(remote) = caller else {
        let text = "no server has the array open: this process would do it, and ends; see `paritas serve`";
        return Err(Failure::refused(text));
    };
    let array = remote.array().clone();
    limited(&array, job, kind)?;
    let document = json!({ "job": name, "paused": job.pause });
    if job.pause {
        array.pause(kind)?;
        return Ok(Some(Report::done(document, format!("paused; `paritas {name}` goes on with it"))));
    }
    let work = move || {
        let done = match kind {
            JobKind::Rebuild => array.rebuild(Pace::default()).map(drop),
            JobKind::Scrub => array.scrub().map(drop),
        };
        if let Err(error) = done {
            say(&format!("{}: {error}", job_name(kind)));
        }
    };
    let started = thread::Builder::new().name(name.into()).spawn(work);
    started.map_err(|error| Failure::io(format!("no thread for it: {error}")))?;
    Ok(Some(Report::done(document, "the server does it; `paritas watch` shows how far it is")))
}

/// Sets the speed that was asked for.
fn limited(array: &Array, job: &Job, kind: JobKind) -> Result<(), paritas::error::Error> {
    match job.limit {
        Some(Limit(limit)) => array.limit(kind, limit),
        None => Ok(()),
    }
}

pub(crate) fn exit(lost: bool, reduced: bool) -> Exit {
    match (lost, reduced) {
        (true, _) => Exit::Lost,
        (false, true) => Exit::Reduced,
        (false, false) => Exit::Done,
    }
}

/// A line for each member that is not in use.
fn idle(status: &Status) -> Vec<String> {
    let in_use = |member: &&MemberStatus| matches!(member.health, MemberHealth::Active | MemberHealth::Spare);
    let line = |member: &MemberStatus| {
        let path = member.path.display();
        format!("member {} ({path}) is not in use: replace it, or bring it back", member.slot)
    };
    status.members.iter().filter(|member| !in_use(member)).map(line).collect()
}

/// Closes the array whatever came of the work, which is what is told.
pub(crate) fn close_after<T>(
    array: &Session<'_>,
    done: Result<T, paritas::error::Error>,
) -> Result<T, Failure> {
    let closed = array.close();
    let done = done?;
    closed?;
    Ok(done)
}

/// A rebuild, and what was healed meanwhile.
pub(crate) struct Work {
    pub(crate) rebuilt: Rebuilt,
    healed: u64,
}

/// Rebuilds under a bar.
pub(crate) fn watched(array: &Array, caller: &Caller, pace: Pace) -> Result<Work, paritas::error::Error> {
    let rebuilt = watch(array, caller, "rebuilding", &[JobKind::Rebuild], || array.rebuild(pace))?;
    Ok(Work { rebuilt, healed: array.status()?.work.healed * BLOCK_U64 })
}

/// Works under a bar that shows the first of these jobs that is under way.
fn watch<T: Send>(
    array: &Array,
    caller: &Caller,
    what: &str,
    kinds: &[JobKind],
    work: impl FnOnce() -> Result<T, paritas::error::Error> + Send,
) -> Result<T, paritas::error::Error> {
    let mut bar = caller.bar(what, Some(0));
    thread::scope(|scope| {
        let task = scope.spawn(work);
        while !task.is_finished() {
            if bar.is_seen()
                && let Ok(status) = array.status()
                && let Some(job) = status.jobs.iter().rfind(|job| kinds.contains(&job.kind))
            {
                bar.show(job.done, Some(job.total));
            }
            thread::sleep(TICK);
        }
        task.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(crate) fn add(document: &mut Value, work: &Work, start: Instant) {
    document["read"] = work.rebuilt.read.into();
    document["written"] = work.rebuilt.written.into();
    document["healed"] = work.healed.into();
    document["lost"] = (work.rebuilt.lost * BLOCK_U64).into();
    document["seconds"] = start.elapsed().as_secs_f64().into();
}

pub(crate) fn told(rebuilt: &Rebuilt, start: Instant, caller: &Caller) -> String {
    let written = show_size(rebuilt.written);
    let mut text = match rebuilt.written {
        // The server may have been faster.
        0 if matches!(caller, Caller::Elsewhere(_)) => "all that was missing is rebuilt".to_owned(),
        0 => "nothing had to be rebuilt".to_owned(),
        _ => format!("rebuilt {written} in {:.1} s", start.elapsed().as_secs_f64()),
    };
    if rebuilt.lost > 0 {
        text += &format!("; {} are lost, see `paritas status`", show_size(rebuilt.lost * BLOCK_U64));
    }
    text
}
