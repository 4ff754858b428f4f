//! The shared-memory region: the only bridge between the control plane and the data plane.
//!
//! ```text
//!   control                       region (one file in a tmpfs)                   dataplane
//!   Writer::put ───────► slots {version, record} ───────────────────────► Reader::read
//!               ───────► change ring (table, slot) ─────────────────────► Reader::next_change
//!   Region::ack ◄─────── acks {applied version, refusal} ◄─────────────── Reader::acknowledge
//!   EventReader ◄─────── event ring ◄──────────────────────────────────── EventWriter
//!   (reads)     ◄─────── SA runtime, counters, status ◄────────────────── workers, host thread
//! ```
//!
//! Each word of the region has one writer. Either side may die at any instruction and come back: the reader of a
//! half-written record keeps what it had, rings go on where they stood, and who attaches scans every slot.

#[cfg(not(loom))]
pub mod core_dump;
mod counters;
mod event;
#[cfg(not(loom))]
mod header;
#[cfg(not(loom))]
mod layout;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(not(loom))]
mod mapping;
mod process;
#[cfg(not(loom))]
mod reader;
mod record;
pub mod records;
#[cfg(not(loom))]
mod region;
mod ring;
#[cfg(not(loom))]
mod sa_runtime;
mod slot;
pub mod socket_messages;
mod status;
mod sync;
mod validate;
#[cfg(not(loom))]
mod writer;

#[cfg(not(loom))]
pub use counters::{Counter, Drop, PortCounters, TunnelCounters, WorkerCounters};
pub use event::{EventKind, EventRecord};
#[cfg(not(loom))]
pub use header::{ABI_VERSION, MAGIC};
#[cfg(not(loom))]
pub use layout::layout_hash;
pub use process::{BootId, ProcessId};
#[cfg(not(loom))]
pub use reader::{Change, EventWriter, Reader};
pub use record::{Capacities, Record, Refusal, Table, name_bytes, name_text};
#[cfg(not(loom))]
pub use region::{Ack, Origin, ReadError, Region, RegionError, Slot};
#[cfg(not(loom))]
pub use sa_runtime::{SaRuntime, WINDOW_WORDS};
pub use status::{PortState, PortStatus, Status};
pub use validate::Invalid;
#[cfg(not(loom))]
pub use writer::{EventReader, SlotOutOfRange, Writer};
