//! Small matrices over GF(2^8) with the polynomial 0x11D. Addition is XOR.

use reed_solomon_erasure::galois_8::{div, mul};

/// Rows of coefficients, stored one after the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Matrix {
    columns: usize,
    cells: Vec<u8>,
}

impl Matrix {
    /// `rows` rows of `columns` zeros.
    ///
    /// # Panics
    ///
    /// If `columns` is 0.
    pub(super) fn zero(rows: usize, columns: usize) -> Matrix {
        assert!(columns > 0, "a matrix without columns");
        Matrix { columns, cells: vec![0; rows * columns] }
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.cells.chunks_exact(self.columns)
    }

    pub(super) fn row(&self, row: usize) -> &[u8] {
        &self.cells[row * self.columns..][..self.columns]
    }

    pub(super) fn row_mut(&mut self, row: usize) -> &mut [u8] {
        &mut self.cells[row * self.columns..][..self.columns]
    }

    /// Brings the left square part to the identity by row operations (Gauss-Jordan): what stands to the
    /// right of it is then multiplied by the inverse of that part.
    ///
    /// # Panics
    ///
    /// If that part is singular.
    pub(super) fn solve(&mut self) {
        let rows = self.rows().len();
        for pivot in 0..rows {
            let found = (pivot..rows).find(|&row| self.row(row)[pivot] != 0);
            self.swap(pivot, found.expect("every square part of this code's matrix is regular"));
            let lead = self.row(pivot)[pivot];
            for cell in self.row_mut(pivot) {
                *cell = div(*cell, lead);
            }
            let unit = self.row(pivot).to_vec();
            for row in (0..rows).filter(|&row| row != pivot) {
                let factor = self.row(row)[pivot];
                add_multiple(self.row_mut(row), factor, &unit);
            }
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        for column in 0..self.columns {
            self.cells.swap(a * self.columns + column, b * self.columns + column);
        }
    }
}

/// Adds `factor` times `row` to `sum`.
pub(super) fn add_multiple(sum: &mut [u8], factor: u8, row: &[u8]) {
    for (sum, &cell) in sum.iter_mut().zip(row) {
        *sum ^= mul(factor, cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_rows(rows: &[&[u8]]) -> Matrix {
        let mut matrix = Matrix::zero(rows.len(), rows[0].len());
        for (i, row) in rows.iter().enumerate() {
            matrix.row_mut(i).copy_from_slice(row);
        }
        matrix
    }

    #[test]
    fn solving_next_to_the_identity_gives_the_inverse_even_when_rows_must_be_swapped() {
        let square = [[0u8, 2, 7], [3, 6, 1], [5, 0, 9]];
        let mut augmented = Matrix::zero(3, 6);
        for (i, row) in square.iter().enumerate() {
            augmented.row_mut(i)[..3].copy_from_slice(row);
            augmented.row_mut(i)[3 + i] = 1;
        }
        augmented.solve();
        for (i, row) in square.iter().enumerate() {
            let mut product = [0u8; 3];
            for (factor, inverse) in row.iter().zip(augmented.rows()) {
                add_multiple(&mut product, *factor, &inverse[3..]);
            }
            let mut unit = [0u8; 3];
            unit[i] = 1;
            assert_eq!(product, unit, "row {i} times the inverse");
        }
    }

    #[test]
    #[should_panic(expected = "regular")]
    fn a_singular_matrix_is_a_defect() {
        from_rows(&[&[1, 2], &[1, 2]]).solve();
    }

    #[test]
    fn the_field_has_the_polynomial_0x11d() {
        assert_eq!(mul(0x80, 2), 0x1D);
    }
}
