//! The REST API of a Culvert gateway.
//!
//! ```text
//! request ─► request id, log, body limit, panics ─► caller (token, role) ─► handler ─► store or control ─► answer
//!                                                        every refusal is a `Problem` (RFC 9457)
//! ```
//!
//! [`router`] is the map of all paths; `resource` serves the eleven kinds of resources alike.
#![forbid(unsafe_code)]

mod action;
mod body;
mod caller;
pub mod cli;
mod document;
mod events;
mod expiry;
mod kept;
mod landing;
mod listen;
mod metrics;
mod operations;
mod page;
mod precondition;
mod problem;
mod resource;
pub mod router;
mod serve;
mod state;
mod tls;
pub mod token;

pub use kept::KeptIkeSas;
pub use serve::Server;
pub use state::Gateway;
