//! Keys that divide their work between the library and the portable code.

use super::super::{CipherEngine, Engine, Keys, Lanes, OpenOp, SaKey, SealOp, Selected, portable};
use super::preference::{Preference, Preferences};
use super::*;
use crate::algorithm::{Cbc, Integrity};
use crate::framing;

/// In each class of sizes, and one packet of each as short and as long as it gets.
const PAYLOADS: [usize; 8] = [2, 34, 130, 194, 258, 610, 722, 1410];

fn with_preference(library: IpsecMb, preference: Preference) -> Engine {
    let mut preferences = Preferences::LIBRARY;
    for algorithm in algorithms() {
        preferences.set(algorithm, preference);
    }
    Engine(Selected::IpsecMb(IpsecMb { preferences: Box::leak(Box::new(preferences)), ..library }))
}

fn algorithms() -> Vec<Algorithm> {
    let integrity = [Integrity::HmacSha1_96, Integrity::HmacSha2_256_128, Integrity::HmacSha2_512_256];
    let separate = integrity.map(|integrity| Algorithm::Separate(Cbc::Aes256, integrity));
    [Algorithm::Combined(Aead::ChaCha20Poly1305)].into_iter().chain(separate).collect()
}

fn burst(algorithm: Algorithm) -> Vec<Vec<u8>> {
    let framing = algorithm.framing();
    PAYLOADS.map(|bytes| vec![0x33; framing.sealed_len(bytes) - framing.operation_at()]).to_vec()
}

fn seal(lanes: &mut Lanes, key: &SaKey, packets: &mut [Vec<u8>]) -> u64 {
    let nonce = framing::nonce([9; 4], 7);
    lanes.seal(packets.iter_mut().map(|packet| SealOp {
        key,
        nonce: &nonce,
        aad: &[1; 12],
        text_and_icv: packet,
    }))
}

fn open(lanes: &mut Lanes, key: &SaKey, packets: &mut [Vec<u8>]) -> u64 {
    let nonce = framing::nonce([9; 4], 7);
    lanes.open(packets.iter_mut().map(|packet| OpenOp {
        key,
        nonce: &nonce,
        aad: &[1; 12],
        text_and_icv: packet,
    }))
}

#[test]
fn however_the_work_is_divided_the_bytes_are_the_same() {
    let Ok(library) = IpsecMb::new() else { return };
    let reference = Engine(Selected::Portable(portable::Portable));
    for algorithm in algorithms() {
        let secret = [0x77; 64];
        let keys = Keys {
            cipher: &secret[..algorithm.key_bytes()],
            integrity: &secret[..algorithm.integrity_key_bytes()],
        };
        let sealed_by = |engine: &Engine| {
            let (mut key, mut packets) = (SaKey::default(), burst(algorithm));
            engine.expand(algorithm, keys, &mut key).unwrap();
            assert_eq!(seal(&mut engine.lanes().unwrap(), &key, &mut packets), 0xff);
            (key, packets)
        };
        let (_, expected) = sealed_by(&reference);
        for bits in 0..8 {
            let engine = with_preference(library, Preference { seal: bits, open: bits ^ 0b101 });
            let (key, sealed) = sealed_by(&engine);
            assert_eq!(sealed, expected, "{algorithm:?} {bits:03b}");
            for forged in 0..PAYLOADS.len() {
                let mut packets = sealed.clone();
                *packets[forged].last_mut().unwrap() ^= 1;
                let authentic = open(&mut engine.lanes().unwrap(), &key, &mut packets);
                assert_eq!(authentic, 0xff & !(1 << forged), "{algorithm:?} {bits:03b}");
            }
        }
    }
}
