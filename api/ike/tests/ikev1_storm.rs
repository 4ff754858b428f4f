//! IKEv1 in bad weather: both ends always end up with exactly one pair, the same at both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail by panicking")]

use std::time::{Duration, Instant};

use ike::sim::{Simulation, Weather, setup};
use ike::*;

const CHILDREN: u64 = 2;

fn begin(seed: u64, weather: Weather, both: bool) -> Simulation {
    let mut sim = Simulation::new(Instant::now(), seed, Limits::default(), weather);
    let now = sim.now;
    // A fast group: here it is not arithmetic that is tried.
    let (ike, esp) = setup::classic();
    let ike = IkeProposal { groups: vec![Group::EcpP256], ..ike };
    for side in 0..2 {
        let mut connection = setup::connection_v1(side, CHILDREN, ike.clone(), &esp);
        connection.children.iter_mut().for_each(|child| child.start = both || side == 0);
        sim.hosts[side].engine.set_connection(now, connection);
        sim.drain(side);
    }
    sim
}

fn assert_settled(sim: &Simulation, seed: u64) {
    for id in 1..=CHILDREN {
        assert_eq!(sim.disagreement(ChildId(id)), None, "seed {seed}, child {id}");
    }
    assert_eq!(sim.ike_sas(), [1, 1], "seed {seed}");
    for host in &sim.hosts {
        assert_eq!(host.dataplane.len() as u64, CHILDREN, "seed {seed}: orphans in the dataplane");
        assert_eq!(host.dataplane.strays, 0, "seed {seed}: operations on pairs that are not there");
        assert_eq!(host.engine.counters().get("panics"), None, "seed {seed}");
    }
}

#[test]
fn converges_from_a_start_by_one_side() {
    for seed in 0..200 {
        let mut sim = begin(seed, Weather::FOUL, false);
        sim.run(Duration::from_secs(600));
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(400));
        assert_settled(&sim, seed);
    }
}

#[test]
fn converges_from_a_simultaneous_start() {
    for seed in 0..200 {
        let mut sim = begin(seed, Weather::FOUL, true);
        sim.run(Duration::from_secs(600));
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(400));
        assert_settled(&sim, seed);
    }
}

#[test]
fn a_rekey_storm_leaves_no_orphan() {
    for seed in 0..100u64 {
        let mut sim = begin(seed, Weather::FOUL, true);
        sim.run(Duration::from_secs(120));
        for round in 0..30u64 {
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
    for seed in 0..60u64 {
        let jitter = Duration::from_millis(seed * 2);
        let weather =
            Weather { loss_percent: 0, duplication_percent: 20, delay: Duration::from_millis(5), jitter };
        let mut sim = begin(seed, weather, true);
        sim.run(Duration::from_secs(60));
        for round in 0..40u64 {
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
                assert_eq!(sim.unknown_spis, 0, "seed {seed} round {round}");
            }
        }
        sim.run(Duration::from_secs(300));
        assert_settled(&sim, seed);
    }
}
