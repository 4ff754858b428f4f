//! The DPDK ports that are open, by slot.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use dpdk::{Device, Eal, Port, RxQueue, Started, TxQueue};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};
use shm::records::PortRecord;
use shm::{PortState, PortStatus, name_bytes, name_text};

use crate::pools::Pools;

/// An open port.
#[derive(Debug)]
struct Open {
    device: Device,
    buffer_bytes: u16,
    /// Index of the interface behind it: one that was deleted and made again has another.
    interface_index: Option<u32>,
    port: Port<Started>,
    status: PortStatus,
}

/// What the worker needs of a port that was just opened.
#[derive(Debug)]
pub struct Opened {
    /// Receive queue.
    pub rx: RxQueue,
    /// Transmit queue.
    pub tx: TxQueue,
    /// Link-layer address.
    pub mac: [u8; 6],
}

/// The open ports.
#[derive(Debug)]
pub struct Ports {
    open: BTreeMap<u32, Open>,
    /// Devices probed so far; names within DPDK must not repeat, also when a removal failed.
    probed: u32,
    /// Any socket, to ask the kernel for the carrier of an interface.
    socket: OwnedFd,
}

impl Ports {
    /// None open.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> std::io::Result<Self> {
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        Ok(Self { open: BTreeMap::new(), probed: 0, socket })
    }

    /// Whether the port in `slot` is open and serves this record as it is: same device, buffers large enough.
    #[must_use]
    pub fn serves(&self, slot: u32, record: &PortRecord) -> bool {
        self.open.get(&slot).is_some_and(|open| {
            name_text(&record.device).parse::<Device>().is_ok_and(|device| {
                device == open.device && device.buffer_bytes(record.mtu_bytes) <= open.buffer_bytes
            })
        })
    }

    /// Whether a port is open in `slot`.
    #[must_use]
    pub fn is_open(&self, slot: u32) -> bool {
        self.open.contains_key(&slot)
    }

    /// The status of an open port.
    #[must_use]
    pub fn status(&self, slot: u32) -> Option<&PortStatus> {
        self.open.get(&slot).map(|open| &open.status)
    }

    /// The link-layer address of an open port.
    #[must_use]
    pub fn mac(&self, slot: u32) -> Option<[u8; 6]> {
        self.open.get(&slot).map(|open| open.status.mac)
    }

    /// Opens the device of a record in `slot`, which is free.
    ///
    /// # Errors
    /// What DPDK says of it.
    pub fn open(
        &mut self,
        eal: &Eal,
        pools: &mut Pools,
        slot: u32,
        record: &PortRecord,
    ) -> Result<Opened, dpdk::Error> {
        let device: Device = name_text(&record.device).parse()?;
        let buffer_bytes = device.buffer_bytes(record.mtu_bytes);
        let pool = pools.fitting(eal, buffer_bytes)?;
        let index = self.probed;
        self.probed += 1;
        let port = Port::probe(eal, &device, index, record.mtu_bytes)?;
        let (port, rx, tx) = match port.start(&pool) {
            Ok(started) => started,
            Err((port, error)) => {
                if let Err(error) = port.remove() {
                    tracing::warn!(%device, %error, "a device that did not start could not be removed");
                }
                return Err(error);
            }
        };
        // Interfaces keep the MTU that the operator gave them; a physical device takes it from here.
        if matches!(device, Device::Pci(_))
            && let Err(error) = port.set_mtu(u16::try_from(record.mtu_bytes).unwrap_or(u16::MAX))
        {
            tracing::warn!(%device, %error, "the device refused the MTU");
        }
        let mac = port.mac()?;
        let status = PortStatus {
            state: PortState::LinkDown as u8,
            reserved: 0,
            mac,
            speed_mbps: 0,
            max_mtu_bytes: Device::MTU_MAX_BYTES,
            detail: [0; 112],
        };
        tracing::info!(slot, %device, driver = port.driver(), "port open");
        let interface_index = device.netdev().and_then(|name| name_to_index(&self.socket, name).ok());
        self.open.insert(slot, Open { device, buffer_bytes, interface_index, port, status });
        Ok(Opened { rx, tx, mac })
    }

    /// Closes the port in `slot`, whose queues the worker gave back.
    pub fn close(&mut self, slot: u32, rx: RxQueue, tx: TxQueue) {
        let Some(open) = self.open.remove(&slot) else { return };
        let device = open.device;
        let removed = match open.port.stop(rx, tx) {
            Ok(port) => port.remove(),
            Err((.., error)) => Err(error),
        };
        match removed {
            Ok(()) => tracing::info!(slot, %device, "port closed"),
            Err(error) => tracing::warn!(slot, %device, %error, "port not closed cleanly"),
        }
    }

    /// Ports whose interface was deleted and made again since: their sockets belong to the one that is gone.
    #[must_use]
    pub fn stale(&self) -> Vec<u32> {
        let is_stale = |open: &Open| {
            let now = open.device.netdev().and_then(|name| name_to_index(&self.socket, name).ok());
            now.is_some() && now != open.interface_index
        };
        self.open.iter().filter(|(_, open)| is_stale(open)).map(|(slot, _)| *slot).collect()
    }

    /// Looks at the links and gives the ports whose status is another now.
    pub fn changed(&mut self, enabled: impl Fn(u32) -> bool) -> Vec<(u32, PortStatus)> {
        let mut changed = Vec::new();
        for (slot, open) in &mut self.open {
            // Packet sockets know nothing of the link: ask the interface behind them.
            let link_is_up = match open.device.netdev() {
                Some(interface) => crate::sys::interface_is_running(&self.socket, interface).unwrap_or(false),
                None => open.port.link_is_up(),
            };
            let state = match (enabled(*slot), link_is_up) {
                (false, _) => PortState::Disabled,
                (true, true) => PortState::Up,
                (true, false) => PortState::LinkDown,
            };
            if open.status.state != state as u8 {
                open.status.state = state as u8;
                changed.push((*slot, open.status));
            }
        }
        changed
    }
}

/// The status of a slot without a port.
#[must_use]
pub fn absent_status() -> PortStatus {
    PortStatus {
        state: PortState::Absent as u8,
        reserved: 0,
        mac: [0; 6],
        speed_mbps: 0,
        max_mtu_bytes: 0,
        detail: [0; 112],
    }
}

/// The status of a port that could not be opened.
#[must_use]
pub fn failed_status(error: &dpdk::Error) -> PortStatus {
    let mut detail = error.to_string();
    if !can_open_raw_sockets() {
        detail.push_str(" (the process lacks CAP_NET_RAW)");
    }
    PortStatus { state: PortState::Failed as u8, detail: name_bytes(&detail), ..absent_status() }
}

/// Packet sockets need this capability; DPDK only says that it could not open the device.
fn can_open_raw_sockets() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::NET_RAW))
}
