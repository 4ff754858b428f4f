//! An SA carries what was agreed for it, though the policy that it serves is wider (RFC 4301 section 4.4.2.1).

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod support;

use std::sync::atomic::Ordering::Relaxed;

use esp::framing::{self, Aad, Framing, TRAILER_BYTES};
use esp::{Aead, Algorithm, Choice, CipherEngine, Engine, Keys, SaKey, SealOp};
use shm::Drop;
use shm::records::{SELECTORS_MOST, SaRecord, TrafficSelector, direction, mode, owner, route};
use support::*;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Slots of the policy and its SAs.
const POLICY: u32 = 1;
const OUT: u32 = 2;
const IN: u32 = 3;

type Side = [TrafficSelector; SELECTORS_MOST];

fn range(first: [u8; 4], last: [u8; 4]) -> TrafficSelector {
    TrafficSelector::range(4, v4(first), v4(last))
}

/// What alpha and beta agreed to: on each side a range that is no prefix, and a network by protocol and ports.
fn agreed() -> [Side; 2] {
    let side = |selectors: [TrafficSelector; 2]| {
        let mut side = selectors[0].alone();
        side[1] = selectors[1];
        side
    };
    let udp = |selector, ports| TrafficSelector { protocol: UDP, ports, ..selector };
    [
        side([range([10, 1, 0, 2], [10, 1, 0, 4]), udp(range([10, 1, 7, 0], [10, 1, 7, 255]), [53, 53])]),
        side([
            range([10, 2, 128, 1], [10, 2, 128, 6]),
            udp(range([10, 2, 130, 0], [10, 2, 130, 255]), [100, 200]),
        ]),
    ]
}

fn everything() -> [Side; 2] {
    [TrafficSelector::ANY_V4.alone(), TrafficSelector::ANY_V4.alone()]
}

/// Alpha and beta with a crypto map for all packets, each with its own notion of what was agreed, alpha's side first.
fn mapped(alphas: [Side; 2], [beta_remote, beta_local]: [Side; 2]) -> (Gateway, Gateway) {
    let (mut alpha, mut beta) = pair(Shape { tunnel_mode: true, crypto_map: true, ..Shape::default() });
    protect(&mut alpha, [ALPHA, BETA], [0x2002, 0x2001], alphas);
    protect(&mut beta, [BETA, ALPHA], [0x2001, 0x2002], [beta_local, beta_remote]);
    alpha.route(route::PORT, BLACK, [10, 2, 128, 0], 17, Some(BETA));
    (alpha, beta)
}

fn protect(gateway: &mut Gateway, ends: [[u8; 4]; 2], spis: [u32; 2], selectors: [Side; 2]) {
    for (slot, way, spi) in [(OUT, direction::OUTBOUND, spis[0]), (IN, direction::INBOUND, spis[1])] {
        gateway.sa(slot, |sa: &mut SaRecord| {
            (sa.direction, sa.mode, sa.spi, sa.key[0]) = (way, mode::TUNNEL, spi, spi as u8);
            (sa.owner_kind, sa.owner) = (owner::POLICY, POLICY);
            [sa.local, sa.remote] = ends.map(v4);
            [sa.local_selectors, sa.remote_selectors] = selectors;
        });
    }
    gateway.policy(POLICY, OUT);
    gateway.crypto_map(&[rule(10, 10, Some(POLICY), 0)]);
}

/// Packets from alpha's hosts to beta's, and whether they lie in what was agreed.
fn packets() -> Vec<(Vec<u8>, bool)> {
    let mut packets = vec![];
    let mut put = |from: [u8; 2], to: [u8; 2], protocol: u8, ports: [u16; 2], is_agreed: bool| {
        let payload =
            if protocol == ICMP { vec![8, 0, 0, 0] } else { udp_segment(ports[0], ports[1], &[7; 20]) };
        let packet = packet_v4([10, 1, from[0], from[1]], [10, 2, to[0], to[1]], protocol, &payload);
        packets.push((packet, is_agreed));
    };
    // The ends of the ranges, and one beyond.
    put([0, 2], [128, 1], UDP, [5000, 6000], true);
    put([0, 4], [128, 6], ICMP, [0, 0], true);
    put([0, 5], [128, 6], ICMP, [0, 0], false);
    put([0, 2], [128, 7], UDP, [5000, 6000], false);
    put([0, 2], [128, 0], TCP, [5000, 6000], false);
    // By protocol and ports, at both ends or at one.
    put([7, 9], [130, 9], UDP, [53, 150], true);
    put([7, 9], [130, 9], UDP, [53, 201], false);
    put([7, 9], [130, 9], UDP, [54, 150], false);
    put([7, 9], [130, 9], TCP, [53, 150], false);
    put([0, 3], [130, 0], UDP, [9, 100], true);
    put([7, 0], [128, 3], UDP, [53, 9], true);
    put([7, 0], [128, 3], ICMP, [53, 9], false);
    // A fragment but the first shows no ports: it lies where any are agreed.
    let mut later = |from: [u8; 2], is_agreed: bool| {
        let (from, to) = ([10, 1, from[0], from[1]], [10, 2, 128, 2]);
        packets.push((
            change_v4(from, to, UDP, &[0, 53, 0, 53, 1, 1, 1, 1], |ip| ip.fragment_word = 99),
            is_agreed,
        ));
    };
    later([0, 2], true);
    later([7, 0], false);
    packets
}

