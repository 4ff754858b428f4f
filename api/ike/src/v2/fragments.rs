//! Reassembly of messages that came in fragments (RFC 7383 section 2.6).
//!
//! Only what is authentic is kept: a piece is decrypted before it is stored, so a stranger can neither fill the table nor
//! put a piece of his own in the place of a true one.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::sa::{Inbound, RequestDigest};
use crate::crypto::{MAX_FRAGMENTS, OpeningKey, Secret};
use crate::wire::{Fragment, Header, Payload};

/// Longest message that is put together.
const MAX_REASSEMBLED_BYTES: usize = 65_536;

/// Length of the IKE header and of the first two octets of the Encrypted payload.
pub(super) const HEAD_LEN_BYTES: usize = 30;

/// A protected message, opened.
pub(crate) struct Opened {
    /// Type of the first payload inside.
    pub(crate) first: u8,
    /// The chain of payloads.
    pub(crate) plain: Secret,
    /// Of the datagram, or of the first fragment, by which a retransmission is known.
    pub(crate) digest: RequestDigest,
    /// How the datagram, or the first fragment, begins.
    pub(crate) head: [u8; HEAD_LEN_BYTES],
    /// No payload stands in clear beside the encrypted ones.
    pub(crate) alone: bool,
}

/// Whether the two ends agreed on fragments, and what of them waits for the rest.
#[derive(Default)]
pub(crate) struct Fragments {
    pub(crate) agreed: bool,
    request: Option<Partial>,
    response: Option<Partial>,
}

/// What the first fragment says of the whole.
struct Head {
    first: u8,
    digest: RequestDigest,
    bytes: [u8; HEAD_LEN_BYTES],
    alone: bool,
}

impl Head {
    fn new(first: u8, inbound: &Inbound<'_>) -> Result<Self, &'static str> {
        let bytes = *inbound.bytes.first_chunk().ok_or("truncated")?;
        let alone = inbound.message.payloads.len() == 1;
        Ok(Self { first, digest: RequestDigest::new(inbound.bytes), bytes, alone })
    }

    fn of(self, plain: Secret) -> Opened {
        Opened { first: self.first, plain, digest: self.digest, head: self.bytes, alone: self.alone }
    }
}

/// The authentic pieces of one message.
struct Partial {
    message_id: u32,
    total: u16,
    head: Option<Head>,
    pieces: BTreeMap<u16, Secret>,
    len_bytes: usize,
}

impl Fragments {
    /// For an SA whose IKE_SA_INIT settled whether there are fragments.
    pub(crate) fn new(agreed: bool) -> Self {
        Self { agreed, request: None, response: None }
    }

    /// Opens a message whose id is in the window. `Err` names why nothing came of it; a fragment that was stored is none
    /// of these, but the message waits for more.
    pub(crate) fn open(
        &mut self,
        opening: &OpeningKey,
        inbound: &Inbound<'_>,
    ) -> Result<Option<Opened>, &'static str> {
        match inbound.message.payloads.last() {
            Some(Payload::Encrypted(encrypted)) => {
                let plain = opening.open(inbound.bytes, &encrypted.body).map_err(|_| "integrity")?;
                *self.place(&inbound.message.header) = None;
                Ok(Some(Head::new(encrypted.first, inbound)?.of(plain)))
            }
            Some(Payload::Fragment(fragment)) => self.add(opening, inbound, fragment),
            _ => Err("unprotected"),
        }
    }

    fn place(&mut self, header: &Header) -> &mut Option<Partial> {
        if header.response { &mut self.response } else { &mut self.request }
    }

    fn add(
        &mut self,
        opening: &OpeningKey,
        inbound: &Inbound<'_>,
        fragment: &Fragment,
    ) -> Result<Option<Opened>, &'static str> {
        if !self.agreed {
            return Err("fragment_not_agreed");
        }
        if usize::from(fragment.total) > MAX_FRAGMENTS {
            return Err("too_many_fragments");
        }
        let message_id = inbound.message.header.message_id;
        let place = self.place(&inbound.message.header);
        let known = place.as_ref().filter(|partial| partial.message_id == message_id);
        if let Some(partial) = known {
            // A sender that found the path narrower cuts again, into more pieces; fewer are those of before.
            if fragment.total < partial.total {
                return Err("fragment_outdated");
            }
            if fragment.total == partial.total && partial.pieces.contains_key(&fragment.number) {
                return Err("fragment_repeated");
            }
        }
        let plain = opening.open(inbound.bytes, &fragment.body).map_err(|_| "integrity")?;
        let fits = known.is_some_and(|partial| partial.total == fragment.total);
        let mut partial = place.take().filter(|_| fits).unwrap_or_else(|| Partial {
            message_id,
            total: fragment.total,
            head: None,
            pieces: BTreeMap::new(),
            len_bytes: 0,
        });
        partial.len_bytes = partial.len_bytes.saturating_add(plain.len());
        if partial.len_bytes > MAX_REASSEMBLED_BYTES {
            return Err("fragments_too_long");
        }
        if fragment.number == 1 {
            partial.head = Some(Head::new(fragment.first, inbound)?);
        }
        partial.pieces.insert(fragment.number, plain);
        if partial.pieces.len() < usize::from(partial.total) {
            *place = Some(partial);
            return Ok(None);
        }
        let Some(head) = partial.head else { return Err("bad_fragment") };
        let mut whole = Zeroizing::new(Vec::with_capacity(partial.len_bytes));
        for piece in partial.pieces.values() {
            whole.extend_from_slice(piece);
        }
        Ok(Some(head.of(whole)))
    }
}

/// Whether a request whose id was accepted before asks for its answer again. The same datagram does. Of a message in
/// fragments only the first one does, even if it was cut anew; then it must be authentic (RFC 7383 section 2.6.1).
pub(super) fn asks_again(
    known: Option<&RequestDigest>,
    opening: &OpeningKey,
    inbound: &Inbound<'_>,
    agreed: bool,
) -> bool {
    if let Some(Payload::Fragment(fragment)) = inbound.message.payloads.last() {
        if fragment.number != 1 || !agreed {
            return false;
        }
        return known == Some(&RequestDigest::new(inbound.bytes))
            || opening.open(inbound.bytes, &fragment.body).is_ok();
    }
    known == Some(&RequestDigest::new(inbound.bytes))
}

#[cfg(test)]
#[path = "fragments_tests.rs"]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a test may fail by panicking"
)]
mod tests;
