//! IKE_SA_INIT as its initiator (RFC 7296 section 1.2).

use std::sync::Arc;
use std::time::Instant;

use super::core::Core;
use super::fragments::Fragments;
use super::intermediate::{self, Handshake, IntAuth};
use super::nat;
use super::payloads::Picked;
use super::ppk;
use super::proof;
use super::proposals::{self, Additional};
use super::sa::{Closed, Ends, IkeSa, Inbound, Stage};
use crate::cert::PeerHashes;
use crate::crypto::{IkeKeys, KeyPair, Spis};
use crate::exchange::{Due, Retransmission};
use crate::wire::registry::notify;
use crate::wire::{Exchange, Message, Notify, Payload, WireProposal};
use crate::{Cause, ChildId, Classified, Connection, Group, IkeProposal, Path, Phase};

/// Length of our nonces: at least half the largest PRF key (section 2.10).
pub(super) const NONCE_LEN_BYTES: usize = 32;
/// Cookies that one attempt accepts; a peer that rotates its secret in between asks twice.
const MAX_COOKIES: u32 = 3;
/// Tries after which an unauthenticated error is believed, no better answer having come (section 2.21.1).
const TRIES_BEFORE_ERROR: u32 = 2;

/// Initiator: the request is out.
pub(crate) struct InitSent {
    config: Arc<Connection>,
    first_child: ChildId,
    key_pair: KeyPair,
    nonce: Vec<u8>,
    cookie: Option<Vec<u8>>,
    retransmission: Retransmission,
    cookies_seen: u32,
    group_changed: bool,
    /// What an unauthenticated answer complained of.
    noted: Option<Cause>,
}

/// Begins a connection: the IKE SA with its first message on the way.
pub(crate) fn initiate(
    core: &mut Core,
    now: Instant,
    config: Arc<Connection>,
    first_child: ChildId,
) -> Option<IkeSa> {
    let group = config.proposals.iter().find_map(|proposal| proposal.groups.first())?;
    let key_pair = KeyPair::new(*group, &mut core.random)?;
    let id = core.new_ike_sa_id();
    let port = core.limits.ike_port;
    let ends = Ends {
        id,
        connection: config.id,
        initiator: true,
        spis: Spis { initiator: core.new_ike_spi(id), responder: 0 },
        path: Path { local: (config.local, port).into(), remote: (config.remote, port).into() },
        nat: nat::Nat::default(),
        mobike: false,
        additional: false,
        peer_certificates: None,
        fragments: Fragments::default(),
    };
    let nonce = core.random.array::<NONCE_LEN_BYTES>().to_vec();
    let bytes = request(&ends, &config, &key_pair, &nonce, None);
    core.transmit(ends.path, &bytes);
    let retransmission = Retransmission::new(vec![bytes], now, &core.limits, &mut core.random);
    let sent = InitSent {
        config,
        first_child,
        key_pair,
        nonce,
        cookie: None,
        retransmission,
        cookies_seen: 0,
        group_changed: false,
        noted: None,
    };
    Some(IkeSa { ends, created_at: now, init_request: None, stage: Stage::InitSent(Box::new(sent)) })
}

fn request(
    ends: &Ends,
    config: &Connection,
    key_pair: &KeyPair,
    nonce: &[u8],
    cookie: Option<&[u8]>,
) -> Vec<u8> {
    let mut payloads = Vec::new();
    payloads.extend(cookie.map(|cookie| Payload::Notify(Notify::new(notify::COOKIE, cookie.to_vec()))));
    payloads.push(Payload::Sa(proposals::offer_ike(&config.proposals, &[], Additional::Possible)));
    payloads
        .push(Payload::KeyExchange { group: key_pair.group().number(), data: key_pair.public().to_vec() });
    payloads.push(Payload::Nonce(nonce.to_vec()));
    payloads.extend(nat::payloads(ends.spis, ends.path, config.forces_nat_traversal()));
    if config.authentication.signs() {
        payloads.push(proof::hash_algorithms());
    }
    payloads.push(fragmentation_supported());
    if wants_additional(&config.proposals) {
        payloads.push(intermediate_supported());
    }
    if config.ppk.is_some() {
        payloads.push(ppk::use_ppk());
    }
    Message::encode(ends.header(Exchange::IkeSaInit, false, 0), &payloads)
}

