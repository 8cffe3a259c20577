//! Salvage: an array whose metadata is lost, built anew from what its chunks say (`src/format/FORMAT.md`, "When every
//! superblock is lost").
//!
//! The order: the first block of every chunk says which device is which member and where the segments' columns are;
//! the records' headers say where pages are; the newest leaves of the volume table name the volumes and the roots
//! of their maps; a map that can be walked from end to end is taken as it is, and the log is replayed behind it; one
//! that cannot, and a volume that no leaf shows, is made of the blocks' owners in all headers ([`blocks`]). Segments
//! that nobody needs are dropped, and one checkpoint makes the rest a new state of the array. Until that is
//! durable no superblock is written, and no chunk of a segment that was needed: what is interrupted is
//! begun anew.
//!
//! Memory: the segment table, a column table per chunk and a line per interval of a record, what replay keeps, and
//! for volumes without a map [`BLOCKS_MAX`] blocks.

mod blocks;
mod leaves;
mod scan;

use super::core::{Config, Core};
use super::mount::{assemble, in_time, meta_scheme};
use super::raise::strengthened;
use crate::error::{Error, Kind, Result};
use crate::format::page::TreeId;
use crate::format::record::{Owner, Record};
use crate::format::superblock::{
    Checkpoint, EventKind, EventLog, Features, MemberRecord, MemberState, Superblock,
};
use crate::format::tables::{ColumnState, DamageRecord, VolumeRecord};
use crate::layout::Geometry;
use crate::log::{Opening, Replayed, retell};
use crate::map::{Catalog, Tree};
use crate::pool::{Candidate, Election, elect, new_member, read_rings};
use crate::runtime::Env;
use crate::space::Segment;
use crate::stripe::{Found, View};
use crate::types::{
    Column, Epoch, Nonce, Number, Place, Pointer, Row, Scheme, SegmentId, Sequence, Slot, Uuid, VolumeId,
};
use blocks::Blocks;
use leaves::{Leaf, Table};
use scan::{Origin, Placed, Scan, origin};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Blocks of volumes without a map that salvage can hold in memory: 16 GiB of data.
const BLOCKS_MAX: usize = 1 << 22;

/// What salvage made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Salvaged {
    /// The array.
    pub array: Uuid,
    /// Its members that are there, as indexes of the candidates.
    pub members: Vec<usize>,
    /// Members that are not there.
    pub missing: Vec<Slot>,
    /// The volumes' names, and whether each was made of headers alone: then trims and cuts may be undone.
    pub volumes: Vec<(String, bool)>,
    /// The superblocks were lost, and with them the members' identities and the array's name.
    pub is_renamed: bool,
}

/// What the headers of all records say.
#[derive(Default)]
struct Headers {
    leaves: Vec<Leaf>,
    /// Which numbers of which volumes are in which group of records of which opening.
    intervals: Vec<(VolumeId, Number, Group)>,
    generation: u64,
    sequence: Sequence,
    /// The strongest scheme of a segment that holds pages.
    meta: Option<Scheme>,
    volumes: BTreeSet<VolumeId>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    nonce: Nonce,
    epoch: Epoch,
    first: Sequence,
}

