//! Informational exchanges: DELETE, notifications, and whether the peer lives (RFC 2409 section 5.7, RFC 3706).
//!
//! They count only when HASH(1) verifies; what comes in clear is counted and forgotten.

use std::time::{Duration, Instant};

use super::peer::Peer;
use super::phase_one::{Farewell, Life, PhaseOne, Probe, Stage};
use super::quick::Step;
use super::received::Received;
use super::sealed::{IvChain, open, seal, with_hash};
use crate::exchange::after;
use crate::v2::core::Core;
use crate::wire::isakmp::registry::{notify, payload as kind, protocol};
use crate::wire::isakmp::{Delete, Exchange, Notify, Payload};
use crate::{Cause, Classified, IkeSaId, Phase};

/// A DELETE is said this often, because none is acknowledged.
const FAREWELLS: u32 = 3;
const FAREWELL_WAIT: Duration = Duration::from_secs(2);

impl Peer {
    /// A message of an informational exchange.
    pub(super) fn handle_informational(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: IkeSaId,
        received: &Received<'_>,
    ) -> Classified {
        let header = &received.header;
        let Some(up) = self.up_of(id) else {
            self.overhear(id, received);
            return Classified::Dropped("unauthenticated_informational");
        };
        if !header.encrypted {
            return Classified::Dropped("unauthenticated_informational");
        }
        if header.message_id == 0 || up.was_used(header.message_id) {
            return Classified::Dropped("message_id_used");
        }
        let chain = IvChain::exchange(&up.keys, &up.chain, header.message_id);
        let message_id = header.message_id.to_be_bytes();
        let verified = open(&up.keys, &chain, received)
            .and_then(|unverified| unverified.verify(|rest| up.keys.message_hash(&[&message_id, rest])));
        let Some(verified) = verified else { return Classified::Dropped("unauthenticated_informational") };
        up.use_up(now, header.message_id);
        self.heard(core, now, id);
        for payload in &verified.payloads {
            match payload.kind {
                kind::DELETE => {
                    if let Ok(delete) = Delete::decode(&payload.body) {
                        self.deleted(core, now, delete);
                    }
                }
                kind::NOTIFY => {
                    if let Ok(notify) = Notify::decode(&payload.body) {
                        self.notified(core, now, id, &notify);
                    }
                }
                _ => {}
            }
        }
        Classified::Ike
    }

    /// What comes in clear while phase 1 begins ends nothing, since anybody on the way may have said it. If nothing else comes
    /// it is a better word for what is wrong than silence.
    fn overhear(&mut self, id: IkeSaId, received: &Received<'_>) {
        let attempt = self.phase_ones.get_mut(&id).filter(|found| found.is_our_attempt());
        let Some(attempt) = attempt.filter(|_| !received.header.encrypted) else { return };
        let payloads = received.payloads().unwrap_or_default();
        let notifies = payloads.iter().filter(|payload| payload.kind == kind::NOTIFY);
        let mut errors = notifies.filter_map(|payload| Notify::decode(&payload.body).ok());
        attempt.rumour = errors.find(Notify::is_error).map(|error| error.kind).or(attempt.rumour);
    }

    fn deleted(&mut self, core: &mut Core, now: Instant, delete: Delete) {
        match delete {
            Delete::Esp(spis) => spis.into_iter().for_each(|spi| self.deleted_by_peer(core, spi)),
            Delete::Isakmp(cookies) => {
                let was_up = self.active().is_some();
                for found in self.phase_ones.values_mut() {
                    if cookies.contains(&(found.cookies.initiator, found.cookies.responder)) {
                        found.stage = Stage::Closed;
                    }
                }
                self.bury(core, now);
                if was_up && self.active().is_none() {
                    self.down(core, now, Cause::DeletedByPeer);
                }
            }
            Delete::Other => {}
        }
    }

