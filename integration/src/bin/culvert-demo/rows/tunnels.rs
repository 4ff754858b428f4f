//! Tunnels come up as configured, are rekeyed without loss, and leave no hole when they go.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use integration::checks::{Pinging, ping, reachable};
use integration::configuration::{TRANSFORM_SET_OF_MAP, aes_128_gcm, profile};
use integration::foreign::Mode;
use integration::gateway::Gateway;
use integration::lab::{ALPHA, BETA, GAMMA, Site};
use integration::sa::{self, Sa};
use integration::wait;
use serde_json::json;

use crate::scene::{PATIENCE, Scene};
use crate::screen::{Screen, Seen, Table};

/// Row: alpha-beta by an ipsec-profile on the tunnel.
pub(crate) fn protection(scene: &Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    let check = "alpha-beta: tunnel protection (ipsec-profile), IKEv2, PSK";
    screen.check(table, check, "up at both ends; aes-256-gcm, transport", || {
        scene.alpha.tunnel_up("to-beta", PATIENCE)?;
        scene.beta.tunnel_up("to-alpha", PATIENCE)?;
        let (a, b) = (in_use(&scene.alpha, BETA)?, in_use(&scene.beta, ALPHA)?);
        let as_told = [&a, &b].iter().all(|sa| sa.encryption == "aes-256-gcm" && sa.mode == "transport");
        let text = format!("up; {}, {}; SPIs {:08x} and {:08x}", a.encryption, a.mode, a.spi, b.spi);
        Ok(Seen::new(as_told, text))
    })
}

/// Row: alpha-gamma by a crypto map, in transport mode, told by the foreign kernel.
pub(crate) fn crypto_map(scene: &Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    let check = "alpha-gamma: crypto map, permit gre host A host B";
    screen.check(table, check, "gamma's kernel: aes-128-gcm, transport", || {
        scene.alpha.tunnel_up("to-gamma", PATIENCE)?;
        gamma_has(scene, Mode::Transport)
    })
}

/// Row: the same after the transform-set was changed over the API.
pub(crate) fn crypto_map_in_tunnel_mode(scene: &mut Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    let check = "alpha-gamma: changed to tunnel mode while running";
    screen.check(table, check, "gamma's kernel: aes-128-gcm, tunnel; pings answered", || {
        scene.gamma.gateway.reload(|settings| settings.mode = Mode::Tunnel)?;
        scene.alpha.api.put(TRANSFORM_SET_OF_MAP, &aes_128_gcm(Mode::Tunnel))?;
        let seen = gamma_has(scene, Mode::Tunnel)?;
        let host = scene.lab.host(ALPHA)?;
        for address in GAMMA.host() {
            reachable(host, &address, PATIENCE)?;
            let pings = ping(host, &address, 20)?;
            if !pings.all_answered() {
                bail!("{} of {} pings to {address} answered", pings.received, pings.sent);
            }
        }
        Ok(seen)
    })
}

/// Rows: new keys on request and by packet count while traffic runs.
pub(crate) fn rekeying(scene: &Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    let check = "rekey of both tunnels on request, while pinging";
    screen.check(table, check, "new SPIs, 0 pings lost", || {
        let old = (
            sa::spis(&sa::with_peer(&scene.alpha, BETA)?, true),
            sa::spis(&sa::with_peer(&scene.alpha, GAMMA)?, true),
        );
        let (beta, gamma) = (pinging(scene, BETA, 5)?, pinging(scene, GAMMA, 5)?);
        scene.alpha.api.post("/v1/tunnels/to-beta/rekey")?;
        scene.alpha.api.post("/v1/crypto-maps/outside/rekey")?;
        for (peer, old) in [(BETA, &old.0), (GAMMA, &old.1)] {
            wait::until("new SPIs", PATIENCE, || {
                let new = sa::spis(&sa::with_peer(&scene.alpha, peer)?, true);
                if new.is_empty() || !new.is_disjoint(old) { bail!("{new:08x?}") } else { Ok(()) }
            })?;
        }
        beta.still_running()?;
        gamma.still_running()?;
        let (beta, gamma) = (beta.finish()?, gamma.finish()?);
        let text =
            format!("new SPIs; {} of {} and {} of {} lost", beta.lost(), beta.sent, gamma.lost(), gamma.sent);
        Ok(Seen::new(beta.all_answered() && gamma.all_answered(), text))
    })?;
    let check = "rekey by packet count (1,500), while pinging";
    screen.check(table, check, "new SPIs without a request, 0 lost", || {
        let mut body = profile();
        body["lifetime_packets"] = json!(1500);
        scene.alpha.api.put("/v1/ipsec-profiles/main", &body)?;
        // A lifetime is agreed on with an SA: the next one has the new one.
        let before = in_use(&scene.alpha, BETA)?.spi;
        scene.alpha.api.post("/v1/tunnels/to-beta/rekey")?;
        let old =
            wait::until("an SA with the new lifetime", PATIENCE, || match in_use(&scene.alpha, BETA)?.spi {
                spi if spi != before => Ok(spi),
                _ => bail!("still {before:08x}"),
            })?;
        let pings = ping_often(scene, BETA)?;
        let new = in_use(&scene.alpha, BETA)?.spi;
        scene.alpha.api.put("/v1/ipsec-profiles/main", &profile())?;
        let text = format!("SPI {old:08x} became {new:08x}; {} of {} lost", pings.lost(), pings.sent);
        Ok(Seen::new(pings.all_answered() && old != new, text))
    })
}