/// Builds the metadata of an array anew. `name` is the array's where no superblock tells. Durable on return.
///
/// # Errors
/// [`Kind::NotFound`] when no candidate holds chunks of an array, [`Kind::Refused`] for several arrays, two copies
/// of a member, and where superblocks tell that too many members are not here; [`Kind::NoSpace`],
/// [`Kind::Io`]. Then nothing has changed that matters.
pub async fn salvage(env: Env, candidates: Vec<Candidate>, name: &str) -> Result<Salvaged> {
    let config = Config::default();
    let candidates: Vec<Candidate> =
        candidates.into_iter().map(|candidate| in_time(&env, candidate, &config)).collect();
    let mut found = Vec::with_capacity(candidates.len());
    for candidate in &candidates {
        found.push(read_rings(candidate.device.as_ref()).await);
    }
    let elected = match elect(&found, None) {
        Ok(election) => Some(election),
        Err(error) if error.kind() == Kind::NotFound => None,
        Err(error) => return Err(error),
    };
    let origin = the_array(&candidates, elected.as_ref()).await?;
    let known = elected.as_ref().map_or(&[][..], |election| &election.members);
    let scan = Scan::of(&candidates, origin, known).await?;
    let is_renamed = elected.is_none();
    let election = candidacy(&env, &candidates, elected, &scan, origin, name);
    let here = election.present().len();
    if !is_renamed && here < election.quorum() {
        let text = format!(
            "only {here} members of array '{}' are here, and {} are needed: bring others back first, for what they \
             hold would be given up",
            election.newest.name,
            election.quorum()
        );
        return Err(Error::new(Kind::Refused, text));
    }
    let members: Vec<usize> = election.members.iter().flatten().copied().collect();
    // What is read on the way is not healed: who owns a chunk is not known for sure before the end.
    let options = super::OpenOptions { read_only: true, config, ..super::OpenOptions::default() };
    let core = assemble(env, &candidates, &election, &options)?;
    core.stripes.pool.begin(election.epoch_seen, election.commit_seen, core.nonce, false);
    core.sync_members();
    let chunks: BTreeMap<Slot, u32> = (0..=u8::MAX)
        .map(Slot)
        .zip(&election.newest.members)
        .map(|(slot, record)| (slot, record.chunks))
        .collect();
    let volumes = core.rebuild_metadata(scan.place(&chunks), is_renamed).await?;
    let missing = (0..=u8::MAX)
        .map(Slot)
        .zip(core.stripes.pool.superblock().members)
        .filter(|(_, record)| matches!(record.state, MemberState::Out | MemberState::Failed))
        .map(|(slot, _)| slot)
        .collect();
    core.attempt().await.map_err(|error| error.context("committing what was salvaged"))?;
    // Of a map that is kept, some pages may be older than the strongest volume.
    let mut walk = core.walk_pages(core.stripes.pool.meta_scheme().m());
    while core.touch_weak(&mut walk).await? {
        core.attempt()
            .await
            .map_err(|error| error.context("writing what was salvaged as strong as it was"))?;
    }
    Ok(Salvaged { array: origin.array, members, missing, volumes, is_renamed })
}

/// The array that the candidates hold chunks of.
async fn the_array(candidates: &[Candidate], elected: Option<&Election>) -> Result<Origin> {
    if let Some(election) = elected {
        let Superblock { array, chunk_blocks, .. } = election.newest;
        return Ok(Origin { array, chunk_blocks });
    }
    let mut origins: BTreeMap<Origin, usize> = BTreeMap::new();
    for candidate in candidates {
        if let Some(origin) = origin(candidate.device.as_ref()).await {
            *origins.entry(origin).or_default() += 1;
        }
    }
    match (origins.len(), origins.first_key_value()) {
        (1, Some((origin, _))) => Ok(*origin),
        (0, _) => Err(Error::new(Kind::NotFound, "nothing here holds chunks of an array")),
        _ => {
            let names: Vec<String> = origins.keys().map(|origin| origin.array.to_string()).collect();
            let text = format!("chunks of several arrays are here ({}): put one apart", names.join(", "));
            Err(Error::new(Kind::Refused, text))
        }
    }
}

/// The members as an election would have them, and a state without roots.
fn candidacy(
    env: &Env,
    candidates: &[Candidate],
    elected: Option<Election>,
    scan: &Scan,
    origin: Origin,
    name: &str,
) -> Election {
    let mut election = elected.unwrap_or_else(|| unheard_of(env, candidates, scan, origin, name));
    for (slot, candidate) in &scan.members {
        let index = usize::from(slot.0);
        let is_member = election.newest.members.get(index).is_some_and(|record| {
            matches!(record.state, MemberState::Active | MemberState::Out)
                && record.chunks == chunks_on(&candidates[*candidate], origin)
        });
        if is_member && election.members[index].is_none() {
            // Its columns are believed as far as each has a header, like everybody's here.
            election.members[index] = Some(*candidate);
            election.newest.members[index].state = MemberState::Active;
        }
    }
    election.epoch_seen = election.epoch_seen.max(scan.epoch);
    let last = &mut election.newest.checkpoint;
    *last = Checkpoint { next_volume: last.next_volume, ..Checkpoint::blank(last.nonce) };
    election
}

fn chunks_on(candidate: &Candidate, origin: Origin) -> u32 {
    Geometry { chunk_blocks: origin.chunk_blocks }.chunks_on(candidate.device.len())
}

