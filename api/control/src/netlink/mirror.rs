//! The mirror: the kernel's routes and neighbours, as the dataplane shall have them.
//!
//! ```text
//!  subscribe ─► dump all ─► announcements ─► what is clear: applied at once
//!                  ▲                     └─► what is not, or was silent: "stale"
//!                  └───────── settle() ◄──── coalesced ◄───────┘
//! ```
//!
//! The kernel removes many routes without a word: those of a link that goes down, loses its carrier or is deleted,
//! those of a removed address, those of a removed next-hop object. So each announcement that may stand for such a
//! removal makes the routes stale, and they are read anew. Overrun of the socket makes everything stale.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use shm::records::{NeighbourRecord, RouteRecord, route as kind};

use super::Family;
use super::kernel::Kernel;
use super::link::Link;
use super::mapping::{Attachment, Attachments, neighbour_record, route_record};
use super::message::Message;
use super::neighbour::{Certainty, Neighbour};
use super::route::Route;
use super::route_set::{Effect, RouteSet};
use crate::slots::NeighbourKey;
use crate::tables::{Mirrored, Tables};

/// Where the dataplane sends what is for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// To this neighbour at the port in this slot.
    Port {
        /// Slot of the port.
        port: u32,
        /// The gateway, or the destination itself.
        neighbour: IpAddr,
    },
    /// Into the tunnel in this slot.
    Tunnel(u32),
    /// To this machine.
    Local,
    /// Nowhere: no route, or one that drops.
    Nowhere,
}

/// What the dataplane's tables shall differ by: the new record, or none.
#[derive(Debug, Default)]
pub struct Changes {
    /// Routes.
    pub routes: Vec<(IpNet, Option<RouteRecord>)>,
    /// Neighbours.
    pub neighbours: Vec<(NeighbourKey, Option<NeighbourRecord>)>,
}

/// The kernel's state, and its image.
#[derive(Default)]
pub struct Mirror {
    links: BTreeMap<u32, Link>,
    routes: RouteSet,
    neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    twins: BTreeMap<String, Attachment>,
    attachments: Attachments,
    image: Mirrored,
    /// Gateways of port routes, with how many routes use each.
    gateways: BTreeMap<(u32, IpAddr), usize>,
    stale: Stale,
    /// Devices came or went since somebody asked.
    devices_moved: bool,
    /// Unknown neighbours are kept: nobody answers for them while the dataplane is away.
    holds_neighbours: bool,
    overruns: u64,
    last_settling: Duration,
}

/// What must be read anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stale {
    links: bool,
    v4: bool,
    v6: bool,
    neighbours: bool,
}

impl Stale {
    const ALL: Self = Self { links: true, v4: true, v6: true, neighbours: true };

