//! The golden code: crate `reed-solomon-erasure`. Its matrix is the Vandermonde matrix `V[r][c] = r^c`,
//! multiplied by the inverse of its top k rows so that data columns stay as they are.

use super::matrix::Matrix;
use crate::types::Scheme;
use reed_solomon_erasure::galois_8::ReedSolomon;

/// The crate's code for this scheme; `None` for m = 0, which it does not know.
pub(super) fn reference(scheme: Scheme) -> Option<ReedSolomon> {
    (scheme.m() > 0).then(|| {
        ReedSolomon::new(usize::from(scheme.k()), usize::from(scheme.m()))
            .expect("the crate takes every 1 <= k, 1 <= m, k+m <= 256")
    })
}

/// The m x k coefficients of parity, read off the crate by encoding the k unit vectors side by side: byte
/// `c` of every column belongs to unit vector `c`.
pub(super) fn parity_matrix(scheme: Scheme) -> Matrix {
    let (k, m) = (usize::from(scheme.k()), usize::from(scheme.m()));
    let mut units = Matrix::zero(k, k);
    for c in 0..k {
        units.row_mut(c)[c] = 1;
    }
    let data: Vec<&[u8]> = units.rows().collect();
    let mut parity = vec![vec![0; k]; m];
    if let Some(reference) = reference(scheme) {
        reference.encode_sep(&data, &mut parity).expect("k columns, m columns, all of k bytes");
    }
    let mut matrix = Matrix::zero(m, k);
    for (p, row) in parity.iter().enumerate() {
        matrix.row_mut(p).copy_from_slice(row);
    }
    matrix
}
