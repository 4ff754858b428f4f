//! What an authenticated peer says, and what RFC 7296 demands to be made of it.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::net::IpAddr;
use std::time::Duration;

use ike::sim::reading::Content;
use ike::sim::{Simulation, Weather, Word, setup};
use ike::*;

const FIRST: ChildId = ChildId(1);
const IKE_AUTH: u8 = 35;
const CREATE_CHILD_SA: u8 = 36;
const INFORMATIONAL: u8 = 37;
const IKE_INTERMEDIATE: u8 = 43;
const EXCHANGE: usize = 18;

mod payload {
    pub(crate) const SA: u8 = 33;
    pub(crate) const KE: u8 = 34;
    pub(crate) const NONCE: u8 = 40;
    pub(crate) const DELETE: u8 = 42;
}

mod notify {
    pub(crate) const UNSUPPORTED_CRITICAL_PAYLOAD: u16 = 1;
    pub(crate) const INVALID_SYNTAX: u16 = 7;
    pub(crate) const NO_PROPOSAL_CHOSEN: u16 = 14;
    pub(crate) const AUTHENTICATION_FAILED: u16 = 24;
    pub(crate) const TEMPORARY_FAILURE: u16 = 43;
    pub(crate) const CHILD_SA_NOT_FOUND: u16 = 44;
    pub(crate) const REKEY_SA: u16 = 16393;
    pub(crate) const UNKNOWN_ERROR: u16 = 9999;
    pub(crate) const UNKNOWN_STATUS: u16 = 40_000;
}

fn up() -> Simulation {
    up_with(Limits::default(), |_, _| {})
}

fn up_with(limits: Limits, change: impl Fn(usize, &mut Connection)) -> Simulation {
    let mut sim = Simulation::between(17, limits, Weather::FAIR, |side| {
        let mut connection = setup::called(side, 1);
        change(side, &mut connection);
        connection
    });
    sim.tell_time();
    sim.run(Duration::from_secs(2));
    sim
}

/// Side 0 asks; what side 1 notifies of in its one answer.
fn notified(sim: &mut Simulation, exchange: u8, words: &[Word]) -> Vec<(u16, Vec<u8>, Vec<u8>)> {
    let mut answers = sim.asks(0, exchange, words);
    assert_eq!(answers.len(), 1, "one answer");
    answers.remove(0).notifications
}

fn bare(kind: u16) -> Vec<(u16, Vec<u8>, Vec<u8>)> {
    vec![(kind, vec![], vec![])]
}

fn requests(sim: &Simulation, side: usize, exchange: u8) -> usize {
    let is_one = |bytes: &[u8]| bytes[EXCHANGE] == exchange && bytes[EXCHANGE + 1] & 0x20 == 0;
    sim.link.log.iter().filter(|(from, _, bytes)| *from == side && is_one(bytes)).count()
}

/// An IKE proposal of the suite that both ends have, with this group and an SPI of this octet.
fn ike_proposal(group: u16, spi: u8) -> Word {
    let transform = |last: bool, kind: u8, id: u16, attribute: &[u8]| {
        let length = u8::try_from(8 + attribute.len()).unwrap();
        [&[if last { 0 } else { 3 }, 0, 0, length, kind, 0], &id.to_be_bytes()[..], attribute].concat()
    };
    let transforms = [
        transform(false, 1, 20, &[0x80, 14, 1, 0]),
        transform(false, 2, 5, &[]),
        transform(true, 4, group, &[]),
    ]
    .concat();
    let length = u8::try_from(8 + 8 + transforms.len()).unwrap();
    Word::new(payload::SA, &[&[0, 0, 0, length, 1, 1, 8, 3], &[spi; 8][..], &transforms].concat())
}

fn nonce() -> Word {
    Word::new(payload::NONCE, &[9; 32])
}

/// A public value of group 31.
fn share() -> Word {
    Word::new(payload::KE, &[&[0, 31, 0, 0], &[9; 32][..]].concat())
}

fn delete(spi: u32) -> Word {
    Word::new(payload::DELETE, &[&[3, 4, 0, 1][..], &spi.to_be_bytes()].concat())
}

/// Section 2.21.3: all errors of authenticated requests are answered; what has no other name is INVALID_SYNTAX, and fatal.
#[test]
fn an_exchange_that_has_no_place_is_answered_and_ends_the_sa() {
    const NOBODY_KNOWS: u8 = 200;
    for exchange in [IKE_AUTH, IKE_INTERMEDIATE, NOBODY_KNOWS] {
        let mut sim = up();
        assert_eq!(notified(&mut sim, exchange, &[]), bare(notify::INVALID_SYNTAX), "{exchange}");
        assert_eq!(sim.ike_sas()[1], 0, "{exchange}");
        assert!(sim.hosts[1].dataplane.is_empty());
    }
}

