//! Child SAs: what is asked, answered and agreed (RFC 7296 sections 1.2, 1.3.1, 2.9 and 2.17).

use std::time::Instant;

use super::child_followup::additional_methods;
use super::core::Core;
use super::init::{NONCE_LEN_BYTES, sole};
use super::key_exchanges::KeyExchanges;
use super::payloads::Picked;
use super::proposals::{self, EspChoice};
use super::sa::Ends;
use super::selectors::{self, Unfit};
use crate::crypto::{EspSuite, IkeKeys, KeyPair, Secret, child_keys};
use crate::wire::registry::notify;
use crate::wire::{Notify, Payload, Protocol, WireProposal};
use crate::{
    Cause, ChildConfig, ChildId, ChildPair, Connection, EspKeys, Group, KeyEncapsulation, Mode, Phase,
    SELECTORS_MOST, TrafficSelector,
};

/// How far a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildState {
    /// Asked of the dataplane.
    Installing,
    Installed,
    /// Our DELETE is queued or out.
    Deleting,
}

/// A pair of ESP SAs, without its keys: those went to the dataplane.
pub(crate) struct ChildSa {
    /// The configuration that it was made under.
    pub(crate) config: ChildConfig,
    pub(crate) spi_in: u32,
    pub(crate) spi_out: u32,
    pub(crate) state: ChildState,
    /// Lowest nonce of its exchange, for collisions (section 2.8.1).
    pub(crate) lowest_nonce: Vec<u8>,
    /// We asked for it.
    pub(crate) ours: bool,
    pub(crate) soft_at: Instant,
    pub(crate) hard_at: Instant,
    /// When to look for another pair of the same child.
    pub(crate) duplicate_check_at: Option<Instant>,
    /// The pair that it replaces, while that is there.
    pub(crate) replaces: Option<u32>,
    /// The pair that a finished rekey put in its place.
    pub(crate) replaced_by: Option<u32>,
    /// The peer's, which lost against what we made of the same pair: the peer is to delete it (section 2.8.1).
    pub(crate) redundant: bool,
}

impl ChildSa {
    pub(crate) fn id(&self) -> ChildId {
        self.config.id
    }

    /// It may still be rekeyed.
    pub(crate) fn is_current(&self) -> bool {
        self.state == ChildState::Installed && self.replaced_by.is_none()
    }
}

/// The peer's rekey of the pair that we are rekeying.
pub(crate) struct TheirRekey {
    pub(crate) lowest_nonce: Vec<u8>,
}

/// Our request for a child.
pub(crate) struct ChildRequest {
    pub(crate) config: ChildConfig,
    /// Inbound SPI of the pair to replace.
    pub(crate) rekeys: Option<u32>,
    pub(crate) spi_in: u32,
    pub(crate) nonce: Vec<u8>,
    key_pair: Option<KeyPair>,
    /// Key exchanges that may follow that of `key_pair`.
    additional: Vec<Vec<KeyEncapsulation>>,
    pub(crate) theirs: Option<TheirRekey>,
    /// Outbound SPIs that the peer deleted while we waited: the answer may be late, and name one of them.
    pub(super) deleted_early: Vec<u32>,
    group_changed: bool,
}

impl ChildRequest {
    /// The child of IKE_AUTH: nonces and key exchange are those of IKE_SA_INIT.
    pub(super) fn first(core: &mut Core, ends: &Ends, config: ChildConfig) -> Self {
        let spi_in = core.new_esp_spi(ends.id);
        Self {
            config,
            rekeys: None,
            spi_in,
            nonce: Vec::new(),
            key_pair: None,
            additional: Vec::new(),
            theirs: None,
            deleted_early: Vec::new(),
            group_changed: false,
        }
    }

    /// A child of CREATE_CHILD_SA, with its own nonce and, for forward secrecy, its own key exchange, with additional ones
    /// where the peer does them.
    pub(super) fn further(
        core: &mut Core,
        ends: &Ends,
        config: ChildConfig,
        rekeys: Option<u32>,
        additional: Vec<Vec<KeyEncapsulation>>,
    ) -> Self {
        let group = config.proposals.iter().find_map(|proposal| proposal.groups.first().copied());
        let key_pair = group.and_then(|group| KeyPair::new(group, &mut core.random));
        let nonce = core.random.array::<NONCE_LEN_BYTES>().to_vec();
        let spi_in = core.new_esp_spi(ends.id);
        Self {
            config,
            rekeys,
            spi_in,
            nonce,
            key_pair,
            additional,
            theirs: None,
            deleted_early: Vec::new(),
            group_changed: false,
        }
    }

