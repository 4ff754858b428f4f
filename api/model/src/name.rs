//! Names: of resources, and of Linux interfaces.

use std::fmt;
use std::str::FromStr;

use crate::read::{as_string, string_schema};

/// Name of a resource: 1 to 63 letters, digits, `.`, `_` and `-`, beginning with a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Name of an interface or a tunnel, which is also the name of its twin in Linux: a [`Name`] of at most 15
/// characters that means nothing else to Linux.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName(String);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Wrong length or characters.
    #[error(
        "a name has 1 to {max} characters: letters, digits, '.', '_' and '-', the first a letter or a digit"
    )]
    Shape {
        /// The greatest length allowed, in characters.
        max: usize,
    },
    /// A name that Linux uses for something else.
    #[error("{0:?} is reserved in Linux")]
    Reserved(String),
}

impl Name {
    /// Longest name in characters.
    pub const MAX_CHARS: usize = 63;

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl IfName {
    /// Longest name in characters: `IFNAMSIZ` less the final NUL.
    pub const MAX_CHARS: usize = 15;

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        shaped(text, Self::MAX_CHARS).map(Self)
    }
}

impl FromStr for IfName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // `all` and `default` are directories of /proc/sys/net/ipv4/conf.
        if ["lo", "all", "default"].contains(&text) {
            return Err(NameError::Reserved(text.to_owned()));
        }
        shaped(text, Self::MAX_CHARS).map(Self)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<IfName> for Name {
    fn from(name: IfName) -> Self {
        Self(name.0)
    }
}

as_string!(Name);
string_schema!(Name, "Name of a resource", "site-a", Some(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"));
as_string!(IfName);
string_schema!(
    IfName,
    "Name of an interface or a tunnel, also in Linux",
    "gre1",
    Some(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$")
);

fn shaped(text: &str, max: usize) -> Result<String, NameError> {
    let mut chars = text.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if first && rest && text.len() <= max { Ok(text.to_owned()) } else { Err(NameError::Shape { max }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_shape() {
        for good in ["a", "0", "site-a.example_1", &"x".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", "a\n", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn interface_names_fit_linux() {
        assert!("black0".parse::<IfName>().is_ok());
        assert!("x".repeat(15).parse::<IfName>().is_ok());
        for bad in ["x".repeat(16).as_str(), "lo", "all", "default", "..", "a:1"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad}");
        }
    }
}
