//! Traffic selectors that differ (RFC 7296 section 2.9): what both allow is agreed, never more, and the peer shows the same.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ike::{Cause, Command, Connection, Event, TrafficSelector};
use integration::interop::Role;

use crate::cable::{Cable, connection, scenario};
use crate::charon::{Settings, child};
use crate::datagram::{self, Payload, TS_I, TS_R};
use crate::ours::{CHILD, Ours};
use crate::reseal;

const SINGLE_PAIR_REQUIRED: u16 = 34;

/// Selectors of one side: first address, last, protocol, ports.
type Side = &'static [([u8; 4], [u8; 4], u8, (u16, u16))];

/// Both sides' policies, and what both must end up with as charon writes it.
struct Case {
    what: &'static str,
    /// Our side's, then the peer's, as we have them.
    ours: [Side; 2],
    /// charon's `local_ts` and `remote_ts`.
    theirs: [&'static str; 2],
    /// What charon shows as `local` and `remote`.
    agreed: [&'static str; 2],
}

const ANY: (u16, u16) = (0, u16::MAX);
const OUR_HOST: Side = &[([10, 1, 0, 1], [10, 1, 0, 1], 0, ANY)];
const THEIR_HOST: Side = &[([10, 2, 0, 1], [10, 2, 0, 1], 0, ANY)];

const CASES: &[Case] = &[
    Case {
        what: "our selectors are a superset",
        ours: [&[([10, 1, 0, 0], [10, 1, 255, 255], 0, ANY)], &[([0; 4], [255; 4], 0, ANY)]],
        theirs: ["10.2.0.1/32", "10.1.0.1/32"],
        agreed: ["10.2.0.1/32", "10.1.0.1/32"],
    },
    Case {
        what: "our selectors are a subset",
        ours: [OUR_HOST, THEIR_HOST],
        theirs: ["10.2.0.0/16", "10.1.0.0/16"],
        agreed: ["10.2.0.1/32", "10.1.0.1/32"],
    },
    Case {
        what: "selectors that overlap",
        ours: [&[([10, 1, 0, 0], [10, 1, 0, 255], 0, ANY)], &[([10, 2, 0, 0], [10, 2, 0, 127], 0, ANY)]],
        theirs: ["10.2.0.0/16", "10.1.0.0/25"],
        agreed: ["10.2.0.0/25", "10.1.0.0/25"],
    },
    Case {
        what: "several selectors on each side, some in common",
        ours: [
            &[([10, 1, 0, 1], [10, 1, 0, 1], 0, ANY), ([10, 1, 0, 7], [10, 1, 0, 7], 0, ANY)],
            &[([10, 2, 0, 1], [10, 2, 0, 1], 0, ANY), ([10, 2, 0, 2], [10, 2, 0, 2], 0, ANY)],
        ],
        theirs: ["10.2.0.2/32,10.2.0.3/32", "10.1.0.7/32,10.1.0.1/32,10.1.0.9/32"],
        agreed: ["10.2.0.2/32", "10.1.0.1/32 10.1.0.7/32"],
    },
    Case {
        what: "ranges of addresses that are no prefixes",
        ours: [&[([10, 1, 0, 3], [10, 1, 0, 12], 0, ANY)], &[([10, 2, 0, 0], [10, 2, 0, 255], 0, ANY)]],
        theirs: ["10.2.0.1-10.2.0.2,10.2.0.3/32", "10.1.0.0-10.1.0.9"],
        agreed: ["10.2.0.1..10.2.0.2 10.2.0.3/32", "10.1.0.3..10.1.0.9"],
    },
    Case {
        what: "ranges of ports that overlap",
        ours: [
            &[([10, 1, 0, 1], [10, 1, 0, 1], 6, (1500, 2500))],
            &[([10, 2, 0, 1], [10, 2, 0, 1], 6, (100, 300))],
        ],
        theirs: ["10.2.0.1/32[tcp/200-400]", "10.1.0.1/32[tcp/1000-2000]"],
        agreed: ["10.2.0.1/32[tcp/200-300]", "10.1.0.1/32[tcp/1500-2000]"],
    },
    Case {
        what: "one end any protocol, the other one",
        ours: [OUR_HOST, THEIR_HOST],
        theirs: ["10.2.0.1/32[gre]", "10.1.0.1/32[gre]"],
        agreed: ["10.2.0.1/32[gre]", "10.1.0.1/32[gre]"],
    },
];

fn side(selectors: Side) -> Vec<TrafficSelector> {
    let selector = |(first, last, protocol, ports): &([u8; 4], [u8; 4], u8, (u16, u16))| TrafficSelector {
        first: (*first).into(),
        last: (*last).into(),
        protocol: *protocol,
        ports: *ports,
    };
    selectors.iter().map(selector).collect()
}

fn with_selectors(ours: [Side; 2]) -> Connection {
    let mut connection = connection();
    for child in &mut connection.children {
        [child.local_selectors, child.remote_selectors] = ours.map(side);
    }
    connection
}

fn tidy(cable: &Cable, engine: Ours) -> Result<()> {
    drop(engine);
    cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
}

/// The words after `local` or `remote` in charon's list, sorted.
fn shown(sas: &str, side: &str) -> Option<Vec<String>> {
    // That of the IKE SA has an identity in quotes.
    let line =
        sas.lines().map(str::trim).filter(|line| line.starts_with(side)).find(|line| !line.contains('\''))?;
    let mut words: Vec<_> = line.split_whitespace().skip(1).map(str::to_owned).collect();
    words.sort();
    Some(words)
}

#[test]
fn is_the_intersection_at_both_ends() -> Result<()> {
    let cable = Cable::new()?;
    for Case { what, ours, theirs: [local, remote], agreed } in CASES {
        let settings = Settings { children: child("net", local, remote, ""), ..Settings::default() };
        for role in Role::BOTH {
            scenario(25, what, role).judge(|| {
                let engine = cable.up(role, with_selectors(*ours), &settings)?;
                let sas = cable.charon.swanctl("--list-sas")?;
                for (side, agreed) in ["local", "remote"].into_iter().zip(agreed) {
                    let agreed: Vec<_> = agreed.split(' ').map(str::to_owned).collect();
                    ensure!(shown(&sas, side).as_ref() == Some(&agreed), "{side} is not {agreed:?}: {sas}");
                }
                within_policy(&engine, *ours)?;
                tidy(&cable, engine)
            })?;
        }
    }
    Ok(())
}

/// Each selector that was installed lies in one of ours.
fn within_policy(engine: &Ours, ours: [Side; 2]) -> Result<()> {
    let state = engine.state();
    let pair = state.installed.values().next().context("no pair")?;
    for (agreed, policy) in [&pair.local_selectors, &pair.remote_selectors].into_iter().zip(ours.map(side)) {
        ensure!(!agreed.is_empty(), "nothing was agreed");
        for inner in agreed {
            let inside = policy.iter().any(|outer| {
                outer.first <= inner.first
                    && inner.last <= outer.last
                    && (outer.protocol == 0 || outer.protocol == inner.protocol)
                    && outer.ports.0 <= inner.ports.0
                    && inner.ports.1 <= outer.ports.1
            });
            ensure!(inside, "{inner:?} is wider than {policy:?}");
        }
    }
    Ok(())
}

/// All of IPv4: one selector of type 7, any protocol and port.
fn everything() -> Vec<u8> {
    let mut body = vec![1, 0, 0, 0, 7, 0, 0, 16, 0, 0, 0xff, 0xff];
    body.extend([0; 4]);
    body.extend([0xff; 4]);
    body
}

fn widen(payloads: &mut [Payload]) {
    for kind in [TS_I, TS_R] {
        if let Some(payload) = datagram::find(payloads, kind) {
            payload.body = everything();
        }
    }
}

/// An answer that is wider than the question is no agreement; the peer hears that its pair is gone.
#[test]
fn never_takes_more_than_was_asked() -> Result<()> {
    let cable = Cable::new()?;
    scenario(25, "the answer's selectors are wider than was asked", Role::Initiator).judge(|| {
        let engine = cable.up(Role::Initiator, connection(), &Settings::default())?;
        let before = engine.settles(1)?;
        let rekey = || {
            engine.command(Command::RekeyChild(CHILD));
            Ok(())
        };
        reseal::on_the_way(&engine, rekey, |payloads| widen(payloads))?;
        engine.until("the old pair alone at charon's", |state| {
            let old = before.children.first().context("no child")?;
            let sas = cable.charon.swanctl("--list-sas")?;
            ensure!(sas.matches("reqid").count() == 1 && sas.contains(&format!("out {old:08x}")), "{sas}");
            ensure!(state.pairs.len() == 1 && state.out.count() > 3, "{} pairs", state.pairs.len());
            Ok(())
        })?;
        tidy(&cable, engine)
    })?;
    scenario(25, "the request's selectors are wider than our policy", Role::Responder).judge(|| {
        let engine = cable.up(Role::Initiator, connection(), &Settings::default())?;
        let old = engine.settles(1)?.children;
        let rekey = || cable.charon.swanctl("--rekey --child net").map(drop);
        reseal::on_the_way(&engine, rekey, |payloads| widen(payloads))?;
        engine.until("the new pair alone", |state| {
            ensure!(
                state.installed.len() == 1 && state.installed.keys().all(|spi| !old.contains(spi)),
                "not yet"
            );
            Ok(())
        })?;
        within_policy(&engine, [OUR_HOST, THEIR_HOST])?;
        tidy(&cable, engine)
    })
}

/// charon's eight hosts in our network fit an SA, nine do not: nothing of an answer may be left out, so that there is no SA.
#[test]
fn to_more_than_an_sa_can_have_is_told() -> Result<()> {
    let cable = Cable::new()?;
    let hosts: Vec<_> = (1..=9).map(|number| format!("10.2.{number}.1/32")).collect();
    for host in &hosts {
        cable.theirs.ip(&format!("addr add {host} dev lo"))?;
    }
    let settings = |count| {
        let local: Vec<&str> = hosts.iter().take(count).map(String::as_str).collect();
        let children = child("net", &local.join(","), "10.1.0.1/32", "");
        Settings { children, ..Settings::default() }
    };
    let ours = || with_selectors([OUR_HOST, &[([10, 2, 0, 0], [10, 2, 255, 255], 0, ANY)]]);
    scenario(25, "the answer has as many selectors as an SA can have", Role::Initiator).judge(|| {
        let engine = cable.up(Role::Initiator, ours(), &settings(8))?;
        let count = engine.state().installed.values().map(|pair| pair.remote_selectors.len()).max();
        ensure!(count == Some(8), "{count:?}");
        tidy(&cable, engine)
    })?;
    scenario(25, "the answer has more selectors than an SA can have: refused by name", Role::Initiator).judge(
        || {
            cable.charon.load(&settings(9))?;
            let engine = cable.engine(ours())?;
            let cause = engine.event("the child's failure", |event| match event {
                Event::ChildDown { cause, .. } => Some(cause.clone()),
                _ => None,
            })?;
            ensure!(matches!(cause, Cause::TooManySelectors { most: 8, .. }), "{cause}");
            engine.until("no child at charon's", |state| {
                let sas = cable.charon.swanctl("--list-sas")?;
                ensure!(!sas.contains("reqid") && state.installed.is_empty(), "{sas}");
                Ok(())
            })?;
            tidy(&cable, engine)
        },
    )
}

/// RFC 7296 section 2.9: the peer takes single pairs of addresses alone. The child fails by that name, the IKE SA stays.
#[test]
fn that_the_peer_wants_by_single_pairs_is_told() -> Result<()> {
    let cable = Cable::new()?;
    scenario(25, "SINGLE_PAIR_REQUIRED", Role::Initiator).judge(|| {
        let mut ours = connection();
        for child in &mut ours.children {
            child.start = false;
        }
        // The IKE SA comes up with another child, and this one is asked for afterwards.
        let mut second = ours.children.first().context("no child")?.clone();
        second.id = ike::ChildId(2);
        second.local_selectors = side(&[([10, 1, 0, 0], [10, 1, 0, 255], 0, ANY)]);
        ours.children.push(second);
        cable.charon.load(&Settings::default())?;
        let engine = cable.engine(ours)?;
        engine.command(Command::InitiateChild(CHILD));
        let before = engine.settles(1)?;
        let ask = || {
            engine.command(Command::InitiateChild(ike::ChildId(2)));
            Ok(())
        };
        reseal::on_the_way(&engine, ask, |payloads| {
            *payloads = vec![Payload::notify(0, &[], SINGLE_PAIR_REQUIRED, &[])];
        })?;
        let cause = engine.event("the second child's failure", |event| match event {
            Event::ChildDown { child, cause } if child.0 == 2 => Some(cause.clone()),
            _ => None,
        })?;
        ensure!(cause.to_string().contains("SINGLE_PAIR_REQUIRED"), "{cause}");
        let sas = engine.state().engine.isakmp_sas(Instant::now());
        ensure!(sas.len() == 1 && sas.iter().all(|sa| sa.spi_i == before.spi_i), "{sas:?}");
        ensure!(matches!(cause, Cause::Notify { .. }), "{cause}");
        Ok(())
    })
}
