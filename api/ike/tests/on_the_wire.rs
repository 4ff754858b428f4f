//! What IKEv2 shows of itself to whoever sees its datagrams: headers, repetitions, and answers to strangers (RFC 7296 sections
//! 2.1 to 2.11 and 3.1).
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod payloads;

use std::time::{Duration, Instant};

use ike::sim::reading::{Reading, read};
use ike::sim::{Simulation, Weather, setup};
use ike::*;
use payloads::{assembled, payloads};

const FIRST: ChildId = ChildId(1);
const CONNECTION: ConnectionId = ConnectionId(1);
const VERSION: usize = 17;
const FLAGS: usize = 19;
const HEADER_BYTES: usize = 28;
const RESPONSE: u8 = 0x20;
const INITIATOR: u8 = 0x08;
const IKE_SA_INIT: u8 = 34;
const INFORMATIONAL: u8 = 37;
const NOTIFY: u8 = 41;
const NONCE: u8 = 40;

fn begun(limits: Limits) -> Simulation {
    Simulation::between(23, limits, Weather::FAIR, |side| {
        let mut connection = setup::called(side, 1);
        if side == 0 {
            connection.proposals[0].groups = vec![Group::Curve25519, Group::EcpP256];
        }
        connection
    })
}

fn up() -> Simulation {
    let mut sim = begun(Limits::default());
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.disagreement(FIRST), None);
    sim
}

/// Side 0's first message, and the path on which side 1 gets it.
fn first_message(sim: &Simulation) -> (Path, Vec<u8>) {
    let (_, sent, bytes) = sim.link.log[0].clone();
    (Path { local: sent.remote, remote: sent.local }, bytes)
}

fn sent_since(sim: &Simulation, begin: usize, side: usize) -> Vec<Vec<u8>> {
    let of_side = sim.link.log[begin..].iter().filter(|(from, _, _)| *from == side);
    of_side.map(|(_, _, bytes)| bytes.clone()).collect()
}

fn notify_kind(payload: &[u8]) -> u16 {
    u16::from_be_bytes([payload[6], payload[7]])
}

#[test]
fn headers_are_as_the_rfc_draws_them() {
    let mut sim = up();
    for side in [0, 1] {
        sim.command(side, Command::RekeyChild(FIRST));
        sim.run(Duration::from_secs(8));
    }
    assert!(sim.link.log.len() >= 12);
    for (index, (from, _, bytes)) in sim.link.log.iter().enumerate() {
        // Section 3.1: version 2.0, no other flags, the original initiator's own set by it alone.
        assert_eq!((bytes[VERSION], bytes[FLAGS] & !(RESPONSE | INITIATOR)), (0x20, 0), "{index}");
        assert_eq!(bytes[FLAGS] & INITIATOR != 0, *from == 0, "{index}");
        // Section 2.5: no payload that the RFC defines is critical; reserved bits are zero.
        assert_eq!(bytes[HEADER_BYTES + 1], 0, "{index}");
        let (spi_i, spi_r) = (&bytes[..8], &bytes[8..16]);
        assert_ne!(spi_i, [0; 8]);
        assert_eq!(spi_r == [0; 8], index == 0);
    }
    // Section 2.2: the ids of both ends count up from zero, each for itself.
    for side in 0..2 {
        let own =
            sim.link.log.iter().filter(|(from, _, bytes)| *from == side && bytes[FLAGS] & RESPONSE == 0);
        let ids: Vec<u32> = own.map(|(_, _, bytes)| read(bytes).unwrap().message_id).collect();
        assert!(ids.iter().copied().eq(0..u32::try_from(ids.len()).unwrap()), "{side}: {ids:?}");
    }
}

/// Section 2.18.
#[test]
fn a_new_ike_sa_counts_from_zero() {
    let mut sim = up();
    let old = read(&sim.link.log.last().unwrap().2).unwrap().spis;
    sim.command(0, Command::RekeyIke(CONNECTION));
    sim.run(Duration::from_secs(5));
    sim.command(0, Command::RekeyChild(FIRST));
    let newer: Vec<Reading> = sim
        .link
        .log
        .iter()
        .map(|(_, _, bytes)| read(bytes).unwrap())
        .filter(|read| read.spis.0 != old.0)
        .collect();
    assert_eq!((newer.len(), newer[0].message_id), (1, 0));
}

