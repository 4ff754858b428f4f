//! The first two rows of the matrix against daemons that share no code with strongSwan: a crypto map with GRE, ESP in
//! transport and in tunnel mode, begun by either side.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::checks::{ping, reachable};
use integration::configuration::aes_128_gcm;
use integration::foreign::{Daemon, Mode, Settings, libreswan, openiked};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{KEY, Mapped, PATIENCE};
use integration::wait;
use serde_json::{Value, json};

fn meets(daemon: &'static Daemon, mode: Mode, transform_set: &Value) -> Result<()> {
    let mapped = Mapped::bare(Settings { mode, ..Settings::speaking(daemon, GAMMA, ALPHA, KEY) })?;
    let (number, what) = match mode {
        Mode::Tunnel => (1, "IKEv2, PSK, AES-256-GCM, X25519; ESP in tunnel mode, GRE"),
        Mode::Transport => (2, "IKEv2, PSK, AES-256-GCM, X25519; ESP in transport mode, GRE"),
    };
    let scenario = |role| Scenario { number, what, peer: daemon.name, role };
    let sniffer = mapped.lab.sniff()?;
    scenario(Role::Responder).judge(|| {
        mapped.lab.may_begin(ALPHA, false)?;
        mapped.configure_with(transform_set)?;
        mapped.gamma.gateway.begin()?;
        passes(&mapped, mode, Role::Responder)
    })?;
    scenario(Role::Initiator).judge(|| {
        mapped.lab.may_begin(ALPHA, true)?;
        mapped.gamma.gateway.end()?;
        passes(&mapped, mode, Role::Initiator)
    })?;
    for capture in sniffer.finish()? {
        let leaks = capture.leaks(&mapped.lab.black_addresses());
        ensure!(leaks.is_empty() && capture.esp_frames() > 0, "{}: {leaks:?}", capture.interface);
        ensure!(capture.repeated_sequence_numbers().is_empty(), "{}", capture.interface);
    }
    Ok(())
}

fn passes(mapped: &Mapped, mode: Mode, role: Role) -> Result<()> {
    wait::until(&format!("an IKE SA with us as {}", role.word()), PATIENCE, || {
        let sas = mapped.alpha.api.items("/v1/isakmp-sas")?;
        let found =
            sas.iter().any(|sa| sa["initiator"] == (role == Role::Initiator) && sa["state"] == "established");
        ensure!(found, "{sas:?}");
        anyhow::Ok(())
    })
    .with_context(|| mapped.gamma.gateway.log().unwrap_or_default())?;
    mapped.passes(PATIENCE)?;
    for (from, to) in [(ALPHA, GAMMA), (GAMMA, ALPHA)] {
        reachable(mapped.lab.host(from)?, &to.host()[0], Duration::from_secs(10))?;
        let pings = ping(mapped.lab.host(from)?, &to.host()[0], 10)?;
        ensure!(pings.all_answered(), "from {}: {pings:?}", from.name);
    }
    let states = mapped.gamma.gateway.run("ip xfrm state")?;
    let modes: Vec<&str> = states.lines().filter(|line| line.contains("mode ")).collect();
    let expected = format!("mode {}", mode.word());
    ensure!(!modes.is_empty() && modes.iter().all(|line| line.contains(&expected)), "{states}");
    ensure!(mapped.gamma.gateway.sas()?.contains(&ALPHA.black().to_string()), "the daemon shows no SA");
    Ok(())
}

#[test]
fn libreswan_in_transport_mode() -> Result<()> {
    meets(&libreswan::DAEMON, Mode::Transport, &aes_128_gcm(Mode::Transport))
}

#[test]
fn libreswan_in_tunnel_mode() -> Result<()> {
    meets(&libreswan::DAEMON, Mode::Tunnel, &aes_128_gcm(Mode::Tunnel))
}

/// What its PF_KEY can tell a Linux kernel.
fn aes_128_cbc_sha1(mode: Mode) -> Value {
    json!({
        "encryption": "aes-128-cbc", "integrity": "sha1", "mode": mode.word(), "esn": false,
        "allow_insecure": ["sha1"],
    })
}

#[test]
fn openiked_in_transport_mode() -> Result<()> {
    meets(&openiked::DAEMON, Mode::Transport, &aes_128_cbc_sha1(Mode::Transport))
}

#[test]
fn openiked_in_tunnel_mode() -> Result<()> {
    meets(&openiked::DAEMON, Mode::Tunnel, &aes_128_cbc_sha1(Mode::Tunnel))
}
