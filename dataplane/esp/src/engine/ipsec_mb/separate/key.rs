//! The keys of a CBC cipher and of HMAC, expanded once: rounds, and the hash after each padding.

use zeroize::{Zeroize, Zeroizing};

use super::super::super::iv::IvCipher;
use super::super::super::separate as portable;
use super::super::super::{Expanded, Keys, SaKey};
use super::super::bindings::IMB_MGR;
use super::super::preference::Preference;
use crate::algorithm::{Algorithm, Cbc, Integrity};
use crate::framing::Framing;

type ExpandAes =
    unsafe extern "C" fn(*const core::ffi::c_void, *mut core::ffi::c_void, *mut core::ffi::c_void);
type ScheduleDes = unsafe extern "C" fn(*mut u64, *const core::ffi::c_void) -> core::ffi::c_int;
type HashBlock = unsafe extern "C" fn(*const core::ffi::c_void, *mut core::ffi::c_void);

/// The calls that expand keys.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Functions {
    aes_128: ExpandAes,
    aes_192: ExpandAes,
    aes_256: ExpandAes,
    des: ScheduleDes,
    md5: HashBlock,
    sha1: HashBlock,
    sha256: HashBlock,
    sha384: HashBlock,
    sha512: HashBlock,
}

/// Bytes of the longest block of a hash.
const HASH_BLOCK_BYTES: usize = 128;
/// Where the rounds of AES that decrypt begin in [`Key::schedules`].
pub(super) const DECRYPTION_AT: usize = 256;
/// Length of a DES schedule.
pub(super) const DES_SCHEDULE_BYTES: usize = 128;

/// Expanded keys, in one piece where the SA is; but for those of the portable code, if that serves some packets.
#[repr(C, align(64))]
pub(in crate::engine) struct Key {
    /// Rounds of AES that encrypt, then those that decrypt; or three schedules of DES.
    pub(super) schedules: [u8; 512],
    /// The hash after the key with the inner padding of HMAC (RFC 2104 section 2).
    pub(super) inner: [u8; 64],
    /// The same with the outer padding.
    pub(super) outer: [u8; 64],
    pub(super) iv_cipher: IvCipher,
    pub(super) framing: Framing,
    pub(super) cipher: Cbc,
    pub(super) integrity: Integrity,
    pub(super) preference: Preference,
    pub(super) portable: Option<Box<portable::Key>>,
}

// The variant of AES-GCM says how much room an SA has for its key.
const _: () = assert!(size_of::<Key>() <= size_of::<super::super::gcm::Key>());

impl Drop for Key {
    fn drop(&mut self) {
        self.schedules.zeroize();
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

impl Key {
    /// Loads a byte of each cache line that every packet needs first.
    #[inline]
    pub(in crate::engine) fn touch(&self) -> u64 {
        let rounds = &self.schedules;
        std::hint::black_box(rounds[0] ^ rounds[64] ^ rounds[128] ^ self.inner[0] ^ self.outer[0]);
        0
    }

    /// What seals a packet of this length in the library's place.
    #[inline]
    pub(in super::super) fn portable_sealing(&self, bytes: usize) -> Option<&portable::Key> {
        self.portable.as_deref().filter(|_| self.preference.portable_seals(bytes))
    }

    /// What opens a packet of this length in the library's place.
    #[inline]
    pub(in super::super) fn portable_opening(&self, bytes: usize) -> Option<&portable::Key> {
        self.portable.as_deref().filter(|_| self.preference.portable_opens(bytes))
    }
}

impl Functions {
    pub(in super::super) fn new(library: &IMB_MGR) -> Option<Self> {
        Some(Self {
            aes_128: library.keyexp_128?,
            aes_192: library.keyexp_192?,
            aes_256: library.keyexp_256?,
            des: library.des_key_sched?,
            md5: library.md5_one_block?,
            sha1: library.sha1_one_block?,
            sha256: library.sha256_one_block?,
            sha384: library.sha384_one_block?,
            sha512: library.sha512_one_block?,
        })
    }

    pub(in super::super) fn expand(
        &self,
        cipher: Cbc,
        integrity: Integrity,
        preference: Preference,
        keys: Keys<'_>,
        into: &mut SaKey,
    ) {
        *into = SaKey::default();
        if keys.cipher.len() != cipher.key_bytes() || keys.integrity.len() != integrity.key_bytes() {
            return;
        }
        let Some(iv_cipher) = IvCipher::new(keys.cipher) else { return };
        let portable = match preference {
            Preference::LIBRARY => None,
            _ => portable::Key::new(cipher, integrity, keys).map(Box::new),
        };
        *into = SaKey(Expanded::IpsecMbSeparate(Key {
            schedules: [0; 512],
            inner: [0; 64],
            outer: [0; 64],
            iv_cipher,
            framing: Algorithm::Separate(cipher, integrity).framing(),
            cipher,
            integrity,
            preference,
            portable,
        }));
        if let Expanded::IpsecMbSeparate(key) = &mut into.0 {
            self.schedule(cipher, keys.cipher, &mut key.schedules);
            self.pad(integrity, keys.integrity, 0x36, &mut key.inner);
            self.pad(integrity, keys.integrity, 0x5c, &mut key.outer);
        }
    }

    /// `key` has the length of the cipher's.
    pub(super) fn schedule(&self, cipher: Cbc, key: &[u8], schedules: &mut [u8; 512]) {
        let expand = match cipher {
            Cbc::Aes128 => self.aes_128,
            Cbc::Aes192 => self.aes_192,
            Cbc::Aes256 => self.aes_256,
            Cbc::TripleDes => {
                let schedules = schedules.chunks_exact_mut(DES_SCHEDULE_BYTES);
                for (schedule, key) in schedules.zip(key.chunks_exact(8)) {
                    // SAFETY: eight bytes of key, room for the sixteen rounds, aligned as the structure is; the library does
                    // not judge keys, and what it returns says nothing.
                    unsafe { (self.des)(schedule.as_mut_ptr().cast(), key.as_ptr().cast()) };
                }
                return;
            }
        };
        let (encryption, decryption) = schedules.split_at_mut(DECRYPTION_AT);
        // SAFETY: a key of the cipher's length, and room for fifteen rounds each, aligned to 16 bytes.
        unsafe {
            expand(key.as_ptr().cast(), encryption.as_mut_ptr().cast(), decryption.as_mut_ptr().cast());
        }
    }

    /// The state of the hash after a block of the key with padding.
    pub(super) fn pad(&self, integrity: Integrity, key: &[u8], padding: u8, state: &mut [u8; 64]) {
        let hash = match integrity {
            Integrity::HmacMd5_96 => self.md5,
            Integrity::HmacSha1_96 => self.sha1,
            Integrity::HmacSha2_256_128 => self.sha256,
            Integrity::HmacSha2_384_192 => self.sha384,
            Integrity::HmacSha2_512_256 => self.sha512,
        };
        let mut block = Zeroizing::new([padding; HASH_BLOCK_BYTES]);
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= *key);
        // SAFETY: a block of the longest hash, and room for the state of the longest.
        unsafe { hash(block.as_ptr().cast(), state.as_mut_ptr().cast()) };
    }
}
