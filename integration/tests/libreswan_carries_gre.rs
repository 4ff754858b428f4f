//! GRE on what is agreed with libreswan, while either side rekeys, and where both prove themselves by certificates.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use integration::checks::ping;
use integration::configuration::aes_128_gcm;
use integration::foreign::{Certified, Mode, Settings, libreswan};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{KEY, Mapped, PATIENCE};
use integration::{sa, wait};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, RsaKeySize,
    date_time_ymd,
};
use serde_json::{Value, json};

fn scenario(number: u8, what: &'static str, role: Role) -> Scenario {
    Scenario { number, what, peer: libreswan::DAEMON.name, role }
}

/// SPIs that we send ESP with.
fn outbound(mapped: &Mapped) -> Result<BTreeSet<u32>> {
    Ok(sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true))
}

/// The initiator's SPIs of the IKE SAs that are up.
fn ike_sas(mapped: &Mapped) -> Result<BTreeSet<String>> {
    let sas = mapped.alpha.api.items("/v1/isakmp-sas")?;
    let up = sas.iter().filter(|sa| sa["state"] == "established");
    Ok(up.filter_map(|sa| sa["spi_initiator"].as_str().map(str::to_owned)).collect())
}

/// What a responder may lose: it sends on the new SA at once, and overtakes the answer that we make ours of.
const OVERTAKEN: u64 = 3;

/// While `begin` has its effect, which `done` tells, no more packets are lost than that.
fn losing(
    mapped: &Mapped,
    most: u64,
    seconds: u16,
    begin: impl Fn() -> Result<()>,
    done: impl Fn() -> Result<()>,
) -> Result<()> {
    let traffic = mapped.pinging(seconds)?;
    begin()?;
    wait::until("the rekey", PATIENCE, done)
        .with_context(|| mapped.gamma.gateway.log().unwrap_or_default())?;
    traffic.still_running()?;
    let pings = traffic.finish()?;
    ensure!(
        pings.sent > 0 && pings.lost() <= most,
        "{pings:?}; {}",
        mapped.gamma.gateway.log().unwrap_or_default()
    );
    Ok(())
}

/// New ESP SAs and no others, in place of these.
fn esp_is_new(mapped: &Mapped, old: &BTreeSet<u32>) -> Result<()> {
    let new = outbound(mapped)?;
    ensure!(!new.is_empty() && new.is_disjoint(old), "{new:08x?}");
    Ok(())
}

fn ike_is_new(mapped: &Mapped, old: &BTreeSet<String>) -> Result<()> {
    let new = ike_sas(mapped)?;
    ensure!(new.difference(old).count() == 1, "{new:?}");
    Ok(())
}

fn passes(mapped: &Mapped) -> Result<()> {
    mapped.passes(PATIENCE).with_context(|| mapped.gamma.gateway.log().unwrap_or_default())?;
    for address in GAMMA.host() {
        let pings = ping(mapped.lab.host(ALPHA)?, &address, 20)?;
        ensure!(pings.all_answered(), "{address}: {pings:?}");
    }
    Ok(())
}

#[test]
fn through_rekeys() -> Result<()> {
    let settings = Settings::speaking(&libreswan::DAEMON, GAMMA, ALPHA, KEY);
    let mapped = Mapped::bare(settings)?;
    mapped.configure_with(&aes_128_gcm(Mode::Transport))?;
    passes(&mapped)?;
    let whack = |order: &str| {
        mapped.gamma.gateway.run(&format!("ipsec whack {order} --name gre --asynchronous")).map(drop)
    };
    scenario(22, "IKE SA rekeyed by the peer; GRE", Role::Responder).judge(|| {
        let (old, esp) = (ike_sas(&mapped)?, outbound(&mapped)?);
        losing(&mapped, 0, 8, || whack("--rekey-ike"), || ike_is_new(&mapped, &old))?;
        ensure!(outbound(&mapped)? == esp, "the child changed too");
        passes(&mapped)
    })?;
    scenario(21, "child rekeyed by the peer; GRE", Role::Responder).judge(|| {
        let old = outbound(&mapped)?;
        losing(&mapped, 0, 8, || whack("--rekey-ipsec"), || esp_is_new(&mapped, &old))?;
        passes(&mapped)
    })?;
    scenario(21, "child rekeyed by us; GRE", Role::Initiator).judge(|| {
        let old = outbound(&mapped)?;
        let ask = || mapped.alpha.api.post("/v1/crypto-maps/outside/rekey").map(drop);
        losing(&mapped, OVERTAKEN, 8, ask, || esp_is_new(&mapped, &old))?;
        passes(&mapped)
    })
}

