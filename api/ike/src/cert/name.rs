//! Distinguished names: compared by RFC 5280 section 7.1, shown as OpenSSL and strongSwan show them.

use std::fmt::Write;

use der::asn1::{Any, ObjectIdentifier};
use der::{Decode, Tag, Tagged};
use x509_cert::name::RdnSequence;

/// Whether two names (DER of `Name`) are the same: as many relative names in the same order, in each of them the same
/// attributes in any order, and values that are equal but for their string type, the case of ASCII letters and runs of
/// spaces. Names that are no names are the same as none.
pub(crate) fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    let (Some(one), Some(other)) = (normalized(one), normalized(other)) else { return false };
    !one.is_empty() && one == other
}

/// In words and in the order of encoding, for causes: `C=CH, O=Culvert, CN=gw`. Unprintable characters are escaped.
pub(crate) fn describe_name(name: &[u8]) -> String {
    let Ok(name) = RdnSequence::from_der(name) else { return "a malformed name".to_owned() };
    let mut text = String::new();
    for (index, rdn) in name.iter().enumerate() {
        for (inner, attribute) in rdn.iter().enumerate() {
            let separator = match (index, inner) {
                (0, 0) => "",
                (_, 0) => ", ",
                _ => "+",
            };
            text.push_str(separator);
            match SHORT_NAMES.iter().find(|(oid, _)| *oid == attribute.oid) {
                Some((_, short)) => text.push_str(short),
                None => {
                    let _ = write!(text, "{}", attribute.oid);
                }
            }
            text.push('=');
            match string_of(&attribute.value) {
                Some(value) => text.extend(value.chars().flat_map(|found| match found {
                    '\'' | '"' => vec![found],
                    _ => found.escape_debug().collect(),
                })),
                None => text.push('?'),
            }
        }
    }
    if text.is_empty() { "an empty name".to_owned() } else { text }
}

/// An attribute's value, comparable.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Text(String),
    Other(Tag, Vec<u8>),
}

fn normalized(name: &[u8]) -> Option<Vec<Vec<(ObjectIdentifier, Value)>>> {
    let name = RdnSequence::from_der(name).ok()?;
    let relative = name.iter().map(|rdn| {
        let mut attributes: Vec<_> = rdn
            .iter()
            .map(|attribute| {
                let value = match string_of(&attribute.value) {
                    Some(text) => Value::Text(fold(&text)),
                    None => Value::Other(attribute.value.tag(), attribute.value.value().to_vec()),
                };
                (attribute.oid, value)
            })
            .collect();
        attributes.sort();
        attributes
    });
    Some(relative.collect())
}

/// The text of a `DirectoryString` or `IA5String`, whatever its type.
fn string_of(value: &Any) -> Option<String> {
    let bytes = value.value();
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => {
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        }
        // T.61 is in practice written as Latin 1.
        Tag::TeletexString => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => {
            let (pairs, rest) = bytes.as_chunks::<2>();
            let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
            let text: Option<String> =
                char::decode_utf16(units).map(|found| found.ok()).collect::<Option<_>>();
            text.filter(|_| rest.is_empty())
        }
        _ => None,
    }
}

/// Folds the case of ASCII only: a fold that joins more could make one of two names that a CA tells apart.
fn fold(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ").to_ascii_lowercase()
}

const SHORT_NAMES: [(ObjectIdentifier, &str); 10] = [
    (ObjectIdentifier::new_unwrap("2.5.4.3"), "CN"),
    (ObjectIdentifier::new_unwrap("2.5.4.5"), "serialNumber"),
    (ObjectIdentifier::new_unwrap("2.5.4.6"), "C"),
    (ObjectIdentifier::new_unwrap("2.5.4.7"), "L"),
    (ObjectIdentifier::new_unwrap("2.5.4.8"), "ST"),
    (ObjectIdentifier::new_unwrap("2.5.4.9"), "street"),
    (ObjectIdentifier::new_unwrap("2.5.4.10"), "O"),
    (ObjectIdentifier::new_unwrap("2.5.4.11"), "OU"),
    (ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.25"), "DC"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.1"), "E"),
];
