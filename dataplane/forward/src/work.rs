//! The lists between stages. They are made once, with room for what one burst can bring, and never grow.

use esp::framing::{Aad, Nonce};
use packet::{FiveTuple, Twin};

use crate::plan::Exit;

/// Most packets in a list. A burst has at most 32; fragments can make more, and a list that is full is worked off early.
pub(crate) const LIST_CAPACITY: usize = esp::MAX_BATCH;

/// Where a passenger comes from.
///
/// As wide as the rest of a [`Passenger`]'s fields: padding behind a single byte would be copied in overlapping pieces
/// with each move, and each read of what was just written in pieces waits for the store buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Origin {
    /// From a wire, its Ethernet header still in front of it.
    Wire,
    /// Out of a tunnel or an SA.
    Decapsulated,
    /// From the host by a twin: its time to live stays, and errors go back by that twin.
    Host,
    /// Made here.
    Local,
}

/// An IP packet to be routed: the frame begins at the IP header and ends where the packet does.
pub(crate) struct Passenger<F> {
    pub(crate) frame: F,
    /// The twin that stands for where it came in: what the fast path can't decide goes there.
    pub(crate) from: Twin,
    pub(crate) origin: Origin,
}

const _: () = assert!(size_of::<Passenger<u64>>() == 24, "a passenger has no padding");

/// An ESP packet with the SPI of one of our SAs: the frame begins at the Ethernet header and ends where IP does.
pub(crate) struct Candidate<F> {
    pub(crate) frame: F,
    /// Slot of the SA.
    pub(crate) sa: u32,
    /// Where ESP begins.
    pub(crate) esp_at: u16,
    /// Slot of the port that it came by.
    pub(crate) port: u32,
}

/// An ESP packet to be opened: the frame begins at the Ethernet header and ends with the ICV.
pub(crate) struct Opening<F> {
    pub(crate) frame: F,
    pub(crate) nonce: Nonce,
    pub(crate) aad: Aad,
    pub(crate) sequence: u64,
    /// Slot of the SA.
    pub(crate) sa: u32,
    /// Where the bytes that the engine takes begin.
    pub(crate) text_at: u16,
    /// Slot of the port that it came by.
    pub(crate) port: u32,
}

/// A packet to be sealed: complete, from the Ethernet header to the room for the ICV.
pub(crate) struct Sealing<F> {
    pub(crate) frame: F,
    pub(crate) nonce: Nonce,
    pub(crate) aad: Aad,
    /// Slot of the SA.
    pub(crate) sa: u32,
    /// Where the bytes that the engine takes begin.
    pub(crate) text_at: u16,
    /// Slot of the port that it leaves by.
    pub(crate) port: u32,
    /// MTU of that port if the packet must be fragmented after it is sealed, else 0.
    pub(crate) fragment_to_bytes: u16,
}

/// An IPv4 packet that leaves by a port with a crypto map.
pub(crate) struct Classifying<F> {
    pub(crate) frame: F,
    pub(crate) key: FiveTuple,
    pub(crate) exit: Exit,
    pub(crate) from: Twin,
    pub(crate) origin: Origin,
}

/// All lists of a worker.
pub(crate) struct Lists<F> {
    pub(crate) arrivals: Vec<F>,
    pub(crate) candidates: Vec<Candidate<F>>,
    pub(crate) opening: Vec<Opening<F>>,
    pub(crate) v4: Vec<Passenger<F>>,
    pub(crate) v6: Vec<Passenger<F>>,
    /// Errors made here, routed after everything else.
    pub(crate) replies: Vec<Passenger<F>>,
    pub(crate) classifying: Vec<Classifying<F>>,
    pub(crate) sealing: Vec<Sealing<F>>,
}

impl<F> Lists<F> {
    pub(crate) fn new() -> Self {
        Self {
            arrivals: Vec::with_capacity(LIST_CAPACITY),
            candidates: Vec::with_capacity(LIST_CAPACITY),
            opening: Vec::with_capacity(LIST_CAPACITY),
            v4: Vec::with_capacity(LIST_CAPACITY),
            v6: Vec::with_capacity(LIST_CAPACITY),
            replies: Vec::with_capacity(LIST_CAPACITY),
            classifying: Vec::with_capacity(LIST_CAPACITY),
            sealing: Vec::with_capacity(LIST_CAPACITY),
        }
    }
}
