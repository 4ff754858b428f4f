//! Aggressive mode (RFC 2409 sections 5.1 and 5.4): three messages, identities in clear, and with a shared key a hash under
//! it for whoever asks. Begun and answered only by connections that were told to.

use std::time::Instant;

use super::agreed::Agreed;
use super::initiate::{NONCE_LEN_BYTES, clear, is_nonce, says_initial_contact, sole};
use super::nat;
use super::peer::Peer;
use super::phase_one::{PhaseOne, Stage, Up};
use super::proof::{Method, Refusal, certificate_requests, check_identity};
use super::proposals::{PhaseOneChoice, choose_phase_one, offer_phase_one_in};
use super::received::Received;
use super::sealed::{open, seal};
use super::vendor::Announced;
use crate::crypto::{KeyPair, Spis};
use crate::v2::core::Core;
use crate::v2::nat::missing;
use crate::wire::WireIdentity;
use crate::wire::isakmp::registry::payload as kind;
use crate::wire::isakmp::{Exchange, Header, Payload, decode_sa, encode_sa, phase_one_identity_body};
use crate::{Cause, Classified, Connection, IkeSaId, Phase};

/// An identity payload's body; the port says nothing, for the exchange may move to another one.
fn identity_body(config: &Connection) -> Vec<u8> {
    phase_one_identity_body(&WireIdentity::from(&config.local_identity), 0)
}

/// More than an answer gets shorter by all that it may do without.
const MOST_SAVED_BYTES: usize = 256;

/// Whoever asks has not shown that it receives where it says it is, so it gets no more bytes than came. What an answer may do
/// without, in the order in which it is done without: half of a nonce of 256 bits, what is only announced, and last NAT
/// traversal.
fn shorter_and_shorter(announced: Announced) -> impl Iterator<Item = (usize, Announced)> {
    const SHORT_NONCE_LEN_BYTES: usize = 16;
    let trimmed = announced.trimmed().into_iter().map(|announced| (SHORT_NONCE_LEN_BYTES, announced));
    std::iter::once((NONCE_LEN_BYTES, announced)).chain(trimmed)
}

impl Peer {
    /// Message 1. The group is that of our first proposal: its public value goes along.
    pub(super) fn begin_aggressive_mode(&mut self, core: &mut Core, now: Instant) {
        let group = self.config.proposals.iter().find_map(|proposal| proposal.groups.first().copied());
        let Some(group) = group.filter(|_| Method::of(&self.config.authentication).is_some()) else { return };
        let Some(key_pair) = KeyPair::new(group, &mut core.random) else { return };
        let id = core.new_ike_sa_id();
        let cookies = Spis { initiator: core.new_ike_spi(id), responder: 0 };
        let path = self.way_to_begin(core.limits.ike_port);
        let sa = encode_sa(&offer_phase_one_in(&self.config, Some(group)));
        let nonce = core.random.array::<NONCE_LEN_BYTES>().to_vec();
        let identity = identity_body(&self.config);
        let mut payloads = vec![
            Payload::new(kind::SA, sa.clone()),
            Payload::new(kind::KE, key_pair.public().to_vec()),
            Payload::new(kind::NONCE, nonce.clone()),
            Payload::new(kind::ID, identity.clone()),
        ];
        payloads.extend(certificate_requests(&self.config.authentication));
        payloads.extend(Announced::ours());
        let stage = Stage::AggressiveSent { sa, key_pair, nonce, identity, refused: None };
        let mut found = PhaseOne::new(id, true, cookies, path, now, stage);
        let message = clear(found.header(Exchange::AggressiveMode, 0), &payloads);
        found.ask(core, now, message);
        self.phase_ones.insert(id, found);
    }

    /// Takes in a message of aggressive mode of a phase 1 that is known.
    pub(super) fn handle_aggressive_mode(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: IkeSaId,
        received: &Received<'_>,
    ) -> Classified {
        let Some(found) = self.phase_ones.get(&id) else { return Classified::Dropped("unknown_cookies") };
        match (&found.stage, received.header.message_id) {
            (Stage::AggressiveSent { .. }, 0) if !received.header.encrypted => {
                self.aggressive_answered(core, now, id, received)
            }
            (Stage::AggressiveAnswered { .. }, 0) => self.aggressive_proven(core, now, id, received),
            _ => Classified::Dropped("unexpected_message"),
        }
    }

