//! What a peer does by itself as time passes.

use std::time::{Duration, Instant};

use super::peer::Peer;
use super::phase_one::{Life, PhaseOne, Stage};
use super::proof::Method;
use super::quick::Step;
use super::resume::Question;
use crate::exchange::{Due, after, earlier};
use crate::v2::core::Core;
use crate::wire::isakmp::Delete;
use crate::{Cause, Event, IkeSaId, Output, Phase, Version};

/// Between two tries to put another phase 1 in the place of an old one.
const REPLACE_AGAIN: Duration = Duration::from_secs(30);

impl Peer {
    pub(crate) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        for id in self.phase_ones.keys().copied().collect::<Vec<_>>() {
            self.check_attempt(core, now, id);
            self.check_life(core, now, id);
            self.check_question(core, now, id);
        }
        self.bury(core, now);
        self.check_quicks(core, now);
        self.repeat_farewells(core, now);
        if self.probe_at().is_some_and(|at| now >= at) {
            self.probe(core, now);
        }
        if self.keepalive_at(core).is_some_and(|at| now >= at) {
            let active = self.active().map(|found| (found.id, found.path));
            if let Some((id, path)) = active
                && let Some(found) = self.phase_ones.get_mut(&id)
            {
                found.sent_at = now;
                core.outputs.push_back(Output::Transmit { path, bytes: vec![0xff] });
            }
        }
        self.check_children(core, now);
        self.bury(core, now);
    }

    fn check_attempt(&mut self, core: &mut Core, now: Instant, id: IkeSaId) {
        let Some(found) = self.phase_ones.get_mut(&id) else { return };
        let tries = core.limits.retransmit_tries;
        let due = match found.retransmission.as_mut().map(|retransmission| retransmission.poll(now, tries)) {
            Some(Due::Send(bytes)) => Ok(bytes.to_vec()),
            Some(Due::GiveUp { sent }) => Err(sent),
            None | Some(Due::Nothing) => {
                let expired = now >= after(found.created_at, core.limits.half_open_timeout);
                if found.is_half_open() && expired {
                    let refused = match &found.stage {
                        Stage::KeyAnswered(keyed) | Stage::AggressiveAnswered { keyed, .. }
                            if keyed.refused =>
                        {
                            Some((keyed.suite.method, found.nat.remote))
                        }
                        _ => None,
                    };
                    found.stage = Stage::Closed;
                    core.count("half_open_expired");
                    if let Some((method, behind_nat)) = refused {
                        self.refused(core, now, method, behind_nat);
                    }
                }
                return;
            }
        };
        match due {
            Ok(bytes) => {
                core.count("retransmissions");
                bytes.iter().for_each(|bytes| found.send(core, now, bytes));
            }
            Err(sent) => {
                let cause = self.unanswered(id, sent);
                self.attempt_failed(core, now, id, cause);
            }
        }
    }

    fn check_life(&mut self, core: &mut Core, now: Instant, id: IkeSaId) {
        let Some(up) = self.up_of(id) else { return };
        if up.review_at.is_some_and(|at| now >= at) {
            up.review_at = None;
            self.review_phase_ones(core, now);
            return self.check_life(core, now, id);
        }
        match up.life {
            Life::Ending(at) if now >= at => {
                if let Some(found) = self.phase_ones.get_mut(&id) {
                    found.stage = Stage::Closed;
                }
            }
            Life::Retiring(at) if now >= at => self.retire(core, now, id),
            Life::Active if now >= up.expires_at => {
                // The children live on: what phase 1 was for, the next one does.
                self.end_phase_one(core, now, id);
                self.down(core, now, Cause::Expired);
            }
            Life::Active if now >= up.replace_at => {
                up.replace_at = after(now, REPLACE_AGAIN);
                let newest = self.active().is_some_and(|active| active.id == id);
                if newest {
                    self.begin_phase_one(core, now);
                }
            }
            _ => {}
        }
    }

    fn check_quicks(&mut self, core: &mut Core, now: Instant) {
        let tries = core.limits.retransmit_tries;
        for key in self.quicks.keys().copied().collect::<Vec<_>>() {
            let Some(quick) = self.quicks.get_mut(&key) else { continue };
            if matches!(quick.step, Step::Concluded { until, .. } if now >= until) {
                self.quicks.remove(&key);
                continue;
            }
            match quick.retransmission.as_mut().map(|retransmission| retransmission.poll(now, tries)) {
                Some(Due::Send(bytes)) => {
                    let bytes = bytes.to_vec();
                    core.count("retransmissions");
                    let answered = match quick.step {
                        Step::Answered { spi_in, .. } => Some(spi_in),
                        _ => None,
                    };
                    if let Some(found) = self.phase_ones.get_mut(&key.0) {
                        bytes.iter().for_each(|bytes| found.send(core, now, bytes));
                    }
                    if let Some(spi_in) = answered {
                        self.told(now, spi_in);
                    }
                }
                Some(Due::GiveUp { sent }) => self.quick_unanswered(core, now, key, sent),
                None | Some(Due::Nothing) => {}
            }
        }
    }

    fn quick_unanswered(&mut self, core: &mut Core, now: Instant, key: (IkeSaId, u32), tries: u32) {
        let Some(quick) = self.quicks.remove(&key) else { return };
        let cause = Cause::NoAnswer { phase: Phase::QuickMode, tries };
        let asked = matches!(quick.step, Step::Asked(_));
        if let Step::Answered { spi_in, .. } = quick.step {
            self.say_deleted(core, now, &Delete::Esp(vec![spi_in]));
        }
        // On others it may be heard all the while, and its traffic.
        let heard_since = self.up_of(key.0).is_some_and(|up| up.heard_at > quick.begun_at);
        self.abandon(core, now, quick, cause.clone());
        if asked && !heard_since {
            self.lost(core, now, key.0, cause);
        }
    }

    fn keepalive_at(&self, core: &Core) -> Option<Instant> {
        let active = self.active().filter(|found| found.nat.needs_keepalives())?;
        Some(after(active.sent_at, core.limits.keepalive))
    }

    /// When [`Peer::handle_timeout`] is wanted.
    pub(crate) fn deadline(&self, core: &Core) -> Option<Instant> {
        let mut deadline = earlier(self.probe_at(), self.keepalive_at(core));
        for found in self.phase_ones.values() {
            deadline = earlier(deadline, found.retransmission.as_ref().map(|asked| asked.next_at()));
            if found.is_half_open() {
                deadline = earlier(deadline, Some(after(found.created_at, core.limits.half_open_timeout)));
            }
            deadline = earlier(deadline, life_deadline(found));
        }
        for quick in self.quicks.values() {
            deadline = earlier(deadline, quick.retransmission.as_ref().map(|asked| asked.next_at()));
            if let Step::Concluded { until, .. } = quick.step {
                deadline = earlier(deadline, Some(until));
            }
        }
        for child in self.children.values() {
            deadline = earlier(deadline, Some(child.hard_at));
            deadline = earlier(deadline, child.send_at);
            deadline = earlier(deadline, child.review_at);
            deadline = earlier(deadline, child.retire_at);
            if child.is_current() {
                deadline = earlier(deadline, Some(child.soft_at));
            }
        }
        deadline
    }

    /// A peer did not prove its identity in time. Where others have its address, it may have been one of them: main mode
    /// knows whose pre-shared key to use by the address alone (RFC 2409 section 5.4). Those that are down are told too.
    fn refused(&mut self, core: &mut Core, now: Instant, method: Method, behind_nat: bool) {
        let ours = &self.config;
        let neighbours: Vec<_> = core
            .connections
            .between(ours.local, ours.remote)
            .filter(|(id, state)| {
                let theirs = state.config();
                *id != ours.id
                    && matches!(theirs.version, Version::V1(_))
                    && (theirs.local, theirs.remote) == (ours.local, ours.remote)
            })
            .map(|(id, state)| (id, state.config().children.iter().any(|child| core.has_pair(child.id))))
            .collect();
        let mut detail = "its proof of identity was wrong: the keys or the identities differ".to_owned();
        match (neighbours.is_empty(), method, behind_nat) {
            (false, _, behind_nat) => {
                detail += if behind_nat { "; it is behind a NAT, and" } else { ";" };
                detail += " several connections have its address, where main mode knows only one pre-shared key: give \
                           them the same, or use certificates or version 2";
            }
            (true, Method::PreSharedKey, true) => {
                detail += "; it is behind a NAT, where main mode knows only the pre-shared key of the NAT's address: it \
                           may be another peer there, with a key of its own";
            }
            _ => {}
        }
        let side = "we refused the peer";
        let cause = Cause::AuthenticationFailed { side, detail };
        self.down(core, now, cause.clone());
        for (connection, _) in neighbours.into_iter().filter(|(_, serves)| !serves) {
            core.event(Event::IkeDown { connection, cause: cause.clone(), retry_in: None });
        }
    }
}

fn life_deadline(found: &PhaseOne) -> Option<Instant> {
    let up = found.up()?;
    let life = match up.life {
        Life::Active => Some(up.expires_at.min(up.replace_at)),
        Life::Retiring(at) | Life::Ending(at) => Some(at),
    };
    let farewell = up.farewells.iter().map(|farewell| farewell.at).min();
    let asked = up.question.as_ref().map(Question::at);
    earlier(earlier(earlier(life, farewell), up.review_at), asked)
}
