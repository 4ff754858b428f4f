//! What comes in from the wire: taken, handed to the host, or dropped for a reason that is counted.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod support;

use std::sync::atomic::Ordering::Relaxed;

use packet::Twin;
use packet::header::ipv4::MORE_FRAGMENTS;
use shm::records::{protection, route};
use shm::{Drop, EventKind};
use support::*;

/// Sends frames to the black port and expects nothing but this one drop.
fn refused(gateway: &mut Gateway, frame: Vec<u8>, reason: Drop) {
    let before = gateway.drops(reason);
    let seen = gateway.wire(BLACK, &[frame]);
    assert!(seen.nothing(), "{seen:?}");
    assert_eq!(gateway.drops(reason), before + 1, "{reason:?}: {:?}", gateway.all_drops());
}

/// A sealed packet from alpha as beta's black port gets it.
fn sealed(alpha: &mut Gateway, packet: &[u8]) -> Vec<u8> {
    over_the_cable(alpha.wire(RED, &[frame_v4(RED, packet)]).one(BLACK))
}

#[test]
fn malformed_headers_are_dropped_by_name() {
    let (_, mut beta) = pair(Shape::default());
    let packet = packet_v4(ALPHA, BETA, 17, &udp_segment(1, 2, &[0; 20]));
    refused(&mut beta, vec![0; 13], Drop::Truncated);
    refused(&mut beta, frame_v4(BLACK, &packet[..19]), Drop::Truncated);
    refused(&mut beta, frame_v4(BLACK, &packet[..30]), Drop::Truncated);
    let mut wrong = packet.clone();
    wrong[8] ^= 1;
    refused(&mut beta, frame_v4(BLACK, &wrong), Drop::BadChecksum);
    wrong[0] = 0x65;
    refused(&mut beta, frame_v4(BLACK, &wrong), Drop::BadHeader);
    refused(&mut beta, ethernet(port_mac(BLACK), 0x86dd, &packet[..39]), Drop::Truncated);
    refused(&mut beta, ethernet(port_mac(BLACK), 0x86dd, &[0x45; 60]), Drop::BadHeader);
    for (source, destination) in
        [([127, 0, 0, 1], BETA), ([224, 0, 0, 1], BETA), ([0, 0, 0, 0], BETA), (ALPHA, [127, 0, 0, 1])]
    {
        refused(&mut beta, frame_v4(BLACK, &packet_v4(source, destination, 17, &[0; 8])), Drop::Martian);
    }
    let group = packet_v6([0xff; 16], host_v6(2, 1), 17, &[0; 8]);
    refused(&mut beta, ethernet(port_mac(BLACK), 0x86dd, &group), Drop::Martian);
    refused(&mut beta, ethernet([2, 9, 9, 9, 9, 9], 0x0800, &packet), Drop::NotForUs);
}

#[test]
fn a_port_that_is_down_takes_nothing() {
    let (_, mut beta) = pair(Shape::default());
    beta.port(BLACK, |port| port.enabled = 0);
    refused(&mut beta, frame_v4(BLACK, &packet_v4(ALPHA, BETA, 1, &[8, 0])), Drop::PortDown);
    assert!(beta.wire(7, &[frame_v4(BLACK, &[])]).nothing());
    assert_eq!(beta.drops(Drop::PortDown), 2);
}