/// An array of which no superblock is left: what these said is made anew.
fn unheard_of(env: &Env, candidates: &[Candidate], scan: &Scan, origin: Origin, name: &str) -> Election {
    let random = || u128::from(env.entropy.next_u64()) << 64 | u128::from(env.entropy.next_u64());
    let last = scan.slots().last().map_or(0, |slot| slot.0);
    let sizes: BTreeMap<Slot, u32> =
        scan.members.iter().map(|(slot, index)| (*slot, chunks_on(&candidates[*index], origin))).collect();
    let largest = sizes.values().copied().max().unwrap_or(0);
    let member = |slot: Slot| -> MemberRecord {
        let path = scan.members.get(&slot).map_or("", |index| candidates[*index].path.as_str());
        let chunks = sizes.get(&slot).copied().unwrap_or(largest);
        let record = new_member(Uuid::from_random(random()), chunks, path, String::new());
        let state = if sizes.contains_key(&slot) { MemberState::Active } else { MemberState::Out };
        MemberRecord { state, ..record }
    };
    let members: Vec<MemberRecord> = (0..=last).map(Slot).map(member).collect();
    let scheme = Scheme::new(1, 0).expect("one copy");
    let nonce = Nonce::from_random(env.entropy.next_u64());
    Election {
        members: (0..=last).map(|slot| scan.members.get(&Slot(slot)).copied()).collect(),
        newest: Superblock {
            features: Features::default(),
            array: origin.array,
            name: name.into(),
            slot: Slot(0),
            chunk_blocks: origin.chunk_blocks,
            default_scheme: scheme,
            meta_scheme: scheme,
            epoch: scan.epoch,
            nonce,
            commit: 0,
            history: Vec::new(),
            members,
            jobs: Vec::new(),
            scrubbed: 0,
            events: EventLog::default(),
            checkpoint: Checkpoint::blank(nonce),
        },
        epoch_seen: scan.epoch,
        commit_seen: 0,
        recognised: BTreeSet::new(),
        blind: BTreeSet::new(),
        informed: BTreeSet::new(),
        notes: Vec::new(),
    }
}

/// A volume as it was found.
struct Recovered {
    record: VolumeRecord,
    /// What its map covers, where it has one that can be walked.
    opening: Option<Opening>,
}

impl Core {
    /// Fills the tables from what the segments hold. Returns the volumes, and which are made of headers alone.
    async fn rebuild_metadata(
        self: &Arc<Core>,
        placed: BTreeMap<SegmentId, Placed>,
        is_renamed: bool,
    ) -> Result<Vec<(String, bool)>> {
        let views: Vec<(View, Vec<ColumnState>)> =
            placed.into_iter().map(|(segment, placed)| (view(segment, &placed), placed.columns)).collect();
        let mut headers = Headers::default();
        for (view, columns) in &views {
            let rows = self.each_record(view, |record| headers.take(&record)).await;
            let found =
                Segment { columns: columns.clone(), ..Segment::found(view.scheme, &view.columns, rows) };
            self.stripes.space.with(|space| space.insert(view.segment, found))?;
            self.stripes.space.with(|space| space.touch(view.segment));
        }
        let table = Table::of(&headers.leaves, TreeId::Volumes, &self.stripes).await;
        let damage: Vec<DamageRecord> = Table::of(&headers.leaves, TreeId::Damage, &self.stripes)
            .await
            .newest()
            .into_iter()
            .filter_map(|entry| DamageRecord::from_entry(&entry).ok())
            .collect();
        let mut live: BTreeMap<SegmentId, u32> = BTreeMap::new();
        let mut volumes = Vec::new();
        for id in headers.volumes.union(&table.volumes()) {
            if let Some(volume) = self.recover(*id, &table, &mut live).await {
                volumes.push(volume);
            }
        }
        let (replayed, needed) = self.tell(&headers, &views, &volumes).await?;
        let scattered: BTreeSet<VolumeId> = volumes
            .iter()
            .filter(|volume| volume.opening.is_none() && !volume.record.deleted)
            .map(|volume| volume.record.id)
            .collect();
        let blocks = self.gather_blocks(&views, &scattered).await?;
        for volume in volumes.iter_mut().filter(|volume| scattered.contains(&volume.record.id)) {
            blocks.complete(&mut volume.record);
        }
        let told = volumes.iter().filter(|volume| !volume.record.deleted);
        let told = told.map(|volume| (volume.record.name.clone(), volume.opening.is_none())).collect();
        let next = volumes.iter().map(|volume| volume.record.id.0 + 1).max().unwrap_or(1);
        let schemes: Vec<Scheme> = volumes.iter().map(|volume| volume.record.scheme).collect();
        let records = volumes.into_iter().map(|volume| volume.record).collect();
        let checkpoint = self.stripes.pool.superblock().checkpoint;
        let catalog = Catalog::new(records, damage, next.max(checkpoint.next_volume))?;
        self.catalog.with(|slot| *slot = catalog);
        self.stripes.space.with(|space| {
            space.count(&live.into_iter().map(|(id, count)| (id, i64::from(count))).collect())
        })?;
        let next_sequence = replayed.next_sequence.max(headers.sequence.next());
        self.take_over(&checkpoint, Vec::new(), Replayed { next_sequence, ..replayed })?;
        self.take_blocks(&blocks);
        self.drop_needless(&needed, &table.segments());
        let pool = &self.stripes.pool;
        let found = headers.meta.unwrap_or(Scheme::MIRROR);
        let default = is_renamed.then(|| schemes.first().copied().unwrap_or(found));
        let meta = if is_renamed { meta_scheme(found, pool.active().len()) } else { pool.meta_scheme() };
        let strongest = schemes.iter().map(|scheme| scheme.m()).max().unwrap_or(0);
        let meta = strengthened(meta, strongest, pool.count());
        pool.found_anew(headers.generation, (default, meta), |slot| {
            self.stripes.space.with(|space| space.is_empty(slot))
        });
        pool.note(EventKind::Salvaged, |event| event);
        self.target.with(|target| *target = meta);
        Ok(told)
    }

