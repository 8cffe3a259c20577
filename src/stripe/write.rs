//! A record onto the columns of its segment, and the flush that makes it durable.

use super::{Packed, Stripes};
use crate::device::{DeviceError, write_full};
use crate::pool::Fault;
use crate::runtime::join_all;
use crate::space::Purpose;
use crate::types::BLOCK_U64;
use crate::zoo::{Bug, planted};

impl Stripes {
    /// Writes a record, one contiguous write per member. `true` when every column that the segment has was
    /// written; a member that failed is a suspect from now on, and the record must be written again
    /// elsewhere. Durable only after [`Stripes::flush`]. `purpose` is what the bytes are counted as.
    pub async fn write(&self, packed: Packed, purpose: Purpose) -> bool {
        let Packed { record, columns, .. } = packed;
        let _pin = self.pin(record.segment);
        let mut writes = Vec::with_capacity(columns.len());
        let mut complete = true;
        for (address, pieces) in record.columns.iter().zip(columns) {
            let Some(address) = *address else { continue };
            let Some((device, offset)) = self.locate(address, record.row) else {
                complete = false;
                continue;
            };
            writes.push(async move { (address.slot, write_full(device.as_ref(), offset, pieces).await) });
        }
        let bytes = writes.len() as u64 * (u64::from(record.rows) + 1) * BLOCK_U64;
        self.count(|counters| {
            counters.written += bytes;
            match purpose {
                Purpose::Data => {}
                Purpose::Clean => counters.moved += bytes,
                Purpose::Meta | Purpose::Boot => counters.metadata += bytes,
            }
        });
        for (slot, outcome) in join_all(writes).await {
            if outcome.is_err() {
                self.pool.suspect(slot, Fault::Write);
                complete = false;
            }
        }
        complete
    }

    /// Makes durable every write that had completed before on the members in use. `true` when all of them
    /// did so. A member that failed is a suspect: a flush is never retried and trusted (rule 7).
    pub async fn flush(&self) -> bool {
        if planted(Bug::SkipFlush) {
            return true;
        }
        let flushes = self.pool.active().into_iter().map(|(slot, device)| async move {
            let mut outcome: Result<(), DeviceError> = device.flush().await;
            if outcome.is_err() && planted(Bug::TrustFlushRetry) {
                outcome = device.flush().await;
            }
            if outcome.is_err() {
                // At once: a flush that another task began must not be trusted after this one.
                self.pool.suspect(slot, Fault::Flush);
            }
            outcome.is_ok()
        });
        !join_all(flushes.collect()).await.contains(&false)
    }
}
