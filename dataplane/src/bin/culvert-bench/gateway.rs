//! A gateway of the bench: a region of its own, its tables, and the worker that they are applied to.

use anyhow::{Context, ensure};
use dataplane::link::link;
use dataplane::tables::{HostTables, Step};
use dataplane::wake::Wake;
use dataplane::worker::Worker;
use dpdk::{Eal, Fib, FibCapacity, RxQueue, TxQueue};
use forward::{Engine, Shared};
use shm::{Capacities, Drop as DropReason, Region};

use crate::Tunnels;
use crate::records::{Records, Role};

pub(crate) struct Gateway {
    region: &'static Region,
    records: Records,
    tables: HostTables,
    pub(crate) worker: Worker,
}

/// A port as the bench opened it.
pub(crate) struct BenchPort {
    pub(crate) slot: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) rx: Option<RxQueue>,
    pub(crate) tx: Option<TxQueue>,
}

impl Gateway {
    /// With empty tables. `name` is unique in the process.
    pub(crate) fn new(eal: &Eal, engine: Engine, role: Role, name: &str) -> anyhow::Result<Self> {
        let region = Region::anonymous(Capacities { routes: 8192, ..Capacities::default() })?.leak();
        let (host_link, worker_link) = link(Wake::new()?);
        let tables = HostTables::new(region, engine, host_link)?;
        let shared = Shared::new(region, 0).context("the region has a worker")?;
        let routes = Fib::new(eal, name, FibCapacity { v4_routes: 8192, v6_routes: 256 })?;
        let worker = Worker::new(engine.lanes()?, shared, routes, worker_link);
        let records = Records::new(region.writer()?, role);
        Ok(Self { region, records, tables, worker })
    }

    /// Writes the records of all tunnels and their surroundings. `next_hop_mac` is the router's.
    pub(crate) fn configure(&mut self, tunnels: &Tunnels, next_hop_mac: [u8; 6]) -> anyhow::Result<()> {
        self.records.configure(tunnels, next_hop_mac)
    }

    /// Applies everything that was written, with these ports.
    pub(crate) fn apply(&mut self, eal: &Eal, ports: Vec<BenchPort>) -> anyhow::Result<()> {
        loop {
            let step = self.tables.step(eal);
            let idle = matches!(step, Step::Idle);
            if let Step::Port(change) = step {
                let mac = ports.iter().find(|port| port.slot == change.slot).map(|port| port.mac);
                self.tables.set_port(change, mac.unwrap_or_default());
            }
            self.worker.poll();
            self.tables.take_reports();
            if idle && self.tables.are_settled() {
                break;
            }
        }
        for table in shm::Table::ALL {
            for slot in 0..self.region.capacities().of(table) {
                let refused = self.region.ack(table, slot).refused;
                ensure!(refused.is_none(), "{} {slot}: {refused:?}", table.name());
            }
        }
        for port in ports {
            self.tables.attach_port(port.slot, port.rx, port.tx);
        }
        self.worker.poll();
        self.tables.take_reports();
        Ok(())
    }

    /// Packets sent by a port.
    pub(crate) fn sent(&self, port: u32) -> u64 {
        let counters = self.region.port_counters(0).and_then(|ports| ports.get(port as usize));
        counters.map_or(0, |counters| counters.tx_packets.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Packets dropped, by reason.
    pub(crate) fn drops(&self) -> Vec<(&'static str, u64)> {
        let counters = self.region.worker_counters(0);
        let count = |reason: DropReason| counters.map_or(0, |counters| counters.drops(reason));
        DropReason::ALL
            .iter()
            .map(|reason| (reason.name(), count(*reason)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}
