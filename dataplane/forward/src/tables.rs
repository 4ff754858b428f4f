//! The tables of a worker.

use std::collections::BTreeMap;

use packet::{Prefix, RouteError, RouteLookup};
use shm::{Capacities, Refusal};

use crate::adjacency::{Adjacency, MAX_NEXT_HOPS};
use crate::crypto_map::{CryptoMap, Policy};
use crate::flat_map::FlatMap;
use crate::next_hop::NextHop;
use crate::port::Port;
use crate::rib::Locals;
use crate::sa::{Owner, Sa};
use crate::tunnel::{Protection, Tunnel};
use crate::update::{Refused, Retired, Update};

/// Prefixes shorter than this are kept out of the route table, which would write them for milliseconds.
const SHORT_PREFIX_BITS: u8 = 8;

/// Everything that packets are looked up in. Slots are those of the shared records.
#[derive(Debug)]
pub struct Tables<R, C> {
    pub(crate) routes: R,
    /// Longest first.
    short_routes: Vec<(Prefix, u64)>,
    pub(crate) next_hops: Vec<Option<NextHop>>,
    pub(crate) ports: Vec<Option<Box<Port>>>,
    pub(crate) crypto_maps: Vec<Option<Box<CryptoMap<C>>>>,
    pub(crate) tunnels: Vec<Option<Box<Tunnel>>>,
    pub(crate) sas: Vec<Option<Box<Sa>>>,
    pub(crate) policies: Vec<Option<Policy>>,
    pub(crate) locals: Box<Locals>,
    /// From an inbound SPI to the slot of its SA.
    pub(crate) spis: FlatMap<u32>,
    /// From the addresses and key of GRE to the slot of its tunnel.
    pub(crate) gre: FlatMap<u128>,
    /// How many protected tunnels have these addresses (ours, the peer's).
    protected: BTreeMap<([u8; 4], [u8; 4]), u32>,
    /// Changes with every update: a plan made in an earlier epoch is made anew.
    pub(crate) epoch: u64,
}

fn vacant<T>(slots: u32) -> Vec<Option<T>> {
    (0..slots).map(|_| None).collect()
}

impl<R: RouteLookup, C> Tables<R, C> {
    /// Empty tables over an empty route table.
    pub fn new(capacities: &Capacities, routes: R) -> Self {
        Self {
            routes,
            short_routes: Vec::new(),
            next_hops: Vec::with_capacity(MAX_NEXT_HOPS as usize),
            ports: vacant(capacities.ports),
            crypto_maps: vacant(capacities.ports),
            tunnels: vacant(capacities.tunnels),
            sas: vacant(capacities.sas),
            policies: vacant(capacities.policies),
            locals: Box::default(),
            spis: FlatMap::new(capacities.sas as usize),
            gre: FlatMap::new(capacities.tunnels as usize),
            protected: BTreeMap::new(),
            epoch: 1,
        }
    }

    /// Applies one update.
    ///
    /// # Errors
    /// The update and the reason, when it can't be: the tables are as before.
    pub fn apply(&mut self, update: Update<C>) -> Result<Retired<C>, Refused<C>> {
        let refuse = |update, reason| Err(Refused { update, reason });
        if let Err(reason) = self.admits(&update) {
            return refuse(update, reason);
        }
        self.epoch += 1;
        match update {
            Update::Port(slot, port) => {
                Ok(replace(&mut self.ports, slot, port).map_or(Retired::Nothing, Retired::Port))
            }
            Update::CryptoMap(port, map) => {
                Ok(replace(&mut self.crypto_maps, port, map).map_or(Retired::Nothing, Retired::CryptoMap))
            }
            Update::Tunnel(slot, tunnel) => Ok(self.set_tunnel(slot, tunnel)),
            Update::Sa(slot, sa) => Ok(self.set_sa(slot, sa)),
            Update::Policy(slot, policy) => {
                if let Some(entry) = self.policies.get_mut(slot as usize) {
                    *entry = policy;
                }
                Ok(Retired::Nothing)
            }
            Update::NextHop(index, next_hop) => {
                let index = index as usize;
                if index >= self.next_hops.len() {
                    self.next_hops.resize(index + 1, None);
                }
                if let Some(entry) = self.next_hops.get_mut(index) {
                    *entry = next_hop;
                }
                Ok(Retired::Nothing)
            }
            Update::Locals(locals) => Ok(Retired::Locals(std::mem::replace(&mut self.locals, locals))),
            Update::Route(prefix, adjacency) => match self.set_route(prefix, adjacency) {
                Ok(()) => Ok(Retired::Nothing),
                Err(reason) => refuse(Update::Route(prefix, adjacency), reason),
            },
        }
    }

