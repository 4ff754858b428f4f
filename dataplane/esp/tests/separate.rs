//! Packets of separate algorithms, whole: sealed, opened, tampered with.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

use std::collections::BTreeSet;

use esp::framing::{self, Aad, HEADER_BYTES, TRAILER_BYTES};
use esp::{
    Algorithm, Cbc, Choice, CipherEngine, Engine, EngineError, Integrity, Keys, Lanes, OpenOp, SaKey, SealOp,
};
use proptest::prelude::*;

/// Most of what a cipher or HMAC takes.
type Secret = [u8; 64];

fn suite() -> impl Strategy<Value = Algorithm> {
    (proptest::sample::select(&Cbc::ALL[..]), proptest::sample::select(&Integrity::ALL[..]))
        .prop_map(|(cipher, integrity)| Algorithm::Separate(cipher, integrity))
}

fn suites() -> impl Iterator<Item = Algorithm> {
    let pairs = Cbc::ALL.into_iter().flat_map(|cipher| Integrity::ALL.map(|integrity| (cipher, integrity)));
    pairs.map(|(cipher, integrity)| Algorithm::Separate(cipher, integrity))
}

/// An SA, and what seals and opens its packets.
struct Sa {
    algorithm: Algorithm,
    key: SaKey,
    lanes: Lanes,
    esn: bool,
}

impl Sa {
    fn new(choice: Choice, algorithm: Algorithm, secret: &Secret, esn: bool) -> Self {
        let engine = Engine::select(choice).unwrap();
        let mut key = SaKey::default();
        let keys = Keys {
            cipher: &secret[..algorithm.key_bytes()],
            integrity: &secret[64 - algorithm.integrity_key_bytes()..],
        };
        engine.expand(algorithm, keys, &mut key).unwrap();
        Self { algorithm, key, lanes: engine.lanes().unwrap(), esn }
    }

