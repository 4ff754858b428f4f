//! The library's manager of jobs, in memory of our own.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};

use zeroize::Zeroize;

use super::super::EngineError;
use super::bindings::{self, IMB_JOB, IMB_MGR};

type JobCall = unsafe extern "C" fn(*mut IMB_MGR) -> *mut IMB_JOB;

/// What the library aligns its structures to.
const ALIGNMENT_BYTES: usize = 64;

/// A manager. It has lanes for each algorithm, in which jobs of several packets are computed at once, and is empty between
/// calls of [`Manager::run`].
#[derive(Debug)]
pub(super) struct Manager {
    memory: NonNull<IMB_MGR>,
    layout: Layout,
    next: JobCall,
    submit: JobCall,
    flush: JobCall,
}

// SAFETY: the manager has no ties to a thread; its pointers are into its own memory, or stale between runs.
unsafe impl Send for Manager {}

impl Manager {
    pub(super) fn new() -> Result<Self, EngineError> {
        // SAFETY: takes nothing and gives a size.
        let size = unsafe { bindings::imb_get_mb_mgr_size() };
        let layout = Layout::from_size_align(size, ALIGNMENT_BYTES).map_err(|_| EngineError::Library(0))?;
        if size < size_of::<IMB_MGR>() {
            return Err(EngineError::Library(0));
        }
        // SAFETY: the size is not zero (just compared).
        let Some(memory) = NonNull::new(unsafe { alloc_zeroed(layout) }.cast::<IMB_MGR>()) else {
            handle_alloc_error(layout);
        };
        // Owned by what wipes and frees it, whichever way this function is left.
        let mut manager = Self { memory, layout, next: no_job, submit: no_job, flush: no_job };
        // SAFETY: the memory has the size and alignment that the library asks for, and is ours.
        let set = unsafe { bindings::imb_set_pointers_mb_mgr(memory.as_ptr().cast(), 0, 1) };
        if set.is_null() {
            return Err(EngineError::Library(0));
        }
        // SAFETY: a manager whose pointers are set; the second argument may be null.
        unsafe { bindings::init_mb_mgr_auto(memory.as_ptr(), ptr::null_mut()) };
        // SAFETY: a valid manager.
        let error = unsafe { bindings::imb_get_errno(memory.as_ptr()) };
        if error != 0 {
            return Err(EngineError::Library(error));
        }
        let library = manager.library();
        let calls = library.get_next_job.zip(library.submit_job_nocheck).zip(library.flush_job);
        let Some(((next, submit), flush)) = calls else { return Err(EngineError::Library(0)) };
        (manager.next, manager.submit, manager.flush) = (next, submit, flush);
        Ok(manager)
    }

    /// The library's part, which names its functions.
    pub(super) fn library(&self) -> &IMB_MGR {
        // SAFETY: zeroed and then initialised by the library; written by it in `run` only, which borrows `self` alone.
        unsafe { self.memory.as_ref() }
    }

    /// Does jobs to the end, those of one kind side by side. `fill` writes the job of each item; bit `user_data` of the
    /// result is set for each that was done.
    ///
    /// # Safety
    /// What `fill` makes is a valid job: the library checks nothing. Its pointers are to memory of the lengths given,
    /// aligned as the library's header says, that nothing else uses meanwhile. `fill` doesn't panic.
    #[inline]
    pub(super) unsafe fn run<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        fill: impl Fn(&mut IMB_JOB, T),
    ) -> u64 {
        let manager = self.memory.as_ptr();
        let mut done = 0;
        for item in items {
            // SAFETY: a valid manager; it always has a next job, for its ring holds four batches.
            let job = unsafe { &mut *(self.next)(manager) };
            fill(job, item);
            // SAFETY: the caller answers for the job, which is the next one.
            done |= finished(unsafe { (self.submit)(manager).as_ref() });
        }
        loop {
            // SAFETY: a valid manager, and jobs that the caller answers for.
            let Some(job) = (unsafe { (self.flush)(manager).as_ref() }) else { return done };
            done |= finished(Some(job));
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let memory = self.memory.as_ptr().cast::<u8>();
        // SAFETY: allocated and zeroed with this layout, so that all of it is initialised; used by nothing any more.
        unsafe {
            std::slice::from_raw_parts_mut(memory, self.layout.size()).zeroize();
            dealloc(memory, self.layout);
        }
    }
}

/// The bit of a job that came out of the ring, if it was done.
#[inline]
fn finished(job: Option<&IMB_JOB>) -> u64 {
    match job {
        Some(job) if job.status == bindings::IMB_STATUS_IMB_STATUS_COMPLETED => {
            1 << (job.user_data.addr() & 63)
        }
        _ => 0,
    }
}

/// Stands in for the calls of a library that did not start.
unsafe extern "C" fn no_job(_manager: *mut IMB_MGR) -> *mut IMB_JOB {
    ptr::null_mut()
}
