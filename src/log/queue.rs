//! The write buffer: one stream of batches for each scheme, oldest first.
//!
//! Invariants: a batch leaves the front of its stream only when it is durable, so each volume's history
//! enters the map in order (rule 4); its bytes stay in memory until then, so that a failed flush or member
//! costs nothing (rule 7).

use super::batch::{Batch, Buffered};
use super::edits::{EditId, Edits};
use crate::format::record::Change;
use crate::map::Claim;
use crate::types::{Lba, Number, Pointer, Scheme, SegmentId, Sequence, VolumeId};
use crate::zoo::{Bug, Mark, planted, reach_if};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// How far a batch has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Waits for its turn.
    Sealed,
    /// Its records are being written.
    Writing,
    /// A member failed under it: it will be written again.
    Failed,
    /// Its records are written, not yet durable.
    Written,
    /// Its records are durable on all members in use.
    Durable,
}

/// Where the records of a batch went.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    /// A pointer for each block, in the batch's order.
    pub pointers: Vec<Pointer>,
    /// The segments entered, and the row behind the last record in each.
    pub ends: Vec<(SegmentId, u16)>,
}

/// A sealed batch.
#[derive(Clone, Debug)]
pub struct Queued {
    /// Counts batches over all streams.
    pub id: u64,
    /// What it holds.
    pub batch: Arc<Batch>,
    /// How far it has come.
    pub stage: Stage,
    /// Where it went.
    pub placed: Placed,
}

#[derive(Debug, Default)]
struct Stream {
    open: Batch,
    queue: VecDeque<Queued>,
    segment: Option<SegmentId>,
}

/// The write buffer and what is under way.
#[derive(Debug)]
pub struct Log {
    streams: BTreeMap<Scheme, Stream>,
    next_batch: u64,
    next_sequence: Sequence,
    bytes: u64,
    /// Blocks of each scheme that were accepted as new.
    claimed: BTreeMap<Scheme, u64>,
    era: u64,
    edits: Edits,
}

impl Log {
    /// An empty buffer; the log goes on at `next`.
    pub fn new(next: Sequence) -> Log {
        Log {
            streams: BTreeMap::new(),
            next_batch: 0,
            next_sequence: next,
            bytes: 0,
            claimed: BTreeMap::new(),
            era: 0,
            edits: Edits::default(),
        }
    }

    /// The next positions in the log: `count` of them, the first is returned.
    pub fn take_sequences(&mut self, count: u64) -> Sequence {
        let first = self.next_sequence;
        self.next_sequence = Sequence(first.0 + count);
        first
    }

    /// Where the log goes on.
    pub fn next_sequence(&self) -> Sequence {
        self.next_sequence
    }

    fn stream(&mut self, scheme: Scheme) -> &mut Stream {
        self.streams.entry(scheme).or_default()
    }

    /// Accepts consecutive blocks under one number; `claim` of them are new.
    pub fn write(
        &mut self,
        scheme: Scheme,
        (volume, lba, number): (VolumeId, Lba, Number),
        blocks: Vec<Bytes>,
        claim: Claim,
    ) {
        self.edits.wrote(volume, lba, &blocks);
        let open = &mut self.stream(scheme).open;
        let before = open.bytes();
        for (index, block) in (0..).zip(blocks) {
            open.write(volume, lba.plus(index), number, block);
        }
        open.claim(volume, claim);
        let after = open.bytes();
        self.bytes = self.bytes + after - before;
        if !planted(Bug::ClaimForgotten) {
            *self.claimed.entry(scheme).or_default() += claim.blocks;
        }
    }

    /// Accepts a change.
    pub fn change(&mut self, scheme: Scheme, change: Change) {
        if let Change::Trim { volume, lba, blocks, .. } = change {
            self.edits.trimmed(volume, lba, blocks);
        }
        let open = &mut self.stream(scheme).open;
        let before = open.bytes();
        open.change(change);
        let after = open.bytes();
        self.bytes = self.bytes + after - before;
    }

    /// A call is about to change a block in part: what others make of it from here on is noted.
    pub fn begin_edit(&mut self, volume: VolumeId, lba: Lba) -> EditId {
        self.edits.begin(volume, lba)
    }

    /// What others made of the block since the edit began.
    pub fn noted(&self, id: EditId) -> Option<Buffered> {
        let note = self.edits.note(id);
        reach_if(note.is_some(), Mark::EditNoted);
        note
    }

    /// The edit is accepted, or given up.
    pub fn end_edit(&mut self, id: EditId) {
        self.edits.end(id);
    }

