//! A worker on its thread: polls until told to stop, and rests when there is nothing to do.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dpdk::ThreadRegistrar;
use rustix::thread::CpuSet;

use crate::options::PollMode;
use crate::worker::Worker;

/// Turns without a packet before the first sleep: some ten microseconds, more than the gap of any busy link.
const SPINS: u32 = 512;

/// Longest sleep: an idle port's first packet waits at most this long.
const SLEEP_MOST: Duration = Duration::from_micros(50);

/// First sleep; they double.
const SLEEP_FIRST: Duration = Duration::from_micros(5);

/// A running worker.
#[derive(Debug)]
pub struct WorkerThread {
    thread: JoinHandle<Worker>,
    stop: Arc<AtomicBool>,
}

/// How a worker's thread behaves.
#[derive(Debug, Clone, Copy)]
pub struct ThreadOptions {
    /// What to do when idle.
    pub poll: PollMode,
    /// CPU to stay on.
    pub cpu: Option<usize>,
}

impl WorkerThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        worker: Worker,
        registrar: ThreadRegistrar,
        options: ThreadOptions,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || run(worker, registrar, options, &stopped))?;
        Ok(Self { thread, stop })
    }

    /// Whether the thread ended by itself, which it should not.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops the thread and gives the worker back; `None` when it had panicked.
    #[must_use]
    pub fn stop(self) -> Option<Worker> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok()
    }
}

fn run(mut worker: Worker, registrar: ThreadRegistrar, options: ThreadOptions, stop: &AtomicBool) -> Worker {
    // Without it the thread has no cache of buffers and every burst takes the pool's lock-free ring instead.
    let _registered = registrar
        .register()
        .inspect_err(|error| tracing::warn!(%error, "the worker goes without a buffer cache"))
        .ok();
    if let Some(cpu) = options.cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            tracing::warn!(cpu, %error, "the worker could not be pinned");
        }
    }
    // The default slack of 50 us would double the longest sleep.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut idle_turns = 0u32;
    let mut sleep = SLEEP_FIRST;
    // The flag is looked at once a turn: a turn is microseconds.
    while !stop.load(Ordering::Relaxed) {
        if worker.poll() > 0 {
            idle_turns = 0;
            sleep = SLEEP_FIRST;
        } else if options.poll == PollMode::Busy || idle_turns < SPINS {
            idle_turns = idle_turns.saturating_add(1);
            std::hint::spin_loop();
        } else {
            worker.count_sleep();
            std::thread::sleep(sleep);
            sleep = (sleep * 2).min(SLEEP_MOST);
        }
    }
    worker
}
