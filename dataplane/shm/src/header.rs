//! The head of the region: what it is, who wrote it, and the indices of the rings.

use std::sync::atomic::AtomicU64;

/// First word of a region: "CULVERT" and a zero, in big-endian reading.
pub const MAGIC: u64 = u64::from_be_bytes(*b"CULVERT\0");

/// Version of what the region means, beyond its layout.
pub const ABI_VERSION: u64 = 2;

/// A word that one side writes often, alone in its cache line.
#[repr(C, align(64))]
pub(crate) struct Line {
    pub(crate) value: AtomicU64,
}

/// The head. `magic`, `abi` and `retired` keep their places in every version.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: AtomicU64,
    pub(crate) abi: AtomicU64,
    /// 1 once control replaced this file by a new one: the dataplane lets go of it.
    pub(crate) retired: AtomicU64,
    pub(crate) layout_hash: AtomicU64,
    pub(crate) length_bytes: AtomicU64,
    pub(crate) boot_id: [AtomicU64; 2],
    pub(crate) region_id: AtomicU64,
    pub(crate) capacities: [AtomicU64; 16],
    /// Control's.
    pub(crate) writer_pid: AtomicU64,
    pub(crate) writer_start_ticks: AtomicU64,
    /// Generation of the youngest SA.
    pub(crate) sa_generation: AtomicU64,
    pub(crate) reserved: [AtomicU64; 5],
    /// The dataplane's.
    pub(crate) epoch: AtomicU64,
    pub(crate) heartbeat_unix_ms: AtomicU64,
    pub(crate) status_version: AtomicU64,
    pub(crate) reserved2: [AtomicU64; 5],
    pub(crate) changes_head: Line,
    pub(crate) changes_tail: Line,
    pub(crate) rescans_asked: Line,
    pub(crate) rescans_begun: Line,
    pub(crate) events_head: Line,
    pub(crate) events_tail: Line,
    pub(crate) events_lost: Line,
}

const _: () = assert!(size_of::<Header>() <= super::layout::PAGE_BYTES);
