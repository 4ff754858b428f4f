//! The survey: after a burst of changes, look at recursion and neighbours, judge every tunnel and flow, publish.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use shm::records::{SaRecord, TunnelRecord, direction, mode, protection};
use shm::{PortState, name_text};
use time::OffsetDateTime;
use zeroize::Zeroize;

use super::{Gateway, natted};
use crate::compile::{Compiled, Object, Owner, PolicyKey};
use crate::netlink::NextHop;
use crate::picture::{self, Picture, SaPicture, TunnelPicture, isakmp_id_text, port_text, spi_text};
use crate::recursion;
use crate::state::{Facts, Protection, judge};
use crate::view::{Condition, Direction, FlowState, IpsecSa, IsakmpSa, ReplayCounters};
use crate::{Verdict, view};

impl Gateway {
    pub(super) fn survey(&mut self, now: Instant) {
        self.survey_at = None;
        let compiled = self.compiled.clone().unwrap_or_default();
        self.watch_recursion(&compiled, now);
        if self.dataplane.is_alive() {
            self.keep_neighbours(false);
        }
        self.watch_nats(&compiled, now);
        let sas = self.sa_pictures(&compiled);
        let spis = spis(&sas);
        let taken_at = OffsetDateTime::now_utc();
        let flows = self.flows(&compiled, &spis, taken_at);
        let tunnels = self.tunnels(&compiled, &spis, &flows, taken_at);
        let picture = Picture {
            region: Some(self.region.clone()),
            generation: compiled.generation,
            away_after: self.config.away_after,
            connected: self.dataplane.is_connected(),
            tunnels,
            flows: flows.into_iter().map(|(_, map, flow)| (map, flow)).collect(),
            ports: compiled
                .ports
                .iter()
                .map(|(name, port)| {
                    (name.clone(), name_text(&port.device).to_owned(), self.executor.slots().ports.slot(name))
                })
                .collect(),
            sas,
            isakmp: self.isakmp(&compiled, now),
            ike: self.driver.counters(),
            mirrored: (
                self.mirror.image().routes.len() as u64,
                self.mirror.image().neighbours.len() as u64,
                self.mirror.overruns(),
            ),
            complaints: self.all_complaints(&compiled),
            taken: Some(now),
        };
        self.shared.publish(picture);
        // Counters of the engine, and what lingers, move without an event.
        const LATEST: std::time::Duration = std::time::Duration::from_secs(1);
        let next = self.guard.wake_at().map_or(now + LATEST, |at| at.clamp(now + LATEST / 10, now + LATEST));
        self.survey_at.get_or_insert(next);
    }

    /// Closes tunnels whose far end is reached through themselves, and opens those that no longer are.
    fn watch_recursion(&mut self, compiled: &Compiled, now: Instant) {
        let slots = &self.executor.slots().tunnels;
        let tunnels = compiled.tunnels.iter().filter_map(|(name, tunnel)| Some((slots.slot(name)?, tunnel)));
        let far_ends = recursion::far_ends(tunnels);
        let name = |slot: &u32| slots.key(*slot).cloned().unwrap_or_default();
        let circles: BTreeMap<String, Vec<String>> =
            recursion::recursive(&far_ends, &self.mirror.image().routes)
                .iter()
                .map(|(slot, way)| (name(slot), way.iter().map(name).collect()))
                .collect();
        if self.guard.observe(&circles, now) {
            let closed: BTreeSet<String> = self.guard.closed().map(|(name, _)| name.to_owned()).collect();
            self.executor.set_closed(closed);
            let progress = self.executor.sync(now);
            self.absorb(progress);
        }
    }

    /// Keeps the neighbours resolved that ESP and routes need: all of them when `again`, otherwise the new ones.
    pub(super) fn keep_neighbours(&mut self, again: bool) {
        let Some(compiled) = self.compiled.clone() else {
            return;
        };
        let of_tunnels = compiled.tunnels.values().filter_map(|tunnel| tunnel.remote.to_ip(tunnel.family));
        let of_policies = compiled.policies.iter().map(|policy| policy.peer);
        let of_sas = self.executor.destinations().map(|(_, address, _)| address);
        let needed = self.mirror.needed_neighbours(of_tunnels.chain(of_policies).chain(of_sas));
        for (link, address) in needed.iter().filter(|key| again || !self.kept.contains(key)) {
            if let Err(error) = self.kernel.use_neighbour(*link, *address, true) {
                tracing::debug!(%error, %address, "a neighbour cannot be kept");
            }
        }
        for (link, address) in self.kept.difference(&needed) {
            // Its device may be gone, and the neighbour with it.
            let _ = self.kernel.use_neighbour(*link, *address, false);
        }
        self.kept = needed;
    }

