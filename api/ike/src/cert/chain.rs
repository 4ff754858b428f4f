//! Paths from a peer's certificate to an anchor (RFC 5280 section 6), by webpki, and what webpki leaves to its user.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, Error, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::facts::{Facts, date};
use super::scheme::CHAIN_ALGORITHMS;
use super::trust::{RevocationPolicy, Trust};
use super::{describe_name, is_same_name};

/// Verifies that `certificates`, the peer's own first, lead to what `trust` trusts at this time.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn verify(
    trust: &Trust,
    certificates: &[CertificateDer<'_>],
    facts: &[Facts],
    unix_secs: u64,
) -> Result<(), String> {
    let ([leaf, issuers @ ..], [holder, ..]) = (certificates, facts) else {
        return Err("the peer sent no certificate".to_owned());
    };
    if trust.pinned.iter().any(|pinned| pinned.as_slice() == leaf.as_ref()) {
        return holder.check_validity(unix_secs);
    }
    if holder.is_ca {
        return Err(format!(
            "the certificate of {} is that of a CA: it cannot be a peer's",
            holder.describe()
        ));
    }
    if !holder.may_sign() {
        return Err(format!("the key usage of {} does not allow signatures", holder.describe()));
    }
    let valid = trust.anchors.iter().filter(|anchor| anchor.facts.check_validity(unix_secs).is_ok());
    let anchors: Vec<_> =
        valid.filter_map(|anchor| webpki::anchor_from_trusted_cert(&anchor.der).ok()).collect();
    let lists: Vec<&webpki::CertRevocationList<'_>> = trust.lists.iter().collect();
    let revocation = match RevocationOptionsBuilder::new(&lists) {
        Ok(builder) => Some(revocation(builder, trust.revocation).build()),
        Err(_) if trust.revocation == RevocationPolicy::Required => {
            return Err("a revocation list is required and there is none".to_owned());
        }
        Err(_) => None,
    };
    let words = |error| describe(&error, trust, facts, unix_secs);
    let end_entity = EndEntityCert::try_from(leaf).map_err(words)?;
    let path = end_entity
        .verify_for_usage(
            CHAIN_ALGORITHMS,
            &anchors,
            issuers,
            UnixTime::since_unix_epoch(Duration::from_secs(unix_secs)),
            Purpose,
            revocation,
            None,
        )
        .map_err(words)?;
    for issuer in path.intermediate_certificates() {
        let facts = Facts::new(&issuer.der()).map_err(|error| error.to_string())?;
        if !facts.may_issue() {
            return Err(format!("{} issued a certificate, which its key usage forbids", facts.describe()));
        }
    }
    Ok(())
}

fn revocation(
    builder: RevocationOptionsBuilder<'_>,
    policy: RevocationPolicy,
) -> RevocationOptionsBuilder<'_> {
    let (unknown, expired) = match policy {
        RevocationPolicy::IfAvailable => (UnknownStatusPolicy::Allow, ExpirationPolicy::Ignore),
        RevocationPolicy::IfFresh => (UnknownStatusPolicy::Allow, ExpirationPolicy::Enforce),
        RevocationPolicy::Required => (UnknownStatusPolicy::Deny, ExpirationPolicy::Enforce),
    };
    builder
        .with_depth(RevocationCheckDepth::Chain)
        .with_status_policy(unknown)
        .with_expiration_policy(expired)
}

/// An extended key usage that is there must name one of these (RFC 4945 section 5.1.3.12, and what CAs give out for
/// VPN gateways in practice).
struct Purpose;

/// id-kp-ipsecIKE, DER without tag and length.
const IPSEC_IKE: [u8; 8] = [0x2b, 6, 1, 5, 5, 7, 3, 17];

