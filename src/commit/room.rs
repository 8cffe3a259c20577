//! Room on the members: who waits for it, who can still make some, and when a call is refused instead.
//!
//! What is accepted has room beside all reserves at that moment. When room is short but live blocks are few, a
//! caller waits for the cleaner, and before it comes to that every call is slowed a little. A call fails with
//! [`Kind::NoSpace`] only when nothing waits in the buffer and the cleaner has found nothing more to free since
//! the last change: so nobody hangs.

use super::capacity::{
    CALL_SHARE, OPEN_OF_PAGES, blocks_per_segment, pages_per_segment, rows_of, segments_of, segments_of_rows,
};
use super::core::Core;
use super::pace::Pace;
use crate::error::{Error, Kind, Result};
use crate::format::record::Record;
use crate::log::Batch;
use crate::space::{Purpose, Reserves};
use crate::stripe::Fit;
use crate::types::{Scheme, SegmentId};
use crate::zoo::{Mark, reach};
use std::collections::BTreeMap;

/// The cleaner begins when fewer than one in so many segments is free, and at least [`LOW_MIN`], beside what it may
/// fill itself.
const LOW_SHARE: u64 = 32;
const LOW_MIN: u64 = 3;

/// How scarce room is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Shortage {
    /// Enough is free.
    None,
    /// Less is free than should be.
    Low,
    /// A call waits for room.
    Critical,
}

/// Who waits for room and who makes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Supply {
    /// Calls that wait for room.
    waiting: u64,
    /// What was accepted finds no room: an eviction took it.
    stalled: bool,
    /// Counts everything by which blocks may have died.
    changes: u64,
    /// What `changes` was when the cleaner found nothing more to free.
    exhausted: Option<u64>,
    /// The cleaner is at work.
    cleaning: bool,
    /// The array is being closed: no more cleaning.
    resting: bool,
    /// How fast calls may come meanwhile.
    pace: Pace,
}

impl Supply {
    fn is_exhausted(&self) -> bool {
        self.resting || self.exhausted == Some(self.changes)
    }
}

/// A call that waits for room, until it is dropped.
struct Waiting<'a>(&'a Core);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.supply.with(|supply| supply.waiting -= 1);
    }
}

/// The cleaner at work, until it is dropped.
pub(crate) struct Cleaning<'a>(&'a Core);

impl Drop for Cleaning<'_> {
    fn drop(&mut self) {
        self.0.supply.with(|supply| supply.cleaning = false);
        self.0.changed.notify_all();
    }
}

impl Core {
    /// Whether everything accepted and `blocks` more of a scheme fit beside what is kept from `purpose`.
    pub(super) fn has_room(&self, scheme: Scheme, blocks: u64, purpose: Purpose) -> bool {
        let mut rows = self.unplaced();
        let fit = self.stripes.space.with(|space| space.fit(scheme));
        self.log.with(|log| {
            let open = log.open(scheme).filter(|open| !open.is_empty());
            let (len, bytes) = open.map_or((0, 0), |open| (open.len(), preamble(open)));
            let before = open.map_or(0, |_| rows_of(fit, len, bytes));
            // An interval and two changes of one more call.
            *rows.entry(scheme).or_default() += rows_of(fit, len + blocks, bytes + 96) - before;
        });
        self.all_fit(&self.segments(rows), purpose, self.reserves())
    }

    /// Whether everything accepted and so many new pages of a scheme fit beside these reserves.
    pub(super) fn has_room_for_pages(&self, meta: Scheme, pages: u64, reserves: Reserves) -> bool {
        let (rows, fit) = self.stripes.space.with(|space| (space.chunk_rows(), space.fit(meta)));
        let mut needed = self.segments(self.unplaced());
        *needed.entry(meta).or_default() += pages.div_ceil(pages_per_segment(rows, fit)) + OPEN_OF_PAGES;
        self.all_fit(&needed, Purpose::Data, reserves)
    }

    /// Rows that batches need that wait to be placed.
    fn unplaced(&self) -> BTreeMap<Scheme, u64> {
        let mut rows: BTreeMap<Scheme, u64> = BTreeMap::new();
        self.log.with(|log| {
            for (scheme, batch) in log.unplaced() {
                let fit = self.stripes.space.with(|space| space.fit(scheme));
                *rows.entry(scheme).or_default() += rows_of(fit, batch.len(), preamble(batch));
            }
        });
        rows
    }

    /// The segments for so many rows: a stream fills one after the other.
    fn segments(&self, rows: BTreeMap<Scheme, u64>) -> BTreeMap<Scheme, u64> {
        let chunk_rows = self.stripes.chunk_rows();
        rows.into_iter().map(|(scheme, rows)| (scheme, segments_of_rows(chunk_rows, rows))).collect()
    }

