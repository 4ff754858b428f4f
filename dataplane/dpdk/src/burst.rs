//! A burst: the packets of one call to a queue.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

use arrayvec::ArrayVec;

use crate::mbuf::Mbuf;

/// Most packets in a burst.
pub const BURST_SIZE: usize = 32;

/// Up to [`BURST_SIZE`] packets, in place. What it still holds when dropped is freed with one call.
#[derive(Debug, Default)]
pub struct Burst {
    mbufs: ArrayVec<Mbuf, BURST_SIZE>,
}

impl Burst {
    /// An empty burst.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Deref for Burst {
    type Target = ArrayVec<Mbuf, BURST_SIZE>;
    fn deref(&self) -> &Self::Target {
        &self.mbufs
    }
}

impl DerefMut for Burst {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.mbufs
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        Mbuf::free_bulk(&mut self.mbufs);
    }
}

/// Room behind the last packet.
pub(crate) fn spare<const N: usize>(mbufs: &mut ArrayVec<Mbuf, N>) -> &mut [MaybeUninit<Mbuf>] {
    let len = mbufs.len();
    // SAFETY: entries from `len` up to the capacity belong to the array and are treated as uninitialised.
    unsafe { std::slice::from_raw_parts_mut(mbufs.as_mut_ptr().add(len).cast(), N - len) }
}