    fn flows(
        &mut self,
        compiled: &Compiled,
        sas: &Spis,
        now: OffsetDateTime,
    ) -> Vec<(PolicyKey, String, FlowState)> {
        let owners: BTreeMap<&Owner, ike::ChildId> =
            compiled.children.iter().map(|(id, child)| (&child.owner, *id)).collect();
        let mut flows = Vec::new();
        for key in &compiled.policies {
            let owner = Owner::Policy(key.clone());
            let map = self.names.crypto_maps.get(&key.interface).cloned().unwrap_or_default();
            let entry = Object::CryptoMapEntry {
                interface: key.interface.clone(),
                crypto_map: map.clone(),
                sequence: key.map_sequence,
            };
            let facts = Facts {
                enabled: compiled.ports.get(&key.interface).is_some_and(|port| port.enabled == 1),
                problem: compiled.problems_of(&entry).next().map(str::to_owned),
                closed: None,
                dataplane_alive: self.dataplane.is_alive(),
                verdict: self.executor.policy_verdict(key),
                port: self.port_cause(&key.interface),
                has_route: self.mirror.next_hop(key.peer) != NextHop::Nowhere,
                peer: key.peer.to_string(),
                protection: self.sas_of(&owner, owners.get(&owner)),
            };
            let (standing, changed) = self.flow_standings.note(key, judge(&facts), now);
            log_change(&owner.to_string(), &standing, changed);
            let (spi_in, spi_out) = sas.get(&owner_text(&owner, &map)).copied().unwrap_or_default();
            let flow = FlowState {
                interface: key.interface.clone(),
                entry_sequence: key.map_sequence,
                rule_sequence: key.rule_sequence,
                peer: key.peer.to_string(),
                state: standing.condition,
                cause: standing.cause,
                since: standing.since,
                spi_in: spi_in.map(spi_text),
                spi_out: spi_out.map(spi_text),
            };
            flows.push((key.clone(), map, flow));
        }
        self.flow_standings.retain(|key| compiled.policies.contains(key));
        flows
    }

    fn tunnels(
        &mut self,
        compiled: &Compiled,
        sas: &Spis,
        flows: &[(PolicyKey, String, FlowState)],
        now: OffsetDateTime,
    ) -> BTreeMap<String, TunnelPicture> {
        let owners: BTreeMap<&Owner, ike::ChildId> =
            compiled.children.iter().map(|(id, child)| (&child.owner, *id)).collect();
        let closed: BTreeMap<String, String> =
            self.guard.closed().map(|(name, cause)| (name.to_owned(), cause.to_owned())).collect();
        let mut pictures = BTreeMap::new();
        for (name, enabled) in self.names.tunnels.clone() {
            let record = compiled.tunnels.get(&name);
            let owner = Owner::Tunnel(name.clone());
            let remote = record.and_then(|record| record.remote.to_ip(record.family));
            let matching = record.and_then(|record| matching_flow(record, flows));
            let facts = Facts {
                enabled,
                problem: compiled.problems_of(&Object::Tunnel(name.clone())).next().map(str::to_owned),
                closed: closed.get(&name).cloned(),
                dataplane_alive: self.dataplane.is_alive(),
                verdict: self.executor.tunnel_verdict(&name),
                port: remote.and_then(|remote| self.egress_cause(remote)),
                has_route: remote.is_some_and(|remote| self.mirror.next_hop(remote) != NextHop::Nowhere),
                peer: remote.map_or_else(String::new, |remote| remote.to_string()),
                protection: match (record.map(|record| record.protection), matching) {
                    (Some(protection::PROFILE), _) => self.sas_of(&owner, owners.get(&owner)),
                    (Some(protection::CRYPTO_MAP), Some(flow)) => Protection::Sas {
                        sending: flow.state == Condition::Up,
                        cause: flow.cause.clone().filter(|_| flow.state == Condition::Down),
                    },
                    (Some(protection::CRYPTO_MAP), None) => Protection::Unmatched,
                    _ => Protection::None,
                },
            };
            let (standing, changed) = self.tunnel_standings.note(&name, judge(&facts), now);
            log_change(&owner.to_string(), &standing, changed);
            let (spi_in, spi_out) = match matching {
                Some(flow) => (parse_spi(flow.spi_in.as_ref()), parse_spi(flow.spi_out.as_ref())),
                None => sas.get(&owner_text(&owner, "")).copied().unwrap_or_default(),
            };
            let picture = TunnelPicture {
                slot: self.executor.slots().tunnels.slot(&name),
                standing,
                mtu_bytes: compiled
                    .tunnel(&name, self.executor.is_natted(&name))
                    .map_or(0, |record| record.mtu_bytes),
                spi_in,
                spi_out,
            };
            pictures.insert(name, picture);
        }
        self.tunnel_standings.retain(|name| pictures.contains_key(name));
        pictures
    }

