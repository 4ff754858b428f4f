//! Quick mode as its initiator, and what both roles share (RFC 2409 section 5.5).

use std::time::{Duration, Instant};

use super::child::ChildSa;
use super::initiate::{NONCE_LEN_BYTES, initial_contact, is_nonce, lowest, sole};
use super::nat;
use super::peer::Peer;
use super::phase_one::{Life, PhaseOne, rekey_margin};
use super::proposals::{PhaseTwoChoice, choose_phase_two, describe, group_of, offer_phase_two};
use super::received::Received;
use super::sealed::{IvChain, open, seal, with_hash};
use super::selectors::{self, Named};
use crate::crypto::{EspSuite, KeyPair, PhaseOneKeys};
use crate::exchange::{Retransmission, after};
use crate::v2::core::{Core, Followup};
use crate::v2::sa::RequestDigest;
use crate::v2::selectors::describe as describe_selectors;
use crate::wire::isakmp::registry::{payload as kind, protocol};
use crate::wire::isakmp::{Delete, Exchange, Payload, PhaseTwoId, decode_sa, encode_sa};
use crate::{
    Cause, ChildConfig, ChildId, ChildKeyExchange, ChildLifetime, ChildPair, Classified, EspKeys, Event,
    IkeSaId, Mode, OperationId, Phase, SaOperation,
};

/// How long the initiator's last message is kept for a responder that did not get it.
const KEPT: Duration = Duration::from_secs(120);

/// How far a quick mode is.
pub(super) enum Step {
    /// We asked; message 2 is awaited.
    Asked(Box<Asked>),
    /// Message 2 was good; the dataplane is to say that it has the pair, then message 3 goes.
    Concluding { message: Vec<u8>, last: Vec<u8>, spi_in: u32 },
    /// Message 3 is out, kept until then.
    Concluded { until: Instant, spi_in: u32 },
    /// We answer; the dataplane is to say that it has the pair, then message 2 goes.
    Answering { message: Vec<u8>, answer: Vec<u8>, confirmation: Vec<u8>, spi_in: u32 },
    /// Message 2 is out; message 3 must bear this hash.
    Answered { confirmation: Vec<u8>, spi_in: u32 },
}

/// What we asked.
pub(super) struct Asked {
    pub(super) config: ChildConfig,
    pub(super) spi_in: u32,
    pub(super) nonce: Vec<u8>,
    pub(super) key_pair: Option<KeyPair>,
}

/// A quick mode.
pub(super) struct Quick {
    pub(super) phase_one: IkeSaId,
    pub(super) message_id: u32,
    pub(super) child: ChildId,
    pub(super) begun_at: Instant,
    pub(super) chain: IvChain,
    pub(super) step: Step,
    pub(super) retransmission: Option<Retransmission>,
    /// The message taken in last, what was said to it, and how often that may be said again.
    pub(super) heard: Option<(RequestDigest, Vec<u8>, u32)>,
}

impl Quick {
    pub(super) fn is_about(&self, child: ChildId) -> bool {
        self.child == child && !matches!(self.step, Step::Concluded { .. })
    }

    pub(super) fn key(&self) -> (IkeSaId, u32) {
        (self.phase_one, self.message_id)
    }
}

/// What both ends of an agreed pair need.
pub(super) struct Agreement<'a> {
    pub(super) config: &'a ChildConfig,
    pub(super) choice: &'a PhaseTwoChoice,
    pub(super) spi_in: u32,
    /// The new shared secret, for forward secrecy.
    pub(super) shared: &'a [u8],
    /// Initiator's and responder's.
    pub(super) nonces: (&'a [u8], &'a [u8]),
}

/// Keys of the SA with this SPI: those of the direction in which its chooser receives.
fn keys(keys: &PhaseOneKeys, suite: EspSuite, agreement: &Agreement<'_>, spi: u32) -> Option<EspKeys> {
    let spi = spi.to_be_bytes();
    let seed = [agreement.shared, &[protocol::ESP], &spi, agreement.nonces.0, agreement.nonces.1];
    suite.cut(&keys.key_material(&seed, suite.direction_len_bytes()))
}

