//! The engine alone against strongSwan's charon on this machine: scenarios of negotiation that need no traffic.
//!
//! Our side is the engine on two UDP sockets behind a relay that can lose, hold, repeat and change each datagram; the
//! other is charon in a namespace of its own, with ESP in user space. A scenario takes a second or two.

mod cable;
mod certificates;
mod certificates_v1;
mod charon;
mod children;
mod crossings_v1;
mod datagram;
mod establishment;
mod floods;
mod forged_v1;
mod groups;
mod ikev1;
mod keys;
mod lifetimes_v1;
mod liveness;
mod living_v1;
mod malformed;
mod ml_kem;
mod ml_kem_children;
mod ml_kem_rekeys;
mod mobike;
mod names;
mod narrowing;
mod nat;
mod neighbours_v1;
mod ours;
mod pieces;
mod pieces_v1;
mod pki;
mod post_quantum;
mod public_values;
mod refusals;
mod rekey_requests;
mod rekeys;
mod relay;
mod reseal;
mod tampering;
mod unknown_things;
mod weather;
mod witness;
