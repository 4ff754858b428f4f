//! Changes of the tables: made from records on the host thread, applied by the worker between bursts, and what they
//! replace given back.

use esp::Engine;
use packet::header::ethernet::Mac;
use packet::{Prefix, Rule};
use shm::Region;
use shm::records::{PolicyRecord, PortRecord, RuleRecord, SaRecord, TunnelRecord};
use thiserror::Error;

use crate::adjacency::Adjacency;
use crate::crypto_map::{self, CryptoMap, Policy};
use crate::next_hop::NextHop;
use crate::port::Port;
use crate::rib::Locals;
use crate::sa::Sa;
use crate::tunnel::Tunnel;

/// Why a record can't become an update.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// Transport over IPv6.
    #[error("the transport protocol must be IPv4")]
    Family,
    /// Unknown algorithm.
    #[error("unknown algorithm")]
    Algorithm,
    /// Key of the wrong length.
    #[error("the key has not the length of its algorithm")]
    Key,
    /// Unknown owner.
    #[error("unknown kind of owner")]
    Owner,
    /// Unknown protection.
    #[error("unknown kind of protection")]
    Protection,
    /// Prefixes or ranges that make no sense, or do not hold what the SA is for.
    #[error("a selector makes no sense, or cannot carry what the SA is for")]
    Selector,
    /// Slot or target out of range.
    #[error("a slot is out of range")]
    Slot,
    /// Unknown kind of route, or a prefix that is none.
    #[error("unknown kind of route, or no prefix")]
    Route,
    /// No room for another next hop.
    #[error("too many next hops")]
    NextHopsFull,
}

/// One change. `None` clears the slot.
#[derive(Debug)]
pub enum Update<C> {
    /// A port.
    Port(u32, Option<Box<Port>>),
    /// A tunnel.
    Tunnel(u32, Option<Box<Tunnel>>),
    /// An SA.
    Sa(u32, Option<Box<Sa>>),
    /// A policy.
    Policy(u32, Option<Policy>),
    /// The crypto map of a port. A port whose record says that it has one lets nothing but IKE out before it came.
    CryptoMap(u32, Option<Box<CryptoMap<C>>>),
    /// A route.
    Route(Prefix, Option<Adjacency>),
    /// A next hop.
    NextHop(u32, Option<NextHop>),
    /// All our addresses.
    Locals(Box<Locals>),
}

impl<C> Update<C> {
    /// A port from its record and the link-layer address of its device.
    pub fn port(slot: u32, record: Option<&PortRecord>, mac: Mac) -> Self {
        Self::Port(slot, record.map(|record| Box::new(Port::new(record, mac))))
    }

    /// A tunnel from its record.
    ///
    /// # Errors
    /// The record asks for what the fast path does not have.
    pub fn tunnel(slot: u32, record: Option<&TunnelRecord>) -> Result<Self, RecordError> {
        Ok(Self::Tunnel(slot, record.map(|record| Tunnel::new(slot, record)).transpose()?))
    }

    /// An SA from its record, its key expanded for `engine`.
    ///
    /// # Errors
    /// The record asks for what the fast path does not have, or the slot is beyond the region.
    pub fn sa(
        slot: u32,
        record: Option<&SaRecord>,
        engine: &Engine,
        region: &'static Region,
    ) -> Result<Self, RecordError> {
        let runtime = region.sa_runtime(slot).ok_or(RecordError::Slot)?;
        Ok(Self::Sa(slot, record.map(|record| Sa::new(slot, record, engine, runtime)).transpose()?))
    }

    /// A policy from its record.
    pub fn policy(slot: u32, record: Option<&PolicyRecord>) -> Self {
        Self::Policy(slot, record.map(Policy::new))
    }

    /// The crypto map of a port from all rules of that port; `compile` makes the classifier of them. A port without
    /// crypto map gets `None` ([`Update::CryptoMap`]), a crypto map without rules an empty one.
    ///
    /// # Errors
    /// A selector makes no sense.
    pub fn crypto_map<'a>(
        port: u32,
        records: impl IntoIterator<Item = &'a RuleRecord>,
        compile: impl FnOnce(&[Rule]) -> C,
    ) -> Result<Self, RecordError> {
        let rules = records.into_iter().map(crypto_map::rule).collect::<Result<Vec<_>, _>>()?;
        let compiled = compile(&rules);
        Ok(Self::CryptoMap(port, Some(Box::new(CryptoMap::new(&rules, compiled)))))
    }
}

/// What an update replaced, to be dropped on another thread than the worker's.
#[derive(Debug)]
pub enum Retired<C> {
    /// Nothing that owns memory.
    Nothing,
    /// A port.
    Port(Box<Port>),
    /// A tunnel.
    Tunnel(Box<Tunnel>),
    /// An SA; its key wipes itself when dropped.
    Sa(Box<Sa>),
    /// A crypto map.
    CryptoMap(Box<CryptoMap<C>>),
    /// Our addresses.
    Locals(Box<Locals>),
}

/// An update that could not be applied: the tables are as before.
#[derive(Debug)]
pub struct Refused<C> {
    /// The update.
    pub update: Update<C>,
    /// Why.
    pub reason: shm::Refusal,
}
