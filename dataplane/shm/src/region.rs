//! The region: made or taken over by control, attached to by the dataplane.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use zeroize::Zeroize;

use crate::counters::{PortCounters, TunnelCounters, WorkerCounters};
use crate::header::{ABI_VERSION, Header, MAGIC};
use crate::layout::{
    ACK_WORDS, Area, Layout, PAGE_BYTES, PORT_STATUS_SLOT_WORDS, RECORD_WORDS_MOST, STATUS_WORDS, layout_hash,
};
use crate::mapping::Mapping;
use crate::process::{BootId, ProcessId};
use crate::reader::{EventWriter, Reader};
use crate::record::{Capacities, Record, Refusal, Table};
use crate::ring::{ChangeRing, EventRing};
use crate::sa_runtime::SaRuntime;
use crate::slot;
use crate::status::{PortStatus, Status};
use crate::validate::Invalid;
use crate::writer::{EventReader, Writer};

/// Why a region can not be used.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// A system call failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process holds the role.
    #[error("another {role} holds {path}")]
    Locked {
        /// `writer` or `dataplane`.
        role: &'static str,
        /// The lock.
        path: PathBuf,
    },
    /// The file is no region.
    #[error("not a Culvert region: its magic is {found:#018x}")]
    Magic {
        /// What stood there.
        found: u64,
    },
    /// The other side is of another version.
    #[error("the region has ABI version {found}, this program has {ABI_VERSION}")]
    Abi {
        /// What stood there.
        found: u64,
    },
    /// The other side lays out records differently.
    #[error("the region has layout {found:#018x}, this program has {expected:#018x}")]
    Layout {
        /// What stood there.
        found: u64,
        /// What this program has.
        expected: u64,
    },
    /// The capacities make no sense.
    #[error("the capacities of the region make no sense")]
    Capacities,
    /// The file is shorter or longer than its tables.
    #[error("the region has {found} bytes, its tables need {expected}")]
    Length {
        /// Bytes there.
        found: u64,
        /// Bytes needed.
        expected: u64,
    },
    /// The region was written before the machine was last started: its keys are dead.
    #[error("the region is of another boot")]
    BootId,
    /// Control replaced the region by a new one.
    #[error("the region was replaced")]
    Retired,
    /// The role is taken in this process, or this process attached for another one.
    #[error("the role of {role} is not free in this process")]
    Role {
        /// The role.
        role: &'static str,
    },
}

/// How a region came to be.
#[derive(Debug)]
pub enum Origin {
    /// There was none.
    Created,
    /// There was one that fits: what it holds goes on.
    Attached,
    /// There was one that does not fit; a new one took its place.
    Recreated(RegionError),
}

/// Why a slot gave no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The table has no such slot.
    #[error("slot {0} is beyond the table")]
    OutOfRange(u32),
    /// Its writer died in the middle of it. Keep what was there; the next writer repairs it.
    #[error("the slot is half written")]
    Torn,
    /// The record is not valid. Keep what was there, and refuse the version.
    #[error("version {version}: {reason}")]
    Invalid {
        /// Version of the record.
        version: u64,
        /// What is wrong with it.
        reason: Invalid,
    },
}

/// A slot, read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<R> {
    /// Its version: even, rising; 0 if it was never written.
    pub version: u64,
    /// Its record; `None` if it is vacant.
    pub record: Option<R>,
}

