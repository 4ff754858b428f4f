//! The portable engine: RustCrypto's aes-gcm, which detects AES instructions itself, and its CBC ciphers and HMAC.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};

use super::separate;
use super::{CipherEngine, Expanded, Icv, Keys, MAX_BATCH, OpenOp, SaKey, SealOp};
use crate::algorithm::{Algorithm, Gcm};
use crate::framing::Nonce;

#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

/// Boxed: this engine is not the one for speed, and its keys are large.
pub(super) enum Key {
    Aes128(Box<Aes128Gcm>),
    Aes256(Box<Aes256Gcm>),
}

impl Portable {
    /// Expands keys of the algorithm's lengths.
    pub(super) fn expand(&self, algorithm: Algorithm, keys: Keys<'_>, into: &mut SaKey) {
        let expanded = match algorithm {
            Algorithm::Combined(gcm) => Key::new(gcm, keys.cipher).map(Expanded::Portable),
            Algorithm::Separate(cipher, integrity) => separate::Key::new(cipher, integrity, keys)
                .map(|key| Expanded::PortableSeparate(Box::new(key))),
        };
        *into = SaKey(expanded.unwrap_or_default());
    }
}

impl CipherEngine for Portable {
    fn seal<'a>(&mut self, ops: impl Iterator<Item = SealOp<'a>>) -> u64 {
        run(ops, |op| match &op.key.0 {
            Expanded::Portable(key) => {
                let Some((text, icv)) = op.text_and_icv.split_last_chunk_mut() else { return false };
                key.seal(op.nonce, op.aad, text, icv)
            }
            Expanded::PortableSeparate(key) => key.seal(op.nonce, op.aad, op.text_and_icv),
            _ => false,
        })
    }

    fn open<'a>(&mut self, ops: impl Iterator<Item = OpenOp<'a>>) -> u64 {
        run(ops, |op| match &op.key.0 {
            Expanded::Portable(key) => {
                let Some((text, icv)) = op.text_and_icv.split_last_chunk_mut() else { return false };
                key.open(op.nonce, op.aad, text, icv)
            }
            Expanded::PortableSeparate(key) => key.open(op.aad, op.text_and_icv),
            _ => false,
        })
    }
}

impl Key {
    fn new(gcm: Gcm, key: &[u8]) -> Option<Self> {
        match gcm {
            Gcm::Aes128 => Aes128Gcm::new_from_slice(key).map(|key| Self::Aes128(Box::new(key))),
            Gcm::Aes256 => Aes256Gcm::new_from_slice(key).map(|key| Self::Aes256(Box::new(key))),
        }
        .ok()
    }

    fn seal(&self, nonce: &Nonce, aad: &[u8], text: &mut [u8], icv: &mut Icv) -> bool {
        let tag = match self {
            Self::Aes128(key) => key.encrypt_inout_detached(nonce.into(), aad, text.into()),
            Self::Aes256(key) => key.encrypt_inout_detached(nonce.into(), aad, text.into()),
        };
        tag.map(|tag| icv.copy_from_slice(&tag)).is_ok()
    }

    fn open(&self, nonce: &Nonce, aad: &[u8], text: &mut [u8], icv: &Icv) -> bool {
        match self {
            Self::Aes128(key) => key.decrypt_inout_detached(nonce.into(), aad, text.into(), icv.into()),
            Self::Aes256(key) => key.decrypt_inout_detached(nonce.into(), aad, text.into(), icv.into()),
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