/// Row: a deleted tunnel leaves nothing that would let its traffic out.
pub(crate) fn tear_down(scene: &Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    let check = "tunnel deleted while pinging, then configured again";
    screen.check(table, check, "nothing passes in between, then all pings", || {
        let host = scene.lab.host(ALPHA)?;
        let traffic = pinging(scene, BETA, 4)?;
        scene.alpha.api.delete("/v1/routes/beta-v6")?;
        scene.alpha.api.delete("/v1/tunnels/to-beta")?;
        wait::until("the tunnel's end", Duration::from_secs(10), || {
            match sa::with_peer(&scene.alpha, BETA)? {
                none if none.is_empty() => Ok(()),
                some => bail!("{} SAs left", some.len()),
            }
        })?;
        let without = ping(host, &BETA.host()[0], 10)?;
        let during = traffic.finish()?;
        scene.tunnel_to_beta_again()?;
        scene.alpha.tunnel_up("to-beta", PATIENCE)?;
        // OSPF withdraws what it knew of the deleted tunnel, then learns anew.
        wait::until("ten pings in a row", PATIENCE, || match ping(host, &BETA.host()[0], 10)? {
            pings if pings.all_answered() => Ok(()),
            pings => bail!("{pings:?}"),
        })?;
        let again = ping(host, &BETA.host()[0], 20)?;
        let text = format!(
            "{} of {} without it, {} of {} after",
            without.received, without.sent, again.received, again.sent
        );
        Ok(Seen::new(without.received == 0 && during.lost() > 0 && again.all_answered(), text))
    })
}

fn in_use(gateway: &Gateway, peer: Site) -> Result<Sa> {
    let sas = sa::with_peer(gateway, peer)?;
    sas.into_iter().find(|sa| sa.outbound && sa.in_use).with_context(|| format!("no SA to {}", peer.name))
}

fn pinging(scene: &Scene, to: Site, seconds: u16) -> Result<Pinging> {
    Pinging::start(scene.lab.host(ALPHA)?, &to.host()[0], seconds)
}

/// Enough pings, close together, to cross the packet count twice.
fn ping_often(scene: &Scene, to: Site) -> Result<integration::checks::Pings> {
    integration::checks::ping_every(scene.lab.host(ALPHA)?, &to.host()[0], 3000, Duration::from_millis(2))
}

/// The foreign kernel has an SA from alpha in this mode, with a 128-bit key and a 32-bit salt.
fn gamma_has(scene: &Scene, mode: Mode) -> Result<Seen> {
    let states = wait::until(&format!("an SA in {} mode at gamma", mode.word()), PATIENCE, || {
        let states = scene.gamma.gateway.run("ip xfrm state")?;
        if states.contains(&format!("mode {}", mode.word())) { Ok(states) } else { bail!("{states}") }
    })?;
    let key = states.lines().find_map(|line| line.split("rfc4106(gcm(aes)) 0x").nth(1)).unwrap_or_default();
    let bits = key.split_whitespace().next().unwrap_or_default().len() * 4;
    let text = format!("rfc4106(gcm(aes)), {} bit key + salt, mode {}", bits.saturating_sub(32), mode.word());
    Ok(Seen::new(bits == 160, text))
}
