//! Keying material of child SAs (RFC 7296 section 2.17).

use zeroize::Zeroizing;

use super::prf_plus;
use crate::{EspEncryption, EspIntegrity, EspKeys, Hash};

/// What was chosen for a pair of ESP SAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EspSuite {
    pub(crate) encryption: EspEncryption,
    /// For a cipher without its own.
    pub(crate) integrity: Option<EspIntegrity>,
    pub(crate) esn: bool,
}

impl EspEncryption {
    /// Integrity is part of it.
    pub(crate) fn is_aead(self) -> bool {
        matches!(self, Self::Aes128Gcm16 | Self::Aes256Gcm16 | Self::ChaCha20Poly1305)
    }

    fn key_len_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm16 | Self::Aes128Cbc => 16,
            Self::Aes192Cbc | Self::TripleDesCbc => 24,
            Self::Aes256Gcm16 | Self::ChaCha20Poly1305 | Self::Aes256Cbc => 32,
        }
    }

    /// The salt of a combined cipher (RFC 4106 section 8.1, RFC 7634 section 2).
    fn salt_len_bytes(self) -> usize {
        if self.is_aead() { 4 } else { 0 }
    }
}

impl EspIntegrity {
    fn key_len_bytes(self) -> usize {
        match self {
            Self::HmacMd5_96 => 16,
            Self::HmacSha1_96 => 20,
            Self::HmacSha2_256_128 => 32,
            Self::HmacSha2_384_192 => 48,
            Self::HmacSha2_512_256 => 64,
        }
    }
}

impl EspSuite {
    /// Keying material of one direction.
    pub(crate) fn direction_len_bytes(self) -> usize {
        let integrity = self.integrity.map_or(0, EspIntegrity::key_len_bytes);
        let cipher = self.encryption.key_len_bytes().saturating_add(self.encryption.salt_len_bytes());
        cipher.saturating_add(integrity)
    }

    /// Cuts the keying material of one direction: the cipher's key with its salt, then the integrity key. `None` if it
    /// is too short.
    pub(crate) fn cut(self, material: &[u8]) -> Option<EspKeys> {
        let (key, rest) = material.split_at_checked(self.encryption.key_len_bytes())?;
        let (salt, rest) = rest.split_at_checked(self.encryption.salt_len_bytes())?;
        let integrity = rest.get(..self.integrity.map_or(0, EspIntegrity::key_len_bytes))?;
        let secret = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
        Some(EspKeys { key: secret(key), salt: secret(salt), integrity: secret(integrity) })
    }
}

/// Keys for what the exchange's initiator sends, then for what its responder sends. `seed` is the new shared secret,
/// if any, and both nonces. `None` never occurs: the stream is as long as is asked for.
pub(crate) fn child_keys(
    prf: Hash,
    sk_d: &[u8],
    seed: &[&[u8]],
    suite: EspSuite,
) -> Option<(EspKeys, EspKeys)> {
    let direction_len_bytes = suite.direction_len_bytes();
    let stream = prf_plus(prf, sk_d, seed, direction_len_bytes.saturating_mul(2));
    let (initiator, responder) = stream.split_at_checked(direction_len_bytes)?;
    Some((suite.cut(initiator)?, suite.cut(responder)?))
}
