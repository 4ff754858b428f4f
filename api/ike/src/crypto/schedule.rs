//! Keys of an IKE SA (RFC 7296 sections 2.14, 2.15 and 2.18).

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{IkeSuite, OpeningKey, SealingKey, Secret, prf, prf_plus};
use crate::{Hash, PreSharedKey};

/// SPIs of an IKE SA: its initiator's and its responder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spis {
    pub(crate) initiator: u64,
    pub(crate) responder: u64,
}

/// The keys of an IKE SA, seen from one end.
pub(crate) struct IkeKeys {
    pub(crate) suite: IkeSuite,
    /// SK_d, of which children and successors come.
    pub(crate) derive: Secret,
    /// SK_pi and SK_pr.
    pub(crate) auth_initiator: Secret,
    pub(crate) auth_responder: Secret,
    pub(crate) sealing: SealingKey,
    pub(crate) opening: OpeningKey,
}

/// SK_d, SK_pi and SK_pr as they are without a post-quantum pre-shared key.
pub(crate) struct PlainKeys {
    pub(crate) derive: Secret,
    pub(crate) auth_initiator: Secret,
    pub(crate) auth_responder: Secret,
}

impl IkeKeys {
    /// `SKEYSEED = prf(Ni | Nr, g^ir)` and all that follows from it.
    pub(crate) fn first(
        suite: IkeSuite,
        initiator: bool,
        shared: &[u8],
        nonces: (&[u8], &[u8]),
        spis: Spis,
    ) -> Self {
        let mut key: Secret = Zeroizing::new(nonces.0.to_vec());
        key.extend_from_slice(nonces.1);
        let seed = prf(suite.prf, &key, &[shared]);
        Self::expand(suite, initiator, &seed, nonces, spis)
    }

    /// `SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr)`, with the old SA's PRF (section 2.18).
    pub(crate) fn successor(
        &self,
        suite: IkeSuite,
        initiator: bool,
        shared: &[u8],
        nonces: (&[u8], &[u8]),
        spis: Spis,
    ) -> Self {
        self.successor_with(suite, initiator, (shared, &[]), nonces, spis)
    }

    /// Likewise with the secrets of additional key exchanges, one behind the other (RFC 9370 section 2.2.4):
    /// `SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr | SK(1) | ... | SK(n))`.
    pub(crate) fn successor_with(
        &self,
        suite: IkeSuite,
        initiator: bool,
        (shared, added): (&[u8], &[u8]),
        nonces: (&[u8], &[u8]),
        spis: Spis,
    ) -> Self {
        let seed = prf(self.suite.prf, &self.derive, &[shared, nonces.0, nonces.1, added]);
        Self::expand(suite, initiator, &seed, nonces, spis)
    }

    /// Mixes a post-quantum pre-shared key into what authenticates and derives (RFC 8784 section 3); gives what was there
    /// before.
    pub(crate) fn mix(&mut self, ppk: &PreSharedKey) -> PlainKeys {
        let hash = self.suite.prf;
        let mixed = |key: &Secret| prf_plus(hash, &ppk.0, &[key], hash.len_bytes());
        let mixed = PlainKeys {
            derive: mixed(&self.derive),
            auth_initiator: mixed(&self.auth_initiator),
            auth_responder: mixed(&self.auth_responder),
        };
        #[cfg(feature = "key-log")]
        crate::key_log::mixed(crate::key_log::MixedRecord {
            sk_d: mixed.derive.to_vec(),
            sk_p: [mixed.auth_initiator.to_vec(), mixed.auth_responder.to_vec()],
        });
        self.swap(mixed)
    }

    /// Puts other keys in their place; gives those that were there.
    pub(crate) fn swap(&mut self, keys: PlainKeys) -> PlainKeys {
        PlainKeys {
            derive: std::mem::replace(&mut self.derive, keys.derive),
            auth_initiator: std::mem::replace(&mut self.auth_initiator, keys.auth_initiator),
            auth_responder: std::mem::replace(&mut self.auth_responder, keys.auth_responder),
        }
    }

