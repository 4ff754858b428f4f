//! Properties of plans, against a model of what the dataplane does with the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use shm::records::{
    Address, NONE, PortRecord, RouteRecord, RuleRecord, Selector, TunnelRecord, protection, route,
};
use shm::{Capacities, Region, Writer, name_bytes};

use super::*;
use crate::compile::{Compiled, PolicyKey, RuleKey, SelectorKey};
use crate::slots::Slots;
use crate::tables::{Conditions, Mirrored};

const CAPACITIES: Capacities = Capacities { rules: 256, policies: 128, ..Capacities::small() };
const PORT: &str = "black0";
/// Destinations that rules tell apart.
const FLOWS: u8 = 4;

/// A rule of the model: entry, place, permit or deny, one flow or all.
type ModelRule = (u32, u32, bool, Option<u8>);

#[derive(Clone, Debug)]
struct World {
    has_port: bool,
    has_crypto_map: bool,
    rules: Vec<ModelRule>,
    /// Protection of tunnels t0, t1, ..; `None` for one that is not there.
    tunnels: Vec<Option<u8>>,
    /// To which tunnel the route to 10.n.0.0/16 leads.
    routes: Vec<Option<usize>>,
}

fn world() -> impl Strategy<Value = World> {
    let rule = (1..3u32, 1..5u32, any::<bool>(), proptest::option::weighted(0.8, 0..FLOWS));
    let tunnel = proptest::option::weighted(0.8, prop_oneof![Just(0u8), Just(1), Just(2)]);
    (
        any::<bool>(),
        proptest::bool::weighted(0.8),
        proptest::collection::vec(rule, 0..10),
        proptest::collection::vec(tunnel, 3),
        proptest::collection::vec(proptest::option::of(0..3usize), 3),
    )
        .prop_map(|(has_port, has_crypto_map, mut rules, tunnels, routes)| {
            // Two rules of one entry never have one sequence.
            let mut places = BTreeSet::new();
            rules.retain(|(entry, place, ..)| places.insert((*entry, *place)));
            World { has_port, has_crypto_map, rules, tunnels, routes }
        })
}

fn selector(flow: Option<u8>) -> SelectorKey {
    SelectorKey::from(&Selector {
        source: Address::default(),
        destination: flow.map_or_else(Default::default, |flow| IpAddr::from([10, flow, 0, 1]).into()),
        source_prefix_len: 0,
        destination_prefix_len: if flow.is_some() { 32 } else { 0 },
        protocol: 0,
        family: 4,
        source_ports: [0, u16::MAX],
        destination_ports: [0, u16::MAX],
        reserved: [0; 4],
    })
}

impl World {
    fn compiled(&self) -> Compiled {
        let mut compiled = Compiled::default();
        if self.has_port {
            let record = PortRecord {
                present: 1,
                side: 1,
                enabled: 1,
                crypto_map: u8::from(self.has_crypto_map),
                mtu_bytes: 1500,
                name: name_bytes(PORT),
                device: name_bytes("af_packet:eth0"),
            };
            compiled.ports.insert(PORT.to_owned(), record);
        }
        for (map_sequence, rule_sequence, permit, flow) in &self.rules {
            if !self.has_port || !self.has_crypto_map {
                continue;
            }
            let (map_sequence, rule_sequence, interface) = (*map_sequence, *rule_sequence, PORT.to_owned());
            let selector = selector(*flow);
            if *permit {
                let peer = IpAddr::from([198, 51, 100, 3]);
                let key = PolicyKey { interface, map_sequence, rule_sequence, peer, mode: 1, selector };
                compiled.policies.insert(key.clone());
                compiled.rules.insert(RuleKey::Permit(key));
            } else {
                compiled.rules.insert(RuleKey::Deny { interface, map_sequence, rule_sequence, selector });
            }
        }
        for (number, protection) in self.tunnels.iter().enumerate() {
            let Some(protection) = protection else { continue };
            let name = format!("t{number}");
            let record = TunnelRecord {
                present: 1,
                enabled: 1,
                protection: *protection,
                family: 4,
                has_key: 0,
                ttl: 64,
                df: 1,
                reserved: 0,
                key: 0,
                mtu_bytes: 1400,
                outbound_sa: NONE,
                tcp_mss_bytes: 0,
                local: IpAddr::from([192, 0, 2, 1]).into(),
                remote: IpAddr::from([192, 0, 2, number as u8]).into(),
                name: name_bytes(&name),
            };
            compiled.tunnels.insert(name, record);
        }
        compiled
    }

