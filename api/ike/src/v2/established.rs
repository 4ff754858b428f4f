//! An IKE SA whose peer is authenticated: its windows, jobs, timers and children.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::{ChildRequest, ChildSa};
use super::core::{Core, Followup};
use super::followup::{Asked, FollowupAwaited};
use super::fragments::asks_again;
use super::ike_rekey::{IkeRekeyRequest, TheirIkeRekey, additional_of};
use super::payloads::Picked;
use super::sa::{Ends, Inbound, RequestDigest, Stage};
pub(crate) use super::tasks::{Held, Installing, Job, Life, Request};
use crate::crypto::{Datagrams, IkeKeys, insecurities};
use crate::exchange::{Receive, ReceiveWindow, Retransmission, SendWindow, after};
use crate::wire::registry::notify;
use crate::wire::{Delete, Exchange, Notify, Payload, WireError, decode_payloads};
use crate::{
    Cause, ChildConfig, Classified, Connection, Event, IkeSaId, Insecurity, OperationId, Path, Phase,
};

/// Soft lifetimes are shortened by up to this much, so that both ends rarely rekey at once.
const REKEY_JITTER_PERCENT: u32 = 10;
/// The IKE SA ends this long after its rekey was due, if no rekey succeeds.
const IKE_GRACE: Duration = Duration::from_secs(600);
/// When duplicates are looked for, and when they are ended though the peer should have done it.
pub(super) const DUPLICATE_CHECK: Duration = Duration::from_secs(10);
pub(super) const DUPLICATE_FORCED: Duration = Duration::from_secs(40);
/// A replaced SA whose DELETE the peer owes is gone by itself after this long.
pub(super) const REPLACED_PATIENCE: Duration = Duration::from_secs(60);
/// Jobs waiting in one IKE SA.
const MAX_QUEUE: usize = 4096;

/// See the module's documentation.
pub(crate) struct Established {
    pub(crate) config: Arc<Connection>,
    pub(super) keys: IkeKeys,
    pub(crate) lowest_nonce: Vec<u8>,
    pub(super) send: SendWindow<Request>,
    pub(super) receive: ReceiveWindow,
    /// Fingerprint of the request accepted last.
    pub(super) last_request: Option<RequestDigest>,
    pub(super) queue: VecDeque<(Instant, Job)>,
    pub(crate) children: BTreeMap<u32, ChildSa>,
    pub(super) installing: BTreeMap<OperationId, Installing>,
    pub(crate) established_at: Instant,
    pub(super) heard_at: Instant,
    pub(super) sent_at: Instant,
    pub(crate) rekey_at: Instant,
    pub(crate) expires_at: Instant,
    pub(crate) duplicate_check_at: Option<Instant>,
    /// When traffic moves to the pairs of this SA, whose maker has lost those of another one, if nothing arrives before.
    pub(crate) take_over_at: Option<Instant>,
    /// Idle time after which a NAT keepalive is due.
    pub(super) keepalive: Duration,
    pub(crate) life: Life,
    /// The SA that the peer's rekey made this one for, while a rekey of our own may still win.
    pub(super) contends_with: Option<IkeSaId>,
    /// The SA that took this one's place.
    pub(super) heir: Option<IkeSaId>,
    /// The SA that the peer's rekey made of this one, which lost to that of ours.
    pub(super) rival: Option<IkeSaId>,
    /// The peer has deleted this SA; only our own rekey's answer, which may be under way, is still read.
    pub(super) deleted_by_peer: bool,
    /// The initiator said that it has no other SA with us.
    pub(super) initial_contact: bool,
    /// Of before this engine; the peer has not said yet that it has it.
    pub(super) unconfirmed: bool,
    /// What the peer asked for and key exchanges are left of.
    pub(super) followup: Option<Box<FollowupAwaited>>,
    /// The peer's rekey of this SA that we answered.
    pub(super) theirs: Option<TheirIkeRekey>,
}