/// The child's limits, cut to what the peer wants.
fn lifetime(config: &ChildConfig, choice: &PhaseTwoChoice) -> ChildLifetime {
    let mut lifetime = config.lifetime;
    if let Some(hard) = choice.lifetime.filter(|hard| *hard < lifetime.hard) {
        let soft = hard.saturating_sub(rekey_margin(hard));
        (lifetime.soft, lifetime.hard) = (lifetime.soft.min(soft), hard);
    }
    if let Some(bytes) = choice.kilobytes.map(|kilobytes| kilobytes.saturating_mul(1024))
        && lifetime.hard_bytes.is_none_or(|ours| bytes < ours)
    {
        lifetime.hard_bytes = Some(bytes);
        lifetime.soft_bytes =
            Some(lifetime.soft_bytes.unwrap_or(u64::MAX).min(bytes.saturating_sub(bytes / 10)));
    }
    lifetime
}

impl Peer {
    /// The pair of an agreement.
    pub(super) fn pair(&self, found: &PhaseOne, agreement: &Agreement<'_>) -> Option<ChildPair> {
        let up = found.up()?;
        let (config, choice) = (agreement.config, agreement.choice);
        let (local, remote) = selectors::of_child(config)?;
        let suite = choice.suite;
        Some(ChildPair {
            child: config.id,
            connection: self.id,
            spi_in: agreement.spi_in,
            spi_out: choice.spi,
            path: found.path,
            udp_encapsulation: found.nat.is_present(),
            mode: config.mode,
            encryption: suite.encryption,
            integrity: suite.integrity,
            esn: suite.esn,
            key_exchange: choice.group.map(|group| ChildKeyExchange { group, additional: Vec::new() }),
            local_selectors: vec![local],
            remote_selectors: vec![remote],
            keys_in: keys(&up.keys, suite, agreement, agreement.spi_in)?,
            keys_out: keys(&up.keys, suite, agreement, choice.spi)?,
            lifetime: lifetime(config, choice),
        })
    }

    /// Asks the dataplane for a pair.
    #[expect(clippy::too_many_arguments, reason = "the facts of one exchange, named at the two call sites")]
    pub(super) fn install(
        &mut self,
        core: &mut Core,
        now: Instant,
        key: (IkeSaId, u32),
        config: ChildConfig,
        pair: ChildPair,
        nonces: (&[u8], &[u8]),
        begun_at: Instant,
        ours: bool,
    ) {
        let margin = pair.lifetime.hard.saturating_sub(pair.lifetime.soft);
        let soft = pair.lifetime.soft.saturating_sub(core.random.shortened(margin, 100).mul_f64(0.5));
        let child = ChildSa {
            config,
            spi_in: pair.spi_in,
            spi_out: pair.spi_out,
            made_on: key.0,
            lowest_nonce: lowest(nonces.0, nonces.1),
            ours,
            begun_at,
            committed_at: None,
            told: None,
            send_at: None,
            soft_at: after(now, soft),
            hard_at: after(now, pair.lifetime.hard),
            review_at: None,
            retire_at: None,
        };
        self.children.insert(pair.spi_in, child);
        let operation = core.new_operation(self.holder);
        self.installing.insert(operation, key);
        // Neither end knows yet that the other has it.
        let install = SaOperation::Install { operation, send: false, pair: Box::new(pair) };
        core.outputs.push_back(crate::Output::Sa(install));
    }

