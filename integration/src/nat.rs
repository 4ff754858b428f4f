//! A NAT before a site: a router that hides it behind an address of its own, lets UDP through and nothing else, and forgets
//! soon.
//!
//! ```text
//!  gamma ─eth-black═in-gamma─ nat ─outside═gamma─ underlay ─ ...
//! ```

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use anyhow::Result;

use crate::lab::{Lab, Site};
use crate::namespace::Namespace;
use crate::veth::{self, End, Use};
use crate::witness::gateways::Listening;

/// Seconds after which a mapping that nobody used is forgotten.
pub const FORGETS_AFTER_SECS: u64 = 6;

/// The underlay's own address on the network of public addresses.
const NEXT_HOP: u8 = 254;

/// The NAT. It goes with its guard, and the site is cut off then.
#[derive(Debug)]
pub struct Nat {
    /// Goes before the namespace.
    listening: Option<Listening>,
    /// Where it lives.
    pub namespace: Namespace,
    /// Grows with each rebinding: mappings of an older zone are not found any more.
    zone: Cell<u16>,
}

impl Nat {
    /// Puts a NAT between a site and the underlay: seen from there the site is at [`public`].
    pub fn before(lab: &Lab, site: Site) -> Result<Self> {
        let namespace = Namespace::create("nat")?;
        namespace.sysctl("net.ipv4.ip_forward", "1")?;
        namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        let listening = plug_in(lab, &namespace, site)?;
        let end = |namespace, interface| End { namespace, interface };
        let underlay = end(&lab.underlay, site.name);
        veth::connect((end(&namespace, "outside"), Use::Kernel), (underlay, Use::Kernel))?;
        lab.underlay.ip(&format!("addr add {}/24 dev {}", public(NEXT_HOP), site.name))?;
        for host in [FIRST_HOST, SECOND_HOST] {
            namespace.ip(&format!("addr add {}/24 dev outside", public(host)))?;
        }
        namespace.ip(&format!("route add default via {}", public(NEXT_HOP)))?;
        for line in [
            "add table ip nat",
            "add chain ip nat post { type nat hook postrouting priority 100; }",
            "add chain ip nat zones { type filter hook prerouting priority -300; }",
            // It knows no ESP and no GRE, it sends no ICMP, and from outside come only answers.
            "add chain ip nat pass { type filter hook forward priority 0; policy drop; }",
            "add rule ip nat pass iifname != outside ip protocol udp accept",
            "add rule ip nat pass iifname outside ct state established ip protocol udp accept",
            "add chain ip nat out { type filter hook output priority 0; policy drop; }",
        ] {
            namespace.run(&format!("nft {line}"))?;
        }
        let nat = Self { listening, namespace, zone: Cell::new(0) };
        nat.remembers(FORGETS_AFTER_SECS)?;
        nat.rebind(FIRST_HOST)?;
        Ok(nat)
    }

    /// Forgets all mappings, as one that was restarted, and shows the site at the public address with this last octet, and at
    /// ports that it did not have before.
    pub fn rebind(&self, host: u8) -> Result<()> {
        let zone = self.zone.get() + 1;
        self.zone.set(zone);
        let (address, ports) = (public(host), self.ports());
        self.namespace.run("nft flush chain ip nat post")?;
        self.namespace.run(&format!(
            "nft add rule ip nat post oifname outside ip protocol udp snat to {address}:{}-{}",
            ports.start(),
            ports.end(),
        ))?;
        self.namespace.run("nft flush chain ip nat zones")?;
        self.namespace.run(&format!("nft add rule ip nat zones ct zone set {zone}"))?;
        Ok(())
    }

    /// Ports that mappings get since the last [`Self::rebind`].
    pub fn ports(&self) -> RangeInclusive<u16> {
        let first = FIRST_PORT + self.zone.get() * PORTS;
        first..=first + PORTS - 1
    }

    /// Has it remember mappings that nobody uses for so long.
    pub fn remembers(&self, secs: u64) -> Result<()> {
        for timeout in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
            self.namespace.sysctl(&format!("net.netfilter.{timeout}"), &secs.to_string())?;
        }
        Ok(())
    }

    /// Hides another site too: seen from outside, the two differ by their ports alone.
    pub fn also_hides(&mut self, lab: &Lab, site: Site) -> Result<()> {
        let listening = plug_in(lab, &self.namespace, site)?;
        self.listening = listening.or(self.listening.take());
        Ok(())
    }
}

/// The underlay's end of a site's cable becomes an inside of the NAT.
fn plug_in(lab: &Lab, namespace: &Namespace, site: Site) -> Result<Option<Listening>> {
    let inside = format!("in-{}", site.name);
    lab.underlay.ip(&format!("link set {} netns {}", site.name, namespace.name()))?;
    namespace.ip(&format!("link set {} name {inside}", site.name))?;
    namespace.ip(&format!("addr add {}/24 dev {inside}", site.router()))?;
    namespace.run(&format!("ethtool -K {inside} tx off gro off"))?;
    let listening = lab.replugged(site, namespace, &inside)?;
    namespace.ip(&format!("link set {inside} up"))?;
    Ok(listening)
}

/// Each rebinding has so many ports of its own, from this one on.
const PORTS: u16 = 1000;
/// See [`PORTS`].
const FIRST_PORT: u16 = 20_000;

/// The network of the public addresses.
pub const PUBLIC_NETWORK: &str = "198.18.0.0/24";

/// Last octets of the two public addresses of the NAT.
pub const FIRST_HOST: u8 = 1;
/// See [`FIRST_HOST`].
pub const SECOND_HOST: u8 = 2;

/// A public address, by its last octet: from the range for tests of RFC 2544.
pub fn public(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, host)
}
