//! New keys for a child and for the IKE SA, begun by either side and by both at once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ike::{Command, Event};
use integration::interop::Role;

use crate::cable::{Cable, FURTHER, connection, scenario, two_children, with_second_child};
use crate::charon::Settings;
use crate::datagram::{INFORMATIONAL, is_request};
use crate::ours::{CHILD, CONNECTION, Ours, State};

/// Both ends have the same IKE SA and the same child, and the child is none of `old`.
pub(crate) fn agree(cable: &Cable, engine: &Ours, old: &BTreeSet<u32>) -> Result<()> {
    engine.until("the same new SAs at both ends", |state| {
        let mut sas = state.engine.isakmp_sas(Instant::now());
        let sa = sas.pop().context("no IKE SA")?;
        ensure!(sas.is_empty() && sa.state == "established", "{sas:?} {sa:?}");
        let pairs: Vec<_> = state.installed.values().collect();
        let [pair] = pairs.as_slice() else { bail!("{} pairs, events {:?}", pairs.len(), state.events) };
        ensure!(!old.contains(&pair.spi_in), "still {:08x}", pair.spi_in);
        let shown = cable.charon.swanctl("--list-sas")?;
        ensure!(shown.matches("IKEv2,").count() == 1 && shown.matches("INSTALLED").count() == 1, "{shown}");
        ensure!(shown.contains(&format!("{:016x}_i", sa.spi_i)), "{sa:?} {shown}");
        ensure!(shown.contains(&format!("in  {:08x}", pair.spi_out)), "{:08x} {shown}", pair.spi_out);
        ensure!(shown.contains(&format!("out {:08x}", pair.spi_in)), "{:08x} {shown}", pair.spi_in);
        Ok(())
    })
}

pub(crate) fn pairs(engine: &Ours) -> BTreeSet<u32> {
    engine.state().installed.keys().copied().collect()
}

