//! An ISAKMP SA and its stages.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fragment::{self, Assembly};
use super::nat::Originals;
use super::proposals::PhaseOneSuite;
use super::resume::Question;
use super::sealed::IvChain;
use super::selectors::End;
use super::vendor::{Announced, Dialect};
use crate::cert::PeerCertificates;
use crate::crypto::{KeyPair, PhaseOneKeys, Random, Spis};
use crate::exchange::{Retransmission, after};
use crate::v2::core::Core;
use crate::v2::nat::Nat;
use crate::v2::sa::RequestDigest;
use crate::wire::isakmp::{Exchange, Header, Payload};
use crate::{Connection, IkeSaId, Insecurity, Mode, Path};

/// Message ids that an SA may use. All are remembered as long as it lives, for none is used twice (RFC 2408 section 3.1): of
/// one that was forgotten, an old message would be taken for a new one.
const MOST_IDS: usize = 8_192;
/// An SA that has used this many is replaced, as one whose lifetime is soon over.
const IDS_BEFORE_REPLACEMENT: usize = 4_096;

/// How far an SA is.
pub(super) enum Stage {
    /// Message 1 is out.
    SaSent {
        sa: Vec<u8>,
    },
    /// Message 2 is out; nothing is known of the peer yet, so nothing is repeated unasked.
    SaAnswered {
        sa: Vec<u8>,
        suite: PhaseOneSuite,
        lifetime: Duration,
    },
    /// Message 3 is out.
    KeySent {
        sa: Vec<u8>,
        suite: PhaseOneSuite,
        lifetime: Duration,
        key_pair: KeyPair,
        nonce: Vec<u8>,
    },
    /// Message 4 is out.
    KeyAnswered(Box<Keyed>),
    /// Message 5 is out.
    IdSent(Box<Keyed>),
    /// Message 1 of aggressive mode is out.
    AggressiveSent {
        sa: Vec<u8>,
        key_pair: KeyPair,
        nonce: Vec<u8>,
        /// Body of our ID payload.
        identity: Vec<u8>,
        /// Why the answers that came were none, in a sentence.
        refused: Option<String>,
    },
    /// Message 2 of aggressive mode is out.
    AggressiveAnswered {
        keyed: Box<Keyed>,
        /// Body of the initiator's ID payload.
        identity: Vec<u8>,
    },
    Up(Box<Up>),
    /// The peer's proof was looked at and is none. Nothing more is taken in, but the place among the half-open SAs stays
    /// taken for its time: whoever cannot prove itself comes no faster than those end.
    Refused,
    /// To be forgotten.
    Closed,
}

/// Keys, before the peer is authenticated.
pub(super) struct Keyed {
    pub(super) suite: PhaseOneSuite,
    pub(super) aggressive: bool,
    pub(super) lifetime: Duration,
    pub(super) keys: PhaseOneKeys,
    pub(super) chain: IvChain,
    /// Body of the initiator's SA payload.
    pub(super) sa: Vec<u8>,
    pub(super) public_i: Vec<u8>,
    pub(super) public_r: Vec<u8>,
    pub(super) lowest_nonce: Vec<u8>,
    /// A message came that these keys did not open.
    pub(super) refused: bool,
}

/// Whether an SA that is up serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Active,
    /// Another one serves; this one still reads what is late, until then.
    Retiring(Instant),
    /// We said that it is gone; the word is repeated until then.
    Ending(Instant),
}

/// A DELETE, said more than once: nobody acknowledges it.
pub(super) struct Farewell {
    pub(super) payload: Payload,
    pub(super) at: Instant,
    pub(super) left: u32,
}

/// A peer that was asked whether it lives (RFC 3706).
pub(super) struct Probe {
    pub(super) sequence: u32,
    pub(super) sent: u32,
    pub(super) wait: Duration,
    pub(super) at: Instant,
    /// When it was asked first.
    pub(super) begun_at: Instant,
}

/// What is there once the peer is authenticated.
pub(super) struct Up {
    pub(super) suite: PhaseOneSuite,
    /// It was made by aggressive mode.
    pub(super) aggressive: bool,
    pub(super) keys: PhaseOneKeys,
    /// The last block of phase 1.
    pub(super) chain: IvChain,
    pub(super) lowest_nonce: Vec<u8>,
    pub(super) up_at: Instant,
    pub(super) replace_at: Instant,
    pub(super) expires_at: Instant,
    /// What the peer's proof rests on, where it signed.
    pub(super) peer_certificates: Option<Arc<PeerCertificates>>,
    /// When others of the same connection are looked at.
    pub(super) review_at: Option<Instant>,
    /// Since when another one serves in its place.
    pub(super) replaced_at: Option<Instant>,
    pub(super) life: Life,
    pub(super) used_ids: BTreeSet<u32>,
    /// When an authentic message of this phase 1 came last.
    pub(super) heard_at: Instant,
    pub(super) probe: Option<Probe>,
    /// The sequence number that the next probe of ours has, once there was one.
    pub(super) next_probe: Option<u32>,
    /// The last sequence number that the peer asked with.
    pub(super) probed_with: Option<u32>,
    pub(super) farewells: Vec<Farewell>,
    /// Of before this engine; the peer has not said yet that it has it.
    pub(super) question: Option<Question>,
}

