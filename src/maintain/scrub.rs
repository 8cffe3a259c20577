//! Scrub: every block of every segment verified, parity, headers and superblocks too, and healed where it can be.
//!
//! It goes by segment numbers and says in the superblock how far it is, so that an interrupted one goes on there.
//! What is written while it runs is new, and verified by the next one.

use super::gait::Gait;
use super::losses::losses;
use super::rebuild::{Pace, rebuild_alone};
use crate::commit::Core;
use crate::error::Result;
use crate::format::superblock::{EventKind, Job, JobKind};
use crate::limits::RING_SLOTS;
use crate::runtime::join_all;
use crate::types::{BLOCK_U64, Epoch, SegmentId};
use crate::zoo::{Mark, reach_if};
use std::sync::Arc;

/// Segments that are scrubbed at once.
const AT_ONCE: usize = 4;
/// Bytes read between two checkpoints: what a crash makes it do again.
const CHECKPOINT_BYTES: u64 = 1 << 30;

/// What a scrub found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scrub {
    /// Bytes of members that were read.
    pub read: u64,
    /// Bytes that an interrupted scrub had verified before: this one went on behind them.
    pub resumed: u64,
    /// Blocks rewritten in place with their verified bytes.
    pub healed: u64,
    /// Copies of the superblock that were destroyed and are written anew.
    pub superblocks: u64,
    /// Bytes written, by rebuilding what was missing.
    pub written: u64,
    /// Blocks lost for good; data among them is in the damage list now.
    pub lost: u64,
    /// Columns of segments that are still missing, and records without a description left: what is there has
    /// less redundancy than it should have.
    pub reduced: u64,
    /// It was paused before its end. The next one goes on there.
    pub paused: bool,
    /// It was stopped before its end. The next one begins anew.
    pub stopped: bool,
}

/// Rebuilds what is missing, then verifies everything and heals what is wrong. Durable on return. An array that is
/// closed meanwhile stops it between two segments; so does who pauses or stops it. When members change, what is missing
/// is rebuilt before it goes on, also while it rests.
///
/// # Errors
/// When the array takes no more writes, or its metadata is damaged.
pub async fn scrub(core: &Arc<Core>, pace: Pace) -> Result<Scrub> {
    let stops = core.reins(JobKind::Scrub).stops;
    let _maintenance = core.maintenance().await;
    let healed_before = core.stripes().counters().healed;
    let gait = Gait::new(core, JobKind::Scrub, pace.bytes_per_second, stops);
    let mut done = Scrub::default();
    done.run(core, gait, healed_before).await?;
    done.healed = core.stripes().counters().healed - healed_before;
    Ok(done)
}

