//! The Encrypted payload (RFC 7296 section 3.14, RFC 5282, RFC 7634): sealing and opening whole messages.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;
use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::{CbcCipher, CryptoError, IkeCipher, Random, Secret, prf};
use crate::wire::{HEADER_LEN_BYTES, Header, Payload, Writer, encode_payloads, registry};
use crate::{Hash, IkeEncryption};

/// IV and integrity check value of every combined cipher that we have (RFC 5282 section 3, RFC 7634 section 2).
const AEAD_IV_LEN_BYTES: usize = 8;
const AEAD_ICV_LEN_BYTES: usize = 16;
/// Generic payload header.
const PAYLOAD_HEADER_LEN_BYTES: usize = 4;
/// Number and total of a fragment.
const FRAGMENT_HEADER_LEN_BYTES: usize = 4;
/// What a fragment bears at least, however small the limit that was configured.
const MIN_PIECE_LEN_BYTES: usize = 64;

/// Most fragments that a message is cut into, and that we keep of one.
pub(crate) const MAX_FRAGMENTS: usize = 64;

/// A message as it goes out: one datagram, or its fragments in order.
pub(crate) type Datagrams = Vec<Vec<u8>>;

/// What one direction of an IKE SA needs.
pub(super) struct DirectionKey {
    pub(super) cipher: IkeCipher,
    pub(super) encryption: Secret,
    pub(super) integrity: Secret,
}

/// Key for what we send; owns the counter of which the IVs of combined ciphers are made, so that none is used twice.
pub(crate) struct SealingKey {
    key: DirectionKey,
    /// Upper half of the IV: how many engines had this key before this one. Whatever the last of them used of its run,
    /// and however much of that it could still write down, this one is in another.
    run: u32,
    /// Lower half.
    count: u32,
}

/// Key for what we receive.
pub(crate) struct OpeningKey {
    key: DirectionKey,
}

impl SealingKey {
    pub(super) fn new(cipher: IkeCipher, encryption: Secret, integrity: Secret) -> Self {
        Self::in_run(DirectionKey { cipher, encryption, integrity }, 0)
    }

    /// A key that engines before this one have used, in earlier runs.
    pub(super) fn in_run(key: DirectionKey, run: u32) -> Self {
        Self { key, run, count: 0 }
    }

    pub(super) fn key(&self) -> &DirectionKey {
        &self.key
    }

    pub(super) fn run(&self) -> u32 {
        self.run
    }

    /// Encodes a message whose payloads all stand inside an Encrypted payload: one datagram, or, where that were longer
    /// than `limit_bytes`, its fragments in order (RFC 7383 section 2.5).
    pub(crate) fn seal(
        &mut self,
        header: Header,
        payloads: &[Payload],
        limit_bytes: Option<usize>,
        random: &mut Random,
    ) -> Result<Datagrams, CryptoError> {
        let (first, plain) = encode_payloads(payloads);
        self.seal_chain(header, first, &Zeroizing::new(plain), limit_bytes, random)
    }

    /// The same for a chain of payloads that is encoded already.
    pub(crate) fn seal_chain(
        &mut self,
        header: Header,
        first: u8,
        plain: &[u8],
        limit_bytes: Option<usize>,
        random: &mut Random,
    ) -> Result<Datagrams, CryptoError> {
        let around = HEADER_LEN_BYTES + PAYLOAD_HEADER_LEN_BYTES;
        let whole = self.body_len_bytes(plain.len()).saturating_add(around);
        let limit = limit_bytes.filter(|limit| whole > *limit);
        let Some(limit) = limit else {
            return Ok(vec![self.seal_piece(header, first, None, plain, random)?]);
        };
        // However narrow the path, no more pieces than a peer keeps.
        let piece_len = self.largest_piece(limit).max(plain.len().div_ceil(MAX_FRAGMENTS));
        let total = u16::try_from(plain.len().div_ceil(piece_len)).map_err(|_| CryptoError::Exhausted)?;
        let mut datagrams = Vec::with_capacity(usize::from(total));
        for (number, piece) in (1..=total).zip(plain.chunks(piece_len)) {
            let first = if number == 1 { first } else { registry::payload::NONE };
            datagrams.push(self.seal_piece(header, first, Some((number, total)), piece, random)?);
        }
        Ok(datagrams)
    }

    /// Length of IV, ciphertext with padding, and integrity check value.
    fn body_len_bytes(&self, plain_len: usize) -> usize {
        match self.key.cipher.integrity() {
            None => plain_len.saturating_add(AEAD_IV_LEN_BYTES + 1 + AEAD_ICV_LEN_BYTES),
            Some(hash) => {
                let block_len = self.key.cbc().map_or(16, CbcCipher::block_len_bytes);
                let padded = plain_len.saturating_add(1).next_multiple_of(block_len);
                padded.saturating_add(block_len).saturating_add(hash.icv_len_bytes())
            }
        }
    }

