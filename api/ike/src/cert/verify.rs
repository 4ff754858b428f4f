//! The peer's proof by certificate: chain, signature and identity.

use rustls_pki_types::CertificateDer;
use webpki::{EndEntityCert, Error};

use super::facts::Facts;
use super::given_hash::{HashScheme, is_signed};
use super::scheme::Scheme;
use super::scheme::SignatureHash;
use super::trust::Trust;
use super::{MAX_CERTIFICATES, MAX_CERTIFICATES_BYTES, chain};
use crate::Identity;
use crate::wire::registry::{
    AUTH_METHOD_DIGITAL_SIGNATURE, AUTH_METHOD_ECDSA_P256, AUTH_METHOD_ECDSA_P384, AUTH_METHOD_ECDSA_P521,
};
use crate::wire::{Reader, WireError, Writer};

/// What a peer claims.
pub(crate) struct Claim<'a> {
    /// The identity that it must bear.
    pub(crate) identity: &'a Identity,
    /// Its certificates, its own first.
    pub(crate) certificates: &'a [Vec<u8>],
    /// AUTH method and data.
    pub(crate) method: u8,
    pub(crate) signature: &'a [u8],
    /// What the signature covers (RFC 7296 section 2.15).
    pub(crate) octets: &'a [u8],
}

/// What a peer claims in IKEv1.
pub(crate) struct HashClaim<'a> {
    /// The identity that it must bear.
    pub(crate) identity: &'a Identity,
    /// Its certificates, its own first.
    pub(crate) certificates: &'a [Vec<u8>],
    pub(crate) scheme: HashScheme,
    pub(crate) signature: &'a [u8],
    /// HASH_I or HASH_R (RFC 2409 section 5).
    pub(crate) hash: &'a [u8],
}

/// The certificates that a peer proved itself with, to be judged again when trust or time has changed.
pub(crate) struct PeerCertificates {
    certificates: Vec<Vec<u8>>,
    /// When its own expires; of its issuers one may have been replaced meanwhile.
    pub(crate) expires_unix_secs: u64,
}

impl PeerCertificates {
    /// Writes them down for an engine that follows this one.
    pub(crate) fn keep(&self, writer: &mut Writer) {
        writer.u32(u32::try_from(self.certificates.len()).unwrap_or(u32::MAX));
        for certificate in &self.certificates {
            writer.counted(certificate);
        }
        writer.u64(self.expires_unix_secs);
    }

    /// More bytes than [`PeerCertificates::keep`] writes.
    pub(crate) fn kept_len_most_bytes(&self) -> usize {
        self.certificates.iter().fold(16, |sum: usize, der| sum.saturating_add(8).saturating_add(der.len()))
    }

    /// Reads what [`PeerCertificates::keep`] wrote; a count of none stands for a peer without certificates.
    pub(crate) fn resume(reader: &mut Reader<'_>) -> Result<Option<Self>, WireError> {
        let count = reader.u32()?;
        if count == 0 {
            return Ok(None);
        }
        let certificates: Result<_, WireError> =
            (0..count).map(|_| reader.counted().map(<[u8]>::to_vec)).collect();
        Ok(Some(Self { certificates: certificates?, expires_unix_secs: reader.u64()? }))
    }

    /// Whether they lead to what is trusted now.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(crate) fn judge_again(&self, trust: &Trust, unix_secs: Option<u64>) -> Result<(), String> {
        let unix_secs = unix_secs.ok_or(NO_TIME)?;
        let facts: Result<Vec<Facts>, _> = self.certificates.iter().map(|der| Facts::new(der)).collect();
        let facts = facts.map_err(|error| error.to_string())?;
        let certificates: Vec<CertificateDer<'_>> =
            self.certificates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        chain::verify(trust, &certificates, &facts, unix_secs)
    }
}

const NO_TIME: &str = "the time of day is not known: no certificate can be judged";

/// Verifies the claim.
///
/// # Errors
/// A sentence for the operator; the peer hears only that authentication failed.
pub(crate) fn verify(
    trust: &Trust,
    claim: &Claim<'_>,
    unix_secs: Option<u64>,
) -> Result<PeerCertificates, String> {
    if claim.certificates.is_empty() {
        // What AUTH is tells more than what is missing.
        return scheme(claim).and(Err(NO_CERTIFICATE.to_owned()));
    }
    judge(trust, claim.identity, claim.certificates, unix_secs, |leaf, _| verify_signature(leaf, claim))
}

/// Verifies a claim of IKEv1.
///
/// # Errors
/// Likewise.
pub(crate) fn verify_hash(
    trust: &Trust,
    claim: &HashClaim<'_>,
    unix_secs: Option<u64>,
) -> Result<PeerCertificates, String> {
    judge(trust, claim.identity, claim.certificates, unix_secs, |_, holder| {
        if claim.scheme == HashScheme::Rsa && !holder.is_rsa_for_any_use {
            return Err(OF_ANOTHER_KIND.to_owned());
        }
        let signed = is_signed(claim.scheme, &holder.public_key, claim.hash, claim.signature);
        signed.then_some(()).ok_or_else(|| UNFIT.to_owned())
    })
}

