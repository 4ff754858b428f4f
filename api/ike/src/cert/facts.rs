//! What a certificate says about its holder, as far as IKE asks.

use der::asn1::ObjectIdentifier;
use der::{DateTime, Decode, Encode};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};

use super::rsa::RsaPublic;
use super::{CertificateError, describe_name, is_same_name};
use crate::Identity;

/// The facts of one certificate. Nothing here is believed before its chain is verified.
pub(crate) struct Facts {
    /// DER of the subject's `Name`.
    pub(crate) subject: Vec<u8>,
    /// DER of the issuer's `Name`.
    pub(crate) issuer: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) not_before_unix_secs: u64,
    pub(crate) not_after_unix_secs: u64,
    /// DER of the `SubjectPublicKeyInfo`.
    pub(crate) spki: Vec<u8>,
    /// The key itself, out of its bit string.
    pub(crate) public_key: Vec<u8>,
    /// It is one of RSA that is not set aside for OAEP or PSS.
    pub(crate) is_rsa_for_any_use: bool,
    pub(crate) is_ca: bool,
    key_usage: Option<KeyUsage>,
    alternative_names: Vec<GeneralName>,
}

impl Facts {
    /// # Errors
    /// It is no certificate, or one with a key that no one may use: RSA whose numbers [`RsaPublic`] refuses.
    pub(crate) fn new(certificate: &[u8]) -> Result<Self, CertificateError> {
        let malformed = |error: der::Error| CertificateError::new(format!("is not a certificate: {error}"));
        let parsed = CertificateInner::<Raw>::from_der(certificate).map_err(malformed)?;
        let tbs = parsed.tbs_certificate();
        let extension = |error: der::Error| {
            CertificateError::new(format!("has an extension that cannot be read: {error}"))
        };
        let alternative_names = tbs.get_extension::<SubjectAltName>().map_err(extension)?;
        let basic = tbs.get_extension::<BasicConstraints>().map_err(extension)?;
        let key_usage = tbs.get_extension::<KeyUsage>().map_err(extension)?;
        let key = tbs.subject_public_key_info();
        let public_key = key
            .subject_public_key
            .as_bytes()
            .ok_or_else(|| CertificateError::new("has a public key of broken bytes"))?
            .to_vec();
        let is_rsa_for_any_use = key.algorithm.oid == RSA_ENCRYPTION;
        if is_rsa_for_any_use || RSA_FOR_ONE_USE.contains(&key.algorithm.oid) {
            RsaPublic::new(&public_key)?;
        }
        Ok(Self {
            subject: tbs.subject().to_der().map_err(malformed)?,
            issuer: tbs.issuer().to_der().map_err(malformed)?,
            serial: tbs.serial_number().as_bytes().to_vec(),
            not_before_unix_secs: tbs.validity().not_before.to_unix_duration().as_secs(),
            not_after_unix_secs: tbs.validity().not_after.to_unix_duration().as_secs(),
            spki: key.to_der().map_err(malformed)?,
            public_key,
            is_rsa_for_any_use,
            is_ca: basic.is_some_and(|(_, basic)| basic.ca),
            key_usage: key_usage.map(|(_, usage)| usage),
            alternative_names: alternative_names.map(|(_, names)| names.0).unwrap_or_default(),
        })
    }

    /// Subject in words.
    pub(crate) fn describe(&self) -> String {
        describe_name(&self.subject)
    }