    /// The most content that a fragment of at most `limit` bytes bears.
    fn largest_piece(&self, limit: usize) -> usize {
        let around = HEADER_LEN_BYTES + PAYLOAD_HEADER_LEN_BYTES + FRAGMENT_HEADER_LEN_BYTES;
        let room = limit.saturating_sub(around);
        (1..=room).rev().find(|len| self.body_len_bytes(*len) <= room).unwrap_or(1).max(MIN_PIECE_LEN_BYTES)
    }

    /// One datagram with the whole content, or with a piece of it that has this number and total.
    pub(crate) fn seal_piece(
        &mut self,
        mut header: Header,
        first: u8,
        fragment: Option<(u16, u16)>,
        piece: &[u8],
        random: &mut Random,
    ) -> Result<Vec<u8>, CryptoError> {
        let mut plain = Zeroizing::new(piece.to_vec());
        let body_len = self.body_len_bytes(plain.len());
        header.first =
            if fragment.is_some() { registry::payload::FRAGMENT } else { registry::payload::ENCRYPTED };
        let mut message = prefix(header, first, fragment, body_len);
        match self.key.cipher.integrity() {
            None => {
                plain.push(0);
                let iv = (u64::from(self.run) << 32 | u64::from(self.count)).to_be_bytes();
                self.count = self.count.checked_add(1).ok_or(CryptoError::Exhausted)?;
                let tag = self.key.aead_encrypt(&iv, &message, &mut plain)?;
                message.extend_from_slice(&iv);
                message.extend_from_slice(&plain);
                message.extend_from_slice(&tag);
            }
            Some(hash) => {
                let cbc = self.key.cbc()?;
                let block_len = cbc.block_len_bytes();
                let padded = plain.len().saturating_add(1).next_multiple_of(block_len);
                let pad = padded.saturating_sub(1).saturating_sub(plain.len());
                plain.extend(std::iter::repeat_n(0, pad));
                plain.push(u8::try_from(pad).unwrap_or(0));
                let iv = random.secret(block_len);
                cbc.encrypt(&self.key.encryption, &iv, &mut plain)?;
                message.extend_from_slice(&iv);
                message.extend_from_slice(&plain);
                let icv = self.key.icv(hash, &message);
                message.extend_from_slice(&icv);
            }
        }
        Ok(message)
    }

    /// One piece with any number and total, as only a peer that holds the keys can make it.
    #[cfg(test)]
    pub(crate) fn seal_fragment_for_test(
        &mut self,
        header: Header,
        first: u8,
        place: (u16, u16),
        content: &[u8],
    ) -> Vec<u8> {
        self.seal_piece(header, first, Some(place), content, &mut Random::new([0; 32])).unwrap_or_default()
    }
}

/// Header and the Encrypted or Encrypted Fragment payload's own header, for a payload with `body_len` bytes.
fn prefix(header: Header, first: u8, fragment: Option<(u16, u16)>, body_len: usize) -> Vec<u8> {
    let mut writer = Writer::default();
    let fragment_len = if fragment.is_some() { FRAGMENT_HEADER_LEN_BYTES } else { 0 };
    let payload_len = body_len.saturating_add(PAYLOAD_HEADER_LEN_BYTES).saturating_add(fragment_len);
    header.encode(&mut writer, payload_len);
    writer.u8(first);
    writer.u8(0);
    writer.u16(u16::try_from(payload_len).unwrap_or(u16::MAX));
    if let Some((number, total)) = fragment {
        writer.u16(number);
        writer.u16(total);
    }
    writer.into_bytes()
}

impl OpeningKey {
    pub(crate) fn new(cipher: IkeCipher, encryption: Secret, integrity: Secret) -> Self {
        Self::of(DirectionKey { cipher, encryption, integrity })
    }

    pub(super) fn of(key: DirectionKey) -> Self {
        Self { key }
    }

    pub(super) fn key(&self) -> &DirectionKey {
        &self.key
    }

