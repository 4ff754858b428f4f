//! The one that writes: makes the region what it must be. Start-up, restart, change and periodic resync are the same
//! path: read what stands there, plan, write.
//!
//! It never blocks. After each call the caller rings the dataplane's doorbell if [`Progress::wrote`], and calls
//! [`Executor::progress`] when the dataplane rings, and at [`Progress::wake_at`].
//!
//! ```no_run
//! # fn example(region: &shm::Region, compiled: control::Compiled) -> Result<(), shm::RegionError> {
//! let mut executor = control::Executor::attach(region)?;
//! executor.set_compiled(compiled.into());
//! let progress = executor.sync(std::time::Instant::now());
//! # let _ = progress; Ok(()) }
//! ```

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ike::{OperationId, SaOperation};
use ipnet::IpNet;
use shm::records::{NONE, NeighbourRecord, PortRecord, RouteRecord, RuleRecord};
use shm::{Record, Refusal, Region, RegionError, Table, Writer};

use crate::compile::{Compiled, Owner, PolicyKey};
use crate::plan::{Step, plan};
use crate::recursion::{far_ends, recursive};
use crate::sa_table::{Answer, SaTable};
use crate::slots::{NeighbourKey, NoSlot, Slots};
use crate::tables::{Conditions, Mirrored, Tables};

/// How long ports and tunnels wait for the dataplane to acknowledge what protects them. A dataplane that is away for
/// longer reads everything when it comes, and in a safe order.
pub const PROTECTION_WITHIN: Duration = Duration::from_secs(2);

/// What a call did, and what is still to be done.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records were written: ring the doorbell.
    pub wrote: bool,
    /// Answers for the IKE engine.
    pub answers: Vec<Answer>,
    /// When to call [`Executor::progress`] at the latest.
    pub wake_at: Option<Instant>,
    /// All steps of the last plan are done.
    pub in_sync: bool,
}

/// What the dataplane made of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has no slot: it is not compiled, or the table is full.
    Absent,
    /// The dataplane has not looked at it yet.
    Pending,
    /// It is in force.
    Applied,
    /// The dataplane refused it.
    Refused(Refusal),
}

/// The writer of the region and its state.
pub struct Executor {
    writer: Writer,
    slots: Slots,
    sas: SaTable,
    compiled: Arc<Compiled>,
    /// `None` until the mirror was read for the first time: what a former process wrote stands until then.
    mirrored: Option<Mirrored>,
    conditions: Conditions,
    steps: VecDeque<Step>,
    protection_deadline: Option<Instant>,
    /// What found no slot in the last plan.
    full: Vec<NoSlot>,
    wrote: bool,
}

