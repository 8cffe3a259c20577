//! `paritas clear`

use crate::caller::Caller;
use crate::cli::Destructive;
use crate::outcome::{Failure, Report};
use crate::session;
use crate::status::{Lost, describe, glance, lost};
use serde_json::json;

pub(crate) fn run(args: &Destructive, caller: &Caller) -> Result<Report, Failure> {
    let (place, name) = (&args.array.array, args.array.choice.name.as_deref());
    caller.confirm(args.consent, || {
        let status = glance(place, name, caller).filter(|status| !status.damage.is_empty())?;
        let count = status.damage.len();
        let array = &status.name;
        Some(format!(
            "forget what array '{array}' has lost ({count} entries)? Nothing will tell of it any more"
        ))
    })?;
    let array = session::open(caller, place, name)?;
    let cleared = array.clear()?;
    array.close()?;
    let mut lines = vec![match cleared.len() {
        0 => "no damage was recorded; the error counts are zero".into(),
        1 => "acknowledged 1 entry of the damage list; the error counts are zero".into(),
        count => format!("acknowledged {count} entries of the damage list; the error counts are zero"),
    }];
    lines.extend(cleared.iter().map(|damage| format!("  {}", describe(damage))));
    let cleared: Vec<Lost> = cleared.into_iter().map(lost).collect();
    Ok(Report::done(json!({ "cleared": cleared }), lines.join("\n")))
}
