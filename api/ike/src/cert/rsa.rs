//! RSA by its numbers, for hashes that are given: aws-lc signs and verifies only what it hashes itself. How large the
//! numbers may be is said here for both versions.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use der::asn1::{AnyRef, OctetStringRef, UintRef};
use der::{Decode, SliceReader};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::CertificateError;

const LEAST_MODULUS_BITS: usize = 2048;
/// Nobody issues larger ones, and each doubling makes a verification cost four times as much.
const MOST_MODULUS_BITS: usize = 8192;
/// Small exponents are what forged PKCS#1 signatures live on.
const LEAST_EXPONENT: u64 = 65_537;
/// An exponent as long as the modulus makes a verification as slow as a signature. This is where aws-lc draws the line,
/// which verifies for version 2: what one version refuses, the other does too.
const MOST_EXPONENT_BITS: usize = 33;

/// A public key whose numbers are neither too small to trust nor too large to compute with.
pub(super) struct RsaPublic {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl RsaPublic {
    /// Reads an `RSAPublicKey` (RFC 8017 appendix A.1.1), which is the bit string of a `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// It is none, or one with numbers that are refused; the sentence goes on from the name of a certificate.
    pub(super) fn new(public_key: &[u8]) -> Result<Self, CertificateError> {
        let numbers = elements(public_key, |body| Ok((UintRef::decode(body)?, UintRef::decode(body)?)));
        let (modulus, exponent) = numbers.ok_or_else(|| CertificateError::new("has a broken RSA key"))?;
        Self::of_numbers(modulus.as_bytes(), exponent.as_bytes())
    }

    fn of_numbers(modulus: &[u8], exponent: &[u8]) -> Result<Self, CertificateError> {
        let refuse = |text: String| Err(CertificateError::new(text));
        let modulus_bits = bits(modulus);
        if modulus_bits < LEAST_MODULUS_BITS {
            return refuse(format!("has an RSA key of {modulus_bits} bits, fewer than {LEAST_MODULUS_BITS}"));
        }
        if modulus_bits > MOST_MODULUS_BITS {
            return refuse(format!("has an RSA key of {modulus_bits} bits, more than {MOST_MODULUS_BITS}"));
        }
        if !is_odd(modulus) {
            return refuse("has an RSA key whose modulus is even".to_owned());
        }
        match number(exponent) {
            Some(value) if value < LEAST_EXPONENT => {
                refuse(format!("has an RSA key whose exponent is below {LEAST_EXPONENT}"))
            }
            Some(_) if bits(exponent) <= MOST_EXPONENT_BITS && is_odd(exponent) => {
                Ok(Self { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
            }
            _ => refuse(format!(
                "has an RSA key whose exponent is even or of more than {MOST_EXPONENT_BITS} bits"
            )),
        }
    }

    /// Whether `signature` is EMSA-PKCS1-v1_5 over the bare hash, by this key.
    pub(super) fn is_signed(&self, hash: &[u8], signature: &[u8]) -> bool {
        self.opens(hash, signature) == Some(true)
    }

    fn opens(&self, hash: &[u8], signature: &[u8]) -> Option<bool> {
        if signature.len() != self.modulus.len() {
            return Some(false);
        }
        let exponent_bits = u32::try_from(bits(&self.exponent)).ok()?;
        let opened = self.power(signature, &self.exponent, exponent_bits)?;
        Some(opened.ct_eq(&self.padded(hash)?).into())
    }

    /// Of the octets that the modulus takes.
    fn bits_of_octets(&self) -> Option<u32> {
        u32::try_from(self.modulus.len()).ok()?.checked_mul(8)
    }

    /// EMSA-PKCS1-v1_5 (RFC 8017 section 9.2), with the hash where the identifier and the hash stand otherwise.
    fn padded(&self, hash: &[u8]) -> Option<Vec<u8>> {
        const LEAST_PADDING_BYTES: usize = 8;
        const AROUND_BYTES: usize = 3;
        let padding = self.modulus.len().checked_sub(hash.len())?.checked_sub(AROUND_BYTES)?;
        (padding >= LEAST_PADDING_BYTES)
            .then(|| [&[0, 1], vec![0xff; padding].as_slice(), &[0], hash].concat())
    }

    /// `base ^ exponent`, as long as the modulus; constant in time but for the lengths.
    fn power(&self, base: &[u8], exponent: &[u8], exponent_bits: u32) -> Option<Vec<u8>> {
        let bits = self.bits_of_octets()?;
        let number = |bytes: &[u8]| BoxedUint::from_be_slice(bytes, bits).ok();
        let modulus = number(&self.modulus)?;
        let base = number(base).filter(|base| base < &modulus)?;
        let exponent = Zeroizing::new(number(exponent)?);
        let params = BoxedMontyParams::new_vartime(Option::from(Odd::new(modulus))?);
        let power = BoxedMontyForm::new(base, &params).pow_bounded_exp(&exponent, exponent_bits).retrieve();
        let bytes = power.to_be_bytes();
        bytes.get(bytes.len().checked_sub(self.modulus.len())?..).map(<[u8]>::to_vec)
    }
}

/// A private key. All that touches its exponent is constant in time.
pub(super) struct RsaNumbers {
    public: RsaPublic,
    private_exponent: Zeroizing<Vec<u8>>,
}

impl RsaNumbers {
    /// Takes the numbers out of PKCS#8 (RFC 5208, RFC 8017 appendix A.1.2).
    pub(super) fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let key = elements(pkcs8, |body| {
            let (_version, _algorithm) = (UintRef::decode(body)?, AnyRef::decode(body)?);
            Ok(<&OctetStringRef>::decode(body)?.as_bytes())
        })?;
        let (modulus, exponent, private_exponent) = elements(key, |body| {
            let _version = UintRef::decode(body)?;
            Ok((UintRef::decode(body)?, UintRef::decode(body)?, UintRef::decode(body)?))
        })?;
        let public = RsaPublic::of_numbers(modulus.as_bytes(), exponent.as_bytes()).ok()?;
        Some(Self { public, private_exponent: Zeroizing::new(private_exponent.as_bytes().to_vec()) })
    }

    /// Signs a hash: EMSA-PKCS1-v1_5 without an identifier of its algorithm.
    pub(super) fn sign(&self, hash: &[u8]) -> Option<Vec<u8>> {
        let padded = self.public.padded(hash)?;
        let signature = self.public.power(&padded, &self.private_exponent, self.public.bits_of_octets()?)?;
        // A fault in the computation would give the key away.
        self.public.is_signed(hash, &signature).then_some(signature)
    }
}

/// Reads the first elements of a DER sequence; more may follow them.
fn elements<'a, T>(der: &'a [u8], read: impl FnOnce(&mut SliceReader<'a>) -> der::Result<T>) -> Option<T> {
    let body = AnyRef::from_der(der).ok().filter(|any| der::Tagged::tag(any) == der::Tag::Sequence)?;
    read(&mut SliceReader::new(body.value()).ok()?).ok()
}

fn bits(magnitude: &[u8]) -> usize {
    let leading = magnitude.first().map_or(0, |first| usize::try_from(first.leading_zeros()).unwrap_or(0));
    magnitude.len().saturating_mul(8).saturating_sub(leading)
}

fn is_odd(magnitude: &[u8]) -> bool {
    magnitude.last().is_some_and(|last| last & 1 == 1)
}

/// `None` for what has more than 64 bits.
fn number(magnitude: &[u8]) -> Option<u64> {
    (magnitude.len() <= 8).then(|| magnitude.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test may fail by panicking"
    )]

