//! Making an array, and coming back to one: after a clean close, after a crash, after a crash on the way.
//!
//! The order: elect the superblock; make a new epoch durable on every member in use (rule 8); load the
//! segment table; replay the log; give what is kept its full redundancy; commit; take back members that are
//! known by their chunks alone, whose columns the commit doubts. Only then is anything
//! served: what was cut stays cut. A crash anywhere here leads back to the same start, because the old
//! checkpoint stays the root, and what it says the log entered is not overwritten, until the new one is
//! durable.

use super::capacity::Limits;
use super::checkpoint::addresses;
use super::core::{Config, Core, Progress};
use super::members::MEMBER_CHUNKS_MIN;
use super::moves::{Moves, Touches};
use super::room::Supply;
use crate::device::{Deadline, Device};
use crate::error::{Error, Kind, Result};
use crate::format::page::{Key, TreeId, Value};
use crate::format::record::Change;
use crate::format::superblock::{
    Checkpoint, Event, EventKind, EventLog, Features, MemberState, Root, Superblock,
};
use crate::format::tables::{DamageCause, DamageRecord, SegmentRecord, VolumeRecord};
use crate::layout::{Geometry, default_chunk_blocks};
use crate::limits::{CHUNK_BLOCKS_MAX, CHUNK_BLOCKS_MIN, CHUNKS_MAX, MEMBERS_MAX};
use crate::log::{Log, Replayed, replay};
use crate::map::{Catalog, PageCache, Tree};
use crate::pool::{Candidate, Election, Pool, Witnesses, elect, erase_rings, new_member, read_rings};
use crate::runtime::{Env, Owned, Signal, join_all};
use crate::space::{Purpose, Segment, Space};
use crate::stripe::{Stripes, View};
use crate::types::{Epoch, Lba, Nonce, Row, Scheme, SegmentId, Slot, Uuid};
use crate::zoo::{Bug, Mark, planted, reach, reach_if};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Segment numbers of one opening: the opening's epoch in the upper half, so that no opening reuses those of
/// another, not even of one that died before its first checkpoint.
const SEGMENTS_PER_EPOCH: u32 = 32;

/// What cannot be read while the log is replayed is asked for again after this: a bus that was reset is back then.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// What a new array is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateOptions {
    /// Its name.
    pub name: String,
    /// The scheme of volumes that name none, and the protection of metadata.
    pub scheme: Scheme,
    /// Blocks of a chunk; chosen from the members' sizes when `None`.
    pub chunk_blocks: Option<u32>,
    /// A failure-domain label for each member; none when empty.
    pub labels: Vec<String>,
}

/// What is done for an array besides serving it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Upkeep {
    /// What is met on the way is healed, and no more. Members that were out of use stay so, unless what the log has
    /// may be on them alone: after a crash, they are in use again.
    #[default]
    Nothing,
    /// Members that were out of use and are there again are in use again; jobs run when they are asked for.
    OnDemand,
    /// And jobs run in the background, by themselves.
    Background,
}

/// How an array is to be opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Write nothing at all, not even an epoch. Data that waits in the log is found all the same.
    pub read_only: bool,
    /// The array, where members of several are given.
    pub array: Option<Uuid>,
    /// What is done for the array besides serving it.
    pub upkeep: Upkeep,
    /// Limits.
    pub config: Config,
}

/// The protection of metadata: that of the data, and two copies at least where there are two members.
pub(super) fn meta_scheme(scheme: Scheme, members: usize) -> Scheme {
    if scheme.m() == 0 && members > 1 { Scheme::MIRROR } else { scheme }
}

