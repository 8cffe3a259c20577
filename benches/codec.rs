//! Throughput of the Reed-Solomon code, in bytes of data per second.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use paritas::codec::Codec;
use paritas::types::{Column, Scheme};
use std::hint::black_box;

/// Bytes of one column.
const SHARD: usize = 64 << 10;

fn codec(k: u8, m: u8) -> Codec {
    Codec::new(Scheme::new(k, m).expect("a valid scheme"))
}

/// A row of data columns that no kernel finds easier than any other.
fn data(columns: u8) -> Vec<Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..columns).map(|_| (0..SHARD).map(|_| next()).collect()).collect()
}

fn bytes(codec: &Codec) -> Throughput {
    Throughput::Bytes(u64::from(codec.scheme().k()) * u64::try_from(SHARD).expect("fits"))
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (k, m) in [(4, 2), (8, 2), (8, 3)] {
        let codec = codec(k, m);
        let data = data(k);
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut parity = vec![vec![0; SHARD]; usize::from(m)];
        let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        group.throughput(bytes(&codec));
        group.bench_function(BenchmarkId::from_parameter(codec.scheme()), |bencher| {
            bencher.iter(|| codec.encode(black_box(&data), black_box(&mut parity)));
        });
    }
    group.finish();
}

fn reconstruct(criterion: &mut Criterion) {
    let codec = codec(8, 2);
    let data = data(8);
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let mut parity = vec![vec![0; SHARD]; 2];
    codec.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
    let columns = data.iter().copied().chain(parity.iter().map(Vec::as_slice));
    let lost = [Column(1), Column(6)];
    let kept: Vec<(Column, &[u8])> =
        codec.scheme().columns().zip(columns).filter(|(column, _)| !lost.contains(column)).collect();
    let mut out = vec![vec![0; SHARD]; lost.len()];
    let mut out: Vec<&mut [u8]> = out.iter_mut().map(Vec::as_mut_slice).collect();

    let mut group = criterion.benchmark_group("reconstruct");
    group.throughput(bytes(&codec));
    group.bench_function("two lost of 8+2", |bencher| {
        bencher.iter(|| codec.reconstruct(black_box(&kept), &lost, black_box(&mut out)).expect("8 are left"));
    });
    group.finish();
}

criterion_group!(benches, encode, reconstruct);
criterion_main!(benches);
