//! Certificates in IKEv1: main mode with signatures of each kind of key, and what either end refuses.

use anyhow::{Result, ensure};
use ike::sim::setup;
use ike::{
    Authentication, Cause, Connection, EspEncryption, EspIntegrity, EspProposal, Group, Hash, Identity,
    IkeEncryption, IkeProposal, Ikev1, RsaPadding, Version,
};
use integration::interop::Role;
use rcgen::{KeyPair, RsaKeySize};

use crate::cable::{Cable, connection, scenario};
use crate::certificates::{OURS, THEIRS, Theirs, agrees};
use crate::pki::{Ca, Leaf, params, remote};

fn ours(own: &Leaf, authority: &Ca, hash: Hash) -> Result<Connection> {
    let mut ours = Connection {
        version: Version::V1(Ikev1::default()),
        local_identity: Identity::Fqdn(OURS.to_owned()),
        remote_identity: Identity::Fqdn(THEIRS.to_owned()),
        authentication: Authentication {
            local: own.local(RsaPadding::Pss)?,
            remote: remote(authority.trust())?,
        },
        proposals: vec![IkeProposal {
            encryption: vec![IkeEncryption::Aes256Cbc],
            integrity: vec![hash],
            prf: vec![hash],
            groups: vec![Group::Modp2048],
            ..setup::modern()
        }],
        ..connection()
    };
    for child in &mut ours.children {
        child.proposals = vec![EspProposal {
            encryption: vec![EspEncryption::Aes256Cbc],
            integrity: vec![EspIntegrity::HmacSha2_256_128],
            groups: vec![],
            esn: vec![false],
        }];
    }
    Ok(ours)
}

fn theirs<'a>(leaf: &'a Leaf, authority: &'a Ca, ike: &'static str) -> Theirs<'a> {
    let mut theirs = Theirs::new(leaf, authority);
    (theirs.version, theirs.ike, theirs.esp) = (1, ike, "aes256-sha256");
    theirs
}

/// Both ends have such keys, below one root.
fn signs(
    what: &'static str,
    key: impl Fn() -> Result<KeyPair>,
    hash: (Hash, &'static str),
    proofs: [&str; 2],
) -> Result<()> {
    let root = Ca::root("Root")?;
    let own = root.certify(&params(OURS)?, &key()?)?;
    let far = root.certify(&params(THEIRS)?, &key()?)?;
    agrees(what, &ours(&own, &root, hash.0)?, &theirs(&far, &root, hash.1), &proofs)
}

fn rsa() -> Result<KeyPair> {
    Ok(KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?)
}

#[test]
fn rsa_signs_a_hash_of_sha1() -> Result<()> {
    let hash = (Hash::Sha1, "aes256-sha1-modp2048");
    let proofs = ["'alpha.example' with RSA_EMSA_PKCS1_NULL", "'beta.example' (myself) successful"];
    signs("IKEv1, RSA-2048, SHA-1", rsa, hash, proofs)
}

#[test]
fn rsa_signs_a_hash_of_sha2_256() -> Result<()> {
    let hash = (Hash::Sha2_256, "aes256-sha256-modp2048");
    let proofs = ["'alpha.example' with RSA_EMSA_PKCS1_NULL", "'beta.example' (myself) successful"];
    signs("IKEv1, RSA-2048, SHA2-256", rsa, hash, proofs)
}

/// The hash of the proof is the curve's own, whatever was negotiated.
#[test]
fn ecdsa_p256_signs_under_sha1() -> Result<()> {
    let key = || Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?);
    let hash = (Hash::Sha1, "aes256-sha1-modp2048");
    let proofs = ["'alpha.example' with ECDSA_WITH_NULL", "'beta.example' (myself) successful"];
    signs("IKEv1, ECDSA P-256, SHA-1 negotiated", key, hash, proofs)
}

#[test]
fn ecdsa_p384_signs() -> Result<()> {
    let key = || Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?);
    let hash = (Hash::Sha2_256, "aes256-sha256-modp2048");
    let proofs = ["'alpha.example' with ECDSA_WITH_NULL", "'beta.example' (myself) successful"];
    signs("IKEv1, ECDSA P-384, SHA2-256 negotiated", key, hash, proofs)
}

#[test]
fn we_refuse_a_certificate_of_another_root() -> Result<()> {
    let (root, stranger) = (Ca::root("Root")?, Ca::root("Stranger")?);
    let own = root.certify(&params(OURS)?, &rsa()?)?;
    let far = stranger.certify(&params(THEIRS)?, &rsa()?)?;
    let what = "IKEv1, RSA-2048, their certificate of another root";
    let cable = Cable::new()?;
    theirs(&far, &root, "aes256-sha256-modp2048").configure(&cable)?;
    for role in Role::BOTH {
        scenario(31, what, role).judge(|| {
            let engine = cable.start(role, ours(&own, &root, Hash::Sha2_256)?)?;
            let cause = engine.ike_down()?;
            let refused = matches!(&cause, Cause::AuthenticationFailed { side: "we refused the peer", detail } if detail.contains("Stranger"));
            ensure!(refused, "{cause}");
            ensure!(engine.state().pairs.is_empty(), "something was installed");
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn charon_refuses_a_certificate_of_another_root() -> Result<()> {
    let (root, stranger) = (Ca::root("Root")?, Ca::root("Stranger")?);
    let what = "IKEv1, RSA-2048, our certificate of another root";
    let own = stranger.certify(&params(OURS)?, &rsa()?)?;
    let far = root.certify(&params(THEIRS)?, &rsa()?)?;
    let cable = Cable::new()?;
    theirs(&far, &root, "aes256-sha256-modp2048").configure(&cable)?;
    for role in Role::BOTH {
        scenario(31, what, role).judge(|| {
            let before = cable.charon.log()?.len();
            let engine = cable.start(role, ours(&own, &root, Hash::Sha2_256)?)?;
            cable.charon.logs_after(before, "no issuer certificate found for")?;
            ensure!(engine.state().pairs.is_empty(), "something was installed");
            Ok(())
        })?;
    }
    Ok(())
}
