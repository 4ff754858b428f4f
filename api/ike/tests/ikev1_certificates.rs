//! Main mode with signatures: keys of each kind, and what is refused in which words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail by panicking")]

mod pki;

use std::time::{Duration, Instant};

use ike::sim::{Delivery, Simulation, Weather, setup};
use ike::*;
use pki::{Ca, Leaf, NOW, both, params, remote};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
};
use zeroize::Zeroizing;

const NAMES: [&str; 2] = ["alpha.example", "beta.example"];
const CHILD: ChildId = ChildId(1);

fn connection(side: usize, authentication: Authentication) -> Connection {
    let (ike, esp) = setup::classic();
    let mut connection = setup::connection_v1(side, 1, ike, &esp);
    connection.children[0].start = side == 0;
    connection.local_identity = Identity::Fqdn(NAMES[side].to_owned());
    connection.remote_identity = Identity::Fqdn(NAMES[1 - side].to_owned());
    connection.authentication = authentication;
    connection
}

/// Side 0 starts, side 1 answers.
fn run(authentications: [Authentication; 2], weather: Weather) -> Simulation {
    let mut sim = Simulation::new(Instant::now(), 31, Limits::default(), weather);
    let now = sim.now;
    for (side, authentication) in authentications.into_iter().enumerate().rev() {
        sim.hosts[side].engine.set_wall_clock(now, NOW);
        sim.configure(side, connection(side, authentication));
    }
    sim.run(Duration::from_secs(40));
    sim
}

fn causes(sim: &Simulation, side: usize) -> String {
    let down = |event: &Event| match event {
        Event::IkeDown { cause, .. } => Some(cause.to_string()),
        _ => None,
    };
    let causes: Vec<String> = sim.hosts[side].events.iter().filter_map(|(_, event)| down(event)).collect();
    causes.join("\n")
}

fn keys() -> [fn() -> KeyPair; 3] {
    [
        || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
    ]
}

fn certified(ca: &Ca, side: usize, key: KeyPair) -> Leaf {
    ca.certify(&params(NAMES[side], &[NAMES[side]]), key)
}

#[test]
fn each_kind_of_key_signs_in_both_roles() {
    let ca = Ca::root("A root");
    for key in keys() {
        assert_eq!(both(&certified(&ca, 0, key()), ca.trust()).unfit_for_version_1(), None);
        let mut sim = run([0, 1].map(|side| both(&certified(&ca, side, key()), ca.trust())), Weather::FAIR);
        assert_eq!(sim.disagreement(CHILD), None, "{} / {}", causes(&sim, 0), causes(&sim, 1));
        for side in 0..2 {
            assert!(matches!(sim.send_packet(side, CHILD), Delivery::First { .. }));
        }
    }
}

/// A signature costs more to refuse than a hash: who sends many waits as long for the next as who guesses keys, and one SA
/// asks for one judgement only.
#[test]
fn refused_proofs_slow_their_source_down() {
    let limits = Limits {
        retransmit_base: Duration::from_millis(50),
        retransmit_tries: 2,
        retry_base: Duration::from_millis(50),
        retry_max: Duration::from_millis(50),
        ..Limits::default()
    };
    let most = limits.half_open_per_source as u64;
    let (ca, stranger) = (Ca::root("A root"), Ca::root("Another root"));
    let [_, p256, _] = keys();
    let sides =
        [both(&certified(&stranger, 0, p256()), ca.trust()), both(&certified(&ca, 1, p256()), ca.trust())];
    let mut sim = Simulation::new(Instant::now(), 31, limits, Weather::FAIR);
    let now = sim.now;
    for (side, authentication) in sides.into_iter().enumerate().rev() {
        sim.hosts[side].engine.set_wall_clock(now, NOW);
        sim.configure(side, connection(side, authentication));
    }
    let counter = |sim: &Simulation, name| sim.hosts[1].engine.counters().get(name).copied().unwrap_or(0);
    sim.run(Duration::from_secs(29));
    assert_eq!(counter(&sim, "authentication_failed"), most);
    assert!(counter(&sim, "half_open_limit") > 0);
    // The places are free again when their time is over.
    sim.run(Duration::from_secs(60));
    let refused = counter(&sim, "authentication_failed");
    assert!(refused > most && refused <= 4 * most, "{refused}");
    sim.link.cut = true;
    sim.run(Duration::from_secs(31));
    assert_eq!(sim.ike_sas()[1], 0);
}

/// Certificates make messages long: they come in pieces, lost and repeated.
#[test]
fn a_storm_does_not_keep_them_apart() {
    let ca = Ca::root("A root");
    let middle = ca.below("A CA", |_| {});
    let weather = Weather { loss_percent: 30, duplication_percent: 30, ..Weather::FAIR };
    let [rsa, ..] = keys();
    let sides = [0, 1].map(|side| both(&certified(&middle, side, rsa()).with_issuer(&middle), ca.trust()));
    let sim = run(sides, weather);
    assert_eq!(sim.disagreement(CHILD), None, "{} / {}", causes(&sim, 0), causes(&sim, 1));
}

