//! Either process is killed without warning while traffic runs.

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail};
use integration::checks::{Pinging, reachable};
use integration::lab::{ALPHA, BETA, GAMMA, Site};
use integration::pcap::exchange;
use integration::sa;
use integration::wait;

use crate::scene::{PATIENCE, Scene};
use crate::screen::{Screen, Seen, Table};

/// Row: the control plane dies and comes back; forwarding does not notice.
pub(crate) fn control_plane(scene: &Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    let check = "kill -9 of alpha's culvertd while pinging";
    let expected = "0 pings to beta lost, 0 to gamma; the same IKE SAs; SAs agree".to_owned();
    screen.check(table, check, expected, || {
        let traffic = [pinging(scene, BETA, 10)?, pinging(scene, GAMMA, 10)?];
        let before = ike_spis(scene)?;
        let (old, from) = (scene.alpha.control.pid(), Instant::now());
        scene.alpha.control.kill()?;
        wait::until("another culvertd", PATIENCE, || {
            let pid = scene.alpha.control.pid();
            if pid == old { Err("the old one") } else { Ok(()) }
        })?;
        scene.alpha.answers(PATIENCE)?;
        let back = from.elapsed();
        for ping in &traffic {
            ping.still_running()?;
        }
        scene.alpha.healthy(PATIENCE)?;
        wait::until("both ends to agree", PATIENCE, || {
            sa::agree((&scene.alpha, ALPHA), (&scene.beta, BETA))
        })?;
        scene.alpha.tunnel_up("to-beta", PATIENCE)?;
        scene.alpha.tunnel_up("to-gamma", PATIENCE)?;
        wait::until("the crypto map's own SAs", PATIENCE, || {
            let sas = sa::with_peer(&scene.alpha, GAMMA)?;
            if !sas.is_empty() && sas.iter().all(|sa| !sa.adopted) { Ok(()) } else { bail!("{sas:?}") }
        })?;
        let after = ike_spis(scene)?;
        let [beta, gamma] = traffic;
        let (beta, gamma) = (beta.finish()?, gamma.finish()?);
        let text = format!(
            "{} of {} lost (gamma {} of {}); API back after {:.1} s; {} of {} IKE SAs resumed; SAs agree",
            beta.lost(),
            beta.sent,
            gamma.lost(),
            gamma.sent,
            back.as_secs_f64(),
            before.intersection(&after).count(),
            before.len()
        );
        Ok(Seen::new(beta.all_answered() && gamma.all_answered() && before == after, text))
    })
}

/// The SPIs of alpha's IKE SAs.
fn ike_spis(scene: &Scene) -> Result<BTreeSet<String>> {
    let sas = scene.alpha.api.items("/v1/isakmp-sas")?;
    Ok(sas.iter().map(|sa| format!("{} {}", sa["spi_initiator"], sa["spi_responder"])).collect())
}

/// Row: the dataplane dies and comes back with the same SAs, and uses no sequence number again.
pub(crate) fn dataplane(scene: &Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    let check = "kill -9 of alpha's culvert-dataplane while pinging";
    screen.check(table, check, "same SPIs, no IKE exchange, no replay at the peers", || {
        let (spis, replays) = (outbound(scene)?, replays(scene)?);
        let traffic = [pinging(scene, BETA, 6)?, pinging(scene, GAMMA, 6)?];
        let (from, at) = (Instant::now(), SystemTime::now());
        scene.alpha.dataplane.kill()?;
        wait::until("another dataplane", PATIENCE, || {
            if scene.alpha.dataplane.starts() > 1 { Ok(()) } else { Err("the old one") }
        })?;
        let host = scene.lab.host(ALPHA)?;
        reachable(host, &BETA.host()[0], PATIENCE)?;
        let back = from.elapsed();
        reachable(host, &GAMMA.host()[0], PATIENCE)?;
        let [beta, gamma] = traffic;
        let (beta, gamma) = (beta.finish()?, gamma.finish()?);
        scene.alpha.healthy(PATIENCE)?;
        let same = outbound(scene)? == spis;
        let wire = scene.sniffer.captures()?;
        let capture = wire.iter().find(|capture| capture.interface == ALPHA.name).context("no capture at alpha")?;
        let negotiations = capture.exchanges(exchange::IKE_SA_INIT, at) + capture.exchanges(exchange::CREATE_CHILD_SA, at);
        let sent: BTreeSet<u32> = capture.spis_from(ALPHA.black().into(), at);
        let new_replays = self::replays(scene)? - replays;
        let text = format!(
            "passing again after {:.1} s ({} and {} pings lost); {}; {negotiations} IKE exchanges; {new_replays} replays",
            back.as_secs_f64(),
            beta.lost(),
            gamma.lost(),
            if same && sent.is_subset(&spis) { "same SPIs" } else { "other SPIs" },
        );
        let resumed = same && sent.is_subset(&spis) && negotiations == 0 && new_replays == 0;
        Ok(Seen::new(resumed && beta.received > 0 && gamma.received > 0, text))
    })
}

fn pinging(scene: &Scene, to: Site, seconds: u16) -> Result<Pinging> {
    Pinging::start(scene.lab.host(ALPHA)?, &to.host()[0], seconds)
}

/// SPIs that alpha sends on.
fn outbound(scene: &Scene) -> Result<BTreeSet<u32>> {
    let mut spis = sa::spis(&sa::with_peer(&scene.alpha, BETA)?, true);
    spis.append(&mut sa::spis(&sa::with_peer(&scene.alpha, GAMMA)?, true));
    Ok(spis)
}

/// Sequence numbers that beta's dataplane and gamma's kernel refused as seen before.
fn replays(scene: &Scene) -> Result<u64> {
    let beta: u64 = sa::with_peer(&scene.beta, ALPHA)?.iter().map(|sa| sa.replayed).sum();
    Ok(beta + scene.gamma.gateway.xfrm_error("XfrmInStateSeqError")?)
}