    /// A whole ESP packet.
    fn seal(&mut self, spi: u32, sequence: u64, payload: &[u8]) -> Vec<u8> {
        let framing = self.algorithm.framing();
        let pad = framing.pad_len(payload.len());
        let mut packet = vec![0; framing.sealed_len(payload.len())];
        packet[..4].copy_from_slice(&spi.to_be_bytes());
        packet[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
        packet[framing.payload_at()..][..payload.len()].copy_from_slice(payload);
        framing::write_trailer(&mut packet[framing.payload_at() + payload.len()..], pad, 47);
        let aad = Aad::new(spi, sequence, self.esn);
        let op = SealOp {
            key: &self.key,
            nonce: &framing::nonce([0; 4], sequence),
            aad: aad.as_bytes(),
            text_and_icv: &mut packet[framing.operation_at()..],
        };
        assert_eq!(self.lanes.seal(std::iter::once(op)), 1);
        packet
    }

    /// The payload of an ESP packet whose sequence number has this high half.
    fn open(&mut self, packet: &[u8], high: u32) -> Option<Vec<u8>> {
        let framing = self.algorithm.framing();
        if !framing.fits(packet.len()) {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let sequence = u64::from(high) << 32 | u64::from(word(4));
        let aad = Aad::new(word(0), sequence, self.esn);
        let mut packet = packet.to_vec();
        let op = OpenOp {
            key: &self.key,
            nonce: &[0; 12],
            aad: aad.as_bytes(),
            text_and_icv: &mut packet[framing.operation_at()..],
        };
        if self.lanes.open(std::iter::once(op)) != 1 {
            return None;
        }
        let text = &packet[framing.payload_at()..packet.len() - framing.icv_bytes()];
        let trailer = framing::read_trailer(text)?;
        assert_eq!(trailer.next_header, 47);
        Some(text[..text.len() - trailer.len_bytes].to_vec())
    }
}

fn secret() -> impl Strategy<Value = Secret> {
    proptest::collection::vec(any::<u8>(), 64).prop_map(|bytes| bytes.try_into().unwrap())
}

proptest! {
    #[test]
    fn what_is_sealed_opens_and_nothing_else_does(
        algorithm in suite(),
        secret in secret(),
        esn: bool,
        spi in 256u32..,
        sequence in 1u64..u64::MAX,
        payload in proptest::collection::vec(any::<u8>(), 0..1600),
        flipped: prop::sample::Index,
        bit in 0u32..8,
    ) {
        let mut sa = Sa::new(Choice::Auto, algorithm, &secret, esn);
        let high = (sequence >> 32) as u32;
        let sealed = sa.seal(spi, sequence, &payload);
        prop_assert_eq!(sealed.len(), algorithm.framing().sealed_len(payload.len()));
        prop_assert_eq!(sa.open(&sealed, high), Some(payload));
        // The portable engine gives the same bytes as the one chosen.
        prop_assert!(Sa::new(Choice::Portable, algorithm, &secret, esn).open(&sealed, high).is_some());

        let mut forged = sealed.clone();
        forged[flipped.index(sealed.len())] ^= 1 << bit;
        prop_assert_eq!(sa.open(&forged, high), None);
        // The high half is not sent: only with ESN is it authenticated (RFC 4303 section 2.2.1).
        prop_assert_eq!(sa.open(&sealed, !high).is_some(), !esn);
        sa.esn = !esn;
        prop_assert_eq!(sa.open(&sealed, high), None);
    }

    #[test]
    fn arbitrary_packets_are_refused(algorithm in suite(), packet in proptest::collection::vec(any::<u8>(), 8..300)) {
        let mut sa = Sa::new(Choice::Auto, algorithm, &[1; 64], true);
        prop_assert_eq!(sa.open(&packet, 0), None);
        // Nor does the engine itself panic on lengths that framing would have refused.
        let op = OpenOp { key: &sa.key, nonce: &[0; 12], aad: &packet[..8], text_and_icv: &mut packet.clone() };
        prop_assert_eq!(sa.lanes.open(std::iter::once(op)), 0);
    }
}

#[test]
fn every_byte_of_a_packet_is_authenticated_by_every_suite() {
    for algorithm in suites() {
        let mut sa = Sa::new(Choice::Auto, algorithm, &[0x42; 64], true);
        let sealed = sa.seal(0x1002, (7 << 32) + 3, b"passenger");
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 0x80;
            assert_eq!(sa.open(&forged, 7), None, "{algorithm:?}, byte {at}");
        }
        for cut in 0..sealed.len() {
            assert_eq!(sa.open(&sealed[..cut], 7), None, "{algorithm:?}, cut to {cut}");
        }
    }
}

/// RFC 3602 section 3: neither a constant nor a counter, nor the same for equal numbers of different keys.
#[test]
fn ivs_differ_in_half_of_their_bits() {
    for cipher in Cbc::ALL {
        let algorithm = Algorithm::Separate(cipher, Integrity::HmacSha2_256_128);
        let len = usize::from(cipher.block_bytes());
        let ivs = |secret: u8| {
            let mut sa = Sa::new(Choice::Auto, algorithm, &[secret; 64], true);
            (1..=500u64)
                .map(|sequence| sa.seal(0x1000, sequence, b"")[HEADER_BYTES..][..len].to_vec())
                .collect::<Vec<_>>()
        };
        let (ours, others) = (ivs(1), ivs(2));
        assert_eq!(ours.iter().chain(&others).collect::<BTreeSet<_>>().len(), 1000);
        let distance = |(a, b): (&Vec<u8>, &Vec<u8>)| {
            a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones() as usize).sum::<usize>()
        };
        let neighbours: usize = ours.iter().zip(&ours[1..]).map(distance).sum();
        let keys: usize = ours.iter().zip(&others).map(distance).sum();
        for (sum, pairs) in [(neighbours, 499), (keys, 500)] {
            let (bits, half) = (sum as f64 / pairs as f64, len as f64 * 4.0);
            assert!((bits - half).abs() < half / 20.0, "{cipher:?}: {bits} bits differ where {half} should");
        }
    }
}

#[test]
fn keys_of_another_length_are_refused() {
    let engine = Engine::select(Choice::Auto).unwrap();
    for algorithm in suites() {
        let (cipher, integrity) = (algorithm.key_bytes(), algorithm.integrity_key_bytes());
        for (cipher, integrity) in [(cipher - 1, integrity), (cipher, integrity - 1), (cipher, 0)] {
            let keys = Keys { cipher: &[0; 64][..cipher], integrity: &[0; 64][..integrity] };
            let error = engine.expand(algorithm, keys, &mut SaKey::default()).unwrap_err();
            assert!(matches!(error, EngineError::KeyLength { .. }));
        }
    }
}

#[test]
fn a_packet_without_room_for_its_parts_is_not_sealed() {
    for algorithm in suites() {
        let mut sa = Sa::new(Choice::Auto, algorithm, &[9; 64], false);
        let framing = algorithm.framing();
        let least = framing.sealed_len(0);
        for len in [0, 7, framing.icv_bytes() - 1, least - TRAILER_BYTES, least - 1, least + 1] {
            let mut body = vec![0; len];
            let op = SealOp { key: &sa.key, nonce: &[0; 12], aad: &[0; 8], text_and_icv: &mut body };
            assert_eq!(sa.lanes.seal(std::iter::once(op)), 0, "{algorithm:?}, {len} bytes");
        }
    }
}
