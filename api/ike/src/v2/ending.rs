//! How an established IKE SA ends: by our DELETE, by the peer's, by time, or without a word.

use std::time::{Duration, Instant};

use super::auth::ANSWER_KEPT;
use super::child::ChildState;
use super::core::{Core, Followup};
use super::established::{Established, Installing, Job, Life, Request};
use super::sa::{Closed, Ends, Stage};
use crate::Cause;
use crate::crypto::Datagrams;
use crate::exchange::after;

/// How long we try to tell the peer that the SA is gone, or wait for the peer to tell us.
pub(super) const DELETE_PATIENCE: Duration = Duration::from_secs(30);
/// How long we try to tell the peer that an SA which has an heir is gone.
pub(super) const FAREWELL_PATIENCE: Duration = Duration::from_secs(20);

impl Established {
    /// Deletes the IKE SA: children go at once, and the peer is told.
    pub(crate) fn begin_delete(&mut self, ends: &Ends, core: &mut Core, now: Instant, cause: Cause) {
        if matches!(self.life, Life::Deleting(_)) {
            return;
        }
        let linger = core.limits.linger;
        self.drop_children(ends, core, &cause, linger);
        self.life = Life::Deleting(cause);
        self.queue.clear();
        self.enqueue(now, Job::DeleteIke);
        self.expires_at = self.expires_at.min(after(now, DELETE_PATIENCE));
        self.pump(ends, core, now);
    }

    fn drop_children(&mut self, ends: &Ends, core: &mut Core, cause: &Cause, linger: Duration) {
        for (operation, installing) in std::mem::take(&mut self.installing) {
            core.operations.remove(&operation);
            // Until the dataplane's answer the pair is no child's; it may be there all the same.
            let (Installing::Answer { spi_in, .. } | Installing::Asked { spi_in }) = installing;
            core.esp.remove(&spi_in);
        }
        for (spi_in, child) in std::mem::take(&mut self.children) {
            let id = child.id();
            if core.pair_down(id, spi_in, None, linger) && child.state != ChildState::Installing {
                core.child_down(ends.connection, id, cause.clone());
            }
        }
        if let Some(request) = self.asked_child() {
            core.esp.remove(&request.spi_in);
        }
    }

    /// Ends the SA without a word.
    pub(crate) fn close(
        mut self: Box<Self>,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        cause: Option<Cause>,
    ) -> Stage {
        self.discard(ends, core, cause.clone());
        Closed::now(now, cause)
    }

    fn discard(&mut self, ends: &Ends, core: &mut Core, cause: Option<Cause>) {
        self.forget_followup(core);
        if let Some(Request::RekeyIke(request)) = self.send.task() {
            core.by_spi.remove(&request.spi);
        }
        if self.life == Life::Replaced && !self.children.is_empty() {
            // No heir took them here; at the peer's one may have.
            let pairs = self.children.keys().copied().collect();
            core.followups.push_back(Followup::TellDeleted { connection: ends.connection, pairs });
        }
        let linger = core.limits.linger;
        self.drop_children(ends, core, &cause.unwrap_or(Cause::Requested), linger);
    }

    /// Ends the SA; the request that ended it gets the same answer for a while.
    pub(super) fn end_answering(
        mut self: Box<Self>,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        answer: Datagrams,
        cause: Option<Cause>,
    ) -> Stage {
        self.discard(ends, core, cause.clone());
        match self.last_request.take() {
            Some(request) => Closed::answering(request, answer, after(now, ANSWER_KEPT), cause),
            None => Closed::now(now, cause),
        }
    }

    /// Ends an SA that the peer deleted a while ago; its DELETE gets the same answer again.
    pub(super) fn end_as_deleted(self: Box<Self>, ends: &Ends, core: &mut Core, now: Instant) -> Stage {
        let answer = self.receive.response().cloned().unwrap_or_default();
        self.end_answering(ends, core, now, answer, None)
    }

    /// Waits for a delete that another side owes; gone by itself if it does not come.
    pub(crate) fn abandon(&mut self, now: Instant, patience: Duration) {
        self.life = Life::Replaced;
        self.queue.clear();
        self.expires_at = self.expires_at.min(after(now, patience));
    }
}
