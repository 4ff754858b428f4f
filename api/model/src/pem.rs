//! Certificates, revocation lists and private keys as operators paste them: PEM (RFC 7468).

use der::{Decode, Encode};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use zeroize::Zeroizing;

use crate::distinguished_name::DistinguishedName;
use crate::read::{At, Parse};
use crate::secret::Secret;

/// One or several certificates in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePem {
    text: String,
    certificates: Vec<X509>,
}

/// A certificate, as far as an operator asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X509 {
    /// The whole certificate.
    pub der: Vec<u8>,
    /// The subject in words.
    pub subject: String,
    /// The issuer in words.
    pub issuer: String,
    /// Alternative names: domain names, mail and IP addresses, distinguished names.
    pub names: Vec<String>,
    /// Start of its validity in seconds since 1970.
    pub not_before_unix_secs: u64,
    /// End of its validity in seconds since 1970.
    pub not_after_unix_secs: u64,
    /// Whether it is the certificate of a CA.
    pub is_ca: bool,
    /// The public key out of its bit string.
    pub public_key: Vec<u8>,
}

/// One or several revocation lists in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationListPem {
    text: String,
    lists: Vec<Vec<u8>>,
}

impl CertificatePem {
    /// The certificates in the order of the text; never empty.
    #[must_use]
    pub fn certificates(&self) -> &[X509] {
        &self.certificates
    }

    /// Their DER.
    #[must_use]
    pub fn ders(&self) -> Vec<Vec<u8>> {
        self.certificates.iter().map(|certificate| certificate.der.clone()).collect()
    }
}

impl RevocationListPem {
    /// The lists in the order of the text; never empty.
    #[must_use]
    pub fn ders(&self) -> &[Vec<u8>] {
        &self.lists
    }
}

impl X509 {
    fn from_der(der: &[u8]) -> Result<Self, String> {
        let wrong = |error: der::Error| error.to_string();
        let parsed = CertificateInner::<Raw>::from_der(der).map_err(wrong)?;
        let tbs = parsed.tbs_certificate();
        let alternative = tbs.get_extension::<SubjectAltName>().map_err(wrong)?;
        let basic = tbs.get_extension::<BasicConstraints>().map_err(wrong)?;
        let names = alternative.map(|(_, names)| names.0).unwrap_or_default();
        let key = tbs.subject_public_key_info();
        Ok(Self {
            der: der.to_vec(),
            subject: DistinguishedName::describe(&tbs.subject().to_der().map_err(wrong)?),
            issuer: DistinguishedName::describe(&tbs.issuer().to_der().map_err(wrong)?),
            names: names.iter().filter_map(name).collect(),
            not_before_unix_secs: tbs.validity().not_before.to_unix_duration().as_secs(),
            not_after_unix_secs: tbs.validity().not_after.to_unix_duration().as_secs(),
            is_ca: basic.is_some_and(|(_, basic)| basic.ca),
            public_key: key.subject_public_key.as_bytes().unwrap_or_default().to_vec(),
        })
    }

    /// As it is answered.
    #[must_use]
    pub fn view(&self) -> Value {
        let sha256: Vec<String> =
            Sha256::digest(&self.der).iter().map(|byte| format!("{byte:02x}")).collect();
        json!({
            "subject": self.subject,
            "issuer": self.issuer,
            "names": self.names,
            "not_before": date(self.not_before_unix_secs),
            "not_after": date(self.not_after_unix_secs),
            "sha256": sha256.join(":"),
        })
    }
}

impl Parse for CertificatePem {
    fn parse(at: At<'_>) -> Option<Self> {
        let text = at.string()?;
        let mut certificates = Vec::new();
        for (index, found) in CertificateDer::pem_slice_iter(text.as_bytes()).enumerate() {
            let ordinal = index + 1;
            let Ok(der) = found else {
                return at
                    .refuse(format!("PEM block {ordinal} is broken: its base64 or its end line is wrong"));
            };
            match X509::from_der(&der) {
                Ok(certificate) => certificates.push(certificate),
                Err(error) => return at.refuse(format!("certificate {ordinal} cannot be read: {error}")),
            }
        }
        match certificates.len() {
            0 => at.refuse("has no certificate: paste PEM with -----BEGIN CERTIFICATE-----"),
            1..=MOST => Some(Self { text: text.to_owned(), certificates }),
            count => at.refuse(format!("has {count} certificates, at most {MOST} are taken")),
        }
    }
}

