//! Ports: probe a device, start it, stop it, remove it.

use std::ffi::CString;
use std::marker::PhantomData;

use crate::device::Device;
use crate::eal::Eal;
use crate::error::{Error, check};
use crate::pool::Pool;
use crate::queue::{RxQueue, TxQueue};

/// Descriptors that a queue asks for; the driver rounds it to what it can.
const DESCRIPTORS: u16 = 1024;

/// The device is there and passes no packets: it can be started or removed.
#[derive(Debug)]
pub struct Stopped;

/// The device passes packets through the queues that [`Port::start`] gave out.
#[derive(Debug)]
pub struct Started;

/// A DPDK port.
///
/// ```text
///             start()                   probe
///   Started <--------- Stopped <---------------- Device
///      |                 ^  |
///      +-----------------+  +---> remove()
///        stop(rx, tx)
/// ```
///
/// Only a started port has queues, and stopping needs them back, so that nobody can poll a stopped port:
///
/// ```compile_fail,E0382
/// # let eal = dpdk::Eal::start("test", &dpdk::EalOptions::default()).unwrap();
/// # let pool = dpdk::Pool::new(&eal, "pool", 1023, 2048).unwrap();
/// let port = dpdk::Port::probe(&eal, &"vdev:net_null0".parse().unwrap(), 0, 1500).unwrap();
/// let (port, mut rx, tx) = port.start(&pool).unwrap();
/// let port = port.stop(rx, tx);
/// rx.receive(&mut dpdk::Burst::new()); // the queue went back to the port
/// ```
///
/// ```compile_fail,E0599
/// # let eal = dpdk::Eal::start("test", &dpdk::EalOptions::default()).unwrap();
/// # let pool = dpdk::Pool::new(&eal, "pool", 1023, 2048).unwrap();
/// let port = dpdk::Port::probe(&eal, &"vdev:net_null0".parse().unwrap(), 0, 1500).unwrap();
/// let (port, rx, tx) = port.start(&pool).unwrap();
/// port.remove(); // it still runs
/// ```
#[derive(Debug)]
pub struct Port<State> {
    id: u16,
    device: *mut dpdk_sys::rte_device,
    _state: PhantomData<State>,
}

// SAFETY: the pointer is a handle into DPDK's device list, which outlives the port and is only used through
// `rte_dev_remove`, which takes DPDK's own locks.
unsafe impl<State> Send for Port<State> {}

impl Port<Stopped> {
    /// Probes `device`, as the `index`-th of its driver in this process, for packets of `mtu_bytes`.
    ///
    /// # Errors
    /// What DPDK's probing says: missing privilege, missing interface, wrong arguments.
    pub fn probe(_eal: &Eal, device: &Device, index: u32, mtu_bytes: u32) -> Result<Self, Error> {
        let arguments = CString::new(device.arguments(index, mtu_bytes))?;
        let name = CString::new(device.name(index))?;
        // SAFETY: the string is NUL-terminated and copied by the call; the EAL runs.
        check("rte_dev_probe", unsafe { dpdk_sys::rte_dev_probe(arguments.as_ptr()) })?;
        let mut id = 0;
        // SAFETY: both pointers are valid for the call.
        check("rte_eth_dev_get_port_by_name", unsafe {
            dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id)
        })?;
        let info = device_info(id)?;
        let port = Self { id, device: info.device, _state: PhantomData };
        Ok(port)
    }

    /// Starts the port with one receive and one transmit queue, receiving into buffers of `pool`.
    ///
    /// Every multicast and every unicast frame is received: the MAC addresses that matter are those of the TAP
    /// twin, and the forwarding code checks them. A device that cannot do so (a ring, say) is taken as it is.
    ///
    /// # Errors
    /// What DPDK says of the configuration; the stopped port comes back with it, to be removed.
    pub fn start(self, pool: &Pool) -> Result<(Port<Started>, RxQueue, TxQueue), (Self, Error)> {
        match self.configure_and_start(pool) {
            Ok(()) => Ok((
                Port { id: self.id, device: self.device, _state: PhantomData },
                RxQueue::new(self.id),
                TxQueue::new(self.id),
            )),
            Err(error) => Err((self, error)),
        }
    }

    fn configure_and_start(&self, pool: &Pool) -> Result<(), Error> {
        let configuration = dpdk_sys::rte_eth_conf::default();
        // SAFETY: the port exists (probed, not removed) and is stopped by its type, the pool lives for ever, and
        // NULL asks for the driver's default queue configuration.
        unsafe {
            check(
                "rte_eth_dev_configure",
                dpdk_sys::rte_eth_dev_configure(self.id, 1, 1, &raw const configuration),
            )?;
            let socket = u32::try_from(dpdk_sys::rte_eth_dev_socket_id(self.id)).unwrap_or(0);
            check(
                "rte_eth_rx_queue_setup",
                dpdk_sys::rte_eth_rx_queue_setup(
                    self.id,
                    0,
                    DESCRIPTORS,
                    socket,
                    std::ptr::null(),
                    pool.as_ptr(),
                ),
            )?;
            check(
                "rte_eth_tx_queue_setup",
                dpdk_sys::rte_eth_tx_queue_setup(self.id, 0, DESCRIPTORS, socket, std::ptr::null()),
            )?;
            check("rte_eth_dev_start", dpdk_sys::rte_eth_dev_start(self.id))?;
            dpdk_sys::rte_eth_promiscuous_enable(self.id);
            dpdk_sys::rte_eth_allmulticast_enable(self.id);
        }
        Ok(())
    }

    /// Closes the port and gives the device back to the system.
    ///
    /// # Errors
    /// What DPDK says; the device is then left closed.
    pub fn remove(self) -> Result<(), Error> {
        // SAFETY: the port is stopped by its type and `device` is the one it was made from.
        unsafe {
            let closed = dpdk_sys::rte_eth_dev_close(self.id);
            let removed = dpdk_sys::rte_dev_remove(self.device);
            check("rte_eth_dev_close", closed)?;
            check("rte_dev_remove", removed)
        }
    }
}

