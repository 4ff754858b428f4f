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
    let settings = Settings { mode, ..Settings::speaking(daemon, GAMMA, ALPHA, KEY) };
    let row = match mode {
        Mode::Tunnel => (1, "IKEv2, PSK, AES-256-GCM, X25519; ESP in tunnel mode, GRE"),
        Mode::Transport => (2, "IKEv2, PSK, AES-256-GCM, X25519; ESP in transport mode, GRE"),
    };
    carries(settings, row, [Role::Responder, Role::Initiator], |mapped| mapped.configure_with(transform_set))
}

/// GRE passes, whichever of the two begins, in this order; `configure` tells alpha of it.
fn carries(
    settings: Settings,
    (number, what): (u8, &'static str),
    roles: [Role; 2],
    configure: impl Fn(&Mapped) -> Result<()>,
) -> Result<()> {
    let (daemon, mode) = (settings.daemon, settings.mode);
    let mapped = Mapped::bare(settings)?;
    let scenario = |role| Scenario { number, what, peer: daemon.name, role };
    let sniffer = mapped.lab.sniff()?;
    for (role, first) in roles.into_iter().zip([true, false]) {
        scenario(role).judge(|| {
            mapped.lab.may_begin(ALPHA, role == Role::Initiator)?;
            if first {
                configure(&mapped)?;
            } else {
                mapped.gamma.gateway.end()?;
            }
            if role == Role::Responder {
                mapped.gamma.gateway.begin()?;
            }
            passes(&mapped, mode, role)
        })?;
    }
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
    // An SPI of 0 is a packet's wish for an SA, not one.
    let is_sa = |line: &&str| line.contains("mode ") && !line.contains("spi 0x00000000");
    let modes: Vec<&str> = states.lines().filter(is_sa).collect();
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

/// What routers were set up with, but for group 2, which libreswan does not know any more.
#[test]
fn libreswan_speaks_version_1() -> Result<()> {
    let settings = Settings {
        version: 1,
        ike: "aes128-sha1;modp1536",
        esp: "aes128-md5",
        ..Settings::speaking(&libreswan::DAEMON, GAMMA, ALPHA, KEY)
    };
    let what = "IKEv1, AES-128, SHA-1, group 5; ESP AES-128 with HMAC-MD5 in transport mode, GRE";
    // Once it has begun itself, a packet without an SA has it begin again, faster than we.
    carries(settings, (13, what), [Role::Initiator, Role::Responder], |mapped| {
        let api = &mapped.alpha.api;
        let policy = json!({
            "priority": 20, "version": "ikev1", "encryption": ["aes-128-cbc"], "hash": ["sha1"], "groups": [5],
            "allow_insecure": ["ikev1", "sha1", "modp1536"],
        });
        api.put("/v1/isakmp-policies/classic", &policy)?;
        mapped.configure_with(&json!({"profile": "cisco-classic"}))?;
        let entry = json!({
            "sequence": 10, "access_list": "to-peer", "transform_sets": ["to-peer"], "peer": GAMMA.black(),
            "isakmp_policies": ["classic"],
        });
        api.put("/v1/crypto-maps/outside", &json!({"entries": [entry]})).map(drop)
    })
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
