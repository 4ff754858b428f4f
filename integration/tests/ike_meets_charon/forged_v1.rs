//! What somebody without the keys says in the peer's name by IKEv1, whose informational messages may come in clear (RFC 2409
//! section 5.7): it is counted, and nothing comes of it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ike::{Event, IkeSaView, Ikev1, Path, Version};
use integration::interop::Role;

use crate::cable::{Cable, scenario};
use crate::charon::Settings;
use crate::datagram::{self, HEADER};
use crate::ikev1::classic;
use crate::ours::Ours;
use crate::relay::{Action, Direction};

const INFORMATIONAL: u8 = 5;
const MAIN_MODE: u8 = 2;
/// ISAKMP's numbers of payloads.
const NOTIFICATION: u8 = 11;
const DELETE: u8 = 12;
/// The Internet's domain of interpretation.
const DOI: [u8; 4] = [0, 0, 0, 1];
const AGGRESSIVE_KEYS: &str = "i_dont_care_about_security_and_use_aggressive_mode_psk = yes";

/// An informational message in clear with one payload.
fn clear(sa: &IkeSaView, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [sa.spi_i.to_be_bytes(), sa.spi_r.to_be_bytes()].concat();
    message.extend([kind, 0x10, INFORMATIONAL, 0, 0x5a, 0x5a, 0x5a, 0x5a]);
    let length = u16::try_from(body.len() + 4).unwrap_or(0);
    message.extend((u32::try_from(HEADER).unwrap_or(0) + u32::from(length)).to_be_bytes());
    message.extend([0, 0]);
    message.extend(length.to_be_bytes());
    message.extend(body);
    message
}

/// What an attacker knows is on the wire: cookies and SPIs.
fn forgeries(sa: &IkeSaView, spi_out: u32) -> Vec<(&'static str, Vec<u8>)> {
    let cookies = [sa.spi_i.to_be_bytes(), sa.spi_r.to_be_bytes()].concat();
    let delete = |protocol: u8, spi: &[u8]| {
        let size = u8::try_from(spi.len()).unwrap_or(0);
        [&DOI[..], &[protocol, size, 0, 1], spi].concat()
    };
    let notify = |protocol: u8, spi: &[u8], kind: u16| {
        let size = u8::try_from(spi.len()).unwrap_or(0);
        [&DOI[..], &[protocol, size], &kind.to_be_bytes(), spi].concat()
    };
    let esp = spi_out.to_be_bytes();
    let mut encrypted = clear(sa, DELETE, &delete(1, &cookies));
    datagram::set(&mut encrypted, 16, 8);
    datagram::set(&mut encrypted, 19, 1);
    vec![
        ("IKEv1, DELETE of the ISAKMP SA in clear", clear(sa, DELETE, &delete(1, &cookies))),
        ("IKEv1, DELETE of the ESP SA in clear", clear(sa, DELETE, &delete(3, &esp))),
        ("IKEv1, NO-PROPOSAL-CHOSEN in clear", clear(sa, NOTIFICATION, &notify(3, &esp, 14))),
        ("IKEv1, INVALID-SPI in clear", clear(sa, NOTIFICATION, &notify(1, &cookies, 11))),
        ("IKEv1, INITIAL-CONTACT in clear", clear(sa, NOTIFICATION, &notify(1, &cookies, 24578))),
        ("IKEv1, R-U-THERE in clear", clear(sa, NOTIFICATION, &notify(1, &cookies, 36136))),
        ("IKEv1, a DELETE under no keys that says that it is encrypted", encrypted),
    ]
}

fn is_up(cable: &Cable, engine: &Ours, before: &IkeSaView) -> Result<()> {
    let after = engine.settles(1)?;
    ensure!((after.spi_i, &after.children) == (before.spi_i, &before.children), "{before:?} {after:?}");
    let down = |event: &Event| matches!(event, Event::IkeDown { .. } | Event::ChildDown { .. });
    ensure!(!engine.state().events.iter().any(down), "{:?}", engine.state().events);
    let shown = cable.charon.swanctl("--list-sas")?;
    let ours = before.children.first().context("no child")?;
    ensure!(shown.contains(&format!("out {ours:08x}")), "{shown}");
    Ok(())
}

fn path(engine: &Ours) -> Result<Path> {
    let state = engine.state();
    let heard = state.wire.iter().rev().find(|datagram| datagram.direction == Direction::In);
    Ok(heard.context("nothing was heard")?.path)
}

fn marked(path: Path, bytes: Vec<u8>) -> Vec<u8> {
    if path.local.port() == 4500 { [vec![0; 4], bytes].concat() } else { bytes }
}

