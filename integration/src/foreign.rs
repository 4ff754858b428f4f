//! A foreign gateway: strongSwan for IKE, the kernel for ESP and GRE, FRR for OSPF, all in a [`Peer`].

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::configuration::inside;
use crate::frr;
use crate::lab::Site;
use crate::namespace::Namespace;
use crate::peer::Peer;

const START_CHARON: &str = include_str!("../peer/strongswan.sh");
const START_ROUTING: &str = include_str!("../peer/routing.sh");

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

/// What a foreign gateway is told. Its black card is `eth0`, its red one `eth1`.
#[derive(Clone, Debug)]
pub struct Settings {
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
    /// IKE proposals in strongSwan's words.
    pub ike: &'static str,
    /// ESP proposals in strongSwan's words.
    pub esp: &'static str,
    /// ESP mode.
    pub mode: Mode,
    /// More lines for the child in `swanctl.conf`.
    pub child: &'static str,
    /// More lines for the section `charon` of `strongswan.conf`.
    pub charon: &'static str,
}

impl Settings {
    /// A gateway at `own` towards `far`: AES-128-GCM in transport mode, MTU 1400, no GRE key.
    pub fn new(own: Site, far: Site, secret: &str) -> Self {
        Self {
            own,
            far,
            key: None,
            mtu_bytes: 1400,
            secret: secret.to_owned(),
            ike: "aes256gcm16-prfsha256-x25519,aes128gcm16-prfsha256-ecp256",
            esp: "aes128gcm16-esn-noesn",
            mode: Mode::Transport,
            child: "",
            charon: "",
        }
    }
}

/// A foreign gateway that is up.
#[derive(Debug)]
pub struct StrongSwan {
    peer: Peer,
    settings: Settings,
}

impl StrongSwan {
    /// Boots it on two cables whose ends are in `namespace`; [`Self::configure`] must follow.
    pub fn boot(namespace: &Namespace, cards: &[&str], dir: &Path, settings: Settings) -> Result<Self> {
        Ok(Self { peer: Peer::boot(namespace, cards, dir)?, settings })
    }

    /// Gives it its addresses and starts all its daemons.
    pub fn configure(&self) -> Result<()> {
        self.addresses().context("the addresses of the foreign gateway")?;
        fs::write(self.peer.share().join("charon-extra.conf"), self.settings.charon)?;
        self.write_connections()?;
        self.peer.run(START_CHARON).context("strongSwan on the foreign gateway")?;
        self.tunnel().context("the GRE tunnel of the foreign gateway")?;
        let routing = frr::ospf(&self.settings.own.black().to_string(), &[&self.tunnel_name()], &["eth1"]);
        fs::write(self.peer.share().join("frr.conf"), routing)?;
        self.peer.run(START_ROUTING).context("FRR on the foreign gateway")?;
        Ok(())
    }

    /// Runs a bash script on it.
    pub fn run(&self, script: &str) -> Result<String> {
        self.peer.run(script)
    }

    /// Changes what it is told and loads its IPsec configuration again. Running SAs stay as they are.
    pub fn reload(&mut self, change: impl FnOnce(&mut Settings)) -> Result<()> {
        change(&mut self.settings);
        self.write_connections()?;
        self.run("cp /peer/swanctl.conf /etc/swanctl/swanctl.conf && swanctl --load-all --noprompt").map(drop)
    }

    /// Waits until charon can verify cookies: 5.9.8 takes each for expired in the first seconds of a machine, when the
    /// time since the boot is less than its random offset and a cookie's ten seconds.
    pub fn verifies_cookies(&self) -> Result<()> {
        self.run("while [ $(cut -d. -f1 /proc/uptime) -lt 25 ]; do sleep 0.5; done").map(drop)
    }

    /// charon's log.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.peer.share().join("charon.log"))?).into_owned())
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

    /// The tunnel can't leak: what no SA takes is blocked by a policy behind strongSwan's.
    fn tunnel(&self) -> Result<()> {
        let (own, far) = (self.settings.own.black(), self.settings.far.black());
        let key = self.settings.key.map(|key| format!("key {key}")).unwrap_or_default();
        self.run(&format!(
            "set -e
             # Other selectors than strongSwan's: the kernel would let its policies replace these.
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

    fn write_connections(&self) -> Result<()> {
        let Settings { secret, ike, esp, child, .. } = &self.settings;
        let (own, far) = (self.settings.own.black(), self.settings.far.black());
        let mode = self.settings.mode.word();
        let text = format!(
            "connections {{ far {{
               version = 2
               local_addrs = {own}
               remote_addrs = {far}
               proposals = {ike}
               dpd_delay = 30s
               local {{ auth = psk
                 id = {own} }}
               remote {{ auth = psk
                 id = {far} }}
               children {{ gre {{
                 mode = {mode}
                 local_ts = {own}/32[gre]
                 remote_ts = {far}/32[gre]
                 esp_proposals = {esp}
                 replay_window = 1024
                 {child}
               }} }}
             }} }}
             secrets {{ ike-far {{ secret = \"{secret}\" }} }}\n"
        );
        fs::write(self.peer.share().join("swanctl.conf"), text).context("cannot write swanctl.conf")
    }
}
