//! Our private keys: made from PKCS#8, held by aws-lc, which wipes them. No Debug, no way out.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};

use super::CertificateError;
use super::local::RsaPadding;
use super::rsa::RsaNumbers;
use super::scheme::SignatureHash;
use super::scheme::{PeerHashes, Scheme};
use crate::wire::registry::{AUTH_METHOD_DIGITAL_SIGNATURE, AUTH_METHOD_ECDSA_P256, AUTH_METHOD_ECDSA_P384};

/// A key that signs AUTH. RSA blinding, salts and ECDSA nonces come from aws-lc's own generator: signatures are the one
/// output of the engine that its seed does not determine.
pub(crate) enum SigningKey {
    /// The same key twice: for messages, and for hashes that are given.
    Rsa {
        key: Box<RsaKeyPair>,
        numbers: RsaNumbers,
    },
    /// The same key twice: for DER signatures (RFC 7427) and fixed-length ones (RFC 4754).
    Ecdsa {
        curve: Curve,
        der: EcdsaKeyPair,
        fixed: EcdsaKeyPair,
    },
    Ed25519(Ed25519KeyPair),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
}

impl SigningKey {
    /// # Errors
    /// It is no unencrypted PKCS#8 of a kind of key that we sign with.
    pub(crate) fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, CertificateError> {
        if let (Ok(key), Some(numbers)) = (RsaKeyPair::from_pkcs8(pkcs8), RsaNumbers::from_pkcs8(pkcs8)) {
            return Ok(Self::Rsa { key: Box::new(key), numbers });
        }
        if let (Ok(der), Ok(fixed)) = (
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8),
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8),
        ) {
            return Ok(Self::Ecdsa { curve: Curve::P256, der, fixed });
        }
        if let (Ok(der), Ok(fixed)) = (
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8),
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8),
        ) {
            return Ok(Self::Ecdsa { curve: Curve::P384, der, fixed });
        }
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map(Self::Ed25519).map_err(|_| {
            CertificateError::new(
                "is not the private key of RSA (2048 bits or more), ECDSA P-256 or P-384, or Ed25519 in PKCS#8",
            )
        })
    }

    /// The public half as it stands in the bit string of a `SubjectPublicKeyInfo`.
    pub(crate) fn public_key(&self) -> &[u8] {
        match self {
            Self::Rsa { key, .. } => key.public_key().as_ref(),
            Self::Ecdsa { der, .. } => der.public_key().as_ref(),
            Self::Ed25519(key) => key.public_key().as_ref(),
        }
    }

    /// Signs AUTH octets for a peer that verifies `hashes`: AUTH method and data.
    ///
    /// # Errors
    /// A sentence: there is no scheme in common.
    pub(crate) fn sign(
        &self,
        octets: &[u8],
        hashes: &PeerHashes,
        padding: RsaPadding,
    ) -> Result<(u8, Vec<u8>), String> {
        if !hashes.are_known() {
            return self.sign_as_of_old(octets);
        }
        let scheme = self.schemes(padding).into_iter().find(|scheme| hashes.allow(*scheme)).ok_or(
            "the peer verifies no hash algorithm that our certificate's key can sign with (RFC 7427)",
        )?;
        let signature = self.signature(scheme, octets).ok_or("our key could not sign")?;
        let identifier = scheme.algorithm_identifier();
        let length = u8::try_from(identifier.len()).map_err(|_| "an algorithm identifier is too long")?;
        Ok((AUTH_METHOD_DIGITAL_SIGNATURE, [&[length], identifier.as_slice(), &signature].concat()))
    }

    /// For a peer without RFC 7427: ECDSA by RFC 4754. RSA would mean SHA-1 (method 1), which we do not sign.
    fn sign_as_of_old(&self, octets: &[u8]) -> Result<(u8, Vec<u8>), String> {
        let Self::Ecdsa { curve, fixed, .. } = self else {
            return Err("the peer does not verify signatures by RFC 7427 (it sent no \
                        SIGNATURE_HASH_ALGORITHMS), and our key cannot sign otherwise"
                .to_owned());
        };
        let method = match curve {
            Curve::P256 => AUTH_METHOD_ECDSA_P256,
            Curve::P384 => AUTH_METHOD_ECDSA_P384,
        };
        let signature =
            fixed.sign(&SystemRandom::new(), octets).map_err(|_| "our key could not sign".to_owned())?;
        Ok((method, signature.as_ref().to_vec()))
    }

    /// What this key can make, best first.
    fn schemes(&self, padding: RsaPadding) -> Vec<Scheme> {
        let hashes = [SignatureHash::Sha2_256, SignatureHash::Sha2_384, SignatureHash::Sha2_512];
        match self {
            Self::Rsa { .. } => hashes
                .into_iter()
                .map(|hash| match padding {
                    RsaPadding::Pss => Scheme::RsaPss(hash),
                    RsaPadding::Pkcs1 => Scheme::RsaPkcs1(hash),
                })
                .collect(),
            Self::Ecdsa { curve: Curve::P256, .. } => vec![Scheme::Ecdsa(SignatureHash::Sha2_256)],
            Self::Ecdsa { curve: Curve::P384, .. } => vec![Scheme::Ecdsa(SignatureHash::Sha2_384)],
            Self::Ed25519(_) => vec![Scheme::Ed25519],
        }
    }

    fn signature(&self, scheme: Scheme, octets: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match (self, scheme) {
            (Self::Rsa { key, .. }, Scheme::RsaPss(hash)) => {
                rsa(key, [&RSA_PSS_SHA256, &RSA_PSS_SHA384, &RSA_PSS_SHA512], hash, octets)
            }
            (Self::Rsa { key, .. }, Scheme::RsaPkcs1(hash)) => {
                rsa(key, [&RSA_PKCS1_SHA256, &RSA_PKCS1_SHA384, &RSA_PKCS1_SHA512], hash, octets)
            }
            (Self::Ecdsa { der, .. }, Scheme::Ecdsa(_)) => {
                der.sign(&random, octets).ok().map(|signature| signature.as_ref().to_vec())
            }
            (Self::Ed25519(key), Scheme::Ed25519) => {
                key.try_sign(octets).ok().map(|signature| signature.as_ref().to_vec())
            }
            _ => None,
        }
    }
}

fn rsa(
    key: &RsaKeyPair,
    encodings: [&'static dyn RsaEncoding; 3],
    hash: SignatureHash,
    octets: &[u8],
) -> Option<Vec<u8>> {
    let [sha256, sha384, sha512] = encodings;
    let encoding = match hash {
        SignatureHash::Sha2_256 => sha256,
        SignatureHash::Sha2_384 => sha384,
        SignatureHash::Sha2_512 => sha512,
    };
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(encoding, &SystemRandom::new(), octets, &mut signature).ok()?;
    Some(signature)
}
