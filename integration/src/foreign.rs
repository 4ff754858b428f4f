//! A foreign gateway: a [`Daemon`] for IKE, the kernel for ESP and GRE, FRR for OSPF, all in a [`Peer`].

pub mod libreswan;
pub mod openiked;
pub mod strongswan;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::configuration::inside;
use crate::frr;
use crate::lab::Site;
use crate::namespace::Namespace;
use crate::peer::Peer;
use crate::process::tail;

const START_ROUTING: &str = include_str!("../peer/routing.sh");

/// An IKE daemon: what the lab types to it.
#[derive(Debug)]
pub struct Daemon {
    /// Its name, as people know it.
    pub name: &'static str,
    /// Package that is unpacked below the guest's root, for one that cannot be installed beside the others.
    pub package: Option<&'static str>,
    /// IKE proposals that our gateways take as they are, in its own words.
    pub ike: &'static str,
    /// ESP proposals likewise.
    pub esp: &'static str,
    /// Name and text of the files that it reads, which the guest sees in `/peer`.
    files: fn(&Settings) -> Vec<(&'static str, String)>,
    /// Starts it with these files.
    start: &'static str,
    /// Loads changed files; SAs stay.
    load: &'static str,
    /// Begins a negotiation; may return before its end.
    begin: &'static str,
    /// Ends all SAs, telling the far side.
    end: &'static str,
    /// Shows the SAs.
    sas: &'static str,
    /// Name of its log in `/peer`.
    log: &'static str,
}

/// ESP mode of the child SA, as `swanctl.conf` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Transport mode.
    Transport,
    /// Tunnel mode.
    Tunnel,
}

impl Mode {
    /// The word in `swanctl.conf`, in `ip xfrm state` and in a transform-set.
    pub fn word(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Tunnel => "tunnel",
        }
    }
}

/// What a gateway proves itself by, and whom it trusts to vouch for the far one; all in PEM.
#[derive(Clone, Debug)]
pub struct Certified {
    /// A domain name that its certificate bears.
    pub own_id: String,
    /// One that the far gateway's must.
    pub far_id: String,
    /// Its certificate.
    pub certificate: String,
    /// The key of that.
    pub private_key: String,
    /// The authority that vouches for the far one.
    pub authority: String,
}

/// What a foreign gateway is told. Its black card is `eth0`, its red one `eth1`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who speaks IKE there.
    pub daemon: &'static Daemon,
    /// Where it stands.
    pub own: Site,
    /// The far gateway.
    pub far: Site,
    /// GRE key, if any.
    pub key: Option<u32>,
    /// MTU of the tunnel in bytes.
    pub mtu_bytes: u32,
    /// Pre-shared key.
    pub secret: String,
    /// Version of IKE; OpenIKED speaks version 2 alone.
    pub version: u8,
    /// IKE proposals in the daemon's words.
    pub ike: &'static str,
    /// ESP proposals in the daemon's words.
    pub esp: &'static str,
    /// ESP mode.
    pub mode: Mode,
    /// More lines for the child in `swanctl.conf`, for the connection in `ipsec.conf` and `iked.conf`.
    pub child: &'static str,
    /// More lines for the connection in `swanctl.conf`; lifetimes in `iked.conf`.
    pub connection: &'static str,
    /// More secrets there.
    pub secrets: &'static str,
    /// Certificates instead of the pre-shared key, for strongSwan and libreswan.
    pub certified: Option<Certified>,
    /// More lines for the section `charon` of `strongswan.conf`.
    pub charon: &'static str,
}

impl Settings {
    /// A gateway with strongSwan at `own` towards `far`: AES-128-GCM in transport mode, MTU 1380, no GRE key.
    pub fn new(own: Site, far: Site, secret: &str) -> Self {
        Self::speaking(&strongswan::DAEMON, own, far, secret)
    }

    /// As [`Self::new`], in IKEv1: AES-256, SHA-256 and group 14, as [`crate::configuration::version_1`].
    pub fn version_1(own: Site, far: Site, secret: &str) -> Self {
        let (ike, esp) = ("aes256-sha256-modp2048", "aes128gcm16");
        Self { version: 1, ike, esp, ..Self::new(own, far, secret) }
    }

    /// As [`Self::new`], with another daemon.
    pub fn speaking(daemon: &'static Daemon, own: Site, far: Site, secret: &str) -> Self {
        Self {
            daemon,
            own,
            far,
            key: None,
            mtu_bytes: 1380,
            secret: secret.to_owned(),
            version: 2,
            ike: daemon.ike,
            esp: daemon.esp,
            mode: Mode::Transport,
            child: "",
            connection: "",
            secrets: "",
            certified: None,
            charon: "",
        }
    }
}

/// A foreign gateway that is up.
#[derive(Debug)]
pub struct ForeignGateway {
    peer: Peer,
    settings: Settings,
}

impl ForeignGateway {
    /// Boots it on two cables whose ends are in `namespace`; [`Self::configure`] must follow.
    pub fn boot(namespace: &Namespace, cards: &[&str], dir: &Path, settings: Settings) -> Result<Self> {
        Ok(Self { peer: Peer::boot(namespace, cards, dir, settings.daemon.package)?, settings })
    }

