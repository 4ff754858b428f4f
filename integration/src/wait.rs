//! Waiting for something to become true, with a limit and a reason.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Set by a program that was asked to end: every wait then ends with an error.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

const STEP: Duration = Duration::from_millis(50);

/// Asks again and again until `probe` gives a value; an error naming `what`, and what was seen last, after `limit`.
pub fn until<T, E: Display>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T, E>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(_) if INTERRUPTED.load(Ordering::Acquire) => bail!("interrupted"),
            Err(seen) if Instant::now() >= deadline => {
                bail!("{what}: not within {} s; last seen: {seen:#}", limit.as_secs())
            }
            Err(_) => sleep(STEP),
        }
    }
}
