//! What is asked of the kernel and told to it, in types.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ipnet::IpNet;

use super::link::{IFA_PROTO, Link, LinkAddress};
use super::message::{Request, address_bytes};
use super::neighbour::Neighbour;
use super::route::{Route, RouteTable};
use super::socket::Requests;
use super::{Family, OUR_PROTOCOL};

/// The kernel's configuration of one network namespace.
pub struct Kernel {
    requests: Requests,
}

/// What to change of a device; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// MTU in bytes.
    pub mtu_bytes: Option<u32>,
    /// Link-layer address.
    pub mac: Option<[u8; 6]>,
    /// Alias.
    pub alias: Option<String>,
    /// Administratively up.
    pub up: Option<bool>,
    /// Answer and send ARP.
    pub arp: Option<bool>,
    /// Take in all multicast frames.
    pub all_multicast: Option<bool>,
    /// Make IPv6 link-local addresses by itself.
    pub link_local: Option<bool>,
}

/// A static route to be held by the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StaticRoute {
    /// Destination.
    pub prefix: IpNet,
    /// Priority; `None` for the family's default.
    pub metric: Option<u32>,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Index of the device; `None` lets the kernel find it by the gateway.
    pub link: Option<u32>,
}

impl Kernel {
    /// Opens the way to the kernel in this thread's network namespace.
    ///
    /// # Errors
    /// No netlink socket could be had.
    pub fn open() -> io::Result<Self> {
        Ok(Self { requests: Requests::open()? })
    }

    /// A descriptor of the same network namespace, for ioctls on its devices.
    #[must_use]
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.requests.namespace()
    }

    /// All devices.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        self.table(
            libc::RTM_GETLINK,
            |request| request.fixed(&link_header(0, 0, 0)),
            |message| Link::parse(&message),
        )
    }

    /// The device of a name; `None` when there is none.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut found = None;
        let asked = self.requests.ask(
            libc::RTM_GETLINK,
            |request| request.fixed(&link_header(0, 0, 0)).text(libc::IFLA_IFNAME, name),
            |message| found = found.take().or_else(|| Link::parse(&message)),
        );
        match asked {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            other => other.map(|()| found),
        }
    }

    /// All addresses of all devices.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn addresses(&mut self) -> io::Result<Vec<LinkAddress>> {
        self.table(
            libc::RTM_GETADDR,
            |request| request.fixed(&[0; 8]),
            |message| LinkAddress::parse(&message),
        )
    }

    /// All routes of a family in the main and the local table.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn routes(&mut self, family: Family) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for table in RouteTable::ALL {
            let part = self.table(
                libc::RTM_GETROUTE,
                |request| {
                    request
                        .fixed(&[family.number(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
                        .number(libc::RTA_TABLE, table.number())
                },
                |message| Route::parse(&message),
            );
            match part {
                Ok(part) => routes.extend(part),
                // The table has never been used.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(routes)
    }

    /// All neighbours.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn neighbours(&mut self) -> io::Result<Vec<Neighbour>> {
        self.table(
            libc::RTM_GETNEIGH,
            |request| request.fixed(&[0; 12]),
            |message| Neighbour::parse(&message),
        )
    }

    /// Changes a device.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn change_link(&mut self, index: u32, change: &LinkChange) -> io::Result<()> {
        let (mut flags, mut mask) = (0, 0);
        let mut flag = |wanted: Option<bool>, bit: i32, inverted: bool| {
            if let Some(wanted) = wanted {
                mask |= bit as u32;
                flags |= if wanted == inverted { 0 } else { bit as u32 };
            }
        };
        flag(change.up, libc::IFF_UP, false);
        flag(change.arp, libc::IFF_NOARP, true);
        flag(change.all_multicast, libc::IFF_ALLMULTI, false);
        self.requests.change(libc::RTM_NEWLINK, 0, |mut request| {
            request = request.fixed(&link_header(index, flags, mask));
            if let Some(mtu_bytes) = change.mtu_bytes {
                request = request.number(libc::IFLA_MTU, mtu_bytes);
            }
            if let Some(mac) = change.mac {
                request = request.attribute(libc::IFLA_ADDRESS, &mac);
            }
            if let Some(alias) = &change.alias {
                request = request.attribute(libc::IFLA_IFALIAS, alias.as_bytes());
            }
            if let Some(link_local) = change.link_local {
                request = request.nested(libc::IFLA_AF_SPEC, |families| {
                    families.nested(libc::AF_INET6 as u16, |inet6| {
                        inet6.attribute(
                            INET6_ADDR_GEN_MODE,
                            &[if link_local { MODE_EUI64 } else { MODE_NONE }],
                        )
                    })
                });
            }
            request
        })
    }

    /// Deletes a device.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn delete_link(&mut self, index: u32) -> io::Result<()> {
        self.requests.change(libc::RTM_DELLINK, 0, |request| request.fixed(&link_header(index, 0, 0)))
    }

    /// Puts an address on a device, marked as ours.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn add_address(&mut self, link: u32, address: IpNet) -> io::Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.requests.change(libc::RTM_NEWADDR, flags, |request| {
            let request = address_request(request, link, address).attribute(IFA_PROTO, &[OUR_PROTOCOL]);
            match address {
                IpNet::V4(net) if net.prefix_len() < 31 => {
                    request.attribute(libc::IFA_BROADCAST, &net.broadcast().octets())
                }
                _ => request,
            }
        })
    }

    /// Takes an address off a device.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn delete_address(&mut self, link: u32, address: IpNet) -> io::Result<()> {
        self.requests.change(libc::RTM_DELADDR, 0, |request| address_request(request, link, address))
    }

    /// Adds a static route, marked as ours.
    ///
    /// # Errors
    /// What the kernel answered: `ENETUNREACH` while its gateway or device cannot be reached.
    pub fn add_route(&mut self, route: &StaticRoute) -> io::Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.requests.change(libc::RTM_NEWROUTE, flags, |request| route_request(request, route))
    }

    /// Deletes a static route of ours.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn delete_route(&mut self, route: &StaticRoute) -> io::Result<()> {
        self.requests.change(libc::RTM_DELROUTE, 0, |request| route_request(request, route))
    }

    /// Tells the kernel that a neighbour is in use: it is resolved when unknown, and probed before it goes stale.
    /// With `managed` it stays so until told otherwise.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn use_neighbour(&mut self, link: u32, address: IpAddr, managed: bool) -> io::Result<()> {
        let family = Family::of(address).number();
        self.requests.change(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE, |request| {
            request
                .fixed(&[family, 0, 0, 0])
                .fixed(&link.to_ne_bytes())
                .fixed(&libc::NUD_NONE.to_ne_bytes())
                .fixed(&[libc::NTF_USE, 0])
                .attribute(libc::NDA_DST, &address_bytes(address))
                .number(NDA_FLAGS_EXT, if managed { NTF_EXT_MANAGED } else { 0 })
        })
    }

    /// Reads a table; asks again when it changed while it was read.
    fn table<T>(
        &mut self,
        kind: u16,
        fill: impl Fn(Request) -> Request,
        parse: impl Fn(super::message::Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        const TRIES: u32 = 5;
        let mut rows = Vec::new();
        for _ in 0..TRIES {
            rows.clear();
            match self.requests.dump(kind, &fill, |message| rows.extend(parse(message))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(|()| rows),
            }
        }
        // It changes faster than it can be read: each change is announced and comes again by that way.
        Ok(rows)
    }
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, mask: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&mask.to_ne_bytes());
    bytes
}