    /// The same request with the group that the peer wants, if we offered it and it is the first change.
    pub(super) fn with_group(mut self, core: &mut Core, group: Group) -> Option<Self> {
        let offered = self.config.proposals.iter().any(|proposal| proposal.groups.contains(&group));
        if self.group_changed || !offered {
            return None;
        }
        self.key_pair = Some(KeyPair::new(group, &mut core.random)?);
        self.nonce = core.random.array::<NONCE_LEN_BYTES>().to_vec();
        self.group_changed = true;
        Some(self)
    }

    fn offer(&self, groups: bool) -> Vec<WireProposal> {
        proposals::offer_esp(&self.config.proposals, self.spi_in, groups, &self.additional)
    }

    /// Its payloads. `rekeys` in the notification is our inbound SPI, by which we name the pair (section 1.3.3).
    pub(super) fn payloads(&self) -> Vec<Payload> {
        let in_auth = self.nonce.is_empty();
        let mut payloads = Vec::new();
        payloads.extend(self.rekeys.map(|spi| Payload::Notify(Notify::about_esp(notify::REKEY_SA, spi))));
        if self.config.mode == Mode::Transport {
            payloads.push(Payload::Notify(Notify::new(notify::USE_TRANSPORT_MODE, Vec::new())));
        }
        payloads.push(no_tfc_padding());
        payloads.push(Payload::Sa(self.offer(!in_auth)));
        if !in_auth {
            payloads.push(Payload::Nonce(self.nonce.clone()));
        }
        if let Some(pair) = &self.key_pair {
            payloads
                .push(Payload::KeyExchange { group: pair.group().number(), data: pair.public().to_vec() });
        }
        payloads.push(Payload::TsI(self.config.local_selectors.clone()));
        payloads.push(Payload::TsR(self.config.remote_selectors.clone()));
        payloads
    }

    /// What the peer's good answer amounts to. `nonces` are the exchange's, initiator's first.
    pub(super) fn agree(
        &self,
        ends: &Ends,
        connection: &Connection,
        phase: Phase,
        nonces: (&[u8], &[u8]),
        picked: &Picked,
    ) -> Result<ChildAgreement, Cause> {
        let protocol = |detail: &str| Cause::Protocol { phase, detail: detail.to_owned() };
        let (Some(sa), Some(local), Some(remote)) = (&picked.sa, &picked.ts_i, &picked.ts_r) else {
            return Err(protocol("the answer lacks SA or traffic selectors"));
        };
        let with_groups = !self.nonce.is_empty();
        let shared = self.key_pair.as_ref().map(KeyPair::group);
        let chosen = sole(sa)
            .and_then(|sa| {
                proposals::choose_esp(&self.config.proposals, sa, with_groups, shared, &self.additional)
            })
            .ok_or_else(|| Cause::NoProposalChosen {
                phase,
                ours: proposals::describe(&self.offer(with_groups)),
                theirs: proposals::describe(sa),
            })?;
        let spi_out = <[u8; 4]>::try_from(chosen.spi.as_slice()).map(u32::from_be_bytes);
        let spi_out =
            spi_out.ok().filter(|spi| *spi != 0).ok_or_else(|| protocol("the answer lacks an SPI"))?;
        // Before the selectors: behind a NAT those of another mode can't fit.
        let theirs =
            if picked.notify(notify::USE_TRANSPORT_MODE).is_some() { Mode::Transport } else { Mode::Tunnel };
        if !self.config.takes(theirs) {
            return Err(Cause::ModeMismatch { ours: self.config.mode, theirs });
        }
        let [local, remote] = match theirs {
            Mode::Transport => ends.nat.seen_from_here(connection, local, remote),
            Mode::Tunnel => [local.clone(), remote.clone()],
        };
        let [local, remote] = self.within_ours([&local, &remote])?;
        let agreed = match (chosen.suite.group, &self.key_pair, &picked.key_exchange) {
            (None, _, _) => None,
            (Some(group), Some(pair), Some((number, public)))
                if group == pair.group() && group.number() == *number =>
            {
                Some(pair.agree(public).map_err(|error| protocol(&error.to_string()))?)
            }
            (Some(_), _, _) => return Err(protocol("the answer's key exchange is not the one chosen")),
        };
        let suite = chosen.suite.suite;
        let nonces = (nonces.0.to_vec(), nonces.1.to_vec());
        let exchanges = KeyExchanges::new(nonces, agreed.unwrap_or_default(), chosen.suite.additional);
        let pair = ChildPair {
            child: self.config.id,
            connection: ends.connection,
            spi_in: self.spi_in,
            spi_out,
            path: ends.path,
            udp_encapsulation: ends.nat.is_present(),
            mode: theirs,
            encryption: suite.encryption,
            integrity: suite.integrity,
            esn: suite.esn,
            key_exchange: chosen.suite.key_exchange(),
            local_selectors: local,
            remote_selectors: remote,
            keys_in: no_keys(),
            keys_out: no_keys(),
            lifetime: self.config.lifetime,
        };
        Ok(ChildAgreement { pair, suite, initiator: true, exchanges })
    }

