//! A burst of 32 through the whole pipeline: `encrypt` from the red port to the black one, `decrypt` back, GRE, routes, SA
//! lookup, replay window and counters on, beside the ciphers alone. Cases are way/engine/tunnels/passenger size; `map` in place
//! of a number of tunnels is a crypto map for the passengers themselves, in tunnel mode. Refilling the frames is not timed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench may panic when it is set up")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use esp::{Aead, Algorithm, Choice, CipherEngine, Engine, Keys, SaKey, SealOp};
use forward::{Outcome, Pipeline, Shared, Update};
use packet::{Frame, LinearClassifier, MISS, Meta, Prefix, RouteError, RouteLookup, TestFrame};
use shm::records::{PolicyRecord, PortRecord, RouteRecord, TrafficSelector, direction, mode, owner, route};
use shm::{Capacities, Region};
use support::*;

const BURST: usize = 32;
/// The number of tunnels that stands for a crypto map.
const MAP: u32 = 0;

/// A frame that moves as an mbuf does: by its address.
struct Handle(Box<TestFrame>);

impl Frame for Handle {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.prepend(len)
    }
    fn append(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.append(len)
    }
    fn trim_front(&mut self, len: usize) -> bool {
        self.0.trim_front(len)
    }
    fn trim_back(&mut self, len: usize) -> bool {
        self.0.trim_back(len)
    }
    fn headroom(&self) -> usize {
        self.0.headroom()
    }
    fn tailroom(&self) -> usize {
        self.0.tailroom()
    }
    fn meta(&self) -> &Meta {
        self.0.meta()
    }
    fn meta_mut(&mut self) -> &mut Meta {
        self.0.meta_mut()
    }
    fn sibling(&self) -> Option<Self> {
        self.0.sibling().map(|frame| Self(Box::new(frame)))
    }
}

/// Routes by the first 24 bits, as `rte_fib` does.
struct DirectRoutes(Vec<u16>);

impl RouteLookup for DirectRoutes {
    fn lookup_v4(&self, addresses: &[u32], adjacencies: &mut [u64]) {
        for (address, adjacency) in addresses.iter().zip(adjacencies) {
            *adjacency = self.0.get((address >> 8) as usize).map_or(MISS, |number| u64::from(*number));
        }
    }
    fn lookup_v6(&self, _: &[[u8; 16]], adjacencies: &mut [u64]) {
        adjacencies.fill(MISS);
    }
    fn insert(&mut self, prefix: Prefix, adjacency: u64) -> Result<(), RouteError> {
        if let Prefix::V4(base, len) = prefix {
            let count = 1usize << 24u8.saturating_sub(len);
            let from = (base >> 8) as usize;
            self.0[from..from + count].fill(adjacency as u16);
        }
        Ok(())
    }
    fn remove(&mut self, _: Prefix) -> Result<(), RouteError> {
        Ok(())
    }
}

struct Bench {
    region: &'static Region,
    engine: Engine,
    worker: Pipeline<Handle, DirectRoutes, LinearClassifier>,
    outcome: Outcome<Handle>,
    rib: forward::Rib,
}

impl Bench {
    /// Site 1 or 2, with tunnels to the other one: tunnel `n` leads to 10.S.n.0/24 (10.S+2.. beyond 256).
    fn new(choice: Choice, tunnels: u32, site: u8) -> Self {
        let engine = Engine::select(choice).unwrap();
        let region = Region::anonymous(Capacities::default()).unwrap().leak();
        let routes = DirectRoutes(vec![0; 1 << 24]);
        let worker = Pipeline::new(engine.lanes().unwrap(), Shared::new(region, 0).unwrap(), routes);
        let mut bench = Self { region, engine, worker, outcome: Outcome::new(), rib: forward::Rib::new() };
        // The helpers of the tests write records for a gateway of the same shape.
        let mut model = Gateway::new(Choice::Portable);
        let (local, remote) = if site == 1 { (ALPHA, BETA) } else { (BETA, ALPHA) };
        for port in [RED, BLACK] {
            let mut record: shm::records::PortRecord = zerocopy::FromZeros::new_zeroed();
            (record.present, record.enabled, record.mtu_bytes) = (1, 1, 1600);
            bench.apply(Update::port(port, Some(&record), port_mac(port)));
        }
        bench.neighbour(BLACK, remote, PEER_MAC);
        if site == 1 {
            for n in 0..tunnels {
                bench.route(route::TUNNEL, n, [10, 16 + (n >> 8) as u8, n as u8, 0], 24);
            }
        } else {
            bench.neighbour(RED, [10, 200, 0, 2], HOST_MAC);
            let mut record: shm::records::RouteRecord = zerocopy::FromZeros::new_zeroed();
            (record.present, record.kind, record.family, record.prefix_len) = (1, route::PORT, 4, 12);
            (record.prefix, record.has_gateway, record.gateway) =
                (v4([10, 16, 0, 0]), 1, v4([10, 200, 0, 2]));
            let mut updates = vec![];
            bench.rib.set_route(70_000, Some(&record), &mut updates).unwrap();
            updates.into_iter().for_each(|update| bench.apply(update));
        }
        if tunnels == MAP {
            bench.protect_by_map(site, local, remote);
        }
        for n in 0..tunnels {
            let (slot, way) = if site == 1 { (n, direction::OUTBOUND) } else { (n, direction::INBOUND) };
            let record = sa_record(|record| {
                (record.direction, record.spi, record.owner) = (way, 0x1000 + n * 7919, n);
                (record.local, record.remote) = (v4(local), v4(remote));
                record.owner_kind = owner::TUNNEL;
                record.key[..4].copy_from_slice(&n.to_be_bytes());
            });
            let update = Update::sa(slot, Some(&record), &bench.engine, bench.region).unwrap();
            bench.apply(update);
            let record = model.tunnel_record(|record| {
                (record.local, record.remote) = (v4(local), v4(remote));
                (record.has_key, record.key, record.outbound_sa) = (1, n, n);
                if tunnels == 1 {
                    record.has_key = 0;
                }
            });
            bench.apply(Update::tunnel(n, Some(&record)).unwrap());
        }
        model.worker.tick(2_000_000);
        bench.worker.tick(1_000_000);
        bench
    }

