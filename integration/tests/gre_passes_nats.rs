//! A site behind a NAT that lets nothing but UDP through, moves it to other ports and addresses, and forgets soon: GRE in
//! transport mode passes, with packets as large as the link takes, and the SAs follow who can prove who they are.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use integration::checks::{Pinging, ping, ping_sized, reachable};
use integration::command::output;
use integration::configuration::{aes_128_gcm, pre_shared_key, protected_tunnel, static_routes};
use integration::foreign::{Daemon, Mode, Settings, libreswan, strongswan};
use integration::gateway::{Gateway, Options};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, BETA, Foreign, GAMMA, Lab, NATTED_ALPHA, NATTED_BETA, NATTED_GAMMA, Site};
use integration::nat::{FIRST_HOST, FORGETS_AFTER_SECS, Nat, SECOND_HOST, public};
use integration::pair::{KEY, PATIENCE};
use integration::pcap::Kind;
use integration::{configuration, wait};
use serde_json::{Value, json};

/// What an Ethernet link leaves a passenger under ESP with AES-GCM in UDP, in transport mode.
const MTU_BYTES: u32 = 1434;
/// IPv4 and ICMP headers of a ping.
const PING_HEADER_BYTES: u32 = 28;

/// alpha, gamma, and a NAT before one of them.
struct Natted {
    alpha: Gateway,
    gamma: Foreign,
    nat: Nat,
    lab: Lab,
}

impl Natted {
    /// Nobody has a tunnel on alpha's side yet.
    fn before(hidden: Site, settings: Settings) -> Result<Self> {
        let mut lab = Lab::new()?;
        let gamma = lab.booting_foreign(Settings { mtu_bytes: MTU_BYTES, ..settings })?;
        let alpha = lab.culvert(ALPHA, &Options::default())?;
        let nat = Nat::before(&lab, hidden)?;
        gamma.gateway.configure()?;
        // No hellos: a link that is idle is to be idle.
        gamma.gateway.run("vtysh -c 'configure terminal' -c 'no router ospf'")?;
        let route = format!("ip route replace {} dev {}", ALPHA.red4(), gamma.gateway.tunnel_name());
        gamma.gateway.run(&route)?;
        let public =
            json!({"destination": "198.18.0.0/24", "gateway": ALPHA.router(), "interface": "black0"});
        alpha.api.put("/v1/routes/underlay-nat", &public)?;
        alpha.api.put("/v1/transform-sets/to-peer", &aes_128_gcm(Mode::Transport))?;
        Ok(Self { alpha, gamma, nat, lab })
    }

    /// A tunnel on alpha with an ipsec-profile, with these fields changed.
    fn profile(&self, peer: Site, fields: &Value) -> Result<()> {
        let api = &self.alpha.api;
        protected_tunnel(api, ALPHA, peer, KEY)?;
        api.put("/v1/ipsec-profiles/main", &json!({"transform_sets": ["to-peer"]}))?;
        self.tunnel(peer, &json!({"ipsec_profile": "main"}), fields)
    }

    /// The same with a crypto map, whose entry has these fields changed.
    fn crypto_map(&self, peer: Site, fields: &Value) -> Result<()> {
        let api = &self.alpha.api;
        pre_shared_key(api, peer, KEY)?;
        let (source, destination) = (ALPHA.black(), peer.black());
        let rule = json!({
            "sequence": 10, "action": "permit", "protocol": "gre", "source": source, "destination": destination,
        });
        api.put("/v1/access-lists/to-peer", &json!({"rules": [rule]}))?;
        let mut entry = json!({
            "sequence": 10, "access_list": "to-peer", "transform_sets": ["to-peer"], "peer": destination,
        });
        merge(&mut entry, fields);
        api.put("/v1/crypto-maps/outside", &json!({"entries": [entry]}))?;
        let mut interface = configuration::black(ALPHA);
        interface["crypto_map"] = json!("outside");
        api.put("/v1/interfaces/black0", &interface)?;
        self.tunnel(peer, &json!("crypto-map"), &json!({}))
    }

    fn tunnel(&self, peer: Site, protection: &Value, fields: &Value) -> Result<()> {
        let mut body = configuration::tunnel(ALPHA, peer, protection);
        merge(&mut body, fields);
        self.alpha.api.put("/v1/tunnels/to-gamma", &body)?;
        static_routes(&self.alpha.api, peer)
    }