/// Section 2.21.2: an initiator that cannot accept our IKE_AUTH says so afterwards, and has no SA any more.
#[test]
fn an_initiator_that_refuses_afterwards_ends_the_sa() {
    for kind in [notify::AUTHENTICATION_FAILED, notify::INVALID_SYNTAX] {
        let mut sim = up();
        assert_eq!(sim.asks(0, INFORMATIONAL, &[Word::notify(kind, &[])]), [Content::default()]);
        assert_eq!(sim.ike_sas()[1], 0, "{kind}");
        assert!(sim.hosts[1].dataplane.is_empty());
    }
}

/// Sections 2.4 and 1.4: a sign of life is an empty request, and its answer is empty.
#[test]
fn what_says_nothing_is_answered_by_nothing() {
    let mut sim = up();
    assert_eq!(sim.asks(0, INFORMATIONAL, &[]), [Content::default()]);
    assert_eq!(sim.ike_sas(), [1, 1]);
}

/// Section 3.10.1: in a request they mean nothing, errors or not.
#[test]
fn unknown_notifications_of_a_request_are_passed_over() {
    let mut sim = up();
    let words = [notify::UNKNOWN_ERROR, notify::UNKNOWN_STATUS].map(|kind| Word::notify(kind, b"whatever"));
    assert_eq!(sim.asks(0, INFORMATIONAL, &words), [Content::default()]);
    assert_eq!(sim.ike_sas()[1], 1);
}

/// Section 2.5: an unknown payload is passed over unless it is critical; then its type is told, and the SA stays. Numbers of
/// version 1 are as unknown as those of the future.
#[test]
fn unknown_payloads_are_refused_only_if_they_are_critical() {
    for kind in [1, 12, 32, 52, 200] {
        let mut sim = up();
        let critical = Word::new(kind, b"?").critical();
        let refused = (notify::UNSUPPORTED_CRITICAL_PAYLOAD, vec![], vec![kind]);
        assert_eq!(notified(&mut sim, INFORMATIONAL, &[critical]), [refused]);
        assert_eq!(sim.ike_sas()[1], 1, "{kind}");
        let mut sim = up();
        assert_eq!(sim.asks(0, INFORMATIONAL, &[Word::new(kind, b"?")]), [Content::default()]);
    }
    // Of what the RFC defines the bit says nothing (section 3.2).
    const CONFIGURATION: u8 = 47;
    let mut sim = up();
    let words = [Word::new(CONFIGURATION, &[1, 0, 0, 0]).critical(), Word::new(43, b"somebody").critical()];
    assert_eq!(sim.asks(0, INFORMATIONAL, &words), [Content::default()]);
}

/// Section 1.4.1: the answer to a DELETE names the other half, unless that was named before or never was.
#[test]
fn a_delete_is_answered_by_that_of_the_other_half() {
    let spi_in = |sim: &Simulation, side: usize| sim.hosts[side].dataplane.pairs_of(FIRST)[0].pair.spi_in;
    let mut sim = up();
    let theirs = delete(spi_in(&sim, 0));
    let answers = sim.asks(0, INFORMATIONAL, &[theirs]);
    assert_eq!(answers[0].payloads, [payload::DELETE]);
    assert!(sim.hosts[1].dataplane.pairs_of(FIRST).is_empty() && sim.ike_sas()[1] == 1);
    // Both at once.
    let mut sim = up();
    let theirs = delete(spi_in(&sim, 0));
    sim.link.cut = true;
    let ours = spi_in(&sim, 1);
    sim.dataplane(1, DataplaneEvent::HardLimit { spi_in: ours });
    assert_eq!(sim.asks(0, INFORMATIONAL, &[theirs]), [Content::default()]);
    // One that nobody has.
    let mut sim = up();
    assert_eq!(sim.asks(0, INFORMATIONAL, &[delete(0x00c0_ffee)]), [Content::default()]);
    assert_eq!(sim.hosts[1].dataplane.pairs_of(FIRST).len(), 1);
}

/// Section 2.25.1.
#[test]
fn a_rekey_of_what_is_not_there_is_told_so() {
    let mut sim = up();
    let spi = [0xc0, 0xff, 0xee, 1];
    let body = [&[3, 4][..], &notify::REKEY_SA.to_be_bytes(), &spi].concat();
    let answer = notified(&mut sim, CREATE_CHILD_SA, &[Word::new(41, &body)]);
    assert_eq!(answer, [(notify::CHILD_SA_NOT_FOUND, spi.to_vec(), vec![])]);
    assert_eq!(sim.ike_sas()[1], 1);
}

/// Sections 1.3.2 and 2.18: an IKE SA is rekeyed with a fresh key exchange or not at all.
#[test]
fn an_ike_sa_is_not_rekeyed_without_a_key_exchange() {
    let mut sim = up();
    let without_share = [ike_proposal(31, 7), nonce()];
    assert_eq!(notified(&mut sim, CREATE_CHILD_SA, &without_share), bare(notify::INVALID_SYNTAX));
    let mut sim = up();
    let without_group = [ike_proposal(0, 7), nonce(), share()];
    assert_eq!(notified(&mut sim, CREATE_CHILD_SA, &without_group), bare(notify::NO_PROPOSAL_CHOSEN));
    // In whatever order it comes (section 2.5).
    let mut sim = up();
    assert_eq!(notified(&mut sim, CREATE_CHILD_SA, &[share(), nonce(), ike_proposal(31, 7)]), []);
    assert_eq!(sim.ike_sas()[1], 2);
}

