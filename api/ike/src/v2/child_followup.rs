//! Children whose keys come of additional key exchanges too (RFC 9370 section 2.2.4).
//!
//! Where both ends rekey one child at once, both know it when the answers to their CREATE_CHILD_SA are there, and the
//! nonces decide then: who loses does none of its further exchanges. Who has begun with them takes no second rekey.

use std::time::Instant;

use super::child::{Answer, ChildAgreement, ChildRequest, ChildSa, ChildState};
use super::collision::{Verdict, resolve};
use super::core::Core;
use super::established::{Established, Held, Job, Life, Request};
use super::followup::{Asked, Awaited, FollowupRequest};
use super::payloads::Picked;
use super::sa::Ends;
use crate::wire::registry::notify;
use crate::wire::{Exchange, Payload};
use crate::{Cause, ChildConfig, ChildId, KeyEncapsulation, Path, Phase};

/// A child of ours that the peer agreed to.
pub(crate) struct AskedChild {
    pub(super) request: ChildRequest,
    pub(super) agreement: ChildAgreement,
}

/// A child of the peer's that we agreed to.
pub(crate) struct AwaitedChild {
    pub(super) config: ChildConfig,
    pub(super) agreement: ChildAgreement,
    /// Inbound SPI of the pair to replace.
    pub(super) rekeys: Option<u32>,
}

/// The additional key exchanges that children have beside a Diffie-Hellman exchange of their own: those of the IKE SA's
/// policy.
pub(super) fn additional_methods(connection: &crate::Connection) -> &[Vec<KeyEncapsulation>] {
    let wanted = connection.proposals.iter().map(|proposal| proposal.additional_key_exchanges.as_slice());
    wanted.into_iter().find(|methods| methods.iter().any(|methods| !methods.is_empty())).unwrap_or_default()
}

impl Established {
    /// Those that we ask for: of a peer that did them when the IKE SA was made.
    pub(super) fn additional_of_children(&self, ends: &Ends) -> Vec<Vec<KeyEncapsulation>> {
        if ends.additional { additional_methods(&self.config).to_vec() } else { Vec::new() }
    }

    /// The child that we have asked for and that is not there yet.
    pub(super) fn asked_child(&self) -> Option<&ChildRequest> {
        match self.send.task()? {
            Request::Child(request) => Some(request),
            Request::Followup(request) => match &request.asked {
                Asked::Child(asked) => Some(&asked.request),
                Asked::IkeSa(_) => None,
            },
            _ => None,
        }
    }

    /// As [`Self::asked_child`], to be changed.
    pub(super) fn asked_child_mut(&mut self) -> Option<&mut ChildRequest> {
        match self.send.task_mut()? {
            Request::Child(request) => Some(request),
            Request::Followup(request) => match &mut request.asked {
                Asked::Child(asked) => Some(&mut asked.request),
                Asked::IkeSa(_) => None,
            },
            _ => None,
        }
    }

    /// Key exchanges that follow our rekey of this pair are under way.
    pub(super) fn follows_up_on(&self, spi_in: u32) -> bool {
        let asked = |request: &FollowupRequest| match &request.asked {
            Asked::Child(asked) => asked.request.rekeys == Some(spi_in),
            Asked::IkeSa(_) => false,
        };
        matches!(self.send.task(), Some(Request::Followup(request)) if asked(request))
    }

    /// The child of the peer's of which key exchanges are left.
    fn awaited_child(&self) -> Option<&AwaitedChild> {
        match self.followup.as_ref().map(|awaited| &awaited.what) {
            Some(Awaited::Child(awaited)) => Some(awaited),
            _ => None,
        }
    }

    /// Until when the peer may go on with a rekey of this pair.
    pub(super) fn awaits_rekey_until(&self, spi_in: u32) -> Option<Instant> {
        self.awaited_child().filter(|awaited| awaited.rekeys == Some(spi_in))?;
        self.followup.as_ref().map(|awaited| awaited.expires_at)
    }

    /// The peer is making this child.
    pub(super) fn awaits_child(&self, id: ChildId) -> bool {
        self.awaited_child().is_some_and(|awaited| awaited.config.id == id)
    }

    /// A child is waiting, asked for by us or the peer, or being installed here.
    pub(crate) fn is_working_on(&self, id: ChildId) -> bool {
        self.queue.iter().any(|(_, job)| *job == Job::CreateChild(id))
            || self.asked_child().is_some_and(|request| request.config.id == id)
            || self.awaits_child(id)
            || self.children.values().any(|child| child.id() == id && child.state == ChildState::Installing)
    }

