//! What may have become of some blocks of one disk that a crash caught unflushed.
//!
//! A *cell* is the smallest set of blocks whose fates hang together: the blocks of one write, or of several that
//! overlap. Its *states* are all contents that the disk may legally come back with.
//!
//! Invariants:
//! - Every column has at least two contents in its palette, pairwise different.
//! - No two states are equal, so each is a content of the disk of its own.

use super::grow::lower;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The bytes of one block, aligned as devices want them.
pub(in crate::sim) type Content = Bytes;

/// A write that no flush has covered.
#[derive(Clone)]
pub(super) struct Write {
    /// Its first block.
    pub(super) first: u64,
    /// What it writes.
    pub(super) blocks: Vec<Content>,
    /// The tick of its submission.
    pub(super) begun: u64,
    /// The tick of its completion.
    pub(super) ended: Option<u64>,
}

impl Write {
    /// The block behind its last one.
    pub(super) fn end(&self) -> u64 {
        self.first + self.blocks.len() as u64
    }

    /// Block numbers and contents.
    pub(super) fn contents(&self) -> impl Iterator<Item = (u64, &Content)> {
        (self.first..).zip(&self.blocks)
    }
}

/// One content of a cell: an index into each column's palette.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State(pub(super) Vec<u16>);

/// See the head of this file.
#[derive(Clone)]
pub(super) struct Cell {
    /// The disk that it is on.
    pub(super) disk: usize,
    /// Its blocks, in order: the columns of its states.
    pub(super) blocks: Vec<u64>,
    /// The contents that each of them may have.
    pub(super) palettes: Vec<Vec<Content>>,
    /// Each state, and how many writes must have been torn for it.
    pub(super) states: Vec<(State, u16)>,
}

impl Cell {
    /// The cell when some of its blocks have become something else for good.
    pub(super) fn without(&self, is_fixed: impl Fn(u64) -> bool, left: &[u32]) -> Option<Cell> {
        let kept: Vec<usize> = (0..self.blocks.len()).filter(|at| !is_fixed(self.blocks[*at])).collect();
        let mut states: BTreeMap<State, u16> = BTreeMap::new();
        for index in left {
            let (state, cost) = &self.states[*index as usize];
            lower(&mut states, State(kept.iter().map(|at| state.0[*at]).collect()), *cost);
        }
        let blocks = kept.iter().map(|at| self.blocks[*at]).collect();
        let palettes = kept.iter().map(|at| self.palettes[*at].clone()).collect();
        Cell { disk: self.disk, blocks, palettes, states: states.into_iter().collect() }.trimmed()
    }

    /// The content of the column at `at` in a state.
    pub(super) fn content(&self, at: usize, state: u32) -> &Content {
        &self.palettes[at][usize::from(self.id(at, state))]
    }

    /// The same as a number: equal numbers, equal contents.
    pub(super) fn id(&self, at: usize, state: u32) -> u16 {
        self.states[state as usize].0.0[at]
    }

    /// Without columns in which all states agree. `None` when there is no choice left.
    pub(super) fn trimmed(self) -> Option<Cell> {
        let differs =
            |at: &usize| self.states.iter().any(|(state, _)| state.0[*at] != self.states[0].0.0[*at]);
        let kept: Vec<usize> = (0..self.blocks.len()).filter(differs).collect();
        if kept.is_empty() {
            return None;
        }
        let narrow =
            |(state, cost): &(State, u16)| (State(kept.iter().map(|at| state.0[*at]).collect()), *cost);
        Some(Cell {
            disk: self.disk,
            blocks: kept.iter().map(|at| self.blocks[*at]).collect(),
            palettes: kept.iter().map(|at| self.palettes[*at].clone()).collect(),
            states: self.states.iter().map(narrow).collect(),
        })
    }
}
