//! The Encrypted payload (RFC 7296 section 3.14, RFC 5282): sealing and opening whole messages.

use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aes::{Aes128, Aes256};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{CryptoError, IkeCipher, Random, Secret, prf};
use crate::Hash;
use crate::wire::{Encrypted, HEADER_LEN_BYTES, Header, Payload, Writer, encode_payloads, registry};

const GCM_IV_LEN_BYTES: usize = 8;
const GCM_ICV_LEN_BYTES: usize = 16;
const BLOCK_LEN_BYTES: usize = 16;
/// Generic payload header.
const PAYLOAD_HEADER_LEN_BYTES: usize = 4;

/// What one direction of an IKE SA needs.
pub(super) struct DirectionKey {
    pub(super) cipher: IkeCipher,
    pub(super) encryption: Secret,
    pub(super) integrity: Secret,
}

/// Key for what we send; owns the counter of which GCM's IVs are made, so that none is used twice.
pub(crate) struct SealingKey {
    key: DirectionKey,
    counter: u64,
}

/// Key for what we receive.
pub(crate) struct OpeningKey {
    key: DirectionKey,
}

impl SealingKey {
    pub(super) fn new(cipher: IkeCipher, encryption: Secret, integrity: Secret) -> Self {
        Self { key: DirectionKey { cipher, encryption, integrity }, counter: 0 }
    }

    /// Encodes a message whose payloads all stand inside an Encrypted payload.
    pub(crate) fn seal(
        &mut self,
        mut header: Header,
        payloads: &[Payload],
        random: &mut Random,
    ) -> Result<Vec<u8>, CryptoError> {
        let (first, plain) = encode_payloads(payloads);
        let mut plain = Zeroizing::new(plain);
        header.first = registry::payload::ENCRYPTED;
        match self.key.cipher.integrity() {
            None => {
                plain.push(0);
                let iv = self.counter.to_be_bytes();
                self.counter = self.counter.checked_add(1).ok_or(CryptoError::Exhausted)?;
                let body_len = iv.len() + plain.len() + GCM_ICV_LEN_BYTES;
                let mut message = prefix(header, first, body_len);
                let tag = self.key.gcm_encrypt(&iv, &message, &mut plain)?;
                message.extend_from_slice(&iv);
                message.extend_from_slice(&plain);
                message.extend_from_slice(&tag);
                Ok(message)
            }
            Some(hash) => {
                let pad = BLOCK_LEN_BYTES - 1 - plain.len() % BLOCK_LEN_BYTES;
                plain.extend(std::iter::repeat_n(0, pad));
                plain.push(u8::try_from(pad).unwrap_or(0));
                let iv: [u8; BLOCK_LEN_BYTES] = random.array();
                let body_len = iv.len() + plain.len() + hash.icv_len_bytes();
                self.key.cbc_encrypt(&iv, &mut plain)?;
                let mut message = prefix(header, first, body_len);
                message.extend_from_slice(&iv);
                message.extend_from_slice(&plain);
                let icv = self.key.icv(hash, &message);
                message.extend_from_slice(&icv);
                Ok(message)
            }
        }
    }
}

/// Header and the Encrypted payload's own header, for a payload with `body_len` bytes.
fn prefix(header: Header, first: u8, body_len: usize) -> Vec<u8> {
    let mut writer = Writer::default();
    header.encode(&mut writer, body_len + PAYLOAD_HEADER_LEN_BYTES);
    writer.u8(first);
    writer.u8(0);
    writer.u16(u16::try_from(body_len + PAYLOAD_HEADER_LEN_BYTES).unwrap_or(u16::MAX));
    writer.into_bytes()
}

impl OpeningKey {
    pub(super) fn new(cipher: IkeCipher, encryption: Secret, integrity: Secret) -> Self {
        Self { key: DirectionKey { cipher, encryption, integrity } }
    }

    /// Checks and decrypts the Encrypted payload at the end of `message`; gives the chain of payloads inside.
    pub(crate) fn open(&self, message: &[u8], encrypted: &Encrypted) -> Result<Secret, CryptoError> {
        let prefix_len = message.len().checked_sub(encrypted.body.len()).ok_or(CryptoError::Integrity)?;
        if prefix_len < HEADER_LEN_BYTES + PAYLOAD_HEADER_LEN_BYTES {
            return Err(CryptoError::Integrity);
        }
        let mut plain = match self.key.cipher.integrity() {
            None => {
                let (iv, rest) =
                    encrypted.body.split_first_chunk::<GCM_IV_LEN_BYTES>().ok_or(CryptoError::Integrity)?;
                let (sealed, tag) =
                    rest.split_last_chunk::<GCM_ICV_LEN_BYTES>().ok_or(CryptoError::Integrity)?;
                let mut plain = Zeroizing::new(sealed.to_vec());
                let (associated, _) = message.split_at(prefix_len);
                self.key.gcm_decrypt(iv, associated, &mut plain, tag)?;
                plain
            }
            Some(hash) => {
                let covered = message.len().checked_sub(hash.icv_len_bytes());
                let (covered, icv) =
                    message.split_at_checked(covered.unwrap_or(0)).ok_or(CryptoError::Integrity)?;
                if !bool::from(self.key.icv(hash, covered).as_slice().ct_eq(icv)) {
                    return Err(CryptoError::Integrity);
                }
                let body_len =
                    encrypted.body.len().checked_sub(hash.icv_len_bytes()).ok_or(CryptoError::Integrity)?;
                let (body, _) = encrypted.body.split_at(body_len);
                let (iv, sealed) =
                    body.split_first_chunk::<BLOCK_LEN_BYTES>().ok_or(CryptoError::Integrity)?;
                let mut plain = Zeroizing::new(sealed.to_vec());
                self.key.cbc_decrypt(iv, &mut plain)?;
                plain
            }
        };
        let pad = usize::from(plain.pop().ok_or(CryptoError::Integrity)?);
        let kept = plain.len().checked_sub(pad).ok_or(CryptoError::Integrity)?;
        plain.truncate(kept);
        Ok(plain)
    }
}