    fn admits(&self, update: &Update<C>) -> Result<(), Refusal> {
        let within =
            |slot: u32, len: usize| if (slot as usize) < len { Ok(()) } else { Err(Refusal::Invalid) };
        match update {
            Update::Port(slot, _) | Update::CryptoMap(slot, _) => within(*slot, self.ports.len()),
            Update::Policy(slot, _) => within(*slot, self.policies.len()),
            Update::NextHop(index, _) => within(*index, MAX_NEXT_HOPS as usize),
            Update::Tunnel(slot, tunnel) => {
                within(*slot, self.tunnels.len())?;
                let holder = tunnel.as_ref().and_then(|tunnel| self.gre.find(tunnel.lookup_key()));
                if holder.is_none_or(|holder| holder == *slot) { Ok(()) } else { Err(Refusal::Duplicate) }
            }
            Update::Sa(slot, sa) => {
                within(*slot, self.sas.len())?;
                let inbound = sa.as_ref().filter(|sa| !sa.outbound);
                let holder = inbound.and_then(|sa| self.spis.find(sa.spi));
                if holder.is_none_or(|holder| holder == *slot) { Ok(()) } else { Err(Refusal::Duplicate) }
            }
            Update::Route(..) | Update::Locals(_) => Ok(()),
        }
    }

    fn set_tunnel(&mut self, slot: u32, tunnel: Option<Box<Tunnel>>) -> Retired<C> {
        if let Some(new) = &tunnel {
            self.gre.insert(new.lookup_key(), slot);
            if new.protection != Protection::None {
                *self.protected.entry((new.local, new.remote)).or_default() += 1;
            }
        }
        let key = tunnel.as_ref().map(|tunnel| tunnel.lookup_key());
        let Some(old) = replace(&mut self.tunnels, slot, tunnel) else { return Retired::Nothing };
        if key != Some(old.lookup_key()) {
            self.gre.remove(old.lookup_key());
        }
        if old.protection != Protection::None
            && let Some(count) = self.protected.get_mut(&(old.local, old.remote))
        {
            *count -= 1;
            if *count == 0 {
                self.protected.remove(&(old.local, old.remote));
            }
        }
        Retired::Tunnel(old)
    }

    fn set_sa(&mut self, slot: u32, sa: Option<Box<Sa>>) -> Retired<C> {
        let mut spi = None;
        if let Some(new) = &sa {
            // An SA that only goes on elsewhere keeps its numbers: no other worker had it meanwhile.
            let known = self.sa(slot).is_some_and(|old| old.generation == new.generation);
            if !known {
                new.take_up();
            }
            if !new.outbound {
                self.spis.insert(new.spi, slot);
                spi = Some(new.spi);
            }
        }
        let Some(old) = replace(&mut self.sas, slot, sa) else { return Retired::Nothing };
        if !old.outbound && spi != Some(old.spi) {
            self.spis.remove(old.spi);
        }
        Retired::Sa(old)
    }

    fn set_route(&mut self, prefix: Prefix, adjacency: Option<Adjacency>) -> Result<(), Refusal> {
        let number = adjacency.map(|adjacency| adjacency.to_number().ok_or(Refusal::Invalid)).transpose()?;
        if prefix.len_bits() < SHORT_PREFIX_BITS {
            self.short_routes.retain(|(known, _)| *known != prefix);
            if let Some(number) = number {
                let at = self.short_routes.partition_point(|(known, _)| known.len_bits() > prefix.len_bits());
                self.short_routes.insert(at, (prefix, number));
            }
            return Ok(());
        }
        match number {
            Some(number) => self.routes.insert(prefix, number).map_err(|error| match error {
                RouteError::Full => Refusal::NoSpace,
                RouteError::Unknown => Refusal::LookupFailed,
            }),
            // A prefix that was refused when it came is not there when it goes.
            None => self.routes.remove(prefix).or(Ok(())),
        }
    }