    fn sas_of(&self, owner: &Owner, child: Option<&ike::ChildId>) -> Protection {
        Protection::Sas {
            sending: self.executor.sas().outbound(owner).is_some(),
            cause: child.and_then(|child| self.causes.get(child).cloned()),
        }
    }

    /// Why the port towards an address does not run.
    fn egress_cause(&self, address: IpAddr) -> Option<String> {
        let NextHop::Port { port, .. } = self.mirror.next_hop(address) else {
            return None;
        };
        self.executor.slots().ports.key(port).and_then(|name| self.port_cause(name))
    }

    /// Why a port does not run.
    fn port_cause(&self, name: &str) -> Option<String> {
        if let Verdict::Refused(refusal) = self.executor.port_verdict(name) {
            return Some(format!("the dataplane refused the interface {name}: {}", refusal.description()));
        }
        let slot = self.executor.slots().ports.slot(&name.to_owned())?;
        let status = self.region.port_status(slot)?;
        (status.state() != PortState::Up).then(|| format!("interface {name}: {}", port_text(&status)))
    }

    fn sa_pictures(&mut self, compiled: &Compiled) -> Vec<SaPicture> {
        let now = Instant::now();
        let mut seen = BTreeMap::new();
        let mut pictures = Vec::new();
        let replay_windows: BTreeMap<&Owner, u32> =
            compiled.children.values().map(|child| (&child.owner, child.replay_window)).collect();
        for entry in self.executor.sas().entries() {
            let Some(mut record) =
                self.region.read::<SaRecord>(entry.slot).ok().and_then(|found| found.record)
            else {
                continue;
            };
            record.key.zeroize();
            record.integrity_key.zeroize();
            record.salt.zeroize();
            let key = (entry.slot, record.generation);
            let since = self.seen.get(&key).copied().unwrap_or(now);
            seen.insert(key, since);
            let map = match &entry.owner {
                Owner::Policy(policy) => {
                    self.names.crypto_maps.get(&policy.interface).cloned().unwrap_or_default()
                }
                Owner::Tunnel(_) => String::new(),
            };
            let is_inbound = entry.direction == direction::INBOUND;
            let window = replay_windows.get(&entry.owner).copied().unwrap_or(record.replay_window);
            let view = IpsecSa {
                spi: spi_text(record.spi),
                direction: if is_inbound { Direction::Inbound } else { Direction::Outbound },
                owner: owner_text(&entry.owner, &map),
                mode: if record.mode == mode::TUNNEL { "tunnel" } else { "transport" },
                encryption: picture::encryption_word(record.algorithm),
                integrity: picture::integrity_word(record.integrity),
                pfs_group: entry.key_exchange.as_ref().map(|exchange| exchange.group.number()),
                additional_key_exchanges: (entry.key_exchange.iter())
                    .flat_map(|exchange| exchange.additional.iter().map(|method| method.name()))
                    .collect(),
                insecure: picture::esp_insecurities(
                    &record,
                    entry.key_exchange.as_ref().map(|exchange| exchange.group),
                ),
                esn: record.esn == 1,
                udp_encapsulation: record.udp_encapsulation == 1,
                local: address_text(&record, true),
                remote: address_text(&record, false),
                selector: picture::selectors_text(&record),
                in_use: is_inbound || entry.sending,
                adopted: entry.pair.is_none(),
                age_secs: 0,
                sequence: 0,
                packets: 0,
                bytes: 0,
                replay: is_inbound.then_some(ReplayCounters { window, replayed: 0, late: 0 }),
                auth_failed: 0,
                selector_mismatch: 0,
                malformed: 0,
            };
            pictures.push(SaPicture { slot: entry.slot, generation: record.generation, since, view });
        }
        self.seen = seen;
        pictures
    }

