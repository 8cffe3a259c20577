//! Every kernel of this machine against the portable one, and the instructions that it may lack by emulation.

use super::*;
use reed_solomon_erasure::galois_8::mul;

/// Bytes without a pattern, from a xorshift generator.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[5]
    };
    (0..len).map(|_| next()).collect()
}

fn random_matrix(rows: usize, columns: usize) -> Matrix {
    let mut matrix = Matrix::zero(rows, columns);
    for row in 0..rows {
        matrix.row_mut(row).copy_from_slice(&bytes(columns, 77 + u64::try_from(row).expect("small")));
    }
    matrix
}

/// The definition, byte by byte with the golden crate's multiplication.
fn by_definition(rows: &Matrix, inputs: &[&[u8]]) -> Vec<Vec<u8>> {
    let sum = |row: &[u8], at: usize| {
        row.iter().zip(inputs).fold(0, |sum, (&coefficient, input)| sum ^ mul(coefficient, input[at]))
    };
    rows.rows().map(|row| (0..inputs[0].len()).map(|at| sum(row, at)).collect()).collect()
}

type Multiply<'a> = &'a dyn Fn(&Matrix, &[&[u8]], &mut [&mut [u8]]);

/// Odd lengths, odd addresses, one to nine outputs; nothing outside the outputs is touched.
fn expect_definition(name: &str, multiply: Multiply<'_>) {
    const GUARD: usize = 70;
    for (outputs, columns) in [(1, 1), (2, 8), (3, 8), (4, 10), (5, 4), (6, 3), (9, 2), (2, 255)] {
        let rows = random_matrix(outputs, columns);
        let lengths: Vec<usize> =
            if columns < 200 { (0..=200).chain([4095, 4096]).collect() } else { vec![203] };
        for len in lengths {
            let stored: Vec<Vec<u8>> = (1..).take(columns).map(|seed| bytes(len + GUARD, seed)).collect();
            let inputs: Vec<&[u8]> =
                stored.iter().enumerate().map(|(c, bytes)| &bytes[(len + 5 * c) % GUARD..][..len]).collect();
            let mut written = vec![vec![0xA5; len + 2 * GUARD]; outputs];
            let starts: Vec<usize> = (0..outputs).map(|r| (3 * len + 7 * r) % GUARD).collect();
            let mut slices: Vec<&mut [u8]> = written
                .iter_mut()
                .zip(&starts)
                .map(|(bytes, &start)| &mut bytes[start..start + len])
                .collect();
            multiply(&rows, &inputs, &mut slices);
            for ((written, start), expected) in written.iter().zip(starts).zip(by_definition(&rows, &inputs))
            {
                let what = format!("{name}: {outputs} outputs of {columns} inputs of {len} bytes");
                assert!(written[start..start + len] == expected, "{what}: wrong product");
                let mut around = written[..start].iter().chain(&written[start + len..]);
                assert!(around.all(|&byte| byte == 0xA5), "{what}: wrote outside");
            }
        }
    }
}

#[test]
fn every_kernel_of_this_machine_computes_the_definition_at_every_length_and_address() {
    for kernel in detect() {
        expect_definition(kernel.name(), &|rows, inputs, outputs| kernel.multiply(rows, inputs, outputs));
    }
}

#[test]
fn the_tables_are_made_with_the_multiplication_of_the_golden_crate() {
    for a in 0..=u8::MAX {
        for b in 0..=u8::MAX {
            assert_eq!(tables::times(a, b), mul(a, b), "{a} and {b}");
        }
    }
}

#[test]
fn every_kernel_that_the_machine_promises_proves_itself_and_the_portable_one_comes_last() {
    assert_eq!(Kernel::available(), detect(), "a kernel does not agree with the portable one");
    assert_eq!(Kernel::available().last().map(|kernel| kernel.name()), Some("portable"));
    assert_eq!(Kernel::fastest(), Kernel::available()[0]);
    #[cfg(target_arch = "x86_64")]
    {
        let has = |name| Kernel::available().iter().any(|kernel| kernel.name() == name);
        assert_eq!(has("avx2"), is_x86_feature_detected!("avx2"));
    }
}

/// The portable kernel with one defect after the other.
#[test]
fn a_kernel_with_any_one_coefficient_length_or_number_of_outputs_wrong_is_not_believed() {
    assert!(agrees(portable::multiply));
    for wrong in 0..=u8::MAX {
        let kernel = |rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]| {
            let mut changed = rows.clone();
            for row in 0..outputs.len() {
                for cell in changed.row_mut(row).iter_mut().filter(|cell| **cell == wrong) {
                    *cell ^= 0x10;
                }
            }
            portable::multiply(&changed, inputs, outputs);
        };
        assert!(!agrees(kernel), "coefficient {wrong}");
    }
    for wrong in 0..225 {
        let kernel = |rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]| {
            portable::multiply(rows, inputs, outputs);
            outputs[0][wrong] ^= 1;
        };
        assert!(!agrees(kernel), "byte {wrong}");
    }
    for wrong in 1..=4 {
        let kernel = |rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]| {
            portable::multiply(rows, inputs, outputs);
            if outputs.len() == wrong {
                outputs[wrong - 1][100] ^= 0x80;
            }
        };
        assert!(!agrees(kernel), "{wrong} outputs");
    }
}