impl DirectionKey {
    fn icv(&self, hash: Hash, covered: &[u8]) -> Secret {
        let mut icv = prf(hash, &self.integrity, &[covered]);
        icv.truncate(hash.icv_len_bytes());
        icv
    }

    /// Key and nonce: the salt, then the IV (RFC 5282 section 4).
    fn gcm_parts(&self, iv: &[u8; GCM_IV_LEN_BYTES]) -> Result<(&[u8], [u8; 12]), CryptoError> {
        let (key, salt) = self.encryption.split_last_chunk::<4>().ok_or(CryptoError::Integrity)?;
        let mut nonce = [0; 12];
        let (front, back) = nonce.split_at_mut(salt.len());
        front.copy_from_slice(salt);
        back.copy_from_slice(iv);
        Ok((key, nonce))
    }

    pub(super) fn gcm_encrypt(
        &self,
        iv: &[u8; GCM_IV_LEN_BYTES],
        associated: &[u8],
        buffer: &mut [u8],
    ) -> Result<Vec<u8>, CryptoError> {
        fn run<C: AeadInOut<NonceSize = aes_gcm::aead::consts::U12> + KeyInit>(
            key: &[u8],
            nonce: [u8; 12],
            associated: &[u8],
            buffer: &mut [u8],
        ) -> Result<Vec<u8>, CryptoError> {
            let cipher = C::new_from_slice(key).map_err(|_| CryptoError::Integrity)?;
            let tag = cipher
                .encrypt_inout_detached(&nonce.into(), associated, buffer.into())
                .map_err(|_| CryptoError::Integrity)?;
            Ok(tag.to_vec())
        }
        let (key, nonce) = self.gcm_parts(iv)?;
        if key.len() == 16 {
            run::<Aes128Gcm>(key, nonce, associated, buffer)
        } else {
            run::<Aes256Gcm>(key, nonce, associated, buffer)
        }
    }

    pub(super) fn gcm_decrypt(
        &self,
        iv: &[u8; GCM_IV_LEN_BYTES],
        associated: &[u8],
        buffer: &mut [u8],
        tag: &[u8; GCM_ICV_LEN_BYTES],
    ) -> Result<(), CryptoError> {
        fn run<C>(
            key: &[u8],
            nonce: [u8; 12],
            associated: &[u8],
            buffer: &mut [u8],
            tag: &[u8; GCM_ICV_LEN_BYTES],
        ) -> Result<(), CryptoError>
        where
            C: AeadInOut<NonceSize = aes_gcm::aead::consts::U12, TagSize = aes_gcm::aead::consts::U16>
                + KeyInit,
        {
            let cipher = C::new_from_slice(key).map_err(|_| CryptoError::Integrity)?;
            cipher
                .decrypt_inout_detached(&nonce.into(), associated, buffer.into(), &(*tag).into())
                .map_err(|_| CryptoError::Integrity)
        }
        let (key, nonce) = self.gcm_parts(iv)?;
        if key.len() == 16 {
            run::<Aes128Gcm>(key, nonce, associated, buffer, tag)
        } else {
            run::<Aes256Gcm>(key, nonce, associated, buffer, tag)
        }
    }

    pub(super) fn cbc_encrypt(
        &self,
        iv: &[u8; BLOCK_LEN_BYTES],
        buffer: &mut [u8],
    ) -> Result<(), CryptoError> {
        let (blocks, rest) = aes::Block::slice_as_chunks_mut(buffer);
        if !rest.is_empty() {
            return Err(CryptoError::Integrity);
        }
        if self.encryption.len() == 16 {
            cbc::Encryptor::<Aes128>::new_from_slices(&self.encryption, iv)
                .map_err(|_| CryptoError::Integrity)?
                .encrypt_blocks(blocks);
        } else {
            cbc::Encryptor::<Aes256>::new_from_slices(&self.encryption, iv)
                .map_err(|_| CryptoError::Integrity)?
                .encrypt_blocks(blocks);
        }
        Ok(())
    }

    pub(super) fn cbc_decrypt(
        &self,
        iv: &[u8; BLOCK_LEN_BYTES],
        buffer: &mut [u8],
    ) -> Result<(), CryptoError> {
        let (blocks, rest) = aes::Block::slice_as_chunks_mut(buffer);
        if !rest.is_empty() {
            return Err(CryptoError::Integrity);
        }
        if self.encryption.len() == 16 {
            cbc::Decryptor::<Aes128>::new_from_slices(&self.encryption, iv)
                .map_err(|_| CryptoError::Integrity)?
                .decrypt_blocks(blocks);
        } else {
            cbc::Decryptor::<Aes256>::new_from_slices(&self.encryption, iv)
                .map_err(|_| CryptoError::Integrity)?
                .decrypt_blocks(blocks);
        }
        Ok(())
    }
}
