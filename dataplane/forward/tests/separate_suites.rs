//! Suites of a CBC cipher and HMAC: sequence numbers, replays, restarts and MTUs are those of AES-GCM, lengths are not.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use esp::Choice;
use forward::Update;
use packet::header::ipv4::DONT_FRAGMENT;
use shm::records::{SaRecord, direction};
use shm::{Drop, SaRuntime};
use support::*;

const ROLL: u64 = 1 << 32;

fn separate() -> impl Iterator<Item = Suite> {
    Suite::all().into_iter().filter(|suite| !suite.is_combined())
}

fn shape(suite: Suite) -> Shape {
    Shape { suite, ..Shape::default() }
}

/// Alpha's outbound SA, as [`site`] makes it.
fn outbound(suite: Suite) -> impl FnOnce(&mut SaRecord) {
    move |sa| {
        (sa.direction, sa.spi, sa.esn) = (direction::OUTBOUND, 0x1002, 1);
        (sa.local, sa.remote) = (v4(ALPHA), v4(BETA));
        (sa.key[0], sa.integrity_key[0]) = (2, 2);
        suite.put(sa);
    }
}

fn send(alpha: &mut Gateway, count: usize) -> Vec<Vec<u8>> {
    let frames: Vec<_> = (0..count).map(|_| frame_v4(RED, &passenger(1, 2, 72))).collect();
    alpha.wire(RED, &frames).sent.into_iter().map(|(_, frame)| over_the_cable(frame)).collect()
}

fn sequence_low(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[38..42].try_into().unwrap())
}

fn iv(frame: &[u8]) -> [u8; 8] {
    frame[42..50].try_into().unwrap()
}

fn dropped(gateway: &mut Gateway, frame: Vec<u8>, reason: Drop) {
    let before = gateway.drops(reason);
    assert!(gateway.wire(BLACK, &[frame]).nothing());
    assert_eq!(gateway.drops(reason), before + 1, "{:?}", gateway.all_drops());
}

#[test]
fn extended_sequence_numbers_go_over_the_roll() {
    for suite in separate() {
        let (mut alpha, mut beta) = pair(shape(suite));
        alpha.runtime(0).next_sequence.store(ROLL - 16, Relaxed);
        beta.runtime(1).next_sequence.store(ROLL - 17, Relaxed);
        let mut cable = send(&mut alpha, 32);
        assert_eq!((sequence_low(&cable[15]), sequence_low(&cable[16])), (u32::MAX, 0));
        cable.swap(3, 20);
        assert_eq!(beta.wire(BLACK, &cable).sent.len(), 32, "{suite:?}: {:?}", beta.all_drops());
        assert_eq!(beta.runtime(1).next_sequence.load(Relaxed), ROLL + 15);
        assert_eq!(beta.wire(BLACK, &cable).sent.len(), 0);
        assert_eq!(beta.all_drops(), [("esp_replayed", 32)]);
    }
}

/// The high half is part of what HMAC covers (RFC 4303 section 2.2.1): an old packet does not pass for one of 2^32 later.
#[test]
fn a_packet_of_another_subspace_is_not_authentic() {
    for suite in separate() {
        let (mut alpha, mut beta) = pair(shape(suite));
        let frame = send(&mut alpha, 1).remove(0);
        beta.runtime(1).next_sequence.store(ROLL + 5000, Relaxed);
        dropped(&mut beta, frame, Drop::EspAuthFailed);
    }
}

#[test]
fn forgeries_and_replays_are_told_apart_and_move_no_window() {
    for suite in separate() {
        let (mut alpha, mut beta) = pair(Shape { esn: false, ..shape(suite) });
        let frames = send(&mut alpha, 3);
        let last = frames[1].len() - 1;
        // SPI aside: sequence number, IV, ciphertext, ICV.
        for at in [41, 42, 42 + 8, last - 40, last - 12, last] {
            let mut forged = frames[1].clone();
            forged[at] ^= 1;
            dropped(&mut beta, forged, Drop::EspAuthFailed);
        }
        assert_eq!(beta.runtime(1).next_sequence.load(Relaxed), 0);
        assert_eq!(beta.wire(BLACK, &frames).sent.len(), 3);
        dropped(&mut beta, frames[1].clone(), Drop::EspReplayed);
        let runtime = beta.runtime(1);
        let counts = [&runtime.auth_failed, &runtime.replayed, &runtime.packets];
        assert_eq!(counts.map(|cell| cell.load(Relaxed)), [6, 1, 3]);
    }
}

