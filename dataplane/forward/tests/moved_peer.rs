//! A peer whose NAT shows it elsewhere than before.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod support;

use std::sync::atomic::Ordering::Relaxed;

use packet::{Twin, checksum};
use shm::records::{SaRecord, TrafficSelector, direction, owner};
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
fn relocate(beta: &mut Gateway, shape: Shape, address: [u8; 4], port: u16) {
    for (slot, way, spi) in [(0, direction::OUTBOUND, 1), (1, direction::INBOUND, 2)] {
        beta.sa(slot, |sa: &mut SaRecord| {
            (sa.direction, sa.spi, sa.key[0]) = (way, 0x1000 + u32::from(spi), spi);
            (sa.local, sa.remote, sa.peer, sa.remote_port) = (v4(BETA), v4(address), v4(ALPHA), port);
            (sa.esn, sa.udp_encapsulation) = (1, 1);
            if shape.crypto_map {
                (sa.owner_kind, sa.owner) = (owner::POLICY, 0);
            }
            let gre = |address| TrafficSelector { protocol: 47, ..TrafficSelector::host(4, v4(address)) };
            (sa.local_selectors, sa.remote_selectors) = (gre(BETA).alone(), gre(ALPHA).alone());
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
    for shape in [NATTED, Shape { crypto_map: true, ..NATTED }] {
        a_moved_pair_goes_on(shape);
    }
}

fn a_moved_pair_goes_on(shape: Shape) {
    let (mut alpha, mut beta) = pair(shape);
    beta.neighbour(BLACK, PUBLIC, PEER_MAC);
    let back = |beta: &mut Gateway| beta.wire(RED, &[frame_v4(RED, &passenger(2, 1, 64))]).one(BLACK);
    let first = sealed(&mut alpha);
    assert_eq!(beta.wire(BLACK, std::slice::from_ref(&first)).sent.len(), 1);
    let before = back(&mut beta);
    assert_eq!((&before[30..34], &before[36..38]), (&ALPHA[..], &4500u16.to_be_bytes()[..]));
    // The generation stays that which the pair was installed with.
    let generations = [0, 1].map(|slot| beta.runtime(slot).generation.load(Relaxed));
    assert_eq!(generations, [1, 1]);
    relocate(&mut beta, shape, PUBLIC, PORT);
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

/// The IP packet of a frame with another protocol and payload.
fn rewritten(frame: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&frame[..34], payload].concat();
    let length = u16::try_from(20 + payload.len()).unwrap();
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    frame[23] = protocol;
    frame[24..26].fill(0);
    let sum = !checksum::fold(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// RFC 7296 section 2.23: in UDP or not, whatever NAT detection found.
#[test]
fn either_form_of_esp_is_taken_of_either_pair() {
    let (mut alpha, mut beta) = pair(NATTED);
    let frame = sealed(&mut alpha);
    assert_eq!(beta.wire(BLACK, &[rewritten(&frame, 50, &frame[42..])]).sent.len(), 1);
    let (mut alpha, mut beta) = pair(Shape { udp: false, ..NATTED });
    let frame = sealed(&mut alpha);
    let in_udp = udp_segment(4500, 4500, &frame[34..]);
    assert_eq!(beta.wire(BLACK, &[rewritten(&frame, 17, &in_udp)]).sent.len(), 1);
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

/// A crypto map for all between the two hosts, and a peer whose NAT shows it at another address: its packets come out as it
/// sent them, with checksums that hold at the address that it is configured by, and ours go where it is.
#[test]
fn other_packets_of_transport_mode_bear_the_configured_address() {
    let shape = Shape { crypto_map: true, ..NATTED };
    let (mut alpha, mut beta) = pair(shape);
    for (gateway, ours, theirs) in [(&mut alpha, ALPHA, BETA), (&mut beta, BETA, ALPHA)] {
        gateway.crypto_map(&[rule(10, 10, Some(0), 0)]);
        for slot in [0, 1] {
            let way = if slot == 0 { direction::OUTBOUND } else { direction::INBOUND };
            let spi = if (slot == 0) == (ours == ALPHA) { 2 } else { 1 };
            gateway.sa(slot, |sa: &mut SaRecord| {
                (sa.direction, sa.spi, sa.key[0]) = (way, 0x1000 + spi, spi as u8);
                (sa.local, sa.remote, sa.esn, sa.udp_encapsulation) = (v4(ours), v4(theirs), 1, 1);
                (sa.owner_kind, sa.owner, sa.generation) = (owner::POLICY, 0, 2);
                carry_all(sa);
            });
        }
    }
    beta.neighbour(BLACK, PUBLIC, PEER_MAC);
    for protocol in [17_u8, 6] {
        let mut segment = if protocol == 17 { udp_segment(5000, 6000, &[9; 33]) } else { vec![5; 41] };
        let at = if protocol == 17 { 6 } else { 16 };
        // As the peer reckons it, at an address that nobody else knows.
        let inner = [10, 9, 9, 9];
        put_checksum(&mut segment, at, protocol, inner, BETA);
        let sent = host_frame(&mut alpha, &packet_v4(ALPHA, BETA, protocol, &segment));
        let seen = beta.wire(BLACK, &[natted(over_the_cable(sent), PUBLIC, PORT)]);
        let frame = seen.one_punt(Twin::tap(BLACK));
        let header: &[u8; 20] = frame[14..34].first_chunk().unwrap();
        assert!(checksum::verify_ipv4(header));
        assert_eq!((&frame[26..30], &frame[30..34]), (&ALPHA[..], &BETA[..]));
        put_checksum(&mut segment, at, protocol, ALPHA, BETA);
        assert_eq!(frame[34..], segment, "protocol {protocol}");
    }
    for slot in [0, 1] {
        let (way, spi) = if slot == 0 { (direction::OUTBOUND, 1) } else { (direction::INBOUND, 2) };
        beta.sa(slot, |sa: &mut SaRecord| {
            (sa.direction, sa.spi, sa.key[0]) = (way, 0x1000 + spi, spi as u8);
            (sa.local, sa.remote, sa.peer, sa.remote_port) = (v4(BETA), v4(PUBLIC), v4(ALPHA), PORT);
            (sa.esn, sa.udp_encapsulation) = (1, 1);
            (sa.owner_kind, sa.owner, sa.generation) = (owner::POLICY, 0, 2);
            carry_all(sa);
        });
    }
    let answer = host_frame(&mut beta, &packet_v4(BETA, ALPHA, 17, &udp_segment(6000, 5000, &[1; 8])));
    assert_eq!((&answer[30..34], &answer[36..38]), (&PUBLIC[..], &PORT.to_be_bytes()[..]));
    assert!(checksum::verify_ipv4(answer[14..34].first_chunk().unwrap()));
}

/// What leaves by the black port of what the host itself sends there.
fn host_frame(gateway: &mut Gateway, packet: &[u8]) -> Vec<u8> {
    gateway.host(Twin::tap(BLACK), &[ethernet(PEER_MAC, 0x0800, packet)]).one(BLACK)
}

fn put_checksum(segment: &mut [u8], at: usize, protocol: u8, source: [u8; 4], destination: [u8; 4]) {
    segment[at..at + 2].fill(0);
    let pseudo = [&source[..], &destination, &[0, protocol], &(segment.len() as u16).to_be_bytes()].concat();
    let sum = !checksum::fold(checksum::sum(&pseudo) + checksum::sum(segment));
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
