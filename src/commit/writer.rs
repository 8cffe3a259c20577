//! The writer: batches become records, records become durable, and only then the map has them.
//!
//! The order (rules 2, 3, 7): a batch is written to all columns; a flush of all members answers for it; it
//! enters the overlay and is answered. Whatever fails on the way evicts the member that failed: the epoch
//! is raised and durable on the rest, and every batch still in memory is written again elsewhere.

use super::core::Core;
use super::room::no_space;
use crate::error::{Error, Kind, Result};
use crate::format::record::Plan;
use crate::format::record::{Change, Interval, Owner, Record};
use crate::format::superblock::ChunkAddress;
use crate::log::{Batch, Placed, Queued};
use crate::space::Purpose;
use crate::stripe::{Fit, Head, Packed, Payload, pack, places};
use crate::types::{Number, Row, Scheme, SegmentId, Sequence, VolumeId};
use crate::zoo::{Bug, Mark, planted, reach, reach_if};
use std::sync::Arc;

/// Bytes on members that are under way when the next batch waits: what parity takes beside the write buffer is
/// bounded by this, whatever the scheme.
const IN_FLIGHT_MAX: u64 = 64 << 20;

/// One record's share of a batch.
struct Part<'a> {
    segment: SegmentId,
    scheme: Scheme,
    columns: Vec<Option<ChunkAddress>>,
    row: Row,
    plan: Plan,
    blocks: &'a [Payload],
}

impl Core {
    /// The writer task: runs until the array is closed or fails.
    pub(super) async fn run_writer(self: Arc<Core>) {
        loop {
            let listen = self.changed.listen();
            if self.writable().is_err() {
                return;
            }
            match self.work().await {
                Ok(true) => {}
                Ok(false) => listen.await,
                // No room for a checkpoint or for what was accepted: calls fail, the array does not.
                Err(error) if error.kind() == Kind::NoSpace => {
                    self.set_stalled(true);
                    listen.await;
                }
                Err(error) => {
                    self.fail(&error);
                    return;
                }
            }
        }
    }

    /// One piece of work; `false` when there is none.
    async fn work(self: &Arc<Core>) -> Result<bool> {
        if self.stripes.pool.has_suspects() {
            self.evict().await?;
            return Ok(true);
        }
        if self.wants_checkpoint() {
            self.checkpoint().await?;
            return Ok(true);
        }
        if self.progress.with(|progress| progress.halted) {
            return Ok(false);
        }
        if self.progress.with(|progress| progress.in_flight >= IN_FLIGHT_MAX) {
            return Ok(false);
        }
        let Some((scheme, id, batch)) = self.log.with(|log| log.next_to_write()) else {
            self.set_stalled(false);
            return Ok(false);
        };
        let Some(purpose) = self.secure(scheme, &batch) else {
            reach(Mark::BatchStalled);
            self.set_stalled(true);
            return Ok(false);
        };
        reach_if(purpose == Purpose::Clean, Mark::CleanersReserveTaken);
        self.set_stalled(false);
        let Some(records) = self.place(scheme, id, &batch, purpose).await? else { return Ok(true) };
        let bytes: u64 = records.iter().map(Packed::bytes).sum();
        self.progress.with(|progress| progress.in_flight += bytes);
        let core = self.clone();
        self.env.spawner.spawn(async move {
            let mut complete = true;
            for record in records {
                complete &= core.stripes.write(record, Purpose::Data).await;
            }
            core.progress.with(|progress| progress.in_flight -= bytes);
            core.log.with(|log| log.settle(id, complete));
            core.changed.notify_all();
        });
        Ok(true)
    }

    fn wants_checkpoint(&self) -> bool {
        let budget = self.checkpoint_budget();
        self.catalog.with(|catalog| catalog.pages() >= budget || catalog.active.len() >= self.config.overlay)
    }

    /// Whose reserve a batch that was accepted must leave alone. What was accepted had room beside all of
    /// them; an eviction may have taken it. Then the batch waits (`None`) for the cleaner, and uses the
    /// cleaner's own reserve only where that cannot help.
    fn secure(&self, scheme: Scheme, batch: &Batch) -> Option<Purpose> {
        let fits = |purpose| self.batch_fits(scheme, batch, purpose);
        if fits(Purpose::Data) {
            return Some(Purpose::Data);
        }
        (self.is_exhausted() && fits(Purpose::Clean)).then_some(Purpose::Clean)
    }

