//! A tunnel begins at an address that exists, ends elsewhere, is told from the others, and its MTU fits.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Violation;
use crate::{Desired, IfName, Kind, Tunnel, TunnelSource};

pub(super) fn check(desired: &Desired, found: &mut Vec<Violation>) {
    let own = own_addresses(desired);
    let mut endpoints = BTreeMap::new();
    for (name, tunnel) in &desired.tunnels {
        let mut refuse =
            |pointer: &str, detail: String| found.push(Violation::new(Kind::Tunnel, name, pointer, detail));
        let Some(source) = desired.source_of(tunnel) else {
            refuse("/source", no_source(&tunnel.source));
            continue;
        };
        if own.contains(&IpAddr::V4(tunnel.destination)) {
            refuse("/destination", format!("{} is an address of this gateway", tunnel.destination));
        }
        if let Some(detail) = too_large(desired, tunnel) {
            refuse("/mtu_bytes", detail);
        }
        // GRE is told apart by these three alone (RFC 2890 section 2.1).
        let other: Option<&IfName> = endpoints.insert((source, tunnel.destination, tunnel.key), name);
        if let Some(other) = other {
            for (this, that) in [(name, other), (other, name)] {
                found.push(Violation::new(
                    Kind::Tunnel,
                    this,
                    "/key",
                    format!("tunnels/{that} has the same source, destination and key"),
                ));
            }
        }
    }
}

fn no_source(source: &TunnelSource) -> String {
    match source {
        TunnelSource::Interface(name) => format!("interfaces/{name} bears no IPv4 address"),
        TunnelSource::Address(addr) => format!("no interface bears {addr}"),
    }
}

fn own_addresses(desired: &Desired) -> BTreeSet<IpAddr> {
    let interfaces = desired.interfaces.values().flat_map(|it| &it.addresses);
    let tunnels = desired.tunnels.values().flat_map(|it| &it.addresses);
    interfaces.chain(tunnels).map(|address| address.addr()).collect()
}

fn too_large(desired: &Desired, tunnel: &Tunnel) -> Option<String> {
    let asked = tunnel.mtu_bytes?;
    let (interface, link, _) = desired.source_interface_of(tunnel)?;
    let exact = desired.exact_mtu_bytes(tunnel)?;
    (asked > exact).then(|| {
        format!(
            "must be at most {exact}: more does not fit the {} bytes of interfaces/{interface} after GRE and its \
             protection",
            link.mtu_bytes
        )
    })
}
