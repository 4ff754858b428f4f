//! What must fail, and what it is called when it does.

use std::time::{Duration, Instant};

use ike::sim::{Host, Simulation, Weather, setup};
use ike::*;
use zeroize::Zeroizing;

const FIRST: ChildId = ChildId(1);

/// Side 0 initiates; each side's connection may be changed before.
fn run(limits: Limits, change: impl Fn(usize, &mut Connection)) -> Simulation {
    let mut sim = Simulation::between(11, limits, Weather::FAIR, |side| {
        let mut connection = setup::called(side, 1);
        change(side, &mut connection);
        connection
    });
    sim.run(Duration::from_secs(20));
    sim
}

fn ike_cause(sim: &Simulation, side: usize) -> Option<Cause> {
    sim.hosts[side].events.iter().find_map(|(_, event)| match event {
        Event::IkeDown { cause, .. } => Some(cause.clone()),
        _ => None,
    })
}

fn child_cause(sim: &Simulation, side: usize) -> Option<Cause> {
    sim.hosts[side].events.iter().find_map(|(_, event)| match event {
        Event::ChildDown { cause, .. } => Some(cause.clone()),
        _ => None,
    })
}

/// Of the pairs of a host's one child.
fn modes(host: &Host, child: ChildId) -> Vec<Mode> {
    host.dataplane.pairs_of(child).into_iter().map(|installed| installed.pair.mode).collect()
}

fn assert_no_child(sim: &Simulation) {
    assert!(sim.hosts.iter().all(|host| host.dataplane.is_empty()));
}

#[test]
fn a_wrong_key() {
    let sim = run(Limits::default(), |side, connection| {
        if side == 0 {
            connection.authentication =
                Authentication::pre_shared_key(PreSharedKey(Zeroizing::new(b"not this one".to_vec())));
        }
    });
    assert_no_child(&sim);
    assert!(matches!(
        ike_cause(&sim, 0),
        Some(Cause::AuthenticationFailed { side: "the peer refused us", .. })
    ));
    assert!(matches!(
        ike_cause(&sim, 1),
        Some(Cause::AuthenticationFailed { side: "we refused the peer", .. })
    ));
}

#[test]
fn a_wrong_identity_looks_to_the_peer_like_a_wrong_key() {
    let sim = run(Limits::default(), |side, connection| {
        if side == 0 {
            connection.local_identity = Identity::Fqdn("impostor.example".to_owned());
        }
    });
    assert_no_child(&sim);
    assert!(matches!(
        ike_cause(&sim, 0),
        Some(Cause::AuthenticationFailed { side: "the peer refused us", .. })
    ));
    let cause = ike_cause(&sim, 1).unwrap().to_string();
    assert!(cause.contains("impostor.example"), "{cause}");
}

#[test]
fn the_initiator_refuses_a_responder_with_another_identity() {
    let sim = run(Limits::default(), |side, connection| {
        // Without IDr in common the responder still finds its connection by IDi.
        if side == 1 {
            connection.local_identity = Identity::Fqdn("other.example".to_owned());
        }
    });
    assert_no_child(&sim);
    assert!(matches!(ike_cause(&sim, 0), Some(Cause::AuthenticationFailed { .. })));
}

#[test]
fn no_ike_proposal_in_common() {
    let sim = run(Limits::default(), |side, connection| {
        if side == 1 {
            connection.proposals[0].encryption = vec![IkeEncryption::Aes128Cbc];
        }
    });
    assert_no_child(&sim);
    assert!(matches!(ike_cause(&sim, 0), Some(Cause::NoProposalChosen { phase: Phase::IkeSaInit, .. })));
    assert!(sim.hosts[1].engine.counters()["no_proposal_chosen"] >= 1);
}

/// A gateway with two connections at one address, by their ids what each allows, to the second of which a peer belongs that
/// offers `theirs`.
fn second_at_one_address(allowed: [&[IkeEncryption]; 2], theirs: &[IkeEncryption]) -> Simulation {
    let offering = |side, encryption: &[IkeEncryption]| {
        let mut connection = setup::called(side, 1);
        connection.proposals[0].encryption = encryption.to_vec();
        connection
    };
    let mut sim = Simulation::new(Instant::now(), 11, Limits::default(), Weather::FAIR);
    let identity = |number: usize| Identity::Fqdn(format!("peer-{number}.example"));
    for (number, allowed) in allowed.into_iter().enumerate() {
        let mut connection = offering(1, allowed);
        connection.id = ConnectionId(10 + number as u64);
        connection.children[0].id = ChildId(if number == 1 { FIRST.0 } else { 2 });
        connection.remote_identity = identity(number);
        sim.configure(1, connection);
    }
    let mut peer = offering(0, theirs);
    peer.local_identity = identity(1);
    sim.configure(0, peer);
    sim.run(Duration::from_secs(5));
    sim
}

