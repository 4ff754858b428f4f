//! The wire side of a port that DPDK drives through a Linux netdev (`af_packet`, `af_xdp`).
//!
//! The netdev has the MAC address of its twin, so without these settings the kernel answers twice: once for the
//! twin, once for the wire, whatever addresses it has. IPv6 and ARP go off, addresses go away, GRO and LRO go off,
//! and nftables drops at ingress what the dataplane has already seen. Nothing is ever dropped at egress: frames that
//! the dataplane sends pass there.
//!
//! A file in the run directory names the wires in this state, so that a later control plane takes it back from those
//! that are no longer used.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::device;
use crate::netlink::{Kernel, LinkChange};
use crate::sysctl;

/// A wire as it is desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireSpec {
    /// Name of the netdev.
    pub device: String,
    /// Name of the interface that it carries; also of its TAP twin.
    pub interface: String,
    /// MTU in bytes.
    pub mtu_bytes: u32,
}

/// Why a wire is not as desired.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// There is no such netdev.
    #[error("there is no network device {0}")]
    Absent(String),
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
    /// A kernel parameter could not be set.
    #[error(transparent)]
    Sysctl(#[from] sysctl::SysctlError),
    /// nftables refused the drop at ingress.
    #[error("nftables refused the ingress drop: {0}")]
    Nft(String),
}

/// The wires in the state described above.
pub struct Wires {
    /// Device by name, with its index: a device that was made anew needs everything again.
    prepared: BTreeMap<String, u32>,
    /// What a former control plane left prepared.
    inherited: BTreeSet<String>,
    record: PathBuf,
}

impl Wires {
    /// Reads which wires a former control plane prepared.
    #[must_use]
    pub fn recover(record: PathBuf) -> Self {
        let inherited = std::fs::read_to_string(&record).unwrap_or_default();
        Self {
            prepared: BTreeMap::new(),
            inherited: inherited.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect(),
            record,
        }
    }

    /// Prepares the desired wires and releases the others. Returns the MAC address of each wire that is there, by the
    /// name of its interface, and what failed.
    pub fn apply(
        &mut self,
        kernel: &mut Kernel,
        specs: &[WireSpec],
    ) -> (BTreeMap<String, [u8; 6]>, BTreeMap<String, WireError>) {
        let (mut macs, mut failed) = (BTreeMap::new(), BTreeMap::new());
        self.release_others(kernel, specs);
        for spec in specs {
            match self.prepare(kernel, spec) {
                Ok(mac) => macs.extend(mac.map(|mac| (spec.interface.clone(), mac))),
                Err(error) => {
                    failed.insert(spec.interface.clone(), error);
                }
            }
        }
        self.remember();
        (macs, failed)
    }

    fn prepare(&mut self, kernel: &mut Kernel, spec: &WireSpec) -> Result<Option<[u8; 6]>, WireError> {
        let refused = |what| {
            let device = spec.device.clone();
            move |source| WireError::Kernel { what, device, source }
        };
        let link = kernel.link(&spec.device).map_err(refused("reading"))?;
        let Some(link) = link else {
            self.prepared.remove(&spec.device);
            return Err(WireError::Absent(spec.device.clone()));
        };
        if self.prepared.get(&spec.device) != Some(&link.index) {
            sysctl::set_ipv6(&spec.device, false)?;
            let quiet = LinkChange {
                arp: Some(false),
                all_multicast: Some(true),
                link_local: Some(false),
                ..LinkChange::default()
            };
            kernel.change_link(link.index, &quiet).map_err(refused("being quiet"))?;
            drop_at_ingress(&spec.device)?;
            device::stop_merging(kernel.namespace(), &spec.device).map_err(refused("unmerged packets"))?;
            self.prepared.insert(spec.device.clone(), link.index);
        }
        let addresses = kernel.addresses().map_err(refused("reading its addresses"))?;
        for known in addresses.iter().filter(|known| known.link == link.index) {
            kernel.delete_address(link.index, known.address).map_err(refused("having no address"))?;
        }
        if link.mtu_bytes != spec.mtu_bytes {
            let mtu = LinkChange { mtu_bytes: Some(spec.mtu_bytes), ..LinkChange::default() };
            kernel.change_link(link.index, &mtu).map_err(refused("its MTU"))?;
        }
        if !link.is_up() {
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            kernel.change_link(link.index, &up).map_err(refused("being switched up"))?;
        }
        Ok(link.mac.try_into().ok())
    }

