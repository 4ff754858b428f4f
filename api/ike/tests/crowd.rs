//! A thousand peers of one gateway: all connect at once, and their rekeys are spread.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ike::sim::{Simulation, Weather, setup};
use ike::*;

const PEERS: u16 = 1000;
const SOFT: Duration = Duration::from_secs(3600);

/// The connection between the gateway, side 1, and one of the peers, which are all side 0.
fn connection(side: usize, number: u16) -> Connection {
    let [high, low] = number.to_be_bytes();
    let (gateway, peer) = (IpAddr::from([192, 0, 2, 2]), IpAddr::from([10, 0, high, low]));
    let (local, remote) = if side == 0 { (peer, gateway) } else { (gateway, peer) };
    let mut connection = setup::connection(side, 1);
    connection.id = ConnectionId(number.into());
    (connection.local, connection.remote) = (local, remote);
    connection.local_identity = Identity::Address(local);
    connection.remote_identity = Identity::Address(remote);
    // Only what has a cause in the test is said.
    connection.dpd = None;
    let child = &mut connection.children[0];
    child.id = ChildId(number.into());
    child.start = side == 0;
    child.lifetime.soft = SOFT;
    child.local_selectors = vec![setup::gre(local)];
    child.remote_selectors = vec![setup::gre(remote)];
    connection
}

fn disagreements(sim: &Simulation) -> Vec<String> {
    (0..PEERS).filter_map(|number| sim.disagreement(ChildId(number.into()))).collect()
}

#[test]
fn connects_at_once_and_rekeys_within_its_jitter() {
    let mut sim = Simulation::new(Instant::now(), 38, Limits::default(), Weather::FAIR);
    let now = sim.now;
    for side in [1, 0] {
        for number in 0..PEERS {
            sim.hosts[side].engine.set_connection(now, connection(side, number));
        }
    }
    sim.drain(1);
    sim.drain(0);
    sim.run(Duration::from_secs(5));
    assert_eq!(disagreements(&sim), Vec::<String>::new());
    assert_eq!(sim.ike_sas(), [usize::from(PEERS); 2]);
    assert!(sim.hosts[1].engine.counters()["cookies_demanded"] > 0, "it was not crowded");

    let begin = sim.now;
    let old: Vec<_> =
        (0..PEERS).map(|number| sim.hosts[1].dataplane.sending_on(ChildId(number.into()))).collect();
    sim.run(SOFT + Duration::from_secs(10));
    assert_eq!(disagreements(&sim), Vec::<String>::new());
    assert_eq!(sim.ike_sas(), [usize::from(PEERS); 2]);
    for (number, old) in (0..PEERS).zip(old) {
        assert_ne!(sim.hosts[1].dataplane.sending_on(ChildId(number.into())), old, "child {number}");
    }
    // Each end shortens its lifetime by up to a tenth, so the first of the two acts in the last tenth.
    let mut by_second: BTreeMap<u64, u32> = BTreeMap::new();
    for (at, event) in &sim.hosts[1].events {
        assert!(!matches!(event, Event::ChildDown { .. } | Event::IkeDown { .. }), "{event:?}");
        if matches!(event, Event::ChildRekeyed { .. }) {
            *by_second.entry(at.duration_since(begin).as_secs()).or_default() += 1;
        }
    }
    let (first, last) = (by_second.first_key_value().unwrap(), by_second.last_key_value().unwrap());
    assert!(*first.0 >= SOFT.as_secs() * 9 / 10 - 5 && *last.0 <= SOFT.as_secs() + 5, "{by_second:?}");
    assert!(by_second.values().all(|count| *count <= u32::from(PEERS) / 20), "{by_second:?}");
    assert!(sim.hosts.iter().all(|host| host.dataplane.strays == 0));
}
