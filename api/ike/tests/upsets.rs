//! What happens in the middle of something else: time jumps, the configuration changes, a connection goes, the dataplane
//! refuses or is slow. In the end both ends agree, or neither has anything.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::time::Duration;

use ike::sim::{Simulation, Weather, setup};
use ike::*;
use zeroize::Zeroizing;

const FIRST: ChildId = ChildId(1);
const CONNECTION: ConnectionId = ConnectionId(1);
/// Between two datagrams of the simulation's link.
const TICK: Duration = Duration::from_millis(5);
/// More than a set-up takes, and than one with a rekey of each kind after it.
const SETUP_TICKS: u32 = 12;
const WHOLE_TICKS: u32 = 36;

fn configured(side: usize) -> Connection {
    setup::called(side, 1)
}

fn begun() -> Simulation {
    Simulation::between(39, Limits::default(), Weather::FAIR, configured)
}

/// Set-up, then a rekey of the child by one end and of the IKE SA by the other, up to a tick.
fn until(ticks: u32) -> Simulation {
    let mut sim = begun();
    for tick in 0..ticks {
        match tick {
            SETUP_TICKS => sim.command(0, Command::RekeyChild(FIRST)),
            24 => sim.command(1, Command::RekeyIke(CONNECTION)),
            _ => {}
        }
        sim.run(TICK);
    }
    sim
}

fn agreed(sim: &Simulation, what: &str) {
    assert_eq!(sim.disagreement(FIRST), None, "{what}");
    assert_eq!(sim.ike_sas(), [1, 1], "{what}");
    for host in &sim.hosts {
        assert_eq!(host.dataplane.strays, 0, "{what}");
        assert!(!host.engine.counters().contains_key("panics"), "{what}");
    }
}

/// The machine was suspended: all timers are due at once, of whatever they were.
#[test]
fn time_that_jumps_leaves_one_pair() {
    const HOUR: u64 = 3600;
    for jump_secs in [10, 300, HOUR, 2 * HOUR, 30 * HOUR, 1000 * HOUR] {
        for ticks in [0, 1, 3, 5, SETUP_TICKS, SETUP_TICKS + 1, 25, WHOLE_TICKS] {
            let mut sim = until(ticks);
            sim.now += Duration::from_secs(jump_secs);
            sim.run(Duration::from_secs(200));
            agreed(&sim, &format!("{jump_secs} s after {ticks} ticks"));
        }
    }
}

/// Another key, at one end first and at the other a moment later, with whatever is under way.
#[test]
fn a_configuration_that_is_replaced_in_an_exchange_takes_effect() {
    let with_key = |side| {
        let key = PreSharedKey(Zeroizing::new(b"the next key".to_vec()));
        Connection { authentication: Authentication::pre_shared_key(key), ..configured(side) }
    };
    let with_group = |side| {
        let mut connection = configured(side);
        connection.proposals[0].groups = vec![Group::EcpP256];
        connection
    };
    let with_port = |side| {
        let mut connection = configured(side);
        let child = &mut connection.children[0];
        for selector in child.local_selectors.iter_mut().chain(&mut child.remote_selectors) {
            *selector = TrafficSelector { protocol: 17, ports: (4789, 4789), ..*selector };
        }
        connection
    };
    let changes: [(&str, &dyn Fn(usize) -> Connection); 3] =
        [("key", &with_key), ("group", &with_group), ("selectors", &with_port)];
    for (what, changed) in changes {
        for first in 0..2 {
            for ticks in 0..WHOLE_TICKS {
                let mut sim = until(ticks);
                sim.configure(first, changed(first));
                sim.run(TICK * 3);
                sim.configure(1 - first, changed(1 - first));
                sim.run(Duration::from_secs(200));
                let what = format!("{what}, side {first} first, after {ticks} ticks");
                agreed(&sim, &what);
                let pair = &sim.hosts[0].dataplane.pairs_of(FIRST)[0].pair;
                assert_eq!(pair.local_selectors, changed(0).children[0].local_selectors, "{what}");
            }
        }
    }
}

/// Whenever it goes, in the middle of IKE_AUTH or of a rekey: nothing is left of it at either end, and it may come again.
#[test]
fn a_connection_that_goes_in_an_exchange_leaves_nothing() {
    for side in 0..2 {
        for ticks in 0..WHOLE_TICKS {
            let what = format!("side {side} after {ticks} ticks");
            let mut sim = until(ticks);
            let now = sim.now;
            sim.hosts[side].engine.remove_connection(now, CONNECTION);
            sim.drain(side);
            // What was about to come up there is found dead by its silence.
            sim.run(Duration::from_secs(300));
            assert_eq!(sim.hosts[side].engine.isakmp_sas(sim.now).len(), 0, "{what}");
            assert!(sim.hosts.iter().all(|host| host.dataplane.is_empty()), "{what}");
            let other = sim.hosts[1 - side].engine.isakmp_sas(sim.now);
            assert!(other.iter().all(|sa| sa.state == "init"), "{what}: {other:?}");
            sim.configure(side, configured(side));
            sim.run(Duration::from_secs(200));
            agreed(&sim, &what);
        }
    }
}

/// Of a set-up, a rekey by each end and one of the IKE SA, each install in turn is refused: the peer hears of it, nothing
/// half is left, and what was wanted comes in the end.
#[test]
fn each_install_that_is_refused_is_made_good() {
    for side in 0..2 {
        for refused in 0..3 {
            let what = format!("side {side}, install {refused}");
            let mut sim = begun();
            sim.hosts[side].refused_install = Some(refused);
            sim.run(Duration::from_secs(70));
            for rekeying in [0, 1] {
                sim.command(rekeying, Command::RekeyChild(FIRST));
                sim.run(Duration::from_secs(70));
                agreed(&sim, &what);
            }
            sim.command(0, Command::RekeyIke(CONNECTION));
            sim.run(Duration::from_secs(70));
            agreed(&sim, &what);
            assert!(sim.hosts[side].installs_seen > refused, "{what}: it never came to it");
        }
    }
}

/// The ring to the dataplane is full: its answers come late, or after everything else has been given up.
#[test]
fn installs_that_are_answered_late_are_made_good() {
    for side in 0..2 {
        for late_secs in [1, 5, 20, 100] {
            for answer in [Ok(()), Err("the ring was full".to_owned())] {
                let what = format!("side {side}, {late_secs} s, {answer:?}");
                let mut sim = until(SETUP_TICKS);
                sim.hosts[side].withheld = Some(Vec::new());
                sim.command(0, Command::RekeyChild(FIRST));
                sim.run(Duration::from_secs(late_secs));
                let withheld = sim.hosts[side].withheld.take().unwrap();
                assert!(!withheld.is_empty(), "{what}");
                for operation in withheld {
                    sim.answer(side, operation, answer.clone());
                }
                sim.run(Duration::from_secs(200));
                agreed(&sim, &what);
            }
        }
    }
}
