//! AES-GCM by the library's direct calls.

use std::mem::MaybeUninit;

use zeroize::Zeroize;

use super::super::{Expanded, Icv, SaKey};
use super::bindings;
use crate::framing::{COMBINED_ICV_BYTES, Nonce};

type Precompute = unsafe extern "C" fn(*const core::ffi::c_void, *mut bindings::gcm_key_data);
type Crypt = unsafe extern "C" fn(
    *const bindings::gcm_key_data,
    *mut bindings::gcm_context_data,
    *mut u8,
    *const u8,
    u64,
    *const u8,
    *const u8,
    u64,
    *mut u8,
    u64,
);

/// The calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Functions {
    precompute_128: Precompute,
    precompute_256: Precompute,
    seal_128: Crypt,
    seal_256: Crypt,
    open_128: Crypt,
    open_256: Crypt,
}

/// A length of the key.
#[derive(Clone, Copy)]
pub(super) enum Gcm {
    Aes128,
    Aes256,
}

/// An expanded key.
pub(in crate::engine) struct Key {
    data: bindings::gcm_key_data,
    gcm: Gcm,
}

// The library loads the schedule with instructions that fault when it is not aligned.
const _: () = assert!(align_of::<bindings::gcm_key_data>() == 64);

impl Drop for Key {
    fn drop(&mut self) {
        let bytes: *mut bindings::gcm_key_data = &mut self.data;
        // SAFETY: the structure is plain bytes, all initialised (zeroed before expansion), and valid when zero.
        unsafe { std::slice::from_raw_parts_mut(bytes.cast::<u8>(), size_of::<bindings::gcm_key_data>()) }
            .zeroize();
    }
}

impl Key {
    /// Loads a byte of each of the first cache lines: rounds of AES-128, and the hash powers next to them.
    #[inline]
    pub(in crate::engine) fn touch(&self) -> u64 {
        let rounds = &self.data.expanded_keys;
        std::hint::black_box(rounds[0] ^ rounds[64] ^ rounds[128] ^ rounds[192]);
        0
    }
}

impl Functions {
    pub(super) fn new(library: &bindings::IMB_MGR) -> Option<Self> {
        Some(Self {
            precompute_128: library.gcm128_pre?,
            precompute_256: library.gcm256_pre?,
            seal_128: library.gcm128_enc?,
            seal_256: library.gcm256_enc?,
            open_128: library.gcm128_dec?,
            open_256: library.gcm256_dec?,
        })
    }

    pub(super) fn expand(&self, gcm: Gcm, key: &[u8], into: &mut SaKey) {
        let expected = match gcm {
            Gcm::Aes128 => 16,
            Gcm::Aes256 => 32,
        };
        if key.len() != expected {
            *into = SaKey::default();
            return;
        }
        // SAFETY: the structure is plain bytes, valid when zero.
        let data = unsafe { MaybeUninit::<bindings::gcm_key_data>::zeroed().assume_init() };
        *into = SaKey(Expanded::IpsecMb(Key { data, gcm }));
        if let Expanded::IpsecMb(expanded) = &mut into.0 {
            let precompute = match gcm {
                Gcm::Aes128 => self.precompute_128,
                Gcm::Aes256 => self.precompute_256,
            };
            // SAFETY: the key has the length of its algorithm (checked above); `data` is where the schedule goes.
            unsafe { precompute(key.as_ptr().cast(), &mut expanded.data) };
        }
    }

    #[inline]
    pub(super) fn seal(&self, key: &Key, nonce: &Nonce, aad: &[u8], text_and_icv: &mut [u8]) -> bool {
        let Some((text, icv)) = text_and_icv.split_last_chunk_mut() else { return false };
        let function = match key.gcm {
            Gcm::Aes128 => self.seal_128,
            Gcm::Aes256 => self.seal_256,
        };
        crypt(function, key, nonce, aad, text, icv);
        true
    }

    #[inline]
    pub(super) fn open(&self, key: &Key, nonce: &Nonce, aad: &[u8], text_and_icv: &mut [u8]) -> bool {
        let Some((text, icv)) = text_and_icv.split_last_chunk_mut::<COMBINED_ICV_BYTES>() else {
            return false;
        };
        let function = match key.gcm {
            Gcm::Aes128 => self.open_128,
            Gcm::Aes256 => self.open_256,
        };
        let mut computed = [0; COMBINED_ICV_BYTES];
        crypt(function, key, nonce, aad, text, &mut computed);
        // One comparison of the whole ICV: its time does not tell where it differs.
        u128::from_ne_bytes(computed) ^ u128::from_ne_bytes(*icv) == 0
    }
}

#[inline]
fn crypt(function: Crypt, key: &Key, nonce: &Nonce, aad: &[u8], text: &mut [u8], icv: &mut Icv) {
    let mut context = MaybeUninit::<bindings::gcm_context_data>::uninit();
    let data = text.as_mut_ptr();
    // SAFETY: each pointer is of a live slice or structure of the length given; in place is allowed; the library
    // writes the context before it reads it and reads exactly twelve bytes of nonce.
    unsafe {
        function(
            &key.data,
            context.as_mut_ptr(),
            data,
            data,
            text.len() as u64,
            nonce.as_ptr(),
            aad.as_ptr(),
            aad.len() as u64,
            icv.as_mut_ptr(),
            COMBINED_ICV_BYTES as u64,
        );
    }
}