/// The first that fits chooses, before anyone can say who it is; the others are asked only whether they allow that.
#[test]
fn what_is_chosen_for_one_connection_may_serve_another_at_its_address() {
    const AES_128: IkeEncryption = IkeEncryption::Aes128Gcm16;
    const AES_256: IkeEncryption = IkeEncryption::Aes256Gcm16;
    let both = [AES_128, AES_256];
    let cases: [[&[IkeEncryption]; 2]; 3] =
        [[&both, &[AES_256, AES_128]], [&[AES_128], &[AES_256, AES_128]], [&[AES_128], &both]];
    for allowed in cases {
        let sim = second_at_one_address(allowed, &both);
        assert_eq!(sim.disagreement(FIRST), None, "{allowed:?}");
        assert!(sim.hosts[1].engine.isakmp_sas(sim.now)[0].suite.starts_with("aes-128-gcm"));
    }
    // A peer that offers what its connection allows, and no more, is not mistaken.
    let sim = second_at_one_address([&[AES_128], &[AES_256]], &[AES_256]);
    assert_eq!(sim.disagreement(FIRST), None);
    // One that offers more is chosen for by the other connection, and told apart too late: by name.
    let sim = second_at_one_address([&[AES_128], &[AES_256]], &both);
    assert_no_child(&sim);
    let cause = ike_cause(&sim, 1).unwrap().to_string();
    assert!(cause.contains("peer-1.example does not allow aes-128-gcm"), "{cause}");
}

#[test]
fn no_esp_proposal_in_common_keeps_the_ike_sa() {
    let sim = run(Limits::default(), |side, connection| {
        let encryption = if side == 0 { EspEncryption::Aes128Gcm16 } else { EspEncryption::Aes256Gcm16 };
        connection.children[0].proposals[0].encryption = vec![encryption];
    });
    assert_no_child(&sim);
    assert_eq!(sim.ike_sas(), [1, 1]);
    for side in 0..2 {
        assert!(matches!(
            child_cause(&sim, side),
            Some(Cause::NoProposalChosen { phase: Phase::IkeAuth, .. })
        ));
    }
}

#[test]
fn no_traffic_selectors_in_common_keeps_the_ike_sa() {
    let sim = run(Limits::default(), |side, connection| {
        if side == 1 {
            connection.children[0].remote_selectors[0].protocol = 50;
        }
    });
    assert_no_child(&sim);
    assert_eq!(sim.ike_sas(), [1, 1]);
    let cause = child_cause(&sim, 1).unwrap().to_string();
    assert!(cause.contains("protocol 50") && cause.contains("gre"), "{cause}");
}

#[test]
fn modes_that_differ_either_way() {
    for transport in 0..2 {
        let sim = run(Limits::default(), |side, connection| {
            connection.children[0].mode = if side == transport { Mode::Transport } else { Mode::Tunnel };
        });
        assert_no_child(&sim);
        assert_eq!(sim.ike_sas(), [1, 1]);
        assert!(matches!(child_cause(&sim, transport), Some(Cause::ModeMismatch { .. })), "{transport}");
    }
}

/// Whoever begins, and whoever has tunnel mode alone.
#[test]
fn tunnel_mode_is_taken_where_it_may_take_the_place_of_transport_mode() {
    for transport in 0..2 {
        let sim = run(Limits::default(), |side, connection| {
            let child = &mut connection.children[0];
            child.mode = if side == transport { Mode::Transport } else { Mode::Tunnel };
            child.tunnel_fallback = side == transport;
        });
        for host in &sim.hosts {
            assert_eq!(modes(host, ChildId(1)), [Mode::Tunnel], "{transport}");
        }
    }
    // Where both have it, it is transport mode.
    let sim = run(Limits::default(), |_, connection| connection.children[0].tunnel_fallback = true);
    assert_eq!(modes(&sim.hosts[0], ChildId(1)), [Mode::Transport]);
}

