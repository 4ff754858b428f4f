//! Packets go from a host behind one gateway to a host behind the other, in every shape of tunnel.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod support;

use packet::header::ipv4::Ipv4;
use proptest::prelude::*;
use shm::Counter;
use support::*;

/// The packet as it must arrive: two routers took one from its time to live each.
fn after_two_hops(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 6 {
        packet[7] -= 2;
        return packet;
    }
    for _ in 0..2 {
        packet::header::ipv4::decrement_ttl(packet[..20].as_mut().try_into().unwrap());
    }
    packet
}

fn carry(alpha: &mut Gateway, beta: &mut Gateway, packet: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let ethertype = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
    let sealed = alpha.wire(RED, &[ethernet(port_mac(RED), ethertype, packet)]).one(BLACK);
    let arrived = beta.wire(BLACK, &[over_the_cable(sealed.clone())]).one(RED);
    assert_eq!(arrived[..14], ethernet_header(ethertype));
    (sealed, arrived[14..].to_vec())
}

fn ethernet_header(ethertype: u16) -> [u8; 14] {
    packet::header::ethernet::header(HOST_MAC, port_mac(RED), ethertype)
}

fn shapes() -> impl Strategy<Value = Shape> {
    (any::<[bool; 4]>(), any::<u8>(), proptest::option::of(any::<u32>())).prop_map(|(bits, suite, key)| {
        Shape {
            tunnel_mode: bits[0],
            udp: bits[1],
            esn: bits[2],
            suite: Suite::any(suite),
            key,
            crypto_map: bits[3],
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn every_shape_carries_every_size_that_fits(shape in shapes(), sizes in proptest::collection::vec(0usize..=1350, 1..5)) {
        let (mut alpha, mut beta) = pair(shape);
        for size in sizes {
            let packet = passenger(1, 2, size);
            let (sealed, arrived) = carry(&mut alpha, &mut beta, &packet);
            prop_assert_eq!(arrived, after_two_hops(&packet));
            prop_assert!(sealed.len() <= 1514);
            let outer = Ipv4::checked(&sealed[14..]).unwrap();
            prop_assert_eq!(outer.total_len_bytes(), sealed.len() - 14);
            prop_assert_eq!(outer.protocol(), if shape.udp { 17 } else { 50 });
            prop_assert_eq!((outer.source(), outer.destination()), (ALPHA, BETA));
            // Nothing of the passenger is to be seen.
            prop_assert!(!sealed.windows(8).any(|bytes| packet.get(12..20) == Some(bytes)));
            let packet = packet_v6(host_v6(1, 2), host_v6(2, 2), 17, &udp_segment(1, 2, &vec![3; size.min(1300)]));
            let (_, arrived) = carry(&mut alpha, &mut beta, &packet);
            prop_assert_eq!(arrived, after_two_hops(&packet));
        }
        prop_assert!(alpha.all_drops().is_empty() && beta.all_drops().is_empty());
    }
}

#[test]
fn a_burst_keeps_its_order_and_every_count_agrees() {
    let (mut alpha, mut beta) = pair(Shape::default());
    let packets: Vec<_> = (0..32).map(|n| passenger(1, 2, 40 + n * 7)).collect();
    let frames: Vec<_> = packets.iter().map(|packet| frame_v4(RED, packet)).collect();
    let sent = alpha.wire(RED, &frames).sent;
    let cable: Vec<_> = sent.into_iter().map(|(_, frame)| over_the_cable(frame)).collect();
    let sequences: Vec<_> = cable.iter().map(|frame| frame[41]).collect();
    assert_eq!(sequences, (1..=32).collect::<Vec<u8>>());
    let arrived = beta.wire(BLACK, &cable).sent;
    for (packet, (_, frame)) in packets.iter().zip(&arrived) {
        assert_eq!(frame[14..], after_two_hops(packet));
    }
    assert_eq!((alpha.counter(Counter::EspSealed), alpha.counter(Counter::GreEncapsulated)), (32, 32));
    assert_eq!((beta.counter(Counter::EspOpened), beta.counter(Counter::GreDecapsulated)), (32, 32));
    assert_eq!((alpha.counter(Counter::Forwarded), beta.counter(Counter::Forwarded)), (32, 32));
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    assert_eq!(alpha.runtime(0).packets.load(relaxed), 32);
    assert_eq!(beta.runtime(1).packets.load(relaxed), 32);
    assert_eq!(beta.runtime(1).next_sequence.load(relaxed), 32);
    let bytes: usize = packets.iter().map(Vec::len).sum();
    let tunnel = |gateway: &Gateway| &gateway.region.tunnel_counters(0).unwrap()[0];
    assert_eq!(tunnel(&alpha).tx_bytes.load(relaxed), bytes as u64);
    assert_eq!(tunnel(&beta).rx_bytes.load(relaxed), bytes as u64);
    let port = &beta.region.port_counters(0).unwrap()[BLACK as usize];
    assert_eq!(port.rx_packets.load(relaxed), 32);
    assert_eq!(port.rx_bytes.load(relaxed), cable.iter().map(|frame| frame.len() as u64).sum::<u64>());
}
