//! An engine dies and another one takes its place: phase 1 SAs go on, and no message id is used twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail by panicking")]

#[allow(dead_code, reason = "each test file is a crate of its own and uses a part")]
mod storms;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ike::sim::{Simulation, Weather, setup};
use ike::*;
use storms::{CHILDREN, assert_settled};

const QUICK_MODE: u8 = 32;
const INFORMATIONAL: u8 = 5;

fn connection(side: usize) -> Connection {
    // A fast group: here it is not arithmetic that is tried.
    let (ike, esp) = setup::classic();
    let ike = IkeProposal { groups: vec![Group::EcpP256], ..ike };
    setup::connection_v1(side, CHILDREN, ike, &esp)
}

fn begin(seed: u64, weather: Weather) -> Simulation {
    let mut sim = Simulation::new(Instant::now(), seed, Limits::default(), weather);
    sim.tell_time();
    for side in 0..2 {
        sim.configure(side, connection(side));
    }
    sim
}

fn up() -> Simulation {
    let mut sim = begin(1, Weather::FAIR);
    sim.run(Duration::from_secs(60));
    assert_settled(&sim, 1);
    sim
}

/// Restarts one end as it was configured; no two engines have one seed.
fn restart(sim: &mut Simulation, side: usize, number: u64) -> usize {
    restart_as(connection(side), sim, side, number)
}

