//! `paritas bench`: the engine beside plain I/O of the same kind, size and depth, on the same files, in the same run.
//!
//! The members are written full once. Then all plain jobs run on them, then an array is made of them, and the same
//! jobs run on two volumes: one is written once, in order, and read; the other takes small writes at random.
//! A job ends by time or by its share of the room (the one in order by its share alone), and what it wrote is
//! flushed before its clock stops. At last as many members as the scheme tolerates are lost, and rebuilt.

mod busy;
mod engine;
pub(crate) mod load;
mod place;
mod plain;
mod table;

use crate::cli;
use crate::names::SchemeName;
use crate::outcome::{Failure, Report};
use crate::progress;
use busy::Busy;
use bytes::Bytes;
use indicatif::ProgressBar;
use load::{Job, Measured, Meter, Verb};
use paritas::types::{BLOCK_U64, Scheme};
use paritas::volume::{Array, CreateOptions, OpenOptions, Pace, Upkeep};
use place::Place;
use plain::Plain;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use table::{Figures, Row};

/// Members when none are given and the scheme needs no more.
const MEMBERS: usize = 10;
/// The scheme unless the user names one.
const SCHEME: &str = "8+2";
/// Bytes of the data that is written: larger than the caches of most machines.
const NOISE: usize = 64 << 20;
/// Bytes of a large operation.
const LARGE: usize = 1 << 20;
/// Bytes of a small operation.
const SMALL: usize = 4096;
pub(crate) fn run(args: &cli::Bench) -> Result<Report, Failure> {
    let count = if args.members.is_empty() { MEMBERS } else { args.members.len() };
    let scheme = args.scheme.map_or_else(|| SCHEME.parse(), Ok).map_err(Failure::usage)?.on(count);
    let place = match args.members.is_empty() {
        true => Place::in_memory(count.max(scheme.width().into()), args.size)?,
        false => Place::given(&args.members, args.size)?,
    };
    load::catch_interrupts()?;
    let figures = measure(&place, scheme, args)?;
    let text = figures.text();
    let json = serde_json::to_value(figures).map_err(|error| Failure::io(error.to_string()))?;
    Ok(Report::done(json, text))
}

fn measure(place: &Place, scheme: Scheme, args: &cli::Bench) -> Result<Figures, Failure> {
    let (started, busy) = (Instant::now(), Busy::now());
    let mut restore = place.remember()?;
    let options = CreateOptions {
        name: Some("bench".into()),
        scheme: Some(scheme),
        size: Some(place.size),
        ..CreateOptions::default()
    };
    // Refuses what is not blank, or no members at all, before anything is written.
    let array = Array::create(&place.members, &options)?;
    restore.arm();
    let sizes: Vec<u64> = array.status()?.members.iter().map(|member| member.size).collect();
    array.close()?;
    drop(array);
    let shares = Shares::of(scheme, &sizes);
    let mut plans = shares.plans(args.seconds);
    plans.retain(|plan| args.only.as_ref().is_none_or(|part| plan.name.contains(part.as_str())));
    let noise = load::noise(NOISE).freeze();

    let mut plain = Plain::open(&place.members, noise.clone())?;
    plain.fill(&sizes)?;
    let direct = plain.is_direct();
    let bar = progress::count("measuring", Some(2 * plans.len() as u64));
    let mut base = Vec::with_capacity(plans.len());
    for plan in &plans {
        // The engine writes no more than its share of the room; plain I/O takes its time.
        let job = Job { bytes: u64::MAX / 2, time: args.seconds, ..plan.job };
        base.push(match plan.name {
            Plan::REBUILD => plain.run_mixed(job, |turn| copying(scheme, turn))?,
            _ => plain.run(job)?,
        });
        bar.inc(1);
    }
    drop(plain);

    let array = Array::create(&place.members, &CreateOptions { force: true, ..options })?;
    let mut bench = Bench { scheme, noise, bar, rows: Vec::new() };
    array.create_volume(Target::Ordered.name(), shares.ordered, None)?;
    array.create_volume(Target::Random.name(), shares.random, None)?;
    let healthy = plans.iter().zip(&base).filter(|(plan, _)| !plan.degraded);
    if plans.iter().all(|plan| plan.name != Plan::FILL) {
        engine::run(&array.volume(Target::Ordered.name())?, shares.fill(), &bench.noise)?;
    }
    for (plan, plain) in healthy {
        bench.row(&array, plan, plain)?;
    }
    array.close()?;
    drop(array);
    let mut left_out = Vec::new();
    let degraded: Vec<_> = plans.iter().zip(&base).filter(|(plan, _)| plan.degraded).collect();
    let lost = usize::from(scheme.m());
    if !degraded.is_empty() && lost == 0 {
        left_out.push("degraded: the scheme has no redundancy".into());
    } else if !degraded.is_empty() && !place.lose(lost)? {
        left_out.push("degraded: only members that are files can be taken away".into());
    } else if !degraded.is_empty() {
        let last: &PathBuf = place.members.last().expect("as many as the scheme has columns");
        // Nothing is rebuilt before its row.
        let options = OpenOptions { upkeep: Upkeep::OnDemand, ..OpenOptions::default() };
        let array = Array::open(last, &options)?;
        for (plan, plain) in degraded {
            match plan.name {
                Plan::REBUILD => {
                    place.renew(&sizes[..lost])?;
                    bench.rebuild(&array, &place.members[..lost], plan, plain)?;
                }
                _ => bench.row(&array, plan, plain)?,
            }
        }
        array.close()?;
    }
    bench.bar.finish_and_clear();
    Ok(Figures {
        scheme: SchemeName::spell(scheme),
        members: place.members.len(),
        member_size: sizes.iter().min().copied().unwrap_or(0),
        place: place.name.clone(),
        direct,
        seconds: started.elapsed().as_secs_f64(),
        others_busy: busy.others(),
        rows: bench.rows,
        left_out,
    })
}

