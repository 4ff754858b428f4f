//! INFORMATIONAL requests: deletes, errors and signs of life (RFC 7296 section 1.4).

use std::time::Instant;

use super::core::{Core, Followup};
use super::established::{Established, Job, Life, Request};
use super::followup::Asked;
use super::payloads::Picked;
use super::sa::{Ends, Inbound, Stage};
use crate::crypto::Datagrams;
use crate::exchange::after;
use crate::wire::registry::notify;
use crate::wire::{Delete, Exchange, Payload};
use crate::{Cause, Event, Phase};

/// Deletes remembered for an answer that is under way.
const MAX_DELETED_EARLY: usize = 16;

impl Established {
    pub(super) fn handle_informational(
        mut self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        inbound: &Inbound<'_>,
        picked: &Picked,
    ) -> Stage {
        if picked.deletes.contains(&Delete::IkeSa) {
            return self.deleted_by_peer(ends, core, now, inbound);
        }
        // Section 2.21.2: the initiator found our AUTH wanting after we had found its good, or could not read our answer. It
        // has no SA any more, and no DELETE follows.
        let refused = [notify::AUTHENTICATION_FAILED, notify::INVALID_SYNTAX].map(|kind| picked.notify(kind));
        if let Some(error) = refused.into_iter().flatten().next() {
            let cause = match error.kind {
                notify::AUTHENTICATION_FAILED => Cause::AuthenticationFailed {
                    side: "the peer refused us",
                    detail: format!("it sent {} after our proof", notify::name(error.kind)),
                },
                kind => Cause::Notify { notify: notify::name(kind), phase: Phase::Informational },
            };
            let answer = self.respond(ends, core, now, Exchange::Informational, inbound.path, &[]);
            return self.end_answering(ends, core, now, answer, Some(cause));
        }
        let mut ours = Vec::new();
        for delete in &picked.deletes {
            let Delete::Esp(spis) = delete else { continue };
            for spi_out in spis {
                ours.extend(self.pair_deleted_by_peer(ends, core, now, *spi_out));
            }
        }
        let mut payloads = self.follow_announced(ends, core, now, inbound.path, picked);
        payloads.extend((!ours.is_empty()).then_some(Payload::Delete(Delete::Esp(ours))));
        self.respond(ends, core, now, Exchange::Informational, inbound.path, &payloads);
        Stage::Established(self)
    }

    /// Section 2.21.3: INVALID_SYNTAX, which `answer` says, is fatal for the IKE SA.
    pub(super) fn end_as_malformed(
        self: Box<Self>,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        answer: Datagrams,
    ) -> Stage {
        let detail = "malformed payloads in a request".to_owned();
        let cause = Cause::Protocol { phase: Phase::Informational, detail };
        self.end_answering(ends, core, now, answer, Some(cause))
    }

    /// The same, where the peer says it of a request of ours: the IKE SA is gone there, and no DELETE follows.
    pub(super) fn ended_as_malformed(
        self: Box<Self>,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        request: &Request,
    ) -> Stage {
        let phase = match request {
            Request::Child(request) => {
                core.esp.remove(&request.spi_in);
                Phase::CreateChildSa
            }
            Request::RekeyIke(request) => {
                core.by_spi.remove(&request.spi);
                Phase::CreateChildSa
            }
            Request::Followup(request) => {
                match &request.asked {
                    Asked::IkeSa(agreement) => core.by_spi.remove(&agreement.spis.initiator),
                    Asked::Child(asked) => core.esp.remove(&asked.request.spi_in),
                };
                Phase::CreateChildSa
            }
            Request::DeleteChild(_) | Request::DeleteIke | Request::Probe => Phase::Informational,
        };
        self.close(
            ends,
            core,
            now,
            Some(Cause::Notify { notify: notify::name(notify::INVALID_SYNTAX), phase }),
        )
    }

    /// Ends the pair whose outbound SPI the peer named; gives our half, to be named in the answer. When both delete
    /// the same pair at once, neither names it again (section 1.4.1).
    fn pair_deleted_by_peer(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        spi_out: u32,
    ) -> Option<u32> {
        let Some(child) = self.children.values().find(|child| child.spi_out == spi_out) else {
            if let Some(request) = self.asked_child_mut()
                && request.deleted_early.len() < MAX_DELETED_EARLY
            {
                request.deleted_early.push(spi_out);
            }
            return None;
        };
        let (spi_in, id, replaced_by) = (child.spi_in, child.id(), child.replaced_by);
        let ours_is_out =
            matches!(self.send.task(), Some(Request::DeleteChild(deleting)) if *deleting == spi_in);
        self.queue.retain(|(_, job)| *job != Job::DeleteChild(spi_in) && *job != Job::RekeyChild(spi_in));
        self.child_deleted(ends, core, spi_in, Cause::DeletedByPeer);
        if let Some(heir) = replaced_by.filter(|heir| self.children.contains_key(heir)) {
            core.switch_outbound(id, heir);
            core.event(Event::ChildRekeyed { child: id, spi_in: heir, replaced: spi_in });
        }
        // A pair that lost a collision is gone: what it was to replace is current again, unless ours is coming.
        for old in self.children.values_mut() {
            if old.replaced_by == Some(spi_in) {
                old.replaced_by = None;
                old.soft_at = old.soft_at.max(now);
            }
        }
        (!ours_is_out).then_some(spi_in)
    }

    fn deleted_by_peer(
        mut self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        inbound: &Inbound<'_>,
    ) -> Stage {
        let answer = self.respond(ends, core, now, Exchange::Informational, inbound.path, &[]);
        let cause = match &self.life {
            Life::Active => Some(Cause::DeletedByPeer),
            Life::Replaced => None,
            Life::Deleting(cause) => Some(cause.clone()),
        };
        // Both rekeyed, the peer's rekey stands, and our own answer is still out: the peer is done with this SA, and
        // our rekey is forgotten (section 2.25.2).
        if let Some(to) = self.successor().filter(|_| self.life == Life::Active) {
            self.life = Life::Replaced;
            core.followups.push_back(Followup::MoveChildren { from: ends.id, to });
            self.deleted_by_peer = true;
            self.expires_at = after(now, core.limits.linger);
            return Stage::Established(self);
        }
        self.end_answering(ends, core, now, answer, cause)
    }
}
