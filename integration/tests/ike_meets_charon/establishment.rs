//! An IKE SA and a child come up, with the algorithms that were meant.

use anyhow::{Result, ensure};
use ike::{Command, Connection, EspEncryption, Group, Hash, IkeEncryption, IkeProposal};
use integration::interop::Role;

use crate::cable::{Cable, connection, scenario};
use crate::charon::Settings;
use crate::keys::{same_esp_keys, same_ike_keys};
use crate::ours::CHILD;

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
fn agrees(
    number: u8,
    what: &'static str,
    ike: &'static str,
    shown: &str,
    connection: &Connection,
) -> Result<()> {
    let cable = Cable::new()?;
    for role in Role::BOTH {
        scenario(number, what, role).judge(|| {
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
        1,
        "PSK, AES-256-GCM, SHA2-256, X25519",
        "aes256gcm16-prfsha256-x25519",
        "AES_GCM_16-256/PRF_HMAC_SHA2_256/CURVE_25519",
        &offering(IkeEncryption::Aes256Gcm16, Hash::Sha2_256, Group::Curve25519),
    )
}

/// What only a policy that says so by name may have.
#[test]
fn with_sha_1_where_it_is_allowed() -> Result<()> {
    agrees(
        3,
        "PSK, AES-128-CBC, HMAC-SHA1, group 14, where it is allowed",
        "aes128-sha1-modp2048",
        "AES_CBC-128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_2048",
        &offering(IkeEncryption::Aes128Cbc, Hash::Sha1, Group::Modp2048),
    )
}

/// The groups that the other tests have no word about, the largest last.
#[test]
fn over_each_group() -> Result<()> {
    for (ike, group, shown) in [
        ("aes256-sha384-modp3072", Group::Modp3072, "MODP_3072"),
        ("aes256-sha384-modp4096", Group::Modp4096, "MODP_4096"),
        ("aes256-sha384-ecp384", Group::EcpP384, "ECP_384"),
        ("aes256-sha384-ecp521", Group::EcpP521, "ECP_521"),
        ("aes256-sha384-modp6144", Group::Modp6144, "MODP_6144"),
        ("aes256-sha384-modp8192", Group::Modp8192, "MODP_8192"),
    ] {
        agrees(
            1,
            "each Diffie-Hellman group of RFC 3526 and RFC 5903",
            ike,
            &format!("AES_CBC-256/HMAC_SHA2_384_192/PRF_HMAC_SHA2_384/{shown}"),
            &offering(IkeEncryption::Aes256Cbc, Hash::Sha2_384, group),
        )?;
    }
    Ok(())
}

/// One cipher for both SAs, and fresh keys of both by each end: charon opens all that we seal, and has the same keys.
#[test]
fn with_chacha20_poly1305_and_stays_so_through_rekeys() -> Result<()> {
    let cable = Cable::new()?;
    let mut connection = offering(IkeEncryption::ChaCha20Poly1305, Hash::Sha2_256, Group::Curve25519);
    for child in &mut connection.children {
        for proposal in &mut child.proposals {
            proposal.encryption = vec![EspEncryption::ChaCha20Poly1305];
        }
    }
    let (ike, esp) = ("chacha20poly1305-prfsha256-x25519", "chacha20poly1305-noesn");
    for role in Role::BOTH {
        scenario(1, "PSK, ChaCha20-Poly1305 for both SAs, each rekeyed", role).judge(|| {
            let settings = Settings { ike, esp, ..Settings::default() };
            let ours = cable.up(role, connection.clone(), &settings)?;
            let sas = cable.charon.swanctl("--list-sas")?;
            ensure!(sas.contains("CHACHA20_POLY1305/PRF_HMAC_SHA2_256/CURVE_25519"), "{sas}");
            ensure!(sas.contains("ESP:CHACHA20_POLY1305"), "{sas}");
            let first = ours.settles(1)?;
            ensure!(first.suite == "chacha20-poly1305 / prf sha2-256 / group 31", "{}", first.suite);
            match role {
                Role::Initiator => ours.command(Command::RekeyChild(CHILD)),
                Role::Responder => drop(cable.charon.swanctl("--rekey --child net")?),
            }
            ours.until("the new pair alone", |state| {
                let new = state.installed.keys().all(|spi| !first.children.contains(spi));
                ensure!(state.installed.len() == 1 && new, "{:x?}", state.installed.keys());
                Ok(())
            })?;
            same_esp_keys(&cable.charon, &ours)?;
            match role {
                Role::Initiator => ours.command(Command::RekeyIke(crate::ours::CONNECTION)),
                Role::Responder => drop(cable.charon.swanctl("--rekey --ike far")?),
            }
            same_ike_keys(&cable.charon, &ours, 2)?;
            let second = ours.settles(1)?;
            ensure!(second.spi_i != first.spi_i && second.suite == first.suite, "{}", second.suite);
            drop(ours);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}
