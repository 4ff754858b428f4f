//! What strongSwan may ask of an initiator before it goes on.

use anyhow::Result;
use integration::foreign::Settings;
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{KEY, Mapped, PATIENCE, profile_towards_gamma};
use serde_json::json;

fn policy(groups: &[u16]) -> serde_json::Value {
    json!({"priority": 10, "encryption": ["aes-256-gcm", "aes-128-gcm"], "hash": ["sha2-256"], "groups": groups})
}

#[test]
fn another_group_than_the_first_guess() -> Result<()> {
    let settings = Settings { ike: "aes256gcm16-prfsha256-ecp256", ..Settings::new(GAMMA, ALPHA, KEY) };
    let mapped = Mapped::bare(settings)?;
    profile_towards_gamma(&mapped.alpha, &policy(&[31, 19]))?;
    mapped.passes(PATIENCE)?;
    let log = mapped.gamma.gateway.log()?;
    assert!(log.contains("INVAL_KE") || log.contains("INVALID_KE"), "{log}");
    Ok(())
}

#[test]
fn a_modp_group_and_cbc() -> Result<()> {
    let settings = Settings { ike: "aes256-sha256-modp2048", ..Settings::new(GAMMA, ALPHA, KEY) };
    let mapped = Mapped::bare(settings)?;
    let policy = json!({"priority": 10, "encryption": ["aes-256-cbc"], "hash": ["sha2-256"], "groups": [14]});
    profile_towards_gamma(&mapped.alpha, &policy)?;
    mapped.passes(PATIENCE)
}

#[test]
fn a_cookie_from_a_peer_under_load() -> Result<()> {
    let settings = Settings { charon: "cookie_threshold = 1\n", ..Settings::new(GAMMA, ALPHA, KEY) };
    let mapped = Mapped::bare(settings)?;
    mapped.gamma.gateway.verifies_cookies()?;
    // Somebody begins and never goes on: from now on the peer asks for a cookie first.
    mapped.lab.hostile("half-open", GAMMA, ALPHA)?;
    profile_towards_gamma(&mapped.alpha, &policy(&[31]))?;
    mapped.passes(PATIENCE)?;
    let log = mapped.gamma.gateway.log()?;
    assert!(log.contains("N(COOKIE)"), "{log}");
    Ok(())
}