    /// Shows every record of a segment; returns the row behind the last.
    async fn each_record(&self, view: &View, mut visit: impl FnMut(Record)) -> u16 {
        let mut row = Row(0);
        while row.0 < self.stripes.chunk_rows() {
            let rows = match self.stripes.find_record(view, row, None).await {
                Found::Record(record) => {
                    let rows = record.rows;
                    visit(*record);
                    rows
                }
                Found::Broken { rows, .. } => rows,
                Found::Nothing { .. } => break,
            };
            row = row.plus(u16::from(rows) + 1);
        }
        row.0
    }

    /// A volume by the newest of its rows whose map can be walked; else by its newest row, without a map; or by
    /// nothing but its number. `None` for one that was deleted, root and all.
    async fn recover(
        &self,
        id: VolumeId,
        table: &Table,
        live: &mut BTreeMap<SegmentId, u32>,
    ) -> Option<Recovered> {
        let rows = table.rows(id);
        if rows.is_empty() && table.covers(id) {
            return None;
        }
        for (record, opening) in &rows {
            let Some(counts) = self.walk(record).await else { continue };
            for (segment, count) in counts {
                *live.entry(segment).or_default() += count;
            }
            return Some(Recovered { record: record.clone(), opening: Some(*opening) });
        }
        let bare = VolumeRecord {
            id,
            name: format!("salvaged-{id}"),
            scheme: Scheme::MIRROR,
            blocks: 0,
            number: Number(0),
            used: 0,
            root: None,
            deleted: false,
            tombstones: Vec::new(),
        };
        let newest = rows.into_iter().next().map_or(bare, |(record, _)| record);
        (!newest.deleted).then(|| {
            let record = VolumeRecord { root: None, used: 0, tombstones: Vec::new(), ..newest };
            Recovered { record, opening: None }
        })
    }

    /// What the map of a volume counts in each segment; `None` when some of it cannot be read.
    async fn walk(&self, record: &VolumeRecord) -> Option<BTreeMap<SegmentId, u32>> {
        let mut counts: BTreeMap<SegmentId, u32> = BTreeMap::new();
        let mut is_sound = true;
        let mut visit = |page: &crate::format::page::Page, pointer: Pointer| {
            *counts.entry(pointer.place.segment).or_default() += 1;
            if page.level > 0 {
                return;
            }
            for (_, value) in &page.entries {
                match Pointer::from_value(value) {
                    Ok(pointer) => *counts.entry(pointer.place.segment).or_default() += 1,
                    Err(_) => is_sound = false,
                }
            }
        };
        let walked = Tree::new(self, TreeId::Map(record.id), record.root).check(&mut visit).await;
        let known = |id: &SegmentId| self.stripes.space.with(|space| space.get(*id).is_some());
        (walked.is_ok() && is_sound && counts.keys().all(known)).then_some(counts)
    }

