//! A peer whose NAT shows it elsewhere than before.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod support;

use std::sync::atomic::Ordering::Relaxed;

use packet::checksum;
use shm::records::{SaRecord, direction};
use shm::{Drop, EventKind};
use support::*;

const PUBLIC: [u8; 4] = [192, 0, 2, 77];
const PORT: u16 = 31_007;
const NATTED: Shape = Shape {
    udp: true,
    tunnel_mode: false,
    esn: true,
    suite: Suite::AES_128_GCM,
    key: None,
    crypto_map: false,
};
const MOVED: (EventKind, u32) = (EventKind::PeerMoved, 1);

/// The frame as a NAT sends it on from this place.
fn natted(mut frame: Vec<u8>, address: [u8; 4], port: u16) -> Vec<u8> {
    assert_eq!(frame[23], 17, "ESP in UDP");
    frame[26..30].copy_from_slice(&address);
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame[24..26].fill(0);
    let sum = !checksum::fold(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// What alpha sends of a passenger, as it reaches beta by the cable.
fn sealed(alpha: &mut Gateway) -> Vec<u8> {
    over_the_cable(alpha.wire(RED, &[frame_v4(RED, &passenger(1, 2, 64))]).one(BLACK))
}

fn moves(seen: &Seen) -> usize {
    seen.events.iter().filter(|event| **event == MOVED).count()
}

/// Beta's SAs with their peer at this place.
fn relocate(beta: &mut Gateway, address: [u8; 4], port: u16) {
    for (slot, way, spi) in [(0, direction::OUTBOUND, 1), (1, direction::INBOUND, 2)] {
        beta.sa(slot, |sa: &mut SaRecord| {
            (sa.direction, sa.spi, sa.key[0]) = (way, 0x1000 + u32::from(spi), spi);
            (sa.local, sa.remote, sa.remote_port) = (v4(BETA), v4(address), port);
            (sa.esn, sa.udp_encapsulation) = (1, 1);
            sa.selector.family = 4;
            (sa.selector.source, sa.selector.source_prefix_len) = (v4(BETA), 32);
            (sa.selector.destination, sa.selector.destination_prefix_len) = (v4(ALPHA), 32);
        });
    }
}

#[test]
fn an_authentic_packet_from_elsewhere_is_taken_and_told_once_a_second() {
    let (mut alpha, mut beta) = pair(NATTED);
    let mut take = |now: u64, address: [u8; 4], port: u16| {
        beta.worker.tick(now);
        let frame = natted(sealed(&mut alpha), address, port);
        let seen = beta.wire(BLACK, &[frame]);
        assert_eq!(seen.sent.len(), 1, "{:?}", seen.drops);
        moves(&seen)
    };
    assert_eq!(take(5_000_000, ALPHA, 4500), 0);
    assert_eq!(take(5_000_001, ALPHA, PORT), 1, "another port");
    assert_eq!(take(5_001_000, PUBLIC, PORT), 0, "told already");
    assert_eq!(take(5_001_001, PUBLIC, PORT), 1, "another address");
    assert_eq!(take(5_009_000, ALPHA, 4500), 0);
}

#[test]
fn forged_replayed_and_overtaken_packets_move_nothing() {
    let (mut alpha, mut beta) = pair(NATTED);
    beta.worker.tick(5_000_000);
    let [old, new] = [sealed(&mut alpha), sealed(&mut alpha)];
    assert_eq!(moves(&beta.wire(BLACK, std::slice::from_ref(&new))), 0);
    let overtaken = beta.wire(BLACK, &[natted(old, PUBLIC, PORT)]);
    assert_eq!((overtaken.sent.len(), moves(&overtaken)), (1, 0));
    let replayed = beta.wire(BLACK, &[natted(new, PUBLIC, PORT)]);
    assert_eq!((replayed.sent.len(), moves(&replayed)), (0, 0));
    let mut forged = natted(sealed(&mut alpha), PUBLIC, PORT);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(moves(&beta.wire(BLACK, &[forged])), 0);
    assert_eq!((beta.drops(Drop::EspReplayed), beta.drops(Drop::EspAuthFailed)), (1, 1));
}

#[test]
fn a_moved_pair_goes_on_where_the_peer_is_with_the_numbers_it_had() {
    let (mut alpha, mut beta) = pair(NATTED);
    beta.neighbour(BLACK, PUBLIC, PEER_MAC);
    let back = |beta: &mut Gateway| beta.wire(RED, &[frame_v4(RED, &passenger(2, 1, 64))]).one(BLACK);
    let first = sealed(&mut alpha);
    assert_eq!(beta.wire(BLACK, std::slice::from_ref(&first)).sent.len(), 1);
    let before = back(&mut beta);
    assert_eq!((&before[30..34], &before[36..38]), (&ALPHA[..], &4500u16.to_be_bytes()[..]));
    // The generation stays that which the pair was installed with.
    let generations = [0, 1].map(|slot| beta.runtime(slot).generation.load(Relaxed));
    assert_eq!(generations, [1, 1]);
    relocate(&mut beta, PUBLIC, PORT);
    let after = back(&mut beta);
    assert_eq!((&after[30..34], &after[36..38]), (&PUBLIC[..], &PORT.to_be_bytes()[..]));
    assert_eq!(after[40..42], [0; 2], "no UDP checksum");
    let sequence = |frame: &[u8]| u64::from_be_bytes(frame[50..58].try_into().unwrap());
    assert_eq!(sequence(&after), sequence(&before) + 1, "no number is left out or used again");
    // What was received stays received.
    assert!(beta.wire(BLACK, &[natted(first, PUBLIC, PORT)]).nothing());
    let frame = natted(sealed(&mut alpha), PUBLIC, PORT);
    let seen = beta.wire(BLACK, &[frame]);
    assert_eq!((seen.sent.len(), moves(&seen)), (1, 0));
}

#[test]
fn without_encapsulation_another_source_is_refused() {
    let (mut alpha, mut beta) = pair(Shape::default());
    let mut frame = sealed(&mut alpha);
    frame[26..30].copy_from_slice(&PUBLIC);
    frame[24..26].fill(0);
    let sum = !checksum::fold(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let seen = beta.wire(BLACK, &[frame]);
    assert!(seen.nothing());
    assert_eq!((moves(&seen), beta.drops(Drop::EspSelectorMismatch)), (0, 1));
}
