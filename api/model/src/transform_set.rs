//! A transform set: what is offered and accepted for an IPsec SA (phase 2).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::insecure::Insecure;
use crate::kind::{Kind, Reference, Resource};
use crate::mtu::Framing;
use crate::name::Name;
use crate::profile::Profile;
use crate::read::{At, Object, Parse, deserialize_by_parse};
use crate::word::words;

words! {
    /// Cipher of an IPsec SA.
    pub enum EspEncryption as "an ESP cipher" {
        /// AES-256-GCM with a 16-octet ICV (RFC 4106).
        Aes256Gcm = "aes-256-gcm",
        /// AES-128-GCM with a 16-octet ICV (RFC 4106).
        Aes128Gcm = "aes-128-gcm",
        /// ChaCha20-Poly1305 (RFC 7634); of IKEv2 alone.
        ChaCha20Poly1305 = "chacha20-poly1305",
        /// AES-256-CBC (RFC 3602), with `integrity`.
        Aes256Cbc = "aes-256-cbc",
        /// AES-192-CBC (RFC 3602), with `integrity`.
        Aes192Cbc = "aes-192-cbc",
        /// AES-128-CBC (RFC 3602), with `integrity`.
        Aes128Cbc = "aes-128-cbc",
        /// Triple DES in CBC mode (RFC 2451), with `integrity`; only if `allow_insecure` names `3des`.
        TripleDesCbc = "3des",
    }
    weak {
        "des": "its key is too short (RFC 8221)",
        "null": "it does not encrypt",
    }
}

words! {
    /// HMAC of an IPsec SA whose cipher does not authenticate.
    pub enum EspIntegrity as "an ESP integrity algorithm" {
        /// HMAC-SHA-256-128 (RFC 4868).
        Sha2_256 = "sha2-256",
        /// HMAC-SHA-384-192 (RFC 4868).
        Sha2_384 = "sha2-384",
        /// HMAC-SHA-512-256 (RFC 4868).
        Sha2_512 = "sha2-512",
        /// HMAC-SHA-1-96 (RFC 2404); only if `allow_insecure` names it.
        Sha1 = "sha1",
        /// HMAC-MD5-96 (RFC 2403); only if `allow_insecure` names it.
        Md5 = "md5",
    }
    weak {
        "null": "a cipher without integrity is no protection (RFC 8221)",
    }
}

words! {
    /// Mode of an IPsec SA (RFC 4301 section 4.1).
    pub enum Mode as "a mode" {
        /// The IP header of the GRE packet stays in the open.
        Transport = "transport",
        /// The GRE packet gets a second IP header.
        Tunnel = "tunnel",
    }
    weak {}
}

/// What is offered and accepted for an IPsec SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"encryption": "aes-256-gcm", "mode": "transport", "esn": true}))]
pub struct TransformSet {
    /// A suite by name, which gives `encryption` and `integrity`, and allows what of them is insecure; without other word
    /// the mode is transport, and sequence numbers are ordinary ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Cipher. Required without a `profile`.
    #[schema(required = false)]
    pub encryption: EspEncryption,
    /// Integrity algorithm of a CBC cipher, which needs one; AES-GCM and ChaCha20-Poly1305 have their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integrity: Option<EspIntegrity>,
    /// Mode. Required without a `profile`.
    #[schema(required = false)]
    pub mode: Mode,
    /// Offer extended sequence numbers (RFC 4304), and take ordinary ones if the peer has no others; false offers
    /// ordinary ones alone.
    #[schema(required = false, default = true)]
    pub esn: bool,
    /// What of this set may be insecure. A set that uses more is refused; one that uses it is warned about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub allow_insecure: Vec<Insecure>,
}