#[test]
fn what_is_the_hosts_is_handed_to_its_twin_as_it_came() {
    let (_, mut beta) = pair(Shape::default());
    let ping = packet_v4(ALPHA, BETA, 1, &[8, 0, 0, 0]);
    let mut padded = frame_v4(BLACK, &ping);
    padded.extend([0; 30]);
    assert_eq!(beta.wire(BLACK, &[padded]).one_punt(Twin::tap(BLACK)), frame_v4(BLACK, &ping));
    let ike = packet_v4(ALPHA, BETA, 17, &udp_segment(4500, 4500, &[0, 0, 0, 0, 1]));
    let keepalive = packet_v4(ALPHA, BETA, 17, &udp_segment(4500, 4500, &[0xff]));
    let options = [0x46, 0, 0, 24, 0, 0, 0, 0, 9, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 1, 1, 1, 0];
    let mut options = options.to_vec();
    let sum = packet::checksum::checksum(&options);
    options[10..12].copy_from_slice(&sum.to_be_bytes());
    let fragment = change_v4(ALPHA, BETA, 17, &[0; 16], |header| header.fragment_word = MORE_FRAGMENTS);
    for packet in [ike, keepalive, options, fragment] {
        let frame = frame_v4(BLACK, &packet);
        assert_eq!(beta.wire(BLACK, std::slice::from_ref(&frame)).one_punt(Twin::tap(BLACK)), frame);
    }
    let arp = ethernet([0xff; 6], 0x0806, &[0; 28]);
    let lldp = ethernet(port_mac(BLACK), 0x88cc, &[0; 28]);
    let hello = ethernet([1, 0, 0x5e, 0, 0, 5], 0x0800, &packet_v4(ALPHA, [224, 0, 0, 5], 89, &[0; 44]));
    for frame in [arp, lldp, hello] {
        assert_eq!(beta.wire(BLACK, std::slice::from_ref(&frame)).one_punt(Twin::tap(BLACK)), frame);
    }
    assert!(beta.all_drops().is_empty());
}

#[test]
fn hellos_of_a_routing_protocol_come_out_of_the_tunnels_twin() {
    let (mut alpha, mut beta) = pair(Shape::default());
    let hello = change_v4([10, 9, 9, 1], [224, 0, 0, 5], 89, &[7; 44], |header| header.ttl = 1);
    let frame = alpha.host(Twin::tun(0), std::slice::from_ref(&hello)).one(BLACK);
    assert_eq!(beta.wire(BLACK, &[over_the_cable(frame)]).one_punt(Twin::tun(0)), hello);
    let hello = packet_v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0xff; 16], 89, &[7; 36]);
    let frame = alpha.host(Twin::tun(0), std::slice::from_ref(&hello)).one(BLACK);
    assert_eq!(beta.wire(BLACK, &[over_the_cable(frame)]).one_punt(Twin::tun(0)), hello);
}

#[test]
fn a_packet_for_the_gateway_itself_comes_out_of_the_tunnels_twin() {
    let (mut alpha, mut beta) = pair(Shape::default());
    let ping = packet_v4([10, 1, 0, 2], [10, 2, 0, 1], 1, &[8, 0, 0, 0]);
    let frame = sealed(&mut alpha, &ping);
    let punt = beta.wire(BLACK, &[frame]).one_punt(Twin::tun(0));
    assert_eq!(punt[16..], ping[16..]);
}

#[test]
fn esp_that_no_sa_takes_is_dropped_by_name() {
    let (mut alpha, mut beta) = pair(Shape::default());
    let esp = |spi: u32, len: usize| [&spi.to_be_bytes()[..], &vec![1; len - 4]].concat();
    refused(&mut beta, frame_v4(BLACK, &packet_v4(ALPHA, BETA, 50, &esp(0x9999, 60))), Drop::UnknownSpi);
    let in_udp = udp_segment(4500, 4500, &esp(0x9999, 60));
    refused(&mut beta, frame_v4(BLACK, &packet_v4(ALPHA, BETA, 17, &in_udp)), Drop::UnknownSpi);
    let mut lying = udp_segment(4500, 4500, &esp(0x1002, 60));
    lying[5] -= 1;
    refused(&mut beta, frame_v4(BLACK, &packet_v4(ALPHA, BETA, 17, &lying)), Drop::BadHeader);
    refused(&mut beta, frame_v4(BLACK, &packet_v4(ALPHA, BETA, 50, &esp(0x1002, 20))), Drop::EspMalformed);
    refused(&mut beta, frame_v4(BLACK, &packet_v4(ALPHA, BETA, 50, &esp(0x1002, 61))), Drop::EspMalformed);
    refused(&mut beta, frame_v4(BLACK, &packet_v4(ALPHA, BETA, 50, &[1, 2])), Drop::EspMalformed);
    let fragment = change_v4(ALPHA, BETA, 50, &esp(0x1002, 64), |header| header.fragment_word = 8);
    refused(&mut beta, frame_v4(BLACK, &fragment), Drop::Fragment);
    let mut options = sealed(&mut alpha, &passenger(1, 2, 64))[14..].to_vec();
    options[0] = 0x46;
    options[10..12].fill(0);
    let sum = packet::checksum::checksum(&options[..24]);
    options[10..12].copy_from_slice(&sum.to_be_bytes());
    refused(&mut beta, frame_v4(BLACK, &options), Drop::IpOptions);
    assert_eq!(beta.runtime(1).malformed.load(Relaxed), 2);
}

