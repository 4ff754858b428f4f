//! IKE_SA_INIT, both roles (RFC 7296 section 1.2).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::core::Core;
use super::fragments::Fragments;
use super::intermediate::{self, Handshake, IntAuth};
use super::nat;
use super::payloads::Picked;
use super::ppk;
use super::proof;
use super::proposals::{self, Additional, Chosen};
use super::sa::{Closed, Ends, IkeSa, Inbound, RequestDigest, Stage};
use crate::cert::PeerHashes;
use crate::crypto::{Datagrams, IkeKeys, IkeSuite, KeyPair, Spis};
use crate::exchange::{Due, Retransmission, after};
use crate::wire::registry::notify;
use crate::wire::{Exchange, Header, Message, Notify, Payload, Protocol, WireProposal};
use crate::{
    Cause, ChildId, Classified, Connection, ConnectionId, Group, IkeProposal, KeyEncapsulation, Path, Phase,
    Version,
};

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
fn fragmentation_supported() -> Payload {
    Payload::Notify(Notify::new(notify::IKEV2_FRAGMENTATION_SUPPORTED, Vec::new()))
}

/// We do IKE_INTERMEDIATE (RFC 9242 section 3.1).
fn intermediate_supported() -> Payload {
    Payload::Notify(Notify::new(notify::INTERMEDIATE_EXCHANGE_SUPPORTED, Vec::new()))
}

fn wants_additional(proposals: &[IkeProposal]) -> bool {
    proposals.iter().any(|proposal| !proposal.additional_key_exchanges.is_empty())
}

