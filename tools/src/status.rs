//! `paritas status`

use crate::caller::Caller;
use crate::cli::{self, VolumeArgs};
use crate::names::{SchemeName, show_size};
use crate::outcome::{Exit, Failure, Report};
use paritas::volume::inject::{FaultKind, MILLION};
use paritas::volume::{
    Damage, InjectedFault, JobKind, JobStatus, Loss, MemberHealth, State, Status, VolumeStatus,
};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// What `--json` prints.
#[derive(Serialize)]
struct Document {
    name: String,
    uuid: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    members: Vec<Member>,
    volumes: Vec<Volume>,
    jobs: Vec<Job>,
    /// When the last scrub came to its end: the start of that day, in seconds since 1970.
    scrubbed: Option<u64>,
    damage: Vec<Lost>,
    injected: Vec<Injected>,
    write_amplification: Option<f64>,
    format: String,
}

#[derive(Serialize)]
struct Member {
    slot: u8,
    path: PathBuf,
    uuid: String,
    state: &'static str,
    size: u64,
    used: u64,
    errors: Errors,
}

#[derive(Serialize)]
struct Errors {
    read: u32,
    write: u32,
    flush: u32,
    checksum: u32,
}

#[derive(Serialize)]
pub(crate) struct Volume {
    name: String,
    size: u64,
    used: u64,
    scheme: String,
    tolerance: i16,
}

#[derive(Serialize)]
struct Job {
    kind: &'static str,
    done: u64,
    total: u64,
    /// `running`, `paused` or `interrupted`.
    state: &'static str,
    /// In bytes per second.
    limit: Option<u64>,
}

#[derive(Serialize)]
pub(crate) struct Lost {
    volume: String,
    offset: u64,
    length: u64,
    time: u64,
    /// Lost writes whose ranges are unknown: the first one's number, and how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    writes: Option<(u64, u64)>,
}

/// A fault that strikes a member on purpose.
#[derive(Serialize)]
pub(crate) struct Injected {
    slot: u8,
    path: PathBuf,
    kind: &'static str,
    /// The first byte, and how many; `None` for all.
    offset: Option<u64>,
    length: Option<u64>,
    /// Of the operations that it can strike, the part that it does.
    chance: f64,
    /// How often at most.
    count: Option<u64>,
    /// In seconds.
    delay: Option<f64>,
}

pub(crate) fn run(args: &cli::Status, caller: &Caller) -> Result<Report, Failure> {
    let status = look(args, caller)?;
    let exit = exit(&status);
    let text = text(&status);
    Ok(Report { exit, json: document(status)?, text })
}

/// How an array is, as an exit code.
pub(crate) fn exit(status: &Status) -> Exit {
    match status.state {
        State::Healthy => Exit::Done,
        State::Degraded => Exit::Reduced,
        State::Damaged | State::Failed => Exit::Lost,
    }
}

/// Looks at an array, and says what was left alone.
pub(crate) fn look(args: &cli::Status, caller: &Caller) -> Result<Status, Failure> {
    let status = match caller {
        Caller::Here => Status::of(&args.array, args.choice.name.as_deref()),
        Caller::Elsewhere(remote) => remote.array().status(),
    };
    let status = status.map_err(|error| Failure::opening(&error))?;
    status.notes.iter().for_each(|note| caller.say(note));
    Ok(status)
}

/// What a question names: the array as it is, if it can be looked at, without a word about what was left alone. Writes
/// nothing.
pub(crate) fn glance(place: &Path, name: Option<&str>, caller: &Caller) -> Option<Status> {
    match caller {
        Caller::Here => Status::of(place, name).ok(),
        Caller::Elsewhere(remote) => remote.array().status().ok(),
    }
}

/// A volume as a question names it, and how large it is. Not how much of it is used: that may be old.
pub(crate) fn glance_at_volume(args: &VolumeArgs, caller: &Caller) -> Option<(String, u64)> {
    let status = glance(&args.volume.array, args.choice.name.as_deref(), caller)?;
    let volume = status.volumes.into_iter().find(|volume| volume.name == args.volume.volume)?;
    let size = show_size(volume.size);
    Some((format!("volume '{}' of array '{}' ({size})", volume.name, status.name), volume.size))
}

/// The volumes for `--json`.
pub(crate) fn volumes(volumes: &[VolumeStatus]) -> Vec<Volume> {
    let volume = |volume: &VolumeStatus| Volume {
        name: volume.name.clone(),
        size: volume.size,
        used: volume.used,
        scheme: SchemeName::spell(volume.scheme),
        tolerance: volume.tolerance,
    };
    volumes.iter().map(volume).collect()
}

/// All of it, for `--json`.
pub(crate) fn document(status: Status) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(document_of(status)).map_err(|error| Failure::io(error.to_string()))
}

fn document_of(status: Status) -> Document {
    let members = status.members.iter().map(|member| {
        let [read, write, flush, checksum] = member.errors;
        Member {
            slot: member.slot,
            path: member.path.clone(),
            uuid: member.uuid.to_string(),
            state: health_name(member.health),
            size: member.size,
            used: member.used,
            errors: Errors { read, write, flush, checksum },
        }
    });
    let write_amplification = status.write_amplification();
    Document {
        uuid: status.uuid.to_string(),
        state: state_name(status.state),
        error: status.error.as_ref().map(ToString::to_string),
        members: members.collect(),
        volumes: volumes(&status.volumes),
        jobs: status.jobs.iter().map(job).collect(),
        scrubbed: status.scrubbed.map(|day| u64::from(day) * DAY),
        damage: status.damage.into_iter().map(lost).collect(),
        injected: status.injected.iter().map(injected).collect(),
        write_amplification,
        name: status.name,
        format: status.format,
    }
}

