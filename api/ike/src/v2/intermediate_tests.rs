//! The key schedule and IntAuth, computed a second time from the RFCs' formulas with nothing but HMAC.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::*;
use crate::crypto::{IkeCipher, IkeSuite, Random, Spis};
use crate::sim::{Simulation, Weather, setup};
use crate::wire::{Header, Message};
use crate::{Event, Group, Hash, Limits, Path, PreSharedKey};

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

/// RFC 7296 section 2.13.
fn prf_plus(key: &[u8], seed: &[u8], blocks: u8) -> Vec<u8> {
    let (mut stream, mut block) = (Vec::new(), Vec::new());
    for counter in 1..=blocks {
        block = hmac(key, &[&block, seed, &[counter]]);
        stream.extend_from_slice(&block);
    }
    stream
}

const SPIS: Spis = Spis { initiator: 0x0102_0304_0506_0708, responder: 0x1112_1314_1516_1718 };
const NONCES: (&[u8], &[u8]) = (&[1; 32], &[2; 32]);

fn first(initiator: bool) -> IkeKeys {
    let suite = IkeSuite {
        cipher: IkeCipher::Aes256Gcm16,
        prf: Hash::Sha2_256,
        group: Group::Curve25519,
        additional: [None; 7],
    };
    IkeKeys::first(suite, initiator, &[9; 32], NONCES, SPIS)
}

/// SK_d, SK_pi and SK_pr out of a SKEYSEED, for AES-256-GCM: between them stand two keys of 36 octets.
fn expand(seed: &[u8]) -> [Vec<u8>; 3] {
    let nonces_and_spis =
        [NONCES.0, NONCES.1, &SPIS.initiator.to_be_bytes(), &SPIS.responder.to_be_bytes()].concat();
    let stream = prf_plus(seed, &nonces_and_spis, 6);
    let auth = 32 + 72;
    [&stream[..32], &stream[auth..auth + 32], &stream[auth + 32..auth + 64]].map(<[u8]>::to_vec)
}

fn secrets(keys: &IkeKeys) -> [Vec<u8>; 3] {
    [&keys.derive, &keys.auth_initiator, &keys.auth_responder].map(|key| key.to_vec())
}

/// RFC 9370 section 2.2.2: SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr), again and again.
#[test]
fn each_additional_exchange_makes_new_keys_of_the_old() {
    let seed = hmac(&[NONCES.0, NONCES.1].concat(), &[&[9; 32]]);
    let mut expected = expand(&seed);
    let mut keys = first(true);
    assert_eq!(secrets(&keys), expected);
    for shared in [[0x33; 32], [0x44; 32], [0x55; 32]] {
        expected = expand(&hmac(&expected[0], &[&shared, NONCES.0, NONCES.1]));
        keys = keys.successor(keys.suite, true, &shared, NONCES, SPIS);
        assert_eq!(secrets(&keys), expected);
    }
}

/// RFC 8784 section 3: SK_d = prf+(PPK, SK_d'), and so for SK_pi and SK_pr.
#[test]
fn a_ppk_is_mixed_into_three_keys_and_can_be_taken_out() {
    let mut keys = first(true);
    let before = secrets(&keys);
    let ppk = PreSharedKey(Zeroizing::new(b"thirty-two octets, truly random!".to_vec()));
    let plain = keys.mix(&ppk);
    let expected = before.clone().map(|key| prf_plus(&ppk.0, &key, 1));
    assert_eq!(secrets(&keys), expected);
    keys.swap(plain);
    assert_eq!(secrets(&keys), before);
}