    /// Whether the certificate names this identity: an alternative name of the same kind, or the subject. The common
    /// name counts as nothing but a part of the subject, and a wildcard is not a name (RFC 4945 section 3.1).
    pub(crate) fn bears(&self, identity: &Identity) -> bool {
        let any = |is: &dyn Fn(&GeneralName) -> bool| self.alternative_names.iter().any(is);
        match identity {
            Identity::Address(address) => {
                let octets = match address {
                    std::net::IpAddr::V4(address) => address.octets().to_vec(),
                    std::net::IpAddr::V6(address) => address.octets().to_vec(),
                };
                any(&|name| matches!(name, GeneralName::IpAddress(found) if found.as_bytes() == octets))
            }
            Identity::Fqdn(domain) => any(
                &|name| matches!(name, GeneralName::DnsName(found) if found.as_str().eq_ignore_ascii_case(domain)),
            ),
            Identity::Email(address) => any(
                &|name| matches!(name, GeneralName::Rfc822Name(found) if is_same_mailbox(found.as_str(), address)),
            ),
            Identity::DistinguishedName(subject) => {
                is_same_name(&self.subject, subject)
                    || any(&|name| match name {
                        GeneralName::DirectoryName(found) => {
                            found.to_der().is_ok_and(|found| is_same_name(&found, subject))
                        }
                        _ => false,
                    })
            }
            // RFC 4945 section 3.1.9: nothing in a certificate corresponds to it.
            Identity::KeyId(_) => false,
        }
    }

    /// Its names in words, for an operator who looks for the right one.
    pub(crate) fn describe_names(&self) -> String {
        let alternatives = self.alternative_names.iter().filter_map(|name| match name {
            GeneralName::DnsName(found) => Some(found.as_str().escape_debug().to_string()),
            GeneralName::Rfc822Name(found) => Some(found.as_str().escape_debug().to_string()),
            GeneralName::IpAddress(found) => match found.as_bytes() {
                octets if octets.len() == 4 => {
                    <[u8; 4]>::try_from(octets).ok().map(|octets| std::net::IpAddr::from(octets).to_string())
                }
                octets => {
                    <[u8; 16]>::try_from(octets).ok().map(|octets| std::net::IpAddr::from(octets).to_string())
                }
            },
            GeneralName::DirectoryName(found) => found.to_der().ok().map(|found| describe_name(&found)),
            _ => None,
        });
        let names: Vec<String> = std::iter::once(self.describe()).chain(alternatives).collect();
        names.join("; ")
    }

    /// RFC 4945 section 5.1.3.2: a key usage that is there must let the key sign.
    pub(crate) fn may_sign(&self) -> bool {
        self.key_usage.as_ref().is_none_or(|usage| usage.digital_signature() || usage.non_repudiation())
    }

    /// RFC 5280 section 4.2.1.3: a key usage that is there must let a CA issue.
    pub(crate) fn may_issue(&self) -> bool {
        self.key_usage.as_ref().is_none_or(KeyUsage::key_cert_sign)
    }

    /// Whether `unix_secs` lies within its validity.
    pub(crate) fn check_validity(&self, unix_secs: u64) -> Result<(), String> {
        if unix_secs > self.not_after_unix_secs {
            return Err(format!(
                "the certificate of {} expired on {}",
                self.describe(),
                date(self.not_after_unix_secs)
            ));
        }
        if unix_secs < self.not_before_unix_secs {
            return Err(format!(
                "the certificate of {} is not valid before {}",
                self.describe(),
                date(self.not_before_unix_secs)
            ));
        }
        Ok(())
    }
}

/// A moment in words.
pub(crate) fn date(unix_secs: u64) -> String {
    DateTime::from_unix_duration(std::time::Duration::from_secs(unix_secs))
        .map_or_else(|_| format!("second {unix_secs}"), |date| date.to_string())
}

/// The domain of a mail address is compared without regard to case, the local part exactly (RFC 5280 section 7.5).
fn is_same_mailbox(one: &str, other: &str) -> bool {
    match (one.rsplit_once('@'), other.rsplit_once('@')) {
        (Some((local, domain)), Some((other_local, other_domain))) => {
            local == other_local && domain.eq_ignore_ascii_case(other_domain)
        }
        _ => false,
    }
}

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// The same numbers under names that say what they are for (RFC 4055 section 1.2): encryption by OAEP, signatures by PSS.
const RSA_FOR_ONE_USE: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.7"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10"),
];
