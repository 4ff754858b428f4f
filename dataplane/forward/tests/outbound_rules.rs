//! What goes into a tunnel or out by a port: protected, answered, or dropped for a reason that is counted.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod support;

use std::sync::atomic::Ordering::Relaxed;

use packet::header::ipv4::{DONT_FRAGMENT, Ipv4, MORE_FRAGMENTS};
use packet::{Frame, TestFrame, Twin};
use proptest::prelude::*;
use shm::records::{NONE, mode, owner, protection, route};
use shm::{Counter, Drop, EventKind};
use support::*;

/// Sends one frame in by the red port and expects nothing but this drop.
fn refused(gateway: &mut Gateway, packet: &[u8], reason: Drop) {
    let before = gateway.drops(reason);
    let seen = gateway.wire(RED, &[frame_v4(RED, packet)]);
    assert!(seen.nothing(), "{seen:?}");
    assert_eq!(gateway.drops(reason), before + 1, "{reason:?}: {:?}", gateway.all_drops());
}

#[test]
fn without_an_sa_a_protected_tunnel_drops_and_asks_once_a_second() {
    let (mut alpha, _) = pair(Shape::default());
    alpha.tunnel(0, |tunnel| (tunnel.local, tunnel.remote) = (v4(ALPHA), v4(BETA)));
    let frame = frame_v4(RED, &passenger(1, 2, 64));
    let seen = alpha.wire(RED, &[frame.clone(), frame.clone()]);
    assert!(seen.nothing());
    assert_eq!(seen.events, [(EventKind::AcquireTunnel, 0)]);
    alpha.worker.tick(1_000_999);
    assert_eq!(alpha.wire(RED, std::slice::from_ref(&frame)).events, []);
    alpha.worker.tick(1_001_000);
    assert_eq!(alpha.wire(RED, &[frame]).events.len(), 1);
    assert_eq!(alpha.drops(Drop::NoSa), 4);
    assert_eq!(alpha.region.tunnel_counters(0).unwrap()[0].drops.load(Relaxed), 4);
}

#[test]
fn an_sa_of_other_ends_or_of_the_wrong_direction_protects_nothing() {
    let (mut alpha, _) = pair(Shape::default());
    let packet = passenger(1, 2, 64);
    alpha.tunnel(0, |t| (t.local, t.remote, t.outbound_sa) = (v4(ALPHA), v4(BETA), 1));
    refused(&mut alpha, &packet, Drop::NoSa);
    alpha.tunnel(0, |t| (t.local, t.remote, t.outbound_sa) = (v4(ALPHA), v4([192, 0, 2, 9]), 0));
    refused(&mut alpha, &packet, Drop::NoSa);
    // Its slot has got the SA of another tunnel.
    alpha.tunnel(3, |t| (t.local, t.remote, t.outbound_sa, t.has_key) = (v4(ALPHA), v4(BETA), 0, 1));
    alpha.route(route::TUNNEL, 3, [10, 2, 0, 0], 16, None);
    refused(&mut alpha, &packet, Drop::NoSa);
    alpha.route(route::TUNNEL, 0, [10, 2, 0, 0], 16, None);
    alpha.tunnel(0, |t| (t.local, t.remote, t.outbound_sa, t.enabled) = (v4(ALPHA), v4(BETA), 0, 0));
    refused(&mut alpha, &packet, Drop::TunnelDown);
    alpha.apply(forward::Update::Tunnel(0, None));
    refused(&mut alpha, &packet, Drop::TunnelDown);
}

#[test]
fn a_tunnel_is_planned_anew_when_what_it_stands_on_changes() {
    let (mut alpha, _) = pair(Shape::default());
    let packet = passenger(1, 2, 64);
    let frame = frame_v4(RED, &packet);
    assert_eq!(alpha.wire(RED, std::slice::from_ref(&frame)).one(BLACK)[..6], PEER_MAC);
    alpha.neighbour(BLACK, BETA, [2, 1, 1, 1, 1, 1]);
    assert_eq!(alpha.wire(RED, std::slice::from_ref(&frame)).one(BLACK)[..6], [2, 1, 1, 1, 1, 1]);
    alpha.port(BLACK, |port| port.enabled = 0);
    refused(&mut alpha, &packet, Drop::PortDown);
    alpha.port(BLACK, |_| {});
    let looped = alpha.route(route::TUNNEL, 0, BETA, 32, None);
    refused(&mut alpha, &packet, Drop::Recursion);
    alpha.clear_route(looped);
    let hole = alpha.route(route::BLACKHOLE, 0, BETA, 32, None);
    refused(&mut alpha, &packet, Drop::Blackhole);
    alpha.clear_route(hole);
    let lost = alpha.route(route::PORT, BLACK, BETA, 32, Some([192, 0, 2, 250]));
    refused(&mut alpha, &packet, Drop::NoNeighbour);
    alpha.clear_route(lost);
    assert_eq!(alpha.wire(RED, &[frame]).sent.len(), 1);
    alpha.apply(forward::Update::Sa(0, None));
    refused(&mut alpha, &packet, Drop::NoSa);
}

