//! HMAC as PRF and integrity transform, and prf+ (RFC 7296 section 2.13, RFC 4868, RFC 2104).

use hmac::digest::block_api::EagerHash;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::Secret;
use crate::Hash;

impl Hash {
    /// Length of the hash, which is also the PRF's key and output length.
    pub(crate) fn len_bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha2_256 => 32,
            Self::Sha2_384 => 48,
            Self::Sha2_512 => 64,
        }
    }

    /// Length of the truncated integrity check value (RFC 4868 section 2.6; RFC 2403 and 2404).
    pub(crate) fn icv_len_bytes(self) -> usize {
        match self {
            Self::Md5 | Self::Sha1 => 12,
            Self::Sha2_256 | Self::Sha2_384 | Self::Sha2_512 => self.len_bytes() / 2,
        }
    }
}

/// The hash's state is made of the key: it wipes itself.
fn hmac<D: EagerHash<Core: ZeroizeOnDrop>>(key: &[u8], parts: &[&[u8]]) -> Secret {
    // HMAC takes keys of any length: the error cannot occur, and an empty result would authenticate nothing.
    let Ok(mut mac) = <Hmac<D> as KeyInit>::new_from_slice(key) else {
        return Zeroizing::new(Vec::new());
    };
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// HMAC-SHA2-256 over the parts in turn, without an allocation: strangers may ask for it as often as they like.
pub(crate) fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC fills a shorter key up with zeros.
    let mut block = Zeroizing::new([0; 64]);
    for (place, byte) in block.iter_mut().zip(key) {
        *place = *byte;
    }
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// HMAC over the parts in turn.
pub(crate) fn prf(hash: Hash, key: &[u8], parts: &[&[u8]]) -> Secret {
    match hash {
        Hash::Md5 => hmac::<Md5>(key, parts),
        Hash::Sha1 => hmac::<Sha1>(key, parts),
        Hash::Sha2_256 => hmac::<Sha256>(key, parts),
        Hash::Sha2_384 => hmac::<Sha384>(key, parts),
        Hash::Sha2_512 => hmac::<Sha512>(key, parts),
    }
}

/// The hash of the parts in turn.
pub(crate) fn digest(hash: Hash, parts: &[&[u8]]) -> Secret {
    fn run<D: Digest + ZeroizeOnDrop>(parts: &[&[u8]]) -> Secret {
        let mut context = D::new();
        for part in parts {
            context.update(part);
        }
        Zeroizing::new(context.finalize().to_vec())
    }
    match hash {
        Hash::Md5 => run::<Md5>(parts),
        Hash::Sha1 => run::<Sha1>(parts),
        Hash::Sha2_256 => run::<Sha256>(parts),
        Hash::Sha2_384 => run::<Sha384>(parts),
        Hash::Sha2_512 => run::<Sha512>(parts),
    }
}

/// The first `len_bytes` of `prf+(key, seed)`. At most 255 blocks are defined; no key schedule here asks for more
/// than a dozen.
pub(crate) fn prf_plus(hash: Hash, key: &[u8], seed: &[&[u8]], len_bytes: usize) -> Secret {
    let mut stream: Secret = Zeroizing::new(Vec::with_capacity(len_bytes.saturating_add(hash.len_bytes())));
    let mut block: Secret = Zeroizing::new(Vec::new());
    for counter in 1..=255u8 {
        let counter = [counter];
        let mut parts: Vec<&[u8]> = vec![&block];
        parts.extend_from_slice(seed);
        parts.push(&counter);
        let next = prf(hash, key, &parts);
        drop(parts);
        block = next;
        stream.extend_from_slice(&block);
        if stream.len() >= len_bytes {
            break;
        }
    }
    stream.truncate(len_bytes);
    stream
}

/// SHA-1, which NAT detection uses as a checksum (RFC 7296 section 2.23).
pub(crate) fn digest_sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut output = [0; 20];
    output.copy_from_slice(&digest(Hash::Sha1, parts));
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_the_same_with_and_without_an_allocation() {
        let key = [0x5a; 32];
        for parts in [&[][..], &[b"one".as_slice()], &[b"one", b"", b"another"]] {
            assert_eq!(hmac_sha256(&key, parts)[..], prf(Hash::Sha2_256, &key, parts)[..]);
            assert_eq!(hmac_sha256(&[0; 32], parts)[..], prf(Hash::Sha2_256, b"", parts)[..]);
        }
    }
}