fn job(job: &JobStatus) -> Job {
    Job {
        kind: job_name(job.kind),
        done: job.done,
        total: job.total,
        state: job_state(job),
        limit: job.limit,
    }
}

fn job_state(job: &JobStatus) -> &'static str {
    match (job.running, job.paused) {
        (true, _) => "running",
        (false, true) => "paused",
        (false, false) => "interrupted",
    }
}

pub(crate) fn job_name(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Rebuild => "rebuild",
        JobKind::Scrub => "scrub",
    }
}

pub(crate) fn lost(damage: Damage) -> Lost {
    let (offset, length, writes) = match damage.loss {
        Loss::Range { offset, length } => (offset, length, None),
        Loss::Writes { first, count } => (0, 0, Some((first, count))),
    };
    Lost { volume: damage.volume, offset, length, time: damage.time, writes }
}

/// A fault for `--json`.
pub(crate) fn injected(injected: &InjectedFault) -> Injected {
    let InjectedFault { slot, path, fault, .. } = injected;
    let delay = match fault.kind {
        FaultKind::Slow(delay) => Some(delay.as_secs_f64()),
        _ => None,
    };
    Injected {
        slot: *slot,
        path: path.clone(),
        kind: fault.kind.name(),
        offset: fault.range.map(|range| range.offset),
        length: fault.range.map(|range| range.len),
        chance: f64::from(fault.per_million) / f64::from(MILLION),
        count: fault.count,
        delay,
    }
}

/// A fault for people.
pub(crate) fn describe_injected(injected: &InjectedFault) -> String {
    format!("member {} ({}): {}", injected.slot, injected.path.display(), injected.fault)
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Healthy => "healthy",
        State::Degraded => "degraded",
        State::Damaged => "damaged",
        State::Failed => "failed",
    }
}

fn health_name(health: MemberHealth) -> &'static str {
    match health {
        MemberHealth::Active => "active",
        MemberHealth::Missing => "missing",
        MemberHealth::Out => "out",
        MemberHealth::Failed => "failed",
        MemberHealth::Leaving => "leaving",
        MemberHealth::Spare => "spare",
    }
}

fn text(status: &Status) -> String {
    let mut lines = vec![format!(
        "array '{}' ({}), format {}: {}",
        status.name,
        status.uuid,
        status.format,
        state_name(status.state)
    )];
    lines.extend(status.error.as_ref().map(|error| format!("  cannot be read: {error}")));
    lines.push("members".into());
    for member in &status.members {
        let (size, used) = (show_size(member.size), show_size(member.used));
        let mut line = format!("  {:>3}  {:<8}", member.slot, health_name(member.health));
        write!(line, "{size:>11} {used:>11} used  {}", member.path.display())
            .expect("a string takes everything");
        for (count, what) in member.errors.iter().zip(["read", "write", "flush", "checksum"]) {
            if *count > 0 {
                write!(line, ", {count} {what} errors").expect("a string takes everything");
            }
        }
        lines.push(line);
    }
    lines.push("volumes".into());
    for volume in &status.volumes {
        lines.push(format!(
            "  {:<16} {:>11} {:>11} used  {}, {}",
            volume.name,
            show_size(volume.size),
            show_size(volume.used),
            SchemeName::spell(volume.scheme),
            match volume.tolerance {
                ..0 => "some of it is out of reach".into(),
                0 => "no more member may be lost".into(),
                1 => "any 1 more member may be lost".into(),
                more => format!("any {more} more members may be lost"),
            }
        ));
    }
    for job in &status.jobs {
        let (done, total) = (show_size(job.done), show_size(job.total));
        let mut line = format!("{}: {done} of {total} done, {}", job_name(job.kind), job_state(job));
        if let Some(limit) = job.limit {
            write!(line, ", {} a second at most", show_size(limit)).expect("a string takes everything");
        }
        lines.push(line);
    }
    lines.push(match status.scrubbed.map(|day| today().saturating_sub(day)) {
        None => "never scrubbed".into(),
        Some(0) => "last scrub: today".into(),
        Some(1) => "last scrub: yesterday".into(),
        Some(days) => format!("last scrub: {days} days ago"),
    });
    if !status.damage.is_empty() {
        lines.push("damage".into());
    }
    lines.extend(status.damage.iter().map(|damage| format!("  {}", describe(damage))));
    if !status.injected.is_empty() {
        lines.push("injected on purpose".into());
    }
    lines.extend(status.injected.iter().map(|fault| format!("  {}", describe_injected(fault))));
    lines.join("\n")
}

/// The day, counted as that of the last scrub is.
pub(crate) fn today() -> u16 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u16::try_from(since.as_secs() / DAY).unwrap_or(u16::MAX)
}

/// An entry of the damage list in words.
pub(crate) fn describe(damage: &Damage) -> String {
    match damage.loss {
        Loss::Range { offset, length } => format!("{}: {length} bytes at {offset} are lost", damage.volume),
        Loss::Writes { first, count } => {
            format!("{}: at least {count} writes from number {first} on are lost, or may be", damage.volume)
        }
    }
}
