//! IKE_AUTH, both roles (RFC 7296 sections 1.2, 2.15 and 2.21.2).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::{self, ChildRequest, Refusal};
use super::collision::lowest;
use super::core::Core;
use super::established::{Established, Held};
use super::fragments::Opened;
use super::init_answer::AuthAwaited;
use super::intermediate::Handshake;
use super::mobike;
use super::payloads::Picked;
use super::ppk::{self, Choice};
use super::proof;
use super::sa::{Closed, Ends, Inbound, RequestDigest, Stage};
use crate::crypto::{IkeKeys, PlainKeys, SharedKeyAuth};
use crate::exchange::{Due, Retransmission, after};
use crate::wire::registry::notify;
use crate::wire::{Exchange, Notify, Payload, WireError, WireIdentity, decode_payloads};
use crate::{Cause, Classified, Connection, LocalProof, Path, Phase, Version};

/// How long a refused initiator may ask again for our lost answer.
pub(super) const ANSWER_KEPT: Duration = Duration::from_secs(30);

/// A request of the handshake that is being answered: its exchange, where it came from, and by what its retransmission is
/// known.
pub(super) struct HandshakeRequest {
    pub(super) exchange: Exchange,
    pub(super) path: Path,
    pub(super) digest: RequestDigest,
}

/// Initiator: the request is out.
pub(crate) struct AuthSent {
    config: Arc<Connection>,
    keys: IkeKeys,
    nonce_i: Vec<u8>,
    nonce_r: Vec<u8>,
    /// The responder's IKE_SA_INIT message, which its AUTH covers.
    init_response: Vec<u8>,
    /// What both ends said in between, as both AUTHs cover it.
    intermediate: Vec<u8>,
    message_id: u32,
    /// The keys as they are without the PPK that we used.
    plain: Option<PlainKeys>,
    child: ChildRequest,
    retransmission: Retransmission,
}

/// The keys are agreed: proves who we are and asks for the first child.
pub(super) fn send_request(handshake: Handshake, ends: &mut Ends, core: &mut Core, now: Instant) -> Stage {
    let Handshake { config, first_child, mut keys, nonce_i, nonce_r, hashes, use_ppk, .. } = handshake;
    let message_id = handshake.next_id;
    let intermediate = handshake.intermediate.octets(message_id);
    // The configuration may have changed while the peer was silent.
    let Some(child) = config.children.iter().find(|child| child.id == first_child) else {
        return Closed::now(now, Some(Cause::Requested));
    };
    let child = ChildRequest::first(core, ends, child.clone());
    let identity = WireIdentity::from(&config.local_identity);
    let ppk = config.ppk.as_ref().filter(|_| use_ppk);
    let plain = ppk.map(|ppk| keys.mix(&ppk.key));
    let prove = |sk_p: &[u8]| {
        let signed = SharedKeyAuth {
            prf: keys.suite.prf,
            sk_p,
            message: &handshake.init_request,
            nonce: &nonce_r,
            identity: &identity.body(),
            intermediate: &intermediate,
        };
        proof::make(&config.authentication.local, &signed, &hashes)
    };
    // Where a PPK is optional, the same proof without it goes along (RFC 8784 section 3).
    let optional = plain.as_ref().filter(|_| ppk.is_some_and(|ppk| !ppk.required));
    let proofs = prove(&keys.auth_initiator).and_then(|ours| {
        let without = optional.map(|plain| prove(&plain.auth_initiator)).transpose()?;
        Ok((ours, without))
    });
    let (ours, without) = match proofs {
        Ok(proofs) => proofs,
        Err(detail) => {
            core.esp.remove(&child.spi_in);
            let side = "we cannot prove our identity";
            return Closed::now(now, Some(Cause::AuthenticationFailed { side, detail }));
        }
    };
    let mut payloads = vec![Payload::IdI(identity)];
    payloads.extend(ours.certificates);
    let sole = core.connections.get(config.id).is_none_or(|state| state.established.is_empty());
    if sole && core.limits.initial_contact {
        payloads.push(Payload::Notify(Notify::new(notify::INITIAL_CONTACT, Vec::new())));
    }
    payloads.extend(proof::certificate_request([config.as_ref()]));
    payloads.push(Payload::IdR(WireIdentity::from(&config.remote_identity)));
    payloads.push(ours.auth);
    payloads.extend(child.payloads());
    payloads.extend(ppk.map(ppk::identity));
    if let Some(Payload::Auth { data, .. }) = without.map(|without| without.auth) {
        payloads.push(Payload::Notify(Notify::new(notify::NO_PPK_AUTH, data)));
    }
    let header = ends.header(Exchange::IkeAuth, false, message_id);
    let limit = ends.limit_bytes(&core.limits);
    let Ok(datagrams) = keys.sealing.seal(header, &payloads, limit, &mut core.random) else {
        return Closed::now(now, None);
    };
    core.transmit_all(ends.path, &datagrams);
    Stage::AuthSent(Box::new(AuthSent {
        config,
        keys,
        nonce_i,
        nonce_r,
        init_response: handshake.init_response,
        intermediate,
        message_id,
        plain,
        child,
        retransmission: Retransmission::new(datagrams, now, &core.limits, &mut core.random),
    }))
}

