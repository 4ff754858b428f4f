//! IKE SAs that were made with ML-KEM are rekeyed with it (IKE_FOLLOWUP_KE, RFC 9370 section 2.2.4): from either side,
//! from both at once, and over a link that loses, doubles and reorders.
//!
//! Seeds: see `storms`.

mod storms;

use std::time::{Duration, Instant};

use ike::sim::{Delivery, Simulation, Weather, setup};
use ike::*;
use storms::CHILDREN;

const FIRST: ChildId = ChildId(1);
const CONNECTION: ConnectionId = ConnectionId(1);
const CREATE_CHILD_SA: u8 = 36;
const IKE_FOLLOWUP_KE: u8 = 44;

fn begin(seed: u64, weather: Weather) -> Simulation {
    begin_with(seed, weather, &[KeyEncapsulation::MlKem768])
}

/// One additional key exchange for each of these methods.
fn begin_with(seed: u64, weather: Weather, methods: &[KeyEncapsulation]) -> Simulation {
    let mut sim = Simulation::new(Instant::now(), seed, Limits::default(), weather);
    let now = sim.now;
    for side in 0..2 {
        let mut connection = setup::connection(side, CHILDREN);
        connection.proposals[0].additional_key_exchanges =
            methods.iter().map(|method| vec![*method]).collect();
        sim.hosts[side].engine.set_connection(now, connection);
        sim.drain(side);
    }
    sim
}

fn exchanges(sim: &Simulation, number: u8) -> usize {
    sim.link.log.iter().filter(|(_, _, bytes)| bytes[18] == number).count()
}

fn suites(sim: &Simulation) -> Vec<String> {
    let sas = |side: usize| sim.hosts[side].engine.isakmp_sas(sim.now);
    (0..2).flat_map(sas).map(|sa| sa.suite).collect()
}

fn count(sim: &Simulation, name: &str) -> u64 {
    sim.hosts.iter().filter_map(|host| host.engine.counters().get(name).copied()).sum()
}

#[test]
fn either_side_rekeys_with_all_that_the_sa_was_made_with() {
    let methods = [KeyEncapsulation::MlKem768, KeyEncapsulation::MlKem1024];
    for side in 0..2 {
        let mut sim = begin_with(1, Weather::FAIR, &methods);
        sim.run(Duration::from_secs(60));
        assert_eq!(sim.ike_sas(), [1, 1]);
        let before: Vec<u64> = sim.hosts[side].engine.isakmp_sas(sim.now).iter().map(|sa| sa.spi_i).collect();
        let fragmented = exchanges(&sim, CREATE_CHILD_SA);
        sim.command(side, Command::RekeyIke(CONNECTION));
        sim.run(Duration::from_secs(60));
        let after: Vec<u64> = sim.hosts[side].engine.isakmp_sas(sim.now).iter().map(|sa| sa.spi_i).collect();
        assert_eq!((sim.ike_sas(), before == after), ([1, 1], false));
        assert!(
            suites(&sim).iter().all(|suite| suite.ends_with("+ ml-kem-768 + ml-kem-1024")),
            "{:?}",
            suites(&sim)
        );
        assert_eq!(exchanges(&sim, CREATE_CHILD_SA), fragmented + 2);
        assert!(exchanges(&sim, IKE_FOLLOWUP_KE) >= 4, "two exchanges, in fragments or not");
        // Both have the same keys, or the children's next rekey would fail.
        sim.command(1 - side, Command::RekeyChild(FIRST));
        sim.run(Duration::from_secs(60));
        assert_eq!(sim.disagreement(FIRST), None);
        assert!(matches!(sim.send_packet(side, FIRST), Delivery::First { .. }));
    }
}

#[test]
fn both_sides_at_once_end_with_one() {
    for seed in 0..40 {
        let mut sim = begin(seed, Weather::FAIR);
        sim.run(Duration::from_secs(60));
        for side in 0..2 {
            sim.command(side, Command::RekeyIke(CONNECTION));
        }
        sim.run(Duration::from_secs(120));
        assert_eq!(sim.ike_sas(), [1, 1], "seed {seed}");
        assert_eq!(sim.disagreement(FIRST), None, "seed {seed}");
    }
}

/// A rekey whose peer ends the SA in the middle leaves nothing.
#[test]
fn an_end_in_the_middle_ends_all() {
    for seed in 0..20 {
        let mut sim = begin(seed, Weather::FAIR);
        sim.run(Duration::from_secs(60));
        sim.command(0, Command::RekeyIke(CONNECTION));
        let side = usize::try_from(seed % 2).unwrap();
        sim.run(Duration::from_millis(5 * seed));
        sim.command(side, Command::Terminate(CONNECTION));
        sim.command(1 - side, Command::Terminate(CONNECTION));
        sim.run(Duration::from_secs(120));
        assert_eq!(sim.ike_sas(), [0, 0], "seed {seed}");
        assert!(sim.hosts.iter().all(|host| host.dataplane.is_empty()), "seed {seed}");
    }
}

#[test]
fn an_sa_without_ml_kem_is_rekeyed_without() {
    let mut sim = Simulation::new(Instant::now(), 3, Limits::default(), Weather::FAIR);
    let now = sim.now;
    for side in 0..2 {
        let mut connection = setup::connection(side, CHILDREN);
        if side == 0 {
            connection.proposals[0].additional_key_exchanges = vec![vec![KeyEncapsulation::MlKem768]];
        }
        sim.hosts[side].engine.set_connection(now, connection);
        sim.drain(side);
    }
    sim.run(Duration::from_secs(60));
    for side in 0..2 {
        sim.command(side, Command::RekeyIke(CONNECTION));
        sim.run(Duration::from_secs(60));
        assert_eq!(sim.ike_sas(), [1, 1]);
    }
    assert_eq!((exchanges(&sim, IKE_FOLLOWUP_KE), count(&sim, "ike_rekeys_refused")), (0, 0));
}

#[test]
fn converges_from_a_simultaneous_start() {
    storms::converges(40, begin);
}

#[test]
fn a_rekey_storm_leaves_no_orphan() {
    storms::a_rekey_storm_leaves_no_orphan(60, begin);
}

#[test]
fn no_packet_meets_an_unknown_spi() {
    storms::no_packet_meets_an_unknown_spi(60, begin);
}
