//! The rules of the crypto maps, by port, and their compiling.

use std::collections::{BTreeMap, BTreeSet};

use dpdk::{Acl, Eal};
use forward::Update;
use shm::Refusal;
use shm::records::RuleRecord;

/// All rules, and the ports whose crypto map has to be compiled anew.
///
/// A compiled crypto map can't be changed in place: rules collect here until a batch of changes is complete, and
/// then each port that one of them concerns is compiled once.
#[derive(Default)]
pub struct Rules {
    records: BTreeMap<u32, RuleRecord>,
    /// Ports that have a crypto map, be it without rules.
    mapped_ports: BTreeSet<u32>,
    dirty_ports: BTreeSet<u32>,
}

impl Rules {
    /// Sets or clears the rule in a slot.
    pub fn set(&mut self, slot: u32, record: Option<RuleRecord>) {
        let old = match record {
            Some(record) => self.records.insert(slot, record),
            None => self.records.remove(&slot),
        };
        self.dirty_ports.extend(old.iter().chain(&record).map(|rule| rule.port));
    }

    /// Says whether a port has a crypto map.
    pub fn set_port(&mut self, port: u32, has_crypto_map: bool) {
        let changed =
            if has_crypto_map { self.mapped_ports.insert(port) } else { self.mapped_ports.remove(&port) };
        if changed {
            self.dirty_ports.insert(port);
        }
    }

    /// Whether something is to be compiled.
    #[must_use]
    pub fn are_dirty(&self) -> bool {
        !self.dirty_ports.is_empty()
    }

    /// Compiles what changed: one update per port. Slow with thousands of rules.
    ///
    /// # Errors
    /// The port, when its crypto map could not be compiled: it keeps the one that it has. Others are compiled.
    pub fn compile(&mut self, eal: &Eal) -> Vec<Result<Update<Acl>, Refusal>> {
        std::mem::take(&mut self.dirty_ports).into_iter().map(|port| self.compile_port(eal, port)).collect()
    }

    fn compile_port(&self, eal: &Eal, port: u32) -> Result<Update<Acl>, Refusal> {
        if !self.mapped_ports.contains(&port) {
            return Ok(Update::CryptoMap(port, None));
        }
        let records = self.records.values().filter(|rule| rule.port == port);
        let mut failed = None;
        let update = Update::crypto_map(port, records, |rules| {
            Acl::build(eal, rules).unwrap_or_else(|error| {
                failed = Some(error);
                Acl::default()
            })
        });
        if let Some(error) = failed {
            tracing::error!(port, %error, "the crypto map of a port could not be compiled");
            return Err(Refusal::LookupFailed);
        }
        update.map_err(|_| Refusal::Invalid)
    }
}
