//! The peers of version 1 in an engine: which message is whose, and what the engine asks of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::fragment;
use super::kept::Mark;
use super::peer::Peer;
use super::phase_one::Stage;
use super::received::Received;
use crate::cert::PeerCertificates;
use crate::engine::{Engine, Timer};
use crate::exchange::{after, earlier};
use crate::half_open::HalfOpen;
use crate::v2::core::{Core, Followup};
use crate::wire::isakmp::{Exchange, Header};
use crate::{
    Cause, ChildId, Classified, Connection, ConnectionId, DataplaneEvent, IkeSaId, OperationId, Path, Phase,
    Version,
};

/// The initiator of a phase 1 asks for the children; its responder helps only after this long, or both would make each.
const RESPONDER_GRACE: std::time::Duration = std::time::Duration::from_secs(8);
const REFUSED: &str = "we refused the peer";

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Desk {
    pub(super) peers: BTreeMap<ConnectionId, Peer>,
    /// By the id under which the core books a peer's SPIs.
    holders: BTreeMap<IkeSaId, ConnectionId>,
    pub(super) phase_ones: BTreeMap<IkeSaId, Entry>,
    /// The same by connection.
    of_peers: BTreeSet<(ConnectionId, IkeSaId)>,
    pub(super) half_open: HalfOpen,
    /// Those of them that have seen no more than our first answer, if that: whose initiator has shown nothing.
    pub(super) unproven: HalfOpen,
    /// Phase 1 SAs that a peer began, by its address and cookie.
    pub(super) begun: BTreeMap<(SocketAddr, u64), IkeSaId>,
    /// What the kept state of each peer that has one depends on.
    pub(crate) kept: BTreeMap<ConnectionId, Mark>,
}

pub(super) struct Entry {
    pub(super) connection: ConnectionId,
    begun: Option<(SocketAddr, u64)>,
}

impl Desk {
    pub(crate) fn holder(&self, id: IkeSaId) -> Option<ConnectionId> {
        self.holders.get(&id).copied()
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// Those whose peer may begin on this path; no others are looked at.
    pub(super) fn between<'a>(&'a self, core: &'a Core, path: Path) -> impl Iterator<Item = &'a Peer> {
        let between = core.connections.between(path.local.ip(), path.remote.ip());
        between.filter_map(|(id, _)| self.peers.get(&id)).filter(|peer| !peer.leaving)
    }

    /// Brings the indexes in line with a peer after a step.
    fn index(&mut self, peer: &Peer) {
        let own = (peer.id, IkeSaId(u64::MIN))..=(peer.id, IkeSaId(u64::MAX));
        let known = self.of_peers.range(own).map(|(_, id)| *id);
        let gone: Vec<IkeSaId> = known.filter(|id| !peer.phase_ones.contains_key(id)).collect();
        for id in gone {
            self.of_peers.remove(&(peer.id, id));
            self.half_open.remove(id);
            self.unproven.remove(id);
            if let Some(begun) = self.phase_ones.remove(&id).and_then(|entry| entry.begun) {
                self.begun.remove(&begun);
            }
        }
        for found in peer.phase_ones.values() {
            let entry = self.phase_ones.entry(found.id).or_insert_with(|| {
                let begun = (!found.initiator).then_some((found.path.remote, found.cookies.initiator));
                Entry { connection: peer.id, begun }
            });
            self.of_peers.insert((peer.id, found.id));
            let begun = entry.begun;
            if let Some(begun) = begun {
                self.begun.insert(begun, found.id);
            }
            for (list, belongs) in [
                (&mut self.half_open, found.is_half_open()),
                (&mut self.unproven, matches!(found.stage, Stage::SaAnswered { .. })),
            ] {
                match begun.filter(|_| belongs) {
                    Some((source, _)) => list.insert(found.id, source.ip()),
                    None => list.remove(found.id),
                }
            }
        }
    }
}

impl Peer {
    /// Takes in a message whose cookies are those of this phase 1.
    fn handle(&mut self, core: &mut Core, now: Instant, id: IkeSaId, received: &Received<'_>) -> Classified {
        let Some(found) = self.phase_ones.get_mut(&id) else { return Classified::Dropped("unknown_cookies") };
        let Received { path, header, message, body } = *received;
        self.arrival = path;
        if fragment::is_piece(&header) {
            return match found.assembly.add(body) {
                Ok(None) => Classified::Ike,
                Ok(Some(whole)) => {
                    let cookies = |header: &Header| (header.cookie_i, header.cookie_r);
                    match Received::decode(path, &whole) {
                        Ok(inner)
                            if cookies(&inner.header) == cookies(&header)
                                && !fragment::is_piece(&inner.header) =>
                        {
                            self.handle(core, now, id, &inner)
                        }
                        _ => Classified::Dropped("bad_fragment"),
                    }
                }
                Err(_) => Classified::Dropped("bad_fragment"),
            };
        }
        match header.exchange {
            Exchange::MainMode | Exchange::AggressiveMode if found.repeats(core, now, message) => {
                Classified::Ike
            }
            Exchange::AggressiveMode => self.handle_aggressive_mode(core, now, id, received),
            Exchange::QuickMode if matches!(found.stage, Stage::AggressiveAnswered { .. }) => {
                // The initiator's proof was lost, and nobody else knows: asked again, it gives it again.
                found.repeat_answer(core, now);
                Classified::Dropped("unexpected_message")
            }
            Exchange::MainMode => self.handle_main_mode(core, now, id, received),
            Exchange::QuickMode if header.message_id != 0 => {
                let key = (id, header.message_id);
                if self.quicks.contains_key(&key) {
                    self.continue_quick(core, now, key, received)
                } else {
                    self.answer_quick(core, now, id, received)
                }
            }
            Exchange::Informational => self.handle_informational(core, now, id, received),
            _ => Classified::Dropped("unexpected_exchange"),
        }
    }

