//! The engine's outer face: who an input is for, when to wake, and what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crate::half_open::HalfOpen;
use crate::v1::Desk;
use crate::v2::core::{Core, Followup};
use crate::v2::established::{Established, Job};
use crate::v2::init_answer;
use crate::v2::kept::Mark;
use crate::v2::sa::{Closed, IkeSa, Inbound, RequestDigest, Stage};
use crate::wire::isakmp::is_isakmp;
use crate::wire::registry::notify;
use crate::wire::{Exchange, FirstMessage, Header, Message, Notify, Payload, WireError};
use crate::{
    Cause, Classified, Command, Connection, ConnectionId, DataplaneEvent, IkeSaId, IkeSaView, Limits,
    OperationId, Output, Path,
};

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    IkeSa(IkeSaId),
    Connection(ConnectionId),
}

/// Deadlines by owner, and in order.
#[derive(Default)]
pub(crate) struct Timers {
    by_owner: BTreeMap<Timer, Instant>,
    in_order: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    pub(crate) fn set(&mut self, owner: Timer, deadline: Option<Instant>) {
        if let Some(known) = self.by_owner.remove(&owner) {
            self.in_order.remove(&(known, owner));
        }
        if let Some(deadline) = deadline {
            self.by_owner.insert(owner, deadline);
            self.in_order.insert((deadline, owner));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.in_order.first().map(|(deadline, _)| *deadline)
    }

    fn due(&mut self, now: Instant) -> Option<Timer> {
        let (deadline, owner) = *self.in_order.first()?;
        if deadline > now {
            return None;
        }
        self.set(owner, None);
        Some(owner)
    }
}

/// The IKE engine of one host. See the crate's documentation for the loop around it.
pub struct Engine {
    pub(crate) core: Core,
    pub(crate) sas: BTreeMap<IkeSaId, IkeSa>,
    pub(crate) timers: Timers,
    /// IKE_SA_INIT requests that were answered, so that a repeated one gets the same answer.
    init_requests: BTreeMap<(SocketAddr, RequestDigest), IkeSaId>,
    half_open: HalfOpen,
    pub(crate) shut_down: bool,
    /// What the kept state of each IKE SA that has one depends on.
    pub(crate) kept: BTreeMap<IkeSaId, Mark>,
    /// The peers that speak version 1.
    pub(crate) v1: Desk,
}

impl Engine {
    /// An engine without connections. All randomness comes from `seed`, which must be secret and never used twice.
    pub fn new(limits: Limits, seed: [u8; 32]) -> Self {
        Self {
            core: Core::new(limits, seed),
            sas: BTreeMap::new(),
            timers: Timers::default(),
            init_requests: BTreeMap::new(),
            half_open: HalfOpen::default(),
            shut_down: false,
            kept: BTreeMap::new(),
            v1: Desk::default(),
        }
    }

    /// Adds a connection or replaces the one with its id. What did not change keeps running; children whose mode,
    /// selectors or proposals changed are made anew, and the IKE SA too if its addresses, identities, key or
    /// proposals did.
    pub fn set_connection(&mut self, now: Instant, connection: Connection) {
        let id = connection.id;
        let config = Arc::new(connection);
        let old = self.core.connections.set(&config);
        if let (Some(old), Some(state)) = (&old, self.core.connections.get_mut(id)) {
            state.children.retain(|child, _| config.children.iter().any(|kept| kept.id == *child));
            for want in state.children.values_mut() {
                want.backoff.clear();
            }
            state.backoff.clear();
            self.reconfigure(now, old, &config);
        }
        self.configure_v1(now, old.as_deref(), &config);
        self.core.followups.push_back(Followup::Ensure(id));
        self.settle(now);
    }

    /// Tells the time of day, by which certificates are judged; none is good before. To be told again now and then: the
    /// clock may have been set, and SAs whose peer's certificate has expired end here.
    pub fn set_wall_clock(&mut self, now: Instant, unix_secs: u64) {
        self.core.wall_clock = Some((now, unix_secs));
        self.end_expired(now, unix_secs);
        self.settle(now);
    }

    /// Removes a connection: its SAs are deleted and the peer is told.
    pub fn remove_connection(&mut self, now: Instant, id: ConnectionId) {
        self.end_connection(now, id);
        self.leave_v1(now, id);
        self.core.connections.remove(id);
        self.timers.set(Timer::Connection(id), None);
        self.settle(now);
    }