/// The portable kernel has no check of its own: with it the dispatch is tested.
fn portable_kernel() -> Kernel {
    Kernel(Instructions::Portable)
}

#[test]
#[should_panic(expected = "inputs of one length")]
fn inputs_of_two_lengths_are_a_defect() {
    portable_kernel().multiply(&random_matrix(1, 2), &[&[1], &[1, 2]], &mut [&mut [0]]);
}

#[test]
#[should_panic(expected = "outputs as long as inputs")]
fn an_output_shorter_than_the_inputs_is_a_defect() {
    portable_kernel().multiply(&random_matrix(1, 2), &[&[1, 2], &[1, 2]], &mut [&mut [0]]);
}

/// What the vector kernels rest on, checked without the vector instructions.
#[cfg(target_arch = "x86_64")]
mod emulated {
    #![allow(unsafe_code)] // The trait's functions are unsafe.

    use super::super::simd::{self, Vector};
    use super::super::tables::{AFFINE, NIBBLES, Nibbles};
    use super::*;

    /// One byte of GF2P8AFFINEQB with an immediate of 0, as Intel's manual defines it:
    /// `retbyte.bit[i] := parity(tsrc2qw.byte[7-i] AND src1byte) XOR imm8.bit[i]`.
    fn affine_byte(matrix: u64, byte: u8) -> u8 {
        let masks = matrix.to_le_bytes();
        (0..8).fold(0, |product, bit| {
            let parity = (masks[7 - bit] & byte).count_ones() & 1;
            product | u8::from(parity == 1) << bit
        })
    }

    #[test]
    fn the_emulated_instruction_knows_the_identity_of_the_manual() {
        for byte in 0..=u8::MAX {
            assert_eq!(affine_byte(0x0102_0408_1020_4080, byte), byte);
            assert_eq!(affine_byte(0x8040_2010_0804_0201, byte), byte.reverse_bits());
        }
    }

    #[test]
    fn nibble_tables_and_bit_matrices_multiply_all_pairs_as_the_golden_code_does() {
        for coefficient in 0..=u8::MAX {
            let Nibbles { low, high } = &NIBBLES[usize::from(coefficient)];
            for byte in 0..=u8::MAX {
                let product = mul(coefficient, byte);
                let looked_up = low[usize::from(byte & 15)] ^ high[usize::from(byte >> 4)];
                assert_eq!(looked_up, product, "tables: {coefficient} times {byte}");
                let affine = affine_byte(AFFINE[usize::from(coefficient)], byte);
                assert_eq!(affine, product, "matrix: {coefficient} times {byte}");
            }
        }
    }

    /// A register of the affine kernels.
    #[derive(Clone, Copy)]
    struct Emulated<const N: usize>([u8; N]);

    // SAFETY: `load` and `store` are those of an array of N bytes, unaligned.
    unsafe impl<const N: usize> Vector for Emulated<N> {
        const BYTES: usize = N;
        type Factor = u64;

        unsafe fn zero() -> Self {
            Emulated([0; N])
        }

        unsafe fn load(from: *const u8) -> Self {
            // SAFETY: the caller has N bytes at `from`.
            Emulated(unsafe { from.cast::<[u8; N]>().read_unaligned() })
        }

        unsafe fn store(self, to: *mut u8) {
            // SAFETY: the caller has N bytes at `to`.
            unsafe { to.cast::<[u8; N]>().write_unaligned(self.0) }
        }

        unsafe fn xor(self, other: Self) -> Self {
            Emulated(std::array::from_fn(|i| self.0[i] ^ other.0[i]))
        }

        unsafe fn factor(coefficient: u8) -> u64 {
            AFFINE[usize::from(coefficient)]
        }

        unsafe fn times(self, matrix: u64) -> Self {
            Emulated(self.0.map(|byte| affine_byte(matrix, byte)))
        }
    }

    #[test]
    fn the_loop_with_the_emulated_instruction_computes_the_definition_and_would_be_believed() {
        let affine256 = |rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]| {
            // SAFETY: the emulation needs no instruction.
            unsafe { simd::multiply::<Emulated<32>>(rows, inputs, outputs) }
        };
        let affine512 = |rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]| {
            // SAFETY: as above.
            unsafe { simd::multiply::<Emulated<64>>(rows, inputs, outputs) }
        };
        expect_definition("gfni+avx2, emulated", &affine256);
        expect_definition("gfni+avx512, emulated", &affine512);
        assert!(agrees(affine256) && agrees(affine512));
    }

    /// As the safety of the loop demands, whoever calls it.
    #[test]
    #[should_panic(expected = "inputs of one length")]
    fn the_loop_refuses_inputs_of_two_lengths() {
        // SAFETY: the emulation needs no instruction.
        unsafe { simd::multiply::<Emulated<32>>(&random_matrix(1, 2), &[&[1], &[1, 2]], &mut [&mut [0]]) }
    }

    #[test]
    #[should_panic(expected = "outputs as long as inputs")]
    fn the_loop_refuses_a_shorter_output() {
        let outputs: &mut [&mut [u8]] = &mut [&mut [0; 2], &mut [0]];
        // SAFETY: the emulation needs no instruction.
        unsafe { simd::multiply::<Emulated<32>>(&random_matrix(2, 1), &[&[1, 2]], outputs) }
    }
}
