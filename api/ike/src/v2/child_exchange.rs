//! Children made, rekeyed and ended over an established IKE SA (RFC 7296 sections 1.3.1, 1.3.3, 2.8 and 2.25).

use std::time::Instant;

use super::child::{self, Answer, ChildSa, ChildState, Refusal, TheirRekey};
use super::core::Core;
use super::established::{DUPLICATE_CHECK, DUPLICATE_FORCED, Established, Held, Installing, Job, Life};
use super::payloads::Picked;
use super::sa::Ends;
use crate::crypto::Datagrams;
use crate::exchange::after;
use crate::wire::registry::notify;
use crate::wire::{Exchange, Notify, Payload, Protocol};
use crate::{Cause, ChildConfig, ChildId, ChildPair, Event, OperationId, Output, Path, SaOperation};

/// Soft lifetimes are shortened by up to this much.
const CHILD_JITTER_PERCENT: u32 = 10;

impl Established {
    /// A CREATE_CHILD_SA request: a new child, a child's rekey, or the IKE SA's own. Gives an answer INVALID_SYNTAX.
    pub(super) fn handle_create_child(
        &mut self,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        path: Path,
        picked: Picked,
    ) -> Option<Datagrams> {
        let asks_ike =
            picked.sa.as_ref().and_then(|sa| sa.first()).is_some_and(|first| first.protocol == Protocol::Ike);
        if asks_ike {
            return self.handle_ike_rekey(ends, core, now, path, &picked);
        }
        match self.negotiate_child(ends, core, &picked) {
            Ok((answer, rekeys)) => {
                self.answer_child(ends, core, now, path, answer, rekeys);
                None
            }
            Err(refusal) => {
                core.count("children_refused");
                let malformed = refusal.error.kind == notify::INVALID_SYNTAX;
                let payloads = [Payload::Notify(refusal.error)];
                let answer = self.respond(ends, core, now, Exchange::CreateChildSa, path, &payloads);
                if let (Some(child), Some(cause)) = (refusal.child, refusal.cause) {
                    self.child_failed(ends, core, now, child, *cause);
                }
                malformed.then_some(answer)
            }
        }
    }

    fn negotiate_child(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        picked: &Picked,
    ) -> Result<(Answer, Option<u32>), Refusal> {
        // Section 2.25.2: not while the IKE SA itself is being replaced or ended.
        if self.life != Life::Active || self.is_rekeying() || self.theirs.is_some() {
            return Err(Refusal::plain(notify::TEMPORARY_FAILURE));
        }
        let rekey = picked.notify(notify::REKEY_SA);
        // All of them may be in a rekey at once; a peer that never deletes what it rekeyed has no more than that.
        let halves = if rekey.is_some() { 2 } else { 1 };
        if self.children.len() >= core.limits.children_per_ike_sa.saturating_mul(halves) {
            return Err(Refusal::plain(notify::NO_ADDITIONAL_SAS));
        }
        let Some(rekey) = rekey else {
            let answer = child::answer(core, ends, &self.config, picked, None, None)?;
            return Ok((answer, None));
        };
        let spi = <[u8; 4]>::try_from(rekey.spi.as_slice()).map(u32::from_be_bytes);
        let Ok(spi_out) = spi else { return Err(Refusal::plain(notify::INVALID_SYNTAX)) };
        let old =
            self.children.values().find(|child| child.spi_out == spi_out && rekey.protocol == Protocol::Esp);
        let Some(old) = old else {
            // It may be the pair of an answer that is still under way to us.
            if self.asked_child().is_some() {
                return Err(Refusal::plain(notify::TEMPORARY_FAILURE));
            }
            return Err(Refusal {
                error: Notify::about_esp(notify::CHILD_SA_NOT_FOUND, spi_out),
                cause: None,
                child: None,
            });
        };
        // Being deleted, or replaced already, or as good as: by us, or by the peer itself.
        if !old.is_current() || self.follows_up_on(old.spi_in) {
            return Err(Refusal::plain(notify::TEMPORARY_FAILURE));
        }
        let (id, spi_in) = (old.id(), old.spi_in);
        let answer = child::answer(core, ends, &self.config, picked, Some(id), None)?;
        Ok((answer, Some(spi_in)))
    }

    /// Has the dataplane install what we are about to answer; the answer waits for it.
    pub(super) fn install_held(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        held: Held,
        answer: Answer,
    ) {
        let Answer { config, agreement, payloads } = answer;
        let (spi_in, lowest_nonce) = (agreement.pair.spi_in, agreement.exchanges.lowest_nonce());
        let Some(pair) = agreement.complete(&self.keys) else {
            core.esp.remove(&spi_in);
            let refusal = Notify::new(held.refusal, Vec::new());
            self.answer_refused(ends, core, now, held, refusal);
            return;
        };
        let sends = core.sending_on(config.id).is_none();
        let operation = self.install(ends, core, now, config, pair, lowest_nonce, false, held.rekeys, sends);
        self.installing.insert(operation, Installing::Answer { held: Box::new(held), spi_in, payloads });
    }

