//! The IVs of CBC ciphers, which nobody without the keys can foretell (RFC 3602 section 3).

use aes::Aes128Enc;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroize;

use crate::framing::Nonce;

/// The cipher that makes IVs of packet numbers, which never repeat (the first method of NIST SP 800-38A appendix C, which
/// needs no random numbers per packet).
pub(super) struct IvCipher(Aes128Enc);

impl IvCipher {
    /// Its key comes out of the SA's cipher key by HMAC-SHA-256: who can't decrypt can't foretell an IV, and a process
    /// that resumes the SA goes on with the same permutation of packet numbers, so that no IV repeats.
    pub(super) fn new(cipher_key: &[u8]) -> Option<Self> {
        let mut prf = Hmac::<Sha256>::new_from_slice(cipher_key).ok()?;
        prf.update(b"culvert esp iv");
        let mut derived = prf.finalize().into_bytes();
        let cipher = derived.first_chunk::<16>().map(|key| Self(Aes128Enc::new(key.into())));
        derived.as_mut_slice().zeroize();
        cipher
    }

    /// The IV of a packet; ciphers with a shorter block take the front of it.
    #[inline]
    pub(super) fn iv(&self, nonce: &Nonce) -> [u8; 16] {
        let mut block = Block::<Aes128Enc>::default();
        if let Some(front) = block.first_chunk_mut() {
            *front = *nonce;
        }
        self.0.encrypt_block(&mut block);
        block.into()
    }
}
