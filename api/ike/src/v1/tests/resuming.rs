//! Peers that could not vouch for a phase 1.

use std::time::{Duration, Instant};

use crate::sim::{Simulation, Weather, setup};
use crate::v1::phase_one::PhaseOne;
use crate::{ConnectionId, Limits};

fn up() -> Simulation {
    let mut sim = Simulation::new(Instant::now(), 3, Limits::default(), Weather::FAIR);
    sim.tell_time();
    for side in 0..2 {
        let (ike, esp) = setup::classic();
        let connection = setup::connection_v1(side, 1, ike, &esp);
        sim.configure(side, setup::only_caller_starts(side, connection));
    }
    sim.run(Duration::from_secs(5));
    sim
}

fn change(sim: &mut Simulation, change: impl FnOnce(&mut PhaseOne)) {
    let now = sim.now;
    sim.hosts[0].engine.with_peer(now, ConnectionId(1), |peer, _| {
        change(peer.phase_ones.values_mut().next().unwrap());
    });
    sim.drain(0);
}

/// It did not say that it answers R-U-THERE (RFC 3706 section 5.1): nobody could know whether it has the phase 1.
#[test]
fn nothing_is_kept_of_a_peer_that_cannot_be_asked() {
    let mut sim = up();
    assert_eq!(sim.hosts[0].vault.len(), 1);
    change(&mut sim, |found| found.announced.dpd = false);
    assert!(sim.hosts[0].vault.is_empty());
}

/// A crash while a sign of life is awaited: the peer is asked with the number that it has not acknowledged.
#[test]
fn a_question_that_is_out_is_kept() {
    let mut sim = up();
    sim.link.cut = true;
    sim.run(Duration::from_secs(35));
    let mut asked = None;
    change(&mut sim, |found| asked = found.up().unwrap().probe.as_ref().map(|probe| probe.sequence));
    assert!(asked.is_some(), "it is silent");
    let (ike, esp) = setup::classic();
    let connection = setup::connection_v1(0, 1, ike, &esp);
    assert_eq!(sim.restart(0, setup::only_caller_starts(0, connection), Limits::default(), [7; 32]), 1);
    let mut question = None;
    change(&mut sim, |found| {
        question = found.up().unwrap().question.as_ref().map(|question| question.sequence());
    });
    assert_eq!(question, asked);
    sim.link.cut = false;
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.hosts[0].engine.counters().get("ike_sas_resumed"), Some(&1));
}
