//! Sealing secrets at rest with AES-256-GCM.

use std::fmt;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, Key, KeyInit, Nonce};
use hmac::{Hmac, Mac};
use model::Secret;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::Sha256;
use zeroize::Zeroizing;

/// A sealed secret, as it stands in its row.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) nonce: Vec<u8>,
    pub(crate) ciphertext: Vec<u8>,
}

/// Where a sealed secret stands; it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Kind of the resource, or the table of a secret without one.
    pub(crate) table: &'a str,
    /// Name of the resource.
    pub(crate) name: &'a str,
    /// The field.
    pub(crate) column: &'a str,
}

/// Why a secret could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
    /// The cipher refused.
    #[error("sealing failed")]
    Seal,
    /// Another key, another place, or changed bytes.
    #[error("the sealed value does not open: another master key, another row, or changed bytes")]
    Open,
}

/// Seals and opens under keys that are derived from the master key, one for each purpose.
pub(crate) struct Sealer {
    cipher: Aes256Gcm,
    fingerprints: Hmac<Sha256>,
}

impl Sealer {
    pub(crate) fn new(master_key: &[u8; 32]) -> Self {
        let sealing = derive(master_key, b"culvert sealing 1");
        let fingerprints = derive(master_key, b"culvert fingerprints 1");
        Self { cipher: Aes256Gcm::new(&Key::<Aes256Gcm>::from(*sealing)), fingerprints: keyed(&fingerprints) }
    }

    pub(crate) fn seal(&self, place: Place<'_>, secret: &[u8]) -> Result<Sealed, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        SysRng.try_fill_bytes(&mut nonce).map_err(|_| SealError::Randomness)?;
        let aad = place.additional_data();
        let ciphertext = self
            .cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: secret, aad: &aad })
            .map_err(|_| SealError::Seal)?;
        Ok(Sealed { nonce: nonce.to_vec(), ciphertext })
    }

    pub(crate) fn open(&self, place: Place<'_>, sealed: &Sealed) -> Result<Secret, SealError> {
        let nonce: [u8; NONCE_BYTES] = sealed.nonce.as_slice().try_into().map_err(|_| SealError::Open)?;
        let aad = place.additional_data();
        self.cipher
            .decrypt(&Nonce::from(nonce), Payload { msg: &sealed.ciphertext, aad: &aad })
            .map(|bytes| Secret::from_bytes(Zeroizing::new(bytes)))
            .map_err(|_| SealError::Open)
    }

    /// Tells equal secrets from different ones; of no use to anyone who tries to guess a secret without the key.
    pub(crate) fn fingerprint(&self, secret: &Secret) -> String {
        let mut mac = self.fingerprints.clone();
        mac.update(secret.expose());
        let digest = mac.finalize().into_bytes();
        digest.iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Place<'_> {
    /// Names bear no slash, so that no two places have the same data.
    fn additional_data(&self) -> Vec<u8> {
        format!("{}/{}/{}", self.table, self.name, self.column).into_bytes()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

const NONCE_BYTES: usize = 12;
const FINGERPRINT_BYTES: usize = 8;

fn derive(master_key: &[u8; 32], purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac: Hmac<Sha256> = keyed(master_key);
    mac.update(purpose);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC pads a key shorter than its block with zeroes (RFC 2104), which makes this infallible.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    <Hmac<Sha256> as hmac::KeyInit>::new(&(*block).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { table: "pre-shared-keys", name: "a", column: "key" };

    #[test]
    fn a_sealed_secret_opens_only_where_it_stands() {
        let sealer = Sealer::new(&[7; 32]);
        let sealed = sealer.seal(PLACE, b"swordfish").unwrap();
        assert_eq!(sealer.open(PLACE, &sealed).unwrap().expose(), b"swordfish");
        for elsewhere in [
            Place { name: "b", ..PLACE },
            Place { table: "tunnels", ..PLACE },
            Place { column: "other", ..PLACE },
        ] {
            assert_eq!(sealer.open(elsewhere, &sealed).err(), Some(SealError::Open));
        }
        assert_eq!(Sealer::new(&[8; 32]).open(PLACE, &sealed).err(), Some(SealError::Open));
    }

    #[test]
    fn changed_bytes_do_not_open() {
        let sealer = Sealer::new(&[7; 32]);
        let mut sealed = sealer.seal(PLACE, b"swordfish").unwrap();
        sealed.ciphertext[0] ^= 1;
        assert_eq!(sealer.open(PLACE, &sealed).err(), Some(SealError::Open));
    }

    #[test]
    fn a_secret_is_never_sealed_twice_alike_but_has_one_fingerprint() {
        let sealer = Sealer::new(&[7; 32]);
        assert!(sealer.seal(PLACE, b"swordfish").unwrap() != sealer.seal(PLACE, b"swordfish").unwrap());
        let secret = |text| Secret::from_text(text).unwrap();
        assert_eq!(sealer.fingerprint(&secret("swordfish")), sealer.fingerprint(&secret("swordfish")));
        assert_ne!(sealer.fingerprint(&secret("swordfish")), sealer.fingerprint(&secret("swordfisj")));
        assert_ne!(
            sealer.fingerprint(&secret("swordfish")),
            Sealer::new(&[8; 32]).fingerprint(&secret("swordfish")),
            "the fingerprint is keyed"
        );
    }
}
