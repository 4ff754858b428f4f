//! What the peer answers when we ask for a child (RFC 7296 sections 1.2, 1.3.1 and 1.3.3).

use std::time::Instant;

use super::child::{ChildRequest, ChildSa};
use super::child_followup::AskedChild;
use super::core::{Core, Followup};
use super::established::{Established, Installing, Job};
use super::followup::Asked;
use super::payloads::Picked;
use super::sa::Ends;
use crate::exchange::after;
use crate::wire::Notify;
use crate::wire::registry::notify;
use crate::{Cause, ChildId, Event, Group, Phase};

impl Established {
    /// The child part of the answer to our IKE_AUTH.
    pub(super) fn first_child_answered(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        request: ChildRequest,
        nonces: (&[u8], &[u8]),
        picked: &Picked,
    ) {
        self.conclude(ends, core, now, request, Phase::IkeAuth, nonces, picked);
    }

    /// The answer to our CREATE_CHILD_SA for a child.
    pub(super) fn child_answered(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        request: ChildRequest,
        picked: &Picked,
    ) {
        let nonce_i = request.nonce.clone();
        let nonce_r = picked.nonce.clone().unwrap_or_default();
        if picked.error().is_none() && nonce_r.is_empty() {
            let phase = Phase::CreateChildSa;
            let cause = Cause::Protocol { phase, detail: "the answer lacks a nonce".to_owned() };
            self.abort_child(ends, core, now, &request, cause);
            return;
        }
        self.conclude(ends, core, now, request, Phase::CreateChildSa, (&nonce_i, &nonce_r), picked);
        // The peer may have deleted the pair meanwhile, and nobody asked for another one while its rekey was on the way.
        core.followups.push_back(Followup::Ensure(ends.connection));
    }

    #[expect(clippy::too_many_arguments, reason = "the facts of one exchange, named at the two call sites")]
    fn conclude(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        request: ChildRequest,
        phase: Phase,
        nonces: (&[u8], &[u8]),
        picked: &Picked,
    ) {
        if picked.sa.is_none() {
            self.child_refused(ends, core, now, request, phase, picked);
            return;
        }
        if let Some(error) = picked.error() {
            // Section 3.10.1: whatever else the answer says, the request has failed.
            let cause = request.refused(phase, error);
            self.abort_child(ends, core, now, &request, cause);
            return;
        }
        let agreement = match request.agree(ends, &self.config, phase, nonces, picked) {
            Ok(agreement) => agreement,
            Err(cause) => {
                self.abort_child(ends, core, now, &request, cause);
                return;
            }
        };
        if agreement.exchanges.are_complete() {
            self.child_agreed(ends, core, now, AskedChild { request, agreement });
        } else if !self.loses(core, now, &request, &agreement) {
            let asked = AskedChild { request, agreement };
            self.go_on(ends, core, now, Asked::Child(Box::new(asked)), picked);
        }
    }

    /// Our child has all that it needs: the dataplane is asked to take it, unless the peer wants it no more or what it made
    /// itself stands.
    pub(super) fn child_agreed(&mut self, ends: &Ends, core: &mut Core, now: Instant, asked: AskedChild) {
        let AskedChild { request, agreement } = asked;
        if request.deleted_early.contains(&agreement.pair.spi_out) {
            core.esp.remove(&request.spi_in);
            if request.rekeys.is_none() {
                self.child_failed(ends, core, now, request.config.id, Cause::DeletedByPeer);
            }
            return;
        }
        if self.loses(core, now, &request, &agreement) {
            return;
        }
        let lowest_nonce = agreement.exchanges.lowest_nonce();
        let Some(pair) = agreement.complete(&self.keys) else {
            let detail = "there is no keying material".to_owned();
            let cause = Cause::Protocol { phase: Phase::CreateChildSa, detail };
            self.abort_child(ends, core, now, &request, cause);
            return;
        };
        let ChildRequest { config, rekeys, spi_in, .. } = request;
        let operation = self.install(ends, core, now, config, pair, lowest_nonce, true, rekeys, true);
        self.installing.insert(operation, Installing::Asked { spi_in });
    }

