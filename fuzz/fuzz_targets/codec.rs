//! Every kernel computes the parity that crate `reed-solomon-erasure` computes, and gives lost columns back from any k
//! that are left, whatever lengths and alignments; and touches no byte beside its outputs.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use paritas::codec::{Codec, Kernel};
use paritas::types::{Column, Scheme};
use reed_solomon_erasure::galois_8::ReedSolomon;

const LEN_MAX: usize = 700;
/// Bytes before and behind a column that nobody may touch.
const MARGIN: usize = 64;
const MARK: u8 = 0xA7;

fuzz_target!(|bytes: &[u8]| {
    let _ = compare(&mut Unstructured::new(bytes));
});

/// A column somewhere in memory.
struct Placed {
    memory: Vec<u8>,
    from: usize,
    len: usize,
}

impl Placed {
    fn new(input: &mut Unstructured, len: usize) -> Result<Placed> {
        let from = input.int_in_range(0..=MARGIN)?;
        // Nothing is allocated behind its end, so a sanitizer sees what is read there.
        Ok(Placed { memory: vec![MARK; from + len], from, len })
    }

    fn holding(input: &mut Unstructured, content: &[u8]) -> Result<Placed> {
        let mut placed = Placed::new(input, content.len())?;
        placed.bytes_mut().copy_from_slice(content);
        Ok(placed)
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.from..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.from..]
    }

    fn expect(&self, wanted: &[u8], what: &str) {
        assert_eq!(self.len, wanted.len());
        assert!(self.bytes() == wanted, "{what}");
        assert!(self.memory[..self.from].iter().all(|byte| *byte == MARK), "{what}: bytes before the column");
    }
}

fn compare(input: &mut Unstructured) -> Result<()> {
    let k = input.int_in_range(1..=20)?;
    let m = input.int_in_range(0..=5)?;
    let scheme = Scheme::new(k, m).expect("small");
    let kernel = *input.choose(Kernel::available())?;
    let codec = Codec::with_kernel(scheme, kernel);
    let len = input.int_in_range(0..=LEN_MAX)?;
    let order = shuffled(input, scheme)?;
    let lost = input.int_in_range(0..=m)?;
    let (wanted, available) = order.split_at(lost.into());

    let mut row: Vec<Placed> = Vec::new();
    for _ in scheme.columns() {
        row.push(Placed::new(input, len)?);
    }
    let (data, parity) = row.split_at_mut(k.into());
    for column in data.iter_mut() {
        let seed: [u8; 4] = input.arbitrary()?;
        column.bytes_mut().iter_mut().zip(0_u8..=u8::MAX).for_each(|(byte, at)| *byte = at ^ seed[1]);
        column
            .bytes_mut()
            .iter_mut()
            .for_each(|byte| *byte = byte.wrapping_mul(seed[0]).wrapping_add(seed[2]));
        let given = input.bytes(input.len().min(len) / 4)?;
        column.bytes_mut()[..given.len()].copy_from_slice(given);
    }
    let data: Vec<&[u8]> = data.iter().map(Placed::bytes).collect();
    codec.encode(&data, &mut parity.iter_mut().map(Placed::bytes_mut).collect::<Vec<_>>());

    let what = format!("{scheme}, {kernel}, {len} bytes, lost {wanted:?}");
    let golden = golden(scheme, &data, len);
    row.iter().zip(&golden).for_each(|(column, golden)| column.expect(golden, &what));

    let mut inputs = Vec::new();
    for column in available {
        inputs.push((*column, Placed::holding(input, &golden[usize::from(column.0)])?));
    }
    let inputs: Vec<(Column, &[u8])> =
        inputs.iter().map(|(column, placed)| (*column, placed.bytes())).collect();
    let mut outputs = Vec::new();
    for _ in wanted {
        outputs.push(Placed::new(input, len)?);
    }
    let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(Placed::bytes_mut).collect();
    let some = &inputs[..usize::from(k)];
    codec.reconstruct(some, wanted, &mut slices).expect("k columns are enough");
    for (column, output) in wanted.iter().zip(&outputs) {
        output.expect(&golden[usize::from(column.0)], &what);
    }
    let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(Placed::bytes_mut).collect();
    codec.reconstruct(&some[1..], wanted, &mut slices).expect_err("fewer are not");
    Ok(())
}

fn shuffled(input: &mut Unstructured, scheme: Scheme) -> Result<Vec<Column>> {
    let mut columns: Vec<Column> = scheme.columns().collect();
    for last in (1..columns.len()).rev() {
        columns.swap(last, input.int_in_range(0..=last)?);
    }
    Ok(columns)
}

/// The columns of a row as the crate computes them.
fn golden(scheme: Scheme, data: &[&[u8]], len: usize) -> Vec<Vec<u8>> {
    let mut columns: Vec<Vec<u8>> = data.iter().map(|column| column.to_vec()).collect();
    columns.resize(scheme.width().into(), vec![0; len]);
    if scheme.m() > 0 && len > 0 {
        let code = ReedSolomon::new(scheme.k().into(), scheme.m().into()).expect("a scheme that it knows");
        code.encode(&mut columns).expect("columns of one length");
    }
    columns
}