/// `struct ifaddrmsg` and the address.
fn address_request(request: Request, link: u32, address: IpNet) -> Request {
    let bytes = address_bytes(address.addr());
    request
        .fixed(&[Family::of(address.addr()).number(), address.prefix_len(), 0, libc::RT_SCOPE_UNIVERSE])
        .fixed(&link.to_ne_bytes())
        .attribute(libc::IFA_LOCAL, &bytes)
        .attribute(libc::IFA_ADDRESS, &bytes)
}

/// `struct rtmsg` and the route.
fn route_request(request: Request, route: &StaticRoute) -> Request {
    let family = Family::of(route.prefix.addr());
    // An IPv4 route without gateway holds for the link; the kernel refuses it with universal scope.
    let scope = match (family, route.gateway) {
        (Family::V4, None) => libc::RT_SCOPE_LINK,
        _ => libc::RT_SCOPE_UNIVERSE,
    };
    let main = RouteTable::Main.number();
    let mut request = request
        .fixed(&[family.number(), route.prefix.prefix_len(), 0, 0])
        .fixed(&[main as u8, OUR_PROTOCOL, scope, libc::RTN_UNICAST])
        .fixed(&[0; 4])
        .attribute(libc::RTA_DST, &address_bytes(route.prefix.addr()));
    if let Some(gateway) = route.gateway {
        request = request.attribute(libc::RTA_GATEWAY, &address_bytes(gateway));
    }
    if let Some(link) = route.link {
        request = request.number(libc::RTA_OIF, link);
    }
    if let Some(metric) = route.metric {
        request = request.number(libc::RTA_PRIORITY, metric);
    }
    request
}

// From linux/if_link.h and linux/neighbour.h; the libc crate does not carry them.
const INET6_ADDR_GEN_MODE: u16 = 8;
const MODE_EUI64: u8 = 0;
const MODE_NONE: u8 = 1;
const NDA_FLAGS_EXT: u16 = 15;
const NTF_EXT_MANAGED: u32 = 1;
