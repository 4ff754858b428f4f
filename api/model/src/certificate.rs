//! Certificates: our own with their keys, the CAs that vouch for peers, and peers' own.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::kind::{Kind, Reference, Resource};
use crate::name::Name;
use crate::pem::{self, CertificatePem, RevocationListPem, X509};
use crate::read::{At, FieldError, Parse, deserialize_by_parse};
use crate::secret::Secret;
use crate::word::words;

words! {
    /// What a certificate is for.
    pub enum CertificateUsage as "a usage of certificates" {
        /// Ours, with its private key, and after it the CAs between it and the root.
        Identity = "identity",
        /// CAs that vouch for peers.
        Authority = "authority",
        /// Certificates that peers may have, whoever issued them.
        Peer = "peer",
    }
    weak {}
}

words! {
    /// What a missing or old revocation list means.
    pub enum Revocation as "a policy of revocation" {
        /// A list that is there counts, also past its next update; without one a certificate is taken to be good.
        IfAvailable = "if-available",
        /// The same, but with a list past its next update every certificate of its issuer is refused.
        IfFresh = "if-fresh",
        /// Every certificate needs a list of its issuer that is not past its next update.
        Required = "required",
    }
    weak {}
}

words! {
    /// How an RSA key signs.
    pub enum RsaPadding as "a padding of RSA signatures" {
        /// RSASSA-PSS.
        Pss = "pss",
        /// RSASSA-PKCS1-v1_5, for peers that verify nothing else.
        Pkcs1 = "pkcs1",
    }
    weak {}
}

/// Certificates in PEM and what they are for. A private key is written, never read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"usage": "authority", "certificate": "-----BEGIN CERTIFICATE-----\nMIIBWTCCAQugAwIBAgIUWTDJqhUXWbyw2HFm4E+8Nd1I/3owBQYDK2VwMCExEDAO\nBgNVBAoMB0V4YW1wbGUxDTALBgNVBAMMBFJvb3QwIBcNMjYxMTI0MDQzNzM3WhgP\nOTk2NjEwMzAwNDM3MzdaMCExEDAOBgNVBAoMB0V4YW1wbGUxDTALBgNVBAMMBFJv\nb3QwKjAFBgMrZXADIQCYgPSqWo+tdxiVW/FUH/wmMPxBild1ngPQIeEC9dYbFKNT\nMFEwHQYDVR0OBBYEFHP0/FEbMQu7TyMa4lARHbfn3hRSMB8GA1UdIwQYMBaAFHP0\n/FEbMQu7TyMa4lARHbfn3hRSMA8GA1UdEwEB/wQFMAMBAf8wBQYDK2VwA0EAwLBd\n6FaviA5IzDLAancMX5diA0EjMY37FSG1ofBlmugBai6UYzDWrFn8pCoZb0N1OLEE\n/9LdlgCal/8/Hm02Bg==\n-----END CERTIFICATE-----\n", "revocation": "if-available"}))]
pub struct Certificate {
    /// What it is for.
    pub usage: CertificateUsage,
    /// PEM. An identity: the certificate, then its issuers below the root. Otherwise one or several CAs or peers.
    #[schema(value_type = String, example = "-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n")]
    pub certificate: CertificatePem,
    /// Revocation lists of an authority and of the CAs below it, in PEM. Nothing is ever fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "-----BEGIN X509 CRL-----\n...\n-----END X509 CRL-----\n")]
    pub revocation_lists: Option<RevocationListPem>,
    /// What a missing or old revocation list of an authority means.
    #[schema(required = false)]
    pub revocation: Revocation,
    /// How the RSA key of an identity signs.
    #[schema(required = false)]
    pub rsa_padding: RsaPadding,
    /// Chosen by the writer to tell one private key from the next; counted by the server when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub version: Option<u32>,
    /// The private key of an identity: PKCS#8 in PEM, not encrypted. Needed when the identity is made; when it is
    /// absent later, the key stays. Never in an answer.
    #[serde(skip_serializing)]
    pub private_key: Option<Secret>,
}

impl Certificate {
    /// Its certificates; never empty.
    #[must_use]
    pub fn certificates(&self) -> &[X509] {
        self.certificate.certificates()
    }

    /// When the first of its certificates to expire does, in seconds since 1970.
    #[must_use]
    pub fn expires_unix_secs(&self) -> u64 {
        self.certificates().iter().map(|found| found.not_after_unix_secs).min().unwrap_or(0)
    }
}

