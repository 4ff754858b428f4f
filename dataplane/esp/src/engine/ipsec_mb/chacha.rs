//! ChaCha20-Poly1305 as jobs. The library has no lanes for it: each job is done when it is submitted, several blocks of its
//! packet side by side.

use zeroize::Zeroize;

use super::super::{Icv, portable};
use super::bindings::{self, IMB_JOB};
use super::manager::Manager;
use super::preference::Preference;
use crate::framing::{COMBINED_ICV_BYTES, Nonce};

const KEY_BYTES: usize = 32;

/// A key, which is not expanded. Zero until it is filled in its final place.
#[repr(C, align(64))]
pub(in crate::engine) struct Key {
    bytes: [u8; KEY_BYTES],
    /// Serves the sizes that `preference` names.
    portable: Option<portable::Key>,
    preference: Preference,
}

impl Drop for Key {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl Key {
    /// Without its bytes, which [`Key::fill`] puts in.
    pub(super) const fn new(preference: Preference, portable: Option<portable::Key>) -> Self {
        Self { bytes: [0; KEY_BYTES], portable, preference }
    }

    pub(super) const fn fill(&mut self, key: &[u8; KEY_BYTES]) {
        self.bytes = *key;
    }

    /// Loads the line of the key; tells nothing of it.
    #[inline]
    pub(in crate::engine) fn touch(&self) -> u64 {
        std::hint::black_box(self.bytes[0]);
        0
    }

    #[inline(never)]
    pub(super) fn seal(
        &self,
        manager: &mut Manager,
        nonce: &Nonce,
        aad: &[u8],
        text_and_icv: &mut [u8],
    ) -> bool {
        if let Some(portable) = &self.portable
            && self.preference.portable_seals(text_and_icv.len())
        {
            return portable.seal(nonce, aad, text_and_icv);
        }
        let Some((text, icv)) = text_and_icv.split_last_chunk_mut() else { return false };
        self.crypt(manager, bindings::IMB_CIPHER_DIRECTION_IMB_DIR_ENCRYPT, nonce, aad, text, icv)
    }

    #[inline(never)]
    pub(super) fn open(
        &self,
        manager: &mut Manager,
        nonce: &Nonce,
        aad: &[u8],
        text_and_icv: &mut [u8],
    ) -> bool {
        if let Some(portable) = &self.portable
            && self.preference.portable_opens(text_and_icv.len())
        {
            return portable.open(nonce, aad, text_and_icv);
        }
        let Some((text, icv)) = text_and_icv.split_last_chunk_mut::<COMBINED_ICV_BYTES>() else {
            return false;
        };
        let mut computed = [0; COMBINED_ICV_BYTES];
        let direction = bindings::IMB_CIPHER_DIRECTION_IMB_DIR_DECRYPT;
        self.crypt(manager, direction, nonce, aad, text, &mut computed)
            // One comparison of the whole ICV: its time does not tell where it differs.
            && u128::from_ne_bytes(computed) ^ u128::from_ne_bytes(*icv) == 0
    }

    fn crypt(
        &self,
        manager: &mut Manager,
        direction: bindings::IMB_CIPHER_DIRECTION,
        nonce: &Nonce,
        aad: &[u8],
        text: &mut [u8],
        icv: &mut Icv,
    ) -> bool {
        let fill = |job: &mut IMB_JOB, (text, icv): (&mut [u8], &mut Icv)| {
            job.cipher_mode = bindings::IMB_CIPHER_MODE_IMB_CIPHER_CHACHA20_POLY1305;
            job.hash_alg = bindings::IMB_HASH_ALG_IMB_AUTH_CHACHA20_POLY1305;
            job.cipher_direction = direction;
            job.chain_order = if direction == bindings::IMB_CIPHER_DIRECTION_IMB_DIR_ENCRYPT {
                bindings::IMB_CHAIN_ORDER_IMB_ORDER_CIPHER_HASH
            } else {
                bindings::IMB_CHAIN_ORDER_IMB_ORDER_HASH_CIPHER
            };
            (job.enc_keys, job.dec_keys) = (self.bytes.as_ptr().cast(), self.bytes.as_ptr().cast());
            job.key_len_in_bytes = KEY_BYTES as u64;
            let data = text.as_mut_ptr();
            job.__bindgen_anon_1.src = data;
            job.__bindgen_anon_2.dst = data;
            job.__bindgen_anon_3.cipher_start_src_offset_in_bytes = 0;
            job.__bindgen_anon_4.msg_len_to_cipher_in_bytes = text.len() as u64;
            job.hash_start_src_offset_in_bytes = 0;
            job.__bindgen_anon_5.msg_len_to_hash_in_bytes = text.len() as u64;
            (job.iv, job.iv_len_in_bytes) = (nonce.as_ptr(), nonce.len() as u64);
            job.auth_tag_output = icv.as_mut_ptr();
            job.auth_tag_output_len_in_bytes = COMBINED_ICV_BYTES as u64;
            job.u.CHACHA20_POLY1305 = bindings::IMB_JOB__bindgen_ty_6__CHACHA20_POLY1305_specific_fields {
                aad: aad.as_ptr().cast(),
                aad_len_in_bytes: aad.len() as u64,
                // The library has one of its own for a job that is whole.
                ctx: std::ptr::null_mut(),
            };
            job.user_data = std::ptr::null_mut();
        };
        // SAFETY: each pointer is of a live slice or structure of the length given, borrowed for as long as the call; in place
        // is allowed; the library reads 32 bytes of key and 12 of nonce.
        unsafe { manager.run(std::iter::once((text, icv)), fill) == 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dropped key leaves nothing where it was.
    #[test]
    fn keys_are_wiped() {
        let mut key = std::mem::ManuallyDrop::new(Key::new(Preference::LIBRARY, None));
        key.fill(&[0xa5; KEY_BYTES]);
        assert_eq!(key.bytes, [0xa5; KEY_BYTES]);
        // SAFETY: dropped once; its array of bytes is valid afterwards too.
        unsafe { std::mem::ManuallyDrop::drop(&mut key) };
        assert_eq!(key.bytes, [0; KEY_BYTES]);
    }
}
