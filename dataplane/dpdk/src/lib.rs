//! DPDK in safe Rust: as much of it as Culvert's data plane uses.
//!
//! ```text
//!   Eal::start ──► Pool::new ──► Port::probe ──► Port<Stopped>::start ──► Port<Started>
//!                     │                                    │
//!                   Mbuf ◄──────── Burst ◄───────── RxQueue, TxQueue ──► moved to the worker's thread
//! ```
//!
//! The types keep the promises: one environment per process, a queue polled by one thread and only while its port
//! runs, a packet that was sent or freed out of reach. [`Fib`] and [`Acl`] implement the lookups of `packet` with
//! `rte_fib` and `rte_acl`.

mod acl;
mod acl_context;
mod burst;
mod device;
mod eal;
mod error;
mod fib;
mod mbuf;
mod pool;
mod port;
mod queue;

pub use acl::Acl;
pub use burst::{BURST_SIZE, Burst};
pub use device::Device;
pub use eal::{Eal, EalOptions, Memory, RegisteredThread, ThreadRegistrar};
pub use error::Error;
pub use fib::{Fib, FibCapacity};
pub use mbuf::Mbuf;
pub use pool::Pool;
pub use port::{Port, PortStatistics, Started, Stopped};
pub use queue::{RxQueue, TxQueue};

/// Bytes in front of a packet in a fresh buffer (`RTE_PKTMBUF_HEADROOM`).
pub const HEADROOM: u16 = dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;
