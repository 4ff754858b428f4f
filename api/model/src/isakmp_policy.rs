//! An ISAKMP policy: what is offered and accepted for the IKE SA (phase 1).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::kind::{Kind, Reference, Resource};
use crate::name::Name;
use crate::read::{At, Parse, deserialize_by_parse};
use crate::word::words;

words! {
    /// Version of IKE.
    pub enum IkeVersion as "a version of IKE" {
        /// RFC 7296.
        Ikev2 = "ikev2",
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
        /// AES-256-CBC, with HMAC integrity.
        Aes256Cbc = "aes-256-cbc",
        /// AES-128-CBC, with HMAC integrity.
        Aes128Cbc = "aes-128-cbc",
    }
    weak {
        "des": "its key is too short (RFC 8247)",
        "3des": "its block is too short (RFC 8247)",
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
    }
    weak {
        "md5": "MD5 is broken (RFC 8247)",
        "sha": "SHA-1 is weak (RFC 8247)",
        "sha1": "SHA-1 is weak (RFC 8247)",
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

/// Diffie-Hellman group, written as its number in the IANA registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// 31: Curve25519 (RFC 8031).
    Curve25519,
    /// 20: 384-bit random ECP (RFC 5903).
    Ecp384,
    /// 19: 256-bit random ECP (RFC 5903).
    Ecp256,
    /// 14: 2048-bit MODP (RFC 3526).
    Modp2048,
}

/// What is offered and accepted for an IKE SA: any of each list, best first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"priority": 10, "version": "ikev2", "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31, 19], "authentication": "pre-share", "lifetime_secs": 86400, "dpd_interval_secs": 30}))]
pub struct IsakmpPolicy {
    /// Policies are offered in this order, lowest first: 1 to 65535.
    #[schema(minimum = 1, maximum = 65535)]
    pub priority: u32,
    /// Version of IKE.
    #[schema(required = false)]
    pub version: IkeVersion,
    /// Ciphers.
    #[schema(min_items = 1)]
    pub encryption: Vec<IkeEncryption>,
    /// PRF hashes; with CBC ciphers the integrity hashes too.
    #[schema(min_items = 1)]
    pub hash: Vec<Hash>,
    /// Diffie-Hellman groups.
    #[schema(min_items = 1)]
    pub groups: Vec<Group>,
    /// Method of authentication.
    #[schema(required = false)]
    pub authentication: Authentication,
    /// The IKE SA is rekeyed after this long: 300 to 604800 seconds.
    #[schema(required = false, minimum = 300, maximum = 604_800, default = 86_400)]
    pub lifetime_secs: u32,
    /// The peer is asked for a sign of life after this long without one: 5 to 3600 seconds; 0 never asks.
    #[schema(required = false, minimum = 0, maximum = 3600, default = 30)]
    pub dpd_interval_secs: u32,
}

impl Group {
    /// Every group, best first.
    pub const ALL: [Self; 4] = [Self::Curve25519, Self::Ecp384, Self::Ecp256, Self::Modp2048];

    /// Its number in the IANA registry of IKEv2 transform type 4.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Curve25519 => 31,
            Self::Ecp384 => 20,
            Self::Ecp256 => 19,
            Self::Modp2048 => 14,
        }
    }
}

impl Parse for Group {
    fn parse(at: At<'_>) -> Option<Self> {
        const ALLOWED: &str = "allowed: 31, 20, 19, 14";
        let Some(number) = at.value().as_f64() else {
            return at.refuse(format!("must be the number of a group; {ALLOWED}"));
        };
        Self::ALL.into_iter().find(|group| f64::from(group.number()) == number).or_else(|| {
            let weak = [1.0, 2.0, 5.0, 22.0, 23.0, 24.0].contains(&number);
            let reason = if weak { "is refused because it is weak (RFC 8247)" } else { "is not known here" };
            at.refuse(format!("group {number} {reason}; {ALLOWED}"))
        })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.number())
    }
}

deserialize_by_parse!(Group);

impl utoipa::PartialSchema for Group {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::Integer)
            .enum_values(Some(Self::ALL.map(|group| Value::from(group.number()))))
            .description(Some("Diffie-Hellman group by its IANA number"))
            .into()
    }
}

impl utoipa::ToSchema for Group {}

impl Parse for IsakmpPolicy {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let priority = object.required_with("priority", |at| at.integer(1..=65_535u32));
        let version = object.optional("version").unwrap_or(IkeVersion::Ikev2);
        let encryption = object.required_with("encryption", |at| at.some_distinct(8));
        let hash = object.required_with("hash", |at| at.some_distinct(8));
        let groups = object.required_with("groups", |at| at.some_distinct(8));
        let authentication = object.optional("authentication").unwrap_or(Authentication::PreShare);
        let lifetime_secs =
            object.optional_with("lifetime_secs", |at| at.integer(300..=604_800u32)).unwrap_or(86_400);
        let dpd_interval_secs = object
            .optional_with("dpd_interval_secs", |at| match at.integer(0..=3600u32)? {
                1..5 => at.refuse("must be 0 (off) or from 5 to 3600"),
                seconds => Some(seconds),
            })
            .unwrap_or(30);
        object.end();
        Some(Self {
            priority: priority?,
            version,
            encryption: encryption?,
            hash: hash?,
            groups: groups?,
            authentication,
            lifetime_secs,
            dpd_interval_secs,
        })
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
