//! The one place where bytes meet the matrix. [`portable`] is the definition; every faster kernel agrees with
//! it bit for bit.
//!
//! Kernels made of vector instructions are one loop (`simd.rs`) and, for each instruction set, a handful of
//! one-line wrappers (`x86.rs`); the only unsafe code is there. None is believed for having been compiled:
//! before a process uses a kernel, it multiplies with every coefficient on the machine itself, and if one byte
//! differs from what [`portable`] computes, the next kernel takes its place. GFNI and AVX-512 were written on a
//! machine without them, where tests emulate the instruction; should its wrapper be wrong all the same, that
//! costs speed, never parity. What the check cannot see is a core that goes wrong later.

mod portable;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(target_arch = "x86_64")]
mod tables;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::matrix::Matrix;
use std::fmt;
use std::sync::LazyLock;

/// How a [`super::Codec`] multiplies. All kernels compute the same bytes. A value exists only for a kernel
/// that this machine can run and that has proven itself on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kernel(Instructions);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Instructions {
    #[cfg(target_arch = "x86_64")]
    GfniAvx512(x86::GfniAvx512),
    #[cfg(target_arch = "x86_64")]
    GfniAvx2(x86::GfniAvx2),
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    Portable,
}

/// The kernels of this machine, looked for once. A function of the machine alone: whoever comes first, the
/// answer is the same.
static AVAILABLE: LazyLock<Vec<Kernel>> =
    LazyLock::new(|| detect().into_iter().filter(|kernel| kernel.agrees()).collect());

impl Kernel {
    /// The kernels that this machine can run and that agree with the portable one on it, the fastest first.
    /// The last is the portable one.
    pub fn available() -> &'static [Kernel] {
        &AVAILABLE
    }

    /// The first of [`Kernel::available`].
    pub fn fastest() -> Kernel {
        AVAILABLE[0]
    }

    /// The kernel's name, that of its instructions.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::GfniAvx512(_) => "gfni+avx512",
            #[cfg(target_arch = "x86_64")]
            Instructions::GfniAvx2(_) => "gfni+avx2",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2(_) => "avx2",
            Instructions::Portable => "portable",
        }
    }

    /// Sets each output to the sum of the inputs, each multiplied with its coefficient in the output's row.
    /// Outputs are not read.
    ///
    /// # Panics
    ///
    /// Unless there is an input per column and an output per row of the matrix, all of one length.
    pub(super) fn multiply(self, rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        assert_eq!(rows.columns(), inputs.len(), "an input per coefficient");
        assert_eq!(rows.rows().len(), outputs.len(), "an output per row");
        let len = inputs[0].len();
        assert!(inputs.iter().all(|input| input.len() == len), "inputs of one length");
        assert!(outputs.iter().all(|output| output.len() == len), "outputs as long as inputs");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::GfniAvx512(kernel) => kernel.multiply(rows, inputs, outputs),
            #[cfg(target_arch = "x86_64")]
            Instructions::GfniAvx2(kernel) => kernel.multiply(rows, inputs, outputs),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2(kernel) => kernel.multiply(rows, inputs, outputs),
            Instructions::Portable => portable::multiply(rows, inputs, outputs),
        }
    }

    /// Whether this kernel computes on this machine what the portable one does: with every coefficient, for
    /// every number of outputs that share a pass, through both strides of the loop and the tail.
    fn agrees(self) -> bool {
        agrees(|rows, inputs, outputs| self.multiply(rows, inputs, outputs))
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the machine's features promise, the fastest first.
fn detect() -> Vec<Kernel> {
    let found = [
        #[cfg(target_arch = "x86_64")]
        x86::GfniAvx512::detect().map(Instructions::GfniAvx512),
        #[cfg(target_arch = "x86_64")]
        x86::GfniAvx2::detect().map(Instructions::GfniAvx2),
        #[cfg(target_arch = "x86_64")]
        x86::Avx2::detect().map(Instructions::Avx2),
        Some(Instructions::Portable),
    ];
    found.into_iter().flatten().map(Kernel).collect()
}

/// See [`Kernel::agrees`].
fn agrees(multiply: impl Fn(&Matrix, &[&[u8]], &mut [&mut [u8]])) -> bool {
    /// With four outputs 256 coefficients, each byte value once.
    const INPUTS: u8 = 64;
    /// Of 32-byte vectors three double strides and a single one, of 64-byte vectors one of each; and a tail.
    const LEN: usize = 225;

    let bytes = |c: u8| (0..=u8::MAX).take(LEN).map(move |i| (i ^ c).wrapping_mul(167).wrapping_add(c));
    let inputs: Vec<Vec<u8>> = (0..INPUTS).map(|c| bytes(c).collect()).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    (1..=4).all(|outputs| {
        let mut rows = Matrix::zero(outputs, inputs.len());
        for (row, first) in (0..outputs).zip((0..=u8::MAX).step_by(usize::from(INPUTS))) {
            for (cell, coefficient) in rows.row_mut(row).iter_mut().zip(first..=u8::MAX) {
                *cell = coefficient;
            }
        }
        product(&multiply, &rows, &inputs) == product(portable::multiply, &rows, &inputs)
    })
}

/// What a kernel makes of outputs that hold something else.
fn product(
    multiply: impl Fn(&Matrix, &[&[u8]], &mut [&mut [u8]]),
    rows: &Matrix,
    inputs: &[&[u8]],
) -> Vec<Vec<u8>> {
    let mut outputs = vec![vec![0xA5; inputs[0].len()]; rows.rows().len()];
    multiply(rows, inputs, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
    outputs
}

#[cfg(test)]
mod tests;
