//! What the engine says of redundancy and room, held against the members and counted from the ground up.
//!
//! Reads prove that data is there, and say nothing of the redundancy that they did not need. So what the engine calls
//! whole is looked at on the members, behind its back: each header and each block of each row in which anything lives,
//! parity too. Such a row sums to its witnesses and is a codeword of the golden code. The code is maximum distance
//! separable (any k columns of a codeword give all others), so it reads the same through every k of its columns.

use super::disk::SimDisk;
use super::run::{Checked, Life, Run};
use crate::checksum::witness;
use crate::format::record::{Expected, HeaderPart, Record};
use crate::format::superblock::{ChunkAddress, MemberState, Superblock};
use crate::layout::Geometry;
use crate::pool::read_rings;
use crate::stripe::{Found, View};
use crate::types::{BLOCK, Column, Lba, Row, Scheme, SegmentId, Slot};
use crate::volume::Shard;
use reed_solomon_erasure::galois_8::ReedSolomon;
use std::collections::{BTreeMap, BTreeSet};

/// Rows in which blocks live, by the records that they belong to.
type Rows = BTreeMap<(SegmentId, Row), BTreeSet<Row>>;

/// The members behind the engine's back.
struct Media {
    disks: Vec<SimDisk>,
    superblock: Superblock,
}

impl Media {
    fn peek(&self, at: ChunkAddress, row: Row) -> Result<Vec<u8>, String> {
        let member = &self.superblock.members[usize::from(at.slot.0)];
        let disk = self.disks.iter().zip(0..).find(|(_, index)| member.path == format!("disk{index}"));
        let (disk, _) = disk.ok_or_else(|| format!("member {} is on no disk", at.slot))?;
        let geometry = Geometry { chunk_blocks: self.superblock.chunk_blocks };
        Ok(disk.peek(geometry.byte_offset(at.chunk, row), BLOCK))
    }

    /// What a row of a record lacks on the members.
    fn defect(&self, view: &View, record: &Record, row: Row) -> Result<(), String> {
        let mut blocks = Vec::new();
        for column in view.scheme.columns() {
            let name = |what: &str| {
                format!("{what} in column {column}, row {row} of segment {} ({})", view.segment, view.scheme)
            };
            let at = view.columns[usize::from(column.0)].ok_or_else(|| name("nothing"))?;
            let block = self.peek(at, row)?;
            if row == record.row {
                self.check_header(view, record, column, &block).map_err(|what| name(&what))?;
            } else {
                let behind = u8::try_from(row.0 - record.row.0 - 1).expect("a record's row");
                if witness(&block) != record.witness(behind, column) {
                    return Err(name("a wrong block"));
                }
            }
            blocks.push(block);
        }
        if row != record.row && !is_codeword(view.scheme, &blocks) {
            return Err(format!("no codeword in row {row} of segment {} ({})", view.segment, view.scheme));
        }
        Ok(())
    }

    fn check_header(&self, view: &View, record: &Record, column: Column, block: &[u8]) -> Result<(), String> {
        let (array, segment) = (self.superblock.array, view.segment);
        let expected = Expected { array, segment, column, row: record.row };
        let part = HeaderPart::decode(block, Some(expected)).map_err(|error| error.to_string())?;
        let at = usize::from(column.0);
        match part.record.sequence == record.sequence && part.record.columns[at] == view.columns[at] {
            true => Ok(()),
            false => Err("another header".into()),
        }
    }
}

impl Run {
    /// Nothing lacks redundancy, says the engine: then every row in which a block of a volume lives has all its
    /// columns, and every column its headers.
    pub(super) fn audit(&mut self, life: &Life) -> Checked<()> {
        let shard = life.shard.clone().expect("opened");
        let (handle, volumes) = (shard.clone(), self.shared.with(|shared| shared.sizes()));
        let rows = self.finish(life, async move {
            let mut rows = Rows::new();
            for (id, blocks) in volumes {
                for at in 0..blocks {
                    let Some(pointer) = handle.locate(id, Lba(at)).await? else { continue };
                    let header = pointer.header_row();
                    let living = rows.entry((pointer.place.segment, header)).or_default();
                    living.extend([header, pointer.place.row]);
                }
            }
            Ok::<Rows, crate::error::Error>(rows)
        })?;
        let media = Media { disks: self.disks.clone(), superblock: shard.core().stripes().pool.superblock() };
        for ((segment, header), living) in rows.map_err(|error| format!("audit: {error}"))? {
            // The cleaner may have emptied it meanwhile.
            let Ok(view) = shard.core().stripes().view(segment) else { continue };
            let (handle, seen) = (shard.clone(), view.clone());
            let found = self.finish(life, async move {
                let stripes = handle.core().stripes();
                stripes.find_record(&seen, header, None).await
            })?;
            if shard.core().stripes().view(segment).ok() != Some(view.clone()) {
                continue;
            }
            let Found::Record(record) = found else {
                return Err(format!("audit: row {header} of segment {segment} has no record"));
            };
            for row in living {
                media
                    .defect(&view, &record, row)
                    .map_err(|what| format!("audit: the array is whole, and has {what}"))?;
                self.count("audited row", 1);
            }
        }
        Ok(())
    }

    /// After a close each member in use has the newest superblock in both of its rings.
    pub(super) fn check_rings(&mut self) -> Checked<()> {
        let life = self.life();
        let mut found = Vec::new();
        for index in self.members.clone() {
            let disk = self.disks[index].clone();
            if !disk.is_gone() {
                let rings = self.finish(&life, async move { read_rings(&disk).await })?;
                found.push((format!("disk{index}"), rings));
            }
        }
        let copies = found.iter().flat_map(|(_, rings)| &rings.copies);
        let newest = copies.max_by_key(|copy| (copy.epoch, copy.commit)).ok_or("no superblock is left")?;
        for (path, rings) in &found {
            let is_in_use = newest
                .members
                .iter()
                .any(|member| member.path == *path && member.state == MemberState::Active);
            let age = |copy: &Superblock| (copy.epoch, copy.commit);
            let count = rings.copies.iter().filter(|copy| age(copy) == age(newest)).count();
            if is_in_use && count != 2 {
                return Err(format!("{path} has {count} copies of the newest superblock"));
            }
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

/// With the array closed and nothing under way, each chunk is free or in a segment, and what was written is settled.
pub(super) fn check_room(shard: &Shard) -> Checked<()> {
    shard.core().stripes().space.with(|space| {
        let mut taken: BTreeMap<Slot, u32> = BTreeMap::new();
        for (id, segment) in space.iter() {
            segment.chunks().for_each(|at| *taken.entry(at.slot).or_default() += 1);
            if segment.sealed && !segment.is_settled() {
                return Err(format!(
                    "segment {id} waits for rows that nobody writes: it is never free again"
                ));
            }
        }
        let slots = (0..=u8::MAX).map(Slot).take(shard.core().stripes().pool.superblock().members.len());
        for slot in slots {
            let (used, known) = (space.used_chunks(slot), taken.get(&slot).copied().unwrap_or(0));
            if used != known {
                return Err(format!("{used} chunks of member {slot} are taken, {known} are in segments"));
            }
        }
        Ok(())
    })
}
