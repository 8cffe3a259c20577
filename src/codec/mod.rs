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
pub use decode::Plan;
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
        let columns: Vec<Column> = available.iter().map(|&(column, _)| column).collect();
        let plan = self.plan(&columns, wanted)?;
        let find = |input: &Column| available.iter().find(|(column, _)| column == input);
        let inputs: Vec<&[u8]> = plan.inputs().iter().filter_map(find).map(|&(_, bytes)| bytes).collect();
        plan.apply(&inputs, out);
        Ok(())
    }

    /// How to compute any `wanted` columns from any k of the `available` ones, data columns preferred, for all rows
    /// that have these. It costs O(k m^2) once, as [`Codec::reconstruct`] does for each row.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Invalid`] if fewer than k different columns are available, or if a column is none of the
    /// scheme's.
    pub fn plan(&self, available: &[Column], wanted: &[Column]) -> Result<Plan> {
        let scheme = self.scheme;
        if let Some(column) = available.iter().chain(wanted).find(|column| column.0 >= scheme.width()) {
            return Err(Error::invalid(format!("{scheme} has no column {column}")));
        }
        Plan::new(scheme, &self.parity, self.kernel, available, wanted)
    }

    fn check(&self, available: &[(Column, &[u8])], wanted: &[Column], out: &[&mut [u8]]) -> Result<()> {
        if wanted.len() != out.len() {
            let (wanted, out) = (wanted.len(), out.len());
            return Err(Error::invalid(format!("{wanted} columns wanted in {out} buffers")));
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