    /// The dataplane has the pair, or not.
    pub(crate) fn handle_installed(
        &mut self,
        core: &mut Core,
        now: Instant,
        operation: OperationId,
        result: Result<(), String>,
    ) {
        let Some(key) = self.installing.remove(&operation) else { return };
        let Some(mut quick) = self.quicks.remove(&key) else { return };
        let (Step::Concluding { spi_in, .. } | Step::Answering { spi_in, .. }) = &quick.step else {
            self.quicks.insert(key, quick);
            return;
        };
        let spi_in = *spi_in;
        if let Err(detail) = result {
            self.children.remove(&spi_in);
            core.esp.remove(&spi_in);
            if matches!(quick.step, Step::Concluding { .. }) {
                self.say_deleted(core, now, &Delete::Esp(vec![spi_in]));
            }
            self.child_failed(core, now, quick.child, Cause::Dataplane { detail });
            return;
        }
        if !self.children.contains_key(&spi_in) {
            return;
        }
        let Some(found) = self.phase_ones.get_mut(&key.0) else {
            self.forget_child(core, spi_in, Cause::DeletedByPeer);
            return;
        };
        match std::mem::replace(&mut quick.step, Step::Concluded { until: after(now, KEPT), spi_in }) {
            Step::Concluding { message, last, spi_in } => {
                found.send(core, now, &last);
                let again = core.limits.retransmit_tries.saturating_mul(2);
                quick.heard = Some((RequestDigest::new(&message), last, again));
                core.pair_up(quick.child, spi_in, false);
                self.quicks.insert(key, quick);
                self.commit(core, now, spi_in);
                self.told(now, spi_in);
            }
            Step::Answering { message, answer, confirmation, spi_in } => {
                found.send(core, now, &answer);
                let again = core.limits.retransmit_tries.saturating_mul(2);
                quick.retransmission =
                    Some(Retransmission::new(vec![answer.clone()], now, &core.limits, &mut core.random));
                quick.heard = Some((RequestDigest::new(&message), answer, again));
                quick.step = Step::Answered { confirmation, spi_in };
                core.pair_up(quick.child, spi_in, false);
                self.quicks.insert(key, quick);
                self.told(now, spi_in);
            }
            _ => {}
        }
    }
}

impl Peer {
    /// Asks for a child; `false` without a phase 1 to ask on.
    pub(crate) fn begin_quick(&mut self, core: &mut Core, now: Instant, child: ChildId) -> bool {
        let config = self.config.children.iter().find(|config| config.id == child).cloned();
        let Some(phase_one) = self.active().map(|found| found.id) else { return false };
        let Some(config) = config else { return true };
        let seen = self.phase_ones.get(&phase_one).and_then(|found| found.seen_of_peer(config.mode));
        let named = selectors::of_child(&config).and_then(|(local, remote)| {
            let remote = selectors::named_by(remote, self.config.remote, seen);
            Some([PhaseTwoId::encode(&local)?, PhaseTwoId::encode(&remote)?])
        });
        let Some(named) = named else {
            let detail = "the selectors cannot be said in IKEv1".to_owned();
            self.child_failed(core, now, child, Cause::Protocol { phase: Phase::QuickMode, detail });
            return true;
        };
        let key_pair = match group_of(&config) {
            Some(group) => match KeyPair::new(group, &mut core.random) {
                None => return true,
                made => made,
            },
            None => None,
        };
        let spi_in = core.new_esp_spi(self.holder);
        let nonce = core.random.array::<NONCE_LEN_BYTES>().to_vec();
        let Some(found) = self.phase_ones.get_mut(&phase_one) else { return false };
        let nat = found.encapsulates();
        let sa = encode_sa(&offer_phase_two(&config, spi_in, nat));
        let mut payloads = vec![Payload::new(kind::SA, sa), Payload::new(kind::NONCE, nonce.clone())];
        payloads.extend(key_pair.as_ref().map(|pair| Payload::new(kind::KE, pair.public().to_vec())));
        payloads.extend(named.map(|body| Payload::new(kind::ID, body)));
        if let Some(dialect) = nat.filter(|_| config.mode == Mode::Transport) {
            payloads.extend(nat::original_addresses(dialect, found.path.local.ip(), found.path.remote.ip()));
        }
        if std::mem::take(&mut found.owes_first_contact) && self.children.is_empty() {
            payloads.push(initial_contact(found.cookies));
        }
        let mut header = found.header(Exchange::QuickMode, 0);
        let Some(up) = found.up_mut() else { return false };
        header.message_id = up.new_message_id(now, &mut core.random);
        let mut chain = IvChain::exchange(&up.keys, &up.chain, header.message_id);
        let payloads = with_hash(&up.keys, &[&header.message_id.to_be_bytes()], payloads);
        let message = seal(&up.keys, &mut chain, header, &payloads);
        found.send(core, now, &message);
        let quick = Quick {
            phase_one,
            message_id: header.message_id,
            child,
            begun_at: now,
            chain,
            step: Step::Asked(Box::new(Asked { config, spi_in, nonce, key_pair })),
            retransmission: Some(Retransmission::new(vec![message], now, &core.limits, &mut core.random)),
            heard: None,
        };
        self.quicks.insert(quick.key(), quick);
        true
    }