/// The last message that was taken in, and what was said to it.
struct Heard {
    digest: RequestDigest,
    answer: Vec<u8>,
    repeats: u32,
}

/// See the module's documentation.
pub(crate) struct PhaseOne {
    pub(crate) id: IkeSaId,
    pub(crate) initiator: bool,
    pub(crate) cookies: Spis,
    pub(crate) path: Path,
    pub(super) nat: Nat,
    pub(super) announced: Announced,
    pub(super) created_at: Instant,
    pub(super) sent_at: Instant,
    /// We said on it that we have no other SA with the peer.
    pub(super) says_first_contact: bool,
    /// It came up where that could not be said; the first quick mode says it.
    pub(super) owes_first_contact: bool,
    /// What the peer seems to have refused it with: nobody vouches for that.
    pub(super) rumour: Option<u16>,
    pub(super) stage: Stage,
    pub(super) retransmission: Option<Retransmission>,
    pub(super) assembly: Assembly,
    heard: Option<Heard>,
}

impl PhaseOne {
    pub(super) fn new(
        id: IkeSaId,
        initiator: bool,
        cookies: Spis,
        path: Path,
        now: Instant,
        stage: Stage,
    ) -> Self {
        Self {
            id,
            initiator,
            cookies,
            path,
            nat: Nat::default(),
            announced: Announced::default(),
            created_at: now,
            sent_at: now,
            says_first_contact: false,
            owes_first_contact: false,
            rumour: None,
            stage,
            retransmission: None,
            assembly: Assembly::default(),
            heard: None,
        }
    }

    pub(crate) fn our_cookie(&self) -> u64 {
        if self.initiator { self.cookies.initiator } else { self.cookies.responder }
    }

    /// The dialect of NAT traversal, where there is a NAT.
    pub(super) fn encapsulates(&self) -> Option<Dialect> {
        self.announced.nat.filter(|_| self.nat.is_present())
    }

    /// Where there is a NAT, the initiator goes on at port 4500, if it did not begin there.
    pub(super) fn float(&mut self, nat_port: u16) {
        if self.nat.is_present() && self.path.local.port() != nat_port {
            self.path.local.set_port(nat_port);
            self.path.remote.set_port(nat_port);
        }
    }

    /// Where a peer behind a NAT is seen, whose transport mode is for that address (RFC 3947 section 5.2).
    pub(super) fn seen_of_peer(&self, mode: Mode) -> Option<IpAddr> {
        (mode == Mode::Transport && self.nat.remote).then_some(self.path.remote.ip())
    }

    /// We and the peer, as a message of a quick mode with these payloads tells of them; `asked` says that it is ours.
    pub(super) fn ends(&self, config: &Connection, payloads: &[Payload], asked: bool) -> (End, End) {
        let originals =
            self.encapsulates().map(|dialect| Originals::read(dialect, payloads)).unwrap_or_default();
        let (ours, theirs) = if asked {
            (originals.initiator, originals.responder)
        } else {
            (originals.responder, originals.initiator)
        };
        let end = |configured, seen, original, behind_nat| End { configured, seen, original, behind_nat };
        (
            end(config.local, self.path.local.ip(), ours, self.nat.local),
            end(config.remote, self.path.remote.ip(), theirs, self.nat.remote),
        )
    }

    pub(super) fn header(&self, exchange: Exchange, message_id: u32) -> Header {
        Header {
            cookie_i: self.cookies.initiator,
            cookie_r: self.cookies.responder,
            first: 0,
            exchange,
            encrypted: false,
            message_id,
        }
    }

    pub(super) fn up(&self) -> Option<&Up> {
        match &self.stage {
            Stage::Up(up) => Some(up),
            _ => None,
        }
    }

