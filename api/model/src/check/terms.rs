//! The transform sets of one list share their mode, or go from transport to tunnel mode: IKEv2 asks for transport mode once
//! for all of them, and a peer may decline it. Certificates are used for what they are, and by policies that say so.

use super::Violation;
use crate::{Authentication, CertificateUsage, Desired, EspEncryption, IkeVersion, Kind, Mode, SaTerms};

pub(super) fn check(desired: &Desired, found: &mut Vec<Violation>) {
    for (name, profile) in &desired.ipsec_profiles {
        check_terms(desired, &profile.terms, |pointer, detail| {
            found.push(Violation::new(Kind::IpsecProfile, name, pointer, detail));
        });
    }
    for (name, map) in &desired.crypto_maps {
        for (index, entry) in map.entries.iter().enumerate() {
            check_terms(desired, &entry.terms, |pointer, detail| {
                found.push(Violation::new(
                    Kind::CryptoMap,
                    name,
                    format!("/entries/{index}{pointer}"),
                    detail,
                ));
            });
        }
    }
}

/// What both profiles and entries are checked for.
fn check_terms(desired: &Desired, terms: &SaTerms, mut refuse: impl FnMut(String, String)) {
    if let Some(name) = &terms.certificate
        && let Some(found) = desired.certificates.get(name)
        && found.usage != CertificateUsage::Identity
    {
        refuse(
            "/certificate".to_owned(),
            format!("certificates/{name} is of usage {}, not identity", found.usage),
        );
    }
    for (index, name) in terms.trusted_certificates.iter().enumerate() {
        if desired.certificates.get(name).is_some_and(|found| found.usage == CertificateUsage::Identity) {
            let detail = format!("certificates/{name} is our own: authorities and peers are trusted");
            refuse(format!("/trusted_certificates/{index}"), detail);
        }
    }
    let of_v1 =
        desired.isakmp_policies_of(terms).iter().any(|(_, policy)| policy.version == IkeVersion::Ikev1);
    modes(desired, terms, of_v1, &mut refuse);
    if terms.ppk.is_some() && of_v1 {
        refuse(
            "/ppk".to_owned(),
            "goes with ikev2 only (RFC 8784), and the isakmp_policies are of ikev1".to_owned(),
        );
    }
    for (index, (name, set)) in desired.transform_sets_of(terms).enumerate() {
        if of_v1 && set.encryption == EspEncryption::ChaCha20Poly1305 {
            let detail = format!(
                "{name} is of {}, which goes with ikev2 only (RFC 7634), and the isakmp_policies are of ikev1",
                set.encryption
            );
            refuse(format!("/transform_sets/{index}"), detail);
        }
    }
    for (index, name) in terms.isakmp_policies.iter().enumerate() {
        let Some(policy) = desired.isakmp_policies.get(name) else { continue };
        if let Some((first, first_policy)) = desired.isakmp_policies_of(terms).first()
            && first_policy.version != policy.version
        {
            let detail = format!(
                "isakmp-policies/{name} is of {}, {first} of {}: one list has one version",
                policy.version, first_policy.version
            );
            refuse(format!("/isakmp_policies/{index}"), detail);
        }
        if policy.authentication != terms.authentication() {
            let detail = match policy.authentication {
                Authentication::PreShare => "uses pre-shared keys, and certificates are named here",
                Authentication::Signature => {
                    "uses signatures: name our certificate, trusted_certificates, or both"
                }
            };
            refuse(format!("/isakmp_policies/{index}"), format!("isakmp-policies/{name} {detail}"));
        }
    }
}

/// Transport mode is asked for first, or not at all; version 1 asks for a mode with each set, and is given one.
fn modes(desired: &Desired, terms: &SaTerms, of_v1: bool, refuse: &mut impl FnMut(String, String)) {
    let Some((first, first_set)) = desired.transform_sets_of(terms).next() else { return };
    let mut before = (first, first_set.mode);
    for (index, (name, set)) in desired.transform_sets_of(terms).enumerate() {
        let (last, last_mode) = before;
        let detail = if of_v1 && set.mode != first_set.mode {
            format!(
                "{name} is of {} mode, {first} of {} mode: one list has one mode where the isakmp_policies are of ikev1",
                set.mode, first_set.mode
            )
        } else if (last_mode, set.mode) == (Mode::Tunnel, Mode::Transport) {
            format!(
                "{name} is of transport mode, and stands behind {last} of tunnel mode: put it first, for transport mode is \
                 asked for once, and tunnel mode taken where the peer declines it"
            )
        } else {
            before = (name, set.mode);
            continue;
        };
        refuse(format!("/transform_sets/{index}"), detail);
    }
}
