//! When traffic moves to a new pair of version 1: it has no word for "I receive on it".
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail by panicking")]

use std::time::Duration;

use ike::sim::{Delivery, Simulation, Weather, setup};
use ike::*;

const CHILD: ChildId = ChildId(1);

/// Side 0 began, and both have a pair.
fn up(seed: u64) -> Simulation {
    let mut sim = Simulation::between(seed, Limits::default(), Weather::FAIR, |side| {
        let (ike, esp) = setup::classic();
        setup::only_caller_starts(side, setup::connection_v1(side, 1, ike, &esp))
    });
    sim.run(Duration::from_secs(2));
    sim
}

/// The responder may be one that receives on the new pair only when message 3 has come.
#[test]
fn who_asked_sends_on_the_new_pair_when_the_responder_does_or_has_had_the_time() {
    for answers in [true, false] {
        let mut sim = up(1);
        let old = sim.hosts[0].dataplane.sending_on(CHILD);
        sim.command(0, Command::RekeyChild(CHILD));
        sim.run(Duration::from_millis(500));
        assert_eq!(sim.hosts[0].dataplane.pairs_of(CHILD).len(), 2, "the quick mode has ended");
        assert_eq!(sim.hosts[0].dataplane.sending_on(CHILD), old);
        if answers {
            assert!(matches!(sim.send_packet(1, CHILD), Delivery::First { .. }));
        } else {
            sim.run(Duration::from_secs(1));
        }
        let new = sim.hosts[0].dataplane.sending_on(CHILD);
        assert_ne!(new, old, "{answers}");
        // And stays there, whatever its first packet comes late to.
        sim.send_packet(1, CHILD);
        sim.run(Duration::from_secs(30));
        assert_eq!((sim.hosts[0].dataplane.sending_on(CHILD), sim.disagreement(CHILD)), (new, None));
    }
}

/// Message 3 is lost for a while: the responder says so by its message 2, and nothing is sent where it does not receive.
#[test]
fn who_asked_waits_for_a_responder_that_asks_for_message_3_again() {
    let mut sim = up(1);
    let old = sim.hosts[0].dataplane.sending_on(CHILD);
    sim.command(0, Command::RekeyChild(CHILD));
    sim.run(Duration::from_millis(500));
    let answer = sim.link.log.iter().rfind(|(from, ..)| *from == 1).cloned().unwrap();
    for _ in 0..4 {
        assert_eq!(sim.hosts[0].dataplane.sending_on(CHILD), old);
        let there = Path { local: answer.1.remote, remote: answer.1.local };
        sim.inject(0, there, &answer.2);
        sim.run(Duration::from_millis(900));
    }
    sim.run(Duration::from_millis(200));
    let new = sim.hosts[0].dataplane.sending_on(CHILD);
    assert_ne!(new, old);
    // Once it is there, the same message leads nowhere.
    sim.command(0, Command::RekeyChild(CHILD));
    sim.run(Duration::from_secs(2));
    let newest = sim.hosts[0].dataplane.sending_on(CHILD);
    assert_ne!(newest, new);
    sim.inject(0, Path { local: answer.1.remote, remote: answer.1.local }, &answer.2);
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.hosts[0].dataplane.sending_on(CHILD), newest);
}

/// Both rekey, and the one's request gets lost until the other's pair is there: whoever was asked last cannot take the two for
/// one meeting, and whoever asked cannot know. Both end up with the same pair, and none goes before.
#[test]
fn a_request_that_arrives_when_the_other_ends_pair_is_there_makes_the_pair_that_stays() {
    for seed in 0..8 {
        let mut sim = up(seed);
        sim.link.cut = true;
        sim.command(0, Command::RekeyChild(CHILD));
        sim.run(Duration::from_millis(100));
        sim.link.cut = false;
        sim.command(1, Command::RekeyChild(CHILD));
        sim.run(Duration::from_millis(300));
        let early = sim.hosts[1].dataplane.pairs_of(CHILD).len();
        assert_eq!(early, 2, "seed {seed}: the other end's pair is there");
        for _ in 0..60 {
            sim.run(Duration::from_secs(1));
            for side in [0, 1] {
                let packet = sim.send_packet(side, CHILD);
                assert!(
                    matches!(packet, Delivery::First { .. } | Delivery::Delivered { .. }),
                    "seed {seed}: {packet:?}"
                );
            }
        }
        assert_eq!(sim.disagreement(CHILD), None, "seed {seed}");
        for host in &sim.hosts {
            assert_eq!(host.dataplane.pairs_of(CHILD).len(), 1, "seed {seed}");
            let down = |(_, event): &(std::time::Instant, Event)| matches!(event, Event::ChildDown { .. });
            assert!(!host.events.iter().any(down), "seed {seed}");
        }
    }
}

/// Inbound SPI of the pair that an end made last.
fn newest(sim: &Simulation, side: usize) -> u32 {
    let newest = sim.hosts[side].events.iter().rev().find_map(|(_, event)| match event {
        Event::ChildUp { spi_in, .. } | Event::ChildRekeyed { spi_in, .. } => Some(*spi_in),
        _ => None,
    });
    newest.expect("there was a pair")
}

/// Of two pairs made at once the nonces choose one. For libreswan it is the one that came up last, which it does not live
/// without: whatever the peer is like, it is not told to delete that one.
#[test]
fn of_two_pairs_made_at_once_none_goes_that_the_other_end_has_had_last() {
    for (seed, loss_percent) in (0..8).map(|seed| (seed, 0)).chain((8..60).map(|seed| (seed, 30))) {
        let mut sim = up(seed);
        sim.link.turn(Weather { loss_percent, ..Weather::FAIR });
        for side in [0, 1] {
            sim.command(side, Command::RekeyChild(CHILD));
        }
        // More than one look while a DELETE is on its way.
        for look in 0..8000 {
            sim.run(Duration::from_millis(4));
            if look % 25 == 0 {
                for side in [0, 1] {
                    let packet = sim.send_packet(side, CHILD);
                    let arrived = matches!(packet, Delivery::First { .. } | Delivery::Delivered { .. });
                    assert!(arrived, "seed {seed}: {packet:?}");
                }
            }
            for (side, other) in [(0, 1), (1, 0)] {
                let newest = newest(&sim, other);
                let [ours, theirs] = [side, other].map(|side| sim.hosts[side].dataplane.pairs_of(CHILD));
                let held = theirs.iter().find(|installed| installed.pair.spi_in == newest);
                let kept = |spi| ours.iter().any(|installed| installed.pair.spi_in == spi);
                assert!(
                    held.is_none_or(|installed| kept(installed.pair.spi_out)),
                    "seed {seed}: end {side} has taken out what end {other} made last"
                );
            }
        }
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(60));
        assert_eq!(sim.disagreement(CHILD), None, "seed {seed}");
    }
}