/// Sections 2.6 and 3.1: no end of an IKE SA is called zero.
#[test]
fn a_successor_without_an_spi_is_not_taken() {
    let mut sim = up();
    sim.link.cut = true;
    sim.command(0, Command::RekeyIke(ConnectionId(1)));
    sim.answers(1, CREATE_CHILD_SA, &[ike_proposal(31, 0), nonce(), share()]);
    assert_eq!(sim.ike_sas()[0], 1);
    assert_eq!(sim.hosts[0].engine.counters().get("temporary_failures"), Some(&1));
}

/// Section 2.25: who is told to wait waits, and asks again.
#[test]
fn temporary_failure_is_waited_for() {
    let mut sim = up();
    sim.link.cut = true;
    sim.command(0, Command::RekeyChild(FIRST));
    sim.answers(1, CREATE_CHILD_SA, &[Word::notify(notify::TEMPORARY_FAILURE, &[])]);
    sim.run(Duration::from_secs(2));
    assert_eq!(requests(&sim, 0, CREATE_CHILD_SA), 1);
    sim.run(Duration::from_secs(6));
    assert!(requests(&sim, 0, CREATE_CHILD_SA) > 1);
}

/// Section 3.10.1: an error that nobody knows is a refusal, and no more than that; a status is nothing.
#[test]
fn an_unknown_error_of_an_answer_is_a_refusal() {
    let mut sim = up();
    let before = sim.hosts[0].dataplane.sending_on(FIRST);
    sim.link.cut = true;
    sim.command(0, Command::RekeyChild(FIRST));
    sim.answers(1, CREATE_CHILD_SA, &[Word::notify(notify::UNKNOWN_ERROR, &[])]);
    assert_eq!(sim.hosts[0].engine.counters().get("child_rekeys_failed"), Some(&1));
    assert_eq!((sim.hosts[0].dataplane.sending_on(FIRST), sim.ike_sas()[0]), (before, 1));
}

/// Section 2.9: whom the initiator's first selectors are allowed, the answer holds them, though another child fits the rest.
#[test]
fn the_initiators_first_choice_is_among_what_it_gets() {
    let net = |third: u8, from: u8, to: u8| TrafficSelector {
        first: IpAddr::from([10, 2, third, from]),
        last: IpAddr::from([10, 2, third, to]),
        protocol: 0,
        ports: (0, u16::MAX),
    };
    let all = TrafficSelector { last: IpAddr::from([10, 2, 9, 255]), ..net(0, 0, 0) };
    let home = TrafficSelector { first: [10, 1, 0, 0].into(), last: [10, 1, 0, 255].into(), ..net(0, 0, 0) };
    let sim = up_with(Limits::default(), |side, connection| {
        let shape = |id: u64, theirs: TrafficSelector| {
            let mut child = setup::child(side, id);
            child.mode = Mode::Tunnel;
            (child.local_selectors, child.remote_selectors) = (vec![theirs], vec![home]);
            child.start = side == 0;
            child
        };
        connection.children = if side == 1 {
            vec![shape(1, net(1, 0, 255)), shape(2, net(2, 0, 255))]
        } else {
            let mut child = shape(1, home);
            child.remote_selectors = vec![net(2, 5, 5), all];
            vec![child]
        };
    });
    let pairs = |child| sim.hosts[1].dataplane.pairs_of(ChildId(child));
    assert_eq!((pairs(1).len(), pairs(2).len()), (0, 1));
    assert_eq!(pairs(2)[0].pair.local_selectors, [net(2, 0, 255)]);
}

/// Section 4: a peer that makes children with IKE SAs alone gets another IKE SA when the child of the first is over.
#[test]
fn a_peer_that_makes_no_further_child_gets_another_ike_sa() {
    let limits = Limits { children_per_ike_sa: 0, ..Limits::default() };
    let mut sim = up_with(limits, |_, connection| {
        let lifetime = &mut connection.children[0].lifetime;
        (lifetime.soft, lifetime.hard) = (Duration::from_secs(100), Duration::from_secs(120));
    });
    assert_eq!(sim.disagreement(FIRST), None);
    for _ in 0..3 {
        sim.run(Duration::from_secs(100));
        let mut down_secs = 0;
        while sim.disagreement(FIRST).is_some() {
            sim.run(Duration::from_secs(1));
            down_secs += 1;
            assert!(down_secs < 10, "{:?}", sim.disagreement(FIRST));
        }
        sim.run(Duration::from_secs(30));
    }
    assert!(sim.hosts[0].engine.counters()["ike_sas_without_room"] >= 2);
    assert_eq!((sim.ike_sas(), sim.disagreement(FIRST)), ([1, 1], None));
}
