//! Certificates: what both accept, what we refuse of charon's, and what charon refuses of ours.

use std::fs;

use anyhow::{Context, Result, ensure};
use ike::{
    Authentication, Cause, Connection, Identity, LocalProof, PreSharedKey, RemoteProof, RsaPadding,
    TrustMaterial,
};
use integration::interop::Role;
use rcgen::{KeyPair, RsaKeySize, date_time_ymd};
use zeroize::Zeroizing;

use crate::cable::{Cable, connection, scenario};
use crate::charon::child;
use crate::pki::{Ca, Leaf, Openssl, params, remote};

pub(crate) const OURS: &str = "alpha.example";
pub(crate) const THEIRS: &str = "beta.example";

/// charon's side.
#[derive(Clone)]
pub(crate) struct Theirs<'a> {
    /// Version of IKE, and its proposals of both phases.
    pub(crate) version: u8,
    pub(crate) ike: &'static str,
    pub(crate) esp: &'static str,
    pub(crate) leaf: &'a Leaf,
    /// CAs that vouch for us, and revocation lists.
    pub(crate) authorities: Vec<&'a [u8]>,
    pub(crate) lists: Vec<&'a [u8]>,
    /// How it proves itself, and how we must.
    pub(crate) local: &'static str,
    pub(crate) remote: &'static str,
    pub(crate) id: &'static str,
    pub(crate) far_id: &'static str,
}

impl<'a> Theirs<'a> {
    pub(crate) fn new(leaf: &'a Leaf, authority: &'a Ca) -> Self {
        Self {
            version: 2,
            ike: "aes256gcm16-prfsha256-x25519",
            esp: "aes256gcm16-noesn",
            leaf,
            authorities: vec![&authority.der],
            lists: vec![],
            local: "pubkey",
            remote: "pubkey",
            id: THEIRS,
            far_id: OURS,
        }
    }

