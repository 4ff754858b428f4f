//! What a region and its slots may answer.

use std::io;
use std::path::PathBuf;

use crate::header::ABI_VERSION;
use crate::record::Refusal;
use crate::validate::Invalid;

/// Why a region can not be used.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// A system call failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process holds the role.
    #[error("another {role} holds {path}")]
    Locked {
        /// `writer` or `dataplane`.
        role: &'static str,
        /// The lock.
        path: PathBuf,
    },
    /// The file is no region.
    #[error("not a Culvert region: its magic is {found:#018x}")]
    Magic {
        /// What stood there.
        found: u64,
    },
    /// The other side is of another version.
    #[error("the region has ABI version {found}, this program has {ABI_VERSION}")]
    Abi {
        /// What stood there.
        found: u64,
    },
    /// The other side lays out records differently.
    #[error("the region has layout {found:#018x}, this program has {expected:#018x}")]
    Layout {
        /// What stood there.
        found: u64,
        /// What this program has.
        expected: u64,
    },
    /// The capacities make no sense.
    #[error("the capacities of the region make no sense")]
    Capacities,
    /// The file is shorter or longer than its tables.
    #[error("the region has {found} bytes, its tables need {expected}")]
    Length {
        /// Bytes there.
        found: u64,
        /// Bytes needed.
        expected: u64,
    },
    /// The region was written before the machine was last started: its keys are dead.
    #[error("the region is of another boot")]
    BootId,
    /// Control replaced the region by a new one.
    #[error("the region was replaced")]
    Retired,
    /// The role is taken in this process, or this process attached for another one.
    #[error("the role of {role} is not free in this process")]
    Role {
        /// The role.
        role: &'static str,
    },
}

/// How a region came to be.
#[derive(Debug)]
pub enum Origin {
    /// There was none.
    Created,
    /// There was one that fits: what it holds goes on.
    Attached,
    /// There was one that does not fit; a new one took its place.
    Recreated(RegionError),
}

/// Why a slot gave no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The table has no such slot.
    #[error("slot {0} is beyond the table")]
    OutOfRange(u32),
    /// Its writer died in the middle of it. Keep what was there; the next writer repairs it.
    #[error("the slot is half written")]
    Torn,
    /// The record is not valid. Keep what was there, and refuse the version.
    #[error("version {version}: {reason}")]
    Invalid {
        /// Version of the record.
        version: u64,
        /// What is wrong with it.
        reason: Invalid,
    },
}

/// A slot, read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<R> {
    /// Its version: even, rising; 0 if it was never written.
    pub version: u64,
    /// Its record; `None` if it is vacant.
    pub record: Option<R>,
}

/// What the dataplane said of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// The last version that the dataplane looked at.
    pub applied: u64,
    /// Why it refused that version; `None` if it applied it.
    pub refused: Option<Refusal>,
}
