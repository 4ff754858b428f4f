//! The region: made or taken over by control, attached to by the dataplane.

mod error;
mod file;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use zeroize::Zeroize;

pub use self::error::{Ack, Origin, ReadError, RegionError, Slot};
use crate::counters::{PortCounters, TunnelCounters, WorkerCounters};
use crate::header::Header;
use crate::layout::{ACK_WORDS, Area, Layout, PORT_STATUS_SLOT_WORDS, RECORD_WORDS_MOST, STATUS_WORDS};
use crate::mapping::Mapping;
use crate::process::ProcessId;
use crate::reader::{EventWriter, Reader};
use crate::record::{Capacities, Record, Refusal, Table};
use crate::ring::{ChangeRing, EventRing};
use crate::sa_runtime::SaRuntime;
use crate::slot;
use crate::status::{PortStatus, Status};
use crate::writer::{EventReader, Writer};

/// The region. Clones share the mapping.
#[derive(Clone)]
pub struct Region {
    inner: Arc<Inner>,
}

struct Inner {
    mapping: Mapping,
    layout: Layout,
    capacities: Capacities,
    /// Roles that may still be taken; see [`role`].
    free_roles: AtomicU8,
    /// Hold the file locks for as long as the mapping.
    _locks: Vec<File>,
}

/// Roles of which a process has at most one each.
pub(crate) mod role {
    pub(crate) const WRITER: u8 = 1;
    pub(crate) const EVENT_READER: u8 = 2;
    pub(crate) const READER: u8 = 4;
    pub(crate) const EVENT_WRITER: u8 = 8;
    pub(crate) const CONTROL: u8 = WRITER | EVENT_READER;
    pub(crate) const DATAPLANE: u8 = READER | EVENT_WRITER;
}