#[test]
fn of_the_child_begun_by_either() -> Result<()> {
    for (what, ours, theirs) in [
        (["child rekey", "child rekey, on an IKE SA of the peer"], connection(), Settings::default()),
        (
            [
                "child rekey with a key exchange of its own",
                "child rekey with a key exchange of its own, on an IKE SA of the peer",
            ],
            with_pfs(),
            Settings { esp: "aes256gcm16-x25519-noesn", ..Settings::default() },
        ),
    ] {
        for (began, what) in Role::BOTH.into_iter().zip(what) {
            let cable = Cable::new()?;
            let engine = cable.up(began, ours.clone(), &theirs)?;
            for role in Role::BOTH {
                scenario(21, what, role).judge(|| {
                    let old = pairs(&engine);
                    match role {
                        Role::Initiator => engine.command(Command::RekeyChild(CHILD)),
                        Role::Responder => drop(cable.charon.swanctl("--rekey --child net")?),
                    }
                    agree(&cable, &engine, &old)?;
                    let replaced = engine.state().events.iter().any(
                    |event| matches!(event, Event::ChildRekeyed { replaced, .. } if old.contains(replaced)),
                );
                    ensure!(replaced, "no such event");
                    let down =
                        engine.state().events.iter().any(|event| matches!(event, Event::ChildDown { .. }));
                    ensure!(!down, "the child was down");
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

fn with_pfs() -> ike::Connection {
    let mut connection = connection();
    for child in &mut connection.children {
        for proposal in &mut child.proposals {
            proposal.groups = vec![ike::Group::Curve25519];
        }
    }
    connection
}

/// RFC 7296 section 2.8: children move, message ids begin anew.
#[test]
fn of_the_ike_sa_begun_by_either() -> Result<()> {
    let what = [
        "IKE SA rekey: the child stays, message ids begin anew",
        "IKE SA rekey, of one that the peer began: the child stays, message ids begin anew",
    ];
    for (began, what) in Role::BOTH.into_iter().zip(what) {
        let cable = Cable::new()?;
        let engine = cable.up(began, connection(), &Settings::default())?;
        for role in Role::BOTH {
            scenario(22, what, role).judge(|| {
                let before = engine.settles(1)?;
                let child = pairs(&engine);
                let told = engine.state().events.len();
                match role {
                    Role::Initiator => engine.command(Command::RekeyIke(CONNECTION)),
                    Role::Responder => drop(cable.charon.swanctl("--rekey --ike far")?),
                }
                engine.until("an IKE SA in place of the old", |state| {
                    let rekeyed = |event: &Event| matches!(event, Event::IkeRekeyed { .. });
                    ensure!(state.events.iter().skip(told).any(rekeyed), "{:?}", state.events);
                    Ok(())
                })?;
                replaced(&engine, before.spi_i)?;
                agree(&cable, &engine, &BTreeSet::new())?;
                ensure!(pairs(&engine) == child, "another child");
                // The new one is good for more than to be there.
                engine.command(Command::RekeyChild(CHILD));
                agree(&cable, &engine, &child)
            })?;
        }
    }
    Ok(())
}

/// What is held back until both have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// Our request: charon's arrives first.
    Ours,
    /// charon's request: ours arrives first.
    Theirs,
    /// Both: they cross.
    Both,
}

/// charon, told to say nothing by itself. As the initiator of an IKE SA it would tell of its addresses whenever they seem to have
/// changed (RFC 4555 section 3.5), and while that waits for its answer it begins nothing else.
pub(crate) fn silent(settings: Settings) -> Settings {
    Settings { connection: "mobike = no", ..settings }
}

/// Has both ends begin an exchange before either hears of the other's; charon is [`silent`].
pub(crate) fn crossing(cable: &Cable, engine: &Ours, late: Late, ours: Command, theirs: &str) -> Result<()> {
    if late != Late::Theirs {
        engine.state().out.hold();
    }
    if late != Late::Ours {
        engine.state().inward.hold();
    }
    let heard = engine.state().inward.count();
    if late == Late::Theirs {
        // Ours goes out and is answered; the answer waits behind charon's request.
        cable.charon.swanctl(theirs)?;
        engine.until("charon's request", |state| {
            ensure!(state.inward.count() > heard, "none");
            Ok(())
        })?;
        engine.command(ours);
        engine.until("charon's answer", |state| {
            ensure!(state.inward.count() > heard + 1, "none");
            Ok(())
        })?;
    } else {
        // Held before charon begins: what is held later may be the answer to charon's request.
        engine.command(ours);
        engine.until("our request", |state| {
            ensure!(state.out.holding() > 0, "none");
            Ok(())
        })?;
        cable.charon.swanctl(theirs)?;
        engine.until("charon's request", |state| {
            ensure!(state.inward.count() > heard, "none");
            Ok(())
        })?;
    }
    if late != Late::Theirs {
        // Our answer goes when charon has made its own: of two messages that are there at once, its threads take either first.
        {
            let mut state = engine.state();
            let now = Instant::now();
            state.inward.hold();
            state.inward.release_one(now, 0);
            state.out.release_one(now, 0);
        }
        engine.until("charon's answer", |state| {
            ensure!(state.inward.count() > heard + 1, "none");
            Ok(())
        })?;
    }
    let now = Instant::now();
    let mut state = engine.state();
    state.out.release(now);
    state.inward.release(now);
    Ok(())
}

#[test]
fn of_the_child_by_both_at_once() -> Result<()> {
    for late in [Late::Ours, Late::Theirs, Late::Both] {
        let what = match late {
            Late::Ours => "simultaneous child rekey, our request is late",
            Late::Theirs => "simultaneous child rekey, the peer's request is late",
            Late::Both => "simultaneous child rekey, requests cross",
        };
        for role in Role::BOTH {
            let cable = Cable::new()?;
            scenario(23, what, role).judge(|| {
                let engine = cable.up(role, connection(), &silent(Settings::default()))?;
                let old = pairs(&engine);
                crossing(&cable, &engine, late, Command::RekeyChild(CHILD), "--rekey --child net")?;
                agree(&cable, &engine, &old)?;
                each_deletes_its_part(&cable, &engine)?;
                let state = engine.state();
                ensure!(
                    !state.events.iter().any(|event| matches!(event, Event::ChildDown { .. })),
                    "the child was down"
                );
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Nothing but the end of something is said in informational exchanges here.
fn each_said_one_delete(state: &State) -> Result<()> {
    let said = [state.out.known(), state.inward.known()]
        .map(|known| known.iter().filter(|bytes| is_request(bytes, INFORMATIONAL)).count());
    ensure!(said == [1, 1], "{said:?} DELETEs by us and by charon");
    Ok(())
}

/// RFC 7296 section 2.8.1: who made the redundant child, by the nonces, deletes that; who made the other deletes the old one. So
/// each says one DELETE, and both name the same winner.
fn each_deletes_its_part(cable: &Cable, engine: &Ours) -> Result<()> {
    engine.until("one deletion by each", |state| each_said_one_delete(state))?;
    let state = engine.state();
    let counted = |name: &str| state.engine.counters().get(name).copied().unwrap_or(0);
    ensure!(counted("rekey_collisions") == 1, "{:?}", state.engine.counters());
    let (lost, log) = (counted("rekey_collisions_lost") == 1, cable.charon.log()?);
    ensure!(log.contains("CHILD_SA rekey collision won") == lost, "we lost: {lost}; {log}");
    Ok(())
}

#[test]
fn of_the_ike_sa_by_both_at_once() -> Result<()> {
    for late in [Late::Ours, Late::Theirs, Late::Both] {
        let what = match late {
            Late::Ours => "simultaneous IKE SA rekey, our request is late",
            Late::Theirs => "simultaneous IKE SA rekey, the peer's request is late",
            Late::Both => "simultaneous IKE SA rekey, requests cross",
        };
        for role in Role::BOTH {
            let cable = Cable::new()?;
            scenario(23, what, role).judge(|| {
                let engine = cable.up(role, connection(), &silent(Settings::default()))?;
                let child = pairs(&engine);
                let before = engine.settles(1)?.spi_i;
                crossing(&cable, &engine, late, Command::RekeyIke(CONNECTION), "--rekey --ike far")?;
                let crossed = Instant::now();
                replaced(&engine, before)?;
                agree(&cable, &engine, &BTreeSet::new())?;
                // RFC 7296 section 2.8.2: who made the redundant one deletes it, and does not leave it to time.
                let took = crossed.elapsed();
                ensure!(
                    took < Duration::from_secs(8),
                    "{took:?} until one was left; {}",
                    cable.charon.log()?
                );
                ensure!(pairs(&engine) == child, "another child");
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// RFC 7296 section 2.25.1: the deletion wins. Who wants the child has it again, as another one or as the one that its rekey
/// made; who was only called does without.
#[test]
fn of_a_child_that_the_peer_deletes() -> Result<()> {
    for role in Role::BOTH {
        let cable = Cable::new()?;
        scenario(23, "child rekey against the peer's deletion of it, requests cross", role).judge(|| {
            let engine = cable.up(role, connection(), &silent(Settings::default()))?;
            let (before, old) = (engine.settles(1)?, pairs(&engine));
            let delete = "--terminate --child net --timeout -1";
            crossing(&cable, &engine, Late::Both, Command::RekeyChild(CHILD), delete)?;
            match role {
                Role::Initiator => agree(&cable, &engine, &old),
                Role::Responder => childless(&cable, &engine, before.spi_i),
            }
        })?;
    }
    Ok(())
}

/// Both ends have this IKE SA and no child.
fn childless(cable: &Cable, engine: &Ours, spi_i: u64) -> Result<()> {
    engine.until("the same IKE SA at both ends, and no child", |state| {
        let sas = state.engine.isakmp_sas(Instant::now());
        ensure!(sas.len() == 1 && sas.iter().all(|sa| sa.spi_i == spi_i), "{sas:?}");
        ensure!(sas.iter().all(|sa| sa.state == "established" && sa.children.is_empty()), "{sas:?}");
        ensure!(state.installed.is_empty(), "{:x?}", state.installed.keys());
        let shown = cable.charon.swanctl("--list-sas")?;
        ensure!(shown.contains(&format!("{spi_i:016x}_i")) && !shown.contains("reqid"), "{shown}");
        Ok(())
    })
}

/// Each puts the other off by TEMPORARY_FAILURE, or does what it was asked for first (RFC 7296 section 2.25): sooner or later both
/// have what they wanted.
#[test]
fn of_a_child_while_the_ike_sa_goes_too() -> Result<()> {
    for role in Role::BOTH {
        let cable = Cable::new()?;
        scenario(23, "child rekey against the peer's IKE SA rekey, requests cross", role).judge(|| {
            let engine = cable.up(role, connection(), &silent(Settings::default()))?;
            let (before, old) = (engine.settles(1)?.spi_i, pairs(&engine));
            crossing(&cable, &engine, Late::Both, Command::RekeyChild(CHILD), "--rekey --ike far")?;
            replaced(&engine, before)?;
            agree(&cable, &engine, &old)
        })?;
    }
    Ok(())
}

/// A second child, while the IKE SA goes: it is made on the one or on the other, and both children are there in the end.
#[test]
fn of_the_ike_sa_while_a_child_is_made() -> Result<()> {
    let ours = with_second_child(connection());
    let theirs = silent(Settings { children: two_children(), ..Settings::default() });
    for role in Role::BOTH {
        let cable = Cable::new()?;
        scenario(23, "a second child made against the peer's IKE SA rekey, requests cross", role).judge(
            || {
                cable.charon.load(&theirs)?;
                let mut connection = ours.clone();
                for child in &mut connection.children {
                    child.start = role == Role::Initiator && child.id == CHILD;
                }
                let engine = cable.engine(connection)?;
                if role == Role::Responder {
                    cable.charon.swanctl("--initiate --child net --timeout 10")?;
                }
                let before = engine.settles(1)?.spi_i;
                crossing(&cable, &engine, Late::Both, Command::InitiateChild(FURTHER), "--rekey --ike far")?;
                replaced(&engine, before)?;
                engine.settles(2)?;
                engine.until("both children at charon", |_| {
                    let shown = cable.charon.swanctl("--list-sas")?;
                    let both =
                        shown.matches("INSTALLED").count() == 2 && shown.matches("ESTABLISHED").count() == 1;
                    ensure!(both && !shown.contains(&format!("{before:016x}_i")), "{shown}");
                    Ok(())
                })
            },
        )?;
    }
    Ok(())
}

/// RFC 7296 section 2.25.2: each answers the other's DELETE, and nothing is left.
#[test]
fn of_the_ike_sa_that_both_delete() -> Result<()> {
    for role in Role::BOTH {
        let cable = Cable::new()?;
        scenario(23, "the IKE SA deleted by both at once, requests cross", role).judge(|| {
            let engine = cable.up(role, connection(), &silent(Settings::default()))?;
            let delete = "--terminate --ike far --timeout -1";
            crossing(&cable, &engine, Late::Both, Command::Terminate(CONNECTION), delete)?;
            engine.until("nothing at either end", |state| {
                let sas = state.engine.isakmp_sas(Instant::now());
                ensure!(
                    sas.is_empty() && state.installed.is_empty(),
                    "{sas:?}, {:x?}",
                    state.installed.keys()
                );
                let shown = cable.charon.swanctl("--list-sas")?;
                ensure!(shown.trim().is_empty(), "{shown}");
                each_said_one_delete(state)
            })
        })?;
    }
    Ok(())
}

/// Waits until another IKE SA is alone in place of this one.
pub(crate) fn replaced(engine: &Ours, before: u64) -> Result<()> {
    engine.until("another IKE SA alone", |state| {
        let sas = state.engine.isakmp_sas(Instant::now());
        ensure!(sas.len() == 1 && sas.iter().all(|sa| sa.spi_i != before), "{sas:?}");
        Ok(())
    })
}
