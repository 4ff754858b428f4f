//! A typed snapshot of everything that is counted; the API renders it as text for Prometheus.

use std::collections::BTreeMap;

use super::{Condition, DataplaneStatus, IpsecSa, Traffic};

/// Counters of a tunnel. Every configured tunnel is listed, whatever its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelMetrics {
    /// Name of the tunnel.
    pub name: String,
    /// Its state.
    pub state: Condition,
    /// What passed.
    pub traffic: Traffic,
}

/// Counters of a port. Every configured interface is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMetrics {
    /// Interface name.
    pub name: String,
    /// What passed.
    pub traffic: Traffic,
}

/// One drop reason, summed over the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropMetric {
    /// Name of the reason, in snake case.
    pub reason: &'static str,
    /// What it means.
    pub description: &'static str,
    /// Packets dropped for it.
    pub packets: u64,
}

/// One counter of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerMetric {
    /// Name of the counter, in snake case.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
}

/// All counters of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerMetrics {
    /// Index of the worker.
    pub worker: u32,
    /// Its counters.
    pub counters: Vec<WorkerMetric>,
}

/// One counter of the IKE engine or of its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeMetric {
    /// Name of the counter, in snake case.
    pub name: String,
    /// Its value.
    pub value: u64,
}

/// Everything that is counted, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsSnapshot {
    /// Generation of the desired state that runs.
    pub applied_generation: u64,
    /// Configured tunnels.
    pub tunnels: Vec<TunnelMetrics>,
    /// Configured interfaces.
    pub ports: Vec<PortMetrics>,
    /// Flows of crypto maps: how many are in each state.
    pub flows: Vec<(Condition, u64)>,
    /// Why packets were dropped.
    pub drops: Vec<DropMetric>,
    /// Counters of each worker.
    pub workers: Vec<WorkerMetrics>,
    /// IPsec SAs.
    pub ipsec_sas: Vec<IpsecSa>,
    /// How many IKE SAs there are.
    pub isakmp_sas: u64,
    /// How many of them came up with what is insecure, by its name in `allow_insecure`.
    pub insecure_isakmp_sas: BTreeMap<&'static str, u64>,
    /// Counters of the IKE engine.
    pub ike: Vec<IkeMetric>,
    /// Routes mirrored into the dataplane.
    pub routes: u64,
    /// Neighbours mirrored into the dataplane.
    pub neighbours: u64,
    /// Times that the kernel's announcements overran and all was read again.
    pub netlink_overruns: u64,
    /// The dataplane process.
    pub dataplane: DataplaneStatus,
}
