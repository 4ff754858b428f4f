//! IKEv1 in bad weather: both ends always end up with exactly one pair, the same at both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail by panicking")]

mod storms;

use ike::sim::{Simulation, Weather, setup};
use ike::*;
use storms::CHILDREN;

fn begin(seed: u64, weather: Weather, both: bool) -> Simulation {
    // A fast group: here it is not arithmetic that is tried.
    let (ike, esp) = setup::classic();
    let ike = IkeProposal { groups: vec![Group::EcpP256], ..ike };
    Simulation::between(seed, Limits::default(), weather, |side| {
        let connection = setup::connection_v1(side, CHILDREN, ike.clone(), &esp);
        if both { connection } else { setup::only_caller_starts(side, connection) }
    })
}

#[test]
fn converges_from_a_start_by_one_side() {
    storms::converges(200, |seed, weather| begin(seed, weather, false));
}

#[test]
fn converges_from_a_simultaneous_start() {
    storms::converges(200, |seed, weather| begin(seed, weather, true));
}

#[test]
fn a_rekey_storm_leaves_no_orphan() {
    storms::a_rekey_storm_leaves_no_orphan(100, |seed, weather| begin(seed, weather, true));
}

#[test]
fn no_packet_meets_an_unknown_spi() {
    storms::no_packet_meets_an_unknown_spi(60, |seed, weather| begin(seed, weather, true));
}
