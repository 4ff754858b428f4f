//! Keying material of child SAs (RFC 7296 section 2.17).

use zeroize::Zeroizing;

use super::prf_plus;
use crate::{EspEncryption, EspKeys, Hash};

/// What was chosen for a pair of ESP SAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EspSuite {
    pub(crate) encryption: EspEncryption,
    pub(crate) esn: bool,
}

/// Length of the GCM salt (RFC 4106 section 8.1).
const SALT_LEN_BYTES: usize = 4;

/// Keys for what the exchange's initiator sends, then for what its responder sends. `seed` is the new shared secret,
/// if any, and both nonces.
pub(crate) fn child_keys(
    prf: Hash,
    sk_d: &[u8],
    seed: &[&[u8]],
    encryption: EspEncryption,
) -> (EspKeys, EspKeys) {
    let key_len_bytes = match encryption {
        EspEncryption::Aes128Gcm16 => 16,
        EspEncryption::Aes256Gcm16 => 32,
    };
    let direction_len_bytes = key_len_bytes + SALT_LEN_BYTES;
    let stream = prf_plus(prf, sk_d, seed, 2 * direction_len_bytes);
    let (initiator, responder) = stream.split_at(direction_len_bytes);
    let keys = |bytes: &[u8]| {
        let (key, salt) = bytes.split_at(key_len_bytes);
        EspKeys { key: Zeroizing::new(key.to_vec()), salt: Zeroizing::new(salt.to_vec()) }
    };
    (keys(initiator), keys(responder))
}
