//! IKEv1: main mode, quick mode, and what goes between (RFC 2407 to 2409, 3706, 3947).
//!
//! A [`peer::Peer`] is a connection of version 1 with all that is there of it: phase 1 SAs, exchanges of phase 2, and
//! children. Children belong to the peer, not to the phase 1 that made them: they outlive it, and its successor serves
//! them.
//!
//! ```text
//!  initiator:  SaSent --MM2--> KeySent --MM4--> IdSent --MM6--> Up
//!  responder:  SaAnswered -----MM3--> KeyAnswered -----MM5----> Up
//! ```
//! Only `Up` holds keys that quick mode and informational exchanges work with, and what was decrypted is not looked at
//! before its hash is verified ([`sealed::Unverified`]).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod aggressive;
mod agreed;
pub(crate) mod child;
mod conclusion;
pub(crate) mod deadlines;
mod desk;
mod first;
pub(crate) mod fragment;
mod informational;
mod initiate;
pub(crate) mod kept;
mod nat;
pub(crate) mod peer;
mod peer_move;
pub(crate) mod phase_one;
mod proof;
pub(crate) mod proposals;
mod quick;
mod quick_answer;
mod received;
mod respond;
mod responder_lifetime;
pub(crate) mod resume;
mod sealed;
pub(crate) mod selectors;
#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may fail by panicking"
)]
mod tests;
mod vendor;
pub(crate) mod view;

pub(crate) use desk::Desk;
