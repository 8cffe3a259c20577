//! What an array may show after a crash.
//!
//! Invariants:
//! - `states[i]` of a volume is its content when `first + i` was its newest number, so the newest number that was
//!   given out is that of the last state.
//! - `flushed` is one of these numbers.

use super::super::model::content;
use super::cell::Content;
use crate::device::Aligned;
use crate::types::{BLOCK, Lba, Number, Scheme};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The blocks of a volume; `None` is zeros.
pub(in crate::sim) type Blocks = Vec<Option<Content>>;

/// One volume, as far back as a crash may take it.
#[derive(Clone)]
pub(in crate::sim) struct History {
    pub(in crate::sim) scheme: Scheme,
    /// Its making was answered, and nobody has asked for its deletion.
    pub(in crate::sim) must_be: bool,
    pub(in crate::sim) flushed: Number,
    first: Number,
    states: Vec<Arc<Blocks>>,
}

impl History {
    /// A volume that somebody asks for.
    pub(in crate::sim) fn new(scheme: Scheme, blocks: usize) -> History {
        let states = vec![Arc::new(vec![None; blocks])];
        History { scheme, must_be: false, flushed: Number(0), first: Number(0), states }
    }

    pub(in crate::sim) fn newest(&self) -> &Blocks {
        self.states.last().expect("never empty")
    }

    pub(in crate::sim) fn issued(&self) -> Number {
        Number(self.first.0 + self.states.len() as u64 - 1)
    }

    /// Something is asked for that makes this of the volume.
    pub(in crate::sim) fn push(&mut self, blocks: Blocks) {
        self.states.push(Arc::new(blocks));
    }

    /// What was asked for last was refused.
    pub(in crate::sim) fn pop(&mut self) {
        assert!(self.states.len() > 1, "the first state was not asked for");
        self.states.pop();
    }

    /// The volume came back, or was read: with this number and these blocks.
    pub(in crate::sim) fn check(&self, number: Number, found: &[Option<Bytes>]) -> Result<(), String> {
        if number < self.flushed || number > self.issued() {
            return Err(format!("at number {number}, flushed {}, issued {}", self.flushed, self.issued()));
        }
        let at = usize::try_from(number.0 - self.first.0).expect("a short history");
        let state = &self.states[at];
        if found.len() != state.len() {
            return Err(format!("{} blocks at number {number} instead of {}", found.len(), state.len()));
        }
        let differs = |at: &usize| !is_same(found[*at].as_ref(), state[*at].as_ref());
        match (0..found.len()).find(differs) {
            Some(block) => Err(format!("block {block} is not what it was at number {number}")),
            None => Ok(()),
        }
    }

    /// The blocks at a number that was given out.
    pub(in crate::sim) fn at(&self, number: Number) -> Option<&Blocks> {
        let at = number.0.checked_sub(self.first.0).and_then(|at| usize::try_from(at).ok())?;
        self.states.get(at).map(|state| state.as_ref())
    }

    /// From here on, this is all that the volume can be.
    pub(in crate::sim) fn settle(&mut self, number: Number) {
        let at = usize::try_from(number.0 - self.first.0).expect("a short history");
        self.states = vec![self.states[at].clone()];
        (self.first, self.flushed, self.must_be) = (number, number, true);
    }
}

pub(in crate::sim) fn is_same(one: Option<&Bytes>, other: Option<&Bytes>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other,
        (Some(one), None) | (None, Some(one)) => one.iter().all(|byte| *byte == 0),
        (None, None) => true,
    }
}

/// What a whole array may show.
#[derive(Clone, Default)]
pub(in crate::sim) struct Expected {
    /// Its making was answered.
    pub(in crate::sim) is_made: bool,
    /// Volumes that may be there, by name.
    pub(in crate::sim) volumes: BTreeMap<String, History>,
}

/// The bytes that write `tag` gives a block.
pub(in crate::sim) fn tagged(tag: u64, block: usize) -> Content {
    Aligned::copy_of(&content(tag, Lba(block as u64))).freeze()
}

/// A volume's blocks with a range of bytes replaced.
pub(in crate::sim) fn patched(blocks: &Blocks, offset: usize, bytes: &[u8]) -> Blocks {
    let mut patched = blocks.clone();
    let end = offset + bytes.len();
    for block in offset / BLOCK..end.div_ceil(BLOCK) {
        let mut content = Aligned::zeroed(BLOCK);
        if let Some(old) = &blocks[block] {
            content.as_mut().copy_from_slice(old);
        }
        let (from, to) = (offset.max(block * BLOCK), end.min((block + 1) * BLOCK));
        content.as_mut()[from - block * BLOCK..to - block * BLOCK]
            .copy_from_slice(&bytes[from - offset..to - offset]);
        patched[block] = Some(content.freeze());
    }
    patched
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let mut history = History::new(Scheme::MIRROR, 2);
        for tag in 1..=3 {
            let next = patched(history.newest(), 0, &tagged(tag, 0));
            history.push(next);
        }
        history.flushed = Number(1);
        history
    }

    #[test]
    fn a_volume_is_what_it_was_at_a_number_that_was_not_flushed_away() {
        let history = history();
        let state = |tag: u64| vec![Some(tagged(tag, 0)), None];
        assert_eq!(history.issued(), Number(3));
        assert!((1..=3).all(|number| history.check(Number(number), &state(number)).is_ok()));
        for (number, found) in
            [(0, vec![None, None]), (4, state(3)), (2, state(1)), (2, state(2)[..1].to_vec())]
        {
            assert!(history.check(Number(number), &found).is_err(), "{number}");
        }
        assert!(history.check(Number(1), &[Some(tagged(1, 0)), Some(tagged(1, 1))]).is_err());
    }

    #[test]
    fn what_was_found_is_where_history_goes_on() {
        let mut history = history();
        history.settle(Number(2));
        assert!(history.must_be);
        assert_eq!((history.flushed, history.issued()), (Number(2), Number(2)));
        assert!(history.check(Number(3), &[Some(tagged(3, 0)), None]).is_err());
        assert!(history.check(Number(2), &[Some(tagged(2, 0)), None]).is_ok());
    }

    #[test]
    fn bytes_replace_parts_of_blocks() {
        let blocks: Blocks = vec![Some(tagged(1, 0)), None];
        let next = patched(&blocks, BLOCK - 2, &[7; 4]);
        let (first, second) = (next[0].as_ref().expect("there"), next[1].as_ref().expect("there"));
        assert_eq!((&first[..BLOCK - 2], &first[BLOCK - 2..]), (&tagged(1, 0)[..BLOCK - 2], &[7, 7][..]));
        assert_eq!((&second[..2], second[2..].iter().all(|byte| *byte == 0)), (&[7, 7][..], true));
    }
}
