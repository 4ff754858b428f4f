//! The IKE driver: the only place with a socket, a clock and randomness around the engine.
//!
//! The contract of the engine is "one mutation, then drain". Each method here is one mutation; the gateway then calls
//! [`Driver::drain`], which sends datagrams by itself and hands back what concerns the dataplane and the state.
//! A panic inside the engine is caught: the engine is replaced by a new one with the same connections, and the SAs of
//! the old one stay in use until new ones replace them.

#[cfg(feature = "key-log")]
pub(crate) mod key_log;
mod sockets;
mod write_ahead;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ike::{
    Command, Connection, ConnectionId, DataplaneEvent, Engine, Event, IkeSaView, Limits, OperationId, Output,
    Resumable, SaOperation,
};
use tokio::sync::mpsc;

pub(crate) use sockets::Datagram;
use sockets::Sockets;
use write_ahead::WriteAhead;

use crate::keeper::{KeptChanges, Stored};

/// What the engine wants of the rest of the gateway.
pub(crate) enum Wish {
    /// Do this to the dataplane.
    Sa(SaOperation),
    /// Take note.
    Event(Event),
    /// The engine was replaced: its pairs have nobody who looks after them.
    Orphaned,
}

/// The engine and its sockets.
pub(crate) struct Driver {
    engine: Engine,
    sockets: Sockets,
    write_ahead: WriteAhead,
    connections: BTreeMap<ConnectionId, Connection>,
    panics: u64,
    orphaned: bool,
    /// When the engine was told the time of day.
    told_at: Option<Instant>,
    #[cfg(feature = "key-log")]
    key_log: key_log::KeyLog,
}

impl Driver {
    /// An engine without connections; datagrams that arrive come out of the receiver. `follows` says that SAs of an
    /// earlier engine are in use. What is to be kept of its IKE SAs goes to `to_keep`.
    ///
    /// # Errors
    /// The kernel gave no randomness.
    pub(crate) fn new(
        follows: bool,
        to_keep: mpsc::UnboundedSender<KeptChanges>,
    ) -> std::io::Result<(Self, mpsc::Receiver<Datagram>)> {
        let (sockets, datagrams) = Sockets::new();
        let driver = Self {
            engine: engine(follows)?,
            sockets,
            write_ahead: WriteAhead::new(to_keep),
            connections: BTreeMap::new(),
            panics: 0,
            orphaned: false,
            told_at: None,
            #[cfg(feature = "key-log")]
            key_log: key_log::KeyLog::default(),
        };
        Ok((driver, datagrams))
    }

    /// Has the keys that the engine makes from now on written there.
    #[cfg(feature = "key-log")]
    pub(crate) fn logging_keys(self, key_log: key_log::KeyLog) -> Self {
        Self { key_log, ..self }
    }

    /// Makes the connections of the engine these. Those that are new go on with IKE SAs of an engine before.
    pub(crate) fn set_connections(
        &mut self,
        now: Instant,
        connections: &[Connection],
        mut resumables: Vec<Resumable>,
    ) {
        let desired: BTreeMap<ConnectionId, Connection> =
            connections.iter().map(|connection| (connection.id, connection.clone())).collect();
        let gone: Vec<_> = self.connections.keys().filter(|id| !desired.contains_key(id)).copied().collect();
        self.connections = desired;
        self.tell_time(now);
        for id in gone {
            self.guard(|engine| engine.remove_connection(now, id));
        }
        // Before the first question goes out.
        self.bind_sockets();
        for connection in connections {
            let mine: Vec<Resumable> =
                resumables.extract_if(.., |resumable| resumable.connection() == connection.id).collect();
            self.guard(|engine| engine.resume(now, connection.clone(), mine));
        }
    }

    /// Opens the sockets of new local addresses, and those that could not be opened before; closes those of addresses
    /// that are gone.
    pub(crate) fn bind_sockets(&mut self) {
        let addresses: BTreeSet<IpAddr> =
            self.connections.values().map(|connection| connection.local).collect();
        self.sockets.set_addresses(&addresses);
    }

    /// Tells the engine the time of day, by which it judges certificates.
    fn tell_time(&mut self, now: Instant) {
        const AGAIN_AFTER: Duration = Duration::from_secs(10);
        if self.told_at.is_some_and(|then| now.saturating_duration_since(then) < AGAIN_AFTER) {
            return;
        }
        self.told_at = Some(now);
        // A clock before 1970 was never set: certificates stay unjudged, which refuses them.
        if let Ok(since) = SystemTime::now().duration_since(UNIX_EPOCH) {
            self.guard(|engine| engine.set_wall_clock(now, since.as_secs()));
        }
    }

    /// Takes in a datagram.
    pub(crate) fn datagram(&mut self, now: Instant, datagram: &Datagram) {
        self.tell_time(now);
        self.guard(|engine| {
            engine.handle_datagram(now, datagram.path, &datagram.bytes);
        });
    }

