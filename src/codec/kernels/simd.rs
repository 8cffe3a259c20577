//! The loop of every vector kernel. Unsafe code: see the proofs.
#![allow(unsafe_code)] // Loads and stores of vectors through pointers have no safe form.

use super::super::matrix::Matrix;
use super::portable;

/// A register of [`Vector::BYTES`] bytes and what the loop does with it. Implementations are single
/// instructions; whatever could be wrong beyond that is in the loop, which all of them share.
///
/// # Safety
///
/// `load` and `store` touch exactly the BYTES bytes from the pointer on, at any alignment.
pub(super) unsafe trait Vector: Copy {
    /// Bytes of the register.
    const BYTES: usize;

    /// A coefficient in the form in which `times` takes it.
    type Factor: Copy;

    /// All bytes 0.
    ///
    /// # Safety
    ///
    /// Here and below: the machine has the instructions of the implementation.
    unsafe fn zero() -> Self;

    /// # Safety
    ///
    /// BYTES bytes can be read at `from`.
    unsafe fn load(from: *const u8) -> Self;

    /// # Safety
    ///
    /// BYTES bytes can be written at `to`.
    unsafe fn store(self, to: *mut u8);

    /// # Safety
    ///
    /// See `zero`.
    unsafe fn xor(self, other: Self) -> Self;

    /// # Safety
    ///
    /// See `zero`.
    unsafe fn factor(coefficient: u8) -> Self::Factor;

    /// Each byte multiplied with the coefficient.
    ///
    /// # Safety
    ///
    /// See `zero`.
    unsafe fn times(self, factor: Self::Factor) -> Self;
}

/// Outputs that share a pass over the inputs. With two vectors of each their sums take 8 registers, and the 16
/// of AVX2 hold all that the loop needs.
const OUTPUTS_MAX: usize = 4;

/// As [`super::Kernel::multiply`].
///
/// Inlined, like all below, into a function that may use the instructions: only so do they become single
/// instructions instead of calls.
///
/// # Panics
///
/// Unless all inputs and outputs have one length.
///
/// # Safety
///
/// The machine has the instructions of V.
#[inline(always)]
pub(super) unsafe fn multiply<V: Vector>(rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    let len = inputs[0].len();
    assert!(inputs.iter().all(|input| input.len() == len), "inputs of one length");
    assert!(outputs.iter().all(|output| output.len() == len), "outputs as long as inputs");
    for (group, outputs) in outputs.chunks_mut(OUTPUTS_MAX).enumerate() {
        let first = group * OUTPUTS_MAX;
        // SAFETY: the caller promises the instructions; the lengths were checked above.
        unsafe {
            match outputs.len() {
                1 => pass::<V, 1>(rows, first, inputs, outputs),
                2 => pass::<V, 2>(rows, first, inputs, outputs),
                3 => pass::<V, 3>(rows, first, inputs, outputs),
                _ => pass::<V, 4>(rows, first, inputs, outputs),
            }
        }
    }
}

/// One pass over the inputs for R outputs, from row `first` on.
///
/// # Safety
///
/// The machine has the instructions of V. All inputs and outputs have one length.
#[inline(always)]
unsafe fn pass<V: Vector, const R: usize>(
    rows: &Matrix,
    first: usize,
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]],
) {
    let outputs: &mut [&mut [u8]; R] = outputs.try_into().expect("as many outputs as the pass is for");
    let mut factors = [[].as_slice(); R];
    for (r, row) in factors.iter_mut().enumerate() {
        *row = rows.row(first + r);
    }
    // SAFETY: the caller's promise, passed on; `strips` returns an `at` that is no further than the length.
    let at = unsafe {
        let at = strips::<V, R, 2>(&factors, inputs, outputs, 0);
        strips::<V, R, 1>(&factors, inputs, outputs, at)
    };
    for (row, output) in factors.iter().zip(outputs) {
        portable::multiply_tail(row, inputs, output, at);
    }
}

/// Computes the outputs from `at` on, in strips of S vectors each, until less than a strip is left. Returns
/// where. Each strip of an input is loaded once for all outputs; sums stay in registers; outputs are not read.
///
/// # Safety
///
/// As for [`pass`], and `at` is at most the length.
#[inline(always)]
unsafe fn strips<V: Vector, const R: usize, const S: usize>(
    factors: &[&[u8]; R],
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]; R],
    mut at: usize,
) -> usize {
    let len = outputs[0].len();
    debug_assert!(at <= len && inputs.iter().all(|input| input.len() == len));
    while len - at >= S * V::BYTES {
        // SAFETY: the caller promises the instructions. Vector s < S covers the bytes from at + s * BYTES
        // to at + (s + 1) * BYTES <= at + S * BYTES <= len, by the condition of the loop, and each input and
        // each output is a slice of `len` bytes, by the caller's promise: all lie inside. Outputs are
        // exclusive borrows, so no input changes under the loop and no two outputs overlap.
        unsafe {
            let mut sums = [[V::zero(); S]; R];
            for (c, input) in inputs.iter().enumerate() {
                let from = input.as_ptr().add(at);
                let mut strip = [V::zero(); S];
                for (s, vector) in strip.iter_mut().enumerate() {
                    *vector = V::load(from.add(s * V::BYTES));
                }
                for (sums, factors) in sums.iter_mut().zip(factors) {
                    let factor = V::factor(factors[c]);
                    for (sum, vector) in sums.iter_mut().zip(strip) {
                        *sum = sum.xor(vector.times(factor));
                    }
                }
            }
            for (sums, output) in sums.iter().zip(&mut *outputs) {
                let to = output.as_mut_ptr().add(at);
                for (s, sum) in sums.iter().enumerate() {
                    sum.store(to.add(s * V::BYTES));
                }
            }
        }
        at += S * V::BYTES;
    }
    at
}