/// Whether the peer can do additional key exchanges.
fn additional_of(picked: &Picked) -> Additional {
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

/// Responder: the answer is out, and IKE_AUTH must come. The shared secret is computed only then, so that a flood of
/// first messages costs half of what it could.
pub(crate) struct AuthAwaited {
    pub(super) candidates: Vec<ConnectionId>,
    pub(super) suite: IkeSuite,
    pub(super) key_pair: KeyPair,
    pub(super) peer_public: Vec<u8>,
    pub(super) nonce_i: Vec<u8>,
    pub(super) nonce_r: Vec<u8>,
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,
    pub(super) keys: Option<IkeKeys>,
    pub(super) hashes: PeerHashes,
    /// Both ends said USE_PPK.
    pub(super) use_ppk: bool,
    /// Additional key exchanges that are to come before IKE_AUTH.
    pub(super) additional: VecDeque<KeyEncapsulation>,
    pub(super) intermediate: IntAuth,
    /// Id of the request that is awaited.
    pub(super) next_id: u32,
    /// The last request, and what it was answered.
    pub(super) answered: Option<(RequestDigest, Datagrams)>,
    pub(super) expires_at: Instant,
}

impl AuthAwaited {
    /// The answer to a retransmitted request.
    pub(crate) fn response(&self) -> &[u8] {
        &self.response
    }

    pub(super) fn handle_timeout(self: Box<Self>, core: &mut Core, now: Instant) -> Stage {
        if now >= self.expires_at {
            core.count("half_open_expired");
            return Closed::now(now, None);
        }
        Stage::AuthAwaited(self)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.expires_at
    }
}

/// How crowded the responder is.
pub(crate) struct HalfOpen {
    pub(crate) total: usize,
    pub(crate) from_source: usize,
}

/// Answers an IKE_SA_INIT request that belongs to no SA yet.
pub(crate) fn respond(
    core: &mut Core,
    now: Instant,
    inbound: &Inbound<'_>,
    half_open: &HalfOpen,
) -> Result<Option<IkeSa>, &'static str> {
    let header = &inbound.message.header;
    if header.spi_r != 0 || header.message_id != 0 || !header.initiator {
        return Err("bad_header");
    }
    let picked = Picked::new(inbound.message.payloads.clone()).map_err(|_| "repeated_payload")?;
    let nonce_i = picked.nonce.as_deref().ok_or("missing_payload")?;
    let limits = &core.limits;
    if half_open.total >= limits.half_open || half_open.from_source >= limits.half_open_per_source {
        return Err("half_open_limit");
    }
    let crowded = half_open.total >= limits.cookie_threshold
        || half_open.from_source >= limits.cookie_threshold_per_source;
    let source = inbound.path.remote.ip();
    let presented = picked.notify(notify::COOKIE);
    let proven =
        presented.is_some_and(|cookie| core.cookies.verify(&cookie.data, nonce_i, source, header.spi_i));
    if crowded && !proven {
        demand_cookie(core, now, inbound, nonce_i);
        return Ok(None);
    }
    let theirs = picked.sa.as_deref().ok_or("missing_payload")?;
    let (group, public) = picked.key_exchange.as_ref().ok_or("missing_payload")?;
    let additional = additional_of(&picked);
    let shared = Group::from_number(*group);
    let (candidates, chosen) = match candidates(core, inbound.path, theirs, shared, additional) {
        Ok(found) => found,
        Err(counter) => {
            refuse(core, inbound, Notify::new(notify::NO_PROPOSAL_CHOSEN, Vec::new()));
            return Err(counter);
        }
    };
    if chosen.suite.group.number() != *group {
        let wanted = chosen.suite.group.number().to_be_bytes().to_vec();
        core.count("groups_refused");
        refuse(core, inbound, Notify::new(notify::INVALID_KE_PAYLOAD, wanted));
        return Ok(None);
    }
    if public.len() != chosen.suite.group.public_len_bytes() {
        return Err("invalid_public_value");
    }
    let configs: Vec<_> = candidates.iter().filter_map(|id| core.config(*id)).collect();
    let has_nat_traversal = picked.notify(notify::NAT_DETECTION_SOURCE_IP).is_some();
    let forced = configs.iter().any(|config| config.forces_nat_traversal());
    if forced && !has_nat_traversal {
        refuse(core, inbound, Notify::new(notify::NO_PROPOSAL_CHOSEN, Vec::new()));
        return Err(nat::MISSING);
    }
    let id = core.new_ike_sa_id();
    let spis = Spis { initiator: header.spi_i, responder: core.new_ike_spi(id) };
    let unanswered = Spis { initiator: header.spi_i, responder: 0 };
    let ends = Ends {
        id,
        connection: candidates.first().copied().ok_or("unknown_peer")?,
        initiator: false,
        spis,
        path: inbound.path,
        nat: nat::detect(unanswered, inbound.path, &inbound.message.payloads, forced),
        mobike: false,
        additional: false,
        peer_certificates: None,
        fragments: Fragments::new(picked.notify(notify::IKEV2_FRAGMENTATION_SUPPORTED).is_some()),
    };
    let nonce_r = core.random.array::<NONCE_LEN_BYTES>().to_vec();
    let mut payloads =
        vec![Payload::Sa(vec![chosen.answer(Protocol::Ike, &[])]), Payload::Nonce(nonce_r.clone())];
    if has_nat_traversal {
        payloads.extend(nat::payloads(spis, inbound.path, forced));
    }
    let hashes = proof::peer_hashes(&picked);
    if hashes.are_known() && configs.iter().any(|config| config.authentication.signs()) {
        payloads.push(proof::hash_algorithms());
    }
    payloads.extend(proof::certificate_request(configs.iter().map(Arc::as_ref)));
    if ends.fragments.agreed {
        payloads.push(fragmentation_supported());
    }
    let use_ppk =
        picked.notify(notify::USE_PPK).is_some() && configs.iter().any(|config| config.ppk.is_some());
    if use_ppk {
        payloads.push(ppk::use_ppk());
    }
    if additional == Additional::Possible && configs.iter().any(|config| wants_additional(&config.proposals))
    {
        payloads.push(intermediate_supported());
    }
    // In place of our public value, which is worth its price only to those who may have it.
    let nothing = vec![0; chosen.suite.group.public_len_bytes()];
    payloads.insert(1, Payload::KeyExchange { group: *group, data: nothing });
    payloads.push(Payload::Notify(Notify::new(notify::CHILDLESS_IKEV2_SUPPORTED, Vec::new())));
    let header = ends.header(Exchange::IkeSaInit, true, 0);
    let is_longer =
        |payloads: &[Payload]| !proven && Message::encode(header, payloads).len() > inbound.bytes.len();
    if is_longer(&payloads) {
        // A cookie costs more than the peer can gain by it.
        payloads.pop();
    }
    if is_longer(&payloads) {
        // Whoever asks with less than it is answered must first show that it receives where it says it is.
        core.by_spi.remove(&spis.responder);
        demand_cookie(core, now, inbound, nonce_i);
        return Ok(None);
    }
    core.count("key_exchanges_answered");
    let Some(key_pair) = KeyPair::new(chosen.suite.group, &mut core.random) else {
        core.by_spi.remove(&spis.responder);
        return Err("no_key_pair");
    };
    if let Some(Payload::KeyExchange { data, .. }) = payloads.get_mut(1) {
        *data = key_pair.public().to_vec();
    }
    let response = Message::encode(header, &payloads);
    core.transmit(inbound.path, &response);
    let awaited = AuthAwaited {
        candidates,
        suite: chosen.suite,
        key_pair,
        peer_public: public.clone(),
        nonce_i: nonce_i.to_vec(),
        nonce_r,
        request: inbound.bytes.to_vec(),
        response,
        keys: None,
        hashes,
        use_ppk,
        additional: chosen.suite.additional.into_iter().flatten().collect(),
        intermediate: IntAuth::default(),
        next_id: 1,
        answered: None,
        expires_at: after(now, core.limits.half_open_timeout),
    };
    Ok(Some(IkeSa {
        ends,
        created_at: now,
        init_request: Some((inbound.path.remote, RequestDigest::new(inbound.bytes))),
        stage: Stage::AuthAwaited(Box::new(awaited)),
    }))
}

