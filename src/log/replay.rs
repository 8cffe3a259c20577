//! Replay: what the log says beyond the newest checkpoint.
//!
//! Only records of the opening that wrote the checkpoint count, and only where the checkpoint says that the
//! log may have gone (rule 5). For each volume the intervals are taken in order; the first gap is the cut
//! (rule 4), unless a later record says that what is missing was durable: then it is lost, and reported.
//! Data is read only behind the durable numbers, where torn and rotten look alike.

use crate::error::Result;
use crate::format::record::{Change, HeaderPart, Interval, Owner, Record};
use crate::format::superblock::{Checkpoint, ChunkAddress};
use crate::runtime::join_all;
use crate::stripe::{Found, Stripes, View};
use crate::types::{Column, Epoch, Lba, Nonce, Number, Place, Pointer, Row, SegmentId, Sequence, VolumeId};
use crate::zoo::{Bug, planted};
use std::collections::BTreeMap;

/// First blocks of chunks that are read at once.
const READS_AT_ONCE: usize = 64;

/// A segment that the log entered since the checkpoint.
#[derive(Clone, Debug)]
pub struct Entered {
    /// Where it is.
    pub view: View,
    /// The row behind the last record that counts. What lies behind was torn or cut: no map will ever point there.
    pub rows: u16,
}

/// An interval of one volume's history.
#[derive(Clone, Debug)]
pub struct Chapter {
    /// The volume.
    pub volume: VolumeId,
    /// The last number.
    pub through: Number,
    /// Its changes, in the order of their numbers; older than the blocks.
    pub changes: Vec<Change>,
    /// Its blocks.
    pub blocks: Vec<(Lba, Number, Pointer)>,
}

/// A block that the cleaner moved. It counts only where the map still points to `from`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// The volume.
    pub volume: VolumeId,
    /// The address.
    pub lba: Lba,
    /// The number that wrote the block.
    pub birth: Number,
    /// The place it left.
    pub from: Place,
    /// Where it is.
    pub pointer: Pointer,
}

/// Numbers that were durable and are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The volume.
    pub volume: VolumeId,
    /// The first lost number.
    pub first: Number,
    /// The last one.
    pub last: Number,
}

/// What replay found.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// The segments entered, by number.
    pub entered: BTreeMap<SegmentId, Entered>,
    /// What each volume's history goes on with, in order.
    pub chapters: Vec<Chapter>,
    /// What the cleaner moved, in the order of the log; after all chapters.
    pub moves: Vec<Move>,
    /// What is lost.
    pub gaps: Vec<Gap>,
    /// Where the log goes on.
    pub next_sequence: Sequence,
    /// Records read.
    pub records: u64,
}

/// Records that count only together.
#[derive(Debug, Default)]
struct Group {
    records: Vec<(SegmentId, Record)>,
    whole: Option<bool>,
    /// Some volume goes on with it, or it has moves that count.
    counts: bool,
}

impl Group {
    fn last(&self) -> &Record {
        &self.records.last().expect("a group has a record").1
    }

    fn is_complete(&self) -> bool {
        let (first, last) = self.last().group;
        self.records.len() as u64 == last.0 - first.0 + 1 || planted(Bug::GroupIncomplete)
    }
}

/// Replays the log behind `checkpoint`. `unsealed` are the segments of its table that may have grown, with
/// the row at which replay goes on; `volumes` the number up to which the trees have each volume.
///
/// # Errors
/// When a record contradicts itself.
pub async fn replay(
    stripes: &Stripes,
    checkpoint: &Checkpoint,
    unsealed: Vec<(View, Row)>,
    volumes: &BTreeMap<VolumeId, Number>,
) -> Result<Replayed> {
    let mut replayed = Replayed { next_sequence: checkpoint.next_sequence, ..Replayed::default() };
    let mut starts = unsealed;
    starts.extend(runway(stripes, checkpoint).await);
    let mut groups: BTreeMap<Sequence, Group> = BTreeMap::new();
    for (view, from) in starts {
        let mut row = from;
        while row.0 < stripes.chunk_rows() {
            let rows = match stripes.find_record(&view, row, Some(checkpoint.nonce)).await {
                Found::Record(record) => {
                    let rows = record.rows;
                    replayed.records += 1;
                    replayed.next_sequence = replayed.next_sequence.max(record.sequence.next());
                    groups.entry(record.group.0).or_default().records.push((view.segment, *record));
                    rows
                }
                // It counts as missing; what lies behind it may still be needed.
                Found::Broken { rows } => rows,
                Found::Nothing => break,
            };
            row = row.plus(u16::from(rows) + 1);
        }
        if row > from || from.0 > 0 {
            replayed.entered.insert(view.segment, Entered { view, rows: from.0 });
        }
    }
    for group in groups.values_mut() {
        group.records.sort_by_key(|(_, record)| record.sequence);
    }
    // A batch that was written again under the same numbers may be there twice: the younger first.
    let mut groups: Vec<Group> = groups.into_values().rev().collect();
    for (&volume, &number) in volumes {
        follow(stripes, &mut groups, volume, number, None, &mut replayed).await?;
    }
    for group in groups.iter_mut().rev().filter(|group| has_moves(group)) {
        // A move that is torn was never in the map: the block still is where it was.
        if is_whole(stripes, group, true).await? {
            group.counts = true;
            replayed.moves.extend(moves(group));
        }
    }
    for (segment, record) in groups.iter().filter(|group| group.counts).flat_map(|group| &group.records) {
        if let Some(entered) = replayed.entered.get_mut(segment) {
            entered.rows = entered.rows.max(record.row.plus(u16::from(record.rows) + 1).0);
        }
    }
    Ok(replayed)
}