impl Parse for Certificate {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let usage: Option<CertificateUsage> = object.required("usage");
        let certificate: Option<CertificatePem> = object.required("certificate");
        let revocation_lists: Option<RevocationListPem> = object.optional("revocation_lists");
        let revocation = object.optional("revocation").unwrap_or(Revocation::IfAvailable);
        let rsa_padding = object.optional("rsa_padding").unwrap_or(RsaPadding::Pss);
        let version = object.optional_with("version", |at| at.integer(1..=u32::MAX));
        let private_key = object.optional_with("private_key", |at| pem::private_key(&at));
        let refuse = |field: &str, detail: &str| -> Option<()> { object.place(field).refuse(detail) };
        let mut good = true;
        if let (Some(usage), Some(found)) = (usage, &certificate) {
            let [first, issuers @ ..] = found.certificates() else { return None };
            let identity = usage == CertificateUsage::Identity;
            if !identity && private_key.is_some() {
                good &= refuse("private_key", "belongs to an identity only").is_some();
            }
            if usage != CertificateUsage::Authority && revocation_lists.is_some() {
                good &= refuse("revocation_lists", "belong to an authority only").is_some();
            }
            if identity && first.is_ca && !issuers.is_empty() {
                good &=
                    refuse("certificate", "the first certificate is that of a CA: ours goes first").is_some();
            }
            if identity && let Some(not_ca) = issuers.iter().find(|issuer| !issuer.is_ca) {
                let detail = format!("{} follows our certificate and is not a CA's", not_ca.subject);
                good &= refuse("certificate", &detail).is_some();
            }
            if usage == CertificateUsage::Authority
                && let Some(not_ca) = found.certificates().iter().find(|found| !found.is_ca)
            {
                let detail = format!("{} is not the certificate of a CA", not_ca.subject);
                good &= refuse("certificate", &detail).is_some();
            }
            if identity
                && let Some(key) = &private_key
                && pem::public_key(key.expose()).as_deref() != Some(&first.public_key)
            {
                let detail = format!("is not the key of the first certificate, {}", first.subject);
                good &= refuse("private_key", &detail).is_some();
            }
        }
        object.end();
        if !good {
            return None;
        }
        Some(Self {
            usage: usage?,
            certificate: certificate?,
            revocation_lists,
            revocation,
            rsa_padding,
            version,
            private_key,
        })
    }
}

impl Resource for Certificate {
    const KIND: Kind = Kind::Certificate;
    type Name = Name;
    const SECRET_FIELD: Option<&'static str> = Some("private_key");

    fn needs_secret(&self) -> bool {
        self.usage == CertificateUsage::Identity
    }

    fn secret(&self) -> Option<&Secret> {
        self.private_key.as_ref()
    }

    fn set_secret(&mut self, secret: Option<Secret>) {
        self.private_key = secret;
    }

    fn fits(&self, kept: &Secret) -> Result<(), FieldError> {
        let [first, ..] = self.certificates() else { return Ok(()) };
        if self.usage != CertificateUsage::Identity
            || pem::public_key(kept.expose()).as_deref() == Some(&first.public_key)
        {
            return Ok(());
        }
        let detail = format!(
            "the private key that is kept is not that of {}: write private_key with another certificate",
            first.subject
        );
        Err(FieldError { pointer: "/certificate".to_owned(), detail })
    }

    fn takes_away(&self, before: &Self) -> Vec<FieldError> {
        let vouches = |of: &Self| of.usage != CertificateUsage::Identity;
        if !vouches(before) {
            return Vec::new();
        }
        let stays =
            |known: &&X509| vouches(self) && self.certificates().iter().any(|found| found.der == known.der);
        let gone = before.certificates().iter().filter(|known| !stays(known));
        gone.map(|gone| FieldError {
            pointer: "/certificate".to_owned(),
            detail: format!(
                "{} is trusted no longer: SAs of peers whose proof rests on it end now, and those peers are refused",
                gone.subject
            ),
        })
        .collect()
    }

    fn secret_version(&self) -> Option<u32> {
        self.version
    }

    fn set_secret_version(&mut self, version: u32) {
        self.version = (self.needs_secret() || version > 0).then_some(version);
    }

    fn derived(&self) -> Option<(&'static str, Value)> {
        let views: Vec<Value> = self.certificates().iter().map(X509::view).collect();
        Some(("certificates", json!(views)))
    }

    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }

    fn of(desired: &crate::Desired) -> &BTreeMap<Name, Self> {
        &desired.certificates
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<Name, Self> {
        &mut desired.certificates
    }
}

deserialize_by_parse!(Certificate);