/// Writes the first superblocks of a new array. Whatever the members held is gone.
///
/// # Errors
/// [`Kind::Invalid`] for too few, too many or too small members, [`Kind::Io`] when one fails.
pub async fn create(env: &Env, members: Vec<Candidate>, options: CreateOptions) -> Result<Uuid> {
    let CreateOptions { name, scheme, chunk_blocks, labels } = options;
    if members.len() > MEMBERS_MAX || members.len() < usize::from(scheme.width()) {
        return Err(Error::invalid(format!(
            "{scheme} needs {} to {MEMBERS_MAX} members, {} are given",
            scheme.width(),
            members.len()
        )));
    }
    let sizes: Vec<u64> = members.iter().map(|member| member.device.len()).collect();
    let chunk_blocks = chunk_blocks.unwrap_or_else(|| default_chunk_blocks(&sizes));
    if !(CHUNK_BLOCKS_MIN..=CHUNK_BLOCKS_MAX).contains(&chunk_blocks) || !chunk_blocks.is_power_of_two() {
        return Err(Error::invalid(format!(
            "a chunk has {CHUNK_BLOCKS_MIN} to {CHUNK_BLOCKS_MAX} blocks, a power of two, not {chunk_blocks}"
        )));
    }
    let geometry = Geometry { chunk_blocks };
    let random = || u128::from(env.entropy.next_u64()) << 64 | u128::from(env.entropy.next_u64());
    let mut table = Vec::with_capacity(members.len());
    for (index, member) in members.iter().enumerate() {
        let chunks = geometry.chunks_on(member.device.len());
        if chunks < MEMBER_CHUNKS_MIN {
            return Err(Error::invalid(format!("{} is too small to be a member", member.path)));
        }
        let label = labels.get(index).cloned().unwrap_or_default();
        table.push(new_member(Uuid::from_random(random()), chunks, &member.path, label));
    }
    if table.iter().map(|record| u64::from(record.chunks)).sum::<u64>() > CHUNKS_MAX {
        return Err(Error::invalid(format!("more than {CHUNKS_MAX} chunks; choose a larger chunk size")));
    }
    let mut space = Space::new(chunk_blocks, &table, SegmentId(0))?;
    let nonce = Nonce::from_random(env.entropy.next_u64());
    let superblock = Superblock {
        features: Features::default(),
        array: Uuid::from_random(random()),
        name,
        slot: Slot(0),
        chunk_blocks,
        default_scheme: scheme,
        meta_scheme: meta_scheme(scheme, members.len()),
        epoch: Epoch(0),
        nonce,
        commit: 0,
        history: Vec::new(),
        members: table,
        jobs: Vec::new(),
        scrubbed: 0,
        events: EventLog::of(
            2,
            [Event::new(EventKind::Created, env.clock.wall_seconds()).named(&scheme.to_string())],
        ),
        checkpoint: Checkpoint {
            runway: space.plan_runway(&[], &BTreeSet::new()),
            ..Checkpoint::blank(nonce)
        },
    };
    let array = superblock.array;
    let wipes = members.iter().map(|member| {
        let (device, path) = (member.device.clone(), member.path.clone());
        async move {
            let erased = erase_rings(device.as_ref(), None).await;
            erased.map_err(|error| Error::io(format!("{path}: {error}")))
        }
    });
    for outcome in join_all(wipes.collect()).await {
        outcome?;
    }
    let devices = members.iter().map(|member| Some(member.device.clone())).collect();
    let pool = Pool::new(superblock, devices, env.clock.clone());
    pool.publish(None).await?;
    if pool.active().len() < members.len() {
        return Err(Error::io("a member failed while the array was made"));
    }
    Ok(array)
}