/// The opening that wrote something: later records are its own, or of a later epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Its mark.
    pub nonce: Nonce,
    /// The epoch then.
    pub epoch: Epoch,
}

impl Opening {
    /// Whether a record may continue what this opening wrote.
    pub fn precedes(&self, record: &Record) -> bool {
        record.nonce == self.nonce || record.epoch > self.epoch
    }
}

/// Replays records of any openings, for salvage. `volumes` has the number up to which the trees have each volume,
/// and the opening that wrote that. Moves that no map has are left out: what they copied still is where it was.
///
/// # Errors
/// When a record contradicts itself.
pub async fn retell(
    stripes: &Stripes,
    records: Vec<(SegmentId, Record)>,
    volumes: &BTreeMap<VolumeId, (Number, Opening)>,
) -> Result<Replayed> {
    let mut replayed = Replayed { records: records.len() as u64, ..Replayed::default() };
    let mut groups: BTreeMap<(Epoch, Sequence), Group> = BTreeMap::new();
    for (segment, record) in records {
        replayed.next_sequence = replayed.next_sequence.max(record.sequence.next());
        groups.entry((record.epoch, record.group.0)).or_default().records.push((segment, record));
    }
    for group in groups.values_mut() {
        group.records.sort_by_key(|(_, record)| record.sequence);
        // The same record may be there twice where a chunk of an older life was found.
        group.records.dedup_by_key(|(_, record)| record.sequence);
    }
    let mut groups: Vec<Group> = groups.into_values().rev().collect();
    for (&volume, &(number, opening)) in volumes {
        follow(stripes, &mut groups, volume, number, Some(opening), &mut replayed).await?;
    }
    Ok(replayed)
}

/// The segments that begin in chunks of the runway: any column's first header tells of all columns.
async fn runway(stripes: &Stripes, checkpoint: &Checkpoint) -> Vec<(View, Row)> {
    let reads = checkpoint.runway.iter().map(|&address| async move {
        let block = stripes.first_block(address).await?;
        let part = HeaderPart::decode(&block, None).ok()?;
        if !began_here(stripes, &part, address, checkpoint) {
            return None;
        }
        let Record { segment, scheme, columns, .. } = part.record;
        Some(View { segment, scheme, columns })
    });
    let mut reads: Vec<_> = reads.collect();
    let mut views: BTreeMap<SegmentId, View> = BTreeMap::new();
    while !reads.is_empty() {
        let some = reads.split_off(reads.len().saturating_sub(READS_AT_ONCE));
        let found = join_all(some).await;
        views.extend(found.into_iter().flatten().map(|view| (view.segment, view)));
    }
    views
        .into_values()
        .filter(|view| stripes.view(view.segment).is_err())
        .map(|view| (view, Row(0)))
        .collect()
}

fn began_here(stripes: &Stripes, part: &HeaderPart, address: ChunkAddress, checkpoint: &Checkpoint) -> bool {
    let record = &part.record;
    let identity = stripes.pool.identity();
    record.array == identity.array
        && record.chunk_blocks == identity.chunk_blocks
        && record.nonce == checkpoint.nonce
        && record.row == Row(0)
        // A chunk may still hold what this opening wrote to it before the checkpoint that freed it.
        && (record.segment >= checkpoint.next_segment || planted(Bug::FreedReplayed))
        && record.columns[usize::from(part.column.0)] == Some(address)
}

