//! Twins: the TAP of each port and the TUN of each tunnel, in which Linux sees what the dataplane has.
//!
//! ```text
//!   nobody holds it ──TUNSETIFF──► held here ──SCM_RIGHTS──► held here and by the dataplane
//!          ▲                          ▲                              │ control plane killed
//!          │ both gone                └──────────── Hello ◄──────────┘ (EBUSY until it says hello)
//! ```
//!
//! A twin's alias (`culvert port`, `culvert tunnel`) marks it as ours, for operators and for a later control plane:
//! a marked device that is no longer desired is deleted, whoever made it.

#[expect(unsafe_code, reason = "the ioctls of TUN/TAP devices and of ethtool have no safe wrapper")]
pub mod device;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ipnet::IpNet;
use shm::socket_messages::{TwinKind, TwinLabel};

use crate::netlink::{Kernel, LinkAddress, LinkChange, OUR_PROTOCOL, differences};
use crate::server::DataplaneLink;
use crate::sysctl;
use device::DeviceError;
pub use wire::{WireSpec, Wires};

/// A twin as it is desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinSpec {
    /// Of a port or of a tunnel.
    pub kind: TwinKind,
    /// Slot of the port or the tunnel.
    pub slot: u32,
    /// Name of the device.
    pub name: String,
    /// MTU in bytes.
    pub mtu_bytes: u32,
    /// Addresses.
    pub addresses: Vec<IpNet>,
    /// Link-layer address: that of the wire. `None` leaves the kernel's choice.
    pub mac: Option<[u8; 6]>,
    /// Administratively up.
    pub up: bool,
}

impl TwinSpec {
    fn label(&self) -> TwinLabel {
        TwinLabel::new(self.kind, self.slot, &self.name)
    }
}

/// Why a twin is not as desired.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    /// The device could not be had.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The kernel refused a setting.
    #[error("the kernel refused {what} on {device}")]
    Kernel {
        /// What was set.
        what: &'static str,
        /// On which device.
        device: String,
        /// Why.
        source: io::Error,
    },
}

struct Held {
    label: TwinLabel,
    fd: OwnedFd,
    carrier: bool,
}

/// The twins held by this process.
#[derive(Default)]
pub struct Twins {
    held: BTreeMap<String, Held>,
    dataplane: Option<DataplaneLink>,
}

impl Twins {
    /// Makes the kernel's devices as desired, and hands new ones to the dataplane. Returns what could not be done, by
    /// the name of the twin; all others are done.
    pub fn apply(&mut self, kernel: &mut Kernel, specs: &[TwinSpec]) -> BTreeMap<String, TwinError> {
        let mut failed = BTreeMap::new();
        self.let_go(specs);
        let addresses = kernel.addresses().unwrap_or_default();
        for spec in specs {
            let done = self.hold(kernel, spec).and_then(|()| configure(kernel, spec, &addresses));
            if let Err(error) = done {
                failed.insert(spec.name.clone(), error);
            }
        }
        failed
    }

    /// Devices marked as ours that are not desired, for [`delete`] to remove.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn leftovers(kernel: &mut Kernel, specs: &[TwinSpec]) -> io::Result<Vec<String>> {
        let desired: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let marks = [alias(TwinKind::Tap), alias(TwinKind::Tun)];
        let links = kernel.links()?;
        Ok(links
            .into_iter()
            .filter(|link| link.alias.as_deref().is_some_and(|alias| marks.contains(&alias)))
            .filter(|link| !desired.contains(link.name.as_str()))
            .map(|link| link.name)
            .collect())
    }

    /// A dataplane connected with the twins that it holds: what is desired and not held here is taken from it, then
    /// it is given all that it lacks and told what is gone.
    pub fn connected(&mut self, link: DataplaneLink, offered: Vec<(TwinLabel, OwnedFd)>, specs: &[TwinSpec]) {
        let mut has = BTreeSet::new();
        for (label, fd) in offered {
            let spec = specs.iter().find(|spec| spec.label() == label);
            let genuine = device::identify(fd.as_fd())
                .is_ok_and(|(kind, name)| kind == label.kind && name == label.name());
            match (spec, self.held.get(label.name())) {
                (Some(_), None) if genuine => {
                    tracing::info!(twin = label.name(), "the dataplane gave a twin back");
                    self.held.insert(label.name().to_owned(), Held { label, fd, carrier: true });
                    has.insert(label);
                }
                (Some(_), Some(_)) if genuine => {
                    has.insert(label);
                }
                _ => link.send_gone(&label),
            }
        }
        for held in self.held.values().filter(|held| !has.contains(&held.label)) {
            give(&link, held);
        }
        self.dataplane = Some(link);
    }

    /// The dataplane went away.
    pub fn disconnected(&mut self) {
        self.dataplane = None;
    }

    /// Switches the carrier of a twin.
    pub fn set_carrier(&mut self, name: &str, on: bool) {
        let Some(held) = self.held.get_mut(name) else {
            return;
        };
        if held.carrier == on {
            return;
        }
        match device::set_carrier(held.fd.as_fd(), on) {
            Ok(()) => held.carrier = on,
            Err(error) => tracing::warn!(%error, twin = name, on, "the carrier could not be switched"),
        }
    }

    /// Whether this process holds the twin.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.held.contains_key(name)
    }

    /// Drops twins that are not desired, or desired as something else.
    fn let_go(&mut self, specs: &[TwinSpec]) {
        let dataplane = &self.dataplane;
        self.held.retain(|name, held| {
            let wanted = specs.iter().any(|spec| spec.name == *name && spec.label() == held.label);
            // Somebody may have deleted the device: the descriptor is then of no use.
            let keep = wanted && device::identify(held.fd.as_fd()).is_ok();
            if !keep && let Some(dataplane) = dataplane {
                dataplane.send_gone(&held.label);
            }
            keep
        });
    }

    fn hold(&mut self, kernel: &mut Kernel, spec: &TwinSpec) -> Result<(), TwinError> {
        if self.held.contains_key(&spec.name) {
            return Ok(());
        }
        let fd = match device::open(spec.kind, &spec.name) {
            Err(DeviceError::Foreign(name, kind)) => {
                replace_other_kind(kernel, &name).map_err(|_| DeviceError::Foreign(name.clone(), kind))?;
                device::open(spec.kind, &spec.name)?
            }
            other => other?,
        };
        let held = Held { label: spec.label(), fd, carrier: true };
        // Carrier is sticky: a former control plane may have switched it off.
        if let Err(error) = device::set_carrier(held.fd.as_fd(), true) {
            tracing::warn!(%error, twin = spec.name, "the carrier could not be switched on");
        }
        if let Some(dataplane) = &self.dataplane {
            give(dataplane, &held);
        }
        self.held.insert(spec.name.clone(), held);
        Ok(())
    }
}

