//! The algorithms of SAs in the words of transform sets, and what of them is insecure in those of `allow_insecure`.

use ike::{Group, Insecurity};
use model::{EspEncryption, EspIntegrity, Insecure};
use shm::records::{SaRecord, algorithm, integrity};

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

/// What is insecure of an IKE SA.
pub(crate) const fn insecurity_word(found: Insecurity) -> &'static str {
    match found {
        Insecurity::Ikev1 => Insecure::Ikev1.word(),
        Insecurity::TripleDes => Insecure::TripleDes.word(),
        Insecurity::Md5 => Insecure::Md5.word(),
        Insecurity::Sha1 => Insecure::Sha1.word(),
        Insecurity::Modp1024 => Insecure::Modp1024.word(),
        Insecurity::Modp1536 => Insecure::Modp1536.word(),
        Insecurity::AggressiveMode => Insecure::AggressiveMode.word(),
    }
}

/// What is insecure of an IPsec SA, with the group of a key exchange of its own.
pub(crate) fn esp_insecurities(record: &SaRecord, pfs_group: Option<Group>) -> Vec<&'static str> {
    let cipher = (record.algorithm == algorithm::TRIPLE_DES_CBC).then_some(Insecure::TripleDes);
    let integrity = match record.integrity {
        integrity::HMAC_MD5_96 => Some(Insecure::Md5),
        integrity::HMAC_SHA1_96 => Some(Insecure::Sha1),
        _ => None,
    };
    let group = match pfs_group {
        Some(Group::Modp1024) => Some(Insecure::Modp1024),
        Some(Group::Modp1536) => Some(Insecure::Modp1536),
        _ => None,
    };
    [cipher, integrity, group].into_iter().flatten().map(Insecure::word).collect()
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn the_classic_suite_is_insecure_and_the_modern_is_not() {
        let mut record = SaRecord::new_zeroed();
        (record.algorithm, record.integrity) = (algorithm::AES_128_CBC, integrity::HMAC_MD5_96);
        assert_eq!(esp_insecurities(&record, Some(Group::Modp1024)), ["md5", "modp1024"]);
        (record.algorithm, record.integrity) = (algorithm::TRIPLE_DES_CBC, integrity::HMAC_SHA1_96);
        assert_eq!(esp_insecurities(&record, Some(Group::Modp1536)), ["3des", "sha1", "modp1536"]);
        (record.algorithm, record.integrity) = (algorithm::AES_256_GCM_16, integrity::NONE);
        assert!(esp_insecurities(&record, Some(Group::Curve25519)).is_empty());
        assert!(esp_insecurities(&record, None).is_empty());
    }
}