    fn all_fit(&self, needed: &BTreeMap<Scheme, u64>, purpose: Purpose, reserves: Reserves) -> bool {
        let Some(widest) = needed.keys().copied().max_by_key(|scheme| scheme.width()) else { return true };
        self.stripes
            .space
            .with(|space| needed.values().sum::<u64>() <= space.free_segments(widest, purpose, reserves))
    }

    /// Whether a batch that waits to be placed fits beside what is kept from `purpose`.
    pub(super) fn batch_fits(&self, scheme: Scheme, batch: &Batch, purpose: Purpose) -> bool {
        self.stripes.space.with(|space| {
            let (rows, fit) = (space.chunk_rows(), space.fit(scheme));
            let open = self.log.with(|log| log.segment(scheme)).and_then(|segment| space.get(segment));
            let left = open.filter(|segment| !segment.sealed).map_or(0, |segment| rows - segment.rows);
            let bytes = usize::try_from(preamble(batch)).expect("a batch is bounded");
            let blocks = usize::try_from(batch.len()).expect("a batch is bounded");
            if Fit::of(fit, blocks, bytes, left).is_some_and(|fit| fit.is_last) {
                return true;
            }
            let needed = segments_of(rows, fit, batch.len(), preamble(batch));
            needed <= space.free_segments(scheme, purpose, self.reserves())
        })
    }

    /// Waits until a call finds room.
    pub(super) async fn wait_for_room(&self, scheme: Scheme, blocks: u64) -> Result<()> {
        // Pages that are written anew leave room behind when all of them are.
        let is_vain = || self.is_exhausted() && !self.is_raising();
        self.wait_until(|| self.has_room(scheme, blocks, Purpose::Data), is_vain).await
    }

    /// Waits until there is room, which the cleaner may have to make, or until waiting for that is in vain.
    pub(super) async fn wait_until(
        &self,
        has_room: impl Fn() -> bool + Send,
        is_vain: impl Fn() -> bool + Send,
    ) -> Result<()> {
        if has_room() {
            return Ok(());
        }
        self.supply.with(|supply| supply.waiting += 1);
        let _waiting = Waiting(self);
        reach(Mark::RoomAwaited);
        self.changed.notify_all();
        loop {
            let listen = self.changed.listen();
            self.writable()?;
            if has_room() {
                return Ok(());
            }
            if self.is_resting() {
                return Err(Error::new(Kind::Closed, "the array is being closed"));
            }
            if !is_vain() {
                listen.await;
                continue;
            }
            // What waits in the buffer overwrites blocks: these are not dead before it is in the map.
            if self.log.with(|log| log.is_empty()) || self.is_stalled() {
                return Err(no_space());
            }
            if self.log.with(|log| log.seal_all()) {
                self.changed.notify_all();
            }
            if !self.flush_written().await {
                listen.await;
            }
        }
    }

    /// Slows a call down while the cleaner is at work. What waits in the buffer is as good as written.
    pub(super) async fn throttle(&self, scheme: Scheme, blocks: u64) {
        if !self.supply.with(|supply| supply.cleaning) {
            return;
        }
        let waiting: u64 = self.segments(self.unplaced()).into_values().sum();
        let (free, _) = self.free_and_low(scheme);
        let (rows, fit) = self.stripes.space.with(|space| (space.chunk_rows(), space.fit(scheme)));
        let free = free.saturating_sub(waiting) * blocks_per_segment(rows, fit);
        let now = self.env.clock.monotonic();
        let wait = self.supply.with(|supply| supply.pace.take(now, blocks, free));
        if !wait.is_zero() {
            reach(Mark::CallPaced);
            self.env.clock.sleep(wait).await;
        }
    }

    /// A round of the cleaner freed so many segments. If more is free than before, a rebuild that found no room may
    /// go on; otherwise the two would wake each other for ever.
    pub(crate) fn note_cleaned(&self, segments: u64, has_gained: bool) {
        self.progress.with(|progress| progress.cleaned_segments += segments);
        if segments > 0 {
            let now = self.env.clock.monotonic();
            self.supply.with(|supply| supply.pace.end(now));
        }
        if has_gained && self.stripes.space.with(|space| !space.lacking(SegmentId(u64::MAX)).is_empty()) {
            self.reformed.notify_all();
        }
    }

