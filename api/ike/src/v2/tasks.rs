//! What an established IKE SA has to do, is doing, and waits for.

use super::child::ChildRequest;
use super::followup::FollowupRequest;
use super::ike_rekey::IkeRekeyRequest;
use crate::wire::{Exchange, Payload};
use crate::{Cause, ChildId, Path};

/// Something to begin when the window is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    CreateChild(ChildId),
    RekeyChild(u32),
    RekeyIke,
    DeleteChild(u32),
    DeleteIke,
    Probe,
}

/// What our outstanding request is about.
pub(crate) enum Request {
    Child(Box<ChildRequest>),
    RekeyIke(Box<IkeRekeyRequest>),
    /// The next key exchange of a rekey.
    Followup(Box<FollowupRequest>),
    DeleteChild(u32),
    DeleteIke,
    Probe,
}

/// Whether the SA serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Active,
    /// A rekey put another SA in its place; it only waits for its DELETE.
    Replaced,
    /// Our DELETE is queued or out.
    Deleting(Cause),
}

/// A response that waits for the dataplane.
pub(crate) struct Held {
    pub(crate) exchange: Exchange,
    pub(crate) path: Path,
    /// Payloads before the child's: identity and AUTH in IKE_AUTH.
    pub(crate) before: Vec<Payload>,
    /// What is answered if the dataplane refuses.
    pub(crate) refusal: u16,
    /// The pair being rekeyed.
    pub(crate) rekeys: Option<u32>,
    /// The answer also brings the IKE SA up.
    pub(crate) first: bool,
}

/// An install that the dataplane has not answered.
pub(crate) enum Installing {
    /// We respond: the pair, the rest of the answer, and the lower nonce.
    Answer { held: Box<Held>, spi_in: u32, payloads: Vec<Payload> },
    /// We asked: the pair is installed after the peer's answer.
    Asked { spi_in: u32 },
}
