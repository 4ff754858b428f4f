//! How the ends prove who they are, told by the API and judged by strongSwan, with GRE on what they agree upon:
//! certificates in both versions of IKE, and a post-quantum pre-shared key beside the other one.

use anyhow::{Context, Result, bail, ensure};
use integration::checks::ping;
use integration::configuration::{CRYPTO_MAP, TRANSFORM_SET_OF_MAP, aes_128_gcm, crypto_map, version_1};
use integration::foreign::{Certified, Mode, Settings};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{KEY, Mapped, PATIENCE};
use integration::wait;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, RsaKeySize,
    date_time_ymd,
};
use serde_json::{Value, json};

const OURS: &str = "alpha.example";
const THEIRS: &str = "gamma.example";

/// An authority and the certificates of both ends, in PEM.
struct Pki {
    authority: String,
    /// Certificate and private key: ours, theirs.
    leaves: [(String, String); 2],
}

impl Pki {
    fn new(key: impl Fn() -> Result<KeyPair>) -> Result<Self> {
        let params = |name: &str| -> Result<CertificateParams> {
            let mut params = CertificateParams::new(vec![name.to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, name);
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2060, 1, 1));
            Ok(params)
        };
        let (root_key, mut root) = (KeyPair::generate()?, params("Root")?);
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = root.self_signed(&root_key)?.pem();
        let issuer = Issuer::from_params(&root, &root_key);
        let leaf = |name| -> Result<(String, String)> {
            let key = key()?;
            Ok((params(name)?.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
        };
        Ok(Self { leaves: [leaf(OURS)?, leaf(THEIRS)?], authority })
    }

    fn theirs(&self) -> Certified {
        let [_, (certificate, private_key)] = self.leaves.clone();
        let (own_id, far_id) = (THEIRS.to_owned(), OURS.to_owned());
        Certified { own_id, far_id, certificate, private_key, authority: self.authority.clone() }
    }
}

/// GRE passes, whoever began.
fn both_roles(mapped: &Mapped, number: u8, what: &'static str, map: &Value, shown: &[&str]) -> Result<()> {
    let scenario = |role| Scenario { number, what, peer: "strongSwan", role };
    scenario(Role::Responder).judge(|| {
        mapped.lab.may_begin(ALPHA, false)?;
        mapped.alpha.api.put(CRYPTO_MAP, map)?;
        wait::until("gamma's negotiation", PATIENCE, || mapped.gamma.gateway.begin())?;
        passes(mapped, shown)
    })?;
    scenario(Role::Initiator).judge(|| {
        mapped.gamma.gateway.end()?;
        mapped.lab.may_begin(ALPHA, true)?;
        passes(mapped, shown)
    })
}

fn passes(mapped: &Mapped, shown: &[&str]) -> Result<()> {
    mapped.passes(PATIENCE)?;
    for address in GAMMA.host() {
        let pings = ping(mapped.lab.host(ALPHA)?, &address, 20)?;
        ensure!(pings.all_answered(), "{address}: {pings:?}");
    }
    let theirs = mapped.gamma.gateway.run("swanctl --list-sas; ip xfrm state; cat /peer/charon.log")?;
    for expected in shown {
        ensure!(theirs.contains(expected), "no {expected} in:\n{theirs}");
    }
    Ok(())
}

/// Certificates over the API, for gamma's side as `settings` say; `more` of the policy.
fn certified(settings: Settings, pki: &Pki, policy: &Value) -> Result<(Mapped, Value)> {
    let mapped = Mapped::bare(Settings { certified: Some(pki.theirs()), ..settings })?;
    mapped.configure(Mode::Transport)?;
    let api = &mapped.alpha.api;
    let [(certificate, private_key), _] = &pki.leaves;
    let identity = json!({"usage": "identity", "certificate": certificate, "private_key": private_key});
    api.put("/v1/certificates/alpha", &identity)?;
    api.put("/v1/certificates/root", &json!({"usage": "authority", "certificate": pki.authority}))?;
    api.put("/v1/isakmp-policies/signed", policy)?;
    // Not by this: it would serve as well if anyone took it.
    api.delete(&format!("/v1/pre-shared-keys/{}", GAMMA.name))?;
    let map = crypto_map(
        GAMMA,
        &json!({
            "certificate": "alpha", "trusted_certificates": ["root"], "isakmp_policies": ["signed"],
            "local_identity": OURS, "remote_identity": THEIRS,
        }),
    );
    Ok((mapped, map))
}

#[test]
fn certificates_carry_gre_by_ikev2() -> Result<()> {
    let pki = Pki::new(|| Ok(KeyPair::generate()?))?;
    let policy = json!({
        "priority": 20, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31],
        "authentication": "signature",
    });
    let (mapped, map) = certified(Settings::new(GAMMA, ALPHA, KEY), &pki, &policy)?;
    let shown = ["IKEv2", "'alpha.example' with ECDSA_WITH_SHA256_DER successful", "mode transport"];
    both_roles(&mapped, 31, "ECDSA P-256 certificates; GRE", &map, &shown)?;

