//! Replay: what the log says beyond the newest checkpoint.
//!
//! Only records of the opening that wrote the checkpoint count, and only where the checkpoint says that the
//! log may have gone (rule 5). For each volume the intervals are taken in order; the first gap is the cut
//! (rule 4), unless a later record says that what is missing was durable: then it is lost, and reported.
//! Data is read only behind the durable numbers, where torn and rotten look alike. What cannot be read at all is not
//! taken for missing: what may be there is reported, too.

use super::doubts::Doubts;
use crate::error::Result;
use crate::format::record::{Change, HeaderPart, Interval, Owner, Record};
use crate::format::superblock::{Checkpoint, ChunkAddress};
use crate::pool::Witnesses;
use crate::runtime::join_all;
use crate::stripe::{Found, Stripes, View};
use crate::types::{
    Column, Epoch, Lba, Nonce, Number, Place, Pointer, Row, Scheme, SegmentId, Sequence, VolumeId,
};
use crate::zoo::{Bug, Mark, planted, reach};
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
    /// What may be lost: members that would know are away or cannot be read.
    pub doubts: Vec<Gap>,
    /// Reads failed where something may have been.
    pub is_unsure: bool,
    /// Where the log goes on.
    pub next_sequence: Sequence,
    /// Records read.
    pub records: u64,
}

/// Whether the blocks of a record are all there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Whole,
    /// It was never whole.
    Torn,
    /// Too many cannot be read, and nothing shows that they were not there.
    Unread,
}

/// Records that count only together.
#[derive(Debug, Default)]
struct Group {
    records: Vec<(SegmentId, Record)>,
    verdict: Option<Verdict>,
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
/// the row at which replay goes on; `volumes` the scheme of each volume and the number up to which the trees have it;
/// `witnesses` the members that answer for where it ends.
///
/// # Errors
/// When a record contradicts itself.
pub async fn replay(
    stripes: &Stripes,
    checkpoint: &Checkpoint,
    unsealed: Vec<(View, Row)>,
    volumes: &BTreeMap<VolumeId, (Scheme, Number)>,
    witnesses: &Witnesses,
) -> Result<Replayed> {
    let mut replayed = Replayed { next_sequence: checkpoint.next_sequence, ..Replayed::default() };
    if !checkpoint.has_log() {
        reach(Mark::LogClosed);
        return Ok(replayed);
    }
    let errors = stripes.pool.read_errors();
    let mut doubts = Doubts::new(witnesses);
    let mut starts = unsealed;
    starts.extend(runway(stripes, checkpoint, &mut doubts).await);
    for slot in doubts.unread().clone() {
        if !stripes.pool.answers(slot).await {
            doubts.silent(slot);
        }
    }
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
                Found::Broken { rows, wrong } => {
                    reach(Mark::RecordBroken);
                    doubts.end(&view, wrong);
                    rows
                }
                Found::Nothing { read } => {
                    doubts.end(&view, read);
                    break;
                }
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
    for (&volume, &(scheme, number)) in volumes {
        let at = follow(stripes, &mut groups, volume, number, None, &mut doubts, &mut replayed).await?;
        let last = doubts.of(volume, scheme, at);
        replayed.doubts.extend(last.map(|last| Gap { volume, first: at.next(), last }));
    }
    for group in groups.iter_mut().rev().filter(|group| has_moves(group)) {
        // A move that is torn was never in the map: the block still is where it was.
        if judge(stripes, group, true, &doubts).await? == Verdict::Whole {
            group.counts = true;
            replayed.moves.extend(moves(group));
        }
    }
    for (segment, record) in groups.iter().filter(|group| group.counts).flat_map(|group| &group.records) {
        if let Some(entered) = replayed.entered.get_mut(segment) {
            entered.rows = entered.rows.max(record.row.plus(u16::from(record.rows) + 1).0);
        }
    }
    let is_clear = replayed.doubts.is_empty() && doubts.unread().is_empty();
    replayed.is_unsure = !is_clear && stripes.pool.read_errors() > errors;
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
    // Whoever salvages takes what can be read.
    let nobody = Witnesses::default();
    let mut doubts = Doubts::new(&nobody);
    for (&volume, &(number, opening)) in volumes {
        follow(stripes, &mut groups, volume, number, Some(opening), &mut doubts, &mut replayed).await?;
    }
    Ok(replayed)
}

/// The segments that begin in chunks of the runway: any column's first header tells of all columns.
async fn runway(stripes: &Stripes, checkpoint: &Checkpoint, doubts: &mut Doubts<'_>) -> Vec<(View, Row)> {
    let mut views: BTreeMap<SegmentId, View> = BTreeMap::new();
    for some in checkpoint.runway.chunks(READS_AT_ONCE) {
        let reads = some.iter().map(|&address| async move { (address, stripes.first_block(address).await) });
        for (address, block) in join_all(reads.collect()).await {
            doubts.chunk(address, block.is_some());
            let part = block.and_then(|block| HeaderPart::decode(&block, None).ok());
            let Some(part) = part.filter(|part| began_here(stripes, part, address, checkpoint)) else {
                continue;
            };
            let Record { segment, scheme, columns, .. } = part.record;
            views.insert(segment, View { segment, scheme, columns });
        }
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
/// continue what `opening` and its successors wrote: what one of them cut stays cut. Returns the last number.
async fn follow(
    stripes: &Stripes,
    groups: &mut [Group],
    volume: VolumeId,
    number: Number,
    mut opening: Option<Opening>,
    doubts: &mut Doubts<'_>,
    replayed: &mut Replayed,
) -> Result<Number> {
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
            match judge(stripes, group, interval.through > durable, doubts).await? {
                Verdict::Whole => {
                    next = Some((index, interval.through));
                    break;
                }
                Verdict::Unread => doubts.record(volume, interval.through),
                Verdict::Torn => {}
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
            return Ok(at);
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
        reach(Mark::HistoryGap);
        replayed.gaps.push(Gap { volume, first: at.next(), last });
        at = last;
    }
}

async fn judge(
    stripes: &Stripes,
    group: &mut Group,
    check_data: bool,
    doubts: &Doubts<'_>,
) -> Result<Verdict> {
    if !group.is_complete() {
        reach(Mark::GroupIncomplete);
        return Ok(Verdict::Torn);
    }
    if !check_data || planted(Bug::TornTaken) {
        return Ok(Verdict::Whole);
    }
    if let Some(verdict) = group.verdict {
        return Ok(verdict);
    }
    let mut verdict = Verdict::Whole;
    for (segment, record) in &group.records {
        let view = View { segment: *segment, scheme: record.scheme, columns: record.columns.clone() };
        let torn = stripes.make_whole(&view, record).await?;
        if torn.rows.is_empty() {
            continue;
        }
        verdict = Verdict::Unread;
        if doubts.is_proven(&view, torn.wrong) {
            verdict = Verdict::Torn;
            break;
        }
    }
    match verdict {
        Verdict::Whole => {}
        Verdict::Torn => reach(Mark::RecordTorn),
        Verdict::Unread => reach(Mark::RecordUnread),
    }
    group.verdict = Some(verdict);
    Ok(verdict)
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
