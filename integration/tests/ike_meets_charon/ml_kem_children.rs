//! Children with a key exchange of their own have ML-KEM after it, as their IKE SA has (IKE_FOLLOWUP_KE, RFC 9370 section
//! 2.2.4), as strongSwan 6 judges it.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use ike::{Command, Connection, Event, Group, KeyEncapsulation};
use integration::interop::Role;

use crate::cable::{Cable, connection, two_children, with_second_child};
use crate::charon::{Release, Settings};
use crate::datagram::exchange;
use crate::keys::same_esp_keys;
use crate::ml_kem::{ML_KEM_768, ML_KEM_1024, ends, judged, offering};
use crate::ours::{CHILD, Ours};
use crate::rekeys::{Late, agree, crossing, pairs, silent};

const IKE: &str = "aes256gcm16-prfsha256-x25519-ke1_mlkem768";
const ESP: &str = "aes256gcm16-x25519-ke1_mlkem768-noesn";
const ESP_WITHOUT: &str = "aes256gcm16-x25519-noesn";
const IKE_FOLLOWUP_KE: u8 = 44;

fn told(ike: &'static str, esp: &'static str) -> Settings {
    Settings { ike, esp, ..Settings::default() }
}

/// A group for children too.
fn forward_secrecy(mut connection: Connection) -> Connection {
    for proposal in connection.children.iter_mut().flat_map(|child| &mut child.proposals) {
        proposal.groups = vec![Group::Curve25519];
    }
    connection
}

fn with(methods: &[&[KeyEncapsulation]]) -> Connection {
    forward_secrecy(offering(methods, true))
}

fn followups(engine: &Ours) -> usize {
    engine.state().wire.iter().filter(|datagram| exchange(&datagram.bytes) == Some(IKE_FOLLOWUP_KE)).count()
}

/// Another child in place of the one that is there, with the same keys at both ends, after so many messages at least.
fn rekeyed(cable: &Cable, engine: &Ours, role: Role, messages: usize) -> Result<()> {
    let (old, before) = (pairs(engine), followups(engine));
    match role {
        Role::Initiator => engine.command(Command::RekeyChild(CHILD)),
        Role::Responder => drop(cable.charon.swanctl("--rekey --child net")?),
    }
    agree(cable, engine, &old)?;
    same_esp_keys(&cable.charon, engine)?;
    let sent = followups(engine) - before;
    // More, if they go in fragments.
    ensure!(
        sent >= messages && (sent == 0) == (messages == 0),
        "{sent} messages of additional key exchanges"
    );
    let down = engine.state().events.iter().any(|event| matches!(event, Event::ChildDown { .. }));
    ensure!(!down, "the child was down");
    Ok(())
}

#[test]
fn are_rekeyed_with_it_by_either() -> Result<()> {
    let two = told(
        "aes256gcm16-prfsha256-x25519-ke1_mlkem768-ke2_mlkem1024",
        "aes256gcm16-x25519-ke1_mlkem768-ke2_mlkem1024-noesn",
    );
    for (what, ours, theirs, messages) in [
        ("child rekey with X25519 and ML-KEM-768: keys compared", with(&[&[ML_KEM_768]]), told(IKE, ESP), 2),
        (
            "child rekey with X25519, ML-KEM-768 and 1024: keys compared",
            with(&[&[ML_KEM_768], &[ML_KEM_1024]]),
            two,
            4,
        ),
    ] {
        let cable = Cable::to(Release::Six, "")?;
        let engine = cable.up(Role::Initiator, ours, &theirs)?;
        for role in Role::BOTH {
            judged(what, role).judge(|| rekeyed(&cable, &engine, role, messages))?;
        }
    }
    Ok(())
}

#[test]
fn are_made_with_it_by_either() -> Result<()> {
    let cable = Cable::to(Release::Six, "")?;
    let ours = with_second_child(with(&[&[ML_KEM_768]]));
    let theirs = Settings { children: two_children(), ..told(IKE, ESP) };
    for role in Role::BOTH {
        judged("a second child, with X25519 and ML-KEM-768: keys compared", role).judge(|| {
            cable.charon.load(&theirs)?;
            let mut connection = ours.clone();
            // The second one by itself once the first is there, or not at all.
            connection.children.iter_mut().for_each(|child| child.start = role == Role::Initiator);
            let engine = cable.engine(connection)?;
            if role == Role::Responder {
                cable.charon.swanctl("--initiate --child net --timeout 10")?;
                cable.charon.swanctl("--initiate --child more --timeout 10")?;
            }
            engine.settles(2)?;
            ensure!(followups(&engine) >= 2, "{} messages", followups(&engine));
            same_esp_keys(&cable.charon, &engine)?;
            let shown = cable.charon.swanctl("--list-sas")?;
            ensure!(shown.matches("INSTALLED").count() == 2, "{shown}");
            ends(&cable, engine)
        })?;
    }
    Ok(())
}

