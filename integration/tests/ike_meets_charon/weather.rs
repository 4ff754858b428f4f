//! Datagrams that are lost, come twice, late, or again: each end does each thing once.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ike::{Command, Connection, Limits};
use integration::interop::Role;
use std::time::Duration;

use crate::cable::{Cable, connection, limits, scenario};
use crate::charon::Settings;
use crate::datagram::{IKE_SA_INIT, exchange};
use crate::ours::{CHILD, CONNECTION, Ours};
use crate::rekeys::silent;
use crate::relay::{Action, Direction, Weather};

/// charon tries soon and often, as we do here.
pub(crate) const IMPATIENT: &str = "retransmit_timeout = 0.2\nretransmit_base = 1.4\nretransmit_tries = 12";

fn impatient() -> Limits {
    Limits { retransmit_base: Duration::from_millis(150), retransmit_tries: 12, ..limits() }
}

/// Neither end begins by itself, and ours never asks whether the other lives: every message has a cause of the test's.
fn waiting(cable: &Cable) -> Result<Ours> {
    waiting_with(cable, connection())
}

pub(crate) fn waiting_with(cable: &Cable, mut ours: Connection) -> Result<Ours> {
    ours.dpd = None;
    for child in &mut ours.children {
        child.start = false;
    }
    Ours::start(&cable.ours, impatient(), ours)
}

pub(crate) fn begin(cable: &Cable, engine: &Ours, role: Role) -> Result<()> {
    match role {
        Role::Initiator => engine.command(Command::InitiateChild(CHILD)),
        Role::Responder => {
            cable.charon.try_swanctl("--initiate --child net --timeout 20")?;
        }
    }
    Ok(())
}

/// Both ends have one and the same IKE SA, and one and the same child.
fn agree(cable: &Cable, engine: &Ours) -> Result<()> {
    engine.until("the same SAs at both ends", |state| {
        let mut sas = state.engine.isakmp_sas(Instant::now());
        let sa = sas.pop().context("no IKE SA")?;
        ensure!(sas.is_empty() && sa.state == "established", "{sas:?} {sa:?}");
        let pairs: Vec<_> = state.installed.values().collect();
        let [pair] = pairs.as_slice() else { anyhow::bail!("{} pairs", pairs.len()) };
        let shown = cable.charon.swanctl("--list-sas")?;
        let count = |needle: &str| shown.matches(needle).count();
        ensure!(count("IKEv2,") == 1 && count("ESTABLISHED") == 1, "{shown}");
        ensure!(count("TUNNEL-in-UDP") == 1 && count("INSTALLED") == 1, "{shown}");
        ensure!(shown.contains(&format!("{:016x}_i", sa.spi_i)), "{sa:?} {shown}");
        ensure!(shown.contains(&format!("in  {:08x}", pair.spi_out)), "{:08x} {shown}", pair.spi_out);
        ensure!(shown.contains(&format!("out {:08x}", pair.spi_in)), "{:08x} {shown}", pair.spi_in);
        Ok(())
    })
}

pub(crate) fn tidy(cable: &Cable, engine: Ours) -> Result<()> {
    engine.command(Command::Terminate(CONNECTION));
    engine.until("charon's end of it", |_| {
        let shown = cable.charon.swanctl("--list-sas")?;
        ensure!(shown.trim().is_empty(), "{shown}");
        Ok(())
    })
}

