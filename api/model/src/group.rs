//! Diffie-Hellman groups.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::insecure::Insecure;
use crate::read::{At, Parse, deserialize_by_parse};

/// Diffie-Hellman group, written as its number in the IANA registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// 31: Curve25519 (RFC 8031).
    Curve25519,
    /// 21: 521-bit random ECP (RFC 5903).
    Ecp521,
    /// 20: 384-bit random ECP (RFC 5903).
    Ecp384,
    /// 19: 256-bit random ECP (RFC 5903).
    Ecp256,
    /// 18: 8192-bit MODP (RFC 3526). A key exchange takes both ends several times as long as with 16.
    Modp8192,
    /// 17: 6144-bit MODP (RFC 3526).
    Modp6144,
    /// 16: 4096-bit MODP (RFC 3526).
    Modp4096,
    /// 15: 3072-bit MODP (RFC 3526).
    Modp3072,
    /// 14: 2048-bit MODP (RFC 3526).
    Modp2048,
    /// 5: 1536-bit MODP (RFC 3526); only if `allow_insecure` names `modp1536`.
    Modp1536,
    /// 2: 1024-bit MODP (RFC 7296 appendix B.2); only if `allow_insecure` names `modp1024`.
    Modp1024,
}

impl Group {
    /// Every group, best first.
    pub const ALL: [Self; 11] = [
        Self::Curve25519,
        Self::Ecp521,
        Self::Ecp384,
        Self::Ecp256,
        Self::Modp8192,
        Self::Modp6144,
        Self::Modp4096,
        Self::Modp3072,
        Self::Modp2048,
        Self::Modp1536,
        Self::Modp1024,
    ];

    /// Its number in the IANA registry of IKEv2 transform type 4.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Curve25519 => 31,
            Self::Ecp521 => 21,
            Self::Ecp384 => 20,
            Self::Ecp256 => 19,
            Self::Modp8192 => 18,
            Self::Modp6144 => 17,
            Self::Modp4096 => 16,
            Self::Modp3072 => 15,
            Self::Modp2048 => 14,
            Self::Modp1536 => 5,
            Self::Modp1024 => 2,
        }
    }

    /// What must be allowed by name to use it.
    #[must_use]
    pub const fn insecurity(self) -> Option<Insecure> {
        match self {
            Self::Modp1536 => Some(Insecure::Modp1536),
            Self::Modp1024 => Some(Insecure::Modp1024),
            Self::Curve25519
            | Self::Ecp521
            | Self::Ecp384
            | Self::Ecp256
            | Self::Modp8192
            | Self::Modp6144
            | Self::Modp4096
            | Self::Modp3072
            | Self::Modp2048 => None,
        }
    }
}

impl Parse for Group {
    fn parse(at: At<'_>) -> Option<Self> {
        const ALLOWED: &str = "allowed: 31, 14 to 21, and 5 and 2 where `allow_insecure` names them";
        let Some(number) = at.value().as_f64() else {
            return at.refuse(format!("must be the number of a group; {ALLOWED}"));
        };
        Self::ALL.into_iter().find(|group| f64::from(group.number()) == number).or_else(|| {
            let weak = [1.0, 22.0, 23.0, 24.0].contains(&number);
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