    fn notified(&mut self, core: &mut Core, now: Instant, id: IkeSaId, notify: &Notify) {
        let sequence = <[u8; 4]>::try_from(notify.data.as_slice()).map(u32::from_be_bytes).ok();
        match notify.kind {
            notify::R_U_THERE => {
                let Some(found) = self.phase_ones.get_mut(&id) else { return };
                let cookies = (found.cookies.initiator, found.cookies.responder);
                let Some(up) = found.up_mut() else { return };
                let Some(sequence) = sequence else { return core.count("malformed_probes") };
                // RFC 3706 section 7: the number only grows, lest an old message be taken for a new one. Here its message id
                // sees to that, so one that counts otherwise is answered too: in vain it would ask until it gives us up.
                let last = up.probed_with.replace(sequence);
                if last.is_some_and(|last| sequence.wrapping_sub(last) > u32::MAX / 2) {
                    core.count("stale_probes");
                }
                let answer = Notify::about_isakmp(notify::R_U_THERE_ACK, cookies, notify.data.clone());
                self.inform(core, now, id, Payload::new(kind::NOTIFY, answer.encode()));
            }
            notify::R_U_THERE_ACK => {
                for up in self.phase_ones.values_mut().filter_map(PhaseOne::up_mut) {
                    if up.probe.as_ref().map(|probe| probe.sequence) == sequence {
                        up.probe = None;
                    }
                }
            }
            // RFC 2407 section 4.6.3.3: it is said on an ISAKMP SA, in its last message or after it.
            notify::INITIAL_CONTACT if self.takes_exchanges(id) => {
                let created_at = self.phase_ones.get(&id).map_or(now, |found| found.created_at);
                self.forget_older(core, created_at, id);
            }
            kind if notify.is_error() && notify.protocol == protocol::ESP => {
                self.quick_refused(core, now, id, kind, &notify.spi);
            }
            _ => core.count("notifications_ignored"),
        }
    }

    /// The peer refuses a quick mode of ours: the one with this SPI, or the only one.
    fn quick_refused(&mut self, core: &mut Core, now: Instant, id: IkeSaId, kind: u16, spi: &[u8]) {
        let asked = self.quicks.values().filter_map(|quick| match &quick.step {
            Step::Asked(asked) if quick.phase_one == id => Some((quick.key(), asked.spi_in)),
            _ => None,
        });
        let asked: Vec<_> = asked.collect();
        let named = asked.iter().find(|(_, spi_in)| spi_in.to_be_bytes() == spi);
        let only = || (asked.len() == 1).then(|| asked.first()).flatten();
        let Some((key, _)) = named.or_else(only) else { return };
        let Some(quick) = self.quicks.remove(key) else { return };
        let silent = "(the peer did not say)".to_owned();
        let phase = Phase::QuickMode;
        let cause = match (&quick.step, kind) {
            (Step::Asked(asked), notify::NO_PROPOSAL_CHOSEN) => Cause::NoProposalChosen {
                phase,
                ours: super::proposals::describe(&super::proposals::offer_phase_two(&asked.config, 0, None)),
                theirs: silent,
            },
            (Step::Asked(asked), notify::INVALID_ID_INFORMATION) => Cause::TsUnacceptable {
                ours: super::selectors::of_child(&asked.config)
                    .map_or_else(String::new, |(local, remote)| {
                        crate::v2::selectors::describe(&[local, remote])
                    }),
                theirs: silent,
            },
            (_, kind) => Cause::Notify { notify: notify::name(kind), phase },
        };
        self.abandon(core, now, quick, cause);
    }

    /// Sends a payload in an exchange of its own.
    pub(super) fn inform(&mut self, core: &mut Core, now: Instant, id: IkeSaId, payload: Payload) {
        let Some(found) = self.phase_ones.get_mut(&id) else { return };
        let mut header = found.header(Exchange::Informational, 0);
        let Some(up) = found.up_mut() else { return };
        header.message_id = up.new_message_id(now, &mut core.random);
        let mut chain = IvChain::exchange(&up.keys, &up.chain, header.message_id);
        let payloads = with_hash(&up.keys, &[&header.message_id.to_be_bytes()], vec![payload]);
        let message = seal(&up.keys, &mut chain, header, &payloads);
        found.send(core, now, &message);
    }

    /// Tells the peer what is gone, on every phase 1 that there is: some look for it only among what belongs to the phase 1
    /// on which they are told, and which of several that is, they alone know.
    pub(super) fn say_deleted(&mut self, core: &mut Core, now: Instant, delete: &Delete) {
        let up = self.phase_ones.values().filter(|found| found.up().is_some());
        for id in up.map(|found| found.id).collect::<Vec<_>>() {
            self.say_deleted_on(core, now, id, delete);
        }
    }

