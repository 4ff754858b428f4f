//! Forwarding: everything that a worker does to a burst, and the tables that it does it with.
//!
//! ```text
//!  wire ──► parse ──┬─ ESP for us ──► open (two passes) ──► check ──► GRE ──┐
//!                   ├─ GRE for us, in clear ────────────────────────────────┤
//!                   └─ anything else ─────────────────────────────┐         │ passengers
//!                                                                 ▼         ▼
//!                                         punt ◄── local ── route lookup, time to live
//!                                                            │                     │
//!  TUN twin ─────────────────────────► tunnel: MTU, GRE, plan                    port: MTU
//!                                            │                                     │
//!  TAP twin ──► rules of the port ───┐       ▼                                     ▼
//!                                    └──► seal (two passes) ◄── permit ── crypto map of the port
//!                                            │                                     │ no match
//!                                            └────────────► transmit list ◄────────┘
//! ```
//!
//! The stages own no memory pool, clock, lock or socket; they allocate nothing and never fail: a packet ends in a
//! transmit list, in the list of punted packets, or in a drop that is counted by its reason.
//!
//! Tables change between bursts, by [`Pipeline::apply`]. What an [`Update`] needs (expanded keys, resolved records,
//! compiled rules) is made on another thread; what it replaces comes back as [`Retired`] to be freed there.

#![forbid(unsafe_code)]

mod adjacency;
mod crypto_map;
mod decapsulate;
mod encapsulate;
mod flat_map;
mod fragment;
mod guard;
mod icmp;
mod leave;
mod natted;
mod next_hop;
mod open;
mod outcome;
mod peer_move;
mod pipeline;
mod plan;
mod port;
mod protect;
mod receive;
mod rib;
mod route;
mod sa;
mod seal;
mod selectors;
mod shared;
mod tables;
mod tunnel;
mod update;
mod work;

pub use adjacency::{Adjacency, MAX_NEXT_HOPS};
pub use crypto_map::{CryptoMap, Policy};
pub use esp::{Choice, Engine, EngineError, Lanes};
pub use next_hop::NextHop;
pub use outcome::{Outcome, PUNT_CAPACITY, TX_CAPACITY, TxList};
pub use pipeline::Pipeline;
pub use port::Port;
pub use rib::{Locals, Rib};
pub use sa::{Owner, Sa};
pub use shared::Shared;
pub use tables::Tables;
pub use tunnel::Tunnel;
pub use update::{RecordError, Refused, Retired, Update};
