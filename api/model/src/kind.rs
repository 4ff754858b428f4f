//! The twelve kinds of resources, and what each of them has in common.

use std::fmt;

use crate::read::Parse;

/// A kind of resource; its word is also its place in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the resources'")]
pub enum Kind {
    Site,
    Interface,
    IsakmpPolicy,
    PreSharedKey,
    Ppk,
    Certificate,
    TransformSet,
    IpsecProfile,
    AccessList,
    CryptoMap,
    Tunnel,
    Route,
}

impl Kind {
    /// Every kind, what is referred to before what refers to it.
    pub const ALL: [Self; 12] = [
        Self::Site,
        Self::IsakmpPolicy,
        Self::PreSharedKey,
        Self::Ppk,
        Self::Certificate,
        Self::TransformSet,
        Self::IpsecProfile,
        Self::AccessList,
        Self::CryptoMap,
        Self::Interface,
        Self::Tunnel,
        Self::Route,
    ];

    /// The plural that stands in paths: `/v1/transform-sets`.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Site => "sites",
            Self::Interface => "interfaces",
            Self::IsakmpPolicy => "isakmp-policies",
            Self::PreSharedKey => "pre-shared-keys",
            Self::Ppk => "ppks",
            Self::Certificate => "certificates",
            Self::TransformSet => "transform-sets",
            Self::IpsecProfile => "ipsec-profiles",
            Self::AccessList => "access-lists",
            Self::CryptoMap => "crypto-maps",
            Self::Tunnel => "tunnels",
            Self::Route => "routes",
        }
    }

    /// One of them, for a sentence: `transform-set`.
    #[must_use]
    pub const fn singular(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Interface => "interface",
            Self::IsakmpPolicy => "isakmp-policy",
            Self::PreSharedKey => "pre-shared-key",
            Self::Ppk => "ppk",
            Self::Certificate => "certificate",
            Self::TransformSet => "transform-set",
            Self::IpsecProfile => "ipsec-profile",
            Self::AccessList => "access-list",
            Self::CryptoMap => "crypto-map",
            Self::Tunnel => "tunnel",
            Self::Route => "route",
        }
    }

    /// The kind whose plural this is.
    #[must_use]
    pub fn from_plural(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plural() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.plural())
    }
}

/// A field of one resource that names another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// JSON pointer of the field.
    pub pointer: String,
    /// What it names.
    pub kind: Kind,
    /// By which name.
    pub name: String,
}

impl Reference {
    pub(crate) fn new(pointer: impl Into<String>, kind: Kind, name: &impl fmt::Display) -> Self {
        Self { pointer: pointer.into(), kind, name: name.to_string() }
    }
}

/// What every resource can do.
pub trait Resource:
    Parse + serde::Serialize + Clone + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// Its kind.
    const KIND: Kind;
    /// The type of its name: [`crate::Name`] or [`crate::IfName`].
    type Name: std::str::FromStr<Err = crate::NameError>
        + fmt::Display
        + fmt::Debug
        + Ord
        + Clone
        + Send
        + Sync
        + 'static;

    /// The field that is sealed at rest and never answered, for the kinds that have one.
    const SECRET_FIELD: Option<&'static str> = None;

    /// Whether it must have a secret when it is made.
    fn needs_secret(&self) -> bool {
        Self::SECRET_FIELD.is_some()
    }

    /// What is answered beside what was written: a field and its value.
    fn derived(&self) -> Option<(&'static str, serde_json::Value)> {
        None
    }

    /// The secret, where one was written or opened.
    fn secret(&self) -> Option<&crate::Secret> {
        None
    }

    /// Puts the opened secret in, or takes it out.
    fn set_secret(&mut self, _secret: Option<crate::Secret>) {}

    /// Whether a secret that was written before still fits what is written without one.
    ///
    /// # Errors
    /// The field that it does not fit, and why.
    fn fits(&self, _kept: &crate::Secret) -> Result<(), crate::read::FieldError> {
        Ok(())
    }

    /// What replacing `before` takes from those who use it, for a warning to who writes.
    fn takes_away(&self, _before: &Self) -> Vec<crate::read::FieldError> {
        Vec::new()
    }

    /// The writer's or the last stored version of the secret.
    fn secret_version(&self) -> Option<u32> {
        None
    }

    /// Notes the version of the secret.
    fn set_secret_version(&mut self, _version: u32) {}

    /// Every other resource that it names.
    fn references(&self) -> Vec<Reference>;

    /// Where [`crate::Desired`] keeps this kind.
    fn of(desired: &crate::Desired) -> &std::collections::BTreeMap<Self::Name, Self>;

    /// Where [`crate::Desired`] keeps this kind, to change it.
    fn of_mut(desired: &mut crate::Desired) -> &mut std::collections::BTreeMap<Self::Name, Self>;
}