#[test]
fn deletions_and_notifications_change_nothing() -> Result<()> {
    let cable = Cable::new()?;
    let (ours, theirs) = classic();
    for role in Role::BOTH {
        let engine = cable.up(role, ours.clone(), &theirs)?;
        let before = engine.settles(1)?;
        let spi_out = engine.state().installed.values().next().context("no pair")?.spi_out;
        let path = path(&engine)?;
        for (what, forged) in forgeries(&before, spi_out) {
            scenario(18, what, role).judge(|| {
                let (dropped, said) = {
                    let mut state = engine.state();
                    state.inward.inject(Instant::now(), path, marked(path, forged));
                    (state.dropped.len(), state.out.count())
                };
                engine.until("the drop", |state| {
                    ensure!(state.dropped.len() > dropped, "not yet");
                    Ok(())
                })?;
                let state = engine.state();
                ensure!(
                    state.dropped.last() == Some(&"unauthenticated_informational"),
                    "{:?}",
                    state.dropped
                );
                ensure!(state.out.count() == said, "it was answered");
                drop(state);
                is_up(&cable, &engine, &before)
            })?;
        }
        // And a true one, of which a bit has turned over.
        scenario(18, "IKEv1, the peer's DELETE with one bit changed", role).judge(|| {
            let flip = |bytes: &mut Vec<u8>| {
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
            };
            let dropped = {
                let mut state = engine.state();
                let heard = state.inward.count();
                state.inward.script(heard, Action::Change(Box::new(flip)));
                state.inward.script(heard + 1, Action::Drop);
                state.dropped.len()
            };
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1")?;
            engine.until("the drop", |state| {
                ensure!(state.dropped.len() > dropped, "not yet");
                Ok(())
            })?;
            let after = engine.settles(1)?;
            ensure!(after.children == before.children, "{after:?}");
            Ok(())
        })?;
        drop(engine);
    }
    Ok(())
}

/// A refused aggressive mode leaves nothing that the same cookie could find later (CVE-2023-30570 was such a find), whatever
/// comes with it; and the peer is served.
#[test]
fn cookies_of_a_refused_aggressive_mode_find_nothing() -> Result<()> {
    let cable = Cable::with(AGGRESSIVE_KEYS)?;
    let (refusing, theirs) = classic();
    let theirs = Settings { connection: "aggressive = yes", ..theirs };
    let mut choosy = refusing.clone();
    choosy.version = Version::V1(Ikev1 { aggressive_mode: true, ..Ikev1::default() });
    choosy.proposals.iter_mut().for_each(|proposal| proposal.prf = vec![ike::Hash::Sha2_256]);
    choosy.proposals.iter_mut().for_each(|proposal| proposal.integrity = vec![ike::Hash::Sha2_256]);
    for (what, ours, why) in [
        ("IKEv1, aggressive mode refused, then its cookie again", &refusing, "aggressive_mode_refused"),
        (
            "IKEv1, aggressive mode without a proposal in common, then its cookie again",
            &choosy,
            "no_proposal_chosen",
        ),
    ] {
        scenario(20, what, Role::Responder).judge(|| {
            let mut waiting = ours.clone();
            waiting.children.iter_mut().for_each(|child| child.start = false);
            let engine = cable.engine(waiting)?;
            cable.charon.load(&theirs)?;
            cable.charon.try_swanctl("--initiate --child net --timeout 2")?;
            engine.until("the refusal", |state| {
                ensure!(state.dropped.contains(&why), "{:?}", state.dropped);
                Ok(())
            })?;
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1")?;
            let path = path(&engine)?;
            let first = engine.state().inward.known().first().cloned().context("nothing came")?;
            let crafted = crafted(&first);
            let heard = engine.state().wire.len();
            for bytes in &crafted {
                engine.state().inward.inject(Instant::now(), path, bytes.clone());
            }
            engine.until("all that was crafted", |state| {
                let came =
                    state.wire.iter().skip(heard).filter(|datagram| datagram.direction == Direction::In);
                ensure!(came.count() >= crafted.len(), "not yet");
                Ok(())
            })?;
            {
                let state = engine.state();
                ensure!(!state.engine.counters().contains_key("panics"), "a panic");
                let up = state.engine.isakmp_sas(Instant::now());
                ensure!(up.iter().all(|sa| sa.state != "established"), "{up:?}");
            }
            drop(engine);
            // The same process, and the peer as it should be.
            let (_, main_mode) = classic();
            let engine = cable.up(Role::Responder, refusing.clone(), &main_mode)?;
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

/// The refused message again, and others with its cookie: of other exchanges, with a cookie of ours that never was, encrypted,
/// with a message id, cut off.
fn crafted(first: &[u8]) -> Vec<Vec<u8>> {
    let with = |changes: &[(usize, u8)]| {
        let mut bytes = first.to_vec();
        changes.iter().for_each(|(at, value)| datagram::set(&mut bytes, *at, *value));
        bytes
    };
    let mut crafted = vec![
        first.to_vec(),
        with(&[(18, MAIN_MODE)]),
        with(&[(18, INFORMATIONAL)]),
        with(&[(18, 32)]),
        with(&[(15, 1)]),
        with(&[(15, 1), (19, 1)]),
        with(&[(15, 1), (18, MAIN_MODE)]),
        with(&[(15, 1), (18, 32), (19, 1), (23, 1)]),
        with(&[(19, 1)]),
        with(&[(23, 1)]),
        with(&[(16, 0)]),
        first[..HEADER].to_vec(),
        first[..first.len() / 2].to_vec(),
        first.to_vec(),
    ];
    // A responder's cookie that is the initiator's own.
    let mut mirrored = first.to_vec();
    mirrored.copy_within(..8, 8);
    crafted.push(mirrored);
    crafted
}
