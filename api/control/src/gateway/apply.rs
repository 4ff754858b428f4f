//! From desired state to what runs: compile, wires and twins, the mirror, tables, static routes, connections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use model::Desired;
use shm::name_text;
use shm::socket_messages::TwinKind;

use super::Gateway;
use crate::compile::{Compiled, compile};
use crate::netlink::{Attachment, Changes, Family, StaticRoute, differences, ours};
use crate::source::SourceError;
use crate::twins::{self, TwinSpec, Twins, WireSpec};

/// What the views need of the desired state and the compiled one does not have.
#[derive(Default)]
pub(super) struct Names {
    /// Whether each tunnel is enabled.
    pub(super) tunnels: BTreeMap<String, bool>,
    /// The crypto map of each interface that has one.
    pub(super) crypto_maps: BTreeMap<String, String>,
}

/// What went wrong when it was last tried, as sentences, by object.
#[derive(Default)]
pub(super) struct Complaints {
    pub(super) source: Option<String>,
    pub(super) wires: BTreeMap<String, String>,
    pub(super) twins: BTreeMap<String, String>,
    pub(super) routes: BTreeMap<String, String>,
    pub(super) mirror: Option<String>,
}

impl Gateway {
    /// Takes in what was read of the desired state.
    pub(super) fn on_loaded(&mut self, loaded: Result<Desired, SourceError>) {
        match loaded {
            Ok(desired) => {
                self.complaints.source = None;
                self.apply(&desired);
            }
            Err(error) => {
                tracing::error!(%error, "the desired state cannot be read; what runs goes on");
                self.complaints.source = Some(format!("the desired state cannot be read: {error}"));
            }
        }
        self.survey_soon();
    }

    fn apply(&mut self, desired: &Desired) {
        let fresh = self.compiled.as_ref().is_none_or(|compiled| compiled.generation != desired.generation);
        if fresh {
            tracing::info!(generation = desired.generation, "applying the desired state");
            let compiled = Arc::new(compile(desired));
            self.names = Names {
                tunnels: desired
                    .tunnels
                    .iter()
                    .map(|(name, tunnel)| (name.as_str().to_owned(), tunnel.enabled))
                    .collect(),
                crypto_maps: desired
                    .interfaces
                    .iter()
                    .filter_map(|(name, interface)| {
                        let map = interface.crypto_map.as_ref()?;
                        Some((name.as_str().to_owned(), map.as_str().to_owned()))
                    })
                    .collect(),
            };
            self.causes.retain(|child, _| compiled.children.contains_key(child));
            self.executor.set_compiled(Arc::clone(&compiled));
            self.compiled = Some(compiled);
        }
        // Until the plan below nothing is written one by one: a route may lead to a tunnel that has no record yet.
        self.synchronised = false;
        self.apply_devices();
        self.apply_routes();
        let now = Instant::now();
        self.settle(now);
        if fresh {
            self.negotiating = false;
        }
        self.connect(now);
    }

    /// Hands the connections to the engine, once there is a dataplane: without one nothing could leave.
    pub(super) fn connect(&mut self, now: Instant) {
        if self.negotiating || !self.dataplane.is_alive() {
            return;
        }
        let Some(compiled) = self.compiled.clone() else {
            return;
        };
        self.negotiating = true;
        let resumables = self.resumables(&compiled, now);
        self.driver.set_connections(now, &compiled.connections, resumables);
        self.negotiate();
    }

