//! The lab of the demo and of most tests: gateways around an underlay router, with a host behind each.
//!
//! ```text
//!  host-alpha ─red─ alpha ─black─┐
//!                                ├─ underlay ─black─ gamma (foreign) ─red─ host-gamma
//!  host-beta ──red─ beta ──black─┘
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::configuration;
use crate::foreign::{ForeignGateway, Settings};
use crate::gateway::{Gateway, Options};
use crate::leftovers::{Files, KEEP_FILES, boot_dir, run_dir};
use crate::namespace::Namespace;
use crate::sniffer::Sniffer;
use crate::veth::{self, End, Use};
use crate::witness::gateways::{Listening, Witness};

/// A place in the lab: its name and its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Name.
    pub name: &'static str,
    /// Number in its addresses.
    pub number: u8,
    /// First three octets of the black network.
    black: [u8; 3],
}

/// A Culvert gateway.
pub const ALPHA: Site = Site { name: "alpha", number: 1, black: [192, 0, 2] };
/// A Culvert gateway.
pub const BETA: Site = Site { name: "beta", number: 2, black: [198, 51, 100] };
/// The foreign gateway.
pub const GAMMA: Site = Site { name: "gamma", number: 3, black: [203, 0, 113] };

/// alpha as it is seen from outside of a NAT before it: see [`crate::nat`].
pub const NATTED_ALPHA: Site = Site { black: [198, 18, 0], ..ALPHA };
/// beta likewise.
pub const NATTED_BETA: Site = Site { black: [198, 18, 0], ..BETA };
/// gamma likewise.
pub const NATTED_GAMMA: Site = Site { black: [198, 18, 0], ..GAMMA };

/// All sites.
pub const SITES: [Site; 3] = [ALPHA, BETA, GAMMA];

impl Site {
    fn black_host(self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.black;
        Ipv4Addr::new(a, b, c, host)
    }

    /// Black network, a /24.
    pub fn black_network(self) -> Ipv4Addr {
        self.black_host(0)
    }

    /// Black address of its gateway.
    pub fn black(self) -> Ipv4Addr {
        self.black_host(1)
    }

    /// Address of the underlay router on its black network.
    pub fn router(self) -> Ipv4Addr {
        self.black_host(254)
    }

    /// IPv4 network behind it.
    pub fn red4(self) -> String {
        format!("10.0.{}.0/24", self.number)
    }

    /// IPv6 network behind it.
    pub fn red6(self) -> String {
        format!("2001:db8:{}::/64", self.number)
    }

    /// Red addresses of its gateway, with prefix lengths.
    pub fn red_gateway(self) -> [String; 2] {
        [format!("10.0.{}.1/24", self.number), format!("2001:db8:{}::1/64", self.number)]
    }

    /// Addresses of the host behind it.
    pub fn host(self) -> [String; 2] {
        [format!("10.0.{}.10", self.number), format!("2001:db8:{}::10", self.number)]
    }
}

/// A foreign gateway and the namespace that holds its cards.
#[derive(Debug)]
pub struct Foreign {
    /// The gateway.
    pub gateway: ForeignGateway,
    /// Its cards; nothing else lives here.
    pub namespace: Namespace,
}

impl Foreign {
    /// Cuts its power and boots it again; [`ForeignGateway::configure`] must follow.
    pub fn reboot(&mut self) -> Result<()> {
        let dir = boot_dir(&format!("{}-again", self.gateway.settings().own.name))?;
        self.gateway.reboot(&self.namespace, CARDS, &dir)
    }
}

/// The cards of a foreign gateway, in the order of the guest's.
const CARDS: &[&str] = &["eth-black", "eth-red"];

/// The cables, the underlay router and the hosts: everything but the gateways.
#[derive(Debug)]
pub struct Lab {
    /// The router that joins the black networks.
    pub underlay: Namespace,
    /// Files of this lab.
    pub dir: PathBuf,
    sites: Vec<(Site, Namespace)>,
    witness: Option<Witness>,
    _files: Files,
}

impl Lab {
    /// The underlay and nothing around it, and a witness of the IKE of all gateways to come: see [`Witness`]. It judges when
    /// the lab is dropped, and panics if somebody disagrees with us.
    pub fn new() -> Result<Self> {
        let mut lab = Self::unwitnessed()?;
        lab.witness = Some(Witness::start(&lab.underlay, &lab.dir)?);
        Ok(lab)
    }

    /// The same without a witness, for gateways as they are shipped: they keep their keys for themselves.
    pub fn unwitnessed() -> Result<Self> {
        crate::leftovers::sweep().context("what a killed run left behind cannot be removed")?;
        let dir = run_dir("lab")?;
        let underlay = Namespace::create("underlay")?;
        underlay.sysctl("net.ipv4.ip_forward", "1")?;
        // The underlay speaks IPv4 only: what the sniffer sees of IPv6 comes from gateways.
        underlay.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        // It forwards and never speaks: no ICMP of its own for a gateway that is gone.
        underlay.run("nft add table inet silent")?;
        let output = "add chain inet silent output { type filter hook output priority 0; policy drop; }";
        underlay.run(&format!("nft {output}"))?;
        Ok(Self { underlay, dir, sites: Vec::new(), witness: None, _files: Files })
    }

    /// Adds a site for a Culvert gateway: its cables and the host behind it. Returns the namespace for the gateway,
    /// where `eth-black` and `eth-red` are the bare ends of its two cables.
    pub fn site(&mut self, site: Site) -> Result<Namespace> {
        self.site_used(site, Use::Port)
    }

