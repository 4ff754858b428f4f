//! The mapping: the one place of this crate with `unsafe`.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapMut, MmapOptions, MmapRaw};

use crate::counters::{PortCounters, TunnelCounters, WorkerCounters};
use crate::header::Header;
use crate::sa_runtime::SaRuntime;

/// Plain cells: types that are valid at any bit pattern and safe to share with another process.
///
/// # Safety
/// The type is `repr(C)` or `repr(transparent)`, made of `AtomicU64` alone (and padding that is never read).
pub(crate) unsafe trait Cells {}

// SAFETY: it is an `AtomicU64`.
unsafe impl Cells for AtomicU64 {}
// SAFETY: `repr(C)`, made of `AtomicU64` alone.
unsafe impl Cells for Header {}
// SAFETY: `repr(C)`, made of `AtomicU64` alone.
unsafe impl Cells for SaRuntime {}
// SAFETY: `repr(C)`, made of `AtomicU64` alone.
unsafe impl Cells for WorkerCounters {}
// SAFETY: `repr(C)`, made of `AtomicU64` alone.
unsafe impl Cells for TunnelCounters {}
// SAFETY: `repr(C)`, made of `AtomicU64` alone.
unsafe impl Cells for PortCounters {}

/// A shared, writable mapping.
pub(crate) struct Mapping {
    raw: MmapRaw,
}

impl Mapping {
    /// Maps the whole of `file`, shared.
    pub(crate) fn of_file(file: &File, length_bytes: usize) -> io::Result<Mapping> {
        Ok(Mapping { raw: MmapOptions::new().len(length_bytes).map_raw(file)? })
    }

    /// Maps zeroed memory that no other process sees.
    pub(crate) fn anonymous(length_bytes: usize) -> io::Result<Mapping> {
        Ok(Mapping { raw: MmapRaw::from(MmapMut::map_anon(length_bytes)?) })
    }

    /// `count` cells at `offset_bytes`; none if they are not within the mapping or not aligned.
    pub(crate) fn cells<T: Cells>(&self, offset_bytes: usize, count: usize) -> &[T] {
        let end = count.checked_mul(size_of::<T>()).and_then(|length| length.checked_add(offset_bytes));
        let start = self.raw.as_mut_ptr().cast_const().wrapping_add(offset_bytes).cast::<T>();
        if end.is_none_or(|end| end > self.raw.len()) || !start.is_aligned() {
            return &[];
        }
        // SAFETY: in bounds and aligned as just checked, mapped while `self` lives, and `Cells` types hold only atomics.
        unsafe { std::slice::from_raw_parts(start, count) }
    }
}
