//! The algorithms chosen for an IKE SA.

use std::collections::BTreeSet;
use std::fmt;

use super::CbcCipher;
use crate::{Group, Hash, IkeEncryption, Insecurity, KeyEncapsulation};

/// Encryption, with the integrity transform where it is not part of the cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IkeCipher {
    Aes128Gcm16,
    Aes256Gcm16,
    ChaCha20Poly1305,
    Aes128Cbc(Hash),
    Aes192Cbc(Hash),
    Aes256Cbc(Hash),
    TripleDesCbc(Hash),
}

impl IkeCipher {
    /// Length of SK_e: the key, with the salt of a combined cipher (RFC 5282 section 7.1, RFC 7634 section 2).
    pub(crate) fn encryption_key_len_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm16 => 20,
            Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => 36,
            Self::Aes128Cbc(_) | Self::Aes192Cbc(_) | Self::Aes256Cbc(_) | Self::TripleDesCbc(_) => {
                CbcCipher::new(self.encryption()).map_or(0, CbcCipher::key_len_bytes)
            }
        }
    }

    /// Length of SK_a.
    pub(crate) fn integrity_key_len_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm16 | Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => 0,
            Self::Aes128Cbc(hash)
            | Self::Aes192Cbc(hash)
            | Self::Aes256Cbc(hash)
            | Self::TripleDesCbc(hash) => hash.len_bytes(),
        }
    }

    pub(crate) fn encryption(self) -> IkeEncryption {
        match self {
            Self::Aes128Gcm16 => IkeEncryption::Aes128Gcm16,
            Self::Aes256Gcm16 => IkeEncryption::Aes256Gcm16,
            Self::ChaCha20Poly1305 => IkeEncryption::ChaCha20Poly1305,
            Self::Aes128Cbc(_) => IkeEncryption::Aes128Cbc,
            Self::Aes192Cbc(_) => IkeEncryption::Aes192Cbc,
            Self::Aes256Cbc(_) => IkeEncryption::Aes256Cbc,
            Self::TripleDesCbc(_) => IkeEncryption::TripleDesCbc,
        }
    }

    pub(crate) fn integrity(self) -> Option<Hash> {
        match self {
            Self::Aes128Gcm16 | Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => None,
            Self::Aes128Cbc(hash)
            | Self::Aes192Cbc(hash)
            | Self::Aes256Cbc(hash)
            | Self::TripleDesCbc(hash) => Some(hash),
        }
    }
}

/// A suite: one of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IkeSuite {
    pub(crate) cipher: IkeCipher,
    pub(crate) prf: Hash,
    pub(crate) group: Group,
    pub(crate) additional: AdditionalKeyExchanges,
}

/// What was chosen for each of the seven additional key exchanges (RFC 9370).
pub(crate) type AdditionalKeyExchanges = [Option<KeyEncapsulation>; 7];

pub(crate) fn hash_name(hash: Hash) -> &'static str {
    match hash {
        Hash::Md5 => "md5",
        Hash::Sha1 => "sha1",
        Hash::Sha2_256 => "sha2-256",
        Hash::Sha2_384 => "sha2-384",
        Hash::Sha2_512 => "sha2-512",
    }
}

pub(crate) fn encryption_name(encryption: IkeEncryption) -> &'static str {
    match encryption {
        IkeEncryption::Aes128Gcm16 => "aes-128-gcm",
        IkeEncryption::Aes256Gcm16 => "aes-256-gcm",
        IkeEncryption::ChaCha20Poly1305 => "chacha20-poly1305",
        IkeEncryption::Aes128Cbc => "aes-128-cbc",
        IkeEncryption::Aes192Cbc => "aes-192-cbc",
        IkeEncryption::Aes256Cbc => "aes-256-cbc",
        IkeEncryption::TripleDesCbc => "3des-cbc",
    }
}

/// What is insecure among the algorithms of an IKE SA, in either version; each once.
pub(crate) fn insecurities(
    encryption: IkeEncryption,
    hashes: impl IntoIterator<Item = Hash>,
    group: Group,
) -> Vec<Insecurity> {
    let of_hash = |hash| match hash {
        Hash::Md5 => Some(Insecurity::Md5),
        Hash::Sha1 => Some(Insecurity::Sha1),
        Hash::Sha2_256 | Hash::Sha2_384 | Hash::Sha2_512 => None,
    };
    let of_group = match group {
        Group::Modp1024 => Some(Insecurity::Modp1024),
        Group::Modp1536 => Some(Insecurity::Modp1536),
        _ => None,
    };
    let of_cipher = (encryption == IkeEncryption::TripleDesCbc).then_some(Insecurity::TripleDes);
    let found: BTreeSet<Insecurity> =
        of_cipher.into_iter().chain(hashes.into_iter().filter_map(of_hash)).chain(of_group).collect();
    found.into_iter().collect()
}

/// The suite of an ISAKMP SA in words.
pub(crate) fn suite_name(encryption: IkeEncryption, hash: Hash, group: Group) -> String {
    format!("{} / {} / group {}", encryption_name(encryption), hash_name(hash), group.number())
}

impl fmt::Display for IkeSuite {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", encryption_name(self.cipher.encryption()))?;
        if let Some(hash) = self.cipher.integrity() {
            write!(formatter, " / {}", hash_name(hash))?;
        }
        write!(formatter, " / prf {} / group {}", hash_name(self.prf), self.group.number())?;
        self.additional.iter().flatten().try_for_each(|method| write!(formatter, " + {}", method.name()))
    }
}