    /// What the peer made or makes of the pair that we are rekeying too stands, and ours goes.
    pub(super) fn loses(
        &mut self,
        core: &mut Core,
        now: Instant,
        request: &ChildRequest,
        agreement: &ChildAgreement,
    ) -> bool {
        let Some(old) = request.rekeys else { return false };
        let awaited = self.awaited_child().filter(|awaited| awaited.rekeys == Some(old));
        let awaited = awaited.map(|awaited| awaited.agreement.exchanges.lowest_nonce());
        if awaited.is_some() {
            core.count("rekey_collisions");
        }
        let done = request.theirs.as_ref().map(|theirs| theirs.lowest_nonce.clone());
        let ours = agreement.exchanges.lowest_nonce();
        if done.or(awaited.clone()).is_some_and(|theirs| resolve(&ours, &theirs) == Verdict::KeepTheirs) {
            core.esp.remove(&request.spi_in);
            core.count("rekey_collisions_lost");
            if let Some(until) = self.awaits_rekey_until(old) {
                // Pointless once theirs is there, as it should be by then.
                self.enqueue(until, Job::RekeyChild(old));
            }
            if agreement.exchanges.are_complete() {
                // The peer has it, and it is redundant: it is deleted unused, and the peer deletes what both replaced.
                self.enqueue(now, Job::DeleteChild(request.spi_in));
            }
            return true;
        }
        if awaited.is_some() {
            self.forget_followup(core);
        }
        let theirs = self.children.values_mut().filter(|child| !child.ours && child.replaces == Some(old));
        theirs.for_each(|child| child.redundant = true);
        false
    }

    /// The peer answered our CREATE_CHILD_SA or the key exchanges that followed it by something else than the next one.
    pub(super) fn asked_child_failed(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        request: ChildRequest,
        picked: &Picked,
    ) {
        if matches!(self.life, Life::Deleting(_)) {
            core.esp.remove(&request.spi_in);
            return;
        }
        if picked.error().is_some() {
            self.child_refused(ends, core, now, request, Phase::CreateChildSa, picked);
            return;
        }
        let detail = "the additional key exchange is missing, or none that was agreed".to_owned();
        let cause = Cause::Protocol { phase: Phase::CreateChildSa, detail };
        self.abort_child(ends, core, now, &request, cause);
    }

    /// Answers a request for a child: at once, or once the dataplane or the peer has done its part.
    pub(super) fn answer_child(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        path: Path,
        answer: Answer,
        rekeys: Option<u32>,
    ) {
        if answer.agreement.exchanges.are_complete() {
            let held = hold(Exchange::CreateChildSa, path, Vec::new(), rekeys);
            self.install_held(ends, core, now, held, answer);
            return;
        }
        let Answer { config, agreement, mut payloads } = answer;
        let awaited = AwaitedChild { config, agreement, rekeys };
        payloads.push(self.await_followup(core, now, Awaited::Child(Box::new(awaited))));
        self.respond(ends, core, now, Exchange::CreateChildSa, path, &payloads);
    }

    /// The peer's child has all that it needs: it is answered, after this, once the dataplane has it.
    pub(super) fn awaited_child_agreed(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        path: Path,
        awaited: AwaitedChild,
        before: Vec<Payload>,
    ) -> Result<(), u16> {
        let AwaitedChild { config, agreement, rekeys } = awaited;
        let refused = match rekeys {
            // Ended or replaced meanwhile.
            Some(old) if !self.children.get(&old).is_some_and(ChildSa::is_current) => {
                Some(notify::TEMPORARY_FAILURE)
            }
            None if self.children.len() >= core.limits.children_per_ike_sa => Some(notify::NO_ADDITIONAL_SAS),
            _ => self.theirs.is_some().then_some(notify::TEMPORARY_FAILURE),
        };
        if let Some(kind) = refused {
            core.esp.remove(&agreement.pair.spi_in);
            return Err(kind);
        }
        let held = hold(Exchange::IkeFollowupKe, path, before, rekeys);
        self.install_held(ends, core, now, held, Answer { config, agreement, payloads: Vec::new() });
        Ok(())
    }
}

fn hold(exchange: Exchange, path: Path, before: Vec<Payload>, rekeys: Option<u32>) -> Held {
    let refusal = if rekeys.is_some() { notify::TEMPORARY_FAILURE } else { notify::NO_ADDITIONAL_SAS };
    Held { exchange, path, before, refusal, rekeys, first: false }
}
