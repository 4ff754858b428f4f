//! IKEv1: main mode and quick mode, what follows them, and what goes wrong.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ike::sim::setup;
use ike::{
    Authentication, Cause, Command, Connection, Dpd, EspEncryption, EspIntegrity, EspProposal, Group, Hash,
    IkeEncryption, IkeProposal, Ikev1, PreSharedKey, Version,
};
use integration::interop::Role;
use zeroize::Zeroizing;

use crate::cable::{Cable, connection, host, scenario};
use crate::charon::{Settings, child};
use crate::keys::same_esp_keys;
use crate::ours::{CHILD, CONNECTION};

fn offering(
    ike: (IkeEncryption, Hash, Group),
    esp: (EspEncryption, EspIntegrity),
    pfs: Option<Group>,
) -> Connection {
    let (encryption, hash, group) = ike;
    let mut connection = connection();
    connection.version = Version::V1(Ikev1::default());
    connection.proposals = vec![IkeProposal {
        encryption: vec![encryption],
        integrity: vec![hash],
        prf: vec![hash],
        groups: vec![group],
        ..setup::modern()
    }];
    for child in &mut connection.children {
        child.proposals = vec![EspProposal {
            encryption: vec![esp.0],
            integrity: vec![esp.1],
            groups: pfs.into_iter().collect(),
            esn: vec![false],
        }];
    }
    connection
}

const UDP: u8 = 17;

/// What routers were set up with for twenty years.
pub(crate) fn classic() -> (Connection, Settings) {
    let ours = offering(
        (IkeEncryption::Aes128Cbc, Hash::Sha1, Group::Modp1024),
        (EspEncryption::Aes128Cbc, EspIntegrity::HmacMd5_96),
        None,
    );
    let theirs =
        Settings { version: 1, ike: "aes128-sha1-modp1024", esp: "aes128-md5", ..Settings::default() };
    (ours, theirs)
}

