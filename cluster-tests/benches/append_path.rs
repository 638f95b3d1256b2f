//! Each step of an append on its own: `cargo bench -p dos-cluster-tests`.
#![expect(clippy::unwrap_used, reason = "a failure is a panic")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dos_cluster::{
    codec::{ops, wire::decode_command},
    storage::state,
};
use dos_cluster_tests::appends::Appends;

const APPENDS: usize = 256;
const PAYLOADS: [usize; 2] = [128, 4096];

/// What the batcher does with the appends of its streams: one command, encoded for the log and the followers.
fn batcher(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batcher");
    for payload in PAYLOADS {
        group.throughput(Throughput::Bytes((APPENDS * payload) as u64));
        group.bench_function(format!("{APPENDS} appends of {payload} bytes"), |bencher| {
            let mut appends = Appends::new(16, payload);
            bencher.iter(|| black_box(Appends::encode(appends.batch(APPENDS))));
        });
    }
    group.finish();
}

/// Log entries and journals, from bytes to meaning.
fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for payload in PAYLOADS {
        let mut appends = Appends::new(16, payload);
        let encoded = Appends::encode(appends.batch(APPENDS));
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        group.bench_function(
            format!("decode {APPENDS} appends of {payload} bytes"),
            |bencher| {
                bencher.iter(|| black_box(decode_command(encoded.clone()).unwrap()));
            },
        );
    }
    let op = ops::Op::WriteV {
        offset: 0,
        path: Bytes::from_static(b"/tmp/file"),
        data: Bytes::from(vec![7; 4096]),
    };
    let record = ops::OpRecord { tag: 1, op };
    group.throughput(Throughput::Bytes(4096));
    group.bench_function("encode an op of 4096 bytes", |bencher| {
        let mut out = bytes::BytesMut::with_capacity(8192);
        bencher.iter(|| {
            out.clear();
            ops::encode(&record, &mut out).unwrap();
            black_box(&out);
        });
    });
    group.finish();
}

/// The state machine: decode, decide, and write to the store.
fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    for payload in PAYLOADS {
        group.throughput(Throughput::Bytes((APPENDS * payload) as u64));
        let dir = tempfile::tempdir().unwrap();
        let store = state::open(&dir.path().join("state"), 64 << 20).unwrap();
        let appends = std::cell::RefCell::new(Appends::new(16, payload));
        group.bench_function(format!("{APPENDS} appends of {payload} bytes"), |bencher| {
            bencher.iter_batched(
                || {
                    let mut appends = appends.borrow_mut();
                    let batch = appends.batch(APPENDS);
                    Appends::encode(batch)
                },
                |encoded| {
                    store
                        .write(appends.borrow_mut().apply_encoded(encoded))
                        .unwrap()
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(append_path, batcher, codec, apply);
criterion_main!(append_path);