/// The connections between these addresses whose proposals allow the choice; the identity decides among them later.
fn candidates(
    core: &Core,
    path: Path,
    theirs: &[WireProposal],
    shared: Option<Group>,
    additional: Additional,
) -> Result<(Vec<ConnectionId>, Chosen<IkeSuite>), &'static str> {
    let mut known = false;
    let mut post_quantum = false;
    let mut first: Option<Chosen<IkeSuite>> = None;
    let mut ids = Vec::new();
    for (id, state) in &core.connections {
        let config = &state.config;
        if config.version != Version::V2
            || config.local != path.local.ip()
            || !state.may_begin_from(path.remote.ip())
        {
            continue;
        }
        known = true;
        let Some(chosen) = proposals::choose_ike(&config.proposals, theirs, 0, shared, additional) else {
            post_quantum |= config.proposals.iter().any(|proposal| proposal.additional_required);
            continue;
        };
        if first.as_ref().is_none_or(|first| first.suite == chosen.suite) {
            first.get_or_insert(chosen);
            ids.push(*id);
        }
    }
    match first {
        Some(chosen) => Ok((ids, chosen)),
        None if post_quantum => Err("post_quantum_required"),
        None if known => Err("no_proposal_chosen"),
        None => Err("unknown_peer"),
    }
}

fn demand_cookie(core: &mut Core, now: Instant, inbound: &Inbound<'_>, nonce_i: &[u8]) {
    let (source, spi_i) = (inbound.path.remote.ip(), inbound.message.header.spi_i);
    let cookie = core.cookies.cookie(now, &mut core.random, nonce_i, source, spi_i);
    core.count("cookies_demanded");
    refuse(core, inbound, Notify::new(notify::COOKIE, cookie));
}

/// Answers with one notification and keeps nothing; never with more bytes than the question had.
fn refuse(core: &mut Core, inbound: &Inbound<'_>, error: Notify) {
    let asked = &inbound.message.header;
    let header = Header { initiator: false, response: true, ..*asked };
    let answer = Message::encode(header, &[Payload::Notify(error)]);
    if answer.len() <= inbound.bytes.len() {
        core.transmit(inbound.path, &answer);
    }
}
