//! IKEv2 (RFC 7296) as a pure engine.
mod api;
pub use api::*;
