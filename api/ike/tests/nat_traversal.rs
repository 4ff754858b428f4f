//! Two engines with NATs between them (RFC 7296 section 2.23).

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ike::sim::{Nat, Simulation, Weather, setup};
use ike::*;

const FIRST: ChildId = ChildId(1);
const INNER: [&str; 2] = ["10.0.0.1", "172.16.0.2"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// Ends 0 (initiator) and 1, those in `inside` behind a NAT of their own: it hides an initiator behind ports of its
/// choice and forwards all to a responder.
fn hidden(inside: &[usize], mode: Mode) -> Simulation {
    let mut sim = Simulation::new(Instant::now(), 11, Limits::default(), Weather::FAIR);
    for side in [1, 0] {
        let mut connection = setup::connection(side, 1);
        connection.dpd = None;
        let child = &mut connection.children[0];
        (child.start, child.mode) = (side == 0, mode);
        if inside.contains(&side) {
            let (public, inner) = (setup::address(side), ip(INNER[side]));
            connection.local = inner;
            if mode == Mode::Transport {
                child.local_selectors = vec![setup::gre(inner)];
            }
            let nat =
                if side == 0 { Nat::masquerading(0, public) } else { Nat::forwarding(1, public, inner) };
            sim.link.nats.push(nat);
        }
        let now = sim.now;
        sim.hosts[side].engine.set_connection(now, connection);
        sim.drain(side);
    }
    sim.run(Duration::from_secs(2));
    sim
}

fn pair(sim: &Simulation, side: usize) -> &ChildPair {
    &sim.hosts[side].dataplane.pairs_of(FIRST)[0].pair
}

/// Where the only NAT shows what end 0 sends from port 4500.
fn outer(sim: &Simulation) -> SocketAddr {
    sim.link.nats[0].outer(at(ip(INNER[0]), 4500)).unwrap()
}

#[test]
fn without_a_nat_nothing_is_encapsulated() {
    let sim = hidden(&[], Mode::Transport);
    assert_eq!(sim.disagreement(FIRST), None);
    for side in [0, 1] {
        assert!(!pair(&sim, side).udp_encapsulation);
        assert_eq!(pair(&sim, side).path.local.port(), 500);
    }
}

#[test]
fn both_float_wherever_the_nat_stands() {
    for inside in [&[0][..], &[1], &[0, 1]] {
        for mode in [Mode::Transport, Mode::Tunnel] {
            let sim = hidden(inside, mode);
            assert_eq!(sim.disagreement(FIRST), None, "{inside:?} {mode:?}");
            let ports: Vec<u16> = sim.link.log.iter().map(|(_, path, _)| path.local.port()).collect();
            assert_eq!(ports, [500, 500, 4500, 4500], "{inside:?}");
            for side in [0, 1] {
                let pair = pair(&sim, side);
                assert!(pair.udp_encapsulation);
                assert_eq!(pair.path.local.port(), 4500);
                if mode == Mode::Transport {
                    // Each end knows itself by its inner address and the other one by what it sends to.
                    let inner = if inside.contains(&side) { ip(INNER[side]) } else { setup::address(side) };
                    assert_eq!(pair.local_selectors, [setup::gre(inner)], "{inside:?} {side}");
                    assert_eq!(pair.remote_selectors, [setup::gre(setup::address(1 - side))]);
                }
            }
            if inside.contains(&0) {
                assert_ne!(pair(&sim, 1).path.remote.port(), 4500, "the NAT chose it");
            }
        }
    }
}

#[test]
fn transport_mode_without_a_nat_substitutes_nothing() {
    let mut sim = Simulation::new(Instant::now(), 12, Limits::default(), Weather::FAIR);
    for side in [1, 0] {
        let mut connection = setup::connection(side, 1);
        let child = &mut connection.children[0];
        child.start = side == 0;
        if side == 0 {
            child.local_selectors = vec![setup::gre(ip(INNER[0]))];
        }
        let now = sim.now;
        sim.hosts[side].engine.set_connection(now, connection);
        sim.drain(side);
    }
    sim.run(Duration::from_secs(2));
    let refused = |(_, event): &(Instant, Event)| {
        matches!(event, Event::ChildDown { cause: Cause::TsUnacceptable { .. }, .. })
    };
    assert!(sim.hosts[0].events.iter().any(refused));
    assert!(sim.hosts[1].dataplane.is_empty());
}

#[test]
fn only_the_end_behind_the_nat_keeps_the_mapping_alive() {
    for inside in [0, 1] {
        let mut sim = hidden(&[inside], Mode::Transport);
        let start = sim.link.log.len();
        sim.run(Duration::from_secs(61));
        let sent: Vec<_> = sim.link.log[start..]
            .iter()
            .map(|(side, path, bytes)| (*side, path.local.port(), bytes))
            .collect();
        assert_eq!(sent, vec![(inside, 4500, &vec![0xff]); 3]);
    }
}

#[test]
fn the_first_message_after_a_rebinding_moves_the_path_and_the_pairs() {
    let mut sim = hidden(&[0], Mode::Transport);
    let (before, public) = (outer(&sim), ip("203.0.113.77"));
    sim.link.nats[0].rebind(public);
    sim.command(0, Command::RekeyChild(FIRST));
    sim.run(Duration::from_secs(10));
    let after = outer(&sim);
    assert_ne!(before, after);
    assert_eq!(sim.disagreement(FIRST), None);
    assert_eq!(pair(&sim, 1).path.remote, after, "the new pair is made where the peer is now");
    assert_eq!(sim.hosts[1].engine.counters().get("peer_moves"), Some(&1));
    // Selectors still name the configured address, whatever the NAT's is now.
    assert_eq!(pair(&sim, 1).remote_selectors, [setup::gre(setup::address(0))]);
    // Ours arrive there.
    sim.command(1, Command::RekeyIke(ConnectionId(1)));
    sim.run(Duration::from_secs(10));
    assert_eq!(sim.ike_sas(), [1, 1]);
}

#[test]
fn a_moved_packet_of_esp_moves_ike_too() {
    let mut sim = hidden(&[0], Mode::Transport);
    sim.link.nats[0].rebind(ip("203.0.113.77"));
    let moved = at(ip("203.0.113.77"), 20_003);
    let spi_in = pair(&sim, 1).spi_in;
    sim.dataplane(1, DataplaneEvent::PeerMoved { spi_in, remote: moved });
    assert_eq!(pair(&sim, 1).path, Path { local: at(setup::address(1), 4500), remote: moved });
    let start = sim.link.log.len();
    sim.command(1, Command::RekeyIke(ConnectionId(1)));
    assert_eq!(sim.link.log[start].1.remote, moved);
    assert_eq!(sim.hosts.iter().map(|host| host.dataplane.strays).sum::<usize>(), 0);
}

#[test]
fn a_peer_without_a_nat_is_not_followed_to_another_address() {
    for inside in [&[][..], &[1]] {
        let mut sim = hidden(inside, Mode::Tunnel);
        let (spi_in, path) = (pair(&sim, 1).spi_in, pair(&sim, 1).path);
        let remote = at(ip("203.0.113.66"), 4500);
        sim.dataplane(1, DataplaneEvent::PeerMoved { spi_in, remote });
        assert_eq!(pair(&sim, 1).path, path, "{inside:?}");
        assert_eq!(sim.hosts[1].engine.counters().get("peer_moves"), None);
    }
}

#[test]
fn an_old_or_forged_message_from_elsewhere_moves_nothing() {
    let mut sim = hidden(&[0], Mode::Transport);
    let path = pair(&sim, 1).path;
    let thief = Path { local: path.local, remote: at(ip("203.0.113.66"), 4500) };
    let auth = sim.link.log[2].2.clone();
    sim.inject(1, thief, &auth);
    let start = sim.link.log.len();
    sim.command(0, Command::RekeyChild(FIRST));
    let mut forged = sim.link.log[start].2.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(sim.inject(1, thief, &forged), Classified::Dropped("integrity"));
    assert_eq!(sim.hosts[1].engine.counters().get("peer_moves"), None);
    assert_eq!(pair(&sim, 1).path, path);
}
