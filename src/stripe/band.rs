//! Consecutive rows of a record of which some blocks are wanted: what of them is known, and what must be asked for.
//!
//! Invariants:
//! - A block is good only if it matches its witness; that is for whoever puts it here to see to.
//! - A block is asked for at most once. One that was read before, well or not, is never asked for.
//! - The good blocks of a row are in the order of their columns, so that rows that lost the same columns are alike,
//!   whatever came first.

use crate::types::{Column, Row, Scheme};
use crate::zoo::{Bug, planted};
use bytes::Bytes;

/// See the head of this file.
pub(super) struct Band {
    pub(super) first: Row,
    /// Blocks that were looked at, good or not.
    pub(super) sifted: u64,
    scheme: Scheme,
    lines: Vec<Line>,
}

/// One of the rows.
struct Line {
    wanted: Vec<Column>,
    good: Vec<(Column, Bytes)>,
    /// By column.
    asked: Vec<bool>,
}

/// Consecutive blocks of a column. Rows are counted from the band's first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ask {
    pub(super) column: Column,
    pub(super) first: usize,
    pub(super) count: usize,
}

/// Rows that have the same good columns, k at least, and lack the same of those that they want.
pub(super) struct Stretch<'a> {
    pub(super) first: usize,
    /// The k columns from which those that lack are computed.
    pub(super) sources: Vec<Column>,
    pub(super) missing: Vec<Column>,
    lines: &'a [Line],
}

impl Band {
    /// Rows from `first` on, each with the columns that are wanted of it.
    pub(super) fn new(scheme: Scheme, first: Row, wanted: Vec<Vec<Column>>) -> Band {
        let width = usize::from(scheme.width());
        let line = |wanted| Line { wanted, good: Vec::new(), asked: vec![false; width] };
        Band { first, sifted: 0, scheme, lines: wanted.into_iter().map(line).collect() }
    }

    /// Its rows.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The columns that are wanted of a row.
    pub(super) fn wanted(&self, index: usize) -> &[Column] {
        &self.lines[index].wanted
    }

    /// A block of a row, if it is a good one.
    pub(super) fn good(&self, index: usize, column: Column) -> Option<&Bytes> {
        self.lines[index].good(column)
    }

    /// Has a block that was read in vain never be asked for.
    pub(super) fn give_up(&mut self, index: usize, column: Column) {
        self.lines[index].asked[usize::from(column.0)] = true;
    }

    /// Puts a good block in its place.
    ///
    /// # Panics
    /// If it is there already.
    pub(super) fn put(&mut self, index: usize, column: Column, block: Bytes) {
        let line = &mut self.lines[index];
        line.asked[usize::from(column.0)] = true;
        let at = line.good.binary_search_by_key(&column, |(other, _)| *other);
        line.good.insert(at.expect_err("a block is read once"), (column, block));
    }

    /// Whether each row is settled: has what is wanted of it, or what that can be computed from.
    pub(super) fn is_settled(&self) -> bool {
        let k = usize::from(self.scheme.k());
        self.lines.iter().all(|line| line.is_settled(k))
    }

    /// Whether the rows of an ask are settled.
    pub(super) fn is_done(&self, ask: Ask) -> bool {
        let k = usize::from(self.scheme.k());
        self.lines[ask.first..ask.first + ask.count].iter().all(|line| line.is_settled(k))
    }

    /// What is wanted and has not been asked for yet. It counts as asked for from here on.
    pub(super) fn ask_wanted(&mut self) -> Vec<Ask> {
        let mut asked = Vec::new();
        for (index, line) in self.lines.iter_mut().enumerate() {
            for column in &line.wanted {
                let was_asked = std::mem::replace(&mut line.asked[usize::from(column.0)], true);
                if !was_asked {
                    asked.push((*column, index));
                }
            }
        }
        asks(asked)
    }

    /// As many blocks of each row that is not settled as it lacks to be, of the first columns of `order` that were
    /// not asked for yet. They count as asked for from here on.
    pub(super) fn ask(&mut self, order: &[Column]) -> Vec<Ask> {
        let k = usize::from(self.scheme.k());
        let mut asked = Vec::new();
        for (index, line) in self.lines.iter_mut().enumerate().filter(|(_, line)| !line.is_settled(k)) {
            let mut lacking = k - line.good.len();
            for column in order {
                if lacking == 0 {
                    break;
                }
                let was_asked = std::mem::replace(&mut line.asked[usize::from(column.0)], true);
                if !was_asked {
                    asked.push((*column, index));
                    lacking -= 1;
                }
            }
        }
        asks(asked)
    }

    /// What can be computed, and is wanted.
    pub(super) fn stretches(&self) -> impl Iterator<Item = Stretch<'_>> {
        let k = usize::from(self.scheme.k());
        let mut first = 0;
        let alike = self.lines.chunk_by(Line::is_like).map(move |lines| {
            let begin = first;
            first += lines.len();
            let sources = lines[0].good.iter().take(k).map(|(column, _)| *column).collect();
            Stretch { first: begin, sources, missing: lines[0].missing(), lines }
        });
        alike.filter(move |stretch| stretch.sources.len() == k && !stretch.missing.is_empty())
    }
}

