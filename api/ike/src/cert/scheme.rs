//! Signature schemes of AUTH (RFC 7427 section 3, RFC 8420, RFC 4754) and the hashes that the two ends agree on.

use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::aws_lc_rs as algorithms;

/// A hash that is strong enough to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureHash {
    Sha2_256,
    Sha2_384,
    Sha2_512,
}

/// A way to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    RsaPkcs1(SignatureHash),
    /// With MGF1 of the same hash and a salt of its length.
    RsaPss(SignatureHash),
    Ecdsa(SignatureHash),
    Ed25519,
}

/// Numbers of the registry "IKEv2 Hash Algorithms" (RFC 7427 section 7, RFC 8420 section 2).
const IDENTITY_HASH: u16 = 5;

/// What SIGNATURE_HASH_ALGORITHMS says: all that we verify.
pub(crate) const OUR_HASHES: [u16; 4] = [2, 3, 4, IDENTITY_HASH];

const HASHES: [SignatureHash; 3] =
    [SignatureHash::Sha2_256, SignatureHash::Sha2_384, SignatureHash::Sha2_512];

/// The hashes that the peer verifies; `None` when it did not say, that is, does not know RFC 7427.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerHashes(Option<Vec<u16>>);

impl PeerHashes {
    /// From the data of a SIGNATURE_HASH_ALGORITHMS notification.
    pub(crate) fn new(notification: Option<&[u8]>) -> Self {
        Self(notification.map(|data| {
            let (pairs, _) = data.as_chunks::<2>();
            pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect()
        }))
    }

    pub(crate) fn are_known(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn allow(&self, scheme: Scheme) -> bool {
        self.0.as_ref().is_some_and(|hashes| hashes.contains(&scheme.hash_number()))
    }

    /// Our own notification.
    pub(crate) fn ours() -> Vec<u8> {
        OUR_HASHES.iter().flat_map(|hash| hash.to_be_bytes()).collect()
    }
}

impl Scheme {
    fn hash_number(self) -> u16 {
        match self {
            Self::RsaPkcs1(hash) | Self::RsaPss(hash) | Self::Ecdsa(hash) => match hash {
                SignatureHash::Sha2_256 => 2,
                SignatureHash::Sha2_384 => 3,
                SignatureHash::Sha2_512 => 4,
            },
            Self::Ed25519 => IDENTITY_HASH,
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        let hashed =
            HASHES.into_iter().flat_map(|hash| [Self::RsaPss(hash), Self::RsaPkcs1(hash), Self::Ecdsa(hash)]);
        hashed.chain([Self::Ed25519])
    }

    /// The DER of its AlgorithmIdentifier as RFC 7427 appendix A and RFC 8420 section 3 have it.
    pub(crate) fn algorithm_identifier(self) -> Vec<u8> {
        match self {
            Self::RsaPkcs1(hash) => sequence(&[&oid(&rsa(pkcs1_arc(hash))), NULL]),
            Self::RsaPss(hash) => pss(hash, [NULL, NULL]),
            Self::Ecdsa(hash) => sequence(&[&oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, ecdsa_arc(hash)])]),
            Self::Ed25519 => sequence(&[&oid(&[0x2b, 0x65, 0x70])]),
        }
    }

    /// The scheme that an AlgorithmIdentifier names. Only whole encodings are known; for the hashes inside RSA-PSS
    /// both NULL and absent parameters, as RFC 8017 appendix A.2.1 demands of a receiver.
    pub(crate) fn from_algorithm_identifier(der: &[u8]) -> Option<Self> {
        Self::all().find(|scheme| match scheme {
            Self::RsaPss(hash) => {
                let forms = [[NULL, NULL], [NULL, ABSENT], [ABSENT, NULL], [ABSENT, ABSENT]];
                forms.into_iter().any(|form| pss(*hash, form) == der)
            }
            _ => scheme.algorithm_identifier() == der,
        })
    }

