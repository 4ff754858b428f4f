//! ML-KEM beside X25519 (RFC 9242, RFC 9370) and PPKs (RFC 8784): what both ends can is done, what one end demands is
//! done or refused, and nobody in between can talk them out of it.

use std::time::Duration;

use ike::sim::{Simulation, Weather, setup};
use ike::*;
use zeroize::Zeroizing;

const FIRST: ChildId = ChildId(1);
const IKE_INTERMEDIATE: u8 = 43;

type Kems = Vec<Vec<KeyEncapsulation>>;

fn kem_768() -> Kems {
    vec![vec![KeyEncapsulation::MlKem768]]
}

fn begin(seed: u64, weather: Weather, change: impl Fn(usize, &mut Connection)) -> Simulation {
    Simulation::between(seed, Limits::default(), weather, |side| {
        let mut connection = setup::called(side, 1);
        change(side, &mut connection);
        connection
    })
}

fn run(change: impl Fn(usize, &mut Connection)) -> Simulation {
    let mut sim = begin(5, Weather::FAIR, change);
    sim.run(Duration::from_secs(20));
    sim
}

fn suite(sim: &Simulation, side: usize) -> String {
    sim.hosts[side].engine.isakmp_sas(sim.now)[0].suite.clone()
}

fn cause(sim: &Simulation, side: usize) -> Option<Cause> {
    sim.hosts[side].events.iter().find_map(|(_, event)| match event {
        Event::IkeDown { cause, .. } => Some(cause.clone()),
        _ => None,
    })
}

fn count(sim: &Simulation, side: usize, name: &str) -> u64 {
    sim.hosts[side].engine.counters().get(name).copied().unwrap_or(0)
}

fn intermediates(sim: &Simulation) -> usize {
    sim.link.log.iter().filter(|(_, _, bytes)| bytes[18] == IKE_INTERMEDIATE).count()
}

fn assert_down(sim: &Simulation) {
    assert!(sim.hosts.iter().all(|host| host.dataplane.is_empty()));
    let up = |event: &Event| matches!(event, Event::IkeUp { .. });
    assert!(!sim.hosts.iter().any(|host| host.events.iter().any(|(_, event)| up(event))));
}

#[test]
fn one_or_several_encapsulations_are_done_beside_the_group() {
    let both = vec![vec![KeyEncapsulation::MlKem768], vec![KeyEncapsulation::MlKem1024]];
    let either = vec![vec![KeyEncapsulation::MlKem1024, KeyEncapsulation::MlKem768]];
    // The first that fits would leave nothing for the second kind.
    let crossed =
        vec![vec![KeyEncapsulation::MlKem768, KeyEncapsulation::MlKem1024], vec![KeyEncapsulation::MlKem768]];
    for (kems, ending) in [
        (crossed, "group 31 + ml-kem-1024 + ml-kem-768"),
        (kem_768(), "group 31 + ml-kem-768"),
        (vec![vec![KeyEncapsulation::MlKem1024]], "group 31 + ml-kem-1024"),
        (both, "group 31 + ml-kem-768 + ml-kem-1024"),
        (either, "group 31 + ml-kem-1024"),
    ] {
        let mut sim = run(|_, connection| {
            connection.proposals[0].additional_key_exchanges = kems.clone();
            connection.proposals[0].additional_required = true;
        });
        assert_eq!(sim.disagreement(FIRST), None, "{ending}");
        for side in 0..2 {
            assert!(suite(&sim, side).ends_with(ending), "{}", suite(&sim, side));
        }
        for side in 0..2 {
            sim.command(side, Command::RekeyIke(ConnectionId(1)));
            sim.run(Duration::from_secs(2));
            sim.command(side, Command::RekeyChild(FIRST));
            sim.run(Duration::from_secs(2));
            assert_eq!(sim.disagreement(FIRST), None, "{ending}");
            assert_eq!(sim.ike_sas(), [1, 1]);
        }
    }
}

#[test]
fn the_same_method_is_not_done_twice() {
    let twice = vec![vec![KeyEncapsulation::MlKem768], vec![KeyEncapsulation::MlKem768]];
    let sim = run(|_, connection| connection.proposals[0].additional_key_exchanges = twice.clone());
    assert_eq!(sim.disagreement(FIRST), None);
    assert_eq!(intermediates(&sim), 0, "the proposal without is taken");
}

