//! A gateway on test frames: two ports, records as the control plane writes them, packets as its neighbours send them.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "shared by several tests, which may panic"
)]

pub mod feed;
pub mod suite;

pub use suite::Suite;

use esp::{Choice, Engine};
use forward::{Outcome, Pipeline, Refused, Retired, Rib, Shared, Update};
use packet::header::{gre, ipv4, ipv6, udp};
use packet::{Frame, LinearClassifier, LinearRoutes, TestFrame, Twin};
use shm::records::*;
use shm::{Capacities, Counter, Drop, EventKind, Region, SaRuntime};
use zerocopy::FromZeros;

/// Slots of the two ports.
pub const RED: u32 = 0;
pub const BLACK: u32 = 1;
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
pub const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x88];

pub fn port_mac(port: u32) -> [u8; 6] {
    [2, 0, 0, 0, 1, port as u8]
}

pub fn v4(address: [u8; 4]) -> Address {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address);
    Address { bytes }
}

pub type Worker = Pipeline<TestFrame, LinearRoutes, LinearClassifier>;

pub struct Gateway {
    pub region: &'static Region,
    pub engine: Engine,
    pub worker: Worker,
    pub rib: Rib,
    pub outcome: Outcome<TestFrame>,
    next_route: u32,
    next_neighbour: u32,
}

impl Gateway {
    pub fn new(choice: Choice) -> Self {
        Self::with_capacities(choice, Capacities::small())
    }

    pub fn with_capacities(choice: Choice, capacities: Capacities) -> Self {
        let region = Region::anonymous(capacities).unwrap().leak();
        let engine = Engine::select(choice).unwrap();
        let worker =
            Pipeline::new(engine.lanes().unwrap(), Shared::new(region, 0).unwrap(), LinearRoutes::new());
        let outcome = Outcome::new();
        let (next_route, next_neighbour) = (0, 0);
        let mut gateway =
            Self { region, engine, worker, rib: Rib::new(), outcome, next_route, next_neighbour };
        gateway.worker.tick(1_000_000);
        for port in [RED, BLACK] {
            gateway.port(port, |_| {});
        }
        gateway
    }

    pub fn apply(&mut self, update: Update<LinearClassifier>) -> Retired<LinearClassifier> {
        self.try_apply(update).unwrap_or_else(|refused| panic!("{:?}", refused.reason))
    }

    pub fn try_apply(
        &mut self,
        update: Update<LinearClassifier>,
    ) -> Result<Retired<LinearClassifier>, Refused<LinearClassifier>> {
        self.worker.apply(update)
    }

    pub fn port(&mut self, slot: u32, change: impl FnOnce(&mut PortRecord)) {
        let mut record = PortRecord::new_zeroed();
        (record.present, record.enabled, record.mtu_bytes) = (1, 1, 1500);
        change(&mut record);
        self.apply(Update::port(slot, Some(&record), port_mac(slot)));
    }

    pub fn route(
        &mut self,
        kind: u8,
        target: u32,
        prefix: [u8; 4],
        len: u8,
        gateway: Option<[u8; 4]>,
    ) -> u32 {
        let mut record = RouteRecord::new_zeroed();
        (record.present, record.kind, record.family, record.prefix_len) = (1, kind, 4, len);
        (record.target, record.prefix) = (target, v4(prefix));
        if let Some(gateway) = gateway {
            (record.has_gateway, record.gateway) = (1, v4(gateway));
        }
        self.route_record(&record)
    }

    pub fn route_v6(&mut self, kind: u8, target: u32, prefix: [u8; 16], len: u8) -> u32 {
        let mut record = RouteRecord::new_zeroed();
        (record.present, record.kind, record.family, record.prefix_len) = (1, kind, 6, len);
        (record.target, record.prefix) = (target, Address { bytes: prefix });
        self.route_record(&record)
    }

    pub fn route_record(&mut self, record: &RouteRecord) -> u32 {
        let slot = self.next_route;
        self.next_route += 1;
        let mut updates = vec![];
        self.rib.set_route(slot, Some(record), &mut updates).unwrap();
        updates.into_iter().for_each(|update| drop(self.apply(update)));
        slot
    }

    pub fn clear_route(&mut self, slot: u32) {
        let mut updates = vec![];
        self.rib.set_route(slot, None, &mut updates).unwrap();
        updates.into_iter().for_each(|update| drop(self.apply(update)));
    }

    pub fn neighbour(&mut self, port: u32, address: [u8; 4], mac: [u8; 6]) -> u32 {
        self.neighbour_record(port, 4, v4(address), mac)
    }

