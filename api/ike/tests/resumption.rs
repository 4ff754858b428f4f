//! An engine dies and another one takes its place: the IKE SAs go on, and no nonce is used twice.

#[allow(dead_code, reason = "each test file is a crate of its own and uses a part")]
mod storms;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ike::sim::{Simulation, Weather, setup};
use ike::*;
use storms::{CHILDREN, assert_settled};

fn begin(seed: u64, cipher: IkeEncryption, weather: Weather) -> Simulation {
    let mut sim = Simulation::new(Instant::now(), seed, Limits::default(), weather);
    sim.tell_time();
    for side in 0..2 {
        sim.configure(side, setup::sealed_by(cipher, setup::connection(side, CHILDREN)));
    }
    sim
}

fn up() -> Simulation {
    up_with(IkeEncryption::Aes256Gcm16)
}

fn up_with(cipher: IkeEncryption) -> Simulation {
    let mut sim = begin(1, cipher, Weather::FAIR);
    sim.run(Duration::from_secs(60));
    assert_settled(&sim, 1);
    sim
}

/// Restarts one end as it was configured; no two engines have one seed.
fn restart(sim: &mut Simulation, side: usize, number: u64) -> usize {
    restart_with(IkeEncryption::Aes256Gcm16, sim, side, number)
}

