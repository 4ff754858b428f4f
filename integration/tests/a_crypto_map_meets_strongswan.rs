//! A crypto map with `permit gre host A host B` against a Linux kernel with strongSwan.

use anyhow::{Result, bail};
use integration::checks::ping;
use integration::foreign::{Mode, Settings};
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{KEY, Mapped, PATIENCE};
use integration::wait;

fn meets(mode: Mode) -> Result<()> {
    let mapped = Mapped::up(mode)?;
    for address in GAMMA.host() {
        let pings = ping(mapped.lab.host(ALPHA)?, &address, 20)?;
        assert!(pings.all_answered(), "{address}: {pings:?}");
    }
    let states = mapped.gamma.gateway.run("ip xfrm state")?;
    assert!(
        states.contains(&format!("mode {}", mode.word())) && states.contains("rfc4106(gcm(aes))"),
        "{states}"
    );
    Ok(())
}

#[test]
fn in_transport_mode() -> Result<()> {
    meets(Mode::Transport)
}

#[test]
fn in_tunnel_mode() -> Result<()> {
    meets(Mode::Tunnel)
}

#[test]
fn and_the_peer_may_begin() -> Result<()> {
    let mapped = Mapped::bare(Settings::new(GAMMA, ALPHA, KEY))?;
    mapped.configure(Mode::Transport)?;
    // Whoever began, the peer ends it and begins again.
    mapped.passes(PATIENCE)?;
    mapped
        .gamma
        .gateway
        .run("swanctl --terminate --ike far --force || true; swanctl --initiate --child gre")?;
    mapped.passes(PATIENCE)?;
    wait::until("an IKE SA that the peer began", PATIENCE, || {
        let sas = mapped.alpha.api.items("/v1/isakmp-sas")?;
        if sas.iter().any(|sa| sa["initiator"] == false) { Ok(()) } else { bail!("{sas:?}") }
    })
}