fn restart_as(connection: Connection, sim: &mut Simulation, side: usize, number: u64) -> usize {
    let mut seed = [0xd4; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    seed[8] = side as u8;
    sim.restart(side, connection, Limits::default(), seed)
}

/// Cookies of the phase 1 SAs of one end.
fn cookies(sim: &Simulation, side: usize) -> Vec<(u64, u64)> {
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

fn count(sim: &Simulation, side: usize, name: &str) -> u64 {
    sim.hosts[side].engine.counters().get(name).copied().unwrap_or(0)
}

/// Messages of an exchange sent so far.
fn sent(sim: &Simulation, exchange: u8) -> usize {
    sim.link.log.iter().filter(|(_, _, bytes)| bytes.get(18) == Some(&exchange)).count()
}

/// Under the keys of one phase 1 a message id serves one exchange: an informational one of one message, or a quick mode of
/// three, however often each was sent. Gives the number of exchanges.
fn assert_no_message_id_twice(sim: &Simulation, seed: u64) -> usize {
    let mut by_id: BTreeMap<&[u8], Vec<(usize, &[u8])>> = BTreeMap::new();
    for (side, _, bytes) in &sim.link.log {
        // Cookies and the id stand for the IV.
        if !matches!(bytes.get(18), Some(&(QUICK_MODE | INFORMATIONAL))) || bytes[20..24] == [0; 4] {
            continue;
        }
        let id: &[u8] = &bytes[..24];
        let exchange = by_id
            .range(&bytes[..16]..)
            .find(|(known, _)| known[..16] == id[..16] && known[20..24] == id[20..24])
            .map(|(known, _)| *known);
        assert!(exchange.is_none_or(|known| known[18] == id[18]), "seed {seed}: one id, two exchanges");
        let messages = by_id.entry(exchange.unwrap_or(id)).or_default();
        if !messages.contains(&(*side, bytes.as_slice())) {
            messages.push((*side, bytes));
        }
    }
    for (id, messages) in &by_id {
        let of = |side: usize| messages.iter().filter(|(sender, _)| *sender == side).count();
        let [most, least] = [of(0).max(of(1)), of(0).min(of(1))];
        let allowed = if id[18] == INFORMATIONAL { [1, 0] } else { [2, 1] };
        assert!(most <= allowed[0] && least <= allowed[1], "seed {seed}: {most} and {least} under one id");
    }
    by_id.len()
}

/// Whatever made it insecure still does.
#[test]
fn a_phase_one_of_aggressive_mode_is_one_after_a_restart() {
    let aggressive = |side| {
        let mut connection = connection(side);
        connection.version = Version::V1(Ikev1 { aggressive_mode: true, ..Ikev1::default() });
        connection
    };
    let mut sim = Simulation::new(Instant::now(), 1, Limits::default(), Weather::FAIR);
    sim.tell_time();
    for side in 0..2 {
        sim.configure(side, aggressive(side));
    }
    sim.run(Duration::from_secs(60));
    restart_as(aggressive(0), &mut sim, 0, 1);
    sim.run(Duration::from_secs(10));
    assert_eq!(count(&sim, 0, "ike_sas_resumed"), 1);
    for sa in sim.hosts[0].engine.isakmp_sas(sim.now) {
        assert!(sa.insecure.contains(&Insecurity::AggressiveMode), "{sa:?}");
    }
}

#[test]
fn a_restarted_end_goes_on_with_its_phase_one() {
    let mut sim = up();
    for (round, side) in [0, 1, 0, 0, 1].into_iter().enumerate() {
        let (before, begun) = (cookies(&sim, side), (sent(&sim, 2), sent(&sim, QUICK_MODE)));
        let pair = sim.hosts[side].dataplane.sending_on(ChildId(1));
        assert_eq!(restart(&mut sim, side, round as u64), 1);
        for _ in 0..50 {
            sim.run(Duration::from_millis(10));
            sim.send_packet(0, ChildId(1));
            sim.send_packet(1, ChildId(1));
        }
        assert_eq!(sim.unknown_spis, 0);
        assert_settled(&sim, 1);
        assert_eq!(cookies(&sim, side), before, "the same cookies");
        assert_eq!((sent(&sim, 2), sent(&sim, QUICK_MODE)), begun, "nothing is negotiated");
        assert_eq!(sim.hosts[side].dataplane.sending_on(ChildId(1)), pair);
        assert!(sim.hosts[side].events.iter().any(|(_, event)| matches!(event, Event::IkeResumed { .. })));
        assert_eq!(count(&sim, side, "ike_sas_resumed"), 1);
        assert_eq!(count(&sim, 1 - side, "stale_probes"), 0, "DPD goes on counting where it was");
    }
    // Either end rekeys on what was resumed, and is asked by the other one.
    let before = cookies(&sim, 0);
    for side in 0..2 {
        let old = sim.hosts[0].dataplane.sending_on(ChildId(1));
        sim.command(side, Command::RekeyChild(ChildId(1)));
        sim.run(Duration::from_secs(20));
        assert_settled(&sim, 1);
        assert_ne!(sim.hosts[0].dataplane.sending_on(ChildId(1)), old);
        assert_eq!(cookies(&sim, 0), before);
        assert_eq!(restart(&mut sim, side, 50 + side as u64), 1);
        sim.run(Duration::from_secs(5));
    }
    for side in 0..2 {
        sim.command(side, Command::RekeyIke(ConnectionId(1)));
        sim.run(Duration::from_secs(90));
        assert_settled(&sim, 1);
        assert_eq!(restart(&mut sim, side, 100 + side as u64), 1);
        sim.run(Duration::from_secs(5));
    }
    assert_settled(&sim, 1);
    for host in &sim.hosts {
        let downs = host.events.iter().filter(|(_, event)| matches!(event, Event::ChildDown { .. })).count();
        assert_eq!(downs, 0);
    }
    assert!(assert_no_message_id_twice(&sim, 1) > 20);
}

/// What the peer said before the restart is said again by whoever recorded it.
#[test]
fn what_was_said_before_is_refused_after() {
    let mut sim = up();
    sim.command(0, Command::RekeyChild(ChildId(1)));
    sim.run(Duration::from_secs(40));
    assert_settled(&sim, 1);
    // Of the two phase 1 SAs with which all began, one is gone.
    let cookie = cookies(&sim, 0)[0].0.to_be_bytes();
    let said_by_peer = |bytes: &[u8]| bytes[..8] == cookie && bytes[20..24] != [0; 4];
    let sent = sim.link.log.iter().filter(|(from, _, bytes)| *from == 0 && said_by_peer(bytes));
    let recorded: Vec<_> = sent.cloned().collect();
    let quick = |bytes: &[u8]| bytes[18] == QUICK_MODE;
    assert!(
        recorded.iter().any(|(_, _, bytes)| quick(bytes))
            && recorded.iter().any(|(_, _, bytes)| !quick(bytes))
    );
    assert_eq!(restart(&mut sim, 1, 1), 1);
    sim.run(Duration::from_secs(5));
    let (pairs, said) = (sim.hosts[1].dataplane.installs, sim.link.log.len());
    for (_, path, bytes) in recorded {
        let there = Path { local: path.remote, remote: path.local };
        let classified = sim.inject(1, there, &bytes);
        assert_eq!(classified, Classified::Dropped("message_id_used"));
    }
    assert_eq!((sim.hosts[1].dataplane.installs, sim.link.log.len()), (pairs, said));
    assert_settled(&sim, 1);
}

/// The initiator of a quick mode restarts after its last message, which was lost: the responder asks for it, and gets it.
#[test]
fn the_last_message_of_a_quick_mode_is_said_again() {
    let mut sim = up();
    let quick_modes = |sim: &Simulation| -> Vec<(usize, Path, Vec<u8>)> {
        let sent = sim.link.log.iter().filter(|(_, _, bytes)| bytes[18] == QUICK_MODE);
        sent.cloned().collect()
    };
    let before = quick_modes(&sim).len();
    sim.command(0, Command::RekeyChild(ChildId(1)));
    sim.run(Duration::from_secs(40));
    let messages = quick_modes(&sim).split_off(before);
    let [(0, ..), (1, path, second), (0, _, third)] = messages.as_slice() else { panic!("three messages") };
    assert_eq!(restart(&mut sim, 0, 1), 1);
    sim.run(Duration::from_secs(5));
    let said = sim.link.log.len();
    let there = Path { local: path.remote, remote: path.local };
    assert_eq!(sim.inject(0, there, second), Classified::Ike);
    let (_, _, answer) = &sim.link.log[said];
    assert_eq!(answer, third);
    assert_no_message_id_twice(&sim, 1);
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
    sim.run(Duration::from_secs(900));
    let rekeyed = |event: &(Instant, Event)| matches!(event.1, Event::ChildRekeyed { .. });
    assert!(sim.hosts.iter().any(|host| host.events.iter().any(rekeyed)));
    assert_settled(&sim, 1);
}

#[test]
fn what_the_peer_has_lost_is_negotiated_anew_and_the_cause_told() {
    let mut sim = up();
    let before = cookies(&sim, 0);
    // The peer goes and loses everything; nobody tells the other end, which restarts too.
    sim.hosts[1].engine = Engine::new(Limits::default(), [77; 32]);
    sim.hosts[1].dataplane = Default::default();
    assert_eq!(restart(&mut sim, 0, 1), 1);
    // What is due meanwhile waits until it is known on what it can be asked.
    sim.command(0, Command::RekeyChild(ChildId(1)));
    sim.run(Duration::from_secs(3));
    assert_eq!(cookies(&sim, 0), before, "it is asked again");
    assert!(!sim.hosts[0].dataplane.is_empty(), "the pairs stay until others take their place");
    sim.configure(1, setup::only_caller_starts(1, connection(1)));
    sim.run(Duration::from_secs(40));
    assert_settled(&sim, 1);
    assert_ne!(cookies(&sim, 0), before);
    let causes = causes(&sim, 0);
    assert!(causes.iter().any(|cause| cause.contains("did not answer on it")), "{causes:?}");
    assert_eq!(count(&sim, 0, "ike_sas_not_resumed"), 1);
    assert_no_message_id_twice(&sim, 1);
}

/// NAT traversal, its dialect and the ports go on; and who does not watch its peer asks it this once all the same.
#[test]
fn nat_traversal_goes_on_without_dead_peer_detection() {
    let connection = |side| Connection { nat_traversal: NatTraversal::Force, dpd: None, ..connection(side) };
    let mut sim = Simulation::new(Instant::now(), 1, Limits::default(), Weather::FAIR);
    sim.tell_time();
    for side in 0..2 {
        sim.configure(side, connection(side));
    }
    sim.run(Duration::from_secs(60));
    let before = cookies(&sim, 0);
    for side in 0..2 {
        assert_eq!(restart_as(connection(side), &mut sim, side, 1), 1);
        sim.run(Duration::from_secs(5));
        assert_eq!(count(&sim, side, "ike_sas_resumed"), 1);
        let old = sim.hosts[side].dataplane.sending_on(ChildId(1));
        sim.command(side, Command::RekeyChild(ChildId(1)));
        sim.run(Duration::from_secs(40));
        assert_settled(&sim, 1);
        let [installed] = sim.hosts[side].dataplane.pairs_of(ChildId(1))[..] else { panic!("one pair") };
        let pair = &installed.pair;
        assert_ne!(Some(pair.spi_in), old);
        assert!(pair.udp_encapsulation && pair.path.local.port() == 4500 && pair.path.remote.port() == 4500);
    }
    assert_eq!(cookies(&sim, 0), before);
}

/// What is ended before the peer has said that it has it ends as ever.
#[test]
fn an_end_does_not_wait_for_the_answer() {
    let mut sim = up();
    sim.link.cut = true;
    assert_eq!(restart(&mut sim, 0, 1), 1);
    sim.command(0, Command::Shutdown);
    sim.run(Duration::from_secs(60));
    assert_eq!(sim.ike_sas()[0], 0);
    assert!(sim.hosts[0].dataplane.is_empty() && sim.hosts[0].vault.is_empty());
    assert_eq!(count(&sim, 0, "ike_sas_not_resumed"), 0);
}

/// The peer has lost its phase 1, not what it made: no packet is lost while another one is made.
#[test]
fn a_peer_that_has_lost_its_phase_one_alone_costs_no_packet() {
    let mut sim = up();
    let before = cookies(&sim, 1);
    sim.hosts[1].vault.clear();
    assert_eq!(restart(&mut sim, 1, 1), 0);
    assert_eq!(restart(&mut sim, 0, 2), 1);
    for _ in 0..600 {
        sim.run(Duration::from_millis(50));
        sim.send_packet(0, ChildId(1));
        sim.send_packet(1, ChildId(1));
    }
    assert_eq!(sim.unknown_spis, 0);
    sim.run(Duration::from_secs(120));
    assert_settled(&sim, 1);
    assert_ne!(cookies(&sim, 1), before);
}

#[test]
fn what_does_not_fit_any_more_is_not_resumed() {
    let changed: [fn(&mut Connection); 5] = [
        |connection| {
            let key = PreSharedKey(b"another one".to_vec().into());
            connection.authentication = Authentication::pre_shared_key(key);
        },
        |connection| connection.proposals[0].prf = vec![Hash::Sha2_512],
        |connection| connection.remote_identity = Identity::Fqdn("elsewhere".to_owned()),
        |connection| connection.children[0].proposals[0].integrity = vec![EspIntegrity::HmacSha1_96],
        |connection| connection.version = Version::V2,
    ];
    for change in changed {
        let mut sim = up();
        let mut connection = connection(0);
        change(&mut connection);
        assert_eq!(restart_as(connection, &mut sim, 0, 1), 0);
    }
    let mut sim = up();
    sim.die_after(0, 0);
    sim.run(Duration::from_secs(5000));
    assert_eq!(restart(&mut sim, 0, 1), 0, "its lifetime is over");
}

/// A quick mode, another phase 1 or a DELETE that is not through: neither end could tell what the other one has.
#[test]
fn nothing_is_kept_in_the_middle_of_an_exchange() {
    let mut sim = up();
    let kept = |sim: &Simulation| [0, 1].map(|side| sim.hosts[side].vault.len());
    assert_eq!(kept(&sim), [1, 1]);
    for command in [Command::RekeyChild(ChildId(1)), Command::RekeyIke(ConnectionId(1))] {
        sim.link.cut = true;
        sim.command(0, command);
        assert_eq!(kept(&sim), [0, 1]);
        sim.link.cut = false;
        sim.run(Duration::from_secs(90));
        assert_settled(&sim, 1);
        assert_eq!(kept(&sim), [1, 1]);
    }
    let spi_in = sim.hosts[0].dataplane.sending_on(ChildId(1)).unwrap();
    sim.dataplane(0, DataplaneEvent::HardLimit { spi_in });
    assert_eq!(kept(&sim)[0], 0, "the peer is owed a DELETE");
    sim.run(Duration::from_secs(60));
    assert_eq!(kept(&sim), [1, 1]);
    for side in 0..2 {
        sim.command(side, Command::Shutdown);
    }
    sim.run(Duration::from_secs(30));
    assert!(sim.hosts.iter().all(|host| host.vault.is_empty()));
}

/// Nothing is written for what changes nothing, and strangers' first messages do not take out what is kept.
#[test]
fn traffic_and_strangers_write_nothing() {
    let mut sim = up();
    let first = sim.link.log.iter().find(|(from, _, bytes)| *from == 0 && bytes[18] == 2).cloned();
    let (_, path, mut bytes) = first.expect("a first message");
    bytes[0] ^= 1;
    let before = sim.hosts[1].vault.changes;
    for _ in 0..200 {
        sim.run(Duration::from_millis(100));
        sim.send_packet(0, ChildId(1));
        sim.send_packet(1, ChildId(1));
    }
    let there = Path { local: path.remote, remote: path.local };
    assert_eq!(sim.inject(1, there, &bytes), Classified::Ike);
    assert_eq!(sim.hosts[1].vault.len(), 1);
    let changes = sim.hosts[1].vault.changes - before;
    assert!(changes <= 1, "{changes}: but for the sign of life that was asked for before there was traffic");
}

#[test]
fn a_state_in_another_form_is_refused() {
    let sim = up();
    let resumable = |state: &[u8]| Resumable::read(state).is_ok();
    let state = sim.hosts[0].vault.any().expect("a state").to_vec();
    assert!(resumable(&state));
    for place in [0, 1] {
        let mut other = state.clone();
        other[place] ^= 1;
        assert!(!resumable(&other), "octet {place} says which form it is");
    }
    assert!((0..state.len()).all(|len| !resumable(&state[..len])), "a part of it is none");
    assert!(!resumable(&[state.as_slice(), &[0]].concat()));
}

#[test]
fn deaths_at_any_moment_leave_one_pair_of_each_child_and_no_id_twice() {
    storms::deaths_at_any_moment(
        100,
        begin,
        |sim, _, side, number| restart(sim, side, number),
        |sim, seed| {
            assert_no_message_id_twice(sim, seed);
        },
    );
}