#[test]
fn a_certificate_of_another_root_or_name_is_refused_with_the_reason() {
    let (ca, stranger) = (Ca::root("A root"), Ca::root("Another root"));
    let [rsa, p256, _] = keys();
    for key in [rsa, p256] {
        for (side, issuer, name, words) in [
            (0, &stranger, NAMES[0], "Another root"),
            (1, &stranger, NAMES[1], "Another root"),
            (0, &ca, "eve.example", "the identity alpha.example is not in the certificate"),
            (1, &ca, "eve.example", "the identity beta.example is not in the certificate"),
        ] {
            let mut sides = [0, 1].map(|side| both(&certified(&ca, side, key()), ca.trust()));
            sides[side] = both(&issuer.certify(&params(name, &[name]), key()), ca.trust());
            let sim = run(sides, Weather::FAIR);
            assert!(sim.hosts.iter().all(|host| host.dataplane.is_empty()), "something was installed");
            let told = causes(&sim, 1 - side);
            assert!(told.contains("we refused the peer") && told.contains(words), "{words}: {told}");
        }
    }
}

/// The method is a part of the proposal: ends that would prove themselves differently do not agree on one.
#[test]
fn ends_of_different_methods_find_no_proposal() {
    let ca = Ca::root("A root");
    let [rsa, p256, _] = keys();
    let shared = Authentication::pre_shared_key(PreSharedKey(Zeroizing::new(b"a shared key".to_vec())));
    let sim = run([both(&certified(&ca, 0, rsa()), ca.trust()), shared], Weather::FAIR);
    let told = causes(&sim, 1);
    assert!(told.contains("rsa-sig") && told.contains("pre-share"), "{told}");
    let sides = [both(&certified(&ca, 0, rsa()), ca.trust()), both(&certified(&ca, 1, p256()), ca.trust())];
    let told = causes(&run(sides, Weather::FAIR), 1);
    assert!(told.contains("rsa-sig") && told.contains("ecdsa-256"), "{told}");
}

/// Ed25519 has no number in IKEv1; a peer of a pre-shared key and a certificate is none of IKEv1 either.
#[test]
fn what_version_1_cannot_say_is_not_begun() {
    let ca = Ca::root("A root");
    let ed25519 = certified(&ca, 0, KeyPair::generate_for(&PKCS_ED25519).unwrap());
    let mixed = Authentication {
        local: LocalProof::PreSharedKey(PreSharedKey(Zeroizing::new(b"a shared key".to_vec()))),
        remote: remote(ca.trust()),
    };
    let said = [both(&ed25519, ca.trust()), mixed];
    for (authentication, why) in said.into_iter().zip(["Ed25519", "in the same way"]) {
        let [rsa, ..] = keys();
        assert!(authentication.unfit_for_version_1().is_some_and(|reason| reason.contains(why)));
        let sim = run([authentication, both(&certified(&ca, 1, rsa()), ca.trust())], Weather::FAIR);
        assert_eq!(sim.link.log.len(), 0, "nothing was sent");
    }
}

#[test]
fn a_revocation_ends_what_rests_on_it_and_time_does_too() {
    let ca = Ca::root("A root");
    let [_, p256, _] = keys();
    let mut mine = params(NAMES[0], &[NAMES[0]]);
    mine.serial_number = Some(77u64.into());
    let sides =
        || [both(&ca.certify(&mine, p256()), ca.trust()), both(&certified(&ca, 1, p256()), ca.trust())];

    let mut sim = run(sides(), Weather::FAIR);
    assert_eq!(sim.disagreement(CHILD), None);
    let trust = TrustMaterial { revocation_lists: vec![ca.revocation_list(&[77], 12)], ..ca.trust() };
    let judging = Authentication { remote: remote(trust), ..both(&certified(&ca, 1, p256()), ca.trust()) };
    sim.configure(1, connection(1, judging));
    sim.run(Duration::from_secs(20));
    assert!(causes(&sim, 1).contains("revoked"), "{}", causes(&sim, 1));
    assert!(sim.hosts[1].dataplane.is_empty());

    let mut sim = run(sides(), Weather::FAIR);
    let now = sim.now;
    const YEAR_SECS: u64 = 366 * 86_400;
    sim.hosts[1].engine.set_wall_clock(now, NOW + YEAR_SECS);
    sim.drain(1);
    sim.run(Duration::from_secs(20));
    assert!(causes(&sim, 1).contains("expired"), "{}", causes(&sim, 1));
}

/// What is kept of a phase 1 serves as long as the peer's certificates lead to what is trusted.
#[test]
fn what_is_kept_rests_on_the_peers_certificates() {
    let (ca, stranger) = (Ca::root("A root"), Ca::root("Another root"));
    let [_, p256, _] = keys();
    let leaves = [0, 1].map(|side| certified(&ca, side, p256()));
    let sides = [both(&leaves[0], ca.trust()), both(&leaves[1], ca.trust())];
    let sim = run(sides.clone(), Weather::FAIR);
    assert_eq!(sim.disagreement(CHILD), None);
    for side in 0..2 {
        let state = sim.hosts[side].vault.any().expect("a state");
        let fits =
            |connection: &Connection, unix_secs| Resumable::read(state).unwrap().fits(connection, unix_secs);
        assert_eq!(fits(&connection(side, sides[side].clone()), NOW + 60), Ok(()));
        let other = connection(side, both(&leaves[side], stranger.trust()));
        assert!(matches!(fits(&other, NOW + 60), Err(NotResumed::Certificate(_))));
        let keyed = Authentication::pre_shared_key(PreSharedKey(Zeroizing::new(b"a key".to_vec())));
        assert_eq!(fits(&connection(side, keyed), NOW + 60), Err(NotResumed::Connection));
    }
}