    /// Blocks of the batch that is being filled.
    pub fn open_blocks(&self, scheme: Scheme) -> u64 {
        self.streams.get(&scheme).map_or(0, |stream| stream.open.len())
    }

    /// Intervals and changes of the batch that is being filled: what its description must hold besides blocks.
    pub fn open_preamble(&self, scheme: Scheme) -> usize {
        self.streams
            .get(&scheme)
            .map_or(0, |stream| stream.open.changes().len() + stream.open.spans().count())
    }

    /// Seals the batch that is being filled. `false` when it is empty.
    pub fn seal(&mut self, scheme: Scheme) -> bool {
        let id = self.next_batch;
        let stream = self.stream(scheme);
        if stream.open.is_empty() {
            return false;
        }
        let batch = Arc::new(std::mem::take(&mut stream.open));
        stream.queue.push_back(Queued { id, batch, stage: Stage::Sealed, placed: Placed::default() });
        self.next_batch += 1;
        true
    }

    /// Seals every stream's batch. `false` when all are empty.
    pub fn seal_all(&mut self) -> bool {
        let schemes: Vec<Scheme> = self.streams.keys().copied().collect();
        let sealed: Vec<bool> = schemes.into_iter().map(|scheme| self.seal(scheme)).collect();
        sealed.contains(&true)
    }

    /// What the buffer says of consecutive blocks, the first of them at `lba`: what the youngest batch says of each.
    pub fn look(&self, scheme: Scheme, volume: VolumeId, lba: Lba, blocks: usize) -> Vec<Option<Buffered>> {
        let mut seen = vec![None; blocks];
        let Some(stream) = self.streams.get(&scheme) else { return seen };
        let batches = stream.queue.iter().map(|queued| queued.batch.as_ref()).chain([&stream.open]);
        if planted(Bug::OldestBuffered) {
            batches.rev().for_each(|batch| batch.look(volume, lba, &mut seen));
        } else {
            batches.for_each(|batch| batch.look(volume, lba, &mut seen));
        }
        seen
    }

    /// The first block of a range that the buffer has bytes for.
    pub fn first_written(&self, scheme: Scheme, volume: VolumeId, range: Range<Lba>) -> Option<Lba> {
        let stream = self.streams.get(&scheme)?;
        let batches = stream.queue.iter().map(|queued| queued.batch.as_ref()).chain([&stream.open]);
        batches.filter_map(|batch| batch.first_written(volume, range.clone())).min()
    }

    /// The oldest sealed batch that nobody writes yet.
    pub fn next_to_write(&self) -> Option<(Scheme, u64, Arc<Batch>)> {
        let (scheme, queued) = self
            .streams
            .iter()
            .flat_map(|(scheme, stream)| stream.queue.iter().map(move |queued| (*scheme, queued)))
            .filter(|(_, queued)| queued.stage == Stage::Sealed)
            .min_by_key(|(_, queued)| queued.id)?;
        Some((scheme, queued.id, queued.batch.clone()))
    }

    /// The segment that a stream is filling.
    pub fn segment(&self, scheme: Scheme) -> Option<SegmentId> {
        self.streams.get(&scheme).and_then(|stream| stream.segment)
    }

    /// A stream goes on in another segment, or in none yet.
    pub fn set_segment(&mut self, scheme: Scheme, segment: Option<SegmentId>) {
        self.stream(scheme).segment = segment;
    }

    /// Streams that are filling one of these segments go on in another. Returns those that they were filling.
    pub fn leave_segments(&mut self, segments: &BTreeSet<SegmentId>) -> Vec<SegmentId> {
        let streams = self.streams.values_mut();
        streams.filter_map(|stream| stream.segment.take_if(|segment| segments.contains(segment))).collect()
    }

    fn find(&mut self, id: u64) -> Option<&mut Queued> {
        self.streams.values_mut().flat_map(|stream| stream.queue.iter_mut()).find(|queued| queued.id == id)
    }

    /// A sealed batch is being written from now on; this is where it goes.
    pub fn place(&mut self, id: u64, placed: Placed) {
        let queued = self.find(id).expect("a batch stays until it is durable");
        assert_eq!(queued.stage, Stage::Sealed);
        queued.stage = Stage::Writing;
        queued.placed = placed;
    }

    /// The records of a batch are written, or one of them failed.
    pub fn settle(&mut self, id: u64, complete: bool) {
        let queued = self.find(id).expect("a batch stays until it is durable");
        assert_eq!(queued.stage, Stage::Writing);
        queued.stage = if complete { Stage::Written } else { Stage::Failed };
    }

    /// Counts how often everything was started over. Who places a batch across an await looks again.
    pub fn era(&self) -> u64 {
        self.era
    }

