//! Quick mode as its responder.

use std::time::Instant;

use super::initiate::{NONCE_LEN_BYTES, is_nonce, says_initial_contact, sole};
use super::nat;
use super::peer::Peer;
use super::proposals::{choose_phase_two, describe, mode_of, offer_phase_two};
use super::quick::{Agreement, Quick, Step};
use super::received::Received;
use super::responder_lifetime;
use super::sealed::{IvChain, open, seal, with_hash};
use super::selectors::{self, Named};
use crate::crypto::KeyPair;
use crate::v2::core::Core;
use crate::v2::sa::RequestDigest;
use crate::v2::selectors::describe as describe_selectors;
use crate::wire::isakmp::registry::{notify, payload as kind};
use crate::wire::isakmp::{Exchange, Notify, Payload, Proposal, decode_sa, encode_sa};
use crate::{Cause, ChildConfig, ChildPair, Classified, Event, IkeSaId, Mode, Phase};

/// Why a quick mode is refused.
struct Refusal {
    kind: u16,
    cause: Option<Cause>,
}

impl Refusal {
    fn plain(kind: u16) -> Self {
        Self { kind, cause: None }
    }
}

/// What is answered.
struct Answer {
    config: ChildConfig,
    pair: ChildPair,
    payloads: Vec<Payload>,
    nonce_r: Vec<u8>,
}

impl Peer {
    /// Message 1.
    pub(super) fn answer_quick(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: IkeSaId,
        received: &Received<'_>,
    ) -> Classified {
        if !self.takes_exchanges(id) {
            return Classified::Dropped("unexpected_message");
        }
        let message_id = received.header.message_id;
        let Some(up) = self.up_of(id) else { return Classified::Dropped("unexpected_message") };
        if up.was_used(message_id) {
            return Classified::Dropped("message_id_used");
        }
        let chain = IvChain::exchange(&up.keys, &up.chain, message_id);
        let bytes = message_id.to_be_bytes();
        let verified = open(&up.keys, &chain, received)
            .and_then(|unverified| unverified.verify(|rest| up.keys.message_hash(&[&bytes, rest])));
        let Some(verified) = verified else { return Classified::Dropped("integrity") };
        up.use_up(now, message_id);
        self.heard(core, now, id);
        // RFC 2407 section 4.6.3: any quick mode may say it.
        if says_initial_contact(&verified.payloads) {
            let created_at = self.phase_ones.get(&id).map_or(now, |found| found.created_at);
            self.forget_older(core, created_at, id);
        }
        let most = core.limits.children_per_ike_sa;
        let begun = self.quicks.values().filter(|quick| quick.phase_one == id).count();
        // Of each there may be an old and a new one.
        if begun >= most || self.children.len() >= most.saturating_mul(2) {
            return Classified::Dropped("too_many_exchanges");
        }
        let (answer, nonce_i) = match self.negotiate(core, id, &verified.payloads) {
            Ok(answer) => answer,
            Err(refusal) => {
                self.refuse_quick(core, now, id, &verified.payloads, refusal);
                return Classified::Ike;
            }
        };
        let Answer { config, pair, payloads, nonce_r } = answer;
        let Some(found) = self.phase_ones.get(&id) else { return Classified::Dropped("unknown_cookies") };
        let header = found.header(Exchange::QuickMode, message_id);
        let Some(up) = found.up() else { return Classified::Dropped("unexpected_message") };
        let mut chain = verified.next;
        let payloads = with_hash(&up.keys, &[&bytes, &nonce_i], payloads);
        let answer = seal(&up.keys, &mut chain, header, &payloads);
        let confirmation = up.keys.message_hash(&[&[0], &bytes, &nonce_i, &nonce_r]).to_vec();
        let quick = Quick {
            phase_one: id,
            message_id,
            child: config.id,
            begun_at: now,
            chain,
            step: Step::Answering {
                message: received.message.to_vec(),
                answer,
                confirmation,
                spi_in: pair.spi_in,
            },
            retransmission: None,
            heard: Some((RequestDigest::new(received.message), Vec::new(), 0)),
        };
        let key = quick.key();
        self.quicks.insert(key, quick);
        self.install(core, now, key, config, pair, (&nonce_i, &nonce_r), now, false);
        Classified::Ike
    }