    /// Message 2, or message 3 of the peer's quick mode.
    pub(super) fn continue_quick(
        &mut self,
        core: &mut Core,
        now: Instant,
        key: (IkeSaId, u32),
        received: &Received<'_>,
    ) -> Classified {
        let Some(quick) = self.quicks.get_mut(&key) else { return Classified::Dropped("unknown_message_id") };
        let Some(found) = self.phase_ones.get_mut(&key.0) else {
            return Classified::Dropped("unknown_cookies");
        };
        if let Some((digest, answer, left)) = &mut quick.heard
            && *digest == RequestDigest::new(received.message)
        {
            if *left > 0 && !answer.is_empty() {
                *left = left.saturating_sub(1);
                let answer = answer.clone();
                core.count("responses_repeated");
                found.send(core, now, &answer);
                if let Step::Concluded { spi_in, .. } | Step::Answered { spi_in, .. } = quick.step {
                    self.told(now, spi_in);
                }
            }
            return Classified::Ike;
        }
        let Some(up) = found.up() else { return Classified::Dropped("unexpected_message") };
        let Some(unverified) = open(&up.keys, &quick.chain, received) else {
            return Classified::Dropped("integrity");
        };
        let id = received.header.message_id.to_be_bytes();
        match &quick.step {
            Step::Asked(asked) => {
                let verified = unverified.verify(|rest| up.keys.message_hash(&[&id, &asked.nonce, rest]));
                let Some(verified) = verified else { return Classified::Dropped("integrity") };
                quick.chain = verified.next;
                quick.retransmission = None;
                let Some(quick) = self.quicks.remove(&key) else { return Classified::Ike };
                self.heard(core, now, key.0);
                self.conclude(core, now, quick, received.message, &verified.payloads);
                Classified::Ike
            }
            Step::Answered { confirmation, spi_in } => {
                let spi_in = *spi_in;
                let expected = confirmation.clone();
                let Some(_) = unverified.verify(|_| zeroize::Zeroizing::new(expected)) else {
                    return Classified::Dropped("integrity");
                };
                self.quicks.remove(&key);
                self.heard(core, now, key.0);
                self.commit(core, now, spi_in);
                Classified::Ike
            }
            _ => Classified::Dropped("unexpected_message"),
        }
    }

    /// The peer's choice has come.
    fn conclude(
        &mut self,
        core: &mut Core,
        now: Instant,
        mut quick: Quick,
        message: &[u8],
        payloads: &[Payload],
    ) {
        let Step::Asked(asked) = &quick.step else { return };
        let outcome = self.judge(&quick, asked, payloads);
        let (choice_pair, nonce_r) = match outcome {
            Ok(good) => good,
            Err(cause) => {
                core.esp.remove(&asked.spi_in);
                let (child, spi_in) = (quick.child, asked.spi_in);
                self.say_deleted(core, now, &Delete::Esp(vec![spi_in]));
                self.child_failed(core, now, child, cause);
                return;
            }
        };
        let (config, spi_in, nonce_i) = (asked.config.clone(), asked.spi_in, asked.nonce.clone());
        let Some(found) = self.phase_ones.get_mut(&quick.phase_one) else { return };
        let header = found.header(Exchange::QuickMode, quick.message_id);
        let Some(up) = found.up() else { return };
        let id = quick.message_id.to_be_bytes();
        let hash = up.keys.message_hash(&[&[0], &id, &nonce_i, &nonce_r]).to_vec();
        let last = seal(&up.keys, &mut quick.chain, header, &[Payload::new(kind::HASH, hash)]);
        quick.step = Step::Concluding { message: message.to_vec(), last, spi_in };
        let (key, begun_at) = (quick.key(), quick.begun_at);
        quick.heard = Some((RequestDigest::new(message), Vec::new(), 0));
        self.quicks.insert(key, quick);
        self.install(core, now, key, config, choice_pair, (&nonce_i, &nonce_r), begun_at, true);
    }

