//! What an established IKE SA does by itself as time passes.

use std::time::Instant;

use super::child::ChildState;
use super::core::{Core, Followup};
use super::established::{Established, Job, Life, Request};
use super::sa::{Ends, Stage};
use crate::Cause;
use crate::exchange::{Due, after, earlier};
use crate::kept::{ASKED_AGAIN, NOT_ANSWERED};

impl Established {
    pub(super) fn handle_timeout(
        mut self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
    ) -> Stage {
        let tries = if self.unconfirmed { ASKED_AGAIN } else { core.limits.retransmit_tries };
        let is_probe = matches!(self.send.task(), Some(Request::Probe));
        match self.send.retransmission().map(|retransmission| retransmission.poll(now, tries)) {
            None | Some(Due::Nothing) => {}
            Some(Due::Send(datagrams)) => {
                core.transmit_all(ends.path, datagrams);
                core.count("retransmissions");
            }
            Some(Due::GiveUp { .. }) if self.unconfirmed && self.life == Life::Active => {
                return self.release(core, now, NOT_ANSWERED);
            }
            Some(Due::GiveUp { .. }) => {
                if is_probe {
                    core.count("peers_dead");
                }
                let silent = now.saturating_duration_since(self.heard_at);
                let cause = match &self.life {
                    Life::Active => Some(Cause::PeerDead { silent_secs: silent.as_secs() }),
                    Life::Replaced => None,
                    Life::Deleting(cause) => Some(cause.clone()),
                };
                return self.close(ends, core, now, cause);
            }
        }
        if now >= self.expires_at {
            match self.life.clone() {
                Life::Active => self.begin_delete(ends, core, now, Cause::Expired),
                Life::Replaced if self.deleted_by_peer => return self.end_as_deleted(ends, core, now),
                Life::Replaced => return self.close(ends, core, now, None),
                Life::Deleting(cause) => return self.close(ends, core, now, Some(cause)),
            }
        }
        if self.life == Life::Active && now >= self.rekey_at {
            self.rekey_at = self.expires_at;
            self.enqueue(now, Job::RekeyIke);
        }
        self.check_children(ends, core, now);
        self.check_followup(ends, core, now);
        if self.probe_due().is_some_and(|at| now >= at) {
            self.enqueue(now, Job::Probe);
            self.pump(ends, core, now);
        }
        if self.keepalive_at(ends).is_some_and(|at| now >= at) {
            self.sent_at = now;
            core.outputs.push_back(crate::Output::Transmit { path: ends.path, bytes: vec![0xff] });
        }
        if self.take_over_at.is_some_and(|at| now >= at) {
            self.move_traffic(core);
        }
        if self.duplicate_check_at.is_some_and(|at| now >= at) {
            self.duplicate_check_at = None;
            core.followups.push_back(Followup::Established(ends.id));
        }
        self.pump(ends, core, now);
        Stage::Established(self)
    }

    /// Whether the peer said anything authentic on this SA after that moment.
    pub(crate) fn heard_since(&self, moment: Instant) -> bool {
        self.heard_at > moment
    }

    /// A sign of life that did not come by IKE.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Asks for a sign of life only when nothing is asked already (section 2.4).
    fn probe_due(&self) -> Option<Instant> {
        let dpd = self.config.dpd?;
        (self.send.is_idle() && self.life == Life::Active).then(|| after(self.heard_at, dpd.interval))
    }

    fn keepalive_at(&self, ends: &Ends) -> Option<Instant> {
        (ends.nat.needs_keepalives() && self.life == Life::Active)
            .then(|| after(self.sent_at, self.keepalive))
    }

    pub(super) fn deadline(&self, ends: &Ends) -> Option<Instant> {
        let mut deadline = earlier(self.send.deadline(), Some(self.expires_at));
        deadline = earlier(deadline, self.duplicate_check_at);
        deadline = earlier(deadline, self.take_over_at);
        deadline = earlier(deadline, self.followup.as_ref().map(|awaited| awaited.expires_at));
        if self.life == Life::Active {
            deadline = earlier(deadline, Some(self.rekey_at));
        }
        if self.send.is_idle() {
            let waiting = self.queue.iter().filter(|(_, job)| self.may_begin(*job));
            deadline = earlier(deadline, waiting.map(|(not_before, _)| *not_before).min());
        }
        deadline = earlier(deadline, self.probe_due());
        deadline = earlier(deadline, self.keepalive_at(ends));
        // What is being installed has no time of its own: the dataplane's answer is awaited, however late it comes.
        for child in self.children.values().filter(|child| child.state != ChildState::Installing) {
            deadline = earlier(deadline, child.duplicate_check_at);
            if child.state == ChildState::Installed {
                deadline = earlier(deadline, Some(child.hard_at));
                if child.is_current() && self.life == Life::Active {
                    deadline = earlier(deadline, Some(child.soft_at));
                }
            }
        }
        deadline
    }
}
