//! What Linux must hold: twins with their addresses, and static routes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use model::{Desired, InterfaceAddress};
use shm::socket_messages::TwinKind;

use super::Compiled;
use super::names::{Object, Problem};

/// Twins and static routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    /// Twins by the name of their device.
    pub twins: BTreeMap<String, Twin>,
    /// Static routes by the name of the resource.
    pub routes: BTreeMap<String, KernelRoute>,
}

/// A twin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// TAP of a port, or TUN of a tunnel.
    pub kind: TwinKind,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its MTU in bytes.
    pub mtu_bytes: u32,
    /// Whether it is up.
    pub enabled: bool,
}

/// A static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    /// Where it leads.
    pub destination: IpNet,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// The twin that it leaves by.
    pub device: Option<String>,
    /// Metric; Linux's own default when absent.
    pub metric: Option<u32>,
}

pub(super) fn kernel_state(desired: &Desired, compiled: &mut Compiled) -> KernelState {
    let ports = desired.interfaces.iter().map(|(name, interface)| {
        let twin = Twin {
            kind: TwinKind::Tap,
            addresses: addresses(&interface.addresses),
            mtu_bytes: interface.mtu_bytes,
            enabled: interface.enabled,
        };
        (name.as_str().to_owned(), twin)
    });
    let tunnels = desired.tunnels.iter().filter_map(|(name, tunnel)| {
        let record = compiled.tunnels.get(name.as_str())?;
        let twin = Twin {
            kind: TwinKind::Tun,
            addresses: addresses(&tunnel.addresses),
            mtu_bytes: record.mtu_bytes,
            enabled: tunnel.enabled,
        };
        Some((name.as_str().to_owned(), twin))
    });
    let twins = ports.chain(tunnels).collect::<BTreeMap<_, _>>();
    let mut routes = BTreeMap::new();
    for (name, route) in &desired.routes {
        let name = name.as_str().to_owned();
        let device = route.interface.as_ref().or(route.tunnel.as_ref()).map(|name| name.as_str().to_owned());
        if let Some(device) = device.as_ref().filter(|device| !twins.contains_key(*device)) {
            let cause = format!("it leaves by {device}, which could not be built");
            compiled.problems.push(Problem { object: Object::Route(name), cause });
            continue;
        }
        if let Ok(destination) = IpNet::new(route.destination.addr(), route.destination.prefix_len()) {
            routes.insert(
                name,
                KernelRoute { destination, gateway: route.gateway, device, metric: route.metric },
            );
        }
    }
    KernelState { twins, routes }
}

fn addresses(addresses: &[InterfaceAddress]) -> Vec<IpNet> {
    addresses.iter().filter_map(|address| IpNet::new(address.addr(), address.prefix_len()).ok()).collect()
}
