//! `paritas events`

use crate::caller::Caller;
use crate::cli::Events;
use crate::outcome::{Failure, Report};
use paritas::volume::events::{Event, EventLog, events};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// How often it looks for more.
const INTERVAL: Duration = Duration::from_secs(1);
/// Whoever went away is not waited for.
const TICK: Duration = Duration::from_millis(200);

pub(crate) fn run(args: &Events, json: bool, caller: &Caller) -> Result<Report, Failure> {
    let log = look(args, caller)?;
    let known = log.iter().count();
    let skipped = args.count.map_or(0, |count| known.saturating_sub(count));
    if !args.follow {
        let shown: Vec<(u64, &Event)> = log.iter().skip(skipped).collect();
        let told: Vec<Value> = shown.iter().map(|(number, event)| document(*number, event)).collect();
        let lines: Vec<String> = shown.iter().map(|(_, event)| line(event)).collect();
        return Ok(Report::done(json!({ "events": told }), lines.join("\n")));
    }
    let mut counts = BTreeMap::new();
    for (number, event) in log.iter().take(skipped) {
        counts.insert(number, event.count);
    }
    tell(&log, &mut counts, json, caller)?;
    loop {
        let due = Instant::now() + INTERVAL;
        while Instant::now() < due {
            caller.check()?;
            thread::sleep(due.saturating_duration_since(Instant::now()).min(TICK));
        }
        tell(&look(args, caller)?, &mut counts, json, caller)?;
    }
}

fn look(args: &Events, caller: &Caller) -> Result<EventLog, Failure> {
    let log = match caller {
        Caller::Here => events(&args.array.array, args.array.choice.name.as_deref()),
        Caller::Elsewhere(remote) => remote.array().events(),
    };
    log.map_err(|error| Failure::opening(&error))
}

/// Tells what is new since the last look, and what happened again. `counts` has how often each event was told to have
/// happened.
fn tell(log: &EventLog, counts: &mut BTreeMap<u64, u32>, json: bool, caller: &Caller) -> Result<(), Failure> {
    for (number, event) in log.iter() {
        if counts.insert(number, event.count) != Some(event.count) {
            caller.print(&if json { document(number, event).to_string() } else { line(event) })?;
        }
    }
    if let Some((oldest, _)) = log.iter().next() {
        *counts = counts.split_off(&oldest);
    }
    Ok(())
}

/// An event for `--json`.
#[derive(Serialize)]
struct Document<'a> {
    number: u64,
    kind: &'static str,
    time: u64,
    last: u64,
    count: u32,
    amount: u64,
    member: Option<u8>,
    volume: Option<u32>,
    name: &'a str,
    text: String,
}

fn document(number: u64, event: &Event) -> Value {
    json!(Document {
        number,
        kind: event.kind.name(),
        time: event.time,
        last: event.last(),
        count: event.count,
        amount: event.amount,
        member: event.slot.map(|slot| slot.0),
        volume: event.volume.map(|volume| volume.0),
        name: &event.text,
        text: event.to_string(),
    })
}

fn line(event: &Event) -> String {
    // Up to the year 9999, which is as far as the text goes.
    let time = UNIX_EPOCH + Duration::from_secs(event.time.min(253_402_300_799));
    format!("{}  {event}", humantime::format_rfc3339_seconds(time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use paritas::types::Slot;
    use paritas::volume::events::EventKind;

    #[test]
    fn an_event_is_a_line_with_its_time() {
        let event = Event::new(EventKind::MemberBack, 1_800_000_000).at(Slot(3), "/dev/sdd");
        assert_eq!(line(&event), "2027-01-15T08:00:00Z  member 3 (/dev/sdd) is in use again");
        let endless = Event::new(EventKind::Recovered, u64::MAX);
        assert!(line(&endless).starts_with("9999-12-31T23:59:59Z  "));
        assert_eq!(document(7, &event)["kind"], "member-back");
    }
}
