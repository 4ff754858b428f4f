//! The portable engine: RustCrypto's aes-gcm and chacha20poly1305, which detect the instructions that they use, and its CBC
//! ciphers and HMAC.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;

use super::separate;
use super::{CipherEngine, Expanded, Icv, Keys, MAX_BATCH, OpenOp, SaKey, SealOp};
use crate::algorithm::{Aead, Algorithm};
use crate::framing::{COMBINED_ICV_BYTES, Nonce};

#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

/// Boxed: this engine is not the one for speed, and its keys are large.
pub(super) enum Key {
    Aes128(Box<Aes128Gcm>),
    Aes256(Box<Aes256Gcm>),
    ChaCha20Poly1305(Box<ChaCha20Poly1305>),
}

impl Portable {
    /// Expands keys of the algorithm's lengths.
    pub(super) fn expand(&self, algorithm: Algorithm, keys: Keys<'_>, into: &mut SaKey) {
        let expanded = match algorithm {
            Algorithm::Combined(aead) => Key::new(aead, keys.cipher).map(Expanded::Portable),
            Algorithm::Separate(cipher, integrity) => separate::Key::new(cipher, integrity, keys)
                .map(|key| Expanded::PortableSeparate(Box::new(key))),
        };
        *into = SaKey(expanded.unwrap_or_default());
    }
}

impl CipherEngine for Portable {
    fn seal<'a>(&mut self, ops: impl Iterator<Item = SealOp<'a>>) -> u64 {
        run(ops, |op| match &op.key.0 {
            Expanded::Portable(key) => key.seal(op.nonce, op.aad, op.text_and_icv),
            Expanded::PortableSeparate(key) => key.seal(op.nonce, op.aad, op.text_and_icv),
            _ => false,
        })
    }

    fn open<'a>(&mut self, ops: impl Iterator<Item = OpenOp<'a>>) -> u64 {
        run(ops, |op| match &op.key.0 {
            Expanded::Portable(key) => key.open(op.nonce, op.aad, op.text_and_icv),
            Expanded::PortableSeparate(key) => key.open(op.aad, op.text_and_icv),
            _ => false,
        })
    }
}

impl Key {
    pub(super) fn new(aead: Aead, key: &[u8]) -> Option<Self> {
        match aead {
            Aead::Aes128Gcm => Aes128Gcm::new_from_slice(key).map(|key| Self::Aes128(Box::new(key))),
            Aead::Aes256Gcm => Aes256Gcm::new_from_slice(key).map(|key| Self::Aes256(Box::new(key))),
            Aead::ChaCha20Poly1305 => {
                ChaCha20Poly1305::new_from_slice(key).map(|key| Self::ChaCha20Poly1305(Box::new(key)))
            }
        }
        .ok()
    }

    pub(super) fn seal(&self, nonce: &Nonce, aad: &[u8], text_and_icv: &mut [u8]) -> bool {
        let Some((text, icv)) = text_and_icv.split_last_chunk_mut::<COMBINED_ICV_BYTES>() else {
            return false;
        };
        let tag = match self {
            Self::Aes128(key) => key.encrypt_inout_detached(nonce.into(), aad, text.into()),
            Self::Aes256(key) => key.encrypt_inout_detached(nonce.into(), aad, text.into()),
            Self::ChaCha20Poly1305(key) => key.encrypt_inout_detached(nonce.into(), aad, text.into()),
        };
        tag.map(|tag| icv.copy_from_slice(&tag)).is_ok()
    }

    pub(super) fn open(&self, nonce: &Nonce, aad: &[u8], text_and_icv: &mut [u8]) -> bool {
        let Some((text, icv)) = text_and_icv.split_last_chunk_mut::<COMBINED_ICV_BYTES>() else {
            return false;
        };
        let icv: &Icv = icv;
        match self {
            Self::Aes128(key) => key.decrypt_inout_detached(nonce.into(), aad, text.into(), icv.into()),
            Self::Aes256(key) => key.decrypt_inout_detached(nonce.into(), aad, text.into(), icv.into()),
            Self::ChaCha20Poly1305(key) => {
                key.decrypt_inout_detached(nonce.into(), aad, text.into(), icv.into())
            }
        }
        .is_ok()
    }
}

#[inline]
fn run<O>(ops: impl Iterator<Item = O>, mut one: impl FnMut(O) -> bool) -> u64 {
    let mut done = 0;
    for (at, op) in ops.take(MAX_BATCH).enumerate() {
        done |= u64::from(one(op)) << at;
    }
    done
}
