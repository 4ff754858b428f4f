//! From what the operator desires to what must run: pure.
//!
//! The result still speaks of names. [`crate::tables`] gives them slots.

mod authentication;
mod connection;
mod crypto_map;
mod kernel;
mod names;
#[cfg(test)]
pub(crate) mod tests;
mod tunnel;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ike::{ChildId, Connection, ConnectionId};
use model::Desired;
use shm::records::{PortRecord, TunnelRecord};

pub use kernel::{KernelRoute, KernelState, Twin};
pub use names::{Object, Owner, PolicyKey, Problem, RuleKey, SelectorKey};

/// What must run.
#[derive(Clone, Default)]
pub struct Compiled {
    /// Generation of the desired state that it was made from.
    pub generation: u64,
    /// Ports by interface name.
    pub ports: BTreeMap<String, PortRecord>,
    /// Tunnels by name, each with no outbound SA.
    pub tunnels: BTreeMap<String, TunnelRecord>,
    /// How large the packets of protected tunnels may be while their ESP goes in UDP.
    pub natted_sizes: BTreeMap<String, Sizes>,
    /// Protected flows of crypto maps.
    pub policies: BTreeSet<PolicyKey>,
    /// Rules of crypto maps, as they are applied to interfaces.
    pub rules: BTreeSet<RuleKey>,
    /// Twins and static routes.
    pub kernel: KernelState,
    /// What the IKE engine runs.
    pub connections: Vec<Connection>,
    /// Whom each child serves.
    pub children: BTreeMap<ChildId, Child>,
    /// The child that protects each owner.
    pub protectors: BTreeMap<Owner, ChildId>,
    /// What could not be compiled, and so does not run.
    pub problems: Vec<Problem>,
}

/// How large the packets of a tunnel may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Largest passenger packet.
    pub mtu_bytes: u32,
    /// What the TCP MSS is clamped to; 0 leaves it alone.
    pub tcp_mss_bytes: u32,
}

/// Whom a child SA serves and what its SAs look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its connection.
    pub connection: ConnectionId,
    /// The tunnel or the flow that it protects.
    pub owner: Owner,
    /// Our address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// One of [`shm::records::mode`].
    pub mode: u8,
    /// It may be had in tunnel mode too.
    pub tunnel_fallback: bool,
    /// Anti-replay window in packets.
    pub replay_window: u32,
}

/// Compiles. Objects that cannot run are left out, or stay closed, and are named in `problems`.
#[must_use]
pub fn compile(desired: &Desired) -> Compiled {
    let mut compiled = Compiled { generation: desired.generation, ..Compiled::default() };
    let mut connections = connection::Connections::new(desired);
    tunnel::ports(desired, &mut compiled);
    tunnel::tunnels(desired, &mut compiled, &mut connections);
    crypto_map::crypto_maps(desired, &mut compiled, &mut connections);
    compiled.kernel = kernel::kernel_state(desired, &mut compiled);
    (compiled.connections, compiled.children) = connections.finish();
    compiled.protectors = compiled.children.iter().map(|(id, child)| (child.owner.clone(), *id)).collect();
    compiled
}

impl Compiled {
    /// The child that protects an owner; `None` if it is not compiled.
    #[must_use]
    pub fn child_of(&self, owner: &Owner) -> Option<(ChildId, &Child)> {
        let id = self.protectors.get(owner)?;
        self.children.get(id).map(|child| (*id, child))
    }

    /// The record of a tunnel, `natted` where its ESP goes in UDP.
    #[must_use]
    pub fn tunnel(&self, name: &str, natted: bool) -> Option<TunnelRecord> {
        let record = self.tunnels.get(name)?;
        let Some(sizes) = self.natted_sizes.get(name).filter(|_| natted) else { return Some(*record) };
        let Sizes { mtu_bytes, tcp_mss_bytes } = *sizes;
        Some(TunnelRecord { mtu_bytes, tcp_mss_bytes, ..*record })
    }

    /// What keeps an object from running, as sentences.
    pub fn problems_of<'a>(&'a self, object: &'a Object) -> impl Iterator<Item = &'a str> {
        self.problems
            .iter()
            .filter(move |problem| problem.object == *object)
            .map(|problem| problem.cause.as_str())
    }
}
