//! Two engines over a link that loses 30 %, doubles 30 % and reorders: whatever happens, once the weather clears both
//! ends hold the same, and nothing else.
//!
//! Each property holds for every seed. A run takes the first few hundred; `IKE_SEEDS=5000` takes more, and `IKE_SEED=17`
//! takes that one alone, as a failure names it.

use std::ops::Range;
use std::time::{Duration, Instant};

use ike::sim::{Simulation, Weather, setup};
use ike::*;

const CHILDREN: u64 = 2;

/// The seeds of this run.
fn seeds(usual: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("IKE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("IKE_SEEDS").unwrap_or(usual),
    }
}

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
    let mut sim = Simulation::new(Instant::now(), seed, Limits::default(), weather);
    let now = sim.now;
    for side in 0..2 {
        sim.hosts[side].engine.set_connection(now, setup::connection(side, CHILDREN));
        sim.drain(side);
    }
    sim
}

fn print_history(sim: &Simulation) {
    for side in 0..2 {
        for sa in sim.hosts[side].engine.isakmp_sas(sim.now) {
            println!("side {side}: {:?} {} children {:?}", sa.id, sa.state, sa.children);
        }
        for id in 1..=CHILDREN {
            for installed in sim.hosts[side].dataplane.pairs_of(ChildId(id)) {
                println!(
                    "side {side}: child {id} in {} out {}",
                    installed.pair.spi_in, installed.pair.spi_out
                );
            }
        }
        for (at, event) in sim.hosts[side].events.iter().rev().take(16).rev() {
            println!("side {side}: -{:?} {event:?}", sim.now - *at);
        }
        println!("side {side}: {:?}", sim.hosts[side].engine.counters());
    }
}

fn assert_settled(sim: &Simulation, seed: u64) {
    for id in 1..=CHILDREN {
        let disagreement = sim.disagreement(ChildId(id));
        if disagreement.is_some() {
            print_history(sim);
        }
        assert_eq!(disagreement, None, "seed {seed}, child {id}");
    }
    assert_eq!(sim.ike_sas(), [1, 1], "seed {seed}: IKE SAs");
    for host in &sim.hosts {
        assert_eq!(host.dataplane.len() as u64, CHILDREN, "seed {seed}: orphans in the dataplane");
        assert_eq!(host.dataplane.strays, 0, "seed {seed}: operations on pairs that are not there");
        assert_eq!(host.engine.counters().get("panics"), None, "seed {seed}");
    }
}

#[test]
fn converges_from_a_simultaneous_start() {
    for seed in seeds(100) {
        let mut sim = begin(seed, Weather::FOUL);
        sim.run(Duration::from_secs(600));
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(400));
        assert_settled(&sim, seed);
    }
}

#[test]
fn a_rekey_storm_leaves_no_orphan() {
    for seed in seeds(100) {
        let mut sim = begin(seed, Weather::FOUL);
        sim.run(Duration::from_secs(120));
        for round in 0..40u64 {
            // The same mix for the same seed; both ends often in the same instant.
            let mix = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left((round % 64) as u32) ^ round;
            for side in 0..2usize {
                match (mix >> (side * 8)) % 4 {
                    0 => sim.command(side, Command::RekeyChild(ChildId(1 + (mix >> 20) % CHILDREN))),
                    1 => sim.command(side, Command::RekeyIke(ConnectionId(1))),
                    2 => sim.command(side, Command::RekeyChild(ChildId(1))),
                    _ => {}
                }
            }
            sim.run(Duration::from_millis((mix >> 32) % 9000));
        }
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(600));
        assert_settled(&sim, seed);
    }
}

/// In weather that loses nothing, no packet ever meets an SPI that the other end lacks, however both ends rekey.
#[test]
fn no_packet_meets_an_unknown_spi() {
    for seed in seeds(100) {
        let jitter = Duration::from_millis(seed * 2);
        let weather =
            Weather { loss_percent: 0, duplication_percent: 20, delay: Duration::from_millis(5), jitter };
        let mut sim = begin(seed, weather);
        sim.run(Duration::from_secs(60));
        for round in 0..60u64 {
            let mix = (seed + 3).wrapping_mul(0xd134_2543_de82_ef95).rotate_left((round % 64) as u32);
            for side in 0..2usize {
                match (mix >> (side * 8)) % 3 {
                    0 => sim.command(side, Command::RekeyChild(ChildId(1))),
                    1 => sim.command(side, Command::RekeyIke(ConnectionId(1))),
                    _ => {}
                }
            }
            for _ in 0..20 {
                sim.run(Duration::from_millis((mix >> 40) % 40));
                for side in 0..2 {
                    sim.send_packet(side, ChildId(1));
                }
                if sim.unknown_spis > 0 {
                    print_history(&sim);
                }
                assert_eq!(sim.unknown_spis, 0, "seed {seed} round {round}");
            }
        }
        sim.run(Duration::from_secs(300));
        assert_settled(&sim, seed);
    }
}

/// Fragments, ML-KEM and a PPK make more datagrams of each handshake, all of which may be lost, doubled or late.
#[test]
fn converges_with_all_that_makes_a_handshake_long() {
    for seed in seeds(60) {
        let limits = Limits { fragment_ipv4_bytes: 400, ..Limits::default() };
        let mut sim = Simulation::new(Instant::now(), seed, limits, Weather::FOUL);
        let now = sim.now;
        for side in 0..2 {
            let mut connection = setup::connection(side, CHILDREN);
            connection.proposals[0].additional_key_exchanges =
                vec![vec![KeyEncapsulation::MlKem768], vec![KeyEncapsulation::MlKem1024]];
            let key = PreSharedKey(b"0123456789abcdef0123456789abcdef".to_vec().into());
            connection.ppk = Some(Ppk { id: b"grove".to_vec(), key, required: true });
            sim.hosts[side].engine.set_connection(now, connection);
            sim.drain(side);
        }
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