#[test]
fn forged_replayed_and_late_packets_are_told_apart() {
    let (mut alpha, mut beta) = pair(Shape { esn: false, ..Shape::default() });
    beta.sa(1, |sa| beta_inbound(sa).replay_window = 64);
    let frames: Vec<_> = (0..100).map(|_| sealed(&mut alpha, &passenger(1, 2, 64))).collect();
    for at in [14 + 20 + 16, frames[0].len() - 1, 14 + 20 + 8] {
        let mut forged = frames[1].clone();
        forged[at] ^= 1;
        refused(&mut beta, forged, Drop::EspAuthFailed);
    }
    // The sequence number is authenticated: another one is a forgery.
    let mut forged = frames[1].clone();
    forged[14 + 20 + 7] ^= 0x40;
    refused(&mut beta, forged, Drop::EspAuthFailed);
    let seen = beta.wire(BLACK, &[frames[80].clone(), frames[80].clone()]);
    assert_eq!(seen.sent.len(), 1, "a second copy in the same burst is a replay as well");
    assert_eq!(beta.drops(Drop::EspReplayed), 1);
    refused(&mut beta, frames[80].clone(), Drop::EspReplayed);
    refused(&mut beta, frames[16].clone(), Drop::EspLate);
    assert_eq!(beta.wire(BLACK, &[frames[17].clone()]).sent.len(), 1);
    refused(&mut beta, frames[17].clone(), Drop::EspReplayed);
    let runtime = beta.runtime(1);
    let counts = [&runtime.auth_failed, &runtime.replayed, &runtime.late, &runtime.packets];
    assert_eq!(counts.map(|cell| cell.load(Relaxed)), [4, 3, 1, 2]);
}

#[test]
fn with_esn_what_is_left_of_the_window_is_taken_for_the_next_subspace_and_is_not_authentic() {
    let (mut alpha, mut beta) = pair(Shape::default());
    let frames: Vec<_> = (0..1100).map(|_| sealed(&mut alpha, &passenger(1, 2, 64))).collect();
    assert_eq!(beta.wire(BLACK, &[frames[1099].clone()]).sent.len(), 1);
    assert_eq!(beta.wire(BLACK, &[frames[76].clone()]).sent.len(), 1);
    refused(&mut beta, frames[75].clone(), Drop::EspAuthFailed);
}

/// What [`site`] gave beta's inbound SA.
fn beta_inbound(sa: &mut shm::records::SaRecord) -> &mut shm::records::SaRecord {
    (sa.spi, sa.generation, sa.key[0]) = (0x1002, 2, 2);
    (sa.local, sa.remote) = (v4(BETA), v4(ALPHA));
    sa
}

#[test]
fn the_first_packet_of_an_sa_and_then_traffic_is_told_once_a_second() {
    let (mut alpha, mut beta) = pair(Shape::default());
    let mut events = |now: u64| {
        beta.worker.tick(now);
        let frames: Vec<_> = (0..3).map(|_| sealed(&mut alpha, &passenger(1, 2, 64))).collect();
        beta.wire(BLACK, &frames).events
    };
    assert_eq!(events(5_000_000), [(EventKind::FirstPacket, 1), (EventKind::Traffic, 1)]);
    assert_eq!(events(5_000_999), []);
    assert_eq!(events(5_001_000), [(EventKind::Traffic, 1)]);
    assert_eq!(beta.runtime(1).last_packet_unix_ms.load(Relaxed), 5_001_000);
}

