//! The executor against a dataplane that acknowledges what it is told to.

mod sas;

use std::net::SocketAddr;

use ike::{
    ChildLifetime, ChildPair, EspEncryption, EspKeys, Mode, OperationId, Path, SaOperation, TrafficSelector,
};
use serde_json::json;
use shm::records::{Address, SaRecord, TunnelRecord, direction, route};
use shm::{Capacities, Change, Reader, Slot};
use zeroize::Zeroizing;

use super::*;
use crate::compile::compile;
use crate::compile::tests::{apply_crypto_map, gateway, tunnel};
use crate::sa_table::{ACKNOWLEDGE_WITHIN, ADOPTED_LINGER, SaError};

pub(crate) struct Lab {
    pub(crate) region: Region,
    pub(crate) dataplane: Reader,
    pub(crate) executor: Executor,
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) now: Instant,
}

impl Lab {
    /// A gateway with the tunnel gre1 and the crypto map, in force.
    pub(crate) fn new() -> Lab {
        let region = Region::anonymous(Capacities::small()).unwrap();
        let dataplane = region.reader().unwrap();
        let mut desired = gateway();
        apply_crypto_map(&mut desired);
        tunnel(&mut desired, "gre1", "198.51.100.2", json!({"ipsec_profile": "branch"}));
        let compiled = Arc::new(compile(&desired));
        let executor = Executor::attach(&region).unwrap();
        let mut lab = Lab { region, dataplane, executor, compiled, now: Instant::now() };
        lab.executor.set_compiled(Arc::clone(&lab.compiled));
        lab.executor.set_mirrored(Mirrored::default());
        lab.executor.sync(lab.now);
        lab.settle();
        lab
    }

    /// The dataplane looks at everything and applies it.
    pub(crate) fn acknowledge(&mut self) {
        while self.dataplane.next_change().is_some() {}
        for table in Table::ALL {
            for slot in 0..self.region.capacities().of(table) {
                let version = match table {
                    Table::Sas => self.region.read::<SaRecord>(slot).unwrap().version,
                    Table::Ports => self.region.read::<PortRecord>(slot).unwrap().version,
                    Table::Tunnels => self.region.read::<TunnelRecord>(slot).unwrap().version,
                    Table::Policies => self.region.read::<shm::records::PolicyRecord>(slot).unwrap().version,
                    Table::Rules => self.region.read::<RuleRecord>(slot).unwrap().version,
                    Table::Routes => self.region.read::<RouteRecord>(slot).unwrap().version,
                    Table::Neighbours => self.region.read::<NeighbourRecord>(slot).unwrap().version,
                };
                if self.region.ack(table, slot).applied < version {
                    self.dataplane.acknowledge(table, slot, version);
                }
            }
        }
    }

    /// Acknowledges and goes on until all is done.
    pub(crate) fn settle(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for _ in 0..4 {
            self.acknowledge();
            let progress = self.executor.progress(self.now);
            answers.extend(progress.answers);
        }
        answers
    }

    /// The process dies and another one takes over.
    pub(crate) fn restart(mut self) -> Lab {
        drop(self.executor);
        self.executor = Executor::attach(&self.region).unwrap();
        self.executor.set_compiled(Arc::clone(&self.compiled));
        self
    }

    pub(crate) fn tunnel(&self, name: &str) -> TunnelRecord {
        let slot = self.executor.slots().tunnels.slot(&name.to_owned()).unwrap();
        self.region.read(slot).unwrap().record.unwrap()
    }

    pub(crate) fn sas(&self) -> Vec<(u32, SaRecord)> {
        (0..self.region.capacities().sas)
            .filter_map(|slot| Some((slot, self.region.read::<SaRecord>(slot).unwrap().record?)))
            .collect()
    }

    pub(crate) fn spis(&self) -> Vec<u32> {
        let mut spis: Vec<u32> = self.sas().iter().map(|(_, sa)| sa.spi).collect();
        spis.sort_unstable();
        spis
    }

