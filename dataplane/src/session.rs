//! A session: one region, and the worker that runs on it.
//!
//! Ports are opened as they are met, but their queues reach the worker only once all tables were applied for the
//! first time, and twins are read from then on: a packet that met half of a crypto map could leave in clear.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use dpdk::{Fib, FibCapacity, Memory};
use forward::Shared;
use packet::Twin;
use shm::socket_messages::Doorbell;
use shm::{
    EventKind, EventRecord, EventWriter, PortState, PortStatus, Refusal, Region, Status, WorkerCounters,
    name_bytes,
};

use crate::host::Host;
use crate::link::link;
use crate::pools::Pools;
use crate::ports::{Opened, Ports, absent_status, failed_status};
use crate::tables::{HostTables, PortChange, Step};
use crate::twins::Twins;
use crate::wake::Wake;
use crate::worker::Worker;
use crate::worker_thread::{ThreadOptions, WorkerThread};

/// The worker of which the counters are.
const WORKER: u32 = 0;

/// Slots looked at before packets get their turn.
const STEPS: usize = 2048;

/// Between two attempts to open a device that failed.
const REOPEN: Duration = Duration::from_secs(3);

/// Packets written to twins before anything else gets its turn.
const PUNTS: usize = 256;

/// One region and its worker.
pub struct Session {
    region: &'static Region,
    tables: HostTables,
    events: EventWriter,
    ports: Ports,
    /// The records of the ports in force, or about to be.
    port_changes: BTreeMap<u32, PortChange>,
    /// Queues of ports that wait for the tables to be complete.
    waiting: Vec<(u32, Opened)>,
    /// Slots whose queues the worker was asked to give back.
    closing: Vec<u32>,
    /// Slots whose device could not be opened, and when to try again.
    failed: BTreeMap<u32, Instant>,
    worker: WorkerThread,
    status: Status,
    counters: &'static WorkerCounters,
    events_pushed: bool,
    more_changes: bool,
}

impl Session {
    /// Starts a worker on a region that was just attached to.
    ///
    /// # Errors
    /// No memory for the route table, no thread, or the region is used already.
    pub fn begin(region: &'static Region, host: &Host, wake: Wake) -> anyhow::Result<Self> {
        let (host_link, worker_link) = link(wake);
        let tables = HostTables::new(region, host.engine, host_link)?;
        let events = region.event_writer()?;
        let shared = Shared::new(region, WORKER).context("the region has no worker")?;
        // A block of its own for this thread: counters have one writer.
        let last = region.capacities().workers.saturating_sub(1);
        let counters = region.worker_counters(last).context("the region has no worker")?;
        let name = format!("routes{}-", region.epoch());
        let routes = Fib::new(&host.eal, &name, FibCapacity::default())
            .context("no memory for the route table (raise --memory-mb)")?;
        let lanes = host.engine.lanes().context("the cipher engine gave the worker nothing to work with")?;
        let worker = Worker::new(lanes, shared, routes, worker_link);
        let cpu = host.options.lcores.as_ref().and_then(|list| list.0.first().copied());
        let options = ThreadOptions { poll: host.options.poll, cpu };
        let worker = WorkerThread::start(worker, host.eal.thread_registrar(), options)
            .context("the worker's thread cannot be started")?;
        let status = Status {
            pid: std::process::id(),
            workers: 1,
            started_unix_ms: host.started_unix_ms,
            epoch: 0,
            huge_pages: u8::from(host.memory == Memory::HugePages),
            ready: 0,
            reserved: [0; 6],
            engine: name_bytes(host.engine.name()),
            poll_mode: name_bytes(host.options.poll.name()),
            cpu_features: name_bytes(host.engine.instructions()),
        };
        tables.reader().publish_status(&status);
        // What a former process said of ports that are not there any more.
        for slot in 0..region.capacities().ports {
            if region.port_status(slot).is_some_and(|status| status.state() != PortState::Absent) {
                tables.reader().publish_port_status(slot, &absent_status());
            }
        }
        Ok(Self {
            region,
            tables,
            events,
            ports: Ports::new()?,
            port_changes: BTreeMap::new(),
            waiting: Vec::new(),
            closing: Vec::new(),
            failed: BTreeMap::new(),
            worker,
            status,
            counters,
            events_pushed: false,
            more_changes: true,
        })
    }

