//! What IKEv1 shows of itself to whoever sees its datagrams, and what it makes of those that were changed on the way (RFC 2407,
//! RFC 2408, RFC 2409).
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod payloads;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ike::sim::{Dataplane, Simulation, Weather, setup};
use ike::*;
use payloads::{assembled, payloads};

const CHILD: ChildId = ChildId(1);
const VERSION: usize = 17;
const EXCHANGE: usize = 18;
const FLAGS: usize = 19;
const ENCRYPTION: u8 = 1;
const COMMIT: u8 = 2;
const MAIN_MODE: u8 = 2;
const AGGRESSIVE_MODE: u8 = 4;
const QUICK_MODE: u8 = 32;
const SA: u8 = 1;
const NONCE: u8 = 10;
const VENDOR: u8 = 13;

fn connection(side: usize, aggressive_mode: bool) -> Connection {
    let (ike, esp) = setup::classic();
    let connection = setup::connection_v1(side, 1, ike, &esp);
    let version = Version::V1(Ikev1 { aggressive_mode, ..Ikev1::default() });
    setup::only_caller_starts(side, Connection { version, ..connection })
}

/// Two ends whose datagrams are carried by hand; the first is said.
fn begun(aggressive_mode: bool) -> Simulation {
    let mut sim = Simulation::new(Instant::now(), 31, Limits::default(), Weather::FAIR);
    sim.link.cut = true;
    for side in 0..2 {
        sim.configure(side, connection(side, aggressive_mode));
    }
    sim
}

/// Carries all that is said, changed; gives what became of each.
fn carry(sim: &mut Simulation, change: impl Fn(usize, Vec<u8>) -> Vec<u8>) -> Vec<Classified> {
    let mut classified = Vec::new();
    while let Some((from, sent, bytes)) = sim.link.log.get(classified.len()).cloned() {
        let path = Path { local: sent.remote, remote: sent.local };
        let bytes = change(classified.len(), bytes);
        classified.push(sim.inject(1 - from, path, &bytes));
    }
    classified
}

/// A message with another body of the payload of this type.
fn with_body(message: &[u8], kind: u8, body: &[u8]) -> Vec<u8> {
    let mut all = payloads(message);
    let (_, payload) = all.iter_mut().find(|(found, _)| *found == kind).unwrap();
    let length = u16::try_from(body.len() + 4).unwrap().to_be_bytes();
    *payload = [&[0, 0][..], &length, body].concat();
    assembled(message, &all)
}

#[test]
fn headers_are_as_the_rfc_draws_them() {
    let mut sim = begun(false);
    carry(&mut sim, |_, bytes| bytes);
    assert_eq!((sim.disagreement(CHILD), sim.link.log.len()), (None, 9));
    let mut ids = BTreeSet::new();
    for (index, (_, _, bytes)) in sim.link.log.iter().enumerate() {
        // RFC 2408 section 3.1: version 1.0; encrypted from message 5 on, and no other flag.
        let flags = if index >= 4 { ENCRYPTION } else { 0 };
        assert_eq!((bytes[VERSION], bytes[FLAGS]), (0x10, flags), "{index}");
        // RFC 2409 section 4: who began keeps its cookie's place, whoever speaks.
        assert_eq!(bytes[..8], sim.link.log[0].2[..8]);
        assert_eq!(bytes[8..16] == [0; 8], index == 0);
        let id = u32::from_be_bytes(bytes[20..24].try_into().unwrap());
        match bytes[EXCHANGE] {
            MAIN_MODE => assert_eq!(id, 0),
            _ => assert!(id != 0 && ids.insert(id) == (index == 6)),
        }
        // RFC 2409 section 5: the SA goes before all else.
        if index < 2 {
            assert_eq!(payloads(bytes)[0].0, SA);
        }
    }
}

/// RFC 2408 section 3.1: a peer may set the commit bit; the pair is there when the last message is, and nobody is waited for.
#[test]
fn the_commit_bit_is_passed_over() {
    let mut sim = begun(false);
    carry(&mut sim, |_, mut bytes| {
        if bytes[EXCHANGE] == QUICK_MODE {
            bytes[FLAGS] |= COMMIT;
        }
        bytes
    });
    assert_eq!(sim.disagreement(CHILD), None);
}

/// RFC 2409 section 5.
#[test]
fn nonces_have_eight_to_256_octets() {
    for (len, good) in [(7, false), (8, true), (256, true), (257, false)] {
        for at in [2, 3] {
            let mut sim = begun(false);
            let classified =
                carry(
                    &mut sim,
                    |index, bytes| {
                        if index == at { with_body(&bytes, NONCE, &vec![5; len]) } else { bytes }
                    },
                );
            let expected = if good { Classified::Ike } else { Classified::Dropped("bad_value") };
            assert_eq!(classified[at], expected, "{len} octets in message {}", at + 1);
        }
    }
}

/// RFC 2408 section 3.16: vendor ids that nobody knows are ignored.
#[test]
fn unknown_vendor_ids_are_passed_over() {
    let mut sim = begun(false);
    carry(&mut sim, |index, bytes| {
        if index > 3 {
            return bytes;
        }
        let mut all = payloads(&bytes);
        all.push((VENDOR, [&[0, 0, 0, 20][..], &[0x77; 16]].concat()));
        assembled(&bytes, &all)
    });
    assert_eq!(sim.disagreement(CHILD), None);
}

/// RFC 2407 section 4.2: another domain or situation than ours is no offer.
#[test]
fn another_domain_or_situation_is_refused() {
    for at in [3, 7] {
        let mut sim = begun(false);
        let classified = carry(&mut sim, |index, bytes| {
            let mut body = payloads(&bytes)[0].1[4..].to_vec();
            body[at] ^= 2;
            if index == 0 { with_body(&bytes, SA, &body) } else { bytes }
        });
        assert_eq!(classified, [Classified::Dropped("missing_payload")]);
    }
}

/// RFC 2407 section 4.6.3: aggressive mode is no place for INITIAL-CONTACT; the quick mode after it is.
#[test]
fn initial_contact_follows_aggressive_mode() {
    let mut sim = begun(true);
    carry(&mut sim, |_, bytes| bytes);
    assert_eq!((sim.disagreement(CHILD), sim.link.log.len()), (None, 6));
    let last_of_phase_1 = |sim: &Simulation| {
        let aggressive = |(_, _, bytes): &&(usize, Path, Vec<u8>)| bytes[EXCHANGE] == AGGRESSIVE_MODE;
        sim.link.log.iter().rev().find(aggressive).unwrap().2.len()
    };
    let before = last_of_phase_1(&sim);
    // Side 0 comes back without a memory of what was.
    sim.link.cut = false;
    sim.hosts[0].engine = Engine::new(Limits::default(), [79; 32]);
    sim.hosts[0].dataplane = Dataplane::default();
    sim.configure(0, connection(0, true));
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.hosts[1].engine.counters().get("forgotten_by_initial_contact"), Some(&1));
    assert_eq!((sim.disagreement(CHILD), sim.ike_sas()), (None, [1, 1]));
    // One that follows another one, and so has something to keep, does not say it; its message is as long.
    let limits = Limits { initial_contact: false, ..Limits::default() };
    sim.hosts[0].engine = Engine::new(limits, [80; 32]);
    sim.configure(0, connection(0, true));
    sim.run(Duration::from_secs(5));
    assert_eq!(last_of_phase_1(&sim), before);
    assert_eq!(sim.hosts[1].engine.counters().get("forgotten_by_initial_contact"), Some(&1));
}
