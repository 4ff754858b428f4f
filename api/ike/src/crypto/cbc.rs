//! CBC without padding (RFC 3602, RFC 2451): what IKE pads, it pads itself.

use aes::cipher::common::BlockSizeUser;
use aes::cipher::{Block, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use des::TdesEde3;
use zeroize::ZeroizeOnDrop;

use super::CryptoError;
use crate::IkeEncryption;

/// A cipher with its key, which it wipes when it goes, and the buffer as whole blocks.
fn ready<'a, C: KeyIvInit + BlockSizeUser + ZeroizeOnDrop>(
    key: &[u8],
    iv: &[u8],
    buffer: &'a mut [u8],
) -> Result<(C, &'a mut [Block<C>]), CryptoError> {
    let (blocks, rest) = Block::<C>::slice_as_chunks_mut(buffer);
    let cipher = C::new_from_slices(key, iv).map_err(|_| CryptoError::Integrity)?;
    if rest.is_empty() { Ok((cipher, blocks)) } else { Err(CryptoError::Integrity) }
}

/// A cipher in CBC mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CbcCipher {
    Aes128,
    Aes192,
    Aes256,
    TripleDes,
}

impl CbcCipher {
    /// `None` for a combined-mode cipher.
    pub(crate) fn new(encryption: IkeEncryption) -> Option<Self> {
        match encryption {
            IkeEncryption::Aes128Cbc => Some(Self::Aes128),
            IkeEncryption::Aes192Cbc => Some(Self::Aes192),
            IkeEncryption::Aes256Cbc => Some(Self::Aes256),
            IkeEncryption::TripleDesCbc => Some(Self::TripleDes),
            IkeEncryption::Aes128Gcm16 | IkeEncryption::Aes256Gcm16 | IkeEncryption::ChaCha20Poly1305 => None,
        }
    }

    pub(crate) fn key_len_bytes(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 | Self::TripleDes => 24,
            Self::Aes256 => 32,
        }
    }

    pub(crate) fn block_len_bytes(self) -> usize {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
            Self::TripleDes => 8,
        }
    }

    /// Encrypts whole blocks in place; key and IV must have the cipher's lengths.
    pub(crate) fn encrypt(self, key: &[u8], iv: &[u8], buffer: &mut [u8]) -> Result<(), CryptoError> {
        fn run<C: BlockModeEncrypt + KeyIvInit + ZeroizeOnDrop>(
            key: &[u8],
            iv: &[u8],
            buffer: &mut [u8],
        ) -> Result<(), CryptoError> {
            let (mut cipher, blocks) = ready::<C>(key, iv, buffer)?;
            cipher.encrypt_blocks(blocks);
            Ok(())
        }
        match self {
            Self::Aes128 => run::<cbc::Encryptor<Aes128>>(key, iv, buffer),
            Self::Aes192 => run::<cbc::Encryptor<Aes192>>(key, iv, buffer),
            Self::Aes256 => run::<cbc::Encryptor<Aes256>>(key, iv, buffer),
            Self::TripleDes => run::<cbc::Encryptor<TdesEde3>>(key, iv, buffer),
        }
    }

    /// The reverse of [`CbcCipher::encrypt`].
    pub(crate) fn decrypt(self, key: &[u8], iv: &[u8], buffer: &mut [u8]) -> Result<(), CryptoError> {
        fn run<C: BlockModeDecrypt + KeyIvInit + ZeroizeOnDrop>(
            key: &[u8],
            iv: &[u8],
            buffer: &mut [u8],
        ) -> Result<(), CryptoError> {
            let (mut cipher, blocks) = ready::<C>(key, iv, buffer)?;
            cipher.decrypt_blocks(blocks);
            Ok(())
        }
        match self {
            Self::Aes128 => run::<cbc::Decryptor<Aes128>>(key, iv, buffer),
            Self::Aes192 => run::<cbc::Decryptor<Aes192>>(key, iv, buffer),
            Self::Aes256 => run::<cbc::Decryptor<Aes256>>(key, iv, buffer),
            Self::TripleDes => run::<cbc::Decryptor<TdesEde3>>(key, iv, buffer),
        }
    }
}
