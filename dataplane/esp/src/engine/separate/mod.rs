//! Separate algorithms: the cipher first, then HMAC over all of ESP but the ICV (RFC 4303 section 3.3.2.1). One
//! implementation in Rust serves whichever engine runs: these suites are for peers that have no AES-GCM.

mod cbc;
mod hmac;
#[cfg(test)]
mod tests;

use aes::Aes128;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroize;

use self::cbc::Cipher;
use self::hmac::Authenticator;
use super::Keys;
use crate::algorithm::{Cbc, Integrity};
use crate::framing::Nonce;

/// The keys of an SA, expanded. All parts wipe themselves when dropped.
pub(super) struct Key {
    cipher: Cipher,
    authenticator: Authenticator,
    /// Makes IVs.
    iv_cipher: Aes128,
    framing: Lengths,
}

/// Lengths of what stands around the ciphertext, in bytes.
#[derive(Clone, Copy)]
struct Lengths {
    iv: usize,
    icv: usize,
}

impl Key {
    /// `None` if a key has not the length of its algorithm.
    pub(super) fn new(cipher: Cbc, integrity: Integrity, keys: Keys<'_>) -> Option<Self> {
        Some(Self {
            cipher: Cipher::new(cipher, keys.cipher)?,
            authenticator: Authenticator::new(integrity, keys.integrity)?,
            iv_cipher: iv_cipher(keys.cipher)?,
            framing: Lengths {
                iv: usize::from(cipher.block_bytes()),
                icv: usize::from(integrity.icv_bytes()),
            },
        })
    }

    /// Writes the IV, encrypts, writes the ICV. `body` is room for the IV, plaintext of whole blocks, room for the ICV.
    pub(super) fn seal(&self, nonce: &Nonce, aad: &[u8], body: &mut [u8]) -> bool {
        let Some((header, high)) = authenticated(aad) else { return false };
        let Some((sealed, icv)) = self.split(body) else { return false };
        let Some((iv, text)) = sealed.split_at_mut_checked(self.framing.iv) else { return false };
        iv.copy_from_slice(&self.iv(nonce)[..iv.len()]);
        if !self.cipher.encrypt(iv, text) {
            return false;
        }
        self.authenticator.write([&header, sealed, high], icv);
        true
    }

    /// Checks the ICV, and decrypts only what is authentic. `body` is IV, ciphertext, ICV.
    pub(super) fn open(&self, aad: &[u8], body: &mut [u8]) -> bool {
        let Some((header, high)) = authenticated(aad) else { return false };
        let Some((sealed, icv)) = self.split(body) else { return false };
        if !self.authenticator.verifies([&header, sealed, high], icv) {
            return false;
        }
        let Some((iv, text)) = sealed.split_at_mut_checked(self.framing.iv) else { return false };
        self.cipher.decrypt(iv, text)
    }

    fn split<'a>(&self, body: &'a mut [u8]) -> Option<(&'a mut [u8], &'a mut [u8])> {
        body.split_at_mut_checked(body.len().checked_sub(self.framing.icv)?)
    }

    /// An IV that nobody without the keys can foretell (RFC 3602 section 3): the number of the packet, which never repeats,
    /// encrypted under a key of its own (the first method of NIST SP 800-38A appendix C, which needs no random numbers
    /// per packet).
    fn iv(&self, nonce: &Nonce) -> [u8; 16] {
        let mut block = Block::<Aes128>::default();
        if let Some(front) = block.first_chunk_mut() {
            *front = *nonce;
        }
        self.iv_cipher.encrypt_block(&mut block);
        block.into()
    }
}

/// The cipher that makes IVs. Its key comes out of the SA's cipher key by HMAC-SHA-256: who can't decrypt can't foretell
/// an IV, and a process that resumes the SA goes on with the same permutation of packet numbers, so that no IV repeats.
fn iv_cipher(key: &[u8]) -> Option<Aes128> {
    let mut derived = [0; 16];
    let prf = Authenticator::new_of_any_key(Integrity::HmacSha2_256_128, key)?;
    prf.write([b"culvert esp iv", &[], &[]], &mut derived);
    let cipher = Aes128::new(&derived.into());
    derived.zeroize();
    Some(cipher)
}

/// What HMAC covers in front of the IV and behind the ciphertext: SPI and low sequence number; with ESN the high
/// half, which is not sent (RFC 4303 section 2.2.1). AES-GCM has the same in another order (RFC 4106 section 5).
fn authenticated(aad: &[u8]) -> Option<([u8; 8], &[u8])> {
    match *aad {
        [s0, s1, s2, s3, l0, l1, l2, l3] => Some(([s0, s1, s2, s3, l0, l1, l2, l3], &[])),
        [s0, s1, s2, s3, _, _, _, _, l0, l1, l2, l3] => {
            Some(([s0, s1, s2, s3, l0, l1, l2, l3], aad.get(4..8)?))
        }
        _ => None,
    }
}
