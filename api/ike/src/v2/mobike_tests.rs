//! What the notifications of MOBIKE do to an SA, one by one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::crypto::{IkeCipher, IkeKeys, IkeSuite, Spis};
use crate::sim::setup;
use crate::v2::fragments::Fragments;
use crate::v2::nat::Nat;
use crate::v2::proposals::Additional;
use crate::{ConnectionId, Group, Hash, IkeSaId, KeyEncapsulation, Limits, TrafficSelector};

fn keys(additional: Option<KeyEncapsulation>) -> IkeKeys {
    let suite = IkeSuite {
        cipher: IkeCipher::Aes256Gcm16,
        prf: Hash::Sha2_256,
        group: Group::Curve25519,
        additional: [additional, None, None, None, None, None, None],
    };
    IkeKeys::first(suite, false, &[7; 32], (&[1; 32], &[2; 32]), Spis { initiator: 1, responder: 2 })
}

/// A peer with MOBIKE behind a NAT, and where it is.
struct Scene {
    established: Established,
    ends: Ends,
    core: Core,
    now: Instant,
    home: Path,
    abroad: Path,
}

fn scene() -> Scene {
    let now = Instant::now();
    let mut config = setup::connection(0, 1);
    config.children.iter_mut().for_each(|child| child.mode = Mode::Tunnel);
    let at = |address, port| SocketAddr::new(address, port);
    let home = Path { local: at(config.local, 4500), remote: at(config.remote, 4500) };
    let abroad = Path { remote: SocketAddr::from(([203, 0, 113, 77], 61_000)), ..home };
    let mut core = Core::new(Limits::default(), [3; 32]);
    let ends = Ends {
        id: IkeSaId(1),
        connection: ConnectionId(1),
        initiator: false,
        spis: Spis { initiator: 1, responder: 2 },
        path: home,
        nat: Nat { remote: true, ..Nat::default() },
        mobike: true,
        additional: false,
        peer_certificates: None,
        fragments: Fragments::new(true),
    };
    let established = Established::new(&mut core, now, Arc::new(config), keys(None), vec![1; 32], (0, 1));
    Scene { established, ends, core, now, home, abroad }
}

impl Scene {
    /// What a request with these notifications, received on this path, is answered with.
    fn hears(&mut self, path: Path, notifies: Vec<Notify>) -> Vec<(u16, Vec<u8>)> {
        let picked = Picked { notifies, ..Picked::default() };
        let answer =
            self.established.follow_announced(&mut self.ends, &mut self.core, self.now, path, &picked);
        let told = |payload| match payload {
            Payload::Notify(notify) => (notify.kind, notify.data),
            other => panic!("{other:?}"),
        };
        answer.into_iter().map(told).collect()
    }
}

fn bare(kind: u16) -> Notify {
    Notify::new(kind, Vec::new())
}

#[test]
fn only_a_peer_that_says_so_is_followed() {
    let mut scene = scene();
    // By what arrives, as one without MOBIKE behind a NAT would be.
    scene.established.follow(&mut scene.ends, &mut scene.core, scene.abroad);
    assert_eq!(scene.ends.path, scene.home);
    // A look at the way is answered there, and moves nothing.
    let (there, cookie) = (scene.abroad, Notify::new(notify::COOKIE2, vec![9; 16]));
    let answer = scene.hears(there, vec![cookie, bare(notify::NAT_DETECTION_SOURCE_IP)]);
    let kinds: Vec<u16> = answer.iter().map(|(kind, _)| *kind).collect();
    let expected = [notify::COOKIE2, notify::NAT_DETECTION_SOURCE_IP, notify::NAT_DETECTION_DESTINATION_IP];
    assert_eq!((kinds.as_slice(), &answer[0].1), (expected.as_slice(), &vec![9; 16]));
    assert_eq!(scene.ends.path, scene.home);
    scene.hears(there, vec![bare(notify::UPDATE_SA_ADDRESSES)]);
    assert_eq!((scene.ends.path, scene.ends.nat.is_present()), (there, false));
    assert_eq!(scene.core.counters.get("peer_moves"), Some(&1));
    // And asked at once whether it is there.
    assert!(scene.established.queue.iter().any(|(_, job)| *job == Job::Probe));
}

