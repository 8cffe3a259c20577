//! A block from the other columns of its row, each verified by its own witness before it is used.

use super::{Stripes, View};
use crate::checksum::witness;
use crate::device::{Aligned, DeviceError, read_full, write_full};
use crate::pool::Fault;
use crate::runtime::join_all;
use crate::types::{BLOCK, Column, Row, Slot};
use crate::zoo::Bug;
use bytes::Bytes;

/// The blocks of a row that match their witness, and their columns.
pub(super) type GoodBlocks = Vec<(Column, Bytes)>;

impl Stripes {
    /// A block that matches its witness: read, or else reconstructed.
    pub(super) async fn verified_or_rebuilt(
        &self,
        view: &View,
        row: Row,
        column: Column,
        witnesses: impl Fn(Column) -> u64,
    ) -> Option<Bytes> {
        if let Some(block) = self.raw(view, column, row).await {
            if witness(&block) == witnesses(column) {
                return Some(block);
            }
            self.charge_checksum(view, column);
        }
        self.rebuild_rows(view, row, 1, column, |_, other| witnesses(other)).await.pop().flatten()
    }

    /// Blocks of one column in `count` consecutive rows, from the other columns. `witnesses` has the
    /// checksum of each block of the rows. `None` where fewer than k blocks of a row are good.
    pub(super) async fn rebuild_rows(
        &self,
        view: &View,
        first: Row,
        count: usize,
        column: Column,
        witnesses: impl Fn(usize, Column) -> u64,
    ) -> Vec<Option<Bytes>> {
        let good = vec![Vec::new(); count];
        // Doubted columns last, the wanted one among them if it is one.
        let (mut others, doubted): (Vec<Column>, Vec<Column>) =
            view.scheme.columns().partition(|other| !self.is_doubted(view, *other));
        others.retain(|other| *other != column);
        others.extend(doubted);
        let good = self.gather(view, first, good, &mut others, &witnesses).await;
        good.iter()
            .enumerate()
            .map(|(index, row)| self.regenerate(view, row, column, witnesses(index, column)))
            .collect()
    }

    /// Reads columns, and moves them out of `others`, until k blocks of each row are good.
    pub(super) async fn gather(
        &self,
        view: &View,
        first: Row,
        mut good: Vec<GoodBlocks>,
        others: &mut Vec<Column>,
        witnesses: &impl Fn(usize, Column) -> u64,
    ) -> Vec<GoodBlocks> {
        let k = usize::from(view.scheme.k());
        // First as many columns as needed, then, where one of them disappoints, all that are left.
        while !others.is_empty() && good.iter().any(|row| row.len() < k) {
            let missing = good.iter().map(|row| k - row.len().min(k)).max().unwrap_or(0);
            let batch: Vec<Column> = others.drain(..missing.min(others.len())).collect();
            let reads = batch.iter().map(|&other| self.span(view, other, first, good.len()));
            let spans = join_all(reads.collect()).await;
            for (&other, span) in batch.iter().zip(spans) {
                self.sift(view, other, span, &mut good, witnesses);
            }
        }
        good
    }

    /// Keeps the blocks of a column that match their witness.
    pub(super) fn sift(
        &self,
        view: &View,
        column: Column,
        span: Vec<Option<Bytes>>,
        good: &mut [GoodBlocks],
        witnesses: &impl Fn(usize, Column) -> u64,
    ) {
        for (index, block) in span.into_iter().enumerate() {
            let Some(block) = block else { continue };
            if self.bugs.has(Bug::ParityUnverified) || witness(&block) == witnesses(index, column) {
                good[index].push((column, block));
            } else {
                self.charge_checksum(view, column);
            }
        }
    }

    /// A block of a row, itself a good one or from k of them. `None` when there are fewer, or when it is not what it
    /// must be.
    pub(super) fn regenerate(
        &self,
        view: &View,
        good: &GoodBlocks,
        column: Column,
        expected: u64,
    ) -> Option<Bytes> {
        if let Some((_, block)) = good.iter().find(|(other, _)| *other == column) {
            return Some(block.clone());
        }
        let k = usize::from(view.scheme.k());
        let available: Vec<(Column, &[u8])> =
            good.iter().take(k).map(|(other, block)| (*other, block.as_ref())).collect();
        let mut out = Aligned::zeroed(BLOCK);
        let done = available.len() == k
            && self.codec(view.scheme).reconstruct(&available, &[column], &mut [out.as_mut()]).is_ok();
        let block = out.freeze();
        if !done || !(self.bugs.has(Bug::ParityUnverified) || witness(&block) == expected) {
            return None;
        }
        self.count(|counters| counters.reconstructed += 1);
        Some(block)
    }

    /// Consecutive blocks of a column, unverified; block by block where the whole cannot be read.
    pub(super) async fn span(
        &self,
        view: &View,
        column: Column,
        first: Row,
        count: usize,
    ) -> Vec<Option<Bytes>> {
        let nothing = vec![None; count];
        let Some(address) = view.columns[usize::from(column.0)] else { return nothing };
        let Some((device, offset)) = self.locate_to_read(address, first) else { return nothing };
        match read_full(device.as_ref(), offset, count * BLOCK).await {
            Ok(bytes) => {
                let block = |index| Some(bytes.slice(index * BLOCK..(index + 1) * BLOCK));
                return (0..count).map(block).collect();
            }
            Err(error) => self.blame_read(address.slot, &error),
        }
        let mut blocks = nothing;
        if self.pool.is_hung(address.slot) {
            return blocks;
        }
        for (row, block) in (first.0..).map(Row).zip(&mut blocks) {
            let Some((device, offset)) = self.locate_to_read(address, row) else { break };
            *block = read_full(device.as_ref(), offset, BLOCK).await.ok();
        }
        blocks
    }

    /// Rewrites a block in place with its verified bytes. The segment is immutable there, so this is
    /// idempotent and opens no hole.
    pub(super) async fn heal(&self, view: &View, row: Row, column: Column, bytes: Bytes) {
        if !self.writable {
            return;
        }
        let Some(address) = view.columns[usize::from(column.0)] else { return };
        let Some((device, offset)) = self.locate(address, row) else { return };
        match write_full(device.as_ref(), offset, vec![bytes]).await {
            Ok(()) => self.count(|counters| counters.healed += 1),
            Err(_) => {
                self.pool.charge(address.slot, Fault::Write);
                self.pool.suspect(address.slot);
            }
        }
    }

    /// A read failed. A member on which one hangs is given up: the next would only hang again.
    pub(super) fn blame_read(&self, slot: Slot, error: &DeviceError) {
        self.pool.charge(slot, Fault::Read);
        if *error == DeviceError::Hangs {
            self.pool.give_up(slot);
        }
    }

    pub(super) fn charge_checksum(&self, view: &View, column: Column) {
        // What a doubted column lacks is no fault of its member.
        if let Some(address) = view.columns[usize::from(column.0)]
            && !self.is_doubted(view, column)
        {
            self.pool.charge(address.slot, Fault::Checksum);
        }
    }
}