    fn handle_main_mode(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: IkeSaId,
        received: &Received<'_>,
    ) -> Classified {
        let Some(found) = self.phase_ones.get(&id) else { return Classified::Dropped("unknown_cookies") };
        if received.header.message_id != 0 {
            return Classified::Dropped("bad_header");
        }
        match (&found.stage, received.header.encrypted) {
            (Stage::SaSent { .. }, false) => self.sa_answered(core, now, id, received),
            (Stage::KeySent { .. }, false) => self.key_answered(core, now, id, received),
            (Stage::IdSent(_), true) => self.id_answered(core, now, id, received),
            (Stage::SaAnswered { .. }, false) => self.answer_key(core, now, id, received),
            (Stage::KeyAnswered(_), true) => self.answer_id(core, now, id, received),
            _ => Classified::Dropped("unexpected_message"),
        }
    }
}

impl Engine {
    /// A message of version 1, without the non-ESP marker.
    pub(crate) fn handle_isakmp(&mut self, now: Instant, path: Path, message: &[u8]) -> Classified {
        let received = match Received::decode(path, message) {
            Ok(received) => received,
            Err(error) => return Classified::Dropped(error.name()),
        };
        let header = received.header;
        let asked = || self.v1.between(&self.core, path).any(|peer| peer.options().aggressive_mode);
        if header.exchange == Exchange::AggressiveMode && !asked() {
            // A hash under the key for whoever asks: not without being told to (RFC 2409 section 5.4; RFC 9395).
            return Classified::Dropped("aggressive_mode_refused");
        }
        // A refusal of what we began may come without a cookie of the peer.
        let refusal = header.cookie_r == 0 && header.exchange == Exchange::Informational;
        if header.cookie_r == 0 && !refusal {
            return self.handle_first(now, &received);
        }
        let found = [header.cookie_r, header.cookie_i].into_iter().find_map(|cookie| {
            let id = *self.core.by_spi.get(&cookie)?;
            let connection = self.v1.phase_ones.get(&id)?.connection;
            let cookies = self.v1.peers.get(&connection)?.phase_ones.get(&id)?.cookies;
            // The responder's cookie is not known before its first answer.
            let fits = cookies.initiator == header.cookie_i
                && (cookies.responder == header.cookie_r || cookies.responder == 0);
            fits.then_some((connection, id))
        });
        let Some((connection, id)) = found else {
            return Classified::Dropped(if refusal {
                "unauthenticated_informational"
            } else {
                "unknown_cookies"
            });
        };
        let mut classified = Classified::Dropped("panicked");
        self.with_peer(now, connection, |peer, core| classified = peer.handle(core, now, id, &received));
        classified
    }

