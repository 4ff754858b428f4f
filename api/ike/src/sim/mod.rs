//! Two engines over a bad link, with a clock that only the simulation moves: for tests, benches and fuzzers.
//!
//! Everything comes from one seed, which a failing test prints.

mod dataplane;
mod link;
mod mobile;
mod nat;
pub mod reading;
pub mod replay;
mod restart;
pub mod setup;
mod voice;

use std::time::{Duration, Instant};

pub use dataplane::{Dataplane, Delivery, InstalledPair};
pub use link::{Link, Weather};
pub use nat::Nat;
pub use restart::Vault;
pub use voice::Word;

use crate::{
    ChildId, Classified, Command, Connection, DataplaneEvent, Engine, Event, Limits, OperationId, Output,
    Path, SaOperation,
};

/// One end.
pub struct Host {
    /// The engine under test.
    pub engine: Engine,
    /// Where its SAs go.
    pub dataplane: Dataplane,
    /// What it said.
    pub events: Vec<(Instant, Event)>,
    /// The dataplane refuses installs while this is set.
    pub refuses_installs: bool,
    /// The install with this number, counted from 0, is refused.
    pub refused_install: Option<usize>,
    /// Installs that the dataplane was asked for.
    pub installs_seen: usize,
    /// While this is set, installs are done and not answered, as [`Simulation::answer`] does later. Each with its inbound SPI.
    pub withheld: Option<Vec<(OperationId, u32)>>,
    /// What its engine wants to be kept.
    pub vault: Vault,
    /// Outputs until the engine dies; with none left it is dead.
    dies_after: Option<usize>,
}

impl Host {
    fn is_dead(&self) -> bool {
        self.dies_after == Some(0)
    }
}

/// Two ends, 0 and 1, and what is between them.
pub struct Simulation {
    /// The simulated time.
    pub now: Instant,
    begin: Instant,
    /// The two ends.
    pub hosts: [Host; 2],
    /// What is between them.
    pub link: Link,
    /// Packets that met an SPI which the other end did not have.
    pub unknown_spis: usize,
}

impl Simulation {
    /// Two engines without connections. `start` is any instant: the simulation never reads a clock.
    pub fn new(start: Instant, seed: u64, limits: Limits, weather: Weather) -> Self {
        let host = |side: u8| {
            let mut engine_seed = [side; 32];
            engine_seed[..8].copy_from_slice(&seed.to_be_bytes());
            Host {
                engine: Engine::new(limits.clone(), engine_seed),
                dataplane: Dataplane::default(),
                events: Vec::new(),
                refuses_installs: false,
                refused_install: None,
                installs_seen: 0,
                withheld: None,
                vault: Vault::default(),
                dies_after: None,
            }
        };
        let hosts = [host(1), host(2)];
        Self { now: start, begin: start, hosts, link: Link::new(seed, weather), unknown_spis: 0 }
    }

    /// Two engines, each with its connection to the other, from any instant on.
    pub fn between(
        seed: u64,
        limits: Limits,
        weather: Weather,
        connection: impl Fn(usize) -> Connection,
    ) -> Self {
        let mut sim = Self::new(Instant::now(), seed, limits, weather);
        for side in 0..2 {
            sim.configure(side, connection(side));
        }
        sim
    }

    /// Gives one end a connection, or another form of it.
    pub fn configure(&mut self, side: usize, connection: Connection) {
        let now = self.now;
        self.hosts[side].engine.set_connection(now, connection);
        self.drain(side);
    }

    /// Gives one end a command.
    pub fn command(&mut self, side: usize, command: Command) {
        let now = self.now;
        self.hosts[side].engine.handle_command(now, command);
        self.drain(side);
    }

    /// Tells one end what its dataplane saw.
    pub fn dataplane(&mut self, side: usize, event: DataplaneEvent) {
        let now = self.now;
        self.hosts[side].engine.handle_dataplane(now, event);
        self.drain(side);
    }

    /// Gives one end a datagram, as if it came from the other.
    pub fn inject(&mut self, side: usize, path: Path, bytes: &[u8]) -> Classified {
        let now = self.now;
        if self.hosts[side].is_dead() {
            return Classified::Dropped("dead");
        }
        let classified = self.hosts[side].engine.handle_datagram(now, path, bytes);
        self.drain(side);
        classified
    }

    /// The dataplane of one end answers an install that was withheld; one that it refuses was never there.
    pub fn answer(
        &mut self,
        side: usize,
        (operation, spi_in): (OperationId, u32),
        result: Result<(), String>,
    ) {
        let now = self.now;
        if result.is_err() {
            self.hosts[side].dataplane.forget(spi_in);
        }
        self.hosts[side].engine.handle_sa_result(now, operation, result);
        self.drain(side);
    }