    fn negotiate(
        &self,
        core: &mut Core,
        id: IkeSaId,
        payloads: &[Payload],
    ) -> Result<(Answer, Vec<u8>), Refusal> {
        let malformed = || Refusal::plain(notify::PAYLOAD_MALFORMED);
        let found = self.phase_ones.get(&id).ok_or_else(malformed)?;
        let sa = sole(payloads, kind::SA).and_then(|body| decode_sa(body).ok()).ok_or_else(malformed)?;
        let nonce_i = sole(payloads, kind::NONCE).filter(|nonce| is_nonce(nonce)).ok_or_else(malformed)?;
        let (local, remote) = (found.path.local.ip(), found.path.remote.ip());
        let named = Named::read(payloads, remote, local)
            .map_err(|_| Refusal::plain(notify::INVALID_ID_INFORMATION))?;
        let mode = mode_of(&sa);
        let named = if mode == Mode::Transport {
            let (ours, theirs) = found.ends(&self.config, payloads, false);
            named.seen_from_here(theirs, ours)
        } else {
            named
        };
        let config = self.find_child(&named, mode)?;
        let nat = found.encapsulates();
        let choice = choose_phase_two(config, &sa, nat).ok_or_else(|| Refusal {
            kind: notify::NO_PROPOSAL_CHOSEN,
            cause: Some(Cause::NoProposalChosen {
                phase: Phase::QuickMode,
                ours: describe(&offer_phase_two(config, 0, nat)),
                theirs: describe(&sa),
            }),
        })?;
        let (key_pair, shared) = match (choice.group, sole(payloads, kind::KE)) {
            (None, _) => (None, None),
            (Some(group), Some(public)) => {
                let pair = KeyPair::new(group, &mut core.random).ok_or_else(malformed)?;
                let shared = pair.agree(public).map_err(|_| malformed())?;
                (Some(pair), Some(shared))
            }
            (Some(_), None) => return Err(malformed()),
        };
        let nonce_r = core.random.array::<NONCE_LEN_BYTES>().to_vec();
        let spi_in = core.new_esp_spi(self.holder);
        let agreement = Agreement {
            config,
            choice: &choice,
            spi_in,
            shared: shared.as_ref().map_or(&[], |shared| shared.as_slice()),
            nonces: (nonce_i, &nonce_r),
        };
        let Some(pair) = self.pair(found, &agreement) else {
            core.esp.remove(&spi_in);
            return Err(malformed());
        };
        let proposal = Proposal { spi: spi_in.to_be_bytes().to_vec(), ..choice.answer.clone() };
        let mut answer =
            vec![Payload::new(kind::SA, encode_sa(&[proposal])), Payload::new(kind::NONCE, nonce_r.clone())];
        answer.extend(key_pair.map(|pair| Payload::new(kind::KE, pair.public().to_vec())));
        // As they came: there is nothing to narrow with.
        answer.extend(payloads.iter().filter(|payload| payload.kind == kind::ID).cloned());
        if let Some(dialect) = nat.filter(|_| config.mode == Mode::Transport) {
            answer.extend(nat::original_addresses(dialect, remote, local));
        }
        answer.extend(responder_lifetime::told(&pair.lifetime, &choice, spi_in));
        let config = config.clone();
        Ok((Answer { config, pair, payloads: answer, nonce_r }, nonce_i.to_vec()))
    }

    fn find_child(&self, named: &Named, mode: Mode) -> Result<&ChildConfig, Refusal> {
        let superset = self.options().accept_superset;
        let children = &self.config.children;
        let of = |mode| selectors::find(children, named, mode, superset);
        of(mode).ok_or_else(|| {
            let other = if mode == Mode::Transport { Mode::Tunnel } else { Mode::Transport };
            if of(other).is_some() {
                let cause = Cause::ModeMismatch { ours: other, theirs: mode };
                return Refusal { kind: notify::NO_PROPOSAL_CHOSEN, cause: Some(cause) };
            }
            let ours = children.first().and_then(selectors::of_child);
            let ours = ours.map_or_else(
                || "no child".to_owned(),
                |(local, remote)| describe_selectors(&[local, remote]),
            );
            let theirs = describe_selectors(&[named.responder, named.initiator]);
            let cause = Cause::TsUnacceptable { ours, theirs };
            Refusal { kind: notify::INVALID_ID_INFORMATION, cause: Some(cause) }
        })
    }

    /// Tells the peer why there is no child, and the operator too.
    fn refuse_quick(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: IkeSaId,
        payloads: &[Payload],
        refusal: Refusal,
    ) {
        core.count("quick_modes_refused");
        let theirs = sole(payloads, kind::SA).and_then(|body| decode_sa(body).ok());
        let spi = theirs
            .and_then(|sa| <[u8; 4]>::try_from(sa.first()?.spi.as_slice()).ok())
            .map_or(0, u32::from_be_bytes);
        let notify = Notify::about_esp(refusal.kind, spi);
        self.inform(core, now, id, Payload::new(kind::NOTIFY, notify.encode()));
        let child = self.config.children.first().map(|child| child.id);
        if let (Some(cause), Some(child)) = (refusal.cause, child.filter(|child| !core.has_pair(*child))) {
            core.event(Event::ChildDown { child, cause });
        }
    }
}
