//! What one column tells of a record whose description lies on other members as well.

use crate::checksum::witness;
use crate::error::Result;
use crate::format::record::plan::ENTRY_BYTES;
use crate::format::record::{Change, Entry, HeaderPart, Interval};
use crate::format::wire::Reader;
use crate::types::{BLOCK, Column};
use std::ops::Range;

/// A part of a record's description.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Glimpse {
    /// The intervals and changes; `None` when a part of them was not at hand.
    pub preamble: Option<(Vec<Interval>, Vec<Change>)>,
    /// Those entries that were at hand, by the place of their block among the record's data-column blocks, row by
    /// row.
    pub entries: Vec<(usize, Entry)>,
}

impl HeaderPart {
    /// The description blocks that lie in this header's own column: which one of those that
    /// [`HeaderPart::finish`] takes, and in which row behind the header.
    pub fn own_description(&self) -> impl Iterator<Item = (usize, u8)> {
        let k = usize::from(self.record.scheme.k());
        // With one data column all columns hold the same.
        let column = if k == 1 { 0 } else { usize::from(self.column.0) };
        (0..self.record.description_rows)
            .filter(move |_| column < k)
            .map(move |row| (usize::from(row) * k + column, row))
            .filter(|(index, _)| *index < self.needs())
    }

    /// What can be told from the header and some of the description blocks, each with the index that
    /// [`HeaderPart::own_description`] gives it. One that does not match its witness counts as not at hand.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Corrupt`] if what is at hand contradicts itself.
    pub fn glimpse(&self, blocks: &[(usize, impl AsRef<[u8]>)]) -> Result<Glimpse> {
        let k = usize::from(self.record.scheme.k());
        let mut stream = self.inline.clone();
        stream.resize(self.inline.len() + self.needs() * BLOCK, 0);
        let mut known = vec![false; self.needs()];
        for (index, block) in blocks.iter().filter(|(index, _)| *index < self.needs()) {
            let place = (u8::try_from(index / k), u8::try_from(index % k));
            let (Ok(row), Ok(column)) = place else { continue };
            if block.as_ref().len() == BLOCK
                && witness(block.as_ref()) == self.record.witness(row, Column(column))
            {
                let at = self.inline.len() + index * BLOCK;
                stream[at..at + BLOCK].copy_from_slice(block.as_ref());
                known[*index] = true;
            }
        }
        let part = |range: Range<usize>| {
            let bytes = stream.get(range.clone())?;
            let first = range.start.max(self.inline.len()) - self.inline.len();
            let end = range.end.max(self.inline.len()) - self.inline.len();
            known[first / BLOCK..end.div_ceil(BLOCK).max(first / BLOCK)]
                .iter()
                .all(|known| *known)
                .then_some(bytes)
        };
        let preamble = match part(0..self.preamble) {
            Some(bytes) => Some(self.take_preamble(&mut Reader::new("record description", bytes))?),
            None => None,
        };
        let cells = usize::from(self.record.rows) * k;
        let mut entries = Vec::new();
        for index in self.needs()..cells {
            let at = self.preamble + (index - self.needs()) * ENTRY_BYTES;
            if let Some(bytes) = part(at..at + ENTRY_BYTES) {
                entries.push((index, Entry::take(&mut Reader::new("record description", bytes))?));
            }
        }
        Ok(Glimpse { preamble, entries })
    }
}
