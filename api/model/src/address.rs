//! Addresses with a prefix length, and prefixes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::read::{At, as_string, string_schema};

/// An address of an interface with the length of its prefix: `192.0.2.1/24`, `2001:db8::1/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress(IpNet);

/// A prefix whose host bits are zero: `10.1.0.0/16`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNet);

impl InterfaceAddress {
    /// The address itself.
    #[must_use]
    pub fn addr(self) -> IpAddr {
        self.0.addr()
    }

    /// Length of the prefix in bits.
    #[must_use]
    pub fn prefix_len(self) -> u8 {
        self.0.prefix_len()
    }

    /// The prefix that is on the link.
    #[must_use]
    pub fn prefix(self) -> Prefix {
        Prefix(self.0.trunc())
    }
}

impl Prefix {
    /// The prefix of all addresses that begin as `addr` does.
    ///
    /// # Errors
    /// When the length is larger than the address.
    pub fn new(addr: IpAddr, prefix_len: u8) -> Result<Self, String> {
        IpNet::new(addr, prefix_len)
            .map(|net| Self(net.trunc()))
            .map_err(|_| format!("/{prefix_len} is too long for {addr}"))
    }

    /// The prefix of one address alone.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        Self(IpNet::from(addr))
    }

    /// First address: the prefix with zeroes behind it.
    #[must_use]
    pub fn addr(self) -> IpAddr {
        self.0.addr()
    }

    /// Length in bits.
    #[must_use]
    pub fn prefix_len(self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(self, addr: IpAddr) -> bool {
        self.0.contains(&addr)
    }

    /// Whether it is a prefix of IPv4 addresses.
    #[must_use]
    pub fn is_ipv4(self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }
}

impl FromStr for InterfaceAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net = net(text, "an address with a prefix length, like 192.0.2.1/24 or 2001:db8::1/64")?;
        let addr = net.addr();
        if addr.is_unspecified() || addr.is_multicast() || addr.is_loopback() {
            return Err(format!("{addr} can't be the address of an interface"));
        }
        if let IpNet::V4(v4) = net
            && v4.prefix_len() < 31
            && (v4.addr() == v4.network() || v4.addr() == v4.broadcast())
        {
            return Err(format!("{addr} is the network or broadcast address of {}", v4.trunc()));
        }
        if net.prefix_len() == 0 {
            return Err(format!("a prefix length of 0 would put every address on the link of {addr}"));
        }
        Ok(Self(net))
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net = net(text, "a prefix, like 10.1.0.0/16 or 2001:db8::/32")?;
        if net.addr() == net.network() {
            Ok(Self(net))
        } else {
            Err(format!("{text:?} has bits set behind its prefix length; {} is meant?", net.trunc()))
        }
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

as_string!(InterfaceAddress);
string_schema!(InterfaceAddress, "Address with the length of its prefix, IPv4 or IPv6", "192.0.2.1/24", None);
as_string!(Prefix);
string_schema!(Prefix, "Prefix without host bits, IPv4 or IPv6", "10.1.0.0/16", None);

/// A unicast IPv4 address: what a transport header may bear.
pub(crate) fn parse_unicast_v4(at: At<'_>) -> Option<Ipv4Addr> {
    let text = at.string()?;
    let Ok(addr) = text.parse::<Ipv4Addr>() else {
        return at.refuse(if text.parse::<Ipv6Addr>().is_ok() {
            "must be an IPv4 address: the dataplane has no IPv6 underlay".to_owned()
        } else {
            format!("{text:?} is not an IPv4 address")
        });
    };
    if is_unicast_v4(addr) { Some(addr) } else { at.refuse(format!("{addr} is not a unicast address")) }
}

/// Neither unspecified, loopback, multicast, reserved nor broadcast (RFC 6890).
pub(crate) fn is_unicast_v4(addr: Ipv4Addr) -> bool {
    !addr.is_loopback() && addr.octets()[0] != 0 && addr.octets()[0] < 224
}

fn net(text: &str, wanted: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| format!("{text:?} is not {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_address_is_one_that_an_interface_can_have() {
        for good in ["192.0.2.1/24", "10.0.0.0/31", "192.0.2.7/32", "2001:db8::1/64", "fe80::1/64"] {
            assert_eq!(good.parse::<InterfaceAddress>().unwrap().to_string(), good);
        }
        for bad in [
            "192.0.2.1",
            "192.0.2.0/24",
            "192.0.2.255/24",
            "0.0.0.0/8",
            "224.0.0.5/24",
            "127.0.0.1/8",
            "::1/128",
        ] {
            assert!(bad.parse::<InterfaceAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_has_no_host_bits() {
        assert!("10.1.0.0/16".parse::<Prefix>().is_ok());
        assert!("0.0.0.0/0".parse::<Prefix>().is_ok());
        assert!("10.1.0.1/16".parse::<Prefix>().unwrap_err().contains("10.1.0.0/16"));
        assert!("10.1.0.0/33".parse::<Prefix>().is_err());
    }
}
