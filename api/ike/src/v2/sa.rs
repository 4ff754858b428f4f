//! An IKE SA and its stages.
//!
//! ```text
//!  initiator:  InitSent --IKE_SA_INIT--> [IntermediateSent] --> AuthSent ----IKE_AUTH--+
//!                 ^  | COOKIE, INVALID_KE       ^   | IKE_INTERMEDIATE                 v
//!                 +--+                          +---+                             Established --DELETE--> Closed
//!  responder:  AuthAwaited -----------------------IKE_AUTH-----------------------------^
//!                ^  |  +----------------------AUTHENTICATION_FAILED----------------------------------------^
//!                +--+ IKE_INTERMEDIATE
//! ```
//! Only `Established` holds what a CREATE_CHILD_SA or INFORMATIONAL exchange works on, so neither can be reached
//! before the peer is authenticated.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::auth::AuthSent;
use super::core::Core;
use super::established::Established;
use super::fragments::Fragments;
use super::init::InitSent;
use super::init_answer::AuthAwaited;
use super::intermediate::IntermediateSent;
use super::nat::Nat;
use super::payloads::our_spi;
use crate::cert::PeerCertificates;
use crate::crypto::{Datagrams, Spis, hmac_sha256};
use crate::wire::{Exchange, Header, Message};
use crate::{Cause, Classified, ConnectionId, IkeSaId, Limits, Path};

/// Who talks to whom.
pub(crate) struct Ends {
    pub(crate) id: IkeSaId,
    pub(crate) connection: ConnectionId,
    /// We are the original initiator of this SA.
    pub(crate) initiator: bool,
    pub(crate) spis: Spis,
    pub(crate) path: Path,
    pub(crate) nat: Nat,
    /// The peer may say that its address changed (RFC 4555).
    pub(crate) mobike: bool,
    /// The peer does additional key exchanges (RFC 9370): the SA that began this line of them was made with some.
    pub(crate) additional: bool,
    /// What the peer proved itself with, if it was by certificate.
    pub(crate) peer_certificates: Option<Arc<PeerCertificates>>,
    pub(crate) fragments: Fragments,
}

impl Ends {
    pub(crate) fn header(&self, exchange: Exchange, response: bool, message_id: u32) -> Header {
        Header {
            spi_i: self.spis.initiator,
            spi_r: self.spis.responder,
            first: 0,
            exchange,
            initiator: self.initiator,
            response,
            message_id,
        }
    }

    /// The ends of the SA that a rekey makes of this one.
    pub(super) fn successor(&self, id: IkeSaId, initiator: bool, spis: Spis) -> Self {
        let fragments = Fragments::new(self.fragments.agreed);
        Self {
            id,
            connection: self.connection,
            initiator,
            spis,
            path: self.path,
            nat: self.nat,
            mobike: self.mobike,
            additional: self.additional,
            fragments,
            peer_certificates: self.peer_certificates.clone(),
        }
    }

    /// Longest message that goes in one piece, where the peer can take several.
    pub(crate) fn limit_bytes(&self, limits: &Limits) -> Option<usize> {
        self.fragments.agreed.then(|| limits.message_bytes(self.path))
    }

    pub(crate) fn our_spi(&self) -> u64 {
        our_spi(self.spis, self.initiator)
    }
}

/// How far an SA is.
pub(crate) enum Stage {
    InitSent(Box<InitSent>),
    IntermediateSent(Box<IntermediateSent>),
    AuthSent(Box<AuthSent>),
    AuthAwaited(Box<AuthAwaited>),
    Established(Box<Established>),
    Closed(Closed),
}

/// An SA that is gone, but whose last answer may have been lost.
pub(crate) struct Closed {
    answer: Option<(RequestDigest, Datagrams)>,
    forget_at: Instant,
    pub(crate) cause: Option<Cause>,
}

impl Closed {
    /// Gone; nothing is to be said any more.
    pub(crate) fn now(now: Instant, cause: Option<Cause>) -> Stage {
        Stage::Closed(Self { answer: None, forget_at: now, cause })
    }

    /// Gone; the same request gets the same answer until `forget_at`.
    pub(crate) fn answering(
        request: RequestDigest,
        answer: Datagrams,
        forget_at: Instant,
        cause: Option<Cause>,
    ) -> Stage {
        Stage::Closed(Self { answer: Some((request, answer)), forget_at, cause })
    }
}

/// Fingerprint of a request, to know its retransmission, which is the same bytes (RFC 7296 section 2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestDigest([u8; 32]);

