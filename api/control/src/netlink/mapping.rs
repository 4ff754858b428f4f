//! From the kernel's routes and neighbours to records of the dataplane: pure.
//!
//! What the fast path cannot do, it must not do otherwise than the kernel: a route over a device that is no twin,
//! with a wrapping that is not known here, or of IPv4 by an IPv6 gateway becomes `unreachable`. So nothing leaks
//! onto a shorter prefix that happens to be known.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use shm::records::{Address, NONE, NeighbourRecord, RouteRecord, route as kind};

use super::Family;
use super::neighbour::{Certainty, Neighbour};
use super::route::{Fate, Hop, Route, RouteTable};

/// What a network device is to the dataplane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attachment {
    /// The TAP twin of the port in this slot.
    Port(u32),
    /// The TUN twin of the tunnel in this slot.
    Tunnel(u32),
}

/// Twins by the index of their device.
pub type Attachments = BTreeMap<u32, Attachment>;

/// The record of a prefix with these routes, best first; `None` when the fast path needs none.
#[must_use]
pub(super) fn route_record(
    prefix: IpNet,
    routes: &[Route],
    attachments: &Attachments,
) -> Option<RouteRecord> {
    if is_punted_anyway(prefix) {
        return None;
    }
    let found = routes.iter().filter(|route| route.tos == 0).find_map(|route| decide(route, attachments))?;
    let (number, target, gateway) = match found {
        Decision::Port(port, gateway) => (kind::PORT, port, gateway),
        Decision::Tunnel(tunnel) => (kind::TUNNEL, tunnel, None),
        Decision::Local => (kind::LOCAL, NONE, None),
        Decision::Blackhole => (kind::BLACKHOLE, NONE, None),
        Decision::Unreachable => (kind::UNREACHABLE, NONE, None),
    };
    let (family, base) = Address::from_ip(prefix.addr());
    Some(RouteRecord {
        present: 1,
        kind: number,
        family,
        prefix_len: prefix.prefix_len(),
        has_gateway: u8::from(gateway.is_some()),
        reserved: [0; 3],
        target,
        reserved2: 0,
        prefix: base,
        gateway: gateway.map_or_else(Address::default, |gateway| Address::from_ip(gateway).1),
    })
}

/// The record of a neighbour; `None` when the fast path cannot or need not use it.
#[must_use]
pub(super) fn neighbour_record(neighbour: &Neighbour, attachments: &Attachments) -> Option<NeighbourRecord> {
    let Some(Attachment::Port(port)) = attachments.get(&neighbour.link) else {
        return None;
    };
    if neighbour.certainty == Certainty::Unknown || neighbour.address.is_multicast() {
        return None;
    }
    let mac = neighbour.mac.filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6])?;
    let (family, address) = Address::from_ip(neighbour.address);
    Some(NeighbourRecord { present: 1, family, mac, port: *port, reserved: 0, address })
}

enum Decision {
    Port(u32, Option<IpAddr>),
    Tunnel(u32),
    Local,
    Blackhole,
    Unreachable,
}

/// What one route says; `None` when the kernel would go on with the next.
fn decide(route: &Route, attachments: &Attachments) -> Option<Decision> {
    match route.fate {
        Fate::Deliver => Some(Decision::Local),
        Fate::Blackhole => Some(Decision::Blackhole),
        Fate::Unreachable => Some(Decision::Unreachable),
        // The rules behind the main table have nothing more to ask; the local table is followed by the main one.
        Fate::Throw => (route.table == RouteTable::Main).then_some(Decision::Unreachable),
        Fate::Forward => {
            // Of several next hops the first live one is taken: flows are not spread. Twins ignore routes without
            // carrier (`ignore_routes_with_linkdown`); other devices are as the kernel's default has them, which
            // keeps such a route, and so the packet from a shorter prefix.
            let usable = |hop: &&Hop| hop.alive && (hop.carrier || !attachments.contains_key(&hop.link));
            let hop = route.hops.iter().find(usable)?;
            Some(forward(route.prefix, hop, attachments))
        }
    }
}

fn forward(prefix: IpNet, hop: &Hop, attachments: &Attachments) -> Decision {
    match attachments.get(&hop.link) {
        _ if hop.wraps => Decision::Unreachable,
        // A tunnel has one far end: a gateway on it says no more.
        Some(Attachment::Tunnel(tunnel)) => Decision::Tunnel(*tunnel),
        Some(Attachment::Port(port)) => match hop.gateway {
            Some(gateway) if Family::of(gateway) != Family::of(prefix.addr()) => Decision::Unreachable,
            gateway => Decision::Port(*port, gateway),
        },
        None => Decision::Unreachable,
    }
}

/// Loopback, link-local and multicast destinations go to the twin whatever the routes say.
fn is_punted_anyway(prefix: IpNet) -> bool {
    match prefix {
        IpNet::V4(net) => net.prefix_len() >= 4 && (net.addr().is_loopback() || net.addr().is_multicast()),
        IpNet::V6(net) => {
            let address = net.addr();
            net.prefix_len() >= 8
                && (address.is_loopback() || address.is_multicast() || address.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests;
