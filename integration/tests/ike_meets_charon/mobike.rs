//! MOBIKE: charon loses its address, finds another, and says so; we follow with all that we have of it.

use std::time::Duration;

use anyhow::{Result, ensure};
use ike::{Command, Event, Mode};
use integration::interop::Role;
use integration::wait;

use crate::cable::{Cable, connection, scenario};
use crate::charon::Settings;
use crate::ours::{CHILD, CONNECTION, Ours};

const ELSEWHERE: &str = "192.0.2.9";

#[test]
fn a_peer_that_changes_its_address_keeps_its_sas() -> Result<()> {
    let cable = Cable::new()?;
    scenario(28, "the peer changes its address and says so (MOBIKE)", Role::Responder).judge(|| {
        let ours = cable.up(Role::Responder, connection(), &Settings::default())?;
        cable.charon.logs("peer supports MOBIKE")?;
        let before = ours.settles(1)?;
        cable.theirs.run("sysctl -qw net.ipv4.conf.all.promote_secondaries=1")?;
        cable.theirs.ip(&format!("addr add {ELSEWHERE}/24 dev eth0"))?;
        cable.theirs.ip("addr del 192.0.2.2/24 dev eth0")?;
        ours.until("the move", |state| {
            let installed = &state.installed;
            ensure!(!installed.is_empty(), "no pair");
            let there = |path: ike::Path| path.remote.ip().to_string() == ELSEWHERE;
            ensure!(installed.values().all(|pair| there(pair.path) && pair.udp_encapsulation), "still there");
            Ok(())
        })?;
        // charon in user space cannot move its own halves of the children, and rekeys them.
        rekeyed(&ours, 1)?;
        let after = ours.settles(1)?;
        ensure!((after.spi_i, after.spi_r) == (before.spi_i, before.spi_r), "{before:?}, then {after:?}");
        // Both ways over the new address, on the same IKE SA.
        ours.command(Command::RekeyChild(CHILD));
        rekeyed(&ours, 2)?;
        cable.charon.swanctl("--rekey --ike far")?;
        ours.event("the IKE SA's rekey", |event| matches!(event, Event::IkeRekeyed { .. }).then_some(()))?;
        wait::until("charon's SAs", Duration::from_secs(5), || {
            let sas = cable.charon.swanctl("--list-sas")?;
            ensure!(sas.contains(&format!("@ {ELSEWHERE}[")) && sas.contains("INSTALLED"), "{sas}");
            Ok::<_, anyhow::Error>(())
        })?;
        // The IKE SA that came of the rekey may be told of a move too.
        cable.theirs.ip("addr add 192.0.2.8/24 dev eth0")?;
        cable.theirs.ip(&format!("addr del {ELSEWHERE}/24 dev eth0"))?;
        ours.until("the second move", |state| {
            let there = |path: ike::Path| path.remote.ip().to_string() == "192.0.2.8";
            ensure!(state.installed.values().any(|pair| there(pair.path)), "still there");
            Ok(())
        })?;
        ours.command(Command::Terminate(CONNECTION));
        ours.until("the end", |state| {
            ensure!(state.installed.is_empty(), "a pair is left");
            Ok(())
        })
    })
}

/// Waits until the child has had new keys so often.
fn rekeyed(ours: &Ours, times: usize) -> Result<()> {
    ours.until("the child's rekey", |state| {
        let seen = state.events.iter().filter(|event| matches!(event, Event::ChildRekeyed { .. })).count();
        ensure!(seen >= times, "{seen}; {:?}", state.events);
        Ok(())
    })
}

/// In transport mode the packets bear the addresses that would change: it is not announced (RFC 4555 section 1.2).
#[test]
fn it_is_not_announced_for_transport_mode() -> Result<()> {
    let cable = Cable::new()?;
    let mut ours = connection();
    for child in &mut ours.children {
        child.mode = Mode::Transport;
    }
    // charon in user space has no transport mode: the child fails, the IKE SA says what we support.
    let engine = cable.begin(Role::Responder, ours, &Settings::default())?;
    let log = cable.charon.log()?;
    ensure!(log.contains("authentication of '192.0.2.1' with pre-shared key successful"), "{log}");
    ensure!(!log.contains("peer supports MOBIKE"), "announced");
    drop(engine);
    Ok(())
}
