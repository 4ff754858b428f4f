//! Two engines over a link that loses 30 %, doubles 30 % and reorders: whatever happens, once the weather clears both
//! ends hold the same, and nothing else.
//!
//! Seeds: see `storms`.

mod storms;

use std::time::Duration;

use ike::sim::{Host, Simulation, Weather, setup};
use ike::*;
use storms::{CHILDREN, assert_settled, seeds};

/// A number for a round of a seed: the same each time.
fn mix(seed: u64, round: u64) -> u64 {
    let mut mixed = (seed + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(round.wrapping_mul(0xd134_2543_de82_ef95));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn begin(seed: u64, weather: Weather) -> Simulation {
    Simulation::between(seed, Limits::default(), weather, |side| setup::connection(side, CHILDREN))
}

#[test]
fn converges_from_a_simultaneous_start() {
    storms::converges(100, begin);
}

#[test]
fn a_rekey_storm_leaves_no_orphan() {
    storms::a_rekey_storm_leaves_no_orphan(100, begin);
}

#[test]
fn no_packet_meets_an_unknown_spi() {
    storms::no_packet_meets_an_unknown_spi(100, begin);
}

/// Fragments, ML-KEM and a PPK make more datagrams of each handshake, all of which may be lost, doubled or late.
#[test]
fn converges_with_all_that_makes_a_handshake_long() {
    for seed in seeds(60) {
        let limits = Limits { fragment_ipv4_bytes: 400, ..Limits::default() };
        let mut sim = Simulation::between(seed, limits, Weather::FOUL, |side| {
            let mut connection = setup::connection(side, CHILDREN);
            connection.proposals[0].additional_key_exchanges =
                vec![vec![KeyEncapsulation::MlKem768], vec![KeyEncapsulation::MlKem1024]];
            let key = PreSharedKey(b"0123456789abcdef0123456789abcdef".to_vec().into());
            connection.ppk = Some(Ppk { id: b"grove".to_vec(), key, required: true });
            connection
        });
        sim.run(Duration::from_secs(900));
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(400));
        assert_settled(&sim, seed);
    }
}

/// Rekeys, hard limits, terminations and new beginnings, from both ends and often in the same instant.
#[test]
fn a_storm_of_rekeys_and_deletes_leaves_no_orphan() {
    for seed in seeds(100) {
        let mut sim = begin(seed, Weather::FOUL);
        sim.run(Duration::from_secs(120));
        for round in 0..40u64 {
            let mix = mix(seed, round);
            for side in 0..2usize {
                let child = ChildId(1 + (mix >> 20) % CHILDREN);
                match (mix >> (side * 8)) % 9 {
                    0 | 1 => sim.command(side, Command::RekeyChild(child)),
                    2 | 3 => sim.command(side, Command::RekeyIke(ConnectionId(1))),
                    4 | 5 => {
                        if let Some(spi_in) = sim.hosts[side].dataplane.sending_on(child) {
                            sim.dataplane(side, DataplaneEvent::HardLimit { spi_in });
                        }
                    }
                    6 if round % 5 == 0 => {
                        sim.command(side, Command::Terminate(ConnectionId(1)));
                        sim.command(side, Command::Initiate(ConnectionId(1)));
                    }
                    _ => {}
                }
            }
            sim.run(Duration::from_millis((mix >> 32) % 9000));
        }
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(900));
        assert_settled(&sim, seed);
    }
}

/// All is ended at last, by either end or both at once: nothing is left at either.
#[test]
fn an_end_after_a_storm_leaves_nothing() {
    for seed in seeds(100) {
        let mut sim = begin(seed, Weather::FOUL);
        sim.run(Duration::from_secs(60));
        for round in 0..10u64 {
            let mix = mix(seed, round);
            for side in 0..2usize {
                match (mix >> (side * 8)) % 3 {
                    0 => sim.command(side, Command::RekeyChild(ChildId(1))),
                    1 => sim.command(side, Command::RekeyIke(ConnectionId(1))),
                    _ => {}
                }
            }
            sim.run(Duration::from_millis((mix >> 32) % 4000));
        }
        for side in 0..2 {
            sim.command(side, Command::Shutdown);
            sim.run(Duration::from_millis(mix(seed, 99) % 3000));
        }
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(900));
        assert_eq!(sim.ike_sas(), [0, 0], "seed {seed}");
        for host in &sim.hosts {
            assert!(host.dataplane.is_empty(), "seed {seed}: orphans in the dataplane");
            assert_eq!(host.dataplane.strays, 0, "seed {seed}");
            assert_eq!(host.engine.counters().get("panics"), None, "seed {seed}");
        }
    }
}

/// Both ends rekey the IKE SA before either hears of it: who made the redundant SA deletes it at once (RFC 7296 section
/// 2.8.2), and the one that was replaced goes too.
#[test]
fn crossing_rekeys_of_the_ike_sa_leave_one_within_seconds() {
    for seed in seeds(200) {
        let jitter = Duration::from_millis(seed % 50);
        let weather =
            Weather { loss_percent: 0, duplication_percent: 10, delay: Duration::from_millis(20), jitter };
        let mut sim = begin(seed, weather);
        sim.run(Duration::from_secs(60));
        // An answer may overtake a request: then one end alone sees that they crossed.
        let crossed = |sim: &Simulation| -> u64 {
            let seen = |host: &Host| host.engine.counters().get("ike_rekey_collisions").copied();
            sim.hosts.iter().filter_map(seen).sum()
        };
        let before = crossed(&sim);
        for side in 0..2 {
            sim.command(side, Command::RekeyIke(ConnectionId(1)));
        }
        sim.run(Duration::from_secs(3));
        assert_settled(&sim, seed);
        assert!(crossed(&sim) > before, "seed {seed}: they did not cross");
    }
}
