//! The codec of IKEv1 messages (RFC 2408 section 3, RFC 2407 section 4.6).
//!
//! Payload bodies stay as they came: IKEv1 hashes them as such (RFC 2409 section 5). What a body means is read by the
//! type of its noun.

mod header;
mod identity;
mod notify;
mod payload;
mod proposal;
pub(crate) mod registry;
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

pub(crate) use header::{Exchange, Header, is_isakmp};
pub(crate) use identity::{PhaseTwoId, phase_one_identity, phase_one_identity_body};
pub(crate) use notify::{Delete, Notify};
pub(crate) use payload::{Payload, decode_chain, encode_chain};
pub(crate) use proposal::{
    Attribute, Proposal, Transform, decode_attributes, decode_sa, encode_attributes, encode_sa, lifetime,
};
