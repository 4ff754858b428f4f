//! UDP sockets of the driver: ports 500 and 4500 of each local address that some connection uses.
//!
//! A socket per address, not one for all: what arrives says by its socket which address it was sent to, what leaves
//! bears the address that the connection has, and nobody on the red side or on a management network reaches the
//! engine. `IP_FREEBIND` lets a socket stand before its address does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ike::Path;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A datagram that arrived.
#[derive(Debug)]
pub(crate) struct Datagram {
    /// Where it was sent to, and from where.
    pub(crate) path: Path,
    /// Its payload.
    pub(crate) bytes: Vec<u8>,
}

/// The open sockets.
pub(super) struct Sockets {
    open: BTreeMap<SocketAddr, Open>,
    complaints: BTreeMap<SocketAddr, String>,
    arrivals: mpsc::Sender<Datagram>,
    sent: u64,
    unsent: u64,
}

struct Open {
    socket: Arc<UdpSocket>,
    reading: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Sockets {
    /// No socket yet. What arrives later comes out of the receiver; when nobody takes it the kernel's buffers fill and
    /// it is lost there, as UDP is.
    pub(super) fn new() -> (Self, mpsc::Receiver<Datagram>) {
        const WAITING_DATAGRAMS: usize = 256;
        let (arrivals, receiver) = mpsc::channel(WAITING_DATAGRAMS);
        let sockets =
            Self { open: BTreeMap::new(), complaints: BTreeMap::new(), arrivals, sent: 0, unsent: 0 };
        (sockets, receiver)
    }

    /// Opens the sockets of these addresses and closes all others.
    pub(super) fn set_addresses(&mut self, addresses: &BTreeSet<IpAddr>) {
        let wanted: BTreeSet<SocketAddr> =
            addresses.iter().flat_map(|address| PORTS.map(|port| SocketAddr::new(*address, port))).collect();
        self.open.retain(|address, _| wanted.contains(address));
        self.complaints.retain(|address, _| wanted.contains(address));
        for address in wanted {
            if self.open.contains_key(&address) {
                continue;
            }
            match bind(address) {
                Ok(socket) => {
                    let reading = tokio::spawn(read(Arc::clone(&socket), address, self.arrivals.clone()));
                    self.complaints.remove(&address);
                    self.open.insert(address, Open { socket, reading });
                }
                Err(error) => {
                    let complaint = format!("UDP {address} cannot be opened: {error}");
                    if self.complaints.insert(address, complaint).is_none() {
                        tracing::warn!(%error, %address, "an IKE socket cannot be opened");
                    }
                }
            }
        }
    }

    /// Sends, or counts that it could not: the engine sends again.
    pub(super) fn send(&mut self, path: Path, bytes: &[u8]) {
        let sent = match self.open.get(&path.local) {
            Some(open) => open.socket.try_send_to(bytes, path.remote),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match sent {
            Ok(_) => self.sent += 1,
            Err(error) => {
                self.unsent += 1;
                tracing::debug!(%error, local = %path.local, remote = %path.remote, "an IKE datagram was not sent");
            }
        }
    }

    pub(super) fn counters(&self) -> [(&'static str, u64); 2] {
        [("datagrams_sent", self.sent), ("datagrams_unsent", self.unsent)]
    }

    pub(super) fn complaints(&self) -> impl Iterator<Item = &str> {
        self.complaints.values().map(String::as_str)
    }
}

/// RFC 7296 section 2.
const PORTS: [u16; 2] = [500, 4500];

fn bind(address: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    let socket =
        Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(Arc::new(UdpSocket::from_std(socket.into())?))
}

async fn read(socket: Arc<UdpSocket>, local: SocketAddr, arrivals: mpsc::Sender<Datagram>) {
    // Larger than any IKE message that the engine takes: a longer one is cut, and refused by its length.
    let mut buffer = vec![0; 65536];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, remote)) => {
                let datagram = Datagram { path: Path { local, remote }, bytes: buffer[..len].to_vec() };
                if arrivals.send(datagram).await.is_err() {
                    return;
                }
            }
            // ICMP errors of earlier datagrams surface here; the engine's own timers know better.
            Err(error) => {
                tracing::debug!(%error, %local, "an IKE socket reported an error");
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_does_not_stand_yet_can_be_bound_and_released() {
        let (mut sockets, _receiver) = Sockets::new();
        // A documentation address (RFC 5737): no machine has it.
        let absent: IpAddr = "192.0.2.77".parse().expect("address");
        sockets.set_addresses(&BTreeSet::from([absent]));
        let complaints: Vec<_> = sockets.complaints().collect();
        assert_eq!((sockets.open.len(), complaints.len()), (2, 0), "{complaints:?}");
        sockets.set_addresses(&BTreeSet::new());
        assert!(sockets.open.is_empty());
    }
}