#[test]
fn a_third_is_lost_a_third_comes_twice_and_half_is_late() -> Result<()> {
    let cable = Cable::with(IMPATIENT)?;
    cable.charon.load(&Settings::default())?;
    for role in Role::BOTH {
        scenario(8, "loss 30 %, twice 30 %, late 50 %, 10 seeds: up and the child rekeyed", role).judge(
            || {
                for seed in 1..=10 {
                    let engine = waiting(&cable)?;
                    {
                        let mut state = engine.state();
                        let weather = |seed| Some(Weather { seed, loss: 30, repeated: 30, late: 50 });
                        state.out.set_weather(weather(seed));
                        state.inward.set_weather(weather(seed + 1000));
                    }
                    begin(&cable, &engine, role)?;
                    engine.settles(1).with_context(|| format!("seed {seed}"))?;
                    let old = *engine.state().installed.keys().next().context("no pair")?;
                    match role {
                        Role::Initiator => engine.command(Command::RekeyChild(CHILD)),
                        Role::Responder => {
                            cable.charon.try_swanctl("--rekey --child net")?;
                        }
                    }
                    engine
                        .until("another pair", |state| {
                            ensure!(state.installed.keys().any(|spi| *spi != old), "still {old:08x}");
                            Ok(())
                        })
                        .with_context(|| format!("seed {seed}"))?;
                    {
                        let mut state = engine.state();
                        state.out.set_weather(None);
                        state.inward.set_weather(None);
                    }
                    agree(&cable, &engine).with_context(|| format!("seed {seed}"))?;
                    tidy(&cable, engine)?;
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// The first copy of each message in turn, either way, from IKE_SA_INIT to the deletion after a rekey.
#[test]
fn each_message_is_lost_once() -> Result<()> {
    let cable = Cable::with(IMPATIENT)?;
    cable.charon.load(&silent(Settings::default()))?;
    // IKE_SA_INIT, IKE_AUTH, CREATE_CHILD_SA, INFORMATIONAL: four messages each way.
    for role in Role::BOTH {
        scenario(9, "each message of set-up and child rekey lost once, in turn", role).judge(|| {
            for direction in [Direction::Out, Direction::In] {
                for number in 0..4 {
                    let engine = waiting(&cable)?;
                    match direction {
                        Direction::Out => engine.state().out.script(number, Action::Drop),
                        Direction::In => engine.state().inward.script(number, Action::Drop),
                    }
                    let turn = || format!("message {number} {direction:?}");
                    begin(&cable, &engine, role)?;
                    engine.settles(1).with_context(turn)?;
                    let old = *engine.state().installed.keys().next().context("no pair")?;
                    match role {
                        Role::Initiator => engine.command(Command::RekeyChild(CHILD)),
                        Role::Responder => {
                            cable.charon.try_swanctl("--rekey --child net")?;
                        }
                    }
                    engine
                        .until("the old pair's end", |state| {
                            ensure!(!state.installed.contains_key(&old), "still {old:08x}");
                            Ok(())
                        })
                        .with_context(turn)?;
                    agree(&cable, &engine).with_context(turn)?;
                    tidy(&cable, engine)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// RFC 7296 section 2.1: an old request brings its old answer again, and nothing else ever.
#[test]
fn everything_comes_again() -> Result<()> {
    let cable = Cable::with(IMPATIENT)?;
    cable.charon.load(&silent(Settings::default()))?;
    let mut earlier: Vec<Vec<u8>> = Vec::new();
    for role in Role::BOTH {
        scenario(10, "every message replayed, and those of an earlier SA", role).judge(|| {
            let engine = waiting(&cable)?;
            begin(&cable, &engine, role)?;
            engine.settles(1)?;
            engine.command(Command::RekeyIke(CONNECTION));
            engine.until("a second set of keys", |state| {
                ensure!(state.keys.len() == 2, "{}", state.keys.len());
                Ok(())
            })?;
            agree(&cable, &engine)?;
            let replays = {
                let mut state = engine.state();
                let (outward, before) = (state.out.count(), state.pairs.len());
                let heard: Vec<_> = state
                    .wire
                    .iter()
                    .filter(|datagram| datagram.direction == Direction::In)
                    .cloned()
                    .collect();
                let path = heard.last().context("nothing was heard")?.path;
                let now = Instant::now();
                for datagram in &heard {
                    state.inward.push(now, datagram.path, datagram.bytes.clone());
                }
                for bytes in &earlier {
                    state.inward.push(now, path, bytes.clone());
                }
                earlier.extend(heard.into_iter().map(|datagram| datagram.bytes));
                (outward, before)
            };
            // A question of charon's own that is answered shows that all before it was handled.
            let asked = engine.state().wire.len();
            cable.charon.try_swanctl("--rekey --child net")?;
            engine.until("the rekey after the replays", |state| {
                ensure!(
                    state.wire.len() > asked && state.pairs.len() == replays.1 + 1,
                    "{}",
                    state.pairs.len()
                );
                Ok(())
            })?;
            agree(&cable, &engine)?;
            // New messages are the answers to the rekey and to the deletion that follows it. Nobody can tell a replayed
            // IKE_SA_INIT from a new one, but nothing comes of its answer.
            let state = engine.state();
            let new = state.out.known().iter().skip(replays.0);
            let said: Vec<_> =
                new.map(|bytes| exchange(bytes)).filter(|said| *said != Some(IKE_SA_INIT)).collect();
            ensure!(said.len() <= 2, "{said:?} were not said before");
            drop(state);
            tidy(&cable, engine)
        })?;
    }
    Ok(())
}
