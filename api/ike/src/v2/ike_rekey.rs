//! Rekeying of the IKE SA itself (RFC 7296 sections 1.3.2, 2.8.2 and 2.18).

use std::sync::Arc;
use std::time::Instant;

use super::collision::{Verdict, resolve};
use super::core::{Core, Followup};
use super::ending::{DELETE_PATIENCE, FAREWELL_PATIENCE};
use super::established::{Established, Job, Life, REPLACED_PATIENCE, Request};
use super::followup::{Agreement, Asked, Awaited};
use super::init::{NONCE_LEN_BYTES, sole};
use super::key_exchanges::KeyExchanges;
use super::payloads::Picked;
use super::proposals::{self, Additional};
use super::sa::{Ends, IkeSa, Stage};
use crate::crypto::{Datagrams, IkeKeys, KeyPair, Spis};
use crate::exchange::after;
use crate::wire::registry::notify;
use crate::wire::{Exchange, Notify, Payload, Protocol};
use crate::{Connection, Group, IkeSaId, Path};

/// Our request.
pub(crate) struct IkeRekeyRequest {
    /// Id of the SA to be.
    id: IkeSaId,
    pub(super) spi: u64,
    nonce: Vec<u8>,
    key_pair: KeyPair,
    group_changed: bool,
}

/// The peer's rekey that we answered.
pub(crate) struct TheirIkeRekey {
    pub(crate) successor: IkeSaId,
    pub(crate) lowest_nonce: Vec<u8>,
}

impl IkeRekeyRequest {
    /// A new request and its payloads; `group` is the one that the peer wants, if it said so.
    pub(super) fn new(
        core: &mut Core,
        config: &Connection,
        group: Option<Group>,
        additional: Additional,
    ) -> Option<(Self, Vec<Payload>)> {
        let first = config.proposals.iter().find_map(|proposal| proposal.groups.first().copied());
        let key_pair = KeyPair::new(group.or(first)?, &mut core.random)?;
        let id = core.new_ike_sa_id();
        let spi = core.new_ike_spi(id);
        let nonce = core.random.array::<NONCE_LEN_BYTES>().to_vec();
        let payloads = vec![
            Payload::Sa(proposals::offer_ike(&config.proposals, &spi.to_be_bytes(), additional)),
            Payload::Nonce(nonce.clone()),
            Payload::KeyExchange { group: key_pair.group().number(), data: key_pair.public().to_vec() },
        ];
        Some((Self { id, spi, nonce, key_pair, group_changed: group.is_some() }, payloads))
    }
}

impl Established {
    /// Section 2.25.2: no other SA takes the place of this one while children are being made, rekeyed or ended.
    pub(super) fn is_busy_with_children(&self) -> bool {
        self.asked_child().is_some()
            || matches!(self.send.task(), Some(Request::DeleteChild(_)))
            || !self.installing.is_empty()
    }

    /// The peer wants to rekey the IKE SA. Gives an answer INVALID_SYNTAX.
    pub(super) fn handle_ike_rekey(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        path: Path,
        picked: &Picked,
    ) -> Option<Datagrams> {
        let (payloads, malformed) = match self.answer_ike_rekey(ends, core, now, picked) {
            Ok(payloads) => (payloads, false),
            Err(error) => {
                core.count("ike_rekeys_refused");
                let malformed = error.kind == notify::INVALID_SYNTAX;
                (vec![Payload::Notify(error)], malformed)
            }
        };
        let answer = self.respond(ends, core, now, Exchange::CreateChildSa, path, &payloads);
        malformed.then_some(answer)
    }