/// Opens the array that the candidates are members of. Returns also how they were elected.
///
/// # Errors
/// [`Kind::NotFound`], [`Kind::Refused`], [`Kind::ReadOnly`] when too few members are there to write,
/// [`Kind::Corrupt`] when the metadata is damaged beyond its redundancy.
pub async fn open(
    env: Env,
    candidates: Vec<Candidate>,
    options: OpenOptions,
) -> Result<(Arc<Core>, Election)> {
    let candidates: Vec<Candidate> =
        candidates.into_iter().map(|candidate| in_time(&env, candidate, &options.config)).collect();
    let reads = candidates.iter().map(|candidate| {
        let device = candidate.device.clone();
        async move { read_rings(device.as_ref()).await }
    });
    let found = join_all(reads.collect()).await;
    let mut election = elect(&found, options.array)?;
    election.recognise(&candidates, &found).await;
    election.must_be_newest(options.read_only)?;
    let present = election.present().len();
    if !options.read_only && present < election.quorum() {
        return Err(Error::new(
            Kind::ReadOnly,
            format!(
                "only {present} current members of array '{}' are here; {} are needed to write it",
                election.newest.name,
                election.quorum()
            ),
        ));
    }
    if !options.read_only && !election.newest.features.writable() {
        return Err(Error::new(Kind::ReadOnly, "the array uses a feature that this version can only read"));
    }
    let core = assemble(env, &candidates, &election, &options)?;
    if !options.read_only {
        // Of the log behind the last checkpoint they may have what nobody else has.
        let take_back = options.upkeep != Upkeep::Nothing || election.newest.checkpoint.has_log();
        let Election { epoch_seen, commit_seen, .. } = election;
        core.stripes.pool.begin(epoch_seen, commit_seen, core.nonce, take_back);
        core.stripes.pool.settle().await?;
        core.sync_members();
    }
    core.load(&election.witnesses()).await?;
    if !options.read_only {
        let last = &election.newest.checkpoint;
        if last.generation > 0 && last.has_log() {
            core.stripes.pool.note(EventKind::Recovered, |event| event);
        }
        if core.stripes.pool.has_suspects() {
            core.evict().await?;
        }
        core.checkpoint().await.map_err(|error| error.context("committing what the log said"))?;
        if options.upkeep != Upkeep::Nothing {
            core.take_back_recognised().await?;
        }
        core.env.spawner.spawn(core.clone().run_writer());
    }
    Ok((core, election))
}

/// The candidate with a limit to each of its operations: one that hangs must not hang the array.
pub(super) fn in_time(env: &Env, candidate: Candidate, config: &Config) -> Candidate {
    let device = Deadline::new(candidate.device, env.clock.clone(), config.deadline);
    Candidate { device: Arc::new(device), path: candidate.path }
}

pub(super) fn assemble(
    env: Env,
    candidates: &[Candidate],
    election: &Election,
    options: &OpenOptions,
) -> Result<Arc<Core>> {
    let newest = &election.newest;
    let mut devices: Vec<Option<Arc<dyn Device>>> = vec![None; newest.members.len()];
    for (slot, candidate) in election.members.iter().enumerate() {
        // One that failed for good is let go, so that its device can be used anew.
        if newest.members[slot].state != MemberState::Failed {
            devices[slot] = candidate.map(|index| candidates[index].device.clone());
        }
    }
    let first = SegmentId((election.epoch_seen.0 + 1) << SEGMENTS_PER_EPOCH);
    let next = first.max(newest.checkpoint.next_segment);
    let mut space = Space::new(newest.chunk_blocks, &newest.members, next)?;
    for record in &newest.checkpoint.boot {
        space.insert(record.id, segment(record, Purpose::Boot, true))?;
    }
    let limits = Limits::of(newest, space.chunk_rows(), newest.meta_scheme);
    let pool = Arc::new(Pool::new(newest.clone(), devices, env.clock.clone()));
    for slot in &election.recognised {
        pool.doubt(*slot);
        space.doubt_member(*slot);
    }
    space.keep_active(&pool.active().into_iter().map(|(slot, _)| slot).collect());
    for (slot, candidate) in (0..=u8::MAX).map(Slot).zip(&election.members) {
        if let Some(index) = candidate {
            pool.record_path(slot, &candidates[*index].path);
        }
    }
    let config = options.config;
    let cache = usize::try_from(config.map_cache).unwrap_or(usize::MAX);
    Ok(Arc::new(Core {
        nonce: Nonce(match planted(Bug::ElectByTime) {
            true => env.clock.wall_seconds(),
            false => Nonce::from_random(env.entropy.next_u64()).0,
        }),
        stripes: Stripes::new(env.clone(), pool, space, !options.read_only),
        env,
        log: Owned::new(Log::new(newest.checkpoint.next_sequence)),
        catalog: Owned::new(Catalog::default()),
        cache: Owned::new(PageCache::new(cache)),
        progress: Owned::new(Progress::default()),
        meta: Owned::new(Default::default()),
        recovered: Owned::default(),
        cut: Owned::new(None),
        changed: Signal::new(),
        reformed: Signal::new(),
        config,
        limits: Owned::new(limits),
        target: Owned::new(newest.meta_scheme),
        supply: Owned::new(Supply::default()),
        moves: Owned::new(Moves::default()),
        touches: Owned::new(Touches::new()),
        read_only: options.read_only,
    }))
}

