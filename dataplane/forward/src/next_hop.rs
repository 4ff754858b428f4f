//! A next hop: a gateway or a neighbour on a port.

use packet::header::ethernet::Mac;

/// A next hop. Routes refer to it by an index that stays when it is resolved or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Slot of the port.
    pub port: u32,
    /// Link-layer address; `None` while it is not known.
    pub mac: Option<Mac>,
}
