//! Names, devices and addresses stand once on the whole gateway: its twins live in one network namespace.

use std::collections::BTreeMap;

use super::Violation;
use crate::{Desired, InterfaceAddress, Kind};

pub(super) fn check(desired: &Desired, found: &mut Vec<Violation>) {
    let mut devices = BTreeMap::new();
    for (name, interface) in &desired.interfaces {
        if let Some(other) = devices.insert(&interface.device, name) {
            found.push(both(Kind::Interface, name, other, "/device", "the device"));
        }
        // The twin takes the interface's name, so no network device that it is made of may have it.
        let clash = desired.interfaces.iter().find(|(_, other)| other.device.netdev() == Some(name));
        if let Some((other, _)) = clash {
            found.push(Violation::new(
                Kind::Interface,
                name,
                "/device",
                format!("its twin would be named as the device that interfaces/{other} is made of"),
            ));
        }
        if desired.tunnels.contains_key(name) {
            let detail = format!("an interface and a tunnel can't both be named {name}");
            found.push(Violation::new(Kind::Interface, name, "", detail.clone()));
            found.push(Violation::new(Kind::Tunnel, name, "", detail));
        }
    }
    let interfaces = desired.interfaces.iter().map(|(name, it)| (Kind::Interface, name, &it.addresses));
    let tunnels = desired.tunnels.iter().map(|(name, it)| (Kind::Tunnel, name, &it.addresses));
    let mut owners = BTreeMap::new();
    for (kind, name, addresses) in interfaces.chain(tunnels) {
        for (index, address) in addresses.iter().enumerate() {
            // A link-local address means something on its link alone.
            if is_link_local(*address) {
                continue;
            }
            if let Some((other_kind, other)) = owners.insert(address.addr(), (kind, name)) {
                let detail = |kind, name| format!("{} is an address of {kind}/{name} too", address.addr());
                let pointer = format!("/addresses/{index}");
                found.push(Violation::new(kind, name, pointer, detail(other_kind, other)));
                if (kind, name) != (other_kind, other) {
                    found.push(Violation::new(other_kind, other, "/addresses", detail(kind, name)));
                }
            }
        }
    }
}

fn both(kind: Kind, name: &crate::IfName, other: &crate::IfName, pointer: &str, what: &str) -> Violation {
    Violation::new(kind, name, pointer, format!("{what} is that of {kind}/{other} too"))
}

fn is_link_local(address: InterfaceAddress) -> bool {
    match address.addr() {
        std::net::IpAddr::V4(addr) => addr.is_link_local(),
        std::net::IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}
