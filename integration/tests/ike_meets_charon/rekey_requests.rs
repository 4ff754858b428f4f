//! Requests for the rekey of something that is not there, or named as no RFC allows: charon's own, changed on the way by
//! somebody with the keys.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ike::{Cause, Command};
use integration::interop::Role;

use crate::cable::{Cable, connection, scenario};
use crate::charon::Settings;
use crate::datagram::{self, CREATE_CHILD_SA, NONCE, Payload, SA, exchange};
use crate::ours::{CHILD, Ours};
use crate::relay::Action;
use crate::reseal;

const REKEY_SA: u16 = 16393;
const INVALID_SYNTAX: u16 = 7;
const TEMPORARY_FAILURE: u16 = 43;
const CHILD_SA_NOT_FOUND: u16 = 44;

/// charon's notification REKEY_SA becomes this one.
fn renamed(cable: &Cable, engine: &Ours, protocol: u8, spi: &[u8]) -> Result<()> {
    let begin = || cable.charon.swanctl("--rekey --child net").map(drop);
    reseal::on_the_way(engine, begin, |payloads| {
        for payload in payloads.iter_mut().filter(|payload| payload.notified() == Some(REKEY_SA)) {
            *payload = Payload::notify(protocol, spi, REKEY_SA, &[]);
        }
    })
}

fn tidy(cable: &Cable) -> Result<()> {
    cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
}

/// RFC 7296 section 2.25: CHILD_SA_NOT_FOUND; nothing else happens.
#[test]
fn for_a_child_that_is_not_there() -> Result<()> {
    let cable = Cable::new()?;
    for (what, protocol, spi) in [
        ("rekey of an SPI that nobody has", 3, [0xc1, 0xde, 0xad, 0x01]),
        ("REKEY_SA of protocol 0", 0, [0xc1, 0xde, 0xad, 0x02]),
        ("REKEY_SA of protocol 1, IKE", 1, [0xc1, 0xde, 0xad, 0x03]),
        ("REKEY_SA of protocol 2, AH", 2, [0xc1, 0xde, 0xad, 0x04]),
    ] {
        scenario(24, what, Role::Responder).judge(|| {
            let engine = cable.up(Role::Initiator, connection(), &Settings::default())?;
            let before = engine.settles(1)?;
            let log = cable.charon.log()?.len();
            renamed(&cable, &engine, protocol, &spi)?;
            reseal::answered(&engine, CHILD_SA_NOT_FOUND)?;
            cable.charon.logs_after(log, "N(NO_CHILD_SA)")?;
            // charon takes its child for lost and makes another one on the same IKE SA, or goes on with the old.
            engine.until("a child on the same IKE SA", |state| {
                let sas = state.engine.isakmp_sas(Instant::now());
                ensure!(sas.iter().all(|sa| sa.spi_i == before.spi_i) && !sas.is_empty(), "{sas:?}");
                let shown = cable.charon.swanctl("--list-sas")?;
                let same = state.installed.keys().any(|spi| shown.contains(&format!("out {spi:08x}")));
                ensure!(same, "{:08x?} {shown}", state.installed.keys());
                Ok(())
            })?;
            drop(engine);
            tidy(&cable)
        })?;
    }
    Ok(())
}

/// An SPI of ESP has four bytes. CVE-2023-38710 was such a request. Section 2.21.3: INVALID_SYNTAX in an authenticated
/// exchange ends the IKE SA at both ends.
#[test]
fn with_an_spi_of_another_length() -> Result<()> {
    let cable = Cable::new()?;
    for (what, spi) in [
        ("REKEY_SA with an SPI of 0 bytes", &[][..]),
        ("REKEY_SA with an SPI of 3 bytes", &[1, 2, 3]),
        ("REKEY_SA with an SPI of 5 bytes", &[1, 2, 3, 4, 5]),
        ("REKEY_SA with an SPI of 8 bytes", &[1, 2, 3, 4, 5, 6, 7, 8]),
    ] {
        scenario(24, what, Role::Responder).judge(|| {
            let engine = cable.up(Role::Initiator, connection(), &Settings::default())?;
            let log = cable.charon.log()?.len();
            renamed(&cable, &engine, 3, spi)?;
            reseal::answered(&engine, INVALID_SYNTAX)?;
            cable.charon.logs_after(log, "INVALID_SYNTAX")?;
            let cause = engine.ike_down()?;
            ensure!(matches!(cause, Cause::Protocol { .. }), "{cause}");
            drop(engine);
            tidy(&cable)
        })?;
    }
    Ok(())
}

