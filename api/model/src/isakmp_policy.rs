//! An ISAKMP policy: what is offered and accepted for the IKE SA (phase 1).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::group::Group;
use crate::insecure::Insecure;
use crate::kind::{Kind, Reference, Resource};
use crate::name::Name;
use crate::profile::Profile;
use crate::read::{At, Object, Parse, deserialize_by_parse};
use crate::word::words;

words! {
    /// Version of IKE.
    pub enum IkeVersion as "a version of IKE" {
        /// RFC 7296.
        Ikev2 = "ikev2",
        /// RFC 2409: main mode and quick mode, for peers that know nothing else.
        Ikev1 = "ikev1",
    }
    weak {}
}

words! {
    /// Cipher of the IKE SA.
    pub enum IkeEncryption as "an IKE cipher" {
        /// AES-256-GCM with a 16-octet ICV (RFC 5282).
        Aes256Gcm = "aes-256-gcm",
        /// AES-128-GCM with a 16-octet ICV (RFC 5282).
        Aes128Gcm = "aes-128-gcm",
        /// ChaCha20-Poly1305 (RFC 7634); of IKEv2 alone.
        ChaCha20Poly1305 = "chacha20-poly1305",
        /// AES-256-CBC, with HMAC integrity.
        Aes256Cbc = "aes-256-cbc",
        /// AES-192-CBC, with HMAC integrity.
        Aes192Cbc = "aes-192-cbc",
        /// AES-128-CBC, with HMAC integrity.
        Aes128Cbc = "aes-128-cbc",
        /// Triple DES in CBC mode, with HMAC integrity; only if `allow_insecure` names `3des`.
        TripleDesCbc = "3des",
    }
    weak {
        "des": "its key is too short (RFC 8247)",
        "null": "it does not encrypt",
    }
}

words! {
    /// Hash of the PRF, and of the HMAC integrity that goes with CBC.
    pub enum Hash as "a hash" {
        /// SHA-256.
        Sha2_256 = "sha2-256",
        /// SHA-384.
        Sha2_384 = "sha2-384",
        /// SHA-512.
        Sha2_512 = "sha2-512",
        /// SHA-1; only if `allow_insecure` names it.
        Sha1 = "sha1",
        /// MD5; only if `allow_insecure` names it.
        Md5 = "md5",
    }
    weak {}
}

words! {
    /// A key encapsulation done after the Diffie-Hellman exchange (RFC 9370).
    pub enum KeyEncapsulation as "a key encapsulation" {
        /// ML-KEM-768 (FIPS 203).
        MlKem768 = "ml-kem-768",
        /// ML-KEM-1024 (FIPS 203).
        MlKem1024 = "ml-kem-1024",
    }
    weak {
        "ml-kem-512": "its margin is the least (FIPS 203)",
    }
}

words! {
    /// How the peers prove who they are.
    pub enum Authentication as "a method of authentication" {
        /// A pre-shared key.
        PreShare = "pre-share",
        /// A signature with a certificate, by at least one of the two.
        Signature = "signature",
    }
    weak {}
}

impl IkeVersion {
    /// What is offered where nothing else is said.
    fn key_encapsulations(self) -> Vec<KeyEncapsulation> {
        match self {
            Self::Ikev2 => vec![KeyEncapsulation::MlKem768],
            Self::Ikev1 => Vec::new(),
        }
    }
}

