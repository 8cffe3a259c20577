//! How an array is: what `status` tells, of an open one or of one that is only looked at.

use super::Shard;
use super::discover::{Discovery, Patience, Seen, discover};
use crate::commit::{Core, OpenOptions, Reins};
use crate::device::Device;
use crate::device::inject::{Fault, Injection, Injector};
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{Job, JobKind, MAJOR, MINOR, MemberRecord, MemberState, Superblock};
use crate::format::tables::{DamageCause, DamageRecord};
use crate::layout::Geometry;
use crate::limits::RING_BYTES;
use crate::map::Catalog;
use crate::pool::Candidate;
use crate::runtime::Env;
use crate::types::{BLOCK_U64, Scheme, Slot, Uuid};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often an array that somebody writes meanwhile is looked at before what it says is believed, and how long, three
/// times at least.
const LOOKS: usize = 32;
const LOOK_TIME: Duration = Duration::from_secs(5);

/// How an array is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    /// Every member is in full use and all data has its full redundancy.
    Healthy,
    /// Everything can be read and written, but some data has less redundancy than its scheme.
    Degraded,
    /// Some data is lost; all else is served.
    Damaged,
    /// The array cannot be written, or not even be read.
    Failed,
}

/// How a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberHealth {
    /// It is in use.
    Active,
    /// It is not there.
    Missing,
    /// It is there, but missed writes.
    Out,
    /// It was taken out for good.
    Failed,
    /// It was replaced; what it held is being rebuilt elsewhere.
    Leaving,
    /// It waits to take the place of another.
    Spare,
}

/// A member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberStatus {
    /// Its place in the member table.
    pub slot: u8,
    /// Where it is, or where it was when it was last in use.
    pub path: PathBuf,
    /// Its identity.
    pub uuid: Uuid,
    /// How it is.
    pub health: MemberHealth,
    /// Its bytes.
    pub size: u64,
    /// Bytes of its chunks that hold something.
    pub used: u64,
    /// Errors charged to it: read, write, flush, checksum.
    pub errors: [u32; 4],
}

impl MemberStatus {
    fn is_in_full_use(&self) -> bool {
        matches!(self.health, MemberHealth::Active | MemberHealth::Spare)
    }
}

/// A volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Bytes of it that take space, as of the last checkpoint.
    pub used: u64,
    /// Its scheme.
    pub scheme: Scheme,
    /// How many more members may be lost, whichever they are. Negative when data is beyond reach already.
    pub tolerance: i16,
}

/// What was lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Bytes of the volume.
    Range {
        /// The first lost byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Writes, trims and resizes that no map had yet; what they covered is unknown.
    Writes {
        /// The number of the first one.
        first: u64,
        /// How many.
        count: u64,
    },
}

/// An entry of the damage list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The volume's name.
    pub volume: String,
    /// What was lost.
    pub loss: Loss,
    /// When, in seconds since 1970.
    pub time: u64,
}

/// What redundancy did since the array was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Blocks that were reconstructed for a reader.
    pub reconstructed: u64,
    /// Reads that did not wait for a member that took too long.
    pub hedged: u64,
    /// Blocks that were rewritten in place.
    pub healed: u64,
    /// Bytes that users wrote.
    pub accepted: u64,
    /// Bytes that records took on the members.
    pub written: u64,
    /// Those of them by which the cleaner moved blocks.
    pub moved: u64,
    /// Those of them that hold maps and tables.
    pub metadata: u64,
}

/// A long job, under way or interrupted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JobStatus {
    /// What it does.
    pub kind: JobKind,
    /// Bytes of members that are done.
    pub done: u64,
    /// Bytes of members in all, an estimate.
    pub total: u64,
    /// Whether it is under way.
    pub running: bool,
    /// Whether it waits until somebody asks for it again.
    pub paused: bool,
    /// Bytes per second at most, if somebody limits it.
    pub limit: Option<u64>,
}

