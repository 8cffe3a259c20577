//! Every block of a segment looked at, on every member that can be read.

use super::{Found, Stripes};
use crate::error::Result;
use crate::format::record::Owner;
use crate::types::{Place, Row, SegmentId};

/// What was found in a segment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scrubbed {
    /// What was in rows of which fewer than k blocks are left.
    pub at_risk: Vec<(Owner, Place)>,
    /// Records that nobody can describe any more: what is in them has no redundancy left.
    pub indescribable: u64,
}

impl Stripes {
    /// Verifies every header and block of a settled segment, parity too, and rewrites in place what is wrong and can
    /// be reconstructed. Durable only after [`Stripes::flush`].
    ///
    /// # Errors
    /// When the segment is unknown, or a header cannot be encoded again.
    pub async fn scrub(&self, segment: SegmentId) -> Result<Scrubbed> {
        let view = self.view(segment)?;
        let rows = self.space.with(|space| space.get(segment).map_or(0, |found| found.rows));
        let _pin = self.pin(segment);
        let mut found = Scrubbed::default();
        let mut row = Row(0);
        while row.0 < rows {
            row = match self.find_record(&view, row, None).await {
                Found::Record(record) => {
                    for broken in self.mend(&view, &record).await? {
                        found.at_risk.extend(record.owners(broken));
                    }
                    row.plus(u16::from(record.rows) + 1)
                }
                Found::Broken { rows, .. } => {
                    found.indescribable += 1;
                    row.plus(u16::from(rows) + 1)
                }
                Found::Nothing { .. } => row.plus(1),
            };
        }
        Ok(found)
    }
}
