//! A post-quantum pre-shared key, which is mixed into the keys of IKEv2 (RFC 8784).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::kind::{Kind, Reference, Resource};
use crate::name::Name;
use crate::read::{At, Parse, deserialize_by_parse};
use crate::secret::Secret;

/// A post-quantum pre-shared key. The key itself is written, never read: it has no place in the serialized form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"ppk_id": "grove", "key": "hex:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}))]
pub struct Ppk {
    /// By this name the peer knows the same key (PPK_ID_FIXED).
    #[schema(min_length = 1, max_length = 255)]
    pub ppk_id: String,
    /// Chosen by the writer to tell one key from the next; counted by the server when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub version: Option<u32>,
    /// The key: text, or `hex:` and hexadecimal digits; 32 to 256 bytes. Needed when the resource is created; when it is
    /// absent later, the key stays. Never in an answer.
    #[serde(skip_serializing)]
    pub key: Option<Secret>,
}

impl Ppk {
    /// Shorter keys are refused: 256 bits of randomness withstand Grover's algorithm as 128 bits withstand today's
    /// (RFC 8784 section 6).
    pub const MIN_BYTES: usize = 32;
}

impl Parse for Ppk {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let ppk_id = object.required_with("ppk_id", |at| at.line(255));
        let version = object.optional_with("version", |at| at.integer(1..=u32::MAX));
        let key: Option<Secret> = object.optional("key");
        if key.as_ref().is_some_and(|key| key.expose().len() < Self::MIN_BYTES) {
            let detail = format!(
                "must have {} bytes or more of true randomness (RFC 8784 section 6)",
                Self::MIN_BYTES
            );
            let _: Option<()> = object.place("key").refuse(detail);
        }
        object.end();
        Some(Self { ppk_id: ppk_id?, version, key })
    }
}

impl Resource for Ppk {
    const KIND: Kind = Kind::Ppk;
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
        &desired.ppks
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<Name, Self> {
        &mut desired.ppks
    }
}

deserialize_by_parse!(Ppk);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may fail by panicking")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_must_be_long_and_is_not_written_back() {
        let digits = "0123456789abcdef".repeat(4);
        let ppk =
            crate::read::parse::<Ppk>(&json!({"ppk_id": "grove", "key": format!("hex:{digits}")})).unwrap();
        assert_eq!(ppk.key.as_ref().unwrap().expose().len(), 32);
        assert_eq!(serde_json::to_value(&ppk).unwrap(), json!({"ppk_id": "grove"}));
        let refused = |body| {
            let errors = crate::read::parse::<Ppk>(&body).unwrap_err();
            errors.into_iter().map(|error| error.pointer).collect::<Vec<_>>()
        };
        assert_eq!(refused(json!({"ppk_id": "grove", "key": "thirty-one bytes are not enough"})), ["/key"]);
        assert_eq!(refused(json!({"ppk_id": "", "key": format!("hex:{digits}")})), ["/ppk_id"]);
        assert_eq!(refused(json!({"key": format!("hex:{digits}")})), ["/ppk_id"]);
    }
}
