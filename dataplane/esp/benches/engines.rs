//! Seal and open by engine, algorithm and size, in bursts of 32 as a worker calls them.

#![allow(clippy::expect_used, reason = "a bench may panic when it is set up")]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use esp::{Aead, Algorithm, Cbc, Choice, CipherEngine, Engine, Integrity, Keys, OpenOp, SaKey, SealOp};

const BURST: usize = 32;
const AAD: [u8; 8] = [0, 0, 16, 1, 0, 0, 0, 1];

fn engines(criterion: &mut Criterion) {
    let choices = [("ipsec-mb", Choice::IpsecMb), ("portable", Choice::Portable), ("auto", Choice::Auto)];
    let engines = choices.map(|(label, choice)| (label, Engine::select(choice)));
    if let (_, Ok(auto)) = &engines[2] {
        println!("auto leaves to the portable code: {}", auto.portable_parts());
    }
    for (name, algorithm) in [
        ("aes128-gcm", Algorithm::Combined(Aead::Aes128Gcm)),
        ("aes256-gcm", Algorithm::Combined(Aead::Aes256Gcm)),
        ("chacha20-poly1305", Algorithm::Combined(Aead::ChaCha20Poly1305)),
        ("aes128-cbc-sha1", Algorithm::Separate(Cbc::Aes128, Integrity::HmacSha1_96)),
        ("aes128-cbc-sha256", Algorithm::Separate(Cbc::Aes128, Integrity::HmacSha2_256_128)),
        ("aes256-cbc-sha512", Algorithm::Separate(Cbc::Aes256, Integrity::HmacSha2_512_256)),
        ("aes128-cbc-md5", Algorithm::Separate(Cbc::Aes128, Integrity::HmacMd5_96)),
        ("3des-md5", Algorithm::Separate(Cbc::TripleDes, Integrity::HmacMd5_96)),
    ] {
        for size in [64, 256, 1424] {
            // Side by side: what loads the machine meanwhile loads all.
            for (label, engine) in &engines {
                if let Ok(engine) = engine {
                    Burst::new(*engine, algorithm, size).measure(criterion, engine, label, name, size);
                }
            }
        }
    }
}

/// Packets of one SA.
struct Burst {
    key: SaKey,
    nonces: Vec<[u8; 12]>,
    packets: Vec<Vec<u8>>,
}

impl Burst {
    /// With `size` bytes of plaintext each.
    fn new(engine: Engine, algorithm: Algorithm, size: usize) -> Self {
        let mut key = SaKey::default();
        let keys = Keys {
            cipher: &[7; 32][..algorithm.key_bytes()],
            integrity: &[8; 64][..algorithm.integrity_key_bytes()],
        };
        engine.expand(algorithm, keys, &mut key).expect("the lengths are right");
        let framing = algorithm.framing();
        let len = framing.payload_at() - framing.operation_at() + size + framing.icv_bytes();
        Self {
            key,
            nonces: (0..BURST as u64).map(|n| esp::framing::nonce([1; 4], n)).collect(),
            packets: vec![vec![0x5a; len]; BURST],
        }
    }

    fn measure(&mut self, criterion: &mut Criterion, engine: &Engine, label: &str, name: &str, size: usize) {
        let mut lanes = engine.lanes().expect("the engine started");
        let (key, nonces) = (&self.key, &self.nonces);
        let mut seal = |packets: &mut Vec<Vec<u8>>| {
            let ops = packets.iter_mut().zip(nonces);
            black_box(lanes.seal(ops.map(|(packet, nonce)| SealOp {
                key,
                nonce,
                aad: &AAD,
                text_and_icv: packet,
            })))
        };
        let mut group = criterion.benchmark_group(format!("seal/{label}/{name}"));
        group.throughput(Throughput::Elements(BURST as u64));
        let packets = &mut self.packets;
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| bencher.iter(|| seal(packets)));
        group.finish();
        // Authentic packets: with HMAC a forgery is not decrypted, which is less work.
        seal(packets);
        let mut group = criterion.benchmark_group(format!("open/{label}/{name}"));
        group.throughput(Throughput::Elements(BURST as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let routine = |packets: &mut Vec<Vec<u8>>| {
                let ops = packets.iter_mut().zip(nonces);
                let ops = ops.map(|(packet, nonce)| OpenOp { key, nonce, aad: &AAD, text_and_icv: packet });
                black_box(lanes.open(ops))
            };
            bencher.iter_batched_ref(|| packets.clone(), routine, BatchSize::SmallInput);
        });
        group.finish();
    }
}

criterion_group!(benches, engines);
criterion_main!(benches);
