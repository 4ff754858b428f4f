//! Seal and open by engine, algorithm and size, in bursts of 32 as a worker calls them.

#![allow(clippy::expect_used, reason = "a bench may panic when it is set up")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use esp::{Algorithm, Cbc, Choice, Engine, Gcm, Integrity, Keys, OpenOp, SaKey, SealOp};

const BURST: usize = 32;
const AAD: [u8; 8] = [0, 0, 16, 1, 0, 0, 0, 1];

fn engines(criterion: &mut Criterion) {
    for choice in [Choice::IpsecMb, Choice::Portable] {
        let Ok(engine) = Engine::select(choice) else { continue };
        for (name, algorithm) in [
            ("aes128", Algorithm::Combined(Gcm::Aes128)),
            ("aes256", Algorithm::Combined(Gcm::Aes256)),
            ("aes128-cbc-sha256", Algorithm::Separate(Cbc::Aes128, Integrity::HmacSha2_256_128)),
            ("3des-md5", Algorithm::Separate(Cbc::TripleDes, Integrity::HmacMd5_96)),
        ] {
            let mut key = SaKey::default();
            let keys = Keys {
                cipher: &[7; 32][..algorithm.key_bytes()],
                integrity: &[8; 64][..algorithm.integrity_key_bytes()],
            };
            engine.expand(algorithm, keys, &mut key).expect("the lengths are right");
            let around = algorithm.framing().payload_at() - algorithm.framing().operation_at()
                + algorithm.framing().icv_bytes();
            seal(criterion, &engine, name, &key, around);
            // HMAC refuses a forgery before the cipher sees it: that is not the work of an authentic packet.
            if matches!(algorithm, Algorithm::Combined(_)) {
                open(criterion, &engine, name, &key, around);
            }
        }
    }
}

fn seal(criterion: &mut Criterion, engine: &Engine, name: &str, key: &SaKey, around: usize) {
    let mut group = criterion.benchmark_group(format!("seal/{}/{name}", engine.name()));
    for size in [64, 256, 1424] {
        let mut texts = vec![vec![0x5a; size + around]; BURST];
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

fn open(criterion: &mut Criterion, engine: &Engine, name: &str, key: &SaKey, around: usize) {
    let mut group = criterion.benchmark_group(format!("open/{}/{name}", engine.name()));
    for size in [64, 256, 1424] {
        // What comes out is not authentic: the work is the same.
        let mut texts = vec![vec![0x5a; size + around]; BURST];
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
