//! What a certificate says about its holder, as far as IKE asks.

use der::{DateTime, Decode, Encode};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};

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
    pub(crate) is_ca: bool,
    key_usage: Option<KeyUsage>,
    alternative_names: Vec<GeneralName>,
}

impl Facts {
    /// # Errors
    /// It is no certificate, or one with a key that no one may use: RSA below 2048 bits or with an exponent below 65537.
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
        if key.algorithm.oid == RSA_ENCRYPTION {
            check_rsa(&public_key)?;
        }
        Ok(Self {
            subject: tbs.subject().to_der().map_err(malformed)?,
            issuer: tbs.issuer().to_der().map_err(malformed)?,
            serial: tbs.serial_number().as_bytes().to_vec(),
            not_before_unix_secs: tbs.validity().not_before.to_unix_duration().as_secs(),
            not_after_unix_secs: tbs.validity().not_after.to_unix_duration().as_secs(),
            spki: key.to_der().map_err(malformed)?,
            public_key,
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

/// RSA keys are taken only with at least 2048 bits and an exponent of at least 65537: small exponents are what forged
/// PKCS#1 signatures live on.
fn check_rsa(public_key: &[u8]) -> Result<(), CertificateError> {
    const LEAST_MODULUS_BITS: usize = 2048;
    const LEAST_EXPONENT: u64 = 65_537;
    let key = x509_cert::spki::der::asn1::AnyRef::from_der(public_key)
        .and_then(|key| {
            key.sequence(|body: &mut der::SliceReader<'_>| -> der::Result<_> {
                let modulus = der::asn1::UintRef::decode(body)?;
                let exponent = der::asn1::UintRef::decode(body)?;
                Ok((bits(modulus.as_bytes()), number(exponent.as_bytes())))
            })
        })
        .map_err(|_| CertificateError::new("has a broken RSA key"))?;
    let (modulus_bits, exponent) = key;
    if modulus_bits < LEAST_MODULUS_BITS {
        return Err(CertificateError::new(format!("has an RSA key of {modulus_bits} bits, fewer than 2048")));
    }
    match exponent {
        Some(exponent) if exponent >= LEAST_EXPONENT => Ok(()),
        _ => Err(CertificateError::new("has an RSA key whose exponent is below 65537 or absurdly large")),
    }
}

fn bits(magnitude: &[u8]) -> usize {
    let leading = magnitude.first().map_or(0, |first| usize::try_from(first.leading_zeros()).unwrap_or(0));
    magnitude.len().saturating_mul(8).saturating_sub(leading)
}

fn number(magnitude: &[u8]) -> Option<u64> {
    if magnitude.len() > 8 {
        return None;
    }
    Some(magnitude.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

const RSA_ENCRYPTION: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