impl Region {
    /// Leaks the region, for the dataplane, which keeps it for its life.
    pub fn leak(self) -> &'static Region {
        Box::leak(Box::new(self))
    }

    /// The capacities of its tables.
    pub fn capacities(&self) -> &Capacities {
        &self.inner.capacities
    }

    /// Tells one region from the next at the same path.
    pub fn region_id(&self) -> u64 {
        self.header().map_or(0, |header| header.region_id.load(Ordering::Relaxed))
    }

    /// Whether control replaced this region by a new one: let go of it and attach anew.
    pub fn is_retired(&self) -> bool {
        self.header().is_none_or(|header| header.retired.load(Ordering::Acquire) != 0)
    }

    /// The control process that last took over the region.
    pub fn writer_process(&self) -> Option<ProcessId> {
        let header = self.header()?;
        let pid = u32::try_from(header.writer_pid.load(Ordering::Relaxed)).ok()?;
        (pid != 0).then(|| ProcessId { pid, start_ticks: header.writer_start_ticks.load(Ordering::Relaxed) })
    }

    /// Control's half of the tables. Asks the dataplane for a rescan: a former writer may have died before it
    /// announced what it wrote.
    ///
    /// # Errors
    /// It is taken, or this process attached as the dataplane.
    pub fn writer(&self) -> Result<Writer, RegionError> {
        self.take(role::WRITER, "writer")?;
        Ok(Writer::new(self.clone()))
    }

    /// Control's half of the event ring.
    ///
    /// # Errors
    /// It is taken, or this process attached as the dataplane.
    pub fn event_reader(&self) -> Result<EventReader, RegionError> {
        self.take(role::EVENT_READER, "event reader")?;
        Ok(EventReader::new(self.clone()))
    }

    /// The dataplane's half of the tables. Its first change is a rescan.
    ///
    /// # Errors
    /// It is taken, or this process attached as control.
    pub fn reader(&self) -> Result<Reader, RegionError> {
        self.take(role::READER, "reader")?;
        Ok(Reader::new(self.clone()))
    }

    /// The dataplane's half of the event ring.
    ///
    /// # Errors
    /// It is taken, or this process attached as control.
    pub fn event_writer(&self) -> Result<EventWriter, RegionError> {
        self.take(role::EVENT_WRITER, "event writer")?;
        Ok(EventWriter::new(self.clone()))
    }

    /// Reads a slot and validates its record.
    ///
    /// # Errors
    /// See [`ReadError`]; keep the last good state with each.
    pub fn read<R: Record>(&self, slot: u32) -> Result<Slot<R>, ReadError> {
        let (version, cells) = self.slot_cells(R::TABLE, slot).ok_or(ReadError::OutOfRange(slot))?;
        let mut buffer = [0u64; RECORD_WORDS_MOST];
        let words = buffer.get_mut(..cells.len()).ok_or(ReadError::OutOfRange(slot))?;
        let version = slot::read(version, cells, words).ok_or(ReadError::Torn)?;
        let record = R::read_from_bytes(zerocopy::IntoBytes::as_bytes(&*words)).ok();
        // An SA's keys were in it; behind them nothing was written.
        words.zeroize();
        let record = record.filter(Record::is_present);
        if let Some(record) = &record {
            record
                .validate(&self.inner.capacities)
                .map_err(|reason| ReadError::Invalid { version, reason })?;
        }
        Ok(Slot { version, record })
    }

    /// What the dataplane said of a slot; nothing yet if the table has no such slot.
    pub fn ack(&self, table: Table, slot: u32) -> Ack {
        let Some([applied, refused]) = self.ack_cells(table, slot) else {
            return Ack::default();
        };
        // `applied` is published last: its refusal is there when it is.
        let applied = applied.load(Ordering::Acquire);
        let code = refused.load(Ordering::Relaxed) as u32;
        let refused = (code != 0).then(|| Refusal::from_code(code).unwrap_or(Refusal::Invalid));
        Ack { applied, refused }
    }

    /// The version of what stands in a slot, odd while it is written; `None` if the table has no such slot.
    pub fn version(&self, table: Table, slot: u32) -> Option<u64> {
        self.slot_cells(table, slot).map(|(version, _)| version.load(Ordering::Acquire))
    }

    /// Whether the dataplane looked at what now stands in a slot.
    pub fn is_settled(&self, table: Table, slot: u32) -> bool {
        self.version(table, slot)
            .is_some_and(|version| version.is_multiple_of(2) && self.ack(table, slot).applied >= version)
    }

    /// Whether a slot may get another object: it is vacant, and the dataplane knows it.
    pub fn is_reusable(&self, table: Table, slot: u32) -> bool {
        let vacant = self.slot_cells(table, slot).is_some_and(|(_, cells)| {
            // A record begins with its `present` byte, which is 1 in every record in use.
            cells.first().is_some_and(|word| word.load(Ordering::Relaxed).to_ne_bytes()[0] == 0)
        });
        vacant && self.is_settled(table, slot)
    }

    /// Runtime state of the SA in a slot.
    pub fn sa_runtime(&self, slot: u32) -> Option<&SaRuntime> {
        self.cells::<SaRuntime>(self.inner.layout.sa_runtimes).get(slot as usize)
    }

    /// Counters of a worker.
    pub fn worker_counters(&self, worker: u32) -> Option<&WorkerCounters> {
        self.cells::<WorkerCounters>(self.inner.layout.workers).get(worker as usize)
    }

    /// Counters of all tunnels at a worker, by slot.
    pub fn tunnel_counters(&self, worker: u32) -> Option<&[TunnelCounters]> {
        let tunnels = self.inner.capacities.tunnels as usize;
        self.cells::<TunnelCounters>(self.inner.layout.tunnel_counters)
            .chunks_exact(tunnels)
            .nth(worker as usize)
    }

    /// Counters of all ports at a worker, by slot.
    pub fn port_counters(&self, worker: u32) -> Option<&[PortCounters]> {
        let ports = self.inner.capacities.ports as usize;
        self.cells::<PortCounters>(self.inner.layout.port_counters).chunks_exact(ports).nth(worker as usize)
    }

    /// What the dataplane last said of itself; `None` if none ever attached.
    pub fn status(&self) -> Option<Status> {
        let mut words = [0; STATUS_WORDS];
        let header = self.header()?;
        let version = slot::read(&header.status_version, self.cells(self.inner.layout.status), &mut words)?;
        (version != 0).then_some(zerocopy::transmute!(words))
    }

    /// When the dataplane last showed that it lives, in milliseconds since the Unix epoch; 0 for never.
    pub fn heartbeat_unix_ms(&self) -> u64 {
        self.header().map_or(0, |header| header.heartbeat_unix_ms.load(Ordering::Relaxed))
    }

    /// What the dataplane said of a port; `None` if it never did.
    pub fn port_status(&self, slot: u32) -> Option<PortStatus> {
        let (version, cells) = self.port_status_cells(slot)?;
        let mut words = [0; PORT_STATUS_SLOT_WORDS - 1];
        let version = slot::read(version, cells, &mut words)?;
        (version != 0).then_some(zerocopy::transmute!(words))
    }

    /// How many times a dataplane attached.
    pub fn epoch(&self) -> u64 {
        self.header().map_or(0, |header| header.epoch.load(Ordering::Acquire))
    }

    /// Events that were lost because the ring was full.
    pub fn events_lost(&self) -> u64 {
        self.header().map_or(0, |header| header.events_lost.value.load(Ordering::Relaxed))
    }

    fn take(&self, role: u8, name: &'static str) -> Result<(), RegionError> {
        let before = self.inner.free_roles.fetch_and(!role, Ordering::AcqRel);
        if before & role == 0 { Err(RegionError::Role { role: name }) } else { Ok(()) }
    }

    pub(crate) fn give_back(&self, role: u8) {
        self.inner.free_roles.fetch_or(role, Ordering::AcqRel);
    }

    fn cells<T: crate::mapping::Cells>(&self, area: Area) -> &[T] {
        self.inner.mapping.cells(area.offset_bytes, area.count)
    }

    pub(crate) fn header(&self) -> Option<&Header> {
        self.inner.mapping.cells::<Header>(0, 1).first()
    }

    /// Version and record cells of a slot.
    pub(crate) fn slot_cells(&self, table: Table, slot: u32) -> Option<(&AtomicU64, &[AtomicU64])> {
        let area = self.inner.layout.slots.get(table as usize)?;
        let stride = 1 + crate::layout::record_words(table);
        self.cells::<AtomicU64>(*area).chunks_exact(stride).nth(slot as usize)?.split_first()
    }

    pub(crate) fn ack_cells(&self, table: Table, slot: u32) -> Option<&[AtomicU64; ACK_WORDS]> {
        let area = self.inner.layout.acks.get(table as usize)?;
        self.cells::<AtomicU64>(*area).as_chunks::<ACK_WORDS>().0.get(slot as usize)
    }

    pub(crate) fn status_cells(&self) -> &[AtomicU64] {
        self.cells(self.inner.layout.status)
    }

    pub(crate) fn port_status_cells(&self, slot: u32) -> Option<(&AtomicU64, &[AtomicU64])> {
        let cells = self.cells::<AtomicU64>(self.inner.layout.port_statuses);
        cells.chunks_exact(PORT_STATUS_SLOT_WORDS).nth(slot as usize)?.split_first()
    }

    pub(crate) fn changes(&self) -> Option<ChangeRing<'_>> {
        let header = self.header()?;
        Some(ChangeRing {
            head: &header.changes_head.value,
            tail: &header.changes_tail.value,
            rescans_asked: &header.rescans_asked.value,
            rescans_begun: &header.rescans_begun.value,
            entries: self.cells(self.inner.layout.changes),
        })
    }

    pub(crate) fn events(&self) -> Option<EventRing<'_>> {
        let header = self.header()?;
        Some(EventRing {
            head: &header.events_head.value,
            tail: &header.events_tail.value,
            lost: &header.events_lost.value,
            entries: self.cells(self.inner.layout.events),
        })
    }
}