/// A fault that strikes a member on purpose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InjectedFault {
    /// The member's place in the member table.
    pub slot: u8,
    /// Where the member is.
    pub path: PathBuf,
    /// The fault.
    pub fault: Fault,
    /// Operations that it has struck since the array was opened.
    pub struck: u64,
}

/// How an array is.
#[derive(Clone, PartialEq, Debug)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uuid: Uuid,
    /// The worst of what follows.
    pub state: State,
    /// Why the array cannot be read, if it cannot.
    pub error: Option<Error>,
    /// The member table.
    pub members: Vec<MemberStatus>,
    /// The volumes.
    pub volumes: Vec<VolumeStatus>,
    /// Jobs under way or interrupted.
    pub jobs: Vec<JobStatus>,
    /// The day on which a scrub came to its end last, in days since 1970-01-01.
    pub scrubbed: Option<u16>,
    /// What is lost.
    pub damage: Vec<Damage>,
    /// What goes wrong on purpose.
    pub injected: Vec<InjectedFault>,
    /// What redundancy did.
    pub work: Work,
    /// The format's version.
    pub format: String,
    /// What was left alone and why, and which members are missing.
    pub notes: Vec<String>,
}

impl Status {
    /// Looks at the array that `place` names (see [`super::Array::open`]) without claiming or writing
    /// anything. An array that cannot be read is [`State::Failed`] and says why. Faults that are injected on purpose
    /// do not strike who only looks; a member that is gone on purpose is missing all the same.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none, [`Kind::Refused`] where several are and no name chooses, and for
    /// injected faults that cannot be read.
    pub fn of(place: impl AsRef<Path>, name: Option<&str>) -> Result<Status> {
        let (driver, _ring, env) = super::engine::start()?;
        let (place, name) = (place.as_ref().to_owned(), name.map(str::to_owned));
        let looked = driver.spawn_ticket(async move { look(env, &place, name.as_deref()).await });
        super::engine::settle(looked.wait())
    }

    /// Whether no gap in the log can have made it worse than it is: all is well, or members are out of use and
    /// nothing is said of damage.
    fn is_certain(&self) -> bool {
        match self.state {
            State::Healthy => true,
            State::Degraded => !self.members.iter().all(MemberStatus::is_in_full_use),
            State::Damaged | State::Failed => false,
        }
    }

    /// Bytes written to members per byte that users wrote; `None` while nothing was written.
    pub fn write_amplification(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss)] // A ratio for people: 53 bits are plenty.
        let ratio = |written: u64, accepted: u64| written as f64 / accepted as f64;
        (self.work.accepted > 0).then(|| ratio(self.work.written, self.work.accepted))
    }
}

/// Somebody may write the array meanwhile. Then what the superblock pointed to may be gone, and the log that is read
/// record by record seems to have gaps that it never had: what is bad is believed only of an array that has not changed
/// since the look before, or when it is found again and again.
async fn look(env: Env, place: &Path, name: Option<&str>) -> Result<Status> {
    let begun = env.clock.monotonic();
    let mut before = None;
    let mut best: Option<Status> = None;
    for looks in 1.. {
        let found = discover(place, name, Patience::usual(&env)).await?;
        found.check_faults()?;
        let commit = (found.newest.epoch, found.newest.commit);
        let options = OpenOptions { read_only: true, array: Some(found.array), ..OpenOptions::default() };
        let present = Present::of(&found, &env);
        let readers = found.readers().into_iter().map(|(_, reader)| reader).collect();
        let (status, seen) = match Shard::open(env.clone(), readers, options).await {
            Ok((shard, _)) => {
                let next = shard.core().next_sequence();
                (status(shard.core(), &present, found.notes), (commit, Some(next)))
            }
            Err(error) if error.kind() == Kind::Refused => {
                return Ok(unreadable(&found.newest, &present, found.notes, error));
            }
            Err(error) => (unreadable(&found.newest, &present, found.notes, error), (commit, None)),
        };
        if status.is_certain() || before == Some(seen) {
            return Ok(status);
        }
        before = Some(seen);
        let is_worse = best.as_ref().is_some_and(|best| best.state < status.state);
        best = if is_worse { best } else { Some(status) };
        if looks >= LOOKS || (looks > 2 && env.clock.monotonic() - begun > LOOK_TIME) {
            break;
        }
    }
    Ok(best.expect("looked at least once"))
}