/// Deletes twins by name, on a netlink socket of its own: the kernel takes some 16 ms for each.
///
/// # Errors
/// What the kernel answered.
pub fn delete(names: &[String]) -> io::Result<()> {
    let mut kernel = Kernel::open()?;
    for name in names {
        if let Some(link) = kernel.link(name)? {
            kernel.delete_link(link.index)?;
        }
    }
    Ok(())
}

fn give(dataplane: &DataplaneLink, held: &Held) {
    match held.fd.try_clone() {
        Ok(fd) => dataplane.send_twin(held.label, fd),
        Err(error) => {
            tracing::warn!(%error, twin = held.label.name(), "a twin could not be handed to the dataplane");
        }
    }
}

/// A twin of the other kind under a name that changed its meaning is ours to delete; any other device is not.
fn replace_other_kind(kernel: &mut Kernel, name: &str) -> io::Result<()> {
    let marks = [alias(TwinKind::Tap), alias(TwinKind::Tun)];
    match kernel.link(name)? {
        Some(link) if link.alias.as_deref().is_some_and(|alias| marks.contains(&alias)) => {
            kernel.delete_link(link.index)
        }
        _ => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

fn configure(kernel: &mut Kernel, spec: &TwinSpec, known: &[LinkAddress]) -> Result<(), TwinError> {
    let refused = |what| {
        let device = spec.name.clone();
        move |source| TwinError::Kernel { what, device, source }
    };
    let link = kernel
        .link(&spec.name)
        .and_then(|link| link.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(refused("reading"))?;
    let mut change = LinkChange::default();
    if link.mtu_bytes != spec.mtu_bytes {
        change.mtu_bytes = Some(spec.mtu_bytes);
    }
    if let Some(mac) = spec.mac.filter(|mac| link.mac != mac) {
        change.mac = Some(mac);
    }
    if link.alias.as_deref() != Some(alias(spec.kind)) {
        change.alias = Some(alias(spec.kind).to_owned());
        sysctl::log(&sysctl::prepare_twin(&spec.name));
    }
    // MAC and MTU first: a device that is up announces itself with what it has.
    if change != LinkChange::default() {
        kernel.change_link(link.index, &change).map_err(refused("its MTU, address or alias"))?;
    }
    configure_addresses(kernel, link.index, spec, known).map_err(refused("an address"))?;
    if link.is_up() != spec.up {
        let up = LinkChange { up: Some(spec.up), ..LinkChange::default() };
        kernel.change_link(link.index, &up).map_err(refused("being switched up or down"))?;
    }
    Ok(())
}

/// Adds what is desired and missing; removes what is ours and not desired. What others put there stays.
fn configure_addresses(
    kernel: &mut Kernel,
    link: u32,
    spec: &TwinSpec,
    known: &[LinkAddress],
) -> io::Result<()> {
    let desired: BTreeSet<IpNet> = spec.addresses.iter().copied().collect();
    let here = known.iter().filter(|known| known.link == link);
    let all: BTreeSet<IpNet> = here.clone().map(|known| known.address).collect();
    let ours = here.filter(|known| known.protocol == OUR_PROTOCOL).map(|known| known.address).collect();
    let (_, gone) = differences(&desired, &ours);
    for address in gone {
        kernel.delete_address(link, address)?;
    }
    for address in spec.addresses.iter().filter(|address| !all.contains(address)) {
        kernel.add_address(link, *address)?;
    }
    Ok(())
}

const fn alias(kind: TwinKind) -> &'static str {
    match kind {
        TwinKind::Tap => "culvert port",
        TwinKind::Tun => "culvert tunnel",
    }
}