    /// Takes in a UDP payload as it came, non-ESP marker included.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, payload: &[u8]) -> Classified {
        let classified = self.apart(|engine| engine.classify(now, path, payload));
        if let Classified::Dropped(why) = classified {
            self.core.count(why);
        }
        self.settle(now);
        classified
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        // What is due is done once; what it sets anew waits for the next call, even if it is due again.
        let mut due = Vec::new();
        while let Some(timer) = self.timers.due(now) {
            due.push(timer);
        }
        for timer in due {
            match timer {
                Timer::IkeSa(id) if self.v1.holder(id).is_some() => {
                    if let Some(connection) = self.v1.holder(id) {
                        self.with_peer(now, connection, |peer, core| peer.handle_timeout(core, now));
                    }
                }
                Timer::IkeSa(id) => {
                    self.with_sa(now, id, |sa, core| sa.handle_timeout(core, now));
                }
                Timer::Connection(id) => self.core.followups.push_back(Followup::Ensure(id)),
            }
        }
        self.settle(now);
    }

    /// Takes in a command.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        self.command(now, command);
        self.settle(now);
    }

    /// Takes in what the dataplane saw.
    pub fn handle_dataplane(&mut self, now: Instant, event: DataplaneEvent) {
        let (DataplaneEvent::SoftLimit { spi_in }
        | DataplaneEvent::HardLimit { spi_in }
        | DataplaneEvent::FirstPacket { spi_in }
        | DataplaneEvent::Traffic { spi_in }
        | DataplaneEvent::PeerMoved { spi_in, .. }) = event;
        let Some(holder) = self.core.esp.get(&spi_in).copied() else { return };
        if let Some(connection) = self.v1.holder(holder) {
            self.peer_dataplane(now, connection, spi_in, event);
            self.settle(now);
            return;
        }
        self.with_sa(now, holder, |sa, core| {
            let Some((ends, established)) = sa.established_mut() else { return };
            match event {
                DataplaneEvent::SoftLimit { .. } => established.soft_limit(ends, core, now, spi_in),
                DataplaneEvent::HardLimit { .. } => {
                    established.delete_child(ends, core, now, spi_in, Cause::Expired);
                }
                DataplaneEvent::FirstPacket { .. } => {
                    established.heard(now);
                    established.first_packet(core, spi_in);
                }
                DataplaneEvent::Traffic { .. } => established.heard(now),
                DataplaneEvent::PeerMoved { remote, .. } => {
                    established.heard(now);
                    let path = Path { local: ends.path.local, remote };
                    established.follow(ends, core, path);
                }
            }
        });
        self.settle(now);
    }

    /// Takes in the answer to a [`crate::SaOperation::Install`]; `Err` bears the dataplane's words.
    pub fn handle_sa_result(&mut self, now: Instant, operation: OperationId, result: Result<(), String>) {
        let Some(holder) = self.core.operations.remove(&operation) else {
            self.core.count("stale_sa_results");
            return;
        };
        if let Some(connection) = self.v1.holder(holder) {
            self.peer_installed(now, connection, operation, result);
            self.settle(now);
            return;
        }
        self.with_sa(now, holder, |sa, core| {
            if let Some((ends, established)) = sa.established_mut() {
                established.handle_installed(ends, core, now, operation, result);
            }
        });
        self.settle(now);
    }

    /// The next output; call until `None` after each of the other calls.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.next_keepings().or_else(|| self.core.outputs.pop_front())
    }

    /// When [`Engine::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The IKE SAs, without secrets.
    pub fn isakmp_sas(&self, now: Instant) -> Vec<IkeSaView> {
        let of_version_2 =
            self.sas.values().filter(|sa| !sa.is_closed()).map(|sa| crate::view::ike_sa(sa, now));
        let of_version_1 = self.v1.peers().flat_map(|peer| crate::v1::view::isakmp_sas(peer, now));
        of_version_2.chain(of_version_1).collect()
    }

    /// Counters by name (`snake_case`): messages, drops by cause, cookies, collisions.
    pub fn counters(&self) -> &BTreeMap<&'static str, u64> {
        &self.core.counters
    }

    /// Runs what a datagram leads to. A panic before its SA is known ends what is done for this datagram; one in the step of an
    /// SA, that SA.
    fn apart(&mut self, step: impl FnOnce(&mut Self) -> Classified) -> Classified {
        // Unwind safe: what a step outside an SA changes are counters, outputs and the generator.
        let outcome = catch_unwind(AssertUnwindSafe(|| step(self)));
        outcome.unwrap_or_else(|_| {
            self.core.count("panics");
            Classified::Dropped("panicked")
        })
    }

    fn classify(&mut self, now: Instant, path: Path, payload: &[u8]) -> Classified {
        if payload == [0xff] {
            return Classified::Keepalive;
        }
        let bytes = if path.local.port() == self.core.limits.nat_port {
            match payload.split_first_chunk::<4>() {
                Some(([0, 0, 0, 0], message)) => message,
                Some(_) => return Classified::Esp,
                None => return Classified::Dropped("truncated"),
            }
        } else {
            payload
        };
        self.core.count("messages_in");
        if is_isakmp(bytes) {
            return self.handle_isakmp(now, path, bytes);
        }
        if let Some(first) = FirstMessage::read(bytes).filter(|_| !self.shut_down) {
            let is_repeated = || self.init_requests.contains_key(&(path.remote, RequestDigest::new(bytes)));
            let core = &mut self.core;
            let away = init_answer::turn_away(core, now, path, &first, &self.half_open, is_repeated);
            if let Some(classified) = away {
                return classified;
            }
        }
        match Message::decode(bytes) {
            Ok(message) => self.demultiplex(now, &Inbound { path, bytes, message: &message }),
            Err(error) => {
                self.answer_undecodable(path, bytes, error);
                Classified::Dropped(error.name())
            }
        }
    }

    fn demultiplex(&mut self, now: Instant, inbound: &Inbound<'_>) -> Classified {
        let header = &inbound.message.header;
        if header.exchange == Exchange::IkeSaInit && !header.response {
            return self.handle_init_request(now, inbound);
        }
        let ours = if header.initiator { header.spi_r } else { header.spi_i };
        let Some(id) = self.core.by_spi.get(&ours).copied() else {
            return Classified::Dropped("unknown_ike_spi");
        };
        let fits = self.sas.get(&id).is_some_and(|sa| {
            let theirs = if header.initiator { header.spi_i } else { header.spi_r };
            let known = if sa.ends.initiator { sa.ends.spis.responder } else { sa.ends.spis.initiator };
            // The responder's SPI is not known before its first answer.
            sa.ends.initiator != header.initiator && (known == theirs || known == 0)
        });
        if !fits {
            return Classified::Dropped("unknown_ike_spi");
        }
        let mut classified = Classified::Dropped("panicked");
        self.with_sa(now, id, |sa, core| classified = sa.handle(core, now, inbound));
        classified
    }

    fn handle_init_request(&mut self, now: Instant, inbound: &Inbound<'_>) -> Classified {
        let digest = RequestDigest::new(inbound.bytes);
        let source = inbound.path.remote;
        if let Some(id) = self.init_requests.get(&(source, digest)) {
            let Some(Stage::AuthAwaited(awaited)) = self.sas.get(id).map(|sa| &sa.stage) else {
                return Classified::Dropped("late_ike_sa_init");
            };
            let answer = awaited.response().to_vec();
            self.core.transmit(inbound.path, &answer);
            self.core.count("responses_repeated");
            return Classified::Ike;
        }
        if self.shut_down {
            return Classified::Dropped("shut_down");
        }
        match init_answer::respond(&mut self.core, now, inbound) {
            Ok(Some(sa)) => {
                if let Some(request) = &sa.init_request {
                    self.init_requests.insert(request.clone(), sa.ends.id);
                }
                self.store(now, sa);
                Classified::Ike
            }
            Ok(None) => Classified::Ike,
            Err(why) => Classified::Dropped(why),
        }
    }

    /// INVALID_MAJOR_VERSION and UNSUPPORTED_CRITICAL_PAYLOAD in clear (RFC 7296 section 2.21.1), only to requests
    /// and never longer than they are.
    fn answer_undecodable(&mut self, path: Path, bytes: &[u8], error: WireError) {
        const RESPONSE: u8 = 0x20;
        let (Some(version), Some(flags)) = (bytes.get(17), bytes.get(19)) else { return };
        if flags & RESPONSE != 0 {
            return;
        }
        let notify = match error {
            WireError::BadVersion if version >> 4 > 2 => Notify::new(notify::INVALID_MAJOR_VERSION, vec![]),
            WireError::UnknownCritical(kind) => Notify::new(notify::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind]),
            _ => return,
        };
        // As a version 2 header it can be read whatever its version is.
        let mut as_version_2 = bytes.to_vec();
        if let Some(version) = as_version_2.get_mut(17) {
            *version = 0x20;
        }
        let Ok((header, _)) = Header::decode(&as_version_2) else { return };
        let protected = header.spi_r != 0;
        if protected && matches!(error, WireError::UnknownCritical(_)) {
            return;
        }
        let header = Header { initiator: false, response: true, ..header };
        let answer = Message::encode(header, &[Payload::Notify(notify)]);
        if answer.len() <= bytes.len() {
            self.core.transmit(path, &answer);
        }
    }

    /// Runs a step of one SA. A panic in it ends that SA, not the process.
    pub(crate) fn with_sa(&mut self, now: Instant, id: IkeSaId, step: impl FnOnce(&mut IkeSa, &mut Core)) {
        let Some(mut sa) = self.sas.remove(&id) else { return };
        let was_closed = sa.is_closed();
        let before: Vec<_> = sa
            .established()
            .map(|found| found.children.values().map(|child| (child.id(), child.spi_in)).collect())
            .unwrap_or_default();
        let outcome = catch_unwind(AssertUnwindSafe(|| step(&mut sa, &mut self.core)));
        if outcome.is_err() {
            self.core.count("panics");
            let detail = "an internal error ended the SA".to_owned();
            let cause = Cause::Protocol { phase: crate::Phase::Informational, detail };
            for (child, spi_in) in before {
                if self.core.pair_down(child, spi_in, None, self.core.limits.linger) {
                    self.core.child_down(sa.ends.connection, child, cause.clone());
                }
            }
            sa.stage = Closed::now(now, Some(cause));
        }
        if !was_closed && let Stage::Closed(closed) = &mut sa.stage {
            let cause = closed.cause.take();
            self.closed(now, &sa, cause);
        }
        self.store(now, sa);
    }

    /// Puts an SA in its place, with its deadline and its share of the half-open count; forgets one that is through.
    pub(crate) fn store(&mut self, now: Instant, sa: IkeSa) {
        let id = sa.ends.id;
        self.keep(now, &sa);
        // What was refused keeps its place for as long as it keeps its answer: whoever fails again and again comes no
        // faster than who never proves itself.
        let refused = self.half_open.contains(id) && sa.is_closed() && !sa.is_forgettable(now);
        if refused || matches!(sa.stage, Stage::AuthAwaited(_)) {
            self.half_open.insert(id, sa.ends.path.remote.ip());
        } else {
            self.half_open.remove(id);
        }
        if let Some(state) = self.core.connections.get_mut(sa.ends.connection) {
            if sa.is_closed() {
                state.ike_sas.remove(&id);
            } else {
                state.ike_sas.insert(id);
            }
            let active = sa.established().map(Established::is_active);
            for (set, member) in [(&mut state.established, true), (&mut state.outgoing, false)] {
                if active == Some(member) {
                    set.insert(id);
                } else {
                    set.remove(&id);
                }
            }
        }
        if sa.is_forgettable(now) {
            self.core.by_spi.remove(&sa.ends.our_spi());
            if let Some(request) = &sa.init_request {
                self.init_requests.remove(request);
            }
            self.timers.set(Timer::IkeSa(id), None);
            return;
        }
        self.timers.set(Timer::IkeSa(id), sa.deadline());
        self.sas.insert(id, sa);
    }

    /// Does what SAs asked for about others, until nothing is left.
    pub(crate) fn settle(&mut self, now: Instant) {
        loop {
            for sa in std::mem::take(&mut self.core.born) {
                self.store(now, sa);
            }
            let Some(followup) = self.core.followups.pop_front() else { return };
            match followup {
                Followup::MoveChildren { from, to } => self.move_children(now, from, to),
                Followup::ForgetOlder { survivor } => self.forget_older(now, survivor),
                Followup::Abandon(id, patience) => self.with_sa(now, id, |sa, _| {
                    if let Some((_, established)) = sa.established_mut() {
                        established.abandon(now, patience);
                    }
                }),
                Followup::TellDeleted { connection, pairs } => {
                    if let Some(active) = self.active(connection) {
                        for spi_in in pairs {
                            self.queue(now, active, Job::DeleteChild(spi_in));
                        }
                    }
                }
                Followup::Ensure(id) => self.ensure(now, id),
                Followup::Established(id) => self.established(now, id),
            }
        }
    }

    /// Lets an SA do at once what was just queued for it.
    pub(crate) fn queue(&mut self, now: Instant, id: IkeSaId, job: Job) {
        self.with_sa(now, id, |sa, core| {
            if let Some((ends, established)) = sa.established_mut() {
                established.enqueue(now, job);
                established.pump(ends, core, now);
            }
        });
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
