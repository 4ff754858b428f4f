//! The rings between the host thread and a worker.
//!
//! ```text
//!   host ── Command ──► worker      table updates and queues; each is answered by one Report
//!   host ◄─ Report ──── worker      answers, with what was replaced, to be freed here
//!   host ◄─ EventRecord worker      for control
//!   host ── Mbuf ─────► worker      what Linux sent by a twin
//!   host ◄─ Mbuf ────── worker      what was punted to a twin
//! ```
//!
//! A worker never blocks and never frees tables: it swaps, and hands the old value back.

use std::collections::VecDeque;

use dpdk::{Mbuf, RxQueue, TxQueue};
use forward::{Refused, Retired, Update};
use rtrb::{Consumer, Producer, RingBuffer};
use shm::EventRecord;

use crate::wake::Wake;

/// Commands on their way at a time; as many reports fit, so that a worker can always answer.
const COMMANDS: usize = 1024;

/// Events on their way; a worker that finds no room tries again with the next burst.
const EVENTS: usize = 1024;

/// Packets on their way to or from the twins.
const PACKETS: usize = 2048;

/// What the host thread asks of a worker.
pub enum Command {
    /// Take over a table update.
    Apply(Update<dpdk::Acl>),
    /// Poll these queues as the port in `slot`. A port without a receive queue only sends.
    Attach {
        /// Slot of the port.
        slot: u32,
        /// Receive queue.
        rx: Option<RxQueue>,
        /// Transmit queue.
        tx: Option<TxQueue>,
    },
    /// Give the queues of a port back.
    Detach {
        /// Slot of the port.
        slot: u32,
    },
}

/// A worker's answer, in the order of the commands.
pub enum Report {
    /// The update is in force, or was refused; what it replaced is to be freed.
    Applied(Result<Retired<dpdk::Acl>, Refused<dpdk::Acl>>),
    /// The queues are polled.
    Attached,
    /// The queues are not polled any more.
    Detached {
        /// Slot of the port.
        slot: u32,
        /// Its receive queue, if it had one.
        rx: Option<RxQueue>,
        /// Its transmit queue, if it had one.
        tx: Option<TxQueue>,
    },
}

/// The host thread's ends.
pub struct HostLink {
    commands: Producer<Command>,
    reports: Consumer<Report>,
    /// In the ring, or taken and not reported yet.
    sent: usize,
    waiting: VecDeque<Command>,
    /// Events for control.
    pub events: Consumer<EventRecord>,
    /// Packets from twins.
    pub to_worker: Producer<Mbuf>,
    /// Packets for twins.
    pub punted: Consumer<Mbuf>,
}

/// The worker's ends.
pub struct WorkerLink {
    /// What the host thread asks.
    pub commands: Consumer<Command>,
    /// Answers.
    pub reports: Producer<Report>,
    /// Events for control.
    pub events: Producer<EventRecord>,
    /// Packets from twins.
    pub from_host: Consumer<Mbuf>,
    /// Packets for twins.
    pub punted: Producer<Mbuf>,
    /// Wakes the host thread after something was put into a ring.
    pub wake: Wake,
}

/// Makes the rings.
#[must_use]
pub fn link(wake: Wake) -> (HostLink, WorkerLink) {
    let (command_in, command_out) = RingBuffer::new(COMMANDS);
    let (report_in, report_out) = RingBuffer::new(COMMANDS);
    let (event_in, event_out) = RingBuffer::new(EVENTS);
    let (packet_in, packet_out) = RingBuffer::new(PACKETS);
    let (punt_in, punt_out) = RingBuffer::new(PACKETS);
    let host = HostLink {
        commands: command_in,
        reports: report_out,
        sent: 0,
        waiting: VecDeque::new(),
        events: event_out,
        to_worker: packet_in,
        punted: punt_out,
    };
    let worker = WorkerLink {
        commands: command_out,
        reports: report_in,
        events: event_in,
        from_host: packet_out,
        punted: punt_in,
        wake,
    };
    (host, worker)
}

impl HostLink {
    /// How many commands can be sent now; more than that wait here until the worker has taken some.
    #[must_use]
    pub fn room(&self) -> usize {
        COMMANDS.saturating_sub(self.in_flight())
    }

    /// Commands that were not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.sent + self.waiting.len()
    }

    /// Sends a command, or keeps it until there is room.
    pub fn send(&mut self, command: Command) {
        self.waiting.push_back(command);
        self.flush();
    }

    fn flush(&mut self) {
        // No more than reports have room for.
        while self.sent < COMMANDS {
            let Some(command) = self.waiting.pop_front() else { return };
            if let Err(rtrb::PushError::Full(command)) = self.commands.push(command) {
                self.waiting.push_front(command);
                return;
            }
            self.sent += 1;
        }
    }

    /// The next answer.
    pub fn receive(&mut self) -> Option<Report> {
        let report = self.reports.pop().ok()?;
        self.sent -= 1;
        self.flush();
        Some(report)
    }

    /// Whether the worker left anything to look at.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.reports.is_empty() || !self.events.is_empty() || !self.punted.is_empty()
    }
}
