//! Whose lifetime holds, by seconds and by kilobytes.

use std::time::Duration;

use crate::sim::{Simulation, Weather, setup};
use crate::v1::proposals::{PhaseTwoChoice, choose_phase_two, offer_phase_two};
use crate::v1::responder_lifetime::told;
use crate::wire::isakmp::registry::{notify, payload};
use crate::wire::isakmp::{Notify, Payload};
use crate::{ChildConfig, ChildId, ChildLifetime};

const CHILD: ChildId = ChildId(1);
const MIB: u64 = 1 << 20;

fn lifetime(hard_secs: u64, hard_bytes: Option<u64>) -> ChildLifetime {
    ChildLifetime {
        soft: Duration::from_secs(hard_secs * 9 / 10),
        hard: Duration::from_secs(hard_secs),
        soft_bytes: hard_bytes.map(|bytes| bytes / 2),
        hard_bytes,
        ..setup::child(0, 1).lifetime
    }
}

fn child(lifetime: ChildLifetime) -> ChildConfig {
    ChildConfig { lifetime, proposals: vec![setup::classic().1], ..setup::child(0, 1) }
}

/// What a responder chooses of the offer of a child.
fn choice(offering: ChildLifetime, ours: ChildLifetime) -> PhaseTwoChoice {
    choose_phase_two(&child(ours), &offer_phase_two(&child(offering), 7, None), None).unwrap()
}

/// The lifetimes with which both ends install what side 0 asked for.
fn agreed(asked: ChildLifetime, answered: ChildLifetime) -> [ChildLifetime; 2] {
    let mut sim = Simulation::between(3, crate::Limits::default(), Weather::FAIR, |side| {
        let (ike, esp) = setup::classic();
        let mut connection = setup::connection_v1(side, 1, ike, &esp);
        connection.children[0].lifetime = if side == 0 { asked } else { answered };
        setup::only_caller_starts(side, connection)
    });
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.disagreement(CHILD), None);
    [0, 1].map(|side| sim.hosts[side].dataplane.pairs_of(CHILD)[0].pair.lifetime)
}

#[test]
fn the_shorter_lifetime_holds_at_both_ends_whoever_has_it() {
    for (asked, answered, secs, bytes) in [
        (lifetime(4000, None), lifetime(1000, None), 1000, None),
        (lifetime(1000, None), lifetime(4000, None), 1000, None),
        (lifetime(4000, None), lifetime(4000, Some(10 * MIB)), 4000, Some(10 * MIB)),
        (lifetime(4000, Some(10 * MIB)), lifetime(4000, None), 4000, Some(10 * MIB)),
        (lifetime(4000, Some(90 * MIB)), lifetime(1000, Some(10 * MIB)), 1000, Some(10 * MIB)),
        (lifetime(1000, Some(90 * MIB)), lifetime(4000, Some(10 * MIB)), 1000, Some(10 * MIB)),
        (lifetime(90_000, Some(MIB)), lifetime(80_000, Some(90_000 * MIB)), 80_000, Some(MIB)),
    ] {
        for found in agreed(asked, answered) {
            assert_eq!((found.hard, found.hard_bytes), (Duration::from_secs(secs), bytes));
            assert!(found.soft < found.hard && found.soft >= found.hard / 2, "{found:?}");
            assert!(found.soft_bytes < found.hard_bytes || bytes.is_none(), "{found:?}");
        }
    }
}

#[test]
fn nothing_is_told_to_whom_asked_for_it() {
    let day = lifetime(86_400, Some(100 * MIB));
    for asked in [day, lifetime(3600, Some(100 * MIB)), lifetime(86_400, Some(MIB))] {
        let shortest = lifetime(asked.hard.as_secs(), asked.hard_bytes);
        assert!(told(&shortest, &choice(asked, day), 9).is_none(), "{asked:?}");
    }
    // An offer that says nothing means eight hours (RFC 2407 section 4.5).
    let silent = || PhaseTwoChoice { lifetime: None, kilobytes: None, ..choice(day, day) };
    assert!(told(&lifetime(28_800, None), &silent(), 9).is_none());
    assert!(told(&lifetime(28_799, None), &silent(), 9).is_some());
}

/// RFC 2407 section 4.6.3.1, octet by octet.
#[test]
fn it_is_told_as_the_rfc_draws_it() {
    let ours = lifetime(3600, Some(100_000 * 1024));
    let payload = told(&ours, &choice(lifetime(86_400, None), ours), 0x0102_0304).unwrap();
    let drawn: &[u8] = &[
        0, 0, 0, 1, 3, 4, 0x60, 0, 1, 2, 3, 4, // DOI, ESP, length of the SPI, 24576, the SPI
        0x80, 1, 0, 1, 0x80, 2, 0x0e, 0x10, // seconds: 3600
        0x80, 1, 0, 2, 0, 2, 0, 4, 0, 1, 0x86, 0xa0, // kilobytes: 100,000
    ];
    assert_eq!((payload.kind, payload.body.as_slice()), (payload::NOTIFY, drawn));
}

#[test]
fn only_a_shorter_lifetime_of_this_sa_is_believed() {
    let hour = lifetime(3600, Some(MIB));
    let hearing = |protocol: u8, kind: u16, data: &[u8]| {
        let notify = Notify { protocol, spi: vec![0; 4], kind, data: data.to_vec() };
        let heard = choice(hour, hour).shortened(&[Payload::new(payload::NOTIFY, notify.encode())]);
        (heard.lifetime.unwrap().as_secs(), heard.kilobytes.unwrap())
    };
    let secs = |secs: u16| [&[0x80, 1, 0, 1, 0x80, 2], secs.to_be_bytes().as_slice()].concat();
    const ESP: u8 = 3;
    const ISAKMP: u8 = 1;
    assert_eq!(hearing(ESP, notify::RESPONDER_LIFETIME, &secs(600)), (600, 1024));
    assert_eq!(hearing(ESP, notify::RESPONDER_LIFETIME, &[0x80, 1, 0, 2, 0x80, 2, 0, 9]), (3600, 9));
    for (protocol, kind, data) in [
        (ESP, notify::RESPONDER_LIFETIME, secs(7200)),
        (ESP, notify::RESPONDER_LIFETIME, secs(0)),
        (ESP, notify::RESPONDER_LIFETIME, vec![0x80, 2, 0, 9]),
        (ESP, notify::RESPONDER_LIFETIME, vec![0x80, 1, 0, 1, 0, 2, 0, 9, 1]),
        (ESP, notify::RESPONDER_LIFETIME, vec![]),
        (ISAKMP, notify::RESPONDER_LIFETIME, secs(600)),
        (ESP, notify::INITIAL_CONTACT, secs(600)),
    ] {
        assert_eq!(hearing(protocol, kind, &data), (3600, 1024), "{data:x?}");
    }
}