    /// The selectors of an answer that may be installed; of each side, ours first.
    fn within_ours(&self, answered: [&[TrafficSelector]; 2]) -> Result<[Vec<TrafficSelector>; 2], Cause> {
        let [local, remote] = answered;
        let policy = [self.config.local_selectors.as_slice(), self.config.remote_selectors.as_slice()];
        selectors::accept(policy, answered).map_err(|unfit| match unfit {
            Unfit::NotOurs => Cause::TsUnacceptable {
                ours: describe_sides(&self.config.local_selectors, &self.config.remote_selectors),
                theirs: describe_sides(local, remote),
            },
            Unfit::TooMany => {
                Cause::TooManySelectors { most: SELECTORS_MOST, theirs: describe_sides(local, remote) }
            }
        })
    }

    /// The peer's refusal in our words.
    pub(super) fn refused(&self, phase: Phase, error: &Notify) -> Cause {
        const SILENT: &str = "(the peer did not say)";
        match error.kind {
            notify::NO_PROPOSAL_CHOSEN => Cause::NoProposalChosen {
                phase,
                ours: proposals::describe(&self.offer(phase == Phase::CreateChildSa)),
                theirs: SILENT.to_owned(),
            },
            notify::TS_UNACCEPTABLE => Cause::TsUnacceptable {
                ours: describe_sides(&self.config.local_selectors, &self.config.remote_selectors),
                theirs: SILENT.to_owned(),
            },
            kind => Cause::Notify { notify: notify::name(kind), phase },
        }
    }
}

fn describe_sides(local: &[TrafficSelector], remote: &[TrafficSelector]) -> String {
    format!("{} to {}", selectors::describe(local), selectors::describe(remote))
}

/// The ESP of the dataplane takes no padding for traffic flow confidentiality in transport mode (section 2.7 of
/// RFC 4303); saying so costs nothing.
fn no_tfc_padding() -> Payload {
    Payload::Notify(Notify::new(notify::ESP_TFC_PADDING_NOT_SUPPORTED, Vec::new()))
}

/// A pair that both ends agreed on, but for its keys.
pub(crate) struct ChildAgreement {
    /// Without keys.
    pub(super) pair: ChildPair,
    suite: EspSuite,
    /// We began the exchange.
    initiator: bool,
    pub(super) exchanges: KeyExchanges,
}

impl ChildAgreement {
    /// `KEYMAT = prf+(SK_d, g^ir (new) | Ni | Nr | SK(1) | ... | SK(n))`: section 2.17, and RFC 9370 section 2.2.4.
    pub(super) fn complete(mut self, keys: &IkeKeys) -> Option<ChildPair> {
        let ((shared, added), (nonce_i, nonce_r)) = (self.exchanges.secrets(), self.exchanges.nonces());
        let seed = [shared, nonce_i, nonce_r, added];
        let (from_initiator, from_responder) = child_keys(keys.suite.prf, &keys.derive, &seed, self.suite)?;
        (self.pair.keys_out, self.pair.keys_in) =
            if self.initiator { (from_initiator, from_responder) } else { (from_responder, from_initiator) };
        Some(self.pair)
    }
}

fn no_keys() -> EspKeys {
    EspKeys { key: Secret::default(), salt: Secret::default(), integrity: Secret::default() }
}

/// What we answer to a request for a child.
pub(super) struct Answer {
    pub(super) config: ChildConfig,
    pub(super) agreement: ChildAgreement,
    pub(super) payloads: Vec<Payload>,
}

