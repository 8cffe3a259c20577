//! `paritas fail`, `online` and `replace`

use crate::caller::Caller;
use crate::cli;
use crate::held::held;
use crate::jobs::{add, close_after, exit, told, watched};
use crate::outcome::{Failure, Report};
use crate::session::open_for_upkeep;
use paritas::volume::{MemberHealth, MemberStatus, Pace};
use serde_json::json;
use std::time::Instant;

pub(crate) fn fail(args: &cli::Fail, caller: &Caller) -> Result<Report, Failure> {
    let array = open_for_upkeep(caller, &args.array)?;
    let done = array.member(&args.member).and_then(|slot| array.fail_member(slot).map(|()| slot));
    let slot = close_after(&array, done)?;
    let text = format!("member {slot} ({}) is out until it is replaced", args.member.display());
    Ok(Report::done(json!({ "slot": slot }), text))
}

pub(crate) fn online(args: &cli::Online, caller: &Caller) -> Result<Report, Failure> {
    let start = Instant::now();
    // An array that nobody serves takes back whoever is there when it is opened.
    let array = open_for_upkeep(caller, &args.array)?;
    let done = array.member(&args.member).and_then(|slot| {
        let members = array.status()?.members;
        let is_active = |member: &MemberStatus| member.slot == slot && member.health == MemberHealth::Active;
        let was_in_use = members.iter().any(is_active);
        if !was_in_use {
            array.return_member(slot, args.at.as_deref())?;
        }
        let work = if args.no_wait { None } else { Some(watched(&array, caller, Pace::default())?) };
        Ok((slot, was_in_use, work))
    });
    let (slot, was_in_use, work) = close_after(&array, done)?;
    let mut document = json!({ "slot": slot, "was_in_use": was_in_use, "waited": work.is_some() });
    let name = format!("member {slot} ({}) is in use", args.member.display());
    let Some(work) = work else {
        return Ok(Report::done(document, format!("{name}; `paritas rebuild` gives it what it missed")));
    };
    add(&mut document, &work, start);
    let text = format!("{name}: {}", told(&work.rebuilt, start, caller));
    let exit = exit(work.rebuilt.lost > 0, work.rebuilt.missing > 0);
    Ok(Report { exit, json: document, text })
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
