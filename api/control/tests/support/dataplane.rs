//! A dataplane for tests: takes twins, acknowledges every record, shows a heartbeat.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use shm::records::{
    NeighbourRecord, PolicyRecord, PortRecord, RouteRecord, RuleRecord, SaRecord, TunnelRecord,
};
use shm::socket_messages::{Doorbell, MESSAGE_BYTES_MOST, Message, TwinLabel};
use shm::{BootId, Change, Reader, Region, Table};

use super::eventually;

type Held = BTreeMap<String, (TwinLabel, OwnedFd)>;

/// A running dataplane.
pub(crate) struct Dataplane {
    pub(crate) region: Region,
    held: Arc<Mutex<Held>>,
    received: Arc<Mutex<u32>>,
    stop: Arc<AtomicBool>,
    running: Option<std::thread::JoinHandle<()>>,
}

impl Dataplane {
    /// Attaches and connects, again whenever the connection ends.
    pub(crate) fn start(run_dir: &Path) -> Self {
        let region = eventually("a region to attach to", || {
            Region::attach(&run_dir.join("region"), BootId::current().expect("the boot id")).ok()
        });
        let reader = region.reader().expect("the reader's role");
        let held = Arc::new(Mutex::new(Held::new()));
        let received = Arc::new(Mutex::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            reader,
            path: run_dir.join("dataplane.sock"),
            held: Arc::clone(&held),
            received: Arc::clone(&received),
            stop: Arc::clone(&stop),
        };
        let running = Some(std::thread::spawn(move || worker.run()));
        Self { region, held, received, stop, running }
    }

    /// Names of the twins that it holds.
    pub(crate) fn twins(&self) -> Vec<String> {
        self.held.lock().expect("the twins").keys().cloned().collect()
    }

    /// How many twins it was sent, over all connections.
    pub(crate) fn received(&self) -> u32 {
        *self.received.lock().expect("the count")
    }

    /// A twin's descriptor.
    pub(crate) fn twin(&self, name: &str) -> OwnedFd {
        self.held.lock().expect("the twins")[name].1.try_clone().expect("a descriptor")
    }

    /// The route of a prefix, if there is one.
    pub(crate) fn route(&self, prefix: &str) -> Option<RouteRecord> {
        let prefix: IpNet = prefix.parse().expect("a prefix");
        self.all::<RouteRecord>().into_iter().find(|route| {
            route.prefix_len == prefix.prefix_len() && route.prefix.to_ip(route.family) == Some(prefix.addr())
        })
    }

    /// The neighbour with an address, if there is one.
    pub(crate) fn neighbour(&self, address: &str) -> Option<NeighbourRecord> {
        let address = address.parse().ok();
        self.all::<NeighbourRecord>().into_iter().find(|known| known.address.to_ip(known.family) == address)
    }

    /// The slot of a tunnel.
    pub(crate) fn tunnel(&self, name: &str) -> Option<u32> {
        (0..self.region.capacities().tunnels).find(|slot| {
            self.region
                .read::<TunnelRecord>(*slot)
                .ok()
                .and_then(|found| found.record)
                .is_some_and(|tunnel| shm::name_text(&tunnel.name) == name)
        })
    }

    fn all<R: shm::Record>(&self) -> Vec<R> {
        (0..self.region.capacities().of(R::TABLE))
            .filter_map(|slot| self.region.read::<R>(slot).ok()?.record)
            .collect()
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}

struct Worker {
    reader: Reader,
    path: std::path::PathBuf,
    held: Arc<Mutex<Held>>,
    received: Arc<Mutex<u32>>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self) {
        let mut socket = None;
        while !self.stop.load(Ordering::Relaxed) {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
            self.reader.beat(u64::try_from(now.as_millis()).expect("a time"));
            if socket.is_none() {
                socket = self.connect();
            }
            let acknowledged = self.acknowledge();
            if let Some(open) = &socket {
                let rang = !acknowledged || send(open, &Message::Doorbell(Doorbell::Acks), &[]).is_ok();
                if !(rang && self.receive(open)) {
                    socket = None;
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn connect(&self) -> Option<OwnedFd> {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).ok()?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&self.path).ok()?).ok()?;
        rustix::io::ioctl_fionbio(&socket, true).ok()?;
        let held = self.held.lock().expect("the twins");
        let twins = held.values().map(|(label, _)| *label).collect();
        let fds: Vec<_> = held.values().map(|(_, fd)| fd.as_fd()).collect();
        let epoch = self.reader.region().epoch();
        let hello = Message::Hello { pid: std::process::id(), epoch, more: false, twins };
        send(&socket, &hello, &fds).ok()?;
        Some(socket)
    }

    /// Takes what is there; false when the connection ended.
    fn receive(&self, socket: &OwnedFd) -> bool {
        loop {
            let mut bytes = vec![0; MESSAGE_BYTES_MOST];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let parts = &mut [IoSliceMut::new(&mut bytes)];
            let len = match rustix::net::recvmsg(socket, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) if received.bytes == 0 => return false,
                Ok(received) => received.bytes,
                Err(error) => return error == rustix::io::Errno::WOULDBLOCK,
            };
            let fds = ancillary.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            });
            let fd = fds.flatten().next();
            let mut held = self.held.lock().expect("the twins");
            match (Message::decode(&bytes[..len]).expect("a sound message"), fd) {
                (Message::Twin(label), Some(fd)) => {
                    held.insert(label.name().to_owned(), (label, fd));
                    *self.received.lock().expect("the count") += 1;
                }
                (Message::TwinGone { kind, slot }, None) => {
                    held.retain(|_, (label, _)| (label.kind, label.slot) != (kind, slot));
                }
                (Message::Doorbell(Doorbell::Changes), None) => {}
                (message, fd) => panic!("unexpected: {message:?} with {fd:?}"),
            }
        }
    }

    /// Acknowledges what changed; true when there was something.
    fn acknowledge(&mut self) -> bool {
        let mut any = false;
        while let Some(change) = self.reader.next_change() {
            any = true;
            match change {
                Change::Slot(table, slot) => self.acknowledge_slot(table, slot),
                Change::Rescan => {
                    for table in Table::ALL {
                        for slot in 0..self.reader.region().capacities().of(table) {
                            self.acknowledge_slot(table, slot);
                        }
                    }
                }
            }
        }
        any
    }

    fn acknowledge_slot(&self, table: Table, slot: u32) {
        let version = match table {
            Table::Ports => self.version::<PortRecord>(slot),
            Table::Tunnels => self.version::<TunnelRecord>(slot),
            Table::Sas => self.version::<SaRecord>(slot),
            Table::Policies => self.version::<PolicyRecord>(slot),
            Table::Rules => self.version::<RuleRecord>(slot),
            Table::Routes => self.version::<RouteRecord>(slot),
            Table::Neighbours => self.version::<NeighbourRecord>(slot),
        };
        if version != 0 {
            self.reader.acknowledge(table, slot, version);
        }
    }

    fn version<R: shm::Record>(&self, slot: u32) -> u64 {
        self.reader.read::<R>(slot).map_or(0, |found| found.version)
    }
}

fn send(socket: &OwnedFd, message: &Message, fds: &[std::os::fd::BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&message.encode())], &mut ancillary, SendFlags::NOSIGNAL)
        .map(|_| ())
}