const NO_CERTIFICATE: &str = "the peer sent no certificate";
const UNFIT: &str = "the signature does not fit the certificate's key";
const OF_ANOTHER_KIND: &str = "the signature is of another kind than the certificate's key";

/// Judges chain, signature and identity. This is the one place of public-key work for a peer's proof: bounded by the
/// limits on certificates and on RSA's numbers, and by webpki's own budget of signatures. With a key for which nobody
/// vouches nothing is computed: there is no secret of ours that the time could tell of.
fn judge(
    trust: &Trust,
    identity: &Identity,
    ders: &[Vec<u8>],
    unix_secs: Option<u64>,
    prove: impl FnOnce(&CertificateDer<'_>, &Facts) -> Result<(), String>,
) -> Result<PeerCertificates, String> {
    let bytes: usize = ders.iter().map(Vec::len).sum();
    if ders.len() > MAX_CERTIFICATES || bytes > MAX_CERTIFICATES_BYTES {
        return Err(format!("the peer sent {} certificates of {bytes} bytes", ders.len()));
    }
    let unix_secs = unix_secs.ok_or(NO_TIME)?;
    let facts: Result<Vec<Facts>, _> = ders.iter().map(|der| Facts::new(der)).collect();
    let facts = facts.map_err(|error| format!("a certificate of the peer {error}"))?;
    let certificates: Vec<CertificateDer<'_>> =
        ders.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let (Some(leaf), Some(holder)) = (certificates.first(), facts.first()) else {
        return Err(NO_CERTIFICATE.to_owned());
    };
    chain::verify(trust, &certificates, &facts, unix_secs)?;
    prove(leaf, holder)?;
    if !holder.bears(identity) {
        return Err(format!(
            "the identity {identity} is not in the certificate, which names {}",
            holder.describe_names()
        ));
    }
    Ok(PeerCertificates { certificates: ders.to_vec(), expires_unix_secs: holder.not_after_unix_secs })
}

fn verify_signature(leaf: &CertificateDer<'_>, claim: &Claim<'_>) -> Result<(), String> {
    let (scheme, signature) = scheme(claim)?;
    let leaf =
        EndEntityCert::try_from(leaf).map_err(|error| format!("the certificate is refused: {error}"))?;
    for verifier in scheme.verifiers() {
        match leaf.verify_signature(verifier, claim.octets, &signature) {
            Ok(()) => return Ok(()),
            Err(Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => return Err(UNFIT.to_owned()),
        }
    }
    Err(OF_ANOTHER_KIND.to_owned())
}

/// The scheme and the signature in the form that certificates bear.
fn scheme(claim: &Claim<'_>) -> Result<(Scheme, Vec<u8>), String> {
    match claim.method {
        AUTH_METHOD_DIGITAL_SIGNATURE => {
            // RFC 7427 section 3: length of the AlgorithmIdentifier, itself, the signature.
            let (length, rest) = claim.signature.split_first().ok_or("AUTH is empty")?;
            let (identifier, signature) =
                rest.split_at_checked(usize::from(*length)).ok_or("AUTH ends early")?;
            let scheme = Scheme::from_algorithm_identifier(identifier)
                .ok_or("the signature algorithm is too weak or unknown")?;
            Ok((scheme, signature.to_vec()))
        }
        // RFC 4754 section 3.
        AUTH_METHOD_ECDSA_P256 => fixed(SignatureHash::Sha2_256, claim.signature, 32),
        AUTH_METHOD_ECDSA_P384 => fixed(SignatureHash::Sha2_384, claim.signature, 48),
        AUTH_METHOD_ECDSA_P521 => fixed(SignatureHash::Sha2_512, claim.signature, 66),
        1 => Err("the peer signs with RSA and SHA-1 (method 1), which is refused".to_owned()),
        2 => Err("the peer uses a pre-shared key where a certificate is required".to_owned()),
        other => Err(format!("the peer uses authentication method {other}, which is refused")),
    }
}

/// `r | s` of fixed length to the DER that certificates bear.
fn fixed(
    hash: SignatureHash,
    signature: &[u8],
    scalar_len_bytes: usize,
) -> Result<(Scheme, Vec<u8>), String> {
    let (r, s) = signature
        .split_at_checked(scalar_len_bytes)
        .filter(|(_, s)| s.len() == scalar_len_bytes)
        .ok_or("the ECDSA signature has a wrong length")?;
    let malformed = |_| "the ECDSA signature is malformed".to_owned();
    let r = der::asn1::UintRef::new(strip(r)).map_err(malformed)?;
    let s = der::asn1::UintRef::new(strip(s)).map_err(malformed)?;
    let mut body = Vec::new();
    der::Encode::encode_to_vec(&r, &mut body).map_err(malformed)?;
    der::Encode::encode_to_vec(&s, &mut body).map_err(malformed)?;
    let whole = der::asn1::Any::new(der::Tag::Sequence, body).map_err(malformed)?;
    Ok((Scheme::Ecdsa(hash), der::Encode::to_der(&whole).map_err(malformed)?))
}

fn strip(scalar: &[u8]) -> &[u8] {
    let zeros = scalar.iter().take_while(|byte| **byte == 0).count();
    scalar.get(zeros.min(scalar.len().saturating_sub(1))..).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail by panicking")]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};

    use super::super::signing_key::SigningKey;
    use super::*;
    use crate::TrustMaterial;

    /// In 2026.
    const NOW: u64 = 1_780_315_200;
    const HASH: &[u8] = &[7; 20];

    fn gateway() -> Identity {
        Identity::Fqdn("gw.example.net".to_owned())
    }

    /// An RSA key and a certificate that it signed for itself.
    fn self_signed() -> (SigningKey, Vec<u8>) {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let mut params = CertificateParams::new(vec!["gw.example.net".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
        let der = params.self_signed(&key).unwrap().der().to_vec();
        (SigningKey::from_pkcs8(&key.serialize_der()).unwrap(), der)
    }

    fn pinning(der: &[u8]) -> Trust {
        Trust::new(TrustMaterial { pinned: vec![der.to_vec()], ..TrustMaterial::default() }).unwrap()
    }

    /// The certificate with other bytes in one place.
    fn bent(der: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = der.windows(from.len()).position(|window| window == from).unwrap();
        let (before, rest) = der.split_at(at);
        [before, to, rest.strip_prefix(from).unwrap()].concat()
    }

    /// `rsaEncryption` at the head of a key, and `id-RSASSA-PSS` in its place.
    const RSA_ENCRYPTION: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    const RSASSA_PSS: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";

    fn judged_hash(key: &SigningKey, der: &[u8], trust: &Trust) -> Result<(), String> {
        let signature = key.sign_hash(HASH).unwrap();
        let claim = HashClaim {
            identity: &gateway(),
            certificates: &[der.to_vec()],
            scheme: HashScheme::Rsa,
            signature: &signature,
            hash: HASH,
        };
        verify_hash(trust, &claim, Some(NOW)).map(|_| ())
    }

    #[test]
    fn a_pile_of_certificates_is_not_read() {
        let trust = Trust::new(TrustMaterial::default()).unwrap();
        let judged = |ders: &[Vec<u8>]| {
            let proven = |_: &CertificateDer<'_>, _: &Facts| -> Result<(), String> { panic!("it was read") };
            judge(&trust, &gateway(), ders, Some(0), proven).err().unwrap()
        };
        let too_many = vec![vec![0x30, 0]; MAX_CERTIFICATES + 1];
        assert_eq!(judged(&too_many), "the peer sent 11 certificates of 22 bytes");
        let too_long = vec![vec![0; MAX_CERTIFICATES_BYTES / 2 + 1]; 2];
        assert_eq!(judged(&too_long), "the peer sent 2 certificates of 65538 bytes");
        // As many as are allowed are looked at.
        let allowed = vec![vec![0x30, 0]; MAX_CERTIFICATES];
        assert!(judged(&allowed).starts_with("a certificate of the peer"));
    }

    #[test]
    fn nothing_is_computed_with_a_key_for_which_nobody_vouches() {
        let (_, der) = self_signed();
        let unasked = |_: &CertificateDer<'_>, _: &Facts| -> Result<(), String> { panic!("it was used") };
        let stranger = Trust::new(TrustMaterial::default()).unwrap();
        let refused = judge(&stranger, &gateway(), std::slice::from_ref(&der), Some(NOW), unasked);
        assert!(refused.err().unwrap().contains("not issued by a trusted CA"));
        let known = judge(&pinning(&der), &gateway(), &[der], Some(NOW), |_, _| Err("asked".to_owned()));
        assert_eq!(known.err().unwrap(), "asked");
    }

    /// RFC 4055 section 1.2: such a key makes no other signatures.
    #[test]
    fn a_key_set_aside_for_pss_makes_no_signature_of_version_1() {
        let (key, der) = self_signed();
        assert_eq!(judged_hash(&key, &der, &pinning(&der)), Ok(()));
        let pss = bent(&der, RSA_ENCRYPTION, RSASSA_PSS);
        assert_eq!(judged_hash(&key, &pss, &pinning(&pss)), Err(OF_ANOTHER_KIND.to_owned()));
    }

    #[test]
    fn under_another_name_the_numbers_of_rsa_are_checked_too() {
        let (_, der) = self_signed();
        let pss = bent(&der, RSA_ENCRYPTION, RSASSA_PSS);
        assert!(Facts::new(&pss).is_ok());
        let weak = bent(&pss, b"\x02\x03\x01\x00\x01", b"\x02\x03\x00\x80\x01");
        let refused = Facts::new(&weak).err().unwrap().to_string();
        assert!(refused.contains("exponent is below 65537"), "{refused}");
    }
}
