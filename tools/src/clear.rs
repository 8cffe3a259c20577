//! `paritas clear`

use crate::caller::Caller;
use crate::cli::Status;
use crate::outcome::{Failure, Report};
use crate::session;
use crate::status::{Lost, describe, lost};
use serde_json::json;

pub(crate) fn run(args: &Status, caller: &Caller) -> Result<Report, Failure> {
    let array = session::open(caller, &args.array, args.choice.name.as_deref())?;
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
