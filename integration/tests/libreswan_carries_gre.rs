//! GRE on what is agreed with libreswan, while either side rekeys, and where both prove themselves by certificates.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use integration::checks::ping;
use integration::configuration::{CRYPTO_MAP, VERSION_1, aes_128_gcm, crypto_map, version_1};
use integration::foreign::{Certified, Mode, Settings, libreswan};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{KEY, Mapped, PATIENCE};
use integration::rekeying::Losses;
use integration::{sa, wait};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, RsaKeySize,
    date_time_ymd,
};
use serde_json::json;

fn scenario(number: u8, what: &'static str, role: Role) -> Scenario {
    Scenario { number, what, peer: libreswan::DAEMON.name, role }
}

/// What a child's rekey may lose where no message is lost. As a responder libreswan 4.10 gives its kernel both directions
/// before it answers, in either version, and its kernel sends on the newest SA: these packets overtake the answer that we
/// make ours of. Where it asks, it has the answer before it sends, and we have the pair before we answer: nothing is lost.
const OVERTAKEN: u64 = 3;
/// The same in version 1: four have been seen.
const OVERTAKEN_IN_VERSION_1: u64 = 10;
/// The same where what gamma sends takes half a second, of 50 pings each: where the machine did not run gamma for a while,
/// its clock leaps, and all that was on its way comes together with the answer.
const OVERTAKEN_SLOWLY: u64 = OVERTAKEN_IN_VERSION_1 + 25;

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
    for role in [Role::Responder, Role::Initiator] {
        let what = if role == Role::Responder {
            "IKE SA rekeyed by the peer; GRE"
        } else {
            "IKE SA rekeyed by us; GRE"
        };
        scenario(22, what, role).judge(|| {
            let (old, esp) = (mapped.ike_spis()?, mapped.outbound_spis()?);
            let begin = || if role == Role::Responder { whack("--rekey-ike") } else { mapped.rekey_ike() };
            mapped.losses(8, begin, || mapped.ike_is_new(&old))?.none()?;
            wait::until("the end of the old IKE SA", PATIENCE, || {
                let left = mapped.ike_spis()?;
                ensure!(left.len() == 1 && left.is_disjoint(&old), "{left:?}");
                anyhow::Ok(())
            })?;
            ensure!(mapped.outbound_spis()? == esp, "the child changed too");
            passes(&mapped)
        })?;
    }
    scenario(21, "child rekeyed by the peer; GRE", Role::Responder).judge(|| {
        let old = mapped.outbound_spis()?;
        mapped.losses(8, || whack("--rekey-ipsec"), || mapped.esp_is_new(&old))?.none()?;
        passes(&mapped)
    })?;
    scenario(21, "child rekeyed by us; GRE", Role::Initiator).judge(|| {
        let old = mapped.outbound_spis()?;
        let losses = mapped.losses(8, || mapped.rekey_children(), || mapped.esp_is_new(&old))?;
        may_be_overtaken(losses, OVERTAKEN)?;
        passes(&mapped)
    })
}

/// Its phase 1 lives for this long, and is replaced ten seconds before its end: by the clock alone, it cannot be told to.
const SHORT: &str = "ikelifetime=30s\n    salifetime=3600s\n    rekeymargin=10s\n    rekeyfuzz=0%";
const LONG: &str = "ikelifetime=3600s\n    salifetime=3600s\n    rekeymargin=10s\n    rekeyfuzz=0%";

/// Version 1, begun by libreswan with these lifetimes; we may not begin a phase 1 yet.
fn in_version_1(child: &'static str) -> Result<Mapped> {
    let settings = Settings {
        version: 1,
        ike: "aes256-sha2;modp2048",
        child,
        ..Settings::speaking(&libreswan::DAEMON, GAMMA, ALPHA, KEY)
    };
    let mapped = Mapped::bare(settings)?;
    let api = &mapped.alpha.api;
    api.put(VERSION_1, &version_1())?;
    mapped.lab.may_begin(ALPHA, false)?;
    mapped.configure_with(&aes_128_gcm(Mode::Transport))?;
    api.put(CRYPTO_MAP, &crypto_map(GAMMA, &json!({"isakmp_policies": ["old"]})))?;
    mapped.gamma.gateway.begin()?;
    passes(&mapped)?;
    Ok(mapped)
}

#[test]
fn in_version_1_through_rekeys() -> Result<()> {
    let mapped = in_version_1(SHORT)?;
    let peers = "IKEv1: phase 1 replaced by the peer and expired, its child lives on; GRE";
    scenario(17, peers, Role::Responder).judge(|| {
        let (old, esp) = (mapped.ike_spis()?, mapped.outbound_spis()?);
        let gone = || {
            let now = mapped.ike_spis()?;
            ensure!(!now.is_empty() && now.is_disjoint(&old), "{now:?}");
            anyhow::Ok(())
        };
        mapped.losses(35, || Ok(()), gone)?.none()?;
        ensure!(mapped.outbound_spis()? == esp, "the child changed too");
        Ok(())
    })
}

