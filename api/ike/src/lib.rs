//! IKEv2 (RFC 7296) and IKEv1 (RFC 2409) as a pure engine.
//!
//! No socket, clock, task or lock inside: bytes and `now` come in, datagrams, SA operations and events come out.
//! The contract is one mutation, then drain:
//!
//! ```no_run
//! # use std::time::{Duration, Instant};
//! # use ike::{Engine, Limits, Output, SaOperation};
//! # fn send(_: ike::Path, _: &[u8]) {}
//! # fn apply(_: &SaOperation) -> Result<(), String> { Ok(()) }
//! # let mut engine = Engine::new(Limits::default(), [7; 32]);
//! loop {
//!     let now = Instant::now();
//!     engine.handle_timeout(now); // or handle_datagram, handle_command, ...
//!     while let Some(output) = engine.poll_output() {
//!         match output {
//!             Output::Transmit { path, bytes } => send(path, &bytes),
//!             Output::Sa(operation) => {
//!                 let result = apply(&operation);
//!                 if let SaOperation::Install { operation, .. } = operation {
//!                     engine.handle_sa_result(now, operation, result); // may come later
//!                 }
//!             }
//!             Output::Event(event) => println!("{event:?}"),
//!             Output::Keep(_) => {} // or stored, before anything that comes after it is sent
//!         }
//!     }
//!     let _wake_at = engine.poll_timeout();
//!     # break;
//! }
//! ```
#![forbid(unsafe_code)]
// Whatever a peer sends: it is refused by name, and nothing here panics.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

mod api;
mod authentication;
mod cause;
mod cert;
mod crypto;
mod engine;
mod exchange;
mod half_open;
mod keeper;
mod kept;
#[cfg(feature = "key-log")]
pub mod key_log;
mod limits;
mod resuming;
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "it stands in for the world around two engines, in tests alone"
)]
pub mod sim;
mod v1;
mod v2;
mod view;
mod wire;

pub use api::*;
pub use authentication::*;
pub use cause::{Cause, Phase};
pub use engine::Engine;
pub use kept::{Keeping, NotResumed, Resumable, ResumablePair};
pub use limits::Limits;
