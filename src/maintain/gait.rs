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
    /// Since when it keeps to this limit, and the bytes that it had done then.
    kept: Option<(u64, Duration, u64)>,
}

impl<'a> Gait<'a> {
    /// Begins a job. For who has the right to maintain.
    pub(super) fn new(core: &'a Core, kind: JobKind, own: Option<u64>) -> Gait<'a> {
        let around = core.job_under_way();
        core.set_job_under_way(Some(kind));
        Gait { core, kind, around, own, kept: None }
    }

    /// Whether somebody holds the job back.
    pub(super) fn is_paused(&self) -> bool {
        self.core.reins(self.kind).paused
    }

    /// Whether it ends where it is.
    pub(super) fn is_over(&self) -> bool {
        self.core.is_ending() || self.is_paused()
    }

    /// Waits as long as the limit asks for, `done` bytes being done.
    pub(super) async fn rest(&mut self, done: u64) {
        let clock = &self.core.env().clock;
        while !self.is_over() {
            let Some(limit) = self.core.reins(self.kind).limit.or(self.own).filter(|limit| *limit > 0) else {
                self.kept = None;
                return;
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
                return;
            }
            clock.sleep(ahead.min(NAP)).await;
        }
    }
}

impl Drop for Gait<'_> {
    fn drop(&mut self) {
        self.core.set_job_under_way(self.around);
    }
}
