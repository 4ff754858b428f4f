//! IKEv2: the state of an IKE SA and what each exchange does to it.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

pub(crate) mod auth;
pub(crate) mod child;
mod child_asked;
mod child_exchange;
mod child_followup;
pub(crate) mod collision;
pub(crate) mod connection;
pub(crate) mod connections;
pub(crate) mod cookie;
pub(crate) mod core;
mod deadlines;
mod ending;
pub(crate) mod established;
mod followup;
pub(crate) mod fragments;
mod ike_rekey;
mod informational;
pub(crate) mod init;
pub(crate) mod init_answer;
mod intermediate;
pub(crate) mod kept;
mod key_exchanges;
mod mobike;
mod mobike_initiator;
pub(crate) mod nat;
mod payloads;
pub(crate) mod peer_move;
mod ppk;
mod proof;
pub(crate) mod proposals;
pub(crate) mod resume;
pub(crate) mod sa;
pub(crate) mod selectors;
mod tasks;