/// Section 2.1: the same bytes, again and again; section 2.4: later each time, until the end.
#[test]
fn what_is_sent_again_is_the_same_and_ever_rarer() {
    let life = |mut sim: Simulation, begin: usize| {
        let mut times: Vec<Instant> = vec![sim.now];
        let end = sim.now + Duration::from_secs(100);
        while sim.link.log.len() > begin && sim.step(end) {
            let seen = sent_since(&sim, begin, 0).len();
            times.extend(std::iter::repeat_n(sim.now, seen - times.len()));
        }
        let sent = sent_since(&sim, begin, 0);
        assert!(sent.len() >= 6 && sent.iter().all(|again| *again == sent[0]), "{}", sent.len());
        let waits: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits.windows(2).all(|pair| pair[1] > pair[0].mul_f64(1.7)), "{waits:?}");
        assert!(sent_since(&sim, begin, 1).is_empty(), "who is not asked says nothing");
    };
    let mut sim = Simulation::new(Instant::now(), 23, Limits::default(), Weather::FAIR);
    sim.link.cut = true;
    sim.configure(0, setup::called(0, 1));
    life(sim, 0);
    let mut sim = up();
    sim.link.cut = true;
    let begin = sim.link.log.len();
    sim.command(0, Command::RekeyChild(FIRST));
    // The other end, which hears nothing either, is kept from asking by itself.
    sim.hosts[1].engine = Engine::new(Limits::default(), [1; 32]);
    life(sim, begin);
}

/// Section 2.1: who asks again gets what was answered before.
#[test]
fn a_request_that_comes_again_gets_the_same_answer() {
    let mut sim = up();
    sim.command(0, Command::RekeyChild(FIRST));
    sim.run(Duration::from_millis(15));
    let position =
        |sim: &Simulation, side| sim.link.log.iter().rposition(|(from, _, _)| *from == side).unwrap();
    let (asked, answered) = (position(&sim, 0), position(&sim, 1));
    let (_, sent, request) = sim.link.log[asked].clone();
    let answer = sim.link.log[answered].2.clone();
    let begin = sim.link.log.len();
    sim.inject(1, Path { local: sent.remote, remote: sent.local }, &request);
    assert_eq!(sent_since(&sim, begin, 1), [answer]);
}

/// Section 2.3: a peer that promised no window gets one request at a time.
#[test]
fn one_request_is_out_at_a_time() {
    let mut sim = up();
    sim.link.cut = true;
    let begin = sim.link.log.len();
    sim.command(0, Command::RekeyChild(FIRST));
    sim.command(0, Command::RekeyIke(CONNECTION));
    sim.command(0, Command::Terminate(CONNECTION));
    sim.run(Duration::from_secs(10));
    let sent = sent_since(&sim, begin, 0);
    assert!(sent.len() > 2 && sent.iter().all(|again| *again == sent[0]));
}

/// Section 2.6: the cookie comes back before all else, and nothing else changes.
#[test]
fn a_cookie_comes_back_first() {
    const COOKIE: u16 = 16390;
    let mut sim = begun(Limits { cookie_threshold: 0, ..Limits::default() });
    sim.run(Duration::from_secs(2));
    let [before, demand, after] = [0, 1, 2].map(|index| payloads(&sim.link.log[index].2));
    assert_eq!((demand.len(), notify_kind(&demand[0].1)), (1, COOKIE));
    assert_eq!(after[0].1[4..], demand[0].1[4..], "the same cookie");
    let bodies = |payloads: &[(u8, Vec<u8>)]| -> Vec<(u8, Vec<u8>)> {
        payloads.iter().map(|(kind, payload)| (*kind, payload[1..].to_vec())).collect()
    };
    assert_eq!(bodies(&after[1..]), bodies(&before));
    assert_eq!(sim.disagreement(FIRST), None);
}

/// Section 1.2: whoever changes the group offers everything again; the complaint was not authenticated.
#[test]
fn a_change_of_group_offers_all_that_was_offered() {
    let mut sim = Simulation::between(23, Limits::default(), Weather::FAIR, |side| {
        let mut connection = setup::called(side, 1);
        let groups = [vec![Group::Curve25519, Group::EcpP256], vec![Group::EcpP256]];
        connection.proposals[0].groups.clone_from(&groups[side]);
        connection
    });
    sim.run(Duration::from_secs(2));
    let [before, after] = [0, 2].map(|index| payloads(&sim.link.log[index].2));
    assert_eq!(after[0], before[0]);
    assert_ne!(after[1], before[1]);
    assert_eq!(sim.disagreement(FIRST), None);
}

