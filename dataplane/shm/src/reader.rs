//! The dataplane's half: reads records, acknowledges them, tells events and its own state.

use std::sync::atomic::Ordering;

use crate::event::EventRecord;
use crate::record::{Record, Refusal, Table};
use crate::region::{ReadError, Region, Slot, role};
use crate::ring::Popped;
use crate::slot;
use crate::status::{PortStatus, Status};

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A slot: read it and acknowledge it.
    Slot(Table, u32),
    /// Anything: read all slots of all tables ([`Table::ALL`] gives the order).
    Rescan,
}

/// The dataplane's view of the tables. One per region.
pub struct Reader {
    region: Region,
    started: bool,
}

impl Reader {
    pub(crate) fn new(region: Region) -> Reader {
        if let Some(header) = region.header() {
            let epoch = header.epoch.load(Ordering::Relaxed);
            header.epoch.store(epoch.wrapping_add(1), Ordering::Release);
        }
        Reader { region, started: false }
    }

    /// The region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The next change, if there is one. The first is always [`Change::Rescan`]. An entry that makes no sense is
    /// a rescan as well.
    pub fn next_change(&mut self) -> Option<Change> {
        let changes = self.region.changes()?;
        if !self.started {
            self.started = true;
            changes.begin_rescan();
            return Some(Change::Rescan);
        }
        match changes.pop() {
            Popped::Empty => None,
            Popped::Rescan => Some(Change::Rescan),
            Popped::Entry(entry) => {
                let slot = entry as u32;
                let table = Table::from_number((entry >> 32) as u32)
                    .filter(|table| slot < self.region.capacities().of(*table));
                match table {
                    Some(table) => Some(Change::Slot(table, slot)),
                    None => {
                        changes.begin_rescan();
                        Some(Change::Rescan)
                    }
                }
            }
        }
    }

    /// Reads a slot; see [`Region::read`].
    ///
    /// # Errors
    /// See [`ReadError`]; keep the last good state with each.
    pub fn read<R: Record>(&self, slot: u32) -> Result<Slot<R>, ReadError> {
        self.region.read(slot)
    }

    /// Says that this version of a slot is in force.
    pub fn acknowledge(&self, table: Table, slot: u32, version: u64) {
        self.answer(table, slot, version, 0);
    }

    /// Says that this version of a slot is not in force, and what was there before still is.
    pub fn refuse(&self, table: Table, slot: u32, version: u64, refusal: Refusal) {
        self.answer(table, slot, version, refusal as u64);
    }

    fn answer(&self, table: Table, slot: u32, version: u64, code: u64) {
        if let Some([applied, refused]) = self.region.ack_cells(table, slot) {
            refused.store(code, Ordering::Relaxed);
            applied.store(version, Ordering::Release);
        }
    }

    /// Publishes the state of the dataplane; `epoch` is filled in.
    pub fn publish_status(&self, status: &Status) {
        if let Some(header) = self.region.header() {
            let status = Status { epoch: header.epoch.load(Ordering::Relaxed), ..*status };
            let words: [u64; size_of::<Status>() / 8] = zerocopy::transmute!(status);
            slot::write(&header.status_version, self.region.status_cells(), &words);
        }
    }

    /// Publishes the state of a port.
    pub fn publish_port_status(&self, slot: u32, status: &PortStatus) {
        if let Some((version, cells)) = self.region.port_status_cells(slot) {
            let words: [u64; size_of::<PortStatus>() / 8] = zerocopy::transmute!(*status);
            slot::write(version, cells, &words);
        }
    }

    /// Shows that the dataplane lives.
    pub fn beat(&self, unix_ms: u64) {
        if let Some(header) = self.region.header() {
            header.heartbeat_unix_ms.store(unix_ms, Ordering::Relaxed);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.region.give_back(role::READER);
    }
}

/// The dataplane's end of the event ring. One per region.
pub struct EventWriter {
    region: Region,
}

impl EventWriter {
    pub(crate) fn new(region: Region) -> EventWriter {
        EventWriter { region }
    }

    /// Puts an event; false, and counted, if the ring is full. Ring the doorbell afterwards.
    pub fn push(&mut self, event: EventRecord) -> bool {
        self.region.events().is_some_and(|events| events.push(event))
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        self.region.give_back(role::EVENT_WRITER);
    }
}