#[test]
fn gre_in_clear_enters_only_a_tunnel_without_protection() {
    let (_, mut beta) = pair(Shape::default());
    let inner = passenger(1, 2, 64);
    let clear =
        |key, payload: &[u8]| frame_v4(BLACK, &packet_v4(ALPHA, BETA, 47, &gre_packet(key, 0x800, payload)));
    refused(&mut beta, clear(None, &inner), Drop::GreInClear);
    refused(&mut beta, clear(Some(5), &inner), Drop::GreUnknownTunnel);
    let mut reserved = packet_v4(ALPHA, BETA, 47, &gre_packet(None, 0x800, &inner));
    reserved[20] = 0x40;
    refused(&mut beta, frame_v4(BLACK, &reserved), Drop::GreBadHeader);
    reserved[20..22].copy_from_slice(&[0, 1]);
    refused(&mut beta, frame_v4(BLACK, &reserved), Drop::GreBadHeader);
    let fragment = change_v4(ALPHA, BETA, 47, &[0; 16], |header| header.fragment_word = MORE_FRAGMENTS);
    refused(&mut beta, frame_v4(BLACK, &fragment), Drop::Fragment);
    beta.tunnel(0, |tunnel| {
        (tunnel.local, tunnel.remote, tunnel.protection) = (v4(BETA), v4(ALPHA), protection::NONE);
    });
    assert_eq!(beta.wire(BLACK, &[clear(None, &inner)]).one(RED)[34..], inner[20..]);
    refused(&mut beta, clear(None, &inner[..30]), Drop::Truncated);
    let unknown = frame_v4(BLACK, &packet_v4(ALPHA, BETA, 47, &gre_packet(None, 0x6558, &inner)));
    refused(&mut beta, unknown, Drop::UnsupportedProtocol);
    beta.tunnel(0, |tunnel| {
        (tunnel.local, tunnel.remote, tunnel.protection) = (v4(BETA), v4(ALPHA), protection::NONE);
        tunnel.enabled = 0;
    });
    refused(&mut beta, clear(None, &inner), Drop::TunnelDown);
}

#[test]
fn an_sa_delivers_only_what_it_may_carry() {
    // Alpha's tunnel has a key that beta's has not.
    let (mut alpha, _) = pair(Shape { key: Some(9), ..Shape::default() });
    let (_, mut beta) = pair(Shape::default());
    let frame = sealed(&mut alpha, &passenger(1, 2, 64));
    refused(&mut beta, frame, Drop::GreUnknownTunnel);
    // The SA is that of another tunnel.
    for tunnel_mode in [false, true] {
        let (mut alpha, mut beta) = pair(Shape { tunnel_mode, ..Shape::default() });
        beta.tunnel(0, |tunnel| (tunnel.local, tunnel.remote) = (v4(BETA), v4([192, 0, 2, 77])));
        let frame = sealed(&mut alpha, &passenger(1, 2, 64));
        refused(&mut beta, frame, Drop::EspSelectorMismatch);
        assert_eq!(beta.runtime(1).selector_mismatch.load(Relaxed), 1);
    }
    // A tunnel with a profile takes nothing from the SA of a policy.
    let (mut alpha, mut beta) = pair(Shape { crypto_map: true, ..Shape::default() });
    beta.tunnel(0, |tunnel| (tunnel.local, tunnel.remote, tunnel.outbound_sa) = (v4(BETA), v4(ALPHA), 0));
    let frame = sealed(&mut alpha, &passenger(1, 2, 64));
    refused(&mut beta, frame, Drop::EspSelectorMismatch);
    // And no tunnel at all.
    let (mut alpha, mut beta) = pair(Shape { crypto_map: true, ..Shape::default() });
    beta.tunnel(0, |tunnel| (tunnel.local, tunnel.remote) = (v4(BETA), v4([192, 0, 2, 77])));
    let frame = sealed(&mut alpha, &passenger(1, 2, 64));
    refused(&mut beta, frame, Drop::GreUnknownTunnel);
}