    fn release_others(&mut self, kernel: &mut Kernel, specs: &[WireSpec]) {
        let desired: BTreeSet<&str> = specs.iter().map(|spec| spec.device.as_str()).collect();
        let known: BTreeSet<String> = self.prepared.keys().chain(&self.inherited).cloned().collect();
        for device in known.into_iter().filter(|device| !desired.contains(device.as_str())) {
            if let Err(error) = release(kernel, &device) {
                tracing::warn!(%error, device, "a wire could not be given back to Linux");
            }
            self.prepared.remove(&device);
            self.inherited.remove(&device);
        }
    }

    /// Writes down what is prepared. Loss of the file costs an operator a command at worst.
    fn remember(&self) {
        let text: String = self.prepared.keys().map(|device| format!("{device}\n")).collect();
        if std::fs::read_to_string(&self.record).is_ok_and(|known| known == text) {
            return;
        }
        if let Err(error) = std::fs::write(&self.record, text) {
            tracing::warn!(%error, path = %self.record.display(), "the list of wires could not be written");
        }
    }
}

/// Gives a wire back to Linux: as a new device would be, without addresses.
fn release(kernel: &mut Kernel, device: &str) -> Result<(), WireError> {
    let refused = |source| WireError::Kernel { what: "being as before", device: device.to_owned(), source };
    nft(&format!(
        "add table netdev {TABLE}\nadd chain netdev {TABLE} {0}\nflush chain netdev {TABLE} {0}\n\
         delete chain netdev {TABLE} {0}\n",
        chain(device)
    ))?;
    if let Some(link) = kernel.link(device).map_err(refused)? {
        let loud = LinkChange {
            arp: Some(true),
            all_multicast: Some(false),
            link_local: Some(true),
            ..LinkChange::default()
        };
        kernel.change_link(link.index, &loud).map_err(refused)?;
        sysctl::set_ipv6(device, true)?;
    }
    Ok(())
}

/// Drops at ingress what reaches the kernel's stack on this device, in one transaction.
fn drop_at_ingress(device: &str) -> Result<(), WireError> {
    let chain = chain(device);
    nft(&format!(
        "add table netdev {TABLE}\n\
         add chain netdev {TABLE} {chain} {{ type filter hook ingress device \"{device}\" priority -500; policy accept; }}\n\
         flush chain netdev {TABLE} {chain}\n\
         add rule netdev {TABLE} {chain} counter drop\n"
    ))
}

fn nft(script: &str) -> Result<(), WireError> {
    let failed = |error: io::Error| WireError::Nft(format!("nft cannot be run ({error})"));
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(WireError::Nft(text.lines().next().unwrap_or("no reason given").to_owned()))
}

/// A chain name for a device: nft takes letters, digits, `/`, `\`, `_` and `.`.
fn chain(device: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("_{:x}", c as u32) };
    format!("wire_{}", device.chars().map(safe).collect::<String>())
}

const TABLE: &str = "culvert";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_different_devices_differ_and_are_plain_words() {
        let names = ["eth0", "eth0.5", "eth0-5", "eth0_5", "eth0_2d5", "x y", "a\"b"];
        let chains: BTreeSet<String> = names.iter().map(|name| chain(name)).collect();
        assert_eq!(chains.len(), names.len());
        assert!(chains.iter().all(|chain| chain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')));
    }
}
