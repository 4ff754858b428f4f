//! Certificates over the API: what is taken, what is told of them, and what is refused at which field.

use axum::http::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value, json};

use crate::support::Api;

/// A CA and a certificate below it, in PEM, with the key.
struct Pki {
    ca: String,
    leaf: String,
    key: String,
}

fn pki() -> Pki {
    let named = |name: &str, names: Vec<String>| {
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, "Culvert");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2060, 1, 1);
        params
    };
    let mut of_ca = named("Root", vec![]);
    of_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = named("gw", vec!["gw.example.net".to_owned(), "192.0.2.1".to_owned()])
        .signed_by(&key, &Issuer::from_params(&of_ca, &ca_key))
        .unwrap();
    Pki { ca: of_ca.self_signed(&ca_key).unwrap().pem(), leaf: leaf.pem(), key: key.serialize_pem() }
}

fn identity(pki: &Pki) -> Value {
    json!({"usage": "identity", "certificate": pki.leaf, "private_key": pki.key})
}

#[tokio::test]
async fn an_identity_is_read_out_and_its_key_is_not() {
    let api = Api::new().await;
    let pki = pki();
    let made = api.made("/v1/certificates/gw", identity(&pki)).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let view = made.json();
    assert_eq!(view["certificate"], pki.leaf.as_str());
    let read_out = &view["certificates"][0];
    assert_eq!(read_out["subject"], "O=Culvert, CN=gw");
    assert_eq!(read_out["issuer"], "O=Culvert, CN=Root");
    assert_eq!(read_out["names"], json!(["gw.example.net", "192.0.2.1"]));
    assert_eq!(read_out["not_after"], "2060-01-01T00:00:00Z");
    assert_eq!((&view["version"], view["fingerprint"].as_str().unwrap().len()), (&json!(1), 16));
    let private = pki.key.lines().nth(1).unwrap();
    for path in ["/v1/certificates/gw", "/v1/certificates", "/metrics"] {
        let answer = api.get(path).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!answer.text.contains(private) && !answer.text.contains("private_key"), "{path}");
    }
    for entry in std::fs::read_dir(api.directory.path()).unwrap() {
        let content = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!content.windows(private.len()).any(|window| window == private.as_bytes()));
    }
    // A renewed certificate of the same key needs no key.
    let mut renewed = identity(&pki);
    renewed.as_object_mut().unwrap().remove("private_key");
    renewed["rsa_padding"] = json!("pkcs1");
    let kept = api.made("/v1/certificates/gw", renewed).await.json();
    assert_eq!(kept["fingerprint"], view["fingerprint"]);
    let metrics = api.get("/metrics").await.text;
    let expiry = "culvert_certificate_expiry_timestamp_seconds{certificate=\"gw\"} 2840140800\n";
    assert!(metrics.contains(expiry), "{metrics}");
    let health = api.get("/v1/health").await.json();
    let part =
        health["parts"].as_array().unwrap().iter().find(|part| part["name"] == "certificates").unwrap();
    assert_eq!(part["ok"], true);
}

#[tokio::test]
async fn what_is_wrong_with_the_pem_is_told_at_its_field() {
    let api = Api::new().await;
    let (one, other) = (pki(), pki());
    let broken = one.leaf.replace("-----END", "----END");
    let cut: String = one
        .leaf
        .lines()
        .enumerate()
        .filter(|(line, _)| *line != 3)
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    let sec1 = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n";
    let cases: Vec<(Value, &str, &str)> = vec![
        (
            json!({"usage": "identity", "certificate": "no PEM", "private_key": one.key}),
            "/certificate",
            "has no certificate",
        ),
        (
            json!({"usage": "identity", "certificate": broken, "private_key": one.key}),
            "/certificate",
            "PEM block 1 is broken",
        ),
        (
            json!({"usage": "identity", "certificate": cut, "private_key": one.key}),
            "/certificate",
            "certificate 1 cannot be read",
        ),
        (json!({"usage": "identity", "certificate": one.leaf}), "/private_key", "is required"),
        (
            json!({"usage": "identity", "certificate": one.leaf, "private_key": other.key}),
            "/private_key",
            "is not the key of the first certificate, O=Culvert, CN=gw",
        ),
        (
            json!({"usage": "identity", "certificate": one.leaf, "private_key": sec1}),
            "/private_key",
            "is not PKCS#8",
        ),
        (
            json!({"usage": "identity", "certificate": one.leaf, "private_key": "x"}),
            "/private_key",
            "has no unencrypted private key",
        ),
        (
            json!({"usage": "identity", "certificate": format!("{}{}", one.leaf, other.leaf), "private_key": one.key}),
            "/certificate",
            "is not a CA's",
        ),
        (
            json!({"usage": "authority", "certificate": one.leaf}),
            "/certificate",
            "O=Culvert, CN=gw is not the certificate of a CA",
        ),
        (
            json!({"usage": "authority", "certificate": one.ca, "private_key": one.key}),
            "/private_key",
            "belongs to an identity only",
        ),
        (
            json!({"usage": "authority", "certificate": one.ca, "revocation_lists": one.ca}),
            "/revocation_lists",
            "has no revocation list",
        ),
        (json!({"usage": "master", "certificate": one.ca}), "/usage", "allowed: identity, authority, peer"),
    ];
    for (body, pointer, words) in cases {
        let answer = api.put("/v1/certificates/wrong", body).await;
        assert_eq!(answer.pointers(), [pointer], "{answer:?}");
        assert!(answer.text.contains(words), "{words}: {answer:?}");
        assert!(!answer.text.contains(one.key.lines().nth(1).unwrap()), "the key is quoted");
    }
    assert!(api.desired().await.certificates.is_empty());
}

