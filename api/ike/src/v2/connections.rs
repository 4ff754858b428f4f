//! The connections of an engine: by id, and by the addresses between which a peer may begin.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::connection::ConnectionState;
use crate::{Connection, ConnectionId};

/// See the module's documentation. Whoever sends a first message, true or not, costs one look at the addresses, however
/// many connections there are.
#[derive(Default)]
pub(crate) struct Connections {
    by_id: BTreeMap<ConnectionId, ConnectionState>,
    /// Our address, one that the peer may begin from, and whose.
    by_addresses: BTreeSet<(IpAddr, IpAddr, ConnectionId)>,
}

impl Connections {
    /// Adds a connection, or gives the one with its id another configuration and answers the one that it had.
    pub(crate) fn set(&mut self, config: &Arc<Connection>) -> Option<Arc<Connection>> {
        let id = config.id;
        let Some(state) = self.by_id.get_mut(&id) else {
            let state = ConnectionState::new(Arc::clone(config));
            self.by_addresses.extend(places(id, &state));
            self.by_id.insert(id, state);
            return None;
        };
        for place in places(id, state) {
            self.by_addresses.remove(&place);
        }
        let old = state.replace_config(Arc::clone(config));
        self.by_addresses.extend(places(id, state));
        Some(old)
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) {
        if let Some(state) = self.by_id.remove(&id) {
            for place in places(id, &state) {
                self.by_addresses.remove(&place);
            }
        }
    }

    /// The peer was followed to this address.
    pub(crate) fn followed(&mut self, id: ConnectionId, remote: IpAddr) {
        let Some(state) = self.by_id.get_mut(&id) else { return };
        for place in places(id, state) {
            self.by_addresses.remove(&place);
        }
        state.follow_to(remote);
        self.by_addresses.extend(places(id, state));
    }

    /// Those whose peer may begin from `remote` towards `local`, by their ids.
    pub(crate) fn between(
        &self,
        local: IpAddr,
        remote: IpAddr,
    ) -> impl Iterator<Item = (ConnectionId, &ConnectionState)> + Clone {
        let places = (local, remote, ConnectionId(u64::MIN))..=(local, remote, ConnectionId(u64::MAX));
        let ids = self.by_addresses.range(places).map(|(_, _, id)| *id);
        ids.filter_map(|id| Some((id, self.by_id.get(&id)?)))
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&ConnectionState> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut ConnectionState> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.by_id.keys().copied().collect()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ConnectionId, &mut ConnectionState)> {
        self.by_id.iter_mut().map(|(id, state)| (*id, state))
    }
}

/// Where a connection stands among the addresses: by its own, and by where its peer was followed to.
fn places(
    id: ConnectionId,
    state: &ConnectionState,
) -> impl Iterator<Item = (IpAddr, IpAddr, ConnectionId)> + use<> {
    let local = state.config().local;
    state.begins_from().map(move |remote| (local, remote, id))
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