    /// The SPI that gre1 sends with.
    pub(crate) fn sends_with(&self) -> Option<u32> {
        let slot = self.tunnel("gre1").outbound_sa;
        self.region.read::<SaRecord>(slot).ok()?.record.map(|sa| sa.spi)
    }

    pub(crate) fn pair(&self, spi_in: u32) -> ChildPair {
        let owner = Owner::Tunnel("gre1".to_owned());
        let (id, child) = self.compiled.child_of(&owner).unwrap();
        let keys = |byte: u8| EspKeys {
            key: Zeroizing::new(vec![byte; 32]),
            salt: Zeroizing::new(vec![byte; 4]),
            integrity: Zeroizing::default(),
        };
        let host = |address: IpAddr| TrafficSelector {
            first: address,
            last: address,
            protocol: 47,
            ports: (0, 65535),
        };
        ChildPair {
            child: id,
            connection: child.connection,
            spi_in,
            spi_out: spi_in + 0x1000,
            path: Path {
                local: SocketAddr::new(child.local, 500),
                remote: SocketAddr::new(child.remote, 500),
            },
            udp_encapsulation: false,
            mode: Mode::Transport,
            encryption: EspEncryption::Aes256Gcm16,
            integrity: None,
            esn: true,
            key_exchange: None,
            local_selectors: vec![host(child.local)],
            remote_selectors: vec![host(child.remote)],
            keys_in: keys(1),
            keys_out: keys(2),
            lifetime: ChildLifetime {
                soft: Duration::from_secs(3000),
                hard: Duration::from_secs(3600),
                soft_packets: Some(9_000),
                hard_packets: Some(10_000),
                soft_bytes: None,
                hard_bytes: None,
            },
        }
    }

    pub(crate) fn begin_install(&mut self, number: u64, spi_in: u32, send: bool) -> Progress {
        let pair = Box::new(self.pair(spi_in));
        let operation = SaOperation::Install { operation: OperationId(number), send, pair };
        self.executor.operate(&operation, self.now)
    }

    /// Installs a pair, not to be sent on.
    pub(crate) fn install_pair(&mut self, pair: ChildPair) -> Vec<Answer> {
        let install = SaOperation::Install { operation: OperationId(7), send: false, pair: Box::new(pair) };
        let begun = self.executor.operate(&install, self.now).answers;
        [begun, self.settle()].concat()
    }

    pub(crate) fn install(&mut self, spi_in: u32, send: bool) {
        self.begin_install(u64::from(spi_in), spi_in, send);
        assert_eq!(self.settle(), [(OperationId(u64::from(spi_in)), Ok(()))]);
    }
}

fn route_to(prefix: &str, target: u32) -> (IpNet, RouteRecord) {
    let net: IpNet = prefix.parse().unwrap();
    let record = RouteRecord {
        present: 1,
        kind: route::TUNNEL,
        family: 4,
        prefix_len: net.prefix_len(),
        has_gateway: 0,
        reserved: [0; 3],
        target,
        reserved2: 0,
        prefix: net.addr().into(),
        gateway: Address::default(),
    };
    (net, record)
}

#[test]
fn a_port_comes_only_after_its_rules_are_in_force() {
    let region = Region::anonymous(Capacities::small()).unwrap();
    let dataplane = region.reader().unwrap();
    let mut desired = gateway();
    apply_crypto_map(&mut desired);
    let mut executor = Executor::attach(&region).unwrap();
    executor.set_compiled(Arc::new(compile(&desired)));
    let now = Instant::now();
    let progress = executor.sync(now);
    assert!(progress.wrote && !progress.in_sync);
    assert_eq!(progress.wake_at, Some(now + PROTECTION_WITHIN));
    let port = |executor: &Executor| executor.slots().ports.slot(&"black0".to_owned()).unwrap();
    let read = |slot| -> Slot<PortRecord> { region.read(slot).unwrap() };
    assert_eq!(read(port(&executor)).record, None);

    let mut lab = Lab { region: region.clone(), dataplane, executor, compiled: Arc::default(), now };
    lab.acknowledge();
    assert!(lab.executor.progress(now).in_sync);
    assert_eq!(read(port(&lab.executor)).record.map(|port| port.enabled), Some(1));
    assert_eq!(lab.executor.port_verdict("black0"), Verdict::Pending);
    lab.acknowledge();
    assert_eq!(lab.executor.port_verdict("black0"), Verdict::Applied);
    assert_eq!(lab.executor.port_verdict("black9"), Verdict::Absent);
}