    /// Message 2: the peer's choice, share and proof; ours follows, and nothing comes back.
    fn aggressive_answered(
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
        let Some(found) = self.phase_ones.get_mut(&id) else { return Classified::Dropped("unknown_cookies") };
        let Stage::AggressiveSent { sa, key_pair, nonce, identity, refused } = &mut found.stage else {
            return Classified::Dropped("unexpected_message");
        };
        let field = |wanted| sole(&payloads, wanted);
        let theirs = field(kind::SA).and_then(|body| decode_sa(body).ok());
        let (Some(theirs), Some(public), Some(nonce_r), Some(identity_r)) =
            (theirs, field(kind::KE), field(kind::NONCE), field(kind::ID))
        else {
            return Classified::Dropped("missing_payload");
        };
        let single = matches!(theirs.as_slice(), [proposal] if proposal.transforms.len() == 1);
        let choice = choose_phase_one(&self.config, &theirs)
            .filter(|choice| single && choice.suite.group == key_pair.group());
        // Nothing here is authenticated: a better answer may follow.
        let Some(choice) = choice else { return Classified::Dropped("no_proposal_chosen") };
        if !is_nonce(nonce_r) {
            return Classified::Dropped("bad_value");
        }
        let Ok(shared) = key_pair.agree(public) else { return Classified::Dropped("invalid_public_value") };
        let cookies = Spis { responder: received.header.cookie_r, ..found.cookies };
        let agreed = Agreed {
            suite: choice.suite,
            aggressive: true,
            lifetime: choice.lifetime,
            cookies,
            sa: sa.clone(),
            publics: (key_pair.public(), public),
            nonces: (nonce, nonce_r),
            shared: &shared,
        };
        let keyed = match agreed.keyed(&self.config.authentication) {
            Ok(keyed) => keyed,
            Err(dropped) => return dropped,
        };
        let hash = keyed.proof_hash(false, cookies, identity_r);
        let judged = check_identity(&self.config, identity_r).map_err(Refusal::Unfit).and_then(|()| {
            let unix_secs = core.unix_secs(now);
            keyed.judge(&self.config, &payloads, &hash, unix_secs)
        });
        let certificates = match judged {
            Ok(certificates) => certificates,
            Err(refusal) => {
                // Anyone on the way may have sent it: the peer's own answer may still come.
                *refused = Some(match refusal {
                    Refusal::Unproven => "its proof is made with another key than ours".to_owned(),
                    Refusal::Unfit(detail) => detail,
                });
                core.count("authentication_failed");
                return Classified::Dropped("integrity");
            }
        };
        let hash = keyed.proof_hash(true, cookies, identity);
        let mut payloads_3 = match keyed.prove(&self.config, &hash) {
            Ok(proof) => proof,
            Err(detail) => {
                let side = "we cannot prove our identity";
                self.attempt_failed(core, now, id, Cause::AuthenticationFailed { side, detail });
                return Classified::Ike;
            }
        };
        let forced = self.config.forces_nat_traversal();
        let announced = Announced::read(&payloads);
        if forced && announced.nat.is_none() {
            self.attempt_failed(core, now, id, missing(Phase::MainMode));
            return Classified::Ike;
        }
        found.cookies = cookies;
        found.announced = announced;
        if let Some(dialect) = found.announced.nat {
            found.nat = nat::detect(dialect, keyed.suite.hash, cookies, found.path, &payloads, forced);
            payloads_3.extend(nat::detection(dialect, keyed.suite.hash, cookies, found.path, forced));
        }
        found.float(core.limits.nat_port);
        // Not here, where nothing binds it to the exchange (RFC 2407 section 4.6.3).
        found.owes_first_contact = first_contact;
        let mut chain = keyed.chain.clone();
        let answer = seal(&keyed.keys, &mut chain, found.header(Exchange::AggressiveMode, 0), &payloads_3);
        found.retransmission = None;
        // The peer repeats its message until it has this one.
        found.heard(received.message, answer.clone());
        let up = Up::new(keyed, chain, certificates, now, &mut core.random);
        found.stage = Stage::Up(Box::new(up));
        found.send(core, now, &answer);
        self.came_up(core, now, id, false);
        Classified::Ike
    }