    fn isakmp(&self, compiled: &Compiled, now: Instant) -> Vec<IsakmpSa> {
        let views = self.driver.isakmp_sas(now);
        views
            .into_iter()
            .map(|sa| IsakmpSa {
                id: isakmp_id_text(sa.id),
                local: sa.path.local.to_string(),
                remote: sa.path.remote.to_string(),
                spi_initiator: format!("{:#018x}", sa.spi_i),
                spi_responder: format!("{:#018x}", sa.spi_r),
                initiator: sa.initiator,
                state: sa.state.to_owned(),
                suite: sa.suite,
                insecure: sa.insecure.into_iter().map(picture::insecurity_word).collect(),
                serves: compiled
                    .children
                    .values()
                    .filter(|child| Some(child.connection) == sa.connection)
                    .map(|child| child.owner.to_string())
                    .collect(),
                children: sa.children.into_iter().map(spi_text).collect(),
                established_secs: sa.established_secs,
                rekey_in_secs: sa.rekey_in_secs,
            })
            .collect()
    }

    fn all_complaints(&self, compiled: &Arc<Compiled>) -> picture::Complaints {
        let problems =
            compiled.problems.iter().map(|problem| format!("{:?}: {}", problem.object, problem.cause));
        let full = self.executor.full_tables().iter().map(ToString::to_string);
        let named = |kind: &'static str, complaints: &BTreeMap<String, String>| {
            complaints.iter().map(|(name, cause)| format!("{kind} {name}: {cause}")).collect::<Vec<_>>()
        };
        picture::Complaints {
            configuration: self.complaints.source.iter().cloned().chain(problems).chain(full).collect(),
            netlink: [
                self.complaints.mirror.iter().cloned().collect(),
                named("the wire of", &self.complaints.wires),
                named("the twin", &self.complaints.twins),
                named("the route", &self.complaints.routes),
            ]
            .concat(),
            ike: self.driver.complaints().map(str::to_owned).collect(),
        }
    }
}

/// The flow of a crypto map that a tunnel's GRE packets meet first.
fn matching_flow<'a>(
    tunnel: &TunnelRecord,
    flows: &'a [(PolicyKey, String, FlowState)],
) -> Option<&'a FlowState> {
    let first = natted::protecting(tunnel, flows.iter().map(|(key, _, _)| key))?;
    flows.iter().find(|(key, _, _)| key == first).map(|(_, _, flow)| flow)
}

fn log_change(object: &str, standing: &crate::state::Standing, changed: Option<Option<view::Condition>>) {
    let Some(former) = changed else {
        return;
    };
    let (state, cause) = (standing.condition.name(), standing.cause.as_deref());
    let former = former.map(view::Condition::name);
    if standing.condition == Condition::Down && former == Some("up") {
        tracing::warn!(object, state, former, cause, "a state changed");
    } else {
        tracing::info!(object, state, former, cause, "a state changed");
    }
}

/// An owner as the views name it.
fn owner_text(owner: &Owner, map: &str) -> String {
    match owner {
        Owner::Tunnel(name) => format!("tunnel/{name}"),
        Owner::Policy(key) => {
            format!("crypto-map/{map}/{}/{}@{}", key.map_sequence, key.rule_sequence, key.interface)
        }
    }
}

/// The newest inbound SPI of each owner, and the outbound one in use.
type Spis = BTreeMap<String, (Option<u32>, Option<u32>)>;

fn spis(sas: &[SaPicture]) -> Spis {
    let mut by_age: Vec<&SaPicture> = sas.iter().filter(|sa| sa.view.in_use).collect();
    by_age.sort_by_key(|sa| sa.generation);
    let mut spis = Spis::new();
    for sa in by_age {
        let of_owner = spis.entry(sa.view.owner.clone()).or_default();
        let spi = parse_spi(Some(&sa.view.spi));
        match sa.view.direction {
            Direction::Inbound => of_owner.0 = spi,
            Direction::Outbound => of_owner.1 = spi,
        }
    }
    spis
}

fn parse_spi(text: Option<&String>) -> Option<u32> {
    u32::from_str_radix(text?.strip_prefix("0x")?, 16).ok()
}

fn address_text(record: &SaRecord, local: bool) -> String {
    let (address, port) =
        if local { (record.local, record.local_port) } else { (record.remote, record.remote_port) };
    let Some(address) = address.to_ip(record.family) else {
        return String::new();
    };
    if record.udp_encapsulation == 1 {
        std::net::SocketAddr::new(address, port).to_string()
    } else {
        address.to_string()
    }
}