impl RequestDigest {
    pub(crate) fn new(request: &[u8]) -> Self {
        Self(hmac_sha256(&[0; 32], &[request]))
    }

    pub(crate) fn from_bytes(digest: &[u8]) -> Option<Self> {
        digest.try_into().ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// An IKE SA.
pub(crate) struct IkeSa {
    pub(crate) ends: Ends,
    pub(crate) created_at: Instant,
    /// Source and fingerprint of the IKE_SA_INIT request that made it, for its retransmissions.
    pub(crate) init_request: Option<(SocketAddr, RequestDigest)>,
    pub(crate) stage: Stage,
}

/// A message as it came.
pub(crate) struct Inbound<'a> {
    pub(crate) path: Path,
    pub(crate) bytes: &'a [u8],
    pub(crate) message: &'a Message,
}

impl IkeSa {
    /// Takes in a message whose SPIs are this SA's.
    pub(crate) fn handle(&mut self, core: &mut Core, now: Instant, inbound: &Inbound<'_>) -> Classified {
        let header = &inbound.message.header;
        let stage = std::mem::replace(&mut self.stage, Closed::now(now, None));
        let (stage, classified) = match (stage, header.exchange, header.response) {
            (Stage::InitSent(init), Exchange::IkeSaInit, true) => {
                init.handle(&mut self.ends, core, now, inbound)
            }
            (Stage::IntermediateSent(sent), Exchange::IkeIntermediate, true) => {
                sent.handle(&mut self.ends, core, now, inbound)
            }
            (Stage::AuthAwaited(awaited), Exchange::IkeIntermediate, false) => {
                awaited.handle_intermediate(&mut self.ends, core, now, inbound)
            }
            (Stage::AuthSent(auth), Exchange::IkeAuth, true) => {
                auth.handle(&mut self.ends, core, now, inbound)
            }
            (Stage::AuthAwaited(awaited), Exchange::IkeAuth, false) => {
                awaited.handle(&mut self.ends, core, now, inbound)
            }
            (Stage::Established(established), Exchange::IkeSaInit, _) => {
                (Stage::Established(established), Classified::Dropped("late_ike_sa_init"))
            }
            (Stage::Established(established), _, _) => established.handle(&mut self.ends, core, now, inbound),
            (Stage::Closed(closed), _, false) => {
                let answer = closed.answer.as_ref();
                let classified =
                    match answer.filter(|(digest, _)| *digest == RequestDigest::new(inbound.bytes)) {
                        Some((_, answer)) => {
                            core.transmit_all(inbound.path, answer);
                            core.count("responses_repeated");
                            Classified::Ike
                        }
                        None => Classified::Dropped("closed_ike_sa"),
                    };
                (Stage::Closed(closed), classified)
            }
            (stage, _, _) => (stage, Classified::Dropped("unexpected_exchange")),
        };
        self.stage = stage;
        classified
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        let stage = std::mem::replace(&mut self.stage, Closed::now(now, None));
        self.stage = match stage {
            Stage::InitSent(init) => init.handle_timeout(&self.ends, core, now),
            Stage::IntermediateSent(sent) => sent.handle_timeout(&self.ends, core, now),
            Stage::AuthSent(auth) => auth.handle_timeout(&self.ends, core, now),
            Stage::AuthAwaited(awaited) => awaited.handle_timeout(core, now),
            Stage::Established(established) => established.handle_timeout(&mut self.ends, core, now),
            Stage::Closed(closed) => Stage::Closed(closed),
        };
    }

    /// When it wants [`IkeSa::handle_timeout`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::InitSent(init) => Some(init.deadline()),
            Stage::IntermediateSent(sent) => Some(sent.deadline()),
            Stage::AuthSent(auth) => Some(auth.deadline()),
            Stage::AuthAwaited(awaited) => Some(awaited.deadline()),
            Stage::Established(established) => established.deadline(&self.ends),
            Stage::Closed(closed) => Some(closed.forget_at),
        }
    }

    pub(crate) fn established(&self) -> Option<&Established> {
        match &self.stage {
            Stage::Established(established) => Some(established),
            _ => None,
        }
    }

    pub(crate) fn established_mut(&mut self) -> Option<(&mut Ends, &mut Established)> {
        match &mut self.stage {
            Stage::Established(established) => Some((&mut self.ends, established)),
            _ => None,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed(_))
    }

    /// Nothing is left to say.
    pub(crate) fn is_forgettable(&self, now: Instant) -> bool {
        matches!(&self.stage, Stage::Closed(closed) if now >= closed.forget_at)
    }
}