/// Why we refuse one.
pub(super) struct Refusal {
    pub(super) error: Notify,
    pub(super) cause: Option<Box<Cause>>,
    /// The child that was meant, as far as we can tell.
    pub(super) child: Option<ChildId>,
}

impl Refusal {
    pub(super) fn plain(kind: u16) -> Self {
        Self { error: Notify::new(kind, Vec::new()), cause: None, child: None }
    }
}

/// Negotiates a child as responder. `only` restricts the choice to the child being rekeyed. `auth_nonces` are those
/// of IKE_SA_INIT when the request stands in IKE_AUTH.
pub(super) fn answer(
    core: &mut Core,
    ends: &Ends,
    connection: &Connection,
    picked: &Picked,
    only: Option<ChildId>,
    auth_nonces: Option<(&[u8], &[u8])>,
) -> Result<Answer, Refusal> {
    let phase = if auth_nonces.is_some() { Phase::IkeAuth } else { Phase::CreateChildSa };
    let (Some(sa), Some(their_local), Some(their_remote)) = (&picked.sa, &picked.ts_i, &picked.ts_r) else {
        return Err(Refusal::plain(notify::INVALID_SYNTAX));
    };
    let asks_transport = picked.notify(notify::USE_TRANSPORT_MODE).is_some();
    let asked = [their_remote.as_slice(), their_local.as_slice()];
    let matched = match_child(core, ends, connection, asked, asks_transport, only);
    let Some((config, local, remote)) = matched else {
        let policy = connection.children.iter().find(|child| only.is_none_or(|only| only == child.id));
        let ours = policy.map_or_else(
            || "no child".to_owned(),
            |child| describe_sides(&child.local_selectors, &child.remote_selectors),
        );
        return Err(Refusal {
            error: Notify::new(notify::TS_UNACCEPTABLE, Vec::new()),
            cause: Some(Box::new(Cause::TsUnacceptable {
                ours,
                theirs: describe_sides(their_remote, their_local),
            })),
            child: policy.map(|child| child.id),
        });
    };
    // Who did not ask for transport mode gets none; who did may be declined.
    let mode = if asks_transport { config.mode } else { Mode::Tunnel };
    if !config.takes(mode) {
        return Err(Refusal {
            error: Notify::new(notify::NO_PROPOSAL_CHOSEN, Vec::new()),
            cause: Some(Box::new(Cause::ModeMismatch { ours: Mode::Transport, theirs: Mode::Tunnel })),
            child: Some(config.id),
        });
    }
    let with_groups = auth_nonces.is_none();
    let shared = picked.key_exchange.as_ref().and_then(|(number, _)| Group::from_number(*number));
    let additional = additional_methods(connection);
    let chosen = proposals::choose_esp(&config.proposals, sa, with_groups, shared, additional);
    let Some(chosen) = chosen else {
        return Err(Refusal {
            error: Notify::new(notify::NO_PROPOSAL_CHOSEN, Vec::new()),
            cause: Some(Box::new(Cause::NoProposalChosen {
                phase,
                ours: proposals::describe(&proposals::offer_esp(
                    &config.proposals,
                    0,
                    with_groups,
                    additional,
                )),
                theirs: proposals::describe(sa),
            })),
            child: Some(config.id),
        });
    };
    let spi_out = <[u8; 4]>::try_from(chosen.spi.as_slice()).map(u32::from_be_bytes).unwrap_or(0);
    if spi_out == 0 {
        return Err(Refusal::plain(notify::INVALID_SYNTAX));
    }
    let key_pair = key_exchange(core, &chosen.suite, picked)?;
    let secret = match (&key_pair, &picked.key_exchange) {
        (Some(pair), Some((_, public))) => {
            Some(pair.agree(public).map_err(|_| Refusal::plain(notify::INVALID_SYNTAX))?)
        }
        _ => None,
    };
    let (nonce_i, nonce_r) = match auth_nonces {
        Some((nonce_i, nonce_r)) => (nonce_i.to_vec(), nonce_r.to_vec()),
        None => {
            let nonce_i = picked.nonce.clone().ok_or_else(|| Refusal::plain(notify::INVALID_SYNTAX))?;
            (nonce_i, core.random.array::<NONCE_LEN_BYTES>().to_vec())
        }
    };
    let suite = chosen.suite.suite;
    let spi_in = core.new_esp_spi(ends.id);
    let mut payloads = Vec::new();
    if mode == Mode::Transport {
        payloads.push(Payload::Notify(Notify::new(notify::USE_TRANSPORT_MODE, Vec::new())));
    }
    payloads.push(no_tfc_padding());
    payloads.push(Payload::Sa(vec![chosen.answer(Protocol::Esp, &spi_in.to_be_bytes())]));
    if auth_nonces.is_none() {
        payloads.push(Payload::Nonce(nonce_r.clone()));
    }
    let exchanges =
        KeyExchanges::new((nonce_i, nonce_r), secret.unwrap_or_default(), chosen.suite.additional);
    if let Some(pair) = &key_pair {
        payloads.push(Payload::KeyExchange { group: pair.group().number(), data: pair.public().to_vec() });
    }
    payloads.push(Payload::TsI(remote.clone()));
    payloads.push(Payload::TsR(local.clone()));
    let pair = ChildPair {
        child: config.id,
        connection: ends.connection,
        spi_in,
        spi_out,
        path: ends.path,
        udp_encapsulation: ends.nat.is_present(),
        mode,
        encryption: suite.encryption,
        integrity: suite.integrity,
        esn: suite.esn,
        key_exchange: chosen.suite.key_exchange(),
        local_selectors: local,
        remote_selectors: remote,
        keys_in: no_keys(),
        keys_out: no_keys(),
        lifetime: config.lifetime,
    };
    let agreement = ChildAgreement { pair, suite, initiator: false, exchanges };
    Ok(Answer { config, agreement, payloads })
}

