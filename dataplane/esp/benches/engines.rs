//! Seal and open by engine, algorithm and size, in bursts of 32 as a worker calls them.

#![allow(clippy::expect_used, reason = "a bench may panic when it is set up")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use esp::{Algorithm, Choice, Engine, OpenOp, SaKey, SealOp};

const BURST: usize = 32;
const AAD: [u8; 8] = [0, 0, 16, 1, 0, 0, 0, 1];

fn engines(criterion: &mut Criterion) {
    for choice in [Choice::IpsecMb, Choice::Portable] {
        let Ok(engine) = Engine::select(choice) else { continue };
        for (name, algorithm) in [("aes128", Algorithm::Aes128Gcm16), ("aes256", Algorithm::Aes256Gcm16)] {
            let mut key = SaKey::default();
            engine
                .expand(algorithm, &[7; 32][..algorithm.key_bytes()], &mut key)
                .expect("the length is right");
            seal(criterion, &engine, name, &key);
            open(criterion, &engine, name, &key);
        }
    }
}

fn seal(criterion: &mut Criterion, engine: &Engine, name: &str, key: &SaKey) {
    let mut group = criterion.benchmark_group(format!("seal/{}/{name}", engine.name()));
    for size in [64, 256, 1420] {
        let mut texts = vec![vec![0x5a; size + 16]; BURST];
        let nonces: Vec<[u8; 12]> = (0..BURST as u64).map(|n| esp::framing::nonce([1; 4], n)).collect();
        group.throughput(Throughput::Elements(BURST as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let ops = texts.iter_mut().zip(&nonces);
                let ops = ops.map(|(text, nonce)| SealOp { key, nonce, aad: &AAD, text_and_icv: text });
                black_box(engine.seal(ops))
            });
        });
    }
    group.finish();
}

fn open(criterion: &mut Criterion, engine: &Engine, name: &str, key: &SaKey) {
    let mut group = criterion.benchmark_group(format!("open/{}/{name}", engine.name()));
    for size in [64, 256, 1420] {
        // What comes out is not authentic: the work is the same.
        let mut texts = vec![vec![0x5a; size + 16]; BURST];
        let nonces: Vec<[u8; 12]> = (0..BURST as u64).map(|n| esp::framing::nonce([1; 4], n)).collect();
        group.throughput(Throughput::Elements(BURST as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let ops = texts.iter_mut().zip(&nonces);
                let ops = ops.map(|(text, nonce)| OpenOp { key, nonce, aad: &AAD, text_and_icv: text });
                black_box(engine.open(ops))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, engines);
criterion_main!(benches);
