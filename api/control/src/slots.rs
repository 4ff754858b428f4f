//! Which slot an object has: the same for as long as its name lives, over restarts as well.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use shm::records::{NONE, PolicyRecord, RuleRecord};
use shm::{Region, Table, name_text};

use crate::compile::{PolicyKey, RuleKey, SelectorKey};
use crate::tables::Tables;

/// The table is full, or all its free slots still wait for the dataplane to let go of what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no slot is free in the table of {}", table.name())]
pub struct NoSlot {
    /// The table.
    pub table: Table,
}

/// Slots of one table by key.
#[derive(Clone, Debug)]
pub struct SlotMap<K> {
    table: Table,
    capacity: u32,
    by_key: BTreeMap<K, u32>,
    by_slot: BTreeMap<u32, K>,
    /// Where the search for a free slot goes on: a slot that became free is used again as late as possible.
    next: u32,
}

impl<K: Clone + Ord> SlotMap<K> {
    /// An empty map of a table.
    #[must_use]
    pub fn new(table: Table, capacity: u32) -> Self {
        Self { table, capacity, by_key: BTreeMap::new(), by_slot: BTreeMap::new(), next: 0 }
    }

    /// The slot of a key.
    #[must_use]
    pub fn slot(&self, key: &K) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// The key of a slot.
    #[must_use]
    pub fn key(&self, slot: u32) -> Option<&K> {
        self.by_slot.get(&slot)
    }

    /// Takes over a slot that already holds `key`. The first one wins.
    pub fn adopt(&mut self, slot: u32, key: K) {
        if !self.by_key.contains_key(&key) && !self.by_slot.contains_key(&slot) {
            self.by_key.insert(key.clone(), slot);
            self.by_slot.insert(slot, key);
        }
    }

    /// The slot of a key, a new one if it has none. `is_reusable` says whether a slot without a key may be taken.
    ///
    /// # Errors
    /// No slot is free.
    pub fn assign(&mut self, key: &K, is_reusable: impl Fn(u32) -> bool) -> Result<u32, NoSlot> {
        if let Some(slot) = self.slot(key) {
            return Ok(slot);
        }
        let slot = (0..self.capacity)
            .map(|offset| (self.next + offset) % self.capacity)
            .find(|slot| !self.by_slot.contains_key(slot) && is_reusable(*slot))
            .ok_or(NoSlot { table: self.table })?;
        self.next = (slot + 1) % self.capacity;
        self.by_key.insert(key.clone(), slot);
        self.by_slot.insert(slot, key.clone());
        Ok(slot)
    }

    /// Takes the slot from a key.
    pub fn release(&mut self, key: &K) -> Option<u32> {
        let slot = self.by_key.remove(key)?;
        self.by_slot.remove(&slot);
        Some(slot)
    }

    /// Takes the slots from all keys but those that `keep` names.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.by_key.retain(|key, _| keep(key));
        self.by_slot.retain(|_, key| keep(key));
    }
}

/// A neighbour: slot of its port, address.
pub type NeighbourKey = (u32, IpAddr);

/// Slots of all tables but that of SAs.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the tables")]
pub struct Slots {
    pub ports: SlotMap<String>,
    pub tunnels: SlotMap<String>,
    pub policies: SlotMap<PolicyKey>,
    pub rules: SlotMap<RuleKey>,
    pub routes: SlotMap<IpNet>,
    pub neighbours: SlotMap<NeighbourKey>,
}

impl Slots {
    /// The slots of what stands in the region. What cannot be named keeps no slot, and so will be cleared.
    #[must_use]
    pub fn recover(region: &Region, running: &Tables) -> Self {
        fn map<K: Clone + Ord>(region: &Region, table: Table) -> SlotMap<K> {
            SlotMap::new(table, region.capacities().of(table))
        }
        let mut slots = Self {
            ports: map(region, Table::Ports),
            tunnels: map(region, Table::Tunnels),
            policies: map(region, Table::Policies),
            rules: map(region, Table::Rules),
            routes: map(region, Table::Routes),
            neighbours: map(region, Table::Neighbours),
        };
        for (slot, port) in &running.ports {
            slots.ports.adopt(*slot, name_text(&port.name).to_owned());
        }
        for (slot, tunnel) in &running.tunnels {
            slots.tunnels.adopt(*slot, name_text(&tunnel.name).to_owned());
        }
        for (slot, rule) in &running.rules {
            let Some(key) = slots.rule_key(rule, running.policies.get(&rule.policy)) else { continue };
            if let RuleKey::Permit(policy) = &key {
                slots.policies.adopt(rule.policy, policy.clone());
            }
            slots.rules.adopt(*slot, key);
        }
        for (slot, route) in &running.routes {
            if let Some(prefix) =
                route.prefix.to_ip(route.family).and_then(|base| IpNet::new(base, route.prefix_len).ok())
            {
                slots.routes.adopt(*slot, prefix);
            }
        }
        for (slot, neighbour) in &running.neighbours {
            if let Some(address) = neighbour.address.to_ip(neighbour.family) {
                slots.neighbours.adopt(*slot, (neighbour.port, address));
            }
        }
        slots
    }

    /// A rule, and with it its policy, is named by what it holds.
    fn rule_key(&self, rule: &RuleRecord, policy: Option<&PolicyRecord>) -> Option<RuleKey> {
        let interface = self.ports.key(rule.port)?.clone();
        let selector = SelectorKey::from(&rule.selector);
        let (map_sequence, rule_sequence) = (rule.map_sequence, rule.rule_sequence);
        if rule.permit == 0 || rule.policy == NONE {
            return Some(RuleKey::Deny { interface, map_sequence, rule_sequence, selector });
        }
        let policy = policy?;
        let peer = policy.peer.to_ip(policy.family)?;
        Some(RuleKey::Permit(PolicyKey {
            interface,
            map_sequence,
            rule_sequence,
            peer,
            mode: policy.mode,
            selector,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_slot_while_others_come_and_go() {
        let mut map = SlotMap::new(Table::Tunnels, 4);
        let any = |_| true;
        let a = map.assign(&"a", any).unwrap();
        let b = map.assign(&"b", any).unwrap();
        assert_eq!(map.release(&"a"), Some(a));
        let c = map.assign(&"c", any).unwrap();
        assert_ne!(c, a, "a freed slot is used again as late as possible");
        assert_eq!(map.assign(&"b", any), Ok(b));
        assert_eq!(map.key(c), Some(&"c"));
    }

    #[test]
    fn a_slot_that_the_dataplane_still_holds_is_not_given_out() {
        let mut map = SlotMap::new(Table::Tunnels, 2);
        assert_eq!(map.assign(&"a", |slot| slot != 0), Ok(1));
        assert_eq!(map.assign(&"b", |slot| slot != 0), Err(NoSlot { table: Table::Tunnels }));
        assert_eq!(map.assign(&"b", |_| true), Ok(0));
        assert_eq!(map.assign(&"c", |_| true), Err(NoSlot { table: Table::Tunnels }));
    }

    #[test]
    fn of_two_slots_with_one_key_the_first_is_adopted() {
        let mut map = SlotMap::new(Table::Tunnels, 4);
        map.adopt(2, "a");
        map.adopt(3, "a");
        assert_eq!(map.slot(&"a"), Some(2));
        assert_eq!(map.key(3), None);
    }
}
