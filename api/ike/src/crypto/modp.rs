//! MODP groups 2 (RFC 2409 section 6.2), 5 and 14 to 18 (RFC 3526), constant time in the exponent.

use std::sync::LazyLock;

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U512, U1024, U1536, U2048, U3072, U4096, U6144, U8192, Uint};
use zeroize::Zeroizing;

use super::comb::Comb;
use super::{CryptoError, Random, Secret};
use crate::Group;

const PARAMS_1024: FixedMontyParams<{ U1024::LIMBS }> =
    FixedMontyParams::new_vartime(Odd::<U1024>::from_be_hex(concat!(
        "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74",
        "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437",
        "4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed",
        "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece65381ffffffffffffffff",
    )));
const PARAMS_1536: FixedMontyParams<{ U1536::LIMBS }> =
    FixedMontyParams::new_vartime(Odd::<U1536>::from_be_hex(concat!(
        "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74",
        "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437",
        "4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed",
        "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf05",
        "98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb",
        "9ed529077096966d670c354e4abc9804f1746c08ca237327ffffffffffffffff",
    )));
const PARAMS_2048: FixedMontyParams<{ U2048::LIMBS }> =
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
const PARAMS_3072: FixedMontyParams<{ U3072::LIMBS }> =
    FixedMontyParams::new_vartime(Odd::<U3072>::from_be_hex(concat!(
        "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74",
        "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437",
        "4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed",
        "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf05",
        "98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb",
        "9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b",
        "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf695581718",
        "3995497cea956ae515d2261898fa051015728e5a8aaac42dad33170d04507a33",
        "a85521abdf1cba64ecfb850458dbef0a8aea71575d060c7db3970f85a6e1e4c7",
        "abf5ae8cdb0933d71e8c94e04a25619dcee3d2261ad2ee6bf12ffa06d98a0864",
        "d87602733ec86a64521f2b18177b200cbbe117577a615d6c770988c0bad946e2",
        "08e24fa074e5ab3143db5bfce0fd108e4b82d120a93ad2caffffffffffffffff",
    )));
const PARAMS_4096: FixedMontyParams<{ U4096::LIMBS }> =
    FixedMontyParams::new_vartime(Odd::<U4096>::from_be_hex(concat!(
        "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74",
        "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437",
        "4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed",
        "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf05",
        "98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb",
        "9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b",
        "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf695581718",
        "3995497cea956ae515d2261898fa051015728e5a8aaac42dad33170d04507a33",
        "a85521abdf1cba64ecfb850458dbef0a8aea71575d060c7db3970f85a6e1e4c7",
        "abf5ae8cdb0933d71e8c94e04a25619dcee3d2261ad2ee6bf12ffa06d98a0864",
        "d87602733ec86a64521f2b18177b200cbbe117577a615d6c770988c0bad946e2",
        "08e24fa074e5ab3143db5bfce0fd108e4b82d120a92108011a723c12a787e6d7",
        "88719a10bdba5b2699c327186af4e23c1a946834b6150bda2583e9ca2ad44ce8",
        "dbbbc2db04de8ef92e8efc141fbecaa6287c59474e6bc05d99b2964fa090c3a2",
        "233ba186515be7ed1f612970cee2d7afb81bdd762170481cd0069127d5b05aa9",
        "93b4ea988d8fddc186ffb7dc90a6c08f4df435c934063199ffffffffffffffff",
    )));
