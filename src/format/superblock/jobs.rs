//! The bytes of the list of jobs.

use crate::error::Result;
use crate::format::superblock::{Job, JobKind};
use crate::format::wire::{Reader, Writer};
use crate::types::SegmentId;

pub(super) const JOB_BYTES: usize = 32;

impl JobKind {
    fn number(self) -> u8 {
        match self {
            JobKind::Rebuild => 1,
            JobKind::Scrub => 2,
        }
    }

    fn from_number(number: u8) -> Option<JobKind> {
        [JobKind::Rebuild, JobKind::Scrub].into_iter().find(|kind| kind.number() == number)
    }
}

impl Job {
    pub(super) fn put(&self, writer: &mut Writer) {
        writer.u8(self.kind.number());
        writer.zeros(7);
        writer.u64(self.done);
        writer.u64(self.total);
        writer.u64(self.next.0);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Job> {
        let number = reader.u8("job")?;
        let kind = JobKind::from_number(number)
            .ok_or_else(|| reader.corrupt("job", format_args!("no job has the number {number}")))?;
        reader.zeros(7)?;
        Ok(Job {
            kind,
            done: reader.u64("bytes done")?,
            total: reader.u64("bytes in all")?,
            next: SegmentId(reader.u64("next segment of the job")?),
        })
    }
}
