//! Whatever comes, nothing panics, and no packet vanishes: it is sent, punted, or counted as dropped.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod support;

use esp::CipherEngine;
use packet::{Frame, Meta, TestFrame, Twin};
use proptest::prelude::*;
use shm::Drop;
use support::*;

fn total_drops(gateway: &Gateway) -> u64 {
    Drop::ALL.iter().map(|reason| gateway.drops(*reason)).sum()
}

fn any_shape() -> impl Strategy<Value = Shape> {
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

/// Changes a few bytes, cuts or extends; repairs the outer IPv4 checksum if asked, so that deeper code is reached.
fn mangle(frame: &[u8], changes: &[(usize, u8)], len: usize, repair: bool) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for (at, value) in changes {
        let at = at % frame.len().max(1);
        if let Some(byte) = frame.get_mut(at) {
            *byte = *value;
        }
    }
    frame.resize(len, 0xa5);
    if repair && frame.len() >= 34 && frame[14] == 0x45 {
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[24..26].fill(0);
        let sum = packet::checksum::checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn arbitrary_frames_are_all_accounted_for(
        shape in any_shape(),
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..160), 1..20),
        to_us: bool,
    ) {
        let (_, mut beta) = pair(shape);
        let frames: Vec<_> = frames.into_iter().map(|mut frame| {
            if to_us && frame.len() >= 14 {
                frame[..6].copy_from_slice(&port_mac(BLACK));
                let ethertype = [[8, 0], [0x86, 0xdd]][frame.len() % 2];
                frame[12..14].copy_from_slice(&ethertype);
            }
            frame
        }).collect();
        let seen = beta.wire(BLACK, &frames);
        prop_assert_eq!(seen.sent.len() as u64 + seen.punted.len() as u64 + total_drops(&beta), frames.len() as u64);
        for twin in [Twin::tap(BLACK), Twin::tun(0), Twin::tun(9), Twin::tap(77)] {
            beta.host(twin, &frames);
        }
    }

    #[test]
    fn mangled_packets_never_come_out_changed(
        shape in any_shape(),
        size in 0usize..200,
        changes in proptest::collection::vec((14usize..300, any::<u8>()), 1..4),
        len_change in -20i64..20,
        repair: bool,
    ) {
        let (mut alpha, mut beta) = pair(shape);
        let packet = passenger(1, 2, size);
        let frame = over_the_cable(alpha.wire(RED, &[frame_v4(RED, &packet)]).one(BLACK));
        let len = (frame.len() as i64 + len_change).max(0) as usize;
        let mangled = mangle(&frame, &changes, len, repair);
        let seen = beta.wire(BLACK, std::slice::from_ref(&mangled));
        for (port, bytes) in &seen.sent {
            // Only what ESP does not protect (the outer header, the UDP header) may have changed on the way; in the
            // tunnel's case ECN of the outer header is passed on.
            if *port == RED {
                prop_assert_eq!(&bytes[34..], &packet[20..]);
            }
        }
        beta.wire(RED, std::slice::from_ref(&mangled));
        beta.host(Twin::tap(BLACK), std::slice::from_ref(&mangled));
        beta.host(Twin::tun(0), &[mangled.get(14..).unwrap_or_default().to_vec()]);
    }

    #[test]
    fn a_peer_with_the_key_can_not_make_it_panic_either(
        tunnel_mode: bool,
        crypto_map: bool,
        inner in proptest::collection::vec(any::<u8>(), 0..120),
        plausible in 0u8..4,
        next_header in prop_oneof![Just(4u8), Just(41), Just(47), Just(59), Just(17), any::<u8>()],
        pad in 0u8..12,
        suite: u8,
    ) {
        let suite = Suite::any(suite);
        let (_, mut beta) = pair(Shape { tunnel_mode, crypto_map, suite, ..Shape::default() });
        let mut text = match plausible {
            0 => inner,
            1 => packet_v4(ALPHA, BETA, 47, &gre_packet(None, 0x800, &inner)),
            2 => gre_packet(None, 0x800, &packet_v4([10, 1, 0, 2], [10, 2, 0, 2], 17, &inner)),
            _ => packet_v6(host_v6(1, 2), host_v6(2, 2), 17, &inner),
        };
        text.extend(1..=pad);
        let missing = suite.algorithm().framing().pad_len(text.len());
        text.resize(text.len() + missing, pad);
        text.extend([pad, next_header]);
        let frame = seal_as_alpha(&beta, suite, &text);
        let seen = beta.wire(BLACK, &[frame]);
        let silent = u64::from(next_header == 59 && seen.nothing() && total_drops(&beta) == 0);
        prop_assert_eq!(seen.sent.len() as u64 + seen.punted.len() as u64 + total_drops(&beta) + silent, 1);
    }
}

