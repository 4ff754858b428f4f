//! A crypto map with `permit gre host A host B` against a Linux kernel with strongSwan.

use anyhow::{Result, ensure};
use integration::checks::{ping, reachable};
use integration::foreign::{Mode, Settings};
use integration::frr::{self, Frr};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{KEY, Mapped, PATIENCE};
use integration::wait;
use serde_json::json;

const TRANSPORT: (u8, &str) = (2, "IKEv2, PSK, AES-128-GCM; ESP in transport mode, GRE with OSPF");
const TUNNEL: (u8, &str) = (1, "IKEv2, PSK, AES-128-GCM; ESP in tunnel mode, GRE with OSPF");

fn scenario((number, what): (u8, &'static str), role: Role) -> Scenario {
    Scenario { number, what, peer: "strongSwan", role }
}

fn meets(mode: Mode, row: (u8, &'static str)) -> Result<Mapped> {
    let mapped = Mapped::bare(Settings { mode, ..Settings::new(GAMMA, ALPHA, KEY) })?;
    scenario(row, Role::Initiator).judge(|| {
        mapped.configure(mode)?;
        mapped.passes(PATIENCE)?;
        for address in GAMMA.host() {
            let pings = ping(mapped.lab.host(ALPHA)?, &address, 20)?;
            ensure!(pings.all_answered(), "{address}: {pings:?}");
        }
        let states = mapped.gamma.gateway.run("ip xfrm state")?;
        ensure!(
            states.contains(&format!("mode {}", mode.word())) && states.contains("rfc4106(gcm(aes))"),
            "{states}"
        );
        routes_are_exchanged(&mapped)
    })?;
    Ok(mapped)
}

/// OSPF speaks by multicast, which ESP alone does not carry.
fn routes_are_exchanged(mapped: &Mapped) -> Result<()> {
    mapped.gamma.gateway.speak_ospf()?;
    let routing = frr::ospf(&ALPHA.black().to_string(), &["to-gamma"], &["red0"]);
    let ospf = Frr::start(&mapped.alpha.namespace, &mapped.alpha.dir().join("frr"), &routing)?;
    wait::until("OSPF with gamma", PATIENCE, || {
        let state = ospf.neighbour_state("to-gamma")?;
        ensure!(state == "Full", "{state}");
        anyhow::Ok(())
    })
}

#[test]
fn in_transport_mode() -> Result<()> {
    meets(Mode::Transport, TRANSPORT).map(drop)
}

#[test]
fn in_tunnel_mode() -> Result<()> {
    let mut mapped = meets(Mode::Tunnel, TUNNEL)?;
    the_peer_narrows(&mut mapped)
}

/// Another child of gamma's beside that for GRE.
const NETWORKS: &str = "} networks {
    mode = tunnel
    local_ts = 10.99.3.0/28,10.99.5.1/32
    remote_ts = 10.0.1.0/24
    esp_proposals = aes128gcm16-esn-noesn";

/// Our rule is for a network, of which the peer agrees to a part and a host of another part (RFC 7296 section 2.9).
fn the_peer_narrows(mapped: &mut Mapped) -> Result<()> {
    mapped.gamma.gateway.reload(|settings| settings.child = NETWORKS)?;
    mapped.gamma.gateway.run("for host in 3.4 3.17 5.1 5.2; do ip addr add 10.99.$host/32 dev lo; done")?;
    let api = &mapped.alpha.api;
    let rule = |sequence: u8, protocol: &str, source: String, destination: String| {
        json!({
            "sequence": sequence, "action": "permit", "protocol": protocol, "source": source,
            "destination": destination,
        })
    };
    let rules = [
        rule(10, "gre", ALPHA.black().to_string(), GAMMA.black().to_string()),
        rule(20, "ip", ALPHA.red4(), "10.99.0.0/16".to_owned()),
    ];
    let what = "our network is narrowed to a part and a host elsewhere; their traffic passes, what lies outside is dropped";
    Scenario { number: 25, what, peer: "strongSwan", role: Role::Initiator }.judge(|| {
        api.put("/v1/access-lists/to-peer", &json!({"rules": rules}))?;
        api.put("/v1/routes/networks", &json!({"destination": "10.99.0.0/16", "gateway": ALPHA.router()}))?;
        let host = mapped.lab.host(ALPHA)?;
        for inside in ["10.99.3.4", "10.99.5.1"] {
            reachable(host, inside, PATIENCE)?;
            let pings = ping(host, inside, 10)?;
            ensure!(pings.all_answered(), "{inside}: {pings:?}");
        }
        let sas = api.items("/v1/ipsec-sas")?;
        let carried = |selectors: &str| sas.iter().filter(|sa| sa["selector"] == selectors).count();
        ensure!(carried("10.0.1.0/24 -> 10.99.3.0/28, 10.99.5.1/32") == 2, "{sas:?}");
        for outside in ["10.99.3.17", "10.99.5.2"] {
            let before = mapped.alpha.drops("selector_mismatch")?;
            let pings = ping(host, outside, 5)?;
            let dropped = mapped.alpha.drops("selector_mismatch")? - before;
            ensure!((pings.received, dropped) == (0, 5), "{outside}: {pings:?}, {dropped} dropped");
        }
        let sas = api.items("/v1/ipsec-sas")?;
        ensure!(
            sas.iter().any(|sa| sa["direction"] == "outbound" && sa["selector_mismatch"] == 10),
            "{sas:?}"
        );
        Ok(())
    })
}

#[test]
fn and_the_peer_may_begin() -> Result<()> {
    let mapped = Mapped::bare(Settings::new(GAMMA, ALPHA, KEY))?;
    mapped.configure(Mode::Transport)?;
    // Whoever began, the peer ends it and begins again.
    mapped.passes(PATIENCE)?;
    scenario(TRANSPORT, Role::Responder).judge(|| {
        mapped.lab.may_begin(ALPHA, false)?;
        mapped.gamma.gateway.end()?;
        mapped.gamma.gateway.begin()?;
        mapped.passes(PATIENCE)?;
        let sas = mapped.alpha.api.items("/v1/isakmp-sas")?;
        ensure!(sas.iter().any(|sa| sa["initiator"] == false && sa["state"] == "established"), "{sas:?}");
        routes_are_exchanged(&mapped)
    })
}
