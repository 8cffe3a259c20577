//! Blocks of rows: those that match their witness, and what is computed from k of them.
//!
//! Invariants:
//! - Every block was verified by its own witness before anything is computed from it, and so is what was computed.

use super::band::{Ask, Band, Stretch};
use super::span::{Late, Prompt};
use super::{Stripes, View};
use crate::checksum::witness;
use crate::device::{Aligned, write_full};
use crate::pool::Fault;
use crate::runtime::join_all;
use crate::types::{BLOCK, Column, Row};
use crate::zoo::{Bug, planted};
use bytes::Bytes;

impl Stripes {
    /// Blocks that match their witness: read, or else reconstructed, or else waited for. Of consecutive rows from
    /// `first` on, of each those columns that `wanted` names. `witnesses` has the checksum of each block of the rows.
    pub(super) async fn verified_or_rebuilt(
        &self,
        view: &View,
        first: Row,
        wanted: Vec<Vec<Column>>,
        witnesses: &impl Fn(usize, Column) -> u64,
    ) -> Vec<Vec<Option<Bytes>>> {
        let mut band = Band::new(view.scheme, first, wanted);
        let own = band.ask_wanted();
        let late = self.ask(view, &mut band, own, witnesses).await;
        self.gather(view, &mut band, late, witnesses).await;
        self.regenerate(view, &band, witnesses)
    }

    /// Reads blocks until each row has what is wanted of it, or k good ones, or nothing is left to be read. Waits for
    /// what is late, or was already, only where nothing else is left.
    pub(super) async fn gather(
        &self,
        view: &View,
        band: &mut Band,
        mut late: Vec<(Ask, Late)>,
        witnesses: &impl Fn(usize, Column) -> u64,
    ) {
        if band.is_settled() {
            return;
        }
        let order = self.readable(view, band.first);
        loop {
            // First as many columns as needed, then, where one of them disappoints, others.
            let asks = band.ask(&order);
            if asks.is_empty() {
                break;
            }
            late.extend(self.ask(view, band, asks, witnesses).await);
        }
        for (ask, read) in late {
            if !band.is_done(ask) {
                let blocks = self.wait_for(view, read).await;
                self.sift(view, band, ask, blocks, witnesses);
            }
        }
    }

    /// The columns that can be read, doubted ones last.
    fn readable(&self, view: &View, row: Row) -> Vec<Column> {
        let is_there = |column: &Column| {
            let address = view.columns[usize::from(column.0)];
            address.is_some_and(|address| self.locate_to_read(address, row, 1).is_some())
        };
        let (mut order, doubted): (Vec<Column>, Vec<Column>) =
            view.scheme.columns().filter(is_there).partition(|column| !self.is_doubted(view, *column));
        order.extend(doubted);
        order
    }

    /// Reads what is asked for, all at once. Returns what is late.
    async fn ask(
        &self,
        view: &View,
        band: &mut Band,
        asks: Vec<Ask>,
        witnesses: &impl Fn(usize, Column) -> u64,
    ) -> Vec<(Ask, Late)> {
        let row = |ask: &Ask| band.first.plus(u16::try_from(ask.first).expect("a record's row"));
        let reads = asks.iter().map(|ask| self.prompt_span(view, ask.column, row(ask), ask.count));
        let prompts = join_all(reads.collect()).await;
        let mut late = Vec::new();
        for (ask, prompt) in asks.into_iter().zip(prompts) {
            match prompt {
                Prompt::Answered(blocks) => self.sift(view, band, ask, blocks, witnesses),
                Prompt::Late(read) => late.push((ask, read)),
            }
        }
        late
    }

    /// Keeps the blocks of an ask that match their witness, and blames the members that have others.
    pub(super) fn sift(
        &self,
        view: &View,
        band: &mut Band,
        ask: Ask,
        blocks: Vec<Option<Bytes>>,
        witnesses: &impl Fn(usize, Column) -> u64,
    ) {
        let column = ask.column;
        for (index, block) in (ask.first..).zip(blocks) {
            let Some(block) = block else { continue };
            band.sifted += 1;
            if planted(Bug::ParityUnverified) || witness(&block) == witnesses(index, column) {
                band.put(index, column, block);
            } else {
                self.charge_checksum(view, column);
            }
        }
    }

