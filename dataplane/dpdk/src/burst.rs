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

    /// Appends a packet, or gives it back when the burst is full.
    ///
    /// # Errors
    /// The packet, when there is no room.
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        self.mbufs.try_push(mbuf).map_err(|full| full.element())
    }

    /// Takes the last packet out.
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.mbufs.pop()
    }

    /// Takes all packets out, in order.
    pub fn drain(&mut self) -> arrayvec::Drain<'_, Mbuf, BURST_SIZE> {
        self.mbufs.drain(..)
    }

    /// Whether no further packet fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.mbufs.is_full()
    }

    /// Frees all packets with one call.
    pub fn free(&mut self) {
        Mbuf::free_bulk(&mut self.mbufs);
    }

    /// Room behind the last packet.
    pub(crate) fn spare(&mut self) -> &mut [MaybeUninit<Mbuf>] {
        let len = self.mbufs.len();
        // SAFETY: entries from `len` up to the capacity belong to the array and are treated as uninitialised.
        unsafe { std::slice::from_raw_parts_mut(self.mbufs.as_mut_ptr().add(len).cast(), BURST_SIZE - len) }
    }

    /// Says how many entries are packets.
    ///
    /// # Safety
    /// `len <= BURST_SIZE`, and the first `len` entries are packets that nothing else refers to; packets beyond
    /// it have been given away.
    pub(crate) unsafe fn set_len(&mut self, len: usize) {
        // SAFETY: the caller's promise is the one that ArrayVec asks for.
        unsafe { self.mbufs.set_len(len) };
    }
}

impl Deref for Burst {
    type Target = [Mbuf];
    fn deref(&self) -> &[Mbuf] {
        &self.mbufs
    }
}

impl DerefMut for Burst {
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        &mut self.mbufs
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.free();
    }
}
