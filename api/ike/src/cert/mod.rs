//! Certificates and signatures: RFC 7427 and 8420 on the wire, RFC 5280 for chains, RFC 4945 for what they mean to IKE.
//!
//! Nothing is ever fetched: chains come from the peer, anchors and CRLs from the host, the time of day as well.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod chain;
mod facts;
mod given_hash;
mod local;
mod name;
mod rsa;
mod scheme;
mod signing_key;
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
mod trust;
mod verify;

pub use local::{LocalCertificate, RsaPadding};
pub use trust::{RevocationPolicy, Trust, TrustMaterial};

pub(crate) use given_hash::HashScheme;
pub(crate) use name::{describe_name, is_same_name};
pub(crate) use scheme::PeerHashes;
pub(crate) use verify::{Claim, HashClaim, PeerCertificates, verify, verify_hash};

/// Most certificates taken from a peer.
pub(crate) const MAX_CERTIFICATES: usize = 10;
/// Most bytes of certificates taken from a peer.
pub(crate) const MAX_CERTIFICATES_BYTES: usize = 64 * 1024;

/// Why a certificate, a key or a CRL of the configuration cannot be used; `Display` is a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(pub(crate) String);

impl CertificateError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
