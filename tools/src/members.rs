//! `paritas fail`, `replace` and `rebuild`

use crate::cli;
use crate::names::show_size;
use crate::outcome::{Exit, Failure, Report};
use crate::progress;
use crate::session::open_for_upkeep;
use paritas::types::BLOCK_U64;
use paritas::volume::{Array, JobKind, MemberHealth, Pace, Rebuilt};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

/// How often a bar moves.
const TICK: Duration = Duration::from_millis(100);

pub(crate) fn fail(args: &cli::Fail) -> Result<Report, Failure> {
    let array = open_for_upkeep(&args.array)?;
    let done = array.member(&args.member).and_then(|slot| array.fail_member(slot).map(|()| slot));
    let slot = close_after(&array, done)?;
    let text = format!("member {slot} ({}) is out until it is replaced", args.member.display());
    Ok(Report::done(json!({ "slot": slot }), text))
}

pub(crate) fn replace(args: &cli::Replace) -> Result<Report, Failure> {
    let start = Instant::now();
    let array = open_for_upkeep(&args.array)?;
    let done = array.member(&args.old).and_then(|old| {
        let slot = array.replace_member(old, &args.new, args.force)?;
        let work = if args.no_wait { None } else { Some(watched(&array, Pace::default())?) };
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
    let exit = match (work.rebuilt.lost, stays) {
        (1.., _) => Exit::Lost,
        (0, true) => Exit::Reduced,
        (0, false) => Exit::Done,
    };
    Ok(Report { exit, json: document, text })
}

pub(crate) fn rebuild(args: &cli::Rebuild) -> Result<Report, Failure> {
    let start = Instant::now();
    let array = open_for_upkeep(&args.array)?;
    let done = watched(&array, Pace { bytes_per_second: args.limit })
        .and_then(|work| array.status().map(|status| (work, status)));
    let (work, status) = close_after(&array, done)?;
    let mut document = json!({ "missing": work.rebuilt.missing });
    add(&mut document, &work, start);
    let mut text = told(&work.rebuilt, start);
    let idle = status
        .members
        .iter()
        .filter(|member| !matches!(member.health, MemberHealth::Active | MemberHealth::Spare));
    let mut reduced = work.rebuilt.missing > 0;
    for member in idle {
        reduced = true;
        let path = member.path.display();
        text += &format!("\nmember {} ({path}) is not in use: replace it, or bring it back", member.slot);
    }
    if work.rebuilt.missing > 0 {
        text += &format!(
            "\n{} columns of segments are still missing: too few members have room for them",
            work.rebuilt.missing
        );
    }
    let exit = match (work.rebuilt.lost, reduced) {
        (1.., _) => Exit::Lost,
        (0, true) => Exit::Reduced,
        (0, false) => Exit::Done,
    };
    Ok(Report { exit, json: document, text })
}

fn is_leaving(health: MemberHealth) -> bool {
    health == MemberHealth::Leaving
}

/// Closes the array whatever came of the work, which is what is told.
fn close_after<T>(array: &Array, done: Result<T, paritas::error::Error>) -> Result<T, Failure> {
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
pub(crate) fn watched(array: &Array, pace: Pace) -> Result<Work, paritas::error::Error> {
    let bar = progress::bar("rebuilding", Some(0));
    let rebuilt = thread::scope(|scope| {
        let job = scope.spawn(|| array.rebuild(pace));
        while !job.is_finished() {
            if !bar.is_hidden()
                && let Ok(status) = array.status()
                && let Some(job) = status.jobs.iter().find(|job| job.kind == JobKind::Rebuild)
            {
                bar.set_length(job.total);
                bar.set_position(job.done);
            }
            thread::sleep(TICK);
        }
        job.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    bar.finish_and_clear();
    Ok(Work { rebuilt: rebuilt?, healed: array.status()?.work.healed * BLOCK_U64 })
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