    fn answer_ike_rekey(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        picked: &Picked,
    ) -> Result<Vec<Payload>, Notify> {
        let error = |kind| Notify::new(kind, Vec::new());
        // A second rekey says that the peer has given up a first one that was not done.
        self.forget_followup(core);
        if self.life != Life::Active || self.theirs.is_some() || self.is_busy_with_children() {
            return Err(error(notify::TEMPORARY_FAILURE));
        }
        // Who rekeys again and again and never ends what it replaced has to wait until those SAs have ended by themselves.
        let outgoing = core.connections.get(ends.connection).map_or(0, |state| state.outgoing.len());
        if outgoing >= core.limits.ike_sas_per_connection {
            return Err(error(notify::TEMPORARY_FAILURE));
        }
        let (Some(sa), Some(nonce_i), Some((number, public))) =
            (&picked.sa, &picked.nonce, &picked.key_exchange)
        else {
            return Err(error(notify::INVALID_SYNTAX));
        };
        let shared = Group::from_number(*number);
        let chosen = proposals::choose_ike(&self.config.proposals, sa, 8, shared, additional_of(ends))
            .ok_or_else(|| error(notify::NO_PROPOSAL_CHOSEN))?;
        let group = chosen.suite.group;
        if group.number() != *number {
            return Err(Notify::new(notify::INVALID_KE_PAYLOAD, group.number().to_be_bytes().to_vec()));
        }
        let spi_i = <[u8; 8]>::try_from(chosen.spi.as_slice()).map(u64::from_be_bytes).unwrap_or(0);
        if spi_i == 0 {
            return Err(error(notify::INVALID_SYNTAX));
        }
        let key_pair =
            KeyPair::new(group, &mut core.random).ok_or_else(|| error(notify::TEMPORARY_FAILURE))?;
        let secret = key_pair.agree(public).map_err(|_| error(notify::INVALID_SYNTAX))?;
        let nonce_r = core.random.array::<NONCE_LEN_BYTES>().to_vec();
        let id = core.new_ike_sa_id();
        let spis = Spis { initiator: spi_i, responder: core.new_ike_spi(id) };
        let mut answer = vec![
            Payload::Sa(vec![chosen.answer(Protocol::Ike, &spis.responder.to_be_bytes())]),
            Payload::Nonce(nonce_r.clone()),
            Payload::KeyExchange { group: group.number(), data: key_pair.public().to_vec() },
        ];
        let exchanges = KeyExchanges::new((nonce_i.clone(), nonce_r), secret, chosen.suite.additional);
        let agreement = Agreement { id, suite: chosen.suite, spis, exchanges };
        if agreement.exchanges.are_complete() {
            self.answered_ike_rekey(ends, core, now, &agreement);
        } else {
            answer.push(self.await_followup(core, now, Awaited::IkeSa(agreement)));
        }
        Ok(answer)
    }

    /// The peer's rekey has all that it needs: the new SA is there.
    pub(super) fn answered_ike_rekey(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        agreement: &Agreement,
    ) {
        let id = agreement.id;
        let lowest_nonce = agreement.exchanges.lowest_nonce();
        let new_ends = ends.successor(id, false, agreement.spis);
        let keys = agreement.keys(&self.keys, false);
        let mut born = self.successor_sa(core, now, new_ends, keys, lowest_nonce.clone());
        if let Some((_, contender)) = born.established_mut().filter(|_| self.is_rekeying()) {
            contender.contends_with = Some(ends.id);
        }
        core.born.push(born);
        self.theirs = Some(TheirIkeRekey { successor: id, lowest_nonce });
        if self.is_rekeying() {
            // Both at once: our own answer decides.
            core.count("ike_rekey_collisions");
        } else {
            self.replaced(core, now, ends, id);
        }
    }

    /// The answer to our own rekey.
    pub(super) fn ike_rekey_answered(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        request: IkeRekeyRequest,
        picked: &Picked,
    ) {
        match self.finish_ike_rekey(ends, &request, picked) {
            Ok(agreement) => self.go_on(ends, core, now, Asked::IkeSa(agreement), picked),
            Err(error) => {
                let wanted = error.filter(|error| error.kind == notify::INVALID_KE_PAYLOAD);
                let group = wanted
                    .and_then(|error| <[u8; 2]>::try_from(error.data.as_slice()).ok())
                    .and_then(|number| Group::from_number(u16::from_be_bytes(number)))
                    .filter(|group| {
                        !request.group_changed
                            && self.config.proposals.iter().any(|proposal| proposal.groups.contains(group))
                    });
                let again = group.filter(|_| self.successor().is_none()).and_then(|group| {
                    IkeRekeyRequest::new(core, &self.config, Some(group), additional_of(ends))
                });
                match again {
                    Some((again, payloads)) => {
                        core.by_spi.remove(&request.spi);
                        self.ask_ike_rekey(ends, core, now, again, &payloads);
                    }
                    None => self.ike_rekey_failed(ends, core, now, request.spi),
                }
            }
        }
    }

