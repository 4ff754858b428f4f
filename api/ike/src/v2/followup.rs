//! Additional key exchanges when an IKE SA is rekeyed: IKE_FOLLOWUP_KE (RFC 9370 section 2.2.4).
//!
//! CREATE_CHILD_SA agrees on all but the last secrets; what it agreed on is kept until they are there. Where both ends
//! rekey at once, whichever exchange is done first puts its SA in place, and the other one finds no state any more; if
//! both are done, the nonces decide as ever.

use std::collections::VecDeque;
use std::time::Instant;

use zeroize::Zeroizing;

use super::collision::lowest;
use super::core::Core;
use super::established::{Established, Job, Life, Request};
use super::payloads::Picked;
use super::sa::Ends;
use crate::crypto::{Decapsulator, IkeKeys, IkeSuite, Secret, Spis, encapsulate};
use crate::wire::registry::notify;
use crate::wire::{Exchange, Notify, Payload};
use crate::{IkeSaId, KeyEncapsulation, Path};

/// What a rekey agreed on.
pub(crate) struct Agreement {
    /// Id of the SA to be.
    pub(super) id: IkeSaId,
    pub(super) suite: IkeSuite,
    pub(super) spis: Spis,
    /// The initiator's and the responder's.
    pub(super) nonces: (Vec<u8>, Vec<u8>),
    /// Of the Diffie-Hellman exchange.
    shared: Secret,
    /// Of the additional ones, one behind the other.
    added: Secret,
    rest: VecDeque<KeyEncapsulation>,
}

impl Agreement {
    pub(super) fn new(
        id: IkeSaId,
        suite: IkeSuite,
        spis: Spis,
        nonces: (Vec<u8>, Vec<u8>),
        shared: Secret,
    ) -> Self {
        let rest = suite.additional.into_iter().flatten().collect();
        Self { id, suite, spis, nonces, shared, added: Zeroizing::new(Vec::new()), rest }
    }

    /// No key exchange is left to be done.
    pub(super) fn is_complete(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn keys(&self, old: &IkeKeys, initiator: bool) -> IkeKeys {
        let nonces = (self.nonces.0.as_slice(), self.nonces.1.as_slice());
        old.successor_with(self.suite, initiator, (&self.shared, &self.added), nonces, self.spis)
    }

    pub(super) fn lowest_nonce(&self) -> Vec<u8> {
        lowest(&self.nonces.0, &self.nonces.1)
    }

    fn add(&mut self, secret: &[u8]) {
        // Never grown in place: no copy of a secret is left behind.
        self.added = Zeroizing::new([self.added.as_slice(), secret].concat());
    }
}

/// Our request: the next of the key exchanges.
pub(crate) struct FollowupRequest {
    pub(super) agreement: Agreement,
    key: Decapsulator,
}

/// The peer's rekey, of which key exchanges are left.
pub(crate) struct FollowupAwaited {
    pub(super) agreement: Agreement,
    /// By this the peer's next request is told to be of this rekey.
    link: Vec<u8>,
}

impl FollowupAwaited {
    /// Length of what links the exchanges; the RFC leaves it to the responder.
    const LINK_LEN_BYTES: usize = 16;

    pub(super) fn new(agreement: Agreement, core: &mut Core) -> Self {
        Self { agreement, link: core.random.array::<{ Self::LINK_LEN_BYTES }>().to_vec() }
    }