    pub(super) fn up_mut(&mut self) -> Option<&mut Up> {
        match &mut self.stage {
            Stage::Up(up) => Some(up),
            _ => None,
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.up().is_some_and(|up| up.life == Life::Active)
    }

    /// The responder's stages before the peer is authenticated, of which there may be only so many.
    pub(crate) fn is_half_open(&self) -> bool {
        matches!(
            self.stage,
            Stage::SaAnswered { .. }
                | Stage::KeyAnswered(_)
                | Stage::AggressiveAnswered { .. }
                | Stage::Refused
        )
    }

    pub(super) fn is_our_attempt(&self) -> bool {
        matches!(
            self.stage,
            Stage::SaSent { .. } | Stage::KeySent { .. } | Stage::IdSent(_) | Stage::AggressiveSent { .. }
        )
    }

    /// Whether its first answer is all that was said to the peer, which has not shown that it receives where it says it is.
    fn is_unproven(&self) -> bool {
        matches!(self.stage, Stage::SaAnswered { .. } | Stage::AggressiveAnswered { .. })
    }

    /// Sends a message, in pieces where the peer takes them and it is long. What answers a first message goes in one piece,
    /// as that came: pieces are more bytes.
    pub(super) fn send(&mut self, core: &mut Core, now: Instant, message: &[u8]) {
        self.sent_at = now;
        if self.announced.fragmentation && !self.is_unproven() {
            let exchange = Header::decode(message).map_or(Exchange::MainMode, |(header, _)| header.exchange);
            let header = self.header(exchange, 0);
            let id = u16::try_from(core.random.u32() >> 16).unwrap_or(1).max(1);
            for piece in fragment::split(&header, id, message) {
                core.transmit(self.path, &piece);
            }
        } else {
            core.transmit(self.path, message);
        }
    }

    /// Sends a message of main mode that wants an answer, and again until it comes.
    pub(super) fn ask(&mut self, core: &mut Core, now: Instant, message: Vec<u8>) {
        self.send(core, now, &message);
        self.retransmission = Some(Retransmission::new(vec![message], now, &core.limits, &mut core.random));
    }

    /// Notes the message that was taken in, and what was said to it.
    pub(super) fn heard(&mut self, message: &[u8], answer: Vec<u8>) {
        self.heard = Some(Heard { digest: RequestDigest::new(message), answer, repeats: 0 });
    }

    /// Whether a message is the last one again. It gets the same answer, but only so often: more for those who have
    /// shown that they receive where they say they are.
    pub(super) fn repeats(&mut self, core: &mut Core, now: Instant, message: &[u8]) -> bool {
        let again = self.heard.as_ref().is_some_and(|heard| heard.digest == RequestDigest::new(message));
        if again {
            self.repeat_answer(core, now);
        }
        again
    }

    /// Gives the last answer again.
    pub(super) fn repeat_answer(&mut self, core: &mut Core, now: Instant) {
        const UNPROVEN_REPEATS: u32 = 3;
        let many = core.limits.retransmit_tries.saturating_mul(2);
        let most = if self.is_unproven() { UNPROVEN_REPEATS } else { many };
        let Some(heard) = self.heard.as_mut() else { return };
        if heard.repeats < most && !heard.answer.is_empty() {
            heard.repeats = heard.repeats.saturating_add(1);
            let answer = heard.answer.clone();
            core.count("responses_repeated");
            self.send(core, now, &answer);
        }
    }
}

/// What is left of a lifetime for its successor: a tenth, at least 30 seconds, at most half.
pub(super) fn rekey_margin(lifetime: Duration) -> Duration {
    lifetime.mul_f64(0.1).max(Duration::from_secs(30)).min(lifetime.mul_f64(0.5))
}

impl Up {
    /// Soft lifetimes are shortened by up to this much, so that both ends rarely replace at once.
    const JITTER_PERCENT: u32 = 20;

    pub(super) fn new(
        keyed: Keyed,
        chain: IvChain,
        peer_certificates: Option<Arc<PeerCertificates>>,
        now: Instant,
        random: &mut Random,
    ) -> Self {
        let margin = rekey_margin(keyed.lifetime);
        let soft = keyed.lifetime.saturating_sub(margin);
        Self {
            suite: keyed.suite,
            aggressive: keyed.aggressive,
            keys: keyed.keys,
            chain,
            lowest_nonce: keyed.lowest_nonce,
            up_at: now,
            replace_at: after(now, random.shortened(soft, Self::JITTER_PERCENT)),
            expires_at: after(now, keyed.lifetime),
            peer_certificates,
            review_at: None,
            replaced_at: None,
            life: Life::Active,
            used_ids: BTreeSet::new(),
            heard_at: now,
            probe: None,
            next_probe: None,
            probed_with: None,
            farewells: Vec::new(),
            question: None,
        }
    }

    /// What of it is insecure.
    pub(super) fn insecurities(&self) -> Vec<Insecurity> {
        let mut all = self.suite.insecurities();
        all.extend(self.aggressive.then_some(Insecurity::AggressiveMode));
        all
    }

    pub(super) fn was_used(&self, message_id: u32) -> bool {
        self.used_ids.contains(&message_id)
    }

    /// The id of an authentic message, or of one of ours, is used up.
    pub(super) fn use_up(&mut self, now: Instant, message_id: u32) {
        self.used_ids.insert(message_id);
        if self.used_ids.len() == IDS_BEFORE_REPLACEMENT {
            self.replace_at = self.replace_at.min(now);
        }
        if self.used_ids.len() >= MOST_IDS {
            self.expires_at = self.expires_at.min(now);
        }
    }

    /// RFC 3706 section 7: random at first, then one more each time. The upper half is left free, so that it does not begin
    /// anew before the SA ends.
    pub(super) fn new_probe(&mut self, random: &mut Random) -> u32 {
        let sequence = self.next_probe.unwrap_or_else(|| random.u32() >> 1);
        self.next_probe = Some(sequence.wrapping_add(1));
        sequence
    }

    /// An id for an exchange of ours.
    pub(super) fn new_message_id(&mut self, now: Instant, random: &mut Random) -> u32 {
        loop {
            let id = random.u32();
            if id != 0 && !self.was_used(id) {
                self.use_up(now, id);
                return id;
            }
        }
    }
}
