//! ESP (RFC 4303): framing, extended sequence numbers, the replay window, and the engines that seal and open. AES-GCM
//! (RFC 4106) is what it is made for; ChaCha20-Poly1305 (RFC 7634) is framed alike; ciphers in CBC mode with HMAC serve peers that have nothing better.
//!
//! ```text
//!   | SPI | sequence | IV (8) |  payload ... padding, pad length, next header  | ICV (16) |        AES-GCM, ChaCha20-Poly1305
//!     └── AAD ────┘             └──────────────── ciphertext ────────────────┘
//!
//!   | SPI | sequence | IV (8, 16) |  payload ... padding, pad length, next header  | ICV (12 to 32) |   CBC, HMAC
//!     └─────────────────────── under HMAC, and the high sequence behind ──────────┘
//!                                   └──────────────── ciphertext ────────────────┘
//! ```
//!
//! The IV of combined mode is the 64-bit sequence number itself, so a nonce (salt, IV) repeats only if a sequence number does.
//! The IV of CBC is that number encrypted, so that it can't be foretold either.

#![deny(unsafe_code)]

mod algorithm;
mod engine;
pub mod framing;
mod replay;
mod sequence;

pub use algorithm::{Aead, Algorithm, Cbc, Integrity};
pub use engine::{
    Choice, CipherEngine, Engine, EngineError, Icv, Keys, Kind, Lanes, MAX_BATCH, OpenOp, SaKey, SealOp,
};
pub use replay::{ReplayWindow, Verdict, WINDOW_BITS};
pub use sequence::{Sequence, infer};