    pub fn neighbour_record(&mut self, port: u32, family: u8, address: Address, mac: [u8; 6]) -> u32 {
        let mut record = NeighbourRecord::new_zeroed();
        (record.present, record.family, record.mac, record.port) = (1, family, mac, port);
        record.address = address;
        let slot = self.next_neighbour;
        self.next_neighbour += 1;
        let mut updates = vec![];
        self.rib.set_neighbour(slot, Some(&record), &mut updates).unwrap();
        updates.into_iter().for_each(|update| drop(self.apply(update)));
        slot
    }

    pub fn clear_neighbour(&mut self, slot: u32) {
        let mut updates = vec![];
        self.rib.set_neighbour(slot, None, &mut updates).unwrap();
        updates.into_iter().for_each(|update| drop(self.apply(update)));
    }

    pub fn tunnel(&mut self, slot: u32, change: impl FnOnce(&mut TunnelRecord)) {
        let record = self.tunnel_record(change);
        self.apply(Update::tunnel(slot, Some(&record)).unwrap());
    }

    pub fn tunnel_record(&self, change: impl FnOnce(&mut TunnelRecord)) -> TunnelRecord {
        let mut record = TunnelRecord::new_zeroed();
        (record.present, record.enabled, record.protection, record.family) = (1, 1, protection::PROFILE, 4);
        (record.ttl, record.mtu_bytes, record.outbound_sa) = (64, 9000, NONE);
        change(&mut record);
        record
    }

    pub fn sa(&mut self, slot: u32, change: impl FnOnce(&mut SaRecord)) {
        let record = sa_record(change);
        let update = Update::sa(slot, Some(&record), &self.engine, self.region).unwrap();
        self.apply(update);
    }

    pub fn policy(&mut self, slot: u32, outbound_sa: u32) {
        let mut record = PolicyRecord::new_zeroed();
        (record.present, record.family, record.outbound_sa, record.port) = (1, 4, outbound_sa, BLACK);
        self.apply(Update::policy(slot, Some(&record)));
    }

    /// A crypto map on the black port.
    pub fn crypto_map(&mut self, rules: &[RuleRecord]) {
        self.port(BLACK, |record| record.crypto_map = 1);
        self.apply(Update::crypto_map(BLACK, rules, LinearClassifier::new).unwrap());
    }

    /// Sends frames in by a port and gives what came out.
    pub fn wire(&mut self, port: u32, frames: &[Vec<u8>]) -> Seen {
        let frames: Vec<_> = frames.iter().map(|bytes| TestFrame::new(bytes)).collect();
        self.worker.process_wire(port, frames, &mut self.outcome);
        self.seen()
    }

    /// Sends packets in by twins and gives what came out.
    pub fn host(&mut self, twin: Twin, frames: &[Vec<u8>]) -> Seen {
        let frames: Vec<_> = frames
            .iter()
            .map(|bytes| {
                let mut frame = TestFrame::new(bytes);
                frame.meta_mut().twin = twin;
                frame
            })
            .collect();
        self.worker.process_from_twin(frames, &mut self.outcome);
        self.seen()
    }

    fn seen(&mut self) -> Seen {
        let mut seen = Seen { drops: self.all_drops(), ..Seen::default() };
        while let Some(port) = self.outcome.next_port() {
            let list = self.outcome.transmit_list(port).unwrap();
            seen.sent.extend(list.drain(..).map(|frame| (port, frame.bytes().to_vec())));
        }
        let punts = self.outcome.punts.drain(..);
        seen.punted.extend(punts.map(|frame| (frame.meta().twin, frame.bytes().to_vec())));
        let events = self.outcome.events.drain(..);
        seen.events.extend(events.map(|event| (EventKind::from_number(event.kind).unwrap(), event.slot)));
        seen
    }

    pub fn drops(&self, reason: Drop) -> u64 {
        self.region.worker_counters(0).unwrap().drops(reason)
    }

    /// All drops with their counts.
    pub fn all_drops(&self) -> Vec<(&'static str, u64)> {
        let counted = Drop::ALL.iter().map(|reason| (reason.name(), self.drops(*reason)));
        counted.filter(|(_, count)| *count != 0).collect()
    }

    pub fn counter(&self, counter: Counter) -> u64 {
        self.region.worker_counters(0).unwrap().counter(counter)
    }

    pub fn runtime(&self, slot: u32) -> &'static SaRuntime {
        self.region.sa_runtime(slot).unwrap()
    }
}

