//! A site behind a NAT that lets nothing but UDP through, moves it to other ports and addresses, and forgets soon: GRE in
//! transport mode passes, with packets as large as the link takes, and the SAs follow who can prove who they are.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use integration::checks::{ping, ping_sized, reachable};
use integration::command::output;
use integration::configuration::{
    self, VERSION_1, aes_128_gcm, merge, protected_tunnel, static_routes, version_1,
};
use integration::foreign::{Daemon, Mode, Settings, libreswan, strongswan};
use integration::gateway::Options;
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, BETA, GAMMA, NATTED_ALPHA, NATTED_BETA, NATTED_GAMMA};
use integration::nat::{FIRST_HOST, FORGETS_AFTER_SECS, SECOND_HOST, public};
use integration::natted::{MTU_BYTES, Natted};
use integration::pair::{KEY, PATIENCE};
use integration::pcap::Kind;
use integration::wait;
use serde_json::json;

/// IPv4 and ICMP headers of a ping.
const PING_HEADER_BYTES: u32 = 28;

/// Each host answers the other, to small and to the largest packets; the next byte is one too many.
fn passes(natted: &Natted) -> Result<()> {
    let hosts = [(ALPHA, GAMMA), (GAMMA, ALPHA)];
    for (from, to) in hosts {
        reachable(natted.lab.host(from)?, &to.host()[0], PATIENCE)
            .with_context(|| natted.gamma.gateway.log().unwrap_or_default())?;
        let pings = ping(natted.lab.host(from)?, &to.host()[0], 20)?;
        ensure!(pings.all_answered(), "from {}: {pings:?}", from.name);
    }
    alpha_shows_the_mtu(natted)?;
    let largest = MTU_BYTES - PING_HEADER_BYTES;
    for (from, to) in hosts {
        let (host, address) = (natted.lab.host(from)?, &to.host()[0]);
        let pings = ping_sized(host, address, largest)?;
        ensure!(pings.all_answered(), "{largest} bytes from {}: {pings:?}", from.name);
        let mut command = host.command("ping");
        command.args(["-n", "-W", "1", "-c", "1", "-M", "do", "-s", &(largest + 1).to_string(), address]);
        let said = String::from_utf8_lossy(&output(&mut command)?.stdout).into_owned();
        ensure!(said.contains(&format!("mtu = {MTU_BYTES}")), "from {}: {said}", from.name);
        // The host believes that for a while, and would not send what the next check sends.
        host.ip("route flush cache")?;
    }
    let states = natted.gamma.gateway.run("ip xfrm state; grep ^Ip: /proc/net/snmp")?;
    for expected in ["encap type espinudp", "mode transport"] {
        ensure!(states.contains(expected), "no {expected} in:\n{states}");
    }
    ensure!(!states.contains("mode tunnel"), "{states}");
    let created = states.lines().last().and_then(|line| line.split_whitespace().last());
    ensure!(created == Some("0"), "gamma made fragments: {states}");
    Ok(())
}

/// The twin has the MTU, and the API says it.
fn alpha_shows_the_mtu(natted: &Natted) -> Result<()> {
    wait::until("the MTU of alpha's twin", Duration::from_secs(5), || {
        let shown = natted.alpha.namespace.ip("link show dev to-gamma")?;
        ensure!(shown.contains(&format!("mtu {MTU_BYTES} ")), "{shown}");
        let state = natted.alpha.api.get("/v1/tunnels/to-gamma/state")?;
        ensure!(state["mtu_bytes"] == MTU_BYTES, "{state}");
        anyhow::Ok(())
    })
}

/// The peer is seen at another port, then at another address, and is followed there while it sends.
fn moves(natted: &Natted) -> Result<()> {
    for (host, seconds) in [(FIRST_HOST, 3), (SECOND_HOST, 10)] {
        let (spi, before) = natted.outbound()?;
        let traffic = natted.pinging(GAMMA, ALPHA, seconds)?;
        natted.nat.rebind(host)?;
        let after = wait::until("alpha to follow", Duration::from_secs(3), || {
            let (_, after) = natted.outbound()?;
            ensure!(after != before && after.starts_with(&format!("{}:", public(host))), "{after}");
            anyhow::Ok(after)
        })?;
        if host == SECOND_HOST {
            // Forged packets of the same SA from elsewhere lead nobody away.
            let failed = natted.alpha.drops("esp_auth_failed")?;
            natted.lab.hostile_from("moved", ALPHA, (GAMMA.name, public(host)))?;
            natted.alpha.drops_more("esp_auth_failed", failed)?;
            ensure!(natted.outbound()? == (spi, after.clone()), "{:?}", natted.outbound()?);
        }
        traffic.still_running()?;
        let pings = traffic.finish()?;
        ensure!(pings.lost() <= 25, "{before} to {after}: {pings:?}");
        let pings = ping(natted.lab.host(ALPHA)?, &GAMMA.host()[0], 20)?;
        ensure!(pings.all_answered(), "to {host}: {pings:?}");
    }
    Ok(())
}