impl Line {
    fn good(&self, column: Column) -> Option<&Bytes> {
        let at = self.good.binary_search_by_key(&column, |(other, _)| *other).ok()?;
        Some(&self.good[at].1)
    }

    fn is_settled(&self, k: usize) -> bool {
        self.good.len() >= k - usize::from(planted(Bug::OneTooFew))
            || self.wanted.iter().all(|column| self.good(*column).is_some())
    }

    fn missing(&self) -> Vec<Column> {
        self.wanted.iter().copied().filter(|column| self.good(*column).is_none()).collect()
    }

    fn is_like(&self, other: &Line) -> bool {
        let columns = |line: &Line| line.good.iter().map(|(column, _)| *column).collect::<Vec<_>>();
        self.wanted == other.wanted && columns(self) == columns(other)
    }
}

impl Stretch<'_> {
    /// Its rows.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The sources of each row.
    pub(super) fn rows(&self) -> impl Iterator<Item = Vec<&Bytes>> {
        let k = self.sources.len();
        self.lines.iter().map(move |line| line.good[..k].iter().map(|(_, block)| block).collect())
    }
}

/// Blocks as asks as long as they can be, in the order of columns and rows.
fn asks(mut blocks: Vec<(Column, usize)>) -> Vec<Ask> {
    blocks.sort_unstable();
    let runs = blocks.chunk_by(|a, b| a.0 == b.0 && a.1 + 1 == b.1);
    runs.map(|run| Ask { column: run[0].0, first: run[0].1, count: run.len() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEME: (u8, u8) = (2, 2);

    fn band(wanted: &[&[u8]]) -> Band {
        let columns = |row: &&[u8]| row.iter().copied().map(Column).collect();
        let scheme = Scheme::new(SCHEME.0, SCHEME.1).expect("a scheme");
        Band::new(scheme, Row(5), wanted.iter().map(columns).collect())
    }

    fn order() -> Vec<Column> {
        (0..4).map(Column).collect()
    }

    fn block(byte: u8) -> Bytes {
        Bytes::from(vec![byte])
    }

    fn ask(column: u8, first: usize, count: usize) -> Ask {
        Ask { column: Column(column), first, count }
    }

    #[test]
    fn rows_that_lack_the_same_ask_for_each_column_at_once() {
        let mut band = band(&[&[0], &[0], &[1]]);
        (0..2).for_each(|index| band.give_up(index, Column(0)));
        band.give_up(2, Column(1));
        assert_eq!(band.ask(&order()), [ask(0, 2, 1), ask(1, 0, 2), ask(2, 0, 3)]);
    }

    #[test]
    fn what_is_there_and_what_was_asked_for_is_not_asked_for_again() {
        let mut band = band(&[&[0], &[0], &[]]);
        band.give_up(0, Column(0));
        band.give_up(1, Column(0));
        band.put(1, Column(1), block(1));
        assert_eq!(band.ask(&order()), [ask(1, 0, 1), ask(2, 0, 2)]);
        band.put(1, Column(2), block(2));
        band.put(0, Column(2), block(2));
        assert_eq!(band.ask(&order()), [ask(3, 0, 1)], "of the row that still lacks one");
        assert!(band.ask(&order()).is_empty(), "nothing is left to be asked for");
        assert!(band.is_done(ask(0, 1, 2)) && !band.is_done(ask(0, 0, 2)) && !band.is_settled());
    }

    #[test]
    fn a_row_that_has_all_that_is_wanted_asks_for_nothing() {
        let mut band = band(&[&[1], &[1]]);
        assert_eq!(band.ask_wanted(), [ask(1, 0, 2)]);
        assert!(band.ask_wanted().is_empty());
        band.put(0, Column(1), block(1));
        assert_eq!(band.ask(&order()), [ask(0, 1, 1), ask(2, 1, 1)]);
        assert_eq!(band.stretches().count(), 0);
    }

    #[test]
    fn rows_are_computed_together_exactly_while_they_are_alike() {
        let mut band = band(&[&[0, 3], &[0, 3], &[0, 3], &[0], &[0], &[]]);
        for (index, columns) in [[2, 1], [1, 2], [1, 3], [1, 3], [1, 1], [2, 1]].into_iter().enumerate() {
            band.put(index, Column(columns[0]), block(columns[0]));
            if columns[0] != columns[1] {
                band.put(index, Column(columns[1]), block(columns[1]));
            }
        }
        let found: Vec<_> =
            band.stretches().map(|at| (at.first, at.len(), at.sources.clone(), at.missing.clone())).collect();
        let columns = |columns: &[u8]| columns.iter().copied().map(Column).collect::<Vec<_>>();
        let expected = [
            (0, 2, columns(&[1, 2]), columns(&[0, 3])),
            (2, 1, columns(&[1, 3]), columns(&[0])),
            (3, 1, columns(&[1, 3]), columns(&[0])),
        ];
        assert_eq!(found, expected);
        for row in
            band.stretches().flat_map(|stretch| stretch.rows().map(|row| row.len()).collect::<Vec<_>>())
        {
            assert_eq!(row, 2);
        }
    }
}