fn segment(record: &SegmentRecord, purpose: Purpose, sealed: bool) -> Segment {
    Segment {
        scheme: record.scheme,
        columns: record.columns.clone(),
        sealed,
        rows: record.rows.0,
        applied: record.rows.0,
        live: record.live,
        pending: 0,
        pins: 0,
        purpose,
    }
}

impl Core {
    /// Loads the tables and replays the log, for whose end the witnesses answer.
    async fn load(&self, witnesses: &Witnesses) -> Result<()> {
        let checkpoint = self.stripes.pool.superblock().checkpoint;
        let unsealed = self.load_segments(checkpoint.segments).await?;
        let volumes: Vec<VolumeRecord> =
            self.load_rows(TreeId::Volumes, checkpoint.volumes, VolumeRecord::from_entries).await?;
        let damage: Vec<DamageRecord> = self
            .load_rows(TreeId::Damage, checkpoint.damage, |entries| {
                entries.iter().map(DamageRecord::from_entry).collect()
            })
            .await?
            .into_iter()
            .flat_map(|rows: Vec<DamageRecord>| rows)
            .collect();
        let there = volumes.iter().filter(|row| !row.deleted);
        let numbers = there.map(|row| (row.id, (row.scheme, row.number))).collect();
        let catalog = Catalog::new(volumes, damage, checkpoint.next_volume)?;
        self.catalog.with(|slot| *slot = catalog);
        let starts = unsealed.clone();
        let again = unsealed.clone();
        let mut replayed = replay(&self.stripes, &checkpoint, starts, &numbers, witnesses).await?;
        if replayed.is_unsure {
            reach(Mark::SecondLook);
            self.env.clock.sleep(SECOND_LOOK).await;
            replayed = replay(&self.stripes, &checkpoint, again, &numbers, witnesses).await?;
        }
        if !replayed.doubts.is_empty() && !self.read_only {
            self.may_go_on(&witnesses.in_use).await?;
        }
        reach_if(!replayed.doubts.is_empty(), Mark::HistoryDoubted);
        let moves = std::mem::take(&mut replayed.moves);
        self.take_over(&checkpoint, unsealed, replayed)?;
        self.replay_moves(&moves).await
    }

    /// What may follow in the log is on members that are away or cannot be read. Away may be as many as the metadata
    /// tolerates; who does not answer counts as away. What lies in bad sectors of others is lost.
    async fn may_go_on(&self, in_use: &BTreeSet<Slot>) -> Result<()> {
        let pool = &self.stripes.pool;
        let (mut good, mut silent) = (0, Vec::new());
        for slot in pool.active().into_iter().map(|(slot, _)| slot).filter(|slot| in_use.contains(slot)) {
            match pool.answers(slot).await {
                true => good += 1,
                false => silent.push(slot),
            }
        }
        if good >= pool.quorum() {
            return Ok(());
        }
        let members = pool.superblock().members;
        let names = silent.iter().map(|slot| format!("{slot} ({})", members[usize::from(slot.0)].path));
        Err(Error::io(format!(
            "the end of the log cannot be read: reads fail on member(s) {}, and with those that are away these are \
             more than the array tolerates; nothing was given up: look after their devices and try again, or give up \
             what cannot be read with 'salvage'",
            names.collect::<Vec<_>>().join(", ")
        )))
    }

    /// Loads the segment table. Returns the segments that may have grown, and from which row.
    async fn load_segments(&self, root: Option<Root>) -> Result<Vec<(View, Row)>> {
        let rows: Vec<SegmentRecord> =
            self.load_rows(TreeId::Segments, root, SegmentRecord::from_entries).await?;
        let mut unsealed = Vec::new();
        for record in rows {
            self.stripes
                .space
                .with(|space| space.insert(record.id, segment(&record, Purpose::Data, true)))?;
            if !record.sealed {
                let columns = addresses(&record.columns);
                unsealed.push((View { segment: record.id, scheme: record.scheme, columns }, record.rows));
            }
        }
        let doubted = self.stripes.pool.recognised();
        self.stripes.space.with(|space| doubted.iter().for_each(|slot| space.doubt_member(*slot)));
        Ok(unsealed)
    }