    #[expect(clippy::too_many_arguments, reason = "the facts of one pair, named at the two call sites")]
    pub(super) fn install(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        config: ChildConfig,
        pair: ChildPair,
        lowest_nonce: Vec<u8>,
        ours: bool,
        replaces: Option<u32>,
        sends: bool,
    ) -> OperationId {
        let operation = core.new_operation(ends.id);
        let soft = core.random.shortened(config.lifetime.soft, CHILD_JITTER_PERCENT);
        let child = ChildSa {
            spi_in: pair.spi_in,
            spi_out: pair.spi_out,
            state: ChildState::Installing,
            lowest_nonce,
            ours,
            soft_at: after(now, soft),
            hard_at: after(now, config.lifetime.hard),
            // A twin may have been rekeyed before it was noticed.
            duplicate_check_at: replaces.map(|_| after(now, DUPLICATE_CHECK)),
            replaces,
            replaced_by: None,
            redundant: false,
            config,
        };
        self.children.insert(pair.spi_in, child);
        let install = SaOperation::Install { operation, send: sends, pair: Box::new(pair) };
        core.outputs.push_back(Output::Sa(install));
        operation
    }

    /// The dataplane's answer to an install.
    pub(crate) fn handle_installed(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        operation: OperationId,
        result: Result<(), String>,
    ) {
        match (self.installing.remove(&operation), result) {
            (None, _) => core.count("stale_sa_results"),
            (Some(Installing::Answer { held, spi_in, payloads }), Ok(())) => {
                self.answer_installed(ends, core, now, *held, spi_in, payloads);
            }
            (Some(Installing::Answer { held, spi_in, .. }), Err(detail)) => {
                core.esp.remove(&spi_in);
                let child = self.children.remove(&spi_in).map(|child| child.id());
                let refusal = Notify::new(held.refusal, Vec::new());
                let rekeys = held.rekeys.is_some();
                self.answer_refused(ends, core, now, *held, refusal);
                if let Some(child) = child.filter(|_| !rekeys) {
                    self.child_failed(ends, core, now, child, Cause::Dataplane { detail });
                }
            }
            (Some(Installing::Asked { spi_in }), Ok(())) => self.asked_installed(ends, core, now, spi_in),
            (Some(Installing::Asked { spi_in }), Err(detail)) => {
                core.esp.remove(&spi_in);
                if let Some(child) = self.children.remove(&spi_in) {
                    self.enqueue(now, Job::DeleteChild(spi_in));
                    match child.replaces {
                        Some(old) => self.rekey_failed(core, now, old),
                        None => self.child_failed(ends, core, now, child.id(), Cause::Dataplane { detail }),
                    }
                }
            }
        }
        self.pump(ends, core, now);
    }

    /// The pair is in the dataplane: the answer may go.
    fn answer_installed(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        held: Held,
        spi_in: u32,
        mut payloads: Vec<Payload>,
    ) {
        let mut answer = held.before;
        answer.append(&mut payloads);
        self.respond(ends, core, now, held.exchange, held.path, &answer);
        if held.first {
            self.ike_up(ends, core);
        }
        let Some(child) = self.children.get_mut(&spi_in) else { return };
        child.state = ChildState::Installed;
        let (id, lowest_nonce) = (child.id(), child.lowest_nonce.clone());
        let sends = core.sending_on(id).is_none();
        core.pair_up(id, spi_in, sends);
        let Some(old) = held.rekeys else {
            self.child_up(ends, core, now, id, spi_in);
            return;
        };
        if let Some(request) = self.asked_child_mut()
            && request.rekeys == Some(old)
        {
            // Both rekey at once; our own answer decides.
            request.theirs = Some(TheirRekey { lowest_nonce });
            core.count("rekey_collisions");
        }
        if let Some(old) = self.children.get_mut(&old) {
            old.replaced_by = Some(spi_in);
        }
    }

    pub(super) fn answer_refused(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        held: Held,
        error: Notify,
    ) {
        let mut answer = held.before;
        answer.push(Payload::Notify(error));
        self.respond(ends, core, now, held.exchange, held.path, &answer);
        if held.first {
            self.ike_up(ends, core);
        }
    }

    /// A pair that replaces none is up.
    fn child_up(&mut self, ends: &Ends, core: &mut Core, now: Instant, id: ChildId, spi_in: u32) {
        if let Some(state) = core.connections.get_mut(ends.connection) {
            state.want(id).backoff.clear();
        }
        core.event(Event::ChildUp { child: id, spi_in });
        if !core.other_pairs(id, spi_in).is_empty()
            && let Some(child) = self.children.get_mut(&spi_in)
        {
            child.duplicate_check_at = Some(after(now, DUPLICATE_CHECK));
        }
    }

    /// A pair that we asked for is in the dataplane.
    fn asked_installed(&mut self, ends: &Ends, core: &mut Core, now: Instant, spi_in: u32) {
        let Some(child) = self.children.get_mut(&spi_in) else { return };
        child.state = ChildState::Installed;
        let (id, replaces) = (child.id(), child.replaces);
        core.pair_up(id, spi_in, true);
        let Some(spi_of_old) = replaces else {
            self.child_up(ends, core, now, id, spi_in);
            return;
        };
        core.event(Event::ChildRekeyed { child: id, spi_in, replaced: spi_of_old });
        if let Some(old) = self.children.get_mut(&spi_of_old) {
            old.replaced_by = Some(spi_in);
            old.state = ChildState::Deleting;
            self.enqueue(now, Job::DeleteChild(spi_of_old));
        }
    }