    /// Takes all outputs of one end.
    pub fn drain(&mut self, side: usize) {
        let now = self.now;
        let host = &mut self.hosts[side];
        while let Some(output) = host.engine.poll_output() {
            match &mut host.dies_after {
                Some(0) => return,
                Some(left) => *left -= 1,
                None => {}
            }
            match output {
                Output::Keep(keepings) => host.vault.change(keepings),
                Output::Transmit { path, bytes } => self.link.send(now, side, path, bytes),
                Output::Event(event) => host.events.push((now, event)),
                Output::Sa(operation) => {
                    let answer = match &operation {
                        SaOperation::Install { operation, pair, .. } => Some((*operation, pair.spi_in)),
                        _ => None,
                    };
                    if let Some((id, spi_in)) = answer {
                        let refused =
                            host.refuses_installs || host.refused_install == Some(host.installs_seen);
                        host.installs_seen += 1;
                        if refused {
                            host.engine.handle_sa_result(now, id, Err("no slot is free".to_owned()));
                            continue;
                        }
                        if let Some(withheld) = &mut host.withheld {
                            withheld.push((id, spi_in));
                            host.dataplane.apply(now, operation);
                            continue;
                        }
                    }
                    host.dataplane.apply(now, operation);
                    if let Some((id, _)) = answer {
                        host.engine.handle_sa_result(now, id, Ok(()));
                    }
                }
            }
        }
    }

    /// Does the next thing that happens until `deadline`; `false` when there is none.
    pub fn step(&mut self, deadline: Instant) -> bool {
        let timers =
            self.hosts.iter().filter(|host| !host.is_dead()).filter_map(|host| host.engine.poll_timeout());
        let next = timers.chain(self.link.next_arrival()).min();
        let Some(next) = next.filter(|next| *next <= deadline) else {
            self.now = deadline;
            return false;
        };
        self.now = self.now.max(next);
        if let Some((side, path, bytes)) = self.link.arrive(self.now) {
            self.inject(side, path, &bytes);
            return true;
        }
        for side in 0..2 {
            let now = self.now;
            let host = &self.hosts[side];
            if !host.is_dead() && host.engine.poll_timeout().is_some_and(|at| at <= now) {
                self.hosts[side].engine.handle_timeout(now);
                self.drain(side);
            }
        }
        true
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let deadline = self.now + time;
        while self.step(deadline) {}
    }

    /// Lets one end send a packet of a child; the other end's engine learns of it.
    pub fn send_packet(&mut self, side: usize, child: ChildId) -> Delivery {
        let now = self.now;
        let [first, second] = &mut self.hosts;
        let (sender, receiver) = if side == 0 { (first, second) } else { (second, first) };
        let delivery = sender.dataplane.deliver(now, child, &mut receiver.dataplane);
        match delivery {
            Delivery::NoSa => {}
            Delivery::UnknownSpi => self.unknown_spis += 1,
            Delivery::First { spi_in } => self.dataplane(1 - side, DataplaneEvent::FirstPacket { spi_in }),
            Delivery::Delivered { spi_in } => self.dataplane(1 - side, DataplaneEvent::Traffic { spi_in }),
        }
        delivery
    }

    /// What keeps the two ends from holding exactly one pair for this child, the same at both, with the same keys.
    pub fn disagreement(&self, child: ChildId) -> Option<String> {
        let [one, other] = [0, 1].map(|side| self.hosts[side].dataplane.pairs_of(child));
        let ([one], [other]) = (one.as_slice(), other.as_slice()) else {
            return Some(format!("{} pairs here, {} there", one.len(), other.len()));
        };
        if one.pair.spi_in != other.pair.spi_out || one.pair.spi_out != other.pair.spi_in {
            return Some("the SPIs are not each other's".to_owned());
        }
        let crosswise = one.pair.keys_in.key == other.pair.keys_out.key
            && one.pair.keys_in.salt == other.pair.keys_out.salt
            && one.pair.keys_out.key == other.pair.keys_in.key
            && one.pair.keys_out.salt == other.pair.keys_in.salt;
        if !crosswise {
            return Some("the keys differ".to_owned());
        }
        let sending = [0, 1].map(|side| self.hosts[side].dataplane.sending_on(child));
        if sending != [Some(one.pair.spi_in), Some(other.pair.spi_in)] {
            return Some("an end does not send".to_owned());
        }
        None
    }

    /// IKE SAs that each end has.
    pub fn ike_sas(&self) -> [usize; 2] {
        [0, 1].map(|side| self.hosts[side].engine.isakmp_sas(self.now).len())
    }
}