    /// Batches that a flush that starts now makes durable.
    pub fn flushable(&self) -> Vec<u64> {
        self.streams
            .values()
            .flat_map(|stream| &stream.queue)
            .filter(|queued| queued.stage == Stage::Written)
            .map(|queued| queued.id)
            .collect()
    }

    /// These batches are durable. Returns those that leave: at the front of their stream, in order.
    pub fn durable(&mut self, ids: &[u64]) -> Vec<Queued> {
        let mut left = Vec::new();
        for (scheme, stream) in &mut self.streams {
            for queued in stream.queue.iter_mut().filter(|queued| ids.contains(&queued.id)) {
                assert!(queued.stage >= Stage::Written);
                queued.stage = Stage::Durable;
            }
            if planted(Bug::BatchesSwapped) {
                stream.queue.make_contiguous().sort_by_key(|queued| queued.stage != Stage::Durable);
            }
            while let Some(queued) = stream.queue.pop_front_if(|queued| queued.stage == Stage::Durable) {
                self.bytes -= queued.batch.bytes();
                let claimed: u64 = queued.batch.claims().map(|(_, claim)| claim.blocks).sum();
                *self.claimed.entry(*scheme).or_default() -= claimed;
                left.push(queued);
            }
        }
        left
    }

    /// Whether every batch that holds a number of this volume up to `number` is at least written, so that a
    /// flush of the members answers for them.
    pub fn is_written_through(&self, scheme: Scheme, volume: VolumeId, number: Number) -> bool {
        let Some(stream) = self.streams.get(&scheme) else { return true };
        let last = stream
            .queue
            .iter()
            .rposition(|queued| queued.batch.spans().any(|(v, after, _)| v == volume && after < number));
        last.is_none_or(|last| {
            stream.queue.iter().take(last + 1).all(|queued| queued.stage >= Stage::Written)
        })
    }

    /// Whether no batch is being written.
    pub fn is_quiet(&self) -> bool {
        self.streams.values().flat_map(|stream| &stream.queue).all(|queued| queued.stage != Stage::Writing)
    }

    /// Every batch that is still here is written again, to other segments, with the same numbers. A durable
    /// one too: replay would not get past the broken record that lies before it in its segment.
    /// Returns the segments that are given up.
    pub fn start_over(&mut self) -> BTreeSet<SegmentId> {
        self.era += 1;
        let mut given_up = BTreeSet::new();
        for stream in self.streams.values_mut() {
            given_up.extend(stream.segment.take());
            for queued in &mut stream.queue {
                queued.stage = Stage::Sealed;
                let placed = std::mem::take(&mut queued.placed);
                reach_if(!placed.ends.is_empty(), Mark::BatchWrittenAgain);
                given_up.extend(placed.ends.into_iter().map(|(segment, _)| segment));
            }
        }
        given_up
    }

    /// The batches that are accepted but not placed, those that are being filled included.
    pub fn unplaced(&self) -> impl Iterator<Item = (Scheme, &Batch)> {
        self.streams.iter().flat_map(|(scheme, stream)| {
            let sealed = stream.queue.iter().filter(|queued| queued.placed.ends.is_empty());
            let sealed = sealed.map(|queued| queued.batch.as_ref());
            let open = std::iter::once(&stream.open).filter(|open| !open.is_empty());
            sealed.chain(open).map(|batch| (*scheme, batch))
        })
    }

    /// Blocks of each scheme that were accepted as new.
    pub fn claimed(&self) -> impl Iterator<Item = (Scheme, u64)> + '_ {
        self.claimed.iter().map(|(scheme, blocks)| (*scheme, *blocks))
    }

    /// Whether a checkpoint, once these batches are in the map, will count fewer blocks than were claimed.
    pub fn may_shrink(&self) -> bool {
        let sealed = self.streams.values().flat_map(|stream| &stream.queue);
        let open = self.streams.values().map(|stream| &stream.open);
        let mut batches = sealed.map(|queued| queued.batch.as_ref()).chain(open);
        batches.any(|batch| !batch.changes().is_empty() || batch.claims().any(|(_, claim)| claim.guessed))
    }

    /// The batch that is being filled.
    pub fn open(&self, scheme: Scheme) -> Option<&Batch> {
        self.streams.get(&scheme).map(|stream| &stream.open)
    }

    /// The schemes of the streams.
    pub fn schemes(&self) -> impl Iterator<Item = Scheme> + '_ {
        self.streams.keys().copied()
    }

    /// Bytes of the write buffer in use.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether everything accepted is durable and in the map.
    pub fn is_empty(&self) -> bool {
        self.streams.values().all(|stream| stream.open.is_empty() && stream.queue.is_empty())
    }
}