#[test]
fn without_a_dataplane_everything_is_written_after_the_wait() {
    let region = Region::anonymous(Capacities::small()).unwrap();
    let mut desired = gateway();
    apply_crypto_map(&mut desired);
    let mut executor = Executor::attach(&region).unwrap();
    executor.set_compiled(Arc::new(compile(&desired)));
    let now = Instant::now();
    assert!(!executor.sync(now).in_sync);
    assert!(executor.progress(now + PROTECTION_WITHIN).in_sync);
    assert_eq!(Tables::read(&region).ports.len(), 2);
}

#[test]
fn a_port_with_a_refused_rule_stays_closed() {
    let region = Region::anonymous(Capacities::small()).unwrap();
    let dataplane = region.reader().unwrap();
    let mut desired = gateway();
    apply_crypto_map(&mut desired);
    let mut executor = Executor::attach(&region).unwrap();
    executor.set_compiled(Arc::new(compile(&desired)));
    let now = Instant::now();
    executor.sync(now);
    let (slot, _) = Tables::read(&region).rules.into_iter().find(|(_, rule)| rule.permit == 1).unwrap();
    let version = region.read::<RuleRecord>(slot).unwrap().version;
    dataplane.refuse(Table::Rules, slot, version, Refusal::NoSpace);
    let mut lab = Lab { region: region.clone(), dataplane, executor, compiled: Arc::default(), now };
    lab.settle();
    let enabled: BTreeMap<String, u8> = Tables::read(&region)
        .ports
        .values()
        .map(|port| (shm::name_text(&port.name).to_owned(), port.enabled))
        .collect();
    assert_eq!(enabled, BTreeMap::from([("black0".to_owned(), 0), ("red0".to_owned(), 1)]));
}

#[test]
fn an_open_port_closes_for_a_refused_rule_and_opens_when_it_is_taken() {
    let mut lab = Lab::new();
    let enabled = |lab: &Lab| {
        let slot = lab.executor.slots().ports.slot(&"black0".to_owned()).unwrap();
        lab.region.read::<PortRecord>(slot).unwrap().record.unwrap().enabled
    };
    let mut desired = gateway();
    apply_crypto_map(&mut desired);
    crate::compile::tests::set::<model::AccessList>(
        &mut desired,
        "to-gamma",
        json!({"rules": [{"sequence": 1, "action": "permit", "protocol": "ip", "source": "any", "destination": "any"}]}),
    );
    lab.executor.set_compiled(Arc::new(compile(&desired)));
    lab.executor.sync(lab.now);
    for slot in 0..lab.region.capacities().rules {
        let found = lab.region.read::<RuleRecord>(slot).unwrap();
        if found.record.is_some_and(|rule| rule.rule_sequence == 1) {
            lab.dataplane.refuse(Table::Rules, slot, found.version, Refusal::LookupFailed);
        }
    }
    lab.settle();
    assert_eq!(enabled(&lab), 0);
    lab.executor.sync(lab.now);
    lab.settle();
    assert_eq!(enabled(&lab), 1);
}

#[test]
fn a_second_sync_writes_nothing() {
    let mut lab = Lab::new();
    while lab.dataplane.next_change().is_some() {}
    let progress = lab.executor.sync(lab.now);
    assert!(progress.in_sync && !progress.wrote);
    assert_eq!(lab.dataplane.next_change(), None);
}