    /// Wires, then twins, which take the wires' MAC addresses.
    pub(super) fn apply_devices(&mut self) {
        let Some(compiled) = self.compiled.clone() else {
            return;
        };
        let (macs, failed) = self.wires.apply(&mut self.kernel, &wires(&compiled));
        replace(&mut self.complaints.wires, failed);
        self.specs = self.twin_specs(&compiled, &macs);
        if let Some((link, offered)) = self.greeted.take() {
            self.twins.connected(link, offered, &self.specs);
        }
        let failed = self.twins.apply(&mut self.kernel, &self.specs);
        replace(&mut self.complaints.twins, failed);
        match Twins::leftovers(&mut self.kernel, &self.specs) {
            Ok(leftovers) if !leftovers.is_empty() => delete_in_background(leftovers),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "network devices cannot be listed"),
        }
        let attachments = self
            .specs
            .iter()
            .map(|spec| {
                let attachment = match spec.kind {
                    TwinKind::Tap => Attachment::Port(spec.slot),
                    TwinKind::Tun => Attachment::Tunnel(spec.slot),
                };
                (spec.name.clone(), attachment)
            })
            .collect();
        let changes = self.mirror.set_twins(attachments);
        self.write_changes(changes);
    }

    fn twin_specs(&self, compiled: &Compiled, macs: &BTreeMap<String, [u8; 6]>) -> Vec<TwinSpec> {
        let slots = self.executor.slots();
        let spec = |(name, twin): (&String, &crate::compile::Twin)| {
            let slot = match twin.kind {
                TwinKind::Tap => slots.ports.slot(name),
                TwinKind::Tun => slots.tunnels.slot(name),
            }?;
            let mac = match twin.kind {
                TwinKind::Tap => macs.get(name).copied().or_else(|| self.mac_of_port(slot)),
                TwinKind::Tun => None,
            };
            let tunnel = compiled.tunnel(name, self.executor.is_natted(name));
            let mtu_bytes = match twin.kind {
                TwinKind::Tun => tunnel.map_or(twin.mtu_bytes, |tunnel| tunnel.mtu_bytes),
                TwinKind::Tap => twin.mtu_bytes,
            };
            Some(TwinSpec {
                kind: twin.kind,
                slot,
                name: name.clone(),
                mtu_bytes,
                addresses: twin.addresses.clone(),
                mac,
                up: twin.enabled,
            })
        };
        compiled.kernel.twins.iter().filter_map(spec).collect()
    }

    /// The MAC address that the dataplane found at a device which Linux does not see.
    fn mac_of_port(&self, slot: u32) -> Option<[u8; 6]> {
        self.region.port_status(slot).map(|status| status.mac).filter(|mac| *mac != [0; 6])
    }

    /// Static routes: what is ours and not desired goes, what is desired and missing comes.
    fn apply_routes(&mut self) {
        let Some(compiled) = self.compiled.clone() else {
            return;
        };
        let mut failed = BTreeMap::new();
        let mut names: BTreeMap<StaticRoute, &String> = BTreeMap::new();
        for (name, route) in &compiled.kernel.routes {
            let link = match route.device.as_ref().map(|device| (device, self.mirror.link(device))) {
                Some((device, None)) => {
                    failed.insert(name.clone(), format!("there is no device {device}"));
                    continue;
                }
                Some((_, Some(link))) => Some(link.index),
                None => None,
            };
            let route = StaticRoute {
                prefix: route.destination.trunc(),
                metric: route.metric,
                gateway: route.gateway,
                link,
            };
            names.insert(route, name);
        }
        let desired: BTreeSet<StaticRoute> = names.keys().cloned().collect();
        for family in Family::ALL {
            let found = match self.kernel.routes(family) {
                Ok(routes) => ours(&routes, &desired),
                Err(error) => {
                    tracing::warn!(%error, ?family, "routes cannot be listed");
                    continue;
                }
            };
            let mut wanted = desired.clone();
            wanted.retain(|route| Family::of(route.prefix.addr()) == family);
            let (missing, surplus) = differences(&wanted, &found);
            for route in surplus {
                if let Err(error) = self.kernel.delete_route(&route) {
                    tracing::warn!(%error, prefix = %route.prefix, "a static route cannot be removed");
                }
            }
            for route in missing {
                if let Err(error) = self.kernel.add_route(&route) {
                    let name = names.get(&route).map_or_else(String::new, |name| (*name).clone());
                    failed.insert(name, format!("{} cannot be added: {error}", route.prefix));
                }
            }
        }
        for (route, cause) in failed.iter().filter(|(route, _)| !self.complaints.routes.contains_key(*route))
        {
            tracing::warn!(route, cause, "a static route is not in force");
        }
        self.complaints.routes = failed;
    }

    /// Reads anew what is stale of the kernel.
    pub(super) fn settle(&mut self, now: Instant) {
        self.settle_at = None;
        let (changes, result) = self.mirror.settle(&mut self.kernel);
        self.complaints.mirror =
            result.err().map(|error| format!("routes and neighbours cannot be read: {error}"));
        if self.complaints.mirror.is_some() {
            self.settle_at = Some(now + std::time::Duration::from_secs(1));
        }
        if !self.synchronised && self.complaints.mirror.is_none() && self.compiled.is_some() {
            self.synchronised = true;
            self.synchronise(now);
        } else {
            self.write_changes(changes);
        }
        if self.mirror.have_devices_moved() {
            // A wire that came back wants its settings, a twin that somebody deleted is made again.
            self.apply_devices();
        }
        if !self.complaints.routes.is_empty() {
            // A link that came up may let in what was refused before.
            self.apply_routes();
        }
    }

    /// Plans and writes everything.
    fn synchronise(&mut self, now: Instant) {
        self.executor.set_mirrored(self.mirror.image().clone());
        let progress = self.executor.sync(now);
        self.absorb(progress);
        self.survey_soon();
    }

    /// Writes what the mirror says. Before the first plan nothing is written: the region holds what a former control
    /// plane left, and that is in use.
    pub(super) fn write_changes(&mut self, changes: Changes) {
        const ONE_BY_ONE: usize = 256;
        if !self.synchronised || (changes.routes.is_empty() && changes.neighbours.is_empty()) {
            return;
        }
        self.survey_soon();
        let now = Instant::now();
        if changes.routes.len() + changes.neighbours.len() > ONE_BY_ONE {
            self.synchronise(now);
            return;
        }
        // A neighbour before the route that leads to it.
        for (key, record) in changes.neighbours {
            let progress = self.executor.set_neighbour(key, record, now);
            self.absorb(progress);
        }
        for (prefix, record) in changes.routes {
            let progress = self.executor.set_route(prefix, record, now);
            self.absorb(progress);
        }
    }
}

/// The wires of ports that DPDK drives through a Linux netdev.
fn wires(compiled: &Compiled) -> Vec<WireSpec> {
    compiled
        .ports
        .iter()
        .filter_map(|(name, port)| {
            let device = name_text(&port.device);
            let netdev = ["af_packet:", "af_xdp:"].iter().find_map(|driver| device.strip_prefix(driver))?;
            Some(WireSpec { device: netdev.to_owned(), interface: name.clone(), mtu_bytes: port.mtu_bytes })
        })
        .collect()
}

/// Takes in what failed, and logs what did not fail before.
fn replace<E: std::error::Error>(known: &mut BTreeMap<String, String>, failed: BTreeMap<String, E>) {
    let sentences: BTreeMap<String, String> =
        failed.into_iter().map(|(name, error)| (name, chain(&error))).collect();
    for (device, cause) in sentences.iter().filter(|(name, cause)| known.get(*name) != Some(cause)) {
        tracing::warn!(device, cause, "a network device is not as desired");
    }
    *known = sentences;
}

/// An error with its causes, as one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn delete_in_background(names: Vec<String>) {
    tokio::task::spawn_blocking(move || {
        tracing::info!(?names, "deleting twins that are no longer desired");
        if let Err(error) = twins::delete(&names) {
            tracing::warn!(%error, "twins could not be deleted");
        }
    });
}