/// Where each member is, how large, and what strikes it on purpose, by slot.
pub(super) struct Present(Vec<Option<There>>);

struct There {
    /// And its bytes.
    path: (PathBuf, u64),
    injector: Injector,
    /// It is there and passes for gone: so it was asked for.
    is_gone: bool,
}

impl There {
    fn new(path: PathBuf, size: u64, env: &Env) -> There {
        There { path: (path, size), injector: Injector::new(env), is_gone: false }
    }

    fn of(seen: &Seen, env: &Env) -> There {
        let there = There::new(seen.path.clone(), seen.device.len(), env);
        seen.faults().iter().for_each(|fault| there.injector.inject(*fault));
        there
    }
}

impl Present {
    pub(super) fn of(found: &Discovery, env: &Env) -> Present {
        let members = found.members.iter();
        let mut there: Vec<Option<There>> =
            members.map(|seen| seen.as_ref().map(|seen| There::of(seen, env))).collect();
        for (slot, seen) in &found.gone {
            there[usize::from(slot.0)] = Some(There { is_gone: true, ..There::of(seen, env) });
        }
        Present(there)
    }

    /// A member has joined.
    pub(super) fn join(&mut self, slot: Slot, path: PathBuf, size: u64, injector: Injector) {
        let at = usize::from(slot.0);
        if self.0.len() <= at {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at] = Some(There { path: (path, size), injector, is_gone: false });
    }

    /// Where the member in a slot is, and its bytes.
    pub(super) fn at(&self, slot: Slot) -> Option<&(PathBuf, u64)> {
        self.there(slot).filter(|there| !there.is_gone).map(|there| &there.path)
    }

    /// Where the member in a slot is, and its bytes, also if it passes for gone.
    pub(super) fn found(&self, slot: Slot) -> Option<&(PathBuf, u64)> {
        self.there(slot).map(|there| &there.path)
    }

    fn there(&self, slot: Slot) -> Option<&There> {
        self.0.get(usize::from(slot.0))?.as_ref()
    }

    /// Of an array that was just made.
    pub(super) fn all(members: impl Iterator<Item = (PathBuf, u64)>, env: &Env) -> Present {
        Present(members.map(|(path, size)| Some(There::new(path, size, env))).collect())
    }

    /// Of an array whose members are not discovered, but known by path, with their bytes.
    pub(super) fn known(members: &[MemberRecord], paths: &BTreeMap<String, u64>, env: &Env) -> Present {
        let there = |record: &MemberRecord| {
            let is_member = record.state != MemberState::Removed;
            let size = paths.get(&record.path).filter(|_| is_member)?;
            Some(There::new(record.path.clone().into(), *size, env))
        };
        Present(members.iter().map(there).collect())
    }

    /// What may strike the member in a slot on purpose.
    pub(super) fn injector(&self, slot: Slot) -> Option<&Injector> {
        self.there(slot).map(|there| &there.injector)
    }

    /// The members under what may strike them on purpose.
    pub(super) fn exposed(&self, members: Vec<(Slot, Candidate)>) -> Vec<Candidate> {
        let expose = |(slot, member): (Slot, Candidate)| match self.injector(slot) {
            Some(injector) => Candidate { device: Arc::new(injector.over(member.device)), path: member.path },
            None => member,
        };
        members.into_iter().map(expose).collect()
    }

    /// What strikes members on purpose.
    pub(super) fn injected(&self) -> Vec<InjectedFault> {
        let slots = (0..=u8::MAX).zip(&self.0).filter_map(|(slot, there)| Some((slot, there.as_ref()?)));
        let all = slots.flat_map(|(slot, there)| {
            let fault = move |Injection { fault, struck }| InjectedFault {
                slot,
                path: there.path.0.clone(),
                fault,
                struck,
            };
            there.injector.list().into_iter().map(fault)
        });
        all.collect()
    }
}