    /// What the kernel would have: routes over twins that are there.
    fn mirrored(&self, slots: &Slots) -> Mirrored {
        let mut mirrored = Mirrored::default();
        for (number, tunnel) in self.routes.iter().enumerate() {
            let target = tunnel.and_then(|tunnel| slots.tunnels.slot(&format!("t{tunnel}")));
            let Some(target) = target else { continue };
            let base = IpAddr::from([10, number as u8, 0, 0]);
            let record = RouteRecord {
                present: 1,
                kind: route::TUNNEL,
                family: 4,
                prefix_len: 16,
                has_gateway: 0,
                reserved: [0; 3],
                target,
                reserved2: 0,
                prefix: base.into(),
                gateway: Address::default(),
            };
            mirrored.routes.insert(IpNet::new(base, 16).unwrap(), record);
        }
        mirrored
    }

    fn tables(&self, slots: &mut Slots, region: &Region) -> Tables {
        let resolve = |mirrored: Option<&Mirrored>, slots: &mut Slots| {
            Tables::resolve(&self.compiled(), mirrored, slots, region, |_| None, &Conditions::default())
        };
        // Routes need the slots of tunnels.
        resolve(None, slots);
        let mirrored = self.mirrored(slots);
        let (tables, full) = resolve(Some(&mirrored), slots);
        assert_eq!(full, []);
        tables
    }
}

fn apply(tables: &mut Tables, step: &Step) {
    match step {
        Step::PutPolicy(slot, record) => drop(tables.policies.insert(*slot, *record)),
        Step::PutRule(slot, record) => drop(tables.rules.insert(*slot, *record)),
        Step::PutTunnel(slot, record) => drop(tables.tunnels.insert(*slot, *record)),
        Step::PutPort(slot, record) => drop(tables.ports.insert(*slot, *record)),
        Step::PutNeighbour(slot, record) => drop(tables.neighbours.insert(*slot, *record)),
        Step::PutRoute(slot, record) => drop(tables.routes.insert(*slot, *record)),
        Step::AwaitProtection => {}
        Step::Clear(Table::Ports, slot) => drop(tables.ports.remove(slot)),
        Step::Clear(Table::Tunnels, slot) => drop(tables.tunnels.remove(slot)),
        Step::Clear(Table::Policies, slot) => drop(tables.policies.remove(slot)),
        Step::Clear(Table::Rules, slot) => drop(tables.rules.remove(slot)),
        Step::Clear(Table::Routes, slot) => drop(tables.routes.remove(slot)),
        Step::Clear(Table::Neighbours, slot) => drop(tables.neighbours.remove(slot)),
        Step::Clear(Table::Sas, _) => panic!("a plan touches no SA"),
    }
}

/// Whether a packet of a flow that leaves by the port is protected or dropped, or there is no such port. Of two rules
/// with one sequence the worse one is asked first.
fn is_closed_to(tables: &Tables, flow: u8) -> bool {
    let Some((port, record)) = tables.ports.iter().find(|(_, port)| port.name == name_bytes(PORT)) else {
        return true;
    };
    if record.crypto_map == 0 {
        return false;
    }
    let destination: Address = IpAddr::from([10, flow, 0, 1]).into();
    let matches = |rule: &RuleRecord| {
        rule.selector.destination_prefix_len == 0 || rule.selector.destination == destination
    };
    let mut entries: BTreeMap<u32, Vec<&RuleRecord>> = BTreeMap::new();
    for rule in tables.rules.values().filter(|rule| rule.port == *port && matches(rule)) {
        entries.entry(rule.map_sequence).or_default().push(rule);
    }
    entries.values().any(|rules| {
        rules
            .iter()
            .min_by_key(|rule| (rule.rule_sequence, rule.permit))
            .is_some_and(|rule| rule.permit == 1 && tables.policies.contains_key(&rule.policy))
    })
}

fn protected_tunnels(tables: &Tables) -> BTreeSet<[u8; 16]> {
    tables
        .tunnels
        .values()
        .filter(|tunnel| tunnel.protection != protection::NONE)
        .map(|tunnel| tunnel.name)
        .collect()
}

