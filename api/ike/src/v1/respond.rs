//! Main mode as its responder.

use std::time::Instant;

use super::agreed::Agreed;
use super::initiate::{NONCE_LEN_BYTES, clear, is_nonce, says_initial_contact, sole};
use super::nat;
use super::peer::Peer;
use super::phase_one::{PhaseOne, Stage, Up};
use super::proof::{Refusal, certificate_requests, check_identity};
use super::proposals::{PhaseOneChoice, choose_phase_one};
use super::received::Received;
use super::sealed::{open, seal};
use super::vendor::Announced;
use crate::crypto::{KeyPair, Spis};
use crate::v2::core::Core;
use crate::wire::WireIdentity;
use crate::wire::isakmp::registry::payload as kind;
use crate::wire::isakmp::{Exchange, Header, Payload, Proposal, encode_sa, phase_one_identity_body};
use crate::{Cause, Classified, IkeSaId};

impl Peer {
    /// What we would choose of an offer.
    pub(super) fn choose(&self, theirs: &[Proposal]) -> Option<PhaseOneChoice> {
        choose_phase_one(&self.config, theirs)
    }

    /// Message 1: answers with the choice; no more is said than was asked, and no key exchange is computed.
    pub(super) fn answer_sa(
        &mut self,
        core: &mut Core,
        now: Instant,
        received: &Received<'_>,
        payloads: &[Payload],
        choice: PhaseOneChoice,
    ) -> Option<IkeSaId> {
        let sa = sole(payloads, kind::SA)?.to_vec();
        let id = core.new_ike_sa_id();
        let cookies = Spis { initiator: received.header.cookie_i, responder: core.new_ike_spi(id) };
        let stage = Stage::SaAnswered { sa, suite: choice.suite, lifetime: choice.lifetime };
        let mut found = PhaseOne::new(id, false, cookies, received.path, now, stage);
        let chosen = Payload::new(kind::SA, encode_sa(&[choice.answer]));
        let header = found.header(Exchange::MainMode, 0);
        // Nobody has shown yet that it receives where it says it is: no more bytes go there than came.
        let fitting = Announced::read(payloads).trimmed().into_iter().find_map(|announced| {
            let answer: Vec<_> = std::iter::once(chosen.clone()).chain(announced.payloads()).collect();
            let answer = clear(header, &answer);
            (answer.len() <= received.message.len()).then_some((announced, answer))
        });
        let Some((announced, answer)) = fitting else {
            core.by_spi.remove(&cookies.responder);
            return None;
        };
        found.announced = announced;
        found.heard(received.message, answer.clone());
        found.send(core, now, &answer);
        self.phase_ones.insert(id, found);
        Some(id)
    }

    /// Message 3: the initiator's share of the key, and with our cookie the proof that it is where it says.
    pub(super) fn answer_key(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: IkeSaId,
        received: &Received<'_>,
    ) -> Classified {
        let payloads = match received.payloads() {
            Ok(payloads) => payloads,
            Err(dropped) => return dropped,
        };
        let forced = self.config.forces_nat_traversal();
        let Some(found) = self.phase_ones.get_mut(&id) else { return Classified::Dropped("unknown_cookies") };
        let Stage::SaAnswered { sa, suite, lifetime } = &found.stage else {
            return Classified::Dropped("unexpected_message");
        };
        let (sa, suite, lifetime) = (sa.clone(), *suite, *lifetime);
        let (Some(public_i), Some(nonce_i)) = (sole(&payloads, kind::KE), sole(&payloads, kind::NONCE))
        else {
            return Classified::Dropped("missing_payload");
        };
        if !is_nonce(nonce_i) {
            return Classified::Dropped("bad_value");
        }
        let Some(key_pair) = KeyPair::new(suite.group, &mut core.random) else {
            return Classified::Dropped("no_key_pair");
        };
        let Ok(shared) = key_pair.agree(public_i) else { return Classified::Dropped("invalid_public_value") };
        let nonce_r = core.random.array::<NONCE_LEN_BYTES>().to_vec();
        let nonces = (nonce_i, nonce_r.as_slice());
        let agreed = Agreed {
            suite,
            aggressive: false,
            lifetime,
            cookies: found.cookies,
            sa,
            publics: (public_i, key_pair.public()),
            nonces,
            shared: &shared,
        };
        let keyed = match agreed.keyed(&self.config.authentication) {
            Ok(keyed) => keyed,
            Err(dropped) => return dropped,
        };
        let mut answer = vec![
            Payload::new(kind::KE, key_pair.public().to_vec()),
            Payload::new(kind::NONCE, nonce_r.clone()),
        ];
        if let Some(dialect) = found.announced.nat {
            found.nat = nat::detect(dialect, suite.hash, found.cookies, received.path, &payloads, forced);
            answer.extend(nat::detection(dialect, suite.hash, found.cookies, received.path, forced));
        }
        answer.extend(certificate_requests(&self.config.authentication));
        found.stage = Stage::KeyAnswered(Box::new(keyed));
        found.path = received.path;
        let answer = clear(found.header(Exchange::MainMode, 0), &answer);
        found.heard(received.message, answer.clone());
        found.send(core, now, &answer);
        Classified::Ike
    }