/// The status of an open array. For tasks of its shard.
pub(super) fn status(core: &Core, present: &Present, notes: Vec<String>) -> Status {
    let superblock = core.stripes().pool.superblock();
    let mut members = members(&superblock, present);
    let chunk = Geometry { chunk_blocks: superblock.chunk_blocks }.chunk_bytes();
    for member in &mut members {
        let chunks = core.stripes().space.with(|space| space.used_chunks(Slot(member.slot)));
        member.used = u64::from(chunks) * chunk;
    }
    let missing = missing(core);
    let volumes = volumes(core, &missing);
    let damage = damage(core);
    let state = judge(core, &missing, members.iter().all(MemberStatus::is_in_full_use));
    let counters = core.stripes().counters();
    let under_way = core.job_under_way();
    let jobs = superblock.jobs.iter().map(|job| job_status(job, under_way, core.reins(job.kind)));
    Status {
        state,
        jobs: jobs.collect(),
        error: None,
        members,
        volumes,
        damage,
        work: Work {
            reconstructed: counters.reconstructed,
            hedged: counters.hedged,
            healed: counters.healed,
            accepted: core.progress().accepted,
            written: counters.written,
            moved: counters.moved,
            metadata: counters.metadata,
        },
        ..blank(&superblock, present, notes)
    }
}

fn judge(core: &Core, missing: &[Missing], all_in_full_use: bool) -> State {
    let is_damaged = core.catalog().with(|catalog| catalog.damage.values().next().is_some());
    if !core.stripes().pool.is_writable() {
        State::Failed
    } else if is_damaged || missing.iter().any(|part| part.columns > part.m) {
        State::Damaged
    } else if !all_in_full_use || missing.iter().any(|part| part.columns > 0) {
        State::Degraded
    } else {
        State::Healthy
    }
}

/// The state of an open array as the core alone knows it, for the simulator.
pub(crate) fn condition(core: &Core) -> State {
    let members = core.stripes().pool.superblock().members;
    let in_full_use =
        |state| matches!(state, MemberState::Active | MemberState::Spare | MemberState::Removed);
    judge(core, &missing(core), members.iter().all(|record| in_full_use(record.state)))
}

fn unreadable(newest: &Superblock, present: &Present, notes: Vec<String>, error: Error) -> Status {
    Status { error: Some(error), members: members(newest, present), ..blank(newest, present, notes) }
}

fn blank(superblock: &Superblock, present: &Present, notes: Vec<String>) -> Status {
    Status {
        name: superblock.name.clone(),
        uuid: superblock.array,
        state: State::Failed,
        error: None,
        members: Vec::new(),
        volumes: Vec::new(),
        jobs: superblock.jobs.iter().map(|job| job_status(job, None, Reins::default())).collect(),
        scrubbed: Some(superblock.scrubbed).filter(|day| *day > 0),
        damage: Vec::new(),
        injected: present.injected(),
        work: Work::default(),
        format: format!("{MAJOR}.{MINOR}"),
        notes,
    }
}

fn members(superblock: &Superblock, present: &Present) -> Vec<MemberStatus> {
    let chunk = Geometry { chunk_blocks: superblock.chunk_blocks }.chunk_bytes();
    let member = |slot: u8, record: &MemberRecord, found: Option<&(PathBuf, u64)>| {
        let health = match (record.state, found) {
            (MemberState::Removed, _) => return None,
            (MemberState::Failed, _) => MemberHealth::Failed,
            (MemberState::Leaving, _) => MemberHealth::Leaving,
            (_, None) => MemberHealth::Missing,
            (MemberState::Active, Some(_)) => MemberHealth::Active,
            (MemberState::Out, Some(_)) => MemberHealth::Out,
            (MemberState::Spare, Some(_)) => MemberHealth::Spare,
        };
        let (path, size) = found.cloned().unwrap_or_else(|| {
            (PathBuf::from(&record.path), u64::from(record.chunks) * chunk + 2 * RING_BYTES)
        });
        Some(MemberStatus { slot, path, uuid: record.uuid, health, size, used: 0, errors: record.errors })
    };
    let slots = (0..=u8::MAX).zip(&superblock.members);
    slots.filter_map(|(slot, record)| member(slot, record, present.at(Slot(slot)))).collect()
}