/// RFC 9242 section 3.3.2, over whole and over cut messages, from both ends' point of view.
#[test]
fn int_auth_is_over_the_message_as_if_in_clear_and_in_one_piece() {
    let data: Vec<u8> = (0..1184u32).map(|index| index as u8).collect();
    let payloads = [Payload::KeyExchange { group: 36, data: data.clone() }];
    for limit in [None, Some(548)] {
        let (mut keys, peer) = (first(true), first(false));
        let sk_pi = keys.auth_initiator.to_vec();
        let (mut ours, mut theirs) = (IntAuth::default(), IntAuth::default());
        let mut expected = Vec::new();
        for message_id in 1..=2u32 {
            let header = Header {
                spi_i: SPIS.initiator,
                spi_r: SPIS.responder,
                first: 0,
                exchange: Exchange::IkeIntermediate,
                initiator: true,
                response: false,
                message_id,
            };
            let (first, plain) = encode_payloads(&payloads);
            let mut random = Random::new([4; 32]);
            let datagrams = keys.sealing.seal_chain(header, first, &plain, limit, &mut random).unwrap();
            assert_eq!(datagrams.len() > 1, limit.is_some());
            ours.add(&keys, true, datagrams[0].first_chunk().unwrap(), first, &plain);

            let mut fragments = crate::v2::fragments::Fragments::new(true);
            let mut opened = None;
            for bytes in datagrams.iter().rev() {
                let message = Message::decode(bytes).unwrap();
                let end = std::net::SocketAddr::from(([192, 0, 2, 1], 500));
                let inbound = Inbound { path: Path { local: end, remote: end }, bytes, message: &message };
                opened = fragments.open(&peer.opening, &inbound).unwrap();
            }
            let opened = opened.unwrap();
            assert!(opened.alone);
            theirs.add(&peer, true, &opened.head, opened.first, &opened.plain);

            // By hand: header, Encrypted payload's header, then the KE payload as it stands inside.
            let mut clear = Vec::new();
            clear.extend_from_slice(&SPIS.initiator.to_be_bytes());
            clear.extend_from_slice(&SPIS.responder.to_be_bytes());
            clear.extend_from_slice(&[46, 0x20, 43, 0x08]);
            clear.extend_from_slice(&message_id.to_be_bytes());
            clear.extend_from_slice(&(28u32 + 4 + 8 + 1184).to_be_bytes());
            clear.extend_from_slice(&[34, 0]);
            clear.extend_from_slice(&(4u16 + 8 + 1184).to_be_bytes());
            clear.extend_from_slice(&[0, 0]);
            clear.extend_from_slice(&(8u16 + 1184).to_be_bytes());
            clear.extend_from_slice(&[0, 36, 0, 0]);
            clear.extend_from_slice(&data);
            expected = hmac(&sk_pi, &[&expected, &clear]);
            assert_eq!(*ours.from_initiator, expected);
            assert_eq!(*theirs.from_initiator, expected);
        }
        assert_eq!(ours.octets(3), [expected.as_slice(), &[], &[0, 0, 0, 3]].concat());
    }
    assert!(IntAuth::default().octets(1).is_empty());
}

/// An answer is of the exchange that it answers, a refusal too; of another one it would be dropped.
#[test]
fn a_refusal_is_of_the_exchange_that_it_refuses() {
    let mut sim = Simulation::between(5, Limits::default(), Weather::FAIR, |side| {
        let mut connection = setup::called(side, 1);
        connection.proposals[0].additional_key_exchanges = vec![vec![KeyEncapsulation::MlKem768]];
        connection
    });
    let wrong = loop {
        let sa = sim.hosts[0].engine.sas.values_mut().next().unwrap();
        if let Stage::IntermediateSent(sent) = &mut sa.stage {
            let header = sa.ends.header(Exchange::IkeIntermediate, false, sent.handshake.next_id);
            let payloads =
                [Payload::KeyExchange { group: KeyEncapsulation::MlKem1024.number(), data: vec![1] }];
            let sealing = &mut sent.handshake.keys.sealing;
            break sealing.seal(header, &payloads, None, &mut Random::new([1; 32])).unwrap().remove(0);
        }
        assert!(sim.step(sim.now + Duration::from_secs(1)));
    };
    let at = |side| (setup::address(side), 500).into();
    sim.inject(1, Path { local: at(1), remote: at(0) }, &wrong);
    sim.run(Duration::from_millis(500));
    let told = sim.hosts[0].events.iter().any(|(_, event)| {
        matches!(event, Event::IkeDown { cause: Cause::Protocol { phase: Phase::IkeIntermediate, detail }, .. }
            if detail.contains("INVALID_SYNTAX"))
    });
    assert!(told, "{:?}", sim.hosts[0].events);
}
