//! The difference between what runs and what must run, as steps in an order that is closed at every moment: pure.
//!
//! The claim, which a property test checks against a model of the classifier: **a flow that is protected both before
//! and after is protected after each step, and so is a tunnel.** It holds because
//! - what protects (policies, rules) comes before what lets packets out (tunnels, ports, routes), with a wait for the
//!   dataplane between;
//! - rules never change in place, but are joined by the new ones and then leave; first come new permits, then old
//!   denies go, then new denies come, then old permits go. A flow that some entry protects before and some entry after
//!   then always finds one of the two;
//! - what leads somewhere goes before what it leads to, so that no slot is referred to when it is cleared.

use std::collections::BTreeMap;

use shm::records::{NeighbourRecord, PolicyRecord, PortRecord, RouteRecord, RuleRecord, TunnelRecord};
use shm::{Record, Table};

use crate::tables::Tables;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write a policy to its slot.
    PutPolicy(u32, PolicyRecord),
    /// Write a rule to its slot.
    PutRule(u32, RuleRecord),
    /// Wait until the dataplane looked at all policies and rules.
    AwaitProtection,
    /// Write a tunnel to its slot.
    PutTunnel(u32, TunnelRecord),
    /// Write a port to its slot.
    PutPort(u32, PortRecord),
    /// Write a neighbour to its slot.
    PutNeighbour(u32, NeighbourRecord),
    /// Write a route to its slot.
    PutRoute(u32, RouteRecord),
    /// Clear a slot.
    Clear(Table, u32),
}

/// The steps from `running` to `target`. No steps if they are equal.
#[must_use]
pub fn plan(running: &Tables, target: &Tables) -> Vec<Step> {
    let policies = Difference::of(&running.policies, &target.policies, running);
    let rules = Difference::of(&running.rules, &target.rules, running);
    let tunnels = Difference::of(&running.tunnels, &target.tunnels, running);
    let ports = Difference::of(&running.ports, &target.ports, running);
    let neighbours = Difference::of(&running.neighbours, &target.neighbours, running);
    let routes = Difference::of(&running.routes, &target.routes, running);

    let is_permit = |(_, rule): &(u32, RuleRecord)| rule.permit == 1;
    let (new_permits, new_denies): (Vec<_>, Vec<_>) = rules.put.into_iter().partition(is_permit);
    // A rule that cannot be read may permit: it goes last.
    let (old_denies, old_permits): (Vec<_>, Vec<_>) = rules
        .clear
        .into_iter()
        .partition(|slot| running.rules.get(slot).is_some_and(|rule| rule.permit == 0));

    let mut steps: Vec<Step> = Vec::new();
    steps.extend(policies.put.into_iter().map(|(slot, record)| Step::PutPolicy(slot, record)));
    steps.extend(new_permits.into_iter().map(|(slot, record)| Step::PutRule(slot, record)));
    steps.extend(old_denies.into_iter().map(|slot| Step::Clear(Table::Rules, slot)));
    steps.extend(new_denies.into_iter().map(|(slot, record)| Step::PutRule(slot, record)));
    if !(steps.is_empty() && tunnels.put.is_empty() && ports.put.is_empty()) {
        steps.push(Step::AwaitProtection);
    }
    steps.extend(tunnels.put.into_iter().map(|(slot, record)| Step::PutTunnel(slot, record)));
    steps.extend(ports.put.into_iter().map(|(slot, record)| Step::PutPort(slot, record)));
    steps.extend(neighbours.put.into_iter().map(|(slot, record)| Step::PutNeighbour(slot, record)));
    steps.extend(routes.put.into_iter().map(|(slot, record)| Step::PutRoute(slot, record)));

    let clear = |table: Table| move |slot: u32| Step::Clear(table, slot);
    steps.extend(routes.clear.into_iter().map(clear(Table::Routes)));
    steps.extend(neighbours.clear.into_iter().map(clear(Table::Neighbours)));
    steps.extend(ports.clear.into_iter().map(clear(Table::Ports)));
    steps.extend(tunnels.clear.into_iter().map(clear(Table::Tunnels)));
    steps.extend(old_permits.into_iter().map(clear(Table::Rules)));
    steps.extend(policies.clear.into_iter().map(clear(Table::Policies)));
    steps
}

/// The difference of one table.
struct Difference<R> {
    put: Vec<(u32, R)>,
    clear: Vec<u32>,
}

impl<R: Record + PartialEq> Difference<R> {
    fn of(running: &BTreeMap<u32, R>, target: &BTreeMap<u32, R>, tables: &Tables) -> Self {
        let put = target
            .iter()
            .filter(|(slot, record)| running.get(slot) != Some(record))
            .map(|(slot, record)| (*slot, *record))
            .collect();
        let unreadable =
            tables.unreadable.iter().filter(|(table, _)| *table == R::TABLE).map(|(_, slot)| *slot);
        let clear =
            running.keys().copied().chain(unreadable).filter(|slot| !target.contains_key(slot)).collect();
        Self { put, clear }
    }
}

#[cfg(test)]
mod tests;