    /// How many times a dataplane attached to the region, this time included.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.region.epoch()
    }

    /// Whether control replaced the region.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.region.is_retired()
    }

    /// Whether the worker's thread ended by itself.
    #[must_use]
    pub fn worker_is_dead(&self) -> bool {
        self.worker.is_dead()
    }

    /// Whether all tables were applied once, so that packets may flow.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status.ready != 0
    }

    /// Whether there is something to do at once: changes left, or something that the worker left.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.more_changes || self.tables.link.has_work()
    }

    /// Shows control that the process lives.
    pub fn beat(&self) {
        self.tables.reader().beat(crate::clock::unix_ms());
    }

    /// Applies what control changed, as far as the worker keeps up, and takes the worker's reports.
    pub fn apply_changes(&mut self, host: &mut Host) {
        self.more_changes = true;
        for _ in 0..STEPS {
            match self.tables.step(&host.eal) {
                Step::Idle => {
                    self.more_changes = false;
                    break;
                }
                Step::Busy => {}
                Step::Port(change) => self.change_port(host, change),
            }
        }
        for port in self.tables.take_reports() {
            if let (Some(rx), Some(tx)) = (port.rx, port.tx) {
                self.ports.close(port.slot, rx, tx);
            }
            self.closing.retain(|slot| *slot != port.slot);
            self.tables.look_again_at_port(port.slot);
        }
        self.retry_failed();
        while let Ok(event) = self.tables.link.events.pop() {
            self.push_event(event);
        }
        if !self.is_ready() && self.tables.are_settled() {
            self.become_ready();
        }
    }

    /// Writes what was punted to the twins.
    pub fn write_punted(&mut self, twins: &Twins) {
        for _ in 0..PUNTS {
            let Ok(mbuf) = self.tables.link.punted.pop() else { return };
            twins.write(&mbuf, self.counters);
        }
    }

    /// Passes a batch from a twin to the worker; `false` when the twin's interface is gone.
    pub fn read_twin(&mut self, twins: &Twins, pools: &Pools, twin: Twin) -> bool {
        let Some(pool) = pools.largest() else { return true };
        twins.read(twin, &pool, &mut self.tables.link.to_worker, self.counters)
    }

    /// Publishes the links that changed and sets the carrier of their twins.
    pub fn check_links(&mut self, twins: &Twins) {
        let changes = &self.port_changes;
        let enabled = |slot: u32| {
            changes.get(&slot).and_then(|change| change.record).is_some_and(|record| record.enabled != 0)
        };
        for (slot, status) in self.ports.changed(enabled) {
            let up = status.state() == PortState::Up;
            tracing::info!(slot, up, "link");
            twins.set_carrier(slot, up);
            self.publish_port(slot, &status);
        }
        for slot in self.ports.stale() {
            if !self.closing.contains(&slot) {
                tracing::info!(slot, "the interface of a port was made anew: opening it again");
                self.close_port(slot);
            }
        }
    }

    /// Gives a twin that was just taken the carrier of its port.
    pub fn twin_arrived(&self, twins: &Twins, twin: Twin) {
        if twin.kind == packet::TwinKind::Tap
            && let Some(status) = self.ports.status(twin.slot)
        {
            twins.set_carrier(twin.slot, status.state() == PortState::Up);
        }
    }

    /// What control should be told to look at.
    pub fn doorbells(&mut self) -> impl Iterator<Item = Doorbell> + use<> {
        let acks = self.tables.gave_answers().then_some(Doorbell::Acks);
        let events = std::mem::take(&mut self.events_pushed).then_some(Doorbell::Events);
        acks.into_iter().chain(events)
    }

    /// Stops the worker and closes the ports.
    pub fn end(mut self) {
        let Some(worker) = self.worker.stop() else { return };
        let attached = worker.into_ports();
        let waiting = self.waiting.into_iter().map(|(slot, opened)| (slot, Some(opened.rx), Some(opened.tx)));
        for (slot, rx, tx) in attached.into_iter().chain(waiting) {
            if let (Some(rx), Some(tx)) = (rx, tx) {
                self.ports.close(slot, rx, tx);
            }
        }
    }

    fn change_port(&mut self, host: &mut Host, change: PortChange) {
        let slot = change.slot;
        if self.closing.contains(&slot) {
            // It is looked at again when the worker has given the old queues back.
            return;
        }
        self.failed.remove(&slot);
        self.port_changes.insert(slot, change);
        let Some(record) = &change.record else {
            self.port_changes.remove(&slot);
            if self.ports.is_open(slot) {
                self.close_port(slot);
            } else {
                self.tables.accept_port(slot, change.version);
            }
            self.publish_port(slot, &absent_status());
            return;
        };
        if self.ports.is_open(slot) && !self.ports.serves(slot, record) {
            self.close_port(slot);
            return;
        }
        if !self.ports.is_open(slot) {
            match self.ports.open(&host.eal, &mut host.pools, slot, record) {
                Ok(opened) if self.is_ready() => {
                    self.tables.set_port(change, opened.mac);
                    self.tables.attach_port(slot, Some(opened.rx), Some(opened.tx));
                }
                Ok(opened) => {
                    self.tables.set_port(change, opened.mac);
                    self.waiting.push((slot, opened));
                }
                Err(error) => self.port_failed(change, &error),
            }
        } else if let Some(mac) = self.ports.mac(slot) {
            self.tables.set_port(change, mac);
        }
    }

    fn port_failed(&mut self, change: PortChange, error: &dpdk::Error) {
        let device =
            change.record.map(|record| shm::name_text(&record.device).to_owned()).unwrap_or_default();
        let status = failed_status(error);
        let detail = shm::name_text(&status.detail).to_owned();
        let told = self.region.port_status(change.slot).is_some_and(|known| known == status);
        if !told {
            tracing::error!(slot = change.slot, device, "the device cannot be opened: {detail}");
            self.publish_port(change.slot, &status);
        }
        self.tables.refuse_port(change.slot, change.version, Refusal::DeviceFailed);
        self.failed.insert(change.slot, Instant::now() + REOPEN);
    }

    fn retry_failed(&mut self) {
        let now = Instant::now();
        let due: Vec<u32> =
            self.failed.iter().filter(|(_, when)| **when <= now).map(|(slot, _)| *slot).collect();
        for slot in due {
            self.failed.remove(&slot);
            self.tables.look_again_at_port(slot);
        }
    }

    fn close_port(&mut self, slot: u32) {
        if let Some(index) = self.waiting.iter().position(|(waiting, _)| *waiting == slot) {
            let (_, opened) = self.waiting.swap_remove(index);
            self.ports.close(slot, opened.rx, opened.tx);
        }
        // Also for a port that the worker does not have: its answer leads to a second look at the slot.
        self.tables.clear_port(slot);
        self.closing.push(slot);
    }

    fn become_ready(&mut self) {
        for (slot, opened) in std::mem::take(&mut self.waiting) {
            self.tables.attach_port(slot, Some(opened.rx), Some(opened.tx));
        }
        self.status.ready = 1;
        self.tables.reader().publish_status(&self.status);
        tracing::info!("all tables are in force: forwarding");
    }

    fn publish_port(&mut self, slot: u32, status: &PortStatus) {
        self.tables.reader().publish_port_status(slot, status);
        self.push_event(EventRecord::new(EventKind::PortChanged, slot));
    }

    fn push_event(&mut self, event: EventRecord) {
        if !self.events.push(event) {
            tracing::debug!(?event, "the event ring is full");
        }
        self.events_pushed = true;
    }
}