    /// A crypto map for what goes from 10.1.0.0/16 to 10.16.0.0/12, outbound at site 1 and inbound at site 2.
    fn protect_by_map(&mut self, site: u8, local: [u8; 4], remote: [u8; 4]) {
        let near = TrafficSelector::range(4, v4([10, 1, 0, 0]), v4([10, 1, 255, 255])).alone();
        let far = TrafficSelector::range(4, v4([10, 16, 0, 0]), v4([10, 31, 255, 255])).alone();
        let record = sa_record(|record| {
            (record.owner_kind, record.owner, record.mode) = (owner::POLICY, 0, mode::TUNNEL);
            (record.local, record.remote) = (v4(local), v4(remote));
            record.direction = if site == 1 { direction::OUTBOUND } else { direction::INBOUND };
            (record.local_selectors, record.remote_selectors) =
                if site == 1 { (near, far) } else { (far, near) };
        });
        let update = Update::sa(0, Some(&record), &self.engine, self.region).unwrap();
        self.apply(update);
        if site == 1 {
            let mut policy: PolicyRecord = zerocopy::FromZeros::new_zeroed();
            (policy.present, policy.family, policy.port) = (1, 4, BLACK);
            self.apply(Update::policy(0, Some(&policy)));
            let mut port: PortRecord = zerocopy::FromZeros::new_zeroed();
            (port.present, port.enabled, port.mtu_bytes, port.crypto_map) = (1, 1, 1600, 1);
            self.apply(Update::port(BLACK, Some(&port), port_mac(BLACK)));
            self.apply(
                Update::crypto_map(BLACK, &[rule(10, 10, Some(0), 17)], LinearClassifier::new).unwrap(),
            );
            let mut route: RouteRecord = zerocopy::FromZeros::new_zeroed();
            (route.present, route.kind, route.family, route.prefix_len) = (1, route::PORT, 4, 12);
            (route.target, route.prefix, route.has_gateway, route.gateway) =
                (BLACK, v4([10, 16, 0, 0]), 1, v4(remote));
            let mut updates = vec![];
            self.rib.set_route(0, Some(&route), &mut updates).unwrap();
            updates.into_iter().for_each(|update| self.apply(update));
        }
    }

    fn apply(&mut self, update: Update<LinearClassifier>) {
        self.worker.apply(update).map_err(|refused| refused.reason).unwrap();
    }

    fn route(&mut self, kind: u8, target: u32, prefix: [u8; 4], len: u8) {
        let mut record: shm::records::RouteRecord = zerocopy::FromZeros::new_zeroed();
        (record.present, record.kind, record.family, record.prefix_len) = (1, kind, 4, len);
        (record.target, record.prefix) = (target, v4(prefix));
        let mut updates = vec![];
        self.rib.set_route(target, Some(&record), &mut updates).unwrap();
        updates.into_iter().for_each(|update| self.apply(update));
    }

    fn neighbour(&mut self, port: u32, address: [u8; 4], mac: [u8; 6]) {
        let mut record: shm::records::NeighbourRecord = zerocopy::FromZeros::new_zeroed();
        (record.present, record.family, record.mac, record.port) = (1, 4, mac, port);
        record.address = v4(address);
        let mut updates = vec![];
        self.rib.set_neighbour(port, Some(&record), &mut updates).unwrap();
        updates.into_iter().for_each(|update| self.apply(update));
    }

