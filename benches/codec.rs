//! Throughput of the Reed-Solomon code, in bytes of data per second, with every kernel of the machine.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use paritas::codec::{Codec, Kernel};
use paritas::types::{Column, Scheme};
use std::hint::black_box;
use std::time::Duration;

/// Bytes of one column: a row of a record, and what fills the first cache.
const SHARDS: [usize; 2] = [4 << 10, 64 << 10];

fn codec(k: u8, m: u8, kernel: Kernel) -> Codec {
    Codec::with_kernel(Scheme::new(k, m).expect("a valid scheme"), kernel)
}

/// A row of data columns that no kernel finds easier than any other.
fn data(columns: u8, shard: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..columns).map(|_| (0..shard).map(|_| next()).collect()).collect()
}

fn bytes(codec: &Codec, shard: usize) -> Throughput {
    Throughput::Bytes(u64::from(codec.scheme().k()) * u64::try_from(shard).expect("fits"))
}

fn name(codec: &Codec, shard: usize) -> BenchmarkId {
    let what = format!("{} of {} KiB", codec.scheme(), shard >> 10);
    BenchmarkId::new(what, codec.kernel())
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (shard, (k, m)) in
        SHARDS.into_iter().flat_map(|shard| [(4, 2), (8, 2), (8, 3), (10, 4)].map(|s| (shard, s)))
    {
        let data = data(k, shard);
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut parity = vec![vec![0; shard]; usize::from(m)];
        let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        for &kernel in Kernel::available() {
            let codec = codec(k, m, kernel);
            group.throughput(bytes(&codec, shard));
            group.bench_function(name(&codec, shard), |bencher| {
                bencher.iter(|| codec.encode(black_box(&data), black_box(&mut parity)));
            });
        }
    }
    group.finish();
}

fn reconstruct(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reconstruct two lost");
    for (shard, &kernel) in
        SHARDS.into_iter().flat_map(|shard| Kernel::available().iter().map(move |k| (shard, k)))
    {
        let codec = codec(8, 2, kernel);
        let data = data(8, shard);
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut parity = vec![vec![0; shard]; 2];
        codec.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
        let columns = data.iter().copied().chain(parity.iter().map(Vec::as_slice));
        let lost = [Column(1), Column(6)];
        let kept: Vec<(Column, &[u8])> =
            codec.scheme().columns().zip(columns).filter(|(column, _)| !lost.contains(column)).collect();
        let mut out = vec![vec![0; shard]; lost.len()];
        let mut out: Vec<&mut [u8]> = out.iter_mut().map(Vec::as_mut_slice).collect();
        group.throughput(bytes(&codec, shard));
        group.bench_function(name(&codec, shard), |bencher| {
            bencher.iter(|| {
                codec.reconstruct(black_box(&kept), &lost, black_box(&mut out)).expect("8 are left");
            });
        });
    }
    group.finish();
}

fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group!(name = benches; config = short(); targets = encode, reconstruct);
criterion_main!(benches);
