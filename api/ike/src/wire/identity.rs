//! Identification payloads (RFC 7296 section 3.5).

use std::fmt;
use std::net::IpAddr;

use super::{Reader, WireError, Writer};
use crate::Identity;
use crate::cert::{describe_name, is_same_name};

/// An identity as it stands in a payload: type and bytes, compared as such.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WireIdentity {
    pub(crate) kind: u8,
    pub(crate) data: Vec<u8>,
}

const ID_IPV4_ADDR: u8 = 1;
const ID_FQDN: u8 = 2;
const ID_RFC822_ADDR: u8 = 3;
const ID_IPV6_ADDR: u8 = 5;
const ID_DER_ASN1_DN: u8 = 9;
const ID_KEY_ID: u8 = 11;

impl WireIdentity {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let kind = body.u8()?;
        body.take(3)?;
        Ok(Self { kind, data: body.rest().to_vec() })
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.u8(self.kind);
        writer.bytes(&[0; 3]);
        writer.bytes(&self.data);
    }

    /// The payload's body, which AUTH covers (section 2.15: RestOfIDPayload).
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.encode(&mut writer);
        writer.into_bytes()
    }

    /// Whether it is this identity: byte by byte, but names by RFC 5280 section 7.1 and domains without regard to case.
    pub(crate) fn is(&self, expected: &Identity) -> bool {
        match (self.kind, expected) {
            (ID_DER_ASN1_DN, Identity::DistinguishedName(name)) => is_same_name(&self.data, name),
            (ID_FQDN, Identity::Fqdn(name)) => self.data.eq_ignore_ascii_case(name.as_bytes()),
            _ => *self == Self::from(expected),
        }
    }

    /// In words, with the peer's bytes escaped.
    pub(crate) fn describe(&self) -> String {
        match (self.kind, self.data.as_slice()) {
            (ID_IPV4_ADDR, data) => match <[u8; 4]>::try_from(data) {
                Ok(octets) => IpAddr::from(octets).to_string(),
                Err(_) => "a malformed IPv4 identity".to_owned(),
            },
            (ID_IPV6_ADDR, data) => match <[u8; 16]>::try_from(data) {
                Ok(octets) => IpAddr::from(octets).to_string(),
                Err(_) => "a malformed IPv6 identity".to_owned(),
            },
            (ID_FQDN | ID_RFC822_ADDR, data) => data.escape_ascii().to_string(),
            (ID_DER_ASN1_DN, data) => describe_name(data),
            (kind, data) => format!("identity type {kind} \"{}\"", data.escape_ascii()),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&WireIdentity::from(self).describe())
    }
}

impl From<&Identity> for WireIdentity {
    fn from(identity: &Identity) -> Self {
        let (kind, data) = match identity {
            Identity::Address(IpAddr::V4(address)) => (ID_IPV4_ADDR, address.octets().to_vec()),
            Identity::Address(IpAddr::V6(address)) => (ID_IPV6_ADDR, address.octets().to_vec()),
            Identity::Fqdn(name) => (ID_FQDN, name.clone().into_bytes()),
            Identity::Email(name) => (ID_RFC822_ADDR, name.clone().into_bytes()),
            Identity::KeyId(id) => (ID_KEY_ID, id.clone()),
            Identity::DistinguishedName(name) => (ID_DER_ASN1_DN, name.clone()),
        };
        Self { kind, data }
    }
}
