//! The code against the golden one: every pattern of small schemes, random patterns of large ones.

use super::{Codec, Kernel, golden};
use crate::error::Kind;
use crate::types::{Column, Scheme};

/// Neither a whole number of words nor of vectors.
const LEN: usize = 203;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).expect("small")).expect("below a usize")
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[7]).collect()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

fn scheme(k: usize, m: usize) -> Scheme {
    let byte = |n| u8::try_from(n).expect("a scheme's number");
    Scheme::new(byte(k), byte(m)).expect("a valid scheme")
}

/// Random data columns and the parity that `codec` gives them.
fn row(codec: &Codec, len: usize, random: &mut Random) -> Vec<Vec<u8>> {
    let (k, m) = (usize::from(codec.scheme().k()), usize::from(codec.scheme().m()));
    let mut columns: Vec<Vec<u8>> = (0..k).map(|_| random.bytes(len)).collect();
    let mut parity: Vec<Vec<u8>> = (0..m).map(|_| random.bytes(len)).collect();
    let data: Vec<&[u8]> = columns.iter().map(Vec::as_slice).collect();
    codec.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
    columns.append(&mut parity);
    columns
}

fn columns_of(scheme: Scheme, lost: impl Fn(Column) -> bool) -> (Vec<Column>, Vec<Column>) {
    scheme.columns().partition(|&column| lost(column))
}

fn available<'a>(row: &'a [Vec<u8>], columns: &[Column]) -> Vec<(Column, &'a [u8])> {
    columns.iter().map(|&column| (column, row[usize::from(column.0)].as_slice())).collect()
}

fn reconstruct(codec: &Codec, available: &[(Column, &[u8])], wanted: &[Column]) -> Vec<Vec<u8>> {
    let len = available[0].1.len();
    let mut out = vec![vec![0x5A; len]; wanted.len()];
    let mut slices: Vec<&mut [u8]> = out.iter_mut().map(Vec::as_mut_slice).collect();
    codec.reconstruct(available, wanted, &mut slices).expect("k columns are there");
    out
}

fn expect_columns(row: &[Vec<u8>], wanted: &[Column], out: &[Vec<u8>], what: &str) {
    for (column, out) in wanted.iter().zip(out) {
        assert!(row[usize::from(column.0)] == *out, "{what}: column {column} came back wrong");
    }
}

/// The crate's own decoding of a row without the lost columns.
fn golden_reconstruct(scheme: Scheme, row: &[Vec<u8>], lost: &[Column]) -> Vec<Vec<u8>> {
    let code = golden::reference(scheme).expect("the crate knows m > 0");
    let mut shards: Vec<Option<Vec<u8>>> = row.iter().cloned().map(Some).collect();
    for column in lost {
        shards[usize::from(column.0)] = None;
    }
    code.reconstruct(&mut shards).expect("k shards are there");
    shards.into_iter().map(|shard| shard.expect("reconstructed")).collect()
}

fn assert_parity_is_golden(codec: &Codec, row: &[Vec<u8>]) {
    let code = golden::reference(codec.scheme()).expect("the crate knows m > 0");
    let mut golden = row.to_vec();
    for parity in &mut golden[usize::from(codec.scheme().k())..] {
        parity.fill(0);
    }
    code.encode(&mut golden).expect("whole row");
    assert!(golden == row, "{}: parity differs from the golden code's", codec.scheme());
}

#[test]
fn every_pattern_of_lost_columns_of_every_small_scheme_comes_back_as_the_golden_code_gives_it() {
    for &kernel in Kernel::available() {
        assert_eq!(every_small_pattern(kernel), 3_845, "{kernel}");
    }
}

fn every_small_pattern(kernel: Kernel) -> usize {
    let mut random = Random(1);
    let mut patterns = 0;
    for (k, m) in (1..=12).flat_map(|k| (1..=4).map(move |m| (k, m))).filter(|(k, m)| k + m <= 12) {
        let scheme = scheme(k, m);
        let codec = Codec::with_kernel(scheme, kernel);
        let row = row(&codec, LEN, &mut random);
        assert_parity_is_golden(&codec, &row);
        for mask in (1u32..1 << (k + m)).filter(|mask| mask.count_ones() <= u32::from(scheme.m())) {
            let (lost, kept) = columns_of(scheme, |column| mask & (1 << column.0) != 0);
            let out = reconstruct(&codec, &available(&row, &kept), &lost);
            expect_columns(&row, &lost, &out, &format!("{scheme}, lost {lost:?}, {kernel}"));
            let golden = golden_reconstruct(scheme, &row, &lost);
            expect_columns(&golden, &lost, &out, &format!("{scheme}, lost {lost:?}, {kernel}, golden"));
            patterns += 1;
        }
    }
    patterns
}