    /// Checks and decrypts the Encrypted or Encrypted Fragment payload at the end of `message`, whose IV, ciphertext and
    /// integrity check value are `body`; gives the chain of payloads inside, or its piece.
    pub(crate) fn open(&self, message: &[u8], body: &[u8]) -> Result<Secret, CryptoError> {
        let prefix_len = message.len().checked_sub(body.len()).ok_or(CryptoError::Integrity)?;
        if prefix_len < HEADER_LEN_BYTES + PAYLOAD_HEADER_LEN_BYTES {
            return Err(CryptoError::Integrity);
        }
        let mut plain = match self.key.cipher.integrity() {
            None => {
                let (iv, rest) =
                    body.split_first_chunk::<AEAD_IV_LEN_BYTES>().ok_or(CryptoError::Integrity)?;
                let (sealed, tag) =
                    rest.split_last_chunk::<AEAD_ICV_LEN_BYTES>().ok_or(CryptoError::Integrity)?;
                let mut plain = Zeroizing::new(sealed.to_vec());
                let (associated, _) = message.split_at(prefix_len);
                self.key.aead_decrypt(iv, associated, &mut plain, tag)?;
                plain
            }
            Some(hash) => {
                let covered = message.len().checked_sub(hash.icv_len_bytes());
                let (covered, icv) =
                    message.split_at_checked(covered.unwrap_or(0)).ok_or(CryptoError::Integrity)?;
                if !bool::from(self.key.icv(hash, covered).as_slice().ct_eq(icv)) {
                    return Err(CryptoError::Integrity);
                }
                let body_len = body.len().checked_sub(hash.icv_len_bytes()).ok_or(CryptoError::Integrity)?;
                let (body, _) = body.split_at(body_len);
                let cbc = self.key.cbc()?;
                let (iv, sealed) =
                    body.split_at_checked(cbc.block_len_bytes()).ok_or(CryptoError::Integrity)?;
                let mut plain = Zeroizing::new(sealed.to_vec());
                cbc.decrypt(&self.key.encryption, iv, &mut plain)?;
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

    /// Key and nonce: the salt, then the IV (RFC 5282 section 4, RFC 7634 section 2).
    fn aead_parts(&self, iv: &[u8; AEAD_IV_LEN_BYTES]) -> Result<(&[u8], [u8; 12]), CryptoError> {
        let (key, salt) = self.encryption.split_last_chunk::<4>().ok_or(CryptoError::Integrity)?;
        let mut nonce = [0; 12];
        let (front, back) = nonce.split_at_mut(salt.len());
        front.copy_from_slice(salt);
        back.copy_from_slice(iv);
        Ok((key, nonce))
    }

    pub(super) fn aead_encrypt(
        &self,
        iv: &[u8; AEAD_IV_LEN_BYTES],
        associated: &[u8],
        buffer: &mut [u8],
    ) -> Result<Vec<u8>, CryptoError> {
        fn run<C: AeadInOut<NonceSize = aes_gcm::aead::consts::U12> + KeyInit + ZeroizeOnDrop>(
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
        let (key, nonce) = self.aead_parts(iv)?;
        match self.cipher.encryption() {
            IkeEncryption::Aes128Gcm16 => run::<Aes128Gcm>(key, nonce, associated, buffer),
            IkeEncryption::Aes256Gcm16 => run::<Aes256Gcm>(key, nonce, associated, buffer),
            IkeEncryption::ChaCha20Poly1305 => run::<ChaCha20Poly1305>(key, nonce, associated, buffer),
            _ => Err(CryptoError::Integrity),
        }
    }

    pub(super) fn aead_decrypt(
        &self,
        iv: &[u8; AEAD_IV_LEN_BYTES],
        associated: &[u8],
        buffer: &mut [u8],
        tag: &[u8; AEAD_ICV_LEN_BYTES],
    ) -> Result<(), CryptoError> {
        fn run<C>(
            key: &[u8],
            nonce: [u8; 12],
            associated: &[u8],
            buffer: &mut [u8],
            tag: &[u8; AEAD_ICV_LEN_BYTES],
        ) -> Result<(), CryptoError>
        where
            C: AeadInOut<NonceSize = aes_gcm::aead::consts::U12, TagSize = aes_gcm::aead::consts::U16>
                + KeyInit
                + ZeroizeOnDrop,
        {
            let cipher = C::new_from_slice(key).map_err(|_| CryptoError::Integrity)?;
            cipher
                .decrypt_inout_detached(&nonce.into(), associated, buffer.into(), &(*tag).into())
                .map_err(|_| CryptoError::Integrity)
        }
        let (key, nonce) = self.aead_parts(iv)?;
        match self.cipher.encryption() {
            IkeEncryption::Aes128Gcm16 => run::<Aes128Gcm>(key, nonce, associated, buffer, tag),
            IkeEncryption::Aes256Gcm16 => run::<Aes256Gcm>(key, nonce, associated, buffer, tag),
            IkeEncryption::ChaCha20Poly1305 => run::<ChaCha20Poly1305>(key, nonce, associated, buffer, tag),
            _ => Err(CryptoError::Integrity),
        }
    }

    fn cbc(&self) -> Result<CbcCipher, CryptoError> {
        CbcCipher::new(self.cipher.encryption()).ok_or(CryptoError::Integrity)
    }
}