/// What is offered and accepted for an IKE SA: any of each list, best first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"priority": 10, "version": "ikev2", "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31, 19], "authentication": "pre-share", "lifetime_secs": 86400, "dpd_interval_secs": 30}))]
pub struct IsakmpPolicy {
    /// Policies are offered in this order, lowest first: 1 to 65535.
    #[schema(minimum = 1, maximum = 65535)]
    pub priority: u32,
    /// A suite by name, which gives `version`, `encryption`, `hash` and `groups`, and allows what of them is insecure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Version of IKE.
    #[schema(required = false)]
    pub version: IkeVersion,
    /// Ciphers. Required without a `profile`.
    #[schema(required = false, min_items = 1)]
    pub encryption: Vec<IkeEncryption>,
    /// PRF hashes; with CBC ciphers the integrity hashes too. Required without a `profile`.
    #[schema(required = false, min_items = 1)]
    pub hash: Vec<Hash>,
    /// Diffie-Hellman groups. Required without a `profile`.
    #[schema(required = false, min_items = 1)]
    pub groups: Vec<Group>,
    /// Post-quantum key exchange after that of `groups`, any of the list (RFC 9370, IKEv2): what is recorded today stays
    /// closed to who can break the groups tomorrow. A peer without it is accepted unless `require_post_quantum`. Left out,
    /// it is `["ml-kem-768"]` with `ikev2`; an empty list does without. Where a `pfs_group` gives children keys of their own,
    /// it follows that group too, unless the peer leaves it out.
    #[schema(required = false)]
    pub additional_key_exchanges: Vec<KeyEncapsulation>,
    /// Refuse a peer that does without `additional_key_exchanges`.
    #[schema(required = false, default = false)]
    pub require_post_quantum: bool,
    /// What of this policy may be insecure. A policy that uses more is refused; one that uses it is warned about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub allow_insecure: Vec<Insecure>,
    /// Method of authentication.
    #[schema(required = false)]
    pub authentication: Authentication,
    /// The IKE SA is rekeyed after this long: 300 to 604800 seconds.
    #[schema(required = false, minimum = 300, maximum = 604_800, default = 86_400)]
    pub lifetime_secs: u32,
    /// The peer is asked for a sign of life after this long without one: 5 to 3600 seconds; 0 never asks.
    #[schema(required = false, minimum = 0, maximum = 3600, default = 30)]
    pub dpd_interval_secs: u32,
    /// Accept a peer of IKEv1 that proposes to protect more than we do, and protect what we do: version 1 cannot narrow, and
    /// routers with crypto maps propose `gre any any`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false, default = false)]
    pub accept_superset: bool,
    /// Begin IKEv1 by aggressive mode, and answer a peer that does; refused unless `allow_insecure` names it. Without this,
    /// aggressive mode is neither begun nor answered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false, default = false)]
    pub aggressive_mode: bool,
}

impl IkeEncryption {
    /// Whether integrity is part of it.
    #[must_use]
    pub const fn is_combined(self) -> bool {
        matches!(self, Self::Aes256Gcm | Self::Aes128Gcm | Self::ChaCha20Poly1305)
    }
}

impl Parse for IsakmpPolicy {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let priority = object.required_with("priority", |at| at.integer(1..=65_535u32));
        let profile: Option<Profile> = object.optional("profile");
        let version = object.optional("version");
        let version = version.or(profile.map(Profile::version)).unwrap_or(IkeVersion::Ikev2);
        let encryption = some_of(&mut object, "encryption", profile.map(Profile::encryption));
        let hash = some_of(&mut object, "hash", profile.map(Profile::hash));
        let groups = some_of(&mut object, "groups", profile.map(Profile::groups));
        let additional_key_exchanges: Vec<KeyEncapsulation> = object
            .optional_with("additional_key_exchanges", |at| at.distinct(KeyEncapsulation::ALL.len()))
            .unwrap_or_else(|| version.key_encapsulations());
        let require_post_quantum = object.optional("require_post_quantum").unwrap_or(false);
        let mut allow_insecure: Vec<Insecure> =
            object.optional_with("allow_insecure", |at| at.distinct(Insecure::ALL.len())).unwrap_or_default();
        profile.into_iter().for_each(|profile| profile.allow_policy(&mut allow_insecure));
        let authentication = object.optional("authentication").unwrap_or(Authentication::PreShare);
        let lifetime_secs =
            object.optional_with("lifetime_secs", |at| at.integer(300..=604_800u32)).unwrap_or(86_400);
        let dpd_interval_secs = object
            .optional_with("dpd_interval_secs", |at| match at.integer(0..=3600u32)? {
                1..5 => at.refuse("must be 0 (off) or from 5 to 3600"),
                seconds => Some(seconds),
            })
            .unwrap_or(30);
        let accept_superset = object
            .optional("accept_superset")
            .unwrap_or_else(|| profile.is_some_and(Profile::accept_superset));
        let aggressive_mode = object.optional("aggressive_mode").unwrap_or(false);
        let policy = (|| {
            Some(Self {
                priority: priority?,
                profile,
                version,
                encryption: encryption?,
                hash: hash?,
                groups: groups?,
                additional_key_exchanges,
                require_post_quantum,
                allow_insecure,
                authentication,
                lifetime_secs,
                dpd_interval_secs,
                accept_superset,
                aggressive_mode,
            })
        })();
        for (pointer, reason) in policy.iter().flat_map(Self::refusals) {
            let path = pointer.split('/').skip(1);
            let at = path.fold(None, |at: Option<At<'_>>, token| {
                Some(at.map_or_else(|| object.place(token), |at| at.inside(token)))
            });
            let _: Option<()> = at.and_then(|at| at.refuse(reason));
        }
        object.end();
        policy
    }
}

