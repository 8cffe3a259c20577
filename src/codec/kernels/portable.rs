//! The definition of the product, for every machine: the oracle of the other kernels, and their tail.

use super::super::matrix::Matrix;

/// Bytes of an output that accumulate in registers.
const LANES: usize = 128;

/// As [`super::Kernel::multiply`], whose checks it relies on.
pub(super) fn multiply(rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    for (row, output) in rows.rows().zip(outputs) {
        multiply_tail(row, inputs, output, 0);
    }
}

/// The bytes of one output from `at` on.
///
/// Horner's rule over the bits of the coefficients, the highest first: double the sum, then add the inputs
/// whose coefficient has the bit. Nothing but shifts and XORs of whole vectors: no table, no instruction
/// that a machine may lack, and seven doublings per output however many inputs.
pub(super) fn multiply_tail(row: &[u8], inputs: &[&[u8]], output: &mut [u8], mut at: usize) {
    if at == output.len() {
        return;
    }
    let mut terms: Vec<&[u8]> = Vec::with_capacity(8 * row.len());
    let ends: [usize; 8] = std::array::from_fn(|bit| {
        let has_bit = row.iter().zip(inputs).filter(|(factor, _)| **factor >> bit & 1 != 0);
        terms.extend(has_bit.map(|(_, input)| *input));
        terms.len()
    });
    let planes: [&[&[u8]]; 8] = std::array::from_fn(|bit| {
        let start = if bit == 0 { 0 } else { ends[bit - 1] };
        &terms[start..ends[bit]]
    });
    let (lanes, tail) = output[at..].as_chunks_mut::<LANES>();
    for lanes in lanes {
        *lanes = horner(&planes, |input| *input[at..].first_chunk().expect("inputs as long as outputs"));
        at += LANES;
    }
    for byte in tail {
        [*byte] = horner(&planes, |input| [input[at]]);
        at += 1;
    }
}

/// N bytes of an output. Inlined, or the sum would not stay in registers.
#[inline(always)]
fn horner<const N: usize>(planes: &[&[&[u8]]; 8], load: impl Fn(&[u8]) -> [u8; N]) -> [u8; N] {
    let mut sum = [0u8; N];
    for plane in planes.iter().rev() {
        for byte in &mut sum {
            *byte = (*byte << 1) ^ (0x1D & (byte.cast_signed() >> 7).cast_unsigned());
        }
        for input in *plane {
            for (byte, input) in sum.iter_mut().zip(load(input)) {
                *byte ^= input;
            }
        }
    }
    sum
}
