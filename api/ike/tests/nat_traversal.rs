//! Two engines with NATs between them (RFC 7296 section 2.23, RFC 3947).

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ike::sim::{Nat, Simulation, Weather, setup};
use ike::*;
use zeroize::Zeroizing;

const FIRST: ChildId = ChildId(1);
const INNER: [&str; 2] = ["10.0.0.1", "172.16.0.2"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// Versions of IKE.
const VERSIONS: [u8; 2] = [1, 2];

fn connection(version: u8, side: usize) -> Connection {
    let (ike, esp) = setup::classic();
    if version == 1 { setup::connection_v1(side, 1, ike, &esp) } else { setup::connection(side, 1) }
}

/// Ends 0 (initiator) and 1, those in `inside` behind a NAT of their own: it hides an initiator behind ports of its
/// choice and forwards all to a responder.
fn hidden(version: u8, inside: &[usize], mode: Mode) -> Simulation {
    changed(version, inside, mode, |_, _| {})
}

/// As [`hidden`], with the connections of each side changed.
fn changed(version: u8, inside: &[usize], mode: Mode, change: impl Fn(usize, &mut Connection)) -> Simulation {
    let mut sim = Simulation::new(Instant::now(), 11, Limits::default(), Weather::FAIR);
    for side in [1, 0] {
        let mut connection = connection(version, side);
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
        change(side, &mut connection);
        sim.configure(side, connection);
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
    for version in VERSIONS {
        let sim = hidden(version, &[], Mode::Transport);
        assert_eq!(sim.disagreement(FIRST), None);
        for side in [0, 1] {
            assert!(!pair(&sim, side).udp_encapsulation);
            assert_eq!(pair(&sim, side).path.local.port(), 500);
        }
    }
}

#[test]
fn both_float_wherever_the_nat_stands() {
    for (version, inside) in
        VERSIONS.into_iter().flat_map(|version| [&[0][..], &[1], &[0, 1]].map(|inside| (version, inside)))
    {
        for mode in [Mode::Transport, Mode::Tunnel] {
            let sim = hidden(version, inside, mode);
            assert_eq!(sim.disagreement(FIRST), None, "{version} {inside:?} {mode:?}");
            let ports: Vec<u16> = sim.link.log.iter().map(|(_, path, _)| path.local.port()).collect();
            // The addresses are told in IKE_SA_INIT, or in messages 3 and 4 of main mode.
            let (before, all) = if version == 1 { (4, 9) } else { (2, 4) };
            let expected: Vec<u16> = (0..all).map(|at| if at < before { 500 } else { 4500 }).collect();
            assert_eq!(ports, expected, "{version} {inside:?}");
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
    let mut sim = Simulation::between(12, Limits::default(), Weather::FAIR, |side| {
        let mut connection = setup::called(side, 1);
        if side == 0 {
            connection.children[0].local_selectors = vec![setup::gre(ip(INNER[0]))];
        }
        connection
    });
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
        let mut sim = hidden(2, &[inside], Mode::Transport);
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
    for version in VERSIONS {
        the_first_message_after_a_rebinding(version);
    }
}

fn the_first_message_after_a_rebinding(version: u8) {
    let mut sim = hidden(version, &[0], Mode::Transport);
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
    // Ours arrive there, whoever began the SA.
    let replaced = pair(&sim, 1).spi_in;
    sim.command(1, Command::RekeyChild(FIRST));
    sim.run(Duration::from_secs(60));
    assert_ne!(pair(&sim, 1).spi_in, replaced, "version {version}");
    sim.command(1, Command::RekeyIke(ConnectionId(1)));
    sim.run(Duration::from_secs(60));
    assert_eq!(sim.ike_sas(), [1, 1], "version {version}");
    let rekeyed = |(_, event): &(Instant, Event)| matches!(event, Event::IkeRekeyed { .. });
    assert!(sim.hosts[1].events.iter().any(rekeyed), "version {version}: {:?}", sim.hosts[1].events);
    assert_eq!(sim.disagreement(FIRST), None);
    // From there the peer may begin anew.
    let now = sim.now;
    sim.hosts[0].engine.handle_command(now, Command::Terminate(ConnectionId(1)));
    sim.drain(0);
    sim.run(Duration::from_secs(60));
    assert_eq!(sim.ike_sas(), [0, 0]);
    sim.command(0, Command::Initiate(ConnectionId(1)));
    sim.run(Duration::from_secs(10));
    assert_eq!(sim.disagreement(FIRST), None, "version {version}");
}

#[test]
fn a_moved_packet_of_esp_moves_ike_too() {
    for version in VERSIONS {
        a_moved_packet(version);
    }
}

fn a_moved_packet(version: u8) {
    let mut sim = hidden(version, &[0], Mode::Transport);
    sim.link.nats[0].rebind(ip("203.0.113.77"));
    let moved = at(ip("203.0.113.77"), 20_003);
    let spi_in = pair(&sim, 1).spi_in;
    sim.dataplane(1, DataplaneEvent::PeerMoved { spi_in, remote: moved });
    assert_eq!(pair(&sim, 1).path, Path { local: at(setup::address(1), 4500), remote: moved });
    let start = sim.link.log.len();
    sim.command(1, Command::RekeyChild(FIRST));
    assert_eq!(sim.link.log[start].1.remote, moved);
    assert_eq!(sim.hosts.iter().map(|host| host.dataplane.strays).sum::<usize>(), 0);
}

#[test]
fn a_peer_without_a_nat_is_not_followed_to_another_address() {
    for (version, inside) in VERSIONS.into_iter().flat_map(|version| [(version, &[][..]), (version, &[1])]) {
        let mut sim = hidden(version, inside, Mode::Tunnel);
        let (spi_in, path) = (pair(&sim, 1).spi_in, pair(&sim, 1).path);
        let remote = at(ip("203.0.113.66"), 4500);
        sim.dataplane(1, DataplaneEvent::PeerMoved { spi_in, remote });
        assert_eq!(pair(&sim, 1).path, path, "{inside:?}");
        assert_eq!(sim.hosts[1].engine.counters().get("peer_moves"), None);
    }
}

#[test]
fn an_old_or_forged_message_from_elsewhere_moves_nothing() {
    for (version, last_of_first_exchanges) in [(1, 8), (2, 2)] {
        an_old_or_forged_message(version, last_of_first_exchanges);
    }
}

fn an_old_or_forged_message(version: u8, old: usize) {
    let mut sim = hidden(version, &[0], Mode::Transport);
    let path = pair(&sim, 1).path;
    let thief = Path { local: path.local, remote: at(ip("203.0.113.66"), 4500) };
    let seen = sim.link.log[old].2.clone();
    sim.inject(1, thief, &seen);
    let start = sim.link.log.len();
    sim.command(0, Command::RekeyChild(FIRST));
    let mut forged = sim.link.log[start].2.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(sim.inject(1, thief, &forged), Classified::Dropped("integrity"));
    assert_eq!(sim.hosts[1].engine.counters().get("peer_moves"), None);
    assert_eq!(pair(&sim, 1).path, path);
}

#[test]
fn a_forced_end_has_esp_in_udp_without_any_nat() {
    for version in VERSIONS {
        for forced in [&[0][..], &[1], &[0, 1]] {
            let mut sim = changed(version, &[], Mode::Transport, |side, connection| {
                if forced.contains(&side) {
                    connection.nat_traversal = NatTraversal::Force;
                }
            });
            assert_eq!(sim.disagreement(FIRST), None, "{version} {forced:?}");
            for side in [0, 1] {
                let pair = pair(&sim, side);
                assert!(pair.udp_encapsulation, "{version} {forced:?}");
                assert_eq!((pair.path.local.port(), pair.path.remote.port()), (4500, 4500));
                assert_eq!(pair.local_selectors, [setup::gre(setup::address(side))]);
            }
            // What drops ESP may forget UDP too: it is reminded, by whoever knows.
            let start = sim.link.log.len();
            sim.run(Duration::from_secs(61));
            let mut reminded: Vec<usize> = sim.link.log[start..]
                .iter()
                .filter(|(_, _, bytes)| *bytes == [0xff])
                .map(|(side, _, _)| *side)
                .collect();
            reminded.sort_unstable();
            reminded.dedup();
            assert!(forced.iter().all(|side| reminded.contains(side)), "{version} {forced:?} {reminded:?}");
        }
    }
}

#[test]
fn a_forced_end_refuses_a_peer_without_nat_traversal() {
    // NAT_DETECTION_SOURCE_IP and NAT_DETECTION_DESTINATION_IP become notifications that nobody knows.
    let silenced = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        for at in 0..bytes.len() - 8 {
            if bytes[at..at + 5] == [0, 28, 0, 0, 0x40] && [4, 5].contains(&bytes[at + 5]) {
                bytes[at + 4] = 0x90;
            }
        }
        bytes
    };
    let sim = hidden(2, &[], Mode::Transport);
    let (_, path, asked) = sim.link.log[0].clone();
    let mut forced = Simulation::new(Instant::now(), 21, Limits::default(), Weather::FAIR);
    forced.configure(1, Connection { nat_traversal: NatTraversal::Force, ..setup::called(1, 1) });
    let here = Path { local: path.remote, remote: path.local };
    assert_eq!(forced.inject(1, here, &silenced(&asked)), Classified::Dropped("nat_traversal_missing"));
    assert_eq!(forced.inject(1, here, &asked), Classified::Ike);

    // As initiator: whoever answers does not know NAT traversal.
    let mut sim = Simulation::between(22, Limits::default(), Weather::FAIR, |side| {
        let nat_traversal = [NatTraversal::Force, NatTraversal::Auto][side];
        Connection { nat_traversal, ..setup::called(side, 1) }
    });
    let (_, path, asked) = sim.link.log[0].clone();
    let there = Path { local: path.remote, remote: path.local };
    sim.inject(1, there, &asked);
    let answer = silenced(&sim.link.log[1].2.clone());
    assert_eq!(sim.inject(0, path, &answer), Classified::Dropped("nat_traversal_missing"));
}

#[test]
fn version_1_takes_the_address_of_transport_mode_only_as_the_original_one() {
    // The initiator names another address than the one that it says it has behind its NAT.
    let sim = changed(1, &[0], Mode::Transport, |side, connection| {
        if side == 0 {
            connection.children[0].local_selectors = vec![setup::gre(ip("10.9.9.9"))];
        }
    });
    assert!(sim.hosts[1].dataplane.is_empty());
    let refused = |(_, event): &(Instant, Event)| {
        matches!(event, Event::ChildDown { cause: Cause::TsUnacceptable { .. }, .. })
    };
    assert!(sim.hosts[1].events.iter().any(refused), "{:?}", sim.hosts[1].events);
}

/// Main mode chooses the key by the NAT's address: whoever else is behind it may have another.
#[test]
fn a_wrong_key_from_behind_a_nat_is_told_as_what_it_may_be() {
    let key = |text: &[u8]| Authentication::pre_shared_key(PreSharedKey(Zeroizing::new(text.to_vec())));
    for (inside, named) in [(&[0][..], true), (&[], false)] {
        let mut sim = changed(1, inside, Mode::Tunnel, |side, connection| {
            if side == 0 {
                connection.authentication = key(b"the key of another peer");
            }
        });
        sim.run(Duration::from_secs(120));
        let details: Vec<&String> = sim.hosts[1]
            .events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::IkeDown { cause: Cause::AuthenticationFailed { detail, .. }, .. } => Some(detail),
                _ => None,
            })
            .collect();
        let told =
            details.iter().any(|detail| detail.contains("only the pre-shared key of the NAT's address"));
        assert!(!details.is_empty() && told == named, "{inside:?}: {details:?}");
    }
}
