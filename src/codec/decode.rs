//! Decoding: which k columns to start from, and every other column as a linear combination of them.
//!
//! Only the e data columns that are not among them are unknown, so only an e x e system is solved, e <= m:
//!
//! ```text
//! chosen parity = P * known data + Q * unknown data     (P, Q: columns of the parity matrix)
//! unknown data  = inv(Q) * P * known data + inv(Q) * chosen parity
//! ```

use super::matrix::{Matrix, add_multiple};
use crate::error::{Error, Result};
use crate::types::{Column, Scheme};

/// The k columns from which the others are computed: data columns first, each kind in ascending order.
pub(super) struct Selection<'a> {
    k: usize,
    columns: Vec<usize>,
    inputs: Vec<&'a [u8]>,
}

impl<'a> Selection<'a> {
    /// Picks k different columns, data before parity: a data column costs no multiplication.
    pub(super) fn new(scheme: Scheme, available: &[(Column, &'a [u8])]) -> Result<Selection<'a>> {
        let k = usize::from(scheme.k());
        let mut sorted = available.to_vec();
        sorted.sort_by_key(|&(column, _)| column);
        sorted.dedup_by_key(|&mut (column, _)| column);
        if sorted.len() < k {
            let have = sorted.len();
            return Err(Error::invalid(format!("{scheme} needs {k} columns of a row and has {have}")));
        }
        sorted.truncate(k);
        let (columns, inputs) =
            sorted.into_iter().map(|(column, bytes)| (usize::from(column.0), bytes)).unzip();
        Ok(Selection { k, columns, inputs })
    }

    /// The k inputs, in the order of the coefficients that [`Selection::rows`] returns.
    pub(super) fn inputs(&self) -> &[&'a [u8]] {
        &self.inputs
    }

    /// An input that equals `column`: itself, or any copy in a mirror.
    pub(super) fn copy_of(&self, column: Column) -> Option<&'a [u8]> {
        if self.k == 1 {
            return Some(self.inputs[0]);
        }
        self.columns.binary_search(&usize::from(column.0)).ok().map(|at| self.inputs[at])
    }

    /// One row of k coefficients per `wanted` column: what the inputs are multiplied with.
    pub(super) fn rows(&self, parity: &Matrix, wanted: &[Column]) -> Matrix {
        let unknown: Vec<usize> = (0..self.k).filter(|c| self.columns.binary_search(c).is_err()).collect();
        let solved = self.solve(parity, &unknown);
        let mut rows = Matrix::zero(wanted.len(), self.k);
        for (i, column) in wanted.iter().enumerate() {
            let row = rows.row_mut(i);
            match usize::from(column.0).checked_sub(self.k) {
                None => self.add_data(row, 1, usize::from(column.0), &unknown, &solved),
                Some(p) => {
                    for (c, &factor) in parity.row(p).iter().enumerate() {
                        self.add_data(row, factor, c, &unknown, &solved);
                    }
                }
            }
        }
        rows
    }

    /// Adds `factor` times data column `c`, known or not, to a row of coefficients.
    fn add_data(&self, row: &mut [u8], factor: u8, c: usize, unknown: &[usize], solved: &Matrix) {
        match self.columns.binary_search(&c) {
            Ok(at) => row[at] ^= factor,
            Err(_) => {
                let at = unknown.binary_search(&c).expect("a data column is known or unknown");
                add_multiple(row, factor, &solved.row(at)[unknown.len()..]);
            }
        }
    }

    /// The unknown data columns in terms of the inputs: `[identity | inv(Q) P | inv(Q)]`, a row for each.
    fn solve(&self, parity: &Matrix, unknown: &[usize]) -> Matrix {
        let e = unknown.len();
        let known = self.k - e;
        let mut system = Matrix::zero(e, e + self.k);
        for (i, column) in self.columns[known..].iter().enumerate() {
            let coefficients = parity.row(column - self.k);
            let row = system.row_mut(i);
            for (cell, &c) in row.iter_mut().zip(unknown.iter().chain(&self.columns[..known])) {
                *cell = coefficients[c];
            }
            row[e + known + i] = 1;
        }
        system.solve();
        system
    }
}