fn agrees(
    number: u8,
    what: &'static str,
    ours: &Connection,
    theirs: &Settings,
    shown: [&str; 2],
) -> Result<()> {
    let cable = Cable::new()?;
    for role in Role::BOTH {
        scenario(number, what, role).judge(|| {
            let engine = cable.up(role, ours.clone(), theirs)?;
            let sas = cable.charon.swanctl("--list-sas")?;
            ensure!(sas.contains("ESTABLISHED, IKEv1") && sas.contains("TUNNEL-in-UDP"), "{sas}");
            ensure!(shown.iter().all(|shown| sas.contains(shown)), "{shown:?} in {sas}");
            let spis = engine.settles(1)?.children;
            ensure!(spis.iter().all(|spi| sas.contains(&format!("out {spi:08x}"))), "{spis:08x?} in {sas}");
            same_esp_keys(&cable.charon, &engine)?;
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn the_classic_suite() -> Result<()> {
    let (ours, theirs) = classic();
    let shown = ["AES_CBC-128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_1024", "AES_CBC-128/HMAC_MD5_96"];
    agrees(13, "IKEv1, AES-128, SHA-1, group 2; ESP AES-128 with HMAC-MD5", &ours, &theirs, shown)
}

#[test]
fn aes_256_with_group_14_and_forward_secrecy() -> Result<()> {
    let ours = offering(
        (IkeEncryption::Aes256Cbc, Hash::Sha2_256, Group::Modp2048),
        (EspEncryption::Aes256Cbc, EspIntegrity::HmacSha2_256_128),
        Some(Group::Modp2048),
    );
    let (ike, esp) = ("aes256-sha256-modp2048", "aes256-sha256-modp2048");
    let theirs = Settings { version: 1, ike, esp, ..Settings::default() };
    let shown =
        ["AES_CBC-256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048", "AES_CBC-256/HMAC_SHA2_256_128"];
    agrees(14, "IKEv1, AES-256, SHA2-256, group 14, forward secrecy", &ours, &theirs, shown)
}

#[test]
fn triple_des_with_md5() -> Result<()> {
    let ours = offering(
        (IkeEncryption::TripleDesCbc, Hash::Md5, Group::Modp1024),
        (EspEncryption::TripleDesCbc, EspIntegrity::HmacMd5_96),
        None,
    );
    let theirs = Settings { version: 1, ike: "3des-md5-modp1024", esp: "3des-md5", ..Settings::default() };
    let shown = ["3DES_CBC/HMAC_MD5_96/PRF_HMAC_MD5/MODP_1024", "3DES_CBC/HMAC_MD5_96"];
    agrees(14, "IKEv1, 3DES, MD5, group 2", &ours, &theirs, shown)
}

#[test]
fn what_is_not_allowed_is_refused() -> Result<()> {
    let cable = Cable::new()?;
    let (ours, theirs) = classic();
    let settings = Settings { ike: "aes256-sha256-modp2048", ..theirs.clone() };
    scenario(14, "IKEv1, legacy algorithms at one end only", Role::Responder).judge(|| {
        let engine = cable.begin(Role::Responder, ours.clone(), &settings)?;
        let cause = engine.ike_down()?;
        ensure!(
            cause.to_string().contains("the peer has aes-256-cbc/sha2-256/group 14/pre-share"),
            "{cause}"
        );
        cable.charon.logs("received NO_PROPOSAL_CHOSEN")
    })?;
    let strong = offering(
        (IkeEncryption::Aes256Cbc, Hash::Sha2_256, Group::Modp2048),
        (EspEncryption::Aes128Cbc, EspIntegrity::HmacSha2_256_128),
        None,
    );
    let settings = Settings { ike: "3des-md5-modp1024", ..theirs.clone() };
    for role in Role::BOTH {
        scenario(14, "IKEv1, the peer has 3DES, MD5 and group 2 alone, which nobody allowed", role).judge(
            || {
                let before = cable.charon.log()?.len();
                let engine = cable.begin(role, strong.clone(), &settings)?;
                match role {
                    Role::Initiator => cable.charon.logs_after(before, "no proposal found")?,
                    Role::Responder => cable.charon.logs_after(before, "received NO_PROPOSAL_CHOSEN")?,
                }
                let cause = engine.ike_down()?;
                ensure!(matches!(cause, Cause::NoProposalChosen { .. }), "{cause}");
                drop(engine);
                cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
            },
        )?;
    }
    let settings = Settings { esp: "aes256-sha256", ..theirs };
    for role in Role::BOTH {
        scenario(14, "IKEv1, ESP proposals differ", role).judge(|| {
            let engine = cable.begin(role, ours.clone(), &settings)?;
            let cause = engine.child_down()?;
            ensure!(matches!(cause, Cause::NoProposalChosen { .. }), "{cause}");
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn selectors_that_differ_are_refused() -> Result<()> {
    let cable = Cable::new()?;
    let (ours, theirs) = classic();
    let mut of_port_53 = ours.clone();
    for selector in of_port_53.children.iter_mut().flat_map(|child| &mut child.remote_selectors) {
        (selector.protocol, selector.ports) = (UDP, (53, 53));
    }
    for (what, ours, remote, roles) in [
        ("IKEv1, quick-mode identities differ in protocol", &ours, "10.2.0.1/32[udp/53]", &Role::BOTH[..]),
        ("IKEv1, quick-mode identities differ in subnet", &ours, "10.3.0.0/24", &Role::BOTH[..]),
        ("IKEv1, quick-mode identities differ in port", &of_port_53, "10.2.0.1/32[udp/54]", &Role::BOTH[..]),
        ("IKEv1, a superset that no policy accepts", &ours, "10.2.0.0/16", &[Role::Responder]),
    ] {
        for role in roles {
            scenario(15, what, *role).judge(|| {
                let settings =
                    Settings { children: child("net", remote, "10.1.0.1/32", ""), ..theirs.clone() };
                let engine = cable.begin(*role, ours.clone(), &settings)?;
                let cause = engine.child_down()?;
                ensure!(matches!(cause, Cause::TsUnacceptable { .. }), "{cause}");
                ensure!(engine.state().pairs.is_empty(), "a pair was made");
                drop(engine);
                cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
            })?;
        }
    }
    scenario(15, "IKEv1, a superset of the selectors accepted by policy", Role::Responder).judge(|| {
        let children = child("net", "10.2.0.0/16", "10.1.0.0/16", "");
        let settings = Settings { children, ..theirs.clone() };
        let superset = Connection {
            version: Version::V1(Ikev1 { accept_superset: true, ..Ikev1::default() }),
            ..ours.clone()
        };
        let engine = cable.up(Role::Responder, superset, &settings)?;
        let state = engine.state();
        let pair = state.pairs.last().context("no pair")?;
        ensure!(pair.local_selectors == [host("10.1.0.1")], "{:?}", pair.local_selectors);
        ensure!(pair.remote_selectors == [host("10.2.0.1")], "{:?}", pair.remote_selectors);
        Ok(())
    })
}

#[test]
fn a_wrong_key_is_told_apart() -> Result<()> {
    let cable = Cable::new()?;
    let (mut ours, theirs) = classic();
    let key = PreSharedKey(Zeroizing::new(b"not the key that charon has".to_vec()));
    ours.authentication = Authentication::pre_shared_key(key);
    scenario(16, "IKEv1, wrong pre-shared key", Role::Initiator).judge(|| {
        let engine = cable.begin(Role::Initiator, ours.clone(), &theirs)?;
        let cause = engine.ike_down()?;
        ensure!(matches!(&cause, Cause::AuthenticationFailed { side: "the peer refused us", .. }), "{cause}");
        ensure!(engine.state().installed.is_empty());
        Ok(())
    })
}

/// Either end replaces the pair; then charon makes another phase 1, which serves the pair that is there.
#[test]
fn rekeys() -> Result<()> {
    let cable = Cable::new()?;
    let (ours, theirs) = classic();
    for role in Role::BOTH {
        scenario(17, "IKEv1, phase 2 rekeyed by us", role).judge(|| {
            let engine = cable.up(role, ours.clone(), &theirs)?;
            let before = engine.settles(1)?.children;
            engine.command(Command::RekeyChild(CHILD));
            engine.until("a second pair", |state| {
                ensure!(state.pairs.len() == 2);
                Ok(())
            })?;
            ensure!(engine.settles(1)?.children != before);
            same_esp_keys(&cable.charon, &engine)?;
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
        scenario(17, "IKEv1, phase 2 rekeyed by the peer", role).judge(|| {
            let engine = cable.up(role, ours.clone(), &theirs)?;
            let before = engine.settles(1)?.children;
            cable.charon.swanctl("--rekey --child net")?;
            engine.until("a second pair", |state| {
                ensure!(state.pairs.len() == 2);
                Ok(())
            })?;
            ensure!(engine.settles(1)?.children != before);
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
        scenario(17, "IKEv1, phase 1 replaced by us with a living child", role).judge(|| {
            let engine = cable.up(role, ours.clone(), &theirs)?;
            let before = engine.settles(1)?;
            engine.command(Command::RekeyIke(CONNECTION));
            engine.until("another phase 1", |state| {
                let sas = state.engine.isakmp_sas(Instant::now());
                ensure!(
                    sas.iter().any(|sa| sa.state == "established" && sa.spi_i != before.spi_i),
                    "{sas:?}"
                );
                Ok(())
            })?;
            let pairs = engine.state().pairs.len();
            ensure!(pairs == 1, "the child flapped");
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn deletion_and_death() -> Result<()> {
    let cable = Cable::new()?;
    let (mut ours, theirs) = classic();
    scenario(18, "IKEv1, DELETE by the peer", Role::Responder).judge(|| {
        let engine = cable.up(Role::Responder, ours.clone(), &theirs)?;
        cable.charon.swanctl("--terminate --child net")?;
        let cause = engine.child_down()?;
        ensure!(cause == Cause::DeletedByPeer, "{cause}");
        cable.charon.try_swanctl("--terminate --ike far --timeout 2")?;
        let cause = engine.ike_down()?;
        ensure!(cause == Cause::DeletedByPeer, "{cause}");
        Ok(())
    })?;
    scenario(18, "IKEv1, DELETE by us", Role::Initiator).judge(|| {
        let log = cable.charon.log()?.len();
        let engine = cable.up(Role::Initiator, ours.clone(), &theirs)?;
        engine.command(Command::Terminate(CONNECTION));
        cable.charon.logs_after(log, "received DELETE for ESP CHILD_SA")?;
        cable.charon.logs_after(log, "received DELETE for IKE_SA")?;
        let sas = cable.charon.swanctl("--list-sas")?;
        ensure!(!sas.contains("ESTABLISHED"), "{sas}");
        Ok(())
    })?;
    ours.dpd = Some(Dpd { interval: Duration::from_secs(1) });
    for role in Role::BOTH {
        scenario(18, "IKEv1, DPD: alive, then frozen", role).judge(|| {
            let settings = Settings { connection: "dpd_delay = 1s", ..theirs.clone() };
            let log = cable.charon.log()?.len();
            let engine = cable.up(role, ours.clone(), &settings)?;
            cable.charon.logs_after(log, "DPD_ACK")?;
            std::thread::sleep(Duration::from_secs(3));
            engine.settles(1)?;
            cable.charon.freeze(true)?;
            let cause = engine.ike_down();
            cable.charon.freeze(false)?;
            let cause = cause?;
            ensure!(matches!(cause, Cause::PeerDead { .. }), "{cause}");
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn messages_in_fragments() -> Result<()> {
    let cable = Cable::with("fragment_size = 200")?;
    let (ours, theirs) = classic();
    for role in Role::BOTH {
        scenario(30, "IKEv1, Cisco fragmentation", role).judge(|| {
            let settings = Settings { connection: "fragmentation = yes", ..theirs.clone() };
            let log = cable.charon.log()?.len();
            let engine = cable.up(role, ours.clone(), &settings)?;
            cable.charon.logs_after(log, "splitting IKE message")?;
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn aggressive_mode_where_both_were_told_to() -> Result<()> {
    let cable = Cable::with("i_dont_care_about_security_and_use_aggressive_mode_psk = yes")?;
    let (mut ours, theirs) = classic();
    ours.version = Version::V1(Ikev1 { aggressive_mode: true, ..Ikev1::default() });
    for role in Role::BOTH {
        scenario(20, "IKEv1, aggressive mode, allowed by name", role).judge(|| {
            let settings = Settings { connection: "aggressive = yes", ..theirs.clone() };
            let before = cable.charon.log()?.len();
            let engine = cable.up(role, ours.clone(), &settings)?;
            cable.charon.logs_after(before, "Aggressive Mode IKE_SA")?;
            same_esp_keys(&cable.charon, &engine)?;
            engine.command(Command::RekeyChild(crate::ours::CHILD));
            engine.event("the child's rekey", |event| {
                matches!(event, ike::Event::ChildRekeyed { .. }).then_some(())
            })?;
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn aggressive_mode_is_refused() -> Result<()> {
    let cable = Cable::with("i_dont_care_about_security_and_use_aggressive_mode_psk = yes")?;
    let (ours, theirs) = classic();
    scenario(20, "IKEv1, aggressive mode refused", Role::Responder).judge(|| {
        let settings = Settings { connection: "aggressive = yes", ..theirs.clone() };
        let engine = cable.begin(Role::Responder, ours.clone(), &settings)?;
        engine.until("the refusal", |state| {
            ensure!(state.dropped.contains(&"aggressive_mode_refused"), "{:?}", state.dropped);
            ensure!(state.engine.isakmp_sas(Instant::now()).is_empty());
            Ok(())
        })
    })
}