/// Nothing is sent for longer than the NAT remembers, but for keepalives: the site can still be reached from outside.
fn stays_reachable(natted: &Natted) -> Result<()> {
    let sniffer = integration::sniffer::Sniffer::start(&natted.lab.underlay, &[GAMMA.name], &natted.lab.dir)?;
    let begin = SystemTime::now();
    std::thread::sleep(Duration::from_secs(FORGETS_AFTER_SECS + 2));
    let pings = ping(natted.lab.host(ALPHA)?, &GAMMA.host()[0], 5)?;
    ensure!(pings.all_answered(), "{pings:?}");
    let captures = sniffer.finish()?;
    let frames = captures.iter().flat_map(|capture| &capture.frames);
    let keepalives = frames.filter(|frame| {
        let from_site = frame.addresses.is_some_and(|(from, _)| from == public(FIRST_HOST));
        frame.at > begin && frame.kind == Kind::EspInUdp && frame.esp.is_none() && from_site
    });
    let seen = keepalives.count();
    ensure!(seen >= 2, "{seen} keepalives");
    Ok(())
}

fn scenario(number: u8, what: &'static str, daemon: &Daemon, role: Role) -> Scenario {
    Scenario { number, what, peer: daemon.name, role }
}

#[test]
fn a_strongswan_behind_a_nat_is_reached_and_followed() -> Result<()> {
    let settings = Settings { charon: "keep_alive = 2s", ..Settings::new(GAMMA, ALPHA, KEY) };
    let daemon = settings.daemon;
    let mut natted = Natted::before(GAMMA, settings)?;
    let identity = json!({"remote_identity": GAMMA.black()});
    natted.profile(NATTED_GAMMA, &identity)?;
    let what = "peer behind a NAT, IKEv2; ESP in UDP in transport mode, GRE; exact MTU, rekeys, keepalives";
    scenario(27, what, daemon, Role::Responder).judge(|| {
        wait::until("gamma's child", PATIENCE, || natted.gamma.gateway.begin())?;
        passes(&natted)?;
        natted.rekeys(|| natted.alpha.api.post("/v1/tunnels/to-gamma/rekey").map(drop))?;
        natted.rekeys(|| natted.gamma.gateway.run("swanctl --rekey --child gre").map(drop))?;
        natted.gamma.gateway.run("swanctl --rekey --ike far")?;
        stays_reachable(&natted)
    })?;
    let what =
        "the peer's NAT shows it at another port, then address, IKEv2 with GRE; forged packets move nothing";
    scenario(28, what, daemon, Role::Responder).judge(|| {
        moves(&natted)?;
        // From there it may even begin anew.
        natted.gamma.gateway.end()?;
        wait::until("gamma's next child", PATIENCE, || natted.gamma.gateway.begin())?;
        passes(&natted)
    })?;

    // The same with version 1, and with a crypto map.
    natted.gamma.gateway.end()?;
    natted.nat.rebind(FIRST_HOST)?;
    natted.gamma.gateway.reload(|settings| {
        (settings.version, settings.ike, settings.esp) = (1, "aes256-sha256-modp2048", "aes128gcm16");
    })?;
    natted.alpha.api.put(VERSION_1, &version_1())?;
    let mut fields = identity;
    fields["isakmp_policies"] = json!(["old"]);
    natted.crypto_map(NATTED_GAMMA, &fields)?;
    let what = "peer behind a NAT, IKEv1 (RFC 3947), crypto map; ESP in UDP in transport mode, GRE; exact MTU, rekeys";
    scenario(27, what, daemon, Role::Responder).judge(|| {
        wait::until("gamma's quick mode", PATIENCE, || natted.gamma.gateway.begin())?;
        passes(&natted)?;
        natted.rekeys(|| natted.alpha.api.post("/v1/crypto-maps/outside/rekey").map(drop))?;
        natted.rekeys(|| natted.gamma.gateway.run("swanctl --rekey --child gre").map(drop))
    })?;
    let what = "the peer's NAT shows it at another port, then address, IKEv1 with GRE and a crypto map";
    scenario(28, what, daemon, Role::Responder).judge(|| {
        moves(&natted)?;
        the_moved_sas_outlive_culvertd(&natted)
    })
}

/// Version 1 keeps no state of IKE: the SAs are adopted as they are, with the peer where it has moved.
fn the_moved_sas_outlive_culvertd(natted: &Natted) -> Result<()> {
    let before = natted.outbound()?;
    let traffic = natted.pinging(ALPHA, GAMMA, 5)?;
    let starts = natted.alpha.control.starts();
    natted.alpha.control.kill()?;
    wait::until("another culvertd", PATIENCE, || {
        if natted.alpha.control.starts() > starts { Ok(()) } else { Err("not yet") }
    })?;
    natted.alpha.answers(PATIENCE)?;
    let after = wait::until("the adopted SAs", PATIENCE, || natted.outbound())?;
    ensure!(after == before, "{before:?}, then {after:?}");
    traffic.still_running()?;
    let pings = traffic.finish()?;
    ensure!(pings.all_answered(), "{pings:?}");
    Ok(())
}