    /// Each host answers the other, to small and to the largest packets; the next byte is one too many.
    fn passes(&self) -> Result<()> {
        let hosts = [(ALPHA, GAMMA), (GAMMA, ALPHA)];
        for (from, to) in hosts {
            reachable(self.lab.host(from)?, &to.host()[0], PATIENCE)
                .with_context(|| self.gamma.gateway.log().unwrap_or_default())?;
            let pings = ping(self.lab.host(from)?, &to.host()[0], 20)?;
            ensure!(pings.all_answered(), "from {}: {pings:?}", from.name);
        }
        self.alpha_shows_the_mtu()?;
        let largest = MTU_BYTES - PING_HEADER_BYTES;
        for (from, to) in hosts {
            let (host, address) = (self.lab.host(from)?, &to.host()[0]);
            let pings = ping_sized(host, address, largest)?;
            ensure!(pings.all_answered(), "{largest} bytes from {}: {pings:?}", from.name);
            let mut command = host.command("ping");
            command.args(["-n", "-W", "1", "-c", "1", "-M", "do", "-s", &(largest + 1).to_string(), address]);
            let said = String::from_utf8_lossy(&output(&mut command)?.stdout).into_owned();
            ensure!(said.contains(&format!("mtu = {MTU_BYTES}")), "from {}: {said}", from.name);
            // The host believes that for a while, and would not send what the next check sends.
            host.ip("route flush cache")?;
        }
        let states = self.gamma.gateway.run("ip xfrm state; grep ^Ip: /proc/net/snmp")?;
        for expected in ["encap type espinudp", "mode transport"] {
            ensure!(states.contains(expected), "no {expected} in:\n{states}");
        }
        ensure!(!states.contains("mode tunnel"), "{states}");
        let created = states.lines().last().and_then(|line| line.split_whitespace().last());
        ensure!(created == Some("0"), "gamma made fragments: {states}");
        Ok(())
    }

    /// The twin has the MTU, and the API says it.
    fn alpha_shows_the_mtu(&self) -> Result<()> {
        wait::until("the MTU of alpha's twin", Duration::from_secs(5), || {
            let shown = self.alpha.namespace.ip("link show dev to-gamma")?;
            ensure!(shown.contains(&format!("mtu {MTU_BYTES} ")), "{shown}");
            let state = self.alpha.api.get("/v1/tunnels/to-gamma/state")?;
            ensure!(state["mtu_bytes"] == MTU_BYTES, "{state}");
            anyhow::Ok(())
        })
    }

    /// 50 pings a second from behind the NAT.
    fn pinging(&self, from: Site, to: Site, seconds: u16) -> Result<Pinging> {
        Pinging::start(self.lab.host(from)?, &to.host()[0], seconds)
    }

    /// Outbound SPIs of alpha, and where they go.
    fn outbound(&self) -> Result<(String, String)> {
        let sas = self.alpha.api.items("/v1/ipsec-sas")?;
        let mut outbound = sas.iter().filter(|sa| sa["direction"] == "outbound" && sa["in_use"] == true);
        let (Some(sa), None) = (outbound.next(), outbound.next()) else { bail!("{sas:?}") };
        let text = |field: &str| sa[field].as_str().map(str::to_owned).context("no text");
        Ok((text("spi")?, text("remote")?))
    }

    /// New keys come when they are asked for, and no packet is lost meanwhile.
    fn rekeys(&self, ask: impl Fn() -> Result<()>) -> Result<()> {
        let (old, _) = self.outbound()?;
        let traffic = self.pinging(ALPHA, GAMMA, 4)?;
        ask()?;
        wait::until("new SPIs", PATIENCE, || {
            let (new, _) = self.outbound()?;
            if new == old { bail!("still {old}") } else { Ok(()) }
        })?;
        traffic.still_running()?;
        let pings = traffic.finish()?;
        ensure!(pings.all_answered(), "{pings:?}");
        Ok(())
    }

