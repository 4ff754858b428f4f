//! Network devices and their addresses, as the kernel tells of them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::message::{Message, address, attribute, attributes, text, u8_at, u32_at};

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel's index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `IFF_*`.
    pub flags: u32,
    /// MTU in bytes.
    pub mtu_bytes: u32,
    /// Link-layer address; empty where there is none.
    pub mac: Vec<u8>,
    /// Alias: the mark on our twins.
    pub alias: Option<String>,
}

impl Link {
    /// Administratively up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    /// Has a carrier.
    #[must_use]
    pub fn has_carrier(&self) -> bool {
        self.flags & libc::IFF_LOWER_UP as u32 != 0
    }

    /// The device of an `RTM_NEWLINK` or `RTM_DELLINK`; `None` when malformed.
    pub(crate) fn parse(message: &Message<'_>) -> Option<Self> {
        // struct ifinfomsg: family, pad, type, index, flags, change.
        let mut link = Self {
            index: u32_at(message.payload, 4)?,
            flags: u32_at(message.payload, 8)?,
            name: String::new(),
            mtu_bytes: 0,
            mac: Vec::new(),
            alias: None,
        };
        for (kind, value) in attributes(message.payload.get(16..)?) {
            match kind {
                libc::IFLA_IFNAME => link.name = text(value),
                libc::IFLA_MTU => link.mtu_bytes = u32_at(value, 0)?,
                libc::IFLA_ADDRESS => link.mac = value.to_vec(),
                libc::IFLA_IFALIAS => link.alias = Some(text(value)),
                _ => {}
            }
        }
        Some(link)
    }
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// Index of the device.
    pub link: u32,
    /// Address and prefix length.
    pub address: IpNet,
    /// Who put it there (`IFA_PROTO`); 0 when unknown.
    pub protocol: u8,
}

impl LinkAddress {
    /// The address of an `RTM_NEWADDR` or `RTM_DELADDR`; `None` when malformed.
    pub(crate) fn parse(message: &Message<'_>) -> Option<Self> {
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        let prefix_len = u8_at(message.payload, 1)?;
        let link = u32_at(message.payload, 4)?;
        let body = message.payload.get(8..)?;
        // On a point-to-point device IFA_ADDRESS is the far end and IFA_LOCAL ours; IPv6 often has IFA_ADDRESS alone.
        let own = attribute(body, libc::IFA_LOCAL).or_else(|| attribute(body, libc::IFA_ADDRESS))?;
        let own: IpAddr = address(own)?;
        let protocol = attribute(body, IFA_PROTO).and_then(|value| u8_at(value, 0)).unwrap_or(0);
        Some(Self { link, address: IpNet::new(own, prefix_len).ok()?, protocol })
    }
}

/// Who put an address there; since Linux 5.18.
pub(crate) const IFA_PROTO: u16 = 11;