    #[inline(never)]
    fn burst(&mut self, port: u32, frames: &mut Vec<Handle>) -> Duration {
        let begin = Instant::now();
        self.worker.process_wire(port, frames.drain(..), &mut self.outcome);
        let elapsed = begin.elapsed();
        while let Some(port) = self.outcome.next_port() {
            frames.extend(self.outcome.transmit_list(port).unwrap().drain(..));
        }
        self.outcome.events.clear();
        assert_eq!(frames.len(), BURST, "{:?}", {
            let counters = self.region.worker_counters(0).unwrap();
            let drops = shm::Drop::ALL.iter().map(|reason| (reason.name(), counters.drops(*reason)));
            drops.filter(|(_, count)| *count != 0).collect::<Vec<_>>()
        });
        elapsed
    }
}

/// Bursts of each case in a round, and rounds. The fifth percentile is what the code costs when nobody else has the core.
const BURSTS: usize = 2000;

/// Nanoseconds per packet at the fifth percentile and in the middle.
fn quantiles(mut samples: Vec<Duration>) -> (f64, f64) {
    samples.sort();
    let per_packet = |at: usize| samples[at].as_nanos() as f64 / BURST as f64;
    (per_packet(samples.len() / 20), per_packet(samples.len() / 2))
}

/// The ciphers alone, over what they get to see of a passenger: GRE header and trailer included.
fn bare(engine: &Engine, size: usize) -> (f64, f64) {
    let mut key = SaKey::default();
    let keys = Keys { cipher: &[7; 16], integrity: &[] };
    engine.expand(Algorithm::Combined(Aead::Aes128Gcm), keys, &mut key).unwrap();
    let mut lanes = engine.lanes().unwrap();
    let mut texts = vec![vec![0x5a; size + 4 + 4 + 16]; BURST];
    let nonces: Vec<_> = (0..BURST as u64).map(|n| esp::framing::nonce([1; 4], n)).collect();
    let samples = (0..BURSTS).map(|_| {
        let begin = Instant::now();
        let ops = texts.iter_mut().zip(&nonces);
        let ops = ops.map(|(text, nonce)| SealOp { key: &key, nonce, aad: &[0; 8], text_and_icv: text });
        std::hint::black_box(lanes.seal(ops));
        begin.elapsed()
    });
    quantiles(samples.collect())
}

fn case(engine: &Engine, choice: Choice, tunnels: u32, size: usize) {
    let mut alpha = Bench::new(choice, tunnels, 1);
    let mut beta = Bench::new(choice, tunnels, 2);
    let packets: Vec<_> = (0..tunnels.max(BURST as u32))
        .map(|n| {
            let n = (n % tunnels.max(1)) * 617 % tunnels.max(1);
            let payload = vec![0x5a; size - 28];
            let to = [10, 16 + (n >> 8) as u8, n as u8, 9];
            frame_v4(RED, &packet_v4([10, 1, 0, 2], to, 17, &udp_segment(1, 2, &payload)))
        })
        .collect();
    let mut frames: Vec<_> = (0..BURST).map(|_| Handle(Box::new(TestFrame::new(&[])))).collect();
    let (mut encrypting, mut decrypting) = (vec![], vec![]);
    let mut next = 0;
    for _ in 0..BURSTS {
        for frame in &mut frames {
            frame.0.refill(&packets[next]);
            next = (next + 1) % packets.len();
        }
        encrypting.push(alpha.burst(RED, &mut frames));
        for frame in &mut frames {
            frame.bytes_mut()[..6].copy_from_slice(&port_mac(BLACK));
        }
        decrypting.push(beta.burst(BLACK, &mut frames));
    }
    let (bare, _) = bare(engine, size);
    let by = name(tunnels);
    for (way, samples) in [("encrypt", encrypting), ("decrypt", decrypting)] {
        let (fifth, middle) = quantiles(samples);
        println!(
            "{way}/{}/{by}/{size}: {fifth:.1} ns/packet (median {middle:.1}), bare seal {bare:.1}, share {:.0} %",
            engine.name(),
            100.0 * bare / fifth
        );
    }
}

fn name(tunnels: u32) -> String {
    if tunnels == MAP { "map".to_owned() } else { tunnels.to_string() }
}

fn main() {
    // Cargo passes `--bench`; a case is run when its name contains the first other argument.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for choice in [Choice::IpsecMb, Choice::Portable] {
        let Ok(engine) = Engine::select(choice) else { continue };
        for (tunnels, size) in
            [1, 1000, MAP].iter().flat_map(|tunnels| [64, 256, 1420].map(|size| (*tunnels, size)))
        {
            if format!("{}/{}/{size}", engine.name(), name(tunnels)).contains(&filter) {
                case(&engine, choice, tunnels, size);
            }
        }
    }
}
