//! `paritas fail` and `replace`

use crate::caller::Caller;
use crate::cli;
use crate::held::held;
use crate::jobs::{add, close_after, exit, told, watched};
use crate::outcome::{Failure, Report};
use crate::session::open_for_upkeep;
use paritas::volume::{MemberHealth, Pace};
use serde_json::json;
use std::time::Instant;

pub(crate) fn fail(args: &cli::Fail, caller: &Caller) -> Result<Report, Failure> {
    let array = open_for_upkeep(caller, &args.array)?;
    let done = array.member(&args.member).and_then(|slot| array.fail_member(slot).map(|()| slot));
    let slot = close_after(&array, done)?;
    let text = format!("member {slot} ({}) is out until it is replaced", args.member.display());
    Ok(Report::done(json!({ "slot": slot }), text))
}

pub(crate) fn replace(args: &cli::Replace, caller: &Caller) -> Result<Report, Failure> {
    // Without force, one that holds something is refused.
    caller.confirm(args.consent, || {
        let held = args.force.then(|| held([args.new.as_path()].into_iter()))??;
        Some(format!("make a member of this? What is on it is lost:{held}"))
    })?;
    let start = Instant::now();
    let array = open_for_upkeep(caller, &args.array)?;
    let done = array.member(&args.old).and_then(|old| {
        let slot = array.replace_member(old, &args.new, args.force)?;
        let work = if args.no_wait { None } else { Some(watched(&array, caller, Pace::default())?) };
        let stays = array
            .status()?
            .members
            .iter()
            .any(|member| member.slot == old && member.health == MemberHealth::Leaving);
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
        false => format!("{is} took the place of {was}: {}", told(&work.rebuilt, start, caller)),
    };
    let exit = exit(work.rebuilt.lost > 0, stays);
    Ok(Report { exit, json: document, text })
}