impl Parse for TransformSet {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let profile: Option<Profile> = object.optional("profile");
        let encryption = given(&mut object, "encryption", profile.map(Profile::esp_encryption));
        let mut integrity_was_given = false;
        let integrity = object.optional_with("integrity", |at| {
            integrity_was_given = true;
            EspIntegrity::parse(at)
        });
        let of_profile = profile.filter(|_| !integrity_was_given).map(Profile::esp_integrity);
        let mode = given(&mut object, "mode", profile.map(|_| Mode::Transport));
        let esn = object.optional("esn").unwrap_or(profile.is_none());
        let mut allow_insecure: Vec<Insecure> =
            object.optional_with("allow_insecure", |at| at.distinct(Insecure::ALL.len())).unwrap_or_default();
        profile.into_iter().for_each(|profile| profile.allow_set(&mut allow_insecure));
        let set = (|| {
            Some(Self {
                profile,
                encryption: encryption?,
                integrity: integrity.or(of_profile),
                mode: mode?,
                esn,
                allow_insecure,
            })
        })();
        for (field, reason) in set.iter().flat_map(Self::refusals) {
            // One that is no such algorithm has been told of.
            if field != "integrity" || integrity_was_given == integrity.is_some() {
                let _: Option<()> = object.place(field).refuse(reason);
            }
        }
        object.end();
        set
    }
}

/// A value that must be there unless a profile gives it.
fn given<T: Parse>(object: &mut Object<'_>, field: &'static str, of_profile: Option<T>) -> Option<T> {
    match of_profile {
        Some(word) => Some(object.optional(field).unwrap_or(word)),
        None => object.required(field),
    }
}

impl TransformSet {
    /// What does not go together, and why, by field.
    fn refusals(&self) -> Vec<(&'static str, String)> {
        let departures = self.profile.map(|profile| profile.departures_of_set(self)).unwrap_or_default();
        if !departures.is_empty() {
            return departures;
        }
        let mut found: Vec<_> = self
            .insecure_fields()
            .filter(|(_, what)| !self.allow_insecure.contains(what))
            .map(|(field, what)| (field, what.refusal()))
            .collect();
        let encryption = self.encryption;
        match (encryption.block_bytes(), self.integrity) {
            (Some(_), None) => {
                let detail = format!("{encryption} needs an integrity algorithm, such as \"sha2-256\"");
                found.push(("integrity", detail));
            }
            (None, Some(_)) => {
                found.push(("integrity", format!("{encryption} has its own: leave it out")));
            }
            _ => {}
        }
        found
    }

    /// What of it is insecure, and which field says so: a JSON pointer.
    #[must_use]
    pub fn insecurities(&self) -> Vec<(String, Insecure)> {
        self.insecure_fields().map(|(field, what)| (format!("/{field}"), what)).collect()
    }

    fn insecure_fields(&self) -> impl Iterator<Item = (&'static str, Insecure)> {
        let cipher = match self.encryption {
            EspEncryption::TripleDesCbc => Some(("encryption", Insecure::TripleDes)),
            _ => None,
        };
        let integrity = match self.integrity {
            Some(EspIntegrity::Sha1) => Some(("integrity", Insecure::Sha1)),
            Some(EspIntegrity::Md5) => Some(("integrity", Insecure::Md5)),
            _ => None,
        };
        cipher.into_iter().chain(integrity)
    }

    /// What it adds to a packet.
    #[must_use]
    pub const fn framing(&self) -> Framing {
        match (self.encryption.block_bytes(), self.integrity) {
            (Some(block_bytes), Some(integrity)) => Framing::cbc(block_bytes, integrity.icv_bytes()),
            _ => Framing::COMBINED,
        }
    }
}

impl EspEncryption {
    /// Length of the block of a CBC cipher; `None` for one that authenticates.
    #[must_use]
    pub const fn block_bytes(self) -> Option<u32> {
        match self {
            Self::Aes256Gcm | Self::Aes128Gcm | Self::ChaCha20Poly1305 => None,
            Self::Aes256Cbc | Self::Aes192Cbc | Self::Aes128Cbc => Some(16),
            Self::TripleDesCbc => Some(8),
        }
    }
}

impl EspIntegrity {
    /// Length of the ICV: 96 bits or half of the hash.
    #[must_use]
    pub const fn icv_bytes(self) -> u32 {
        match self {
            Self::Md5 | Self::Sha1 => 12,
            Self::Sha2_256 => 16,
            Self::Sha2_384 => 24,
            Self::Sha2_512 => 32,
        }
    }
}