impl InitSent {
    pub(super) fn handle(
        mut self: Box<Self>,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        inbound: &Inbound<'_>,
    ) -> (Stage, Classified) {
        let Ok(picked) = Picked::new(inbound.message.payloads.clone()) else {
            return (Stage::InitSent(self), Classified::Dropped("repeated_payload"));
        };
        if picked.sa.is_none() {
            let classified = self.handle_notify(ends, core, now, &picked);
            return (Stage::InitSent(self), classified);
        }
        match self.accept(ends, inbound, picked) {
            Ok(keyed) => (self.proceed(keyed, ends, core, now, inbound), Classified::Ike),
            Err((cause, counter)) => {
                // Anyone can have sent it: a better answer may come.
                self.noted = cause.or(self.noted);
                (Stage::InitSent(self), Classified::Dropped(counter))
            }
        }
    }

    /// COOKIE, INVALID_KE_PAYLOAD, or an error to take note of.
    fn handle_notify(&mut self, ends: &Ends, core: &mut Core, now: Instant, picked: &Picked) -> Classified {
        if let Some(cookie) = picked.notify(notify::COOKIE) {
            if self.cookies_seen >= MAX_COOKIES || !(1..=64).contains(&cookie.data.len()) {
                return Classified::Dropped("too_many_cookies");
            }
            self.cookies_seen = self.cookies_seen.saturating_add(1);
            self.cookie = Some(cookie.data.clone());
            core.count("cookies_returned");
            self.restart(ends, core, now);
            return Classified::Ike;
        }
        if let Some(invalid) = picked.notify(notify::INVALID_KE_PAYLOAD) {
            let wanted = <[u8; 2]>::try_from(invalid.data.as_slice()).ok().map(u16::from_be_bytes);
            let group = wanted.and_then(Group::from_number);
            // Only a group that we offered, and once: anything else is a downgrade or a loop.
            let offered = group.filter(|group| {
                *group != self.key_pair.group()
                    && self.config.proposals.iter().any(|proposal| proposal.groups.contains(group))
            });
            let Some(key_pair) = offered
                .filter(|_| !self.group_changed)
                .and_then(|group| KeyPair::new(group, &mut core.random))
            else {
                return Classified::Dropped("invalid_ke_not_offered");
            };
            self.key_pair = key_pair;
            self.group_changed = true;
            core.count("groups_changed");
            self.restart(ends, core, now);
            return Classified::Ike;
        }
        let Some(error) = picked.error() else { return Classified::Dropped("empty_ike_sa_init") };
        self.noted = Some(match error.kind {
            notify::NO_PROPOSAL_CHOSEN => self.not_chosen("(the peer did not say)".to_owned()),
            kind => Cause::Notify { notify: notify::name(kind), phase: Phase::IkeSaInit },
        });
        core.count("unauthenticated_errors");
        Classified::Ike
    }

    /// The same attempt from its first message on, with message id 0 again.
    fn restart(&mut self, ends: &Ends, core: &mut Core, now: Instant) {
        let bytes = request(ends, &self.config, &self.key_pair, &self.nonce, self.cookie.as_deref());
        core.transmit(ends.path, &bytes);
        self.retransmission = Retransmission::new(vec![bytes], now, &core.limits, &mut core.random);
    }

    fn accept(
        &self,
        ends: &mut Ends,
        inbound: &Inbound<'_>,
        picked: Picked,
    ) -> Result<Keyed, (Option<Cause>, &'static str)> {
        let hashes = proof::peer_hashes(&picked);
        let fragments = picked.notify(notify::IKEV2_FRAGMENTATION_SUPPORTED).is_some();
        let additional = additional_of(&picked);
        let use_ppk = self.config.ppk.is_some() && picked.notify(notify::USE_PPK).is_some();
        let has_nat_traversal = picked.notify(notify::NAT_DETECTION_SOURCE_IP).is_some();
        let (Some(sa), Some((group, public)), Some(nonce)) = (picked.sa, picked.key_exchange, picked.nonce)
        else {
            return Err((None, "missing_payload"));
        };
        let spi_r = inbound.message.header.spi_r;
        if spi_r == 0 || inbound.message.header.message_id != 0 {
            return Err((None, "bad_header"));
        }
        if !use_ppk && self.config.ppk.as_ref().is_some_and(|ppk| ppk.required) {
            return Err((Some(Cause::PpkRequired), "ppk_required"));
        }
        let ours = self.key_pair.group();
        let chosen = sole(&sa)
            .and_then(|sa| proposals::choose_ike(&self.config.proposals, sa, 0, Some(ours), additional))
            .filter(|chosen| chosen.suite.group == ours && group == ours.number());
        let Some(chosen) = chosen else {
            return Err((Some(self.not_chosen(proposals::describe(&sa))), "proposal_not_offered"));
        };
        let Ok(shared) = self.key_pair.agree(&public) else { return Err((None, "invalid_public_value")) };
        let forced = self.config.forces_nat_traversal();
        if forced && !has_nat_traversal {
            return Err((Some(nat::missing(Phase::IkeSaInit)), nat::MISSING));
        }
        ends.spis.responder = spi_r;
        let keys = IkeKeys::first(chosen.suite, true, &shared, (&self.nonce, &nonce), ends.spis);
        ends.nat = nat::detect(ends.spis, inbound.path, &inbound.message.payloads, forced);
        ends.fragments = Fragments::new(fragments);
        Ok(Keyed { keys, nonce, hashes, use_ppk })
    }

