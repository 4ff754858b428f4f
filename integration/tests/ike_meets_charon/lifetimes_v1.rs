//! IKEv1: lifetimes that differ. charon does not follow what a responder tells of its own, but must not stumble over it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ike::ChildLifetime;
use integration::interop::Role;

use crate::cable::{Cable, scenario};
use crate::charon::{Settings, child};
use crate::ikev1::classic;
use crate::keys::same_esp_keys;

const MIB: u64 = 1 << 20;

/// The lifetimes that the pair has at our end, where charon has 3000 seconds and 100 MiB: it counts 1000 bytes to the kilobyte.
fn agreed(role: Role, what: &'static str, hard: Duration, hard_bytes: u64, told: bool) -> Result<()> {
    let cable = Cable::new()?;
    let (mut ours, theirs) = classic();
    for child in &mut ours.children {
        child.lifetime = ChildLifetime {
            soft: hard.mul_f64(0.8),
            hard,
            soft_bytes: Some(hard_bytes / 2),
            hard_bytes: Some(hard_bytes),
            ..child.lifetime
        };
    }
    let more = "rekey_time = 2500s\n life_time = 3000s\n rekey_bytes = 90000000\n life_bytes = 102400000";
    let settings = Settings { children: child("net", "10.2.0.1/32", "10.1.0.1/32", more), ..theirs };
    scenario(14, what, role).judge(|| {
        let engine = cable.up(role, ours.clone(), &settings)?;
        same_esp_keys(&cable.charon, &engine)?;
        let pair = engine.state().pairs.last().context("no pair")?.lifetime;
        let shortest = (hard.min(Duration::from_secs(3000)), Some(hard_bytes.min(100 * MIB)));
        ensure!((pair.hard, pair.hard_bytes) == shortest, "{pair:?}");
        // What it says of notifications that it parsed.
        let log = cable.charon.log()?;
        let parsed =
            log.lines().any(|line| line.contains("parsed QUICK_MODE response") && line.contains("N("));
        ensure!(parsed == told, "charon parsed a notification: {parsed}");
        Ok(())
    })
}

#[test]
fn a_shorter_one_of_the_responder_is_told() -> Result<()> {
    let what = "IKEv1, the responder's lifetimes are shorter";
    agreed(Role::Responder, what, Duration::from_secs(600), 50 * MIB, true)
}

#[test]
fn a_shorter_one_of_the_initiator_is_taken() -> Result<()> {
    let what = "IKEv1, the initiator's lifetimes are shorter";
    agreed(Role::Responder, what, Duration::from_secs(6000), 500 * MIB, false)
}
