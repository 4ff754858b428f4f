//! A transform set: what is offered and accepted for an IPsec SA (phase 2).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::kind::{Kind, Reference, Resource};
use crate::name::Name;
use crate::read::{At, Parse, deserialize_by_parse};
use crate::word::words;

words! {
    /// Cipher of an IPsec SA.
    pub enum EspEncryption as "an ESP cipher" {
        /// AES-256-GCM with a 16-octet ICV (RFC 4106).
        Aes256Gcm = "aes-256-gcm",
        /// AES-128-GCM with a 16-octet ICV (RFC 4106).
        Aes128Gcm = "aes-128-gcm",
    }
    weak {
        "des": "its key is too short (RFC 8221)",
        "3des": "its block is too short (RFC 8221)",
        "null": "it does not encrypt",
    }
}

words! {
    /// Mode of an IPsec SA (RFC 4301 section 4.1).
    pub enum Mode as "a mode" {
        /// The IP header of the GRE packet stays in the open.
        Transport = "transport",
        /// The GRE packet gets a second IP header.
        Tunnel = "tunnel",
    }
    weak {}
}

/// What is offered and accepted for an IPsec SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"encryption": "aes-256-gcm", "mode": "transport", "esn": true}))]
pub struct TransformSet {
    /// Cipher.
    pub encryption: EspEncryption,
    /// Mode.
    pub mode: Mode,
    /// Offer extended sequence numbers (RFC 4304), and take ordinary ones if the peer has no others; false offers
    /// ordinary ones alone.
    #[schema(required = false, default = true)]
    pub esn: bool,
}

impl Parse for TransformSet {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let encryption = object.required("encryption");
        let mode = object.required("mode");
        let esn = object.optional("esn").unwrap_or(true);
        object.end();
        Some(Self { encryption: encryption?, mode: mode?, esn })
    }
}

impl Resource for TransformSet {
    const KIND: Kind = Kind::TransformSet;
    type Name = Name;

    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }

    fn of(desired: &crate::Desired) -> &BTreeMap<Name, Self> {
        &desired.transform_sets
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<Name, Self> {
        &mut desired.transform_sets
    }
}

deserialize_by_parse!(TransformSet);
