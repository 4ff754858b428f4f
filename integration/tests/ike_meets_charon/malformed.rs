//! What somebody on the way makes of charon's first answer is refused; charon's own, which comes with the
//! retransmission, is taken. And the other way round with its first request.

use anyhow::{Result, ensure};
use ike::Command;
use integration::interop::Role;

use crate::cable::{Cable, connection, scenario};
use crate::charon::Settings;
use crate::datagram::{self, KEY_EXCHANGE, NONCE};
use crate::ours::CHILD;
use crate::relay::Action;

type Change = fn(&mut Vec<u8>);

/// Of each: number in the matrix, what it is, how it is made.
const REFUSED: &[(u8, &str, Change)] = &[
    (35, "major version 3", |bytes| datagram::set(bytes, 17, 0x30)),
    (35, "an unknown critical payload", |bytes| datagram::with_unknown_payload(bytes, true)),
    (35, "cut off in the middle", |bytes| bytes.truncate(60)),
    (36, "an all-zero X25519 value", |bytes| datagram::fill(bytes, KEY_EXCHANGE, 4, 0)),
    (36, "a key exchange value that is too short", |bytes| datagram::shorten(bytes, KEY_EXCHANGE, 4 + 31)),
    (36, "a nonce of 15 bytes", |bytes| datagram::shorten(bytes, NONCE, 15)),
    (36, "no key exchange value", |bytes| datagram::shorten(bytes, KEY_EXCHANGE, 4)),
];

const TAKEN: &[(u8, &str, Change)] = &[
    (35, "an unknown payload that is not critical", |bytes| datagram::with_unknown_payload(bytes, false)),
    (35, "minor version 1", |bytes| datagram::set(bytes, 17, 0x21)),
];

/// charon's first answer is changed on the way.
#[test]
fn answers_are_refused_and_the_true_one_is_taken() -> Result<()> {
    let cable = Cable::new()?;
    cable.charon.load(&Settings::default())?;
    for (number, what, change) in REFUSED {
        scenario(*number, what, Role::Initiator).judge(|| {
            let mut ours = connection();
            for child in &mut ours.children {
                child.start = false;
            }
            let engine = cable.engine(ours)?;
            engine.state().inward.script(0, Action::Change(Box::new(*change)));
            engine.command(Command::InitiateChild(CHILD));
            let sa = engine.settles(1)?;
            let state = engine.state();
            ensure!(!state.dropped.is_empty(), "nothing was refused");
            // One shared secret was ever made of it: the true one.
            ensure!(state.keys.len() == 1, "{} sets of keys", state.keys.len());
            let sas = cable.charon.swanctl("--list-sas")?;
            ensure!(sas.contains(&format!("{:016x}_i", sa.spi_i)) && sas.contains("INSTALLED"), "{sas}");
            drop(state);
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

/// charon's first request is changed on the way. What deserves an answer (RFC 7296 section 2.5) gets it, and charon
/// gives up; otherwise charon says it again as it was, and is heard.
#[test]
fn requests_are_refused_and_the_true_one_is_taken() -> Result<()> {
    const ANSWERED: &[(&str, &str)] = &[
        ("major version 3", "INVALID_MAJOR_VERSION"),
        ("an unknown critical payload", "UNSUPPORTED_CRITICAL_PAYLOAD"),
    ];
    let cable = Cable::new()?;
    cable.charon.load(&Settings::default())?;
    for (number, what, change) in REFUSED {
        // A zero value fails only when the secret is made of it, at IKE_AUTH: charon then proves what it did not send.
        if what.contains("all-zero") {
            continue;
        }
        scenario(*number, what, Role::Responder).judge(|| {
            let mut ours = connection();
            for child in &mut ours.children {
                child.start = false;
            }
            let engine = cable.engine(ours)?;
            engine.state().inward.script(0, Action::Change(Box::new(*change)));
            cable.charon.try_swanctl("--initiate --child net --timeout 10")?;
            if let Some((_, answer)) = ANSWERED.iter().find(|(refused, _)| refused == what) {
                cable.charon.logs(&format!("received {answer} notify"))?;
                ensure!(engine.state().keys.is_empty(), "a secret was made");
                cable.charon.try_swanctl("--initiate --child net --timeout 10")?;
            }
            engine.settles(1)?;
            let state = engine.state();
            ensure!(!state.dropped.is_empty() || state.out.count() > 2, "nothing was refused");
            ensure!(state.keys.len() == 1, "{} sets of keys", state.keys.len());
            drop(state);
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

/// RFC 7296 section 2.5: what a later version adds without saying that it is critical is passed over. The change is
/// part of what is signed, so the negotiation ends at AUTH; it must get there.
#[test]
fn what_may_be_ignored_is_ignored() -> Result<()> {
    let cable = Cable::new()?;
    cable.charon.load(&Settings::default())?;
    for (number, what, change) in TAKEN {
        scenario(*number, what, Role::Initiator).judge(|| {
            let mut ours = connection();
            for child in &mut ours.children {
                child.start = false;
            }
            let engine = cable.engine(ours)?;
            engine.state().inward.script(0, Action::Change(Box::new(*change)));
            engine.command(Command::InitiateChild(CHILD));
            engine.until("keys of the changed answer", |state| {
                ensure!(!state.keys.is_empty(), "dropped {:?}", state.dropped);
                Ok(())
            })?;
            // The signature covers the answer as charon sent it.
            let cause = engine.ike_down()?;
            ensure!(matches!(cause, ike::Cause::AuthenticationFailed { .. }), "{cause}");
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}