#[test]
fn selectors_are_narrowed_to_what_both_allow() {
    let sim = run(Limits::default(), |side, connection| {
        if side == 0 {
            let any = TrafficSelector {
                first: [0; 4].into(),
                last: [255; 4].into(),
                protocol: 0,
                ports: (0, u16::MAX),
            };
            connection.children[0].local_selectors = vec![any];
            connection.children[0].remote_selectors = vec![any];
        }
    });
    assert_eq!(sim.disagreement(FIRST), None);
    for side in 0..2 {
        let pairs = sim.hosts[side].dataplane.pairs_of(FIRST);
        assert_eq!(pairs[0].pair.local_selectors, [setup::gre(setup::address(side))]);
        assert_eq!(pairs[0].pair.remote_selectors, [setup::gre(setup::address(1 - side))]);
    }
}

/// RFC 7296 section 2.9: the responder answers with a subset that holds what was named first. Rekeyed, it is the same one.
#[test]
fn no_more_is_agreed_than_an_sa_can_have() {
    let host = |number: u8| TrafficSelector {
        first: [10, 0, 0, number].into(),
        last: [10, 0, 0, number].into(),
        protocol: 0,
        ports: (0, u16::MAX),
    };
    let any = TrafficSelector { first: [0; 4].into(), last: [255; 4].into(), ..host(0) };
    let many: Vec<_> = (0..SELECTORS_MOST as u8 + 3).map(|number| host(number * 2)).collect();
    let mut sim = run(Limits::default(), |side, connection| {
        let child = &mut connection.children[0];
        child.mode = Mode::Tunnel;
        (child.local_selectors, child.remote_selectors) =
            if side == 0 { (vec![any], many.clone()) } else { (vec![any], vec![any]) };
    });
    for side in [0, 1, 0] {
        assert_eq!(sim.disagreement(FIRST), None);
        let pairs = [0, 1].map(|side| sim.hosts[side].dataplane.pairs_of(FIRST));
        let first = &many[..SELECTORS_MOST];
        assert_eq!([&pairs[0][0].pair.remote_selectors, &pairs[1][0].pair.local_selectors], [first, first]);
        sim.command(side, Command::RekeyChild(FIRST));
        sim.run(Duration::from_secs(20));
    }
}

/// RFC 7296 section 2.9.2: whoever rekeys, the new pair holds what the old one did.
#[test]
fn a_rekey_keeps_what_was_narrowed() {
    let mut sim = run(Limits::default(), |side, connection| {
        if side == 0 {
            let wide = |selector: &TrafficSelector| TrafficSelector { protocol: 0, ..*selector };
            let child = &mut connection.children[0];
            child.local_selectors = child.local_selectors.iter().map(wide).collect();
            child.remote_selectors = child.remote_selectors.iter().map(wide).collect();
        }
    });
    let selectors = |sim: &Simulation| {
        let pair = &sim.hosts[0].dataplane.pairs_of(FIRST)[0].pair;
        (pair.spi_in, [pair.local_selectors.clone(), pair.remote_selectors.clone()])
    };
    let (mut spi_in, narrowed) = selectors(&sim);
    assert_eq!(narrowed, [0, 1].map(|side| vec![setup::gre(setup::address(side))]));
    for side in [0, 1, 0] {
        sim.command(side, Command::RekeyChild(FIRST));
        sim.run(Duration::from_secs(10));
        let (next, now) = selectors(&sim);
        assert!(next != spi_in && now == narrowed, "by side {side}: {now:?}");
        assert_eq!(sim.disagreement(FIRST), None);
        spi_in = next;
    }
}

#[test]
fn a_dataplane_that_refuses_leaves_no_half_child() {
    for side in 0..2 {
        let mut sim = Simulation::new(Instant::now(), 3, Limits::default(), Weather::FAIR);
        sim.hosts[side].refuses_installs = true;
        for end in [1, 0] {
            sim.configure(end, setup::called(end, 1));
        }
        sim.run(Duration::from_millis(500));
        assert_no_child(&sim);
        assert_eq!(sim.ike_sas(), [1, 1]);
        assert!(matches!(child_cause(&sim, side), Some(Cause::Dataplane { .. })));
        sim.hosts[side].refuses_installs = false;
        sim.run(Duration::from_secs(70));
        assert_eq!(sim.disagreement(FIRST), None);
    }
}

