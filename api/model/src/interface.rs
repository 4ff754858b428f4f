//! An interface: a DPDK port and its twin in Linux.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::address::InterfaceAddress;
use crate::kind::{Kind, Reference, Resource};
use crate::name::{IfName, Name};
use crate::read::{At, Parse, as_string, deserialize_by_parse, string_schema};
use crate::word::words;

words! {
    /// Which side of the gateway an interface is on.
    pub enum Side as "a side" {
        /// The Internet.
        Black = "black",
        /// The protected networks.
        Red = "red",
    }
    weak {}
}

/// A port of the dataplane and its TAP twin in Linux, which bears the addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"device": "af_packet:eth1", "side": "black", "addresses": ["192.0.2.1/24"], "mtu_bytes": 1500, "enabled": true}))]
pub struct Interface {
    /// What the dataplane opens.
    pub device: Device,
    /// Black is the Internet, red the protected side.
    pub side: Side,
    /// Addresses of the twin.
    #[schema(required = false, max_items = 64)]
    pub addresses: Vec<InterfaceAddress>,
    /// MTU of the IP layer in bytes: 576 to 9216, at least 1280 with an IPv6 address.
    #[schema(required = false, minimum = 576, maximum = 9216, default = 1500)]
    pub mtu_bytes: u32,
    /// Crypto map that classifies what leaves here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crypto_map: Option<Name>,
    /// Whether it may carry traffic.
    #[schema(required = false, default = true)]
    pub enabled: bool,
}

/// What the dataplane opens as a port, as DPDK names it; at most 95 bytes when written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// `af_packet:eth1`: any network device of Linux, without binding it.
    AfPacket(IfName),
    /// `af_xdp:eth1`: the same, faster, where the driver supports it.
    AfXdp(IfName),
    /// `pci:0000:00:1f.6`: a device bound to vfio-pci.
    Pci(String),
    /// `vdev:net_null0,size=64`: a virtual device with its arguments, for tests and benches.
    Vdev(String),
}

impl Device {
    /// Longest written form in bytes.
    pub const MAX_BYTES: usize = 95;

    /// The network device of Linux that it takes over, if any.
    #[must_use]
    pub fn netdev(&self) -> Option<&IfName> {
        match self {
            Self::AfPacket(name) | Self::AfXdp(name) => Some(name),
            Self::Pci(_) | Self::Vdev(_) => None,
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "{text:?} is not a device: write af_packet:NETDEV, af_xdp:NETDEV, pci:DDDD:BB:DD.F or \
                 vdev:NAME[,ARGUMENTS], at most {} bytes",
                Self::MAX_BYTES
            )
        };
        if text.len() > Self::MAX_BYTES {
            return Err(refused());
        }
        match text.split_once(':').ok_or_else(refused)? {
            ("af_packet", netdev) => netdev.parse().map(Self::AfPacket).map_err(|_| refused()),
            ("af_xdp", netdev) => netdev.parse().map(Self::AfXdp).map_err(|_| refused()),
            ("pci", address) if is_pci_address(address) => Ok(Self::Pci(address.to_ascii_lowercase())),
            ("vdev", arguments) if is_vdev(arguments) => Ok(Self::Vdev(arguments.to_owned())),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AfPacket(netdev) => write!(f, "af_packet:{netdev}"),
            Self::AfXdp(netdev) => write!(f, "af_xdp:{netdev}"),
            Self::Pci(address) => write!(f, "pci:{address}"),
            Self::Vdev(arguments) => write!(f, "vdev:{arguments}"),
        }
    }
}

as_string!(Device);
string_schema!(
    Device,
    "`af_packet:NETDEV`, `af_xdp:NETDEV`, `pci:DDDD:BB:DD.F` or `vdev:NAME[,ARGUMENTS]`",
    "af_packet:eth1",
    None
);

impl Parse for Interface {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let device = object.required("device");
        let side = object.required("side");
        let addresses: Vec<InterfaceAddress> =
            object.optional_with("addresses", |at| at.distinct(64)).unwrap_or_default();
        let mtu_bytes = object.optional_with("mtu_bytes", |at| at.integer(576..=9216u32)).unwrap_or(1500);
        let crypto_map = object.optional("crypto_map");
        let enabled = object.optional("enabled").unwrap_or(true);
        if mtu_bytes < 1280 && addresses.iter().any(|address| address.addr().is_ipv6()) {
            return object.place("mtu_bytes").refuse("must be at least 1280 with an IPv6 address (RFC 8200)");
        }
        object.end();
        Some(Self { device: device?, side: side?, addresses, mtu_bytes, crypto_map, enabled })
    }
}

impl Resource for Interface {
    const KIND: Kind = Kind::Interface;
    type Name = IfName;

    fn references(&self) -> Vec<Reference> {
        self.crypto_map.iter().map(|name| Reference::new("/crypto_map", Kind::CryptoMap, name)).collect()
    }

    fn of(desired: &crate::Desired) -> &BTreeMap<IfName, Self> {
        &desired.interfaces
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<IfName, Self> {
        &mut desired.interfaces
    }
}

deserialize_by_parse!(Interface);

/// `0000:00:1f.6`.
fn is_pci_address(text: &str) -> bool {
    let hex = |part: &str, digits: usize| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    let mut parts = text.split([':', '.']);
    text.bytes().filter(|b| *b == b'.').count() == 1
        && matches!(
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()),
            (Some(domain), Some(bus), Some(device), Some(function), None)
                if hex(domain, 4) && hex(bus, 2) && hex(device, 2) && hex(function, 1)
        )
}

/// `net_null0,size=64`: a driver of DPDK's network class, then anything printable.
fn is_vdev(text: &str) -> bool {
    let name = text.split(',').next().unwrap_or_default();
    name.starts_with("net_")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_written_as_they_were_read() {
        for text in ["af_packet:eth0", "af_xdp:eth0", "pci:0000:00:1f.6", "vdev:net_null0,size=64"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for bad in [
            "",
            "eth0",
            "af_packet:",
            "af_packet:a b",
            "pci:00:1f.6",
            "pci:0000:00:1f:6",
            "vdev:eth0",
            "vdev:net_ring0 x",
        ] {
            assert!(bad.parse::<Device>().is_err(), "{bad}");
        }
        assert!(format!("vdev:net_null0,{}", "x".repeat(90)).parse::<Device>().is_err());
    }
}