#[test]
fn congestion_on_the_way_is_told_to_the_passenger_or_drops_it() {
    let (mut alpha, mut beta) = pair(Shape::default());
    let mut send = |tos: u8, beta: &mut Gateway| {
        let packet = change_v4([10, 1, 0, 2], [10, 2, 0, 2], 17, &[0; 30], |header| header.tos = tos);
        let mut frame = sealed(&mut alpha, &packet);
        assert_eq!(frame[15], tos, "DSCP and ECN are copied outwards");
        packet::header::ipv4::set_tos((&mut frame[14..34]).try_into().unwrap(), tos | 3);
        beta.wire(BLACK, &[frame])
    };
    assert_eq!(send(0xba, &mut beta).one(RED)[15], 0xbb);
    assert!(send(0xb8, &mut beta).nothing());
    assert_eq!(beta.drops(Drop::BadHeader), 1);
}

#[test]
fn routes_decide_and_their_refusals_are_counted() {
    let (_, mut beta) = pair(Shape::default());
    let to =
        |destination: [u8; 4]| frame_v4(BLACK, &packet_v4(ALPHA, destination, 17, &udp_segment(1, 2, &[])));
    refused_with_answer(&mut beta, to([198, 51, 100, 1]), Drop::NoRoute);
    beta.route(route::BLACKHOLE, 0, [198, 51, 100, 0], 24, None);
    refused(&mut beta, to([198, 51, 100, 1]), Drop::Blackhole);
    let slot = beta.route(route::UNREACHABLE, 0, [198, 51, 100, 0], 24, None);
    refused_with_answer(&mut beta, to([198, 51, 100, 1]), Drop::Blackhole);
    beta.clear_route(slot);
    refused(&mut beta, to([198, 51, 100, 1]), Drop::Blackhole);
    // A default route is kept beside the table of long prefixes.
    beta.route(route::PORT, RED, [0, 0, 0, 0], 0, Some([10, 2, 0, 2]));
    assert_eq!(beta.wire(BLACK, &[to([203, 0, 113, 9])]).one(RED)[..6], HOST_MAC);
    // A neighbour that is not known yet is the host's to find: it gets the frame back as it came.
    let frame = to([10, 2, 0, 99]);
    let punt = beta.wire(BLACK, std::slice::from_ref(&frame)).one_punt(Twin::tap(BLACK));
    assert_eq!(punt[30..], frame[30..]);
    let neighbour = beta.neighbour(RED, [10, 2, 0, 99], [2, 7, 7, 7, 7, 7]);
    assert_eq!(beta.wire(BLACK, std::slice::from_ref(&frame)).one(RED)[..6], [2, 7, 7, 7, 7, 7]);
    beta.clear_neighbour(neighbour);
    assert_eq!(beta.wire(BLACK, &[frame]).punted.len(), 1);
}

/// Expects this drop and an ICMP error back to alpha.
fn refused_with_answer(gateway: &mut Gateway, frame: Vec<u8>, reason: Drop) {
    let before = gateway.drops(reason);
    let answer = gateway.wire(BLACK, std::slice::from_ref(&frame)).one(BLACK);
    assert_eq!(gateway.drops(reason), before + 1);
    assert_eq!((answer[23], &answer[26..34], answer[34]), (1, &[BETA, ALPHA].concat()[..], 3));
    assert_eq!(answer[42..], frame[14..]);
}

#[test]
fn a_packet_that_would_go_back_into_its_tunnel_is_dropped() {
    let (mut alpha, mut beta) = pair(Shape::default());
    beta.route(route::TUNNEL, 0, [10, 2, 5, 0], 24, None);
    let packet = packet_v4([10, 1, 0, 2], [10, 2, 5, 1], 17, &udp_segment(1, 2, &[]));
    let frame = sealed(&mut alpha, &packet);
    refused(&mut beta, frame, Drop::Recursion);
}