    /// Takes rows for a batch and packs it: one record, or a group that counts only together. `None` when a
    /// member was evicted meanwhile: the batch must be placed anew.
    async fn place(
        &self,
        scheme: Scheme,
        id: u64,
        batch: &Batch,
        purpose: Purpose,
    ) -> Result<Option<Vec<Packed>>> {
        let era = self.log.with(|log| log.era());
        let payload: Vec<Payload> = batch
            .blocks()
            .map(|(volume, lba, birth, bytes)| Payload {
                owner: Owner::Data { volume, lba, birth },
                bytes: bytes.clone(),
            })
            .collect();
        let intervals: Vec<Interval> = batch
            .spans()
            .map(|(volume, after, through)| Interval {
                volume,
                after,
                through,
                durable: self.durable(volume),
            })
            .collect();
        let preamble = Record::preamble_bytes(&intervals, batch.changes());
        let mut parts: Vec<Part<'_>> = Vec::new();
        let mut rest = payload.as_slice();
        loop {
            let found = self.room(scheme, rest.len(), preamble, purpose).await;
            let (segment, fit) = match found {
                Ok(found) => found,
                Err(error) => {
                    self.give_up(parts.iter().map(|part| part.segment));
                    self.log.with(|log| log.set_segment(scheme, None));
                    return Err(error);
                }
            };
            if self.log.with(|log| log.era()) != era {
                reach(Mark::BatchPlacedAnew);
                self.give_up(parts.iter().map(|part| part.segment));
                return Ok(None);
            }
            let (scheme, columns) = self.stripes.space.with(|space| {
                let found = space.get(segment).expect("just opened or found");
                (found.scheme, found.scheme.columns().map(|column| found.column(column)).collect())
            });
            let row = self.stripes.space.with(|space| space.extend(segment, fit.plan.rows_with_header()));
            let (blocks, others) = rest.split_at(fit.blocks);
            rest = others;
            parts.push(Part { segment, scheme, columns, row, plan: fit.plan, blocks });
            if fit.is_last {
                break;
            }
        }
        let count = parts.len() as u64;
        reach_if(count > 1, Mark::BatchSplit);
        let first = self.log.with(|log| log.take_sequences(count));
        let group = (first, Sequence(first.0 + count - 1));
        let identity = self.stripes.pool.identity();
        let mut placed = Placed::default();
        let mut records = Vec::with_capacity(parts.len());
        for (index, part) in (0u64..).zip(parts) {
            let Part { segment, scheme, columns, row, plan, blocks } = part;
            let last = index + 1 == count;
            let head = Head {
                identity,
                segment,
                scheme,
                columns,
                row,
                plan,
                sequence: Sequence(first.0 + index),
                group,
                intervals: if last { intervals.clone() } else { Vec::new() },
                changes: if last { batch.changes().to_vec() } else { Vec::new() },
            };
            let at = places(plan, scheme);
            let packed = pack(head, blocks, &at, &self.stripes.codec(scheme))?;
            placed.pointers.extend_from_slice(&packed.pointers);
            placed.ends.push((segment, row.0 + plan.rows_with_header()));
            records.push(packed);
        }
        self.log.with(|log| log.place(id, placed));
        Ok(Some(records))
    }

    /// The stream's segment if a record fits behind what it has, else the next one.
    async fn room(
        &self,
        scheme: Scheme,
        blocks: usize,
        preamble: usize,
        purpose: Purpose,
    ) -> Result<(SegmentId, Fit)> {
        let mut checkpoints = 0;
        loop {
            let open = self.log.with(|log| log.segment(scheme));
            if let Some(segment) = open {
                let fit = self.stripes.space.with(|space| {
                    let found = space.get(segment).expect("a stream's segment is in the table");
                    let left = space.chunk_rows() - found.rows;
                    if found.sealed { None } else { Fit::of(found.scheme, blocks, preamble, left) }
                });
                if let Some(fit) = fit {
                    return Ok((segment, fit));
                }
                reach(Mark::SegmentFull);
                self.stripes.space.with(|space| space.seal(segment));
                self.log.with(|log| log.set_segment(scheme, None));
            }
            let opened = self.stripes.space.with(|space| space.open(scheme, purpose, self.reserves()));
            match opened {
                Some(segment) => self.log.with(|log| log.set_segment(scheme, Some(segment))),
                // There is room, but not in the runway: a checkpoint lists more. The first one frees what is
                // dead, the second what the first one left dead.
                None if checkpoints < 2 => {
                    reach(Mark::RunwayOutrun);
                    self.checkpoint().await?;
                    checkpoints += 1;
                }
                None => {
                    let text = "no free chunks are left for what was already accepted";
                    return Err(Error::new(Kind::NoSpace, text));
                }
            }
        }
    }