fn write(writer: &mut Writer, steps: &[Step]) {
    for step in steps {
        match step {
            Step::PutPolicy(slot, record) => drop(writer.put(*slot, record).unwrap()),
            Step::PutRule(slot, record) => drop(writer.put(*slot, record).unwrap()),
            Step::PutTunnel(slot, record) => drop(writer.put(*slot, record).unwrap()),
            Step::PutPort(slot, record) => drop(writer.put(*slot, record).unwrap()),
            Step::PutNeighbour(slot, record) => drop(writer.put(*slot, record).unwrap()),
            Step::PutRoute(slot, record) => drop(writer.put(*slot, record).unwrap()),
            Step::Clear(table, slot) => drop(writer.clear(*table, *slot).unwrap()),
            Step::AwaitProtection => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn each_step_from_one_world_to_another_is_closed(before in world(), after in world()) {
        let region = Region::anonymous(CAPACITIES).unwrap();
        let mut writer = region.writer().unwrap();
        let mut slots = Slots::recover(&region, &Tables::default());
        let running = before.tables(&mut slots, &region);
        write(&mut writer, &plan(&Tables::default(), &running));
        prop_assert_eq!(&Tables::read(&region), &running);
        // A restarted control finds the same names in the same slots.
        let mut recovered = Slots::recover(&region, &running);
        prop_assert_eq!(&before.tables(&mut recovered, &region), &running);
        let target = after.tables(&mut recovered, &region);
        prop_assert_eq!(plan(&target, &target), []);

        let closed = |tables: &Tables| (0..FLOWS).filter(|flow| is_closed_to(tables, *flow)).collect::<BTreeSet<_>>();
        let flows: BTreeSet<u8> = closed(&running).intersection(&closed(&target)).copied().collect();
        let tunnels: BTreeSet<_> =
            protected_tunnels(&running).intersection(&protected_tunnels(&target)).copied().collect();
        let mut tables = running.clone();
        for step in plan(&running, &target) {
            apply(&mut tables, &step);
            prop_assert!(closed(&tables).is_superset(&flows), "{:?} opens one of the flows {:?}", step, flows);
            prop_assert!(protected_tunnels(&tables).is_superset(&tunnels), "{:?} opens a tunnel", step);
            for rule in tables.rules.values() {
                prop_assert!(rule.permit == 0 || tables.policies.contains_key(&rule.policy), "{:?}", step);
            }
            for route in tables.routes.values() {
                prop_assert!(tables.tunnels.contains_key(&route.target), "{:?} leaves a route to nowhere", step);
            }
        }
        prop_assert_eq!(tables, target);
    }
}

#[test]
fn what_cannot_be_read_is_written_anew_or_cleared() {
    let region = Region::anonymous(CAPACITIES).unwrap();
    let mut slots = Slots::recover(&region, &Tables::default());
    let world = World {
        has_port: true,
        has_crypto_map: false,
        rules: vec![],
        tunnels: vec![Some(protection::PROFILE)],
        routes: vec![],
    };
    let target = world.tables(&mut slots, &region);
    let slot = *target.tunnels.keys().next().unwrap();
    let mut running = target.clone();
    running.tunnels.clear();
    running.unreadable.extend([(Table::Tunnels, slot), (Table::Rules, 3)]);
    assert_eq!(
        plan(&running, &target),
        [Step::AwaitProtection, Step::PutTunnel(slot, target.tunnels[&slot]), Step::Clear(Table::Rules, 3),]
    );
}

#[test]
fn ports_and_tunnels_wait_for_what_protects_them() {
    let region = Region::anonymous(CAPACITIES).unwrap();
    let mut slots = Slots::recover(&region, &Tables::default());
    let world = World {
        has_port: true,
        has_crypto_map: true,
        rules: vec![(1, 1, true, None), (1, 2, false, Some(1))],
        tunnels: vec![Some(protection::CRYPTO_MAP)],
        routes: vec![Some(0)],
    };
    let steps = plan(&Tables::default(), &world.tables(&mut slots, &region));
    let kinds: Vec<&str> = steps
        .iter()
        .map(|step| match step {
            Step::PutPolicy(..) => "policy",
            Step::PutRule(_, rule) if rule.permit == 1 => "permit",
            Step::PutRule(..) => "deny",
            Step::AwaitProtection => "await",
            Step::PutTunnel(..) => "tunnel",
            Step::PutPort(..) => "port",
            Step::PutNeighbour(..) => "neighbour",
            Step::PutRoute(..) => "route",
            Step::Clear(..) => "clear",
        })
        .collect();
    assert_eq!(kinds, ["policy", "permit", "deny", "await", "tunnel", "port", "route"]);
}
