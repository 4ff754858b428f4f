//! Keys of an ISAKMP SA and of what it makes (RFC 2409 section 5 and appendix B).

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::prf::digest;
use super::{CbcCipher, Secret, Spis, prf};
use crate::{Hash, PreSharedKey};

/// SKEYID and what comes of it.
pub(crate) struct PhaseOneKeys {
    pub(crate) hash: Hash,
    pub(crate) cipher: CbcCipher,
    identity: Secret,
    derive: Secret,
    authenticate: Secret,
    encrypt: Secret,
}

/// What the exchange gave to key and to authenticate it.
#[derive(Clone, Copy)]
pub(crate) struct PhaseOneFacts<'a> {
    pub(crate) cookies: Spis,
    /// Nonces of the initiator and the responder.
    pub(crate) nonces: (&'a [u8], &'a [u8]),
    /// `g^xy`.
    pub(crate) shared: &'a [u8],
}

impl PhaseOneKeys {
    /// `SKEYID = prf(pre-shared-key, Ni_b | Nr_b)`; where the ends sign, `prf(Ni_b | Nr_b, g^xy)`.
    pub(crate) fn new(
        hash: Hash,
        cipher: CbcCipher,
        key: Option<&PreSharedKey>,
        facts: PhaseOneFacts<'_>,
    ) -> Self {
        let identity = match key {
            Some(key) => prf(hash, &key.0, &[facts.nonces.0, facts.nonces.1]),
            None => prf(hash, &[facts.nonces.0, facts.nonces.1].concat(), &[facts.shared]),
        };
        let cookie_i = facts.cookies.initiator.to_be_bytes();
        let cookie_r = facts.cookies.responder.to_be_bytes();
        let next = |previous: &[u8], number: u8| {
            prf(hash, &identity, &[previous, facts.shared, &cookie_i, &cookie_r, &[number]])
        };
        let derive = next(&[], 0);
        let authenticate = next(&derive, 1);
        let encrypting = next(&authenticate, 2);
        let encrypt = stretch(hash, &encrypting, cipher.key_len_bytes());
        #[cfg(feature = "key-log")]
        crate::key_log::phase_one(crate::key_log::PhaseOneRecord::new(
            facts.cookies,
            &identity,
            [&derive, &authenticate, &encrypting],
            &encrypt,
        ));
        Self { hash, cipher, identity, derive, authenticate, encrypt }
    }

    /// HASH_I, or HASH_R with both pairs in the other order:
    /// `prf(SKEYID, g^x mine | g^x theirs | cookie mine | cookie theirs | SAi_b | ID mine)`.
    pub(crate) fn identity_hash(
        &self,
        hash: Hash,
        publics: (&[u8], &[u8]),
        cookies: (u64, u64),
        sa: &[u8],
        identity: &[u8],
    ) -> Secret {
        let cookies = (cookies.0.to_be_bytes(), cookies.1.to_be_bytes());
        prf(hash, &self.identity, &[publics.0, publics.1, &cookies.0, &cookies.1, sa, identity])
    }

    /// `prf(SKEYID_a, ...)`: HASH(1), (2) and (3) of quick mode, HASH(1) of an informational exchange.
    pub(crate) fn message_hash(&self, parts: &[&[u8]]) -> Secret {
        prf(self.hash, &self.authenticate, parts)
    }

    /// KEYMAT of one direction: `prf(SKEYID_d, [g(qm)^xy |] protocol | SPI | Ni_b | Nr_b)`, stretched.
    pub(crate) fn key_material(&self, seed: &[&[u8]], len_bytes: usize) -> Secret {
        let mut stream: Secret =
            Zeroizing::new(Vec::with_capacity(len_bytes.saturating_add(self.hash.len_bytes())));
        let mut block: Secret = Zeroizing::new(Vec::new());
        // Each round gives 16 octets or more.
        for _ in 0..=len_bytes / 16 {
            let mut parts: Vec<&[u8]> = vec![&block];
            parts.extend_from_slice(seed);
            let next = prf(self.hash, &self.derive, &parts);
            drop(parts);
            block = next;
            stream.extend_from_slice(&block);
        }
        stream.truncate(len_bytes);
        stream
    }

    /// The first IV of phase 1: `hash(g^xi | g^xr)`; of another exchange: `hash(last block of phase 1 | message id)`.
    pub(crate) fn first_iv(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut iv = digest(self.hash, parts).to_vec();
        iv.truncate(self.cipher.block_len_bytes());
        iv
    }

    pub(crate) fn encryption_key(&self) -> &[u8] {
        &self.encrypt
    }

    /// SKEYID_d.
    pub(crate) fn derive_key(&self) -> &Secret {
        &self.derive
    }

    /// SKEYID_d, SKEYID_a and the key that SKEYID_e gave.
    pub(super) fn lasting(&self) -> [&Secret; 3] {
        [&self.derive, &self.authenticate, &self.encrypt]
    }

    /// Keys without SKEYID itself, which serves phase 1 alone.
    pub(super) fn after_phase_one(hash: Hash, cipher: CbcCipher, lasting: [Secret; 3]) -> Self {
        let [derive, authenticate, encrypt] = lasting;
        Self { hash, cipher, identity: Secret::default(), derive, authenticate, encrypt }
    }
}

/// NAT-D payloads are made with the negotiated hash (RFC 3947 section 3.2).
pub(crate) fn nat_digest(hash: Hash, parts: &[&[u8]]) -> Vec<u8> {
    digest(hash, parts).to_vec()
}

pub(crate) fn equal(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// Appendix B: a key longer than SKEYID_e is `K1 | K2 | ...`, `K1 = prf(SKEYID_e, 0)`, `K2 = prf(SKEYID_e, K1)`.
fn stretch(hash: Hash, key: &Secret, len_bytes: usize) -> Secret {
    if key.len() >= len_bytes {
        return Zeroizing::new(key.iter().copied().take(len_bytes).collect());
    }
    let mut stream: Secret = Zeroizing::new(Vec::with_capacity(len_bytes.saturating_add(hash.len_bytes())));
    let mut block = prf(hash, key, &[&[0]]);
    while stream.len() < len_bytes {
        stream.extend_from_slice(&block);
        block = prf(hash, key, &[&block]);
    }
    stream.truncate(len_bytes);
    stream
}
