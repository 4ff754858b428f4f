//! Whom a connection trusts to vouch for its peer.

use rustls_pki_types::CertificateDer;
use webpki::OwnedCertRevocationList;

use super::CertificateError;
use super::facts::Facts;
use crate::crypto::digest_sha1;

/// What a [`Trust`] is made of; all in DER.
#[derive(Clone, Debug, Default)]
pub struct TrustMaterial {
    /// Certificates of the CAs that may vouch for the peer.
    pub anchors: Vec<Vec<u8>>,
    /// Certificates that the peer may have whoever issued them, self-signed ones for instance.
    pub pinned: Vec<Vec<u8>>,
    /// Revocation lists of those CAs and of the CAs below them.
    pub revocation_lists: Vec<Vec<u8>>,
    /// What a missing or old list means.
    pub revocation: RevocationPolicy,
}

/// What is to be thought of certificates whose revocation status cannot be known for certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevocationPolicy {
    /// A list that is there counts, also past its next update; without one a certificate is taken to be good.
    #[default]
    IfAvailable,
    /// The same, but a list past its next update vouches for nothing.
    IfFresh,
    /// Each certificate of the chain below the anchor needs a list of its issuer that is not past its next update.
    Required,
}

/// Whom a connection trusts to vouch for its peer.
pub struct Trust {
    pub(super) anchors: Vec<Anchor>,
    pub(super) pinned: Vec<Vec<u8>>,
    pub(super) lists: Vec<webpki::CertRevocationList<'static>>,
    pub(super) revocation: RevocationPolicy,
    raw_lists: Vec<Vec<u8>>,
}

/// A CA that is trusted.
pub(super) struct Anchor {
    pub(super) der: CertificateDer<'static>,
    pub(super) facts: Facts,
}

impl Trust {
    /// # Errors
    /// Something cannot be read, or is not what it stands for.
    pub fn new(material: TrustMaterial) -> Result<Self, CertificateError> {
        let anchors: Result<Vec<Anchor>, CertificateError> = material
            .anchors
            .into_iter()
            .map(|der| {
                let facts = Facts::new(&der)?;
                if !facts.is_ca || !facts.may_issue() {
                    let detail = format!("{} is not the certificate of a CA", facts.describe());
                    return Err(CertificateError::new(detail));
                }
                let der = CertificateDer::from(der);
                webpki::anchor_from_trusted_cert(&der).map_err(|error| {
                    CertificateError::new(format!("{} cannot be trusted: {error}", facts.describe()))
                })?;
                Ok(Anchor { der, facts })
            })
            .collect();
        for pinned in &material.pinned {
            Facts::new(pinned)?;
        }
        let lists: Result<Vec<_>, CertificateError> = material
            .revocation_lists
            .iter()
            .map(|list| {
                OwnedCertRevocationList::from_der(list)
                    .map(webpki::CertRevocationList::from)
                    .map_err(|error| CertificateError::new(format!("is not a revocation list: {error}")))
            })
            .collect();
        Ok(Self {
            anchors: anchors?,
            pinned: material.pinned,
            lists: lists?,
            revocation: material.revocation,
            raw_lists: material.revocation_lists,
        })
    }

    /// The body of CERTREQ: SHA-1 of each anchor's public key (RFC 7296 section 3.7). A hint, no proof: the weakness of
    /// SHA-1 does not matter here.
    pub(crate) fn authorities(&self) -> Vec<[u8; 20]> {
        self.anchors.iter().map(|anchor| digest_sha1(&[&anchor.facts.spki])).collect()
    }

    /// DER of the subject of each anchor: what CERTREQ of IKEv1 asks with (RFC 2408 section 3.10).
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &[u8]> {
        self.anchors.iter().map(|anchor| anchor.facts.subject.as_slice())
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let ders = |trust: &Self| -> Vec<CertificateDer<'static>> {
            trust.anchors.iter().map(|anchor| anchor.der.clone()).collect()
        };
        ders(self) == ders(other)
            && self.pinned == other.pinned
            && self.raw_lists == other.raw_lists
            && self.revocation == other.revocation
    }
}
