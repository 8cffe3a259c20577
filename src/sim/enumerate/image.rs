//! All contents that the members may have at one moment, without listing them.
//!
//! Invariants:
//! - A block belongs to one cell at most; what is in none has the content of its disk's `base`.
//! - Cells are independent: every choice of a state for each is one image, and no two choices are the same image.

use super::cell::{Cell, Content, Write};
use super::grow::grow;
use super::history::Expected;
use crate::device::Aligned;
use crate::types::BLOCK;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Blocks of one disk; what is not there is zeros.
pub(super) type Blocks = BTreeMap<u64, Content>;

/// See the head of this file.
#[derive(Clone)]
pub(super) struct Image {
    pub(super) base: Vec<Arc<Blocks>>,
    pub(super) cells: Vec<Cell>,
    /// The cell of a block, and its column there.
    pub(super) places: Vec<BTreeMap<u64, (usize, usize)>>,
    pub(super) zeros: Content,
}

/// What a run had done to its members when the power could fail, and what had been promised by then.
pub(super) struct Moment {
    /// For each cell of the image that the run began with, the states that what was read leaves open.
    pub(super) left: Vec<Vec<u32>>,
    /// For each disk, what was flushed.
    pub(super) durable: Vec<Blocks>,
    /// For each disk, what was not.
    pub(super) unflushed: Vec<Vec<Write>>,
    pub(super) expected: Arc<Expected>,
    /// Decisions that had been taken.
    pub(super) decisions: usize,
}

impl Image {
    /// Blank disks.
    pub(super) fn blank(disks: usize) -> Image {
        Image {
            base: vec![Arc::default(); disks],
            cells: Vec::new(),
            places: vec![BTreeMap::new(); disks],
            zeros: Aligned::zeroed(BLOCK).freeze(),
        }
    }

    /// How many images this is.
    pub(super) fn count(&self) -> u128 {
        self.cells.iter().fold(1, |product: u128, cell| product.saturating_mul(cell.states.len() as u128))
    }

    /// What the members may come back with when the power fails at that moment of a run that began with this image.
    pub(super) fn after(&self, moment: &Moment) -> Image {
        let mut next = Image { cells: Vec::new(), ..Image::blank(self.base.len()) };
        next.zeros = self.zeros.clone();
        for disk in 0..self.base.len() {
            let durable = &moment.durable[disk];
            next.base[disk] = self.base[disk].clone();
            if !durable.is_empty() {
                Arc::make_mut(&mut next.base[disk])
                    .extend(durable.iter().map(|(at, content)| (*at, content.clone())));
            }
            let of_disk = self.cells.iter().zip(&moment.left).filter(|(cell, _)| cell.disk == disk);
            let mut below = Vec::new();
            for (cell, left) in of_disk {
                // What has one content in all states that are left is in the base from here on.
                let base = Arc::make_mut(&mut next.base[disk]);
                for (at, block) in
                    cell.blocks.iter().enumerate().filter(|(_, block)| !durable.contains_key(block))
                {
                    base.insert(*block, cell.content(at, left[0]).clone());
                }
                below.extend(cell.without(|block| durable.contains_key(&block), left));
            }
            let base = next.base[disk].clone();
            let old = |block: u64| base.get(&block).unwrap_or(&self.zeros).clone();
            for (below, writes) in together(&below, &moment.unflushed[disk]) {
                match (below.as_slice(), writes.is_empty()) {
                    ([cell], true) => next.cells.push((*cell).clone()),
                    _ => next.cells.extend(grow(disk, &below, &writes, old)),
                }
            }
        }
        for (index, cell) in next.cells.iter().enumerate() {
            for (at, block) in cell.blocks.iter().enumerate() {
                let before = next.places[cell.disk].insert(*block, (index, at));
                debug_assert!(before.is_none(), "a block is in two cells");
            }
        }
        next
    }
}

/// Cells and writes of a disk that hang together by the blocks that they share.
fn together<'a>(below: &'a [Cell], writes: &'a [Write]) -> Vec<(Vec<&'a Cell>, Vec<&'a Write>)> {
    let mut owner: BTreeMap<u64, usize> = BTreeMap::new();
    let mut group: Vec<usize> = (0..below.len() + writes.len()).collect();
    let blocks_of = |item: usize| -> Vec<u64> {
        match below.get(item) {
            Some(cell) => cell.blocks.clone(),
            None => writes[item - below.len()].contents().map(|(block, _)| block).collect(),
        }
    };
    for item in 0..group.len() {
        for block in blocks_of(item) {
            let other = *owner.entry(block).or_insert(item);
            let (from, to) = (group[item].max(group[other]), group[item].min(group[other]));
            group.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
        }
    }
    let mut found: BTreeMap<usize, (Vec<&Cell>, Vec<&Write>)> = BTreeMap::new();
    for (item, group) in group.into_iter().enumerate() {
        let members = found.entry(group).or_default();
        match below.get(item) {
            Some(cell) => members.0.push(cell),
            None => members.1.push(&writes[item - below.len()]),
        }
    }
    found.into_values().collect()
}
