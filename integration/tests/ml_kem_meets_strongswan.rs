//! ML-KEM as a policy has it by itself, with GRE on what it protects, judged by strongSwan 6.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use integration::checks::ping;
use integration::foreign::{Settings, strongswan};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{KEY, Mapped, PATIENCE, profile_towards_gamma};
use integration::{sa, wait};
use serde_json::{Value, json};

fn judged(what: &'static str, role: Role) -> Scenario {
    Scenario { number: 33, what, peer: strongswan::SIX.name, role }
}

/// ML-KEM-768 is nowhere named; that nothing else will do, is.
fn policy() -> Value {
    json!({
        "priority": 10, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31],
        "require_post_quantum": true,
    })
}

/// The one IKE SA, which both ends made with ML-KEM.
fn ike_sa(mapped: &Mapped) -> Result<Value> {
    let mut sas = mapped.alpha.api.items("/v1/isakmp-sas")?;
    let sa = sas.pop().context("no IKE SA")?;
    ensure!(sas.is_empty() && sa["state"] == "established", "{sa} {sas:?}");
    let suite = sa["suite"].as_str().unwrap_or_default();
    ensure!(suite.ends_with("group 31 + ml-kem-768"), "{suite}");
    Ok(sa)
}

fn passes(mapped: &Mapped, role: Role) -> Result<()> {
    wait::until(&format!("an IKE SA with us as {}", role.word()), PATIENCE, || {
        let sa = ike_sa(mapped)?;
        ensure!(sa["initiator"] == (role == Role::Initiator), "{sa}");
        anyhow::Ok(())
    })
    .with_context(|| mapped.gamma.gateway.log().unwrap_or_default())?;
    mapped.passes(PATIENCE)?;
    for address in GAMMA.host() {
        let pings = ping(mapped.lab.host(ALPHA)?, &address, 20)?;
        ensure!(pings.all_answered(), "{address}: {pings:?}");
    }
    let log = mapped.gamma.gateway.log()?;
    ensure!(log.contains("IKE:AES_GCM_16_256/PRF_HMAC_SHA2_256/CURVE_25519/KE1_ML_KEM_768"), "{log}");
    let states = mapped.gamma.gateway.run("ip xfrm state")?;
    ensure!(states.contains("mode transport") && !states.contains("mode tunnel"), "{states}");
    Ok(())
}

/// Something about keys happens under pings, and none is lost.
fn without_loss(mapped: &Mapped, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let traffic = mapped.pinging(8)?;
    change()?;
    traffic.still_running()?;
    let pings = traffic.finish()?;
    ensure!(pings.all_answered(), "{pings:?}");
    let strays = mapped.gamma.gateway.xfrm_error("XfrmInNoStates")?;
    ensure!(strays == 0, "{strays} packets met an SPI that the peer lacks");
    Ok(())
}

fn sending_on(mapped: &Mapped) -> Result<BTreeSet<u32>> {
    Ok(sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true))
}

fn other_child(mapped: &Mapped, rekey: impl FnOnce() -> Result<()>) -> Result<()> {
    let old = sending_on(mapped)?;
    rekey()?;
    wait::until("new SPIs", PATIENCE, || {
        let new = sending_on(mapped)?;
        if !new.is_empty() && new.is_disjoint(&old) { Ok(()) } else { bail!("{new:08x?}") }
    })
}

/// How often the peer has agreed to ML-KEM for a child.
fn children_with_ml_kem(mapped: &Mapped) -> Result<usize> {
    let log = mapped.gamma.gateway.log()?;
    let selected = log.lines().filter(|line| line.contains("selected proposal: ESP:"));
    Ok(selected.filter(|line| line.contains("/CURVE_25519") && line.contains("/KE1_ML_KEM_768")).count())
}

#[test]
fn on_a_tunnel_that_both_begin_and_rekey_without_loss() -> Result<()> {
    let mapped = Mapped::bare(Settings::speaking(&strongswan::SIX, GAMMA, ALPHA, KEY))?;
    let what = "ML-KEM-768 by default, and required; tunnel protection in transport mode, GRE";
    judged(what, Role::Responder).judge(|| {
        mapped.lab.may_begin(ALPHA, false)?;
        profile_towards_gamma(&mapped.alpha, &policy())?;
        wait::until("gamma's negotiation", PATIENCE, || mapped.gamma.gateway.begin())?;
        passes(&mapped, Role::Responder)
    })?;
    judged(what, Role::Initiator).judge(|| {
        mapped.gamma.gateway.end()?;
        mapped.lab.may_begin(ALPHA, true)?;
        passes(&mapped, Role::Initiator)
    })?;
    judged("IKE SA rekey with ML-KEM under traffic, no ping lost", Role::Responder).judge(|| {
        let old = ike_sa(&mapped)?;
        without_loss(&mapped, || {
            mapped.gamma.gateway.run("swanctl --rekey --ike far")?;
            wait::until("another IKE SA", PATIENCE, || {
                let new = ike_sa(&mapped)?;
                ensure!(new["spi_initiator"] != old["spi_initiator"], "{new}");
                anyhow::Ok(())
            })
        })
    })?;
    for role in Role::BOTH {
        judged("child rekey with X25519 and ML-KEM under traffic, no ping lost", role).judge(|| {
            let before = children_with_ml_kem(&mapped)?;
            without_loss(&mapped, || {
                other_child(&mapped, || match role {
                    Role::Initiator => mapped.alpha.api.post("/v1/tunnels/to-gamma/rekey").map(drop),
                    Role::Responder => mapped.gamma.gateway.run("swanctl --rekey --child gre").map(drop),
                })
            })?;
            let children = children_with_ml_kem(&mapped)?;
            ensure!(children == before + 1, "{before} children with ML-KEM, then {children}");
            Ok(())
        })?;
    }
    Ok(())
}
