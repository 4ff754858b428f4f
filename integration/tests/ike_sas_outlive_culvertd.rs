//! culvertd is killed while traffic runs: another one goes on with the IKE SAs, under their SPIs, and the peer is asked
//! for nothing but a sign of life. What a peer has lost is negotiated anew.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use integration::configuration::{CRYPTO_MAP, VERSION_1, crypto_map, version_1};
use integration::foreign::{Mode, Settings};
use integration::gateway::Gateway;
use integration::lab::{ALPHA, BETA, GAMMA, Site};
use integration::pair::{KEY, Mapped, PATIENCE, Pair};
use integration::pcap::exchange;
use integration::process::signal_pid;
use integration::{sa, wait};
use rustix::process::Signal;
use serde_json::json;

/// The SPIs of the one IKE SA that a gateway shows, once it is established.
fn ike_spis(gateway: &Gateway) -> Result<(String, String)> {
    wait::until("one established IKE SA", PATIENCE, || {
        let sas = gateway.api.items("/v1/isakmp-sas")?;
        let [sa] = sas.as_slice() else { bail!("{sas:?}") };
        ensure!(sa["state"] == "established", "{sa}");
        let text = |field: &str| sa[field].as_str().map(str::to_owned).context("no SPI");
        Ok((text("spi_initiator")?, text("spi_responder")?))
    })
}

/// Kills culvertd, and waits for the next one.
fn kill_control(gateway: &Gateway) -> Result<()> {
    restart_control(gateway, Signal::KILL)
}

/// Ends culvertd in this way, and waits for the next one.
fn restart_control(gateway: &Gateway, signal: Signal) -> Result<()> {
    let starts = gateway.control.starts();
    signal_pid(gateway.control.pid(), signal)?;
    wait::until("another culvertd", PATIENCE, || {
        if gateway.control.starts() > starts { Ok(()) } else { Err("not yet") }
    })?;
    gateway.answers(PATIENCE)
}

/// Waits until a gateway has resumed an IKE SA: the peer has confirmed it.
fn resumed(gateway: &Gateway) -> Result<()> {
    wait::until("the peer to confirm the IKE SA", PATIENCE, || {
        let resumed = gateway.metric("culvert_ike_events_total", &["\"ike_sas_resumed\""])?;
        ensure!(resumed == 1.0, "{resumed}");
        anyhow::Ok(())
    })
}

/// Inbound SPIs of the pairs in the care of IKE; the inbound half of one that was replaced may linger beside them.
fn inbound(gateway: &Gateway, peer: Site) -> Result<BTreeSet<u32>> {
    let sas = sa::with_peer(gateway, peer)?;
    Ok(sas.iter().filter(|sa| !sa.outbound && sa.in_use && !sa.adopted).map(|sa| sa.spi).collect())
}

/// New IPsec SAs, and no others after a while.
fn rekeyed(gateway: &Gateway, peer: Site, old: &BTreeSet<u32>) -> Result<()> {
    wait::until("new IPsec SAs", PATIENCE, || {
        let new = inbound(gateway, peer)?;
        ensure!(!new.is_empty() && new.is_disjoint(old), "{new:08x?}");
        anyhow::Ok(())
    })
}

#[test]
fn between_two_culverts_no_packet_is_lost_and_nothing_negotiated() -> Result<()> {
    let pair = Pair::up()?;
    let before = ike_spis(&pair.alpha)?;
    let children = inbound(&pair.alpha, BETA)?;
    let (sniffer, at) = (pair.lab.sniff()?, SystemTime::now());
    let traffic = pair.pinging(20)?;
    for gateway in [&pair.alpha, &pair.beta, &pair.alpha] {
        kill_control(gateway)?;
        resumed(gateway)?;
        assert_eq!(ike_spis(gateway)?, before);
        traffic.still_running()?;
    }
    assert_eq!(inbound(&pair.alpha, BETA)?, children);
    wait::until("both ends to agree", PATIENCE, || sa::agree((&pair.alpha, ALPHA), (&pair.beta, BETA)))?;
    let pings = traffic.finish()?;
    assert!(pings.all_answered(), "{pings:?}");
    for capture in sniffer.finish()? {
        let negotiated = [exchange::IKE_SA_INIT, exchange::IKE_AUTH, exchange::CREATE_CHILD_SA];
        assert_eq!(negotiated.map(|exchange| capture.exchanges(exchange, at)), [0, 0, 0]);
        assert!(capture.repeated_sequence_numbers().is_empty());
    }
    // Both ends still know what the other one may ask for.
    for gateway in [&pair.alpha, &pair.beta] {
        let old = inbound(&pair.alpha, BETA)?;
        let tunnel = if std::ptr::eq(gateway, &pair.alpha) { "to-beta" } else { "to-alpha" };
        gateway.api.post(&format!("/v1/tunnels/{tunnel}/rekey"))?;
        rekeyed(&pair.alpha, BETA, &old)?;
        assert_eq!(ike_spis(gateway)?, before);
    }
    wait::until("both ends to agree", PATIENCE, || sa::agree((&pair.alpha, ALPHA), (&pair.beta, BETA)))?;
    pair.passes(PATIENCE)
}