#[test]
fn large_schemes_come_back_from_any_k_columns_in_any_order() {
    let mut random = Random(2);
    let mut schemes = vec![(200, 55), (1, 254), (254, 1), (16, 4), (128, 127), (20, 10), (2, 253), (223, 32)];
    for _ in 0..12 {
        let width = 2 + random.below(254);
        let k = 1 + random.below(width - 1);
        schemes.push((k, width - k));
    }
    let every_kernel = |scheme| Kernel::available().iter().map(move |&kernel| (scheme, kernel));
    for ((k, m), kernel) in schemes.into_iter().flat_map(every_kernel) {
        let scheme = scheme(k, m);
        let codec = Codec::with_kernel(scheme, kernel);
        let row = row(&codec, LEN, &mut random);
        assert_parity_is_golden(&codec, &row);
        let mut order: Vec<Column> = scheme.columns().collect();
        for round in 0..3 {
            random.shuffle(&mut order);
            let (kept, lost) = order.split_at(k);
            let out = reconstruct(&codec, &available(&row, kept), lost);
            expect_columns(&row, lost, &out, &format!("{scheme}, round {round}, {kernel}"));
        }
        let golden = golden_reconstruct(scheme, &row, &order[k..]);
        assert!(golden == row, "{scheme}: the golden code differs");
    }
}

#[test]
fn wanted_columns_may_be_present_repeated_and_in_any_order() {
    let codec = Codec::new(scheme(4, 3));
    let row = row(&codec, LEN, &mut Random(3));
    let kept = [6, 1, 4, 3, 0].map(Column);
    let wanted = [5, 0, 2, 2, 6, 4, 1].map(Column);
    let out = reconstruct(&codec, &available(&row, &kept), &wanted);
    expect_columns(&row, &wanted, &out, "4+3");
    assert!(reconstruct(&codec, &available(&row, &kept), &[]).is_empty());
}

#[test]
fn of_two_columns_with_one_number_the_first_counts_and_only_once() {
    let codec = Codec::new(scheme(2, 1));
    let row = row(&codec, LEN, &mut Random(4));
    let wrong = vec![0; LEN];
    let kept = [(Column(2), row[2].as_slice()), (Column(0), &row[0]), (Column(0), &wrong)];
    expect_columns(&row, &[Column(1)], &reconstruct(&codec, &kept, &[Column(1)]), "2+1");
    let error =
        codec.reconstruct(&kept[1..], &[Column(1)], &mut [&mut vec![0; LEN]]).expect_err("one column");
    assert_eq!(error.kind(), Kind::Invalid);
}

#[test]
fn one_plan_serves_every_row_that_has_the_same_columns() {
    let codec = Codec::new(scheme(4, 3));
    let mut random = Random(9);
    let available = [6, 1, 4, 3, 1, 5].map(Column);
    let wanted = [2, 1, 0, 5].map(Column);
    let plan = codec.plan(&available, &wanted).expect("k columns are there");
    assert_eq!(plan.inputs(), [1, 3, 4, 5].map(Column));
    for _ in 0..3 {
        let row = row(&codec, LEN, &mut random);
        let inputs: Vec<&[u8]> = plan.inputs().iter().map(|column| &*row[usize::from(column.0)]).collect();
        let mut out = vec![vec![0x5A; LEN]; wanted.len()];
        plan.apply(&inputs, &mut out.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
        expect_columns(&row, &wanted, &out, "4+3");
    }
    for (available, wanted, text) in [
        (&available[..3], Column(0), "4+3 needs 4 columns of a row and has 3"),
        (&available[..], Column(7), "4+3 has no column 7"),
        (&[1, 3, 4, 7].map(Column), Column(0), "4+3 has no column 7"),
    ] {
        let error = codec.plan(available, &[wanted]).err().expect(text);
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, text));
    }
}

#[test]
#[should_panic(expected = "an input per column")]
fn a_plan_applied_to_too_few_columns_is_a_defect() {
    let plan = Codec::new(scheme(2, 1)).plan(&[0, 2].map(Column), &[Column(1)]).expect("k columns");
    plan.apply(&[&[1]], &mut [&mut [0]]);
}

#[test]
fn the_lengths_around_every_vector_and_strip_come_back() {
    for &kernel in Kernel::available() {
        lengths_come_back(&Codec::with_kernel(scheme(3, 2), kernel));
    }
}

