//! The figures of an array, under the names that README.md lists.

use paritas::error::{Error, Result};
use paritas::volume::{
    Activity, Array, JobKind, MemberActivity, MemberHealth, Operation, State, Status, VolumeActivity,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::time::Duration;

/// What is said of operations is cut at these: powers of four of microseconds, from 64 us to 4 s.
const LIMITS: std::ops::RangeInclusive<u32> = 3..=11;

/// Seconds of a day.
const DAY: u32 = 86_400;

/// All that there is to tell now.
pub(super) fn of(array: &Array) -> Result<String> {
    let (members, volumes) = array.activity()?;
    let look = Look { status: array.status()?, members, volumes };
    let labels = [("array".into(), look.status.name.clone().into())];
    let mut registry = Registry::with_prefix_and_labels("paritas", labels.into_iter());
    registry.register_collector(Box::new(look));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Error::io(format!("metrics: {error}")))?;
    Ok(text)
}

#[derive(Debug)]
struct Look {
    status: Status,
    members: Vec<MemberActivity>,
    volumes: Vec<VolumeActivity>,
}

type Labels = Vec<(&'static str, String)>;

impl Collector for Look {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.array(encoder)?;
        self.members(encoder)?;
        self.volumes(encoder)?;
        self.jobs(encoder)?;
        let members = || self.members.iter().map(|member| (member_labels(member.slot), &member.activity));
        operations(
            encoder,
            ["member_operation_duration", "member_operation", "member_operation_errors"],
            members,
        )?;
        gauges(
            encoder,
            ("member_queue", "Operations under way on a member.", None),
            members().map(|(labels, activity)| (labels, queue(activity))),
        )?;
        let volumes = || self.volumes.iter().map(|volume| (volume_labels(&volume.name), &volume.activity));
        operations(
            encoder,
            ["volume_operation_duration", "volume_operation", "volume_operation_errors"],
            volumes,
        )
    }
}

impl Look {
    fn array(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Status { uuid, state, damage, work, scrubbed, format, .. } = &self.status;
        let about: Labels = vec![("uuid", uuid.to_string()), ("format", format.clone())];
        encoder.encode_descriptor("array", "The array.", None, MetricType::Info)?.encode_info(&about)?;
        let condition: i64 = match state {
            State::Healthy => 0,
            State::Degraded => 1,
            State::Damaged => 2,
            State::Failed => 3,
        };
        let help = "How the array is: 0 healthy, 1 degraded, 2 damaged, 3 it cannot be written.";
        gauge(encoder, ("condition", help, None), condition)?;
        let help = "Entries of the list of what is lost.";
        gauge(encoder, ("damage_entries", help, None), signed(damage.len() as u64))?;
        if let Some(day) = scrubbed {
            let help = "The start of the day on which a scrub came to its end last.";
            gauge(
                encoder,
                ("last_scrub_timestamp", help, Some(Unit::Seconds)),
                i64::from(*day) * i64::from(DAY),
            )?;
        }
        let blocks = [
            ("reconstructed_blocks", "Blocks that were reconstructed for a reader.", work.reconstructed),
            ("healed_blocks", "Blocks that were rewritten in place.", work.healed),
            ("hedged_reads", "Reads that did not wait for a member that took too long.", work.hedged),
        ];
        for (name, help, count) in blocks {
            counters(encoder, (name, help, None), [(Labels::new(), count)].into_iter())?;
        }
        let bytes = [
            ("users", work.accepted),
            ("records", work.written),
            ("cleaner", work.moved),
            ("metadata", work.metadata),
        ];
        let help =
            "Bytes that users wrote; that records took on members; of these the cleaner's, and metadata.";
        let rows = bytes.into_iter().map(|(what, count)| (vec![("what", what.to_owned())], count));
        counters(encoder, ("written", help, Some(Unit::Bytes)), rows)
    }

    fn members(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let members = || self.status.members.iter().map(|member| (member_labels(member.slot), member));
        let state = |health| match health {
            MemberHealth::Active => "active",
            MemberHealth::Missing => "missing",
            MemberHealth::Out => "out",
            MemberHealth::Failed => "failed",
            MemberHealth::Leaving => "leaving",
            MemberHealth::Spare => "spare",
        };
        let rows = members().map(|(mut labels, member)| {
            labels.push(("path", member.path.display().to_string()));
            labels.push(("state", state(member.health).to_owned()));
            (labels, i64::from(member.health == MemberHealth::Active))
        });
        gauges(encoder, ("member_active", "Whether a member is in use.", None), rows)?;
        let size = members().map(|(labels, member)| (labels, signed(member.size)));
        gauges(encoder, ("member_size", "A member's size.", Some(Unit::Bytes)), size)?;
        let used = members().map(|(labels, member)| (labels, signed(member.used)));
        gauges(encoder, ("member_used", "What is used of it.", Some(Unit::Bytes)), used)?;
        let errors = members().flat_map(|(labels, member)| {
            let kinds = ["read", "write", "flush", "checksum"].into_iter().zip(member.errors);
            kinds.map(move |(kind, count)| {
                let mut labels = labels.clone();
                labels.push(("kind", kind.to_owned()));
                (labels, i64::from(count))
            })
        });
        let help = "Errors charged to a member since they were last cleared.";
        gauges(encoder, ("member_errors", help, None), errors)
    }

