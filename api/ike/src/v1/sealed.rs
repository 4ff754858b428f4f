//! Encrypted messages and their chains of IVs (RFC 2409 appendix B).

use zeroize::Zeroizing;

use super::initiate::sole;
use super::proof::Refusal;
use super::received::Received;
use crate::crypto::{PhaseOneKeys, Secret, equal};
use crate::wire::isakmp::{Header, Payload, decode_chain, encode_chain, registry::payload as kind};

/// The IV of the next message of an exchange: the last block of the one before.
#[derive(Clone)]
pub(super) struct IvChain(Vec<u8>);

impl IvChain {
    /// Of phase 1: `hash(g^xi | g^xr)`.
    pub(super) fn phase_one(keys: &PhaseOneKeys, public_i: &[u8], public_r: &[u8]) -> Self {
        Self(keys.first_iv(&[public_i, public_r]))
    }

    /// Of a later exchange: `hash(last block of phase 1 | message id)`.
    pub(super) fn exchange(keys: &PhaseOneKeys, phase_one: &Self, message_id: u32) -> Self {
        Self(keys.first_iv(&[&phase_one.0, &message_id.to_be_bytes()]))
    }

    /// That of phase 1, as it is kept.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// That of phase 1 as it was kept, if it is one for this cipher.
    pub(super) fn resumed(keys: &PhaseOneKeys, block: &[u8]) -> Option<Self> {
        (block.len() == keys.cipher.block_len_bytes()).then(|| Self(block.to_vec()))
    }

    fn follow(&mut self, sealed: &[u8]) {
        if let Some(at) = sealed.len().checked_sub(self.0.len()) {
            self.0 = sealed.iter().copied().skip(at).collect();
        }
    }
}

/// What was decrypted. Nothing says yet that it is what the peer wrote: payloads come out only for the right hash.
pub(super) struct Unverified {
    payloads: Vec<Payload>,
    plain: Secret,
    next: IvChain,
}

/// Payloads whose hash was right.
pub(super) struct Verified {
    /// All, the HASH payload too.
    pub(super) payloads: Vec<Payload>,
    pub(super) next: IvChain,
}

/// Generic header of the HASH payload.
const PAYLOAD_HEADER_LEN_BYTES: usize = 4;

impl Unverified {
    /// For phase 2 and informational exchanges, where HASH comes first and covers what follows it.
    pub(super) fn verify(self, expected: impl FnOnce(&[u8]) -> Secret) -> Option<Verified> {
        let hash = self.payloads.first().filter(|first| first.kind == kind::HASH)?;
        let covered = self.plain.get(hash.body.len().checked_add(PAYLOAD_HEADER_LEN_BYTES)?..)?;
        let right = equal(&hash.body, &expected(covered));
        right.then_some(Verified { payloads: self.payloads, next: self.next })
    }

    /// For the last messages of phase 1, whose proof covers the body of the ID payload and what went before: `judge` gets
    /// all payloads, and that body.
    pub(super) fn judge_identity<T>(
        self,
        judge: impl FnOnce(&[Payload], &[u8]) -> Result<T, Refusal>,
    ) -> Result<(Verified, T), Refusal> {
        self.judge(|payloads| {
            let identity = sole(payloads, kind::ID).ok_or(Refusal::Unproven)?;
            judge(payloads, identity)
        })
    }

    /// Likewise where the identity is known already.
    pub(super) fn judge<T>(
        self,
        judge: impl FnOnce(&[Payload]) -> Result<T, Refusal>,
    ) -> Result<(Verified, T), Refusal> {
        let judged = judge(&self.payloads)?;
        Ok((Verified { payloads: self.payloads, next: self.next }, judged))
    }
}

/// Decrypts the body of a message, if it is one.
pub(super) fn open(keys: &PhaseOneKeys, chain: &IvChain, received: &Received<'_>) -> Option<Unverified> {
    let Received { header, body, .. } = *received;
    if !header.encrypted || body.is_empty() {
        return None;
    }
    let mut plain = Zeroizing::new(body.to_vec());
    keys.cipher.decrypt(keys.encryption_key(), &chain.0, &mut plain).ok()?;
    let (payloads, padding) = decode_chain(header.first, &plain).ok()?;
    let used = plain.len().checked_sub(padding.len())?;
    plain.truncate(used);
    let mut next = chain.clone();
    next.follow(body);
    Some(Unverified { payloads, plain, next })
}

/// Encrypts payloads into a message; the chain moves on.
pub(super) fn seal(
    keys: &PhaseOneKeys,
    chain: &mut IvChain,
    header: Header,
    payloads: &[Payload],
) -> Vec<u8> {
    let (first, plain) = encode_chain(payloads);
    let mut body = Zeroizing::new(plain);
    let whole = body.len().next_multiple_of(keys.cipher.block_len_bytes());
    body.resize(whole, 0);
    // Lengths are right by what stands above.
    let _ = keys.cipher.encrypt(keys.encryption_key(), &chain.0, &mut body);
    chain.follow(&body);
    Header { first, encrypted: true, ..header }.encode(&body)
}

/// A HASH payload and those that it covers: `HASH(n) = prf(SKEYID_a, before | payloads)`.
pub(super) fn with_hash(keys: &PhaseOneKeys, before: &[&[u8]], payloads: Vec<Payload>) -> Vec<Payload> {
    let (_, covered) = encode_chain(&payloads);
    let mut parts = before.to_vec();
    parts.push(&covered);
    let hash = keys.message_hash(&parts).to_vec();
    let mut all = vec![Payload::new(kind::HASH, hash)];
    all.extend(payloads);
    all
}