#[test]
fn a_foul_link_only_delays() {
    for seed in 0..30 {
        let mut sim = begin(seed, Weather::FOUL, |_, connection| {
            connection.proposals[0].additional_key_exchanges =
                vec![vec![KeyEncapsulation::MlKem768], vec![KeyEncapsulation::MlKem1024]];
            connection.proposals[0].additional_required = true;
        });
        sim.run(Duration::from_secs(600));
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(200));
        assert_eq!(sim.disagreement(FIRST), None, "seed {seed}");
        assert_eq!(sim.ike_sas(), [1, 1], "seed {seed}");
        assert!(suite(&sim, 0).ends_with("ml-kem-768 + ml-kem-1024"), "seed {seed}");
    }
}

#[test]
fn a_peer_without_is_taken_or_refused_by_name() {
    for able in 0..2 {
        let offers = |side: usize, required: bool, connection: &mut Connection| {
            if side == able {
                connection.proposals[0].additional_key_exchanges = kem_768();
                connection.proposals[0].additional_required = required;
            }
        };
        let sim = run(|side, connection| offers(side, false, connection));
        assert_eq!(sim.disagreement(FIRST), None, "{able}");
        assert!(suite(&sim, able).ends_with("group 31"));
        assert_eq!(intermediates(&sim), 0);

        let sim = run(|side, connection| offers(side, true, connection));
        assert_down(&sim);
        if able == 0 {
            let cause = cause(&sim, 0).unwrap();
            assert!(matches!(cause, Cause::PostQuantumRequired { .. }), "{cause}");
            assert!(cause.to_string().contains("ml-kem-768"), "{cause}");
        } else {
            assert!(count(&sim, 1, "post_quantum_required") >= 1);
        }
    }
}

/// Nothing passes by itself.
const HELD: Weather = Weather {
    loss_percent: 100,
    duplication_percent: 0,
    delay: Duration::from_millis(10),
    jitter: Duration::ZERO,
};

/// Passes every message by hand, changed on its way.
fn relay(sim: &mut Simulation, mut change: impl FnMut(usize, &mut Vec<u8>)) {
    let mut next = 0;
    for _ in 0..40 {
        while let Some((from, sent, bytes)) = sim.link.log.get(next).cloned() {
            next += 1;
            let mut bytes = bytes;
            change(from, &mut bytes);
            sim.inject(1 - from, Path { local: sent.remote, remote: sent.local }, &bytes);
        }
        sim.run(Duration::from_millis(200));
    }
}

fn replace(bytes: &mut [u8], pattern: &[u8], with: &[u8]) -> usize {
    let mut found = 0;
    for at in 0..=bytes.len().saturating_sub(pattern.len()) {
        if bytes[at..].starts_with(pattern) {
            bytes[at..at + with.len()].copy_from_slice(with);
            found += 1;
        }
    }
    found
}

const SUPPORTED: [u8; 6] = [0, 8, 0, 0, 0x40, 0x36];
const UNSAID: [u8; 6] = [0, 8, 0, 0, 0x7f, 0xff];
const ADDITIONAL_768: [u8; 6] = [0, 8, 6, 0, 0, 36];
const UNKNOWN_KIND: [u8; 6] = [0, 8, 200, 0, 0, 36];

#[test]
fn an_untouched_relay_brings_it_up() {
    let mut sim = begin(3, HELD, |_, connection| {
        connection.proposals[0].additional_key_exchanges = kem_768();
    });
    relay(&mut sim, |_, _| {});
    assert_eq!(sim.disagreement(FIRST), None);
    assert!(suite(&sim, 0).ends_with("ml-kem-768"));
}