    /// Routes IPv4 addresses in host byte order.
    #[inline]
    pub(crate) fn route_v4(&self, addresses: &[u32], adjacencies: &mut [u64]) {
        self.routes.lookup_v4(addresses, adjacencies);
        for (address, adjacency) in addresses.iter().zip(adjacencies) {
            if *adjacency == packet::MISS {
                *adjacency = self.short_route(|prefix| prefix.covers_v4(*address));
            }
        }
    }

    /// Routes IPv6 addresses.
    #[inline]
    pub(crate) fn route_v6(&self, addresses: &[[u8; 16]], adjacencies: &mut [u64]) {
        self.routes.lookup_v6(addresses, adjacencies);
        for (address, adjacency) in addresses.iter().zip(adjacencies) {
            if *adjacency == packet::MISS {
                *adjacency = self.short_route(|prefix| prefix.covers_v6(address));
            }
        }
    }

    /// Routes one IPv4 address.
    pub(crate) fn route_one_v4(&self, address: [u8; 4]) -> Adjacency {
        let mut adjacency = [packet::MISS];
        self.route_v4(&[u32::from_be_bytes(address)], &mut adjacency);
        Adjacency::from_number(adjacency[0])
    }

    #[inline]
    fn short_route(&self, covers: impl Fn(Prefix) -> bool) -> u64 {
        self.short_routes
            .iter()
            .find(|(prefix, _)| covers(*prefix))
            .map_or(packet::MISS, |(_, number)| *number)
    }

    /// Whether a tunnel that must be protected has these addresses: GRE in clear between them must not pass.
    pub(crate) fn is_protected_pair(&self, local: [u8; 4], remote: [u8; 4]) -> bool {
        self.protected.contains_key(&(local, remote))
    }

    #[inline]
    pub(crate) fn port(&self, slot: u32) -> Option<&Port> {
        self.ports.get(slot as usize)?.as_deref()
    }

    #[inline]
    pub(crate) fn crypto_map(&self, port: u32) -> Option<&CryptoMap<C>> {
        self.crypto_maps.get(port as usize)?.as_deref()
    }

    #[inline]
    pub(crate) fn tunnel(&self, slot: u32) -> Option<&Tunnel> {
        self.tunnels.get(slot as usize)?.as_deref()
    }

    #[inline]
    pub(crate) fn tunnel_mut(&mut self, slot: u32) -> Option<&mut Tunnel> {
        self.tunnels.get_mut(slot as usize)?.as_deref_mut()
    }

    #[inline]
    pub(crate) fn sa(&self, slot: u32) -> Option<&Sa> {
        self.sas.get(slot as usize)?.as_deref()
    }

    #[inline]
    pub(crate) fn sa_mut(&mut self, slot: u32) -> Option<&mut Sa> {
        self.sas.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The SA in a slot, if it is outbound and serves this owner. A slot may have got another SA since the owner's record
    /// named it.
    pub(crate) fn outbound_sa(&self, slot: u32, owner: Owner) -> Option<&Sa> {
        self.sa(slot).filter(|sa| sa.outbound && sa.owner == owner)
    }

    /// The outbound SA of a policy.
    pub(crate) fn policy_sa(&self, policy: u32) -> Option<&Sa> {
        let slot = self.policies.get(policy as usize)?.as_ref()?.outbound_sa?;
        self.outbound_sa(slot, Owner::Policy(policy))
    }

    #[inline]
    pub(crate) fn next_hop(&self, index: u32) -> Option<&NextHop> {
        self.next_hops.get(index as usize)?.as_ref()
    }
}

fn replace<T>(table: &mut [Option<T>], slot: u32, value: Option<T>) -> Option<T> {
    match table.get_mut(slot as usize) {
        Some(entry) => std::mem::replace(entry, value),
        None => value,
    }
}
