//! IKEv1, for a peer that knows no better: only by a policy that is named, and allowed by name.

use anyhow::{Result, bail, ensure};
use integration::checks::ping;
use integration::configuration::{CRYPTO_MAP, TRANSFORM_SET_OF_MAP, VERSION_1, crypto_map, version_1};
use integration::foreign::{Mode, Settings};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{KEY, Mapped, PATIENCE};
use integration::{sa, wait};
use serde_json::json;

#[test]
fn main_mode_and_quick_mode_carry_gre_and_rekey_without_loss() -> Result<()> {
    let mapped = Mapped::bare(Settings::version_1(GAMMA, ALPHA, KEY))?;
    let api = &mapped.alpha.api;
    let mut unnamed = version_1();
    unnamed["allow_insecure"] = json!([]);
    let refused = api.put(VERSION_1, &unnamed).unwrap_err();
    assert!(format!("{refused:#}").contains("name it in allow_insecure"), "{refused:#}");
    let made = api.put(VERSION_1, &version_1())?;
    assert_eq!(made["warnings"][0]["pointer"], "/version", "{made}");

    mapped.configure(Mode::Transport)?;
    api.put(CRYPTO_MAP, &crypto_map(GAMMA, &json!({"isakmp_policies": ["old"]})))?;
    mapped.passes(PATIENCE)?;
    for address in GAMMA.host() {
        let pings = ping(mapped.lab.host(ALPHA)?, &address, 20)?;
        assert!(pings.all_answered(), "{address}: {pings:?}");
    }
    let theirs = mapped.gamma.gateway.run("swanctl --list-sas; ip xfrm state")?;
    for expected in ["IKEv1", "AES_CBC-256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048", "mode transport"] {
        assert!(theirs.contains(expected), "no {expected} in:\n{theirs}");
    }

    rekeys(&mapped, || api.post("/v1/crypto-maps/outside/rekey").map(drop))?;
    rekeys(&mapped, || mapped.gamma.gateway.run("swanctl --rekey --child gre").map(drop))
}

/// `encryption aes`, `hash sha`, `group 2`, one key for whoever comes; `esp-aes esp-md5-hmac`, `mode transport`: as
/// routers were set up for twenty years, by two words of our API.
#[test]
fn the_classic_suite_carries_gre_with_a_key_for_everyone() -> Result<()> {
    const KEY_OF_ALL: &str = "a key that every branch has";
    let settings = Settings {
        version: 1,
        ike: "aes128-sha1-modp1024",
        esp: "aes128-md5",
        ..Settings::new(GAMMA, ALPHA, KEY_OF_ALL)
    };
    let mapped = Mapped::bare(settings)?;
    let api = &mapped.alpha.api;
    let policy =
        api.put("/v1/isakmp-policies/classic", &json!({"priority": 20, "profile": "cisco-classic"}))?;
    let warned = policy["warnings"].as_array().map(Vec::len);
    assert_eq!(warned, Some(3), "IKEv1, SHA-1, group 2: {policy}");
    let set = json!({"profile": "cisco-classic"});
    let made = api.put(TRANSFORM_SET_OF_MAP, &set)?;
    assert!(
        made["warnings"][0]["detail"].as_str().is_some_and(|text| text.contains("md5 is insecure")),
        "{made}"
    );
    mapped.configure_with(&set)?;
    api.put("/v1/pre-shared-keys/everyone", &json!({"peer": "0.0.0.0/0", "key": KEY_OF_ALL}))?;
    api.delete(&format!("/v1/pre-shared-keys/{}", GAMMA.name))?;

    let scenario = |role| Scenario {
        number: 13,
        what: "IKEv1, the classic suite (AES-128, SHA-1, group 2; esp-aes esp-md5-hmac), wildcard key; GRE",
        peer: "strongSwan",
        role,
    };
    scenario(Role::Responder).judge(|| {
        mapped.lab.may_begin(ALPHA, false)?;
        api.put(CRYPTO_MAP, &crypto_map(GAMMA, &json!({"isakmp_policies": ["classic"]})))?;
        wait::until("gamma's quick mode", PATIENCE, || mapped.gamma.gateway.begin())?;
        the_classic_suite_passes(&mapped)
    })?;
    scenario(Role::Initiator).judge(|| {
        mapped.gamma.gateway.end()?;
        mapped.lab.may_begin(ALPHA, true)?;
        the_classic_suite_passes(&mapped)
    })
}