    let certificate = mapped.alpha.api.get("/v1/certificates/alpha")?;
    ensure!(
        certificate.get("private_key").is_none() && certificate["fingerprint"].is_string(),
        "{certificate}"
    );
    Ok(())
}

#[test]
fn certificates_carry_gre_by_ikev1() -> Result<()> {
    let pki = Pki::new(|| Ok(KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?))?;
    let mut policy = version_1();
    policy["authentication"] = json!("signature");
    let settings = Settings { version: 1, ike: "aes256-sha256-modp2048", ..Settings::new(GAMMA, ALPHA, KEY) };
    let (mapped, map) = certified(settings, &pki, &policy)?;
    let shown = ["IKEv1", "'alpha.example' with RSA_EMSA_PKCS1_NULL successful", "mode transport"];
    both_roles(&mapped, 31, "IKEv1, RSA-2048 certificates; GRE", &map, &shown)?;

    // Whoever is asked for extended sequence numbers has them; we ask for ordinary ones (RFC 4304).
    let esn = || -> Result<bool> { Ok(mapped.gamma.gateway.run("ip xfrm state")?.contains("flag esn")) };
    ensure!(!esn()?, "we began");
    mapped.gamma.gateway.run("swanctl --initiate --child gre --timeout 20")?;
    wait::until("gamma's SAs", PATIENCE, || {
        if esn()? { Ok(()) } else { bail!("no extended sequence numbers") }
    })?;
    passes(&mapped, &shown)
}

#[test]
fn a_ppk_carries_gre_and_a_wrong_one_does_not() -> Result<()> {
    const PPK: &str = "hex:5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";
    let settings = Settings {
        connection: "ppk_id = grove\n ppk_required = yes",
        secrets: "ppk-lab { id = grove\n secret = 0x5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a }",
        ..Settings::new(GAMMA, ALPHA, KEY)
    };
    let mapped = Mapped::bare(settings)?;
    let api = &mapped.alpha.api;
    api.put("/v1/ppks/grove", &json!({"ppk_id": "grove", "key": PPK}))?;
    api.put(TRANSFORM_SET_OF_MAP, &aes_128_gcm(Mode::Transport))?;
    mapped.configure(Mode::Transport)?;
    let map = crypto_map(GAMMA, &json!({"ppk": "grove", "ppk_required": true}));
    let shown = ["using PPK for PPK_ID 'grove'", "mode transport"];
    both_roles(&mapped, 33, "PPK (RFC 8784) over the API, required by both; GRE", &map, &shown)?;

    // Another key under the same name: neither end can say more than that the proof is wrong.
    api.put("/v1/ppks/grove", &json!({"ppk_id": "grove", "key": PPK.replace("5a", "5b")}))?;
    wait::until("the tunnel to go down", PATIENCE, || {
        let sas = api.items("/v1/isakmp-sas")?;
        if sas.iter().any(|sa| sa["state"] == "established") {
            bail!("{sas:?}")
        }
        let state = api.get(&format!("/v1/tunnels/to-{}/state", GAMMA.name))?;
        let told = state.to_string();
        ensure!(told.contains("key or an identity does not match"), "{told}");
        Ok(())
    })?;
    let pings = ping(mapped.lab.host(ALPHA)?, GAMMA.host().first().context("an address")?, 3)?;
    ensure!(pings.received == 0, "{pings:?}");
    Ok(())
}