impl Scrub {
    /// From where the last one was to the end, or to where it is held. `healed_before` blocks were healed by others.
    async fn run(&mut self, core: &Arc<Core>, mut gait: Gait<'_>, healed_before: u64) -> Result<()> {
        let stripes = core.stripes();
        let mut epoch = self.rebuild(core).await?;
        // All that is settled by now, also what was written a moment ago.
        core.checkpoint().await?;
        self.stopped = gait.is_stopped();
        if self.stopped {
            return Ok(());
        }
        let (mut job, segments) = plan(core);
        self.resumed = job.done;
        reach_if(self.resumed > 0, Mark::ScrubResumed);
        let mut unsaved = 0;
        for group in segments.chunks(AT_ONCE) {
            if core.is_ending() {
                return Ok(());
            }
            (self.stopped, self.paused) = (gait.is_stopped(), gait.is_paused());
            if self.stopped || self.paused {
                return core.checkpoint().await;
            }
            if stripes.pool.superblock().epoch != epoch {
                epoch = self.rebuild(core).await?;
            }
            let scrubbing = group.iter().map(|(id, _)| stripes.scrub(*id));
            for ((id, bytes), found) in group.iter().zip(join_all(scrubbing.collect()).await) {
                // A segment that was freed meanwhile has nothing to verify.
                if let Ok(found) = found {
                    self.lost += losses(core, &found.at_risk).await?;
                    self.reduced += found.indescribable;
                }
                self.read += bytes;
                unsaved += bytes;
                (job.done, job.next) = (job.done + bytes, SegmentId(id.0 + 1));
            }
            // Who stopped it meanwhile wants how far it is forgotten.
            if !gait.is_stopped() {
                stripes.pool.set_job(job);
            }
            if stripes.pool.has_suspects() {
                core.evict().await?;
            }
            if unsaved >= CHECKPOINT_BYTES {
                core.checkpoint().await?;
                unsaved = 0;
            }
            while gait.rest(self.read, || stripes.pool.superblock().epoch != epoch).await {
                epoch = self.rebuild(core).await?;
            }
        }
        if stripes.pool.superblock().epoch != epoch {
            self.rebuild(core).await?;
        }
        self.superblocks = core.mend_superblocks().await?;
        stripes.pool.end_job(JobKind::Scrub);
        stripes.pool.set_scrubbed(core.env().clock.wall_seconds());
        let healed = stripes.counters().healed - healed_before;
        stripes.pool.note(EventKind::Scrubbed, |event| event.amounting_to(healed));
        core.checkpoint().await
    }

    /// Rebuilds what is missing. Returns the epoch in which it was.
    async fn rebuild(&mut self, core: &Arc<Core>) -> Result<Epoch> {
        let epoch = core.stripes().pool.superblock().epoch;
        let rebuilt = rebuild_alone(core, Pace::default()).await?;
        self.written += rebuilt.written;
        self.lost += rebuilt.lost;
        self.reduced = rebuilt.missing;
        Ok(epoch)
    }
}

/// Forgets how far a scrub was that is under way or was interrupted: the next one begins anew. One that is under way,
/// or waits for its turn, ends at its next look, which nobody waits for here. Lost redundancy is more urgent than what
/// was asked for: a rebuild that it began goes on to its end.
///
/// # Errors
/// When it could not be made durable.
pub async fn forget_scrub(core: &Arc<Core>) -> Result<()> {
    core.hold(JobKind::Scrub, |reins| {
        reins.stops += 1;
        reins.paused = false;
    });
    core.stripes().pool.end_job(JobKind::Scrub);
    core.checkpoint().await
}

/// What there is to scrub, going on from where an interrupted one was.
fn plan(core: &Core) -> (Job, Vec<(SegmentId, u64)>) {
    let pool = &core.stripes().pool;
    let before = pool.job(JobKind::Scrub);
    let from = before.map_or(SegmentId(0), |job| job.next);
    let segments: Vec<(SegmentId, u64)> = core.stripes().space.with(|space| {
        let settled = space.iter().filter(|(id, segment)| *id >= from && segment.is_settled());
        settled
            .map(|(id, segment)| {
                let rows = u64::from(segment.rows) * segment.chunks().count() as u64;
                (id, rows * BLOCK_U64)
            })
            .collect()
    });
    let left: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
    let done = before.map_or(0, |job| job.done);
    let job = Job { kind: JobKind::Scrub, done, total: done + left, next: from };
    pool.set_job(job);
    (job, segments)
}

impl Core {
    /// Writes the superblock into every slot of every ring, if a copy was destroyed. Returns how many were.
    async fn mend_superblocks(&self) -> Result<u64> {
        let devices = self.stripes().pool.active();
        let looks = devices.iter().map(|(_, device)| {
            let device = device.clone();
            async move { crate::pool::read_rings(device.as_ref()).await.damaged as u64 }
        });
        let damaged: u64 = join_all(looks.collect()).await.into_iter().sum();
        reach_if(damaged > 0, Mark::SuperblocksMended);
        if damaged > 0 {
            for _ in 0..RING_SLOTS {
                self.checkpoint().await?;
            }
        }
        Ok(damaged)
    }
}
