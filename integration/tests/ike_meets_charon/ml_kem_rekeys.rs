//! IKE SAs made with ML-KEM are rekeyed with it (IKE_FOLLOWUP_KE, RFC 9370 section 2.2.4), as strongSwan 6 judges it.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ike::{Command, Event};
use integration::interop::Role;

use crate::cable::Cable;
use crate::charon::Release;
use crate::datagram::exchange;
use crate::keys::{same_esp_keys, same_ike_keys};
use crate::ml_kem::{ML_KEM_768, ML_KEM_1024, ends, judged, offering, told};
use crate::ours::{CHILD, CONNECTION, Ours};
use crate::rekeys::{Late, agree, crossing, pairs, replaced, silent};
use crate::relay::Weather;
use crate::weather::{IMPATIENT, begin, tidy, waiting_with};

const TWO: &str = "aes256gcm16-prfsha256-x25519-ke1_mlkem768-ke2_mlkem1024";
const ONE: &str = "aes256gcm16-prfsha256-x25519-ke1_mlkem768";
const IKE_FOLLOWUP_KE: u8 = 44;

fn rekey(cable: &Cable, engine: &Ours, role: Role) -> Result<()> {
    let before = engine.settles(1)?;
    let child = pairs(engine);
    match role {
        Role::Initiator => engine.command(Command::RekeyIke(CONNECTION)),
        Role::Responder => drop(cable.charon.swanctl("--rekey --ike far")?),
    }
    engine.until("the new IKE SA alone", |state| {
        let sas = state.engine.isakmp_sas(Instant::now());
        ensure!(sas.len() == 1 && sas.iter().all(|sa| sa.spi_i != before.spi_i), "{sas:?}");
        Ok(())
    })?;
    agree(cable, engine, &BTreeSet::new())?;
    ensure!(pairs(engine) == child, "another child");
    Ok(())
}

fn followups(engine: &Ours) -> usize {
    engine.state().wire.iter().filter(|datagram| exchange(&datagram.bytes) == Some(IKE_FOLLOWUP_KE)).count()
}

fn suite(engine: &Ours) -> Result<String> {
    Ok(engine.settles(1)?.suite)
}

#[test]
fn begun_by_either() -> Result<()> {
    let cable = Cable::to(Release::Six, "")?;
    let engine = cable.up(Role::Initiator, offering(&[&[ML_KEM_768], &[ML_KEM_1024]], true), &told(TWO))?;
    for (sets, role) in [(4, Role::Initiator), (5, Role::Responder)] {
        judged("IKE SA rekey with two additional key exchanges: all keys compared", role).judge(|| {
            let before = followups(&engine);
            rekey(&cable, &engine, role)?;
            ensure!(followups(&engine) >= before + 4, "{} messages", followups(&engine) - before);
            let suite = suite(&engine)?;
            ensure!(suite.ends_with("+ ml-kem-768 + ml-kem-1024"), "{suite}");
            // Those of IKE_SA_INIT, of each IKE_INTERMEDIATE, and of each rekey.
            same_ike_keys(&cable.charon, &engine, sets)?;
            // A child's keys come of the new ones.
            let old = pairs(&engine);
            engine.command(Command::RekeyChild(CHILD));
            agree(&cable, &engine, &old)?;
            same_esp_keys(&cable.charon, &engine)
        })?;
    }
    Ok(())
}

#[test]
fn begun_by_both_at_once() -> Result<()> {
    for late in [Late::Ours, Late::Theirs, Late::Both] {
        let what = match late {
            Late::Ours => "simultaneous IKE SA rekey with ML-KEM, our request is late",
            Late::Theirs => "simultaneous IKE SA rekey with ML-KEM, the peer's request is late",
            Late::Both => "simultaneous IKE SA rekey with ML-KEM, requests cross",
        };
        for role in Role::BOTH {
            let cable = Cable::to(Release::Six, "")?;
            judged(what, role).judge(|| {
                let engine = cable.up(role, offering(&[&[ML_KEM_768]], true), &silent(told(ONE)))?;
                let child = pairs(&engine);
                let before = engine.settles(1)?.spi_i;
                crossing(&cable, &engine, late, Command::RekeyIke(CONNECTION), "--rekey --ike far")?;
                replaced(&engine, before)?;
                agree(&cable, &engine, &BTreeSet::new())?;
                ensure!(pairs(&engine) == child, "another child");
                let suite = suite(&engine)?;
                ensure!(suite.ends_with("+ ml-kem-768"), "{suite}");
                let down = engine.state().events.iter().any(|event| matches!(event, Event::ChildDown { .. }));
                ensure!(!down, "the child was down");
                // It is good for more than to be there.
                let old = pairs(&engine);
                engine.command(Command::RekeyChild(CHILD));
                agree(&cable, &engine, &old)?;
                same_esp_keys(&cable.charon, &engine)?;
                ends(&cable, engine)
            })?;
        }
    }
    Ok(())
}

