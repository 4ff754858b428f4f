//! The first message of a phase 1, which anyone may have sent: whose it is, and whether there is a place for what it begins.

use std::net::IpAddr;
use std::time::Instant;

use super::desk::Desk;
use super::initiate::{clear, sole};
use super::peer::Peer;
use super::phase_one::Stage;
use super::proof::check_identity;
use super::proposals::describe;
use super::received::Received;
use super::vendor::Announced;
use crate::engine::Engine;
use crate::v2::nat::MISSING;
use crate::wire::isakmp::registry::{notify, payload as kind};
use crate::wire::isakmp::{Exchange, Header, Notify, Payload, Proposal, decode_sa};
use crate::{Cause, Classified, ConnectionId, Event, IkeSaId, Limits, Phase};

/// Where a newcomer may stand.
#[derive(Clone, Copy)]
enum Place {
    Free,
    Of(IkeSaId),
    None,
}

impl Desk {
    /// Whether there is a place for another half-open SA of this source; where there is none, the SA that can make way: the
    /// oldest that has shown nothing, of the same source if it is that which has too many.
    fn place(&self, limits: &Limits, source: IpAddr) -> Place {
        let makes_way = if self.half_open.of_source(source) >= limits.half_open_per_source {
            self.unproven.oldest_of(source)
        } else if self.half_open.total() >= limits.half_open {
            self.unproven.oldest()
        } else {
            return Place::Free;
        };
        makes_way.map_or(Place::None, Place::Of)
    }
}

impl Peer {
    /// The oldest of its phase 1 SAs whose initiator has shown nothing.
    fn oldest_unproven(&self) -> Option<IkeSaId> {
        let mut oldest_first = self.phase_ones.values();
        oldest_first.find(|found| matches!(found.stage, Stage::SaAnswered { .. })).map(|found| found.id)
    }

    /// Whether aggressive mode is allowed, and the first message is of whom we expect.
    fn may_begin_aggressively(&self, payloads: &[Payload]) -> bool {
        let identity = sole(payloads, kind::ID);
        self.options().aggressive_mode
            && identity.is_some_and(|body| check_identity(&self.config, body).is_ok())
    }
}

impl Engine {
    /// Message 1 of a phase 1.
    pub(super) fn handle_first(&mut self, now: Instant, received: &Received<'_>) -> Classified {
        let Received { path, header, message, .. } = *received;
        let aggressive = header.exchange == Exchange::AggressiveMode;
        let begins = aggressive || header.exchange == Exchange::MainMode;
        if !begins || header.message_id != 0 || header.encrypted {
            return Classified::Dropped("bad_header");
        }
        if let Some(id) = self.v1.begun.get(&(path.remote, header.cookie_i)).copied() {
            let Some(connection) = self.v1.phase_ones.get(&id).map(|entry| entry.connection) else {
                return Classified::Dropped("unknown_cookies");
            };
            let mut repeated = false;
            self.with_peer(now, connection, |peer, core| {
                repeated =
                    peer.phase_ones.get_mut(&id).is_some_and(|found| found.repeats(core, now, message));
            });
            return if repeated { Classified::Ike } else { Classified::Dropped("late_first_message") };
        }
        // What aggressive mode costs is not bounded by the places alone if they are made free for it.
        let mut place = self.v1.place(&self.core.limits, path.remote.ip());
        if matches!((place, aggressive), (Place::None, _) | (Place::Of(_), true)) {
            return Classified::Dropped("half_open_limit");
        }
        let payloads = match received.payloads() {
            Ok(payloads) => payloads,
            Err(dropped) => return dropped,
        };
        let theirs = sole(&payloads, kind::SA).map(decode_sa);
        let Some(Ok(theirs)) = theirs else { return Classified::Dropped("missing_payload") };
        let mut known: Vec<&Peer> = self
            .v1
            .between(&self.core, path)
            .filter(|peer| !aggressive || peer.may_begin_aggressively(&payloads))
            .collect();
        if known.is_empty() {
            return Classified::Dropped("unknown_peer");
        }
        if Announced::read(&payloads).nat.is_none() {
            known.retain(|peer| !peer.config.forces_nat_traversal());
        }
        let Some(first) = known.first() else { return Classified::Dropped(MISSING) };
        let chosen = known.iter().find_map(|peer| Some((*peer, peer.choose(&theirs)?)));
        let Some((peer, choice)) = chosen else {
            let id = first.id;
            self.complain(now, id, &theirs);
            self.refuse_first(received);
            return Classified::Dropped("no_proposal_chosen");
        };
        let connection = peer.id;
        let makes_way =
            |of: IkeSaId| self.v1.phase_ones.get(&of).is_some_and(|of| of.connection == connection);
        // An authenticated one may have several, while one follows another; a flood of them it may not.
        if peer.phase_ones.len() >= self.core.limits.ike_sas_per_connection
            && !matches!(place, Place::Of(other) if makes_way(other))
        {
            match peer.oldest_unproven().filter(|_| !aggressive) {
                Some(oldest) => place = Place::Of(oldest),
                None => return Classified::Dropped("too_many_phase_ones"),
            }
        }
        if let Place::Of(oldest) = place {
            self.make_way(now, oldest);
        }
        let mut classified = Classified::Ike;
        self.with_peer(now, connection, |peer, core| {
            if aggressive {
                classified = peer.answer_aggressive(core, now, received, &payloads, choice);
            } else {
                peer.answer_sa(core, now, received, &payloads, choice);
            }
        });
        classified
    }

    /// Forgets a phase 1 whose initiator has shown nothing, for another that may be the peer's.
    fn make_way(&mut self, now: Instant, id: IkeSaId) {
        let Some(connection) = self.v1.phase_ones.get(&id).map(|entry| entry.connection) else { return };
        self.core.count("half_open_made_way");
        self.with_peer(now, connection, |peer, _| {
            if let Some(found) = peer.phase_ones.get_mut(&id) {
                found.stage = Stage::Closed;
            }
        });
    }

    /// Says of a connection that is down what its peer asks for in vain, or somebody in its name: not more often than it
    /// can be read.
    fn complain(&mut self, now: Instant, id: ConnectionId, theirs: &[Proposal]) {
        let Some(peer) = self.v1.peers.get_mut(&id) else { return };
        if peer.active().is_some() || peer.is_trying() || !peer.may_complain(now) {
            return;
        }
        let (ours, theirs) = (peer.offer_in_words(), describe(theirs));
        let cause = Cause::NoProposalChosen { phase: Phase::MainMode, ours, theirs };
        self.core.event(Event::IkeDown { connection: id, cause, retry_in: None });
    }

    /// NO-PROPOSAL-CHOSEN in clear, as a hint; never longer than what it answers.
    fn refuse_first(&mut self, received: &Received<'_>) {
        let Received { path, header, message, .. } = *received;
        let notify = Notify::about_isakmp(notify::NO_PROPOSAL_CHOSEN, (header.cookie_i, 0), Vec::new());
        let message_id = self.core.random.u32().max(1);
        let header = Header { exchange: Exchange::Informational, message_id, ..header };
        let answer = clear(header, &[Payload::new(kind::NOTIFY, notify.encode())]);
        if answer.len() <= message.len() {
            self.core.transmit(path, &answer);
        }
    }
}