    pub(super) fn link(&self) -> Payload {
        Payload::Notify(Notify::new(notify::ADDITIONAL_KEY_EXCHANGE, self.link.clone()))
    }
}

fn link_of(picked: &Picked) -> Option<Vec<u8>> {
    picked.notify(notify::ADDITIONAL_KEY_EXCHANGE).map(|link| link.data.clone())
}

impl Established {
    /// Does the next key exchange of a rekey of ours, or takes the new SA into use after the last.
    pub(super) fn go_on_with_rekey(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        agreement: Agreement,
        picked: &Picked,
    ) {
        let Some(method) = agreement.rest.front().copied() else {
            self.ike_rekey_agreed(ends, core, now, &agreement);
            return;
        };
        // The end of the SA was ordered meanwhile: the peer has no other one yet.
        let alive = !matches!(self.life, Life::Deleting(_));
        let ready = link_of(picked).filter(|_| alive).zip(Decapsulator::new(method));
        let Some((link, key)) = ready else {
            self.ike_rekey_failed(ends, core, now, agreement.spis.initiator);
            return;
        };
        let payloads = [
            Payload::KeyExchange { group: method.number(), data: key.public().to_vec() },
            Payload::Notify(Notify::new(notify::ADDITIONAL_KEY_EXCHANGE, link)),
        ];
        let request = Request::Followup(Box::new(FollowupRequest { agreement, key }));
        self.request(ends, core, now, &payloads, request);
    }

    /// The answer to one of them.
    pub(super) fn followup_answered(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        request: FollowupRequest,
        picked: &Picked,
    ) {
        let FollowupRequest { mut agreement, key } = request;
        let data = picked.key_exchange.as_ref().filter(|(number, _)| *number == key.method().number());
        let secret = data.and_then(|(_, data)| key.decapsulate(data).ok());
        match secret {
            Some(secret) => {
                agreement.add(&secret);
                agreement.rest.pop_front();
                self.go_on_with_rekey(ends, core, now, agreement, picked);
            }
            None => self.ike_rekey_failed(ends, core, now, agreement.spis.initiator),
        }
    }

    /// A rekey of ours came to nothing. The peer's own stands, if it made one.
    pub(super) fn ike_rekey_failed(&mut self, ends: &Ends, core: &mut Core, now: Instant, spi: u64) {
        core.by_spi.remove(&spi);
        match self.successor() {
            Some(successor) => self.replaced(core, now, ends, successor),
            None => self.retry(core, now, Job::RekeyIke),
        }
    }

    /// Answers the next key exchange of the peer's rekey.
    pub(super) fn handle_followup(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        path: Path,
        picked: &Picked,
    ) {
        let payloads = match self.answer_followup(ends, core, now, picked) {
            Ok(payloads) => payloads,
            Err(kind) => {
                self.forget_followup(core);
                core.count("ike_rekeys_refused");
                vec![Payload::Notify(Notify::new(kind, Vec::new()))]
            }
        };
        self.respond(ends, core, now, Exchange::IkeFollowupKe, path, &payloads);
    }

    fn answer_followup(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        picked: &Picked,
    ) -> Result<Vec<Payload>, u16> {
        let awaited = self.followup.as_mut().filter(|_| self.life == Life::Active);
        let awaited = awaited.filter(|awaited| link_of(picked).is_some_and(|link| link == awaited.link));
        let awaited = awaited.ok_or(notify::STATE_NOT_FOUND)?;
        let method = awaited.agreement.rest.front().copied().ok_or(notify::STATE_NOT_FOUND)?;
        let data = picked.key_exchange.as_ref().filter(|(number, _)| *number == method.number());
        let (_, data) = data.ok_or(notify::INVALID_SYNTAX)?;
        let (data, secret) = encapsulate(method, data).map_err(|_| notify::INVALID_SYNTAX)?;
        awaited.agreement.add(&secret);
        awaited.agreement.rest.pop_front();
        let mut payloads = vec![Payload::KeyExchange { group: method.number(), data }];
        if !awaited.agreement.is_complete() {
            payloads.push(awaited.link());
            return Ok(payloads);
        }
        if self.is_busy_with_children() {
            return Err(notify::TEMPORARY_FAILURE);
        }
        let Some(awaited) = self.followup.take() else { return Err(notify::STATE_NOT_FOUND) };
        self.answered_ike_rekey(ends, core, now, &awaited.agreement);
        Ok(payloads)
    }

    /// The rest of the peer's rekey will not come.
    pub(super) fn forget_followup(&mut self, core: &mut Core) {
        if let Some(awaited) = self.followup.take() {
            core.by_spi.remove(&awaited.agreement.spis.responder);
        }
    }
}
