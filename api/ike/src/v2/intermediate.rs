//! IKE_INTERMEDIATE (RFC 9242) bearing additional key exchanges (RFC 9370), both roles.
//!
//! After each of them the keys of the IKE SA are new ones; AUTH covers them all, so that nobody in between can change
//! one, leave one out or make both ends do without.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::auth::{self, HandshakeRequest};
use super::core::Core;
use super::fragments::{HEAD_LEN_BYTES, Opened};
use super::init_answer::AuthAwaited;
use super::payloads::Picked;
use super::sa::{Closed, Ends, Inbound, Stage};
use crate::cert::PeerHashes;
use crate::crypto::{Decapsulator, IkeKeys, Secret, encapsulate, prf};
use crate::exchange::{Due, Retransmission};
use crate::wire::registry::{notify, payload};
use crate::wire::{Exchange, HEADER_LEN_BYTES, Notify, Payload, decode_payloads, encode_payloads};
use crate::{Cause, ChildId, Classified, Connection, KeyEncapsulation, Phase};

/// What the two ends have said in IKE_INTERMEDIATE, as AUTH covers it (RFC 9242 section 3.3.2).
#[derive(Default)]
pub(crate) struct IntAuth {
    from_initiator: Secret,
    from_responder: Secret,
}

impl IntAuth {
    /// Takes in one message, under the keys that protected it. `head` is how its datagram, or its first fragment,
    /// begins; it counts as it would stand before the payloads `plain` in clear and in one piece.
    pub(super) fn add(
        &mut self,
        keys: &IkeKeys,
        from_initiator: bool,
        head: &[u8; HEAD_LEN_BYTES],
        first: u8,
        plain: &[u8],
    ) {
        const PAYLOAD_HEADER_BYTES: usize = 4;
        let payload_bytes = plain.len().saturating_add(PAYLOAD_HEADER_BYTES);
        let message_bytes = payload_bytes.saturating_add(HEADER_LEN_BYTES);
        let length = u32::try_from(message_bytes).unwrap_or(u32::MAX).to_be_bytes();
        let payload_length = u16::try_from(payload_bytes).unwrap_or(u16::MAX).to_be_bytes();
        // SPIs; first payload; version, exchange, flags and id; length; then the Encrypted payload's own header.
        let (spis, rest) = head.split_at(16);
        let (fixed, flags) = (rest.get(1..8).unwrap_or_default(), head.last().copied().unwrap_or_default());
        let (place, sk_p) = if from_initiator {
            (&mut self.from_initiator, &keys.auth_initiator)
        } else {
            (&mut self.from_responder, &keys.auth_responder)
        };
        let parts: [&[u8]; 8] = [
            place.as_slice(),
            spis,
            &[payload::ENCRYPTED],
            fixed,
            &length,
            &[first, flags],
            &payload_length,
            plain,
        ];
        *place = prf(keys.suite.prf, sk_p, &parts);
    }

    /// What stands at the end of both ends' signed octets; nothing without IKE_INTERMEDIATE.
    pub(super) fn octets(&self, auth_message_id: u32) -> Vec<u8> {
        if self.from_initiator.is_empty() {
            return Vec::new();
        }
        [self.from_initiator.as_slice(), &self.from_responder, &auth_message_id.to_be_bytes()].concat()
    }
}

/// What an initiator has when IKE_SA_INIT is done.
pub(super) struct Handshake {
    pub(super) config: Arc<Connection>,
    pub(super) first_child: ChildId,
    pub(super) keys: IkeKeys,
    pub(super) nonce_i: Vec<u8>,
    pub(super) nonce_r: Vec<u8>,
    pub(super) init_request: Vec<u8>,
    pub(super) init_response: Vec<u8>,
    pub(super) hashes: PeerHashes,
    /// Both ends said USE_PPK.
    pub(super) use_ppk: bool,
    pub(super) intermediate: IntAuth,
    pub(super) next_id: u32,
}

/// Initiator: an additional key exchange is out.
pub(crate) struct IntermediateSent {
    handshake: Handshake,
    key: Decapsulator,
    rest: VecDeque<KeyEncapsulation>,
    retransmission: Retransmission,
}

/// Does the next additional key exchange, or IKE_AUTH after the last.
pub(super) fn proceed(
    mut handshake: Handshake,
    mut rest: VecDeque<KeyEncapsulation>,
    ends: &mut Ends,
    core: &mut Core,
    now: Instant,
) -> Stage {
    let Some(method) = rest.pop_front() else { return auth::send_request(handshake, ends, core, now) };
    let failed = |detail: &str| {
        let detail = detail.to_owned();
        Closed::now(now, Some(Cause::Protocol { phase: Phase::IkeIntermediate, detail }))
    };
    let Some(key) = Decapsulator::new(method) else { return failed("no key could be made") };
    let payloads = [Payload::KeyExchange { group: method.number(), data: key.public().to_vec() }];
    let (first, plain) = encode_payloads(&payloads);
    let header = ends.header(Exchange::IkeIntermediate, false, handshake.next_id);
    let limit = ends.limit_bytes(&core.limits);
    let sealed = handshake.keys.sealing.seal_chain(header, first, &plain, limit, &mut core.random);
    let Ok(datagrams) = sealed else { return failed("the message could not be sealed") };
    let Some(head) = datagrams.first().and_then(|datagram| datagram.first_chunk()) else {
        return failed("the message could not be sealed");
    };
    handshake.intermediate.add(&handshake.keys, true, head, first, &plain);
    core.transmit_all(ends.path, &datagrams);
    let retransmission = Retransmission::new(datagrams, now, &core.limits, &mut core.random);
    Stage::IntermediateSent(Box::new(IntermediateSent { handshake, key, rest, retransmission }))
}

