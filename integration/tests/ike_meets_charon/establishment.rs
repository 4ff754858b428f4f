//! An IKE SA and a child come up, with the algorithms that were meant.

use anyhow::{Result, ensure};
use ike::{Connection, Group, Hash, IkeEncryption, IkeProposal};
use integration::interop::Role;

use crate::cable::{Cable, connection, scenario};
use crate::charon::Settings;

fn offering(encryption: IkeEncryption, hash: Hash, group: Group) -> Connection {
    let proposal = IkeProposal {
        encryption: vec![encryption],
        integrity: vec![hash],
        prf: vec![hash],
        groups: vec![group],
        ..IkeProposal::default()
    };
    Connection { proposals: vec![proposal], ..connection() }
}

/// Each suite of IKE in both roles; charon tells what was agreed.
fn agrees(what: &'static str, ike: &'static str, shown: &str, connection: &Connection) -> Result<()> {
    let cable = Cable::new()?;
    for role in Role::BOTH {
        scenario(1, what, role).judge(|| {
            let settings = Settings { ike, ..Settings::default() };
            let ours = cable.up(role, connection.clone(), &settings)?;
            let sas = cable.charon.swanctl("--list-sas")?;
            ensure!(sas.contains("ESTABLISHED, IKEv2") && sas.contains(shown), "{sas}");
            let spi = ours.settles(1)?.children;
            ensure!(sas.contains("INSTALLED, TUNNEL-in-UDP"), "{sas}");
            // charon's outbound SPI is ours inbound.
            ensure!(spi.iter().all(|spi| sas.contains(&format!("out {spi:08x}"))), "{spi:08x?} in {sas}");
            drop(ours);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn with_aes_256_gcm_and_x25519() -> Result<()> {
    agrees(
        "PSK, AES-256-GCM, SHA2-256, X25519",
        "aes256gcm16-prfsha256-x25519",
        "AES_GCM_16-256/PRF_HMAC_SHA2_256/CURVE_25519",
        &offering(IkeEncryption::Aes256Gcm16, Hash::Sha2_256, Group::Curve25519),
    )
}