/// They have the same addresses outside, and so would their selectors: their identities tell their keys apart, their keys
/// their packets, and the GRE key which tunnel is meant (RFC 3948 section 5.2 warns of servers that cannot tell).
#[test]
fn two_peers_behind_one_nat_have_a_tunnel_each() -> Result<()> {
    let settings = Settings { key: Some(3), ..Settings::new(GAMMA, ALPHA, KEY) };
    let daemon = settings.daemon;
    let mut natted = Natted::before(GAMMA, settings)?;
    let beta = natted.lab.culvert(BETA, &Options::default())?;
    natted.nat.also_hides(&natted.lab, BETA)?;
    natted.profile(NATTED_GAMMA, &json!({"remote_identity": GAMMA.black(), "key": 3}))?;
    let mut to_beta = configuration::tunnel(ALPHA, NATTED_BETA, &json!({"ipsec_profile": "main"}));
    merge(&mut to_beta, &json!({"remote_identity": BETA.black(), "key": 2}));
    natted.alpha.api.put("/v1/tunnels/to-beta", &to_beta)?;
    static_routes(&natted.alpha.api, NATTED_BETA)?;

    protected_tunnel(&beta.api, BETA, ALPHA, KEY)?;
    beta.api.put("/v1/transform-sets/aes256", &aes_128_gcm(Mode::Transport))?;
    let mut to_alpha = configuration::tunnel(BETA, ALPHA, &json!({"ipsec_profile": "main"}));
    merge(&mut to_alpha, &json!({"key": 2}));
    beta.api.put("/v1/tunnels/to-alpha", &to_alpha)?;
    static_routes(&beta.api, ALPHA)?;
    let what = "two clients behind one NAT in transport mode, GRE: told apart by identity, key and GRE key";
    scenario(28, what, daemon, Role::Responder).judge(|| {
        wait::until("gamma's child", PATIENCE, || natted.gamma.gateway.begin())?;
        for site in [GAMMA, BETA] {
            for (from, to) in [(ALPHA, site), (site, ALPHA)] {
                reachable(natted.lab.host(from)?, &to.host()[0], PATIENCE)
                    .with_context(|| natted.gamma.gateway.log().unwrap_or_default())?;
            }
        }
        let mut all = vec![];
        for site in [GAMMA, BETA] {
            all.push(natted.pinging(ALPHA, site, 4)?);
            all.push(natted.pinging(site, ALPHA, 4)?);
        }
        for pinging in all {
            let pings = pinging.finish()?;
            ensure!(pings.all_answered(), "{pings:?}");
        }
        Ok(())
    })
}

const WE_VERSION_1: &str =
    "we are behind a NAT, IKEv1 (RFC 3947), crypto map; ESP in UDP in transport mode, GRE; exact MTU, rekeys";

/// Who is behind a NAT reaches out. The far end knows it by the address of the NAT, and by that name.
#[test]
fn our_gateway_behind_a_nat_reaches_strongswan() -> Result<()> {
    let daemon = &strongswan::DAEMON;
    let mut natted = Natted::before(ALPHA, Settings::speaking(daemon, GAMMA, NATTED_ALPHA, KEY))?;
    let what = "we are behind a NAT, IKEv2; ESP in UDP in transport mode, GRE; exact MTU, rekeys";
    scenario(27, what, daemon, Role::Initiator).judge(|| {
        natted.profile(GAMMA, &json!({"local_identity": NATTED_ALPHA.black()}))?;
        passes(&natted)?;
        natted.rekeys(|| natted.alpha.api.post("/v1/tunnels/to-gamma/rekey").map(drop))
    })?;
    for resource in ["routes/gamma-v4", "routes/gamma-v6", "tunnels/to-gamma"] {
        natted.alpha.api.delete(&format!("/v1/{resource}"))?;
    }
    natted.gamma.gateway.end()?;
    natted.gamma.gateway.reload(|settings| {
        (settings.version, settings.ike, settings.esp) = (1, "aes256-sha256-modp2048", "aes128gcm16");
    })?;
    scenario(27, WE_VERSION_1, daemon, Role::Initiator).judge(|| we_reach_by_version_1(&natted))
}

/// libreswan 4.10 substitutes no addresses in IKEv2 (RFC 7296 section 2.23.1 asks it to): it judges version 1.
#[test]
fn our_gateway_behind_a_nat_reaches_libreswan() -> Result<()> {
    let daemon = &libreswan::DAEMON;
    let settings = Settings {
        version: 1,
        ike: "aes256-sha2_256;modp2048",
        ..Settings::speaking(daemon, GAMMA, NATTED_ALPHA, KEY)
    };
    let natted = Natted::before(ALPHA, settings)?;
    scenario(27, WE_VERSION_1, daemon, Role::Initiator).judge(|| we_reach_by_version_1(&natted))
}

fn we_reach_by_version_1(natted: &Natted) -> Result<()> {
    natted.alpha.api.put(VERSION_1, &version_1())?;
    let fields = json!({"local_identity": NATTED_ALPHA.black(), "isakmp_policies": ["old"]});
    natted.crypto_map(GAMMA, &fields)?;
    passes(natted)?;
    natted.rekeys(|| natted.alpha.api.post("/v1/crypto-maps/outside/rekey").map(drop))
}