impl Established {
    /// `windows` are the next ids to send and to receive.
    pub(super) fn new(
        core: &mut Core,
        now: Instant,
        config: Arc<Connection>,
        keys: IkeKeys,
        lowest_nonce: Vec<u8>,
        windows: (u32, u32),
    ) -> Self {
        let rekey_at = after(now, core.random.shortened(config.lifetime, REKEY_JITTER_PERCENT));
        let expires_at = after(after(now, config.lifetime), IKE_GRACE);
        Self {
            config,
            keys,
            lowest_nonce,
            send: SendWindow::new(windows.0),
            receive: ReceiveWindow::new(windows.1),
            last_request: None,
            queue: VecDeque::new(),
            children: BTreeMap::new(),
            installing: BTreeMap::new(),
            established_at: now,
            heard_at: now,
            sent_at: now,
            rekey_at,
            expires_at,
            duplicate_check_at: None,
            take_over_at: None,
            keepalive: core.limits.keepalive,
            life: Life::Active,
            contends_with: None,
            heir: None,
            rival: None,
            deleted_by_peer: false,
            initial_contact: false,
            unconfirmed: false,
            followup: None,
            theirs: None,
        }
    }

    pub(crate) fn suite(&self) -> String {
        self.keys.suite.to_string()
    }

    pub(crate) fn insecurities(&self) -> Vec<Insecurity> {
        let suite = &self.keys.suite;
        let hashes = suite.cipher.integrity().into_iter().chain([suite.prf]);
        insecurities(suite.cipher.encryption(), hashes, suite.group)
    }

    pub(crate) fn is_active(&self) -> bool {
        self.life == Life::Active
    }

    pub(crate) fn is_rekeying(&self) -> bool {
        match self.send.task() {
            Some(Request::RekeyIke(_)) => true,
            Some(Request::Followup(request)) => matches!(request.asked, Asked::IkeSa(_)),
            _ => false,
        }
    }