#[test]
fn a_crypto_map_tunnel_needs_a_match_a_policy_and_an_sa() {
    let (mut alpha, _) = pair(Shape { crypto_map: true, ..Shape::default() });
    let packet = passenger(1, 2, 64);
    let frame = frame_v4(RED, &packet);
    assert_eq!(alpha.wire(RED, std::slice::from_ref(&frame)).one(BLACK)[23], 50);
    alpha.crypto_map(&[rule(10, 10, None, 47)]);
    refused(&mut alpha, &packet, Drop::Unprotected);
    alpha.crypto_map(&[rule(10, 10, None, 47), rule(20, 10, Some(0), 47)]);
    assert_eq!(alpha.wire(RED, std::slice::from_ref(&frame)).one(BLACK)[23], 50);
    alpha.policy(0, NONE);
    let seen = alpha.wire(RED, &[frame]);
    assert!(seen.nothing());
    assert_eq!(seen.events, [(EventKind::AcquirePolicy, 0)]);
    alpha.apply(forward::Update::CryptoMap(BLACK, None));
    refused(&mut alpha, &packet, Drop::Unprotected);
    alpha.port(BLACK, |port| port.crypto_map = 0);
    refused(&mut alpha, &packet, Drop::Unprotected);
}

#[test]
fn a_tunnel_without_protection_sends_gre_in_clear_by_the_operators_word() {
    let (mut alpha, _) = pair(Shape { crypto_map: true, ..Shape::default() });
    alpha.port(BLACK, |_| {});
    alpha.tunnel(0, |t| {
        (t.local, t.remote, t.protection, t.has_key, t.key) = (v4(ALPHA), v4(BETA), protection::NONE, 1, 7);
    });
    let packet = passenger(1, 2, 64);
    let frame = alpha.wire(RED, &[frame_v4(RED, &packet)]).one(BLACK);
    let outer = Ipv4::checked(&frame[14..]).unwrap();
    assert_eq!((outer.protocol(), outer.total_len_bytes()), (47, frame.len() - 14));
    assert_eq!(frame[34..42], [0x20, 0, 8, 0, 0, 0, 0, 7]);
    assert_eq!(frame[58..], packet[16..]);
    // A crypto map that matches it protects it all the same.
    alpha.crypto_map(&[rule(10, 10, Some(0), 47)]);
    assert_eq!(alpha.wire(RED, &[frame_v4(RED, &packet)]).one(BLACK)[23], 50);
}

#[test]
fn the_time_to_live_runs_out_with_an_answer() {
    let (mut alpha, _) = pair(Shape::default());
    let packet = change_v4([10, 1, 0, 2], [10, 2, 0, 2], 17, &[0; 8], |header| header.ttl = 1);
    let answer = alpha.wire(RED, &[frame_v4(RED, &packet)]).one(RED);
    assert_eq!(answer[26..34], [10, 1, 0, 1, 10, 1, 0, 2]);
    assert_eq!((answer[34], answer[35]), (11, 0));
    let mut packet = packet_v6(host_v6(1, 2), host_v6(2, 2), 17, &[0; 8]);
    packet[7] = 1;
    let answer = alpha.wire(RED, &[ethernet(port_mac(RED), 0x86dd, &packet)]).one(RED);
    assert_eq!((answer[20], answer[54], &answer[22..38]), (58, 3, &host_v6(1, 1)[..]));
    assert_eq!((alpha.drops(Drop::TtlExpired), alpha.counter(Counter::IcmpSent)), (2, 2));
    // The budget of errors ends, and comes back with time.
    let burst: Vec<_> = (0..32).map(|_| ethernet(port_mac(RED), 0x86dd, &packet)).collect();
    let answers: usize = (0..5).map(|_| alpha.wire(RED, &burst).sent.len()).sum();
    assert_eq!(answers, 98);
    alpha.worker.tick(1_000_010);
    assert_eq!(alpha.wire(RED, &burst).sent.len(), 10);
}

