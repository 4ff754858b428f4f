//! What is wrong *between* resources, each of which is right by itself.
//!
//! The store asks after each write, before it commits, and refuses the write when anything comes out.

mod addresses;
mod keys;
mod recursion;
mod terms;
mod tunnels;
mod warnings;

use std::fmt;

use crate::desired::Desired;
use crate::kind::Kind;
use crate::read::FieldError;

pub use warnings::warnings;

/// A field of a resource that does not go with another resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The kind of the resource.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Which field, and why.
    pub error: FieldError,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}: {}", self.kind, self.name, self.error.pointer, self.error.detail)
    }
}

impl Violation {
    fn new(
        kind: Kind,
        name: &impl fmt::Display,
        pointer: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            name: name.to_string(),
            error: FieldError { pointer: pointer.into(), detail: detail.into() },
        }
    }
}

/// Everything that is wrong after a resource of the kind `changed` was written or deleted.
#[must_use]
pub fn violations(desired: &Desired, changed: Kind) -> Vec<Violation> {
    let mut found = Vec::new();
    if matches!(
        changed,
        Kind::TransformSet | Kind::IpsecProfile | Kind::CryptoMap | Kind::IsakmpPolicy | Kind::Certificate
    ) {
        terms::check(desired, &mut found);
    }
    if matches!(changed, Kind::Interface | Kind::Tunnel) {
        addresses::check(desired, &mut found);
    }
    if changed == Kind::PreSharedKey {
        keys::check(desired, &mut found);
    }
    if !matches!(
        changed,
        Kind::Site
            | Kind::PreSharedKey
            | Kind::Ppk
            | Kind::Certificate
            | Kind::IsakmpPolicy
            | Kind::AccessList
    ) {
        tunnels::check(desired, &mut found);
    }
    if matches!(changed, Kind::Interface | Kind::Tunnel | Kind::Route) {
        recursion::check(desired, &mut found);
    }
    found
}

#[cfg(test)]
mod tests;
