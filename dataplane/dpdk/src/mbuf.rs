//! One packet buffer.

use std::fmt;
use std::ptr::NonNull;

use packet::{Frame, Meta};

use crate::HEADROOM;

/// A packet in a DPDK buffer, owned: it can move to another thread, and dropping it gives the buffer back.
///
/// A packet is one segment: the drivers are configured so, and of a longer chain only the first segment is seen.
///
/// ```compile_fail,E0308
/// fn twice(mbuf: &dpdk::Mbuf) -> dpdk::Mbuf {
///     mbuf.clone()
/// }
/// ```
#[repr(transparent)]
pub struct Mbuf {
    raw: NonNull<dpdk_sys::rte_mbuf>,
}

// SAFETY: the buffer is owned and reachable through this value only; pools take buffers back from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Takes ownership of a buffer.
    ///
    /// # Safety
    /// `raw` is a live buffer of a [`crate::Pool`], with a reference count of one, that nothing else refers to.
    pub(crate) unsafe fn from_raw(raw: NonNull<dpdk_sys::rte_mbuf>) -> Self {
        Self { raw }
    }

    /// Gives all buffers back to their pools with one call.
    pub fn free_bulk<const N: usize>(mbufs: &mut arrayvec::ArrayVec<Self, N>) {
        let count = mbufs.len();
        if count == 0 {
            return;
        }
        // SAFETY: Mbuf is a transparent pointer, so this is an array of `count` owned buffers; the length is set to
        // zero first, so that they are not dropped again.
        unsafe {
            mbufs.set_len(0);
            dpdk_sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr().cast(), count as u32);
        }
    }

    /// The buffer's Meta as it was when its last user left it, made valid again.
    pub(crate) fn reset_meta(&mut self) {
        *self.meta_mut() = Meta::default();
    }

    /// Shared view of DPDK's header of the buffer.
    #[inline]
    fn header(&self) -> &dpdk_sys::rte_mbuf {
        // SAFETY: the buffer is live and owned by this value.
        unsafe { self.raw.as_ref() }
    }

    /// DPDK's header of the buffer.
    #[inline]
    fn header_mut(&mut self) -> &mut dpdk_sys::rte_mbuf {
        // SAFETY: the buffer is live and owned by this value, which is borrowed mutably.
        unsafe { self.raw.as_mut() }
    }

    /// First byte of the packet.
    #[inline]
    fn data(&self) -> *mut u8 {
        // SAFETY: DPDK keeps data_off within the buffer of buf_len bytes, and so do the methods below.
        unsafe { self.header().buf_addr.cast::<u8>().add(usize::from(self.data_off())) }
    }

    /// Where the packet begins in the buffer.
    ///
    /// Read as sixteen bits of unknown alignment, here and in [`Mbuf::data_len`]: of aligned ones the compiler reads
    /// thirty-two, and a read that is wider than the store right before it waits until that has left the store buffer.
    #[inline]
    fn data_off(&self) -> u16 {
        // SAFETY: a field of the live header.
        unsafe { (&raw const (*self.raw.as_ptr()).data_off).read_unaligned() }
    }

    /// How long the packet is.
    #[inline]
    fn data_len(&self) -> u16 {
        // SAFETY: a field of the live header.
        unsafe { (&raw const (*self.raw.as_ptr()).data_len).read_unaligned() }
    }

    /// Says where the packet begins and how long it is, its one segment and so the whole.
    #[inline]
    fn set_span(&mut self, data_off: u16, data_len: u16) {
        let header = self.header_mut();
        header.data_off = data_off;
        header.data_len = data_len;
        header.pkt_len = u32::from(data_len);
    }

    #[inline]
    fn private_area(&self) -> *mut Meta {
        // SAFETY: every pool is made with a private area for a Meta right behind the header, see `Pool::new`.
        unsafe { self.raw.as_ptr().add(1).cast() }
    }
}

impl Frame for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: data_len bytes from the packet's first byte lie in the buffer, which pools hand out initialised.
        unsafe { std::slice::from_raw_parts(self.data(), usize::from(self.data_len())) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and the buffer is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data(), usize::from(self.data_len())) }
    }

    #[inline]
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.headroom() {
            return None;
        }
        // No truncation: len <= headroom <= u16::MAX.
        let (data_off, data_len) = (self.data_off() - len as u16, self.data_len() + len as u16);
        self.set_span(data_off, data_len);
        // SAFETY: the packet now begins with these `len` bytes of what was headroom.
        Some(unsafe { std::slice::from_raw_parts_mut(self.data(), len) })
    }

    #[inline]
    fn append(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.tailroom() {
            return None;
        }
        // SAFETY: the packet's end lies in the buffer.
        let end = unsafe { self.data().add(usize::from(self.data_len())) };
        // No truncation: len <= tailroom <= u16::MAX.
        self.set_span(self.data_off(), self.data_len() + len as u16);
        // SAFETY: the packet now ends with these `len` bytes of what was tailroom.
        Some(unsafe { std::slice::from_raw_parts_mut(end, len) })
    }

    #[inline]
    fn trim_front(&mut self, len: usize) -> bool {
        let (data_off, data_len) = (self.data_off(), self.data_len());
        if len > usize::from(data_len) {
            return false;
        }
        self.set_span(data_off + len as u16, data_len - len as u16);
        true
    }

    #[inline]
    fn trim_back(&mut self, len: usize) -> bool {
        let data_len = self.data_len();
        if len > usize::from(data_len) {
            return false;
        }
        self.set_span(self.data_off(), data_len - len as u16);
        true
    }

    #[inline]
    fn headroom(&self) -> usize {
        usize::from(self.data_off())
    }

    #[inline]
    fn tailroom(&self) -> usize {
        usize::from(self.header().buf_len)
            .saturating_sub(usize::from(self.data_off()) + usize::from(self.data_len()))
    }

    #[inline]
    fn meta(&self) -> &Meta {
        // SAFETY: `Pool::new` wrote a valid Meta there, and later users wrote only valid ones.
        unsafe { &*self.private_area() }
    }

    #[inline]
    fn meta_mut(&mut self) -> &mut Meta {
        // SAFETY: as in `meta`, and the buffer is borrowed mutably.
        unsafe { &mut *self.private_area() }
    }

    fn sibling(&self) -> Option<Self> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: a buffer's pool lives for ever and `raw` is room for one pointer.
        let code = unsafe { dpdk_sys::culvert_pktmbuf_alloc_bulk(self.header().pool, &raw mut raw, 1) };
        if code != 0 {
            return None;
        }
        // SAFETY: the buffer was just allocated and nothing else refers to it.
        let mut sibling = unsafe { Self::from_raw(NonNull::new(raw)?) };
        sibling.reset_meta();
        Some(sibling)
    }

    #[inline]
    fn prefetch(&self) {
        // Drivers leave the packet at the usual headroom; asking the header for the exact place would wait for it.
        // SAFETY: prefetching is a hint that does not fault; the address is only computed.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let raw = self.raw.as_ptr();
            _mm_prefetch::<_MM_HINT_T0>(raw.cast());
            let data = raw.add(1).cast::<i8>().wrapping_add(size_of::<Meta>() + usize::from(HEADROOM));
            _mm_prefetch::<_MM_HINT_T0>(data);
        }
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        let mut raw = self.raw.as_ptr();
        // SAFETY: the buffer is owned and given away here.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(&raw mut raw, 1) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf").field("len_bytes", &self.bytes().len()).finish_non_exhaustive()
    }
}
