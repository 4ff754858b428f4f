//! The engine's outer face: who an input is for, when to wake, and what comes out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use crate::{
    Classified, Command, Connection, ConnectionId, DataplaneEvent, IkeSaView, Limits, OperationId,
    Output, Path,
};

/// The IKE engine of one host. See the crate's documentation for the loop around it.
pub struct Engine {
    outputs: VecDeque<Output>,
    counters: BTreeMap<&'static str, u64>,
    connections: BTreeMap<ConnectionId, Connection>,
}

impl Engine {
    /// An engine without connections. All randomness comes from `seed`, which must be secret and never used twice.
    pub fn new(_limits: Limits, _seed: [u8; 32]) -> Self {
        Self { outputs: VecDeque::new(), counters: BTreeMap::new(), connections: BTreeMap::new() }
    }

    /// Adds a connection or replaces the one with its id. What did not change keeps running.
    pub fn set_connection(&mut self, _now: Instant, connection: Connection) {
        self.connections.insert(connection.id, connection);
    }

    /// Removes a connection: its SAs are deleted and the peer is told.
    pub fn remove_connection(&mut self, _now: Instant, id: ConnectionId) {
        self.connections.remove(&id);
    }

    /// Takes in a UDP payload as it came, non-ESP marker included.
    pub fn handle_datagram(&mut self, _now: Instant, _path: Path, _payload: &[u8]) -> Classified {
        Classified::Dropped("not_ready")
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Takes in a command.
    pub fn handle_command(&mut self, _now: Instant, _command: Command) {}

    /// Takes in what the dataplane saw.
    pub fn handle_dataplane(&mut self, _now: Instant, _event: DataplaneEvent) {}

    /// Takes in the answer to a [`crate::SaOperation::Install`]; `Err` bears the dataplane's words.
    pub fn handle_sa_result(&mut self, _now: Instant, _operation: OperationId, _result: Result<(), String>) {}

    /// The next output; call until `None` after each of the other calls.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Engine::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The IKE SAs, without secrets.
    pub fn isakmp_sas(&self, _now: Instant) -> Vec<IkeSaView> {
        Vec::new()
    }

    /// Counters by name (`snake_case`): messages, drops by cause, cookies sent.
    pub fn counters(&self) -> &BTreeMap<&'static str, u64> {
        &self.counters
    }
}
