//! IKE_SA_INIT as its responder (RFC 7296 section 1.2).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::core::Core;
use super::fragments::Fragments;
use super::init::{
    NONCE_LEN_BYTES, additional_of, fragmentation_supported, intermediate_supported, wants_additional,
};
use super::intermediate::IntAuth;
use super::nat;
use super::payloads::Picked;
use super::ppk;
use super::proof;
use super::proposals::{self, Additional, Chosen};
use super::sa::{Closed, Ends, IkeSa, Inbound, RequestDigest, Stage};
use crate::cert::PeerHashes;
use crate::crypto::{Datagrams, IkeKeys, IkeSuite, KeyPair, Spis};
use crate::exchange::after;
use crate::half_open::HalfOpen;
use crate::wire::registry::notify;
use crate::wire::{Exchange, FirstMessage, Header, Message, Notify, Payload, Protocol, WireProposal};
use crate::{Classified, Connection, ConnectionId, Group, KeyEncapsulation, Path, Version};

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

/// Answers an IKE_SA_INIT request that belongs to no SA yet, and was not turned away.
pub(crate) fn respond(
    core: &mut Core,
    now: Instant,
    inbound: &Inbound<'_>,
) -> Result<Option<IkeSa>, &'static str> {
    let header = &inbound.message.header;
    if header.spi_r != 0 || header.message_id != 0 || !header.initiator {
        return Err("bad_header");
    }
    let picked = Picked::new(inbound.message.payloads.clone()).map_err(|_| "repeated_payload")?;
    // What could not be looked at as it came was not turned away either: it does not get in for that.
    let first = FirstMessage::read(inbound.bytes).ok_or("missing_payload")?;
    let (nonce_i, proven) = (first.nonce, first.is_proven(core, now, inbound.path));
    let theirs = picked.sa.as_deref().ok_or("missing_payload")?;
    let (group, public) = picked.key_exchange.as_ref().ok_or("missing_payload")?;
    let additional = additional_of(&picked);
    let shared = Group::from_number(*group);
    let (candidates, chosen) = match candidates(core, inbound.path, theirs, shared, additional) {
        Ok(found) => found,
        Err(counter) => {
            refuse(core, Question::of(inbound), Notify::new(notify::NO_PROPOSAL_CHOSEN, Vec::new()));
            return Err(counter);
        }
    };
    if chosen.suite.group.number() != *group {
        let wanted = chosen.suite.group.number().to_be_bytes().to_vec();
        core.count("groups_refused");
        refuse(core, Question::of(inbound), Notify::new(notify::INVALID_KE_PAYLOAD, wanted));
        return Ok(None);
    }
    if public.len() != chosen.suite.group.public_len_bytes() {
        return Err("invalid_public_value");
    }
    let configs: Vec<_> = candidates.iter().filter_map(|id| core.config(*id)).collect();
    let has_nat_traversal = picked.notify(notify::NAT_DETECTION_SOURCE_IP).is_some();
    let forced = configs.iter().any(|config| config.forces_nat_traversal());
    if forced && !has_nat_traversal {
        refuse(core, Question::of(inbound), Notify::new(notify::NO_PROPOSAL_CHOSEN, Vec::new()));
        return Err(nat::MISSING);
    }
    let id = core.new_ike_sa_id();
    let spis = Spis { initiator: header.spi_i, responder: core.unused_ike_spi() };
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
        demand_cookie(core, now, Question::of(inbound), nonce_i);
        return Ok(None);
    }
    core.count("key_exchanges_answered");
    let key_pair = KeyPair::new(chosen.suite.group, &mut core.random).ok_or("no_key_pair")?;
    core.by_spi.insert(spis.responder, id);
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
    let choose = |config: &Connection, theirs: &[WireProposal]| {
        proposals::choose_ike(&config.proposals, theirs, 0, shared, additional)
    };
    let between = core.connections.between(path.local.ip(), path.remote.ip());
    let between = || between.clone().filter(|(_, state)| state.config().version == Version::V2);
    let Some(chosen) = between().find_map(|(_, state)| choose(state.config(), theirs)) else {
        let required =
            |config: &Connection| config.proposals.iter().any(|proposal| proposal.additional_required);
        return Err(if between().any(|(_, state)| required(state.config())) {
            "post_quantum_required"
        } else if between().next().is_some() {
            "no_proposal_chosen"
        } else {
            "unknown_peer"
        });
    };
    // What the first chooses may do for others too, which would have chosen otherwise.
    let answer = [chosen.answer(Protocol::Ike, &[])];
    let allows =
        |config: &Connection| choose(config, &answer).is_some_and(|allowed| allowed.suite == chosen.suite);
    let ids = between().filter(|(_, state)| allows(state.config())).map(|(id, _)| id).collect();
    Ok((ids, chosen))
}

/// What a crowd of half-open SAs has to say to a first message before anything of it is kept or copied: that there is no
/// place, or that it must come again with a cookie. `None` lets it in.
pub(crate) fn turn_away(
    core: &mut Core,
    now: Instant,
    path: Path,
    first: &FirstMessage<'_>,
    half_open: &HalfOpen,
    is_repeated: impl FnOnce() -> bool,
) -> Option<Classified> {
    let limits = &core.limits;
    let source = path.remote.ip();
    let (total, from_source) = (half_open.total(), half_open.of_source(source));
    let full = total >= limits.half_open || from_source >= limits.half_open_per_source;
    let crowded = total >= limits.cookie_threshold || from_source >= limits.cookie_threshold_per_source;
    if !full && !crowded {
        return None;
    }
    if (!full && first.is_proven(core, now, path)) || is_repeated() {
        return None;
    }
    if full {
        return Some(Classified::Dropped("half_open_limit"));
    }
    let question = Question { path, header: first.header, len_bytes: first.len_bytes };
    demand_cookie(core, now, question, first.nonce);
    Some(Classified::Ike)
}

impl FirstMessage<'_> {
    /// Whether its cookie shows that its sender receives where it says it is.
    fn is_proven(&self, core: &Core, now: Instant, path: Path) -> bool {
        let (source, spi_i) = (path.remote.ip(), self.header.spi_i);
        self.cookie.is_some_and(|cookie| core.cookies.verify(now, cookie, self.nonce, source, spi_i))
    }
}

/// A request that gets one notification for an answer.
struct Question {
    path: Path,
    header: Header,
    len_bytes: usize,
}

impl Question {
    fn of(inbound: &Inbound<'_>) -> Self {
        Self { path: inbound.path, header: inbound.message.header, len_bytes: inbound.bytes.len() }
    }
}

fn demand_cookie(core: &mut Core, now: Instant, question: Question, nonce_i: &[u8]) {
    let (source, spi_i) = (question.path.remote.ip(), question.header.spi_i);
    let cookie = core.cookies.cookie(now, &mut core.random, nonce_i, source, spi_i);
    core.count("cookies_demanded");
    refuse(core, question, Notify::new(notify::COOKIE, cookie.to_vec()));
}

/// Answers with one notification and keeps nothing; never with more bytes than the question had.
fn refuse(core: &mut Core, question: Question, error: Notify) {
    let header = Header { initiator: false, response: true, ..question.header };
    let answer = Message::encode(header, &[Payload::Notify(error)]);
    if answer.len() <= question.len_bytes {
        core.transmit(question.path, &answer);
    }
}