    use der::{Encode, Tag, asn1::Any};
    use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};

    use super::*;

    fn public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let numbers = [UintRef::new(modulus).unwrap(), UintRef::new(exponent).unwrap()];
        let body = numbers.map(|number| number.to_der().unwrap()).concat();
        Any::new(Tag::Sequence, body).unwrap().to_der().unwrap()
    }

    fn modulus(bits: usize) -> Vec<u8> {
        let mut modulus = vec![0xa5; bits.div_ceil(8)];
        modulus[0] = 0xff >> (modulus.len() * 8 - bits);
        modulus
    }

    #[test]
    fn numbers_too_small_to_trust_or_too_large_to_compute_with_are_refused() {
        const COMMON: &[u8] = &[1, 0, 1];
        let even = [modulus(2040).as_slice(), &[0x42]].concat();
        for (modulus, exponent, words) in [
            (modulus(2047), COMMON, "of 2047 bits, fewer than 2048"),
            (modulus(8193), COMMON, "of 8193 bits, more than 8192"),
            (modulus(400_000), COMMON, "of 400000 bits, more than 8192"),
            (even, COMMON, "modulus is even"),
            (modulus(2048), &[3], "exponent is below 65537"),
            (modulus(2048), &[0xff, 0xff], "exponent is below 65537"),
            (modulus(2048), &[1, 0, 2], "even or of more than 33 bits"),
            (modulus(2048), &[2, 0, 0, 0, 1], "even or of more than 33 bits"),
            (modulus(2048), &[0xff; 9], "even or of more than 33 bits"),
            (modulus(8192), &modulus(8190), "even or of more than 33 bits"),
        ] {
            let refused = RsaPublic::new(&public_key(&modulus, exponent)).err().unwrap().to_string();
            assert!(refused.contains(words), "{words}: {refused}");
        }
        for (modulus, exponent) in
            [(modulus(2048), COMMON), (modulus(8192), COMMON), (modulus(4096), &[1, 0, 0, 0, 1])]
        {
            assert!(RsaPublic::new(&public_key(&modulus, exponent)).is_ok());
        }
        assert!(RsaPublic::new(&[]).is_err() && RsaPublic::new(&[0x30, 0]).is_err());
    }

    /// A signature below the modulus is one number alone: what is above it is refused, not reduced.
    #[test]
    fn a_signature_above_the_modulus_is_refused() {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let numbers = RsaNumbers::from_pkcs8(&pair.serialize_der()).unwrap();
        assert_eq!(numbers.public.opens(&[7; 20], &[0xff; 256]), None);
        assert!(!numbers.public.is_signed(&[7; 20], &[0xff; 256]));
    }
}