    pub(super) fn say_deleted_on(&mut self, core: &mut Core, now: Instant, id: IkeSaId, delete: &Delete) {
        let payload = Payload::new(kind::DELETE, delete.encode());
        self.inform(core, now, id, payload.clone());
        if let Some(up) = self.up_of(id) {
            let at = after(now, FAREWELL_WAIT);
            up.farewells.push(Farewell { payload, at, left: FAREWELLS.saturating_sub(1) });
        }
    }

    /// Repeats what must not be lost.
    pub(super) fn repeat_farewells(&mut self, core: &mut Core, now: Instant) {
        for id in self.phase_ones.keys().copied().collect::<Vec<_>>() {
            let Some(up) = self.up_of(id) else { continue };
            let mut due = Vec::new();
            for farewell in &mut up.farewells {
                if now >= farewell.at {
                    farewell.at = after(now, FAREWELL_WAIT);
                    farewell.left = farewell.left.saturating_sub(1);
                    due.push(farewell.payload.clone());
                }
            }
            up.farewells.retain(|farewell| farewell.left > 0);
            for payload in due {
                self.inform(core, now, id, payload);
            }
        }
    }

    /// When the peer is to be asked whether it lives.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        let interval = self.config.dpd?.interval;
        let active = self.active().filter(|found| found.announced.dpd)?;
        let up = active.up().filter(|up| up.question.is_none())?;
        Some(match &up.probe {
            Some(probe) => probe.at,
            None => after(up.heard_at.max(self.traffic_at), interval),
        })
    }

    /// Asks, or asks again, until the peer has had its chances.
    pub(super) fn probe(&mut self, core: &mut Core, now: Instant) {
        let Some(id) = self.active().map(|found| found.id) else { return };
        let traffic_at = self.traffic_at;
        let Some(up) = self.up_of(id).filter(|up| up.life == Life::Active) else { return };
        let again = up.probe.take();
        if let Some(probe) = again.as_ref().filter(|probe| probe.sent > core.limits.retransmit_tries) {
            let lives = self.heard_at >= probe.begun_at;
            self.silent(core, now, id, lives);
            return;
        }
        let probe = match again {
            // Something came in the meantime, though not the acknowledgement.
            Some(probe) if up.heard_at.max(traffic_at) >= probe.at.checked_sub(probe.wait).unwrap_or(now) => {
                return;
            }
            Some(probe) => {
                let wait = probe.wait.mul_f64(1.8);
                Probe {
                    sequence: probe.sequence,
                    sent: probe.sent.saturating_add(1),
                    wait,
                    at: after(now, wait),
                    begun_at: probe.begun_at,
                }
            }
            None => {
                let wait = core.limits.retransmit_base;
                let sequence = up.new_probe(&mut core.random);
                Probe { sequence, sent: 1, wait, at: after(now, wait), begun_at: now }
            }
        };
        let sequence = probe.sequence;
        up.probe = Some(probe);
        self.ask_for_life(core, now, id, sequence);
    }

    /// R-U-THERE.
    pub(super) fn ask_for_life(&mut self, core: &mut Core, now: Instant, id: IkeSaId, sequence: u32) {
        let Some(found) = self.phase_ones.get(&id) else { return };
        let cookies = (found.cookies.initiator, found.cookies.responder);
        let notify = Notify::about_isakmp(notify::R_U_THERE, cookies, sequence.to_be_bytes().to_vec());
        self.inform(core, now, id, Payload::new(kind::NOTIFY, notify.encode()));
    }

    /// Nothing more is heard on a phase 1. A peer that was heard elsewhere has lost only that one.
    fn silent(&mut self, core: &mut Core, now: Instant, id: IkeSaId, lives: bool) {
        let heard_at = self.up_of(id).map_or(now, |up| up.heard_at).max(self.traffic_at);
        let cause = Cause::PeerDead { silent_secs: now.saturating_duration_since(heard_at).as_secs() };
        if lives {
            core.count("phase_ones_lost");
            self.lost(core, now, id, cause);
        } else {
            core.count("peers_dead");
            self.end(core, now, &cause, false);
        }
    }

    /// The peer lacks a phase 1: another one takes its place, and the children live on.
    pub(super) fn lost(&mut self, core: &mut Core, now: Instant, id: IkeSaId, cause: Cause) {
        if let Some(found) = self.phase_ones.get_mut(&id) {
            found.stage = Stage::Closed;
        }
        self.bury(core, now);
        self.down(core, now, cause);
    }
}
