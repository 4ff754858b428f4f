//! Sequence numbers, limits, and what a new process makes of an SA that an old one used.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod support;

use std::sync::atomic::Ordering::Relaxed;

use esp::{Choice, Engine};
use forward::Update;
use shm::records::{SaRecord, direction};
use shm::{Drop, EventKind, Refusal, SaRuntime};
use support::*;

const ROLL: u64 = 1 << 32;

/// Alpha's outbound SA and beta's inbound SA, as [`pair`] makes them.
fn outbound(sa: &mut SaRecord) -> &mut SaRecord {
    (sa.direction, sa.spi, sa.key[0]) = (direction::OUTBOUND, 0x1002, 2);
    (sa.local, sa.remote) = (v4(ALPHA), v4(BETA));
    sa
}

fn inbound(sa: &mut SaRecord) -> &mut SaRecord {
    (sa.spi, sa.key[0]) = (0x1002, 2);
    (sa.local, sa.remote) = (v4(BETA), v4(ALPHA));
    sa
}

fn send(alpha: &mut Gateway, count: usize) -> Seen {
    let frames: Vec<_> = (0..count).map(|_| frame_v4(RED, &passenger(1, 2, 72))).collect();
    alpha.wire(RED, &frames)
}

#[test]
fn without_esn_an_sa_stops_after_its_last_number_and_asks_for_another_long_before() {
    let (mut alpha, _) = pair(Shape { esn: false, ..Shape::default() });
    alpha.runtime(0).next_sequence.store(ROLL - 2, Relaxed);
    let seen = send(&mut alpha, 5);
    assert_eq!(seen.sent.len(), 2);
    assert_eq!(seen.events, [(EventKind::SoftLimit, 0), (EventKind::HardLimit, 0)]);
    assert_eq!(alpha.drops(Drop::SequenceOverflow), 3);
    assert_eq!(alpha.runtime(0).next_sequence.load(Relaxed), ROLL);
    assert!(send(&mut alpha, 1).events.is_empty(), "each limit is told once");
}

#[test]
fn with_esn_packets_go_on_over_the_roll_in_order_and_late() {
    let (mut alpha, mut beta) = pair(Shape::default());
    alpha.runtime(0).next_sequence.store(ROLL - 40, Relaxed);
    beta.runtime(1).next_sequence.store(ROLL - 41, Relaxed);
    let mut frames: Vec<_> = send(&mut alpha, 32).sent;
    frames.extend(send(&mut alpha, 32).sent);
    let mut cable: Vec<_> = frames.into_iter().map(|(_, frame)| over_the_cable(frame)).collect();
    // The wire carries the low half only.
    assert_eq!(cable[39][38..42], u32::MAX.to_be_bytes());
    assert_eq!(cable[40][38..42], [0; 4]);
    cable.swap(10, 60);
    let (first, second) = cable.split_at(32);
    assert_eq!(beta.wire(BLACK, first).sent.len(), 32);
    assert_eq!(beta.wire(BLACK, second).sent.len(), 32);
    assert_eq!(beta.runtime(1).next_sequence.load(Relaxed), ROLL + 23);
    assert_eq!(beta.wire(BLACK, &cable[..20]).sent.len(), 0);
    assert_eq!(beta.all_drops(), [("esp_replayed", 20)]);
}

#[test]
fn the_number_after_a_packet_stands_in_the_region_before_the_packet_is_out() {
    let (mut alpha, _) = pair(Shape::default());
    for burst in 1..5 {
        let seen = send(&mut alpha, 7);
        let last = &seen.sent[6].1;
        let sent = u64::from_be_bytes(last[42..50].try_into().unwrap());
        assert_eq!(sent, burst * 7);
        assert_eq!(alpha.runtime(0).next_sequence.load(Relaxed), sent + 1);
    }
}

