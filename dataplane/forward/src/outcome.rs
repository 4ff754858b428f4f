//! What comes out of a burst.

use arrayvec::ArrayVec;
use shm::EventRecord;

/// Most packets that wait for one port.
pub const TX_CAPACITY: usize = 256;
/// Most packets that wait for the host.
pub const PUNT_CAPACITY: usize = 128;
/// Most events that wait for the control plane; further ones are raised again by later packets.
const EVENT_CAPACITY: usize = 64;
/// Most ports.
const PORTS: usize = 64;

/// Packets for one port, complete Ethernet frames in order.
pub type TxList<F> = ArrayVec<F, TX_CAPACITY>;

/// Where the stages put packets and events. The worker empties it after each call; what does not fit is dropped and
/// counted.
#[derive(Debug)]
pub struct Outcome<F> {
    transmit: Box<[TxList<F>]>,
    active: u64,
    /// Packets for the host: the twin stands in the frame's meta. A TAP twin gets an Ethernet frame, a TUN twin an IP
    /// packet.
    pub punts: ArrayVec<F, PUNT_CAPACITY>,
    /// Events for the control plane.
    pub events: ArrayVec<EventRecord, EVENT_CAPACITY>,
}

impl<F> Outcome<F> {
    /// An empty one. Allocates once: keep it.
    pub fn new() -> Self {
        Self {
            transmit: (0..PORTS).map(|_| TxList::new()).collect(),
            active: 0,
            punts: ArrayVec::new(),
            events: ArrayVec::new(),
        }
    }

    /// Takes the number of a port that has packets to send, lowest first; `None` when there is none.
    pub fn next_port(&mut self) -> Option<u32> {
        let port = self.active.trailing_zeros();
        self.active &= self.active.wrapping_sub(1);
        (port < PORTS as u32).then_some(port)
    }

    /// The packets for a port: drain them. Mark is taken by [`Outcome::next_port`].
    pub fn transmit_list(&mut self, port: u32) -> Option<&mut TxList<F>> {
        self.transmit.get_mut(port as usize)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.active == 0 && self.punts.is_empty() && self.events.is_empty()
    }

    /// Appends a frame for a port; gives it back when the list is full or there is no such port.
    #[inline]
    pub(crate) fn transmit(&mut self, port: u32, frame: F) -> Result<(), F> {
        let Some(list) = self.transmit.get_mut(port as usize) else { return Err(frame) };
        self.active |= 1 << port;
        list.try_push(frame).map_err(|full| full.element())
    }

    /// Raises an event. Says whether there was room: otherwise a later packet must raise it.
    #[cold]
    pub(crate) fn raise(&mut self, event: EventRecord) -> bool {
        self.events.try_push(event).is_ok()
    }
}

impl<F> Default for Outcome<F> {
    fn default() -> Self {
        Self::new()
    }
}
