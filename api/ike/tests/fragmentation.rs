//! RFC 7383 between two engines: what is too long for the path goes in fragments, whatever the link does to them.

use std::collections::BTreeSet;
use std::time::Duration;

use ike::sim::{Simulation, Weather, setup};
use ike::*;

const FIRST: ChildId = ChildId(1);
const PATH_BYTES: usize = 160;
const AROUND_BYTES: usize = 28;
const FRAGMENT_PAYLOAD: u8 = 53;

fn narrow() -> Limits {
    Limits { fragment_ipv4_bytes: PATH_BYTES, ..Limits::default() }
}

fn start(seed: u64, cipher: IkeEncryption, limits: Limits, weather: Weather) -> Simulation {
    Simulation::between(seed, limits, weather, |side| setup::sealed_by(cipher, setup::called(side, 1)))
}

fn is_fragment(bytes: &[u8]) -> bool {
    bytes.len() > 28 && bytes[16] == FRAGMENT_PAYLOAD
}

/// IKE_SA_INIT cannot be cut; everything after it keeps to the path.
fn assert_within_path(sim: &Simulation) {
    for (_, _, bytes) in sim.link.log.iter().filter(|(_, _, bytes)| bytes.len() > 28 && bytes[18] != 34) {
        assert!(bytes.len() + AROUND_BYTES <= PATH_BYTES, "{} bytes", bytes.len());
    }
}

#[test]
fn long_messages_go_in_fragments_and_short_ones_do_not() {
    setup::COMBINED.into_iter().for_each(long_ones_alone);
}

fn long_ones_alone(cipher: IkeEncryption) {
    let mut sim = start(1, cipher, narrow(), Weather::FAIR);
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.disagreement(FIRST), None);
    assert!([0, 1].iter().all(|side| sim.link.log.iter().any(|(from, _, b)| from == side && is_fragment(b))));
    assert_within_path(&sim);
    sim.command(0, Command::RekeyIke(ConnectionId(1)));
    sim.run(Duration::from_secs(1));
    let before = sim.link.log.len();
    sim.command(1, Command::RekeyChild(FIRST));
    sim.run(Duration::from_secs(1));
    assert!(
        sim.link.log[before..].iter().any(|(_, _, bytes)| is_fragment(bytes)),
        "a successor inherits them"
    );
    sim.command(0, Command::Terminate(ConnectionId(1)));
    sim.run(Duration::from_secs(1));
    assert!(sim.link.log.last().is_some_and(|(_, _, bytes)| !is_fragment(bytes)));
    assert_within_path(&sim);
}

#[test]
fn a_path_that_takes_all_of_it_sees_no_fragment() {
    for cipher in setup::COMBINED {
        let mut sim = start(1, cipher, Limits::default(), Weather::FAIR);
        sim.run(Duration::from_secs(2));
        assert_eq!(sim.disagreement(FIRST), None);
        assert!(!sim.link.log.iter().any(|(_, _, bytes)| is_fragment(bytes)));
    }
}

#[test]
fn a_foul_link_only_delays() {
    for seed in 0..42 {
        let cipher = setup::COMBINED[seed as usize % setup::COMBINED.len()];
        let mut sim = start(seed, cipher, narrow(), Weather::FOUL);
        sim.run(Duration::from_secs(300));
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(120));
        assert_eq!(sim.disagreement(FIRST), None, "seed {seed}");
        assert_eq!(sim.ike_sas(), [1, 1], "seed {seed}");
        assert_within_path(&sim);
    }
}

#[test]
fn retransmission_sends_the_same_fragments() {
    setup::COMBINED.into_iter().for_each(the_same_again);
}

fn the_same_again(cipher: IkeEncryption) {
    let mut sim = start(1, cipher, narrow(), Weather::FAIR);
    sim.run(Duration::from_secs(2));
    sim.link.cut = true;
    let before = sim.link.log.len();
    sim.command(0, Command::RekeyIke(ConnectionId(1)));
    sim.run(Duration::from_secs(10));
    let sent: Vec<&Vec<u8>> = sim.link.log[before..].iter().map(|(_, _, bytes)| bytes).collect();
    let distinct: BTreeSet<&&Vec<u8>> = sent.iter().collect();
    assert!(sent.iter().any(|bytes| is_fragment(bytes)));
    assert!(sent.len() >= 3 * distinct.len(), "{} datagrams, {} distinct", sent.len(), distinct.len());
}

/// The first and only the first fragment of a request that was answered is answered again.
#[test]
fn the_responder_repeats_itself_only_on_the_first_fragment() {
    setup::COMBINED.into_iter().for_each(repeated_on_the_first);
}

fn repeated_on_the_first(cipher: IkeEncryption) {
    let mut sim = start(1, cipher, narrow(), Weather::FAIR);
    sim.run(Duration::from_secs(2));
    let requests: Vec<_> =
        sim.link.log.iter().filter(|(from, _, bytes)| *from == 0 && is_fragment(bytes)).cloned().collect();
    let answers = sim.link.log.iter().filter(|(from, _, bytes)| *from == 1 && is_fragment(bytes)).count();
    assert!(requests.len() > 1 && answers > 1);
    for (_, sent, bytes) in &requests {
        let path = Path { local: sent.remote, remote: sent.local };
        let before = sim.link.log.len();
        sim.inject(1, path, bytes);
        let number = u16::from_be_bytes([bytes[32], bytes[33]]);
        assert_eq!(sim.link.log.len() - before, if number == 1 { answers } else { 0 }, "fragment {number}");
    }
}