    /// The peer is seen at another port, then at another address, and is followed there while it sends.
    fn moves(&self) -> Result<()> {
        for (host, seconds) in [(FIRST_HOST, 3), (SECOND_HOST, 10)] {
            let (spi, before) = self.outbound()?;
            let traffic = self.pinging(GAMMA, ALPHA, seconds)?;
            self.nat.rebind(host)?;
            let after = wait::until("alpha to follow", Duration::from_secs(3), || {
                let (_, after) = self.outbound()?;
                ensure!(after != before && after.starts_with(&format!("{}:", public(host))), "{after}");
                anyhow::Ok(after)
            })?;
            if host == SECOND_HOST {
                // Forged packets of the same SA from elsewhere lead nobody away.
                let failed = self.alpha.drops("esp_auth_failed")?;
                self.lab.hostile_from("moved", ALPHA, (GAMMA.name, public(host)))?;
                self.alpha.drops_more("esp_auth_failed", failed)?;
                ensure!(self.outbound()? == (spi, after.clone()), "{:?}", self.outbound()?);
            }
            traffic.still_running()?;
            let pings = traffic.finish()?;
            ensure!(pings.lost() <= 25, "{before} to {after}: {pings:?}");
            let pings = ping(self.lab.host(ALPHA)?, &GAMMA.host()[0], 20)?;
            ensure!(pings.all_answered(), "to {host}: {pings:?}");
        }
        Ok(())
    }

    /// Nothing is sent for longer than the NAT remembers, but for keepalives: the site can still be reached from outside.
    fn stays_reachable(&self) -> Result<()> {
        let sniffer = integration::sniffer::Sniffer::start(&self.lab.underlay, &[GAMMA.name], &self.lab.dir)?;
        let begin = SystemTime::now();
        std::thread::sleep(Duration::from_secs(FORGETS_AFTER_SECS + 2));
        let pings = ping(self.lab.host(ALPHA)?, &GAMMA.host()[0], 5)?;
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
}

fn merge(body: &mut Value, fields: &Value) {
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
}

fn scenario(number: u8, what: &'static str, daemon: &Daemon, role: Role) -> Scenario {
    Scenario { number, what, peer: daemon.name, role }
}

const VERSION_1: &str = "/v1/isakmp-policies/old";

fn version_1() -> Value {
    json!({
        "priority": 20, "version": "ikev1", "encryption": ["aes-256-cbc"], "hash": ["sha2-256"], "groups": [14],
        "allow_insecure": ["ikev1"],
    })
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
        natted.passes()?;
        natted.rekeys(|| natted.alpha.api.post("/v1/tunnels/to-gamma/rekey").map(drop))?;
        natted.rekeys(|| natted.gamma.gateway.run("swanctl --rekey --child gre").map(drop))?;
        natted.gamma.gateway.run("swanctl --rekey --ike far")?;
        natted.stays_reachable()
    })?;
    let what =
        "the peer's NAT shows it at another port, then address, IKEv2 with GRE; forged packets move nothing";
    scenario(28, what, daemon, Role::Responder).judge(|| {
        natted.moves()?;
        // From there it may even begin anew.
        natted.gamma.gateway.end()?;
        wait::until("gamma's next child", PATIENCE, || natted.gamma.gateway.begin())?;
        natted.passes()
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
        natted.passes()?;
        natted.rekeys(|| natted.alpha.api.post("/v1/crypto-maps/outside/rekey").map(drop))?;
        natted.rekeys(|| natted.gamma.gateway.run("swanctl --rekey --child gre").map(drop))
    })?;
    let what = "the peer's NAT shows it at another port, then address, IKEv1 with GRE and a crypto map";
    scenario(28, what, daemon, Role::Responder).judge(|| {
        natted.moves()?;
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
        natted.passes()?;
        natted.rekeys(|| natted.alpha.api.post("/v1/tunnels/to-gamma/rekey").map(drop))
    })?;
    for resource in ["routes/gamma-v4", "routes/gamma-v6", "tunnels/to-gamma"] {
        natted.alpha.api.delete(&format!("/v1/{resource}"))?;
    }
    natted.gamma.gateway.end()?;
    natted.gamma.gateway.reload(|settings| {
        (settings.version, settings.ike, settings.esp) = (1, "aes256-sha256-modp2048", "aes128gcm16");
    })?;
    scenario(27, WE_VERSION_1, daemon, Role::Initiator).judge(|| natted.we_reach_by_version_1())
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
    scenario(27, WE_VERSION_1, daemon, Role::Initiator).judge(|| natted.we_reach_by_version_1())
}

impl Natted {
    fn we_reach_by_version_1(&self) -> Result<()> {
        self.alpha.api.put(VERSION_1, &version_1())?;
        let fields = json!({"local_identity": NATTED_ALPHA.black(), "isakmp_policies": ["old"]});
        self.crypto_map(GAMMA, &fields)?;
        self.passes()?;
        self.rekeys(|| self.alpha.api.post("/v1/crypto-maps/outside/rekey").map(drop))
    }
}