    /// Takes in a message; its header's SPIs are this SA's.
    pub(super) fn handle(
        mut self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        inbound: &Inbound<'_>,
    ) -> (Stage, Classified) {
        let header = inbound.message.header;
        let dropped = |stage: Box<Self>, why| (Stage::Established(stage), Classified::Dropped(why));
        if self.is_disowned(ends, inbound) {
            return (self.release(core, now, "the peer does not know it"), Classified::Ike);
        }
        if !inbound.message.is_protected() {
            return dropped(self, "unprotected");
        }
        if header.response {
            // Asked whether it has the SA, the peer may repeat an answer that was not kept: it is not to that question.
            let repeats = self.unconfirmed && header.exchange != Exchange::Informational;
            if repeats || !self.send.awaits(header.message_id) {
                return dropped(self, "unexpected_response");
            }
        } else {
            match self.receive.classify(header.message_id) {
                Receive::New if self.receive.is_pending() => return dropped(self, "request_pending"),
                Receive::New => {}
                Receive::Repeated(answer) => {
                    let (known, opening) = (self.last_request.as_ref(), &self.keys.opening);
                    if !asks_again(known, opening, inbound, ends.fragments.agreed) {
                        return dropped(self, "outside_window");
                    }
                    core.transmit_all(inbound.path, answer);
                    core.count("responses_repeated");
                    return (Stage::Established(self), Classified::Ike);
                }
                Receive::Pending => return dropped(self, "request_pending"),
                Receive::Outside => return dropped(self, "outside_window"),
            }
        }
        let opened = match ends.fragments.open(&self.keys.opening, inbound) {
            Ok(Some(opened)) => opened,
            Ok(None) => {
                self.heard_at = now;
                return (Stage::Established(self), Classified::Ike);
            }
            Err(why) => return dropped(self, why),
        };
        self.heard_at = now;
        self.confirm(ends, core);
        let payloads = decode_payloads(opened.first, &opened.plain);
        if header.response {
            let Some(request) = self.send.answered() else { return dropped(self, "unexpected_response") };
            self.follow(ends, core, inbound.path);
            let stage = match payloads.ok().and_then(|found| Picked::new(found).ok()) {
                Some(picked) => self.handle_response(ends, core, now, request, picked),
                None => self.broken(ends, core, now, header.exchange),
            };
            return (stage, Classified::Ike);
        }
        if let Some(old) = self.contends_with.take() {
            let loses = payloads.as_ref().is_ok_and(|found| found.contains(&Payload::Delete(Delete::IkeSa)));
            if !loses {
                // The peer works on this SA: its rekey stands. It asks again when the children are here.
                core.followups.push_back(Followup::MoveChildren { from: old, to: ends.id });
                return dropped(self, "children_not_here");
            }
        }
        self.accept_request(opened.digest);
        self.follow(ends, core, inbound.path);
        // Section 2.21.3: an authenticated peer is told of whatever it does wrong, an exchange that has no place here included.
        let belongs =
            !matches!(header.exchange, Exchange::IkeAuth | Exchange::IkeIntermediate | Exchange::Other(_));
        let stage = match payloads {
            _ if !belongs => self.refuse_malformed(ends, core, now, inbound),
            Ok(found) => match Picked::new(found) {
                Ok(picked) => self.handle_request(ends, core, now, inbound, picked),
                Err(_) => self.refuse_malformed(ends, core, now, inbound),
            },
            Err(WireError::UnknownCritical(kind)) => {
                let error = Notify::new(notify::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind]);
                self.respond(ends, core, now, header.exchange, inbound.path, &[Payload::Notify(error)]);
                Stage::Established(self)
            }
            Err(_) => self.refuse_malformed(ends, core, now, inbound),
        };
        (settle(stage, ends, core, now), Classified::Ike)
    }

    fn handle_request(
        mut self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        inbound: &Inbound<'_>,
        picked: Picked,
    ) -> Stage {
        let malformed = match inbound.message.header.exchange {
            Exchange::CreateChildSa => self.handle_create_child(ends, core, now, inbound.path, picked),
            Exchange::IkeFollowupKe => self.handle_followup(ends, core, now, inbound.path, &picked),
            _ => return self.handle_informational(ends, core, now, inbound, &picked),
        };
        match malformed {
            Some(answer) => self.end_as_malformed(ends, core, now, answer),
            None => Stage::Established(self),
        }
    }

    fn handle_response(
        mut self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        request: Request,
        picked: Picked,
    ) -> Stage {
        if picked.notify(notify::INVALID_SYNTAX).is_some() && self.is_active() {
            return self.ended_as_malformed(ends, core, now, &request);
        }
        let stage = match request {
            Request::Child(request) => {
                self.child_answered(ends, core, now, *request, &picked);
                Stage::Established(self)
            }
            Request::RekeyIke(request) => {
                self.ike_rekey_answered(ends, core, now, *request, &picked);
                Stage::Established(self)
            }
            Request::Followup(request) => {
                self.followup_answered(ends, core, now, *request, &picked);
                Stage::Established(self)
            }
            Request::DeleteChild(spi_in) => {
                self.child_deleted(ends, core, spi_in, Cause::Requested);
                Stage::Established(self)
            }
            Request::DeleteIke => {
                let cause = match std::mem::replace(&mut self.life, Life::Replaced) {
                    Life::Deleting(cause) => Some(cause),
                    _ => None,
                };
                // The peer is through with this one, and so with what it made of it.
                let rival = self.rival.map(|rival| Followup::Abandon(rival, core.limits.linger));
                core.followups.extend(rival);
                self.close(ends, core, now, cause)
            }
            Request::Probe => Stage::Established(self),
        };
        let stage = match stage {
            Stage::Established(ended) if ended.deleted_by_peer => ended.end_as_deleted(ends, core, now),
            stage => stage,
        };
        settle(stage, ends, core, now)
    }

    /// An authentic answer that breaks the protocol: the two ends no longer agree on what is there.
    fn broken(
        mut self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        exchange: Exchange,
    ) -> Stage {
        let phase =
            if exchange == Exchange::CreateChildSa { Phase::CreateChildSa } else { Phase::Informational };
        let cause = Cause::Protocol { phase, detail: "malformed payloads".to_owned() };
        self.begin_delete(ends, core, now, cause);
        settle(Stage::Established(self), ends, core, now)
    }

    /// Section 2.21.3: INVALID_SYNTAX is fatal for the IKE SA.
    fn refuse_malformed(
        mut self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        inbound: &Inbound<'_>,
    ) -> Stage {
        let exchange = inbound.message.header.exchange;
        let error = Notify::new(notify::INVALID_SYNTAX, Vec::new());
        let answer = self.respond(ends, core, now, exchange, inbound.path, &[Payload::Notify(error)]);
        self.end_as_malformed(ends, core, now, answer)
    }

    pub(super) fn accept_request(&mut self, digest: RequestDigest) {
        self.receive.accept();
        self.last_request = Some(digest);
    }

    /// Answers the request accepted last, and keeps the answer.
    pub(super) fn respond(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        exchange: Exchange,
        path: Path,
        payloads: &[Payload],
    ) -> Datagrams {
        let header = ends.header(exchange, true, self.receive.last_id());
        // A counter of 2^32 messages does not run out.
        let limit = ends.limit_bytes(&core.limits);
        let sealed = self.keys.sealing.seal(header, payloads, limit, &mut core.random);
        let Ok(datagrams) = sealed else { return Vec::new() };
        core.transmit_all(path, &datagrams);
        self.sent_at = now;
        self.receive.respond(datagrams.clone());
        datagrams
    }

    pub(super) fn request(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        payloads: &[Payload],
        request: Request,
    ) {
        let exchange = match &request {
            Request::Child(_) | Request::RekeyIke(_) => Exchange::CreateChildSa,
            Request::Followup(_) => Exchange::IkeFollowupKe,
            Request::DeleteChild(_) | Request::DeleteIke | Request::Probe => Exchange::Informational,
        };
        let header = ends.header(exchange, false, self.send.next_id());
        let limit = ends.limit_bytes(&core.limits);
        let sealed = self.keys.sealing.seal(header, payloads, limit, &mut core.random);
        let Ok(datagrams) = sealed else { return };
        core.transmit_all(ends.path, &datagrams);
        self.sent_at = now;
        let retransmission = Retransmission::new(datagrams, now, &core.limits, &mut core.random);
        self.send.sent(retransmission, request);
    }

    /// Queues a job unless it waits already.
    pub(crate) fn enqueue(&mut self, not_before: Instant, job: Job) {
        if self.queue.len() < MAX_QUEUE && !self.queue.iter().any(|(_, queued)| *queued == job) {
            self.queue.push_back((not_before, job));
        }
    }

    /// Queues a job again after TEMPORARY_FAILURE (section 2.25).
    pub(super) fn retry(&mut self, core: &mut Core, now: Instant, job: Job) {
        let wait = core.random.shortened(Duration::from_secs(7), 70);
        core.count("temporary_failures");
        self.enqueue(after(now, wait), job);
    }

    /// Once another SA took its place, what is about children waits for that one, and the rest is pointless.
    pub(super) fn may_begin(&self, job: Job) -> bool {
        let known = !self.unconfirmed || job == Job::Probe;
        (self.life == Life::Active && known) || job == Job::DeleteIke
    }

    /// Begins waiting jobs while the window is free.
    pub(crate) fn pump(&mut self, ends: &Ends, core: &mut Core, now: Instant) {
        while self.send.is_idle() {
            let due =
                self.queue.iter().position(|(not_before, job)| *not_before <= now && self.may_begin(*job));
            let Some((_, job)) = due.and_then(|index| self.queue.remove(index)) else { return };
            self.begin(ends, core, now, job);
        }
    }

    fn begin(&mut self, ends: &Ends, core: &mut Core, now: Instant, job: Job) {
        match (job, &self.life) {
            (Job::DeleteIke, _) => {
                self.request(ends, core, now, &[Payload::Delete(Delete::IkeSa)], Request::DeleteIke);
            }
            (_, Life::Deleting(_) | Life::Replaced) => {}
            (Job::DeleteChild(spi_in), Life::Active) => {
                let payloads = [Payload::Delete(Delete::Esp(vec![spi_in]))];
                self.request(ends, core, now, &payloads, Request::DeleteChild(spi_in));
            }
            (Job::Probe, Life::Active) => self.request(ends, core, now, &[], Request::Probe),
            (Job::CreateChild(id), Life::Active) => {
                let config = self.config.children.iter().find(|child| child.id == id).cloned();
                let Some(config) = config.filter(|_| !core.has_pair(id)) else { return };
                let additional = self.additional_of_children(ends);
                let request = ChildRequest::further(core, ends, config, None, additional);
                self.ask_child(ends, core, now, request);
            }
            (Job::RekeyChild(spi_in), Life::Active) => {
                let Some(config) = self.rekeyable(spi_in) else { return };
                if let Some(until) = self.awaits_rekey_until(spi_in) {
                    self.enqueue(until, job);
                    return;
                }
                let additional = self.additional_of_children(ends);
                let request = ChildRequest::further(core, ends, config, Some(spi_in), additional);
                self.ask_child(ends, core, now, request);
            }
            (Job::RekeyIke, Life::Active) => {
                if !self.installing.is_empty() {
                    self.retry(core, now, Job::RekeyIke);
                    return;
                }
                if let Some((request, payloads)) =
                    IkeRekeyRequest::new(core, &self.config, None, additional_of(ends))
                {
                    self.request(ends, core, now, &payloads, Request::RekeyIke(Box::new(request)));
                }
            }
        }
    }

    /// The configuration under which a pair is to be rekeyed: the child's of today.
    fn rekeyable(&self, spi_in: u32) -> Option<ChildConfig> {
        let child = self.children.get(&spi_in).filter(|child| child.is_current())?;
        self.config.children.iter().find(|config| config.id == child.id()).cloned()
    }

    pub(super) fn ask_child(&mut self, ends: &Ends, core: &mut Core, now: Instant, request: ChildRequest) {
        let payloads = request.payloads();
        self.request(ends, core, now, &payloads, Request::Child(Box::new(request)));
    }

    pub(super) fn ask_ike_rekey(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        request: IkeRekeyRequest,
        payloads: &[Payload],
    ) {
        self.request(ends, core, now, payloads, Request::RekeyIke(Box::new(request)));
    }

    /// The peer has shown since the SA came up that it has it too.
    pub(crate) fn was_heard(&self) -> bool {
        self.heard_at > self.established_at
    }

    /// The successor takes over children and the jobs about them.
    pub(crate) fn hand_over(
        &mut self,
        now: Instant,
        heir: IkeSaId,
    ) -> (BTreeMap<u32, ChildSa>, Vec<(Instant, Job)>) {
        if self.life == Life::Active {
            self.life = Life::Replaced;
            self.heir = Some(heir);
            self.expires_at = self.expires_at.min(after(now, REPLACED_PATIENCE));
        }
        let about_children =
            |job: &Job| matches!(job, Job::CreateChild(_) | Job::RekeyChild(_) | Job::DeleteChild(_));
        let queue = std::mem::take(&mut self.queue);
        let (moved, kept): (Vec<_>, Vec<_>) = queue.into_iter().partition(|(_, job)| about_children(job));
        self.queue = kept.into();
        (std::mem::take(&mut self.children), moved)
    }

    pub(crate) fn take_over(&mut self, children: BTreeMap<u32, ChildSa>, jobs: Vec<(Instant, Job)>) {
        self.contends_with = None;
        self.children.extend(children);
        for (not_before, job) in jobs {
            self.enqueue(not_before, job);
        }
    }

    /// Follows a configuration whose keys and algorithms are those of this SA.
    pub(crate) fn reconfigure(&mut self, config: Arc<Connection>) {
        for child in self.children.values_mut() {
            if let Some(changed) = config.children.iter().find(|changed| changed.id == child.id()) {
                child.config.start = changed.start;
            }
        }
        self.rekey_at = self.rekey_at.min(after(self.established_at, config.lifetime));
        self.config = config;
    }

    /// The SA that took this one's place, once one has.
    pub(crate) fn heir(&self) -> Option<IkeSaId> {
        self.heir
    }

    pub(crate) fn successor(&self) -> Option<IkeSaId> {
        self.theirs.as_ref().map(|theirs| theirs.successor)
    }

    pub(super) fn ike_up(&self, ends: &Ends, core: &mut Core) {
        let insecure = self.insecurities();
        core.event(Event::IkeUp { connection: ends.connection, ike_sa: ends.id, insecure });
        if self.initial_contact {
            core.followups.push_back(Followup::ForgetOlder { survivor: ends.id });
        }
        core.followups.push_back(Followup::Established(ends.id));
    }
}

/// After a step: begins what can begin now.
fn settle(mut stage: Stage, ends: &Ends, core: &mut Core, now: Instant) -> Stage {
    if let Stage::Established(established) = &mut stage {
        established.pump(ends, core, now);
    }
    stage
}
