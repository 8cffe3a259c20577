//! `paritas iostat`

use crate::caller::Caller;
use crate::cli::Iostat;
use crate::outcome::{Failure, Report};
use paritas::volume::{Activity, Array, Figures, Operation};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// Whoever went away is not served to the end of a long interval.
const TICK: Duration = Duration::from_millis(200);

/// Times that are told: of so many of a thousand operations.
const PERCENTILES: [u64; 2] = [500, 990];

pub(crate) fn run(args: &Iostat, json: bool, caller: &Caller) -> Result<Report, Failure> {
    let Caller::Elsewhere(remote) = caller else {
        let text = "no server has the array open: nothing is read or written; see `paritas serve` and `paritas attach`";
        return Err(Failure::refused(text));
    };
    let interval = args.interval.unwrap_or(Duration::from_secs(1));
    let count = args.count.or(args.interval.is_none().then_some(1));
    let mut before = Look::at(remote.array())?;
    for shown in 0.. {
        if count == Some(shown) {
            break;
        }
        let due = before.time + interval;
        while Instant::now() < due {
            caller.check()?;
            thread::sleep(due.saturating_duration_since(Instant::now()).min(TICK));
        }
        let now = Look::at(remote.array())?;
        let rows = now.since(&before);
        let seconds = (now.time - before.time).as_secs_f64();
        caller.print(&if json { document(&rows, seconds).to_string() } else { text(&rows, seconds) })?;
        before = now;
    }
    Ok(Report::silent())
}

/// A volume or a member, in the order in which they are shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Who {
    Volume(String),
    Member(u8, String),
}

/// What there was at a time.
struct Look {
    time: Instant,
    all: BTreeMap<Who, Activity>,
}

impl Look {
    fn at(array: &Array) -> Result<Look, Failure> {
        let (members, volumes) = array.activity()?;
        let members = members
            .into_iter()
            .map(|member| (Who::Member(member.slot, member.path.display().to_string()), member.activity));
        let volumes = volumes.into_iter().map(|volume| (Who::Volume(volume.name), volume.activity));
        Ok(Look { time: Instant::now(), all: volumes.chain(members).collect() })
    }

    /// What came since. Who came meanwhile did all that it did since then.
    fn since(&self, earlier: &Look) -> Vec<(Who, Activity)> {
        let difference = |(who, activity): (&Who, &Activity)| {
            let activity =
                earlier.all.get(who).map_or_else(|| activity.clone(), |before| activity.since(before));
            (who.clone(), activity)
        };
        self.all.iter().map(difference).collect()
    }
}

fn document(rows: &[(Who, Activity)], seconds: f64) -> Value {
    let figures = |activity: &Activity| {
        let all = Operation::ALL.map(|operation| {
            let figures = activity.kind(operation);
            let [half, most] =
                PERCENTILES.map(|part| figures.percentile(part).map(|time| time.as_secs_f64()));
            let values = json!({
                "operations": figures.done,
                "failed": figures.failed,
                "bytes": figures.bytes,
                "in_flight": figures.in_flight,
                "p50": half,
                "p99": most,
            });
            (operation.name().to_owned(), values)
        });
        Value::Object(all.into_iter().collect())
    };
    let (mut volumes, mut members) = (Vec::new(), Vec::new());
    for (who, activity) in rows {
        match who {
            Who::Volume(name) => volumes.push(json!({ "name": name, "activity": figures(activity) })),
            Who::Member(slot, path) => {
                members.push(json!({ "slot": slot, "path": path, "activity": figures(activity) }));
            }
        }
    }
    json!({ "seconds": seconds, "volumes": volumes, "members": members })
}

fn text(rows: &[(Who, Activity)], seconds: f64) -> String {
    let mut lines = vec![
        format!("{:<20} {:^33} {:^33} {:^22} {:>6} {:>6}", "", "read", "write", "flush", "", ""),
        format!(
            "{:<20} {} {} {:>8} {:>6} {:>6} {:>6} {:>6}",
            "", HEAD, HEAD, "op/s", "p50", "p99", "queue", "errors"
        ),
    ];
    for (who, activity) in rows {
        let name = match who {
            Who::Volume(name) => format!("volume {name}"),
            Who::Member(slot, path) => format!("{slot:>3} {}", path.rsplit('/').next().unwrap_or(path)),
        };
        let all = || Operation::ALL.into_iter().map(|operation| activity.kind(operation));
        let queue: u64 = all().map(|figures| figures.in_flight).sum();
        let errors: u64 = all().map(|figures| figures.failed).sum();
        let (read, write) = (moved(&activity.read, seconds), moved(&activity.write, seconds));
        let [half, most] = times(&activity.flush);
        let flushes = rate(activity.flush.done, seconds);
        lines.push(format!(
            "{name:<20} {read} {write} {flushes:>8} {half:>6} {most:>6} {queue:>6} {errors:>6}"
        ));
    }
    lines.join("\n")
}

const HEAD: &str = "    op/s      MiB/s    p50    p99";

/// Operations that move bytes, under [`HEAD`].
fn moved(figures: &Figures, seconds: f64) -> String {
    let [half, most] = times(figures);
    #[allow(clippy::cast_precision_loss)] // For people.
    let speed = figures.bytes as f64 / seconds / f64::from(1 << 20);
    format!("{:>8} {speed:>10.1} {half:>6} {most:>6}", rate(figures.done, seconds))
}

fn rate(count: u64, seconds: f64) -> String {
    #[allow(clippy::cast_precision_loss)] // For people.
    let rate = count as f64 / seconds;
    format!("{rate:.0}")
}

fn times(figures: &Figures) -> [String; 2] {
    PERCENTILES.map(|part| figures.percentile(part).map_or_else(|| "-".into(), show_time))
}

/// A time in at most five characters.
fn show_time(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1000 => format!("{micros}us"),
        1000..10_000 => format!("{}.{}ms", micros / 1000, micros % 1000 / 100),
        10_000..1_000_000 => format!("{}ms", micros / 1000),
        _ => format!("{}s", micros / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let shown = |micros| show_time(Duration::from_micros(micros));
        let all = [0, 999, 1000, 9_960, 10_000, 999_999, 1_000_000, 4_000_000_000].map(shown);
        assert_eq!(all, ["0us", "999us", "1.0ms", "9.9ms", "10ms", "999ms", "1s", "4000s"]);
    }
}