const PURPOSES: [&[usize]; 5] = [
    // id-kp-ipsecIKE
    &[1, 3, 6, 1, 5, 5, 7, 3, 17],
    // anyExtendedKeyUsage
    &[2, 5, 29, 37, 0],
    // id-kp-serverAuth
    &[1, 3, 6, 1, 5, 5, 7, 3, 1],
    // id-kp-clientAuth
    &[1, 3, 6, 1, 5, 5, 7, 3, 2],
    // iKEIntermediate, which Microsoft and Apple ask for
    &[1, 3, 6, 1, 5, 5, 8, 2, 2],
];

impl ExtendedKeyUsageValidator for Purpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let present =
            purposes.map(|purpose| Ok(purpose?.to_decoded_oid())).collect::<Result<Vec<_>, Error>>()?;
        if present.is_empty() || present.iter().any(|purpose| PURPOSES.contains(&purpose.as_slice())) {
            return Ok(());
        }
        let required = KeyUsage::required(&IPSEC_IKE);
        Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
    }
}

/// The error in words that name the certificate at fault where it can be told.
fn describe(error: &Error, trust: &Trust, facts: &[Facts], unix_secs: u64) -> String {
    let holder = facts.first().map_or_else(String::new, Facts::describe);
    match error {
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } => facts
            .iter()
            .find_map(|facts| facts.check_validity(unix_secs).err())
            .unwrap_or_else(|| format!("a certificate of the chain of {holder} is not valid now")),
        Error::CertRevoked => {
            let revoked = facts.iter().find(|facts| is_listed(trust, facts));
            let revoked = revoked.map_or(holder, Facts::describe);
            format!("the certificate of {revoked} is revoked")
        }
        Error::CrlExpired { next_update, .. } => {
            format!("a revocation list ended on {}: give a newer one", date(next_update.as_secs()))
        }
        Error::UnknownRevocationStatus => {
            format!("no revocation list says whether the chain of {holder} is good, and one is required")
        }
        Error::UnknownIssuer => unknown_issuer(trust, facts, unix_secs),
        Error::NameConstraintViolation => {
            format!("{holder} has a name that the name constraints of its CA do not permit")
        }
        Error::CaUsedAsEndEntity => {
            format!("the certificate of {holder} is that of a CA: it cannot be a peer's")
        }
        Error::EndEntityUsedAsCa => format!("the chain of {holder} has an issuer that is no CA"),
        Error::PathLenConstraintViolated => format!("the chain of {holder} is longer than its CA permits"),
        Error::RequiredEkuNotFoundContext(_) => {
            format!("the extended key usage of {holder} is for something else than IKE")
        }
        Error::InvalidSignatureForPublicKey => {
            format!("a signature in the chain of {holder} is wrong")
        }
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            format!("the chain of {holder} has a signature that is too weak or unknown (SHA-1 is refused)")
        }
        other => format!("the chain of {holder} is refused: {other}"),
    }
}

fn unknown_issuer(trust: &Trust, facts: &[Facts], unix_secs: u64) -> String {
    let Some(last) = facts.last() else { return "the peer sent no certificate".to_owned() };
    let expired = trust
        .anchors
        .iter()
        .filter(|anchor| facts.iter().any(|facts| is_same_name(&anchor.facts.subject, &facts.issuer)))
        .find_map(|anchor| anchor.facts.check_validity(unix_secs).err());
    if let Some(expired) = expired {
        return expired;
    }
    let trusted: Vec<String> = trust.anchors.iter().map(|anchor| anchor.facts.describe()).collect();
    format!(
        "{} is not issued by a trusted CA: its issuer is {}, trusted are {}",
        facts.first().map_or_else(String::new, Facts::describe),
        describe_name(&last.issuer),
        if trusted.is_empty() { "none".to_owned() } else { trusted.join("; ") },
    )
}

/// Whether a revocation list of the certificate's issuer names it.
fn is_listed(trust: &Trust, facts: &Facts) -> bool {
    trust.lists.iter().any(|list| list.find_serial(&facts.serial).is_ok_and(|found| found.is_some()))
}