    /// Message 1: all that can be told before the initiator has proven anything.
    pub(super) fn answer_aggressive(
        &mut self,
        core: &mut Core,
        now: Instant,
        received: &Received<'_>,
        payloads: &[Payload],
        choice: PhaseOneChoice,
    ) -> Classified {
        let field = |wanted| sole(payloads, wanted);
        let (Some(sa), Some(public_i), Some(nonce_i), Some(identity_i)) =
            (field(kind::SA), field(kind::KE), field(kind::NONCE), field(kind::ID))
        else {
            return Classified::Dropped("missing_payload");
        };
        if !is_nonce(nonce_i) {
            return Classified::Dropped("bad_value");
        }
        let Some(key_pair) = KeyPair::new(choice.suite.group, &mut core.random) else {
            return Classified::Dropped("no_key_pair");
        };
        let Ok(shared) = key_pair.agree(public_i) else { return Classified::Dropped("invalid_public_value") };
        let nonce_r = core.random.array::<NONCE_LEN_BYTES>();
        let id = core.new_ike_sa_id();
        let cookies = Spis { initiator: received.header.cookie_i, responder: core.unused_ike_spi() };
        let identity_r = identity_body(&self.config);
        let chosen = encode_sa(&[choice.answer]);
        let our_header = Header { cookie_r: cookies.responder, ..received.header };
        let mut fitting = None;
        for (nonce_len, announced) in shorter_and_shorter(Announced::read(payloads)) {
            let nonce_r = nonce_r.get(..nonce_len).unwrap_or(&nonce_r);
            let agreed = Agreed {
                suite: choice.suite,
                aggressive: true,
                lifetime: choice.lifetime,
                cookies,
                sa: sa.to_vec(),
                publics: (public_i, key_pair.public()),
                nonces: (nonce_i, nonce_r),
                shared: &shared,
            };
            let keyed = match agreed.keyed(&self.config.authentication) {
                Ok(keyed) => keyed,
                Err(dropped) => return dropped,
            };
            let hash = keyed.proof_hash(false, cookies, &identity_r);
            let Ok(proof) = keyed.prove(&self.config, &hash) else { return Classified::Dropped("no_proof") };
            let mut answer = vec![
                Payload::new(kind::SA, chosen.clone()),
                Payload::new(kind::KE, key_pair.public().to_vec()),
                Payload::new(kind::NONCE, nonce_r.to_vec()),
                Payload::new(kind::ID, identity_r.clone()),
            ];
            answer.extend(proof);
            answer.extend(certificate_requests(&self.config.authentication));
            answer.extend(announced.payloads());
            if let Some(dialect) = announced.nat {
                let forced = self.config.forces_nat_traversal();
                answer.extend(nat::detection(dialect, keyed.suite.hash, cookies, received.path, forced));
            }
            let answer = clear(our_header, &answer);
            if answer.len() <= received.message.len() {
                fitting = Some((keyed, announced, answer));
                break;
            }
            // Another signature would be made for nothing.
            if answer.len() > received.message.len().saturating_add(MOST_SAVED_BYTES) {
                break;
            }
        }
        let Some((keyed, announced, answer)) = fitting else {
            return Classified::Dropped("aggressive_mode_answer_too_long");
        };
        core.by_spi.insert(cookies.responder, id);
        let stage = Stage::AggressiveAnswered { keyed: Box::new(keyed), identity: identity_i.to_vec() };
        let mut found = PhaseOne::new(id, false, cookies, received.path, now, stage);
        found.announced = announced;
        found.heard(received.message, answer.clone());
        found.send(core, now, &answer);
        self.phase_ones.insert(id, found);
        Classified::Ike
    }

    /// Message 3: the initiator's proof, encrypted or not.
    fn aggressive_proven(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: IkeSaId,
        received: &Received<'_>,
    ) -> Classified {
        let Some(found) = self.phase_ones.get_mut(&id) else { return Classified::Dropped("unknown_cookies") };
        let Stage::AggressiveAnswered { keyed, identity } = &mut found.stage else {
            return Classified::Dropped("unexpected_message");
        };
        let unix_secs = core.unix_secs(now);
        let hash = keyed.proof_hash(true, found.cookies, identity);
        let judged = if received.header.encrypted {
            let unverified = open(&keyed.keys, &keyed.chain, received).ok_or(Refusal::Unproven);
            unverified
                .and_then(|found| found.judge(|all| keyed.judge(&self.config, all, &hash, unix_secs)))
                .map(|(verified, certificates)| (verified.payloads, verified.next, certificates))
        } else {
            match received.payloads() {
                Ok(payloads) => keyed
                    .judge(&self.config, &payloads, &hash, unix_secs)
                    .map(|certificates| (payloads, keyed.chain.clone(), certificates)),
                Err(_) => Err(Refusal::Unproven),
            }
        };
        let (payloads, chain, certificates) = match judged {
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
        if let Some(dialect) = found.announced.nat {
            let forced = self.config.forces_nat_traversal();
            found.nat =
                nat::detect(dialect, keyed.suite.hash, found.cookies, received.path, &payloads, forced);
        }
        // Nobody should say it here; in clear anyone on the way can have added it.
        let initial_contact = received.header.encrypted && says_initial_contact(&payloads);
        found.path = received.path;
        found.heard(received.message, Vec::new());
        if let Stage::AggressiveAnswered { keyed, .. } = std::mem::replace(&mut found.stage, Stage::Closed) {
            let up = Up::new(*keyed, chain, certificates, now, &mut core.random);
            found.stage = Stage::Up(Box::new(up));
        }
        self.came_up(core, now, id, initial_contact);
        Classified::Ike
    }
}