fn job_status(job: &Job, under_way: Option<JobKind>, reins: Reins) -> JobStatus {
    let Job { kind, done, total, .. } = *job;
    JobStatus {
        kind,
        done,
        total,
        running: under_way == Some(kind),
        paused: reins.paused,
        limit: reins.limit,
    }
}

/// Segments of one m: the most columns that one of them lacks.
struct Missing {
    m: u8,
    is_metadata: bool,
    columns: u8,
}

fn missing(core: &Core) -> Vec<Missing> {
    let active: Vec<Slot> = core.stripes().pool.active().into_iter().map(|(slot, _)| slot).collect();
    let strongest = core.stripes().pool.meta_scheme().m();
    core.stripes().space.with(|space| {
        let mut found: Vec<Missing> = Vec::new();
        for (_, segment) in space.iter().filter(|(_, segment)| segment.live > 0 || segment.pending > 0) {
            let there = |column| segment.column(column).is_some_and(|at| active.contains(&at.slot));
            let there = segment.scheme.columns().filter(|column| there(*column)).count();
            let columns = segment.scheme.width() - u8::try_from(there).expect("at most the width");
            let m = segment.scheme.m();
            // The table does not say what a segment holds: one as strong as metadata may hold some.
            let is_metadata = !segment.purpose.is_log() || m >= strongest;
            match found.iter_mut().find(|part| part.m == m && part.is_metadata == is_metadata) {
                Some(part) => part.columns = part.columns.max(columns),
                None => found.push(Missing { m, is_metadata, columns }),
            }
        }
        found
    })
}

fn volumes(core: &Core, missing: &[Missing]) -> Vec<VolumeStatus> {
    core.catalog().with(|catalog| {
        let volumes = catalog.iter().filter(|(_, volume)| !volume.deleted);
        let status = volumes.map(|(_, volume)| {
            let m = volume.scheme.m();
            let parts = missing.iter().filter(|part| part.is_metadata || part.m == m);
            let left = parts.map(|part| i16::from(part.m) - i16::from(part.columns));
            VolumeStatus {
                name: volume.name.clone(),
                size: volume.blocks * BLOCK_U64,
                used: volume.used * BLOCK_U64,
                scheme: volume.scheme,
                tolerance: left.min().unwrap_or(i16::from(m)).min(i16::from(m)),
            }
        });
        status.collect()
    })
}

fn damage(core: &Core) -> Vec<Damage> {
    core.catalog().with(|catalog| catalog.damage.values().map(|record| entry(catalog, record)).collect())
}

/// What was acknowledged, as it was listed. For tasks of the shard.
pub(super) fn acknowledged(core: &Core, cleared: &[DamageRecord]) -> Vec<Damage> {
    core.catalog().with(|catalog| cleared.iter().map(|record| entry(catalog, record)).collect())
}

fn entry(catalog: &Catalog, record: &DamageRecord) -> Damage {
    let volume = match catalog.get(record.volume) {
        Ok(volume) => volume.name.clone(),
        Err(_) => format!("number {}", record.volume),
    };
    let loss = match record.cause {
        DamageCause::BeyondTolerance => {
            Loss::Range { offset: record.lba.0 * BLOCK_U64, length: u64::from(record.blocks) * BLOCK_U64 }
        }
        DamageCause::LostRecords => Loss::Writes { first: record.lba.0, count: record.blocks.into() },
    };
    Damage { volume, loss, time: record.time }
}