const PARAMS_6144: FixedMontyParams<{ U6144::LIMBS }> =
    FixedMontyParams::new_vartime(Odd::<U6144>::from_be_hex(concat!(
        "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74",
        "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437",
        "4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed",
        "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf05",
        "98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb",
        "9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b",
        "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf695581718",
        "3995497cea956ae515d2261898fa051015728e5a8aaac42dad33170d04507a33",
        "a85521abdf1cba64ecfb850458dbef0a8aea71575d060c7db3970f85a6e1e4c7",
        "abf5ae8cdb0933d71e8c94e04a25619dcee3d2261ad2ee6bf12ffa06d98a0864",
        "d87602733ec86a64521f2b18177b200cbbe117577a615d6c770988c0bad946e2",
        "08e24fa074e5ab3143db5bfce0fd108e4b82d120a92108011a723c12a787e6d7",
        "88719a10bdba5b2699c327186af4e23c1a946834b6150bda2583e9ca2ad44ce8",
        "dbbbc2db04de8ef92e8efc141fbecaa6287c59474e6bc05d99b2964fa090c3a2",
        "233ba186515be7ed1f612970cee2d7afb81bdd762170481cd0069127d5b05aa9",
        "93b4ea988d8fddc186ffb7dc90a6c08f4df435c93402849236c3fab4d27c7026",
        "c1d4dcb2602646dec9751e763dba37bdf8ff9406ad9e530ee5db382f413001ae",
        "b06a53ed9027d831179727b0865a8918da3edbebcf9b14ed44ce6cbaced4bb1b",
        "db7f1447e6cc254b332051512bd7af426fb8f401378cd2bf5983ca01c64b92ec",
        "f032ea15d1721d03f482d7ce6e74fef6d55e702f46980c82b5a84031900b1c9e",
        "59e7c97fbec7e8f323a97a7e36cc88be0f1d45b7ff585ac54bd407b22b4154aa",
        "cc8f6d7ebf48e1d814cc5ed20f8037e0a79715eef29be32806a1d58bb7c5da76",
        "f550aa3d8a1fbff0eb19ccb1a313d55cda56c9ec2ef29632387fe8d76e3c0468",
        "043e8f663f4860ee12bf2d5b0b7474d6e694f91e6dcc4024ffffffffffffffff",
    )));
const PARAMS_8192: FixedMontyParams<{ U8192::LIMBS }> =
    FixedMontyParams::new_vartime(Odd::<U8192>::from_be_hex(concat!(
        "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74",
        "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437",
        "4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed",
        "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf05",
        "98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb",
        "9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b",
        "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf695581718",
        "3995497cea956ae515d2261898fa051015728e5a8aaac42dad33170d04507a33",
        "a85521abdf1cba64ecfb850458dbef0a8aea71575d060c7db3970f85a6e1e4c7",
        "abf5ae8cdb0933d71e8c94e04a25619dcee3d2261ad2ee6bf12ffa06d98a0864",
        "d87602733ec86a64521f2b18177b200cbbe117577a615d6c770988c0bad946e2",
        "08e24fa074e5ab3143db5bfce0fd108e4b82d120a92108011a723c12a787e6d7",
        "88719a10bdba5b2699c327186af4e23c1a946834b6150bda2583e9ca2ad44ce8",
        "dbbbc2db04de8ef92e8efc141fbecaa6287c59474e6bc05d99b2964fa090c3a2",
        "233ba186515be7ed1f612970cee2d7afb81bdd762170481cd0069127d5b05aa9",
        "93b4ea988d8fddc186ffb7dc90a6c08f4df435c93402849236c3fab4d27c7026",
        "c1d4dcb2602646dec9751e763dba37bdf8ff9406ad9e530ee5db382f413001ae",
        "b06a53ed9027d831179727b0865a8918da3edbebcf9b14ed44ce6cbaced4bb1b",
        "db7f1447e6cc254b332051512bd7af426fb8f401378cd2bf5983ca01c64b92ec",
        "f032ea15d1721d03f482d7ce6e74fef6d55e702f46980c82b5a84031900b1c9e",
        "59e7c97fbec7e8f323a97a7e36cc88be0f1d45b7ff585ac54bd407b22b4154aa",
        "cc8f6d7ebf48e1d814cc5ed20f8037e0a79715eef29be32806a1d58bb7c5da76",
        "f550aa3d8a1fbff0eb19ccb1a313d55cda56c9ec2ef29632387fe8d76e3c0468",
        "043e8f663f4860ee12bf2d5b0b7474d6e694f91e6dbe115974a3926f12fee5e4",
        "38777cb6a932df8cd8bec4d073b931ba3bc832b68d9dd300741fa7bf8afc47ed",
        "2576f6936ba424663aab639c5ae4f5683423b4742bf1c978238f16cbe39d652d",
        "e3fdb8befc848ad922222e04a4037c0713eb57a81a23f0c73473fc646cea306b",
        "4bcbc8862f8385ddfa9d4b7fa2c087e879683303ed5bdd3a062b3cf5b3a278a6",
        "6d2a13f83f44f82ddf310ee074ab6a364597e899a0255dc164f31cc50846851d",
        "f9ab48195ded7ea1b1d510bd7ee74d73faf36bc31ecfa268359046f4eb879f92",
        "4009438b481c6cd7889a002ed5ee382bc9190da6fc026e479558e4475677e9aa",
        "9e3050e2765694dfc81f56e880b96e7160c980dd98edd3dfffffffffffffffff",
    )));

