//! Our certificate, what it is issued by, and its key.

use super::facts::Facts;
use super::given_hash::HashScheme;
use super::scheme::PeerHashes;
use super::signing_key::SigningKey;
use super::{CertificateError, MAX_CERTIFICATES};
use crate::Identity;
use crate::wire::Payload;
use crate::wire::registry::CERTIFICATE_X509_SIGNATURE;

/// How an RSA key signs. Both are verified whatever we sign with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RsaPadding {
    /// RSASSA-PSS, which RFC 8247 section 3.2 wants.
    #[default]
    Pss,
    /// RSASSA-PKCS1-v1_5, for peers that verify nothing else.
    Pkcs1,
}

/// Our certificate with its private key. Has no Debug; the key never leaves it.
pub struct LocalCertificate {
    chain: Vec<Vec<u8>>,
    facts: Facts,
    key: SigningKey,
    padding: RsaPadding,
}

impl LocalCertificate {
    /// `chain` is the certificate and then what it is issued by (DER), without the root, which the peer has;
    /// `key_pkcs8` its private key.
    ///
    /// # Errors
    /// Something cannot be read, the key is not the certificate's, or the chain is not one.
    pub fn new(chain: Vec<Vec<u8>>, key_pkcs8: &[u8], padding: RsaPadding) -> Result<Self, CertificateError> {
        let key = SigningKey::from_pkcs8(key_pkcs8)?;
        let [certificate, issuers @ ..] = chain.as_slice() else {
            return Err(CertificateError::new("there is no certificate"));
        };
        if chain.len() > MAX_CERTIFICATES {
            return Err(CertificateError::new(format!("more than {MAX_CERTIFICATES} certificates")));
        }
        let facts = Facts::new(certificate)?;
        if facts.public_key != key.public_key() {
            return Err(CertificateError::new("the private key is not that of the certificate"));
        }
        if !facts.may_sign() {
            return Err(CertificateError::new("the certificate's key usage does not allow signatures"));
        }
        for issuer in issuers {
            Facts::new(issuer)?;
        }
        Ok(Self { chain, facts, key, padding })
    }

    /// Whether the certificate names this identity, so that a peer can accept it.
    #[must_use]
    pub fn bears(&self, identity: &Identity) -> bool {
        self.facts.bears(identity)
    }

    /// DER of the subject.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.facts.subject
    }

    /// CERT payloads: the certificate first (RFC 7296 section 3.6).
    pub(crate) fn payloads(&self) -> impl Iterator<Item = Payload> {
        self.chain.iter().map(|certificate| Payload::Certificate {
            encoding: CERTIFICATE_X509_SIGNATURE,
            data: certificate.clone(),
        })
    }

    /// AUTH method and data.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn sign(&self, octets: &[u8], hashes: &PeerHashes) -> Result<(u8, Vec<u8>), String> {
        self.key.sign(octets, hashes, self.padding)
    }

    /// The certificate first, then what it is issued by.
    pub(crate) fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// How our key signs HASH_I and HASH_R of IKEv1; `None` where IKEv1 does not know such a key.
    pub(crate) fn hash_scheme(&self) -> Option<HashScheme> {
        self.key.hash_scheme()
    }

    /// Signs such a hash.
    pub(crate) fn sign_hash(&self, hash: &[u8]) -> Option<Vec<u8>> {
        self.key.sign_hash(hash)
    }
}