    /// Segments that user data of this scheme may still open, and how many there should be.
    pub(crate) fn free_and_low(&self, scheme: Scheme) -> (u64, u64) {
        self.stripes.space.with(|space| {
            let reserves = self.reserves();
            let low = (space.most_segments(scheme, reserves) / LOW_SHARE).max(LOW_MIN);
            // What the cleaner takes of its reserve is free for nobody until its round is over.
            (space.free_segments(scheme, Purpose::Data, reserves), low + u64::from(reserves.cleaner))
        })
    }

    /// The widest scheme that is written: its segments need room on the most members.
    pub(crate) fn widest(&self) -> Scheme {
        let meta = self.meta_scheme();
        self.log.with(|log| log.schemes().chain([meta]).max_by_key(|scheme| scheme.width())).unwrap_or(meta)
    }

    /// Segments of this scheme that a call may need at once.
    pub(crate) fn segments_of_call(&self, scheme: Scheme) -> u64 {
        self.segments_for_users(scheme) / CALL_SHARE
    }

    /// Segments of this scheme that user data may fill, if nothing else is there.
    pub(crate) fn segments_for_users(&self, scheme: Scheme) -> u64 {
        self.stripes.space.with(|space| space.most_segments(scheme, self.reserves()))
    }

    /// How scarce room is for the schemes that are written.
    pub(crate) fn shortage(&self) -> Shortage {
        if self.supply.with(|supply| supply.waiting > 0 || supply.stalled) {
            return Shortage::Critical;
        }
        let schemes: Vec<Scheme> = self.log.with(|log| log.schemes().collect());
        let is_low = |scheme| {
            let (free, low) = self.free_and_low(scheme);
            free < low
        };
        if schemes.into_iter().any(is_low) { Shortage::Low } else { Shortage::None }
    }

    /// Blocks may have died: whoever gave up looks again.
    pub(crate) fn note_change(&self) {
        self.supply.with(|supply| supply.changes += 1);
    }

    /// Counts everything by which blocks may have died.
    pub(crate) fn changes(&self) -> u64 {
        self.supply.with(|supply| supply.changes)
    }

    /// The cleaner found nothing more to free since `changes` was what it says.
    pub(crate) fn exhaust(&self, changes: u64) {
        reach(Mark::Exhausted);
        self.supply.with(|supply| supply.exhausted = Some(changes));
        self.changed.notify_all();
    }

    /// Whether nobody can make room until something changes.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.supply.with(|supply| supply.is_exhausted())
    }

    /// Whether what was accepted waits for room.
    pub(super) fn is_stalled(&self) -> bool {
        self.supply.with(|supply| supply.stalled)
    }

    /// What was accepted finds no room, or does again. Returns whether that is news.
    pub(super) fn set_stalled(&self, stalled: bool) -> bool {
        let before = self.supply.with(|supply| std::mem::replace(&mut supply.stalled, stalled));
        if before != stalled {
            self.changed.notify_all();
        }
        before != stalled
    }

    /// The cleaner begins to work; `None` while the array is being closed.
    pub(crate) fn begin_cleaning(&self) -> Option<Cleaning<'_>> {
        let now = self.env.clock.monotonic();
        let begun = self.supply.with(|supply| {
            supply.cleaning = !supply.resting;
            supply.pace.begin(now);
            supply.cleaning
        });
        begun.then(|| Cleaning(self))
    }

    /// Whether the cleaner is to stop.
    pub(crate) fn is_resting(&self) -> bool {
        self.supply.with(|supply| supply.resting)
    }

    /// Whether the cleaner is at work.
    pub fn is_cleaning(&self) -> bool {
        self.supply.with(|supply| supply.cleaning)
    }

    /// Lets the cleaner rest (or not), and waits until it does.
    pub(super) async fn rest(&self, resting: bool) {
        self.supply.with(|supply| supply.resting = resting);
        self.changed.notify_all();
        loop {
            let listen = self.changed.listen();
            if !resting || !self.is_cleaning() || self.writable().is_err() {
                return;
            }
            listen.await;
        }
    }

    /// Whether a checkpoint may free chunks or count blocks out.
    pub(crate) fn may_free(&self) -> bool {
        let counts = self
            .catalog
            .with(|catalog| !catalog.active.is_empty() || !catalog.frozen.is_empty() || catalog.may_shrink());
        counts || self.stripes.space.with(|space| !space.dead().is_empty())
    }
}

/// Bytes of a batch's intervals and changes.
fn preamble(batch: &Batch) -> u64 {
    (Record::preamble_bytes(&[], batch.changes()) + 32 * batch.spans().count()) as u64
}

/// The array is full.
pub(super) fn no_space() -> Error {
    Error::new(Kind::NoSpace, "the array is full: delete or trim something, or add members")
}
