//! The region as a file: making it, taking it over, attaching to it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Inner, Origin, Region, RegionError, role};
use crate::header::{ABI_VERSION, Header, MAGIC};
use crate::layout::{Layout, PAGE_BYTES, layout_hash};
use crate::mapping::Mapping;
use crate::process::{BootId, ProcessId};
use crate::record::Capacities;

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