fn destination(packet: &[u8]) -> [u8; 4] {
    packet[16..20].try_into().unwrap()
}

#[test]
fn what_was_agreed_arrives_and_nothing_else_leaves() {
    let (mut alpha, mut beta) = mapped(agreed(), agreed());
    let (mut sent, mut dropped) = (0, 0);
    for (packet, is_agreed) in packets() {
        beta.neighbour(RED, destination(&packet), HOST_MAC);
        let seen = alpha.wire(RED, &[frame_v4(RED, &packet)]);
        if is_agreed {
            sent += 1;
            let frame = seen.one(BLACK);
            assert_eq!((frame[23], &frame[34..38]), (50, &0x2002_u32.to_be_bytes()[..]));
            assert_eq!(beta.wire(BLACK, &[over_the_cable(frame)]).one(RED)[34..], packet[20..]);
        } else {
            dropped += 1;
            assert!(seen.nothing(), "{packet:?}: {seen:?}");
        }
        let runtime = alpha.runtime(OUT);
        let counts = [&runtime.packets, &runtime.selector_mismatch].map(|cell| cell.load(Relaxed));
        assert_eq!(counts, [sent, dropped], "{packet:?}");
    }
    assert_eq!(alpha.all_drops(), [(Drop::SelectorMismatch.name(), dropped)]);
    assert!(beta.all_drops().is_empty());
}

#[test]
fn a_peer_that_sends_more_is_refused() {
    let (mut alpha, mut beta) = mapped(everything(), agreed());
    let mut refused = 0;
    for (packet, is_agreed) in packets() {
        beta.neighbour(RED, destination(&packet), HOST_MAC);
        let frame = alpha.wire(RED, &[frame_v4(RED, &packet)]).one(BLACK);
        let seen = beta.wire(BLACK, &[over_the_cable(frame)]);
        refused += u64::from(!is_agreed);
        assert_eq!(seen.sent.len(), usize::from(is_agreed), "{packet:?}: {seen:?}");
        assert_eq!(beta.drops(Drop::EspSelectorMismatch), refused);
        assert_eq!(beta.runtime(IN).selector_mismatch.load(Relaxed), refused);
    }
    assert_eq!(beta.all_drops(), [(Drop::EspSelectorMismatch.name(), refused)]);
}

/// The GRE of a tunnel that a crypto map protects is judged when its plan is made.
#[test]
fn gre_outside_of_what_was_agreed_does_not_leave() {
    let (mut alpha, _) = mapped(agreed(), agreed());
    assert!(alpha.wire(RED, &[frame_v4(RED, &passenger(1, 2, 64))]).nothing());
    assert_eq!(alpha.all_drops(), [(Drop::SelectorMismatch.name(), 1)]);
    assert_eq!(alpha.runtime(OUT).selector_mismatch.load(Relaxed), 1);
    assert_eq!(alpha.region.tunnel_counters(0).unwrap()[0].drops.load(Relaxed), 1);
    // It does as soon as the peer agrees to it.
    let [mut local, mut remote] = agreed();
    (local[2], remote[2]) = (range(ALPHA, ALPHA), range(BETA, BETA));
    let (mut alpha, mut beta) = mapped([local, remote], [local, remote]);
    let frame = alpha.wire(RED, &[frame_v4(RED, &passenger(1, 2, 64))]).one(BLACK);
    assert_eq!(beta.wire(BLACK, &[over_the_cable(frame)]).one(RED)[..6], HOST_MAC);
}