/// What came out of a gateway.
#[derive(Debug, Default)]
pub struct Seen {
    /// All drops of the gateway so far.
    pub drops: Vec<(&'static str, u64)>,
    pub sent: Vec<(u32, Vec<u8>)>,
    pub punted: Vec<(Twin, Vec<u8>)>,
    pub events: Vec<(EventKind, u32)>,
}

impl Seen {
    pub fn nothing(&self) -> bool {
        self.sent.is_empty() && self.punted.is_empty()
    }

    /// The only frame sent, and that nothing was punted.
    pub fn one(&self, port: u32) -> Vec<u8> {
        assert_eq!((self.sent.len(), self.punted.len()), (1, 0), "{self:?}");
        assert_eq!(self.sent[0].0, port);
        self.sent[0].1.clone()
    }

    /// The only frame punted, and that nothing was sent.
    pub fn one_punt(&self, twin: Twin) -> Vec<u8> {
        assert_eq!((self.sent.len(), self.punted.len()), (0, 1), "{self:?}");
        assert_eq!(self.punted[0].0, twin);
        self.punted[0].1.clone()
    }
}

pub fn sa_record(change: impl FnOnce(&mut SaRecord)) -> SaRecord {
    let mut record = SaRecord::new_zeroed();
    (record.present, record.family, record.algorithm, record.key_len) = (1, 4, algorithm::AES_128_GCM_16, 16);
    (record.spi, record.generation, record.replay_window) = (0x1000, 1, 1024);
    (record.owner_kind, record.owner) = (owner::TUNNEL, 0);
    (record.salt, record.key, record.integrity_key) = ([1, 2, 3, 4], [0x42; 32], [0x43; 64]);
    let gre = TrafficSelector { protocol: 47, ..TrafficSelector::ANY_V4 };
    (record.local_selectors, record.remote_selectors) = (gre.alone(), gre.alone());
    (record.local_port, record.remote_port) = (4500, 4500);
    change(&mut record);
    if record.peer == Address::default() {
        record.peer = record.remote;
    }
    record
}

/// Has an SA carry all of IPv4.
pub fn carry_all(record: &mut SaRecord) {
    let all = TrafficSelector::ANY_V4.alone();
    (record.local_selectors, record.remote_selectors) = (all, all);
}

/// A rule of the crypto map on the black port.
pub fn rule(entry: u32, sequence: u32, policy: Option<u32>, protocol: u8) -> RuleRecord {
    let mut record = RuleRecord::new_zeroed();
    (record.present, record.port, record.map_sequence, record.rule_sequence) = (1, BLACK, entry, sequence);
    (record.permit, record.policy) = (u8::from(policy.is_some()), policy.unwrap_or(NONE));
    record.selector.protocol = protocol;
    (record.selector.source_ports, record.selector.destination_ports) = ([0, 65535], [0, 65535]);
    record
}

pub const ALPHA: [u8; 4] = [192, 0, 2, 1];
pub const BETA: [u8; 4] = [192, 0, 2, 2];

/// How a pair of gateways is joined.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub tunnel_mode: bool,
    pub udp: bool,
    pub esn: bool,
    pub suite: Suite,
    pub key: Option<u32>,
    pub crypto_map: bool,
}

impl Default for Shape {
    fn default() -> Self {
        let suite = Suite::AES_128_GCM;
        Self { tunnel_mode: false, udp: false, esn: true, suite, key: None, crypto_map: false }
    }
}

