//! How the ends of a phase 1 prove who they are: by the key that they share (RFC 2409 section 5.4) or by signatures of
//! certified keys (section 5.1, RFC 4754 section 3). Both ends do it the same way, which is part of what they agree on.

use std::sync::Arc;

use super::phase_one::Keyed;
use crate::cert::{self, HashClaim, HashScheme, PeerCertificates};
use crate::crypto::{Secret, Spis, equal};
use crate::wire::WireIdentity;
use crate::wire::isakmp::{Payload, phase_one_identity, registry::payload as kind, registry::phase_one};
use crate::wire::registry::CERTIFICATE_X509_SIGNATURE;
use crate::{Authentication, Classified, Connection, Hash, LocalProof, PreSharedKey, RemoteProof};

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    PreSharedKey,
    Signature(HashScheme),
}

impl Method {
    /// `None` where the ends are to prove themselves in different ways, or our key makes no signature of IKEv1.
    pub(super) fn of(authentication: &Authentication) -> Option<Self> {
        match (&authentication.local, &authentication.remote) {
            (LocalProof::PreSharedKey(_), RemoteProof::PreSharedKey(_)) => Some(Self::PreSharedKey),
            (LocalProof::Certificate(own), RemoteProof::Certificate(_)) => {
                own.hash_scheme().map(Self::Signature)
            }
            _ => None,
        }
    }

    /// Value of the attribute "authentication method".
    pub(super) fn number(self) -> u64 {
        match self {
            Self::PreSharedKey => phase_one::PRE_SHARED_KEY,
            Self::Signature(HashScheme::Rsa) => phase_one::RSA_SIGNATURE,
            Self::Signature(HashScheme::EcdsaP256) => phase_one::ECDSA_P256,
            Self::Signature(HashScheme::EcdsaP384) => phase_one::ECDSA_P384,
        }
    }

    /// The method with this number.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        let schemes = [HashScheme::Rsa, HashScheme::EcdsaP256, HashScheme::EcdsaP384].map(Self::Signature);
        std::iter::once(Self::PreSharedKey).chain(schemes).find(|method| method.number() == number)
    }

    /// The key that SKEYID is made of, where it is one that is shared.
    ///
    /// # Errors
    /// The configuration has none any more.
    pub(super) fn shared_key(
        self,
        authentication: &Authentication,
    ) -> Result<Option<&PreSharedKey>, Classified> {
        match self {
            Self::PreSharedKey => authentication.shared_key().map(Some).ok_or(Classified::Dropped("no_key")),
            Self::Signature(_) => Ok(None),
        }
    }

    /// HASH_I and HASH_R are made with the negotiated hash, but with its own where a curve has one (RFC 4754 section 3).
    fn hash(self, negotiated: Hash) -> Hash {
        match self {
            Self::PreSharedKey | Self::Signature(HashScheme::Rsa) => negotiated,
            Self::Signature(HashScheme::EcdsaP256) => Hash::Sha2_256,
            Self::Signature(HashScheme::EcdsaP384) => Hash::Sha2_384,
        }
    }
}

/// Why a proof is none.
pub(super) enum Refusal {
    /// There is none, or it is made with other keys: nothing says that the peer wrote it.
    Unproven,
    /// Who knows the keys cannot prove the identity: a sentence.
    Unfit(String),
}

impl Keyed {
    /// HASH_I or HASH_R of an identity.
    pub(super) fn proof_hash(&self, of_initiator: bool, cookies: Spis, identity: &[u8]) -> Secret {
        let publics = (self.public_i.as_slice(), self.public_r.as_slice());
        let cookies = (cookies.initiator, cookies.responder);
        let (publics, cookies) =
            if of_initiator { (publics, cookies) } else { ((publics.1, publics.0), (cookies.1, cookies.0)) };
        let hash = self.suite.method.hash(self.suite.hash);
        self.keys.identity_hash(hash, publics, cookies, &self.sa, identity)
    }

