//! Separate algorithms in portable Rust, for its engine and for what ipsec-mb has no lanes for: the cipher first, then
//! HMAC over all of ESP but the ICV (RFC 4303 section 3.3.2.1).

mod cbc;
mod hmac;
#[cfg(test)]
mod tests;

use self::cbc::Cipher;
use self::hmac::Authenticator;
use super::Keys;
use super::iv::IvCipher;
use crate::algorithm::{Algorithm, Cbc, Integrity};
use crate::framing::{self, Framing, HEADER_BYTES, Nonce};

/// The keys of an SA, expanded. All parts wipe themselves when dropped.
pub(super) struct Key {
    cipher: Cipher,
    authenticator: Authenticator,
    iv_cipher: IvCipher,
    framing: Framing,
}

impl Key {
    /// `None` if a key has not the length of its algorithm.
    pub(super) fn new(cipher: Cbc, integrity: Integrity, keys: Keys<'_>) -> Option<Self> {
        Some(Self {
            cipher: Cipher::new(cipher, keys.cipher)?,
            authenticator: Authenticator::new(integrity, keys.integrity)?,
            iv_cipher: IvCipher::new(keys.cipher)?,
            framing: Algorithm::Separate(cipher, integrity).framing(),
        })
    }

    /// Writes the IV, encrypts, writes the ICV. `packet` is the header, room for the IV, plaintext of whole blocks, room for
    /// the ICV.
    #[inline(never)]
    pub(super) fn seal(&self, nonce: &Nonce, aad: &[u8], packet: &mut [u8]) -> bool {
        let Some(high) = framing::high_half(aad) else { return false };
        if !self.framing.fits(packet.len()) {
            return false;
        }
        let (sealed, icv) = packet.split_at_mut(packet.len() - self.framing.icv_bytes());
        let (front, text) = sealed.split_at_mut(self.framing.payload_at());
        let (_, iv) = front.split_at_mut(HEADER_BYTES);
        iv.copy_from_slice(&self.iv_cipher.iv(nonce)[..iv.len()]);
        if !self.cipher.encrypt(iv, text) {
            return false;
        }
        self.authenticator.write([sealed, high], icv);
        true
    }

    /// Checks the ICV, and decrypts only what is authentic. `packet` is header, IV, ciphertext, ICV.
    #[inline(never)]
    pub(super) fn open(&self, aad: &[u8], packet: &mut [u8]) -> bool {
        let Some(high) = framing::high_half(aad) else { return false };
        if !self.framing.fits(packet.len()) {
            return false;
        }
        let (sealed, icv) = packet.split_at_mut(packet.len() - self.framing.icv_bytes());
        if !self.authenticator.verifies([sealed, high], icv) {
            return false;
        }
        let (front, text) = sealed.split_at_mut(self.framing.payload_at());
        self.cipher.decrypt(&front[HEADER_BYTES..], text)
    }
}