    /// Does what is due.
    pub(crate) fn timeout(&mut self, now: Instant) {
        self.tell_time(now);
        self.guard(|engine| engine.handle_timeout(now));
    }

    /// Takes in a command.
    pub(crate) fn command(&mut self, now: Instant, command: Command) {
        self.guard(|engine| engine.handle_command(now, command));
    }

    /// Takes in what the dataplane saw.
    pub(crate) fn dataplane(&mut self, now: Instant, event: DataplaneEvent) {
        self.guard(|engine| engine.handle_dataplane(now, event));
    }

    /// Takes in the answer to an install.
    pub(crate) fn sa_result(&mut self, now: Instant, operation: OperationId, result: Result<(), String>) {
        self.guard(|engine| engine.handle_sa_result(now, operation, result));
    }

    /// Sends what is to be sent, and hands out the rest, in order.
    pub(crate) fn drain(&mut self) -> Vec<Wish> {
        let mut wishes = Vec::new();
        if std::mem::take(&mut self.orphaned) {
            wishes.push(Wish::Orphaned);
        }
        while let Some(output) = self.guard(Engine::poll_output).flatten() {
            match output {
                Output::Transmit { path, bytes } => {
                    if let Some((path, bytes)) = self.write_ahead.pass((path, bytes)) {
                        self.sockets.send(path, &bytes);
                    }
                }
                Output::Sa(operation) => wishes.push(Wish::Sa(operation)),
                Output::Event(event) => wishes.push(Wish::Event(event)),
                Output::Keep(keepings) => self.write_ahead.keep(keepings),
            }
        }
        self.write_ahead.begin();
        wishes
    }

    /// What was to be kept is stored, or could not be: what waited for it leaves.
    pub(crate) fn stored(&mut self, stored: Stored) {
        for (path, bytes) in self.write_ahead.stored(stored) {
            self.sockets.send(path, &bytes);
        }
    }

    /// When [`Driver::timeout`] is due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.engine.poll_timeout()
    }

    /// The IKE SAs.
    pub(crate) fn isakmp_sas(&self, now: Instant) -> Vec<IkeSaView> {
        self.engine.isakmp_sas(now)
    }

    /// Counters of the engine and of the sockets.
    pub(crate) fn counters(&self) -> BTreeMap<&'static str, u64> {
        let mut counters = self.engine.counters().clone();
        counters.extend(self.sockets.counters());
        counters.insert("engine_panics", self.panics);
        counters
    }

    /// What keeps sockets from being open, and states of IKE SAs from being stored, as sentences.
    pub(crate) fn complaints(&self) -> impl Iterator<Item = &str> {
        self.sockets.complaints().chain(self.write_ahead.complaint())
    }

    /// One call into the engine; `None` when it panicked and was replaced.
    fn guard<T>(&mut self, call: impl FnOnce(&mut Engine) -> T) -> Option<T> {
        // Unwind safe: after a panic nothing of the engine is looked at again.
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&mut self.engine)));
        // On the thread that they were made on, and before what they protect leaves.
        #[cfg(feature = "key-log")]
        self.key_log.write(&ike::key_log::take());
        if let Ok(value) = outcome {
            return Some(value);
        }
        self.panics += 1;
        self.orphaned = true;
        self.told_at = None;
        self.write_ahead.forget_all();
        tracing::error!(panics = self.panics, "the IKE engine panicked and is replaced by a new one");
        match engine(true) {
            Ok(mut engine) => {
                let now = Instant::now();
                for connection in self.connections.values() {
                    engine.set_connection(now, connection.clone());
                }
                self.engine = engine;
            }
            Err(error) => tracing::error!(%error, "no randomness for a new IKE engine"),
        }
        None
    }
}

/// An engine with a seed of its own, which may follow another one.
fn engine(follows: bool) -> std::io::Result<Engine> {
    let mut seed = [0; 32];
    let mut filled = 0;
    while filled < seed.len() {
        filled += rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(Engine::new(Limits { initial_contact: !follows, ..Limits::default() }, seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_that_panics_is_replaced_and_its_pairs_are_given_away() {
        let (to_keep, _kept) = mpsc::unbounded_channel();
        let (mut driver, _datagrams) = Driver::new(false, to_keep).expect("randomness");
        assert!(driver.guard(|_| panic!("as a defect in the engine would")).map(|(): ()| ()).is_none());
        assert!(matches!(driver.drain()[..], [Wish::Orphaned]));
        assert!(driver.drain().is_empty(), "told once");
        assert_eq!(driver.counters()["engine_panics"], 1);
        assert!(driver.isakmp_sas(Instant::now()).is_empty(), "the new engine answers");
    }
}