    /// Gives charon files and configuration.
    pub(crate) fn configure(&self, cable: &Cable) -> Result<()> {
        let put = |folder: &str, name: &str, bytes: &[u8]| {
            fs::write(cable.dir.join("swanctl").join(folder).join(name), bytes)
        };
        let (own, issuers) = self.leaf.chain.split_first().context("no certificate")?;
        put("x509", "own.der", own)?;
        put("pkcs8", "own.der", &self.leaf.pkcs8)?;
        for (index, authority) in self.authorities.iter().enumerate() {
            put("x509ca", &format!("authority{index}.der"), authority)?;
        }
        for (index, issuer) in issuers.iter().enumerate() {
            put("x509ca", &format!("issuer{index}.der"), issuer)?;
        }
        for (index, list) in self.lists.iter().enumerate() {
            put("x509crl", &format!("list{index}.der"), list)?;
        }
        let Self { version, ike, esp, local, remote, id, far_id, .. } = self;
        let certs = if *local == "psk" { "" } else { "certs = own.der" };
        let children = child("net", "10.2.0.1/32", "10.1.0.1/32", "").replace("@ESP@", esp);
        cable.charon.configure(&format!(
            "connections {{ far {{
               version = {version}
               local_addrs = 192.0.2.2
               remote_addrs = 192.0.2.1
               proposals = {ike}
               encap = yes
               local {{ auth = {local}
                 {certs}
                 id = \"{id}\" }}
               remote {{ auth = {remote}
                 id = \"{far_id}\" }}
               children {{ {children} }}
             }} }}
             secrets {{ ike-far {{ secret = \"correct horse battery staple\" }} }}\n"
        ))
    }
}

pub(crate) fn ours(local: LocalProof, remote: RemoteProof) -> Connection {
    Connection {
        local_identity: Identity::Fqdn(OURS.to_owned()),
        remote_identity: Identity::Fqdn(THEIRS.to_owned()),
        authentication: Authentication { local, remote },
        ..connection()
    }
}

fn shared_key() -> PreSharedKey {
    PreSharedKey(Zeroizing::new(b"correct horse battery staple".to_vec()))
}

/// Both roles come up, and charon's log holds each of `proofs`.
pub(crate) fn agrees(
    what: &'static str,
    connection: &Connection,
    theirs: &Theirs<'_>,
    proofs: &[&str],
) -> Result<()> {
    agree("", what, connection, theirs, proofs)
}

/// The same with more lines in charon's own configuration.
fn agree(
    options: &str,
    what: &'static str,
    connection: &Connection,
    theirs: &Theirs<'_>,
    proofs: &[&str],
) -> Result<()> {
    let cable = Cable::with(options)?;
    theirs.configure(&cable)?;
    let number = if theirs.local == "psk" || theirs.remote == "psk" { 32 } else { 31 };
    for role in Role::BOTH {
        scenario(number, what, role).judge(|| {
            let before = cable.charon.log()?.len();
            let engine = cable.start(role, connection.clone())?;
            engine.settles(1)?;
            for proof in proofs {
                cable.charon.logs_after(before, proof)?;
            }
            let sas = cable.charon.swanctl("--list-sas")?;
            let established = format!("ESTABLISHED, IKEv{}", theirs.version);
            ensure!(sas.contains(&established) && sas.contains("INSTALLED, TUNNEL-in-UDP"), "{sas}");
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

/// charon's certificate is this; we trust `trusted` and refuse it in these words, in both roles.
fn we_refuse(what: &'static str, leaf: &Leaf, trusted: TrustMaterial, words: &str) -> Result<()> {
    let ca = Ca::root("Ours")?;
    let honest = ca.leaf(&params(OURS)?)?;
    let connection = ours(honest.local(RsaPadding::Pss)?, remote(trusted)?);
    let cable = Cable::new()?;
    Theirs::new(leaf, &ca).configure(&cable)?;
    for role in Role::BOTH {
        scenario(31, what, role).judge(|| {
            let before = cable.charon.log()?.len();
            let engine = cable.start(role, connection.clone())?;
            let cause = engine.ike_down()?;
            let ours = matches!(&cause, Cause::AuthenticationFailed { side: "we refused the peer", detail } if detail.contains(words));
            ensure!(ours, "{cause}");
            ensure!(engine.state().pairs.is_empty(), "something was installed");
            cable.charon.logs_after(before, "AUTH_FAILED")
        })?;
    }
    Ok(())
}

/// Our certificate is this; charon trusts `ca`, has these lists, and its log says why it refuses.
fn charon_refuses(what: &'static str, leaf: &Leaf, ca: &Ca, lists: &[&[u8]], logged: &str) -> Result<()> {
    let own = Ca::root("Theirs")?;
    let honest = own.leaf(&params(THEIRS)?)?;
    let connection = ours(leaf.local(RsaPadding::Pss)?, remote(own.trust())?);
    let cable = Cable::new()?;
    let theirs = Theirs { lists: lists.to_vec(), ..Theirs::new(&honest, ca) };
    theirs.configure(&cable)?;
    for role in Role::BOTH {
        scenario(31, what, role).judge(|| {
            let before = cable.charon.log()?.len();
            let engine = cable.start(role, connection.clone())?;
            cable.charon.logs_after(before, logged)?;
            if role == Role::Initiator {
                let cause = engine.ike_down()?;
                let theirs = matches!(cause, Cause::AuthenticationFailed { side: "the peer refused us", .. });
                ensure!(theirs, "{cause}");
            }
            let sas = cable.charon.swanctl("--list-sas")?;
            ensure!(!sas.contains("ESTABLISHED"), "{sas}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Both ends have such keys below one root.
fn signs(
    what: &'static str,
    key: impl Fn() -> Result<KeyPair>,
    padding: RsaPadding,
    local: &'static str,
    proofs: &[&str],
) -> Result<()> {
    let ca = Ca::root("Root")?;
    let own = ca.certify(&params(OURS)?, &key()?)?;
    let far = ca.certify(&params(THEIRS)?, &key()?)?;
    let connection = ours(own.local(padding)?, remote(ca.trust())?);
    agrees(what, &connection, &Theirs { local, ..Theirs::new(&far, &ca) }, proofs)
}

fn rsa(size: RsaKeySize) -> impl Fn() -> Result<KeyPair> {
    move || Ok(KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size)?)
}

#[test]
fn rsa_2048_signs_by_pkcs1() -> Result<()> {
    let proofs = [
        "'alpha.example' with RSA_EMSA_PKCS1_SHA2_256 successful",
        "'beta.example' (myself) with RSA_EMSA_PKCS1",
    ];
    signs("RSA-2048, PKCS#1 v1.5", rsa(RsaKeySize::_2048), RsaPadding::Pkcs1, "pubkey", &proofs)
}

#[test]
fn rsa_2048_signs_by_pss() -> Result<()> {
    let proofs = [
        "'alpha.example' with RSA_EMSA_PSS_SHA2_256_SALT_32 successful",
        "'beta.example' (myself) with RSA_EMSA_PSS_SHA2_256",
    ];
    signs("RSA-2048, PSS", rsa(RsaKeySize::_2048), RsaPadding::Pss, "rsa/pss-sha256", &proofs)
}

#[test]
fn rsa_4096_signs_by_pss_with_sha2_512() -> Result<()> {
    let proofs = [
        "'alpha.example' with RSA_EMSA_PSS_SHA2_256_SALT_32 successful",
        "'beta.example' (myself) with RSA_EMSA_PSS_SHA2_512",
    ];
    signs(
        "RSA-4096, PSS, theirs with SHA2-512",
        rsa(RsaKeySize::_4096),
        RsaPadding::Pss,
        "rsa/pss-sha512",
        &proofs,
    )
}

#[test]
fn ecdsa_p256_signs() -> Result<()> {
    let key = || Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?);
    let proofs = [
        "'alpha.example' with ECDSA_WITH_SHA256_DER successful",
        "'beta.example' (myself) with ECDSA_WITH_SHA256_DER",
    ];
    signs("ECDSA P-256", key, RsaPadding::Pss, "pubkey", &proofs)
}

#[test]
fn ecdsa_p384_signs() -> Result<()> {
    let key = || Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?);
    let proofs = [
        "'alpha.example' with ECDSA_WITH_SHA384_DER successful",
        "'beta.example' (myself) with ECDSA_WITH_SHA384_DER",
    ];
    signs("ECDSA P-384", key, RsaPadding::Pss, "pubkey", &proofs)
}

#[test]
fn ed25519_signs() -> Result<()> {
    let key = || Ok(KeyPair::generate_for(&rcgen::PKCS_ED25519)?);
    let proofs =
        ["'alpha.example' with ED25519 successful", "'beta.example' (myself) with ED25519 successful"];
    signs("Ed25519", key, RsaPadding::Pss, "pubkey", &proofs)
}

#[test]
fn a_peer_without_rfc_7427_gets_ecdsa_by_rfc_4754_and_no_rsa() -> Result<()> {
    const OPTION: &str = "signature_authentication = no";
    let ca = Ca::root("Root")?;
    let far = ca.leaf(&params(THEIRS)?)?;
    for (key, what, proof) in [
        (
            &rcgen::PKCS_ECDSA_P256_SHA256,
            "ECDSA P-256, the peer without RFC 7427",
            "'alpha.example' with ECDSA-256",
        ),
        (
            &rcgen::PKCS_ECDSA_P384_SHA384,
            "ECDSA P-384, the peer without RFC 7427",
            "'alpha.example' with ECDSA-384",
        ),
    ] {
        let own = ca.certify(&params(OURS)?, &KeyPair::generate_for(key)?)?;
        let connection = ours(own.local(RsaPadding::Pss)?, remote(ca.trust())?);
        let proofs = [proof, "'beta.example' (myself) with ECDSA-256"];
        agree(OPTION, what, &connection, &Theirs::new(&far, &ca), &proofs)?;
    }
    let own = ca.certify(&params(OURS)?, &rsa(RsaKeySize::_2048)()?)?;
    let connection = ours(own.local(RsaPadding::Pkcs1)?, remote(ca.trust())?);
    let cable = Cable::with(OPTION)?;
    Theirs::new(&far, &ca).configure(&cable)?;
    for role in Role::BOTH {
        scenario(31, "RSA, the peer without RFC 7427: no SHA-1 signature is made", role).judge(|| {
            let engine = cable.start(role, connection.clone())?;
            let cause = engine.ike_down()?.to_string();
            ensure!(cause.contains("does not verify signatures by RFC 7427"), "{cause}");
            ensure!(engine.state().pairs.is_empty(), "something was installed");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_chain_of_three_is_sent_and_followed() -> Result<()> {
    let root = Ca::root("Root")?;
    let regional = root.below("Regional", |_| {})?;
    let issuing = regional.below("Issuing", |_| {})?;
    let below = |name| {
        Ok::<_, anyhow::Error>(issuing.leaf(&params(name)?)?.with_issuer(&issuing).with_issuer(&regional))
    };
    let (own, far) = (below(OURS)?, below(THEIRS)?);
    let connection = ours(own.local(RsaPadding::Pss)?, remote(root.trust())?);
    let proofs = [
        "received issuer cert \"C=CH, O=Culvert test, CN=Regional\"",
        "reached self-signed root ca with a path length of 2",
    ];
    agrees("a chain of three; CERTREQ for the root", &connection, &Theirs::new(&far, &root), &proofs)
}

#[test]
fn one_end_signs_and_the_other_has_a_key() -> Result<()> {
    let ca = Ca::root("Root")?;
    let (own, far) = (ca.leaf(&params(OURS)?)?, ca.leaf(&params(THEIRS)?)?);
    let signing = ours(own.local(RsaPadding::Pss)?, RemoteProof::PreSharedKey(shared_key()));
    let keyed = Theirs { local: "psk", ..Theirs::new(&far, &ca) };
    let proofs = [
        "'alpha.example' with ECDSA_WITH_SHA256_DER successful",
        "'beta.example' (myself) with pre-shared key",
    ];
    agrees("we by certificate, the peer by pre-shared key", &signing, &keyed, &proofs)?;
    let keyed = ours(LocalProof::PreSharedKey(shared_key()), remote(ca.trust())?);
    let signing = Theirs { remote: "psk", ..Theirs::new(&far, &ca) };
    let proofs = [
        "'alpha.example' with pre-shared key successful",
        "'beta.example' (myself) with ECDSA_WITH_SHA256_DER",
    ];
    agrees("we by pre-shared key, the peer by certificate", &keyed, &signing, &proofs)
}

#[test]
fn identities_may_be_distinguished_names() -> Result<()> {
    let ca = Ca::root("Root")?;
    let (own, far) = (ca.leaf(&params(OURS)?)?, ca.leaf(&params(THEIRS)?)?);
    let subject = |leaf: &Leaf| -> Result<Vec<u8>> {
        let LocalProof::Certificate(certificate) = leaf.local(RsaPadding::Pss)? else {
            anyhow::bail!("no certificate")
        };
        Ok(certificate.subject().to_vec())
    };
    // charon makes PrintableStrings of its configuration, rcgen UTF8Strings.
    let mut connection = ours(own.local(RsaPadding::Pss)?, remote(ca.trust())?);
    connection.local_identity = Identity::DistinguishedName(subject(&own)?);
    connection.remote_identity = Identity::DistinguishedName(subject(&far)?);
    let theirs = Theirs {
        id: "C=CH, O=Culvert test, CN=beta.example",
        far_id: "C=CH, O=Culvert test, CN=alpha.example",
        ..Theirs::new(&far, &ca)
    };
    agrees(
        "identities are distinguished names",
        &connection,
        &theirs,
        &["'C=CH, O=Culvert test, CN=alpha.example' with ECDSA"],
    )
}

#[test]
fn certificates_out_of_their_time() -> Result<()> {
    let ca = Ca::root("Root")?;
    let mut expired = params(THEIRS)?;
    expired.not_after = date_time_ymd(2021, 1, 1);
    we_refuse(
        "the peer's certificate has expired",
        &ca.leaf(&expired)?,
        ca.trust(),
        "CN=beta.example expired on 2021-01-01",
    )?;
    let mut early = params(THEIRS)?;
    early.not_before = date_time_ymd(2059, 1, 1);
    we_refuse(
        "the peer's certificate is not valid yet",
        &ca.leaf(&early)?,
        ca.trust(),
        "CN=beta.example is not valid before 2059-01-01",
    )?;
    let mut expired = params(OURS)?;
    expired.not_after = date_time_ymd(2021, 1, 1);
    charon_refuses(
        "our certificate has expired",
        &ca.leaf(&expired)?,
        &ca,
        &[],
        "certificate invalid (valid from",
    )
}

#[test]
fn revoked_certificates() -> Result<()> {
    let ca = Ca::root("Root")?;
    let list = ca.revokes(77)?;
    let leaf = |name| {
        let mut params = params(name)?;
        params.serial_number = Some(77u64.into());
        ca.leaf(&params)
    };
    let trusted = TrustMaterial { revocation_lists: vec![list.clone()], ..ca.trust() };
    we_refuse("the peer's certificate is revoked", &leaf(THEIRS)?, trusted, "CN=beta.example is revoked")?;
    charon_refuses("our certificate is revoked", &leaf(OURS)?, &ca, &[&list], "certificate was revoked on")
}

#[test]
fn certificates_of_another_authority() -> Result<()> {
    let (known, unknown) = (Ca::root("Known")?, Ca::root("Unknown")?);
    we_refuse(
        "the peer's CA is not trusted",
        &unknown.leaf(&params(THEIRS)?)?,
        known.trust(),
        "its issuer is C=CH, O=Culvert test, CN=Unknown, trusted are C=CH, O=Culvert test, CN=Known",
    )?;
    charon_refuses(
        "our CA is not trusted",
        &unknown.leaf(&params(OURS)?)?,
        &known,
        &[],
        "no issuer certificate found for \"C=CH, O=Culvert test, CN=alpha.example\"",
    )
}

#[test]
fn names_that_an_authority_may_not_vouch_for() -> Result<()> {
    let root = Ca::root("Root")?;
    let narrow = root.below("Narrow", |params| {
        params.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("example.org".to_owned())],
            excluded_subtrees: vec![],
        });
    })?;
    let leaf = |name| Ok::<_, anyhow::Error>(narrow.leaf(&params(name)?)?.with_issuer(&narrow));
    we_refuse(
        "name constraints of the peer's CA",
        &leaf(THEIRS)?,
        root.trust(),
        "the name constraints of its CA do not permit",
    )?;
    charon_refuses(
        "name constraints of our CA",
        &leaf(OURS)?,
        &root,
        &[],
        "does not match permitted name constraint 'example.org'",
    )
}

#[test]
fn identities_that_are_not_in_the_certificate() -> Result<()> {
    let ca = Ca::root("Root")?;
    // charon falls back on the subject when its certificate does not name its identity.
    we_refuse(
        "the peer's identity is not in its certificate",
        &ca.leaf(&params("gamma.example")?)?,
        ca.trust(),
        "CN=gamma.example",
    )?;
    charon_refuses(
        "our identity is not in our certificate",
        &ca.leaf(&params("gamma.example")?)?,
        &ca,
        &[],
        "no trusted ECDSA public key found for 'alpha.example'",
    )
}

#[test]
fn a_certificate_of_a_ca_is_no_peers() -> Result<()> {
    let ca = Ca::root("Root")?;
    let mut is_ca = params(THEIRS)?;
    is_ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    we_refuse(
        "the peer's certificate is that of a CA",
        &ca.leaf(&is_ca)?,
        ca.trust(),
        "CN=beta.example is that of a CA",
    )
}

#[test]
fn chains_that_are_signed_by_sha1() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (root, leaf) = Openssl { digest: "-sha1", key: "genrsa 2048" }.make(dir.path(), THEIRS)?;
    let trusted = TrustMaterial { anchors: vec![root], ..TrustMaterial::default() };
    we_refuse("the peer's chain is signed with SHA-1", &leaf, trusted, "SHA-1 is refused")
}

#[test]
fn rsa_keys_with_exponent_three() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (root, leaf) = Openssl { digest: "-sha256", key: "genrsa -3 2048" }.make(dir.path(), THEIRS)?;
    let trusted = TrustMaterial { anchors: vec![root], ..TrustMaterial::default() };
    we_refuse("the peer's RSA key has exponent 3", &leaf, trusted, "exponent is below 65537")
}
