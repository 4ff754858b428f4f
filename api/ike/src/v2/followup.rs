//! Additional key exchanges after a CREATE_CHILD_SA: IKE_FOLLOWUP_KE (RFC 9370 section 2.2.4).
//!
//! CREATE_CHILD_SA agrees on all but the last secrets; what it agreed on is kept until they are there. Where both ends
//! rekey the IKE SA at once, whichever exchange is done first puts its SA in place, and the other one finds no state any
//! more; if both are done, the nonces decide as ever. What is about a child stands in `child_followup`.

use std::time::{Duration, Instant};

use super::child_followup::{AskedChild, AwaitedChild};
use super::core::{Core, Followup};
use super::established::{Established, Job, Life, Request};
use super::key_exchanges::KeyExchanges;
use super::payloads::Picked;
use super::sa::Ends;
use crate::crypto::{Datagrams, Decapsulator, IkeKeys, IkeSuite, Spis, encapsulate};
use crate::exchange::after;
use crate::wire::registry::notify;
use crate::wire::{Exchange, Notify, Payload};
use crate::{IkeSaId, Path};

/// How long the peer may take for its next key exchange, its retransmissions included.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a rekey of the IKE SA agreed on.
pub(crate) struct Agreement {
    /// Id of the SA to be.
    pub(super) id: IkeSaId,
    pub(super) suite: IkeSuite,
    pub(super) spis: Spis,
    pub(super) exchanges: KeyExchanges,
}

impl Agreement {
    pub(super) fn keys(&self, old: &IkeKeys, initiator: bool) -> IkeKeys {
        let (secrets, nonces) = (self.exchanges.secrets(), self.exchanges.nonces());
        old.successor_with(self.suite, initiator, secrets, nonces, self.spis)
    }
}

/// What we asked for by CREATE_CHILD_SA, and the peer agreed to.
pub(crate) enum Asked {
    IkeSa(Agreement),
    Child(Box<AskedChild>),
}

impl Asked {
    fn exchanges(&mut self) -> &mut KeyExchanges {
        match self {
            Self::IkeSa(agreement) => &mut agreement.exchanges,
            Self::Child(asked) => &mut asked.agreement.exchanges,
        }
    }
}

/// Our request: the next of the key exchanges.
pub(crate) struct FollowupRequest {
    pub(super) asked: Asked,
    key: Decapsulator,
}

/// What the peer asked for by CREATE_CHILD_SA, and we agreed to.
pub(crate) enum Awaited {
    IkeSa(Agreement),
    Child(Box<AwaitedChild>),
}

impl Awaited {
    fn exchanges(&mut self) -> &mut KeyExchanges {
        match self {
            Self::IkeSa(agreement) => &mut agreement.exchanges,
            Self::Child(awaited) => &mut awaited.agreement.exchanges,
        }
    }
}

/// Key exchanges of the peer's that are left.
pub(crate) struct FollowupAwaited {
    pub(super) what: Awaited,
    /// By this the peer's next request is told to be of them.
    link: Vec<u8>,
    pub(super) expires_at: Instant,
}

impl FollowupAwaited {
    /// Length of what links the exchanges; the RFC leaves it to the responder.
    const LINK_LEN_BYTES: usize = 16;

    fn link(&self) -> Payload {
        Payload::Notify(Notify::new(notify::ADDITIONAL_KEY_EXCHANGE, self.link.clone()))
    }
}

fn link_of(picked: &Picked) -> Option<Vec<u8>> {
    picked.notify(notify::ADDITIONAL_KEY_EXCHANGE).map(|link| link.data.clone())
}

impl Established {
    /// Does the next key exchange of what we asked for, or takes it into use after the last.
    pub(super) fn go_on(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        mut asked: Asked,
        picked: &Picked,
    ) {
        let Some(method) = asked.exchanges().next() else {
            match asked {
                Asked::IkeSa(agreement) => self.ike_rekey_agreed(ends, core, now, &agreement),
                Asked::Child(asked) => self.child_agreed(ends, core, now, *asked),
            }
            return;
        };
        // The end of the SA was ordered meanwhile: the peer has nothing new yet.
        let alive = !matches!(self.life, Life::Deleting(_));
        let ready = link_of(picked).filter(|_| alive).zip(Decapsulator::new(method));
        let Some((link, key)) = ready else {
            self.asked_failed(ends, core, now, asked, picked);
            return;
        };
        let payloads = [
            Payload::KeyExchange { group: method.number(), data: key.public().to_vec() },
            Payload::Notify(Notify::new(notify::ADDITIONAL_KEY_EXCHANGE, link)),
        ];
        let request = Request::Followup(Box::new(FollowupRequest { asked, key }));
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
        let FollowupRequest { mut asked, key } = request;
        let data = picked.key_exchange.as_ref().filter(|(number, _)| *number == key.method().number());
        let secret = data.and_then(|(_, data)| key.decapsulate(data).ok());
        if matches!(asked, Asked::Child(_)) {
            // As after every answer about a child: the pair may be gone again.
            core.followups.push_back(Followup::Ensure(ends.connection));
        }
        match secret {
            Some(secret) => {
                asked.exchanges().add(&secret);
                self.go_on(ends, core, now, asked, picked);
            }
            None => self.asked_failed(ends, core, now, asked, picked),
        }
    }