    fn expand(suite: IkeSuite, initiator: bool, seed: &[u8], nonces: (&[u8], &[u8]), spis: Spis) -> Self {
        let prf_len = suite.prf.len_bytes();
        let integrity_len = suite.cipher.integrity_key_len_bytes();
        let encryption_len = suite.cipher.encryption_key_len_bytes();
        // SK_d; SK_a and SK_e of both directions; SK_p of both.
        let of_direction = prf_len.saturating_add(integrity_len).saturating_add(encryption_len);
        let total = of_direction.saturating_mul(2).saturating_add(prf_len);
        let spi_i = spis.initiator.to_be_bytes();
        let spi_r = spis.responder.to_be_bytes();
        let stream = prf_plus(suite.prf, seed, &[nonces.0, nonces.1, &spi_i, &spi_r], total);
        let mut rest = stream.as_slice();
        let mut next = |len: usize| -> Secret {
            let (taken, left) = rest.split_at(len);
            rest = left;
            Zeroizing::new(taken.to_vec())
        };
        let derive = next(prf_len);
        let (integrity_i, integrity_r) = (next(integrity_len), next(integrity_len));
        let (encryption_i, encryption_r) = (next(encryption_len), next(encryption_len));
        let (auth_initiator, auth_responder) = (next(prf_len), next(prf_len));
        #[cfg(feature = "key-log")]
        crate::key_log::record(crate::key_log::KeyRecord {
            spi_i: spis.initiator,
            spi_r: spis.responder,
            suite,
            sk_d: derive.to_vec(),
            sk_a: [integrity_i.to_vec(), integrity_r.to_vec()],
            sk_e: [encryption_i.to_vec(), encryption_r.to_vec()],
            sk_p: [auth_initiator.to_vec(), auth_responder.to_vec()],
        });
        let (ours, theirs) = if initiator {
            ((encryption_i, integrity_i), (encryption_r, integrity_r))
        } else {
            ((encryption_r, integrity_r), (encryption_i, integrity_i))
        };
        Self {
            suite,
            derive,
            auth_initiator,
            auth_responder,
            sealing: SealingKey::new(suite.cipher, ours.0, ours.1),
            opening: OpeningKey::new(suite.cipher, theirs.0, theirs.1),
        }
    }
}

/// The AUTH value of a pre-shared key (section 2.15):
/// `prf(prf(PSK, "Key Pad for IKEv2"), message | peer's nonce | prf(SK_p, IDx'))`.
pub(crate) struct SharedKeyAuth<'a> {
    pub(crate) prf: Hash,
    /// The signer's SK_pi or SK_pr.
    pub(crate) sk_p: &'a [u8],
    /// The signer's IKE_SA_INIT message as sent.
    pub(crate) message: &'a [u8],
    /// The nonce of the other side.
    pub(crate) nonce: &'a [u8],
    /// Body of the signer's ID payload.
    pub(crate) identity: &'a [u8],
    /// What both ends said in IKE_INTERMEDIATE (RFC 9242 section 3.3.2); empty without.
    pub(crate) intermediate: &'a [u8],
}

impl SharedKeyAuth<'_> {
    pub(crate) fn value(&self, key: &PreSharedKey) -> Secret {
        let padded = prf(self.prf, &key.0, &[b"Key Pad for IKEv2"]);
        prf(self.prf, &padded, &[&self.octets()])
    }

    /// InitiatorSignedOctets or ResponderSignedOctets: what a signature covers.
    pub(crate) fn octets(&self) -> Vec<u8> {
        let identity = prf(self.prf, self.sk_p, &[self.identity]);
        [self.message, self.nonce, identity.as_slice(), self.intermediate].concat()
    }

    pub(crate) fn verify(&self, key: &PreSharedKey, presented: &[u8]) -> bool {
        self.value(key).as_slice().ct_eq(presented).into()
    }
}