    /// Waits until a volume's history up to `number` is durable and in the map. The first who finds the
    /// batches written flushes the members for all.
    pub(super) async fn durable_through(&self, volume: VolumeId, number: Number) -> Result<()> {
        loop {
            let listen = self.changed.listen();
            let (scheme, durable) = self.catalog.with(|catalog| {
                let volume = catalog.get(volume)?;
                Ok((volume.scheme, volume.durable))
            })?;
            if durable >= number {
                return Ok(());
            }
            self.writable()?;
            if self.is_stalled() && self.is_exhausted() {
                return Err(no_space());
            }
            let ready = self.log.with(|log| log.is_written_through(scheme, volume, number));
            if ready && planted(Bug::FlushEarly) {
                return Ok(());
            }
            if !ready || self.stripes.pool.has_suspects() || !self.flush_members().await {
                listen.await;
            }
        }
    }

    /// Flushes the members and lets what became durable into the map. `false` when someone else is at it or
    /// nothing became durable.
    pub(super) async fn flush_members(&self) -> bool {
        let claimed = self
            .progress
            .with(|progress| !progress.halted && !std::mem::replace(&mut progress.flushing, true));
        if !claimed {
            return false;
        }
        let covered = self.log.with(|log| log.flushable());
        let with_moves = self.moves_wait();
        let complete = self.stripes.flush().await && !self.stripes.pool.has_suspects();
        self.progress.with(|progress| progress.flushing = false);
        if complete {
            let left = self.log.with(|log| log.durable(&covered));
            for queued in left {
                self.apply(&queued);
            }
            if with_moves {
                self.apply_moves();
            }
        }
        self.changed.notify_all();
        complete && (with_moves || !covered.is_empty())
    }

    /// A durable batch enters the map.
    fn apply(&self, queued: &Queued) {
        self.note_change();
        let mut gained: Vec<SegmentId> = Vec::new();
        let mut lost: Vec<SegmentId> = Vec::new();
        self.catalog.with(|catalog| {
            // Within a batch a block is younger than every trim that covers it.
            for change in queued.batch.changes() {
                match *change {
                    Change::Trim { volume, number, lba, blocks } => {
                        let dropped = catalog.trim(volume, number, lba, blocks);
                        lost.extend(dropped.iter().map(|pointer| pointer.place.segment));
                    }
                    Change::Resize { volume, blocks, .. } => {
                        if let Some(volume) = catalog.entry(volume) {
                            volume.durable_blocks = blocks;
                        }
                    }
                }
            }
            for ((volume, lba, birth, _), pointer) in queued.batch.blocks().zip(&queued.placed.pointers) {
                if catalog.get(volume).is_err() {
                    continue;
                }
                gained.push(pointer.place.segment);
                let old = catalog.write(volume, lba, birth, *pointer);
                lost.extend(old.map(|pointer| pointer.place.segment));
            }
            for (volume, claim) in queued.batch.claims() {
                catalog.active.claim(volume, claim);
            }
            for (volume, after, through) in queued.batch.spans() {
                if let Some(volume) = catalog.entry(volume) {
                    assert_eq!(volume.durable, after, "a volume's history enters the map in order");
                    volume.durable = through;
                }
            }
        });
        self.stripes.space.with(|space| {
            for segment in gained {
                space.pend(segment, 1);
            }
            for segment in lost {
                space.pend(segment, -1);
            }
            for &(segment, rows) in &queued.placed.ends {
                space.apply(segment, rows);
            }
            if planted(Bug::ReuseEarly) {
                space.dead().into_iter().for_each(|segment| space.reuse_early(segment));
            }
        });
    }
}
