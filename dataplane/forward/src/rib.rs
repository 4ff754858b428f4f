//! Routes and neighbours on the host thread: from records to the few changes that a worker must make.
//!
//! Several slots may hold the same prefix, and routes and neighbours share next hops; the worker's tables know none of
//! this. A resolved neighbour is a host route of its own unless a route record has that very prefix.

use std::collections::BTreeMap;

use packet::Prefix;
use packet::header::ipv6;
use shm::records::{NeighbourRecord, RouteRecord, route};

use crate::adjacency::{Adjacency, MAX_NEXT_HOPS};
use crate::next_hop::NextHop;
use crate::sa::v4;
use crate::update::{RecordError, Update};

/// Our own addresses, to speak from in ICMP errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locals {
    v4: Vec<u32>,
    v6: Vec<u128>,
}

impl Locals {
    /// Our address that has most leading bits in common with the peer's: the one on the peer's link, if any.
    pub(crate) fn nearest_v4(&self, peer: [u8; 4]) -> Option<[u8; 4]> {
        let peer = u32::from_be_bytes(peer);
        self.v4.iter().max_by_key(|ours| (*ours ^ peer).leading_zeros()).map(|ours| ours.to_be_bytes())
    }

    /// Our address that has most leading bits in common with the peer's.
    pub(crate) fn nearest_v6(&self, peer: [u8; 16]) -> Option<[u8; 16]> {
        let peer = u128::from_be_bytes(peer);
        self.v6.iter().max_by_key(|ours| (*ours ^ peer).leading_zeros()).map(|ours| ours.to_be_bytes())
    }
}

/// A gateway or neighbour: port slot, family and address.
type Hop = (u32, u8, [u8; 16]);

/// The routing information base. Pure: records in, updates out.
#[derive(Debug, Default)]
pub struct Rib {
    routes: BTreeMap<u32, (Prefix, Adjacency, Option<Hop>)>,
    neighbours: BTreeMap<u32, (Hop, Option<Prefix>)>,
    /// Who wants a prefix, in the order in which they came; the last one has it.
    prefixes: BTreeMap<Prefix, Vec<Claim>>,
    hops: BTreeMap<Hop, HopState>,
    free: Vec<u32>,
    used: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    /// A route record beats a neighbour.
    is_route: bool,
    slot: u32,
    adjacency: Adjacency,
}

#[derive(Debug)]
struct HopState {
    index: u32,
    /// Routes and neighbours that use it.
    references: u32,
    /// Neighbour records that resolve it.
    resolvers: u32,
}

impl Rib {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets or clears the route in a slot and appends what the worker must change.
    ///
    /// # Errors
    /// The record makes no sense, or there is no room for its next hop; the slot is as before.
    pub fn set_route<C>(
        &mut self,
        slot: u32,
        record: Option<&RouteRecord>,
        updates: &mut Vec<Update<C>>,
    ) -> Result<(), RecordError> {
        let new = record.map(|record| self.read_route(record, updates)).transpose()?;
        let old = self.routes.remove(&slot);
        if let Some((prefix, adjacency, hop)) = new {
            self.routes.insert(slot, (prefix, adjacency, hop));
            self.claim(prefix, Claim { is_route: true, slot, adjacency }, updates);
        }
        if let Some((prefix, _, hop)) = old {
            if new.is_none_or(|(now, ..)| now != prefix) {
                self.disclaim(prefix, true, slot, updates);
            }
            if let Some(hop) = hop {
                self.release(hop, updates);
            }
        }
        let was_local = old.is_some_and(|(_, adjacency, _)| adjacency == Adjacency::Local);
        if was_local || new.is_some_and(|(_, adjacency, _)| adjacency == Adjacency::Local) {
            updates.push(Update::Locals(Box::new(self.locals())));
        }
        Ok(())
    }

    /// Sets or clears the neighbour in a slot and appends what the worker must change.
    ///
    /// # Errors
    /// The record makes no sense, or there is no room for another next hop; the slot is as before.
    pub fn set_neighbour<C>(
        &mut self,
        slot: u32,
        record: Option<&NeighbourRecord>,
        updates: &mut Vec<Update<C>>,
    ) -> Result<(), RecordError> {
        let mut new = None;
        if let Some(record) = record {
            let hop = (record.port, record.family, record.address.bytes);
            let index = self.acquire(hop, updates)?;
            if let Some(state) = self.hops.get_mut(&hop) {
                state.resolvers += 1;
            }
            updates.push(Update::NextHop(index, Some(NextHop { port: record.port, mac: Some(record.mac) })));
            new = Some((hop, host_prefix(record), index));
        }
        let old = self.neighbours.remove(&slot);
        if let Some((hop, prefix, index)) = new {
            self.neighbours.insert(slot, (hop, prefix));
            if let Some(prefix) = prefix {
                let claim = Claim { is_route: false, slot, adjacency: Adjacency::NextHop(index) };
                self.claim(prefix, claim, updates);
            }
        }
        if let Some((hop, prefix)) = old {
            if let Some(prefix) = prefix
                && new.is_none_or(|(_, now, _)| now != Some(prefix))
            {
                self.disclaim(prefix, false, slot, updates);
            }
            if let Some(state) = self.hops.get_mut(&hop) {
                state.resolvers -= 1;
                if state.resolvers == 0 {
                    updates.push(Update::NextHop(state.index, Some(NextHop { port: hop.0, mac: None })));
                }
            }
            self.release(hop, updates);
        }
        Ok(())
    }

