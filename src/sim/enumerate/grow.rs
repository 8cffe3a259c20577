//! Which contents a crash may leave where writes were not flushed: the rules of the game, in one place.
//!
//! - Each write arrives whole, not at all, or torn. Where several overlap, each is laid over the ones before it, and
//!   those that were in flight at the same time are tried in every order.
//! - A torn write of up to [`SUBSET_BLOCKS_MAX`] blocks leaves any subset of them; a longer one a head, a tail, one
//!   block alone or all but one.
//! - Besides, a write tears inside each of its blocks, at the sectors of [`TEARS`]: what lies before is new and what
//!   lies behind is old, in this block and in the others, or the other way round. A sector is never mixed.
//! - Blocks that a write does not change are none of its blocks.

use super::super::media::SECTOR;
use super::cell::{Cell, Content, State, Write};
use crate::device::Aligned;
use std::collections::BTreeMap;

/// Torn writes of more blocks than this are not tried with every subset of them.
pub const SUBSET_BLOCKS_MAX: usize = 4;
/// Where a block tears: behind so many of its eight sectors.
pub const TEARS: [usize; 3] = [1, 4, 7];

/// What becomes of a block that is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fate {
    Old,
    New,
    /// So many sectors are new, the rest old.
    Head(usize),
    /// So many sectors are old, the rest new.
    Tail(usize),
}

type States = BTreeMap<State, u16>;

/// Notes a state, and the fewest torn writes that lead to it.
pub(super) fn lower(states: &mut States, state: State, torn: u16) {
    let least = states.entry(state).or_insert(torn);
    *least = torn.min(*least);
}

/// What `writes`, which hang together by overlapping each other or `below`, may leave of their blocks. `old` is what
/// was there where nothing in `below` says so. `None` when that is no choice.
pub(super) fn grow(
    disk: usize,
    below: &[&Cell],
    writes: &[&Write],
    old: impl Fn(u64) -> Content,
) -> Option<Cell> {
    let mut columns: BTreeMap<u64, Vec<Content>> = BTreeMap::new();
    for (block, _) in writes.iter().flat_map(|write| write.contents()) {
        columns.entry(block).or_insert_with(|| vec![old(block)]);
    }
    for cell in below {
        columns.extend(cell.blocks.iter().copied().zip(cell.palettes.iter().cloned()));
    }
    let (blocks, palettes): (Vec<u64>, Vec<Vec<Content>>) = columns.into_iter().unzip();
    let mut table = Table { blocks, palettes, mixes: BTreeMap::new() };
    let mut begin = States::from([(State(vec![0; table.blocks.len()]), 0)]);
    for cell in below {
        let places: Vec<usize> = cell.blocks.iter().map(|block| table.column(*block)).collect();
        begin = product(&begin, cell, &places);
    }
    let mut states = States::new();
    for order in orders(writes) {
        let mut reached = begin.clone();
        for write in order {
            reached = table.step(&reached, writes[write]);
        }
        reached.into_iter().for_each(|(state, torn)| lower(&mut states, state, torn));
    }
    let Table { blocks, palettes, .. } = table;
    Cell { disk, blocks, palettes, states: states.into_iter().collect() }.trimmed()
}

fn product(states: &States, cell: &Cell, places: &[usize]) -> States {
    let mut wider = States::new();
    for (state, torn) in states {
        for (part, more) in &cell.states {
            let mut whole = state.clone();
            places.iter().zip(&part.0).for_each(|(place, id)| whole.0[*place] = *id);
            lower(&mut wider, whole, torn + more);
        }
    }
    wider
}

/// Every order in which overlapping writes may have reached the medium.
fn orders(writes: &[&Write]) -> Vec<Vec<usize>> {
    let comes_first = |first: usize, second: usize| {
        let (one, other) = (writes[first], writes[second]);
        let apart = one.end() <= other.first || other.end() <= one.first;
        one.ended.is_some_and(|ended| ended <= other.begun) || (apart && first < second)
    };
    let mut found = vec![Vec::new()];
    for _ in writes {
        let mut longer = Vec::new();
        for order in &found {
            let left: Vec<usize> = (0..writes.len()).filter(|write| !order.contains(write)).collect();
            for next in left.iter().filter(|next| !left.iter().any(|other| comes_first(*other, **next))) {
                longer.push(order.iter().copied().chain([*next]).collect());
            }
        }
        found = longer;
    }
    found
}

/// Contents by column and number.
struct Table {
    blocks: Vec<u64>,
    palettes: Vec<Vec<Content>>,
    mixes: BTreeMap<(usize, u16, u16, Fate), u16>,
}

impl Table {
    fn column(&self, block: u64) -> usize {
        self.blocks.binary_search(&block).expect("one of the columns")
    }

    fn intern(&mut self, column: usize, content: &Content) -> u16 {
        let palette = &mut self.palettes[column];
        let same = |other: &Content| other.as_ptr() == content.as_ptr() || other == content;
        let found = palette.iter().position(same).unwrap_or_else(|| {
            palette.push(content.clone());
            palette.len() - 1
        });
        u16::try_from(found).expect("a block has few contents")
    }

    fn mix(&mut self, column: usize, old: u16, new: u16, fate: Fate) -> u16 {
        let (head, tail, sectors) = match fate {
            Fate::Old => return old,
            Fate::New => return new,
            _ if old == new => return old,
            Fate::Head(sectors) => (new, old, sectors),
            Fate::Tail(sectors) => (old, new, sectors),
        };
        if let Some(known) = self.mixes.get(&(column, old, new, fate)) {
            return *known;
        }
        let palette = &self.palettes[column];
        let mut mixed = Aligned::copy_of(&palette[usize::from(tail)]);
        let cut = sectors * SECTOR;
        mixed.as_mut()[..cut].copy_from_slice(&palette[usize::from(head)][..cut]);
        let id = self.intern(column, &mixed.freeze());
        self.mixes.insert((column, old, new, fate), id);
        id
    }