#[test]
fn a_ciphertext_that_is_not_whole_blocks_is_malformed() {
    for suite in separate() {
        let (mut alpha, mut beta) = pair(shape(suite));
        let frame = send(&mut alpha, 1).remove(0);
        for len in [frame.len() - 4, frame.len() + 4, 14 + 20 + 36 - 4] {
            let mut packet = frame[14..].to_vec();
            packet.resize(len - 14, 0);
            let esp = packet_v4(ALPHA, BETA, 50, &packet[20..]);
            dropped(&mut beta, frame_v4(BLACK, &esp), Drop::EspMalformed);
        }
        assert_eq!(beta.wire(BLACK, &[frame]).sent.len(), 1);
    }
}

/// RFC 3602 section 3 and RFC 4303 section 3.3.3: neither a number nor an IV comes twice.
#[test]
fn a_new_process_jumps_ahead_and_repeats_no_iv() {
    for suite in separate() {
        let (mut alpha, mut beta) = pair(shape(suite));
        let mut ivs = BTreeSet::new();
        let mut expected = 1;
        for _process in 0..4 {
            let cable = send(&mut alpha, 20);
            assert_eq!(cable.len(), 20);
            assert_eq!(u64::from(sequence_low(&cable[0])), expected);
            ivs.extend(cable.iter().map(|frame| iv(frame)));
            assert_eq!(beta.wire(BLACK, &cable).sent.len(), 20);
            expected += 20 + SaRuntime::RESUME_JUMP;
            // The same record again, as after a restart: the state is that of the region.
            alpha.apply(Update::Sa(0, None));
            alpha.sa(0, outbound(suite));
        }
        assert_eq!(ivs.len(), 80, "{suite:?}");
    }
}

#[test]
fn both_engines_put_the_same_packets_on_the_wire() {
    for suite in separate() {
        let sent = [Choice::Portable, Choice::Auto].map(|choice| {
            let mut site = site(choice, shape(suite), 1, ALPHA, BETA);
            send(&mut site, 16)
        });
        assert_eq!(sent[0], sent[1]);
    }
}

/// The MTU is exact: what it says fits in the port's 1500 bytes, one more byte is answered with it.
#[test]
fn the_mtu_of_a_tunnel_is_that_of_its_suite() {
    for (suite, mode_mtus) in [
        (Suite::AES_128_GCM, [1442, 1422]),
        (Suite::AES_256_CBC_SHA2_256, [1434, 1414]),
        (Suite::LONGEST, [1418, 1398]),
        (Suite::TRIPLE_DES_MD5, [1442, 1422]),
    ] {
        for (tunnel_mode, mtu) in [false, true].into_iter().zip(mode_mtus) {
            let (mut alpha, mut beta) = pair(Shape { tunnel_mode, ..shape(suite) });
            let sized = |mtu: usize| {
                let payload = vec![7; mtu - 20];
                let set = |header: &mut packet::header::ipv4::Repr| header.fragment_word = DONT_FRAGMENT;
                frame_v4(RED, &change_v4([10, 1, 0, 2], [10, 2, 0, 2], 17, &payload, set))
            };
            let frame = alpha.wire(RED, &[sized(mtu)]).one(BLACK);
            assert!((1514 - 15..=1514).contains(&frame.len()), "{suite:?}: {}", frame.len());
            assert_eq!(beta.wire(BLACK, &[over_the_cable(frame)]).sent.len(), 1);
            let answer = alpha.wire(RED, &[sized(mtu + 1)]).one(RED);
            let told = (mtu as u16).to_be_bytes();
            assert_eq!((&answer[34..36], &answer[40..42]), (&[3, 4][..], &told[..]), "{suite:?}");
        }
    }
}
