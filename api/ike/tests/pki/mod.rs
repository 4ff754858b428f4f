//! Certificates made for one test: a root, CAs below it, leaves. All of them live around [`NOW`], which no real clock
//! moves.
#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use std::sync::Arc;

use ike::{Authentication, LocalCertificate, LocalProof, RemoteProof, RsaPadding, Trust, TrustMaterial};

/// 2026-06-01, noon, in seconds since 1970.
pub(crate) const NOW: u64 = 1_780_315_200;

/// A CA.
pub(crate) struct Ca {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) der: Vec<u8>,
}

/// A certificate with its key.
pub(crate) struct Leaf {
    /// Itself, then its issuers below the root.
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: KeyPair,
}

/// Parameters that are good at [`NOW`].
pub(crate) fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CountryName, "CH");
    params.distinguished_name.push(DnType::OrganizationName, "Culvert");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = params(common_name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    /// A root of its own.
    pub(crate) fn root(common_name: &str) -> Self {
        Self::root_of(common_name, KeyPair::generate().unwrap())
    }

    pub(crate) fn root_of(common_name: &str, key: KeyPair) -> Self {
        let params = ca_params(common_name);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, der }
    }

    /// A CA below this one.
    pub(crate) fn below(&self, common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(common_name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer()).unwrap().der().to_vec();
        Self { params, key, der }
    }

    pub(crate) fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A certificate of a new P-256 key.
    pub(crate) fn leaf(&self, params: &CertificateParams) -> Leaf {
        self.certify(params, KeyPair::generate().unwrap())
    }

    pub(crate) fn leaf_of(&self, params: &CertificateParams, algorithm: &'static SignatureAlgorithm) -> Leaf {
        self.certify(params, KeyPair::generate_for(algorithm).unwrap())
    }

    pub(crate) fn certify(&self, params: &CertificateParams, key: KeyPair) -> Leaf {
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Leaf { chain: vec![certificate.der().to_vec()], key }
    }

    /// A revocation list of these serial numbers, with its next update at the end of that month of 2026.
    pub(crate) fn revocation_list(&self, serials: &[u64], next_update_month: u8) -> Vec<u8> {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 5, 1),
            reason_code: None,
            invalidity_date: None,
        });
        CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 5, 1),
            next_update: date_time_ymd(2026, next_update_month, 28),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer())
        .unwrap()
        .der()
        .to_vec()
    }

    pub(crate) fn trust(&self) -> TrustMaterial {
        TrustMaterial { anchors: vec![self.der.clone()], ..TrustMaterial::default() }
    }
}

impl Leaf {
    pub(crate) fn with_issuer(mut self, ca: &Ca) -> Self {
        self.chain.push(ca.der.clone());
        self
    }

    pub(crate) fn local(&self) -> LocalProof {
        self.local_with(RsaPadding::Pss)
    }

    pub(crate) fn local_with(&self, padding: RsaPadding) -> LocalProof {
        let certificate = LocalCertificate::new(self.chain.clone(), self.key.serialized_der(), padding);
        LocalProof::Certificate(Arc::new(certificate.unwrap()))
    }
}

pub(crate) fn remote(material: TrustMaterial) -> RemoteProof {
    RemoteProof::Certificate(Arc::new(Trust::new(material).unwrap()))
}

/// Both ways by certificate.
pub(crate) fn both(leaf: &Leaf, material: TrustMaterial) -> Authentication {
    Authentication { local: leaf.local(), remote: remote(material) }
}
