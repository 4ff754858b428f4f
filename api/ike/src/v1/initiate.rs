//! Main mode as its initiator (RFC 2409 section 5, with pre-shared keys section 5.4).

use std::time::Instant;

use super::agreed::Agreed;
use super::nat;
use super::peer::Peer;
use super::phase_one::{PhaseOne, Stage, Up};
use super::proof::{Method, Refusal, certificate_requests, check_identity};
use super::proposals::{choose_phase_one, describe, offer_phase_one};
use super::received::Received;
use super::sealed::{open, seal};
use super::vendor::Announced;
use crate::crypto::{KeyPair, Spis};
use crate::v2::core::Core;
use crate::v2::nat::MISSING;
use crate::wire::WireIdentity;
use crate::wire::isakmp::registry::{notify, payload as kind};
use crate::wire::isakmp::{
    Exchange, Header, Notify, Payload, decode_sa, encode_chain, encode_sa, phase_one_identity_body,
};
use crate::{Cause, Classified, IkeSaId, Phase};

/// Length of our nonces; RFC 2409 section 5 allows 8 to 256.
pub(super) const NONCE_LEN_BYTES: usize = 32;

/// The body of the only payload of a kind.
pub(super) fn sole(payloads: &[Payload], wanted: u8) -> Option<&[u8]> {
    let mut found = payloads.iter().filter(|payload| payload.kind == wanted);
    let first = found.next()?;
    found.next().is_none().then_some(first.body.as_slice())
}

pub(super) fn clear(header: Header, payloads: &[Payload]) -> Vec<u8> {
    let (first, body) = encode_chain(payloads);
    Header { first, ..header }.encode(&body)
}

pub(super) fn is_nonce(nonce: &[u8]) -> bool {
    (8..=256).contains(&nonce.len())
}

/// The lower of two nonces.
pub(super) fn lowest(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.min(other).to_vec()
}

/// The initiator has no other SA with the responder (RFC 2407 section 4.6.3.3).
pub(super) fn initial_contact(cookies: Spis) -> Payload {
    let cookies = (cookies.initiator, cookies.responder);
    let notify = Notify::about_isakmp(notify::INITIAL_CONTACT, cookies, Vec::new());
    Payload::new(kind::NOTIFY, notify.encode())
}

/// Whether these payloads, which are authentic, say so.
pub(super) fn says_initial_contact(payloads: &[Payload]) -> bool {
    payloads.iter().any(|payload| {
        payload.kind == kind::NOTIFY
            && Notify::decode(&payload.body).is_ok_and(|notify| notify.kind == notify::INITIAL_CONTACT)
    })
}

impl Peer {
    /// Begins a phase 1, unless one is being made.
    pub(crate) fn begin_phase_one(&mut self, core: &mut Core, now: Instant) {
        if self.is_trying() || Method::of(&self.config.authentication).is_none() {
            return;
        }
        if self.options().aggressive_mode {
            return self.begin_aggressive_mode(core, now);
        }
        let id = core.new_ike_sa_id();
        let cookies = Spis { initiator: core.new_ike_spi(id), responder: 0 };
        let path = self.way_to_begin(core.limits.ike_port);
        let sa = encode_sa(&offer_phase_one(&self.config));
        let mut found = PhaseOne::new(id, true, cookies, path, now, Stage::SaSent { sa: sa.clone() });
        let mut payloads = vec![Payload::new(kind::SA, sa)];
        payloads.extend(Announced::ours());
        let message = clear(found.header(Exchange::MainMode, 0), &payloads);
        found.ask(core, now, message);
        self.phase_ones.insert(id, found);
    }

    /// Message 2: the choice.
    pub(super) fn sa_answered(
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
        let Stage::SaSent { sa } = &found.stage else { return Classified::Dropped("unexpected_message") };
        let theirs = sole(&payloads, kind::SA).and_then(|body| decode_sa(body).ok());
        let Some(theirs) = theirs else { return Classified::Dropped("missing_payload") };
        let single = matches!(theirs.as_slice(), [proposal] if proposal.transforms.len() == 1);
        let Some(choice) = choose_phase_one(&self.config, &theirs).filter(|_| single) else {
            // Nothing here is authenticated: a better answer may follow.
            core.count("no_proposal_chosen");
            return Classified::Dropped("no_proposal_chosen");
        };
        let announced = Announced::read(&payloads);
        if forced && announced.nat.is_none() {
            return Classified::Dropped(MISSING);
        }
        let Some(key_pair) = KeyPair::new(choice.suite.group, &mut core.random) else {
            return Classified::Dropped("no_key_pair");
        };
        let sa = sa.clone();
        found.cookies.responder = received.header.cookie_r;
        found.announced = announced;
        let nonce = core.random.array::<NONCE_LEN_BYTES>().to_vec();
        let mut payloads = vec![
            Payload::new(kind::KE, key_pair.public().to_vec()),
            Payload::new(kind::NONCE, nonce.clone()),
        ];
        if let Some(dialect) = found.announced.nat {
            payloads.extend(nat::detection(dialect, choice.suite.hash, found.cookies, found.path, forced));
        }
        payloads.extend(certificate_requests(&self.config.authentication));
        let (suite, lifetime) = (choice.suite, choice.lifetime);
        found.stage = Stage::KeySent { sa, suite, lifetime, key_pair, nonce };
        let answer = clear(found.header(Exchange::MainMode, 0), &payloads);
        found.heard(received.message, Vec::new());
        found.ask(core, now, answer);
        Classified::Ike
    }

