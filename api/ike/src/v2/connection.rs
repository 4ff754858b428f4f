//! What the host wants of a connection, and how often that failed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crypto::Random;
use crate::exchange::after;
use crate::{ChildConfig, ChildId, Connection, IkeSaId, Limits};

/// Attempts that failed in a row, and when the next may begin.
#[derive(Default)]
pub(crate) struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|not_before| now >= not_before)
    }

    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Another failure: gives the wait, which doubles each time.
    pub(crate) fn failed(&mut self, now: Instant, limits: &Limits, random: &mut Random) -> Duration {
        let factor = 1u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX);
        let wait = limits.retry_base.saturating_mul(factor).min(limits.retry_max);
        let wait = random.shortened(wait, 20);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(after(now, wait));
        wait
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// One child's want.
#[derive(Default)]
pub(crate) struct ChildWant {
    pub(crate) backoff: Backoff,
    /// Asked for by a command, whatever its configuration says.
    pub(crate) asked: bool,
}

/// A connection.
pub(crate) struct ConnectionState {
    config: Arc<Connection>,
    pub(crate) backoff: Backoff,
    pub(crate) children: BTreeMap<ChildId, ChildWant>,
    /// Those of its IKE SAs that are authenticated and not about to end.
    pub(crate) established: BTreeSet<IkeSaId>,
    /// Those that are authenticated and about to end: replaced, or being deleted.
    pub(crate) outgoing: BTreeSet<IkeSaId>,
    /// Its IKE SAs, whatever their stage.
    pub(crate) ike_sas: BTreeSet<IkeSaId>,
    /// Where the peer was followed to last: from there it may begin anew.
    seen_at: Option<IpAddr>,
    /// Terminated by command: quiet until asked again.
    pub(crate) halted: bool,
}

impl ConnectionState {
    pub(crate) fn new(config: Arc<Connection>) -> Self {
        Self {
            config,
            backoff: Backoff::default(),
            children: BTreeMap::new(),
            established: BTreeSet::new(),
            outgoing: BTreeSet::new(),
            ike_sas: BTreeSet::new(),
            seen_at: None,
            halted: false,
        }
    }

    pub(crate) fn config(&self) -> &Arc<Connection> {
        &self.config
    }

    /// Gives it another configuration and answers the one that it had. Its addresses may change by that: only
    /// [`super::connections::Connections`] does it.
    pub(super) fn replace_config(&mut self, config: Arc<Connection>) -> Arc<Connection> {
        std::mem::replace(&mut self.config, config)
    }

    /// The peer was followed to this address; only [`super::connections::Connections`] says so.
    pub(super) fn follow_to(&mut self, remote: IpAddr) {
        self.seen_at = Some(remote);
    }

    /// Whence the peer may begin: its own address, and where it was followed to.
    pub(crate) fn begins_from(&self) -> impl Iterator<Item = IpAddr> + use<> {
        std::iter::once(self.config.remote).chain(self.seen_at)
    }

    /// The children that should be up, in the order of configuration.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &ChildConfig> {
        self.config.children.iter().filter(|child| {
            !self.halted && (child.start || self.children.get(&child.id).is_some_and(|want| want.asked))
        })
    }

    pub(crate) fn want(&mut self, child: ChildId) -> &mut ChildWant {
        self.children.entry(child).or_default()
    }
}