/// GRE has no ports (RFC 4301 section 4.4.1.1): an SA for some of them is none for a tunnel.
#[test]
fn an_sa_of_a_tunnel_must_carry_gre() {
    let engine = Engine::select(Choice::Portable).unwrap();
    let region = shm::Region::anonymous(shm::Capacities::small()).unwrap().leak();
    let gre = TrafficSelector { protocol: 47, ..TrafficSelector::ANY_V4 };
    for (selector, is_taken) in [
        (gre, true),
        (TrafficSelector::ANY_V4, true),
        (TrafficSelector { ports: [0, 0], ..gre }, false),
        (TrafficSelector { protocol: UDP, ..gre }, false),
        (TrafficSelector::ANY_V6, false),
    ] {
        let record = sa_record(|sa| sa.remote_selectors = selector.alone());
        let update = forward::Update::<packet::LinearClassifier>::sa(0, Some(&record), &engine, region);
        assert_eq!(update.err(), (!is_taken).then_some(forward::RecordError::Selector), "{selector:?}");
    }
}

/// Seals a packet for beta's inbound SA, as no gateway of ours does for IPv6.
fn sealed_by_hand(sequence: u64, inner: &[u8]) -> Vec<u8> {
    let framing = Framing::COMBINED;
    let engine = Engine::select(Choice::Portable).unwrap();
    let record = sa_record(|_| {});
    let mut cipher = record.key;
    cipher[0] = 2;
    let mut key = SaKey::default();
    let keys = Keys { cipher: &cipher[..16], integrity: &[] };
    engine.expand(Algorithm::Combined(Aead::Aes128Gcm), keys, &mut key).unwrap();
    let pad = framing.pad_len(inner.len());
    let mut text = [inner, &vec![0; pad + TRAILER_BYTES + framing.icv_bytes()]].concat();
    framing::write_trailer(&mut text[inner.len()..], pad, 41);
    let (nonce, aad) = (framing::nonce(record.salt, sequence), Aad::new(0x2002, sequence, false));
    let op = SealOp { key: &key, nonce: &nonce, aad: aad.as_bytes(), text_and_icv: &mut text };
    assert_eq!(engine.lanes().unwrap().seal([op].into_iter()), 1);
    let front =
        [&0x2002_u32.to_be_bytes()[..], &(sequence as u32).to_be_bytes(), &sequence.to_be_bytes()].concat();
    frame_v4(BLACK, &packet_v4(ALPHA, BETA, 50, &[front, text].concat()))
}

#[test]
fn of_ipv6_too_comes_in_what_was_agreed() {
    let host = |site, number| shm::records::Address { bytes: host_v6(site, number) };
    let side = |selector: TrafficSelector| {
        let mut side = TrafficSelector::ANY_V4.alone();
        side[1] = selector;
        side
    };
    let local = TrafficSelector {
        protocol: UDP,
        ports: [53, 53],
        ..TrafficSelector::range(6, host(2, 2), host(2, 4))
    };
    let remote = TrafficSelector { ports: [1000, 2000], ..TrafficSelector::host(6, host(1, 9)) };
    let (_, mut beta) = mapped(everything(), [side(remote), side(local)]);
    let packet = |from, to, next_header, ports: [u16; 2]| {
        packet_v6(host_v6(1, from), host_v6(2, to), next_header, &udp_segment(ports[0], ports[1], &[5; 8]))
    };
    for (sequence, (packet, is_agreed)) in [
        (packet(9, 2, UDP, [1000, 53]), true),
        (packet(9, 4, UDP, [2000, 53]), true),
        (packet(9, 5, UDP, [1500, 53]), false),
        (packet(8, 3, UDP, [1500, 53]), false),
        (packet(9, 3, UDP, [1500, 54]), false),
        (packet(9, 3, UDP, [53, 1500]), false),
        (packet(9, 3, TCP, [1500, 53]), false),
        // Too short to show ports, and of a protocol without.
        (packet_v6(host_v6(1, 9), host_v6(2, 3), UDP, &[5, 0xdc, 0]), false),
        (packet(9, 3, 58, [1500, 53]), false),
    ]
    .into_iter()
    .enumerate()
    {
        beta.neighbour_record(
            RED,
            6,
            shm::records::Address { bytes: packet[24..40].try_into().unwrap() },
            HOST_MAC,
        );
        let before = beta.drops(Drop::EspSelectorMismatch);
        let seen = beta.wire(BLACK, &[sealed_by_hand(sequence as u64 + 1, &packet)]);
        assert_eq!(seen.sent.len(), usize::from(is_agreed), "{packet:?}: {seen:?}");
        assert_eq!(beta.drops(Drop::EspSelectorMismatch) - before, u64::from(!is_agreed), "{packet:?}");
    }
}