#[test]
fn soft_limits_are_told_once_and_hard_limits_stop_the_sa() {
    let (mut alpha, _) = pair(Shape::default());
    alpha.sa(0, |sa| {
        let sa = outbound(sa);
        (sa.generation, sa.soft_packets, sa.hard_packets) = (2, 3, 5);
    });
    let seen = send(&mut alpha, 10);
    assert_eq!(seen.sent.len(), 5);
    assert_eq!(seen.events, [(EventKind::SoftLimit, 0), (EventKind::HardLimit, 0)]);
    assert_eq!(alpha.drops(Drop::SaExhausted), 5);
    // By bytes of ESP payload: GRE and a passenger of 100 bytes make 104.
    alpha.sa(0, |sa| {
        let sa = outbound(sa);
        (sa.generation, sa.soft_bytes, sa.hard_bytes) = (3, 104, 312);
    });
    let seen = send(&mut alpha, 10);
    assert_eq!((seen.sent.len(), seen.events.len()), (3, 2));
    assert_eq!(alpha.runtime(0).bytes.load(Relaxed), 312);
}

#[test]
fn an_inbound_sa_has_limits_too() {
    let (mut alpha, mut beta) = pair(Shape { esn: false, ..Shape::default() });
    beta.sa(1, |sa| {
        let sa = inbound(sa);
        (sa.generation, sa.soft_packets, sa.hard_packets) = (2, 1, 2);
    });
    let cable: Vec<_> =
        send(&mut alpha, 5).sent.into_iter().map(|(_, frame)| over_the_cable(frame)).collect();
    let seen = beta.wire(BLACK, &cable);
    assert_eq!(seen.sent.len(), 2);
    assert!(
        seen.events.contains(&(EventKind::SoftLimit, 1)) && seen.events.contains(&(EventKind::HardLimit, 1))
    );
    assert_eq!(beta.drops(Drop::SaExhausted), 3);
}

#[test]
fn a_new_process_jumps_ahead_outbound_and_goes_on_inbound() {
    let (mut alpha, mut beta) = pair(Shape { esn: false, ..Shape::default() });
    let cable: Vec<_> =
        send(&mut alpha, 5).sent.into_iter().map(|(_, frame)| over_the_cable(frame)).collect();
    assert_eq!(beta.wire(BLACK, &cable).sent.len(), 5);
    // The same records again, as after a restart: the state is that of the region.
    alpha.apply(Update::Sa(0, None));
    beta.apply(Update::Sa(1, None));
    alpha.sa(0, |sa| _ = outbound(sa));
    beta.sa(1, |sa| _ = inbound(sa));
    assert!(beta.wire(BLACK, &cable).nothing());
    assert_eq!(beta.drops(Drop::EspReplayed), 5);
    let next = send(&mut alpha, 1).one(BLACK);
    assert_eq!(u64::from_be_bytes(next[42..50].try_into().unwrap()), 6 + SaRuntime::RESUME_JUMP);
    assert_eq!(beta.wire(BLACK, &[over_the_cable(next)]).sent.len(), 1);
    // A new SA in the same slot starts anew.
    alpha.sa(0, |sa| outbound(sa).generation = 9);
    assert_eq!(send(&mut alpha, 1).one(BLACK)[42..50], 1u64.to_be_bytes());
}

#[test]
fn without_a_replay_window_packets_may_come_in_any_order() {
    let (mut alpha, mut beta) = pair(Shape::default());
    beta.sa(1, |sa| {
        let sa = inbound(sa);
        (sa.esn, sa.generation, sa.replay_window) = (1, 2, 0);
    });
    let mut cable: Vec<_> =
        send(&mut alpha, 9).sent.into_iter().map(|(_, frame)| over_the_cable(frame)).collect();
    cable.reverse();
    assert_eq!(beta.wire(BLACK, &cable[..1]).sent.len(), 1);
    assert_eq!(beta.wire(BLACK, &cable[1..]).sent.len(), 8);
    assert_eq!(beta.wire(BLACK, &cable).sent.len(), 9);
}