    /// No proposal in common, by the name of what is missed most.
    fn not_chosen(&self, theirs: String) -> Cause {
        let offered = proposals::offer_ike(&self.config.proposals, &[], Additional::Possible);
        let ours = proposals::describe(&offered);
        if self.config.proposals.iter().all(|proposal| proposal.additional_required) {
            Cause::PostQuantumRequired { ours, theirs }
        } else {
            Cause::NoProposalChosen { phase: Phase::IkeSaInit, ours, theirs }
        }
    }

    /// IKE_SA_INIT is done.
    fn proceed(
        self,
        keyed: Keyed,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        inbound: &Inbound<'_>,
    ) -> Stage {
        if ends.nat.is_present() {
            // Section 2.23: the initiator floats to port 4500 and stays there.
            let port = core.limits.nat_port;
            ends.path.local.set_port(port);
            ends.path.remote.set_port(port);
        }
        let rest = keyed.keys.suite.additional.into_iter().flatten().collect();
        let handshake = Handshake {
            init_request: self.retransmission.datagrams().first().cloned().unwrap_or_default(),
            init_response: inbound.bytes.to_vec(),
            config: self.config,
            first_child: self.first_child,
            keys: keyed.keys,
            nonce_i: self.nonce,
            nonce_r: keyed.nonce,
            hashes: keyed.hashes,
            use_ppk: keyed.use_ppk,
            intermediate: IntAuth::default(),
            next_id: 1,
        };
        intermediate::proceed(handshake, rest, ends, core, now)
    }

    pub(super) fn handle_timeout(mut self: Box<Self>, ends: &Ends, core: &mut Core, now: Instant) -> Stage {
        if self.noted.is_some() && self.retransmission.sent() >= TRIES_BEFORE_ERROR && now >= self.deadline()
        {
            return Closed::now(now, self.noted);
        }
        match self.retransmission.poll(now, core.limits.retransmit_tries) {
            Due::Nothing => {}
            Due::Send(datagrams) => {
                core.transmit_all(ends.path, datagrams);
                core.count("retransmissions");
            }
            Due::GiveUp { sent } => {
                let unanswered = Cause::NoAnswer { phase: Phase::IkeSaInit, tries: sent };
                return Closed::now(now, Some(self.noted.unwrap_or(unanswered)));
            }
        }
        Stage::InitSent(self)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.retransmission.next_at()
    }

    pub(crate) fn first_child(&self) -> ChildId {
        self.first_child
    }
}

/// We take and send fragments (RFC 7383 section 2.3).
pub(super) fn fragmentation_supported() -> Payload {
    Payload::Notify(Notify::new(notify::IKEV2_FRAGMENTATION_SUPPORTED, Vec::new()))
}

/// We do IKE_INTERMEDIATE (RFC 9242 section 3.1).
pub(super) fn intermediate_supported() -> Payload {
    Payload::Notify(Notify::new(notify::INTERMEDIATE_EXCHANGE_SUPPORTED, Vec::new()))
}

pub(super) fn wants_additional(proposals: &[IkeProposal]) -> bool {
    proposals.iter().any(|proposal| !proposal.additional_key_exchanges.is_empty())
}

/// Whether the peer can do additional key exchanges.
pub(super) fn additional_of(picked: &Picked) -> Additional {
    if picked.notify(notify::INTERMEDIATE_EXCHANGE_SUPPORTED).is_some() {
        Additional::Possible
    } else {
        Additional::Impossible
    }
}

/// An answer must bear one proposal with one transform of each kind.
pub(super) fn sole(proposals: &[WireProposal]) -> Option<&[WireProposal]> {
    let [proposal] = proposals else { return None };
    let mut kinds: Vec<_> = proposal.transforms.iter().map(|transform| transform.kind).collect();
    kinds.sort_unstable();
    let count = kinds.len();
    kinds.dedup();
    (kinds.len() == count).then_some(proposals)
}

/// What a good answer to IKE_SA_INIT gives.
pub(super) struct Keyed {
    pub(super) keys: IkeKeys,
    /// The responder's nonce.
    pub(super) nonce: Vec<u8>,
    /// The hashes that it verifies.
    pub(super) hashes: PeerHashes,
    /// Both ends said USE_PPK.
    pub(super) use_ppk: bool,
}