/// Longest list: there is room for every group.
const MOST: usize = Group::ALL.len();

/// A list that must be there unless a profile gives it.
fn some_of<T: Parse + PartialEq>(
    object: &mut Object<'_>,
    field: &'static str,
    of_profile: Option<Vec<T>>,
) -> Option<Vec<T>> {
    match of_profile {
        Some(given) => Some(object.optional_with(field, |at| at.some_distinct(MOST)).unwrap_or(given)),
        None => object.required_with(field, |at| at.some_distinct(MOST)),
    }
}

impl IsakmpPolicy {
    /// What does not go together, and why, by JSON pointer.
    fn refusals(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let departures = self.profile.map(|profile| profile.departures_of_policy(self)).unwrap_or_default();
        if !departures.is_empty() {
            return departures.into_iter().map(|(field, detail)| (format!("/{field}"), detail)).collect();
        }
        for (pointer, what) in self.insecurities() {
            if !self.allow_insecure.contains(&what) {
                found.push((pointer, what.refusal()));
            }
        }
        let mut refuse = |field: &str, detail: &str| found.push((format!("/{field}"), detail.to_owned()));
        let of_v1 = self.version == IkeVersion::Ikev1;
        if of_v1 && let Some(cipher) = self.encryption.iter().find(|cipher| cipher.is_combined()) {
            let detail = format!(
                "ikev1 does not know {cipher}: it has CBC ciphers only, \
                 aes-256-cbc, aes-192-cbc, aes-128-cbc and 3des"
            );
            refuse("encryption", &detail);
        }
        if of_v1 && self.groups.contains(&Group::Curve25519) {
            refuse("groups", "ikev1 does not know group 31: take 19, 20 or 14");
        }
        if of_v1 && !self.additional_key_exchanges.is_empty() {
            refuse("additional_key_exchanges", "ikev1 has one key exchange alone");
        }
        if self.require_post_quantum && self.additional_key_exchanges.is_empty() {
            refuse(
                "require_post_quantum",
                "needs `additional_key_exchanges` to choose from, such as [\"ml-kem-768\"]",
            );
        }
        if !of_v1 && self.aggressive_mode {
            refuse("aggressive_mode", "goes with ikev1 only: ikev2 has no such thing");
        }
        if !of_v1 && self.accept_superset {
            refuse("accept_superset", "goes with ikev1 only: ikev2 narrows");
        }
        found
    }

    /// What of it is insecure, and which field says so: a JSON pointer.
    #[must_use]
    pub fn insecurities(&self) -> Vec<(String, Insecure)> {
        let mut found = Vec::new();
        if self.version == IkeVersion::Ikev1 {
            found.push(("/version".to_owned(), Insecure::Ikev1));
        }
        if self.aggressive_mode {
            found.push(("/aggressive_mode".to_owned(), Insecure::AggressiveMode));
        }
        for (index, cipher) in self.encryption.iter().enumerate() {
            if *cipher == IkeEncryption::TripleDesCbc {
                found.push((format!("/encryption/{index}"), Insecure::TripleDes));
            }
        }
        for (index, hash) in self.hash.iter().enumerate() {
            let insecure = match hash {
                Hash::Md5 => Insecure::Md5,
                Hash::Sha1 => Insecure::Sha1,
                Hash::Sha2_256 | Hash::Sha2_384 | Hash::Sha2_512 => continue,
            };
            found.push((format!("/hash/{index}"), insecure));
        }
        let groups = self.groups.iter().enumerate();
        found.extend(
            groups.filter_map(|(index, group)| Some((format!("/groups/{index}"), group.insecurity()?))),
        );
        found
    }
}