#[tokio::test]
async fn terms_name_certificates_by_what_they_are_for() {
    let api = Api::new().await;
    let pki = pki();
    api.made("/v1/certificates/gw", identity(&pki)).await;
    api.made("/v1/certificates/ca", json!({"usage": "authority", "certificate": pki.ca})).await;
    api.made("/v1/transform-sets/t", json!({"encryption": "aes-256-gcm", "mode": "transport"})).await;
    let policy = |authentication| {
        json!({"priority": 10, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31],
               "authentication": authentication})
    };
    api.made("/v1/isakmp-policies/signed", policy("signature")).await;
    api.made("/v1/isakmp-policies/keyed", policy("pre-share")).await;
    let profile = |certificate: &str, trusted: &str, policy: &str| {
        json!({"transform_sets": ["t"], "certificate": certificate, "trusted_certificates": [trusted],
               "isakmp_policies": [policy]})
    };
    let path = "/v1/ipsec-profiles/p";
    assert_eq!(api.put(path, profile("no", "ca", "signed")).await.pointers(), ["/certificate"]);
    assert_eq!(api.put(path, profile("ca", "ca", "signed")).await.pointers(), ["/certificate"]);
    assert_eq!(api.put(path, profile("gw", "gw", "signed")).await.pointers(), ["/trusted_certificates/0"]);
    assert_eq!(api.put(path, profile("gw", "ca", "keyed")).await.pointers(), ["/isakmp_policies/0"]);
    api.made(path, profile("gw", "ca", "signed")).await;
    // A policy may not change under those who use it, and certificates in use stay.
    let changed = api.put("/v1/isakmp-policies/signed", policy("pre-share")).await;
    assert_eq!(changed.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(changed.text.contains("ipsec-profiles/p /isakmp_policies/0"), "{changed:?}");
    for name in ["gw", "ca"] {
        let refused = api.delete(&format!("/v1/certificates/{name}")).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert!(refused.text.contains("ipsec-profiles/p"), "{refused:?}");
    }
    api.delete(path).await;
    assert_eq!(api.delete("/v1/certificates/gw").await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_certificate_of_another_key_comes_with_it() {
    let api = Api::new().await;
    let (one, other) = (pki(), pki());
    let path = "/v1/certificates/gw";
    api.made(path, identity(&one)).await;
    let keyless = |pki: &Pki| json!({"usage": "identity", "certificate": pki.leaf});
    let refused = api.put(path, keyless(&other)).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.pointers(), ["/certificate"]);
    assert!(refused.text.contains("is not that of O=Culvert, CN=gw"), "{refused:?}");
    // What stood there stands.
    assert_eq!(api.get(path).await.json()["certificate"], one.leaf.as_str());
    api.made(path, keyless(&one)).await;
    api.made(path, identity(&other)).await;
    assert_eq!(api.put(path, keyless(&one)).await.pointers(), ["/certificate"]);
    // What never was an identity has no key to keep.
    api.made("/v1/certificates/ca", json!({"usage": "authority", "certificate": one.ca})).await;
    assert_eq!(api.put("/v1/certificates/ca", keyless(&one)).await.pointers(), ["/private_key"]);
}

#[tokio::test]
async fn whoever_ends_a_trust_in_use_is_told() {
    let api = Api::new().await;
    let (one, other) = (pki(), pki());
    let path = "/v1/certificates/ca";
    let authority = |pems: &[&str]| json!({"usage": "authority", "certificate": pems.concat()});
    let ends = |answer: &Value| {
        let warnings = answer["warnings"].as_array().cloned().unwrap_or_default();
        warnings
            .iter()
            .filter(|warning| warning["detail"].as_str().unwrap().contains("trusted no longer"))
            .count()
    };
    api.made(path, authority(&[&one.ca])).await;
    assert_eq!(ends(&api.made(path, authority(&[&other.ca])).await.json()), 0, "nobody uses it");
    api.made("/v1/certificates/gw", identity(&one)).await;
    api.made("/v1/transform-sets/t", json!({"encryption": "aes-256-gcm", "mode": "transport"})).await;
    api.made(
        "/v1/isakmp-policies/signed",
        json!({"priority": 10, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31],
               "authentication": "signature"}),
    )
    .await;
    api.made(
        "/v1/ipsec-profiles/p",
        json!({"transform_sets": ["t"], "certificate": "gw", "trusted_certificates": ["ca"],
               "isakmp_policies": ["signed"]}),
    )
    .await;
    // A successor beside the old one, then alone: as authorities are replaced without a break.
    assert_eq!(ends(&api.made(path, authority(&[&other.ca, &one.ca])).await.json()), 0);
    let alone = api.made(path, authority(&[&one.ca])).await.json();
    assert_eq!(ends(&alone), 1, "{alone}");
    assert_eq!(alone["warnings"][0]["pointer"], "/certificate");
}