#[test]
fn are_rekeyed_with_it_by_both_at_once() -> Result<()> {
    for late in [Late::Ours, Late::Theirs, Late::Both] {
        let what = match late {
            Late::Ours => "simultaneous child rekey with ML-KEM, our request is late",
            Late::Theirs => "simultaneous child rekey with ML-KEM, the peer's request is late",
            Late::Both => "simultaneous child rekey with ML-KEM, requests cross",
        };
        for role in Role::BOTH {
            let cable = Cable::to(Release::Six, "")?;
            judged(what, role).judge(|| {
                // The nonces decide: both ends must win, sooner or later.
                let mut won = [false; 2];
                for _ in 0..24 {
                    let engine = cable.up(role, with(&[&[ML_KEM_768]]), &silent(told(IKE, ESP)))?;
                    let (old, before) = (pairs(&engine), cable.charon.log()?.len());
                    crossing(&cable, &engine, late, Command::RekeyChild(CHILD), "--rekey --child net")?;
                    cable.charon.logs_after(before, "CHILD_SA rekey collision")?;
                    agree(&cable, &engine, &old)?;
                    same_esp_keys(&cable.charon, &engine)?;
                    let events = engine.state().events.clone();
                    ensure!(
                        !events.iter().any(|event| matches!(event, Event::ChildDown { .. })),
                        "{events:?}"
                    );
                    let lost = engine.state().engine.counters().get("rekey_collisions_lost").copied();
                    *won.get_mut(usize::from(lost.is_some())).unwrap_or(&mut false) = true;
                    ends(&cable, engine)?;
                    if won == [true; 2] {
                        return Ok(());
                    }
                }
                bail!("one end alone won: {won:?}")
            })?;
        }
    }
    Ok(())
}

fn heard_of(engine: &Ours, what: &str, number: usize) -> Result<()> {
    engine.until(what, |state| {
        ensure!(state.inward.count() >= number, "not yet");
        Ok(())
    })
}

/// Whoever has begun with what follows CREATE_CHILD_SA takes no second rekey of the child.
#[test]
fn are_rekeyed_by_one_once_its_further_exchanges_have_begun() -> Result<()> {
    let cable = Cable::to(Release::Six, "")?;
    judged("child rekey with ML-KEM half done, the peer begins its own: TEMPORARY_FAILURE", Role::Initiator)
        .judge(|| {
            let engine = cable.up(Role::Initiator, with(&[&[ML_KEM_768]]), &told(IKE, ESP))?;
            let old = pairs(&engine);
            // charon's request is on its way before ours, and arrives when its answer to ours has.
            let heard = {
                let mut state = engine.state();
                state.inward.hold();
                state.inward.count()
            };
            cable.charon.swanctl("--rekey --child net")?;
            heard_of(&engine, "charon's request", heard + 1)?;
            engine.command(Command::RekeyChild(CHILD));
            heard_of(&engine, "charon's answer", heard + 2)?;
            let said = {
                let mut state = engine.state();
                state.out.hold();
                let answer = state.inward.known().get(heard + 1).context("no answer")?;
                let at = state.inward.held().position(|held| held == answer).context("it went by")?;
                let now = Instant::now();
                state.inward.release_one(now, at);
                state.inward.release(now);
                state.out.count()
            };
            engine.until("what follows, and the refusal", |state| {
                ensure!(state.out.count() >= said + 2, "not yet");
                Ok(())
            })?;
            engine.state().out.release(Instant::now());
            cable.charon.logs("received TEMPORARY_FAILURE")?;
            agree(&cable, &engine, &old)?;
            same_esp_keys(&cable.charon, &engine)
        })
}

#[test]
fn do_without_it_where_the_peer_does() -> Result<()> {
    let cable = Cable::to(Release::Six, "")?;
    let engine = cable.up(Role::Initiator, with(&[&[ML_KEM_768]]), &told(IKE, ESP_WITHOUT))?;
    for role in Role::BOTH {
        judged("child rekey of an IKE SA made with ML-KEM, the peer leaves it out", role)
            .judge(|| rekeyed(&cable, &engine, role, 0))?;
    }
    Ok(())
}

/// The peer wants what we were told to do without: the child stays as it is.
#[test]
fn are_not_rekeyed_with_what_one_end_lacks() -> Result<()> {
    for role in Role::BOTH {
        let cable = Cable::to(Release::Six, "")?;
        let engine = cable.up(
            Role::Initiator,
            forward_secrecy(connection()),
            &told("aes256gcm16-prfsha256-x25519", ESP),
        )?;
        judged("child rekey, ML-KEM required there and unknown here: refused, the child stays", role).judge(
            || {
                let old = pairs(&engine);
                match role {
                    Role::Initiator => {
                        engine.command(Command::RekeyChild(CHILD));
                        engine.until("the refusal", |state| {
                            let failed = state.engine.counters().get("child_rekeys_failed").copied();
                            ensure!(failed == Some(1), "{failed:?}");
                            Ok(())
                        })?;
                    }
                    Role::Responder => {
                        cable.charon.try_swanctl("--rekey --child net")?;
                        cable.charon.logs("received NO_PROPOSAL_CHOSEN")?;
                    }
                }
                ensure!(pairs(&engine) == old && followups(&engine) == 0, "another child");
                let shown = cable.charon.swanctl("--list-sas")?;
                ensure!(shown.matches("INSTALLED").count() == 1, "{shown}");
                Ok(())
            },
        )?;
    }
    Ok(())
}
