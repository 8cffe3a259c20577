//! Decoding: which k columns to start from, and every other column as a linear combination of them.
//!
//! Only the e data columns that are not among them are unknown, so only an e x e system is solved, e <= m:
//!
//! ```text
//! chosen parity = P * known data + Q * unknown data     (P, Q: columns of the parity matrix)
//! unknown data  = inv(Q) * P * known data + inv(Q) * chosen parity
//! ```

use super::Kernel;
use super::matrix::{Matrix, add_multiple};
use crate::error::{Error, Result};
use crate::types::{Column, Scheme};

/// How to compute columns of a row from k others: worked out once, applied to every row that has the same ones.
pub struct Plan {
    kernel: Kernel,
    inputs: Vec<Column>,
    /// For each output the input that it equals, if there is one.
    copies: Vec<Option<usize>>,
    /// A row of coefficients for each output that equals none.
    rows: Matrix,
}

impl Plan {
    pub(super) fn new(
        scheme: Scheme,
        parity: &Matrix,
        kernel: Kernel,
        available: &[Column],
        wanted: &[Column],
    ) -> Result<Plan> {
        let selection = Selection::new(scheme, available)?;
        let copies: Vec<Option<usize>> = wanted.iter().map(|column| selection.copy_of(*column)).collect();
        let missing: Vec<Column> = wanted
            .iter()
            .zip(&copies)
            .filter(|(_, copy)| copy.is_none())
            .map(|(column, _)| *column)
            .collect();
        let rows = selection.rows(parity, &missing);
        Ok(Plan { kernel, inputs: selection.inputs, copies, rows })
    }

    /// The k columns from which it computes, in ascending order.
    pub fn inputs(&self) -> &[Column] {
        &self.inputs
    }

    /// Computes the wanted columns from `inputs`, which are those that [`Plan::inputs`] names, in its order. Nothing is
    /// verified here: `out` is as good as what was given.
    ///
    /// # Panics
    ///
    /// Unless there is an input per column and an output per wanted one, all of one length: a defect of the caller.
    pub fn apply(&self, inputs: &[&[u8]], out: &mut [&mut [u8]]) {
        assert_eq!(inputs.len(), self.inputs.len(), "an input per column");
        assert_eq!(out.len(), self.copies.len(), "an output per wanted column");
        let mut computed = Vec::with_capacity(out.len());
        for (out, copy) in out.iter_mut().zip(&self.copies) {
            match copy {
                Some(at) => out.copy_from_slice(inputs[*at]),
                None => computed.push(&mut **out),
            }
        }
        if !computed.is_empty() {
            self.kernel.multiply(&self.rows, inputs, &mut computed);
        }
    }
}

/// The k columns from which the others are computed: data columns first, each kind in ascending order.
struct Selection {
    k: usize,
    inputs: Vec<Column>,
    columns: Vec<usize>,
}

impl Selection {
    /// Picks k different columns, data before parity: a data column costs no multiplication.
    fn new(scheme: Scheme, available: &[Column]) -> Result<Selection> {
        let k = usize::from(scheme.k());
        let mut inputs = available.to_vec();
        inputs.sort();
        inputs.dedup();
        if inputs.len() < k {
            let have = inputs.len();
            return Err(Error::invalid(format!("{scheme} needs {k} columns of a row and has {have}")));
        }
        inputs.truncate(k);
        let columns = inputs.iter().map(|column| usize::from(column.0)).collect();
        Ok(Selection { k, inputs, columns })
    }

    /// The input that equals `column`: itself, or any copy in a mirror.
    fn copy_of(&self, column: Column) -> Option<usize> {
        if self.k == 1 {
            return Some(0);
        }
        self.inputs.binary_search(&column).ok()
    }

    /// One row of k coefficients per `wanted` column: what the inputs are multiplied with.
    fn rows(&self, parity: &Matrix, wanted: &[Column]) -> Matrix {
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
