//! The one place where bytes meet the matrix. Faster kernels go behind [`multiply`]; each must agree with
//! [`portable`] bit for bit.

use super::matrix::Matrix;

/// Bytes of an output that accumulate in registers.
const LANES: usize = 128;

/// Sets each output to the sum of the inputs, each multiplied with its coefficient in the output's row.
///
/// # Panics
///
/// Unless there is an input per column and an output per row of the matrix, all of one length.
pub(super) fn multiply(rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    assert_eq!(rows.columns(), inputs.len(), "an input per coefficient");
    assert_eq!(rows.rows().len(), outputs.len(), "an output per row");
    portable(rows, inputs, outputs);
}

/// Horner's rule over the bits of the coefficients, the highest first: double the sum, then add the inputs
/// whose coefficient has the bit. Nothing but shifts and XORs of whole vectors: no table, no instruction
/// that a machine may lack, and seven doublings per output however many inputs.
fn portable(rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    for (row, output) in rows.rows().zip(outputs) {
        let planes: [Vec<&[u8]>; 8] = std::array::from_fn(|bit| {
            row.iter()
                .zip(inputs)
                .filter(|(factor, _)| **factor >> bit & 1 != 0)
                .map(|(_, input)| *input)
                .collect()
        });
        let mut at = 0;
        let (lanes, tail) = output.as_chunks_mut::<LANES>();
        for lanes in lanes {
            *lanes = horner(&planes, |input| *input[at..].first_chunk().expect("inputs as long as outputs"));
            at += LANES;
        }
        for byte in tail {
            [*byte] = horner(&planes, |input| [input[at]]);
            at += 1;
        }
    }
}

/// N bytes of an output. Inlined, or the sum would not stay in registers.
#[inline(always)]
fn horner<const N: usize>(planes: &[Vec<&[u8]>; 8], load: impl Fn(&[u8]) -> [u8; N]) -> [u8; N] {
    let mut sum = [0u8; N];
    for plane in planes.iter().rev() {
        for byte in &mut sum {
            *byte = (*byte << 1) ^ (0x1D & (byte.cast_signed() >> 7).cast_unsigned());
        }
        for input in plane {
            for (byte, input) in sum.iter_mut().zip(load(input)) {
                *byte ^= input;
            }
        }
    }
    sum
}