// Made when first needed: a group that nobody uses costs nothing.
static COMB_1024: LazyLock<Comb<{ U1024::LIMBS }>> =
    LazyLock::new(|| Comb::new(&PARAMS_1024, exponent_bits(Group::Modp1024)));
static COMB_1536: LazyLock<Comb<{ U1536::LIMBS }>> =
    LazyLock::new(|| Comb::new(&PARAMS_1536, exponent_bits(Group::Modp1536)));
static COMB_2048: LazyLock<Comb<{ U2048::LIMBS }>> =
    LazyLock::new(|| Comb::new(&PARAMS_2048, exponent_bits(Group::Modp2048)));
static COMB_3072: LazyLock<Comb<{ U3072::LIMBS }>> =
    LazyLock::new(|| Comb::new(&PARAMS_3072, exponent_bits(Group::Modp3072)));
static COMB_4096: LazyLock<Comb<{ U4096::LIMBS }>> =
    LazyLock::new(|| Comb::new(&PARAMS_4096, exponent_bits(Group::Modp4096)));
static COMB_6144: LazyLock<Comb<{ U6144::LIMBS }>> =
    LazyLock::new(|| Comb::new(&PARAMS_6144, exponent_bits(Group::Modp6144)));
static COMB_8192: LazyLock<Comb<{ U8192::LIMBS }>> =
    LazyLock::new(|| Comb::new(&PARAMS_8192, exponent_bits(Group::Modp8192)));

/// Longest exponent.
const EXPONENT_LEN_BYTES: usize = 64;

/// An ephemeral exponent.
pub(crate) struct Exponent {
    group: Group,
    value: Zeroizing<U512>,
}

/// More than twice the group's strength (RFC 3526 section 8), each used once.
fn exponent_bits(group: Group) -> u32 {
    match group {
        Group::Modp1024 | Group::Modp1536 => 256,
        Group::Modp2048 | Group::Modp3072 => 384,
        _ => 512,
    }
}

impl Exponent {
    pub(crate) fn new(group: Group, random: &mut Random) -> Self {
        let mut bytes = Zeroizing::new([0; EXPONENT_LEN_BYTES]);
        let len = exponent_bits(group) as usize / 8;
        let (_, used) = bytes.split_at_mut(EXPONENT_LEN_BYTES.saturating_sub(len));
        used.copy_from_slice(&random.secret(used.len()));
        Self::from_bytes(group, &bytes)
    }

    fn from_bytes(group: Group, bytes: &[u8; EXPONENT_LEN_BYTES]) -> Self {
        Self { group, value: Zeroizing::new(U512::from_be_slice(bytes)) }
    }

    /// `None` only for a group of another kind.
    pub(crate) fn public(&self) -> Option<Vec<u8>> {
        let exponent = &*self.value;
        let public = match self.group {
            Group::Modp1024 => to_bytes(&COMB_1024.power(&PARAMS_1024, exponent)),
            Group::Modp1536 => to_bytes(&COMB_1536.power(&PARAMS_1536, exponent)),
            Group::Modp2048 => to_bytes(&COMB_2048.power(&PARAMS_2048, exponent)),
            Group::Modp3072 => to_bytes(&COMB_3072.power(&PARAMS_3072, exponent)),
            Group::Modp4096 => to_bytes(&COMB_4096.power(&PARAMS_4096, exponent)),
            Group::Modp6144 => to_bytes(&COMB_6144.power(&PARAMS_6144, exponent)),
            Group::Modp8192 => to_bytes(&COMB_8192.power(&PARAMS_8192, exponent)),
            Group::EcpP256 | Group::EcpP384 | Group::EcpP521 | Group::Curve25519 => return None,
        };
        Some(public.to_vec())
    }