    fn volumes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let volumes = || self.status.volumes.iter().map(|volume| (volume_labels(&volume.name), volume));
        let size = volumes().map(|(labels, volume)| (labels, signed(volume.size)));
        gauges(encoder, ("volume_size", "A volume's size.", Some(Unit::Bytes)), size)?;
        let used = volumes().map(|(labels, volume)| (labels, signed(volume.used)));
        gauges(
            encoder,
            ("volume_used", "What is stored of it, as of the last checkpoint.", Some(Unit::Bytes)),
            used,
        )?;
        let help =
            "How many more members may be lost, whichever they are; negative when data is beyond reach.";
        let tolerance = volumes().map(|(labels, volume)| (labels, i64::from(volume.tolerance)));
        gauges(encoder, ("volume_tolerance", help, None), tolerance)
    }

    fn jobs(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels = |kind| {
            let name = match kind {
                JobKind::Rebuild => "rebuild",
                JobKind::Scrub => "scrub",
            };
            vec![("job", name.to_owned())]
        };
        let jobs = || self.status.jobs.iter().map(|job| (labels(job.kind), job));
        let done = jobs().map(|(labels, job)| (labels, signed(job.done)));
        let help = "How far a job is that is under way, paused or interrupted.";
        gauges(encoder, ("job_done", help, Some(Unit::Bytes)), done)?;
        let total = jobs().map(|(labels, job)| (labels, signed(job.total)));
        gauges(encoder, ("job_total", "What it has to do in all, an estimate.", Some(Unit::Bytes)), total)?;
        let running = jobs().map(|(labels, job)| (labels, i64::from(job.running)));
        gauges(encoder, ("job_running", "Whether it is under way.", None), running)
    }
}

fn member_labels(slot: u8) -> Labels {
    vec![("slot", slot.to_string())]
}

fn volume_labels(name: &str) -> Labels {
    vec![("volume", name.to_owned())]
}

fn queue(activity: &Activity) -> i64 {
    signed(Operation::ALL.map(|operation| activity.kind(operation).in_flight).into_iter().sum())
}

/// What each of some had to do: how long it took, how many bytes, how often it failed.
fn operations<'a, I: Iterator<Item = (Labels, &'a Activity)>>(
    encoder: &mut DescriptorEncoder<'_>,
    [duration, moved, errors]: [&'static str; 3],
    rows: impl Fn() -> I,
) -> fmt::Result {
    let each = || {
        rows().flat_map(|(labels, activity)| {
            Operation::ALL.map(|operation| {
                let mut labels = labels.clone();
                labels.push(("operation", operation.name().to_owned()));
                (labels, activity.kind(operation))
            })
        })
    };
    let help = "How long operations took.";
    let mut family =
        encoder.encode_descriptor(duration, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (labels, figures) in each() {
        let mut before = 0;
        let mut buckets: Vec<(f64, u64)> = Vec::new();
        for limit in LIMITS.map(|power| Duration::from_micros(4u64.pow(power))) {
            let within = figures.within(limit);
            buckets.push((limit.as_secs_f64(), within - before));
            before = within;
        }
        buckets.push((f64::INFINITY, figures.done.saturating_sub(before)));
        let sum = figures.time.as_secs_f64();
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, figures.done, &buckets, None)?;
    }
    let bytes = each().map(|(labels, figures)| (labels, figures.bytes));
    counters(encoder, (moved, "Bytes that operations moved.", Some(Unit::Bytes)), bytes)?;
    let failed = each().map(|(labels, figures)| (labels, figures.failed));
    counters(encoder, (errors, "Operations that failed.", None), failed)
}

/// Name, help and unit.
type About = (&'static str, &'static str, Option<Unit>);

fn counters<N: EncodeCounterValue>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): About,
    rows: impl Iterator<Item = (Labels, N)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
    for (labels, count) in rows {
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, N, u64>(&count, None)?;
    }
    Ok(())
}

fn gauges<N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): About,
    rows: impl Iterator<Item = (Labels, N)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
    for (labels, value) in rows {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, about: About, value: i64) -> fmt::Result {
    gauges(encoder, about, [(Labels::new(), value)].into_iter())
}

/// Gauges are signed.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
