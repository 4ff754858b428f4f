//! Pools of packet buffers.

use std::ffi::CString;
use std::ptr::NonNull;

use arrayvec::ArrayVec;
use packet::Meta;

use crate::HEADROOM;
use crate::burst::spare;
use crate::eal::Eal;
use crate::error::Error;
use crate::mbuf::Mbuf;

/// Buffers that a thread keeps for itself before it goes to the shared ring of the pool.
const THREAD_CACHE: u32 = 256;

/// A pool of packet buffers of one size. Lives for the life of the process; a handle is free to copy.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    raw: NonNull<dpdk_sys::rte_mempool>,
    data_room_bytes: u16,
}

// SAFETY: rte_mempool is made for concurrent use from many threads, and a pool is never freed.
unsafe impl Send for Pool {}
// SAFETY: as above; every method takes the pool by shared reference only to call such functions.
unsafe impl Sync for Pool {}

impl Pool {
    /// Makes a pool of `buffers` buffers, each with room for `data_bytes` of packet after the headroom.
    ///
    /// # Errors
    /// When the name is taken or DPDK's heap has no room.
    pub fn new(_eal: &Eal, name: &str, buffers: u32, data_bytes: u16) -> Result<Self, Error> {
        const {
            assert!(align_of::<Meta>() <= 64, "a buffer's private area is aligned to a cache line");
            assert!(!std::mem::needs_drop::<Meta>(), "buffers are recycled without dropping their Meta");
        }
        let name = CString::new(name)?;
        // DPDK wants the private area in multiples of eight (RTE_MBUF_PRIV_ALIGN).
        let private_bytes = size_of::<Meta>().next_multiple_of(8) as u16;
        let data_room_bytes = data_bytes.saturating_add(HEADROOM);
        // SAFETY: `name` is NUL-terminated and copied by the call; -1 is SOCKET_ID_ANY.
        let raw = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(
                name.as_ptr(),
                buffers,
                THREAD_CACHE.min(buffers / 2),
                private_bytes,
                data_room_bytes,
                -1,
            )
        };
        let raw = NonNull::new(raw).ok_or_else(|| Error::last("rte_pktmbuf_pool_create"))?;
        // SAFETY: the pool was just made and no buffer is out; `write_default_meta` fits rte_mempool_obj_cb_t.
        unsafe {
            dpdk_sys::rte_mempool_obj_iter(raw.as_ptr(), Some(write_default_meta), std::ptr::null_mut());
        }
        Ok(Self { raw, data_room_bytes })
    }

    /// A new, empty buffer, or `None` when the pool is exhausted.
    #[must_use]
    pub fn allocate(&self) -> Option<Mbuf> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pool lives for ever and `raw` is room for one pointer.
        let code = unsafe { dpdk_sys::culvert_pktmbuf_alloc_bulk(self.raw.as_ptr(), &raw mut raw, 1) };
        if code != 0 {
            return None;
        }
        let raw = NonNull::new(raw)?;
        // SAFETY: the buffer was just allocated from a pool of ours and nothing else refers to it.
        let mut mbuf = unsafe { Mbuf::from_raw(raw) };
        mbuf.reset_meta();
        Some(mbuf)
    }

    /// Appends `count` empty buffers to the burst: all of them, or none when the pool is exhausted or the burst
    /// has no room. Tells whether it did.
    #[must_use]
    pub fn allocate_bulk<const N: usize>(&self, burst: &mut ArrayVec<Mbuf, N>, count: usize) -> bool {
        let room = spare(burst);
        if count > room.len() {
            return false;
        }
        // SAFETY: `room` has space for `count` pointers, checked above, and the pool lives for ever.
        let code = unsafe {
            dpdk_sys::culvert_pktmbuf_alloc_bulk(self.raw.as_ptr(), room.as_mut_ptr().cast(), count as u32)
        };
        if code != 0 {
            return false;
        }
        let start = burst.len();
        // SAFETY: the call has filled `count` further entries with buffers that nothing else refers to.
        unsafe { burst.set_len(start + count) };
        burst[start..].iter_mut().for_each(Mbuf::reset_meta);
        true
    }

    /// Buffers that are free now, counting those in the caches of threads.
    #[must_use]
    pub fn available(&self) -> u32 {
        // SAFETY: the pool lives for ever; the call only reads.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// Largest packet in bytes that one buffer holds after its headroom.
    #[must_use]
    pub fn data_bytes(&self) -> u16 {
        self.data_room_bytes - HEADROOM
    }

    pub(crate) fn as_ptr(&self) -> *mut dpdk_sys::rte_mempool {
        self.raw.as_ptr()
    }
}

/// Gives the private area of a buffer its first valid value.
unsafe extern "C" fn write_default_meta(
    _pool: *mut dpdk_sys::rte_mempool,
    _argument: *mut std::ffi::c_void,
    object: *mut std::ffi::c_void,
    _index: std::ffi::c_uint,
) {
    // SAFETY: each object of a packet pool is an rte_mbuf followed by a private area sized for Meta.
    unsafe { object.cast::<dpdk_sys::rte_mbuf>().add(1).cast::<Meta>().write(Meta::default()) };
}
