//! How a worker wakes the host thread without a system call per packet.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

/// Shared by the host thread, which sleeps, and the workers, which wake it.
#[derive(Debug, Clone)]
pub struct Wake {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    event: OwnedFd,
    sleeping: AtomicBool,
}

impl Wake {
    /// A new one, awake.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { inner: Arc::new(Inner { event, sleeping: AtomicBool::new(false) }) })
    }

    /// Worker: call after putting something into a ring. Costs a load unless the host thread sleeps.
    pub fn wake(&self) {
        // Pairs with the fence in `going_to_sleep`: either the host thread sees what was put into the ring, or
        // this sees that it sleeps.
        fence(Ordering::SeqCst);
        if self.inner.sleeping.load(Ordering::Relaxed) && self.inner.sleeping.swap(false, Ordering::AcqRel) {
            // It can only fail when the counter is about to overflow, and then the host thread wakes anyway.
            let _ = rustix::io::write(&self.inner.event, &1u64.to_ne_bytes());
        }
    }

    /// Host thread: from here on a worker wakes it. Look into the rings once more before sleeping.
    pub fn going_to_sleep(&self) {
        self.inner.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Host thread: awake again.
    pub fn awake(&self) {
        self.inner.sleeping.store(false, Ordering::Relaxed);
        let mut count = [0; 8];
        // Empty when something else woke it.
        let _ = rustix::io::read(&self.inner.event, &mut count);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn is_ready(wake: &Wake) -> bool {
        poll(&mut [PollFd::new(wake, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let wake = Wake::new().unwrap();
        wake.wake();
        assert!(!is_ready(&wake), "awake");
        wake.going_to_sleep();
        wake.wake();
        assert!(is_ready(&wake));
        wake.awake();
        assert!(!is_ready(&wake));
        wake.wake();
        assert!(!is_ready(&wake), "awake again");
    }
}