#[test]
fn in_version_1_whoever_begins() -> Result<()> {
    let mapped = in_version_1(LONG)?;
    scenario(17, "IKEv1: phase 2 rekeyed by the peer; GRE", Role::Responder).judge(|| {
        let old = mapped.outbound_spis()?;
        mapped.losses(8, || mapped.gamma.gateway.begin(), || mapped.esp_is_new(&old))?.none()?;
        passes(&mapped)
    })?;
    scenario(17, "IKEv1: phase 2 rekeyed by us; GRE", Role::Initiator).judge(|| {
        let old = mapped.outbound_spis()?;
        let losses = mapped.losses(8, || mapped.rekey_children(), || mapped.esp_is_new(&old))?;
        may_be_overtaken(losses, OVERTAKEN_IN_VERSION_1)?;
        passes(&mapped)
    })?;
    mapped.lab.may_begin(ALPHA, true)?;
    let anew = "IKEv1: phase 1 replaced by us, and its child made anew; GRE";
    scenario(17, anew, Role::Initiator).judge(|| {
        let (old, esp) = (mapped.ike_spis()?, mapped.outbound_spis()?);
        let renewed = || mapped.ike_is_new(&old).and_then(|()| mapped.esp_is_new(&esp));
        let losses = mapped.losses(14, || mapped.rekey_ike(), renewed)?;
        may_be_overtaken(losses, OVERTAKEN_IN_VERSION_1)?;
        passes(&mapped)
    })?;
    scenario(17, "IKEv1: phase 2 rekeyed by both at once; GRE", Role::Initiator).judge(|| {
        let said = ["responding to Quick Mode", "IPsec SA established"];
        let old = mapped.outbound_spis()?;
        slowly(&mapped)?;
        let theirs = || mapped.gamma.gateway.begin();
        let losses = crosses(&mapped, said, theirs, || mapped.rekey_children(), || mapped.esp_is_new(&old))?;
        // The crossing one that we ask for, and one more where the peer has a newest pair that the nonces are against.
        may_be_overtaken(losses, 2 * OVERTAKEN_SLOWLY)?;
        one_pair_is_left(&mapped)?;
        passes(&mapped)
    })
}

/// Both ends have the same pair, and no other.
fn one_pair_is_left(mapped: &Mapped) -> Result<()> {
    wait::until("one pair", PATIENCE, || {
        let ours: BTreeSet<u32> = sa::with_peer(&mapped.alpha, GAMMA)?.iter().map(|sa| sa.spi).collect();
        let shown = mapped.gamma.gateway.run("ip xfrm state")?;
        let spis = shown.lines().filter_map(|line| line.trim().strip_prefix("proto esp spi 0x")?.get(..8));
        let theirs = spis.map(|spi| u32::from_str_radix(spi, 16)).collect::<Result<BTreeSet<u32>, _>>()?;
        ensure!(ours.len() == 2 && ours == theirs, "{ours:08x?} here, {theirs:08x?} there");
        anyhow::Ok(())
    })
}

/// What gamma sends takes half a second from now on: long enough that we begin before we hear that it has.
fn slowly(mapped: &Mapped) -> Result<()> {
    mapped.gamma.gateway.run("tc qdisc add dev eth0 root netem delay 500ms limit 10000").map(drop)
}

/// How often gamma has said this.
fn times(mapped: &Mapped, what: &str) -> Result<usize> {
    Ok(mapped.gamma.gateway.log()?.matches(what).count())
}

/// Both begin; gamma says that it answers ours, and only then that its own is done. Pings pass until what lost has been deleted:
/// libreswan holds on to what came up last, and goes without any when told to delete that.
fn crosses(
    mapped: &Mapped,
    [answers, is_up]: [&str; 2],
    theirs: impl FnOnce() -> Result<()>,
    ours: impl FnOnce() -> Result<()>,
    done: impl Fn() -> Result<()>,
) -> Result<Losses> {
    let (answered, up) = (times(mapped, answers)?, times(mapped, is_up)?);
    let began = || {
        theirs()?;
        ours()?;
        wait::until("gamma's answer to ours", PATIENCE, || {
            ensure!(times(mapped, answers)? > answered, "not yet");
            anyhow::Ok(())
        })?;
        ensure!(times(mapped, is_up)? == up, "ours came when gamma's was done");
        Ok(())
    };
    mapped.losses(18, began, done)
}

fn may_be_overtaken(losses: Losses, at_most: u64) -> Result<()> {
    losses.only_what_overtook_the_answer()?;
    ensure!(losses.unknown_spi <= at_most, "{losses:?}");
    Ok(())
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
    let map = crypto_map(
        GAMMA,
        &json!({
            "certificate": "alpha", "trusted_certificates": ["root"], "isakmp_policies": ["signed"],
            "local_identity": OURS, "remote_identity": THEIRS,
        }),
    );
    let what = "RSA-2048 certificates, RFC 7427; GRE";
    for role in [Role::Responder, Role::Initiator] {
        scenario(31, what, role).judge(|| {
            mapped.lab.may_begin(ALPHA, role == Role::Initiator)?;
            if role == Role::Responder {
                api.put(CRYPTO_MAP, &map)?;
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
