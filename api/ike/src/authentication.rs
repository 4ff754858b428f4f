//! How the two ends of a connection prove who they are: a shared key (RFC 7296 section 2.15) or a signature whose key
//! a certificate vouches for (RFC 7427). The two directions are chosen apart.

use std::sync::Arc;

use zeroize::Zeroizing;

pub use crate::cert::{
    CertificateError, LocalCertificate, RevocationPolicy, RsaPadding, Trust, TrustMaterial,
};

/// A pre-shared key. Zeroized on drop, never printed, compared nowhere but through the AUTH payload.
#[derive(Clone)]
pub struct PreSharedKey(pub Zeroizing<Vec<u8>>);

/// A post-quantum pre-shared key (RFC 8784).
#[derive(Clone)]
pub struct Ppk {
    /// Its name, by which the peer finds the same key.
    pub id: Vec<u8>,
    /// The key: 32 octets or more of true randomness.
    pub key: PreSharedKey,
    /// A peer that does without it is refused.
    pub required: bool,
}

impl Ppk {
    pub(crate) fn is_same(one: Option<&Self>, other: Option<&Self>) -> bool {
        match (one, other) {
            (Some(one), Some(other)) => {
                one.id == other.id && one.key.0 == other.key.0 && one.required == other.required
            }
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

/// How each end proves its identity.
#[derive(Clone)]
pub struct Authentication {
    /// How we prove ours.
    pub local: LocalProof,
    /// How the peer must prove its own; another way is refused, whatever it proves.
    pub remote: RemoteProof,
}

/// How we prove our identity.
#[derive(Clone)]
pub enum LocalProof {
    /// By the key shared with the peer.
    PreSharedKey(PreSharedKey),
    /// By a signature, with our certificate.
    Certificate(Arc<LocalCertificate>),
}

/// How the peer must prove its identity.
#[derive(Clone)]
pub enum RemoteProof {
    /// By the key shared with it.
    PreSharedKey(PreSharedKey),
    /// By a signature, with a certificate that is trusted for its identity.
    Certificate(Arc<Trust>),
}

impl Authentication {
    /// Both ends by the same shared key.
    #[must_use]
    pub fn pre_shared_key(key: PreSharedKey) -> Self {
        Self { local: LocalProof::PreSharedKey(key.clone()), remote: RemoteProof::PreSharedKey(key) }
    }

    /// The shared key by which both ends prove themselves; `None` when either signs.
    #[must_use]
    pub fn shared_key(&self) -> Option<&PreSharedKey> {
        match (&self.local, &self.remote) {
            (LocalProof::PreSharedKey(key), RemoteProof::PreSharedKey(_)) => Some(key),
            _ => None,
        }
    }

    /// What stands in the way of a connection of IKEv1, whose ends prove themselves alike, and where Ed25519 is unknown: a
    /// sentence that says what to do.
    #[must_use]
    pub fn unfit_for_version_1(&self) -> Option<&'static str> {
        match (&self.local, &self.remote) {
            (LocalProof::PreSharedKey(_), RemoteProof::PreSharedKey(_)) => None,
            (LocalProof::Certificate(own), RemoteProof::Certificate(_)) => own
                .hash_scheme()
                .is_none()
                .then_some("IKEv1 knows no signatures of Ed25519: take a certificate of an RSA or ECDSA key"),
            _ => Some(
                "in IKEv1 both ends prove themselves in the same way: give both a certificate and whom you trust for the \
                 peer's, or neither",
            ),
        }
    }

    /// Whether either end signs, so that hash algorithms are to be agreed on (RFC 7427 section 4).
    pub(crate) fn signs(&self) -> bool {
        matches!(self.local, LocalProof::Certificate(_)) || matches!(self.remote, RemoteProof::Certificate(_))
    }

    /// Whether an SA that was made under the one may go on under the other, provided that the peer's certificates are
    /// judged again. A certificate of ours that was renewed is shown at the next occasion.
    pub(crate) fn lasts_as(&self, other: &Self) -> bool {
        let local = match (&self.local, &other.local) {
            (LocalProof::PreSharedKey(one), LocalProof::PreSharedKey(other)) => one.0 == other.0,
            (LocalProof::Certificate(_), LocalProof::Certificate(_)) => true,
            _ => false,
        };
        let remote = match (&self.remote, &other.remote) {
            (RemoteProof::PreSharedKey(one), RemoteProof::PreSharedKey(other)) => one.0 == other.0,
            (RemoteProof::Certificate(_), RemoteProof::Certificate(_)) => true,
            _ => false,
        };
        local && remote
    }
}