    /// Message 4: the peer's share of the key; we say who we are.
    pub(super) fn key_answered(
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
        let first_contact = self.is_first_contact(core);
        let forced = self.config.forces_nat_traversal();
        let Some(found) = self.phase_ones.get_mut(&id) else { return Classified::Dropped("unknown_cookies") };
        let Stage::KeySent { sa, suite, lifetime, key_pair, nonce } = &found.stage else {
            return Classified::Dropped("unexpected_message");
        };
        let (suite, lifetime) = (*suite, *lifetime);
        let (Some(public), Some(nonce_r)) = (sole(&payloads, kind::KE), sole(&payloads, kind::NONCE)) else {
            return Classified::Dropped("missing_payload");
        };
        if !is_nonce(nonce_r) {
            return Classified::Dropped("bad_value");
        }
        let Ok(shared) = key_pair.agree(public) else { return Classified::Dropped("invalid_public_value") };
        let nonces = (nonce.as_slice(), nonce_r);
        let agreed = Agreed {
            suite,
            aggressive: false,
            lifetime,
            cookies: found.cookies,
            sa: sa.clone(),
            publics: (key_pair.public(), public),
            nonces,
            shared: &shared,
        };
        let mut keyed = match agreed.keyed(&self.config.authentication) {
            Ok(keyed) => keyed,
            Err(dropped) => return dropped,
        };
        if let Some(dialect) = found.announced.nat {
            found.nat = nat::detect(dialect, suite.hash, found.cookies, found.path, &payloads, forced);
        }
        // RFC 3947 section 4: to port 4500 with message 5.
        found.float(core.limits.nat_port);
        let ours = WireIdentity::from(&self.config.local_identity);
        let port = if found.nat.is_present() { 0 } else { core.limits.ike_port };
        let identity = phase_one_identity_body(&ours, port);
        let hash = keyed.proof_hash(true, found.cookies, &identity);
        let mut payloads = vec![Payload::new(kind::ID, identity)];
        match keyed.prove(&self.config, &hash) {
            Ok(proof) => payloads.extend(proof),
            Err(detail) => {
                let cause = Cause::AuthenticationFailed { side: "we cannot prove our identity", detail };
                self.attempt_failed(core, now, id, cause);
                return Classified::Ike;
            }
        }
        if first_contact {
            payloads.push(initial_contact(found.cookies));
            found.says_first_contact = true;
        }
        let header = found.header(Exchange::MainMode, 0);
        let answer = seal(&keyed.keys, &mut keyed.chain, header, &payloads);
        found.stage = Stage::IdSent(Box::new(keyed));
        found.heard(received.message, Vec::new());
        found.ask(core, now, answer);
        Classified::Ike
    }

    /// Message 6: who the peer is.
    pub(super) fn id_answered(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: IkeSaId,
        received: &Received<'_>,
    ) -> Classified {
        let Some(found) = self.phase_ones.get_mut(&id) else { return Classified::Dropped("unknown_cookies") };
        let Stage::IdSent(keyed) = &mut found.stage else { return Classified::Dropped("unexpected_message") };
        let unix_secs = core.unix_secs(now);
        let unverified = open(&keyed.keys, &keyed.chain, received).ok_or(Refusal::Unproven);
        let judged = unverified.and_then(|unverified| {
            unverified.judge_identity(|payloads, identity| {
                let hash = keyed.proof_hash(false, found.cookies, identity);
                keyed.judge(&self.config, payloads, &hash, unix_secs)
            })
        });
        let (verified, certificates) = match judged {
            Ok(judged) => judged,
            Err(Refusal::Unproven) => {
                keyed.refused = true;
                return Classified::Dropped("integrity");
            }
            Err(Refusal::Unfit(detail)) => {
                let cause = Cause::AuthenticationFailed { side: "we refused the peer", detail };
                self.attempt_failed(core, now, id, cause);
                return Classified::Ike;
            }
        };
        let theirs = sole(&verified.payloads, kind::ID).unwrap_or_default();
        if let Err(detail) = check_identity(&self.config, theirs) {
            let cause = Cause::AuthenticationFailed { side: "we refused the peer", detail };
            self.attempt_failed(core, now, id, cause);
            return Classified::Ike;
        }
        found.heard(received.message, Vec::new());
        found.retransmission = None;
        if let Stage::IdSent(keyed) = std::mem::replace(&mut found.stage, Stage::Closed) {
            let up = Up::new(*keyed, verified.next, certificates, now, &mut core.random);
            found.stage = Stage::Up(Box::new(up));
        }
        self.came_up(core, now, id, false);
        Classified::Ike
    }

    /// What stands in the way of an attempt that ends without an answer.
    pub(super) fn unanswered(&self, id: IkeSaId, tries: u32) -> Cause {
        let found = self.phase_ones.get(&id);
        let phase = Phase::MainMode;
        match found.map(|found| &found.stage) {
            Some(Stage::IdSent(_)) => Cause::AuthenticationFailed {
                side: "the peer refused us",
                detail: "it went silent when we proved our identity: the keys or the identities differ, most likely"
                    .to_owned(),
            },
            Some(Stage::AggressiveSent { refused: Some(detail), .. }) => {
                Cause::AuthenticationFailed { side: "we refused the peer", detail: detail.clone() }
            }
            _ => match found.and_then(|found| found.rumour) {
                Some(notify::NO_PROPOSAL_CHOSEN) => Cause::NoProposalChosen {
                    phase,
                    ours: self.offer_in_words(),
                    theirs: "(the peer did not say)".to_owned(),
                },
                Some(kind) => Cause::Notify { notify: notify::name(kind), phase },
                None => Cause::NoAnswer { phase, tries },
            },
        }
    }

    /// Our offer in words.
    pub(super) fn offer_in_words(&self) -> String {
        describe(&offer_phase_one(&self.config))
    }
}
