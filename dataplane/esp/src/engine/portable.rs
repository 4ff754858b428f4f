//! The portable engine: RustCrypto's aes-gcm, which detects AES instructions itself.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};

use super::{CipherEngine, Expanded, Icv, SaKey};
use crate::algorithm::Gcm;
use crate::framing::Nonce;

#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

/// Boxed: this engine is not the one for speed, and its keys are large.
pub(super) enum Key {
    Aes128(Box<Aes128Gcm>),
    Aes256(Box<Aes256Gcm>),
}

impl CipherEngine for Portable {
    type Key = Key;

    fn expand(&self, gcm: Gcm, key: &[u8], into: &mut SaKey) {
        let expanded = match gcm {
            Gcm::Aes128 => Aes128Gcm::new_from_slice(key).map(|key| Key::Aes128(Box::new(key))),
            Gcm::Aes256 => Aes256Gcm::new_from_slice(key).map(|key| Key::Aes256(Box::new(key))),
        };
        *into = expanded.map_or_else(|_| SaKey::default(), |key| SaKey(Expanded::Portable(key)));
    }

    #[inline]
    fn key<'a>(&self, key: &'a SaKey) -> Option<&'a Key> {
        match &key.0 {
            Expanded::Portable(key) => Some(key),
            _ => None,
        }
    }

    fn seal(&self, key: &Key, nonce: &Nonce, aad: &[u8], text: &mut [u8], icv: &mut Icv) -> bool {
        let tag = match key {
            Key::Aes128(key) => key.encrypt_inout_detached(nonce.into(), aad, text.into()),
            Key::Aes256(key) => key.encrypt_inout_detached(nonce.into(), aad, text.into()),
        };
        tag.map(|tag| icv.copy_from_slice(&tag)).is_ok()
    }

    fn open(&self, key: &Key, nonce: &Nonce, aad: &[u8], text: &mut [u8], icv: &Icv) -> bool {
        match key {
            Key::Aes128(key) => key.decrypt_inout_detached(nonce.into(), aad, text.into(), icv.into()),
            Key::Aes256(key) => key.decrypt_inout_detached(nonce.into(), aad, text.into(), icv.into()),
        }
        .is_ok()
    }
}
