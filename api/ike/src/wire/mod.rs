//! The codec of IKE messages: IKEv2 (RFC 7296 section 3) here, IKEv1 in `isakmp`: bytes to payloads and back, nothing else.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod first_message;
mod header;
mod identity;
pub(crate) mod isakmp;
mod message;
mod notify;
mod payload;
mod proposal;
mod reader;
pub(crate) mod registry;
pub(crate) mod selector;
#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a test may fail by panicking"
)]
mod tests;
mod writer;

pub(crate) use first_message::FirstMessage;
pub(crate) use header::{Exchange, HEADER_LEN_BYTES, Header};
pub(crate) use identity::WireIdentity;
pub(crate) use message::{Message, decode_payloads, encode_payloads};
pub(crate) use notify::{Delete, Notify};
pub(crate) use payload::{Encrypted, Fragment, Payload};
pub(crate) use proposal::{Protocol, Transform, TransformKind, WireProposal};
pub(crate) use reader::Reader;
pub(crate) use writer::Writer;

/// What is wrong with a message, by name; the names are counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("message ends early")]
    Truncated,
    #[error("bytes left over")]
    Trailing,
    #[error("a length field lies")]
    BadLength,
    #[error("message too long")]
    TooLong,
    #[error("too many payloads, proposals, transforms or selectors")]
    TooMany,
    #[error("major version is not 2")]
    BadVersion,
    #[error("a field has a value that its place forbids")]
    BadValue,
    /// RFC 7296 section 2.5: the whole message is refused with UNSUPPORTED_CRITICAL_PAYLOAD.
    #[error("unknown payload {0} is critical")]
    UnknownCritical(u8),
    #[error("the encrypted payload is not the last")]
    EncryptedNotLast,
    #[error("a fragment's number and total make no sense")]
    BadFragment,
}

impl WireError {
    /// The name under which the drop is counted.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Trailing => "trailing_bytes",
            Self::BadLength => "bad_length",
            Self::TooLong => "too_long",
            Self::TooMany => "too_many_items",
            Self::BadVersion => "bad_version",
            Self::BadValue => "bad_value",
            Self::UnknownCritical(_) => "unknown_critical_payload",
            Self::EncryptedNotLast => "encrypted_not_last",
            Self::BadFragment => "bad_fragment",
        }
    }
}

/// Longest message taken in.
pub(crate) const MAX_MESSAGE_BYTES: usize = 10_000;
/// Most payloads in a message.
pub(crate) const MAX_PAYLOADS: usize = 64;
/// Most proposals in an SA payload.
pub(crate) const MAX_PROPOSALS: usize = 32;
/// Most transforms in a message's SA payload.
pub(crate) const MAX_TRANSFORMS: usize = 256;
/// Most traffic selectors in a payload.
pub(crate) const MAX_SELECTORS: usize = 64;
