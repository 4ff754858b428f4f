//! ESP (RFC 4303) with AES-GCM (RFC 4106): framing, extended sequence numbers, the replay window, and the engines that
//! seal and open.
//!
//! ```text
//!   | SPI | sequence | IV (8) |  payload ... padding, pad length, next header  | ICV (16) |
//!     └── AAD ────┘             └──────────────── ciphertext ────────────────┘
//! ```
//!
//! The IV is the 64-bit sequence number itself, so a nonce (salt, IV) repeats only if a sequence number does.

#![deny(unsafe_code)]

mod engine;
pub mod framing;
mod replay;
mod sequence;

pub use engine::{
    Algorithm, Choice, CipherEngine, Engine, EngineError, Icv, Kind, MAX_BATCH, OpenOp, SaKey, SealOp,
};
pub use replay::{ReplayWindow, Verdict, WINDOW_BITS};
pub use sequence::{Sequence, infer};