#[test]
fn a_passenger_over_the_mtu_is_answered_or_fragmented() {
    let (mut alpha, mut beta) = pair(Shape::default());
    let fits = change_v4([10, 1, 0, 2], [10, 2, 0, 2], 17, &[7; 1422], |h| h.fragment_word = DONT_FRAGMENT);
    assert_eq!(alpha.wire(RED, &[frame_v4(RED, &fits)]).one(BLACK).len(), 1514);
    let over = change_v4([10, 1, 0, 2], [10, 2, 0, 2], 17, &[7; 1423], |h| h.fragment_word = DONT_FRAGMENT);
    let answer = alpha.wire(RED, &[frame_v4(RED, &over)]).one(RED);
    assert_eq!((&answer[34..36], &answer[40..42]), (&[3, 4][..], &1442u16.to_be_bytes()[..]));
    let over = packet_v6(host_v6(1, 2), host_v6(2, 2), 17, &[7; 1403]);
    let answer = alpha.wire(RED, &[ethernet(port_mac(RED), 0x86dd, &over)]).one(RED);
    assert_eq!((answer[54], &answer[58..62]), (2, &1442u32.to_be_bytes()[..]));
    assert_eq!(alpha.drops(Drop::TooBig), 2);
    let over = packet_v4([10, 1, 0, 2], [10, 2, 0, 2], 17, &[7; 1423]);
    let pieces = alpha.wire(RED, &[frame_v4(RED, &over)]).sent;
    assert_eq!(pieces.len(), 2);
    let cable: Vec<_> = pieces.into_iter().map(|(_, frame)| over_the_cable(frame)).collect();
    let arrived = beta.wire(BLACK, &cable).sent;
    assert_eq!(arrived.iter().map(|(_, frame)| frame.len() - 34).sum::<usize>(), 1423);
    assert_eq!((alpha.counter(Counter::Fragmented), beta.all_drops()), (1, vec![]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn no_encapsulated_packet_exceeds_the_port_and_fragments_reassemble(
        bits: [bool; 4],
        suite: u8,
        key in proptest::option::of(any::<u32>()),
        port_mtu in 576u32..3000,
        tunnel_mtu in 300u32..3000,
        len in 0usize..1900,
    ) {
        let [tunnel_mode, udp, esn, crypto_map] = bits;
        let shape = Shape { tunnel_mode, udp, esn, suite: Suite::any(suite), key, crypto_map };
        let (mut alpha, mut beta) = pair(shape);
        alpha.port(BLACK, |port| (port.mtu_bytes, port.crypto_map) = (port_mtu, u8::from(crypto_map)));
        let change = |t: &mut shm::records::TunnelRecord| {
            (t.local, t.remote, t.mtu_bytes) = (v4(ALPHA), v4(BETA), tunnel_mtu);
            (t.has_key, t.key) = (u8::from(key.is_some()), key.unwrap_or(0));
            if crypto_map { t.protection = protection::CRYPTO_MAP } else { t.outbound_sa = 0 }
        };
        alpha.tunnel(0, change);
        beta.port(RED, |port| port.mtu_bytes = 9000);
        let payload: Vec<u8> = (0..len).map(|n| (n * 7) as u8).collect();
        let packet = packet_v4([10, 1, 0, 2], [10, 2, 0, 2], 17, &payload);
        let pieces = alpha.wire(RED, &[frame_v4(RED, &packet)]).sent;
        prop_assert!(!pieces.is_empty());
        let mut cable = vec![];
        for (_, frame) in pieces {
            prop_assert!(frame.len() - 14 <= port_mtu as usize);
            Ipv4::checked(&frame[14..]).unwrap();
            cable.push(over_the_cable(frame));
        }
        let mut rebuilt: Vec<u8> = vec![];
        for (_, frame) in beta.wire(BLACK, &cable).sent {
            prop_assert!(frame.len() - 14 <= tunnel_mtu as usize);
            rebuilt.extend(&frame[34..]);
        }
        prop_assert_eq!(rebuilt, payload);
    }
}

#[test]
fn df_of_the_carrier_is_set_cleared_or_copied() {
    let (mut alpha, _) = pair(Shape::default());
    let set = change_v4([10, 1, 0, 2], [10, 2, 0, 2], 17, &[0; 8], |h| h.fragment_word = DONT_FRAGMENT);
    let clear = packet_v4([10, 1, 0, 2], [10, 2, 0, 2], 17, &[0; 8]);
    for (policy, packet, expected) in [(0, &set, 0), (1, &clear, 0x40), (2, &set, 0x40), (2, &clear, 0)] {
        alpha.tunnel(0, |t| {
            (t.local, t.remote, t.outbound_sa, t.df, t.ttl) = (v4(ALPHA), v4(BETA), 0, policy, 33)
        });
        let frame = alpha.wire(RED, &[frame_v4(RED, packet)]).one(BLACK);
        assert_eq!((frame[20], frame[22]), (expected, 33));
        assert_eq!(frame[18..20] == [0, 0], expected == 0x40, "only what may be fragmented is identified");
    }
}

#[test]
fn the_mss_of_a_syn_is_lowered_both_ways() {
    let (mut alpha, mut beta) = pair(Shape::default());
    let mss = |t: &mut shm::records::TunnelRecord| (t.outbound_sa, t.tcp_mss_bytes) = (0, 1402);
    let mut syn =
        [0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 0x05, 0xb4];
    let sum = packet::checksum::checksum(&syn);
    syn[16..18].copy_from_slice(&sum.to_be_bytes());
    let packet = packet_v4([10, 1, 0, 2], [10, 2, 0, 2], 6, &syn);
    for at_alpha in [true, false] {
        alpha.tunnel(0, |t| {
            (t.local, t.remote, t.outbound_sa) = (v4(ALPHA), v4(BETA), 0);
            if at_alpha {
                mss(t)
            }
        });
        beta.tunnel(0, |t| {
            (t.local, t.remote, t.outbound_sa) = (v4(BETA), v4(ALPHA), 0);
            if !at_alpha {
                mss(t)
            }
        });
        let frame = alpha.wire(RED, &[frame_v4(RED, &packet)]).one(BLACK);
        let arrived = beta.wire(BLACK, &[over_the_cable(frame)]).one(RED);
        assert_eq!(arrived[56..58], 1402u16.to_be_bytes());
        assert_eq!(packet::checksum::checksum(&arrived[34..]), 0);
    }
    let packet = packet_v6(host_v6(1, 2), host_v6(2, 2), 6, &syn);
    let frame = alpha.wire(RED, &[ethernet(port_mac(RED), 0x86dd, &packet)]).one(BLACK);
    let arrived = beta.wire(BLACK, &[over_the_cable(frame)]).one(RED);
    assert_eq!(arrived[76..78], 1382u16.to_be_bytes());
}

#[test]
fn in_transit_a_port_answers_or_fragments_too() {
    let (mut alpha, _) = pair(Shape::default());
    alpha.port(BLACK, |port| port.mtu_bytes = 1000);
    let to_beta = |len: usize, word: u16| {
        frame_v4(
            RED,
            &change_v4([10, 1, 0, 2], BETA, 17, &vec![1; len], |header| header.fragment_word = word),
        )
    };
    assert_eq!(alpha.wire(RED, &[to_beta(980, DONT_FRAGMENT)]).one(BLACK)[14 + 8], 63);
    let answer = alpha.wire(RED, &[to_beta(981, DONT_FRAGMENT)]).one(RED);
    assert_eq!((answer[34], &answer[40..42]), (3, &1000u16.to_be_bytes()[..]));
    assert_eq!(alpha.wire(RED, &[to_beta(1400, 0)]).sent.len(), 2);
    // GRE between the ends of a protected tunnel does not pass in clear, whoever made it.
    let gre = frame_v4(RED, &packet_v4(ALPHA, BETA, 47, &gre_packet(Some(99), 0x800, &[0; 20])));
    assert!(alpha.wire(RED, &[gre]).nothing());
    assert_eq!(alpha.drops(Drop::GreInClear), 1);
}

#[test]
fn the_crypto_map_protects_other_traffic_in_both_modes() {
    // With each, the largest packet that fits.
    for (suite, tunnel_mode, most) in [
        (Suite::AES_128_GCM, false, 1466),
        (Suite::AES_128_GCM, true, 1446),
        (Suite::AES_256_CBC_SHA2_256, false, 1458),
        (Suite::AES_256_CBC_SHA2_256, true, 1438),
        (Suite::TRIPLE_DES_MD5, false, 1466),
        (Suite::TRIPLE_DES_MD5, true, 1446),
    ] {
        let (mut alpha, mut beta) = pair(Shape { tunnel_mode, crypto_map: true, ..Shape::default() });
        for (gateway, local, remote) in [(&mut alpha, ALPHA, BETA), (&mut beta, BETA, ALPHA)] {
            let spis = if local == ALPHA { [2, 1] } else { [1, 2] };
            for (slot, spi) in [(2u32, spis[0]), (3, spis[1])] {
                gateway.sa(slot, |sa| {
                    (sa.direction, sa.spi, sa.key[0]) = ((3 - slot) as u8, 0x2000 + spi, spi as u8);
                    (sa.owner_kind, sa.owner) = (owner::POLICY, 1);
                    carry_all(sa);
                    (sa.local, sa.remote) = (v4(local), v4(remote));
                    sa.mode = if tunnel_mode { mode::TUNNEL } else { mode::TRANSPORT };
                    suite.put(sa);
                });
            }
            gateway.policy(1, 2);
            gateway.crypto_map(&[rule(10, 10, Some(1), 17)]);
        }
        // Transport mode is for the gateways' own packets, tunnel mode for anyone's.
        let (source, destination) = if tunnel_mode { ([10, 1, 0, 2], [192, 0, 2, 2]) } else { (ALPHA, BETA) };
        let payload = udp_segment(7000, 8000, b"attack at dawn");
        let packet = packet_v4(source, destination, 17, &payload);
        let frame = if tunnel_mode {
            alpha.wire(RED, &[frame_v4(RED, &packet)]).one(BLACK)
        } else {
            let frame = ethernet(PEER_MAC, 0x800, &packet);
            alpha.host(Twin::tap(BLACK), &[frame]).one(BLACK)
        };
        assert_eq!(frame[23], 50);
        assert!(!frame.windows(14).any(|bytes| bytes == b"attack at dawn"));
        let arrived = beta.wire(BLACK, &[over_the_cable(frame)]).one_punt(Twin::tap(BLACK));
        assert_eq!(arrived[34..], packet[20..]);
        assert_eq!(arrived[26..34], packet[12..20]);
        Ipv4::checked(&arrived[14..]).unwrap();
        // Other protocols are not matched, fragments fit the policy by address and protocol.
        let icmp = packet_v4([10, 1, 0, 2], BETA, 1, &[8, 0, 0, 0]);
        assert_eq!(alpha.wire(RED, &[frame_v4(RED, &icmp)]).one(BLACK)[23], 1);
        let word = MORE_FRAGMENTS | 3;
        let fragment = change_v4(source, destination, 17, &[1; 64], |header| header.fragment_word = word);
        let frame = ethernet(PEER_MAC, 0x800, &fragment);
        let seen = alpha.host(Twin::tap(BLACK), &[frame]);
        if tunnel_mode {
            assert_eq!(seen.one(BLACK)[23], 50);
        } else {
            assert!(seen.nothing());
            assert_eq!(alpha.drops(Drop::Fragment), 1);
        }
        // A packet of others does not fit a transport-mode SA: it is not sent at all.
        if !tunnel_mode {
            let packet = packet_v4([10, 1, 0, 2], BETA, 17, &payload);
            refused(&mut alpha, &packet, Drop::NoSa);
        }
        // Too long for the port: told to who asked for it, else fragmented before (tunnel) or after (transport).
        let long = vec![9; 1471];
        let packet = change_v4(source, destination, 17, &long, |header| header.fragment_word = DONT_FRAGMENT);
        let answer =
            alpha.host(Twin::tap(BLACK), &[ethernet(PEER_MAC, 0x800, &packet)]).one_punt(Twin::tap(BLACK));
        assert_eq!((answer[34], &answer[40..42]), (3, &u16::to_be_bytes(most)[..]));
        let packet = packet_v4(source, destination, 17, &long);
        let sent = alpha.host(Twin::tap(BLACK), &[ethernet(PEER_MAC, 0x800, &packet)]).sent;
        assert!(sent.len() == 2 && sent.iter().all(|(_, frame)| frame.len() <= 1514 && frame[23] == 50));
    }
}

#[test]
fn a_fragment_that_hides_ports_a_rule_asks_for_does_not_leave() {
    let (mut alpha, _) = pair(Shape { crypto_map: true, ..Shape::default() });
    let mut dns = rule(10, 10, Some(0), 17);
    dns.selector.destination_ports = [53, 53];
    alpha.crypto_map(&[dns]);
    let fragment = change_v4([10, 1, 0, 2], BETA, 17, &[1; 64], |header| header.fragment_word = 3);
    refused(&mut alpha, &fragment, Drop::Fragment);
    let other = change_v4([10, 1, 0, 2], BETA, 89, &[1; 64], |header| header.fragment_word = 3);
    assert_eq!(alpha.wire(RED, &[frame_v4(RED, &other)]).sent.len(), 1);
}

#[test]
fn host_packets_leave_by_their_port_and_ike_needs_no_sa() {
    let (mut alpha, _) = pair(Shape { crypto_map: true, ..Shape::default() });
    alpha.policy(0, NONE);
    alpha.crypto_map(&[rule(10, 10, Some(0), 0)]);
    let mut send = |packet: &[u8]| alpha.host(Twin::tap(BLACK), &[ethernet(PEER_MAC, 0x800, packet)]);
    for port in [500, 4500] {
        assert_eq!(send(&packet_v4(ALPHA, BETA, 17, &udp_segment(port, 4500, &[0; 9]))).sent.len(), 1);
    }
    // Not IKE of ours: another's address, another port, a fragment.
    assert!(send(&packet_v4([10, 1, 0, 2], BETA, 17, &udp_segment(500, 500, &[0; 9]))).nothing());
    assert!(send(&packet_v4(ALPHA, BETA, 17, &udp_segment(501, 500, &[0; 9]))).nothing());
    assert!(send(&packet_v4(ALPHA, BETA, 47, &gre_packet(None, 0x800, &[0; 20]))).nothing());
    assert!(send(&packet_v4(ALPHA, BETA, 17, &udp_segment(500, 500, &[0; 9]))[..30]).nothing());
    let drops = [(Drop::NoSa, 2), (Drop::GreInClear, 1), (Drop::Truncated, 1)];
    for (reason, count) in drops {
        assert_eq!(alpha.drops(reason), count, "{:?}", alpha.all_drops());
    }
    let arp = ethernet([0xff; 6], 0x806, &[0; 28]);
    assert_eq!(alpha.host(Twin::tap(BLACK), std::slice::from_ref(&arp)).one(BLACK), arp);
    // IPv6 is not protected: neighbour discovery passes, what a rule asks to protect does not.
    let v6 = |next: u8, first: u8| {
        ethernet(PEER_MAC, 0x86dd, &packet_v6(host_v6(1, 1), host_v6(9, 1), next, &[first; 8]))
    };
    assert_eq!(alpha.host(Twin::tap(BLACK), &[v6(58, 135)]).sent.len(), 1);
    assert!(alpha.host(Twin::tap(BLACK), &[v6(17, 135)]).nothing());
    assert_eq!(alpha.drops(Drop::Unprotected), 1);
    alpha.port(BLACK, |port| port.enabled = 0);
    assert!(alpha.host(Twin::tap(BLACK), &[arp]).nothing());
    assert!(alpha.host(Twin::tun(0), &[vec![0x50; 20]]).nothing());
    assert!(alpha.host(Twin::tun(0), &[vec![0x45; 20]]).nothing());
    assert_eq!((alpha.drops(Drop::PortDown), alpha.drops(Drop::UnsupportedProtocol)), (1, 1));
}

#[test]
fn a_frame_without_room_is_dropped_and_its_number_is_not_used_again() {
    let (mut alpha, _) = pair(Shape::default());
    let packet = passenger(1, 2, 64);
    for (headroom, tailroom) in [(128, 10), (10, 100)] {
        let mut frame = TestFrame::with_room(&packet, headroom, tailroom);
        frame.meta_mut().twin = Twin::tun(0);
        let mut outcome = forward::Outcome::new();
        alpha.worker.process_from_twin([frame], &mut outcome);
        assert!(outcome.is_empty());
    }
    assert_eq!(alpha.drops(Drop::NoHeadroom), 2);
    assert_eq!(alpha.runtime(0).no_space.load(Relaxed), 2);
}

#[test]
fn lists_that_are_full_drop_by_name() {
    let (mut alpha, _) = pair(Shape::default());
    let frame = TestFrame::new(&frame_v4(RED, &passenger(1, 2, 64)));
    let hello = TestFrame::new(&ethernet([1, 0, 0x5e, 0, 0, 5], 0x0800, &[]));
    for _ in 0..10 {
        alpha.worker.process_wire(RED, vec![frame.clone(); 32], &mut alpha.outcome);
        alpha.worker.process_wire(RED, vec![hello.clone(); 32], &mut alpha.outcome);
    }
    assert_eq!(alpha.drops(Drop::TxFull), 320 - forward::TX_CAPACITY as u64);
    assert_eq!(alpha.drops(Drop::HostRingFull), 320 - forward::PUNT_CAPACITY as u64);
}
