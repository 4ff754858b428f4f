//! IKE identities (RFC 7296 section 3.5).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::distinguished_name::DistinguishedName;
use crate::read::{as_string, string_schema};

/// Who a peer says that it is: `192.0.2.2`, `gw.example.net`, `gw@example.net`, `keyid:spoke-7` or
/// `dn:C=CH, O=Example, CN=gw`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// `ID_IPV4_ADDR` or `ID_IPV6_ADDR`.
    Address(IpAddr),
    /// `ID_FQDN`.
    Fqdn(String),
    /// `ID_RFC822_ADDR`.
    Email(String),
    /// `ID_KEY_ID`: opaque text after `keyid:`.
    KeyId(String),
    /// `ID_DER_ASN1_DN`: a distinguished name after `dn:`, which only a certificate proves.
    DistinguishedName(DistinguishedName),
}

/// Why a text is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an identity: write an address, a domain name, a mail address, keyid: and text, or dn: and a distinguished name such as C=CH, O=Example, CN=gw"
)]
pub struct IdentityError(String);

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let refused = || IdentityError(text.to_owned());
        let printable = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if let Some(name) = text.strip_prefix("dn:") {
            return name.parse().map(Self::DistinguishedName).map_err(|_| refused());
        }
        if text.len() > MAX_BYTES {
            return Err(refused());
        }
        if let Some(key_id) = text.strip_prefix("keyid:") {
            return printable(key_id).then(|| Self::KeyId(key_id.to_owned())).ok_or_else(refused);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if let Some((user, domain)) = text.split_once('@') {
            let valid = printable(user) && is_domain(domain);
            return valid.then(|| Self::Email(text.to_owned())).ok_or_else(refused);
        }
        // All digits and dots is a mistyped address, not a domain name.
        let numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        (is_domain(text) && !numeric).then(|| Self::Fqdn(text.to_owned())).ok_or_else(refused)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Fqdn(text) | Self::Email(text) => f.write_str(text),
            Self::KeyId(text) => write!(f, "keyid:{text}"),
            Self::DistinguishedName(name) => write!(f, "dn:{name}"),
        }
    }
}

as_string!(Identity);
string_schema!(
    Identity,
    "Address, domain name, mail address, `keyid:` and text, or `dn:` and a distinguished name",
    "gw.example.net",
    None
);

const MAX_BYTES: usize = 253;

fn is_domain(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_apart_and_written_back() {
        let kind = |text: &str| text.parse::<Identity>().unwrap();
        assert!(matches!(kind("192.0.2.2"), Identity::Address(_)));
        assert!(matches!(kind("2001:db8::2"), Identity::Address(_)));
        assert!(matches!(kind("gw.example.net"), Identity::Fqdn(_)));
        assert!(matches!(kind("gw@example.net"), Identity::Email(_)));
        assert!(matches!(kind("keyid:spoke-7"), Identity::KeyId(_)));
        assert!(matches!(kind("dn:C=CH, CN=gw"), Identity::DistinguishedName(_)));
        for text in ["dn:C=CH, CN=gw", "192.0.2.2", "gw.example.net", "gw@example.net", "keyid:spoke-7"] {
            assert_eq!(kind(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for bad in [
            "",
            "192.0.2.300",
            "a b",
            "gw@",
            "@example.net",
            "keyid:",
            "-a.example",
            "a..b",
            &"x".repeat(254),
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }
}