/// A gateway between 10.A.0.0/16 (red) and 192.0.2.0/24 (black), with tunnel 0 to the other one. SA 0 is outbound, SA 1
/// inbound; policy 0 is that of the crypto map.
pub fn site(choice: Choice, shape: Shape, ours: u8, local: [u8; 4], remote: [u8; 4]) -> Gateway {
    let mut gateway = Gateway::new(choice);
    let theirs = 3 - ours;
    gateway.route(route::LOCAL, RED, [10, ours, 0, 1], 32, None);
    gateway.route(route::LOCAL, BLACK, local, 32, None);
    gateway.route(route::PORT, RED, [10, ours, 0, 0], 16, None);
    gateway.route(route::PORT, BLACK, [192, 0, 2, 0], 24, None);
    gateway.route(route::TUNNEL, 0, [10, theirs, 0, 0], 16, None);
    gateway.route_v6(route::PORT, RED, prefix_v6(ours), 32);
    gateway.route_v6(route::TUNNEL, 0, prefix_v6(theirs), 32);
    gateway.route_v6(route::LOCAL, RED, host_v6(ours, 1), 128);
    gateway.neighbour(RED, [10, ours, 0, 2], HOST_MAC);
    gateway.neighbour_record(RED, 6, Address { bytes: host_v6(ours, 2) }, HOST_MAC);
    gateway.neighbour(BLACK, remote, PEER_MAC);
    for (slot, way, spi) in [(0, direction::OUTBOUND, theirs), (1, direction::INBOUND, ours)] {
        gateway.sa(slot, |record| {
            (record.direction, record.spi) = (way, 0x1000 + u32::from(spi));
            (record.local, record.remote) = (v4(local), v4(remote));
            record.mode = if shape.tunnel_mode { mode::TUNNEL } else { mode::TRANSPORT };
            (record.esn, record.udp_encapsulation) = (u8::from(shape.esn), u8::from(shape.udp));
            if shape.crypto_map {
                (record.owner_kind, record.owner) = (owner::POLICY, 0);
            }
            (record.key[0], record.integrity_key[0]) = (spi, spi);
            shape.suite.put(record);
            let gre = |address| TrafficSelector { protocol: 47, ..TrafficSelector::host(4, v4(address)) };
            (record.local_selectors, record.remote_selectors) = (gre(local).alone(), gre(remote).alone());
        });
    }
    gateway.tunnel(0, |record| {
        (record.local, record.remote) = (v4(local), v4(remote));
        (record.has_key, record.key) = (u8::from(shape.key.is_some()), shape.key.unwrap_or(0));
        if shape.crypto_map {
            record.protection = protection::CRYPTO_MAP;
        } else {
            record.outbound_sa = 0;
        }
    });
    if shape.crypto_map {
        gateway.policy(0, 0);
        gateway.crypto_map(&[rule(10, 10, Some(0), 47)]);
    }
    gateway
}

/// Two gateways, `alpha` (10.1.0.0/16) and `beta` (10.2.0.0/16).
pub fn pair(shape: Shape) -> (Gateway, Gateway) {
    (site(Choice::Auto, shape, 1, ALPHA, BETA), site(Choice::Auto, shape, 2, BETA, ALPHA))
}

pub fn prefix_v6(site: u8) -> [u8; 16] {
    [0x20, 1, 0xd, site, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

pub fn host_v6(site: u8, host: u8) -> [u8; 16] {
    let mut address = prefix_v6(site);
    address[15] = host;
    address
}

/// A frame as it goes over the cable from `from` to the port that `to` has there.
pub fn over_the_cable(mut frame: Vec<u8>) -> Vec<u8> {
    assert_eq!(frame[..6], PEER_MAC);
    frame[..6].copy_from_slice(&port_mac(BLACK));
    frame[6..12].copy_from_slice(&PEER_MAC);
    frame
}

pub fn ethernet(to: [u8; 6], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&packet::header::ethernet::header(to, HOST_MAC, ethertype)[..], packet].concat()
}

/// An IPv4 frame to a port.
pub fn frame_v4(port: u32, packet: &[u8]) -> Vec<u8> {
    ethernet(port_mac(port), 0x0800, packet)
}

pub fn packet_v4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    change_v4(source, destination, protocol, payload, |_| {})
}

pub fn change_v4(
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    payload: &[u8],
    change: impl FnOnce(&mut ipv4::Repr),
) -> Vec<u8> {
    let mut repr = ipv4::Repr {
        tos: 0,
        total_len_bytes: (20 + payload.len()) as u16,
        identification: 0x77,
        fragment_word: 0,
        ttl: 64,
        protocol,
        source,
        destination,
    };
    change(&mut repr);
    [&repr.to_bytes()[..], payload].concat()
}

pub fn packet_v6(source: [u8; 16], destination: [u8; 16], next_header: u8, payload: &[u8]) -> Vec<u8> {
    [&ipv6::header(0, payload.len() as u16, next_header, 64, &source, &destination)[..], payload].concat()
}

pub fn udp_segment(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    [&udp::header(source, destination, 8 + payload.len() as u16)[..], payload].concat()
}

pub fn gre_packet(key: Option<u32>, ethertype: u16, passenger: &[u8]) -> Vec<u8> {
    let (header, len) = gre::header(ethertype, key);
    [&header[..len], passenger].concat()
}

/// A UDP packet from a host of one site to one of the other.
pub fn passenger(from: u8, to: u8, payload_len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload_len).map(|n| n as u8).collect();
    packet_v4([10, from, 0, 2], [10, to, 0, 2], 17, &udp_segment(5000, 6000, &payload))
}