#[test]
fn strongswan_answers_on_the_same_ike_sa_and_rekeys_over_it() -> Result<()> {
    let mapped = Mapped::up(Mode::Transport)?;
    let before = ike_spis(&mapped.alpha)?;
    let children = inbound(&mapped.alpha, GAMMA)?;
    let (sniffer, at) = (mapped.lab.sniff()?, SystemTime::now());
    let traffic = mapped.pinging(10)?;
    kill_control(&mapped.alpha)?;
    resumed(&mapped.alpha)?;
    traffic.still_running()?;
    assert_eq!(ike_spis(&mapped.alpha)?, before);
    assert_eq!(inbound(&mapped.alpha, GAMMA)?, children);
    let pings = traffic.finish()?;
    assert!(pings.all_answered(), "{pings:?}");
    // From our side, then from the peer's; it takes neither a message id nor a nonce that is not the next.
    mapped.alpha.api.post("/v1/crypto-maps/outside/rekey")?;
    rekeyed(&mapped.alpha, GAMMA, &children)?;
    let children = inbound(&mapped.alpha, GAMMA)?;
    mapped.gamma.gateway.run("swanctl --rekey --child gre")?;
    rekeyed(&mapped.alpha, GAMMA, &children)?;
    assert_eq!(ike_spis(&mapped.alpha)?, before);
    mapped.passes(PATIENCE)?;
    for capture in sniffer.finish()? {
        assert_eq!(capture.exchanges(exchange::IKE_SA_INIT, at), 0);
        assert!(capture.exchanges(exchange::CREATE_CHILD_SA, at) >= 4);
        let black: Vec<IpAddr> = mapped.lab.black_addresses();
        assert!(capture.leaks(&black).is_empty());
    }
    Ok(())
}

#[test]
fn what_strongswan_has_lost_is_negotiated_anew() -> Result<()> {
    let mapped = Mapped::up(Mode::Transport)?;
    let before = ike_spis(&mapped.alpha)?;
    // What the peer says at the end of the SA comes to a culvertd that hears nothing any more.
    signal_pid(mapped.alpha.control.pid(), Signal::STOP)?;
    mapped.gamma.gateway.end()?;
    kill_control(&mapped.alpha)?;
    wait::until("another IKE SA", PATIENCE, || {
        let now = ike_spis(&mapped.alpha)?;
        ensure!(now != before, "{now:?}");
        anyhow::Ok(())
    })?;
    let count = |event: &str| mapped.alpha.metric("culvert_ike_events_total", &[event]);
    assert_eq!(count("\"ike_sas_not_resumed\"")?, 1.0);
    assert!(count("\"ike_sas_resumed\"").is_err(), "it was not confirmed");
    mapped.passes(Duration::from_secs(30))
}

/// Waits until charon shows one IKE SA of version 1, which is this one.
fn charon_shows(mapped: &Mapped, cookies: &(String, String)) -> Result<()> {
    wait::until("charon to have that phase 1 alone", PATIENCE, || {
        let shown = mapped.gamma.gateway.run("swanctl --list-sas")?;
        let phase_ones: Vec<&str> = shown.lines().filter(|line| line.contains("IKEv1")).collect();
        let [phase_one] = phase_ones.as_slice() else { bail!("{shown}") };
        let cookie = |text: &str| text.trim_start_matches("0x").to_owned();
        let both = [&cookies.0, &cookies.1].into_iter().all(|text| phase_one.contains(&cookie(text)));
        ensure!(both && phase_one.contains("ESTABLISHED"), "{cookies:?} is not in:\n{shown}");
        anyhow::Ok(())
    })
}

