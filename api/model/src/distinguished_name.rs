//! Distinguished names as text in the order of their encoding, as OpenSSL and strongSwan write them:
//! `C=CH, O=Culvert, CN=gw`.

use std::fmt;
use std::str::FromStr;

use der::asn1::{Any, ObjectIdentifier};
use der::{Decode, Tag, Tagged};
use x509_cert::name::RdnSequence;

/// A distinguished name. Each of its relative names has one attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DistinguishedName {
    /// Index in [`ATTRIBUTES`], and the value.
    attributes: Vec<(usize, String)>,
}

/// Why a text is no distinguished name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write it as in \"C=CH, O=Example, CN=gw\", with C, ST, L, street, O, OU, CN, serialNumber, DC and E; a \\ before a comma that is part of a value"
)]
pub struct DistinguishedNameError;

impl DistinguishedName {
    /// Its DER (RFC 5280 section 4.1.2.4).
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let relative = self.attributes.iter().map(|(index, value)| {
            let (_, oid, tag) = ATTRIBUTES[*index];
            let oid = element(6, ObjectIdentifier::new_unwrap(oid).as_bytes());
            element(0x31, &element(0x30, &[oid, element(tag, value.as_bytes())].concat()))
        });
        element(0x30, &relative.collect::<Vec<_>>().concat())
    }

    /// The text of a name in DER; unprintable characters are escaped. For people: it need not be a name that
    /// [`FromStr`] understands.
    #[must_use]
    pub fn describe(der: &[u8]) -> String {
        let Ok(name) = RdnSequence::from_der(der) else { return "a malformed name".to_owned() };
        let relative = name.iter().map(|rdn| {
            let attributes = rdn.iter().map(|attribute| {
                let oid = attribute.oid.to_string();
                let known = ATTRIBUTES.iter().find(|(_, dotted, _)| *dotted == oid);
                let value = text_of(&attribute.value).unwrap_or_else(|| "?".to_owned());
                format!("{}={}", known.map_or(oid.as_str(), |(short, _, _)| short), escape(&value))
            });
            attributes.collect::<Vec<_>>().join("+")
        });
        relative.collect::<Vec<_>>().join(", ")
    }
}

impl FromStr for DistinguishedName {
    type Err = DistinguishedNameError;

    fn from_str(text: &str) -> Result<Self, DistinguishedNameError> {
        let attributes: Option<Vec<(usize, String)>> =
            split(text)?.into_iter().map(|part| attribute(&part)).collect();
        match attributes {
            Some(attributes) if !attributes.is_empty() => Ok(Self { attributes }),
            _ => Err(DistinguishedNameError),
        }
    }
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (known, value)) in self.attributes.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}={}", ATTRIBUTES[*known].0, escape(value))?;
        }
        Ok(())
    }
}

const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;

/// Short name, type, and the tag of the string that RFC 5280 appendix A gives to its value.
const ATTRIBUTES: [(&str, &str, u8); 10] = [
    ("CN", "2.5.4.3", UTF8),
    ("serialNumber", "2.5.4.5", PRINTABLE),
    ("C", "2.5.4.6", PRINTABLE),
    ("L", "2.5.4.7", UTF8),
    ("ST", "2.5.4.8", UTF8),
    ("street", "2.5.4.9", UTF8),
    ("O", "2.5.4.10", UTF8),
    ("OU", "2.5.4.11", UTF8),
    ("DC", "0.9.2342.19200300.100.1.25", IA5),
    ("E", "1.2.840.113549.1.9.1", IA5),
];

/// Splits at commas that no backslash stands before.
fn split(text: &str) -> Result<Vec<String>, DistinguishedNameError> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(found) = chars.next() {
        match found {
            ',' => parts.push(String::new()),
            '\\' => {
                let escaped = chars.next().ok_or(DistinguishedNameError)?;
                parts.last_mut().ok_or(DistinguishedNameError)?.push(escaped);
            }
            other => parts.last_mut().ok_or(DistinguishedNameError)?.push(other),
        }
    }
    Ok(parts)
}

fn attribute(part: &str) -> Option<(usize, String)> {
    let (short, value) = part.split_once('=')?;
    let (short, value) = (short.trim(), value.trim());
    let index = ATTRIBUTES.iter().position(|(known, _, _)| known.eq_ignore_ascii_case(short))?;
    let fits = match ATTRIBUTES[index].2 {
        UTF8 => !value.chars().any(char::is_control),
        _ => value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '),
    };
    (fits && !value.is_empty() && value.len() <= 128).then(|| (index, value.to_owned()))
}

fn escape(value: &str) -> String {
    value
        .chars()
        .flat_map(|found| match found {
            ',' | '\\' => vec!['\\', found],
            found if found.is_control() => found.escape_debug().collect(),
            found => vec![found],
        })
        .collect()
}

fn text_of(value: &Any) -> Option<String> {
    let bytes = value.value();
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => {
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        }
        Tag::TeletexString => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => {
            let units: Vec<u16> =
                bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// A DER element.
fn element(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let head = match (body.len(), length.len()) {
        (0..128, _) => vec![tag, u8::try_from(body.len()).unwrap_or_default()],
        (_, count) => [&[tag, 0x80 | u8::try_from(count).unwrap_or_default()], length.as_slice()].concat(),
    };
    [head.as_slice(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_written_and_encoded_in_one_order() {
        let name: DistinguishedName = "c=CH,O=Some\\, Site,  OU=a\\\\b, CN=gw".parse().unwrap();
        assert_eq!(name.to_string(), "C=CH, O=Some\\, Site, OU=a\\\\b, CN=gw");
        assert_eq!(name.to_string().parse::<DistinguishedName>().unwrap(), name);
        assert_eq!(DistinguishedName::describe(&name.to_der()), name.to_string());
        let simple: DistinguishedName = "C=CH, CN=gw".parse().unwrap();
        assert_eq!(
            simple.to_der(),
            [
                &[0x30, 0x1a, 0x31, 0x0b, 0x30, 9, 6, 3, 0x55, 4, 6, 0x13, 2][..],
                b"CH",
                &[0x31, 0x0b, 0x30, 9, 6, 3, 0x55, 4, 3, 0x0c, 2],
                b"gw"
            ]
            .concat()
        );
    }

    #[test]
    fn long_names_have_long_lengths() {
        let long = "x".repeat(120);
        let name: DistinguishedName = format!("O={long}, OU={long}, CN={long}").parse().unwrap();
        assert_eq!(DistinguishedName::describe(&name.to_der()), name.to_string());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", "gw", "CN=", "CN=gw,", "XX=gw", "CN=a\nb", "C=Zürich", "CN=gw\\"] {
            assert!(bad.parse::<DistinguishedName>().is_err(), "{bad}");
        }
    }
}
