//! A worker: ports, the pipeline, and the rings to the host thread.

use dpdk::{Acl, Burst, Fib, Mbuf, RxQueue, TxQueue};
use forward::{Lanes, Outcome, Pipeline, Shared, TxList};
use packet::Frame;
use shm::{Counter, Drop as DropReason};

use crate::link::{Command, Report, WorkerLink};

/// Commands taken in one turn: a turn stays short while a large table is filled.
const COMMANDS_PER_TURN: usize = 32;

/// Turns between two looks at the clock: about a millisecond when busy.
const TURNS_PER_TICK: u32 = 128;

/// Forwards on one thread. It has no global state: several may live in a process.
pub struct Worker {
    pipeline: Pipeline<Mbuf, Fib, Acl>,
    shared: Shared,
    outcome: Outcome<Mbuf>,
    ports: Vec<Attached>,
    link: WorkerLink,
    burst: Burst,
    turns: u32,
    /// Turns that were not counted in the region yet.
    uncounted: Turns,
}

#[derive(Debug, Default)]
struct Turns {
    all: u64,
    idle: u64,
}

/// A port whose queues this worker polls.
#[derive(Debug)]
struct Attached {
    slot: u32,
    rx: Option<RxQueue>,
    tx: Option<TxQueue>,
}

impl Worker {
    /// A worker with empty tables and no ports.
    #[must_use]
    pub fn new(lanes: Lanes, shared: Shared, routes: Fib, link: WorkerLink) -> Self {
        Self {
            pipeline: Pipeline::new(lanes, shared, routes),
            shared,
            outcome: Outcome::new(),
            ports: Vec::new(),
            link,
            burst: Burst::new(),
            turns: 0,
            uncounted: Turns::default(),
        }
    }

    /// One turn: commands, one burst from each port, what came by twins. Returns how much there was to do.
    pub fn poll(&mut self) -> usize {
        if self.turns.is_multiple_of(TURNS_PER_TICK) {
            self.tick();
        }
        self.turns = self.turns.wrapping_add(1);
        let mut done = self.take_commands();
        for index in 0..self.ports.len() {
            done += self.receive(index);
        }
        done += self.take_from_twins();
        self.uncounted.all += 1;
        self.uncounted.idle += u64::from(done == 0);
        done
    }

    /// Counts a sleep of the thread, after which the clock is looked at.
    pub fn count_sleep(&mut self) {
        self.shared.worker().count(Counter::Sleeps, 1);
        self.turns = 0;
    }

    /// Gives all queues back, when the worker has ended.
    pub fn into_ports(self) -> Vec<(u32, Option<RxQueue>, Option<TxQueue>)> {
        self.ports.into_iter().map(|port| (port.slot, port.rx, port.tx)).collect()
    }

    fn tick(&mut self) {
        self.pipeline.tick(crate::clock::unix_ms());
        let turns = std::mem::take(&mut self.uncounted);
        self.shared.worker().count(Counter::Polls, turns.all);
        self.shared.worker().count(Counter::IdlePolls, turns.idle);
    }

    fn take_commands(&mut self) -> usize {
        let mut taken = 0;
        while taken < COMMANDS_PER_TURN {
            let Ok(command) = self.link.commands.pop() else { break };
            let report = match command {
                Command::Apply(update) => {
                    self.shared.worker().count(Counter::Applied, 1);
                    Report::Applied(self.pipeline.apply(update))
                }
                Command::Attach { slot, rx, tx } => {
                    self.ports.retain(|port| port.slot != slot);
                    self.ports.push(Attached { slot, rx, tx });
                    Report::Attached
                }
                Command::Detach { slot } => self.detach(slot),
            };
            // There is room: as many reports fit as commands may be on their way.
            let _ = self.link.reports.push(report);
            taken += 1;
        }
        if taken > 0 {
            self.link.wake.wake();
        }
        taken
    }

    fn detach(&mut self, slot: u32) -> Report {
        match self.ports.iter().position(|port| port.slot == slot) {
            Some(index) => {
                let port = self.ports.swap_remove(index);
                Report::Detached { slot, rx: port.rx, tx: port.tx }
            }
            None => Report::Detached { slot, rx: None, tx: None },
        }
    }

    #[inline]
    fn receive(&mut self, index: usize) -> usize {
        let Some(Attached { slot, rx: Some(rx), .. }) = self.ports.get_mut(index) else { return 0 };
        let slot = *slot;
        let count = rx.receive(&mut self.burst);
        if count > 0 {
            self.shared.worker().count(Counter::RxPackets, count as u64);
            self.pipeline.process_wire(slot, self.burst.drain(..), &mut self.outcome);
            self.deliver();
        }
        count
    }

    fn take_from_twins(&mut self) -> usize {
        let Self { link, burst, pipeline, outcome, .. } = self;
        while !burst.is_full() {
            let Ok(mbuf) = link.from_host.pop() else { break };
            burst.push(mbuf);
        }
        let count = burst.len();
        if count > 0 {
            pipeline.process_from_twin(burst.drain(..), outcome);
            self.deliver();
        }
        count
    }

    /// Empties the outcome: packets to ports and to the host thread, events to the host thread.
    #[inline]
    fn deliver(&mut self) {
        while let Some(slot) = self.outcome.next_port() {
            let Some(list) = self.outcome.transmit_list(slot) else { continue };
            transmit(&self.shared, &mut self.ports, slot, list);
        }
        if !self.outcome.punts.is_empty() || !self.outcome.events.is_empty() {
            self.deliver_to_host();
        }
    }

    #[cold]
    fn deliver_to_host(&mut self) {
        for mbuf in self.outcome.punts.drain(..) {
            if self.link.punted.push(mbuf).is_err() {
                self.shared.worker().count_drops(DropReason::HostRingFull, 1);
            }
        }
        // Those that do not fit stay for the next burst.
        let room = self.link.events.slots().min(self.outcome.events.len());
        for event in self.outcome.events.drain(..room) {
            let _ = self.link.events.push(event);
        }
        self.link.wake.wake();
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("ports", &self.ports).finish_non_exhaustive()
    }
}

/// Sends a list by a port and counts it; what the device does not take is dropped and counted.
#[inline]
fn transmit(shared: &Shared, ports: &mut [Attached], slot: u32, list: &mut TxList<Mbuf>) {
    let counters = shared.port(slot);
    let queue = ports.iter_mut().find(|port| port.slot == slot).and_then(|port| port.tx.as_mut());
    let Some(queue) = queue else {
        drop_all(shared, slot, DropReason::PortDown, list);
        return;
    };
    let offered_bytes: usize = list.iter().map(|mbuf| mbuf.bytes().len()).sum();
    let sent = queue.transmit(list);
    let left_bytes: usize = list.iter().map(|mbuf| mbuf.bytes().len()).sum();
    if let Some(counters) = counters {
        counters.count_tx(sent as u64, (offered_bytes - left_bytes) as u64);
    }
    shared.worker().count(Counter::TxPackets, sent as u64);
    if !list.is_empty() {
        drop_all(shared, slot, DropReason::TxFull, list);
    }
}

#[cold]
fn drop_all(shared: &Shared, slot: u32, reason: DropReason, list: &mut TxList<Mbuf>) {
    let count = list.len() as u64;
    shared.worker().count_drops(reason, count);
    if let Some(counters) = shared.port(slot) {
        counters.count_drops(count);
    }
    Mbuf::free_bulk(list);
}