impl Port<Started> {
    /// Stops the port. Its queues come back, so nobody polls it any more.
    ///
    /// # Errors
    /// [`Error::ForeignQueue`] with everything handed back when a queue belongs to another port.
    pub fn stop(self, rx: RxQueue, tx: TxQueue) -> Result<Port<Stopped>, (Self, RxQueue, TxQueue, Error)> {
        for queue_port in [rx.port_id(), tx.port_id()] {
            if queue_port != self.id {
                let error = Error::ForeignQueue { port: self.id, queue_port };
                return Err((self, rx, tx, error));
            }
        }
        // A driver that cannot stop leaves the port running with no one polling it, which does no harm.
        // SAFETY: the port exists, and the queues, the only way to poll it, are owned by this call.
        unsafe { dpdk_sys::rte_eth_dev_stop(self.id) };
        Ok(Port { id: self.id, device: self.device, _state: PhantomData })
    }
}

impl<State> Port<State> {
    /// DPDK's number for the port.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The MAC address of the device.
    ///
    /// # Errors
    /// What DPDK says when the device is gone.
    pub fn mac(&self) -> Result<[u8; 6], Error> {
        let mut address = dpdk_sys::rte_ether_addr::default();
        // SAFETY: `address` is valid for the call.
        check("rte_eth_macaddr_get", unsafe { dpdk_sys::rte_eth_macaddr_get(self.id, &raw mut address) })?;
        Ok(address.addr_bytes)
    }

    /// Whether the driver reports the link as up.
    #[must_use]
    pub fn link_is_up(&self) -> bool {
        let mut link = dpdk_sys::rte_eth_link::default();
        // SAFETY: `link` is valid for the call.
        let code = unsafe { dpdk_sys::rte_eth_link_get_nowait(self.id, &raw mut link) };
        code == 0 && u32::from(link.link_status()) == dpdk_sys::RTE_ETH_LINK_UP
    }

    /// Asks the driver for an MTU. Virtual drivers mostly refuse: there the interface's own MTU counts.
    ///
    /// # Errors
    /// What the driver says.
    pub fn set_mtu(&self, mtu_bytes: u16) -> Result<(), Error> {
        // SAFETY: a call with plain values on an existing port.
        check("rte_eth_dev_set_mtu", unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.id, mtu_bytes) })
    }

    /// Packets that the driver received, sent, and failed to send or receive.
    ///
    /// # Errors
    /// What the driver says when it keeps no statistics.
    pub fn statistics(&self) -> Result<PortStatistics, Error> {
        let mut raw = dpdk_sys::rte_eth_stats::default();
        // SAFETY: `raw` is valid for the call.
        check("rte_eth_stats_get", unsafe { dpdk_sys::rte_eth_stats_get(self.id, &raw mut raw) })?;
        Ok(PortStatistics {
            rx_packets: raw.ipackets,
            tx_packets: raw.opackets,
            rx_missed: raw.imissed + raw.rx_nombuf,
            rx_errors: raw.ierrors,
            tx_errors: raw.oerrors,
        })
    }

    /// Name of the driver, `net_af_packet` for example.
    #[must_use]
    pub fn driver(&self) -> String {
        let Ok(info) = device_info(self.id) else { return String::new() };
        if info.driver_name.is_null() {
            return String::new();
        }
        // SAFETY: the driver's name is a NUL-terminated string of the driver's own, which stays loaded.
        unsafe { std::ffi::CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
    }
}

/// What a driver counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets lost for want of descriptors or buffers.
    pub rx_missed: u64,
    /// Packets received with an error.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
}

fn device_info(id: u16) -> Result<dpdk_sys::rte_eth_dev_info, Error> {
    let mut info = dpdk_sys::rte_eth_dev_info::default();
    // SAFETY: `info` is valid for the call.
    check("rte_eth_dev_info_get", unsafe { dpdk_sys::rte_eth_dev_info_get(id, &raw mut info) })?;
    Ok(info)
}
