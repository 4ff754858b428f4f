//! ML-KEM as an additional key exchange (RFC 9370, FIPS 203): the initiator sends an encapsulation key, the responder a
//! ciphertext. The library draws these keys from its own generator, the only ones that do not come of the engine's seed.

use aws_lc_rs::kem::{Algorithm, AlgorithmId, Ciphertext, DecapsulationKey, EncapsulationKey};
use aws_lc_rs::kem::{ML_KEM_768, ML_KEM_1024};
use zeroize::Zeroizing;

use super::{CryptoError, Secret};
use crate::KeyEncapsulation;

impl KeyEncapsulation {
    const ALL: [Self; 2] = [Self::MlKem768, Self::MlKem1024];

    /// The registry's number (transform types 4 and 6 to 12).
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::MlKem768 => 36,
            Self::MlKem1024 => 37,
        }
    }

    pub(crate) fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.number() == number)
    }

    /// As a policy names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MlKem768 => "ml-kem-768",
            Self::MlKem1024 => "ml-kem-1024",
        }
    }

    fn algorithm(self) -> &'static Algorithm<AlgorithmId> {
        match self {
            Self::MlKem768 => &ML_KEM_768,
            Self::MlKem1024 => &ML_KEM_1024,
        }
    }

    /// Lengths of an encapsulation key and of a ciphertext (FIPS 203 table 3).
    fn lengths_bytes(self) -> (usize, usize) {
        match self {
            Self::MlKem768 => (1184, 1088),
            Self::MlKem1024 => (1568, 1568),
        }
    }
}

/// The initiator's key, used for one exchange and dropped.
pub(crate) struct Decapsulator {
    method: KeyEncapsulation,
    key: DecapsulationKey,
    public: Vec<u8>,
}

impl Decapsulator {
    pub(crate) fn new(method: KeyEncapsulation) -> Option<Self> {
        let key = DecapsulationKey::generate(method.algorithm()).ok()?;
        let public = key.encapsulation_key().ok()?.key_bytes().ok()?.as_ref().to_vec();
        Some(Self { method, key, public })
    }

    pub(crate) fn method(&self) -> KeyEncapsulation {
        self.method
    }

    /// The data of our KE payload.
    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }

    /// The shared secret in the peer's KE data. A ciphertext that was not made for this key gives a secret that nobody
    /// has, and nothing will open under it.
    pub(crate) fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret, CryptoError> {
        if ciphertext.len() != self.method.lengths_bytes().1 {
            return Err(CryptoError::InvalidPublicValue);
        }
        let secret = self
            .key
            .decapsulate(Ciphertext::from(ciphertext))
            .map_err(|_| CryptoError::InvalidPublicValue)?;
        Ok(Zeroizing::new(secret.as_ref().to_vec()))
    }
}

/// The responder's half: our KE data, and the shared secret in it.
pub(crate) fn encapsulate(
    method: KeyEncapsulation,
    encapsulation_key: &[u8],
) -> Result<(Vec<u8>, Secret), CryptoError> {
    if encapsulation_key.len() != method.lengths_bytes().0 {
        return Err(CryptoError::InvalidPublicValue);
    }
    let key = EncapsulationKey::new(method.algorithm(), encapsulation_key)
        .map_err(|_| CryptoError::InvalidPublicValue)?;
    let (ciphertext, secret) = key.encapsulate().map_err(|_| CryptoError::InvalidPublicValue)?;
    Ok((ciphertext.as_ref().to_vec(), Zeroizing::new(secret.as_ref().to_vec())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use ml_kem::kem::{Decapsulate, Kem, KeyExport};

    use super::*;
    use crate::crypto::Random;

    /// Each half against an implementation that nobody here wrote.
    macro_rules! judge {
        ($name:ident, $method:expr, $theirs:ty) => {
            #[test]
            fn $name() {
                for round in 0..4 {
                    let ours = Decapsulator::new($method).unwrap();
                    let key = ml_kem::EncapsulationKey::<$theirs>::new(&ours.public().try_into().unwrap());
                    let message: [u8; 32] = Random::new([round; 32]).array();
                    let (ciphertext, secret) = key.unwrap().encapsulate_deterministic(&message.into());
                    assert_eq!(*ours.decapsulate(&ciphertext).unwrap(), secret.as_slice());

                    let seed: [u8; 64] = Random::new([round + 100; 32]).array();
                    let theirs = ml_kem::DecapsulationKey::<$theirs>::from_seed(seed.into());
                    let public = theirs.encapsulation_key().to_bytes();
                    let (ciphertext, secret) = encapsulate($method, &public).unwrap();
                    let opened = theirs.decapsulate(&ciphertext.as_slice().try_into().unwrap());
                    assert_eq!(*secret, opened.as_slice());
                }
                let _: Option<<$theirs as Kem>::EncapsulationKey> = None;
            }
        };
    }
    judge!(ml_kem_768_agrees_with_another_implementation, KeyEncapsulation::MlKem768, ml_kem::MlKem768);
    judge!(ml_kem_1024_agrees_with_another_implementation, KeyEncapsulation::MlKem1024, ml_kem::MlKem1024);

    #[test]
    fn wrong_lengths_and_keys_out_of_range_are_refused() {
        for method in KeyEncapsulation::ALL {
            let ours = Decapsulator::new(method).unwrap();
            let key = ours.public().to_vec();
            let (ciphertext, secret) = encapsulate(method, &key).unwrap();
            assert_eq!(*ours.decapsulate(&ciphertext).unwrap(), *secret);
            for changed in [&key[1..], &[key.as_slice(), &[0]].concat(), &[]] {
                assert!(encapsulate(method, changed).is_err());
            }
            for changed in [&ciphertext[1..], &[ciphertext.as_slice(), &[0]].concat(), &[]] {
                assert!(ours.decapsulate(changed).is_err());
            }
            // FIPS 203 section 7.2: coefficients above the modulus.
            let mut out_of_range = key.clone();
            out_of_range[..384].fill(0xff);
            assert!(encapsulate(method, &out_of_range).is_err());
            let mut forged = ciphertext.clone();
            forged[0] ^= 1;
            assert_ne!(*ours.decapsulate(&forged).unwrap(), *secret);
        }
    }
}