#[test]
fn a_second_holder_of_an_spi_or_of_tunnel_ends_is_refused_and_changes_nothing() {
    let (mut alpha, mut beta) = pair(Shape { esn: false, ..Shape::default() });
    let record = sa_record(|sa| _ = inbound(sa));
    let update = Update::sa(5, Some(&record), &beta.engine, beta.region).unwrap();
    assert_eq!(beta.try_apply(update).unwrap_err().reason, Refusal::Duplicate);
    let record = beta.tunnel_record(|tunnel| (tunnel.local, tunnel.remote) = (v4(BETA), v4(ALPHA)));
    let update = Update::tunnel(5, Some(&record)).unwrap();
    assert_eq!(beta.try_apply(update).unwrap_err().reason, Refusal::Duplicate);
    let update = Update::tunnel(500, Some(&record)).unwrap();
    assert_eq!(beta.try_apply(update).unwrap_err().reason, Refusal::Invalid);
    let frame = over_the_cable(send(&mut alpha, 1).one(BLACK));
    assert_eq!(beta.wire(BLACK, &[frame]).sent.len(), 1);
    // What is cleared is free again, and its packets are no one's.
    beta.apply(Update::Sa(1, None));
    let frame = over_the_cable(send(&mut alpha, 1).one(BLACK));
    assert!(beta.wire(BLACK, &[frame]).nothing());
    assert_eq!(beta.drops(Drop::UnknownSpi), 1);
    beta.sa(5, |sa| inbound(sa).generation = 3);
    let frame = over_the_cable(send(&mut alpha, 1).one(BLACK));
    assert_eq!(beta.wire(BLACK, &[frame]).sent.len(), 1);
}

#[test]
fn records_that_the_fast_path_can_not_serve_are_refused() {
    let gateway = Gateway::new(Choice::Portable);
    let refuse = |change: fn(&mut SaRecord)| {
        let record = sa_record(change);
        Update::<packet::LinearClassifier>::sa(0, Some(&record), &gateway.engine, gateway.region).unwrap_err()
    };
    assert_eq!(refuse(|sa| sa.family = 6), forward::RecordError::Family);
    assert_eq!(refuse(|sa| sa.algorithm = 9), forward::RecordError::Algorithm);
    assert_eq!(refuse(|sa| sa.integrity = 1), forward::RecordError::Algorithm);
    assert_eq!(
        refuse(|sa| sa.algorithm = shm::records::algorithm::AES_128_CBC),
        forward::RecordError::Algorithm
    );
    assert_eq!(refuse(|sa| sa.key_len = 15), forward::RecordError::Key);
    assert_eq!(refuse(|sa| sa.key_len = 99), forward::RecordError::Key);
    assert_eq!(refuse(|sa| sa.owner_kind = 7), forward::RecordError::Owner);
    assert_eq!(refuse(|sa| sa.local_selectors[0].family = 5), forward::RecordError::Selector);
    let slot = Update::<packet::LinearClassifier>::sa(9999, None, &gateway.engine, gateway.region);
    assert_eq!(slot.unwrap_err(), forward::RecordError::Slot);
}

#[test]
#[cfg(feature = "ipsec-mb")]
fn a_key_of_another_engine_seals_and_opens_nothing() {
    let shape = Shape::default();
    let mut alpha = site(Choice::Portable, shape, 1, ALPHA, BETA);
    let mut beta = site(Choice::Portable, shape, 2, BETA, ALPHA);
    let other = match Engine::select(Choice::IpsecMb) {
        Ok(engine) => engine,
        Err(error) => return assert!(matches!(error, esp::EngineError::CpuLacks(_)), "{error}"),
    };
    let frame = over_the_cable(send(&mut alpha, 1).one(BLACK));
    let record = sa_record(|sa| outbound(sa).esn = 1);
    let update = Update::sa(0, Some(&record), &other, alpha.region).unwrap();
    alpha.apply(update);
    assert!(send(&mut alpha, 3).nothing());
    assert_eq!(alpha.drops(Drop::CryptoFailed), 3);
    let record = sa_record(|sa| inbound(sa).esn = 1);
    let update = Update::sa(1, Some(&record), &other, beta.region).unwrap();
    beta.apply(update);
    assert!(beta.wire(BLACK, &[frame]).nothing());
    assert_eq!(beta.drops(Drop::EspAuthFailed), 1);
}

#[test]
fn both_engines_put_the_same_packets_on_the_wire() {
    let mut sites: Vec<_> = [Choice::Portable, Choice::Auto]
        .map(|choice| site(choice, Shape { suite: Suite::AES_256_GCM, ..Shape::default() }, 1, ALPHA, BETA))
        .into();
    let frames: Vec<_> = (0..32).map(|n| frame_v4(RED, &passenger(1, 2, n * 40))).collect();
    let sent: Vec<_> = sites.iter_mut().map(|site| site.wire(RED, &frames).sent).collect();
    assert_eq!(sent[0], sent[1]);
    assert_eq!(Engine::select(Choice::Portable).unwrap().name(), "portable");
}