    /// Replays the log behind the maps. Returns also the segments that it needed.
    async fn tell(
        &self,
        headers: &Headers,
        views: &[(View, Vec<ColumnState>)],
        volumes: &[Recovered],
    ) -> Result<(Replayed, BTreeSet<SegmentId>)> {
        let starts: BTreeMap<VolumeId, (Number, Opening)> = volumes
            .iter()
            .filter(|volume| !volume.record.deleted)
            .filter_map(|volume| Some((volume.record.id, (volume.record.number, volume.opening?))))
            .collect();
        let wanted: BTreeSet<Group> = headers
            .intervals
            .iter()
            .filter(|(volume, through, group)| {
                starts.get(volume).is_some_and(|(number, opening)| {
                    through > number && (group.nonce == opening.nonce || group.epoch > opening.epoch)
                })
            })
            .map(|(_, _, group)| *group)
            .collect();
        let mut records = Vec::new();
        let mut needed = BTreeSet::new();
        for (view, _) in views.iter().filter(|_| !wanted.is_empty()) {
            self.each_record(view, |record| {
                if wanted.contains(&group_of(&record)) {
                    needed.insert(record.segment);
                    records.push((record.segment, record));
                }
            })
            .await;
        }
        Ok((retell(&self.stripes, records, &starts).await?, needed))
    }

    async fn gather_blocks(
        &self,
        views: &[(View, Vec<ColumnState>)],
        volumes: &BTreeSet<VolumeId>,
    ) -> Result<Blocks> {
        let mut blocks = Blocks::default();
        for (view, _) in views.iter().filter(|_| !volumes.is_empty()) {
            self.each_record(view, |record| blocks.take(&record, volumes)).await;
            blocks.check()?;
        }
        blocks.settle();
        Ok(blocks)
    }

    /// Blocks that only headers know enter the overlay.
    fn take_blocks(&self, blocks: &Blocks) {
        for (volume, lba, birth, pointer) in blocks.iter() {
            self.catalog.with(|catalog| catalog.active.insert(volume, lba, birth, pointer));
            self.stripes.space.with(|space| space.pend(pointer.place.segment, 1));
        }
    }

    /// Segments that nothing points to, and that hold no numbers that replay told, are free.
    fn drop_needless(&self, told: &BTreeSet<SegmentId>, tables: &BTreeSet<SegmentId>) {
        self.stripes.space.with(|space| {
            for id in space.dead() {
                if !told.contains(&id) && !tables.contains(&id) {
                    space.remove(id);
                }
            }
        });
    }
}

fn group_of(record: &Record) -> Group {
    Group { nonce: record.nonce, epoch: record.epoch, first: record.group.0 }
}

fn view(segment: SegmentId, placed: &Placed) -> View {
    let columns = placed.columns.iter().map(ColumnState::address).collect();
    View { segment, scheme: placed.scheme, columns }
}

impl Headers {
    fn take(&mut self, record: &Record) {
        self.sequence = self.sequence.max(record.sequence);
        for interval in &record.intervals {
            self.volumes.insert(interval.volume);
            self.intervals.push((interval.volume, interval.through, group_of(record)));
        }
        let k = usize::from(record.scheme.k());
        for (index, entry) in record.entries.iter().enumerate() {
            let Owner::Page { tree, level, generation, .. } = entry.owner else { continue };
            self.generation = self.generation.max(generation);
            let stronger =
                self.meta.is_none_or(|meta| (record.scheme.m(), record.scheme.k()) > (meta.m(), meta.k()));
            if stronger {
                self.meta = Some(record.scheme);
            }
            let tree = TreeId::from_number(tree).filter(|_| level == 0);
            if let Some(tree @ (TreeId::Volumes | TreeId::Damage)) = tree {
                let opening = Opening { nonce: record.nonce, epoch: record.epoch };
                let pointer = pointer(record, index, k, entry.crc);
                self.leaves.push(Leaf { tree, pointer, generation, sequence: record.sequence, opening });
            }
        }
    }
}

/// The pointer to a data-column block of a record, by its place among the entries.
fn pointer(record: &Record, index: usize, k: usize, crc: u32) -> Pointer {
    let back = u8::try_from(index / k + 1).expect("a record has at most 255 rows");
    let column = Column(u8::try_from(index % k).expect("k fits u8"));
    let place = Place { segment: record.segment, row: record.row.plus(u16::from(back)), column };
    Pointer { place, back, crc }
}