impl Parse for RevocationListPem {
    fn parse(at: At<'_>) -> Option<Self> {
        let text = at.string()?;
        let mut lists = Vec::new();
        for (index, found) in CertificateRevocationListDer::pem_slice_iter(text.as_bytes()).enumerate() {
            let ordinal = index + 1;
            let Ok(der) = found else {
                return at
                    .refuse(format!("PEM block {ordinal} is broken: its base64 or its end line is wrong"));
            };
            if let Err(error) = CertificateList::<Raw>::from_der(&der) {
                return at.refuse(format!("revocation list {ordinal} cannot be read: {error}"));
            }
            lists.push(der.to_vec());
        }
        if lists.is_empty() {
            return at.refuse("has no revocation list: paste PEM with -----BEGIN X509 CRL-----");
        }
        Some(Self { text: text.to_owned(), lists })
    }
}

/// A private key out of PEM, as PKCS#8. The refusals never quote it.
pub(crate) fn private_key(at: &At<'_>) -> Option<Secret> {
    let key = match PrivateKeyDer::from_pem_slice(at.string()?.as_bytes()) {
        Ok(PrivateKeyDer::Pkcs8(key)) => Zeroizing::new(key.secret_pkcs8_der().to_vec()),
        Ok(_) => {
            return at.refuse(
                "is not PKCS#8: convert it with openssl pkcs8 -topk8 -nodes, which writes -----BEGIN PRIVATE KEY-----",
            );
        }
        Err(_) => {
            return at.refuse("has no unencrypted private key: paste PEM with -----BEGIN PRIVATE KEY-----");
        }
    };
    if public_key(&key).is_none() {
        return at.refuse("is not a key of RSA (2048 bits or more), ECDSA P-256 or P-384, or Ed25519");
    }
    Some(Secret::from_bytes(key))
}

/// The public half of a private key in PKCS#8, as it stands in the bit string of a certificate.
pub(crate) fn public_key(pkcs8: &[u8]) -> Option<Vec<u8>> {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair, RsaKeyPair,
    };
    let of_curve = |algorithm| {
        EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).map(|key| key.public_key().as_ref().to_vec()).ok()
    };
    RsaKeyPair::from_pkcs8(pkcs8)
        .map(|key| key.public_key().as_ref().to_vec())
        .ok()
        .or_else(|| of_curve(&ECDSA_P256_SHA256_ASN1_SIGNING))
        .or_else(|| of_curve(&ECDSA_P384_SHA384_ASN1_SIGNING))
        .or_else(|| {
            let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
            Some(key.public_key().as_ref().to_vec())
        })
}

/// Most certificates in one text.
const MOST: usize = 10;

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(text) | GeneralName::Rfc822Name(text) => {
            Some(text.as_str().escape_debug().to_string())
        }
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(std::net::IpAddr::from);
            let v6 = <[u8; 16]>::try_from(octets).map(std::net::IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string())
        }
        GeneralName::DirectoryName(name) => {
            name.to_der().ok().map(|der| format!("dn:{}", DistinguishedName::describe(&der)))
        }
        _ => None,
    }
}

fn date(unix_secs: u64) -> String {
    der::DateTime::from_unix_duration(std::time::Duration::from_secs(unix_secs))
        .map(|date| date.to_string())
        .unwrap_or_default()
}

macro_rules! as_pem {
    ($type:ident, $example:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.text)
            }
        }

        crate::read::deserialize_by_parse!($type);
        crate::read::string_schema!($type, "PEM (RFC 7468)", $example, None);
    };
}

as_pem!(CertificatePem, "-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n");
as_pem!(RevocationListPem, "-----BEGIN X509 CRL-----\n...\n-----END X509 CRL-----\n");