/// What we asked is asked again where the peer is now, and not given up for what was lost on the way to where it was.
#[test]
fn what_waits_for_an_answer_goes_along() {
    let mut scene = scene();
    let Scene { established, ends, core, now, .. } = &mut scene;
    established.enqueue(*now, Job::Probe);
    established.pump(ends, core, *now);
    core.outputs.clear();
    let late = *now + std::time::Duration::from_secs(90);
    scene.now = late;
    let there = scene.abroad;
    scene.hears(there, vec![bare(notify::UPDATE_SA_ADDRESSES)]);
    let asked = scene.established.send.retransmission().unwrap();
    assert_eq!((asked.next_at(), asked.sent()), (late, 0));
    assert!(matches!(asked.poll(late, 0), crate::exchange::Due::Send(_)));
}

#[test]
fn an_sa_without_mobike_hears_nothing_of_it() {
    let mut scene = scene();
    scene.ends.mobike = false;
    let there = scene.abroad;
    let all = [notify::UPDATE_SA_ADDRESSES, notify::COOKIE2, notify::NO_NATS_ALLOWED];
    assert_eq!(scene.hears(there, all.map(bare).to_vec()), []);
    assert_eq!(scene.ends.path, scene.home);
}

#[test]
fn a_nat_that_the_peer_forbids_is_told() {
    let mut scene = scene();
    let seen = |path: Path| Notify::new(notify::NO_NATS_ALLOWED, addresses(path));
    let (here, there) = (scene.home, scene.abroad);
    let update = || bare(notify::UPDATE_SA_ADDRESSES);
    // The peer sent from home; what arrived came from elsewhere.
    let answer = scene.hears(there, vec![seen(here), update()]);
    assert_eq!(answer, [(notify::UNEXPECTED_NAT_DETECTED, vec![])]);
    assert_eq!(scene.ends.path, here);
    assert_eq!(scene.hears(there, vec![seen(there), update()]), []);
    assert_eq!(scene.ends.path, there);
}

#[test]
fn another_address_of_ours_is_not_acceptable() {
    let mut scene = scene();
    let there = Path { local: SocketAddr::from(([198, 51, 100, 200], 4500)), ..scene.abroad };
    let answer = scene.hears(there, vec![bare(notify::UPDATE_SA_ADDRESSES)]);
    assert_eq!(answer, [(notify::UNACCEPTABLE_ADDRESSES, vec![])]);
    assert_eq!(scene.ends.path, scene.home);
}

#[test]
fn transport_mode_is_not_for_it() {
    let says = Picked { notifies: vec![bare(notify::MOBIKE_SUPPORTED)], ..Picked::default() };
    let mut config = setup::connection(0, 2);
    let host = |address| TrafficSelector { first: address, last: address, protocol: 0, ports: (0, u16::MAX) };
    for (index, child) in config.children.iter_mut().enumerate() {
        child.mode = if index == 0 { Mode::Transport } else { Mode::Tunnel };
        child.local_selectors = vec![host(config.local)];
    }
    assert!(!agrees(&config, &says));
    config.children.iter_mut().for_each(|child| child.mode = Mode::Tunnel);
    assert!(agrees(&config, &says));
    assert!(!agrees(&config, &Picked::default()));
}

/// A rekey without ML-KEM does not make the peer one that cannot do it.
#[test]
fn what_the_peer_can_outlives_a_rekey_without() {
    use crate::v2::ike_rekey::additional_of;
    let mut scene = scene();
    assert_eq!(additional_of(&scene.ends), Additional::Impossible);
    scene.ends.additional = true;
    let heir = scene.ends.successor(IkeSaId(2), true, Spis { initiator: 3, responder: 4 });
    assert_eq!(additional_of(&heir), Additional::Followup);
    assert!(heir.mobike);
}