    fn routes(&mut self, family: Family) -> &mut bool {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

impl Mirror {
    /// A mirror that knows nothing yet: the first [`Mirror::settle`] reads everything.
    #[must_use]
    pub fn new() -> Self {
        Self { stale: Stale::ALL, ..Self::default() }
    }

    /// Names which devices are twins, and of what.
    pub fn set_twins(&mut self, twins: BTreeMap<String, Attachment>) -> Changes {
        let mut changes = Changes::default();
        if self.twins != twins {
            self.twins = twins;
            self.reattach(&mut changes);
        }
        changes
    }

    /// While held, neighbours that the kernel fails to find stay in the dataplane.
    pub fn hold_neighbours(&mut self, hold: bool) {
        self.stale.neighbours |= self.holds_neighbours && !hold;
        self.holds_neighbours = hold;
    }

    /// Takes in one announcement.
    pub(crate) fn take(&mut self, message: &Message<'_>, touched: &mut Touched) {
        match message.kind {
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => self.take_route(message, touched),
            libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => self.take_neighbour(message, touched),
            libc::RTM_NEWLINK => {
                if let Some(link) = Link::parse(message) {
                    let known = self.links.get(&link.index);
                    if known.is_none_or(|known| known.flags != link.flags || known.name != link.name) {
                        self.stale = Stale::ALL;
                    }
                }
            }
            libc::RTM_DELLINK => self.stale = Stale::ALL,
            libc::RTM_DELADDR | NEW_NEXTHOP | DEL_NEXTHOP => {
                self.stale.v4 = true;
                self.stale.v6 = true;
            }
            _ => {}
        }
    }

    /// What the announcements changed that touched these.
    pub(crate) fn changes_of(&mut self, touched: Touched) -> Changes {
        let mut changes = Changes::default();
        for prefix in touched.prefixes {
            self.image_route(&mut changes, prefix);
        }
        for key in touched.neighbours {
            self.image_neighbour(&mut changes, key);
        }
        changes
    }

    /// Announcements were lost: everything is read anew by the next [`Mirror::settle`].
    pub fn overrun(&mut self) {
        self.overruns += 1;
        self.stale = Stale::ALL;
    }

    /// Everything is read anew by the next [`Mirror::settle`].
    pub fn distrust(&mut self) {
        self.stale = Stale::ALL;
    }

    /// How long to wait before [`Mirror::settle`], so that a burst of announcements costs one reading and reading
    /// costs a tenth of the time at most; `None` when nothing is stale.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        const SHORTEST: Duration = Duration::from_millis(20);
        const LONGEST: Duration = Duration::from_secs(1);
        (self.stale != Stale::default()).then(|| (self.last_settling * 10).clamp(SHORTEST, LONGEST))
    }

    /// Reads anew what is stale, and says what differs. After an error what was not read stays stale.
    pub fn settle(&mut self, kernel: &mut Kernel) -> (Changes, io::Result<()>) {
        let mut changes = Changes::default();
        let result = self.read_stale(kernel, &mut changes);
        (changes, result)
    }

    fn read_stale(&mut self, kernel: &mut Kernel, changes: &mut Changes) -> io::Result<()> {
        let begun = Instant::now();
        if self.stale.links {
            let links: BTreeMap<u32, Link> =
                kernel.links()?.into_iter().map(|link| (link.index, link)).collect();
            let names = |links: &BTreeMap<u32, Link>| -> Vec<(u32, String)> {
                links.iter().map(|(index, link)| (*index, link.name.clone())).collect()
            };
            self.devices_moved |= names(&links) != names(&self.links);
            self.links = links;
            self.stale.links = false;
            self.reattach(changes);
        }
        for family in Family::ALL {
            if *self.stale.routes(family) {
                for prefix in self.routes.replace(family, kernel.routes(family)?) {
                    self.image_route(changes, prefix);
                }
                *self.stale.routes(family) = false;
            }
        }
        if self.stale.neighbours {
            self.replace_neighbours(changes, kernel.neighbours()?);
            self.stale.neighbours = false;
        }
        self.last_settling = begun.elapsed();
        Ok(())
    }

    /// Where the dataplane sends what is for `address`: the longest prefix decides.
    #[must_use]
    pub fn next_hop(&self, address: IpAddr) -> NextHop {
        let Some(record) = Tables::best_route(&self.image.routes, address) else {
            return NextHop::Nowhere;
        };
        match record.kind {
            kind::PORT => {
                let gateway =
                    (record.has_gateway == 1).then(|| record.gateway.to_ip(record.family)).flatten();
                NextHop::Port { port: record.target, neighbour: gateway.unwrap_or(address) }
            }
            kind::TUNNEL => NextHop::Tunnel(record.target),
            kind::LOCAL => NextHop::Local,
            _ => NextHop::Nowhere,
        }
    }

    /// The image.
    #[must_use]
    pub const fn image(&self) -> &Mirrored {
        &self.image
    }

    /// The neighbours that must be resolved before a packet needs them: gateways of routes, and the next hops
    /// towards `peers`. Each is the index of a device and an address; those of the operator's own word are left out.
    #[must_use]
    pub fn needed_neighbours(&self, peers: impl Iterator<Item = IpAddr>) -> BTreeSet<(u32, IpAddr)> {
        let mut needed: BTreeSet<(u32, IpAddr)> = self.gateways.keys().copied().collect();
        for peer in peers {
            if let NextHop::Port { port, neighbour } = self.next_hop(peer) {
                needed.insert((port, neighbour));
            }
        }
        let links = self.port_links();
        needed
            .into_iter()
            .filter_map(|(port, address)| Some((*links.get(&port)?, address)))
            .filter(|key| {
                self.neighbours.get(key).is_none_or(|known| known.certainty != Certainty::Permanent)
            })
            .collect()
    }

    /// Whether the neighbour at a port is known to the dataplane.
    #[must_use]
    pub fn knows_neighbour(&self, port: u32, address: IpAddr) -> bool {
        self.image.neighbours.contains_key(&(port, address))
    }

    /// A device by its name, as last read.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// Whether devices came, went or were renamed since this was last asked.
    pub fn have_devices_moved(&mut self) -> bool {
        std::mem::take(&mut self.devices_moved)
    }

    /// How often announcements were lost and all was read again.
    #[must_use]
    pub const fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Device indices by the slot of their port.
    fn port_links(&self) -> BTreeMap<u32, u32> {
        self.attachments
            .iter()
            .filter_map(|(link, attachment)| match attachment {
                Attachment::Port(port) => Some((*port, *link)),
                Attachment::Tunnel(_) => None,
            })
            .collect()
    }

    fn take_route(&mut self, message: &Message<'_>, touched: &mut Touched) {
        let Some(route) = Route::parse(message) else {
            return;
        };
        let family = Family::of(route.prefix.addr());
        let flag = |bit: i32| message.flags & bit as u16 != 0;
        let effect = if message.kind == libc::RTM_NEWROUTE {
            self.routes.announce(route, flag(libc::NLM_F_REPLACE), flag(libc::NLM_F_APPEND))
        } else {
            self.routes.withdraw(&route)
        };
        match effect {
            Effect::None => {}
            Effect::Changed(prefix) => {
                touched.prefixes.insert(prefix);
            }
            Effect::Unclear => *self.stale.routes(family) = true,
        }
    }

    fn take_neighbour(&mut self, message: &Message<'_>, touched: &mut Touched) {
        let Some(mut neighbour) = Neighbour::parse(message) else {
            return;
        };
        let key = (neighbour.link, neighbour.address);
        if message.kind == libc::RTM_DELNEIGH {
            neighbour.certainty = Certainty::Unknown;
        }
        if neighbour.certainty == Certainty::Unknown {
            self.neighbours.remove(&key);
        } else {
            self.neighbours.insert(key, neighbour);
        }
        touched.neighbours.insert(key);
    }

    /// Derives the attachments from names and links, and all records from those.
    fn reattach(&mut self, changes: &mut Changes) {
        let attachments: Attachments = self
            .links
            .values()
            .filter_map(|link| self.twins.get(&link.name).map(|attachment| (link.index, *attachment)))
            .collect();
        if attachments == self.attachments {
            return;
        }
        let before = std::mem::replace(&mut self.attachments, attachments);
        let prefixes: Vec<IpNet> = self.routes.prefixes().collect();
        for prefix in prefixes {
            self.image_route(changes, prefix);
        }
        let lost =
            |key: &NeighbourKey| !self.attachments.values().any(|here| *here == Attachment::Port(key.0));
        let orphans: Vec<NeighbourKey> = self.image.neighbours.keys().copied().filter(lost).collect();
        for key in orphans {
            self.image.neighbours.remove(&key);
            changes.neighbours.push((key, None));
        }
        let fresh = |link: &u32| before.get(link) != self.attachments.get(link);
        let keys: Vec<_> = self.neighbours.keys().filter(|(link, _)| fresh(link)).copied().collect();
        for key in keys {
            self.image_neighbour(changes, key);
        }
    }

    fn replace_neighbours(&mut self, changes: &mut Changes, dump: Vec<Neighbour>) {
        let fresh: BTreeMap<_, _> =
            dump.into_iter().map(|neighbour| ((neighbour.link, neighbour.address), neighbour)).collect();
        let links = self.port_links();
        let imaged =
            self.image.neighbours.keys().filter_map(|(port, address)| Some((*links.get(port)?, *address)));
        let touched: BTreeSet<_> = imaged.chain(fresh.keys().copied()).collect();
        self.neighbours = fresh;
        for key in touched {
            self.image_neighbour(changes, key);
        }
    }

    fn image_route(&mut self, changes: &mut Changes, prefix: IpNet) {
        let record = route_record(prefix, self.routes.of(&prefix), &self.attachments);
        let former = match record {
            Some(record) => self.image.routes.insert(prefix, record),
            None => self.image.routes.remove(&prefix),
        };
        if former != record {
            count_gateway(&mut self.gateways, former.as_ref(), false);
            count_gateway(&mut self.gateways, record.as_ref(), true);
            changes.routes.push((prefix, record));
        }
    }

    fn image_neighbour(&mut self, changes: &mut Changes, key: (u32, IpAddr)) {
        let Some(Attachment::Port(port)) = self.attachments.get(&key.0) else {
            return;
        };
        let neighbour = self.neighbours.get(&key);
        let record = neighbour.and_then(|neighbour| neighbour_record(neighbour, &self.attachments));
        if record.is_none() && self.holds_neighbours {
            return;
        }
        let key = (*port, key.1);
        let former = match record {
            Some(record) => self.image.neighbours.insert(key, record),
            None => self.image.neighbours.remove(&key),
        };
        if former != record {
            changes.neighbours.push((key, record));
        }
    }
}

/// What announcements touched and has not been written yet.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    prefixes: BTreeSet<IpNet>,
    neighbours: BTreeSet<(u32, IpAddr)>,
}

fn count_gateway(gateways: &mut BTreeMap<(u32, IpAddr), usize>, record: Option<&RouteRecord>, more: bool) {
    let Some(record) = record.filter(|record| record.kind == kind::PORT && record.has_gateway == 1) else {
        return;
    };
    let Some(gateway) = record.gateway.to_ip(record.family) else {
        return;
    };
    let key = (record.target, gateway);
    let count = gateways.entry(key).or_default();
    *count = if more { *count + 1 } else { count.saturating_sub(1) };
    if *count == 0 {
        gateways.remove(&key);
    }
}

// From linux/rtnetlink.h; the libc crate does not carry them.
const NEW_NEXTHOP: u16 = 104;
const DEL_NEXTHOP: u16 = 105;