/// Whoever answers INVALID_SYNTAX has ended the IKE SA: no DELETE goes there, and another IKE SA takes its place.
#[test]
fn that_the_peer_calls_malformed() -> Result<()> {
    let cable = Cable::new()?;
    scenario(24, "the peer answers our rekey with INVALID_SYNTAX", Role::Initiator).judge(|| {
        let engine = cable.up(Role::Initiator, connection(), &Settings::default())?;
        let before = engine.settles(1)?;
        let rekey = || {
            engine.command(Command::RekeyChild(CHILD));
            Ok(())
        };
        reseal::on_the_way(&engine, rekey, |payloads| {
            *payloads = vec![Payload::notify(0, &[], INVALID_SYNTAX, &[])];
        })?;
        let cause = engine.ike_down()?;
        ensure!(cause.to_string().contains("INVALID_SYNTAX"), "{cause}");
        let after = engine.settles(1)?;
        ensure!(after.spi_i != before.spi_i, "the same IKE SA");
        let shown = cable.charon.swanctl("--list-sas")?;
        ensure!(shown.contains(&format!("{:016x}_i", after.spi_i)), "{shown}");
        drop(engine);
        tidy(&cable)
    })
}

/// RFC 7296 section 2.8.1 knows a child with one successor from each end. A second one from the same end is put off; the
/// old child and the first successor stay as they are.
#[test]
fn of_the_same_child_twice() -> Result<()> {
    let cable = Cable::new()?;
    scenario(24, "the same child rekeyed twice by the peer", Role::Responder).judge(|| {
        let engine = cable.up(Role::Initiator, connection(), &Settings::default())?;
        let first = engine.state().inward.count();
        // charon's request passes, and its deletion of the old child, which follows our answer, waits.
        engine.state().inward.script(first + 1, Action::Hold);
        cable.charon.swanctl("--rekey --child net")?;
        engine.until("charon's deletion", |state| {
            ensure!(state.inward.holding() > 0, "none");
            Ok(())
        })?;
        ensure!(engine.state().installed.len() == 2, "{:x?}", engine.state().installed.keys());
        {
            let state = &mut *engine.state();
            let request = state.inward.known().get(first).context("no request")?;
            ensure!(exchange(request) == Some(CREATE_CHILD_SA), "{:?}", exchange(request));
            let mut again = reseal::open(&state.keys, request)?;
            let nonce = datagram::find(&mut again, NONCE).context("no nonce")?;
            nonce.body.fill(0x5a);
            let proposal = datagram::find(&mut again, SA).context("no SA")?;
            // Another SPI: after the header of the first proposal.
            proposal.body[8..12].copy_from_slice(&[0xc1, 0xde, 0xad, 0x05]);
            let mut outcome = Ok(());
            state.inward.change_held(|bytes| {
                datagram::set_exchange(bytes, CREATE_CHILD_SA);
                outcome = reseal::fill(&state.keys, bytes, &again);
            });
            outcome?;
            state.inward.release(Instant::now());
        }
        reseal::answered(&engine, TEMPORARY_FAILURE)?;
        let state = engine.state();
        ensure!(state.installed.len() == 2, "{:x?}", state.installed.keys());
        let down = state.events.iter().any(|event| matches!(event, ike::Event::ChildDown { .. }));
        ensure!(!down, "the child was down");
        Ok(())
    })
}
