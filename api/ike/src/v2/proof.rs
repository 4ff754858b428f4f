//! Proving who we are, and judging the peer's proof, in IKE_AUTH (RFC 7296 section 2.15, RFC 7427).

use std::sync::Arc;

use super::payloads::Picked;
use crate::cert::{self, Claim, PeerCertificates, PeerHashes};
use crate::crypto::SharedKeyAuth;
use crate::wire::registry::{AUTH_METHOD_SHARED_KEY, CERTIFICATE_X509_SIGNATURE, notify};
use crate::wire::{Notify, Payload};
use crate::{Connection, LocalProof, RemoteProof};

/// What proves our identity.
pub(super) struct OurProof {
    /// CERT payloads, if any.
    pub(super) certificates: Vec<Payload>,
    pub(super) auth: Payload,
}

/// Makes our proof for a peer that verifies `hashes`.
///
/// # Errors
/// A sentence: the peer does not verify what we can sign.
pub(super) fn make(
    proof: &LocalProof,
    signed: &SharedKeyAuth<'_>,
    hashes: &PeerHashes,
) -> Result<OurProof, String> {
    match proof {
        LocalProof::PreSharedKey(key) => {
            let data = signed.value(key).to_vec();
            let auth = Payload::Auth { method: AUTH_METHOD_SHARED_KEY, data };
            Ok(OurProof { certificates: Vec::new(), auth })
        }
        LocalProof::Certificate(certificate) => {
            let (method, data) = certificate.sign(&signed.octets(), hashes)?;
            let auth = Payload::Auth { method, data };
            Ok(OurProof { certificates: certificate.payloads().collect(), auth })
        }
    }
}

/// Judges the peer's proof, which must be of the kind that the connection demands; gives the certificates that it
/// rests on.
///
/// # Errors
/// A sentence for the operator. The peer is told the same whatever it is.
pub(super) fn judge(
    config: &Connection,
    picked: &Picked,
    signed: &SharedKeyAuth<'_>,
    unix_secs: Option<u64>,
) -> Result<Option<Arc<PeerCertificates>>, String> {
    let Some((method, data)) = &picked.auth else { return Err("AUTH is missing".to_owned()) };
    match &config.authentication.remote {
        RemoteProof::PreSharedKey(key) => {
            let proven = signed.verify(key, data);
            match *method {
                AUTH_METHOD_SHARED_KEY if proven => Ok(None),
                AUTH_METHOD_SHARED_KEY => Err("the key does not match".to_owned()),
                other => Err(format!("the peer signs (method {other}) where a pre-shared key is required")),
            }
        }
        RemoteProof::Certificate(trust) => {
            let octets = signed.octets();
            let claim = Claim {
                identity: &config.remote_identity,
                certificates: &picked.certificates,
                method: *method,
                signature: data,
                octets: &octets,
            };
            cert::verify(trust, &claim, unix_secs).map(|proven| Some(Arc::new(proven)))
        }
    }
}

/// SIGNATURE_HASH_ALGORITHMS (RFC 7427 section 4).
pub(super) fn hash_algorithms() -> Payload {
    Payload::Notify(Notify::new(notify::SIGNATURE_HASH_ALGORITHMS, PeerHashes::ours()))
}

/// The hashes of the peer's SIGNATURE_HASH_ALGORITHMS.
pub(super) fn peer_hashes(picked: &Picked) -> PeerHashes {
    let notification = picked.notify(notify::SIGNATURE_HASH_ALGORITHMS);
    PeerHashes::new(notification.map(|notification| notification.data.as_slice()))
}

/// CERTREQ for what these connections trust; `None` where none asks for a certificate.
pub(super) fn certificate_request<'a>(configs: impl IntoIterator<Item = &'a Connection>) -> Option<Payload> {
    let mut asked = false;
    let mut authorities = Vec::new();
    for config in configs {
        if let RemoteProof::Certificate(trust) = &config.authentication.remote {
            asked = true;
            authorities.extend(trust.authorities());
        }
    }
    authorities.sort_unstable();
    authorities.dedup();
    let data = authorities.concat();
    asked.then_some(Payload::CertificateRequest { encoding: CERTIFICATE_X509_SIGNATURE, data })
}
