//! Routes as the kernel tells of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::message::{Message, address, attributes, u8_at, u16_at, u32_at};

/// One of the two tables that are mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteTable {
    /// Addresses of this machine. Asked first by the kernel, so it comes first here.
    Local,
    /// Where everything else lives.
    Main,
}

impl RouteTable {
    /// Both, in the order in which the kernel asks them.
    pub const ALL: [Self; 2] = [Self::Local, Self::Main];

    /// The kernel's number (`RT_TABLE_*`).
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Local => libc::RT_TABLE_LOCAL as u32,
            Self::Main => libc::RT_TABLE_MAIN as u32,
        }
    }
}

/// What the kernel does with a packet on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Sends it to a next hop.
    Forward,
    /// Takes it in: it is ours, or a broadcast that concerns us.
    Deliver,
    /// Drops it without a word.
    Blackhole,
    /// Drops it with an ICMP error.
    Unreachable,
    /// Asks the next table.
    Throw,
}

/// A next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Index of the device.
    pub link: u32,
    /// Gateway; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// False when the kernel marked it dead: it is never used.
    pub alive: bool,
    /// False when its link has no carrier: whether it is used then is a setting of the link.
    pub carrier: bool,
    /// True when the kernel wraps the packet in something (MPLS, SRv6, ..) that the fast path does not know.
    pub wraps: bool,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Table.
    pub table: RouteTable,
    /// Destination.
    pub prefix: IpNet,
    /// Priority: the lowest wins.
    pub metric: u32,
    /// Type of service (IPv4); a route with one is for marked packets only.
    pub tos: u8,
    /// Who put it there (`RTPROT_*`).
    pub protocol: u8,
    /// What happens to packets.
    pub fate: Fate,
    /// Next hops; one at least for [`Fate::Forward`].
    pub hops: Vec<Hop>,
}

impl Route {
    /// The route of an `RTM_NEWROUTE` or `RTM_DELROUTE`; `None` when malformed, cached, or not of the two tables.
    pub(crate) fn parse(message: &Message<'_>) -> Option<Self> {
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
        let fixed = message.payload.get(..12)?;
        let (family, prefix_len, source_len, tos) = (fixed[0], fixed[1], fixed[2], fixed[3]);
        let flags = u32_at(fixed, 8)?;
        if flags & RTM_F_CLONED != 0 || source_len != 0 {
            return None;
        }
        let mut found = Found::default();
        for (kind, value) in attributes(message.payload.get(12..)?) {
            found.take(kind, value)?;
        }
        let table = found.table.unwrap_or(u32::from(fixed[4]));
        let table = RouteTable::ALL.into_iter().find(|known| known.number() == table)?;
        let base = match (found.destination, i32::from(family)) {
            (Some(base), libc::AF_INET | libc::AF_INET6) => base,
            (None, libc::AF_INET) => Ipv4Addr::UNSPECIFIED.into(),
            (None, libc::AF_INET6) => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let mut hops = found.hops;
        if let Some(link) = found.link {
            let (alive, carrier) = liveness(flags as u8);
            hops.insert(0, Hop { link, gateway: found.gateway, alive, carrier, wraps: found.wraps });
        }
        Some(Self {
            table,
            prefix: IpNet::new(base, prefix_len).ok()?.trunc(),
            metric: found.metric,
            tos,
            protocol: fixed[5],
            fate: match fixed[7] {
                libc::RTN_UNICAST => Fate::Forward,
                libc::RTN_LOCAL | libc::RTN_BROADCAST | libc::RTN_ANYCAST => Fate::Deliver,
                libc::RTN_BLACKHOLE => Fate::Blackhole,
                libc::RTN_UNREACHABLE | libc::RTN_PROHIBIT => Fate::Unreachable,
                libc::RTN_THROW => Fate::Throw,
                _ => return None,
            },
            hops,
        })
    }
}

/// Attributes gathered on the way.
#[derive(Default)]
struct Found {
    table: Option<u32>,
    destination: Option<IpAddr>,
    link: Option<u32>,
    gateway: Option<IpAddr>,
    metric: u32,
    wraps: bool,
    hops: Vec<Hop>,
}

impl Found {
    fn take(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        match kind {
            libc::RTA_TABLE => self.table = Some(u32_at(value, 0)?),
            libc::RTA_DST => self.destination = Some(address(value)?),
            libc::RTA_OIF => self.link = Some(u32_at(value, 0)?),
            libc::RTA_PRIORITY => self.metric = u32_at(value, 0)?,
            libc::RTA_MULTIPATH => self.hops = next_hops(value)?,
            _ => self.wraps |= take_hop(kind, value, &mut self.gateway)?,
        }
        Some(())
    }
}

/// The attributes that a route and a next hop of a multipath route share; true when the hop wraps the packet.
fn take_hop(kind: u16, value: &[u8], gateway: &mut Option<IpAddr>) -> Option<bool> {
    match kind {
        libc::RTA_GATEWAY => *gateway = Some(address(value)?),
        // struct rtvia: family, then the address: an IPv4 route by an IPv6 gateway (RFC 5549).
        libc::RTA_VIA => *gateway = Some(address(value.get(2..)?)?),
        libc::RTA_ENCAP_TYPE => return Some(u16_at(value, 0)? != 0),
        libc::RTA_NEWDST => return Some(true),
        _ => {}
    }
    Some(false)
}

/// The next hops of a multipath route: a row of `struct rtnexthop`, each with attributes.
fn next_hops(mut bytes: &[u8]) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    while !bytes.is_empty() {
        let len = usize::from(u16_at(bytes, 0)?);
        let flags = u8_at(bytes, 2)?;
        let link = u32_at(bytes, 4)?;
        let (mut gateway, mut wraps) = (None, false);
        for (kind, value) in attributes(bytes.get(8..len)?) {
            wraps |= take_hop(kind, value, &mut gateway)?;
        }
        let (alive, carrier) = liveness(flags);
        hops.push(Hop { link, gateway, alive, carrier, wraps });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(hops)
}

/// Whether a next hop with these `RTNH_F_*` is alive, and whether its link has a carrier.
fn liveness(flags: u8) -> (bool, bool) {
    (flags & RTNH_F_DEAD == 0, flags & RTNH_F_LINKDOWN == 0)
}

// From linux/rtnetlink.h; the libc crate does not carry them.
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_DEAD: u8 = 1;
const RTNH_F_LINKDOWN: u8 = 16;