    /// Runs a step of one peer. A panic in it ends what the peer has, not the process.
    pub(crate) fn with_peer(
        &mut self,
        now: Instant,
        id: ConnectionId,
        step: impl FnOnce(&mut Peer, &mut Core),
    ) {
        let Some(mut peer) = self.v1.peers.remove(&id) else { return };
        let outcome = catch_unwind(AssertUnwindSafe(|| step(&mut peer, &mut self.core)));
        if outcome.is_err() {
            self.core.count("panics");
            let detail = "an internal error ended the SA".to_owned();
            peer.end(&mut self.core, now, &Cause::Protocol { phase: Phase::Informational, detail }, false);
        }
        peer.bury(&mut self.core, now);
        self.v1.index(&peer);
        self.keep_peer(now, &peer);
        if peer.leaving && peer.phase_ones.is_empty() {
            self.v1.holders.remove(&peer.holder);
            self.timers.set(Timer::IkeSa(peer.holder), None);
            return;
        }
        self.timers.set(Timer::IkeSa(peer.holder), peer.deadline(&self.core));
        self.v1.peers.insert(id, peer);
    }

    /// Makes, changes or ends the peer of a connection.
    pub(crate) fn configure_v1(&mut self, now: Instant, old: Option<&Connection>, new: &Arc<Connection>) {
        let id = new.id;
        if !matches!(new.version, Version::V1(_)) {
            self.leave_v1(now, id);
            return;
        }
        if let Some(peer) = self.v1.peers.get_mut(&id) {
            let was_leaving = std::mem::replace(&mut peer.leaving, false);
            let same = old.is_some_and(|old| crate::keeper::is_same_peer(old, new)) && !was_leaving;
            let config = Arc::clone(new);
            let unix_secs = self.core.unix_secs(now);
            self.with_peer(now, id, |peer, core| {
                let refused = old.and_then(|old| {
                    let judge = |known: &PeerCertificates| {
                        crate::keeper::judge_again(Some(known), old, new, unix_secs).err()
                    };
                    peer.certificates().find_map(judge)
                });
                if !same {
                    peer.end(core, now, &Cause::Requested, true);
                } else if let Some(detail) = refused {
                    peer.end(core, now, &Cause::AuthenticationFailed { side: REFUSED, detail }, true);
                }
                peer.follow(core, now, &config);
            });
        } else {
            let peer = Peer::new(&mut self.core, now, Arc::clone(new));
            self.v1.holders.insert(peer.holder, id);
            self.v1.peers.insert(id, peer);
        }
    }

    /// Ends what rests on a certificate that has expired.
    pub(crate) fn end_expired_v1(&mut self, now: Instant, unix_secs: u64) {
        let is_over = |known: &PeerCertificates| known.expires_unix_secs < unix_secs;
        let expired: Vec<ConnectionId> = self
            .v1
            .peers
            .values()
            .filter(|peer| peer.certificates().any(is_over))
            .map(|peer| peer.id)
            .collect();
        for id in expired {
            let detail = "the peer's certificate has expired".to_owned();
            self.with_peer(now, id, |peer, core| {
                peer.end(core, now, &Cause::AuthenticationFailed { side: REFUSED, detail }, true);
            });
        }
    }

    /// The peer of a connection goes, once it was told.
    pub(crate) fn leave_v1(&mut self, now: Instant, id: ConnectionId) {
        self.with_peer(now, id, |peer, core| {
            peer.leaving = true;
            peer.end(core, now, &Cause::Requested, true);
        });
    }

