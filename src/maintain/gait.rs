//! How fast a job goes, and whether it goes on: asked between two groups of segments.

use crate::commit::Core;
use crate::format::superblock::JobKind;
use std::time::Duration;

/// The longest sleep of a job that is ahead of its limit: it looks in between whether it is to go on.
const NAP: Duration = Duration::from_millis(200);

/// A job under way. It is one until this is dropped; the job around it is under way again then.
pub(super) struct Gait<'a> {
    core: &'a Core,
    kind: JobKind,
    around: Option<JobKind>,
    /// Bytes per second at most, where nobody says otherwise meanwhile.
    own: Option<u64>,
    /// How often jobs of the kind had been stopped when this one was asked for.
    stops: u64,
    /// Since when it keeps to this limit, and the bytes that it had done then.
    kept: Option<(u64, Duration, u64)>,
}

impl<'a> Gait<'a> {
    /// Begins a job that was asked for when jobs of its kind had been stopped so often. For who has the right to
    /// maintain.
    pub(super) fn new(core: &'a Core, kind: JobKind, own: Option<u64>, stops: u64) -> Gait<'a> {
        let around = core.job_under_way();
        core.set_job_under_way(Some(kind));
        Gait { core, kind, around, own, stops, kept: None }
    }

    /// Whether somebody stopped the job for good.
    pub(super) fn is_stopped(&self) -> bool {
        self.core.reins(self.kind).stops != self.stops
    }

    /// Whether somebody holds the job back.
    pub(super) fn is_paused(&self) -> bool {
        self.core.reins(self.kind).paused
    }

    /// Whether it ends where it is.
    pub(super) fn is_over(&self) -> bool {
        self.core.is_ending() || self.is_paused() || self.is_stopped()
    }

    /// Waits as long as the limit asks for, `done` bytes being done. Whether something else is to be done first: then
    /// it is asked again afterwards. A job without a limit is never held up, and looks for itself.
    pub(super) async fn rest(&mut self, done: u64, has_else: impl Fn() -> bool) -> bool {
        let clock = &self.core.env().clock;
        while !self.is_over() {
            let Some(limit) = self.core.reins(self.kind).limit.or(self.own).filter(|limit| *limit > 0) else {
                self.kept = None;
                return false;
            };
            let now = clock.monotonic();
            let (_, since, before) = match self.kept {
                Some(kept) if kept.0 == limit => kept,
                // What was done before a limit was set does not count against it.
                _ => *self.kept.insert((limit, now, done)),
            };
            let due = Duration::from_millis((done - before).saturating_mul(1000) / limit);
            let ahead = due.saturating_sub(now.saturating_sub(since));
            if ahead.is_zero() {
                return false;
            }
            if has_else() {
                return true;
            }
            clock.sleep(ahead.min(NAP)).await;
        }
        false
    }
}

impl Drop for Gait<'_> {
    fn drop(&mut self) {
        self.core.set_job_under_way(self.around);
    }
}