impl AuthSent {
    pub(super) fn handle(
        mut self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        inbound: &Inbound<'_>,
    ) -> (Stage, Classified) {
        if inbound.message.header.message_id != self.message_id {
            return (Stage::AuthSent(self), Classified::Dropped("outside_window"));
        }
        let opened = match ends.fragments.open(&self.keys.opening, inbound) {
            Ok(Some(opened)) => opened,
            Ok(None) => return (Stage::AuthSent(self), Classified::Ike),
            Err(why) => return (Stage::AuthSent(self), Classified::Dropped(why)),
        };
        let picked =
            decode_payloads(opened.first, &opened.plain).ok().and_then(|found| Picked::new(found).ok());
        let Some(picked) = picked else {
            let cause = Cause::Protocol { phase: Phase::IkeAuth, detail: "malformed payloads".to_owned() };
            return (self.give_up(ends, core, now, Some(notify::INVALID_SYNTAX), cause), Classified::Ike);
        };
        let (Some(identity), Some(_)) = (&picked.id_r, &picked.auth) else {
            let cause = match picked.error() {
                Some(error) if error.kind == notify::AUTHENTICATION_FAILED => Cause::AuthenticationFailed {
                    side: "the peer refused us",
                    detail: refused_by_peer(&self.config).to_owned(),
                },
                Some(error) => self.child.refused(Phase::IkeAuth, error),
                None => Cause::Protocol {
                    phase: Phase::IkeAuth,
                    detail: "the answer lacks an identity or AUTH".to_owned(),
                },
            };
            return (self.give_up(ends, core, now, None, cause), Classified::Ike);
        };
        if let Some(plain) = self.plain.take_if(|_| picked.notify(notify::PPK_IDENTITY).is_none()) {
            self.keys.swap(plain);
            if self.config.ppk.as_ref().is_some_and(|ppk| ppk.required) {
                let error = Some(notify::AUTHENTICATION_FAILED);
                return (self.give_up(ends, core, now, error, Cause::PpkRequired), Classified::Ike);
            }
        }
        let signed = SharedKeyAuth {
            prf: self.keys.suite.prf,
            sk_p: &self.keys.auth_responder,
            message: &self.init_response,
            nonce: &self.nonce_i,
            identity: &identity.body(),
            intermediate: &self.intermediate,
        };
        let judged = proof::judge(&self.config, &picked, &signed, core.unix_secs(now));
        let expected = &self.config.remote_identity;
        let judged = if identity.is(expected) {
            judged
        } else {
            Err(format!("the peer is {}, {expected} is expected", identity.describe()))
        };
        match judged {
            Ok(certificates) => ends.peer_certificates = certificates,
            Err(detail) => {
                let cause = Cause::AuthenticationFailed { side: "we refused the peer", detail };
                let stage = self.give_up(ends, core, now, Some(notify::AUTHENTICATION_FAILED), cause);
                return (stage, Classified::Ike);
            }
        }
        if self.plain.is_some() {
            core.count("ppks_used");
        }
        let Self { config, keys, nonce_i, nonce_r, child, message_id, .. } = *self;
        ends.additional = keys.suite.additional.iter().any(Option::is_some);
        let windows = (message_id.saturating_add(1), 0);
        let mut established = Established::new(core, now, config, keys, lowest(&nonce_i, &nonce_r), windows);
        established.ike_up(ends, core);
        established.first_child_answered(ends, core, now, child, (&nonce_i, &nonce_r), &picked);
        established.pump(ends, core, now);
        (Stage::Established(Box::new(established)), Classified::Ike)
    }