/// Version 1 knows neither windows nor an answer to each message. Killed, or ended in peace, culvertd goes on with its phase 1
/// and each end rekeys over it; one that nobody vouches for costs no packet either; what charon has lost is made anew.
#[test]
fn phase_one_of_version_1_goes_on_or_is_made_anew_without_loss() -> Result<()> {
    let mapped = Mapped::bare(Settings::version_1(GAMMA, ALPHA, KEY))?;
    let (alpha, api) = (&mapped.alpha, &mapped.alpha.api);
    api.put(VERSION_1, &version_1())?;
    mapped.configure(Mode::Transport)?;
    // culvertd begins: of two that both ends begin at once, charon would keep the other one for a while.
    api.put(CRYPTO_MAP, &crypto_map(GAMMA, &json!({"isakmp_policies": ["old"]})))?;
    mapped.passes(PATIENCE)?;
    let before = ike_spis(alpha)?;
    charon_shows(&mapped, &before)?;

    let (sniffer, at) = (mapped.lab.sniff()?, SystemTime::now());
    let (children, traffic) = (inbound(alpha, GAMMA)?, mapped.pinging(15)?);
    for signal in [Signal::KILL, Signal::TERM] {
        restart_control(alpha, signal)?;
        resumed(alpha)?;
        assert_eq!(ike_spis(alpha)?, before);
        charon_shows(&mapped, &before)?;
    }
    assert_eq!(inbound(alpha, GAMMA)?, children);
    traffic.still_running()?;
    let pings = traffic.finish()?;
    assert!(pings.all_answered(), "{pings:?}");
    let traffic = mapped.pinging(24)?;
    api.post("/v1/crypto-maps/outside/rekey")?;
    rekeyed(alpha, GAMMA, &children)?;
    let children = inbound(alpha, GAMMA)?;
    mapped.gamma.gateway.run("swanctl --rekey --child gre")?;
    rekeyed(alpha, GAMMA, &children)?;
    assert_eq!(ike_spis(alpha)?, before);
    charon_shows(&mapped, &before)?;
    // Until the last pair that was replaced is gone, and its end was said often enough, nothing is kept.
    let pings = traffic.finish()?;
    assert!(pings.all_answered(), "{pings:?}");
    for capture in sniffer.finish()? {
        assert_eq!(capture.exchanges(exchange::MAIN_MODE, at), 0);
        assert!(capture.exchanges(exchange::QUICK_MODE, at) >= 6);
        assert!(capture.leaks(&mapped.lab.black_addresses()).is_empty());
        assert!(capture.repeated_sequence_numbers().is_empty());
    }

    // No question comes through: nobody can tell whether charon has the phase 1.
    let count = |event: &str| alpha.metric("culvert_ike_events_total", &[event]);
    let anew = |before: &(String, String)| {
        wait::until("another phase 1", PATIENCE, || {
            let now = ike_spis(alpha)?;
            ensure!(now != *before, "{now:?}");
            ensure!(count("\"ike_sas_not_resumed\"")? == 1.0, "it was not given up");
            anyhow::Ok(now)
        })
    };
    let (children, traffic) = (inbound(alpha, GAMMA)?, mapped.pinging(16)?);
    mapped.lab.lose_all(exchange::INFORMATIONAL_1, ALPHA)?;
    kill_control(alpha)?;
    let second = anew(&before)?;
    rekeyed(alpha, GAMMA, &children)?;
    mapped.lab.lose_no_more()?;
    traffic.still_running()?;
    let pings = traffic.finish()?;
    assert!(pings.all_answered(), "{pings:?}");

    // What charon says at the end of its SAs comes to a culvertd that hears nothing any more.
    signal_pid(alpha.control.pid(), Signal::STOP)?;
    mapped.gamma.gateway.end()?;
    kill_control(alpha)?;
    anew(&second)?;
    mapped.passes(Duration::from_secs(30))
}