    /// The peer committed a child that we cannot take: it is told.
    pub(super) fn abort_child(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        request: &ChildRequest,
        cause: Cause,
    ) {
        core.esp.remove(&request.spi_in);
        self.enqueue(now, Job::DeleteChild(request.spi_in));
        match request.rekeys {
            Some(old) => self.rekey_failed(core, now, old),
            None => self.child_failed(ends, core, now, request.config.id, cause),
        }
    }

    pub(super) fn child_refused(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        request: ChildRequest,
        phase: Phase,
        picked: &Picked,
    ) {
        core.esp.remove(&request.spi_in);
        let unexplained = Notify::new(notify::INVALID_SYNTAX, Vec::new());
        let error = picked.error().unwrap_or(&unexplained);
        let id = request.config.id;
        match error.kind {
            notify::INVALID_KE_PAYLOAD => {
                let wanted = <[u8; 2]>::try_from(error.data.as_slice()).ok().map(u16::from_be_bytes);
                let refused = request.refused(phase, error);
                let rekeys = request.rekeys;
                let again =
                    wanted.and_then(Group::from_number).and_then(|group| request.with_group(core, group));
                match (again, rekeys) {
                    (Some(again), _) => {
                        core.esp.insert(again.spi_in, ends.id);
                        core.count("groups_changed");
                        self.ask_child(ends, core, now, again);
                    }
                    (None, Some(old)) => self.rekey_failed(core, now, old),
                    (None, None) => self.child_failed(ends, core, now, id, refused),
                }
            }
            // The latter: the peer has given up what its answers to the first exchanges agreed on.
            notify::TEMPORARY_FAILURE | notify::STATE_NOT_FOUND => {
                let job = request.rekeys.map_or(Job::CreateChild(id), Job::RekeyChild);
                self.retry(core, now, job);
            }
            notify::CHILD_SA_NOT_FOUND => {
                // The peer lost the pair: so do we, unless its replacement is there already.
                let gone =
                    request.rekeys.filter(|old| self.children.get(old).is_some_and(ChildSa::is_current));
                if let Some(old) = gone {
                    self.child_deleted(ends, core, old, request.refused(phase, error));
                }
            }
            kind => match request.rekeys {
                Some(old) => self.rekey_failed(core, now, old),
                None => {
                    let cause = request.refused(phase, error);
                    self.child_failed(ends, core, now, id, cause.clone());
                    // Section 4: a peer may be able to make a child with an IKE SA alone.
                    let needs_another = kind == notify::NO_ADDITIONAL_SAS && phase == Phase::CreateChildSa;
                    if needs_another && self.children.is_empty() && self.is_active() {
                        core.count("ike_sas_without_room");
                        self.begin_delete(ends, core, now, cause);
                    }
                }
            },
        }
    }

    /// A rekey came to nothing: it is tried again until the pair's hard limit.
    pub(super) fn rekey_failed(&mut self, core: &mut Core, now: Instant, old: u32) {
        core.count("child_rekeys_failed");
        let wait = core.random.shortened(std::time::Duration::from_secs(20), 50);
        if self.children.contains_key(&old) {
            self.enqueue(after(now, wait), Job::RekeyChild(old));
        }
    }

    /// A child could not come up; it waits longer before each further try.
    pub(super) fn child_failed(
        &mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        id: ChildId,
        cause: Cause,
    ) {
        if let Some(state) = core.connections.get_mut(ends.connection) {
            let want = state.children.entry(id).or_default();
            want.backoff.failed(now, &core.limits, &mut core.random);
        }
        if !core.has_pair(id) {
            core.event(Event::ChildDown { child: id, cause });
        }
        core.followups.push_back(Followup::Ensure(ends.connection));
    }
}
