//! Adjacencies: what a route leads to, as a number of fifteen bits that fits a route table.

use shm::records::route;

/// Most tunnels that can be the target of a route.
const MAX_TUNNELS: u32 = 4096;
/// Most ports.
const MAX_PORTS: u32 = 64;
/// Most next hops (gateways and neighbours together).
pub const MAX_NEXT_HOPS: u32 = 28_000;

const LOCAL: u64 = 1;
const BLACKHOLE: u64 = 2;
const UNREACHABLE: u64 = 3;
const FIRST_PORT: u64 = 16;
const FIRST_TUNNEL: u64 = FIRST_PORT + MAX_PORTS as u64;
const FIRST_NEXT_HOP: u64 = FIRST_TUNNEL + MAX_TUNNELS as u64;

const _: () = assert!(FIRST_NEXT_HOP + MAX_NEXT_HOPS as u64 <= packet::MAX_ADJACENCY);

/// What a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjacency {
    /// No route.
    Miss,
    /// This machine.
    Local,
    /// Drop.
    Blackhole,
    /// Drop, and tell the source.
    Unreachable,
    /// The link of a port; the destination itself is the neighbour, and not resolved yet.
    Glean(u32),
    /// A tunnel.
    Tunnel(u32),
    /// A next hop: an index into [`crate::Tables`].
    NextHop(u32),
}

impl Adjacency {
    /// The number that stands in the route table; `None` for a slot that is out of range.
    pub const fn to_number(self) -> Option<u64> {
        match self {
            Self::Miss => Some(packet::MISS),
            Self::Local => Some(LOCAL),
            Self::Blackhole => Some(BLACKHOLE),
            Self::Unreachable => Some(UNREACHABLE),
            Self::Glean(port) if port < MAX_PORTS => Some(FIRST_PORT + port as u64),
            Self::Tunnel(tunnel) if tunnel < MAX_TUNNELS => Some(FIRST_TUNNEL + tunnel as u64),
            Self::NextHop(index) if index < MAX_NEXT_HOPS => Some(FIRST_NEXT_HOP + index as u64),
            Self::Glean(_) | Self::Tunnel(_) | Self::NextHop(_) => None,
        }
    }

    /// What a number of the route table means; one that means nothing is a miss.
    #[inline]
    pub const fn from_number(number: u64) -> Self {
        if number >= FIRST_NEXT_HOP {
            return Self::NextHop((number - FIRST_NEXT_HOP) as u32);
        }
        if number >= FIRST_TUNNEL {
            return Self::Tunnel((number - FIRST_TUNNEL) as u32);
        }
        match number {
            LOCAL => Self::Local,
            BLACKHOLE => Self::Blackhole,
            UNREACHABLE => Self::Unreachable,
            FIRST_PORT.. => Self::Glean((number - FIRST_PORT) as u32),
            _ => Self::Miss,
        }
    }

    /// The adjacency of a route without gateway; `None` for a kind that does not exist.
    pub(crate) const fn of_route(kind: u8, target: u32) -> Option<Self> {
        match kind {
            route::PORT => Some(Self::Glean(target)),
            route::TUNNEL => Some(Self::Tunnel(target)),
            route::LOCAL => Some(Self::Local),
            route::BLACKHOLE => Some(Self::Blackhole),
            route::UNREACHABLE => Some(Self::Unreachable),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_fit_fifteen_bits() {
        let all = [
            Adjacency::Miss,
            Adjacency::Local,
            Adjacency::Blackhole,
            Adjacency::Unreachable,
            Adjacency::Glean(0),
            Adjacency::Glean(63),
            Adjacency::Tunnel(0),
            Adjacency::Tunnel(4095),
            Adjacency::NextHop(0),
            Adjacency::NextHop(MAX_NEXT_HOPS - 1),
        ];
        for adjacency in all {
            let number = adjacency.to_number().unwrap();
            assert!(number <= packet::MAX_ADJACENCY);
            assert_eq!(Adjacency::from_number(number), adjacency);
        }
        assert_eq!(Adjacency::Tunnel(4096).to_number(), None);
        assert_eq!(Adjacency::from_number(9), Adjacency::Miss);
    }
}
