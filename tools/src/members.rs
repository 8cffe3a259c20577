//! `paritas fail`, `replace`, `rebuild` and `scrub`

use crate::caller::Caller;
use crate::cli;
use crate::names::show_size;
use crate::outcome::{Exit, Failure, Report};
use crate::session::{Session, open_for_upkeep};
use paritas::types::BLOCK_U64;
use paritas::volume::{Array, JobKind, MemberHealth, MemberStatus, Pace, Rebuilt, Status};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

/// How often a bar moves.
const TICK: Duration = Duration::from_millis(100);

pub(crate) fn fail(args: &cli::Fail, caller: &Caller) -> Result<Report, Failure> {
    let array = open_for_upkeep(caller, &args.array)?;
    let done = array.member(&args.member).and_then(|slot| array.fail_member(slot).map(|()| slot));
    let slot = close_after(&array, done)?;
    let text = format!("member {slot} ({}) is out until it is replaced", args.member.display());
    Ok(Report::done(json!({ "slot": slot }), text))
}

pub(crate) fn replace(args: &cli::Replace, caller: &Caller) -> Result<Report, Failure> {
    let start = Instant::now();
    let array = open_for_upkeep(caller, &args.array)?;
    let done = array.member(&args.old).and_then(|old| {
        let slot = array.replace_member(old, &args.new, args.force)?;
        let work = if args.no_wait { None } else { Some(watched(&array, caller, Pace::default())?) };
        let stays =
            array.status()?.members.iter().any(|member| member.slot == old && is_leaving(member.health));
        Ok((old, slot, work, stays))
    });
    let (old, slot, work, stays) = close_after(&array, done)?;
    let (was, is) = (args.old.display(), args.new.display());
    let mut document = json!({ "old": old, "slot": slot, "waited": work.is_some() });
    let Some(work) = work else {
        let text = format!("{is} takes the place of {was}; `paritas rebuild` fills it");
        return Ok(Report::done(document, text));
    };
    add(&mut document, &work, start);
    let text = match stays {
        true => format!("{is} took the place of {was}, but not all of it could be rebuilt"),
        false => format!("{is} took the place of {was}: {}", told(&work.rebuilt, start)),
    };
    let exit = exit(work.rebuilt.lost > 0, stays);
    Ok(Report { exit, json: document, text })
}

pub(crate) fn rebuild(args: &cli::Rebuild, caller: &Caller) -> Result<Report, Failure> {
    let start = Instant::now();
    let array = open_for_upkeep(caller, &args.array)?;
    let done = watched(&array, caller, Pace { bytes_per_second: args.limit })
        .and_then(|work| array.status().map(|status| (work, status)));
    let (work, status) = close_after(&array, done)?;
    let mut document = json!({ "missing": work.rebuilt.missing });
    add(&mut document, &work, start);
    let mut text = told(&work.rebuilt, start);
    let mut missing = idle(&status);
    if work.rebuilt.missing > 0 {
        missing.push(format!(
            "{} columns of segments are still missing: too few members have room for them",
            work.rebuilt.missing
        ));
    }
    missing.iter().for_each(|line| text += &format!("\n{line}"));
    Ok(Report { exit: exit(work.rebuilt.lost > 0, !missing.is_empty()), json: document, text })
}

pub(crate) fn scrub(args: &cli::Status, caller: &Caller) -> Result<Report, Failure> {
    let start = Instant::now();
    let array = open_for_upkeep(caller, args)?;
    let done = watch(&array, caller, "scrubbing", &[JobKind::Rebuild, JobKind::Scrub], || array.scrub())
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
    if scrub.reduced > 0 {
        missing
            .push("some of the data has less redundancy than its scheme: too few members have room".into());
    }
    missing.iter().for_each(|line| text += &format!("\n{line}"));
    let is_damaged = scrub.lost > 0 || !status.damage.is_empty();
    Ok(Report { exit: exit(is_damaged, !missing.is_empty()), json: document, text })
}

fn exit(lost: bool, reduced: bool) -> Exit {
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

fn is_leaving(health: MemberHealth) -> bool {
    health == MemberHealth::Leaving
}

/// Closes the array whatever came of the work, which is what is told.
fn close_after<T>(array: &Session<'_>, done: Result<T, paritas::error::Error>) -> Result<T, Failure> {
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

fn add(document: &mut Value, work: &Work, start: Instant) {
    document["read"] = work.rebuilt.read.into();
    document["written"] = work.rebuilt.written.into();
    document["healed"] = work.healed.into();
    document["lost"] = (work.rebuilt.lost * BLOCK_U64).into();
    document["seconds"] = start.elapsed().as_secs_f64().into();
}

fn told(rebuilt: &Rebuilt, start: Instant) -> String {
    let written = show_size(rebuilt.written);
    let mut text = match rebuilt.written {
        0 => "nothing had to be rebuilt".to_owned(),
        _ => format!("rebuilt {written} in {:.1} s", start.elapsed().as_secs_f64()),
    };
    if rebuilt.lost > 0 {
        text += &format!("; {} are lost, see `paritas status`", show_size(rebuilt.lost * BLOCK_U64));
    }
    text
}