    /// The blocks that are wanted of each row, in their order: good ones, or computed from k good ones. `None` where
    /// there are fewer, and for what is not what it must be.
    pub(super) fn regenerate(
        &self,
        view: &View,
        band: &Band,
        witnesses: &impl Fn(usize, Column) -> u64,
    ) -> Vec<Vec<Option<Bytes>>> {
        let good =
            |index| band.wanted(index).iter().map(|column| band.good(index, *column).cloned()).collect();
        let mut blocks: Vec<Vec<Option<Bytes>>> = (0..band.len()).map(good).collect();
        for stretch in band.stretches() {
            for (column, made) in stretch.missing.iter().zip(self.compute(view, &stretch, witnesses)) {
                let at = band.wanted(stretch.first).iter().position(|wanted| wanted == column);
                let at = at.expect("what is missing is wanted");
                for (row, block) in blocks[stretch.first..].iter_mut().zip(made) {
                    row[at] = block;
                }
            }
        }
        blocks
    }

    /// What a stretch misses, column by column.
    fn compute(
        &self,
        view: &View,
        stretch: &Stretch<'_>,
        witnesses: &impl Fn(usize, Column) -> u64,
    ) -> Vec<Vec<Option<Bytes>>> {
        let (missing, rows) = (&stretch.missing, stretch.len());
        let Ok(plan) = self.codec(view.scheme).plan(&stretch.sources, missing) else {
            return vec![vec![None; rows]; missing.len()];
        };
        let mut columns: Vec<Aligned> = missing.iter().map(|_| Aligned::zeroed(rows * BLOCK)).collect();
        let mut sound = vec![vec![false; rows]; missing.len()];
        let mut places: Vec<_> =
            columns.iter_mut().map(|column| column.as_mut().chunks_exact_mut(BLOCK)).collect();
        // Row by row: what was computed is verified while the processor still has it.
        for (index, sources) in stretch.rows().enumerate() {
            let inputs: Vec<&[u8]> = sources.into_iter().map(|block| &block[..]).collect();
            let mut out: Vec<&mut [u8]> = places.iter_mut().filter_map(Iterator::next).collect();
            plan.apply(&inputs, &mut out);
            for ((column, block), sound) in missing.iter().zip(out).zip(&mut sound) {
                sound[index] = planted(Bug::ParityUnverified)
                    || witness(block) == witnesses(stretch.first + index, *column);
            }
        }
        drop(places);
        let count = sound.iter().flatten().filter(|sound| **sound).count() as u64;
        self.count(|counters| counters.reconstructed += count);
        columns.into_iter().zip(sound).map(|(column, sound)| split(&column.freeze(), &sound)).collect()
    }

    /// Rewrites a block in place with its verified bytes. The segment is immutable there, so this is
    /// idempotent and opens no hole.
    pub(super) async fn heal(&self, view: &View, row: Row, column: Column, bytes: Bytes) {
        if !self.writable {
            return;
        }
        let next = usize::from(planted(Bug::HealElsewhere));
        let at = (usize::from(column.0) + next) % view.columns.len();
        let Some(address) = view.columns[at] else { return };
        let Some((device, offset)) = self.locate(address, row) else { return };
        match write_full(device.as_ref(), offset, vec![bytes]).await {
            Ok(()) => self.count(|counters| counters.healed += 1),
            Err(_) => {
                self.pool.suspect(address.slot, Fault::Write);
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

/// The blocks of a column that are sound.
fn split(column: &Bytes, sound: &[bool]) -> Vec<Option<Bytes>> {
    let block = |index| column.slice(index * BLOCK..(index + 1) * BLOCK);
    sound.iter().enumerate().map(|(index, sound)| sound.then(|| block(index))).collect()
}