    /// Ends the attempt; `error` tells a peer that believes the SA to be up (section 2.21.2).
    fn give_up(
        mut self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        error: Option<u16>,
        cause: Cause,
    ) -> Stage {
        core.esp.remove(&self.child.spi_in);
        if let Some(kind) = error {
            let header = ends.header(Exchange::Informational, false, self.message_id.saturating_add(1));
            let payloads = [Payload::Notify(Notify::new(kind, Vec::new()))];
            if let Ok(datagrams) = self.keys.sealing.seal(header, &payloads, None, &mut core.random) {
                core.transmit_all(ends.path, &datagrams);
            }
        }
        Closed::now(now, Some(cause))
    }

    pub(super) fn handle_timeout(mut self: Box<Self>, ends: &Ends, core: &mut Core, now: Instant) -> Stage {
        match self.retransmission.poll(now, core.limits.retransmit_tries) {
            Due::Nothing => Stage::AuthSent(self),
            Due::Send(datagrams) => {
                core.transmit_all(ends.path, datagrams);
                core.count("retransmissions");
                Stage::AuthSent(self)
            }
            Due::GiveUp { sent } => {
                core.esp.remove(&self.child.spi_in);
                Closed::now(now, Some(Cause::NoAnswer { phase: Phase::IkeAuth, tries: sent }))
            }
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.retransmission.next_at()
    }

    pub(crate) fn child(&self) -> &ChildRequest {
        &self.child
    }
}

impl AuthAwaited {
    pub(super) fn handle(
        mut self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        inbound: &Inbound<'_>,
    ) -> (Stage, Classified) {
        if !self.additional.is_empty() {
            return (Stage::AuthAwaited(self), Classified::Dropped("unexpected_exchange"));
        }
        let (keys, opened) = match self.open(ends, core, now, inbound) {
            Ok(opened) => opened,
            Err(classified) => return (Stage::AuthAwaited(self), classified),
        };
        ends.path = inbound.path;
        let picked = match decode_payloads(opened.first, &opened.plain) {
            Ok(found) => Picked::new(found).map_err(|_| Notify::new(notify::INVALID_SYNTAX, Vec::new())),
            Err(WireError::UnknownCritical(kind)) => {
                Err(Notify::new(notify::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind]))
            }
            Err(_) => Err(Notify::new(notify::INVALID_SYNTAX, Vec::new())),
        };
        let request =
            HandshakeRequest { exchange: Exchange::IkeAuth, path: inbound.path, digest: opened.digest };
        let stage = match picked {
            Ok(picked) => self.authenticate(ends, core, now, request, keys, picked),
            Err(error) => self.refuse(ends, core, now, request, keys, error, None),
        };
        (stage, Classified::Ike)
    }

