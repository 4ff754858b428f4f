//! What a connection should have and has not: the steps between SAs, and between the host's wishes and SAs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cert::PeerCertificates;
use crate::engine::{Engine, Timer};
use crate::exchange::{after, earlier};
use crate::v2::core::Followup;
use crate::v2::established::{Job, Life};
use crate::v2::init;
use crate::v2::sa::{Closed, IkeSa, Stage};
use crate::{
    Cause, ChildConfig, ChildId, Command, Connection, ConnectionId, Event, IkeSaId, RemoteProof, Version,
};

/// The initiator of the IKE SA asks for the further children; its responder helps only after this long, or both
/// would make each.
const RESPONDER_GRACE: Duration = Duration::from_secs(8);
/// How long a peer may take to have the pairs that it has just asked for, when it sends nothing on them.
const TAKE_OVER: Duration = Duration::from_secs(1);
/// When two IKE SAs of one connection are looked at, and when one is ended though the peer should have done it.
const DUPLICATE_CHECK: Duration = Duration::from_secs(10);
const DUPLICATE_FORCED: Duration = Duration::from_secs(40);

impl Engine {
    pub(crate) fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Initiate(id) => {
                if let Some(state) = self.core.connections.get_mut(id) {
                    state.halted = false;
                    state.backoff.clear();
                    for child in state.config().children.iter().map(|child| child.id).collect::<Vec<_>>() {
                        state.want(child).backoff.clear();
                    }
                    self.core.followups.push_back(Followup::Ensure(id));
                }
            }
            Command::InitiateChild(child) => {
                let holder = self
                    .core
                    .connections
                    .iter_mut()
                    .find(|(_, state)| state.config().children.iter().any(|config| config.id == child));
                if let Some((id, state)) = holder {
                    state.halted = false;
                    state.want(child).asked = true;
                    self.core.followups.push_back(Followup::Ensure(id));
                }
            }
            Command::RekeyChild(child) => {
                let pair = self.sas.iter().find_map(|(id, sa)| {
                    let established = sa.established().filter(|found| found.is_active())?;
                    let mut current = established.children.values().filter(|found| found.is_current());
                    current.find(|found| found.id() == child).map(|found| (*id, found.spi_in))
                });
                if pair.is_none() {
                    self.rekey_v1_child(now, child);
                }
                if let Some((id, spi_in)) = pair {
                    self.queue(now, id, Job::RekeyChild(spi_in));
                }
            }
            Command::RekeyIke(id) => {
                self.rekey_v1_phase_one(now, id);
                let active = self.active(id);
                if let Some(active) = active {
                    self.queue(now, active, Job::RekeyIke);
                }
            }
            Command::Terminate(id) => {
                if let Some(state) = self.core.connections.get_mut(id) {
                    state.halted = true;
                    for want in state.children.values_mut() {
                        want.asked = false;
                    }
                }
                self.end_connection(now, id);
            }
            Command::Shutdown => {
                self.shut_down = true;
                for id in self.core.connections.ids() {
                    self.end_connection(now, id);
                }
            }
        }
    }

    /// The IKE SA that serves a connection.
    pub(crate) fn active(&self, id: ConnectionId) -> Option<IkeSaId> {
        self.core.connections.get(id)?.established.last().copied()
    }

    fn of_connection(&self, id: ConnectionId) -> Vec<IkeSaId> {
        let state = self.core.connections.get(id);
        state.map(|state| state.ike_sas.iter().copied().collect()).unwrap_or_default()
    }

    /// Ends all SAs of a connection; a peer that knows us is told.
    pub(crate) fn end_connection(&mut self, now: Instant, id: ConnectionId) {
        for sa in self.of_connection(id) {
            self.end(now, sa, Cause::Requested);
        }
        self.end_v1(now, id);
    }

    fn end(&mut self, now: Instant, id: IkeSaId, cause: Cause) {
        self.with_sa(now, id, |sa, core| match &mut sa.stage {
            Stage::Established(established) => established.begin_delete(&sa.ends, core, now, cause),
            Stage::AuthSent(auth) => {
                core.esp.remove(&auth.child().spi_in);
                sa.stage = Closed::now(now, Some(cause));
            }
            Stage::InitSent(_) | Stage::IntermediateSent(_) | Stage::AuthAwaited(_) => {
                sa.stage = Closed::now(now, Some(cause));
            }
            Stage::Closed(_) => {}
        });
    }

    /// Applies what changed in a connection to its SAs.
    pub(crate) fn reconfigure(&mut self, now: Instant, old: &Connection, new: &Arc<Connection>) {
        let same = is_same_peer(old, new);
        let unix_secs = self.core.unix_secs(now);
        for id in self.of_connection(new.id) {
            let certificates = self.sas.get(&id).and_then(|sa| sa.ends.peer_certificates.as_deref());
            let refused = judge_again(certificates, old, new, unix_secs).err();
            if let (true, Some(detail)) = (same, refused) {
                self.end(now, id, Cause::AuthenticationFailed { side: "we refused the peer", detail });
            } else if same {
                self.follow(now, id, new);
            } else {
                self.end(now, id, Cause::Requested);
            }
        }
    }

    /// Ends the SAs whose peer's certificate has expired.
    pub(crate) fn end_expired(&mut self, now: Instant, unix_secs: u64) {
        let expired: Vec<IkeSaId> = self
            .sas
            .iter()
            .filter(|(_, sa)| sa.established().is_some_and(|established| established.is_active()))
            .filter(|(_, sa)| {
                let certificates = sa.ends.peer_certificates.as_ref();
                certificates.is_some_and(|certificates| certificates.expires_unix_secs < unix_secs)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            let detail = "the peer's certificate has expired".to_owned();
            self.end(now, id, Cause::AuthenticationFailed { side: "we refused the peer", detail });
        }
        self.end_expired_v1(now, unix_secs);
    }

    /// Brings an SA's children in line with the connection as it is now.
    fn follow(&mut self, now: Instant, id: IkeSaId, config: &Arc<Connection>) {
        self.with_sa(now, id, |sa, core| {
            let Some((ends, established)) = sa.established_mut() else { return };
            let changed: Vec<u32> = established
                .children
                .values()
                .filter(|child| !config.children.iter().any(|kept| is_same_child(kept, &child.config)))
                .map(|child| child.spi_in)
                .collect();
            established.reconfigure(Arc::clone(config));
            for spi_in in changed {
                established.delete_child(ends, core, now, spi_in, Cause::Requested);
            }
        });
    }

    /// Sees to it that a connection gets what it lacks.
    pub(crate) fn ensure(&mut self, now: Instant, id: ConnectionId) {
        self.timers.set(Timer::Connection(id), None);
        if self.shut_down {
            return;
        }
        if self.core.connections.get(id).is_some_and(|state| state.config().version != Version::V2) {
            self.ensure_v1(now, id);
            return;
        }
        let lacking = self.lacking(id);
        if lacking.is_empty() {
            return;
        }
        let Some(state) = self.core.connections.get(id) else { return };
        let wait_of = |child: &ChildId| state.children.get(child).and_then(|want| want.backoff.not_before());
        let ready: Vec<ChildId> = lacking
            .iter()
            .filter(|child| state.children.get(child).is_none_or(|want| want.backoff.is_over(now)))
            .copied()
            .collect();
        let mut wake = lacking.iter().filter(|child| !ready.contains(child)).filter_map(wait_of).min();
        if let Some(active) = self.active(id) {
            let helps_at = self.sas.get(&active).map(|sa| match sa.established() {
                Some(established) if !sa.ends.initiator => after(established.established_at, RESPONDER_GRACE),
                _ => now,
            });
            if helps_at.is_some_and(|at| now >= at) {
                for child in ready {
                    self.queue(now, active, Job::CreateChild(child));
                }
            } else if !ready.is_empty() {
                wake = earlier(wake, helps_at);
            }
        } else if let Some(first) = ready.first() {
            let trying = state
                .ike_sas
                .iter()
                .filter_map(|id| self.sas.get(id))
                .any(|sa| sa.ends.initiator && is_attempt(sa));
            if !trying && state.backoff.is_over(now) {
                let config = Arc::clone(state.config());
                let first = *first;
                if let Some(sa) = init::initiate(&mut self.core, now, config, first) {
                    self.store(now, sa);
                }
            } else if !trying {
                wake = earlier(wake, state.backoff.not_before());
            }
        }
        self.timers.set(Timer::Connection(id), wake);
    }

    /// Wanted children that are neither up nor on their way.
    fn lacking(&self, id: ConnectionId) -> Vec<ChildId> {
        let Some(state) = self.core.connections.get(id) else { return Vec::new() };
        let working = |child: ChildId| {
            state.ike_sas.iter().filter_map(|id| self.sas.get(id)).any(|sa| match &sa.stage {
                Stage::InitSent(init) => init.first_child() == child,
                Stage::IntermediateSent(sent) => sent.first_child() == child,
                Stage::AuthSent(auth) => auth.child().config.id == child,
                Stage::Established(established) => established.is_working_on(child),
                Stage::AuthAwaited(_) | Stage::Closed(_) => false,
            })
        };
        state
            .wanted()
            .map(|child| child.id)
            .filter(|child| !self.core.has_pair(*child) && !working(*child))
            .collect()
    }

    /// An SA ended, or an attempt failed.
    pub(crate) fn closed(&mut self, now: Instant, sa: &IkeSa, cause: Option<Cause>) {
        let id = sa.ends.connection;
        let Some(cause) = cause else { return };
        let Some(state) = self.core.connections.get_mut(id) else {
            self.core.event(Event::IkeDown { connection: id, cause, retry_in: None });
            return;
        };
        state.ike_sas.remove(&sa.ends.id);
        state.established.remove(&sa.ends.id);
        state.outgoing.remove(&sa.ends.id);
        let requested = cause == Cause::Requested;
        // What the peer has lost is made anew at once: nobody failed.
        let renewed = matches!(cause, Cause::NotResumed { .. });
        // Our own attempts and SAs that were up are tried again; a stranger's failure costs the peer nothing.
        let ours = sa.ends.initiator || sa.init_request.is_none();
        let wait = (!requested && !renewed && ours)
            .then(|| state.backoff.failed(now, &self.core.limits, &mut self.core.random));
        if state.established.is_empty() {
            let wanted = state.wanted().next().is_some() && !self.shut_down;
            let retry_in = wait.filter(|_| wanted);
            self.core.event(Event::IkeDown { connection: id, cause, retry_in });
        }
        self.core.followups.push_back(Followup::Ensure(id));
    }

    /// An SA came up, or is to be looked at again.
    pub(crate) fn established(&mut self, now: Instant, id: IkeSaId) {
        let Some(sa) = self.sas.get(&id).filter(|sa| sa.established().is_some_and(|found| found.is_active()))
        else {
            return;
        };
        let connection = sa.ends.connection;
        let Some(state) = self.core.connections.get_mut(connection).filter(|_| !self.shut_down) else {
            self.end(now, id, Cause::Requested);
            return;
        };
        state.backoff.clear();
        let config = Arc::clone(state.config());
        let others: Vec<IkeSaId> = state.ike_sas.iter().copied().filter(|other| *other != id).collect();
        // Ids only grow: the first is the oldest.
        let crowd = state.established.len() > self.core.limits.ike_sas_per_connection;
        if let Some(oldest) = state.established.first().copied().filter(|oldest| crowd && *oldest != id) {
            self.core.count("crowded_ike_sas");
            self.forget(now, oldest);
        }
        self.follow(now, id, &config);
        for other in others {
            // An attempt of ours that the peer has not answered is needless now.
            let needless = matches!(self.sas.get(&other).map(|sa| &sa.stage), Some(Stage::InitSent(_)));
            if needless {
                self.with_sa(now, other, |sa, _| sa.stage = Closed::now(now, None));
            } else if self.begins_anew(id, other) {
                self.succeed(now, id, other);
            } else {
                self.check_duplicate(now, id, other);
            }
        }
        self.core.followups.push_back(Followup::Ensure(connection));
    }

    /// The peer made `id` when `other` had long been up, so they are no twins: it has lost `other`, or is about to delete
    /// it. What it made last is what it listens on for sure, once it has our answer.
    fn begins_anew(&self, id: IkeSaId, other: IkeSaId) -> bool {
        let up_since = self.sas.get(&other).and_then(IkeSa::established).filter(|found| found.is_active());
        let began = self.sas.get(&id).filter(|sa| !sa.ends.initiator).map(|sa| sa.created_at);
        matches!((up_since, began), (Some(up), Some(began)) if up.established_at < began)
    }

    /// `id` follows `other`, which is asked whether it lives, and forgotten when it has not said so for a while.
    fn succeed(&mut self, now: Instant, id: IkeSaId, other: IkeSaId) {
        let Some(since) = self.sas.get(&id).and_then(IkeSa::established).map(|found| found.established_at)
        else {
            return;
        };
        let check_at = after(since, DUPLICATE_CHECK);
        if now < check_at {
            self.with_sa(now, id, |sa, _| {
                if let Some((_, established)) = sa.established_mut() {
                    established.take_over_at = Some(after(now, TAKE_OVER));
                    established.duplicate_check_at = Some(check_at);
                }
            });
            self.queue(now, other, Job::Probe);
        } else if self
            .sas
            .get(&other)
            .and_then(IkeSa::established)
            .is_some_and(|found| !found.heard_since(since))
        {
            self.core.count("forgotten_by_silence");
            self.forget(now, other);
        }
    }

    /// Both ends made an IKE SA at once: the one made with the lowest of all nonces goes, by the hand of its creator,
    /// once the other has proved to work at both ends; by ours if the creator does not do it.
    fn check_duplicate(&mut self, now: Instant, one: IkeSaId, other: IkeSaId) {
        let facts = |id: IkeSaId| {
            let sa = self.sas.get(&id)?;
            let established = sa.established().filter(|found| found.life == Life::Active)?;
            (!established.is_rekeying()).then(|| {
                (established.lowest_nonce.clone(), id, sa.ends.initiator, established.established_at)
            })
        };
        let (Some(one), Some(other)) = (facts(one), facts(other)) else { return };
        let younger = one.3.max(other.3);
        let (loser, winner) = if one.0 < other.0 { (one, other) } else { (other, one) };
        let forced = now >= after(younger, DUPLICATE_FORCED);
        let check_at = if now < after(younger, DUPLICATE_CHECK) {
            after(younger, DUPLICATE_CHECK)
        } else if !loser.2 && !forced {
            after(younger, DUPLICATE_FORCED)
        } else if !forced
            && !self.sas.get(&winner.1).and_then(IkeSa::established).is_some_and(|found| found.was_heard())
        {
            self.queue(now, winner.1, Job::Probe);
            after(now, Duration::from_secs(3))
        } else {
            self.core.count("duplicate_ike_sas");
            self.end(now, loser.1, Cause::Requested);
            return;
        };
        self.with_sa(now, winner.1, |sa, _| {
            if let Some((_, established)) = sa.established_mut() {
                established.duplicate_check_at = Some(check_at);
            }
        });
    }

    pub(crate) fn forget_older(&mut self, now: Instant, survivor: IkeSaId) {
        let Some(sa) = self.sas.get(&survivor) else { return };
        let (connection, created_at) = (sa.ends.connection, sa.created_at);
        for id in self.of_connection(connection) {
            // One that came up while the peer was already asking for this one is not meant: it is as new.
            let older = id != survivor
                && self
                    .sas
                    .get(&id)
                    .and_then(IkeSa::established)
                    .is_some_and(|established| established.established_at < created_at);
            if older {
                self.core.count("forgotten_by_initial_contact");
                self.forget(now, id);
            }
        }
    }

    /// Closes an IKE SA that the peer no longer has, without a word to it.
    fn forget(&mut self, now: Instant, id: IkeSaId) {
        self.with_sa(now, id, |sa, core| {
            let stage = std::mem::replace(&mut sa.stage, Closed::now(now, None));
            if let Stage::Established(established) = stage {
                sa.stage = established.close(&sa.ends, core, now, Some(Cause::DeletedByPeer));
            }
        });
    }

    pub(crate) fn move_children(&mut self, now: Instant, from: IkeSaId, to: IkeSaId) {
        let to = self.last_heir(to);
        // An heir that ended meanwhile cannot hold them; they end with the SA that they are on.
        if self.sas.get(&to).is_none_or(|sa| sa.established().is_none()) {
            return;
        }
        let mut moved = None;
        self.with_sa(now, from, |sa, _| moved = sa.established_mut().map(|(_, old)| old.hand_over(now, to)));
        let Some((children, jobs)) = moved else { return };
        for spi_in in children.keys() {
            self.core.esp.insert(*spi_in, to);
        }
        self.with_sa(now, to, |sa, core| {
            if let Some((ends, established)) = sa.established_mut() {
                established.take_over(children, jobs);
                core.event(Event::IkeRekeyed { connection: ends.connection, ike_sa: ends.id });
                core.followups.push_back(Followup::Established(ends.id));
                established.pump(ends, core, now);
            }
        });
    }

    /// The SA at the end of the line: one that is to take over may have been rekeyed itself before the children came.
    fn last_heir(&self, first: IkeSaId) -> IkeSaId {
        // Each heir is younger than the one before: the line ends.
        let next = |id: &IkeSaId| self.sas.get(id)?.established()?.heir().filter(|heir| heir > id);
        std::iter::successors(Some(first), next).last().unwrap_or(first)
    }
}

