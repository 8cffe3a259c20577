//! How somebody holds the jobs that work on the segments: not at all, to a speed, or back until they are asked for
//! again. In memory: the next opening begins without.

use super::core::Core;
use crate::format::superblock::JobKind;

/// How the jobs of one kind are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reins {
    /// A job ends where it is, and none begins in the background.
    pub paused: bool,
    /// Bytes per second at most, whatever the job was begun with.
    pub limit: Option<u64>,
    /// How often jobs were stopped for good: one that began before the last time ends where it is, and is forgotten.
    pub stops: u64,
}

impl Core {
    /// How jobs of this kind are held.
    pub(crate) fn reins(&self, kind: JobKind) -> Reins {
        self.progress.with(|progress| progress.reins.get(&kind).copied().unwrap_or_default())
    }

    /// Holds them otherwise. Who works on the segments sees it at its next group of them.
    pub(crate) fn hold(&self, kind: JobKind, change: impl FnOnce(&mut Reins)) {
        self.progress.with(|progress| change(progress.reins.entry(kind).or_default()));
    }

    /// The job that works on the segments.
    pub(crate) fn job_under_way(&self) -> Option<JobKind> {
        self.progress.with(|progress| progress.job)
    }

    /// A job begins or ends to work on the segments. For who has [`Core::maintenance`].
    pub(crate) fn set_job_under_way(&self, job: Option<JobKind>) {
        self.progress.with(|progress| progress.job = job);
    }
}
