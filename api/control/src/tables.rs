//! The tables of the dataplane as values: what stands in the region, and what must stand there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use shm::records::Address;
use shm::records::{NONE, NeighbourRecord, PolicyRecord, PortRecord, RouteRecord, RuleRecord, TunnelRecord};
use shm::{Record, Region, Table};

use crate::compile::{Compiled, Owner, RuleKey};
use crate::slots::{NeighbourKey, NoSlot, Slots};

/// Records by slot. SAs are not among them: [`crate::sa_table`] keeps those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the tables")]
pub struct Tables {
    pub ports: BTreeMap<u32, PortRecord>,
    pub tunnels: BTreeMap<u32, TunnelRecord>,
    pub policies: BTreeMap<u32, PolicyRecord>,
    pub rules: BTreeMap<u32, RuleRecord>,
    pub routes: BTreeMap<u32, RouteRecord>,
    pub neighbours: BTreeMap<u32, NeighbourRecord>,
    /// Slots whose record is half written or not valid.
    pub unreadable: BTreeSet<(Table, u32)>,
}

/// What the mirror of the kernel adds to what is compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Routes; targets are slots.
    pub routes: BTreeMap<IpNet, RouteRecord>,
    /// Neighbours.
    pub neighbours: BTreeMap<NeighbourKey, NeighbourRecord>,
}

/// What holds of tunnels, by name, whatever is desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// They must carry nothing.
    pub closed: BTreeSet<String>,
    /// Their ESP goes in UDP.
    pub natted: BTreeSet<String>,
}

impl Tables {
    /// What stands in the region.
    #[must_use]
    pub fn read(region: &Region) -> Tables {
        let mut unreadable = BTreeSet::new();
        Tables {
            ports: read_table(region, &mut unreadable),
            tunnels: read_table(region, &mut unreadable),
            policies: read_table(region, &mut unreadable),
            rules: read_table(region, &mut unreadable),
            routes: read_table(region, &mut unreadable),
            neighbours: read_table(region, &mut unreadable),
            unreadable,
        }
    }

    /// What must stand in the region, and what found no slot. Gives slots to what has none, and takes them from what
    /// is gone. While nothing is `mirrored` yet, routes and neighbours are no part of the result and keep their slots.
    ///
    /// `outbound` gives the SA in use of an owner; `conditions` hold of tunnels whatever is desired.
    pub fn resolve(
        compiled: &Compiled,
        mirrored: Option<&Mirrored>,
        slots: &mut Slots,
        region: &Region,
        outbound: impl Fn(&Owner) -> Option<u32>,
        conditions: &Conditions,
    ) -> (Tables, Vec<NoSlot>) {
        let mut tables = Tables::default();
        let mut full = Vec::new();
        let reusable = |table| move |slot| region.is_reusable(table, slot);

        slots.ports.retain(|name| compiled.ports.contains_key(name));
        for (name, record) in &compiled.ports {
            match slots.ports.assign(name, reusable(Table::Ports)) {
                Ok(slot) => drop(tables.ports.insert(slot, *record)),
                Err(error) => full.push(error),
            }
        }
        slots.tunnels.retain(|name| compiled.tunnels.contains_key(name));
        for name in compiled.tunnels.keys() {
            let Some(record) = compiled.tunnel(name, conditions.natted.contains(name)) else { continue };
            match slots.tunnels.assign(name, reusable(Table::Tunnels)) {
                Ok(slot) => {
                    let outbound_sa = outbound(&Owner::Tunnel(name.clone())).unwrap_or(NONE);
                    let enabled = if conditions.closed.contains(name) { 0 } else { record.enabled };
                    tables.tunnels.insert(slot, TunnelRecord { outbound_sa, enabled, ..record });
                }
                Err(error) => full.push(error),
            }
        }
        slots.policies.retain(|key| compiled.policies.contains(key));
        for key in &compiled.policies {
            let Some(port) = slots.ports.slot(&key.interface) else { continue };
            match slots.policies.assign(key, reusable(Table::Policies)) {
                Ok(slot) => {
                    let (family, peer) = Address::from_ip(key.peer);
                    let outbound_sa = outbound(&Owner::Policy(key.clone())).unwrap_or(NONE);
                    let record = PolicyRecord {
                        present: 1,
                        mode: key.mode,
                        family,
                        reserved: [0; 5],
                        outbound_sa,
                        port,
                        peer,
                    };
                    tables.policies.insert(slot, record);
                }
                Err(error) => full.push(error),
            }
        }
        slots.rules.retain(|key| compiled.rules.contains(key));
        for key in &compiled.rules {
            let Some(record) = rule_record(key, slots) else { continue };
            match slots.rules.assign(key, reusable(Table::Rules)) {
                Ok(slot) => drop(tables.rules.insert(slot, record)),
                Err(error) => full.push(error),
            }
        }
        if let Some(mirrored) = mirrored {
            slots.routes.retain(|prefix| mirrored.routes.contains_key(prefix));
            for (prefix, record) in &mirrored.routes {
                match slots.routes.assign(prefix, reusable(Table::Routes)) {
                    Ok(slot) => drop(tables.routes.insert(slot, *record)),
                    Err(error) => full.push(error),
                }
            }
            slots.neighbours.retain(|key| mirrored.neighbours.contains_key(key));
            for (key, record) in &mirrored.neighbours {
                match slots.neighbours.assign(key, reusable(Table::Neighbours)) {
                    Ok(slot) => drop(tables.neighbours.insert(slot, *record)),
                    Err(error) => full.push(error),
                }
            }
        }
        full.dedup();
        (tables, full)
    }

    /// The best route to an address: the record with the longest prefix.
    #[must_use]
    pub fn best_route(routes: &BTreeMap<IpNet, RouteRecord>, address: IpAddr) -> Option<&RouteRecord> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (0..=longest)
            .rev()
            .filter_map(|length| IpNet::new(address, length).ok())
            .find_map(|net| routes.get(&net.trunc()))
    }
}

fn rule_record(key: &RuleKey, slots: &Slots) -> Option<RuleRecord> {
    let port = slots.ports.slot(&key.interface().to_owned())?;
    let (permit, map_sequence, rule_sequence, selector, policy) = match key {
        RuleKey::Permit(policy) => (
            1,
            policy.map_sequence,
            policy.rule_sequence,
            policy.selector.selector(),
            // Without a policy the flow could not be protected: no rule, and `resolve` reported the full table.
            slots.policies.slot(policy)?,
        ),
        RuleKey::Deny { map_sequence, rule_sequence, selector, .. } => {
            (0, *map_sequence, *rule_sequence, selector.selector(), NONE)
        }
    };
    Some(RuleRecord {
        present: 1,
        permit,
        reserved: [0; 2],
        port,
        map_sequence,
        rule_sequence,
        policy,
        reserved2: 0,
        selector,
    })
}

fn read_table<R: Record>(region: &Region, unreadable: &mut BTreeSet<(Table, u32)>) -> BTreeMap<u32, R> {
    let mut records = BTreeMap::new();
    for slot in 0..region.capacities().of(R::TABLE) {
        match region.read::<R>(slot) {
            Ok(found) => records.extend(found.record.map(|record| (slot, record))),
            Err(_) => drop(unreadable.insert((R::TABLE, slot))),
        }
    }
    records
}