fn is_attempt(sa: &IkeSa) -> bool {
    matches!(sa.stage, Stage::InitSent(_) | Stage::IntermediateSent(_) | Stage::AuthSent(_))
}

/// A phase 1 or IKE SA that was made under the one would have been made so under the other.
pub(crate) fn is_same_peer(old: &Connection, new: &Connection) -> bool {
    old.version == new.version
        && old.local == new.local
        && old.remote == new.remote
        && old.local_identity == new.local_identity
        && old.remote_identity == new.remote_identity
        && old.authentication.lasts_as(&new.authentication)
        && crate::Ppk::is_same(old.ppk.as_ref(), new.ppk.as_ref())
        && old.proposals == new.proposals
}

/// Whether a peer that proved itself by a certificate still does: another anchor or a new revocation list may say no.
pub(crate) fn judge_again(
    certificates: Option<&PeerCertificates>,
    old: &Connection,
    new: &Connection,
    unix_secs: Option<u64>,
) -> Result<(), String> {
    let (RemoteProof::Certificate(before), RemoteProof::Certificate(trust)) =
        (&old.authentication.remote, &new.authentication.remote)
    else {
        return Ok(());
    };
    match certificates {
        Some(certificates) if !before.is_same(trust) => certificates.judge_again(trust, unix_secs),
        _ => Ok(()),
    }
}

/// What a running pair was agreed on is still what is wanted.
pub(crate) fn is_same_child(kept: &ChildConfig, running: &ChildConfig) -> bool {
    kept.id == running.id
        && kept.mode == running.mode
        && kept.local_selectors == running.local_selectors
        && kept.remote_selectors == running.remote_selectors
        && kept.proposals == running.proposals
}