    fn read_route<C>(
        &mut self,
        record: &RouteRecord,
        updates: &mut Vec<Update<C>>,
    ) -> Result<(Prefix, Adjacency, Option<Hop>), RecordError> {
        let prefix = match record.family {
            4 => Prefix::v4(u32::from_be_bytes(v4(&record.prefix.bytes)), record.prefix_len),
            6 => Prefix::v6(record.prefix.bytes, record.prefix_len),
            _ => return Err(RecordError::Route),
        }
        .map_err(|_| RecordError::Route)?;
        if record.kind == route::PORT && record.has_gateway != 0 {
            let hop = (record.target, record.family, record.gateway.bytes);
            let index = self.acquire(hop, updates)?;
            return Ok((prefix, Adjacency::NextHop(index), Some(hop)));
        }
        let adjacency = Adjacency::of_route(record.kind, record.target).ok_or(RecordError::Route)?;
        adjacency.to_number().ok_or(RecordError::Slot)?;
        Ok((prefix, adjacency, None))
    }

    fn claim<C>(&mut self, prefix: Prefix, claim: Claim, updates: &mut Vec<Update<C>>) {
        let claims = self.prefixes.entry(prefix).or_default();
        let before = winner(claims);
        claims.retain(|known| (known.is_route, known.slot) != (claim.is_route, claim.slot));
        claims.push(claim);
        let after = winner(claims);
        if before != after {
            updates.push(Update::Route(prefix, after));
        }
    }

    fn disclaim<C>(&mut self, prefix: Prefix, is_route: bool, slot: u32, updates: &mut Vec<Update<C>>) {
        let Some(claims) = self.prefixes.get_mut(&prefix) else { return };
        let before = winner(claims);
        claims.retain(|known| (known.is_route, known.slot) != (is_route, slot));
        let after = winner(claims);
        if claims.is_empty() {
            self.prefixes.remove(&prefix);
        }
        if before != after {
            updates.push(Update::Route(prefix, after));
        }
    }

    fn acquire<C>(&mut self, hop: Hop, updates: &mut Vec<Update<C>>) -> Result<u32, RecordError> {
        if let Some(state) = self.hops.get_mut(&hop) {
            state.references += 1;
            return Ok(state.index);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.used < MAX_NEXT_HOPS => {
                self.used += 1;
                self.used - 1
            }
            None => return Err(RecordError::NextHopsFull),
        };
        self.hops.insert(hop, HopState { index, references: 1, resolvers: 0 });
        updates.push(Update::NextHop(index, Some(NextHop { port: hop.0, mac: None })));
        Ok(index)
    }

    fn release<C>(&mut self, hop: Hop, updates: &mut Vec<Update<C>>) {
        let Some(state) = self.hops.get_mut(&hop) else { return };
        state.references -= 1;
        if state.references == 0 {
            let index = state.index;
            self.hops.remove(&hop);
            self.free.push(index);
            updates.push(Update::NextHop(index, None));
        }
    }

    fn locals(&self) -> Locals {
        let mut locals = Locals::default();
        for (prefix, adjacency, _) in self.routes.values() {
            match (prefix, adjacency) {
                (Prefix::V4(address, 32), Adjacency::Local) if address >> 24 != 127 => {
                    locals.v4.push(*address);
                }
                (Prefix::V6(address, 128), Adjacency::Local)
                    if !ipv6::is_link_local(address) && u128::from_be_bytes(*address) > 1 =>
                {
                    locals.v6.push(u128::from_be_bytes(*address));
                }
                _ => {}
            }
        }
        locals
    }
}

/// The last route among the claims, or else the last neighbour.
fn winner(claims: &[Claim]) -> Option<Adjacency> {
    claims.iter().rev().find(|claim| claim.is_route).or(claims.last()).map(|claim| claim.adjacency)
}

/// The host route of a neighbour; none for a link-local one, which is no destination by itself.
fn host_prefix(record: &NeighbourRecord) -> Option<Prefix> {
    match record.family {
        4 => Prefix::v4(u32::from_be_bytes(v4(&record.address.bytes)), 32).ok(),
        6 if ipv6::is_link_local(&record.address.bytes) => None,
        6 => Prefix::v6(record.address.bytes, 128).ok(),
        _ => None,
    }
}