    /// What verifies it: one entry for each kind of key that can have made it.
    pub(crate) fn verifiers(self) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
        match self {
            Self::RsaPkcs1(SignatureHash::Sha2_256) => vec![algorithms::RSA_PKCS1_2048_8192_SHA256],
            Self::RsaPkcs1(SignatureHash::Sha2_384) => vec![algorithms::RSA_PKCS1_2048_8192_SHA384],
            Self::RsaPkcs1(SignatureHash::Sha2_512) => vec![algorithms::RSA_PKCS1_2048_8192_SHA512],
            Self::RsaPss(SignatureHash::Sha2_256) => vec![algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
            Self::RsaPss(SignatureHash::Sha2_384) => vec![algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
            Self::RsaPss(SignatureHash::Sha2_512) => vec![algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY],
            Self::Ecdsa(SignatureHash::Sha2_256) => {
                vec![
                    algorithms::ECDSA_P256_SHA256,
                    algorithms::ECDSA_P384_SHA256,
                    algorithms::ECDSA_P521_SHA256,
                ]
            }
            Self::Ecdsa(SignatureHash::Sha2_384) => {
                vec![
                    algorithms::ECDSA_P256_SHA384,
                    algorithms::ECDSA_P384_SHA384,
                    algorithms::ECDSA_P521_SHA384,
                ]
            }
            Self::Ecdsa(SignatureHash::Sha2_512) => {
                vec![
                    algorithms::ECDSA_P256_SHA512,
                    algorithms::ECDSA_P384_SHA512,
                    algorithms::ECDSA_P521_SHA512,
                ]
            }
            Self::Ed25519 => vec![algorithms::ED25519],
        }
    }
}

/// The signatures that chains and CRLs may bear: no SHA-1, no RSA below 2048 bits.
pub(crate) const CHAIN_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P256_SHA512,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ECDSA_P384_SHA512,
    algorithms::ECDSA_P521_SHA256,
    algorithms::ECDSA_P521_SHA384,
    algorithms::ECDSA_P521_SHA512,
    algorithms::ED25519,
];

const NULL: &[u8] = &[5, 0];
const ABSENT: &[u8] = &[];

/// `1.2.840.113549.1.1.x`.
fn rsa(last: u8) -> [u8; 9] {
    [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last]
}

fn pkcs1_arc(hash: SignatureHash) -> u8 {
    match hash {
        SignatureHash::Sha2_256 => 11,
        SignatureHash::Sha2_384 => 12,
        SignatureHash::Sha2_512 => 13,
    }
}

fn ecdsa_arc(hash: SignatureHash) -> u8 {
    match hash {
        SignatureHash::Sha2_256 => 2,
        SignatureHash::Sha2_384 => 3,
        SignatureHash::Sha2_512 => 4,
    }
}

/// RSASSA-PSS-params (RFC 4055 section 3.1) with the given parameters of the hash and of MGF1's hash.
fn pss(hash: SignatureHash, parameters: [&[u8]; 2]) -> Vec<u8> {
    const ID_RSASSA_PSS: u8 = 10;
    const ID_MGF1: u8 = 8;
    let (arc, salt_len_bytes) = match hash {
        SignatureHash::Sha2_256 => (1, 32),
        SignatureHash::Sha2_384 => (2, 48),
        SignatureHash::Sha2_512 => (3, 64),
    };
    let hash_oid = oid(&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, arc]);
    let [of_hash, of_mask] = parameters;
    let hash_identifier = sequence(&[&hash_oid, of_hash]);
    let mask_identifier = sequence(&[&oid(&rsa(ID_MGF1)), &sequence(&[&hash_oid, of_mask])]);
    let salt = element(2, &[&[salt_len_bytes]]);
    let parameters = sequence(&[
        &element(0xa0, &[&hash_identifier]),
        &element(0xa1, &[&mask_identifier]),
        &element(0xa2, &[&salt]),
    ]);
    sequence(&[&oid(&rsa(ID_RSASSA_PSS)), &parameters])
}

fn oid(arcs: &[u8]) -> Vec<u8> {
    element(6, &[arcs])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(0x30, parts)
}

/// A DER element; all of those here are shorter than 128 bytes.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
    [&[tag, length], body.as_slice()].concat()
}
