//! The cells of the shared region that a worker writes.

use shm::{Counter, Drop, PortCounters, Region, SaRuntime, TunnelCounters, WorkerCounters};

/// The counters of one worker and the runtime state of the SAs. All cells have one writer: this worker.
#[derive(Clone, Copy)]
pub struct Shared {
    region: &'static Region,
    worker: &'static WorkerCounters,
    tunnels: &'static [TunnelCounters],
    ports: &'static [PortCounters],
}

impl Shared {
    /// The cells of a worker; `None` when the region has no such worker.
    pub fn new(region: &'static Region, worker: u32) -> Option<Self> {
        Some(Self {
            region,
            worker: region.worker_counters(worker)?,
            tunnels: region.tunnel_counters(worker)?,
            ports: region.port_counters(worker)?,
        })
    }

    /// The worker's counters.
    pub fn worker(&self) -> &'static WorkerCounters {
        self.worker
    }

    /// The capacities of the region's tables.
    pub fn capacities(&self) -> &'static shm::Capacities {
        self.region.capacities()
    }

    /// Runtime state of an SA.
    pub fn sa_runtime(&self, slot: u32) -> Option<&'static SaRuntime> {
        self.region.sa_runtime(slot)
    }

    /// Counters of a tunnel at this worker.
    #[inline]
    pub fn tunnel(&self, slot: u32) -> Option<&'static TunnelCounters> {
        self.tunnels.get(slot as usize)
    }

    /// Counters of a port at this worker.
    #[inline]
    pub fn port(&self, slot: u32) -> Option<&'static PortCounters> {
        self.ports.get(slot as usize)
    }

    #[cold]
    pub(crate) fn drop_one(&self, reason: Drop) {
        self.worker.count_drops(reason, 1);
    }

    /// Counts a drop at the worker and at the tunnel that it concerns.
    #[cold]
    pub(crate) fn drop_at_tunnel(&self, reason: Drop, tunnel: u32) {
        self.worker.count_drops(reason, 1);
        if let Some(counters) = self.tunnel(tunnel) {
            counters.count_drops(1);
        }
    }

    #[inline]
    pub(crate) fn count(&self, counter: Counter, amount: u64) {
        if amount != 0 {
            self.worker.count(counter, amount);
        }
    }
}