    /// Cuts its power, and boots it again.
    pub fn reboot(&mut self, namespace: &Namespace, cards: &[&str], dir: &Path) -> Result<()> {
        self.peer.cut_power()?;
        self.peer = Peer::boot(namespace, cards, dir, self.settings.daemon.package)?;
        Ok(())
    }

    /// What it was told.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Gives it its addresses and its tunnel, and starts its IKE daemon.
    pub fn configure(&self) -> Result<()> {
        self.addresses().context("the addresses of the foreign gateway")?;
        self.write_files()?;
        let daemon = self.settings.daemon;
        self.peer.run(daemon.start).with_context(|| {
            format!("{} on the foreign gateway; its log:\n{}", daemon.name, tail(&self.log_file()))
        })?;
        self.tunnel().context("the GRE tunnel of the foreign gateway")
    }

    /// Starts FRR, which speaks OSPF on the tunnel and about the red network.
    pub fn speak_ospf(&self) -> Result<()> {
        let routing = frr::ospf(&self.settings.own.black().to_string(), &[&self.tunnel_name()], &["eth1"]);
        fs::write(self.peer.share().join("frr.conf"), routing)?;
        self.peer.run(START_ROUTING).context("FRR on the foreign gateway").map(drop)
    }

    /// Runs a bash script on it.
    pub fn run(&self, script: &str) -> Result<String> {
        self.peer.run(script)
    }

    /// Changes what it is told and loads its IPsec configuration again. Running SAs stay as they are.
    pub fn reload(&mut self, change: impl FnOnce(&mut Settings)) -> Result<()> {
        change(&mut self.settings);
        self.write_files()?;
        self.run(self.settings.daemon.load).map(drop)
    }

    /// Has the daemon begin to negotiate; what comes of it is to be waited for.
    pub fn begin(&self) -> Result<()> {
        self.run(self.settings.daemon.begin).map(drop)
    }

    /// Has the daemon end all its SAs.
    pub fn end(&self) -> Result<()> {
        self.run(self.settings.daemon.end).map(drop)
    }

    /// The SAs as the daemon shows them.
    pub fn sas(&self) -> Result<String> {
        self.run(self.settings.daemon.sas)
    }

    /// Waits until charon can verify cookies: 5.9.8 takes each for expired in the first seconds of a machine, when the
    /// time since the boot is less than its random offset and a cookie's ten seconds.
    pub fn verifies_cookies(&self) -> Result<()> {
        self.run("while [ $(cut -d. -f1 /proc/uptime) -lt 25 ]; do sleep 0.5; done").map(drop)
    }

    /// The daemon's log.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.log_file())?).into_owned())
    }

    fn log_file(&self) -> PathBuf {
        self.peer.share().join(self.settings.daemon.log)
    }

    /// The kernel's error counter of that name in `/proc/net/xfrm_stat`.
    pub fn xfrm_error(&self, name: &str) -> Result<u64> {
        let all = self.run("cat /proc/net/xfrm_stat")?;
        let line = all.lines().find(|line| line.split_whitespace().next() == Some(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1)).context("no such counter")?;
        value.parse().with_context(|| format!("{name} is not a number: {value}"))
    }

    fn addresses(&self) -> Result<()> {
        let own = self.settings.own;
        let [red4, red6] = own.red_gateway();
        self.run(&format!(
            "set -e
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.eth0.disable_ipv6=1
             ip addr add {black}/24 dev eth0; ip link set eth0 up
             ip addr add {red4} dev eth1; ip addr add {red6} dev eth1 nodad; ip link set eth1 up
             ip route add {far}/24 via {router}",
            black = own.black(),
            far = self.settings.far.black_network(),
            router = own.router(),
        ))
        .map(drop)
    }

    /// The tunnel can't leak: what no SA takes is blocked by a policy behind the daemon's.
    fn tunnel(&self) -> Result<()> {
        let (own, far) = (self.settings.own.black(), self.settings.far.black());
        let key = self.settings.key.map(|key| format!("key {key}")).unwrap_or_default();
        self.run(&format!(
            "set -e
             # Other selectors than the daemon's: the kernel would let its policies replace these.
             ip xfrm policy add src 0.0.0.0/0 dst 0.0.0.0/0 proto gre dir out action block priority 4000000
             ip xfrm policy add src 0.0.0.0/0 dst 0.0.0.0/0 proto gre dir in action block priority 4000000
             ip tunnel add {name} mode gre local {own} remote {far} ttl 64 {key}
             ip addr add {address}/30 dev {name}; ip link set {name} up mtu {mtu} multicast on
             ip -6 route add {far_prefix} dev {name}",
            name = self.tunnel_name(),
            address = inside(self.settings.own, self.settings.far),
            mtu = self.settings.mtu_bytes,
            far_prefix = self.settings.far.red6(),
        ))
        .map(drop)
    }

    /// Name of its tunnel.
    pub fn tunnel_name(&self) -> String {
        format!("to-{}", self.settings.far.name)
    }

    fn write_files(&self) -> Result<()> {
        for (name, text) in (self.settings.daemon.files)(&self.settings) {
            fs::write(self.peer.share().join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        Ok(())
    }
}
