//! CBC ciphers and HMAC as jobs: the packets of a batch go side by side through the lanes of the library.

mod key;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use subtle::ConstantTimeEq;

use self::key::{DECRYPTION_AT, DES_SCHEDULE_BYTES};
pub(in crate::engine) use self::key::{Functions, Key};
use super::bindings::{self, IMB_JOB};
use super::manager::Manager;
use crate::algorithm::{Cbc, Integrity};
use crate::framing::{self, HEADER_BYTES, Nonce};

/// Most bytes that a job takes: lanes count in 16 bits.
const MAX_JOB_BYTES: usize = u16::MAX as usize - 1;
/// Bytes of the longest ICV.
const ICV_BYTES: usize = 32;
/// A packet that waits to be sealed. Its lengths are those of its framing.
pub(in crate::engine) struct Sealing<'a> {
    packet: Packet<'a>,
}

/// A packet that waits to be opened.
pub(in crate::engine) struct Opening<'a> {
    packet: Packet<'a>,
    received: [u8; ICV_BYTES],
    computed: [u8; ICV_BYTES],
}

/// Pointers of a job, and lengths that were compared with those of the packet.
struct Packet<'a> {
    key: &'a Key,
    start: *mut u8,
    /// From the start to the ICV.
    sealed_bytes: usize,
    /// Bytes under HMAC: with ESN the high half stands where the ICV will.
    hashed_bytes: usize,
    des_schedules: [*const u8; 3],
    at: usize,
    exclusive: PhantomData<&'a mut [u8]>,
}

impl Key {
    /// Queues a packet for [`seal`], as number `at` of its batch; `None` if its lengths are wrong.
    #[inline(never)]
    pub(in crate::engine) fn sealing<'a>(
        &'a self,
        at: usize,
        nonce: &Nonce,
        aad: &[u8],
        packet: &'a mut [u8],
    ) -> Option<Sealing<'a>> {
        let high = framing::high_half(aad)?;
        if !self.framing.fits(packet.len()) {
            return None;
        }
        let (sealed, icv) = packet.split_at_mut(packet.len() - self.framing.icv_bytes());
        let iv = sealed.get_mut(HEADER_BYTES..self.framing.payload_at())?;
        iv.copy_from_slice(self.iv_cipher.iv(nonce).get(..iv.len())?);
        icv.get_mut(..high.len())?.copy_from_slice(high);
        let sealed_bytes = sealed.len();
        Some(Sealing { packet: Packet::new(self, packet, sealed_bytes, high.len(), at)? })
    }

    /// Queues a packet for [`open`].
    #[inline(never)]
    pub(in crate::engine) fn opening<'a>(
        &'a self,
        at: usize,
        aad: &[u8],
        packet: &'a mut [u8],
    ) -> Option<Opening<'a>> {
        let high = framing::high_half(aad)?;
        if !self.framing.fits(packet.len()) {
            return None;
        }
        let (sealed, icv) = packet.split_at_mut(packet.len() - self.framing.icv_bytes());
        let mut received = [0; ICV_BYTES];
        received.get_mut(..icv.len())?.copy_from_slice(icv);
        icv.get_mut(..high.len())?.copy_from_slice(high);
        let sealed_bytes = sealed.len();
        let packet = Packet::new(self, packet, sealed_bytes, high.len(), at)?;
        Some(Opening { packet, received, computed: [0; ICV_BYTES] })
    }
}

impl<'a> Packet<'a> {
    #[inline]
    fn new(
        key: &'a Key,
        packet: &'a mut [u8],
        sealed_bytes: usize,
        high_bytes: usize,
        at: usize,
    ) -> Option<Self> {
        let hashed_bytes = sealed_bytes + high_bytes;
        if hashed_bytes > MAX_JOB_BYTES {
            return None;
        }
        let [first, second, third, _] =
            [0, 1, 2, 3].map(|number| key.schedules.as_ptr().wrapping_add(number * DES_SCHEDULE_BYTES));
        Some(Self {
            key,
            start: packet.as_mut_ptr(),
            sealed_bytes,
            hashed_bytes,
            des_schedules: [first, second, third],
            at,
            exclusive: PhantomData,
        })
    }

    /// The part of a job that names the cipher.
    #[inline]
    fn cipher(&self, job: &mut IMB_JOB, direction: bindings::IMB_CIPHER_DIRECTION) {
        let (key, payload_at) = (self.key, self.key.framing.payload_at());
        let (mode, encryption, decryption) = match key.cipher {
            Cbc::TripleDes => {
                let schedules: *const *const u8 = self.des_schedules.as_ptr();
                (bindings::IMB_CIPHER_MODE_IMB_CIPHER_DES3, schedules.cast(), schedules.cast())
            }
            _ => {
                let rounds = key.schedules.as_ptr();
                let decryption = rounds.wrapping_add(DECRYPTION_AT);
                (bindings::IMB_CIPHER_MODE_IMB_CIPHER_CBC, rounds.cast(), decryption.cast())
            }
        };
        job.cipher_mode = mode;
        job.cipher_direction = direction;
        (job.enc_keys, job.dec_keys) = (encryption, decryption);
        job.key_len_in_bytes = key.cipher.key_bytes() as u64;
        job.__bindgen_anon_1.src = self.start;
        job.__bindgen_anon_2.dst = self.start.wrapping_add(payload_at);
        job.__bindgen_anon_3.cipher_start_src_offset_in_bytes = payload_at as u64;
        job.__bindgen_anon_4.msg_len_to_cipher_in_bytes = (self.sealed_bytes - payload_at) as u64;
        job.iv = self.start.wrapping_add(HEADER_BYTES);
        job.iv_len_in_bytes = u64::from(key.cipher.block_bytes());
        job.user_data = std::ptr::without_provenance_mut(self.at);
    }