#[test]
fn a_restart_keeps_slots_and_touches_no_route_before_the_mirror_is_read() {
    let mut lab = Lab::new();
    let slot = lab.executor.slots().tunnels.slot(&"gre1".to_owned()).unwrap();
    let (prefix, route) = route_to("10.2.0.0/16", slot);
    assert!(lab.executor.set_route(prefix, Some(route), lab.now).wrote);
    lab.settle();
    let before = Tables::read(&lab.region);
    assert_eq!(before.routes.len(), 1);

    let mut lab = lab.restart();
    lab.executor.sync(lab.now);
    lab.settle();
    assert_eq!(Tables::read(&lab.region), before);
    assert_eq!(lab.executor.slots().tunnels.slot(&"gre1".to_owned()), Some(slot));
    lab.executor.set_mirrored(Mirrored::default());
    lab.executor.sync(lab.now);
    assert!(Tables::read(&lab.region).routes.is_empty());
}

#[test]
fn one_route_costs_one_record() {
    let mut lab = Lab::new();
    while lab.dataplane.next_change().is_some() {}
    let (prefix, route) = route_to("10.2.0.0/16", 0);
    assert!(lab.executor.set_route(prefix, Some(route), lab.now).wrote);
    assert!(!lab.executor.set_route(prefix, Some(route), lab.now).wrote, "nothing changed");
    let changes: Vec<_> = std::iter::from_fn(|| lab.dataplane.next_change()).collect();
    assert!(matches!(changes.as_slice(), [Change::Slot(Table::Routes, _)]), "{changes:?}");
    assert!(lab.executor.set_route(prefix, None, lab.now).wrote);
    assert!(Tables::read(&lab.region).routes.is_empty());
}

#[test]
fn a_closed_tunnel_is_disabled_until_it_is_opened() {
    let mut lab = Lab::new();
    let slot = lab.executor.slots().tunnels.slot(&"gre1".to_owned()).unwrap();
    let (prefix, route) = route_to("198.51.100.0/24", slot);
    lab.executor.set_route(prefix, Some(route), lab.now);
    assert_eq!(
        lab.executor.recursive_tunnels(),
        BTreeMap::from([("gre1".to_owned(), vec!["gre1".to_owned()])])
    );
    for (closed, enabled) in [(vec!["gre1".to_owned()], 0), (vec![], 1)] {
        lab.executor.set_closed(closed.into_iter().collect());
        lab.executor.sync(lab.now);
        lab.settle();
        assert_eq!(lab.tunnel("gre1").enabled, enabled);
    }
}

#[test]
fn a_natted_tunnel_carries_eight_bytes_less() {
    let mut lab = Lab::new();
    for (natted, mtu_bytes) in [(vec!["gre1".to_owned()], 1434), (vec![], 1442)] {
        lab.executor.set_natted(natted.into_iter().collect());
        lab.executor.sync(lab.now);
        lab.settle();
        let record = lab.tunnel("gre1");
        assert_eq!((record.mtu_bytes, record.tcp_mss_bytes), (mtu_bytes, mtu_bytes - 40));
    }
}

#[test]
fn an_object_that_returns_gets_another_slot_until_the_dataplane_let_go() {
    let mut lab = Lab::new();
    let first = lab.executor.slots().tunnels.slot(&"gre1".to_owned()).unwrap();
    lab.executor.set_compiled(Arc::default());
    lab.executor.sync(lab.now);
    assert!(!lab.region.is_reusable(Table::Tunnels, first));
    let compiled = Arc::clone(&lab.compiled);
    lab.executor.set_compiled(compiled);
    lab.executor.sync(lab.now);
    assert_ne!(lab.executor.slots().tunnels.slot(&"gre1".to_owned()), Some(first));
    lab.settle();
    assert!(lab.region.is_reusable(Table::Tunnels, first));
}
