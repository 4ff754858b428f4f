//! Certificates for both ends, made for each test: by rcgen where it can, by openssl where a certificate must be bad in
//! a way that rcgen knows better than to make.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use ike::{LocalCertificate, LocalProof, RemoteProof, RsaPadding, Trust, TrustMaterial};
use integration::command::finish;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, DnValue, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// A CA.
pub(crate) struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) der: Vec<u8>,
}

/// A certificate with its key in PKCS#8.
#[derive(Clone)]
pub(crate) struct Leaf {
    /// Itself, then its issuers below the root.
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) pkcs8: Vec<u8>,
}

/// What a certificate of this name says of its holder, good now.
pub(crate) fn params(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name.remove(DnType::CommonName);
    // The one attribute that may be nothing else (X.520).
    let country = DnValue::PrintableString("CH".try_into()?);
    params.distinguished_name.push(DnType::CountryName, country);
    params.distinguished_name.push(DnType::OrganizationName, "Culvert test");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2060, 1, 1);
    Ok(params)
}

impl Ca {
    pub(crate) fn root(name: &str) -> Result<Self> {
        let (params, key) = (ca_params(name)?, KeyPair::generate()?);
        let der = params.self_signed(&key)?.der().to_vec();
        Ok(Self { params, key, der })
    }

    /// A CA below this one.
    pub(crate) fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<Self> {
        let mut params = ca_params(name)?;
        change(&mut params);
        let key = KeyPair::generate()?;
        let der = params.signed_by(&key, &self.issuer())?.der().to_vec();
        Ok(Self { params, key, der })
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    pub(crate) fn certify(&self, params: &CertificateParams, key: &KeyPair) -> Result<Leaf> {
        let certificate = params.signed_by(key, &self.issuer())?;
        Ok(Leaf { chain: vec![certificate.der().to_vec()], pkcs8: key.serialized_der().to_vec() })
    }

    /// A certificate of a new P-256 key.
    pub(crate) fn leaf(&self, params: &CertificateParams) -> Result<Leaf> {
        self.certify(params, &KeyPair::generate()?)
    }

    /// A list that revokes this serial number.
    pub(crate) fn revokes(&self, serial: u64) -> Result<Vec<u8>> {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2060, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer())?.der().to_vec())
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

    pub(crate) fn local(&self, padding: RsaPadding) -> Result<LocalProof> {
        Ok(LocalProof::Certificate(Arc::new(LocalCertificate::new(
            self.chain.clone(),
            &self.pkcs8,
            padding,
        )?)))
    }
}

pub(crate) fn remote(material: TrustMaterial) -> Result<RemoteProof> {
    Ok(RemoteProof::Certificate(Arc::new(Trust::new(material)?)))
}

/// What `openssl` is told to make a root and a certificate below it.
pub(crate) struct Openssl<'a> {
    /// Digest of both signatures: `-sha256`.
    pub(crate) digest: &'a str,
    /// The certificate's key: `genrsa -3 2048`, say.
    pub(crate) key: &'a str,
}

impl Openssl<'_> {
    /// The root's DER, and a certificate for `name`.
    pub(crate) fn make(&self, dir: &Path, name: &str) -> Result<(Vec<u8>, Leaf)> {
        let dir = dir.join(format!("openssl{}", self.digest));
        fs::create_dir_all(&dir)?;
        let run = |line: &str| {
            let mut command = Command::new("openssl");
            finish(command.args(line.split(' ')).current_dir(&dir)).with_context(|| line.to_owned())
        };
        fs::write(
            dir.join("extensions"),
            format!("subjectAltName = DNS:{name}\nbasicConstraints = CA:FALSE\n"),
        )?;
        let digest = self.digest;
        run("genrsa -out root.key 2048")?;
        run(&format!(
            "req -x509 -new -key root.key -subj /C=CH/CN=Root {digest} -days 30 -outform DER -out root.der"
        ))?;
        run("x509 -inform DER -in root.der -out root.pem")?;
        run(&format!("{} -out leaf.key {}", before_last(self.key), last(self.key)))?;
        run("pkcs8 -topk8 -nocrypt -in leaf.key -outform DER -out leaf.pkcs8")?;
        run(&format!("req -new -key leaf.key -subj /C=CH/CN={name} -out leaf.csr"))?;
        run(&format!(
            "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial {digest} -days 30 -extfile extensions -outform DER -out leaf.der"
        ))?;
        let leaf =
            Leaf { chain: vec![fs::read(dir.join("leaf.der"))?], pkcs8: fs::read(dir.join("leaf.pkcs8"))? };
        Ok((fs::read(dir.join("root.der"))?, leaf))
    }
}

fn before_last(words: &str) -> &str {
    words.rsplit_once(' ').map_or(words, |(before, _)| before)
}

fn last(words: &str) -> &str {
    words.rsplit_once(' ').map_or("", |(_, last)| last)
}

fn ca_params(name: &str) -> Result<CertificateParams> {
    let mut params = params(name)?;
    params.subject_alt_names.clear();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}
