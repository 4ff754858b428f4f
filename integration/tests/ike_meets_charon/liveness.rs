//! A peer that goes, freezes, comes back, or says goodbye where nobody hears it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ike::{Cause, Command, Connection, Dpd, Event, Limits};
use integration::interop::Role;

use crate::cable::{Cable, connection, limits, scenario};
use crate::charon::{Charon, Release, Settings};
use crate::ours::{CONNECTION, Ours};
use crate::rekeys::silent;
use crate::relay::Action;

fn watched() -> Connection {
    Connection { dpd: Some(Dpd { interval: Duration::from_secs(1) }), ..connection() }
}

#[test]
fn a_killed_peer_is_dead() -> Result<()> {
    let Cable { charon, ours, theirs, dir, .. } = &mut Cable::new()?;
    scenario(11, "the peer is killed", Role::Initiator).judge(|| {
        charon.load(&Settings::default())?;
        let engine = Ours::start(ours, limits(), watched())?;
        engine.settles(1)?;
        charon.kill()?;
        let cause = engine.ike_down()?;
        ensure!(matches!(cause, Cause::PeerDead { .. }), "{cause}");
        ensure!(engine.state().installed.is_empty(), "a pair is left");
        Ok(())
    })?;
    scenario(12, "the peer's machine starts anew: INITIAL_CONTACT", Role::Responder).judge(|| {
        *charon = Charon::start(Release::Five, theirs, dir, "")?;
        charon.load(&Settings::default())?;
        let mut patient = connection();
        for child in &mut patient.children {
            child.start = false;
        }
        let engine = Ours::start(ours, limits(), patient)?;
        charon.swanctl("--initiate --child net --timeout 10")?;
        let old = engine.settles(1)?;
        charon.kill()?;
        *charon = Charon::start(Release::Five, theirs, dir, "")?;
        charon.load(&Settings::default())?;
        charon.swanctl("--initiate --child net --timeout 10")?;
        let new = engine.settles(1)?;
        ensure!(new.spi_i != old.spi_i && new.children != old.children, "{old:?} {new:?}");
        let sas = charon.swanctl("--list-sas")?;
        ensure!(new.children.iter().all(|spi| sas.contains(&format!("out {spi:08x}"))), "{sas}");
        Ok(())
    })
}

/// With the retransmissions of the product, a peer may be away for 20 seconds.
#[test]
fn a_frozen_peer_is_not_dead() -> Result<()> {
    let cable = Cable::new()?;
    scenario(11, "the peer is frozen for 20 s, and not taken for dead", Role::Initiator).judge(|| {
        cable.charon.load(&Settings::default())?;
        let engine = Ours::start(&cable.ours, Limits::default(), watched())?;
        let before = engine.settles(1)?;
        cable.charon.freeze(true)?;
        std::thread::sleep(Duration::from_secs(20));
        cable.charon.freeze(false)?;
        let asked = engine.state().inward.count();
        engine.until("an answer", |state| {
            ensure!(state.inward.count() > asked, "none");
            Ok(())
        })?;
        let after = engine.settles(1)?;
        ensure!((after.spi_i, after.children) == (before.spi_i, before.children), "another SA");
        let down = engine.state().events.iter().any(|event| matches!(event, Event::IkeDown { .. }));
        ensure!(!down, "it was taken for dead");
        Ok(())
    })
}

#[test]
fn a_path_that_works_one_way_is_no_path() -> Result<()> {
    let cable = Cable::new()?;
    scenario(11, "nothing of the peer arrives any more", Role::Initiator).judge(|| {
        cable.charon.load(&Settings::default())?;
        let engine = cable.engine(watched())?;
        engine.settles(1)?;
        engine.state().inward.hold();
        let cause = engine.ike_down()?;
        ensure!(matches!(cause, Cause::PeerDead { .. }), "{cause}");
        // What comes late is too late.
        engine.state().inward.forget();
        engine.settles(1).map(drop)
    })
}

#[test]
fn a_deletion_that_is_lost_is_said_again() -> Result<()> {
    let cable = Cable::new()?;
    scenario(11, "our deletion of the IKE SA is lost once", Role::Initiator).judge(|| {
        let engine = cable.up(Role::Initiator, connection(), &Settings::default())?;
        let next = engine.state().out.count();
        engine.state().out.script(next, Action::Drop);
        engine.command(Command::Terminate(CONNECTION));
        cable.charon.logs("received DELETE for IKE_SA")?;
        engine.until("no IKE SA", |state| {
            let sas = state.engine.isakmp_sas(Instant::now());
            ensure!(sas.is_empty() && state.installed.is_empty(), "{sas:?}");
            Ok(())
        })?;
        ensure!(cable.charon.swanctl("--list-sas")?.trim().is_empty(), "charon has it still");
        Ok(())
    })?;
    scenario(11, "the peer's deletion of the IKE SA is lost once", Role::Responder).judge(|| {
        let engine = cable.up(Role::Responder, connection(), &silent(Settings::default()))?;
        let next = engine.state().inward.count();
        engine.state().inward.script(next, Action::Drop);
        cable.charon.swanctl("--terminate --ike far --timeout 10")?;
        let cause = engine.ike_down()?;
        ensure!(cause == Cause::DeletedByPeer, "{cause}");
        ensure!(engine.state().installed.is_empty(), "a pair is left");
        Ok(())
    })
}

/// We are the machine that started anew.
#[test]
fn a_peer_forgets_what_a_former_engine_had() -> Result<()> {
    let cable = Cable::new()?;
    scenario(12, "our machine starts anew: INITIAL_CONTACT", Role::Initiator).judge(|| {
        let old = cable.up(Role::Initiator, connection(), &Settings::default())?;
        drop(old);
        let engine = cable.engine(connection())?;
        let new = engine.settles(1)?;
        let sas = cable.charon.swanctl("--list-sas")?;
        ensure!(sas.matches("IKEv2,").count() == 1, "{sas}");
        ensure!(sas.contains(&format!("{:016x}_i", new.spi_i)), "{sas}");
        Ok(())
    })
}
