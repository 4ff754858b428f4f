//! The data plane process: ports, a worker, and the host thread that feeds it.
//!
//! ```text
//!                 host thread (host, session)                          worker thread
//!   region ─────► changes ─► tables ─► Command ring ─────────────────► Worker: poll ─► forward::Pipeline
//!   control ────► control_socket ─► twins ─► packet ring ────────────►   │   ▲
//!   Linux ◄─────────────────────── twins ◄─ packet ring ◄─────────────── ┘   │
//!   devices ────► ports ───────────────────────────────── queues ────────────┘
//! ```

#![deny(unsafe_code)]

pub mod answers;
pub mod changes;
pub mod clock;
pub mod control_socket;
pub mod host;
pub mod link;
pub mod memory;
pub mod options;
pub mod pools;
pub mod ports;
pub mod rules;
pub mod session;
pub mod sys;
pub mod tables;
pub mod twins;
pub mod wake;
pub mod worker;
pub mod worker_thread;