#[test]
fn another_group_is_agreed_by_invalid_ke_payload_in_both_exchanges() {
    let mut sim = run(Limits::default(), |side, connection| {
        let groups = if side == 0 {
            vec![Group::Curve25519, Group::EcpP256, Group::Modp2048]
        } else {
            vec![Group::Modp2048]
        };
        connection.proposals[0].groups.clone_from(&groups);
        connection.children[0].proposals[0].groups = groups;
    });
    assert_eq!(sim.disagreement(FIRST), None);
    sim.command(0, Command::RekeyChild(FIRST));
    sim.run(Duration::from_secs(2));
    sim.command(0, Command::RekeyIke(ConnectionId(1)));
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.disagreement(FIRST), None);
    assert_eq!(sim.ike_sas(), [1, 1]);
    assert!(sim.hosts[0].engine.isakmp_sas(sim.now)[0].suite.ends_with("group 14"));
    assert_eq!(sim.hosts[0].engine.counters()["groups_changed"], 2);
}

#[test]
fn cookies_are_demanded_and_given_back() {
    let sim = run(Limits { cookie_threshold: 0, ..Limits::default() }, |_, _| {});
    assert_eq!(sim.disagreement(FIRST), None);
    assert_eq!(sim.hosts[1].engine.counters()["cookies_demanded"], 1);
    assert_eq!(sim.hosts[0].engine.counters()["cookies_returned"], 1);
}

/// Whatever comes from whoever did not prove its address: no more bytes back than came, and no state once crowded.
#[test]
fn a_flood_is_answered_with_less_than_it_sends_and_leaves_little() {
    let mut sim =
        run(Limits { half_open_timeout: Duration::from_secs(3600), ..Limits::default() }, |_, _| {});
    let (_, sent, request) = sim.link.log[0].clone();
    let path = Path { local: sent.remote, remote: sent.local };
    let before = sim.link.log.len();
    for number in 0..500u64 {
        let mut changed = request.clone();
        changed[..8].copy_from_slice(&(number + 1).to_be_bytes());
        let answered = sim.link.log.len();
        sim.inject(1, path, &changed);
        let bytes: usize = sim.link.log[answered..].iter().map(|(_, _, bytes)| bytes.len()).sum();
        assert!(bytes <= changed.len());
    }
    assert!(sim.link.log.len() > before);
    assert!(sim.ike_sas()[1] <= 1 + 3, "{:?}", sim.ike_sas());
    assert_eq!(sim.disagreement(FIRST), None);
}

#[test]
fn replayed_and_changed_messages_change_nothing() {
    let mut sim = run(Limits::default(), |_, _| {});
    sim.command(0, Command::RekeyChild(FIRST));
    sim.run(Duration::from_secs(2));
    let log = sim.link.log.clone();
    let pair = sim.hosts[0].dataplane.sending_on(FIRST);
    let events = [0, 1].map(|side| sim.hosts[side].events.len());
    for (from, sent, bytes) in &log {
        let path = Path { local: sent.remote, remote: sent.local };
        sim.inject(1 - from, path, bytes);
        for index in (0..bytes.len()).step_by(3) {
            let mut changed = bytes.clone();
            changed[index] ^= 0x40;
            sim.inject(1 - from, path, &changed);
            sim.inject(1 - from, path, &bytes[..index]);
        }
    }
    assert_eq!(sim.hosts[0].dataplane.sending_on(FIRST), pair);
    assert_eq!(sim.disagreement(FIRST), None);
    assert_eq!([0, 1].map(|side| sim.hosts[side].events.len()), events);
    assert!(sim.hosts.iter().all(|host| host.engine.counters().get("panics").is_none()));
}

#[test]
fn a_changed_configuration_takes_effect_and_an_unchanged_one_does_not_disturb() {
    let mut sim = run(Limits::default(), |_, _| {});
    let pair = sim.hosts[0].dataplane.sending_on(FIRST);
    sim.configure(0, setup::called(0, 1));
    sim.run(Duration::from_secs(1));
    assert_eq!(sim.hosts[0].dataplane.sending_on(FIRST), pair);
    for side in [1, 0] {
        let mut connection = setup::called(side, 1);
        connection.authentication =
            Authentication::pre_shared_key(PreSharedKey(Zeroizing::new(b"the next key".to_vec())));
        sim.configure(side, connection);
    }
    sim.run(Duration::from_secs(30));
    assert_ne!(sim.hosts[0].dataplane.sending_on(FIRST), pair);
    assert_eq!(sim.disagreement(FIRST), None);
    let now = sim.now;
    sim.hosts[0].engine.remove_connection(now, ConnectionId(1));
    sim.drain(0);
    sim.run(Duration::from_secs(60));
    assert_eq!(sim.ike_sas(), [0, 0]);
    assert_no_child(&sim);
}