/// What the dataplane said of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// The last version that the dataplane looked at.
    pub applied: u64,
    /// Why it refused that version; `None` if it applied it.
    pub refused: Option<Refusal>,
}

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
    /// Takes over the region at `path`, or makes one there: the control plane's way in. The lock beside it
    /// (`<path>.lock` with the path's extension replaced) is held while the region lives.
    ///
    /// A region of another boot, version, layout, capacity or length is replaced: none of its keys may live on. The old
    /// file is marked as retired, for a dataplane that still maps it.
    ///
    /// # Errors
    /// Another writer is alive, the file is something else than a region, or a system call failed.
    pub fn create_or_attach(
        path: &Path,
        capacities: Capacities,
        boot_id: BootId,
    ) -> Result<(Region, Origin), RegionError> {
        if !capacities.are_sane() {
            return Err(RegionError::Capacities);
        }
        let lock_path = path.with_extension("lock");
        let lock = open_options().create(true).open(&lock_path).map_err(io_error("open", &lock_path))?;
        try_lock(&lock, &lock_path, "writer")?;
        let (region, origin) = match Self::open(path, Some(boot_id)) {
            Ok((mapping, layout, found, _)) if found == capacities => {
                (Self::build(mapping, layout, found, role::CONTROL, vec![lock]), Origin::Attached)
            }
            Ok(_) => {
                (Self::replace(path, capacities, boot_id, lock)?, Origin::Recreated(RegionError::Capacities))
            }
            Err(RegionError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                (Self::create(path, capacities, boot_id, lock)?, Origin::Created)
            }
            Err(error @ (RegionError::Io { .. } | RegionError::Magic { .. })) => return Err(error),
            Err(error) => (Self::replace(path, capacities, boot_id, lock)?, Origin::Recreated(error)),
        };
        let writer = ProcessId::current().map_err(io_error("read", Path::new("/proc/self/stat")))?;
        if let Some(header) = region.header() {
            header.writer_pid.store(u64::from(writer.pid), Ordering::Relaxed);
            header.writer_start_ticks.store(writer.start_ticks, Ordering::Relaxed);
        }
        Ok((region, origin))
    }

    /// Attaches to the region at `path`: the dataplane's way in. The region file is locked while the region lives: two
    /// dataplanes would use the same nonces.
    ///
    /// # Errors
    /// There is none (an `Io` error of kind `NotFound`), it does not fit, it is of another boot, or another dataplane
    /// is attached. Try again later.
    pub fn attach(path: &Path, boot_id: BootId) -> Result<Region, RegionError> {
        let (mapping, layout, capacities, file) = Self::open(path, Some(boot_id))?;
        try_lock(&file, path, "dataplane")?;
        let region = Self::build(mapping, layout, capacities, role::DATAPLANE, vec![file]);
        if region.is_retired() { Err(RegionError::Retired) } else { Ok(region) }
    }

    /// A region in memory of this process, with both sides' roles free: for tests and benches.
    ///
    /// # Errors
    /// The capacities make no sense, or there is no memory.
    pub fn anonymous(capacities: Capacities) -> Result<Region, RegionError> {
        if !capacities.are_sane() {
            return Err(RegionError::Capacities);
        }
        let layout = Layout::new(&capacities);
        let mapping = Mapping::anonymous(layout.length_bytes)
            .map_err(io_error("map", Path::new("anonymous memory")))?;
        let region = Self::build(mapping, layout, capacities, role::CONTROL | role::DATAPLANE, Vec::new());
        region.write_header(BootId([0; 2]));
        Ok(region)
    }

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
        // An SA's keys were in it.
        buffer.zeroize();
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

    /// Whether the dataplane looked at what now stands in a slot.
    pub fn is_settled(&self, table: Table, slot: u32) -> bool {
        self.slot_cells(table, slot).is_some_and(|(version, _)| {
            let version = version.load(Ordering::Acquire);
            version % 2 == 0 && self.ack(table, slot).applied >= version
        })
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

    fn open(
        path: &Path,
        boot_id: Option<BootId>,
    ) -> Result<(Mapping, Layout, Capacities, File), RegionError> {
        let file = open_options().open(path).map_err(io_error("open", path))?;
        let found_bytes = file.metadata().map_err(io_error("read the length of", path))?.len();
        if found_bytes < PAGE_BYTES as u64 {
            return Err(RegionError::Length { found: found_bytes, expected: PAGE_BYTES as u64 });
        }
        let page = Mapping::of_file(&file, PAGE_BYTES).map_err(io_error("map", path))?;
        let head = page.cells::<Header>(0, 1).first().ok_or(RegionError::Magic { found: 0 })?;
        let capacities = check(head, boot_id)?;
        let layout = Layout::new(&capacities);
        let expected = layout.length_bytes as u64;
        if found_bytes != expected || head.length_bytes.load(Ordering::Relaxed) != expected {
            return Err(RegionError::Length { found: found_bytes, expected });
        }
        let mapping = Mapping::of_file(&file, layout.length_bytes).map_err(io_error("map", path))?;
        Ok((mapping, layout, capacities, file))
    }

    /// Retires the old file and makes a new one.
    fn replace(
        path: &Path,
        capacities: Capacities,
        boot_id: BootId,
        lock: File,
    ) -> Result<Region, RegionError> {
        if let Ok(file) = open_options().open(path)
            && file.metadata().is_ok_and(|metadata| metadata.len() >= PAGE_BYTES as u64)
            && let Ok(page) = Mapping::of_file(&file, PAGE_BYTES)
            && let Some(header) = page.cells::<Header>(0, 1).first()
        {
            header.retired.store(1, Ordering::Release);
        }
        Self::create(path, capacities, boot_id, lock)
    }

    /// Makes a region beside `path` and moves it there: who opens `path` finds a whole one.
    fn create(
        path: &Path,
        capacities: Capacities,
        boot_id: BootId,
        lock: File,
    ) -> Result<Region, RegionError> {
        let layout = Layout::new(&capacities);
        let new_path = path.with_extension("new");
        let file = open_options()
            .create(true)
            .truncate(true)
            .open(&new_path)
            .map_err(io_error("create", &new_path))?;
        file.set_len(layout.length_bytes as u64).map_err(io_error("size", &new_path))?;
        let mapping = Mapping::of_file(&file, layout.length_bytes).map_err(io_error("map", &new_path))?;
        let region = Self::build(mapping, layout, capacities, role::CONTROL, vec![lock]);
        region.write_header(boot_id);
        std::fs::rename(&new_path, path).map_err(io_error("rename", &new_path))?;
        Ok(region)
    }

    fn write_header(&self, boot_id: BootId) {
        let Some(header) = self.header() else { return };
        header.abi.store(ABI_VERSION, Ordering::Relaxed);
        header.layout_hash.store(layout_hash(), Ordering::Relaxed);
        header.length_bytes.store(self.inner.layout.length_bytes as u64, Ordering::Relaxed);
        for (cell, word) in header.boot_id.iter().zip(boot_id.0) {
            cell.store(word, Ordering::Relaxed);
        }
        for (cell, word) in header.capacities.iter().zip(self.inner.capacities.to_words()) {
            cell.store(word, Ordering::Relaxed);
        }
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
        header.region_id.store(nanos, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
    }

    fn build(
        mapping: Mapping,
        layout: Layout,
        capacities: Capacities,
        roles: u8,
        locks: Vec<File>,
    ) -> Region {
        let free_roles = AtomicU8::new(roles);
        Region { inner: Arc::new(Inner { mapping, layout, capacities, free_roles, _locks: locks }) }
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

/// What makes a file a region that this program understands, and that is of this boot.
fn check(header: &Header, boot_id: Option<BootId>) -> Result<Capacities, RegionError> {
    let magic = header.magic.load(Ordering::Acquire);
    if magic != MAGIC {
        return Err(RegionError::Magic { found: magic });
    }
    let abi = header.abi.load(Ordering::Relaxed);
    if abi != ABI_VERSION {
        return Err(RegionError::Abi { found: abi });
    }
    let found = header.layout_hash.load(Ordering::Relaxed);
    if found != layout_hash() {
        return Err(RegionError::Layout { found, expected: layout_hash() });
    }
    let written_at = BootId(
        [0, 1].map(|index: usize| header.boot_id.get(index).map_or(0, |word| word.load(Ordering::Relaxed))),
    );
    if boot_id.is_some_and(|boot_id| boot_id != written_at) {
        return Err(RegionError::BootId);
    }
    let mut words = [0; Capacities::WORDS];
    for (word, cell) in words.iter_mut().zip(&header.capacities) {
        *word = cell.load(Ordering::Relaxed);
    }
    Capacities::from_words(words).ok_or(RegionError::Capacities)
}

fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn try_lock(file: &File, path: &Path, role: &'static str) -> Result<(), RegionError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => RegionError::Locked { role, path: path.to_owned() },
        TryLockError::Error(source) => RegionError::Io { action: "lock", path: path.to_owned(), source },
    })
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RegionError {
    move |source| RegionError::Io { action, path: path.to_owned(), source }
}