    /// Takes a pair out; its replacement, or any other pair of the child, carries on.
    pub(super) fn child_deleted(&mut self, ends: &Ends, core: &mut Core, spi_in: u32, cause: Cause) {
        let Some(child) = self.children.remove(&spi_in) else { return };
        let linger = core.limits.linger;
        let down = core.pair_down(child.id(), spi_in, child.replaced_by, linger);
        if down && child.state != ChildState::Installing {
            core.child_down(ends.connection, child.id(), cause);
        }
    }

    /// Ends a pair at our wish: out of the dataplane now, the peer told when the window is free.
    pub(crate) fn delete_child(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        spi_in: u32,
        cause: Cause,
    ) {
        if self.children.contains_key(&spi_in) {
            self.child_deleted(ends, core, spi_in, cause);
            self.enqueue(now, Job::DeleteChild(spi_in));
            self.pump(ends, core, now);
        }
    }

    /// Soft and hard lifetimes, and duplicates.
    pub(super) fn check_children(&mut self, ends: &Ends, core: &mut Core, now: Instant) {
        let active = self.is_active();
        let mut expired = Vec::new();
        let mut soft = Vec::new();
        let mut duplicates = Vec::new();
        for child in self.children.values_mut().filter(|child| child.state != ChildState::Installing) {
            if now >= child.hard_at {
                expired.push(child.spi_in);
            } else if active && child.is_current() && now >= child.soft_at {
                // Once: what fails is queued again by its failure.
                child.soft_at = child.hard_at;
                soft.push(child.spi_in);
            }
            if child.duplicate_check_at.is_some_and(|at| now >= at) {
                child.duplicate_check_at = None;
                duplicates.push(child.spi_in);
            }
        }
        for spi_in in soft {
            self.enqueue(now, Job::RekeyChild(spi_in));
        }
        for spi_in in expired {
            self.delete_child(ends, core, now, spi_in, Cause::Expired);
        }
        for spi_in in duplicates {
            self.check_duplicate(ends, core, now, spi_in);
        }
    }

    /// Both ends made the same child at once: of two that neither replaces the other, the one with the lowest nonce
    /// goes, by the hand of the end that asked for it; by ours if that end does not do it.
    fn check_duplicate(&mut self, ends: &Ends, core: &mut Core, now: Instant, spi_in: u32) {
        let Some(newer) = self.children.get(&spi_in).filter(|child| child.is_current()) else { return };
        let twin = self
            .children
            .values()
            .filter(|child| child.id() == newer.id() && child.is_current() && child.spi_in != spi_in)
            .filter(|child| !child.redundant)
            .min_by(|one, other| one.lowest_nonce.cmp(&other.lowest_nonce));
        let Some(twin) = twin else { return };
        // What lost once has lost, whatever came of the winner since: its nonces have nothing to say to those of an heir.
        let loser = if !newer.redundant && twin.lowest_nonce < newer.lowest_nonce { twin } else { newer };
        let forced = now >= after(self.established_at, DUPLICATE_FORCED);
        let (loser, ours) = (loser.spi_in, loser.ours);
        if ours || forced {
            core.count("duplicate_children");
            self.delete_child(ends, core, now, loser, Cause::Requested);
        } else if let Some(child) = self.children.get_mut(&spi_in) {
            child.duplicate_check_at = Some(after(now, DUPLICATE_FORCED));
        }
    }

    /// Moves outbound traffic to the pairs of this IKE SA.
    pub(super) fn move_traffic(&mut self, core: &mut Core) {
        self.take_over_at = None;
        for child in self.children.values().filter(|child| child.is_current()) {
            core.switch_outbound(child.id(), child.spi_in);
        }
    }

    /// The peer sends on this pair: so may we, if it replaces the one that we send on, or all that the peer has lost.
    pub(crate) fn first_packet(&mut self, core: &mut Core, spi_in: u32) {
        let Some(child) = self.children.get(&spi_in).filter(|child| child.is_current()) else { return };
        if self.take_over_at.is_some() {
            core.switch_outbound(child.id(), spi_in);
        } else if let Some(old) = child.replaces
            && !child.ours
            && core.sending_on(child.id()) == Some(old)
        {
            core.switch_outbound(child.id(), spi_in);
        }
    }

    /// The dataplane counted up to a limit.
    pub(crate) fn soft_limit(&mut self, ends: &Ends, core: &mut Core, now: Instant, spi_in: u32) {
        let rekeying = self.asked_child().is_some_and(|request| request.rekeys == Some(spi_in));
        let Some(child) = self.children.get_mut(&spi_in).filter(|child| child.is_current() && !rekeying)
        else {
            return;
        };
        child.soft_at = child.hard_at;
        self.enqueue(now, Job::RekeyChild(spi_in));
        self.pump(ends, core, now);
    }
}