/// A volume of the measurement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// Written once, in order; then read.
    Ordered,
    /// Takes small writes.
    Random,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Ordered => "ordered",
            Target::Random => "random",
        }
    }
}

/// A row of the table.
struct Plan {
    name: &'static str,
    job: Job,
    target: Target,
    /// Whether as many members are gone by then as the scheme tolerates.
    degraded: bool,
}

impl Plan {
    /// The row that writes what others read.
    const FILL: &'static str = "sequential write";
    /// The row that gives lost members back what they held.
    const REBUILD: &'static str = "rebuild";
}

/// The bytes that jobs may write, all together three quarters of the room.
struct Shares {
    ordered: u64,
    random: u64,
    flushed: u64,
}

impl Shares {
    fn of(scheme: Scheme, sizes: &[u64]) -> Shares {
        let least = sizes.iter().min().copied().unwrap_or(0);
        let raw = least * sizes.len() as u64 / 10 * 9;
        let (k, width) = (u64::from(scheme.k()), u64::from(scheme.width()));
        Shares {
            ordered: (raw * 3 / 10 / width * k) >> 20 << 20,
            random: raw / 4 / width * k / BLOCK_U64 * BLOCK_U64,
            // A flushed block takes a row of its own, with a header.
            flushed: raw / 5 / (2 * width),
        }
    }

    /// Takes its time: what is read later must have been written.
    fn fill(&self) -> Job {
        let (span, bytes) = (self.ordered, self.ordered);
        Job { verb: Verb::Write, random: false, size: LARGE, depth: 8, span, time: Duration::MAX, bytes }
    }

    /// All rows, in the order in which they are measured.
    fn plans(&self, time: Duration) -> Vec<Plan> {
        let fill = self.fill();
        let read = Job { verb: Verb::Read, bytes: u64::MAX / 2, time, ..fill };
        let random_read = Job { random: true, size: SMALL, depth: 32, ..read };
        let random_write = Job { verb: Verb::Write, span: self.random, bytes: self.random, ..random_read };
        let flushed = Job { verb: Verb::FlushedWrite, depth: 1, bytes: self.flushed, ..random_write };
        let plan = |name, job, target, degraded| Plan { name, job, target, degraded };
        vec![
            plan(Plan::FILL, fill, Target::Ordered, false),
            plan("sequential read", read, Target::Ordered, false),
            plan("random read", random_read, Target::Ordered, false),
            plan("random write", random_write, Target::Random, false),
            plan("flushed write", flushed, Target::Random, false),
            plan("degraded sequential read", read, Target::Ordered, true),
            plan("degraded random read", random_read, Target::Ordered, true),
            plan(Plan::REBUILD, Job { time, ..fill }, Target::Ordered, true),
        ]
    }
}

/// A plain copy of what a rebuild moves: k columns are read for each m that are written.
fn copying(scheme: Scheme, turn: u64) -> Verb {
    if turn % u64::from(scheme.width()) < u64::from(scheme.k()) { Verb::Read } else { Verb::Write }
}

struct Bench {
    scheme: Scheme,
    noise: Bytes,
    bar: ProgressBar,
    rows: Vec<Row>,
}

impl Bench {
    /// Runs a job on its volume and sets it beside what plain I/O reached.
    fn row(&mut self, array: &Array, plan: &Plan, plain: &Measured) -> Result<(), Failure> {
        let volume = array.volume(plan.target.name())?;
        let before = array.status()?.work;
        let (engine, ran_full) = engine::run(&volume, plan.job, &self.noise)?;
        let after = array.status()?.work;
        self.bar.inc(1);
        let (written, accepted) = (after.written - before.written, after.accepted - before.accepted);
        let ratio = match plan.job.verb {
            Verb::Write if !plan.job.random => {
                let (k, width) = (f64::from(self.scheme.k()), f64::from(self.scheme.width()));
                engine.bytes_per_second * width / k / plain.bytes_per_second
            }
            _ => engine.operations_per_second / plain.operations_per_second,
        };
        #[allow(clippy::cast_precision_loss)] // Figures for people.
        let written_per_byte = (accepted > 0).then(|| written as f64 / accepted as f64);
        self.rows.push(Row {
            name: plan.name,
            operation_size: plan.job.size,
            depth: plan.job.depth,
            engine,
            plain: plain.clone(),
            ratio,
            written_per_byte,
            ran_full,
        });
        Ok(())
    }

    /// Replaces members that are gone by blank ones, rebuilds what they held, and sets it beside a plain copy.
    fn rebuild(
        &mut self,
        array: &Array,
        lost: &[PathBuf],
        plan: &Plan,
        plain: &Measured,
    ) -> Result<(), Failure> {
        for path in lost {
            array.replace_member(array.member(path)?, path, false)?;
        }
        let mut meter = Meter::start();
        let done = array.rebuild(Pace::default())?;
        if done.missing + done.lost > 0 {
            return Err(Failure::lost("the rebuild is incomplete"));
        }
        meter.moved(done.read + done.written, plan.job.size);
        let engine = meter.finish();
        self.bar.inc(1);
        self.rows.push(Row {
            name: plan.name,
            operation_size: plan.job.size,
            depth: plan.job.depth,
            ratio: engine.bytes_per_second / plain.bytes_per_second,
            engine,
            plain: plain.clone(),
            written_per_byte: None,
            ran_full: false,
        });
        Ok(())
    }
}