/// Whose keys come of those that ML-KEM went into may go on without; who did it once is asked for it again.
#[test]
fn by_a_peer_that_leaves_it_out() -> Result<()> {
    let cable = Cable::to(Release::Six, "")?;
    // Our IKE_SA_INIT asks for both; of a rekey that leaves the choice, it takes the first of its own.
    let theirs = told("aes256gcm16-prfsha256-x25519,aes256gcm16-prfsha256-x25519-ke1_mlkem768");
    let engine = cable.up(Role::Initiator, offering(&[&[ML_KEM_768]], true), &theirs)?;
    let made = suite(&engine)?;
    ensure!(made.ends_with("+ ml-kem-768"), "{made}");
    judged("the peer leaves ML-KEM out of a rekey", Role::Initiator).judge(|| {
        rekey(&cable, &engine, Role::Initiator)?;
        let suite = suite(&engine)?;
        ensure!(suite.ends_with("group 31") && followups(&engine) == 0, "{suite}");
        same_ike_keys(&cable.charon, &engine, 3)
    })?;
    judged("the peer left ML-KEM out of a rekey, and offers it again", Role::Responder).judge(|| {
        rekey(&cable, &engine, Role::Responder)?;
        let suite = suite(&engine)?;
        ensure!(suite.ends_with("+ ml-kem-768") && followups(&engine) > 0, "{suite}");
        same_ike_keys(&cable.charon, &engine, 4)?;
        let last = engine.state().pairs.len();
        let old = pairs(&engine);
        cable.charon.swanctl("--rekey --child net")?;
        agree(&cable, &engine, &old)?;
        engine.until("another pair", |state| state.pairs.get(last).map(drop).context("none"))?;
        same_esp_keys(&cable.charon, &engine)
    })
}

/// Each step takes more datagrams than without, and each of them may be lost, come twice or late.
#[test]
fn in_foul_weather() -> Result<()> {
    let cable = Cable::to(Release::Six, IMPATIENT)?;
    cable.charon.load(&told(TWO))?;
    for role in Role::BOTH {
        judged("ML-KEM twice; loss 30 %, twice 30 %, late 50 %, 4 seeds: up, and the IKE SA rekeyed", role)
            .judge(|| {
            for seed in 1..=4 {
                let turn = || format!("seed {seed}");
                let engine = waiting_with(&cable, offering(&[&[ML_KEM_768], &[ML_KEM_1024]], true))?;
                let weather = |seed| Some(Weather { seed, loss: 30, repeated: 30, late: 50 });
                engine.state().out.set_weather(weather(seed));
                engine.state().inward.set_weather(weather(seed + 1000));
                begin(&cable, &engine, role)?;
                let before = engine.settles(1).with_context(turn)?.spi_i;
                match role {
                    Role::Initiator => engine.command(Command::RekeyIke(CONNECTION)),
                    Role::Responder => drop(cable.charon.try_swanctl("--rekey --ike far")?),
                }
                engine
                    .until("another IKE SA", |state| {
                        let sas = state.engine.isakmp_sas(Instant::now());
                        ensure!(sas.iter().any(|sa| sa.spi_i != before), "{sas:?}");
                        Ok(())
                    })
                    .with_context(turn)?;
                engine.state().out.set_weather(None);
                engine.state().inward.set_weather(None);
                agree(&cable, &engine, &BTreeSet::new()).with_context(turn)?;
                let suite = suite(&engine)?;
                ensure!(suite.ends_with("+ ml-kem-768 + ml-kem-1024"), "{suite}, seed {seed}");
                same_ike_keys(&cable.charon, &engine, 4).with_context(turn)?;
                tidy(&cable, engine)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
