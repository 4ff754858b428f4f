//! The metrics snapshot.

use std::collections::BTreeMap;

use shm::{Counter, Drop};

use super::Picture;
use crate::view::{
    Condition, DropMetric, IkeMetric, MetricsSnapshot, PortMetrics, TunnelMetrics, WorkerMetric,
    WorkerMetrics,
};

impl Picture {
    pub(crate) fn metrics(&self) -> MetricsSnapshot {
        let (routes, neighbours, netlink_overruns) = self.mirrored;
        let dataplane = self.dataplane();
        MetricsSnapshot {
            applied_generation: self.generation,
            tunnels: self
                .tunnel_states()
                .into_iter()
                .map(|tunnel| TunnelMetrics {
                    name: tunnel.name,
                    state: tunnel.state,
                    traffic: tunnel.counters,
                })
                .collect(),
            ports: dataplane
                .ports
                .iter()
                .map(|port| PortMetrics { name: port.name.clone(), traffic: port.counters })
                .collect(),
            flows: self.flow_counts(),
            drops: Drop::ALL.iter().map(|reason| self.drops(*reason)).collect(),
            workers: (0..dataplane.workers).map(|worker| self.worker(worker)).collect(),
            ipsec_sas: self.ipsec_sas(),
            isakmp_sas: self.isakmp.len() as u64,
            insecure_isakmp_sas: occurrences(self.isakmp.iter().flat_map(|sa| &sa.insecure)),
            ike: self
                .ike
                .iter()
                .map(|(name, value)| IkeMetric { name: (*name).to_owned(), value: *value })
                .collect(),
            routes,
            neighbours,
            netlink_overruns,
            dataplane,
        }
    }

    /// Every condition is listed, with zero where no flow has it.
    fn flow_counts(&self) -> Vec<(Condition, u64)> {
        let all = [Condition::Up, Condition::Connecting, Condition::Down, Condition::Disabled];
        let mut counts: BTreeMap<Condition, u64> = all.into_iter().map(|condition| (condition, 0)).collect();
        for (_, flow) in &self.flows {
            *counts.entry(flow.state).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    fn drops(&self, reason: Drop) -> DropMetric {
        let packets = self
            .workers()
            .filter_map(|(region, worker)| region.worker_counters(worker))
            .map(|counters| counters.drops(reason))
            .sum();
        DropMetric { reason: reason.name(), description: reason.description(), packets }
    }

    fn worker(&self, worker: u32) -> WorkerMetrics {
        let counters = self.region.as_ref().and_then(|region| region.worker_counters(worker));
        let value = |counter| counters.map_or(0, |counters| counters.counter(counter));
        WorkerMetrics {
            worker,
            counters: Counter::ALL
                .iter()
                .map(|counter| WorkerMetric { name: counter.name(), value: value(*counter) })
                .collect(),
        }
    }
}

/// How often each of them occurs.
fn occurrences<'a>(words: impl Iterator<Item = &'a &'static str>) -> BTreeMap<&'static str, u64> {
    words.fold(BTreeMap::new(), |mut counts, word| {
        *counts.entry(*word).or_default() += 1;
        counts
    })
}