    /// Opens a message in its turn; the keys are made with the first.
    pub(super) fn open(
        &mut self,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        inbound: &Inbound<'_>,
    ) -> Result<(IkeKeys, Opened), Classified> {
        let header = &inbound.message.header;
        if header.message_id != self.next_id || !header.initiator {
            let digest = RequestDigest::new(inbound.bytes);
            let answer = self.answered.as_ref().filter(|(answered, _)| *answered == digest);
            let Some((_, answer)) = answer else { return Err(Classified::Dropped("outside_window")) };
            core.transmit_all(inbound.path, answer);
            core.count("responses_repeated");
            return Err(Classified::Ike);
        }
        if !inbound.message.is_protected() {
            return Err(Classified::Dropped("unprotected"));
        }
        let keys = match self.keys.take() {
            Some(keys) => keys,
            None => match self.key_pair.agree(&self.peer_public) {
                Ok(shared) => {
                    let nonces = (self.nonce_i.as_slice(), self.nonce_r.as_slice());
                    IkeKeys::first(self.suite, false, &shared, nonces, ends.spis)
                }
                Err(_) => {
                    self.expires_at = now;
                    return Err(Classified::Dropped("invalid_public_value"));
                }
            },
        };
        match ends.fragments.open(&keys.opening, inbound) {
            Ok(Some(opened)) => Ok((keys, opened)),
            unopened => {
                self.keys = Some(keys);
                Err(unopened.map_or_else(Classified::Dropped, |_| Classified::Ike))
            }
        }
    }

    fn authenticate(
        self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        request: HandshakeRequest,
        mut keys: IkeKeys,
        mut picked: Picked,
    ) -> Stage {
        let (Some(identity), Some(_)) = (picked.id_i.clone(), &picked.auth) else {
            let error = Notify::new(notify::INVALID_SYNTAX, Vec::new());
            return self.refuse(ends, core, now, request, keys, error, None);
        };
        let candidates: Vec<Arc<Connection>> =
            self.candidates.iter().filter_map(|id| core.config(*id)).collect();
        let meant = candidates.iter().find(|config| {
            identity.is(&config.remote_identity)
                && picked.id_r.as_ref().is_none_or(|asked| asked.is(&config.local_identity))
        });
        // An unknown identity is checked against some key all the same, and a wrong key has the words for an unknown identity
        // made: the answer takes as long and looks alike.
        let Some(config) = meant.or(candidates.first()) else { return Closed::now(now, None) };
        let choice = ppk::choose(config, self.use_ppk, &mut picked);
        if let (Ok(Choice::Use), Some(ppk)) = (&choice, &config.ppk) {
            keys.mix(&ppk.key);
        }
        let intermediate = self.intermediate.octets(self.next_id);
        let signed = SharedKeyAuth {
            prf: keys.suite.prf,
            sk_p: &keys.auth_initiator,
            message: &self.request,
            nonce: &self.nonce_r,
            identity: &identity.body(),
            intermediate: &intermediate,
        };
        let judged = proof::judge(config, &picked, &signed, core.unix_secs(now));
        let judged =
            judged.and_then(|certificates| choice.as_ref().map(|_| certificates).map_err(Clone::clone));
        ends.connection = config.id;
        let refused = judged.is_err() || meant.is_none();
        let unexpected = refused.then(|| self.unexpected(core, request.path, &identity));
        let judged = unexpected.filter(|_| meant.is_none()).map_or(judged, Err);
        match judged {
            Ok(certificates) => ends.peer_certificates = certificates,
            Err(detail) => {
                let cause = Cause::AuthenticationFailed { side: "we refused the peer", detail };
                let error = Notify::new(notify::AUTHENTICATION_FAILED, Vec::new());
                return self.refuse(ends, core, now, request, keys, error, Some(cause));
            }
        }
        let config = Arc::clone(config);
        let our_identity = WireIdentity::from(&config.local_identity);
        let signed = SharedKeyAuth {
            prf: keys.suite.prf,
            sk_p: &keys.auth_responder,
            message: &self.response,
            nonce: &self.nonce_i,
            identity: &our_identity.body(),
            intermediate: &intermediate,
        };
        let ours = match proof::make(&config.authentication.local, &signed, &self.hashes) {
            Ok(ours) => ours,
            Err(detail) => {
                let side = "we cannot prove our identity";
                let cause = Cause::AuthenticationFailed { side, detail };
                let error = Notify::new(notify::AUTHENTICATION_FAILED, Vec::new());
                return self.refuse(ends, core, now, request, keys, error, Some(cause));
            }
        };
        // Who says nothing of a child wants none yet (RFC 6023 section 3).
        let childless = picked.sa.is_none() && picked.ts_i.is_none() && picked.ts_r.is_none();
        let nonces = Some((self.nonce_i.as_slice(), self.nonce_r.as_slice()));
        let answer = (!childless).then(|| child::answer(core, ends, &config, &picked, None, nonces));
        let mut before = vec![Payload::IdR(our_identity)];
        before.extend(ours.certificates);
        before.push(ours.auth);
        if choice == Ok(Choice::Use) {
            core.count("ppks_used");
            before.push(ppk::confirmation());
        }
        ends.mobike = mobike::agrees(&config, &picked);
        ends.additional = keys.suite.additional.iter().any(Option::is_some);
        before.extend(ends.mobike.then(mobike::supported));
        let lowest_nonce = lowest(&self.nonce_i, &self.nonce_r);
        let mut established = Established::new(core, now, config, keys, lowest_nonce, (0, self.next_id));
        established.initial_contact = picked.notify(notify::INITIAL_CONTACT).is_some();
        let HandshakeRequest { exchange, path, digest } = request;
        established.accept_request(digest);
        let held =
            Held { exchange, path, before, refusal: notify::NO_ADDITIONAL_SAS, rekeys: None, first: true };
        match answer {
            None => {
                core.count("childless");
                established.respond(ends, core, now, held.exchange, held.path, &held.before);
                established.ike_up(ends, core);
            }
            Some(Ok(answer)) => established.install_held(ends, core, now, held, answer),
            Some(Err(Refusal { error, cause, child })) => {
                established.answer_refused(ends, core, now, held, error);
                if let (Some(cause), Some(child)) = (cause, child) {
                    established.child_failed(ends, core, now, child, *cause);
                }
            }
        }
        established.pump(ends, core, now);
        Stage::Established(Box::new(established))
    }