    /// Reads a table whose rows are the entries that share the first half of their key.
    async fn load_rows<T>(
        &self,
        id: TreeId,
        root: Option<Root>,
        decode: impl Fn(&[(Key, Value)]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let tree = Tree::new(self, id, root);
        let mut rows = Vec::new();
        let mut row: Vec<(Key, Value)> = Vec::new();
        let mut from = Key::default();
        loop {
            let found = tree.scan(from, Key(u64::MAX, u64::MAX), 4096).await?;
            for entry in found.entries {
                if row.first().is_some_and(|first| first.0.0 != entry.0.0) {
                    rows.push(decode(&row)?);
                    row.clear();
                }
                row.push(entry);
            }
            match found.next {
                Some(next) => from = next,
                None => break,
            }
        }
        if !row.is_empty() {
            rows.push(decode(&row)?);
        }
        Ok(rows)
    }

    /// What replay found enters the table and the overlay.
    pub(super) fn take_over(
        &self,
        checkpoint: &Checkpoint,
        unsealed: Vec<(View, Row)>,
        replayed: Replayed,
    ) -> Result<()> {
        let listed: BTreeSet<SegmentId> = unsealed.iter().map(|(view, _)| view.segment).collect();
        self.stripes.space.with(|space| {
            for (id, entered) in &replayed.entered {
                if listed.contains(id) {
                    space.grow(*id, entered.rows);
                } else {
                    reach(Mark::SegmentFound);
                    space.insert(
                        *id,
                        Segment::found(entered.view.scheme, &entered.view.columns, entered.rows),
                    )?;
                }
            }
            for id in replayed.entered.keys() {
                space.doubt_absent(*id);
            }
            self.recovered.with(|recovered| recovered.extend(replayed.entered.keys()));
            for id in listed {
                space.touch(id);
            }
            space.install_runway(&checkpoint.runway);
            Ok::<(), Error>(())
        })?;
        self.log.with(|log| *log = Log::new(replayed.next_sequence));
        for chapter in replayed.chapters {
            let (mut gained, mut lost) = (Vec::new(), Vec::new());
            self.catalog.with(|catalog| {
                for change in &chapter.changes {
                    match *change {
                        Change::Trim { volume, number, lba, blocks } => {
                            lost.extend(catalog.trim(volume, number, lba, blocks));
                        }
                        Change::Resize { volume, blocks, .. } => {
                            if let Some(volume) = catalog.entry(volume) {
                                volume.blocks = blocks;
                                volume.durable_blocks = blocks;
                            }
                        }
                    }
                }
                for (lba, birth, pointer) in &chapter.blocks {
                    gained.push(*pointer);
                    lost.extend(catalog.write(chapter.volume, *lba, *birth, *pointer));
                }
                if let Some(volume) = catalog.entry(chapter.volume) {
                    volume.issued = chapter.through;
                    volume.durable = chapter.through;
                }
            });
            self.stripes.space.with(|space| {
                gained.iter().for_each(|pointer| space.pend(pointer.place.segment, 1));
                lost.iter().for_each(|pointer| space.pend(pointer.place.segment, -1));
            });
        }
        let time = self.env.clock.wall_seconds();
        self.catalog.with(|catalog| {
            for gap in &replayed.gaps {
                if let Some(volume) = catalog.entry(gap.volume) {
                    volume.issued = volume.issued.max(gap.last);
                    volume.durable = volume.durable.max(gap.last);
                }
            }
            for gap in replayed.gaps.into_iter().chain(replayed.doubts) {
                self.note_volume(catalog, EventKind::DataLost, gap.volume, 0);
                let blocks = u32::try_from(gap.last.0 - gap.first.0 + 1).unwrap_or(u32::MAX);
                catalog.damage.record(DamageRecord {
                    volume: gap.volume,
                    lba: Lba(gap.first.0),
                    blocks,
                    cause: DamageCause::LostRecords,
                    time,
                });
            }
        });
        Ok(())
    }
}
