//! Signatures over a hash that is given: as IKEv1 signs HASH_I and HASH_R (RFC 2409 section 5.1, RFC 4754 section 3).

use aws_lc_rs::digest::{Digest, SHA256, SHA384};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaKeyPair, EcdsaVerificationAlgorithm,
    VerificationAlgorithm,
};

use super::rsa::RsaPublic;
use super::signing_key::{Curve, SigningKey};

/// How a hash is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashScheme {
    /// PKCS#1 version 1.5 padding around the bare hash: no identifier of an algorithm goes along.
    Rsa,
    /// `r | s`, of a hash that is as long as SHA2-256.
    EcdsaP256,
    /// Of one as long as SHA2-384.
    EcdsaP384,
}

impl SigningKey {
    /// How this key signs a hash; `None` where IKEv1 has no number for it.
    pub(crate) fn hash_scheme(&self) -> Option<HashScheme> {
        match self {
            Self::Rsa { .. } => Some(HashScheme::Rsa),
            Self::Ecdsa { curve: Curve::P256, .. } => Some(HashScheme::EcdsaP256),
            Self::Ecdsa { curve: Curve::P384, .. } => Some(HashScheme::EcdsaP384),
            Self::Ed25519(_) => None,
        }
    }

    /// Signs a hash, by [`SigningKey::hash_scheme`].
    pub(crate) fn sign_hash(&self, hash: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Rsa { numbers, .. } => numbers.sign(hash),
            Self::Ecdsa { curve: Curve::P256, fixed, .. } => {
                fixed_signature(fixed, &Digest::import_less_safe(hash, &SHA256).ok()?)
            }
            Self::Ecdsa { curve: Curve::P384, fixed, .. } => {
                fixed_signature(fixed, &Digest::import_less_safe(hash, &SHA384).ok()?)
            }
            Self::Ed25519(_) => None,
        }
    }
}

fn fixed_signature(key: &EcdsaKeyPair, digest: &Digest) -> Option<Vec<u8>> {
    key.sign_digest(digest).ok().map(|signature| signature.as_ref().to_vec())
}

/// Whether the holder of `public_key`, the bit string of its `SubjectPublicKeyInfo`, signed `hash`.
pub(crate) fn is_signed(scheme: HashScheme, public_key: &[u8], hash: &[u8], signature: &[u8]) -> bool {
    let ecdsa = |algorithm: &EcdsaVerificationAlgorithm, digest: Option<Digest>| {
        digest.is_some_and(|digest| algorithm.verify_digest_sig(public_key, &digest, signature).is_ok())
    };
    match scheme {
        HashScheme::Rsa => RsaPublic::new(public_key).is_ok_and(|key| key.is_signed(hash, signature)),
        HashScheme::EcdsaP256 => {
            ecdsa(&ECDSA_P256_SHA256_FIXED, Digest::import_less_safe(hash, &SHA256).ok())
        }
        HashScheme::EcdsaP384 => {
            ecdsa(&ECDSA_P384_SHA384_FIXED, Digest::import_less_safe(hash, &SHA384).ok())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize};

    use super::*;

    fn keys() -> Vec<(KeyPair, HashScheme, Vec<usize>)> {
        let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).unwrap();
        vec![
            (rsa(RsaKeySize::_2048), HashScheme::Rsa, vec![16, 20, 32, 48, 64]),
            (rsa(RsaKeySize::_4096), HashScheme::Rsa, vec![20]),
            (KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), HashScheme::EcdsaP256, vec![32]),
            (KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(), HashScheme::EcdsaP384, vec![48]),
        ]
    }

    #[test]
    fn what_a_key_signs_its_public_half_verifies_and_nothing_else() {
        for (pair, scheme, lengths) in keys() {
            let key = SigningKey::from_pkcs8(&pair.serialize_der()).unwrap();
            assert_eq!(key.hash_scheme(), Some(scheme));
            for length in lengths {
                let hash: Vec<u8> = (0..length).map(|at| u8::try_from(at).unwrap() ^ 0x5a).collect();
                let signature = key.sign_hash(&hash).unwrap();
                assert!(is_signed(scheme, key.public_key(), &hash, &signature), "{scheme:?}, {length} bytes");
                let mut other = hash.clone();
                other[0] ^= 1;
                assert!(!is_signed(scheme, key.public_key(), &other, &signature));
                for at in [0, signature.len() / 2, signature.len() - 1] {
                    let mut bent = signature.clone();
                    bent[at] ^= 1;
                    assert!(!is_signed(scheme, key.public_key(), &hash, &bent));
                }
                assert!(!is_signed(scheme, key.public_key(), &hash, &signature[1..]));
                assert!(!is_signed(scheme, key.public_key(), &hash, &[]));
                assert!(!is_signed(scheme, &[], &hash, &signature));
            }
        }
    }

    #[test]
    fn a_hash_of_another_length_is_not_signed_by_a_curve() {
        let key =
            SigningKey::from_pkcs8(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_der());
        assert_eq!(key.unwrap().sign_hash(&[7; 20]), None);
    }

    /// An independent implementation opens our bare signature: PKCS#1 with the identifier of SHA2-256 in front of the
    /// hash is what aws-lc itself makes and verifies.
    #[test]
    fn with_the_identifier_in_front_it_is_the_usual_signature() {
        use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
        const IDENTIFIER: &[u8] =
            b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let key = SigningKey::from_pkcs8(&pair.serialize_der()).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"a message");
        let signature = key.sign_hash(&[IDENTIFIER, digest.as_ref()].concat()).unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key())
            .verify(b"a message", &signature)
            .unwrap();
    }
}