    /// Proves our identity: the payloads that follow ID.
    ///
    /// # Errors
    /// A sentence: the configuration changed meanwhile, or our key could not sign.
    pub(super) fn prove(&self, config: &Connection, hash: &Secret) -> Result<Vec<Payload>, String> {
        match (self.suite.method, &config.authentication.local) {
            (Method::PreSharedKey, _) => Ok(vec![Payload::new(kind::HASH, hash.to_vec())]),
            (Method::Signature(_), LocalProof::Certificate(own)) => {
                let signature = own.sign_hash(hash).ok_or("our key could not sign")?;
                let certificates = own.chain().iter().map(|der| {
                    Payload::new(kind::CERTIFICATE, [&[CERTIFICATE_X509_SIGNATURE], der.as_slice()].concat())
                });
                Ok(certificates.chain([Payload::new(kind::SIGNATURE, signature)]).collect())
            }
            (Method::Signature(_), LocalProof::PreSharedKey(_)) => {
                Err("our certificate is gone from the configuration".to_owned())
            }
        }
    }

    /// Judges the peer's proof among the payloads of its message; gives the certificates that it rests on.
    pub(super) fn judge(
        &self,
        config: &Connection,
        payloads: &[Payload],
        hash: &Secret,
        unix_secs: Option<u64>,
    ) -> Result<Option<Arc<PeerCertificates>>, Refusal> {
        let sole = |wanted| super::initiate::sole(payloads, wanted).ok_or(Refusal::Unproven);
        match (self.suite.method, &config.authentication.remote) {
            (Method::PreSharedKey, _) => {
                equal(sole(kind::HASH)?, hash).then_some(None).ok_or(Refusal::Unproven)
            }
            (Method::Signature(scheme), RemoteProof::Certificate(trust)) => {
                let certificates: Vec<Vec<u8>> = payloads
                    .iter()
                    .filter(|payload| payload.kind == kind::CERTIFICATE)
                    .filter_map(|payload| payload.body.split_first())
                    .filter(|(encoding, _)| **encoding == CERTIFICATE_X509_SIGNATURE)
                    .map(|(_, der)| der.to_vec())
                    .collect();
                let claim = HashClaim {
                    identity: &config.remote_identity,
                    certificates: &certificates,
                    scheme,
                    signature: sole(kind::SIGNATURE)?,
                    hash,
                };
                let judged = cert::verify_hash(trust, &claim, unix_secs);
                judged.map(|proven| Some(Arc::new(proven))).map_err(Refusal::Unfit)
            }
            (Method::Signature(_), RemoteProof::PreSharedKey(_)) => {
                Err(Refusal::Unfit("what vouches for it is gone from the configuration".to_owned()))
            }
        }
    }
}

/// Asks for a certificate of who is trusted, by the authority's name (RFC 2408 section 3.10); without a name where only
/// pinned certificates are.
pub(super) fn certificate_requests(authentication: &Authentication) -> Vec<Payload> {
    let RemoteProof::Certificate(trust) = &authentication.remote else { return Vec::new() };
    let request = |subject: &[u8]| {
        Payload::new(kind::CERTIFICATE_REQUEST, [&[CERTIFICATE_X509_SIGNATURE], subject].concat())
    };
    let requests: Vec<Payload> = trust.subjects().map(request).collect();
    if requests.is_empty() { vec![request(&[])] } else { requests }
}

/// Whether the body of an identity payload is of whom the connection expects.
///
/// # Errors
/// A sentence.
pub(super) fn check_identity(config: &Connection, body: &[u8]) -> Result<(), String> {
    let wanted = WireIdentity::from(&config.remote_identity);
    match phase_one_identity(body) {
        Ok(theirs) if theirs == wanted => Ok(()),
        theirs => {
            let theirs = theirs.map_or_else(|_| "malformed".to_owned(), |theirs| theirs.describe());
            Err(format!("it says it is {theirs}, {} is expected", wanted.describe()))
        }
    }
}
