//! A NAT before one end of the link.

use std::net::{IpAddr, SocketAddr};

use crate::Path;

/// Rewrites the source of what its end sends, and the destination of what comes back.
pub struct Nat {
    side: usize,
    public: IpAddr,
    /// Inner and outer address of each flow.
    mappings: Vec<(SocketAddr, SocketAddr)>,
    next_port: u16,
    /// The inner address that takes what no flow awaits, ports kept; such a NAT keeps the ports of its own flows too.
    forwards_to: Option<IpAddr>,
}

impl Nat {
    /// Before `side`, with one public address and ports of its own choice; it takes in answers only.
    pub fn masquerading(side: usize, public: IpAddr) -> Self {
        Self { side, public, mappings: Vec::new(), next_port: 20_000, forwards_to: None }
    }

    /// Before `side`, with one public address for one inner address, both ways.
    pub fn forwarding(side: usize, public: IpAddr, inner: IpAddr) -> Self {
        Self { forwards_to: Some(inner), ..Self::masquerading(side, public) }
    }

    /// Forgets all flows, as when it restarts or was idle for long, and goes on with this address.
    pub fn rebind(&mut self, public: IpAddr) {
        self.public = public;
        self.mappings.clear();
    }

    /// The outer address of an inner one, if it has one now.
    pub fn outer(&self, inner: SocketAddr) -> Option<SocketAddr> {
        self.mappings.iter().find(|(known, _)| *known == inner).map(|(_, outer)| *outer)
    }

    /// What becomes of the path of a datagram; `None` drops it.
    pub(super) fn pass(&mut self, from: usize, path: Path) -> Option<Path> {
        if from == self.side {
            return Some(Path { local: self.map(path.local), ..path });
        }
        if path.remote.ip() != self.public {
            return None;
        }
        let inner = self.mappings.iter().find(|(_, outer)| *outer == path.remote).map(|(inner, _)| *inner);
        let forwarded = self.forwards_to.map(|inner| SocketAddr::new(inner, path.remote.port()));
        inner.or(forwarded).map(|remote| Path { remote, ..path })
    }

    fn map(&mut self, inner: SocketAddr) -> SocketAddr {
        if let Some(known) = self.outer(inner) {
            return known;
        }
        self.next_port += 1;
        let port = if self.forwards_to.is_some() { inner.port() } else { self.next_port };
        let outer = SocketAddr::new(self.public, port);
        self.mappings.push((inner, outer));
        outer
    }
}