    /// Why nobody who may have this suite is meant by an identity.
    fn unexpected(&self, core: &Core, path: Path, identity: &WireIdentity) -> String {
        let mut between = core.connections.between(path.local.ip(), path.remote.ip());
        let others = between.any(|(id, state)| {
            let config = state.config();
            config.version == Version::V2
                && identity.is(&config.remote_identity)
                && !self.candidates.contains(&id)
        });
        let (identity, suite) = (identity.describe(), self.suite);
        if others {
            format!(
                "the connection that expects the identity {identity} does not allow {suite}, which was chosen for another \
                 one with its address before the peer could say who it is: give the two a suite in common"
            )
        } else {
            format!("no connection expects the identity {identity} here")
        }
    }

    /// Refuses the initiator, which gets the same answer for a while.
    #[expect(clippy::too_many_arguments, reason = "the facts of one refusal, named at the call sites")]
    pub(super) fn refuse(
        &self,
        ends: &Ends,
        core: &mut Core,
        now: Instant,
        request: HandshakeRequest,
        mut keys: IkeKeys,
        error: Notify,
        cause: Option<Cause>,
    ) -> Stage {
        core.count("authentications_refused");
        let HandshakeRequest { exchange, path, digest } = request;
        let header = ends.header(exchange, true, self.next_id);
        let Ok(answer) = keys.sealing.seal(header, &[Payload::Notify(error)], None, &mut core.random) else {
            return Closed::now(now, cause);
        };
        core.transmit_all(path, &answer);
        Closed::answering(digest, answer, after(now, ANSWER_KEPT), cause)
    }
}

/// What AUTHENTICATION_FAILED from the peer can mean.
fn refused_by_peer(config: &Connection) -> &'static str {
    match config.authentication.local {
        LocalProof::PreSharedKey(_) => "the key or an identity does not match what the peer has",
        LocalProof::Certificate(_) => {
            "it does not accept our certificate, our signature or an identity; its log says which"
        }
    }
}