#[test]
fn whoever_strips_the_offer_in_between_is_found_out_by_auth() {
    type Change = fn(usize, &mut Vec<u8>) -> usize;
    let changes: [(&str, Change); 5] = [
        (
            "the initiator's notification",
            |from, bytes| {
                if from == 0 { replace(bytes, &SUPPORTED, &UNSAID) } else { 0 }
            },
        ),
        ("both notifications", |_, bytes| replace(bytes, &SUPPORTED, &UNSAID)),
        (
            "the transforms",
            |from, bytes| {
                if from == 0 { replace(bytes, &ADDITIONAL_768, &UNKNOWN_KIND) } else { 0 }
            },
        ),
        ("transforms and notifications", |_, bytes| {
            replace(bytes, &ADDITIONAL_768, &UNKNOWN_KIND) + replace(bytes, &SUPPORTED, &UNSAID)
        }),
        ("the order of the proposals", |from, bytes| {
            // Numbers 1 and 2 change places: the weaker one is the first by its number.
            if from != 0 || bytes[18] != 34 {
                return 0;
            }
            replace(bytes, &[1, 1, 0, 4], &[9, 1, 0, 4])
        }),
    ];
    for (what, change) in changes {
        let mut sim = begin(3, HELD, |_, connection| {
            connection.proposals[0].additional_key_exchanges = kem_768();
        });
        let mut changed = 0;
        relay(&mut sim, |from, bytes| {
            if bytes[18] == 34 {
                changed += change(from, bytes);
            }
        });
        assert!(changed > 0, "{what}");
        assert_down(&sim);

        let mut sim = begin(3, HELD, |_, connection| {
            connection.proposals[0].additional_key_exchanges = kem_768();
            connection.proposals[0].additional_required = true;
        });
        relay(&mut sim, |from, bytes| {
            if bytes[18] == 34 {
                change(from, bytes);
            }
        });
        assert_down(&sim);
    }
}

#[test]
fn changed_shares_and_nonces_end_in_nothing() {
    for at in [40, 60, 120, 200] {
        for from_end in [60, 100, 140] {
            let mut sim = begin(3, HELD, |_, connection| {
                connection.proposals[0].additional_key_exchanges = kem_768();
            });
            relay(&mut sim, |from, bytes| {
                if bytes[18] == 34 && from == at % 2 {
                    let index = bytes.len() - from_end;
                    bytes[index] ^= 1;
                } else if bytes[18] == IKE_INTERMEDIATE {
                    let index = at % bytes.len();
                    bytes[index] ^= 1;
                }
            });
            assert_down(&sim);
        }
    }
}

fn ppk(id: &str, key: &str, required: bool) -> Option<Ppk> {
    let key = PreSharedKey(Zeroizing::new(key.as_bytes().to_vec()));
    Some(Ppk { id: id.as_bytes().to_vec(), key, required })
}

const KEY: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_ppk_that_both_have_is_used() {
    for required in [[false, false], [true, false], [false, true], [true, true]] {
        let mut sim = run(|side, connection| {
            connection.ppk = ppk("grove", KEY, required[side]);
            connection.proposals[0].additional_key_exchanges = kem_768();
        });
        assert_eq!(sim.disagreement(FIRST), None);
        assert_eq!([0, 1].map(|side| count(&sim, side, "ppks_used")), [1, 1]);
        sim.command(1, Command::RekeyIke(ConnectionId(1)));
        sim.run(Duration::from_secs(2));
        sim.command(0, Command::RekeyChild(FIRST));
        sim.run(Duration::from_secs(2));
        assert_eq!(sim.disagreement(FIRST), None);
    }
}

#[test]
fn an_optional_ppk_is_done_without_where_the_peer_lacks_it() {
    for (here, there) in [
        (ppk("grove", KEY, false), None),
        (None, ppk("grove", KEY, false)),
        (ppk("grove", KEY, false), ppk("thicket", KEY, false)),
    ] {
        let sim = run(|side, connection| {
            connection.ppk = if side == 0 { here.clone() } else { there.clone() };
        });
        assert_eq!(sim.disagreement(FIRST), None);
        assert_eq!([0, 1].map(|side| count(&sim, side, "ppks_used")), [0, 0]);
    }
}

#[test]
fn a_required_ppk_is_used_or_the_peer_refused() {
    for (here, there) in [
        (ppk("grove", KEY, true), None),
        (None, ppk("grove", KEY, true)),
        (ppk("grove", KEY, true), ppk("thicket", KEY, false)),
        (ppk("grove", KEY, false), ppk("thicket", KEY, true)),
        (ppk("grove", KEY, false), ppk("grove", "another key of the same name, alas", false)),
    ] {
        let sim = run(|side, connection| {
            connection.ppk = if side == 0 { here.clone() } else { there.clone() };
        });
        assert_down(&sim);
        assert!(cause(&sim, 0).is_some());
    }
    let sim = run(|side, connection| connection.ppk = if side == 0 { ppk("grove", KEY, true) } else { None });
    assert_eq!(cause(&sim, 0), Some(Cause::PpkRequired));
}
