//! Who the peers are and what they ask for.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use ike::{
    Authentication, ChildConfig, ChildId, ChildLifetime, Connection, ConnectionId, EspEncryption,
    EspProposal, Group, Hash, Identity, IkeEncryption, IkeProposal, Limits, Mode, PreSharedKey,
    TrafficSelector, Version,
};
use zeroize::Zeroizing;

const SECRET: &[u8] = b"a key that all the peers of a measurement share";

/// `--name value` pairs.
pub(crate) struct Options(BTreeMap<String, String>);

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut values = BTreeMap::new();
        while let Some(flag) = arguments.next() {
            let name = flag.strip_prefix("--").context("flags begin with --")?;
            let value = arguments.next().with_context(|| format!("{flag} wants a value"))?;
            values.insert(name.to_owned(), value);
        }
        Ok(Self(values))
    }

    pub(crate) fn value<T: FromStr>(&self, name: &str, otherwise: Option<T>) -> anyhow::Result<T> {
        match self.0.get(name) {
            Some(text) => text.parse().ok().with_context(|| format!("--{name} {text}: not a value for it")),
            None => otherwise.with_context(|| format!("--{name} is missing")),
        }
    }

    /// What is measured: one Diffie-Hellman group and how long SAs last, everything else the same.
    pub(crate) fn terms(&self) -> anyhow::Result<Terms> {
        let group = match self.value("suite", Some("x25519".to_owned()))?.as_str() {
            "x25519" => Group::Curve25519,
            "modp2048" => Group::Modp2048,
            other => bail!("no suite {other}; there are: x25519 modp2048"),
        };
        Ok(Terms {
            group,
            child: Duration::from_secs(self.value("child-secs", Some(3600))?),
            ike: Duration::from_secs(self.value("ike-secs", Some(86_400))?),
        })
    }
}

/// What all connections of a measurement agree on.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    group: Group,
    /// A pair of ESP SAs is gone after this long.
    pub(crate) child: Duration,
    /// The rekey of an IKE SA begins after this long, or before by jitter.
    pub(crate) ike: Duration,
}

impl Terms {
    /// When the rekey of a pair is due, before jitter: as culvertd does it, a tenth of its life is left to the rekey, and
    /// at least 30 seconds.
    pub(crate) fn child_soft(&self) -> Duration {
        self.child - (self.child / 10).max(Duration::from_secs(30)).min(self.child / 2)
    }
}

/// Address of a peer.
pub(crate) fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 0)) + number)
}

/// What the responder protects.
const BEHIND_RESPONDER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

/// What a peer protects.
fn behind(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 16, 0, 0)) + number)
}

/// The connection between peer `number` and the responder at `responder`, as the peer sees it or the responder.
pub(crate) fn connection(number: u32, responder: Ipv4Addr, terms: &Terms, as_peer: bool) -> Connection {
    let (peer, inner) = (address(number), behind(number));
    let (local, remote, from, to) = if as_peer {
        (peer, responder, inner, BEHIND_RESPONDER)
    } else {
        (responder, peer, BEHIND_RESPONDER, inner)
    };
    let selector = |address: Ipv4Addr| TrafficSelector {
        first: IpAddr::V4(address),
        last: IpAddr::V4(address),
        protocol: 0,
        ports: (0, u16::MAX),
    };
    let child = ChildConfig {
        id: ChildId(u64::from(number)),
        // The one that charon can do without ESP in the kernel.
        mode: Mode::Tunnel,
        tunnel_fallback: false,
        local_selectors: vec![selector(from)],
        remote_selectors: vec![selector(to)],
        proposals: vec![EspProposal {
            encryption: vec![EspEncryption::Aes256Gcm16],
            integrity: vec![],
            groups: vec![],
            esn: vec![false],
        }],
        lifetime: ChildLifetime {
            soft: terms.child_soft(),
            hard: terms.child,
            soft_packets: None,
            hard_packets: None,
            soft_bytes: None,
            hard_bytes: None,
        },
        start: as_peer,
    };
    Connection {
        id: ConnectionId(u64::from(number)),
        version: Version::V2,
        local: IpAddr::V4(local),
        remote: IpAddr::V4(remote),
        local_identity: Identity::Address(IpAddr::V4(local)),
        remote_identity: Identity::Address(IpAddr::V4(remote)),
        authentication: Authentication::pre_shared_key(PreSharedKey(Zeroizing::new(SECRET.to_vec()))),
        proposals: vec![IkeProposal {
            encryption: vec![IkeEncryption::Aes256Gcm16],
            integrity: vec![Hash::Sha2_256],
            prf: vec![Hash::Sha2_256],
            groups: vec![terms.group],
            additional_key_exchanges: vec![],
            additional_required: false,
        }],
        lifetime: terms.ike,
        dpd: None,
        ppk: None,
        nat_traversal: ike::NatTraversal::Auto,
        children: vec![child],
    }
}

/// Limits under which a measurement meets no cookie: the peers are many, and good.
pub(crate) fn open_limits() -> Limits {
    Limits { cookie_threshold: 10_000, half_open: 20_000, initial_contact: false, ..Limits::default() }
}

/// A seed that nobody can guess.
pub(crate) fn seed() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}