    /// Message 5: who the initiator is; we say who we are.
    pub(super) fn answer_id(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: IkeSaId,
        received: &Received<'_>,
    ) -> Classified {
        // It is sent again.
        if self.awaits_first_contact(now) {
            return Classified::Dropped("first_contact_awaited");
        }
        let Some(found) = self.phase_ones.get_mut(&id) else { return Classified::Dropped("unknown_cookies") };
        let Stage::KeyAnswered(keyed) = &mut found.stage else {
            return Classified::Dropped("unexpected_message");
        };
        let cookies = found.cookies;
        let unix_secs = core.unix_secs(now);
        let unverified = open(&keyed.keys, &keyed.chain, received).ok_or(Refusal::Unproven);
        let judged = unverified.and_then(|unverified| {
            unverified.judge_identity(|payloads, identity| {
                let hash = keyed.proof_hash(true, cookies, identity);
                keyed.judge(&self.config, payloads, &hash, unix_secs)
            })
        });
        let (verified, certificates) = match judged {
            Ok(judged) => judged,
            Err(Refusal::Unproven) => {
                // Anyone may have sent it: the peer's own message may still come.
                keyed.refused = true;
                core.count("authentication_failed");
                return Classified::Dropped("integrity");
            }
            Err(Refusal::Unfit(detail)) => {
                self.refuse_proof(core, now, id, detail);
                return Classified::Ike;
            }
        };
        let theirs = sole(&verified.payloads, kind::ID).unwrap_or_default();
        if check_identity(&self.config, theirs).is_err() {
            keyed.refused = true;
            core.count("unexpected_identity");
            return Classified::Dropped("unexpected_identity");
        }
        let initial_contact = says_initial_contact(&verified.payloads);
        let ours = WireIdentity::from(&self.config.local_identity);
        let port = if found.nat.is_present() { 0 } else { core.limits.ike_port };
        let identity = phase_one_identity_body(&ours, port);
        let hash = keyed.proof_hash(false, cookies, &identity);
        let mut payloads = vec![Payload::new(kind::ID, identity)];
        match keyed.prove(&self.config, &hash) {
            Ok(proof) => payloads.extend(proof),
            Err(detail) => {
                let cause = Cause::AuthenticationFailed { side: "we cannot prove our identity", detail };
                self.attempt_failed(core, now, id, cause);
                return Classified::Ike;
            }
        }
        let mut chain = verified.next;
        let header = Header {
            cookie_i: cookies.initiator,
            cookie_r: cookies.responder,
            first: 0,
            exchange: Exchange::MainMode,
            encrypted: true,
            message_id: 0,
        };
        let answer = seal(&keyed.keys, &mut chain, header, &payloads);
        // The initiator may have moved to port 4500, and its NAT given it another one.
        found.path = received.path;
        found.heard(received.message, answer.clone());
        if let Stage::KeyAnswered(keyed) = std::mem::replace(&mut found.stage, Stage::Closed) {
            let up = Up::new(*keyed, chain, certificates, now, &mut core.random);
            found.stage = Stage::Up(Box::new(up));
        }
        found.send(core, now, &answer);
        self.came_up(core, now, id, initial_contact);
        Classified::Ike
    }

    /// Who knows the keys cannot prove its identity. The operator hears at once; the peer may try with another SA.
    pub(super) fn refuse_proof(&mut self, core: &mut Core, now: Instant, id: IkeSaId, detail: String) {
        core.count("authentication_failed");
        if let Some(found) = self.phase_ones.get_mut(&id) {
            found.stage = Stage::Refused;
        }
        self.down(core, now, Cause::AuthenticationFailed { side: "we refused the peer", detail });
    }
}
