//! MODP group 14 (RFC 3526 section 3), constant time in the exponent.

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U384, U2048};
use zeroize::Zeroizing;

use super::{CryptoError, Random, Secret};

const PRIME: U2048 = U2048::from_be_hex(concat!(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74",
    "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437",
    "4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed",
    "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf05",
    "98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb",
    "9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b",
    "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf695581718",
    "3995497cea956ae515d2261898fa051015728e5a8aacaa68ffffffffffffffff",
));
const PARAMS: FixedMontyParams<{ U2048::LIMBS }> =
    FixedMontyParams::new_vartime(Odd::<U2048>::from_be_hex(concat!(
        "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74",
        "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437",
        "4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed",
        "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf05",
        "98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb",
        "9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b",
        "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf695581718",
        "3995497cea956ae515d2261898fa051015728e5a8aacaa68ffffffffffffffff",
    )));
/// Length of a public value and of the shared secret, leading zeros included (RFC 7296 section 3.4).
pub(crate) const PUBLIC_LEN_BYTES: usize = 256;
/// More than twice the group's strength (RFC 3526 section 8), each used once.
const EXPONENT_BITS: u32 = 384;
const EXPONENT_LEN_BYTES: usize = 48;

/// An ephemeral exponent.
pub(crate) struct Exponent(Zeroizing<U384>);

impl Exponent {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self::from_bytes(&random.secret(EXPONENT_LEN_BYTES))
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(U384::from_be_slice(bytes)))
    }

    pub(crate) fn public(&self) -> Vec<u8> {
        self.power(&U2048::from_u8(2)).to_vec()
    }

    pub(crate) fn agree(&self, public: &[u8]) -> Result<Secret, CryptoError> {
        if public.len() != PUBLIC_LEN_BYTES {
            return Err(CryptoError::InvalidPublicValue);
        }
        let base = U2048::from_be_slice(public);
        // 0, 1 and p-1 would fix the secret (RFC 6989 section 2.1); the value is public.
        let largest = PRIME.wrapping_sub(&U2048::from_u8(2));
        if base < U2048::from_u8(2) || base > largest {
            return Err(CryptoError::InvalidPublicValue);
        }
        Ok(self.power(&base))
    }

    fn power(&self, base: &U2048) -> Secret {
        let power = FixedMontyForm::new(base, &PARAMS).pow_bounded_exp(&*self.0, EXPONENT_BITS);
        let value = Zeroizing::new(power.retrieve());
        Zeroizing::new(value.to_be_bytes().as_ref().to_vec())
    }
}

#[cfg(test)]
pub(crate) fn exponent_for_test(bytes: &[u8; EXPONENT_LEN_BYTES]) -> Exponent {
    Exponent::from_bytes(bytes)
}