/// The crypto map with these fields in its entry too.
fn entry(more: &Value) -> Value {
    let mut entry = json!({
        "sequence": 10, "access_list": "to-peer", "transform_sets": ["to-peer"], "peer": GAMMA.black(),
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        entry[field] = value.clone();
    }
    json!({"entries": [entry]})
}

/// An authority, and certificate and key of both ends: ours, theirs.
fn pki(names: [&str; 2]) -> Result<(String, [(String, String); 2])> {
    let rsa = || KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048);
    let params = |name: &str| -> Result<CertificateParams> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        Ok(params)
    };
    let (root_key, mut root) = (rsa()?, params("Root")?);
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = root.self_signed(&root_key)?.pem();
    let issuer = Issuer::from_params(&root, &root_key);
    let leaf = |name| -> Result<(String, String)> {
        let key = rsa()?;
        Ok((params(name)?.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    };
    Ok((authority, [leaf(names[0])?, leaf(names[1])?]))
}

#[test]
fn on_certificates() -> Result<()> {
    const OURS: &str = "alpha.example";
    const THEIRS: &str = "gamma.example";
    let (authority, [(certificate, private_key), theirs]) = pki([OURS, THEIRS])?;
    let certified = Certified {
        own_id: THEIRS.to_owned(),
        far_id: OURS.to_owned(),
        certificate: theirs.0,
        private_key: theirs.1,
        authority: authority.clone(),
    };
    let settings =
        Settings { certified: Some(certified), ..Settings::speaking(&libreswan::DAEMON, GAMMA, ALPHA, KEY) };
    let mapped = Mapped::bare(settings)?;
    mapped.configure_with(&aes_128_gcm(Mode::Transport))?;
    let api = &mapped.alpha.api;
    let identity = json!({"usage": "identity", "certificate": certificate, "private_key": private_key});
    api.put("/v1/certificates/alpha", &identity)?;
    api.put("/v1/certificates/root", &json!({"usage": "authority", "certificate": authority}))?;
    let policy = json!({
        "priority": 20, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31],
        "authentication": "signature",
    });
    api.put("/v1/isakmp-policies/signed", &policy)?;
    api.delete(&format!("/v1/pre-shared-keys/{}", GAMMA.name))?;
    let map = entry(&json!({
        "certificate": "alpha", "trusted_certificates": ["root"], "isakmp_policies": ["signed"],
        "local_identity": OURS, "remote_identity": THEIRS,
    }));
    let what = "RSA-2048 certificates, RFC 7427; GRE";
    for role in [Role::Responder, Role::Initiator] {
        scenario(31, what, role).judge(|| {
            mapped.lab.may_begin(ALPHA, role == Role::Initiator)?;
            if role == Role::Responder {
                api.put("/v1/crypto-maps/outside", &map)?;
                mapped.gamma.gateway.begin()?;
            } else {
                mapped.gamma.gateway.end()?;
            }
            passes(&mapped)?;
            let log = mapped.gamma.gateway.log()?;
            ensure!(log.contains("alpha.example"), "{log}");
            Ok(())
        })?;
    }
    Ok(())
}
