//! IKE SAs.

use std::time::Duration;

use ike::sim::{Delivery, Simulation, Weather, setup};
use ike::*;

use super::storms::{self, CHILDREN};
use super::{BOTH, CONNECTION, CREATE_CHILD_SA, FIRST, IKE_FOLLOWUP_KE, additional, count, exchanges};

fn begin(seed: u64, weather: Weather) -> Simulation {
    begin_with(seed, weather, &[KeyEncapsulation::MlKem768])
}

fn begin_with(seed: u64, weather: Weather, methods: &[KeyEncapsulation]) -> Simulation {
    Simulation::between(seed, Limits::default(), weather, |side| {
        let mut connection = setup::connection(side, CHILDREN);
        additional(&mut connection, methods);
        connection
    })
}

fn suites(sim: &Simulation) -> Vec<String> {
    let sas = |side: usize| sim.hosts[side].engine.isakmp_sas(sim.now);
    (0..2).flat_map(sas).map(|sa| sa.suite).collect()
}

#[test]
fn either_side_rekeys_with_all_that_the_sa_was_made_with() {
    for side in 0..2 {
        let mut sim = begin_with(1, Weather::FAIR, &BOTH);
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

#[test]
fn an_end_in_the_middle_ends_all() {
    super::an_end_in_the_middle_ends_all(begin, Command::RekeyIke(CONNECTION));
}

#[test]
fn an_sa_without_ml_kem_is_rekeyed_without() {
    let mut sim = Simulation::between(3, Limits::default(), Weather::FAIR, |side| {
        let mut connection = setup::connection(side, CHILDREN);
        additional(&mut connection, if side == 0 { &BOTH[..1] } else { &[] });
        connection
    });
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
