//! Rebuild: every segment that lacks columns gets them back, on whatever members have room.
//!
//! The order: commit, so that all that is to be rebuilt is settled; the most endangered segments first, each
//! column onto a chunk that was claimed for it; flush; only then does the segment table name the new chunk, and
//! the next checkpoint makes that durable. A crash before it leaves the old table and a free chunk: so a rebuild
//! goes on where the last checkpoint was, and none is ever half of a column.

use super::gait::Gait;
use super::losses::losses;
use crate::commit::Core;
use crate::error::Result;
use crate::format::superblock::{ChunkAddress, Job, JobKind, MemberState};
use crate::format::tables::ColumnState;
use crate::runtime::join_all;
use crate::space::Lacking;
use crate::stripe::{Refill, Refilled};
use crate::types::{BLOCK_U64, Column, SegmentId};
use crate::zoo::{Bug, Mark, planted, reach, reach_if};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Segments that are rebuilt at once: their reads and writes overlap.
const AT_ONCE: usize = 4;
/// Bytes written between two checkpoints: what a crash makes it do again.
const CHECKPOINT_BYTES: u64 = 256 << 20;

/// How fast a job may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pace {
    /// Bytes per second at most: those that a rebuild writes to members, those that a scrub reads.
    pub bytes_per_second: Option<u64>,
}

/// What a rebuild did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rebuilt {
    /// Bytes of members that were read.
    pub read: u64,
    /// Bytes written to members.
    pub written: u64,
    /// Columns that were written.
    pub columns: u64,
    /// Blocks found lost for good on the way.
    pub lost: u64,
    /// Columns that are still missing, because no member has room for them or too little is left to make them.
    pub missing: u64,
    /// It was paused before its end. The next one goes on there.
    pub paused: bool,
}

/// Gives every segment the columns that it lacks, as far as there is room, and lets members that were replaced
/// go. Everything it did is durable on return. An array that is closed meanwhile stops it between two segments; so does
/// who pauses it.
///
/// # Errors
/// When the array takes no more writes, or its metadata is damaged.
pub async fn rebuild(core: &Arc<Core>, pace: Pace) -> Result<Rebuilt> {
    let _maintenance = core.maintenance().await;
    rebuild_alone(core, pace).await
}

/// [`rebuild`] for who has the right to maintain already.
pub(super) async fn rebuild_alone(core: &Arc<Core>, pace: Pace) -> Result<Rebuilt> {
    let mut rebuild = Rebuild {
        core,
        gait: Gait::new(core, JobKind::Rebuild, pace.bytes_per_second, core.reins(JobKind::Rebuild).stops),
        done: Rebuilt::default(),
        cramped: BTreeSet::new(),
    };
    rebuild.run().await?;
    Ok(rebuild.done)
}

struct Rebuild<'a> {
    core: &'a Arc<Core>,
    gait: Gait<'a>,
    done: Rebuilt,
    /// Segments that lack columns for want of room.
    cramped: BTreeSet<SegmentId>,
}