/// Main mode knows of the peer nothing but its address when it needs the key: that of the longest prefix counts, and the one
/// for everyone comes last.
#[test]
fn the_key_with_the_longest_prefix_counts() -> Result<()> {
    const NETWORK: &str = "a key of one network alone";
    const EVERYONE: &str = "a key that everyone has, and nobody else";
    let mut mapped = Mapped::bare(Settings::version_1(GAMMA, ALPHA, KEY))?;
    let api = &mapped.alpha.api;
    api.put(VERSION_1, &version_1())?;
    let network = format!("{}/24", GAMMA.black_network());
    // The last first: what is found is not what was told first, or last.
    api.put("/v1/pre-shared-keys/everyone", &json!({"peer": "0.0.0.0/0", "key": EVERYONE}))?;
    api.put("/v1/pre-shared-keys/network", &json!({"peer": network, "key": NETWORK}))?;
    mapped.configure(Mode::Transport)?;
    api.put(CRYPTO_MAP, &crypto_map(GAMMA, &json!({"isakmp_policies": ["old"]})))?;
    for (what, gone, secret) in [
        ("IKEv1, three keys match the peer: that of its address; GRE", None, KEY),
        ("IKEv1, two keys match the peer: that of its network; GRE", Some(GAMMA.name), NETWORK),
        ("IKEv1, the key for everyone alone matches the peer; GRE", Some("network"), EVERYONE),
    ] {
        for role in [Role::Responder, Role::Initiator] {
            Scenario { number: 16, what, peer: "strongSwan", role }.judge(|| {
                mapped.lab.may_begin(ALPHA, role == Role::Initiator)?;
                if role == Role::Responder {
                    if let Some(gone) = gone {
                        mapped.alpha.api.delete(&format!("/v1/pre-shared-keys/{gone}"))?;
                    }
                    mapped.gamma.gateway.reload(|settings| settings.secret = secret.to_owned())?;
                }
                mapped.gamma.gateway.run("swanctl --terminate --ike far --force --timeout 2 || true")?;
                if role == Role::Responder {
                    wait::until("gamma's quick mode", PATIENCE, || mapped.gamma.gateway.begin())?;
                }
                mapped.passes(PATIENCE)?;
                let sas = mapped.alpha.api.items("/v1/isakmp-sas")?;
                let began = sas.iter().any(|sa| sa["initiator"] == (role == Role::Initiator));
                ensure!(began, "{sas:?}");
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn the_classic_suite_passes(mapped: &Mapped) -> Result<()> {
    mapped.passes(PATIENCE)?;
    for address in GAMMA.host() {
        let pings = ping(mapped.lab.host(ALPHA)?, &address, 20)?;
        ensure!(pings.all_answered(), "{address}: {pings:?}");
    }
    let theirs = mapped.gamma.gateway.run("swanctl --list-sas; ip xfrm state")?;
    for expected in [
        "IKEv1",
        "AES_CBC-128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_1024",
        "hmac(md5)",
        "cbc(aes)",
        "mode transport",
    ] {
        ensure!(theirs.contains(expected), "no {expected} in:\n{theirs}");
    }
    // And each SA says what of it is insecure.
    for (path, expected) in
        [("/v1/isakmp-sas", json!(["ikev1", "sha1", "modp1024"])), ("/v1/ipsec-sas", json!(["md5"]))]
    {
        let sas = mapped.alpha.api.items(path)?;
        ensure!(!sas.is_empty() && sas.iter().all(|sa| sa["insecure"] == expected), "{sas:?}");
    }
    ensure!(mapped.alpha.metric("culvert_insecure_sas", &["kind=\"ipsec\"", "algorithm=\"md5\""])? >= 2.0);
    Ok(())
}

/// New keys come when they are asked for, and no packet is lost meanwhile.
fn rekeys(mapped: &Mapped, ask: impl Fn() -> Result<()>) -> Result<()> {
    let old = sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true);
    let traffic = mapped.pinging(8)?;
    ask()?;
    wait::until("new SPIs", PATIENCE, || {
        let new = sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true);
        if !new.is_empty() && new.is_disjoint(&old) { Ok(()) } else { bail!("{new:08x?}") }
    })?;
    traffic.still_running()?;
    let pings = traffic.finish()?;
    assert!(pings.all_answered(), "{pings:?}");
    Ok(())
}