fn restart_with(cipher: IkeEncryption, sim: &mut Simulation, side: usize, number: u64) -> usize {
    let mut seed = [0xc3; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    seed[8] = side as u8;
    let connection = setup::sealed_by(cipher, setup::connection(side, CHILDREN));
    sim.restart(side, connection, Limits::default(), seed)
}

/// What the IKE SAs of one end are sealed by.
fn suites(sim: &Simulation, side: usize) -> Vec<String> {
    sim.hosts[side].engine.isakmp_sas(sim.now).into_iter().map(|sa| sa.suite).collect()
}

/// SPIs of the IKE SAs of one end.
fn spis(sim: &Simulation, side: usize) -> Vec<(u64, u64)> {
    sim.hosts[side].engine.isakmp_sas(sim.now).iter().map(|sa| (sa.spi_i, sa.spi_r)).collect()
}

fn causes(sim: &Simulation, side: usize) -> Vec<String> {
    let events = sim.hosts[side].events.iter();
    events
        .filter_map(|(_, event)| match event {
            Event::IkeDown { cause, .. } | Event::ChildDown { cause, .. } => Some(cause.to_string()),
            _ => None,
        })
        .collect()
}

/// IKE_SA_INIT messages sent so far.
fn negotiations(sim: &Simulation) -> usize {
    sim.link.log.iter().filter(|(_, _, bytes)| bytes.get(18) == Some(&34)).count()
}

/// What was sealed under one key of a combined cipher with one IV is one message, however often it was sent; and under one
/// id of one direction there is one message. Gives the number of sealed messages.
fn assert_no_nonce_twice(sim: &Simulation, seed: u64) -> usize {
    let mut by_nonce: BTreeMap<(usize, Vec<u8>), &[u8]> = BTreeMap::new();
    let mut by_id: BTreeMap<(usize, Vec<u8>), &[u8]> = BTreeMap::new();
    for (side, _, bytes) in &sim.link.log {
        let (header, after) = bytes.split_at(28);
        let fragment = match header[16] {
            46 => 0,
            53 => 4,
            _ => continue,
        };
        // The SPIs and the end that sends stand for the key.
        let nonce = [&header[..16], &after[4 + fragment..][..8]].concat();
        let sealed = by_nonce.entry((*side, nonce)).or_insert(bytes);
        assert!(*sealed == bytes.as_slice(), "seed {seed}: a nonce was used twice");
        // Flags, message id, and the number of a fragment.
        let id = [&header[..16], &header[19..24], &after[4..4 + fragment]].concat();
        let message = by_id.entry((*side, id)).or_insert(bytes);
        assert!(*message == bytes.as_slice(), "seed {seed}: two messages under one id");
    }
    by_nonce.len()
}

#[test]
fn a_restarted_end_goes_on_with_its_ike_sa() {
    for cipher in setup::COMBINED {
        goes_on(cipher);
    }
}

fn goes_on(cipher: IkeEncryption) {
    let mut sim = up_with(cipher);
    let suite = suites(&sim, 0);
    for (round, side) in [0, 1, 0, 0, 1].into_iter().enumerate() {
        let (before, begun) = (spis(&sim, side), negotiations(&sim));
        let pair = sim.hosts[side].dataplane.sending_on(ChildId(1));
        assert_eq!(restart_with(cipher, &mut sim, side, round as u64), 1);
        for _ in 0..50 {
            sim.run(Duration::from_millis(10));
            sim.send_packet(0, ChildId(1));
            sim.send_packet(1, ChildId(1));
        }
        assert_eq!(sim.unknown_spis, 0);
        assert_settled(&sim, 1);
        assert_eq!(spis(&sim, side), before, "the same SPIs");
        assert_eq!(negotiations(&sim), begun, "no IKE_SA_INIT");
        assert_eq!(suites(&sim, side), suite);
        assert_eq!(sim.hosts[side].dataplane.sending_on(ChildId(1)), pair);
        assert!(sim.hosts[side].events.iter().any(|(_, event)| matches!(event, Event::IkeResumed { .. })));
    }
    for side in 0..2 {
        sim.command(side, Command::RekeyChild(ChildId(1)));
        sim.run(Duration::from_secs(5));
        sim.command(side, Command::RekeyIke(ConnectionId(1)));
        sim.run(Duration::from_secs(5));
        assert_eq!(restart_with(cipher, &mut sim, side, 100), 1);
        sim.run(Duration::from_secs(5));
    }
    assert_settled(&sim, 1);
    for host in &sim.hosts {
        let downs = host.events.iter().filter(|(_, event)| matches!(event, Event::ChildDown { .. })).count();
        assert_eq!(downs, 0);
    }
    assert!(assert_no_nonce_twice(&sim, 1) > 20, "{suite:?}");
}

#[test]
fn lifetimes_go_on_over_a_restart() {
    let mut sim = up();
    sim.run(Duration::from_secs(3000));
    let view = |sim: &Simulation| sim.hosts[0].engine.isakmp_sas(sim.now).remove(0);
    let before = view(&sim);
    assert_eq!(restart(&mut sim, 0, 1), 1);
    let after = view(&sim);
    let close = |one: Option<u64>, other: Option<u64>| one.unwrap().abs_diff(other.unwrap()) <= 1;
    assert!(close(before.established_secs, after.established_secs), "{before:?} {after:?}");
    assert!(close(before.rekey_in_secs, after.rekey_in_secs), "{before:?} {after:?}");
    // The children's soft limit is due within 3600 s of their making.
    sim.run(Duration::from_secs(700));
    let rekeyed = sim
        .hosts
        .iter()
        .any(|host| host.events.iter().any(|(_, event)| matches!(event, Event::ChildRekeyed { .. })));
    assert!(rekeyed);
    assert_settled(&sim, 1);
}

#[test]
fn what_the_peer_has_lost_is_negotiated_anew_and_the_cause_told() {
    let mut sim = up();
    let before = spis(&sim, 0);
    // The peer goes and loses everything; nobody tells the other end, which restarts too.
    sim.hosts[1].engine = Engine::new(Limits::default(), [77; 32]);
    sim.hosts[1].dataplane = Default::default();
    assert_eq!(restart(&mut sim, 0, 1), 1);
    sim.run(Duration::from_secs(3));
    assert!(!sim.hosts[0].dataplane.is_empty(), "the pairs stay until others take their place");
    sim.configure(1, setup::called(1, CHILDREN));
    sim.run(Duration::from_secs(10));
    assert_settled(&sim, 1);
    assert_ne!(spis(&sim, 0), before);
    assert!(
        causes(&sim, 0).iter().any(|cause| cause.contains("did not answer on it")),
        "{:?}",
        causes(&sim, 0)
    );
    assert_no_nonce_twice(&sim, 1);
}

#[test]
fn a_peer_that_says_that_it_lacks_the_sa_is_believed_at_once() {
    let mut sim = up();
    let before = spis(&sim, 0);
    sim.link.cut = true;
    let sent = sim.link.log.len();
    assert_eq!(restart(&mut sim, 0, 1), 1);
    let (_, path, question) = sim.link.log[sent].clone();
    sim.link.cut = false;
    // RFC 7296 section 1.5: INVALID_IKE_SPI in clear, with the SPIs and the id of the question.
    let mut answer = question[..28].to_vec();
    answer[16] = 41;
    answer[19] = (question[19] ^ 0x08) | 0x20;
    answer[24..28].copy_from_slice(&36_u32.to_be_bytes());
    answer.extend_from_slice(&[0, 0, 0, 8, 0, 0, 0, 4]);
    let mut strange = path;
    strange.remote.set_port(4711);
    sim.inject(0, strange, &answer);
    assert_eq!(spis(&sim, 0), before, "not from elsewhere");
    sim.inject(0, path, &answer);
    sim.run(Duration::from_secs(2));
    assert!(!spis(&sim, 0).contains(&before[0]));
    assert!(causes(&sim, 0).iter().any(|cause| cause.contains("does not know it")), "{:?}", causes(&sim, 0));
    // The peer had it all the same: it finds that out by itself.
    sim.run(Duration::from_secs(300));
    assert_settled(&sim, 1);
}

#[test]
fn what_does_not_fit_any_more_is_not_resumed() {
    let changed: [fn(&mut Connection); 4] = [
        |connection| {
            let key = PreSharedKey(b"another one".to_vec().into());
            connection.authentication = Authentication::pre_shared_key(key);
        },
        |connection| connection.proposals[0].prf = vec![Hash::Sha2_512],
        |connection| connection.remote_identity = Identity::Fqdn("elsewhere".to_owned()),
        |connection| connection.children[0].proposals[0].esn = vec![false],
    ];
    for change in changed {
        let mut sim = up();
        let mut connection = setup::connection(0, CHILDREN);
        change(&mut connection);
        assert_eq!(sim.restart(0, connection, Limits::default(), [5; 32]), 0);
    }
    let mut sim = up();
    sim.die_after(0, 0);
    sim.run(Duration::from_secs(5000));
    assert_eq!(restart(&mut sim, 0, 1), 0, "its lifetime is over");
    assert!(Resumable::read(b"").is_err() && Resumable::read(&[0; 400]).is_err());
}

#[test]
fn nothing_is_kept_of_what_is_gone() {
    let mut sim = up();
    assert_eq!([0, 1].map(|side| sim.hosts[side].vault.len()), [1, 1]);
    for side in 0..2 {
        sim.command(side, Command::Shutdown);
    }
    sim.run(Duration::from_secs(10));
    assert!(sim.hosts.iter().all(|host| host.vault.is_empty()));
    // And nothing is written for what changes nothing.
    let mut sim = up();
    let before = sim.hosts[0].vault.changes;
    for _ in 0..200 {
        sim.run(Duration::from_millis(100));
        sim.send_packet(0, ChildId(1));
        sim.send_packet(1, ChildId(1));
    }
    let changes = sim.hosts[0].vault.changes - before;
    assert!(changes <= 1, "{changes}: but for the sign of life that was asked for before there was traffic");
}

#[test]
fn deaths_at_any_moment_leave_one_pair_of_each_child_and_no_nonce_twice() {
    let cipher = |seed: u64| setup::COMBINED[seed as usize % setup::COMBINED.len()];
    storms::deaths_at_any_moment(
        100,
        |seed, weather| begin(seed, cipher(seed), weather),
        |sim, seed, side, number| restart_with(cipher(seed), sim, side, number),
        |sim, seed| {
            assert_no_nonce_twice(sim, seed);
        },
    );
}
