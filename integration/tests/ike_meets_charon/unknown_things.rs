//! What no version of the protocol knows yet, inside protected messages (RFC 7296 sections 2.5, 3.3.6 and 3.10.1): charon's own
//! messages, changed on the way by somebody with the keys.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ike::{Cause, Command, Event};
use integration::interop::Role;

use crate::cable::{Cable, connection, scenario};
use crate::charon::Settings;
use crate::datagram::{self, Payload, SA};
use crate::ours::{CHILD, Ours};
use crate::reseal;

/// A payload type that nobody has been given.
const UNKNOWN: u8 = 200;
const UNSUPPORTED_CRITICAL_PAYLOAD: u16 = 1;

type Edit = fn(&mut Vec<Payload>);

/// Passed over wherever it stands.
const TAKEN: &[(&str, Edit)] = &[
    ("protected: an unknown payload that is not critical", |payloads| {
        payloads.insert(0, Payload::new(UNKNOWN, vec![1, 2, 3]));
        payloads.push(Payload::new(UNKNOWN, Vec::new()));
    }),
    ("protected: an unknown status notification", |payloads| {
        payloads.insert(0, Payload::notify(0, &[], 40_123, b"?"));
    }),
    ("protected: reserved bits of every payload set", |payloads| {
        payloads.iter_mut().for_each(|payload| payload.flags |= 0x7f);
    }),
    ("protected: a vendor ID of nobody's", |payloads| payloads.push(Payload::new(43, vec![0x5a; 64]))),
];

/// Of a request alone.
const TAKEN_OF_REQUESTS: &[(&str, Edit)] = &[
    ("protected: an unknown error notification in a request", |payloads| {
        payloads.insert(0, Payload::notify(0, &[], 8_191, b"?"));
    }),
    ("protected: an unknown cipher before the known", |payloads| {
        if let Some(sa) = datagram::find(payloads, SA) {
            sa.add_transform(1, 999);
        }
    }),
];

fn rekey(cable: &Cable, engine: &Ours, role: Role, edit: Edit) -> Result<()> {
    let begin = || {
        match role {
            Role::Initiator => engine.command(Command::RekeyChild(CHILD)),
            Role::Responder => drop(cable.charon.swanctl("--rekey --child net")?),
        }
        Ok(())
    };
    reseal::on_the_way(engine, begin, edit)
}

fn same_ike_sa(engine: &Ours, spi_i: u64) -> Result<()> {
    let sas = engine.state().engine.isakmp_sas(Instant::now());
    ensure!(sas.len() == 1 && sas.iter().all(|sa| sa.spi_i == spi_i), "{sas:?}");
    Ok(())
}

#[test]
fn are_passed_over() -> Result<()> {
    let cable = Cable::new()?;
    for role in Role::BOTH {
        let more = if role == Role::Responder { TAKEN_OF_REQUESTS } else { &[] };
        let engine = cable.up(Role::Initiator, connection(), &Settings::default())?;
        let spi_i = engine.settles(1)?.spi_i;
        for (what, edit) in TAKEN.iter().chain(more) {
            scenario(35, what, role).judge(|| {
                let old = *engine.state().installed.keys().next().context("no pair")?;
                rekey(&cable, &engine, role, *edit)?;
                engine.until("the new pair alone, at both ends", |state| {
                    let pairs: Vec<_> = state.installed.values().collect();
                    let [pair] = pairs.as_slice() else { anyhow::bail!("{} pairs", pairs.len()) };
                    ensure!(pair.spi_in != old, "still {old:08x}");
                    let shown = cable.charon.swanctl("--list-sas")?;
                    ensure!(shown.matches("INSTALLED").count() == 1, "{shown}");
                    ensure!(shown.contains(&format!("out {:08x}", pair.spi_in)), "{shown}");
                    Ok(())
                })?;
                same_ike_sa(&engine, spi_i)
            })?;
        }
        drop(engine);
        cable.charon.try_swanctl("--terminate --ike far --force --timeout 1")?;
    }
    Ok(())
}

/// A request is refused by the payload's type, and all stays as it was. An answer that cannot be understood leaves two ends
/// that no longer agree on what is there: the IKE SA ends.
#[test]
fn that_are_critical_are_refused() -> Result<()> {
    let cable = Cable::new()?;
    let critical: Edit =
        |payloads| payloads.push(Payload { kind: UNKNOWN, flags: 0x80, body: vec![1, 2, 3] });
    scenario(35, "protected: an unknown critical payload", Role::Responder).judge(|| {
        let engine = cable.up(Role::Initiator, connection(), &Settings::default())?;
        let before = engine.settles(1)?;
        let log = cable.charon.log()?.len();
        rekey(&cable, &engine, Role::Responder, critical)?;
        reseal::answered(&engine, UNSUPPORTED_CRITICAL_PAYLOAD)?;
        {
            let state = engine.state();
            let answer = state.out.known().last().context("no answer")?;
            let [refusal] = &reseal::open(&state.keys, answer)?[..] else { anyhow::bail!("more than one") };
            ensure!(refusal.body.get(4..) == Some(&[UNKNOWN]), "{:x?}", refusal.body);
        }
        cable.charon.logs_after(log, "CRIT")?;
        let after = engine.settles(1)?;
        ensure!((after.spi_i, after.children) == (before.spi_i, before.children), "another SA");
        drop(engine);
        cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
    })?;
    scenario(35, "protected: an unknown critical payload", Role::Initiator).judge(|| {
        let engine = cable.up(Role::Initiator, connection(), &Settings::default())?;
        let before = engine.settles(1)?.spi_i;
        rekey(&cable, &engine, Role::Initiator, critical)?;
        let cause = engine.ike_down()?;
        ensure!(matches!(cause, Cause::Protocol { .. }), "{cause}");
        // charon is told, and what comes up again is new.
        engine.until("charon's end of the old", |_| {
            let shown = cable.charon.swanctl("--list-sas")?;
            ensure!(!shown.contains(&format!("{before:016x}_i")), "{shown}");
            Ok(())
        })
    })
}

/// RFC 7296 section 3.10.1: an error in an answer that nobody knows means that the whole request failed.
#[test]
fn that_are_errors_in_an_answer_are_a_refusal() -> Result<()> {
    let cable = Cable::new()?;
    scenario(35, "protected: an unknown error notification in an answer", Role::Initiator).judge(|| {
        let engine = cable.up(Role::Initiator, connection(), &Settings::default())?;
        let before = engine.settles(1)?;
        rekey(&cable, &engine, Role::Initiator, |payloads| {
            payloads.insert(0, Payload::notify(0, &[], 8_191, b"?"));
        })?;
        // charon made a pair, and hears that it is gone; the old one serves on at both ends.
        engine.until("the old pair alone at charon's", |state| {
            let shown = cable.charon.swanctl("--list-sas")?;
            let old = before.children.first().context("no child")?;
            ensure!(
                shown.matches("reqid").count() == 1 && shown.contains(&format!("out {old:08x}")),
                "{shown}"
            );
            ensure!(state.pairs.len() == 1, "{} pairs", state.pairs.len());
            ensure!(state.out.count() > 3, "charon was not told");
            Ok(())
        })?;
        let down = |event: &Event| matches!(event, Event::ChildDown { .. } | Event::IkeDown { .. });
        ensure!(!engine.state().events.iter().any(down), "{:?}", engine.state().events);
        same_ike_sa(&engine, before.spi_i)
    })
}