    /// What a write makes of each state.
    fn step(&mut self, states: &States, write: &Write) -> States {
        let mut changed = Vec::new();
        for (block, content) in write.contents() {
            let column = self.column(block);
            let new = self.intern(column, content);
            if states.keys().any(|state| state.0[column] != new) {
                changed.push((column, new));
            }
        }
        let fates = fates(changed.len());
        let mut reached = States::new();
        for (state, torn) in states {
            for (fate, more) in &fates {
                let mut next = state.clone();
                for ((column, new), fate) in changed.iter().zip(fate) {
                    next.0[*column] = self.mix(*column, state.0[*column], *new, *fate);
                }
                lower(&mut reached, next, torn + more);
            }
        }
        reached
    }
}

/// Everything that may become of a write of so many blocks, and whether it was torn for that.
fn fates(blocks: usize) -> Vec<(Vec<Fate>, u16)> {
    let mut found = vec![(vec![Fate::Old; blocks], 0), (vec![Fate::New; blocks], 0)];
    let pick = |is_new: &dyn Fn(usize) -> bool| -> Vec<Fate> {
        (0..blocks).map(|block| if is_new(block) { Fate::New } else { Fate::Old }).collect()
    };
    if blocks <= SUBSET_BLOCKS_MAX {
        found.extend(
            (1..(1_usize << blocks).saturating_sub(1)).map(|set| (pick(&|block| set >> block & 1 == 1), 1)),
        );
    } else {
        for at in 0..blocks {
            found.extend([(pick(&|block| block == at), 1), (pick(&|block| block != at), 1)]);
            found.extend([(pick(&|block| block < at), 1), (pick(&|block| block >= at), 1)]);
        }
    }
    for at in 0..blocks {
        for sectors in TEARS {
            let mut head = pick(&|block| block < at);
            head[at] = Fate::Head(sectors);
            let mut tail = pick(&|block| block > at);
            tail[at] = Fate::Tail(sectors);
            found.extend([(head, 1), (tail, 1)]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::BLOCK;

    fn block(fill: u8) -> Content {
        Aligned::copy_of(&[fill; BLOCK]).freeze()
    }

    fn write(first: u64, fill: u8, blocks: usize, begun: u64, ended: Option<u64>) -> Write {
        Write { first, blocks: vec![block(fill); blocks], begun, ended }
    }

    fn cell(writes: &[Write]) -> Option<Cell> {
        grow(0, &[], &writes.iter().collect::<Vec<_>>(), |_| block(0))
    }

    /// The states without torn writes, by the first byte of each block.
    fn untorn(cell: &Cell) -> Vec<Vec<u8>> {
        let bytes = |(index, _): (u32, _)| {
            (0..cell.blocks.len()).map(|at| cell.content(at, index)[0]).collect::<Vec<u8>>()
        };
        let mut found: Vec<_> =
            (0..).zip(&cell.states).filter(|(_, (_, torn))| *torn == 0).map(bytes).collect();
        found.sort();
        found
    }

    #[test]
    fn a_write_arrives_whole_or_torn_or_not_at_all() {
        for (blocks, states) in
            [(1, 2 + 6), (2, 4 + 12), (3, 8 + 18), (4, 16 + 24), (5, 2 + 5 + 5 + 2 + 2 + 30)]
        {
            let cell = cell(&[write(7, 1, blocks, 1, None)]).expect("a choice");
            assert_eq!(untorn(&cell), [vec![0; blocks], vec![1; blocks]]);
            let different: std::collections::BTreeSet<Vec<u8>> = (0..u32::try_from(cell.states.len())
                .expect("few"))
                .map(|state| (0..blocks).flat_map(|at| cell.content(at, state).to_vec()).collect())
                .collect();
            assert_eq!((cell.states.len(), different.len()), (states, states), "{blocks}");
        }
    }

    #[test]
    fn sectors_that_do_not_change_do_not_tear() {
        let mut content = Aligned::zeroed(BLOCK);
        content.as_mut()[0] = 1;
        let short = Write { first: 0, blocks: vec![content.freeze(), block(0)], begun: 1, ended: None };
        let cell = cell(&[short]).expect("a choice");
        assert_eq!((cell.states.len(), cell.blocks), (2, vec![0]));
    }

    #[test]
    fn a_write_of_what_is_there_is_no_choice() {
        assert!(cell(&[write(0, 0, 3, 1, None)]).is_none());
    }

    #[test]
    fn overlapping_writes_lie_in_their_order_or_in_any_when_both_were_in_flight() {
        let ordered = [write(0, 1, 2, 1, Some(2)), write(1, 2, 2, 3, None)];
        let expected = [[0, 0, 0], [0, 2, 2], [1, 1, 0], [1, 2, 2]];
        assert_eq!(untorn(&cell(&ordered).expect("a choice")), expected);
        let at_once = [write(0, 1, 2, 1, Some(4)), write(1, 2, 2, 3, None)];
        let expected = [[0, 0, 0], [0, 2, 2], [1, 1, 0], [1, 1, 2], [1, 2, 2]];
        assert_eq!(untorn(&cell(&at_once).expect("a choice")), expected);
    }
}
