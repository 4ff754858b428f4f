//! Crypto maps, as they are applied to interfaces: rules, policies and children.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use model::{Action, CryptoMapEntry, Desired, Interface, Name, PortRange, Prefix, Rule, TunnelProtection};
use shm::records::Selector;

use super::Compiled;
use super::connection::{Connections, Request, record_mode};
use super::names::{Object, Owner, PolicyKey, Problem, RuleKey, SelectorKey};

pub(super) fn crypto_maps(desired: &Desired, compiled: &mut Compiled, connections: &mut Connections<'_>) {
    for (interface_name, interface) in &desired.interfaces {
        let Some(map_name) = &interface.crypto_map else { continue };
        let Some(map) = desired.crypto_maps.get(map_name) else { continue };
        for entry in &map.entries {
            let place = Place { interface_name: interface_name.as_str(), interface, map_name, entry };
            place.compile(desired, compiled, connections);
        }
    }
}

/// An entry of a crypto map, where it is applied.
struct Place<'a> {
    interface_name: &'a str,
    interface: &'a Interface,
    map_name: &'a Name,
    entry: &'a CryptoMapEntry,
}

impl Place<'_> {
    /// Rules and policies are made whatever may be missing for a connection: what they match is dropped then.
    fn compile(&self, desired: &Desired, compiled: &mut Compiled, connections: &mut Connections<'_>) {
        let local = self.interface.addresses.iter().find_map(|address| match address.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let mut problem = |cause: String| {
            let object = Object::CryptoMapEntry {
                interface: self.interface_name.to_owned(),
                crypto_map: self.map_name.as_str().to_owned(),
                sequence: self.entry.sequence,
            };
            let problem = Problem { object, cause };
            if !compiled.problems.contains(&problem) {
                compiled.problems.push(problem);
            }
        };
        let Some(list) = desired.access_lists.get(&self.entry.access_list) else {
            problem(format!("its access-list {} does not exist", self.entry.access_list));
            return;
        };
        let Some(mode) = desired.mode_of(&self.entry.terms) else {
            problem("none of its transform sets exists".to_owned());
            return;
        };
        for rule in &list.rules {
            let selector = selector(rule);
            if rule.action == Action::Deny {
                compiled.rules.insert(RuleKey::Deny {
                    interface: self.interface_name.to_owned(),
                    map_sequence: self.entry.sequence,
                    rule_sequence: rule.sequence,
                    selector: SelectorKey::from(&selector),
                });
                continue;
            }
            let key = PolicyKey {
                interface: self.interface_name.to_owned(),
                map_sequence: self.entry.sequence,
                rule_sequence: rule.sequence,
                peer: IpAddr::V4(self.entry.peer),
                mode: record_mode(mode),
                selector: SelectorKey::from(&selector),
            };
            compiled.rules.insert(RuleKey::Permit(key.clone()));
            let shadow = shadow(&key, &compiled.policies);
            compiled.policies.insert(key.clone());
            if let Some(cause) = shadow {
                problem(cause);
                continue;
            }
            if !self.interface.enabled {
                continue;
            }
            let result = match local {
                None => Err(format!("the interface {} has no IPv4 address", self.interface_name)),
                Some(local) => connections.add(Request {
                    owner: Owner::Policy(key),
                    local,
                    remote: self.entry.peer,
                    local_identity: self.entry.local_identity.as_ref(),
                    remote_identity: self.entry.remote_identity.as_ref(),
                    terms: &self.entry.terms,
                    selector,
                    start: protects_a_tunnel(desired, rule),
                }),
            };
            if let Err(cause) = result {
                problem(cause);
            }
        }
    }
}

/// Whether a rule is there for a tunnel, whose SAs are brought up without waiting for a packet.
fn protects_a_tunnel(desired: &Desired, rule: &Rule) -> bool {
    const GRE: u8 = 47;
    let gre = rule.protocol.number().is_none_or(|protocol| protocol == GRE);
    let covers = |prefix: Option<Prefix>, address: Ipv4Addr| {
        prefix.is_none_or(|prefix| prefix.contains(IpAddr::V4(address)))
    };
    gre && desired.tunnels.values().any(|tunnel| {
        tunnel.enabled
            && tunnel.protection == TunnelProtection::CryptoMap
            && covers(rule.destination.prefix(), tunnel.destination)
            && desired.source_of(tunnel).is_some_and(|source| covers(rule.source.prefix(), source))
    })
}

/// Why a flow has no SA of its own: another one before it takes all that leaves. What came in by such an SA would be
/// answered by the other, and so to somebody else where two peers stand behind one NAT (RFC 3948 section 5.2).
fn shadow(flow: &PolicyKey, policies: &BTreeSet<PolicyKey>) -> Option<String> {
    let place = |key: &PolicyKey| (key.map_sequence, key.rule_sequence);
    let is_before = |other: &&PolicyKey| {
        other.interface == flow.interface && other.selector == flow.selector && place(other) < place(flow)
    };
    let first = policies.iter().filter(is_before).min_by_key(|other| place(other))?;
    Some(format!(
        "its rule {} protects the same packets as rule {} of entry {}, which is asked first: the two cannot be told \
         apart. Peers behind one NAT need a tunnel each, with a GRE key and an ipsec-profile",
        flow.rule_sequence, first.rule_sequence, first.map_sequence
    ))
}

/// What a rule matches. `any` beside a prefix is of the prefix's family; `any` to `any` is of either.
fn selector(rule: &Rule) -> Selector {
    let source = rule.source.prefix();
    let destination = rule.destination.prefix();
    let family = match source.or(destination).map(|prefix| prefix.is_ipv4()) {
        None => 0,
        Some(true) => 4,
        Some(false) => 6,
    };
    let base = |prefix: Option<Prefix>| prefix.map_or_else(Default::default, |prefix| prefix.addr().into());
    let length = |prefix: Option<Prefix>| prefix.map_or(0, Prefix::prefix_len);
    Selector {
        source: base(source),
        destination: base(destination),
        source_prefix_len: length(source),
        destination_prefix_len: length(destination),
        protocol: rule.protocol.number().unwrap_or(0),
        family,
        source_ports: ports(rule.source_ports),
        destination_ports: ports(rule.destination_ports),
        reserved: [0; 4],
    }
}

fn ports(range: Option<PortRange>) -> [u16; 2] {
    range.map_or([0, u16::MAX], |range| [range.first(), range.last()])
}
