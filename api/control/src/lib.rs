//! The control plane's middle: from desired state to what runs.
//!
//! ```text
//!  model::Desired ─► compile ─► plan ─► executor ─► shm tables ─► dataplane
//!                       │                              ▲
//!                       ├─► twins (TAP, TUN, addresses)│
//!                       ├─► netlink (static routes) ───┤ mirror of routes and neighbours
//!                       └─► driver (IKE engine) ───────┘ SAs
//! ```
#![deny(unsafe_code)]

pub mod compile;
mod config;
mod driver;
pub mod executor;
mod gateway;
mod handle;
mod keeper;
pub mod netlink;
mod picture;
pub mod plan;
mod readiness;
pub mod recursion;
pub mod sa_table;
pub mod server;
pub mod slots;
mod source;
mod state;
mod sysctl;
pub mod tables;
pub mod twins;
pub mod view;

pub use compile::{Compiled, compile};
pub use config::Config;
pub use executor::{Executor, Progress, Verdict};
pub use gateway::{RunError, run};
pub use handle::{Handle, Inbox, OrderError, handle};
pub use keeper::{IkeSaKeeper, KeptChanges, KeptState};
pub use shm::core_dump;
pub use source::{DesiredSource, SourceError};