impl Executor {
    /// Takes the role of the writer, and takes over slots and SAs that a former process left.
    ///
    /// # Errors
    /// The role is taken.
    pub fn attach(region: &Region) -> Result<Executor, RegionError> {
        let mut writer = region.writer()?;
        let running = Tables::read(region);
        let slots = Slots::recover(region, &running);
        let sas = SaTable::adopt(&mut writer, &slots);
        Ok(Executor {
            writer,
            slots,
            sas,
            compiled: Arc::default(),
            mirrored: None,
            conditions: Conditions::default(),
            steps: VecDeque::new(),
            protection_deadline: None,
            full: Vec::new(),
            wrote: true,
        })
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &Region {
        self.writer.region()
    }

    /// The SAs in use.
    #[must_use]
    pub fn sas(&self) -> &SaTable {
        &self.sas
    }

    /// The slots of all objects.
    #[must_use]
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// What is desired from now on. Gives slots to ports and tunnels at once; [`Executor::sync`] writes.
    pub fn set_compiled(&mut self, compiled: Arc<Compiled>) {
        self.sas.retain_compiled(&mut self.writer, &self.slots, &compiled);
        self.compiled = compiled;
        self.wrote = true;
        let _ = self.target();
    }

    /// Tunnels that must carry nothing, by name, whatever is desired; [`Executor::sync`] writes.
    pub fn set_closed(&mut self, closed: BTreeSet<String>) {
        self.conditions.closed = closed;
    }

    /// Tunnels whose ESP goes in UDP, by name: they carry smaller packets; [`Executor::sync`] writes.
    pub fn set_natted(&mut self, natted: BTreeSet<String>) {
        self.conditions.natted = natted;
    }

    /// Whether the ESP of a tunnel goes in UDP, as far as was told.
    #[must_use]
    pub fn is_natted(&self, name: &str) -> bool {
        self.conditions.natted.contains(name)
    }

    /// Where each owner of an SA sends to, and whether in UDP.
    pub fn destinations(&self) -> impl Iterator<Item = (&Owner, IpAddr, bool)> {
        self.sas.destinations(&self.writer)
    }

    /// All routes and neighbours of the mirror; [`Executor::sync`] writes. Until the first call the routes and
    /// neighbours that a former process wrote stay in force.
    pub fn set_mirrored(&mut self, mirrored: Mirrored) {
        self.mirrored = Some(mirrored);
    }

    /// What the mirror holds; `None` before the first [`Executor::set_mirrored`].
    #[must_use]
    pub fn mirrored(&self) -> Option<&Mirrored> {
        self.mirrored.as_ref()
    }

    /// One route changed, or went. It is written at once unless a plan is under way, which is made anew then. Nothing
    /// happens before the first [`Executor::set_mirrored`].
    pub fn set_route(&mut self, prefix: IpNet, route: Option<RouteRecord>, now: Instant) -> Progress {
        let Some(mirrored) = &mut self.mirrored else { return self.progress(now) };
        let before = match route {
            Some(route) => mirrored.routes.insert(prefix, route),
            None => mirrored.routes.remove(&prefix),
        };
        if before == route {
            return self.progress(now);
        }
        if !self.steps.is_empty() {
            return self.sync(now);
        }
        match route {
            Some(record) => {
                let region = self.writer.region();
                let reusable = |slot| region.is_reusable(Table::Routes, slot);
                match self.slots.routes.assign(&prefix, reusable) {
                    Ok(slot) => self.put(slot, &record),
                    Err(full) => self.full.push(full),
                }
            }
            None => {
                if let Some(slot) = self.slots.routes.release(&prefix) {
                    self.clear(Table::Routes, slot);
                }
            }
        }
        self.progress(now)
    }

    /// One neighbour changed, or went; as [`Executor::set_route`].
    pub fn set_neighbour(
        &mut self,
        key: NeighbourKey,
        neighbour: Option<NeighbourRecord>,
        now: Instant,
    ) -> Progress {
        let Some(mirrored) = &mut self.mirrored else { return self.progress(now) };
        let before = match neighbour {
            Some(neighbour) => mirrored.neighbours.insert(key, neighbour),
            None => mirrored.neighbours.remove(&key),
        };
        if before == neighbour {
            return self.progress(now);
        }
        if !self.steps.is_empty() {
            return self.sync(now);
        }
        match neighbour {
            Some(record) => {
                let region = self.writer.region();
                let reusable = |slot| region.is_reusable(Table::Neighbours, slot);
                match self.slots.neighbours.assign(&key, reusable) {
                    Ok(slot) => self.put(slot, &record),
                    Err(full) => self.full.push(full),
                }
            }
            None => {
                if let Some(slot) = self.slots.neighbours.release(&key) {
                    self.clear(Table::Neighbours, slot);
                }
            }
        }
        self.progress(now)
    }

    /// Does what the engine asks. An install that cannot be begun is answered at once.
    pub fn operate(&mut self, operation: &SaOperation, now: Instant) -> Progress {
        let mut refused = None;
        match operation {
            SaOperation::Install { operation, send, pair } => {
                let id: OperationId = *operation;
                let installed =
                    self.sas.install(&mut self.writer, &self.slots, &self.compiled, pair, (id, *send), now);
                refused = installed.err().map(|error| (id, Err(error)));
            }
            SaOperation::SwitchOutbound { spi_in, .. } => {
                self.sas.switch_outbound(&mut self.writer, &self.slots, *spi_in, now);
            }
            SaOperation::Move { spi_in, path, udp_encapsulation } => {
                self.sas.relocate(&mut self.writer, *spi_in, *path, *udp_encapsulation);
            }
            SaOperation::Release { spi_in } => {
                self.sas.release(&mut self.writer, &self.slots, *spi_in, now);
            }
            SaOperation::Remove { spi_in, linger } => {
                self.sas.remove(&mut self.writer, &self.slots, *spi_in, *linger, Some(now));
            }
        }
        self.wrote = true;
        let mut progress = self.progress(now);
        progress.answers.extend(refused);
        progress
    }

    /// Gives adopted pairs to the IKE SAs that they belong to; those that cannot be resumed leave the list.
    pub fn give_back(&mut self, resumables: &mut Vec<ike::Resumable>, now: Instant) {
        self.sas.give_back(&self.writer, &self.compiled, resumables, now);
    }

    /// Compares all tables with what they must be and begins to write the difference.
    pub fn sync(&mut self, now: Instant) -> Progress {
        let running = self.running();
        let mut target = self.target();
        if self.mirrored.is_none() {
            target.routes.clone_from(&running.routes);
            target.neighbours.clone_from(&running.neighbours);
        }
        self.steps = plan(&running, &target).into();
        self.protection_deadline = None;
        self.progress(now)
    }

    /// Goes on: writes what may be written, looks at acknowledgements and at the clock.
    pub fn progress(&mut self, now: Instant) -> Progress {
        while let Some(step) = self.steps.pop_front() {
            if step == Step::AwaitProtection {
                let deadline = *self.protection_deadline.get_or_insert(now + PROTECTION_WITHIN);
                if now < deadline && !self.is_protection_settled() {
                    self.steps.push_front(step);
                    break;
                }
                self.protection_deadline = None;
                self.close_ports_with_refused_rules();
            } else {
                self.execute(&step);
            }
        }
        let answers = self.sas.progress(&mut self.writer, &self.slots, now);
        self.wrote |= !answers.is_empty();
        Progress {
            wrote: std::mem::take(&mut self.wrote),
            answers,
            wake_at: [self.sas.wake_at(), self.protection_deadline].into_iter().flatten().min(),
            in_sync: self.steps.is_empty(),
        }
    }

    /// What the dataplane made of a port.
    #[must_use]
    pub fn port_verdict(&self, name: &str) -> Verdict {
        self.verdict(Table::Ports, self.slots.ports.slot(&name.to_owned()))
    }

    /// What the dataplane made of a tunnel.
    #[must_use]
    pub fn tunnel_verdict(&self, name: &str) -> Verdict {
        self.verdict(Table::Tunnels, self.slots.tunnels.slot(&name.to_owned()))
    }

    /// What the dataplane made of a protected flow.
    #[must_use]
    pub fn policy_verdict(&self, key: &PolicyKey) -> Verdict {
        self.verdict(Table::Policies, self.slots.policies.slot(key))
    }

    /// Tables in which something found no slot. Try again later: slots become free as the dataplane lets go of them.
    #[must_use]
    pub fn full_tables(&self) -> &[NoSlot] {
        &self.full
    }

    /// The best route of the mirror to an address.
    #[must_use]
    pub fn best_route(&self, address: IpAddr) -> Option<&RouteRecord> {
        Tables::best_route(&self.mirrored.as_ref()?.routes, address)
    }

    /// Tunnels that the mirror's routes reach only through themselves, by name, with the names on the way: for
    /// [`crate::recursion::Guard::observe`].
    #[must_use]
    pub fn recursive_tunnels(&self) -> BTreeMap<String, Vec<String>> {
        let Some(mirrored) = &self.mirrored else { return BTreeMap::new() };
        let tunnels = self
            .compiled
            .tunnels
            .iter()
            .filter_map(|(name, record)| Some((self.slots.tunnels.slot(name)?, record)));
        let name = |slot: u32| self.slots.tunnels.key(slot).cloned().unwrap_or_default();
        recursive(&far_ends(tunnels), &mirrored.routes)
            .into_iter()
            .map(|(slot, way)| (name(slot), way.into_iter().map(name).collect()))
            .collect()
    }

    fn target(&mut self) -> Tables {
        let sas = &self.sas;
        let (tables, full) = Tables::resolve(
            &self.compiled,
            self.mirrored.as_ref(),
            &mut self.slots,
            self.writer.region(),
            |owner| sas.outbound(owner),
            &self.conditions,
        );
        self.full = full;
        tables
    }

    /// What stands in the region, without what the dataplane refused: that is written anew, so that it looks again.
    fn running(&self) -> Tables {
        let region = self.writer.region();
        let mut running = Tables::read(region);
        let is_in_force = |table, slot: &u32| region.ack(table, *slot).refused.is_none();
        running.policies.retain(|slot, _| is_in_force(Table::Policies, slot));
        running.rules.retain(|slot, _| is_in_force(Table::Rules, slot));
        running.tunnels.retain(|slot, _| is_in_force(Table::Tunnels, slot));
        running.ports.retain(|slot, _| is_in_force(Table::Ports, slot));
        running
    }

    /// What a refused rule should have matched would leave in clear by a port that is open already.
    fn close_ports_with_refused_rules(&mut self) {
        for slot in
            self.compiled.ports.keys().filter_map(|name| self.slots.ports.slot(name)).collect::<Vec<_>>()
        {
            let found = self.writer.read::<PortRecord>(slot).ok().and_then(|found| found.record);
            if let Some(record) = found.filter(|record| record.enabled == 1)
                && self.is_rule_refused_on(slot)
            {
                self.put(slot, &PortRecord { enabled: 0, ..record });
            }
        }
    }

    fn execute(&mut self, step: &Step) {
        match step {
            Step::PutPolicy(slot, record) => {
                let mut record = *record;
                record.outbound_sa = self
                    .slots
                    .policies
                    .key(*slot)
                    .and_then(|key| self.sas.outbound(&Owner::Policy(key.clone())))
                    .unwrap_or(NONE);
                self.put(*slot, &record);
            }
            Step::PutTunnel(slot, record) => {
                let mut record = *record;
                record.outbound_sa = self
                    .slots
                    .tunnels
                    .key(*slot)
                    .and_then(|name| self.sas.outbound(&Owner::Tunnel(name.clone())))
                    .unwrap_or(NONE);
                self.put(*slot, &record);
            }
            Step::PutRule(slot, record) => self.put(*slot, record),
            Step::PutPort(slot, record) => {
                // A port whose rules are not all in force would send in clear what they should have matched.
                let enabled = if self.is_rule_refused_on(*slot) { 0 } else { record.enabled };
                self.put(*slot, &PortRecord { enabled, ..*record });
            }
            Step::PutNeighbour(slot, record) => self.put(*slot, record),
            Step::PutRoute(slot, record) => self.put(*slot, record),
            Step::Clear(table, slot) => self.clear(*table, *slot),
            Step::AwaitProtection => {}
        }
    }

    fn put<R: Record>(&mut self, slot: u32, record: &R) {
        // Slots come out of maps that are as large as their tables.
        let _ = self.writer.put(slot, record);
        self.wrote = true;
    }

    fn clear(&mut self, table: Table, slot: u32) {
        let _ = self.writer.clear(table, slot);
        self.wrote = true;
    }

    /// Whether the dataplane looked at all policies and rules.
    fn is_protection_settled(&self) -> bool {
        let region = self.writer.region();
        [Table::Policies, Table::Rules]
            .into_iter()
            .all(|table| (0..region.capacities().of(table)).all(|slot| region.is_settled(table, slot)))
    }

    /// Whether the dataplane refused a rule of a port, or the policy of one.
    fn is_rule_refused_on(&self, port: u32) -> bool {
        let region = self.writer.region();
        self.compiled
            .rules
            .iter()
            .filter_map(|key| self.slots.rules.slot(key))
            .filter_map(|slot| Some((slot, region.read::<RuleRecord>(slot).ok()?.record?)))
            .filter(|(_, rule)| rule.port == port)
            .any(|(slot, rule)| {
                region.ack(Table::Rules, slot).refused.is_some()
                    || (rule.permit == 1 && region.ack(Table::Policies, rule.policy).refused.is_some())
            })
    }

    fn verdict(&self, table: Table, slot: Option<u32>) -> Verdict {
        let region = self.writer.region();
        match slot {
            None => Verdict::Absent,
            Some(slot) if !region.is_settled(table, slot) => Verdict::Pending,
            Some(slot) => region.ack(table, slot).refused.map_or(Verdict::Applied, Verdict::Refused),
        }
    }
}