impl IntermediateSent {
    pub(super) fn handle(
        self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        inbound: &Inbound<'_>,
    ) -> (Stage, Classified) {
        if inbound.message.header.message_id != self.handshake.next_id {
            return (Stage::IntermediateSent(self), Classified::Dropped("outside_window"));
        }
        let opened = match ends.fragments.open(&self.handshake.keys.opening, inbound) {
            Ok(Some(opened)) => opened,
            Ok(None) => return (Stage::IntermediateSent(self), Classified::Ike),
            Err(why) => return (Stage::IntermediateSent(self), Classified::Dropped(why)),
        };
        let Self { mut handshake, key, rest, .. } = *self;
        let secret = match key_data(&opened, key.method()) {
            Ok(data) => key.decapsulate(&data).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        let stage = match secret {
            Ok(secret) => {
                let Opened { head, first, plain, .. } = &opened;
                handshake.intermediate.add(&handshake.keys, false, head, *first, plain);
                handshake.keys = {
                    let nonces = (handshake.nonce_i.as_slice(), handshake.nonce_r.as_slice());
                    handshake.keys.successor(handshake.keys.suite, true, &secret, nonces, ends.spis)
                };
                handshake.next_id = handshake.next_id.saturating_add(1);
                proceed(handshake, rest, ends, core, now)
            }
            Err(detail) => Closed::now(now, Some(Cause::Protocol { phase: Phase::IkeIntermediate, detail })),
        };
        (stage, Classified::Ike)
    }

    pub(super) fn handle_timeout(mut self: Box<Self>, ends: &Ends, core: &mut Core, now: Instant) -> Stage {
        match self.retransmission.poll(now, core.limits.retransmit_tries) {
            Due::Nothing => {}
            Due::Send(datagrams) => {
                core.transmit_all(ends.path, datagrams);
                core.count("retransmissions");
            }
            Due::GiveUp { sent } => {
                let cause = Cause::NoAnswer { phase: Phase::IkeIntermediate, tries: sent };
                return Closed::now(now, Some(cause));
            }
        }
        Stage::IntermediateSent(self)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.retransmission.next_at()
    }

    pub(crate) fn first_child(&self) -> ChildId {
        self.handshake.first_child
    }
}

/// The KE data of an authentic message, of the method whose turn it is.
fn key_data(opened: &Opened, method: KeyEncapsulation) -> Result<Vec<u8>, String> {
    if !opened.alone {
        return Err("payloads in clear stand beside the encrypted ones".to_owned());
    }
    let picked = decode_payloads(opened.first, &opened.plain).ok().and_then(|found| Picked::new(found).ok());
    let Some(picked) = picked else { return Err("malformed payloads".to_owned()) };
    match picked.key_exchange {
        Some((number, data)) if number == method.number() => Ok(data),
        Some((number, _)) => Err(format!("method {number} came where {} was agreed", method.name())),
        None => Err(picked.error().map_or_else(
            || "the key exchange is missing".to_owned(),
            |error| format!("the peer sent {}", notify::name(error.kind)),
        )),
    }
}

impl AuthAwaited {
    /// Answers an additional key exchange.
    pub(super) fn handle_intermediate(
        mut self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        inbound: &Inbound<'_>,
    ) -> (Stage, Classified) {
        let (mut keys, opened) = match self.open(ends, core, now, inbound) {
            Ok(opened) => opened,
            Err(classified) => return (Stage::AuthAwaited(self), classified),
        };
        ends.path = inbound.path;
        let exchange = Exchange::IkeIntermediate;
        let asked = |digest| HandshakeRequest { exchange, path: inbound.path, digest };
        let Some(method) = self.additional.pop_front() else {
            let error = Notify::new(notify::INVALID_SYNTAX, Vec::new());
            let request = asked(opened.digest);
            return (self.refuse(ends, core, now, request, keys, error, None), Classified::Ike);
        };
        let answer = key_data(&opened, method)
            .and_then(|data| encapsulate(method, &data).map_err(|error| error.to_string()));
        let (data, secret) = match answer {
            Ok(answer) => answer,
            Err(detail) => {
                core.count("intermediate_refused");
                let cause = Cause::Protocol { phase: Phase::IkeIntermediate, detail };
                let error = Notify::new(notify::INVALID_SYNTAX, Vec::new());
                let request = asked(opened.digest);
                return (self.refuse(ends, core, now, request, keys, error, Some(cause)), Classified::Ike);
            }
        };
        let (first, plain) = encode_payloads(&[Payload::KeyExchange { group: method.number(), data }]);
        let header = ends.header(Exchange::IkeIntermediate, true, self.next_id);
        let limit = ends.limit_bytes(&core.limits);
        let sealed = keys.sealing.seal_chain(header, first, &plain, limit, &mut core.random);
        let Ok(datagrams) = sealed else { return (Closed::now(now, None), Classified::Ike) };
        let Some(head) = datagrams.first().and_then(|datagram| datagram.first_chunk()) else {
            return (Closed::now(now, None), Classified::Ike);
        };
        self.intermediate.add(&keys, true, &opened.head, opened.first, &opened.plain);
        self.intermediate.add(&keys, false, head, first, &plain);
        let nonces = (self.nonce_i.as_slice(), self.nonce_r.as_slice());
        self.keys = Some(keys.successor(keys.suite, false, &secret, nonces, ends.spis));
        self.next_id = self.next_id.saturating_add(1);
        core.transmit_all(inbound.path, &datagrams);
        self.answered = Some((opened.digest, datagrams));
        (Stage::AuthAwaited(self), Classified::Ike)
    }
}

#[cfg(test)]
#[path = "intermediate_tests.rs"]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a test may fail by panicking"
)]
mod tests;
