//! How the two ends of a connection prove who they are, from the terms, the pre-shared keys and the certificates.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ike::{
    Authentication, LocalCertificate, LocalProof, Ppk, PreSharedKey, RemoteProof, RevocationPolicy,
    RsaPadding, Trust, TrustMaterial,
};
use model::{CertificateUsage, Desired, Name, SaTerms};
use zeroize::Zeroizing;

/// The certificates of one compilation, each read once however many tunnels name it.
#[derive(Default)]
pub(super) struct Certificates {
    identities: BTreeMap<Name, Result<Arc<LocalCertificate>, String>>,
    trusts: BTreeMap<Vec<Name>, Result<Arc<Trust>, String>>,
}

/// Between whom it is.
pub(super) struct Ends<'a> {
    pub(super) remote: IpAddr,
    pub(super) local_identity: &'a model::Identity,
    pub(super) remote_identity: &'a model::Identity,
}

impl Certificates {
    /// Chooses the proofs of both ends.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub(super) fn authentication(
        &mut self,
        desired: &Desired,
        terms: &SaTerms,
        ends: &Ends<'_>,
    ) -> Result<Authentication, String> {
        let local = match &terms.certificate {
            Some(name) => {
                let certificate = self.identity(desired, name)?;
                let ours = super::connection::identity(ends.local_identity);
                if !certificate.bears(&ours) {
                    let names = desired.certificates.get(name).map(names_of).unwrap_or_default();
                    return Err(format!(
                        "our certificate {name} does not name {}: it names {names}; set local_identity to one of them",
                        ends.local_identity
                    ));
                }
                LocalProof::Certificate(certificate)
            }
            None => LocalProof::PreSharedKey(pre_shared_key(desired, ends)?),
        };
        let remote = if terms.trusted_certificates.is_empty() {
            RemoteProof::PreSharedKey(pre_shared_key(desired, ends)?)
        } else {
            RemoteProof::Certificate(self.trust(desired, &terms.trusted_certificates)?)
        };
        Ok(Authentication { local, remote })
    }

    fn identity(&mut self, desired: &Desired, name: &Name) -> Result<Arc<LocalCertificate>, String> {
        let known = self.identities.entry(name.clone()).or_insert_with(|| {
            let found = desired
                .certificates
                .get(name)
                .ok_or_else(|| format!("our certificate {name} does not exist"))?;
            let key = found
                .private_key
                .as_ref()
                .ok_or_else(|| format!("our certificate {name} has no private key"))?;
            let padding = match found.rsa_padding {
                model::RsaPadding::Pss => RsaPadding::Pss,
                model::RsaPadding::Pkcs1 => RsaPadding::Pkcs1,
            };
            LocalCertificate::new(found.certificate.ders(), key.expose(), padding)
                .map(Arc::new)
                .map_err(|error| format!("our certificate {name}: {error}"))
        });
        known.clone()
    }

    fn trust(&mut self, desired: &Desired, names: &[Name]) -> Result<Arc<Trust>, String> {
        let known = self.trusts.entry(names.to_vec()).or_insert_with(|| {
            let mut material = TrustMaterial::default();
            for name in names {
                let found = desired
                    .certificates
                    .get(name)
                    .ok_or_else(|| format!("the trusted certificate {name} does not exist"))?;
                match found.usage {
                    CertificateUsage::Peer => material.pinned.extend(found.certificate.ders()),
                    _ => material.anchors.extend(found.certificate.ders()),
                }
                if let Some(lists) = &found.revocation_lists {
                    material.revocation_lists.extend_from_slice(lists.ders());
                }
                // Of several authorities the strictest rules: a chain may lead to any of them.
                material.revocation = material.revocation.max(match found.revocation {
                    model::Revocation::IfAvailable => RevocationPolicy::IfAvailable,
                    model::Revocation::IfFresh => RevocationPolicy::IfFresh,
                    model::Revocation::Required => RevocationPolicy::Required,
                });
            }
            Trust::new(material)
                .map(Arc::new)
                .map_err(|error| format!("the trusted certificates {}: {error}", list(names)))
        });
        known.clone()
    }
}

/// The post-quantum pre-shared key that terms name.
///
/// # Errors
/// A sentence that says what is missing.
pub(super) fn ppk(desired: &Desired, terms: &SaTerms) -> Result<Option<Ppk>, String> {
    let Some(name) = &terms.ppk else { return Ok(None) };
    let found = desired.ppks.get(name).ok_or_else(|| format!("the PPK {name} does not exist"))?;
    let key = found.key.as_ref().ok_or_else(|| format!("the PPK {name} has no key"))?;
    Ok(Some(Ppk {
        id: found.ppk_id.clone().into_bytes(),
        key: PreSharedKey(Zeroizing::new(key.expose().to_vec())),
        required: terms.ppk_required,
    }))
}

fn pre_shared_key(desired: &Desired, ends: &Ends<'_>) -> Result<PreSharedKey, String> {
    let Ends { remote, local_identity, remote_identity } = ends;
    let (name, key) =
        desired.pre_shared_key_for(*remote, remote_identity, local_identity).ok_or_else(|| {
            format!(
                "no pre-shared key matches the peer {remote} with the identity {remote_identity}, us being \
                 {local_identity}"
            )
        })?;
    let secret = key.key.as_ref().ok_or_else(|| format!("the pre-shared key {name} has no key material"))?;
    Ok(PreSharedKey(Zeroizing::new(secret.expose().to_vec())))
}

fn names_of(certificate: &model::Certificate) -> String {
    let Some(first) = certificate.certificates().first() else { return String::new() };
    let subject = format!("dn:{}", first.subject);
    std::iter::once(subject).chain(first.names.iter().cloned()).collect::<Vec<_>>().join("; ")
}

fn list(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}