#[test]
fn what_a_crypto_map_protects_does_not_come_in_clear() {
    let (mut alpha, mut beta) = pair(Shape { crypto_map: true, ..Shape::default() });
    // Beta asks for protection of UDP from its port 53 to alpha's LAN, but not of that to 10.1.7.0/24.
    let to_alpha = |sequence, policy, third: u8, len: u8| {
        let mut record = rule(20, sequence, policy, 17);
        record.selector.family = 4;
        (record.selector.source, record.selector.source_prefix_len) = (v4([10, 2, 0, 0]), 16);
        (record.selector.destination, record.selector.destination_prefix_len) = (v4([10, 1, third, 0]), len);
        record.selector.source_ports = [53, 53];
        record
    };
    let gre = rule(10, 10, Some(0), 47);
    beta.crypto_map(&[gre, to_alpha(10, None, 7, 24), to_alpha(20, Some(0), 0, 16)]);
    let from = |third: u8, port: u16| {
        frame_v4(BLACK, &packet_v4([10, 1, third, 2], [10, 2, 0, 2], 17, &udp_segment(9, port, &[0; 8])))
    };
    refused(&mut beta, from(0, 53), Drop::UnprotectedInbound);
    // Other ports, and what a `deny` exempts, may be in clear; what the rules can't tell may not.
    assert_eq!(beta.wire(BLACK, &[from(0, 54)]).one(RED)[..6], HOST_MAC);
    assert_eq!(beta.wire(BLACK, &[from(7, 53)]).one(RED)[..6], HOST_MAC);
    let later = change_v4([10, 1, 0, 2], [10, 2, 0, 2], 17, &[0; 64], |header| header.fragment_word = 100);
    refused(&mut beta, frame_v4(BLACK, &later), Drop::Fragment);
    // What came out of an SA is asked no more.
    let frame =
        sealed(&mut alpha, &packet_v4([10, 1, 0, 2], [10, 2, 0, 2], 17, &udp_segment(9, 53, &[0; 8])));
    assert_eq!(beta.wire(BLACK, &[frame]).one(RED)[..6], HOST_MAC);
}

#[test]
fn a_crypto_map_for_everything_lets_in_what_makes_sas() {
    let (mut alpha, mut beta) = pair(Shape { crypto_map: true, ..Shape::default() });
    beta.crypto_map(&[rule(10, 10, Some(0), 0)]);
    let frame = sealed(&mut alpha, &passenger(1, 2, 64));
    assert_eq!(beta.wire(BLACK, &[frame]).one(RED)[..6], HOST_MAC);
    let arp = ethernet([0xff; 6], 0x0806, &[0; 28]);
    let solicitation =
        ethernet(port_mac(BLACK), 0x86dd, &packet_v6(host_v6(1, 1), host_v6(2, 1), 58, &[135, 0, 0, 0]));
    let mut admitted = vec![arp, solicitation];
    for (port, payload) in [(500, &[1; 28][..]), (4500, &[0, 0, 0, 0, 1]), (4500, &[0xff])] {
        admitted.push(frame_v4(BLACK, &packet_v4(ALPHA, BETA, 17, &udp_segment(port, port, payload))));
    }
    for frame in admitted {
        assert_eq!(beta.wire(BLACK, std::slice::from_ref(&frame)).one_punt(Twin::tap(BLACK)), frame);
    }
    let esp = packet_v4(ALPHA, BETA, 50, &[9; 60]);
    refused(&mut beta, frame_v4(BLACK, &esp), Drop::UnknownSpi);
    // Key exchange for another machine is a packet like any other.
    let passing = packet_v4(ALPHA, [10, 2, 0, 2], 17, &udp_segment(500, 500, &[1; 28]));
    let ping = packet_v4(ALPHA, BETA, 1, &[8, 0, 0, 0]);
    let hello = ethernet([1, 0, 0x5e, 0, 0, 5], 0x0800, &packet_v4(ALPHA, [224, 0, 0, 5], 89, &[0; 44]));
    let v6 = ethernet(port_mac(BLACK), 0x86dd, &packet_v6(host_v6(1, 1), host_v6(2, 2), 17, &[0; 8]));
    for frame in [frame_v4(BLACK, &passing), frame_v4(BLACK, &ping), hello, v6] {
        refused(&mut beta, frame, Drop::UnprotectedInbound);
    }
    // GRE for a tunnel that the operator left in clear is told by the tunnel, too.
    beta.tunnel(0, |t| (t.local, t.remote, t.protection) = (v4(BETA), v4(ALPHA), protection::NONE));
    let clear = packet_v4(ALPHA, BETA, 47, &gre_packet(None, 0x800, &passenger(1, 2, 64)));
    refused(&mut beta, frame_v4(BLACK, &clear), Drop::UnprotectedInbound);
    assert_eq!(beta.region.tunnel_counters(0).unwrap()[0].drops.load(Relaxed), 1);
}