impl Resource for IsakmpPolicy {
    const KIND: Kind = Kind::IsakmpPolicy;
    type Name = Name;

    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }

    fn of(desired: &crate::Desired) -> &BTreeMap<Name, Self> {
        &desired.isakmp_policies
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<Name, Self> {
        &mut desired.isakmp_policies
    }
}

deserialize_by_parse!(IsakmpPolicy);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(body: Value) -> Vec<String> {
        let errors = crate::read::parse::<IsakmpPolicy>(&body).unwrap_err();
        let mut errors: Vec<String> =
            errors.into_iter().map(|error| format!("{} {}", error.pointer, error.detail)).collect();
        errors.sort();
        errors
    }

    fn classic() -> Value {
        json!({
            "priority": 10, "version": "ikev1", "encryption": ["aes-128-cbc", "3des"], "hash": ["sha1", "md5"],
            "groups": [2, 5], "allow_insecure": ["ikev1", "3des", "sha1", "md5", "modp1024", "modp1536"],
        })
    }

    #[test]
    fn what_is_insecure_is_refused_unless_it_is_named() {
        let policy = crate::read::parse::<IsakmpPolicy>(&classic()).unwrap();
        let found: Vec<_> =
            policy.insecurities().into_iter().map(|(at, what)| format!("{at} {what}")).collect();
        assert_eq!(
            found,
            [
                "/version ikev1",
                "/encryption/1 3des",
                "/hash/0 sha1",
                "/hash/1 md5",
                "/groups/0 modp1024",
                "/groups/1 modp1536",
            ]
        );
        let mut body = classic();
        body["allow_insecure"] = json!(["ikev1", "sha1", "modp1536"]);
        let errors = refused(body);
        for (error, start) in errors.iter().zip([
            "/encryption/1 3des is insecure: ",
            "/groups/0 modp1024 is insecure: ",
            "/hash/1 md5 is insecure: ",
        ]) {
            assert!(error.starts_with(start) && error.ends_with("name it in allow_insecure"), "{error}");
        }
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn a_profile_gives_what_is_left_out_and_suffers_nothing_else() {
        let policy =
            crate::read::parse::<IsakmpPolicy>(&json!({"priority": 7, "profile": "cisco-classic"})).unwrap();
        let found: Vec<_> =
            policy.insecurities().into_iter().map(|(at, what)| format!("{at} {what}")).collect();
        assert_eq!(found, ["/version ikev1", "/hash/0 sha1", "/groups/0 modp1024"]);
        assert_eq!(policy.encryption, [IkeEncryption::Aes128Cbc]);
        assert!(policy.accept_superset);
        // What is answered can be sent back.
        let answered = serde_json::to_value(&policy).unwrap();
        assert_eq!(crate::read::parse::<IsakmpPolicy>(&answered).unwrap(), policy);
        let errors = refused(json!({
            "priority": 7, "profile": "cisco-classic", "version": "ikev2", "groups": [14], "lifetime_secs": 3600,
        }));
        assert_eq!(
            errors,
            [
                "/groups profile cisco-classic has 2: leave this field out, or the profile",
                "/version profile cisco-classic has ikev1: leave this field out, or the profile",
            ]
        );
        assert_eq!(
            refused(json!({"priority": 7, "profile": "cisco"})),
            [
                "/encryption is required",
                "/groups is required",
                "/hash is required",
                "/profile \"cisco\" is not a profile; allowed: cisco-classic",
            ]
        );
    }

    #[test]
    fn aggressive_mode_must_be_allowed_by_name() {
        let mut body = classic();
        body["aggressive_mode"] = json!(true);
        let errors = refused(body.clone());
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].starts_with("/aggressive_mode aggressive-mode is insecure: it shows"),
            "{errors:?}"
        );
        body["allow_insecure"].as_array_mut().unwrap().push(json!("aggressive-mode"));
        let policy = crate::read::parse::<IsakmpPolicy>(&body).unwrap();
        assert!(policy.insecurities().iter().any(|(at, _)| at == "/aggressive_mode"));
        let v2 = json!({"priority": 1, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31],
                        "aggressive_mode": true, "allow_insecure": ["aggressive-mode"]});
        assert!(refused(v2)[0].starts_with("/aggressive_mode goes with ikev1 only"));
    }

    #[test]
    fn version_2_adds_ml_kem_unless_told_not_to() {
        let base =
            json!({"priority": 1, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31]});
        let with = |field: &str, value: serde_json::Value| {
            let mut body = base.clone();
            body[field] = value;
            crate::read::parse::<IsakmpPolicy>(&body).unwrap().additional_key_exchanges
        };
        assert_eq!(with("priority", json!(2)), [KeyEncapsulation::MlKem768]);
        assert_eq!(with("require_post_quantum", json!(true)), [KeyEncapsulation::MlKem768]);
        assert_eq!(with("additional_key_exchanges", json!(["ml-kem-1024"])), [KeyEncapsulation::MlKem1024]);
        assert_eq!(with("additional_key_exchanges", json!([])), []);
        let old = crate::read::parse::<IsakmpPolicy>(&classic()).unwrap();
        assert_eq!(old.additional_key_exchanges, []);
        let mut strict = base.clone();
        strict["require_post_quantum"] = json!(true);
        strict["additional_key_exchanges"] = json!([]);
        assert!(refused(strict)[0].starts_with("/require_post_quantum needs"));
    }

    #[test]
    fn every_strong_suite_may_stand_in_one_policy() {
        let groups = Group::ALL.into_iter().filter(|group| group.insecurity().is_none());
        let groups: Vec<u16> = groups.map(Group::number).collect();
        assert_eq!(groups, [31, 21, 20, 19, 18, 17, 16, 15, 14]);
        let encryption =
            ["aes-256-gcm", "aes-128-gcm", "chacha20-poly1305", "aes-256-cbc", "aes-192-cbc", "aes-128-cbc"];
        let body = json!({"priority": 1, "encryption": encryption, "groups": groups,
                          "hash": ["sha2-256", "sha2-384", "sha2-512"]});
        let policy = crate::read::parse::<IsakmpPolicy>(&body).unwrap();
        assert!(policy.insecurities().is_empty());
        let written = serde_json::to_value(&policy).unwrap();
        assert_eq!((&written["groups"], &written["encryption"]), (&body["groups"], &body["encryption"]));
    }

    #[test]
    fn a_policy_of_version_1_asks_for_what_version_1_knows() {
        let mut body = classic();
        body["encryption"] = json!(["aes-256-gcm"]);
        body["groups"] = json!([31]);
        body["additional_key_exchanges"] = json!(["ml-kem-768"]);
        let pointers: Vec<String> =
            refused(body).iter().filter_map(|error| error.split(' ').next().map(str::to_owned)).collect();
        assert_eq!(pointers, ["/additional_key_exchanges", "/encryption", "/groups"]);
        let mut body = classic();
        body["encryption"] = json!(["aes-128-cbc", "chacha20-poly1305"]);
        let expected = "/encryption ikev1 does not know chacha20-poly1305: it has CBC ciphers only, \
                        aes-256-cbc, aes-192-cbc, aes-128-cbc and 3des";
        assert_eq!(refused(body), [expected]);
        let v2 = |more: &str| {
            let mut body =
                json!({"priority": 1, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31]});
            body[more] = json!(true);
            refused(body)
        };
        assert!(v2("accept_superset")[0].starts_with("/accept_superset goes with ikev1 only"));
    }
}
