//! INVALID_KE_PAYLOAD (RFC 7296 sections 1.2, 1.3 and 2.7): once, for a group that was offered, and never round in a circle.

use anyhow::{Result, ensure};
use ike::{Command, Connection, Group};
use integration::interop::Role;

use crate::cable::{Cable, connection, scenario};
use crate::charon::Settings;
use crate::datagram::{self, KEY_EXCHANGE, Payload};
use crate::ours::{CHILD, Ours};
use crate::relay::Action;
use crate::reseal;

const INVALID_KE_PAYLOAD: u16 = 17;
const P256: u16 = 19;
const CURVE25519: u16 = 31;
const BOTH: &str = "aes256gcm16-prfsha256-x25519-ecp256";

/// These groups in IKE; nothing begins by itself.
fn offering(groups: &[Group]) -> Connection {
    let mut connection = connection();
    for proposal in &mut connection.proposals {
        proposal.groups = groups.to_vec();
    }
    for child in &mut connection.children {
        child.start = false;
    }
    connection
}

fn forge(group: u16) -> Action {
    let notify = move |bytes: &mut Vec<u8>| {
        *bytes = datagram::with_notify(bytes, INVALID_KE_PAYLOAD, &group.to_be_bytes());
    };
    Action::Change(Box::new(notify))
}

fn tidy(cable: &Cable, engine: Ours) -> Result<()> {
    drop(engine);
    cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
}

/// The peer asks for its group, and then somebody on the way for the first one again: that has no effect, and the peer's
/// own answer has.
#[test]
fn that_would_go_round_in_a_circle() -> Result<()> {
    let cable = Cable::new()?;
    cable.charon.load(&Settings { ike: "aes256gcm16-prfsha256-ecp256-x25519", ..Settings::default() })?;
    scenario(5, "INVALID_KE_PAYLOAD of the peer's, then one forged: back to the first group", Role::Initiator)
        .judge(|| {
            let engine = cable.engine(offering(&[Group::Curve25519, Group::EcpP256]))?;
            engine.state().inward.script(1, forge(CURVE25519));
            engine.command(Command::InitiateChild(CHILD));
            let sa = engine.settles(1)?;
            ensure!(sa.suite.contains("group 19"), "{}", sa.suite);
            let state = engine.state();
            ensure!(state.dropped.contains(&"invalid_ke_not_offered"), "{:?}", state.dropped);
            ensure!(state.keys.len() == 1, "{} sets of keys", state.keys.len());
            let shown = cable.charon.swanctl("--list-sas")?;
            ensure!(shown.contains("ECP_256"), "{shown}");
            drop(state);
            tidy(&cable, engine)
        })
}

/// The peer's first guess becomes one that it did not offer: it is told of one that it did, as often as it comes.
#[test]
fn that_the_peer_did_not_offer_are_answered_by_one_that_it_did() -> Result<()> {
    let cable = Cable::new()?;
    cable.charon.load(&Settings { ike: BOTH, ..Settings::default() })?;
    scenario(5, "a key exchange of a group that was not offered", Role::Responder).judge(|| {
        let engine = cable.engine(offering(&[Group::EcpP256, Group::Curve25519]))?;
        let guess = Action::Change(Box::new(|bytes| {
            datagram::edit(bytes, |payloads| {
                if let Some(payload) = datagram::find(payloads, KEY_EXCHANGE) {
                    payload.body[..2].copy_from_slice(&14_u16.to_be_bytes());
                }
            });
        }));
        engine.state().inward.script(0, guess);
        let log = cable.charon.log()?.len();
        cable.charon.try_swanctl("--initiate --child net --timeout 10")?;
        cable.charon.logs_after(log, "N(INVAL_KE)")?;
        {
            let state = engine.state();
            let mut answer = state.out.known().first().cloned().unwrap_or_default();
            let mut wanted = Vec::new();
            datagram::edit(&mut answer, |payloads| {
                if let [refusal] = payloads.as_slice() {
                    wanted = refusal.body[4..].to_vec();
                }
            });
            let offered = [P256, CURVE25519].map(u16::to_be_bytes);
            ensure!(offered.iter().any(|group| *group == wanted[..]), "{wanted:x?}");
        }
        engine.settles(1)?;
        tidy(&cable, engine)
    })
}

fn with_forward_secrecy(groups: &[Group]) -> Connection {
    let mut connection = connection();
    for child in &mut connection.children {
        for proposal in &mut child.proposals {
            proposal.groups = groups.to_vec();
        }
    }
    connection
}

/// A rekey with a key exchange of its own, where the first guess is not what the other end has.
#[test]
fn of_a_child_are_agreed_too() -> Result<()> {
    let cable = Cable::new()?;
    let what = "INVALID_KE_PAYLOAD in CREATE_CHILD_SA, then the group that both have";
    for (role, ours, esp) in [
        (Role::Initiator, &[Group::Curve25519, Group::EcpP256][..], "aes256gcm16-ecp256-noesn"),
        (Role::Responder, &[Group::EcpP256], "aes256gcm16-x25519-ecp256-noesn"),
    ] {
        scenario(5, what, role).judge(|| {
            let settings = Settings { esp, ..Settings::default() };
            let engine = cable.up(Role::Initiator, with_forward_secrecy(ours), &settings)?;
            let old = engine.settles(1)?.children;
            let log = cable.charon.log()?.len();
            match role {
                Role::Initiator => engine.command(Command::RekeyChild(CHILD)),
                Role::Responder => drop(cable.charon.swanctl("--rekey --child net")?),
            }
            cable.charon.logs_after(log, "N(INVAL_KE)")?;
            engine.until("the new pair alone", |state| {
                let new = state.installed.keys().all(|spi| !old.contains(spi));
                ensure!(state.installed.len() == 1 && new, "{:x?}", state.installed.keys());
                Ok(())
            })?;
            let shown = cable.charon.swanctl("--list-sas")?;
            ensure!(shown.contains("AES_GCM_16-256/ECP_256"), "{shown}");
            tidy(&cable, engine)
        })?;
    }
    Ok(())
}

/// Somebody with the keys asks for a group that we did not offer: the rekey fails, the child stays.
#[test]
fn of_a_child_that_were_not_offered_are_refused() -> Result<()> {
    let cable = Cable::new()?;
    let what = "INVALID_KE_PAYLOAD in CREATE_CHILD_SA for a group that was not offered";
    scenario(5, what, Role::Initiator).judge(|| {
        let settings = Settings { esp: "aes256gcm16-x25519-noesn", ..Settings::default() };
        let engine = cable.up(Role::Initiator, with_forward_secrecy(&[Group::Curve25519]), &settings)?;
        let before = engine.settles(1)?;
        let rekey = || {
            engine.command(Command::RekeyChild(CHILD));
            Ok(())
        };
        let asked = engine.state().out.count() + 1;
        reseal::on_the_way(&engine, rekey, |payloads| {
            *payloads = vec![Payload::notify(0, &[], INVALID_KE_PAYLOAD, &14_u16.to_be_bytes())];
        })?;
        engine.until("the answer's arrival", |state| {
            ensure!(state.engine.counters().get("child_rekeys_failed") == Some(&1), "not yet");
            Ok(())
        })?;
        ensure!(engine.state().out.count() == asked, "we asked again");
        let after = engine.settles(1)?;
        ensure!((after.spi_i, after.children) == (before.spi_i, before.children), "another SA");
        tidy(&cable, engine)
    })
}