    /// The shared secret, as long as the prime (RFC 7296 section 3.4; RFC 2409 section 5).
    pub(crate) fn agree(&self, public: &[u8]) -> Result<Secret, CryptoError> {
        match self.group {
            Group::Modp1024 => self.power(&PARAMS_1024, public),
            Group::Modp1536 => self.power(&PARAMS_1536, public),
            Group::Modp2048 => self.power(&PARAMS_2048, public),
            Group::Modp3072 => self.power(&PARAMS_3072, public),
            Group::Modp4096 => self.power(&PARAMS_4096, public),
            Group::Modp6144 => self.power(&PARAMS_6144, public),
            Group::Modp8192 => self.power(&PARAMS_8192, public),
            Group::EcpP256 | Group::EcpP384 | Group::EcpP521 | Group::Curve25519 => {
                Err(CryptoError::InvalidPublicValue)
            }
        }
    }

    fn power<const LIMBS: usize>(
        &self,
        params: &FixedMontyParams<LIMBS>,
        public: &[u8],
    ) -> Result<Secret, CryptoError> {
        if public.len() != Uint::<LIMBS>::BYTES {
            return Err(CryptoError::InvalidPublicValue);
        }
        let base = Uint::<LIMBS>::from_be_slice(public);
        // 0, 1 and p-1 would fix the secret (RFC 6989 section 2.1); the value is public.
        let two = Uint::<LIMBS>::from_u8(2);
        let largest = params.modulus().as_ref().wrapping_sub(&two);
        if base < two || base > largest {
            return Err(CryptoError::InvalidPublicValue);
        }
        let power =
            FixedMontyForm::new(&base, params).pow_bounded_exp(&*self.value, exponent_bits(self.group));
        Ok(to_bytes(&power))
    }
}

/// As long as the prime.
fn to_bytes<const LIMBS: usize>(power: &FixedMontyForm<LIMBS>) -> Secret {
    let value = Zeroizing::new(power.retrieve());
    let words = value.as_words().iter().rev();
    Zeroizing::new(words.flat_map(|word| word.to_be_bytes()).collect())
}

#[cfg(test)]
pub(crate) fn exponent_for_test(group: Group, bytes: &[u8]) -> Exponent {
    let mut padded = [0; EXPONENT_LEN_BYTES];
    padded[EXPONENT_LEN_BYTES - bytes.len()..].copy_from_slice(bytes);
    Exponent::from_bytes(group, &padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the comb and by plain exponentiation of 2, for exponents of every shape.
    #[test]
    fn a_public_value_is_two_to_the_exponent() {
        let groups = [
            Group::Modp1024,
            Group::Modp1536,
            Group::Modp2048,
            Group::Modp3072,
            Group::Modp4096,
            Group::Modp6144,
            Group::Modp8192,
        ];
        let mut random = Random::new([7; 32]);
        for group in groups {
            let len = exponent_bits(group) as usize / 8;
            let mut two = vec![0; group.public_len_bytes()];
            *two.last_mut().unwrap() = 2;
            let mut exponents: Vec<Vec<u8>> = (0..4).map(|_| random.secret(len).to_vec()).collect();
            exponents.extend([
                vec![0; len],
                vec![0xff; len],
                [vec![0x80], vec![0; len - 1]].concat(),
                vec![1],
            ]);
            for bytes in exponents {
                let exponent = exponent_for_test(group, &bytes);
                assert_eq!(exponent.public().unwrap(), exponent.agree(&two).unwrap().to_vec(), "{group:?}");
            }
        }
    }
}
