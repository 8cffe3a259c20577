//! PURE: Reed-Solomon over GF(2^8): parity from data, lost columns from any k that are left.
//!
//! One code for every scheme: the systematic Vandermonde code of crate `reed-solomon-erasure`, bit for bit
//! (`golden.rs`). What is written with it is on members for good, so the matrix is format. Note that parity
//! of a scheme with m = 1 is not the plain XOR of the data.
//!
//! With k = 1 every column of the code equals the data: a mirror.

mod decode;
mod golden;
mod kernels;
mod matrix;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::types::{Column, Scheme};
use decode::Selection;
pub use kernels::Kernel;
use matrix::Matrix;

/// The code of one [`Scheme`]. Building it costs O(k^3); it is immutable: build it once and share it.
#[derive(Clone, Debug)]
pub struct Codec {
    scheme: Scheme,
    /// m rows of k coefficients: parity column p is the sum of `parity[p][c]` times data column c.
    parity: Matrix,
    kernel: Kernel,
}

impl Codec {
    /// The code of this scheme, with the fastest kernel of this machine.
    pub fn new(scheme: Scheme) -> Codec {
        Codec::with_kernel(scheme, Kernel::fastest())
    }

    /// The code of this scheme with a kernel of [`Kernel::available`]: to compare them.
    pub fn with_kernel(scheme: Scheme, kernel: Kernel) -> Codec {
        Codec { scheme, parity: golden::parity_matrix(scheme), kernel }
    }

    /// The kernel.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Computes all m parity columns from all k data columns. What `parity` held before does not matter.
    ///
    /// # Panics
    ///
    /// Unless `data` has k slices and `parity` m, all of one length: a defect of the caller.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        assert_eq!(data.len(), usize::from(self.scheme.k()), "data columns");
        assert_eq!(parity.len(), usize::from(self.scheme.m()), "parity columns");
        let len = data[0].len();
        assert!(data.iter().all(|column| column.len() == len), "data columns of one length");
        assert!(parity.iter().all(|column| column.len() == len), "parity columns as long as data columns");
        if self.scheme.k() == 1 {
            for copy in parity {
                copy.copy_from_slice(data[0]);
            }
        } else {
            self.kernel.multiply(&self.parity, data, parity);
        }
    }

    /// Computes any `wanted` columns, data or parity, from any k `available` ones: `out[i]` becomes column
    /// `wanted[i]`. Of more than k, data columns are preferred; of two with one number the first counts.
    /// Nothing is verified here: `out` is as good as what was given.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Invalid`], with `out` untouched, if fewer than k different columns are
    /// available, if a column is none of the scheme's, if `wanted` and `out` differ in number, or if the
    /// slices differ in length.
    pub fn reconstruct(
        &self,
        available: &[(Column, &[u8])],
        wanted: &[Column],
        out: &mut [&mut [u8]],
    ) -> Result<()> {
        self.check(available, wanted, out)?;
        let selection = Selection::new(self.scheme, available)?;
        let mut missing = Vec::with_capacity(wanted.len());
        let mut outputs = Vec::with_capacity(wanted.len());
        for (&column, out) in wanted.iter().zip(out) {
            match selection.copy_of(column) {
                Some(copy) => out.copy_from_slice(copy),
                None => {
                    missing.push(column);
                    outputs.push(&mut **out);
                }
            }
        }
        if !missing.is_empty() {
            let rows = selection.rows(&self.parity, &missing);
            self.kernel.multiply(&rows, selection.inputs(), &mut outputs);
        }
        Ok(())
    }

    fn check(&self, available: &[(Column, &[u8])], wanted: &[Column], out: &[&mut [u8]]) -> Result<()> {
        let scheme = self.scheme;
        if wanted.len() != out.len() {
            let (wanted, out) = (wanted.len(), out.len());
            return Err(Error::invalid(format!("{wanted} columns wanted in {out} buffers")));
        }
        let mut named = available.iter().map(|&(column, _)| column).chain(wanted.iter().copied());
        if let Some(column) = named.find(|column| column.0 >= scheme.width()) {
            return Err(Error::invalid(format!("{scheme} has no column {column}")));
        }
        let mut lengths =
            available.iter().map(|(_, bytes)| bytes.len()).chain(out.iter().map(|out| out.len()));
        let first = lengths.next().unwrap_or(0);
        if let Some(other) = lengths.find(|&len| len != first) {
            return Err(Error::invalid(format!("columns of {first} and of {other} bytes in one row")));
        }
        Ok(())
    }
}
