//! A program that is started again when it ends, as systemd does with `Restart=always`.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::process::{Process, signal_pid};

const POLL: Duration = Duration::from_millis(10);
/// `RestartSec=` of the units in `deploy/systemd`.
const RESTART_DELAY: Duration = Duration::from_millis(100);
/// How long a program may take to end when asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// The guard of a supervised program.
#[derive(Debug)]
pub struct Supervised {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    pid: AtomicU32,
    starts: AtomicU32,
    stop: AtomicBool,
}

impl Supervised {
    /// Starts a program; `make` is called again for each restart.
    pub fn start(name: &str, mut make: impl FnMut() -> Result<Process> + Send + 'static) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (state, keeper_name) = (Arc::clone(&shared), name.to_owned());
        let (tell, first) = mpsc::channel();
        // The thread that starts a program must live as long as the program does: see `process::tied`.
        let keeper = spawn(move || {
            let mut tell = Some(tell);
            while !state.stop.load(Ordering::Acquire) {
                let started = make();
                let outcome = match &started {
                    Ok(process) => {
                        state.pid.store(process.pid(), Ordering::Release);
                        state.starts.fetch_add(1, Ordering::AcqRel);
                        Ok(())
                    }
                    Err(error) => Err(format!("{error:#}")),
                };
                if let Some(tell) = tell.take() {
                    // Nobody listens if the guard is gone already.
                    let _nobody = tell.send(outcome);
                }
                let Ok(process) = started else { return };
                if keep(&keeper_name, process, &state.stop) {
                    return;
                }
                sleep(RESTART_DELAY);
            }
        });
        let supervised = Self { shared, keeper: Some(keeper) };
        let outcome = first.recv().context("the supervisor is gone")?;
        outcome.map_err(anyhow::Error::msg)?;
        Ok(supervised)
    }

    /// Process id of the present run.
    pub fn pid(&self) -> u32 {
        self.shared.pid.load(Ordering::Acquire)
    }

    /// How often the program was started.
    pub fn starts(&self) -> u32 {
        self.shared.starts.load(Ordering::Acquire)
    }

    /// `kill -9`: it gets no chance to tidy up, and is started again.
    pub fn kill(&self) -> Result<()> {
        signal_pid(self.pid(), Signal::KILL)
    }
}

/// Watches a run until it ends (false) or is ended because of `stop` (true).
fn keep(name: &str, mut process: Process, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Acquire) {
            if let Err(error) = process.stop(PATIENCE) {
                eprintln!("{name}: {error:#}");
            }
            return true;
        }
        match process.ended() {
            Ok(None) => sleep(POLL),
            Ok(Some(_)) | Err(_) => return false,
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(keeper) = self.keeper.take() {
            // The thread has no result; if it panicked, its guard has killed the program.
            let _ended = keeper.join();
        }
    }
}
