//! Suites, key exchange and the key schedules (RFC 7296 sections 2.13 to 2.18, RFC 5282; RFC 2409 section 5).

mod agreement;
mod cbc;
#[allow(clippy::arithmetic_side_effects, reason = "the operators are those of numbers modulo a prime")]
mod comb;
mod encapsulation;
mod esp;
mod kept_keys;
#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a test may fail by panicking"
)]
mod legacy_tests;
mod modp;
mod prf;
mod random;
mod schedule;
mod seal;
mod skeyid;
mod suite;
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

use zeroize::Zeroizing;

pub(crate) use agreement::KeyPair;
pub(crate) use cbc::CbcCipher;
pub(crate) use encapsulation::{Decapsulator, encapsulate};
pub(crate) use esp::{EspSuite, child_keys};
pub(crate) use prf::{digest_sha1, hmac_sha256, prf, prf_plus};
pub(crate) use random::Random;
pub(crate) use schedule::{IkeKeys, PlainKeys, SharedKeyAuth, Spis};
pub(crate) use seal::{Datagrams, MAX_FRAGMENTS, OpeningKey, SealingKey};
pub(crate) use skeyid::{PhaseOneFacts, PhaseOneKeys, equal, nat_digest};
pub(crate) use suite::{AdditionalKeyExchanges, IkeCipher, IkeSuite, insecurities, suite_name};

/// Bytes that are wiped when dropped; without Debug.
pub(crate) type Secret = Zeroizing<Vec<u8>>;

/// Why a cryptographic step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CryptoError {
    /// A public value of the wrong length, off the curve, of low order or out of range.
    #[error("the peer's public value is invalid")]
    InvalidPublicValue,
    /// The integrity check failed, or what it protects is not as long as it must be.
    #[error("the integrity check failed")]
    Integrity,
    /// The counter of an AEAD key is used up.
    #[error("the key is used up")]
    Exhausted,
}
