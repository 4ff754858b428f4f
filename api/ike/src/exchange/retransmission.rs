//! A request that is sent again, the same datagrams each time, until it is answered (RFC 7296 section 2.1).

use std::time::{Duration, Instant};

use super::after;
use crate::Limits;
use crate::crypto::{Datagrams, Random};

/// Growth of the wait between tries.
const FACTOR: f64 = 1.8;
/// Jitter, so that many peers do not ask in step.
const JITTER_PERCENT: u32 = 10;

pub(crate) struct Retransmission {
    datagrams: Datagrams,
    /// Messages sent so far.
    sent: u32,
    wait: Duration,
    next_at: Instant,
}

/// What is due.
pub(crate) enum Due<'a> {
    Nothing,
    Send(&'a Datagrams),
    GiveUp { sent: u32 },
}

impl Retransmission {
    /// A request that is being sent at `now` for the first time.
    pub(crate) fn new(datagrams: Datagrams, now: Instant, limits: &Limits, random: &mut Random) -> Self {
        let wait = random.shortened(limits.retransmit_base, JITTER_PERCENT);
        Self { datagrams, sent: 1, wait, next_at: after(now, wait) }
    }

    pub(crate) fn datagrams(&self) -> &Datagrams {
        &self.datagrams
    }

    pub(crate) fn sent(&self) -> u32 {
        self.sent
    }

    pub(crate) fn next_at(&self) -> Instant {
        self.next_at
    }

    /// The peer is elsewhere: it is asked there at once, and for as long as it would have been here.
    pub(crate) fn begin_anew(&mut self, now: Instant, limits: &Limits) {
        (self.sent, self.wait, self.next_at) = (0, limits.retransmit_base, now);
    }

    /// What to send again if it is time, or the end of patience after `tries` retransmissions.
    pub(crate) fn poll(&mut self, now: Instant, tries: u32) -> Due<'_> {
        if now < self.next_at {
            return Due::Nothing;
        }
        if self.sent > tries {
            return Due::GiveUp { sent: self.sent };
        }
        self.sent = self.sent.saturating_add(1);
        self.wait = self.wait.mul_f64(FACTOR);
        self.next_at = after(now, self.wait);
        Due::Send(&self.datagrams)
    }
}
