//! A pre-shared key and the peer that it is shared with.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Serialize;

use crate::address::Prefix;
use crate::identity::Identity;
use crate::kind::{Kind, Reference, Resource};
use crate::name::Name;
use crate::read::{At, Parse, as_string, deserialize_by_parse, string_schema};
use crate::secret::Secret;

/// A pre-shared key. The key itself is written, never read: it has no place in the serialized form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"peer": "192.0.2.2", "key": "hex:00112233445566778899aabbccddeeff00112233"}))]
pub struct PreSharedKey {
    /// Whom it is shared with.
    pub peer: Peer,
    /// It is used only by connections on which we bear this identity; by all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_identity: Option<Identity>,
    /// Chosen by the writer to tell one key from the next; counted by the server when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub version: Option<u32>,
    /// The key: text, or `hex:` and hexadecimal digits; 8 to 256 bytes. Needed when the resource is created; when
    /// it is absent later, the key stays. Never in an answer.
    #[serde(skip_serializing)]
    pub key: Option<Secret>,
}

/// Whom a key is shared with: `192.0.2.2`, `192.0.2.0/24`, or an identity such as `gw.example.net`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Any peer whose address lies in it.
    Prefix(Prefix),
    /// The peer that proves this identity, an address included.
    Identity(Identity),
}

impl Peer {
    /// How well it matches a peer at `address` that is to prove `identity`; larger is better, `None` not at all.
    #[must_use]
    pub fn matches(&self, address: IpAddr, identity: &Identity) -> Option<u16> {
        match self {
            Self::Identity(expected) if expected == identity => Some(EXACT + 1),
            Self::Identity(Identity::Address(expected)) if *expected == address => Some(EXACT),
            Self::Prefix(prefix) if prefix.contains(address) => Some(u16::from(prefix.prefix_len())),
            Self::Identity(_) | Self::Prefix(_) => None,
        }
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return text.parse().map(Self::Prefix);
        }
        text.parse().map(Self::Identity).map_err(|_| {
            format!("{text:?} is not a peer: write an address, a prefix, a domain name, a mail address, or keyid: and text")
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Identity(identity) => identity.fmt(f),
        }
    }
}

as_string!(Peer);
string_schema!(Peer, "Address, prefix, domain name, mail address, or `keyid:` and text", "192.0.2.2", None);

impl Parse for PreSharedKey {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let peer = object.required("peer");
        let local_identity = object.optional("local_identity");
        let version = object.optional_with("version", |at| at.integer(1..=u32::MAX));
        let key = object.optional("key");
        object.end();
        Some(Self { peer: peer?, local_identity, version, key })
    }
}

impl Resource for PreSharedKey {
    const KIND: Kind = Kind::PreSharedKey;
    type Name = Name;
    const SECRET_FIELD: Option<&'static str> = Some("key");

    fn secret(&self) -> Option<&Secret> {
        self.key.as_ref()
    }

    fn set_secret(&mut self, secret: Option<Secret>) {
        self.key = secret;
    }

    fn secret_version(&self) -> Option<u32> {
        self.version
    }

    fn set_secret_version(&mut self, version: u32) {
        self.version = Some(version);
    }

    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }

    fn of(desired: &crate::Desired) -> &BTreeMap<Name, Self> {
        &desired.pre_shared_keys
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<Name, Self> {
        &mut desired.pre_shared_keys
    }
}

deserialize_by_parse!(PreSharedKey);

/// Better than any prefix length.
const EXACT: u16 = 256;
