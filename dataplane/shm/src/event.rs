//! What the dataplane tells the control plane.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The kind of an event, and what its fields mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A soft limit was reached. `slot`: the SA; `a`: its generation; `b`: its SPI.
    SoftLimit = 1,
    /// A hard limit was reached, or the sequence numbers ran out. `slot`, `a`, `b` as in [`EventKind::SoftLimit`].
    HardLimit = 2,
    /// The first authentic packet came in on this SA. `slot`, `a`, `b` as in [`EventKind::SoftLimit`].
    FirstPacket = 3,
    /// Authentic traffic came in on this SA, told at most once a second. `slot`, `a`, `b` as in
    /// [`EventKind::SoftLimit`].
    Traffic = 4,
    /// A packet met a tunnel that has no outbound SA, told at most once a second. `slot`: the tunnel.
    AcquireTunnel = 5,
    /// A packet met a policy that has no outbound SA, told at most once a second. `slot`: the policy.
    AcquirePolicy = 6,
    /// The state of a port changed: read its [`crate::PortStatus`]. `slot`: the port.
    PortChanged = 7,
    /// An authentic packet in UDP, newer than all before it, came from another place than the inbound SA's peer, told at
    /// most once a second. `slot`, `a`, `b` as in [`EventKind::SoftLimit`]; `c`: the IPv4 address that it came from, as a
    /// number; `d`: the UDP port.
    PeerMoved = 8,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [EventKind; 8] = [
        EventKind::SoftLimit,
        EventKind::HardLimit,
        EventKind::FirstPacket,
        EventKind::Traffic,
        EventKind::AcquireTunnel,
        EventKind::AcquirePolicy,
        EventKind::PortChanged,
        EventKind::PeerMoved,
    ];

    /// The kind of a number; `None` for one that this version does not know.
    pub fn from_number(number: u32) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// One event, as it lies in the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EventRecord {
    /// A number of [`EventKind`].
    pub kind: u32,
    /// The slot that it is about.
    pub slot: u32,
    /// By kind.
    pub a: u64,
    /// By kind.
    pub b: u64,
    /// By kind.
    pub c: u64,
    /// By kind.
    pub d: u64,
}

impl EventRecord {
    /// An event of `kind` about `slot`, other fields zero.
    pub const fn new(kind: EventKind, slot: u32) -> Self {
        Self { kind: kind as u32, slot, a: 0, b: 0, c: 0, d: 0 }
    }

    /// An event about the SA in `slot`.
    pub const fn of_sa(kind: EventKind, slot: u32, generation: u64, spi: u32) -> Self {
        Self { kind: kind as u32, slot, a: generation, b: spi as u64, c: 0, d: 0 }
    }

    pub(crate) const WORDS: usize = size_of::<EventRecord>() / 8;

    pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
        let head = (u64::from(self.kind) << 32) | u64::from(self.slot);
        [head, self.a, self.b, self.c, self.d]
    }

    pub(crate) fn from_words([head, a, b, c, d]: [u64; Self::WORDS]) -> Self {
        Self { kind: (head >> 32) as u32, slot: head as u32, a, b, c, d }
    }
}