/// Seals any text of whole blocks with the keys of beta's inbound SA.
fn seal_as_alpha(beta: &Gateway, suite: Suite, text: &[u8]) -> Vec<u8> {
    let (mut cipher, mut integrity) = ([0x42; 32], [0x43; 64]);
    (cipher[0], integrity[0]) = (2, 2);
    let algorithm = suite.algorithm();
    let framing = algorithm.framing();
    let keys = esp::Keys {
        cipher: &cipher[..algorithm.key_bytes()],
        integrity: &integrity[..algorithm.integrity_key_bytes()],
    };
    let mut key = esp::SaKey::default();
    beta.engine.expand(algorithm, keys, &mut key).unwrap();
    let (nonce, aad) = (esp::framing::nonce([1, 2, 3, 4], 1), esp::framing::Aad::new(0x1002, 1, true));
    // The IV of AES-GCM is the sequence number; that of CBC the engine writes.
    let mut esp = [&0x1002u32.to_be_bytes()[..], &1u32.to_be_bytes(), &1u64.to_be_bytes()].concat();
    esp.resize(framing.payload_at(), 0);
    esp.extend(text);
    esp.resize(esp.len() + framing.icv_bytes(), 0);
    let text_and_icv = &mut esp[framing.operation_at()..];
    let op = esp::SealOp { key: &key, nonce: &nonce, aad: aad.as_bytes(), text_and_icv };
    assert_eq!(beta.engine.lanes().unwrap().seal(std::iter::once(op)), 1);
    frame_v4(BLACK, &packet_v4(ALPHA, BETA, 50, &esp))
}

/// A pad length that reaches beyond the payload, and padding that is not 1, 2, 3 (RFC 4303 section 2.4): authentic, and
/// counted as malformed all the same.
#[test]
fn lying_padding_of_an_authentic_packet_is_malformed() {
    for suite in Suite::all() {
        for (lie, text_len) in [([30, 47], 32), ([255, 47], 32), ([31, 4], 32), ([7, 47], 48)] {
            let (_, mut beta) = pair(Shape { suite, ..Shape::default() });
            let mut text = vec![0xaa; text_len];
            text[text_len - 2..].copy_from_slice(&lie);
            let frame = seal_as_alpha(&beta, suite, &text);
            assert!(beta.wire(BLACK, &[frame]).nothing());
            assert_eq!(beta.all_drops(), [("esp_malformed", 1)], "{suite:?}, {lie:?}");
        }
    }
}

/// A frame whose pool is empty.
struct Last(TestFrame);

impl Frame for Last {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.prepend(len)
    }
    fn append(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.append(len)
    }
    fn trim_front(&mut self, len: usize) -> bool {
        self.0.trim_front(len)
    }
    fn trim_back(&mut self, len: usize) -> bool {
        self.0.trim_back(len)
    }
    fn headroom(&self) -> usize {
        self.0.headroom()
    }
    fn tailroom(&self) -> usize {
        self.0.tailroom()
    }
    fn meta(&self) -> &Meta {
        self.0.meta()
    }
    fn meta_mut(&mut self) -> &mut Meta {
        self.0.meta_mut()
    }
    fn sibling(&self) -> Option<Self> {
        None
    }
}

#[test]
fn an_empty_pool_costs_the_packet_and_no_more() {
    let region = shm::Region::anonymous(shm::Capacities::small()).unwrap().leak();
    let shared = forward::Shared::new(region, 0).unwrap();
    let engine = esp::Engine::select(esp::Choice::Portable).unwrap();
    let mut worker: forward::Pipeline<Last, packet::LinearRoutes, packet::LinearClassifier> =
        forward::Pipeline::new(engine.lanes().unwrap(), shared, packet::LinearRoutes::new());
    let mut record: shm::records::PortRecord = zerocopy::FromZeros::new_zeroed();
    (record.present, record.enabled, record.mtu_bytes) = (1, 1, 1500);
    assert!(worker.apply(forward::Update::port(BLACK, Some(&record), port_mac(BLACK))).is_ok());
    let big = packet_v4(ALPHA, BETA, 17, &[0; 1600]);
    let mut frame = Last(TestFrame::new(&ethernet(PEER_MAC, 0x800, &big)));
    frame.meta_mut().twin = Twin::tap(BLACK);
    let mut outcome = forward::Outcome::new();
    worker.process_from_twin([frame], &mut outcome);
    assert!(outcome.is_empty());
    assert_eq!(region.worker_counters(0).unwrap().drops(Drop::NoBuffer), 1);
}