impl Resource for TransformSet {
    const KIND: Kind = Kind::TransformSet;
    type Name = Name;

    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }

    fn of(desired: &crate::Desired) -> &BTreeMap<Name, Self> {
        &desired.transform_sets
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<Name, Self> {
        &mut desired.transform_sets
    }
}

deserialize_by_parse!(TransformSet);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(body: &Value) -> Vec<String> {
        let errors = crate::read::parse::<TransformSet>(body).unwrap_err();
        errors.into_iter().map(|error| format!("{} {}", error.pointer, error.detail)).collect()
    }

    #[test]
    fn what_is_insecure_is_refused_unless_it_is_named() {
        let mut body = json!({"encryption": "3des", "integrity": "md5", "mode": "transport"});
        let errors = refused(&body);
        assert_eq!(errors.len(), 2, "{errors:?}");
        for (error, start) in
            errors.iter().zip(["/encryption 3des is insecure: ", "/integrity md5 is insecure: "])
        {
            assert!(error.starts_with(start) && error.ends_with("name it in allow_insecure"), "{error}");
        }
        body["allow_insecure"] = json!(["sha1", "3des"]);
        assert_eq!(refused(&body).len(), 1);
        body["allow_insecure"] = json!(["md5", "3des"]);
        let set = crate::read::parse::<TransformSet>(&body).unwrap();
        let found: Vec<_> = set.insecurities().into_iter().map(|(at, what)| format!("{at} {what}")).collect();
        assert_eq!(found, ["/encryption 3des", "/integrity md5"]);
        assert_eq!(serde_json::to_value(&set).unwrap()["allow_insecure"], json!(["md5", "3des"]));
    }

    #[test]
    fn a_profile_gives_what_is_left_out_and_suffers_nothing_else() {
        let set = crate::read::parse::<TransformSet>(&json!({"profile": "cisco-classic"})).unwrap();
        let expected = json!({
            "profile": "cisco-classic", "encryption": "aes-128-cbc", "integrity": "md5", "mode": "transport",
            "esn": false, "allow_insecure": ["md5"],
        });
        assert_eq!(serde_json::to_value(&set).unwrap(), expected);
        assert_eq!(crate::read::parse::<TransformSet>(&expected).unwrap(), set);
        assert_eq!(
            refused(&json!({"profile": "cisco-classic", "integrity": "sha1", "mode": "tunnel"})),
            ["/integrity profile cisco-classic has md5: leave this field out, or the profile"]
        );
    }

    #[test]
    fn a_cbc_cipher_needs_integrity_and_a_combined_one_has_its_own() {
        for cipher in ["aes-256-cbc", "aes-192-cbc", "aes-128-cbc"] {
            let errors = refused(&json!({"encryption": cipher, "mode": "tunnel"}));
            assert_eq!(
                errors,
                [format!("/integrity {cipher} needs an integrity algorithm, such as \"sha2-256\"")]
            );
            // A wrong one is told of once.
            let errors = refused(&json!({"encryption": cipher, "integrity": "null", "mode": "tunnel"}));
            assert_eq!(errors.len(), 1);
            assert!(errors[0].contains("is refused because"), "{errors:?}");
            for integrity in ["sha2-256", "sha2-384", "sha2-512"] {
                let body =
                    json!({"encryption": cipher, "integrity": integrity, "mode": "tunnel", "esn": false});
                let set = crate::read::parse::<TransformSet>(&body).unwrap();
                assert!(set.insecurities().is_empty());
                assert_eq!(serde_json::to_value(&set).unwrap(), body);
            }
        }
        for cipher in ["aes-256-gcm", "aes-128-gcm", "chacha20-poly1305"] {
            let mut body =
                json!({"encryption": cipher, "integrity": "sha2-256", "mode": "tunnel", "esn": true});
            assert_eq!(refused(&body), [format!("/integrity {cipher} has its own: leave it out")]);
            body.as_object_mut().unwrap().remove("integrity");
            let set = crate::read::parse::<TransformSet>(&body).unwrap();
            assert_eq!(set.framing(), Framing::COMBINED);
            assert_eq!(serde_json::to_value(&set).unwrap(), body);
        }
    }
}
