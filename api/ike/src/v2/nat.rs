//! NAT detection (RFC 7296 section 2.23).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::crypto::{Spis, digest_sha1};
use crate::wire::registry::notify;
use crate::wire::{Notify, Payload};
use crate::{Cause, Connection, NatTraversal, Path, Phase, TrafficSelector};

impl Connection {
    pub(crate) fn forces_nat_traversal(&self) -> bool {
        self.nat_traversal == NatTraversal::Force
    }
}

/// Who stands behind a NAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nat {
    pub(crate) local: bool,
    pub(crate) remote: bool,
    /// We act as if we did, and the peer takes us to.
    pub(crate) forced: bool,
}

impl Nat {
    /// Whether ESP goes in UDP.
    pub(crate) fn is_present(self) -> bool {
        self.local || self.remote || self.forced
    }

    /// Whether a mapping before us must be kept alive (RFC 3948 section 4); what drops ESP may as well forget UDP.
    pub(crate) fn needs_keepalives(self) -> bool {
        self.local || self.forced
    }

    /// The peer's selectors of transport mode as they are seen from here, our side's first (section 2.23.1). Who stands
    /// behind a NAT names itself by its inner address and the other one by the address that it sends to; here both are
    /// known by what the connection is configured for.
    pub(crate) fn seen_from_here(
        self,
        connection: &Connection,
        local: &[TrafficSelector],
        remote: &[TrafficSelector],
    ) -> [Vec<TrafficSelector>; 2] {
        [
            substituted(local, connection.local, self.local),
            substituted(remote, connection.remote, self.remote),
        ]
    }
}

/// Selectors of one host, with its address in place of the one that they name. A wider one stands for more than the host
/// and stays as it is.
fn substituted(named: &[TrafficSelector], host: IpAddr, behind_nat: bool) -> Vec<TrafficSelector> {
    let one = |selector: &TrafficSelector| {
        let is_host = selector.first == selector.last && selector.first.is_ipv4() == host.is_ipv4();
        if behind_nat && is_host {
            TrafficSelector { first: host, last: host, ..*selector }
        } else {
            *selector
        }
    };
    named.iter().map(one).collect()
}

fn digest(spis: Spis, address: SocketAddr) -> [u8; 20] {
    let (spi_i, spi_r) = (spis.initiator.to_be_bytes(), spis.responder.to_be_bytes());
    let port = address.port().to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => digest_sha1(&[&spi_i, &spi_r, &ip.octets(), &port]),
        IpAddr::V6(ip) => digest_sha1(&[&spi_i, &spi_r, &ip.octets(), &port]),
    }
}

/// Where no message comes from: whoever says so seems to be behind a NAT.
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The two notifications of a message with these SPIs in its header, sent on `path`; `forced` gives a source that the peer
/// does not find.
pub(crate) fn payloads(spis: Spis, path: Path, forced: bool) -> [Payload; 2] {
    let payload = |kind, address| Payload::Notify(Notify::new(kind, digest(spis, address).to_vec()));
    let source = if forced { NOWHERE } else { path.local };
    [
        payload(notify::NAT_DETECTION_SOURCE_IP, source),
        payload(notify::NAT_DETECTION_DESTINATION_IP, path.remote),
    ]
}

/// What the notifications of a message received on `path` tell, to one who may act as if there was a NAT before it; without
/// them, there is no NAT traversal.
pub(crate) fn detect(spis: Spis, path: Path, payloads: &[Payload], forced: bool) -> Nat {
    let mut sources = Vec::new();
    let mut destinations = Vec::new();
    for payload in payloads {
        if let Payload::Notify(found) = payload {
            match found.kind {
                notify::NAT_DETECTION_SOURCE_IP => sources.push(found.data.as_slice()),
                notify::NAT_DETECTION_DESTINATION_IP => destinations.push(found.data.as_slice()),
                _ => {}
            }
        }
    }
    let differs = |found: &[&[u8]], address| {
        !found.is_empty() && !found.iter().any(|data| *data == digest(spis, address).as_slice())
    };
    Nat {
        local: differs(&destinations, path.local),
        remote: differs(&sources, path.remote),
        forced: forced && !sources.is_empty(),
    }
}

/// A connection that insists on ESP in UDP, and a peer that does not know of it.
pub(crate) const MISSING: &str = "nat_traversal_missing";

/// The same, as a cause.
pub(crate) fn missing(phase: Phase) -> Cause {
    let detail = "the peer has no NAT traversal, and our nat_traversal is force".to_owned();
    Cause::Protocol { phase, detail }
}
