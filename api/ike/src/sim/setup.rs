//! Connections for two ends of a simulation.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::{
    Authentication, ChildConfig, ChildId, ChildLifetime, Connection, ConnectionId, Dpd, EspEncryption,
    EspIntegrity, EspProposal, Group, Hash, Identity, IkeEncryption, IkeProposal, Ikev1, Mode, NatTraversal,
    PreSharedKey, TrafficSelector, Version,
};

/// Address of an end.
pub fn address(side: usize) -> IpAddr {
    let last = if side == 0 { 1 } else { 2 };
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

/// One address, GRE.
pub fn gre(address: IpAddr) -> TrafficSelector {
    TrafficSelector { first: address, last: address, protocol: 47, ports: (0, u16::MAX) }
}

/// AES-256-GCM, SHA2-256, X25519.
pub fn modern() -> IkeProposal {
    IkeProposal {
        encryption: vec![IkeEncryption::Aes256Gcm16],
        integrity: vec![Hash::Sha2_256],
        prf: vec![Hash::Sha2_256],
        groups: vec![Group::Curve25519],
        ..IkeProposal::default()
    }
}

/// The ciphers of IKE SAs whose nonces we count: none may come twice under one key.
pub const COMBINED: [IkeEncryption; 3] =
    [IkeEncryption::Aes128Gcm16, IkeEncryption::Aes256Gcm16, IkeEncryption::ChaCha20Poly1305];

/// The same connection, whose IKE SAs have this cipher alone.
pub fn sealed_by(encryption: IkeEncryption, mut connection: Connection) -> Connection {
    connection.proposals.iter_mut().for_each(|proposal| proposal.encryption = vec![encryption]);
    connection
}

/// A child in transport mode for GRE between the two ends. The ids of further children get a port of their own, so
/// that each has its own selectors.
pub fn child(side: usize, id: u64) -> ChildConfig {
    let selector = |side| {
        let mut selector = gre(address(side));
        if id > 1 {
            selector.protocol = 17;
            let port = u16::try_from(id).unwrap_or(u16::MAX);
            selector.ports = (port, port);
        }
        selector
    };
    ChildConfig {
        id: ChildId(id),
        mode: Mode::Transport,
        tunnel_fallback: false,
        local_selectors: vec![selector(side)],
        remote_selectors: vec![selector(1 - side)],
        proposals: vec![EspProposal {
            encryption: vec![EspEncryption::Aes256Gcm16],
            integrity: vec![],
            groups: vec![],
            esn: vec![true, false],
        }],
        lifetime: ChildLifetime {
            soft: Duration::from_secs(3600),
            hard: Duration::from_secs(4000),
            soft_packets: None,
            hard_packets: None,
            soft_bytes: None,
            hard_bytes: None,
        },
        start: true,
    }
}

/// A connection as seen from `side`, with this many children.
pub fn connection(side: usize, children: u64) -> Connection {
    Connection {
        id: ConnectionId(1),
        version: Version::V2,
        local: address(side),
        remote: address(1 - side),
        local_identity: Identity::Address(address(side)),
        remote_identity: Identity::Address(address(1 - side)),
        authentication: Authentication::pre_shared_key(PreSharedKey(Zeroizing::new(
            b"correct horse battery staple".to_vec(),
        ))),
        ppk: None,
        nat_traversal: NatTraversal::Auto,
        proposals: vec![modern()],
        lifetime: Duration::from_secs(86_400),
        dpd: Some(Dpd { interval: Duration::from_secs(30) }),
        children: (1..=children).map(|id| child(side, id)).collect(),
    }
}

/// The same, where only side 0 starts.
pub fn called(side: usize, children: u64) -> Connection {
    only_caller_starts(side, connection(side, children))
}

/// Side 0 starts all children of its connection, side 1 none.
pub fn only_caller_starts(side: usize, mut connection: Connection) -> Connection {
    connection.children.iter_mut().for_each(|child| child.start = side == 0);
    connection
}

/// A connection of version 1 as seen from `side`: this proposal for phase 1, and its ESP for each of the children.
pub fn connection_v1(side: usize, children: u64, ike: IkeProposal, esp: &EspProposal) -> Connection {
    let mut connection = connection(side, children);
    connection.version = Version::V1(Ikev1::default());
    connection.proposals = vec![ike];
    for child in &mut connection.children {
        child.proposals = vec![esp.clone()];
    }
    connection
}

/// AES-128, SHA-1, group 2; ESP with AES-128 and HMAC-MD5: what routers were set up with for twenty years.
pub fn classic() -> (IkeProposal, EspProposal) {
    let ike = IkeProposal {
        encryption: vec![IkeEncryption::Aes128Cbc],
        integrity: vec![Hash::Sha1],
        prf: vec![Hash::Sha1],
        groups: vec![Group::Modp1024],
        ..IkeProposal::default()
    };
    let esp = EspProposal {
        encryption: vec![EspEncryption::Aes128Cbc],
        integrity: vec![EspIntegrity::HmacMd5_96],
        groups: vec![],
        esn: vec![false],
    };
    (ike, esp)
}
