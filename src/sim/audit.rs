//! What the members hold, looked at from outside once everything is healed: each row is a codeword of the golden
//! code and sums to its witnesses. The code is maximum distance separable (any k columns of a codeword give all
//! others), so a row that is a codeword reads the same through every k of its columns.

use super::disk::SimDisk;
use super::run::{Checked, Life, Run};
use super::upkeep::slot_of;
use crate::checksum::witness;
use crate::format::record::Record;
use crate::format::superblock::{ChunkAddress, MemberState};
use crate::layout::Geometry;
use crate::stripe::{Found, View};
use crate::types::{BLOCK, Column, Row, Scheme, SegmentId, Slot};
use crate::volume::Shard;
use reed_solomon_erasure::galois_8::ReedSolomon;
use std::collections::BTreeMap;

/// The members, without the engine.
struct Members {
    disks: BTreeMap<Slot, SimDisk>,
    geometry: Geometry,
}

impl Members {
    fn read(&self, address: ChunkAddress, row: Row) -> Option<Vec<u8>> {
        let disk = self.disks.get(&address.slot).filter(|disk| !disk.is_gone())?;
        Some(disk.peek(self.geometry.byte_offset(address.chunk, row), BLOCK))
    }
}

impl Run {
    /// Looks at every row of every segment that has all its columns. For when nobody writes, and everything was
    /// scrubbed.
    pub(super) fn audit(&mut self, life: &Life) -> Checked<()> {
        let shard = life.shard.clone().expect("opened");
        while self.hub.pending() > 0 && self.hub.step() {
            life.executor.run_until_stalled();
        }
        // Those that failed or leave are not written any more, so nothing on them is healed.
        let active = |index: &usize| {
            let (slot, state) = slot_of(&shard, *index)?;
            (state == MemberState::Active).then(|| (slot, self.disks[*index].clone()))
        };
        let disks = self.members.iter().filter_map(active).collect();
        let members = Members { disks, geometry: Geometry { chunk_blocks: self.chunk_blocks } };
        let space = &shard.core().stripes().space;
        let segments: Vec<SegmentId> = space.with(|space| space.iter().map(|(id, _)| id).collect());
        for segment in segments {
            // The cleaner may have freed it by now.
            let Ok(view) = shard.core().stripes().view(segment) else { continue };
            self.audit_segment(life, &shard, &view, &members)?;
        }
        Ok(())
    }

    fn audit_segment(&mut self, life: &Life, shard: &Shard, view: &View, members: &Members) -> Checked<()> {
        let rows =
            shard.core().stripes().space.with(|space| space.get(view.segment).map_or(0, |found| found.rows));
        let mut row = Row(0);
        while row.0 < rows {
            let (handle, at) = (shard.clone(), view.clone());
            let found =
                self.finish(life, async move { handle.core().stripes().find_record(&at, row, None).await })?;
            row = match found {
                Found::Record(record) => {
                    self.audit_record(view, &record, members)?;
                    row.plus(u16::from(record.rows) + 1)
                }
                Found::Broken { rows } => row.plus(u16::from(rows) + 1),
                Found::Nothing => row.plus(1),
            };
        }
        Ok(())
    }

    fn audit_record(&mut self, view: &View, record: &Record, members: &Members) -> Checked<()> {
        for row in 0..record.rows {
            let at = record.row.plus(1 + u16::from(row));
            let read = |address: &Option<ChunkAddress>| members.read((*address)?, at);
            // What is not there was not rebuilt for want of room or members.
            let Some(blocks) = view.columns.iter().map(read).collect::<Option<Vec<_>>>() else { continue };
            let is_good =
                |column: &Column| witness(&blocks[usize::from(column.0)]) == record.witness(row, *column);
            let good = view.scheme.columns().filter(is_good).count();
            if good < view.scheme.k().into() {
                // A crash tore the record, and nothing points to it: what is lost was found by the reads before.
                continue;
            }
            if good < blocks.len() {
                return Err(format!(
                    "audit: {} blocks of row {at} of segment {} do not sum to their witnesses",
                    blocks.len() - good,
                    view.segment
                ));
            }
            if !is_codeword(view.scheme, &blocks) {
                return Err(format!("audit: row {at} of segment {} is no codeword", view.segment));
            }
            self.count("audited row", 1);
        }
        Ok(())
    }
}

fn is_codeword(scheme: Scheme, columns: &[Vec<u8>]) -> bool {
    let (k, m) = (usize::from(scheme.k()), usize::from(scheme.m()));
    // The crate knows no code without parity.
    m == 0
        || ReedSolomon::new(k, m)
            .expect("the crate takes every scheme with parity")
            .verify(columns)
            .expect("as many columns as the scheme has, all of one block")
}