    pub(crate) fn peer_dataplane(
        &mut self,
        now: Instant,
        id: ConnectionId,
        spi_in: u32,
        event: DataplaneEvent,
    ) {
        self.with_peer(now, id, |peer, core| match event {
            DataplaneEvent::SoftLimit { .. } => {
                let current = peer.children.get(&spi_in).filter(|child| child.is_current());
                if let Some(child) = current.map(|child| child.config.id) {
                    peer.rekey_child(core, now, spi_in, child);
                }
            }
            DataplaneEvent::HardLimit { .. } => peer.delete_child(core, now, spi_in, Cause::Expired),
            DataplaneEvent::FirstPacket { .. } => peer.first_packet(core, now, spi_in),
            DataplaneEvent::Traffic { .. } => peer.heard_traffic(now),
            DataplaneEvent::PeerMoved { remote, .. } => {
                peer.heard_traffic(now);
                peer.moved(core, remote);
            }
        });
    }

    pub(crate) fn peer_installed(
        &mut self,
        now: Instant,
        id: ConnectionId,
        operation: OperationId,
        result: Result<(), String>,
    ) {
        self.with_peer(now, id, |peer, core| peer.handle_installed(core, now, operation, result));
    }

    /// Rekeys the child now; `false` if it is none of version 1.
    pub(crate) fn rekey_v1_child(&mut self, now: Instant, child: ChildId) {
        let found = self.v1.peers.values().find_map(|peer| {
            let mut current = peer.children.values().filter(|found| found.is_current());
            current.find(|found| found.config.id == child).map(|found| (peer.id, found.spi_in))
        });
        if let Some((id, spi_in)) = found {
            self.with_peer(now, id, |peer, core| peer.rekey_child(core, now, spi_in, child));
        }
    }

    /// Sees to it that a connection of version 1 gets what it lacks.
    pub(crate) fn ensure_v1(&mut self, now: Instant, id: ConnectionId) {
        let (Some(state), Some(peer)) = (self.core.connections.get(id), self.v1.peers.get(&id)) else {
            return;
        };
        // What was asked on a phase 1 that the peer may not have would be lost.
        if peer.awaits_confirmation() {
            return;
        }
        let wanted: Vec<ChildId> = state.wanted().map(|child| child.id).collect();
        let lacking: Vec<ChildId> = wanted
            .iter()
            .copied()
            .filter(|child| !self.core.has_pair(*child) && !peer.is_working_on(*child))
            .collect();
        let backoff = |child: &ChildId| state.children.get(child).map(|want| &want.backoff);
        let ready: Vec<ChildId> = lacking
            .iter()
            .filter(|child| backoff(child).is_none_or(|wait| wait.is_over(now)))
            .copied()
            .collect();
        let mut wake = lacking
            .iter()
            .filter(|child| !ready.contains(child))
            .filter_map(|child| backoff(child).and_then(|wait| wait.not_before()))
            .min();
        // Whether the peer of living children lives can be asked on a phase 1 only.
        let unwatched = !peer.children.is_empty() && peer.config.dpd.is_some() && !wanted.is_empty();
        let active = peer.active().map(|found| (found.initiator, found.up().map_or(now, |up| up.up_at)));
        let mut begin = Vec::new();
        let mut main_mode = false;
        match active {
            Some((initiator, up_at)) => {
                let helps_at = if initiator { now } else { after(up_at, RESPONDER_GRACE) };
                if now >= helps_at {
                    begin = ready;
                } else if !ready.is_empty() {
                    wake = earlier(wake, Some(helps_at));
                }
            }
            None if (!ready.is_empty() || unwatched) && !peer.is_trying() => {
                main_mode = state.backoff.is_over(now);
                if !main_mode {
                    wake = earlier(wake, state.backoff.not_before());
                }
            }
            None => {}
        }
        if main_mode || !begin.is_empty() {
            self.with_peer(now, id, |peer, core| {
                if main_mode {
                    peer.begin_phase_one(core, now);
                }
                for child in begin {
                    peer.begin_quick(core, now, child);
                }
            });
        }
        self.timers.set(Timer::Connection(id), wake);
    }

    pub(crate) fn rekey_v1_phase_one(&mut self, now: Instant, id: ConnectionId) {
        self.with_peer(now, id, |peer, core| peer.begin_phase_one(core, now));
    }

    pub(crate) fn end_v1(&mut self, now: Instant, id: ConnectionId) {
        self.with_peer(now, id, |peer, core| peer.end(core, now, &Cause::Requested, true));
        self.core.followups.push_back(Followup::Ensure(id));
    }
}
