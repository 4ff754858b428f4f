//! Ciphers in CBC mode over whole blocks (RFC 3602, RFC 2451): ESP pads.

use aes::cipher::common::BlockSizeUser;
use aes::cipher::{
    Block, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit,
};
use aes::{Aes128, Aes192, Aes256};
use cbc::{Decryptor, Encryptor};
use des::TdesEde3;

use crate::algorithm::Cbc;

/// A cipher with its rounds.
pub(super) enum Cipher {
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
    TripleDes(TdesEde3),
}

impl Cipher {
    /// `None` if the key has another length.
    pub(super) fn new(cipher: Cbc, key: &[u8]) -> Option<Self> {
        match cipher {
            Cbc::Aes128 => Aes128::new_from_slice(key).map(Self::Aes128),
            Cbc::Aes192 => Aes192::new_from_slice(key).map(Self::Aes192),
            Cbc::Aes256 => Aes256::new_from_slice(key).map(Self::Aes256),
            Cbc::TripleDes => TdesEde3::new_from_slice(key).map(Self::TripleDes),
        }
        .ok()
    }

    /// Encrypts in place; `false`, and nothing done, if these are not whole blocks or the IV is not one.
    pub(super) fn encrypt(&self, iv: &[u8], text: &mut [u8]) -> bool {
        match self {
            Self::Aes128(cipher) => encrypt(cipher, iv, text),
            Self::Aes192(cipher) => encrypt(cipher, iv, text),
            Self::Aes256(cipher) => encrypt(cipher, iv, text),
            Self::TripleDes(cipher) => encrypt(cipher, iv, text),
        }
    }

    /// The reverse of [`Cipher::encrypt`].
    pub(super) fn decrypt(&self, iv: &[u8], text: &mut [u8]) -> bool {
        match self {
            Self::Aes128(cipher) => decrypt(cipher, iv, text),
            Self::Aes192(cipher) => decrypt(cipher, iv, text),
            Self::Aes256(cipher) => decrypt(cipher, iv, text),
            Self::TripleDes(cipher) => decrypt(cipher, iv, text),
        }
    }
}

fn encrypt<C: BlockCipherEncrypt>(cipher: &C, iv: &[u8], text: &mut [u8]) -> bool {
    let Some((iv, blocks)) = whole::<C>(iv, text) else { return false };
    Encryptor::inner_iv_init(cipher, iv).encrypt_blocks(blocks);
    true
}

fn decrypt<C: BlockCipherDecrypt>(cipher: &C, iv: &[u8], text: &mut [u8]) -> bool {
    let Some((iv, blocks)) = whole::<C>(iv, text) else { return false };
    Decryptor::inner_iv_init(cipher, iv).decrypt_blocks(blocks);
    true
}

fn whole<'a, C: BlockSizeUser>(
    iv: &'a [u8],
    text: &'a mut [u8],
) -> Option<(&'a Block<C>, &'a mut [Block<C>])> {
    let (blocks, rest) = Block::<C>::slice_as_chunks_mut(text);
    rest.is_empty().then_some((iv.try_into().ok()?, blocks))
}