    /// Whether the peer's answer is one to what we asked: the pair, and the responder's nonce.
    fn judge(
        &self,
        quick: &Quick,
        asked: &Asked,
        payloads: &[Payload],
    ) -> Result<(ChildPair, Vec<u8>), Cause> {
        let phase = Phase::QuickMode;
        let protocol = |detail: &str| Cause::Protocol { phase, detail: detail.to_owned() };
        let found = self.phase_ones.get(&quick.phase_one).ok_or_else(|| protocol("phase 1 is gone"))?;
        let sa = sole(payloads, kind::SA).and_then(|body| decode_sa(body).ok());
        let (Some(sa), Some(nonce_r)) = (sa, sole(payloads, kind::NONCE)) else {
            return Err(protocol("the answer lacks SA or nonce"));
        };
        let single = matches!(sa.as_slice(), [proposal] if proposal.transforms.len() == 1);
        let nat = found.encapsulates();
        let choice = choose_phase_two(&asked.config, &sa, nat).filter(|_| single && is_nonce(nonce_r));
        let choice = choice.ok_or_else(|| Cause::NoProposalChosen {
            phase,
            ours: describe(&offer_phase_two(&asked.config, 0, nat)),
            theirs: describe(&sa),
        })?;
        let choice = choice.shortened(payloads);
        let named = Named::read(payloads, found.path.local.ip(), found.path.remote.ip());
        let (local, remote) =
            selectors::of_child(&asked.config).ok_or_else(|| protocol("the child has no selectors"))?;
        let named = named.map(|named| {
            let (ours, theirs) = found.ends(&self.config, payloads, true);
            let hosts = asked.config.mode == Mode::Transport;
            if hosts { named.seen_from_here(ours, theirs) } else { named }
        });
        let right = named.as_ref().is_ok_and(|named| (named.initiator, named.responder) == (local, remote));
        let absent =
            sole(payloads, kind::ID).is_none() && !payloads.iter().any(|found| found.kind == kind::ID);
        if !right && !absent {
            let theirs = named.map_or_else(
                |_| "malformed".to_owned(),
                |named| describe_selectors(&[named.initiator, named.responder]),
            );
            return Err(Cause::TsUnacceptable { ours: describe_selectors(&[local, remote]), theirs });
        }
        let shared = match (&asked.key_pair, choice.group, sole(payloads, kind::KE)) {
            (None, None, _) => None,
            (Some(pair), Some(group), Some(public)) if pair.group() == group => {
                Some(pair.agree(public).map_err(|error| protocol(&error.to_string()))?)
            }
            _ => return Err(protocol("the answer's key exchange is not the one asked for")),
        };
        let agreement = Agreement {
            config: &asked.config,
            choice: &choice,
            spi_in: asked.spi_in,
            shared: shared.as_ref().map_or(&[], |shared| shared.as_slice()),
            nonces: (&asked.nonce, nonce_r),
        };
        let pair = self.pair(found, &agreement).ok_or_else(|| protocol("there is no keying material"))?;
        Ok((pair, nonce_r.to_vec()))
    }

    /// A quick mode that will not end well.
    pub(super) fn abandon(&mut self, core: &mut Core, now: Instant, quick: Quick, cause: Cause) {
        match &quick.step {
            Step::Asked(asked) => {
                core.esp.remove(&asked.spi_in);
                self.child_failed(core, now, quick.child, cause);
            }
            Step::Concluding { spi_in, .. }
            | Step::Answering { spi_in, .. }
            | Step::Answered { spi_in, .. } => {
                let uncommitted = self.children.get(spi_in).is_some_and(|child| child.committed_at.is_none());
                if uncommitted {
                    self.forget_child(core, *spi_in, cause);
                }
            }
            Step::Concluded { .. } => {}
        }
    }

    /// A child could not come up, or not be rekeyed; it waits longer before each further try.
    pub(super) fn child_failed(&mut self, core: &mut Core, now: Instant, child: ChildId, cause: Cause) {
        if let Some(state) = core.connections.get_mut(self.id) {
            let want = state.children.entry(child).or_default();
            want.backoff.failed(now, &core.limits, &mut core.random);
        }
        if core.has_pair(child) {
            core.count("child_rekeys_failed");
        } else {
            core.event(Event::ChildDown { child, cause });
        }
        core.followups.push_back(Followup::Ensure(self.id));
    }

    /// Whether a phase 1 takes new exchanges.
    pub(super) fn takes_exchanges(&self, id: IkeSaId) -> bool {
        let life = self.phase_ones.get(&id).and_then(PhaseOne::up).map(|up| up.life);
        matches!(life, Some(Life::Active | Life::Retiring(_)))
    }
}
