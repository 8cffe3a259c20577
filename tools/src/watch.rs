//! `paritas watch`

use crate::caller::{Bar, Caller};
use crate::cli;
use crate::outcome::{Failure, Report};
use crate::status::{document, exit, job_name, look};
use paritas::volume::{JobKind, Status};
use std::thread;
use std::time::Duration;

/// How often it looks.
const TICK: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &cli::Status, caller: &Caller) -> Result<Report, Failure> {
    let mut shown: Option<(JobKind, Bar<'_>)> = None;
    let mut seen = 0;
    let status = loop {
        let status = look(args, caller)?;
        let Some(job) = status.jobs.iter().find(|job| job.running).copied() else { break status };
        if shown.as_ref().is_none_or(|(kind, _)| *kind != job.kind) {
            shown = Some((job.kind, caller.bar(job_name(job.kind), Some(job.total))));
            seen += 1;
        }
        if let Some((_, bar)) = &mut shown {
            bar.show(job.done, Some(job.total));
            bar.check()?;
        }
        thread::sleep(TICK);
    };
    drop(shown);
    let text = match seen {
        0 => "no job is under way",
        _ => "no job is under way any more",
    };
    let mut lines = vec![text.to_owned()];
    lines.extend(left(&status));
    Ok(Report { exit: exit(&status), json: document(status)?, text: lines.join("\n") })
}

/// What waits to be gone on with.
fn left(status: &Status) -> Vec<String> {
    let waits = status.jobs.iter().map(|job| {
        let name = job_name(job.kind);
        format!(
            "{name} is {}: `paritas {name}` goes on with it",
            if job.paused { "paused" } else { "interrupted" }
        )
    });
    waits.collect()
}
