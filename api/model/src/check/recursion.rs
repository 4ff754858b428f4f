//! A tunnel whose own packets would be routed into it: recursive routing.
//!
//! Only what is configured is known here: the prefixes on the links of interfaces and tunnels, and static routes. A
//! routing protocol may still bring a bad route at run time; the control plane watches for that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Violation;
use crate::{Desired, IfName, Kind, Prefix, Route};

pub(super) fn check(desired: &Desired, found: &mut Vec<Violation>) {
    let table = RouteTable::of(desired);
    for (name, tunnel) in &desired.tunnels {
        let mut through = vec![name];
        let mut destination = IpAddr::V4(tunnel.destination);
        // A tunnel may ride in another one; that is wrong only if the chain comes back to where it began.
        while let Some((prefix, Via::Tunnel(next))) = table.lookup(destination) {
            if next == name {
                found.push(Violation::new(
                    Kind::Tunnel,
                    name,
                    "/destination",
                    describe(destination, prefix, &through),
                ));
                break;
            }
            let Some(next_tunnel) = desired.tunnels.get(next).filter(|_| !through.contains(&next)) else {
                break;
            };
            through.push(next);
            destination = IpAddr::V4(next_tunnel.destination);
        }
    }
}

fn describe(destination: IpAddr, prefix: Prefix, through: &[&IfName]) -> String {
    let names: Vec<&str> = through.iter().map(|name| name.as_str()).collect();
    format!(
        "would route through the tunnel itself ({}): {prefix} covers {destination} and leads there; add a more \
         specific route to it elsewhere",
        names.join(" in ")
    )
}

#[derive(Clone, Copy, Debug)]
enum Via<'a> {
    Interface,
    Tunnel(&'a IfName),
}

/// Longest-prefix match over what is configured.
struct RouteTable<'a> {
    routes: BTreeMap<Prefix, (u64, Via<'a>)>,
    lengths: BTreeSet<u8>,
}

impl<'a> RouteTable<'a> {
    fn of(desired: &'a Desired) -> Self {
        let mut table = Self { routes: BTreeMap::new(), lengths: BTreeSet::new() };
        for interface in desired.interfaces.values() {
            for address in &interface.addresses {
                table.add(address.prefix(), ON_LINK, Via::Interface);
            }
        }
        for (name, tunnel) in &desired.tunnels {
            for address in &tunnel.addresses {
                table.add(address.prefix(), ON_LINK, Via::Tunnel(name));
            }
        }
        let resolved: Vec<_> =
            desired.routes.values().filter_map(|route| Some((route, table.leaves_by(route)?))).collect();
        for (route, via) in resolved {
            table.add(route.destination, 1 + u64::from(route.metric.unwrap_or(0)), via);
        }
        table
    }

    /// What a route leads over: as it says, or as the link on which its gateway is.
    fn leaves_by(&self, route: &'a Route) -> Option<Via<'a>> {
        match (&route.interface, &route.tunnel, route.gateway) {
            (Some(_), _, _) => Some(Via::Interface),
            (_, Some(tunnel), _) => Some(Via::Tunnel(tunnel)),
            (_, _, Some(gateway)) => self.lookup(gateway).map(|(_, via)| via),
            (None, None, None) => None,
        }
    }

    fn add(&mut self, prefix: Prefix, metric: u64, via: Via<'a>) {
        self.lengths.insert(prefix.prefix_len());
        let best = self.routes.entry(prefix).or_insert((metric, via));
        if metric < best.0 {
            *best = (metric, via);
        }
    }

    fn lookup(&self, addr: IpAddr) -> Option<(Prefix, Via<'a>)> {
        self.lengths.iter().rev().find_map(|length| {
            let prefix = Prefix::new(addr, *length).ok()?;
            self.routes.get(&prefix).map(|(_, via)| (prefix, *via))
        })
    }
}

/// A prefix on a link wins over every static route to the same prefix.
const ON_LINK: u64 = 0;
