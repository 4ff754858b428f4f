//! A crypto map with `permit gre host A host B` against a Linux kernel with strongSwan.

use anyhow::{Result, ensure};
use integration::checks::ping;
use integration::foreign::{Mode, Settings};
use integration::frr::{self, Frr};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{KEY, Mapped, PATIENCE};
use integration::wait;

const TRANSPORT: (u8, &str) = (2, "IKEv2, PSK, AES-128-GCM; ESP in transport mode, GRE with OSPF");
const TUNNEL: (u8, &str) = (1, "IKEv2, PSK, AES-128-GCM; ESP in tunnel mode, GRE with OSPF");

fn scenario((number, what): (u8, &'static str), role: Role) -> Scenario {
    Scenario { number, what, peer: "strongSwan", role }
}

fn meets(mode: Mode, row: (u8, &'static str)) -> Result<()> {
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
    })
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
    meets(Mode::Transport, TRANSPORT)
}

#[test]
fn in_tunnel_mode() -> Result<()> {
    meets(Mode::Tunnel, TUNNEL)
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