    /// The part of a job that names the hash.
    #[inline]
    fn hash(&self, job: &mut IMB_JOB, icv: *mut u8) {
        let key = self.key;
        job.hash_alg = match key.integrity {
            Integrity::HmacMd5_96 => bindings::IMB_HASH_ALG_IMB_AUTH_MD5,
            Integrity::HmacSha1_96 => bindings::IMB_HASH_ALG_IMB_AUTH_HMAC_SHA_1,
            Integrity::HmacSha2_256_128 => bindings::IMB_HASH_ALG_IMB_AUTH_HMAC_SHA_256,
            Integrity::HmacSha2_384_192 => bindings::IMB_HASH_ALG_IMB_AUTH_HMAC_SHA_384,
            Integrity::HmacSha2_512_256 => bindings::IMB_HASH_ALG_IMB_AUTH_HMAC_SHA_512,
        };
        job.__bindgen_anon_1.src = self.start;
        job.hash_start_src_offset_in_bytes = 0;
        job.__bindgen_anon_5.msg_len_to_hash_in_bytes = self.hashed_bytes as u64;
        job.auth_tag_output = icv;
        job.auth_tag_output_len_in_bytes = u64::from(key.integrity.icv_bytes());
        job.u.HMAC = bindings::IMB_JOB__bindgen_ty_6__HMAC_specific_fields {
            _hashed_auth_key_xor_ipad: key.inner.as_ptr(),
            _hashed_auth_key_xor_opad: key.outer.as_ptr(),
        };
        job.user_data = std::ptr::without_provenance_mut(self.at);
    }
}

/// Encrypts and authenticates what waits; bit `at` is set for each packet that was done.
#[inline(never)]
pub(super) fn seal(manager: &mut Manager, queue: &mut [Sealing<'_>]) -> u64 {
    // SAFETY: lengths were compared with the packet's when it was queued, whose bytes are borrowed alone for as long as
    // the queue; the keys lie aligned in it. An ICV overwrites the high half only after all was hashed.
    unsafe {
        manager.run(queue.iter(), |job, Sealing { packet }| {
            job.chain_order = bindings::IMB_CHAIN_ORDER_IMB_ORDER_CIPHER_HASH;
            packet.cipher(job, bindings::IMB_CIPHER_DIRECTION_IMB_DIR_ENCRYPT);
            packet.hash(job, packet.start.wrapping_add(packet.sealed_bytes));
        })
    }
}

/// Authenticates what waits, and decrypts what is authentic and nothing else.
#[inline(never)]
pub(super) fn open(manager: &mut Manager, queue: &mut [Opening<'_>]) -> u64 {
    let hashed = hash(manager, queue);
    // What an ICV has no room for is zero on both sides: the time tells neither where they differ nor how long they are.
    let authentic = |opening: &&Opening<'_>| {
        hashed >> opening.packet.at & 1 == 1 && bool::from(opening.computed.ct_eq(&opening.received))
    };
    // SAFETY: as in `seal`.
    unsafe {
        manager.run(queue.iter().filter(authentic), |job, Opening { packet, .. }| {
            job.chain_order = bindings::IMB_CHAIN_ORDER_IMB_ORDER_CIPHER_HASH;
            job.hash_alg = bindings::IMB_HASH_ALG_IMB_AUTH_NULL;
            packet.cipher(job, bindings::IMB_CIPHER_DIRECTION_IMB_DIR_DECRYPT);
        })
    }
}

/// Computes the ICVs of what waits.
fn hash(manager: &mut Manager, queue: &mut [Opening<'_>]) -> u64 {
    // SAFETY: as in `seal`; what is computed goes into the queue, which stays where it is.
    unsafe {
        manager.run(queue.iter_mut(), |job, Opening { packet, computed, .. }| {
            job.chain_order = bindings::IMB_CHAIN_ORDER_IMB_ORDER_CIPHER_HASH;
            job.cipher_mode = bindings::IMB_CIPHER_MODE_IMB_CIPHER_NULL;
            job.cipher_direction = bindings::IMB_CIPHER_DIRECTION_IMB_DIR_DECRYPT;
            packet.hash(job, computed.as_mut_ptr());
        })
    }
}