    fn asked_failed(&mut self, ends: &Ends, core: &mut Core, now: Instant, asked: Asked, picked: &Picked) {
        match asked {
            Asked::IkeSa(agreement) => self.ike_rekey_failed(ends, core, now, agreement.spis.initiator),
            Asked::Child(asked) => self.asked_child_failed(ends, core, now, asked.request, picked),
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

    /// Waits for the key exchanges that follow what the peer asked for; gives what is to be answered with the rest.
    pub(super) fn await_followup(&mut self, core: &mut Core, now: Instant, what: Awaited) -> Payload {
        // One at a time: who asks for something else has given up what it asked for before.
        self.forget_followup(core);
        let link = core.random.array::<{ FollowupAwaited::LINK_LEN_BYTES }>().to_vec();
        let awaited = FollowupAwaited { what, link, expires_at: after(now, PATIENCE) };
        let link = awaited.link();
        self.followup = Some(Box::new(awaited));
        link
    }

    /// Answers the next key exchange of what the peer asked for. Gives an answer INVALID_SYNTAX.
    pub(super) fn handle_followup(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        path: Path,
        picked: &Picked,
    ) -> Option<Datagrams> {
        let (payloads, malformed) = match self.answer_followup(ends, core, now, path, picked) {
            Ok(Some(payloads)) => (payloads, false),
            // The dataplane is asked first.
            Ok(None) => return None,
            Err(kind) => {
                self.forget_followup(core);
                core.count("followups_refused");
                (vec![Payload::Notify(Notify::new(kind, Vec::new()))], kind == notify::INVALID_SYNTAX)
            }
        };
        let answer = self.respond(ends, core, now, Exchange::IkeFollowupKe, path, &payloads);
        malformed.then_some(answer)
    }

    fn answer_followup(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        path: Path,
        picked: &Picked,
    ) -> Result<Option<Vec<Payload>>, u16> {
        let awaited = self.followup.as_mut().filter(|_| self.life == Life::Active);
        let awaited = awaited.filter(|awaited| link_of(picked).is_some_and(|link| link == awaited.link));
        let awaited = awaited.ok_or(notify::STATE_NOT_FOUND)?;
        let exchanges = awaited.what.exchanges();
        let method = exchanges.next().ok_or(notify::STATE_NOT_FOUND)?;
        let data = picked.key_exchange.as_ref().filter(|(number, _)| *number == method.number());
        let (_, data) = data.ok_or(notify::INVALID_SYNTAX)?;
        let (data, secret) = encapsulate(method, data).map_err(|_| notify::INVALID_SYNTAX)?;
        exchanges.add(&secret);
        let are_complete = exchanges.are_complete();
        let mut payloads = vec![Payload::KeyExchange { group: method.number(), data }];
        if !are_complete {
            awaited.expires_at = after(now, PATIENCE);
            payloads.push(awaited.link());
            return Ok(Some(payloads));
        }
        let Some(awaited) = self.followup.take() else { return Err(notify::STATE_NOT_FOUND) };
        match awaited.what {
            Awaited::IkeSa(agreement) if self.is_busy_with_children() => {
                core.by_spi.remove(&agreement.spis.responder);
                Err(notify::TEMPORARY_FAILURE)
            }
            Awaited::IkeSa(agreement) => {
                self.answered_ike_rekey(ends, core, now, &agreement);
                Ok(Some(payloads))
            }
            Awaited::Child(awaited) => {
                self.awaited_child_agreed(ends, core, now, path, *awaited, payloads).map(|()| None)
            }
        }
    }

    /// The rest of what the peer asked for will not come.
    pub(super) fn forget_followup(&mut self, core: &mut Core) {
        match self.followup.take().map(|awaited| awaited.what) {
            Some(Awaited::IkeSa(agreement)) => drop(core.by_spi.remove(&agreement.spis.responder)),
            Some(Awaited::Child(awaited)) => drop(core.esp.remove(&awaited.agreement.pair.spi_in)),
            None => {}
        }
    }

    /// Nor is it waited for without end.
    pub(super) fn check_followup(&mut self, ends: &Ends, core: &mut Core, now: Instant) {
        if self.followup.as_ref().is_some_and(|awaited| now >= awaited.expires_at) {
            self.forget_followup(core);
            core.count("followups_expired");
            // A child of ours may have waited for it.
            core.followups.push_back(Followup::Ensure(ends.connection));
        }
    }
}
