//! What the dataplane says of itself.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The dataplane as a whole. Written at its start, and when a field changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Status {
    /// Process number.
    pub pid: u32,
    /// Workers that run.
    pub workers: u32,
    /// Start of the process, milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// How many times a dataplane attached to this region, this time included.
    pub epoch: u64,
    /// 1 with huge pages, 0 without.
    pub huge_pages: u8,
    /// 1 once all tables were applied for the first time.
    pub ready: u8,
    /// Reserved, zero.
    pub reserved: [u8; 6],
    /// Name of the cipher engine, NUL padded.
    pub engine: [u8; 16],
    /// `adaptive` or `busy`, NUL padded.
    pub poll_mode: [u8; 16],
    /// CPU features in use, comma separated, NUL padded.
    pub cpu_features: [u8; 120],
}

/// State of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PortState {
    /// The device is not open.
    Absent = 0,
    /// The device is open and its link is up.
    Up = 1,
    /// The device is open and its link is down.
    LinkDown = 2,
    /// The operator disabled it.
    Disabled = 3,
    /// The device could not be opened; `detail` says why.
    Failed = 4,
}

impl PortState {
    /// The state of a number; a number that this version does not know is [`PortState::Absent`].
    pub const fn from_number(number: u8) -> PortState {
        match number {
            1 => PortState::Up,
            2 => PortState::LinkDown,
            3 => PortState::Disabled,
            4 => PortState::Failed,
            _ => PortState::Absent,
        }
    }
}

/// One port, in the slot of its [`crate::records::PortRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortStatus {
    /// A number of [`PortState`].
    pub state: u8,
    /// Reserved, zero.
    pub reserved: u8,
    /// The device's link-layer address: the TAP twin takes it.
    pub mac: [u8; 6],
    /// Link speed in Mbit/s, 0 if unknown.
    pub speed_mbps: u32,
    /// Most bytes of IP that the device takes.
    pub max_mtu_bytes: u32,
    /// Why it failed, NUL padded.
    pub detail: [u8; 112],
}

impl PortStatus {
    /// The state.
    pub const fn state(&self) -> PortState {
        PortState::from_number(self.state)
    }
}

const _: () = {
    assert!(size_of::<Status>() == 184);
    assert!(size_of::<PortStatus>() == 128);
};