    fn site_used(&mut self, site: Site, used: Use) -> Result<Namespace> {
        let gateway = Namespace::create(site.name)?;
        let host = Namespace::create(&format!("host-{}", site.name))?;
        let end = |namespace, interface| End { namespace, interface };
        let (black, red) = (end(&gateway, "eth-black"), end(&gateway, "eth-red"));
        veth::connect((black, used), (end(&self.underlay, site.name), Use::Kernel))?;
        veth::connect((red, used), (end(&host, "eth0"), Use::Kernel))?;
        if let (Some(witness), Use::Port) = (&self.witness, used) {
            witness.gateway(site.name, &ike_keys(site)?, &self.underlay, site.name)?;
        }
        self.underlay.ip(&format!("addr add {}/24 dev {}", site.router(), site.name))?;
        let [host4, host6] = site.host();
        host.ip(&format!("addr add {host4}/24 dev eth0"))?;
        host.ip(&format!("addr add {host6}/64 dev eth0 nodad"))?;
        let [via4, via6] = site.red_gateway();
        host.ip(&format!("route add default via {}", via4.trim_end_matches("/24")))?;
        host.ip(&format!("-6 route add default via {}", via6.trim_end_matches("/64")))?;
        self.sites.push((site, host));
        Ok(gateway)
    }

    /// Adds a site with a Culvert gateway that has its interfaces and its routes over the underlay.
    pub fn culvert(&mut self, site: Site, options: &Options) -> Result<Gateway> {
        let namespace = self.site(site)?;
        let ike_keys = self.witness.as_ref().map(|_| ike_keys(site)).transpose()?;
        let gateway = Gateway::start(namespace, site.name, &Options { ike_keys, ..options.clone() })?;
        self.configure_culvert(&gateway, site)?;
        Ok(gateway)
    }

    /// Gives a Culvert gateway its interfaces and its routes over the underlay, and waits until it is well.
    pub fn configure_culvert(&self, gateway: &Gateway, site: Site) -> Result<()> {
        configuration::base(&gateway.api, site)?;
        gateway.healthy(Duration::from_secs(30))
    }

    /// Adds a site with a foreign gateway that boots while the caller does other things and then configures it.
    pub fn booting_foreign(&mut self, settings: Settings) -> Result<Foreign> {
        let site = settings.own;
        let namespace = self.site_used(site, Use::Card)?;
        let gateway = ForeignGateway::boot(&namespace, CARDS, &boot_dir(site.name)?, settings)?;
        Ok(Foreign { gateway, namespace })
    }

    /// The host behind a site.
    pub fn host(&self, site: Site) -> Result<&Namespace> {
        let found = self.sites.iter().find(|(at, _)| *at == site);
        found.map(|(_, host)| host).with_context(|| format!("{} is not in this lab", site.name))
    }

    /// Addresses that ESP and IKE may have on the underlay.
    pub fn black_addresses(&self) -> Vec<IpAddr> {
        self.sites.iter().map(|(site, _)| site.black().into()).collect()
    }

    /// Sends frames of a kind to a site's black port from the underlay, with scapy: see `peer/hostile.py`.
    pub fn hostile(&self, case: &str, to: Site, posing_as: Site) -> Result<String> {
        self.hostile_from(case, to, (posing_as.name, posing_as.black()))
    }

    /// As [`Self::hostile`], posing as somebody who is at an address behind an interface of the underlay.
    pub fn hostile_from(&self, case: &str, to: Site, posing_as: (&str, Ipv4Addr)) -> Result<String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peer/hostile.py");
        let (target, (interface, source)) = (to.black(), posing_as);
        // Debian's python, which has Debian's scapy.
        self.underlay
            .run(&format!("/usr/bin/python3 {script} {case} {} {target} {} {source}", to.name, interface))
    }

    /// Takes what a site's gateway sends to begin an IKE SA of its own from the wire, or lets it pass again: whoever has
    /// to begin then is the other.
    pub fn may_begin(&self, site: Site, may: bool) -> Result<()> {
        self.underlay.run(
            "nft add chain inet silent begin { type filter hook prerouting priority 0; policy accept; }",
        )?;
        if may {
            return self.underlay.run("nft flush chain inet silent begin").map(drop);
        }
        // After UDP's 8 bytes and our SPI or cookie: the peer has none yet, in either version.
        let request = "@th,128,64 0x0";
        self.underlay
            .run(&format!(
                "nft add rule inet silent begin ip saddr {} udp dport 500 {request} drop",
                site.black()
            ))
            .map(drop)
    }

    /// The witness of what the gateways say by IKE.
    pub fn witness(&self) -> Result<&Witness> {
        self.witness.as_ref().context("this lab has no witness")
    }

    /// The underlay's end of a site's black cable is in another namespace now. What is returned must go before that does.
    pub fn replugged(&self, site: Site, to: &Namespace, interface: &str) -> Result<Option<Listening>> {
        self.witness.as_ref().map_or(Ok(None), |witness| witness.replugged(site.name, to, interface))
    }

    /// Starts the sniffer on all black cables.
    pub fn sniff(&self) -> Result<Sniffer> {
        let interfaces: Vec<&str> = self.sites.iter().map(|(site, _)| site.name).collect();
        Sniffer::start(&self.underlay, &interfaces, &self.dir)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(witness) = self.witness.as_ref().filter(|_| !std::thread::panicking()) else { return };
        let Err(error) = witness.judge() else { return };
        // A scenario that failed has its own words.
        let failed_before = KEEP_FILES.load(Ordering::Acquire);
        assert!(failed_before, "the witness: {error:#}");
        eprintln!("besides, the witness: {error:#}");
    }
}

/// Where a site's gateway tells its keys.
fn ike_keys(site: Site) -> Result<PathBuf> {
    Ok(run_dir(site.name)?.join("ike-keys"))
}