/// Takes the intervals of one volume in order; where records of several openings are at hand, only those that
/// continue what `opening` and its successors wrote: what one of them cut stays cut.
async fn follow(
    stripes: &Stripes,
    groups: &mut [Group],
    volume: VolumeId,
    number: Number,
    mut opening: Option<Opening>,
    replayed: &mut Replayed,
) -> Result<()> {
    let intervals =
        |group: &Group| group.last().intervals.iter().find(|interval| interval.volume == volume).copied();
    let durable = groups.iter().filter_map(intervals).map(|interval| interval.durable).max();
    let durable = durable.unwrap_or(number).max(number);
    let mut at = number;
    loop {
        let mut next = None;
        for (index, group) in groups.iter_mut().enumerate() {
            let follows =
                |interval: &Interval| interval.after == at || planted(Bug::GapIgnored) && interval.after > at;
            let Some(interval) = intervals(group).filter(follows) else { continue };
            if interval.through > durable && planted(Bug::CutEarly) {
                continue;
            }
            if opening.is_some_and(|opening| !opening.precedes(group.last())) {
                continue;
            }
            if is_whole(stripes, group, interval.through > durable).await? {
                next = Some((index, interval.through));
                break;
            }
        }
        if let Some((index, through)) = next {
            let Record { nonce, epoch, .. } = *groups[index].last();
            opening = opening.map(|_| Opening { nonce, epoch });
            groups[index].counts = true;
            replayed.chapters.push(chapter(&groups[index], volume, through));
            at = through;
            continue;
        }
        if at >= durable {
            return Ok(());
        }
        // Durable, and gone: up to where a record goes on, or to the end of what is known durable.
        let resume = groups
            .iter()
            .filter(|group| group.is_complete())
            .filter_map(intervals)
            .map(|interval| interval.after)
            .filter(|after| *after > at && *after <= durable)
            .min();
        let last = resume.unwrap_or(durable);
        replayed.gaps.push(Gap { volume, first: at.next(), last });
        at = last;
    }
}

async fn is_whole(stripes: &Stripes, group: &mut Group, check_data: bool) -> Result<bool> {
    if !group.is_complete() {
        return Ok(false);
    }
    if !check_data || planted(Bug::TornTaken) {
        return Ok(true);
    }
    if let Some(known) = group.whole {
        return Ok(known);
    }
    let mut whole = true;
    for (segment, record) in &group.records {
        let view = View { segment: *segment, scheme: record.scheme, columns: record.columns.clone() };
        whole = whole && stripes.make_whole(&view, record).await?;
    }
    group.whole = Some(whole);
    Ok(whole)
}

fn has_moves(group: &Group) -> bool {
    let mut entries = group.records.iter().flat_map(|(_, record)| &record.entries);
    entries.any(|entry| matches!(entry.owner, Owner::Moved { .. }))
}

fn moves(group: &Group) -> Vec<Move> {
    let blocks = group.records.iter().flat_map(|(segment, record)| places(*segment, record));
    let moved = blocks.filter_map(|(owner, pointer)| match owner {
        Owner::Moved { volume, lba, birth, from } => Some(Move { volume, lba, birth, from, pointer }),
        _ => None,
    });
    moved.collect()
}

/// The data-column blocks of a record, what each is and how the map points to it.
pub fn places(segment: SegmentId, record: &Record) -> impl Iterator<Item = (Owner, Pointer)> + '_ {
    let k = usize::from(record.scheme.k());
    record.entries.iter().enumerate().map(move |(index, entry)| {
        let back = u8::try_from(index / k + 1).expect("a record has at most 255 rows");
        let column = Column(u8::try_from(index % k).expect("k fits u8"));
        let place = Place { segment, row: record.row.plus(u16::from(back)), column };
        (entry.owner, Pointer { place, back, crc: entry.crc })
    })
}

fn chapter(group: &Group, volume: VolumeId, through: Number) -> Chapter {
    let of_volume = |change: &&Change| match change {
        Change::Trim { volume: other, .. } => *other == volume && !planted(Bug::TrimForgotten),
        Change::Resize { volume: other, .. } => *other == volume && !planted(Bug::ResizeForgotten),
    };
    let changes = group.last().changes.iter().filter(of_volume).cloned().collect();
    let mut blocks = Vec::new();
    for (segment, record) in &group.records {
        for (owner, pointer) in places(*segment, record) {
            if let Owner::Data { volume: owner, lba, birth } = owner
                && owner == volume
            {
                blocks.push((lba, birth, pointer));
            }
        }
    }
    Chapter { volume, through, changes, blocks }
}