/// Section 2.5: in any order, and with a minor version of the future.
#[test]
fn a_first_message_may_come_in_any_order() {
    let mut sim = begun(Limits::default());
    let (path, request) = first_message(&sim);
    let mut backwards = payloads(&request);
    backwards.reverse();
    let mut reordered = assembled(&request, &backwards);
    reordered[VERSION] = 0x2f;
    // Reserved flags, too (section 3.1).
    reordered[FLAGS] |= 0xd7;
    reordered[7] ^= 1;
    let begin = sim.link.log.len();
    assert_eq!(sim.inject(1, path, &reordered), Classified::Ike);
    let answer = &sent_since(&sim, begin, 1)[0];
    assert_eq!((read(answer).unwrap().exchange, answer[VERSION]), (IKE_SA_INIT, 0x20));
    assert!(read(answer).unwrap().content.payloads.contains(&NONCE));
}

/// Section 2.5: what is of a later major version is dropped, and a request told of ours.
#[test]
fn a_later_major_version_is_told_of_ours() {
    const INVALID_MAJOR_VERSION: u16 = 5;
    let mut sim = begun(Limits::default());
    let (path, mut request) = first_message(&sim);
    request[VERSION] = 0x30;
    let begin = sim.link.log.len();
    assert_eq!(sim.inject(1, path, &request), Classified::Dropped("bad_version"));
    let answers = sent_since(&sim, begin, 1);
    let answer = read(&answers[0]).unwrap();
    assert_eq!((answers.len(), answer.version, answers[0][FLAGS]), (1, 2, RESPONSE));
    assert_eq!(answer.content.notifications, [(INVALID_MAJOR_VERSION, vec![], vec![])]);
    request[FLAGS] |= RESPONSE;
    sim.inject(1, path, &request);
    assert_eq!(sent_since(&sim, begin, 1).len(), 1, "an answer is never answered");
}

/// Sections 1.5 and 2.21.4: what belongs to no SA changes nothing, and an answer is never answered. Nor are requests: whoever
/// has lost an SA is found out by the one that has it, which asks for a sign of life.
#[test]
fn what_belongs_to_no_sa_is_not_answered() {
    const INVALID_IKE_SPI: u16 = 4;
    let mut sim = up();
    let (path, request) = first_message(&sim);
    let spis = read(&sim.link.log.last().unwrap().2).unwrap().spis;
    let notify = [&[0, 0, 0, 8, 0, 0][..], &INVALID_IKE_SPI.to_be_bytes()].concat();
    let begin = sim.link.log.len();
    for spis in [spis, (spis.0, 7), (7, spis.1), (7, 7)] {
        for flags in [INITIATOR, INITIATOR | RESPONSE, 0, RESPONSE] {
            for exchange in [35, 36, INFORMATIONAL] {
                let mut complaint = assembled(&request, &[(NOTIFY, notify.clone())]);
                complaint[..8].copy_from_slice(&spis.0.to_be_bytes());
                complaint[8..16].copy_from_slice(&spis.1.to_be_bytes());
                (complaint[18], complaint[FLAGS]) = (exchange, flags);
                for (side, path) in [(1, path), (0, Path { local: path.remote, remote: path.local })] {
                    assert!(matches!(sim.inject(side, path, &complaint), Classified::Dropped(_)));
                }
            }
        }
    }
    assert_eq!(sim.link.log.len(), begin);
    assert_eq!((sim.ike_sas(), sim.disagreement(FIRST)), ([1, 1], None));
}

/// Section 2.4: a first message proves nothing, and ends nothing.
#[test]
fn a_first_message_of_a_peer_that_is_up_ends_nothing() {
    let mut sim = up();
    let (path, mut request) = first_message(&sim);
    request[..8].copy_from_slice(&[0x77; 8]);
    assert_eq!(sim.inject(1, path, &request), Classified::Ike);
    assert_eq!(sim.ike_sas()[1], 2);
    sim.run(Duration::from_secs(60));
    assert_eq!((sim.ike_sas(), sim.disagreement(FIRST)), ([1, 1], None));
}

/// Section 2.11: from whatever port it comes, to that port the answer goes, from where it was asked.
#[test]
fn an_answer_goes_to_where_the_question_came_from() {
    let mut sim = begun(Limits::default());
    let (path, request) = first_message(&sim);
    for port in [1, 1024, 65_535] {
        let mut other = request.clone();
        other[..2].copy_from_slice(&u16::to_be_bytes(port));
        let from = Path { remote: (path.remote.ip(), port).into(), ..path };
        let begin = sim.link.log.len();
        assert_eq!(sim.inject(1, from, &other), Classified::Ike);
        assert_eq!(sim.link.log[begin].1, from);
    }
}