impl Rebuild<'_> {
    async fn run(&mut self) -> Result<()> {
        // What could not be completed is not tried again before the members change.
        let mut hopeless = BTreeSet::new();
        let (mut tried, mut before) = (None, None);
        while self.is_needed() && !self.gait.is_over() {
            self.core.settle_lacking().await?;
            let mut work = self.lacking();
            work.retain(|lacking| !hopeless.contains(&lacking.segment));
            // Where there are fewer members than a scheme has columns, whatever is written meanwhile lacks some, too.
            let now = (self.done.columns, self.core.stripes().pool.identity().epoch);
            let is_vain = before.replace(now) == Some(now);
            if work.is_empty() || is_vain {
                // What was dead before the last checkpoint is free by now: there may be room where there was none.
                let cramped = std::mem::take(&mut self.cramped);
                if cramped.is_empty() || tried.replace(self.done.columns) == Some(self.done.columns) {
                    self.core.remove_left().await?;
                    break;
                }
                reach(Mark::RebuildTriesAgain);
                hopeless.retain(|segment| !cramped.contains(segment));
                work = self.lacking();
                work.retain(|lacking| cramped.contains(&lacking.segment));
            }
            self.plan(&work);
            let mut unsaved = 0;
            for group in work.chunks(AT_ONCE) {
                if self.core.is_ending() {
                    return Ok(());
                }
                if self.gait.is_paused() {
                    break;
                }
                let before = self.done.written;
                hopeless.extend(self.group(group).await?);
                unsaved += self.done.written - before;
                if unsaved >= CHECKPOINT_BYTES {
                    self.core.checkpoint().await?;
                    unsaved = 0;
                }
                self.gait.rest(self.done.written, || false).await;
            }
        }
        self.done.paused = self.gait.is_paused() && self.is_needed();
        if self.done.paused && self.done.columns > 0 {
            self.core.checkpoint().await?;
        }
        self.done.missing = self.lacking().iter().map(|lacking| lacking.columns.len() as u64).sum();
        if self.done.missing == 0 && self.done.columns > 0 {
            self.core.note_rebuilt(self.done.written);
        }
        if self.done.missing == 0 && self.core.stripes().pool.job(JobKind::Rebuild).is_some() {
            self.core.stripes().pool.end_job(JobKind::Rebuild);
            self.core.checkpoint().await?;
        }
        Ok(())
    }

    fn is_needed(&self) -> bool {
        let stripes = self.core.stripes();
        !stripes.pool.leaving().is_empty()
            || stripes.space.with(|space| {
                !space.lacking_open().is_empty() || !space.lacking(SegmentId(u64::MAX)).is_empty()
            })
    }

    fn lacking(&self) -> Vec<Lacking> {
        let next = self.core.stripes().pool.superblock().checkpoint.next_segment;
        self.core.stripes().space.with(|space| space.lacking(next))
    }

    /// Announces what there is to do, going on from what an interrupted rebuild had done.
    fn plan(&self, work: &[Lacking]) {
        let pool = &self.core.stripes().pool;
        let left: u64 = work.iter().map(bytes).sum();
        let done = pool.job(JobKind::Rebuild).map_or(0, |job| job.done);
        reach_if(done > 0 && self.done.columns == 0, Mark::RebuildResumed);
        pool.set_job(Job { kind: JobKind::Rebuild, done, total: done + left, next: SegmentId(0) });
    }

    /// Rebuilds some segments at once. Returns those that cannot be completed.
    async fn group(&mut self, group: &[Lacking]) -> Result<Vec<SegmentId>> {
        let stripes = self.core.stripes();
        let _filling = self.core.filling().await;
        let mut hopeless = Vec::new();
        let mut tasks: Vec<(&Lacking, Vec<Refill>)> = Vec::new();
        let mut claimed: BTreeMap<SegmentId, Vec<ChunkAddress>> = BTreeMap::new();
        for lacking in group {
            let (refills, fresh, is_all) = self.claim(lacking);
            claimed.insert(lacking.segment, fresh);
            if !is_all {
                hopeless.push(lacking.segment);
                self.cramped.insert(lacking.segment);
            }
            if !refills.is_empty() {
                tasks.push((lacking, refills));
            }
        }
        let refilling = tasks.iter().map(|(lacking, refills)| stripes.refill(lacking.segment, refills));
        let outcomes = join_all(refilling.collect()).await;
        let durable = outcomes.iter().flatten().all(|refilled| refilled.written_through)
            && stripes.flush().await
            && !stripes.pool.has_suspects();
        for ((lacking, refills), outcome) in tasks.into_iter().zip(outcomes) {
            let adopted = match &outcome {
                Ok(refilled) if durable => {
                    self.done.read += refilled.read;
                    self.done.written += refilled.written;
                    self.adopt(lacking, &refills, refilled).await?
                }
                _ => false,
            };
            if !adopted {
                let fresh = claimed.remove(&lacking.segment).unwrap_or_default();
                stripes.space.with(|space| fresh.into_iter().for_each(|at| space.give_back(at)));
            }
            if durable && !adopted {
                hopeless.push(lacking.segment);
            }
            outcome?;
            self.report(lacking);
        }
        if stripes.pool.has_suspects() {
            self.core.evict().await?;
        }
        Ok(hopeless)
    }

    /// Chunks for the columns that a segment still lacks, those of them that were free, and whether none is without.
    fn claim(&self, lacking: &Lacking) -> (Vec<Refill>, Vec<ChunkAddress>, bool) {
        let reserves = self.core.reserves();
        let leaving = self.core.stripes().pool.leaving();
        self.core.stripes().space.with(|space| {
            let mut taken = Vec::new();
            let (mut refills, mut fresh) = (Vec::new(), Vec::new());
            // Where there is room for some columns only, a new member takes the place of the one it replaces.
            let columns =
                space.get(lacking.segment).map(|segment| segment.columns.clone()).unwrap_or_default();
            let old = |column: Column| columns.get(usize::from(column.0)).and_then(ColumnState::address);
            let stays = |column: &Column| !old(*column).is_some_and(|at| leaving.contains(&at.slot));
            let mut wanted = lacking.columns.clone();
            // A member may have come back meanwhile.
            wanted.retain(|column| !space.has(lacking.segment, *column));
            wanted.sort_by_key(stays);
            for column in &wanted {
                let column = *column;
                if let Some(target) = space.claim(lacking.segment, column, &taken, reserves) {
                    taken.push(target);
                    fresh.extend((old(column) != Some(target)).then_some(target));
                    refills.push(Refill { column, target });
                }
            }
            let is_all = refills.len() == wanted.len();
            (refills, fresh, is_all)
        })
    }

    /// The table names the new chunks, unless that would give up what a member may still bring back.
    async fn adopt(&mut self, lacking: &Lacking, refills: &[Refill], refilled: &Refilled) -> Result<bool> {
        let lost = losses(self.core, &refilled.at_risk).await?;
        let stripes = self.core.stripes();
        let is_short = self.is_short(lacking) && !planted(Bug::ShortAdopted);
        if (lost > 0 || is_short) && self.may_return(lacking) {
            reach(Mark::RebuildSpares);
            return Ok(false);
        }
        self.done.lost += lost;
        let adopted = stripes.space.with(|space| {
            let there = space.get(lacking.segment).is_some()
                && refills.iter().all(|refill| stripes.pool.device(refill.target.slot).is_some());
            if there {
                for refill in refills {
                    space.adopt(lacking.segment, refill.column, refill.target);
                }
            }
            there
        });
        reach_if(!adopted, Mark::RebuildInVain);
        if adopted {
            self.done.columns += refills.len() as u64;
        }
        Ok(adopted)
    }

    /// Whether too few of a segment's columns can be read to make any of the others: then not even its headers may be
    /// left to say what is lost.
    fn is_short(&self, lacking: &Lacking) -> bool {
        let stripes = self.core.stripes();
        stripes.space.with(|space| {
            space.get(lacking.segment).is_some_and(|segment| {
                let readable = segment.chunks().filter(|at| stripes.pool.reader(at.slot).is_some());
                readable.count() < usize::from(segment.scheme.k())
            })
        })
    }

    /// Whether a column is on a member that is out of use and may come back with what is missing now.
    fn may_return(&self, lacking: &Lacking) -> bool {
        let superblock = self.core.stripes().pool.superblock();
        self.core.stripes().space.with(|space| {
            let Some(segment) = space.get(lacking.segment) else { return false };
            let columns = lacking.columns.iter().map(|column| segment.columns[usize::from(column.0)]);
            // A doubted one may have what is missing as well.
            columns
                .filter_map(|state| state.address())
                .any(|at| superblock.members[usize::from(at.slot.0)].state == MemberState::Out)
        })
    }

    fn report(&self, lacking: &Lacking) {
        let pool = &self.core.stripes().pool;
        if let Some(mut job) = pool.job(JobKind::Rebuild) {
            job.done = job.total.min(job.done + bytes(lacking));
            pool.set_job(job);
        }
    }
}

fn bytes(lacking: &Lacking) -> u64 {
    lacking.columns.len() as u64 * u64::from(lacking.rows) * BLOCK_U64
}