/// Our half of the key exchange of the chosen group; the peer's must be there, and of that group.
fn key_exchange(core: &mut Core, choice: &EspChoice, picked: &Picked) -> Result<Option<KeyPair>, Refusal> {
    let Some(group) = choice.group else { return Ok(None) };
    match &picked.key_exchange {
        Some((number, _)) if *number == group.number() => KeyPair::new(group, &mut core.random)
            .map(Some)
            .ok_or_else(|| Refusal::plain(notify::TEMPORARY_FAILURE)),
        _ => Err(Refusal {
            error: Notify::new(notify::INVALID_KE_PAYLOAD, group.number().to_be_bytes().to_vec()),
            cause: None,
            child: None,
        }),
    }
}

type Matched = (ChildConfig, Vec<TrafficSelector>, Vec<TrafficSelector>);

/// The child that is meant: one that takes the initiator's first selectors as they are before one that does not (section
/// 2.9), one whose selectors are named exactly before one that must be narrowed, in the mode asked before the other, and one
/// that is down before one that is up. `asked` is our side, then the peer's.
fn match_child(
    core: &Core,
    ends: &Ends,
    connection: &Connection,
    asked: [&[TrafficSelector]; 2],
    asks_transport: bool,
    only: Option<ChildId>,
) -> Option<Matched> {
    let [local_asked, remote_asked] = asked;
    let [local_host, remote_host] = ends.nat.seen_from_here(connection, local_asked, remote_asked);
    let mut best: Option<((bool, bool, bool, bool), Matched)> = None;
    for config in connection.children.iter().filter(|child| only.is_none_or(|only| only == child.id)) {
        let (local_asked, remote_asked) = if asks_transport && config.mode == Mode::Transport {
            (local_host.as_slice(), remote_host.as_slice())
        } else {
            (local_asked, remote_asked)
        };
        let local = selectors::narrow(&config.local_selectors, local_asked);
        let remote = selectors::narrow(&config.remote_selectors, remote_asked);
        if !selectors::meet(&local, &remote) {
            continue;
        }
        let exact = selectors::all_covered(&local, &config.local_selectors)
            && selectors::all_covered(&remote, &config.remote_selectors);
        let same_mode = (config.mode == Mode::Transport) == asks_transport;
        let first = |asked: &[TrafficSelector], agreed: &[TrafficSelector]| {
            asked.first().is_some_and(|first| agreed.iter().any(|agreed| selectors::covers(agreed, first)))
        };
        let takes_first = first(local_asked, &local) && first(remote_asked, &remote);
        let rank = (takes_first, exact, same_mode, !core.has_pair(config.id));
        if best.as_ref().is_none_or(|(known, _)| rank > *known) {
            best = Some((rank, (config.clone(), local, remote)));
        }
    }
    best.map(|(_, matched)| matched)
}
