//! Ephemeral key exchange over all groups (RFC 7296 section 3.4, RFC 5903, RFC 8031).

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521, PrivateKey, UnparsedPublicKey, X25519};
use zeroize::Zeroizing;

use super::{CryptoError, Random, Secret, modp};
use crate::Group;

impl Group {
    /// The registry's number.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Modp1024 => 2,
            Self::Modp1536 => 5,
            Self::Modp2048 => 14,
            Self::Modp3072 => 15,
            Self::Modp4096 => 16,
            Self::Modp6144 => 17,
            Self::Modp8192 => 18,
            Self::EcpP256 => 19,
            Self::EcpP384 => 20,
            Self::EcpP521 => 21,
            Self::Curve25519 => 31,
        }
    }

    pub(crate) fn from_number(number: u16) -> Option<Self> {
        const ALL: [Group; 11] = [
            Group::Modp1024,
            Group::Modp1536,
            Group::Modp2048,
            Group::Modp3072,
            Group::Modp4096,
            Group::Modp6144,
            Group::Modp8192,
            Group::EcpP256,
            Group::EcpP384,
            Group::EcpP521,
            Group::Curve25519,
        ];
        ALL.into_iter().find(|group| group.number() == number)
    }

    /// Length of a public value on the wire.
    pub(crate) fn public_len_bytes(self) -> usize {
        match self {
            Self::Modp1024 => 128,
            Self::Modp1536 => 192,
            Self::Modp2048 => 256,
            Self::Modp3072 => 384,
            Self::Modp4096 => 512,
            Self::Modp6144 => 768,
            Self::Modp8192 => 1024,
            Self::EcpP256 => 64,
            Self::EcpP384 => 96,
            Self::EcpP521 => 132,
            Self::Curve25519 => 32,
        }
    }
}

enum Private {
    Modp(modp::Exponent),
    Curve(PrivateKey),
}

/// An ephemeral key pair, used for one agreement and dropped.
pub(crate) struct KeyPair {
    group: Group,
    private: Private,
    public: Vec<u8>,
}

impl KeyPair {
    /// A new pair. `None` only if the library refuses every scalar that the generator gives.
    pub(crate) fn new(group: Group, random: &mut Random) -> Option<Self> {
        let (len_bytes, first_octet) = match group {
            Group::Modp1024
            | Group::Modp1536
            | Group::Modp2048
            | Group::Modp3072
            | Group::Modp4096
            | Group::Modp6144
            | Group::Modp8192 => {
                let exponent = modp::Exponent::new(group, random);
                let public = exponent.public()?;
                return Some(Self { group, private: Private::Modp(exponent), public });
            }
            // 521 bits are 65 octets and a bit.
            Group::EcpP521 => (66, 0x01),
            Group::EcpP384 => (48, 0xff),
            Group::EcpP256 | Group::Curve25519 => (32, 0xff),
        };
        // A random string is not a P-256 scalar about once in 2^32 tries.
        (0..8).find_map(|_| {
            let mut scalar = random.secret(len_bytes);
            if let Some(first) = scalar.first_mut() {
                *first &= first_octet;
            }
            Self::from_scalar(group, &scalar)
        })
    }

    pub(super) fn from_scalar(group: Group, scalar: &[u8]) -> Option<Self> {
        let algorithm = match group {
            Group::EcpP256 => &ECDH_P256,
            Group::EcpP384 => &ECDH_P384,
            Group::Curve25519 => &X25519,
            Group::EcpP521 => &ECDH_P521,
            Group::Modp1024
            | Group::Modp1536
            | Group::Modp2048
            | Group::Modp3072
            | Group::Modp4096
            | Group::Modp6144
            | Group::Modp8192 => {
                return None;
            }
        };
        let private = PrivateKey::from_private_key(algorithm, scalar).ok()?;
        let encoded = private.compute_public_key().ok()?;
        // The payload bears x and y without the octet that says "uncompressed" (RFC 5903 section 7).
        let public = match group {
            Group::Curve25519 => encoded.as_ref(),
            _ => encoded.as_ref().strip_prefix(&[4])?,
        };
        let public = public.to_vec();
        Some(Self { group, private: Private::Curve(private), public })
    }

    pub(crate) fn group(&self) -> Group {
        self.group
    }

    /// The data of our KE payload.
    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }

    /// The shared secret with the peer's KE data.
    pub(crate) fn agree(&self, peer: &[u8]) -> Result<Secret, CryptoError> {
        if peer.len() != self.group.public_len_bytes() {
            return Err(CryptoError::InvalidPublicValue);
        }
        match &self.private {
            Private::Modp(exponent) => exponent.agree(peer),
            Private::Curve(private) => {
                let mut encoded = Vec::with_capacity(peer.len().saturating_add(1));
                if self.group != Group::Curve25519 {
                    encoded.push(4);
                }
                encoded.extend_from_slice(peer);
                let peer = UnparsedPublicKey::new(private.algorithm(), &encoded);
                let secret = agreement::agree(private, peer, CryptoError::InvalidPublicValue, |secret| {
                    Ok(Zeroizing::new(secret.to_vec()))
                })?;
                // RFC 8031 section 5 (by RFC 7748 section 6.1): an all-zero secret comes of a low-order point.
                let zero = secret.iter().fold(0, |acc, byte| acc | byte) == 0;
                if self.group == Group::Curve25519 && zero {
                    return Err(CryptoError::InvalidPublicValue);
                }
                Ok(secret)
            }
        }
    }
}
