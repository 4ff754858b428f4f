//! What was made with ML-KEM is rekeyed with it (IKE_FOLLOWUP_KE, RFC 9370 section 2.2.4): from either side, from both
//! at once, and over a link that loses, doubles and reorders.
//!
//! Seeds: see `storms`.

mod children;
mod ike_sas;
#[path = "../storms/mod.rs"]
mod storms;

use std::time::Duration;

use ike::sim::{Simulation, Weather};
use ike::*;

const FIRST: ChildId = ChildId(1);
const CONNECTION: ConnectionId = ConnectionId(1);
const CREATE_CHILD_SA: u8 = 36;
const IKE_FOLLOWUP_KE: u8 = 44;
const BOTH: [KeyEncapsulation; 2] = [KeyEncapsulation::MlKem768, KeyEncapsulation::MlKem1024];

/// One additional key exchange of the IKE SA for each of these methods.
fn additional(connection: &mut Connection, methods: &[KeyEncapsulation]) {
    connection.proposals[0].additional_key_exchanges = methods.iter().map(|method| vec![*method]).collect();
}

fn exchanges(sim: &Simulation, number: u8) -> usize {
    sim.link.log.iter().filter(|(_, _, bytes)| bytes[18] == number).count()
}

fn count(sim: &Simulation, name: &str) -> u64 {
    sim.hosts.iter().filter_map(|host| host.engine.counters().get(name).copied()).sum()
}

/// A rekey whose peer ends the SA in the middle leaves nothing.
fn an_end_in_the_middle_ends_all(begin: impl Fn(u64, Weather) -> Simulation, rekey: Command) {
    for seed in 0..20 {
        let mut sim = begin(seed, Weather::FAIR);
        sim.run(Duration::from_secs(60));
        sim.command(0, rekey);
        let side = usize::from(seed % 2 == 1);
        sim.run(Duration::from_millis(5 * seed));
        sim.command(side, Command::Terminate(CONNECTION));
        sim.command(1 - side, Command::Terminate(CONNECTION));
        sim.run(Duration::from_secs(120));
        assert_eq!(sim.ike_sas(), [0, 0], "seed {seed}");
        assert!(sim.hosts.iter().all(|host| host.dataplane.is_empty()), "seed {seed}");
    }
}