    /// Our rekey has all that it needs: the new SA takes the place of this one, unless the peer's does.
    pub(super) fn ike_rekey_agreed(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        agreement: &Agreement,
    ) {
        let id = agreement.id;
        let lowest_nonce = agreement.exchanges.lowest_nonce();
        let theirs = self
            .theirs
            .as_ref()
            .map(|theirs| (theirs.successor, resolve(&lowest_nonce, &theirs.lowest_nonce)));
        let new_ends = ends.successor(id, true, agreement.spis);
        let keys = agreement.keys(&self.keys, true);
        let mut born = self.successor_sa(core, now, new_ends, keys, lowest_nonce);
        match theirs {
            // The end of the old one was ordered while the peer was asked: the new one, to which the peer has moved the
            // children, must not outlive it.
            _ if matches!(self.life, Life::Deleting(_)) => delete_unused(core, now, &mut born),
            Some((successor, Verdict::KeepTheirs)) => {
                core.count("ike_rekey_collisions_lost");
                delete_unused(core, now, &mut born);
                self.replaced(core, now, ends, successor);
            }
            Some((rival, Verdict::KeepOurs)) => {
                self.rival = Some(rival);
                core.followups.push_back(Followup::Abandon(rival, DELETE_PATIENCE));
                self.replaced(core, now, ends, id);
                // After our answer to the peer's rekey, lest the two overtake each other: a peer that is told of the end
                // first takes it that we know of one rekey only, and never deletes what it made itself.
                self.delete_replaced(now, after(now, core.limits.retransmit_base));
            }
            None => {
                self.replaced(core, now, ends, id);
                self.delete_replaced(now, now);
            }
        }
        core.born.push(born);
    }

    fn finish_ike_rekey<'a>(
        &self,
        ends: &Ends,
        request: &IkeRekeyRequest,
        picked: &'a Picked,
    ) -> Result<Agreement, Option<&'a Notify>> {
        let (Some(sa), Some(nonce_r), Some((number, public))) =
            (&picked.sa, &picked.nonce, &picked.key_exchange)
        else {
            return Err(picked.error());
        };
        let ours = request.key_pair.group();
        let chosen = sole(sa)
            .and_then(|sa| {
                proposals::choose_ike(&self.config.proposals, sa, 8, Some(ours), additional_of(ends))
            })
            .filter(|chosen| chosen.suite.group == ours && ours.number() == *number)
            .ok_or(None)?;
        let responder = <[u8; 8]>::try_from(chosen.spi.as_slice()).map(u64::from_be_bytes);
        let responder = responder.ok().filter(|spi| *spi != 0).ok_or(None)?;
        let secret = request.key_pair.agree(public).map_err(|_| None)?;
        let spis = Spis { initiator: request.spi, responder };
        let nonces = (request.nonce.clone(), nonce_r.clone());
        let exchanges = KeyExchanges::new(nonces, secret, chosen.suite.additional);
        Ok(Agreement { id: request.id, suite: chosen.suite, spis, exchanges })
    }

    /// The SA that a rekey of this one makes.
    fn successor_sa(
        &self,
        core: &mut Core,
        now: Instant,
        ends: Ends,
        keys: IkeKeys,
        lowest_nonce: Vec<u8>,
    ) -> IkeSa {
        let established = Self::new(core, now, Arc::clone(&self.config), keys, lowest_nonce, (0, 0));
        IkeSa { ends, created_at: now, init_request: None, stage: Stage::Established(Box::new(established)) }
    }

    /// Another SA takes this one's place.
    pub(super) fn replaced(&mut self, core: &mut Core, now: Instant, ends: &Ends, by: IkeSaId) {
        if self.life != Life::Active {
            return;
        }
        self.forget_followup(core);
        // The peer took part: so it works on this SA, and what is still on the old one comes along, before this one is gone.
        if let Some(old) = self.contends_with.take() {
            core.followups.push_back(Followup::MoveChildren { from: old, to: ends.id });
        }
        self.life = Life::Replaced;
        self.heir = Some(by);
        self.expires_at = self.expires_at.min(after(now, REPLACED_PATIENCE));
        core.followups.push_back(Followup::MoveChildren { from: ends.id, to: by });
    }

    /// The DELETE of an SA that has an heir is ours to send. If its answer is lost, a peer that keeps nothing of the SA
    /// will not answer again: then it is enough to have told it for a while.
    fn delete_replaced(&mut self, now: Instant, at: Instant) {
        self.expires_at = self.expires_at.min(after(now, FAREWELL_PATIENCE));
        self.enqueue(at, Job::DeleteIke);
    }
}

/// A peer that did additional key exchanges can do them again, even if it rekeyed once without; no other is bothered
/// with them.
pub(super) fn additional_of(ends: &Ends) -> Additional {
    if ends.additional { Additional::Followup } else { Additional::Impossible }
}

/// Ends an SA that was made, since the peer has it, but must not serve.
fn delete_unused(core: &mut Core, now: Instant, born: &mut IkeSa) {
    if let Some((ends, unused)) = born.established_mut() {
        unused.abandon(now, DELETE_PATIENCE);
        unused.enqueue(now, Job::DeleteIke);
        unused.pump(ends, core, now);
    }
}