fn lengths_come_back(codec: &Codec) {
    let mut random = Random(5);
    for len in (0..130).chain(4030..4170).chain([8191, 8192, 8193, 65536]) {
        let row = row(codec, len, &mut random);
        let (lost, kept) = columns_of(codec.scheme(), |column| matches!(column.0, 0 | 2));
        if len > 0 {
            assert_parity_is_golden(codec, &row);
        }
        let out = reconstruct(codec, &available(&row, &kept), &lost);
        expect_columns(&row, &lost, &out, &format!("{len} bytes, {}", codec.kernel()));
    }
}

#[test]
fn every_column_of_a_mirror_is_a_copy() {
    for m in 0..=254 {
        let codec = Codec::new(scheme(1, m));
        let row = row(&codec, LEN, &mut Random(6));
        assert!(row.iter().all(|column| *column == row[0]), "{} copies", m + 1);
        assert!(codec.parity.rows().all(|row| row == [1]), "the golden code's coefficient of a copy is 1");
    }
}

#[test]
fn plain_striping_encodes_nothing_and_tolerates_nothing() {
    let codec = Codec::new(scheme(5, 0));
    let row = row(&codec, LEN, &mut Random(7));
    let all: Vec<Column> = codec.scheme().columns().collect();
    expect_columns(&row, &all, &reconstruct(&codec, &available(&row, &all), &all), "stripe");
    let mut out = vec![0; LEN];
    let error = codec.reconstruct(&available(&row, &all[1..]), &all[..1], &mut [&mut out]);
    assert_eq!(error.expect_err("a column is missing").kind(), Kind::Invalid);
}

#[test]
fn wrong_counts_columns_and_lengths_are_errors_that_leave_the_output_alone() {
    let codec = Codec::new(scheme(3, 2));
    let row = row(&codec, LEN, &mut Random(8));
    let kept = available(&row, &[0, 3, 4].map(Column));
    let refuse = |kept: &[(Column, &[u8])], wanted: &[Column], buffers: usize, len: usize, text: &str| {
        let mut out = vec![vec![0x5A; len]; buffers];
        let mut slices: Vec<&mut [u8]> = out.iter_mut().map(Vec::as_mut_slice).collect();
        let error = codec.reconstruct(kept, wanted, &mut slices).expect_err(text);
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, text));
        assert!(out.iter().flatten().all(|&byte| byte == 0x5A), "{text}: output was touched");
    };
    let one = [Column(1)];
    refuse(&kept[..2], &one, 1, LEN, "3+2 needs 3 columns of a row and has 2");
    refuse(&[], &one, 1, LEN, "3+2 needs 3 columns of a row and has 0");
    refuse(&kept, &one, 2, LEN, "1 columns wanted in 2 buffers");
    refuse(&kept, &[Column(5)], 1, LEN, "3+2 has no column 5");
    refuse(&[(Column(255), row[0].as_slice()), kept[0], kept[1]], &one, 1, LEN, "3+2 has no column 255");
    refuse(&kept, &one, 1, LEN - 1, "columns of 203 and of 202 bytes in one row");
    refuse(
        &[kept[0], kept[1], (Column(4), &row[4][1..])],
        &one,
        1,
        LEN,
        "columns of 203 and of 202 bytes in one row",
    );
}

#[test]
#[should_panic(expected = "parity columns")]
fn encoding_into_too_few_columns_is_a_defect() {
    Codec::new(scheme(1, 2)).encode(&[&[1]], &mut [&mut [0]]);
}

#[test]
#[should_panic(expected = "data columns")]
fn encoding_too_few_columns_is_a_defect() {
    Codec::new(scheme(2, 1)).encode(&[&[1]], &mut [&mut [0]]);
}

#[test]
#[should_panic(expected = "one length")]
fn encoding_columns_of_two_lengths_is_a_defect() {
    Codec::new(scheme(2, 1)).encode(&[&[1], &[1, 2]], &mut [&mut [0]]);
}

#[test]
#[should_panic(expected = "as long as")]
fn encoding_into_a_longer_column_is_a_defect() {
    Codec::new(scheme(2, 1)).encode(&[&[1], &[2]], &mut [&mut [0, 0]]);
}

#[test]
fn the_code_is_format_and_stays_what_it_is() {
    let codec = Codec::new(scheme(4, 2));
    let rows: Vec<&[u8]> = codec.parity.rows().collect();
    assert_eq!(rows, [[27, 28, 18, 20], [28, 27, 20, 18]]);
}
