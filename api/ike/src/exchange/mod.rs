//! Message ids, windows and retransmission (RFC 7296 sections 2.1 to 2.3), whatever the exchange is about.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod retransmission;
mod window;

use std::time::{Duration, Instant};

pub(crate) use retransmission::{Due, Retransmission};
pub(crate) use window::{Receive, ReceiveWindow, SendWindow};

/// `now + wait`; a wait beyond the clock's range is a wait for ever in all but name, so it stops at a year.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    now.checked_add(wait.min(YEAR)).unwrap_or(now)
}

/// The earlier of two optional instants.
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
