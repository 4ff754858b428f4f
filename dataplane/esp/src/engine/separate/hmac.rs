//! HMAC, truncated to the left (RFC 2104 section 5; RFC 2403, RFC 2404, RFC 4868).

use hmac::digest::block_api::EagerHash;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroize;

use crate::algorithm::Integrity;

/// HMAC after its key: a copy of the state begins each packet.
pub(super) enum Authenticator {
    Md5(Hmac<Md5>),
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl Authenticator {
    /// `None` if the key has not the length that ESP demands.
    pub(super) fn new(integrity: Integrity, key: &[u8]) -> Option<Self> {
        if key.len() == integrity.key_bytes() { Self::new_of_any_key(integrity, key) } else { None }
    }

    /// HMAC proper takes keys of any length.
    pub(super) fn new_of_any_key(integrity: Integrity, key: &[u8]) -> Option<Self> {
        match integrity {
            Integrity::HmacMd5_96 => Hmac::new_from_slice(key).map(Self::Md5),
            Integrity::HmacSha1_96 => Hmac::new_from_slice(key).map(Self::Sha1),
            Integrity::HmacSha2_256_128 => Hmac::new_from_slice(key).map(Self::Sha256),
            Integrity::HmacSha2_384_192 => Hmac::new_from_slice(key).map(Self::Sha384),
            Integrity::HmacSha2_512_256 => Hmac::new_from_slice(key).map(Self::Sha512),
        }
        .ok()
    }

    /// Writes as much of the value over the parts as `icv` has room for.
    pub(super) fn write(&self, parts: [&[u8]; 2], icv: &mut [u8]) {
        match self {
            Self::Md5(state) => write(state, parts, icv),
            Self::Sha1(state) => write(state, parts, icv),
            Self::Sha256(state) => write(state, parts, icv),
            Self::Sha384(state) => write(state, parts, icv),
            Self::Sha512(state) => write(state, parts, icv),
        }
    }

    /// Whether the value over the parts begins with `icv`, in a time that does not tell where it differs.
    pub(super) fn verifies(&self, parts: [&[u8]; 2], icv: &[u8]) -> bool {
        match self {
            Self::Md5(state) => verifies(state, parts, icv),
            Self::Sha1(state) => verifies(state, parts, icv),
            Self::Sha256(state) => verifies(state, parts, icv),
            Self::Sha384(state) => verifies(state, parts, icv),
            Self::Sha512(state) => verifies(state, parts, icv),
        }
    }
}

fn over<D: EagerHash>(state: &Hmac<D>, parts: [&[u8]; 2]) -> Hmac<D> {
    let mut state = state.clone();
    parts.into_iter().for_each(|part| state.update(part));
    state
}

fn write<D: EagerHash>(state: &Hmac<D>, parts: [&[u8]; 2], icv: &mut [u8]) {
    let mut value = over(state, parts).finalize().into_bytes();
    icv.iter_mut().zip(&value).for_each(|(byte, value)| *byte = *value);
    // What is not sent of it is nobody's business, and it may be a key.
    value.as_mut_slice().zeroize();
}

fn verifies<D: EagerHash>(state: &Hmac<D>, parts: [&[u8]; 2], icv: &[u8]) -> bool {
    over(state, parts).verify_truncated_left(icv).is_ok()
}
