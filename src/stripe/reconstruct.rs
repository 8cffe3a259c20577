//! A block from the other columns of its row, each verified by its own witness before it is used.

use super::span::Prompt;
use super::{Stripes, View};
use crate::checksum::witness;
use crate::device::{Aligned, write_full};
use crate::pool::Fault;
use crate::runtime::join_all;
use crate::types::{BLOCK, Column, Row};
use crate::zoo::Bug;
use bytes::Bytes;

/// The blocks of a row that match their witness, and their columns.
pub(super) type GoodBlocks = Vec<(Column, Bytes)>;

impl Stripes {
    /// A block that matches its witness: read, or else reconstructed, or else waited for.
    pub(super) async fn verified_or_rebuilt(
        &self,
        view: &View,
        row: Row,
        column: Column,
        witnesses: impl Fn(Column) -> u64,
    ) -> Option<Bytes> {
        let is_it = |span: Vec<Option<Bytes>>| {
            let block = span.into_iter().next().flatten()?;
            let is_it = witness(&block) == witnesses(column);
            if !is_it {
                self.charge_checksum(view, column);
            }
            is_it.then_some(block)
        };
        let late = match self.prompt_span(view, column, row, 1).await {
            Prompt::Answered(span) => match is_it(span) {
                Some(block) => return Some(block),
                None => None,
            },
            Prompt::Late(late) => Some(late),
        };
        let rebuilt =
            self.rebuild_rows(view, row, 1, column, |_, other| witnesses(other)).await.pop().flatten();
        match (rebuilt, late) {
            (None, Some(late)) => is_it(self.wait_for(view, late).await),
            (rebuilt, _) => rebuilt,
        }
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

    /// Reads columns, and moves them out of `others`, until k blocks of each row are good. Waits for a column that is
    /// late only where nothing else is left.
    pub(super) async fn gather(
        &self,
        view: &View,
        first: Row,
        mut good: Vec<GoodBlocks>,
        others: &mut Vec<Column>,
        witnesses: &impl Fn(usize, Column) -> u64,
    ) -> Vec<GoodBlocks> {
        let k = usize::from(view.scheme.k());
        let mut late = Vec::new();
        // First as many columns as needed, then, where one of them disappoints, all that are left.
        while !others.is_empty() && good.iter().any(|row| row.len() < k) {
            let missing = good.iter().map(|row| k - row.len().min(k)).max().unwrap_or(0);
            let batch: Vec<Column> = others.drain(..missing.min(others.len())).collect();
            let reads = batch.iter().map(|&other| self.prompt_span(view, other, first, good.len()));
            for (&other, prompt) in batch.iter().zip(join_all(reads.collect()).await) {
                match prompt {
                    Prompt::Answered(span) => self.sift(view, other, span, &mut good, witnesses),
                    Prompt::Late(read) => late.push((other, read)),
                }
            }
        }
        for (other, read) in late {
            if good.iter().all(|row| row.len() >= k) {
                break;
            }
            let span = self.wait_for(view, read).await;
            self.sift(view, other, span, &mut good, witnesses);
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

    pub(super) fn charge_checksum(&self, view: &View, column: Column) {
        // What a doubted column lacks is no fault of its member, nor what a crash tore before it was in the table.
        if let Some(address) = view.columns[usize::from(column.0)]
            && self.space.with(|space| space.get(view.segment).is_some())
            && !self.is_doubted(view, column)
        {
            self.pool.charge(address.slot, Fault::Checksum);
        }
    }
}
