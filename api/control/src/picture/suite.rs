//! The algorithms of SA records in the words of transform sets.

use model::{EspEncryption, EspIntegrity};
use shm::records::{algorithm, integrity};

/// The cipher of a record.
pub(crate) const fn encryption_word(number: u8) -> &'static str {
    match number {
        algorithm::AES_128_GCM_16 => EspEncryption::Aes128Gcm.word(),
        algorithm::AES_256_GCM_16 => EspEncryption::Aes256Gcm.word(),
        algorithm::CHACHA20_POLY1305 => EspEncryption::ChaCha20Poly1305.word(),
        algorithm::AES_128_CBC => EspEncryption::Aes128Cbc.word(),
        algorithm::AES_192_CBC => EspEncryption::Aes192Cbc.word(),
        algorithm::AES_256_CBC => EspEncryption::Aes256Cbc.word(),
        algorithm::TRIPLE_DES_CBC => EspEncryption::TripleDesCbc.word(),
        _ => "unknown",
    }
}

/// The integrity algorithm of a record; `None` where the cipher authenticates by itself.
pub(crate) const fn integrity_word(number: u8) -> Option<&'static str> {
    match number {
        integrity::NONE => None,
        integrity::HMAC_MD5_96 => Some(EspIntegrity::Md5.word()),
        integrity::HMAC_SHA1_96 => Some(EspIntegrity::Sha1.word()),
        integrity::HMAC_SHA2_256_128 => Some(EspIntegrity::Sha2_256.word()),
        integrity::HMAC_SHA2_384_192 => Some(EspIntegrity::Sha2_384.word()),
        integrity::HMAC_SHA2_512_256 => Some(EspIntegrity::Sha2_512.word()),
        _ => Some("unknown"),
    }
}
