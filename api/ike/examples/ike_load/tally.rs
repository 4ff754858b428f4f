//! What becomes of the SAs of an end as they are rekeyed: how many, how late, and whether one ended without an heir.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ike::{Cause, ChildId, ConnectionId, Engine, Event, Output, SaOperation};

use crate::peers::Terms;

/// See the module's documentation.
pub(crate) struct Tally {
    terms: Terms,
    /// Installed pairs of each child, and since when.
    pairs: BTreeMap<ChildId, BTreeMap<u32, Instant>>,
    children: BTreeMap<u32, ChildId>,
    /// Children that had a pair and have none, and since when.
    bare: BTreeMap<ChildId, Instant>,
    /// Since when the IKE SA of each connection serves.
    ike_sas: BTreeMap<ConnectionId, Instant>,
    child_rekeys: u64,
    ike_rekeys: u64,
    expired: u64,
    lost: u64,
    gaps: u64,
    gap: Duration,
    oldest_child: Duration,
    oldest_ike: Duration,
}

impl Tally {
    pub(crate) fn new(terms: Terms) -> Self {
        Self {
            terms,
            pairs: BTreeMap::new(),
            children: BTreeMap::new(),
            bare: BTreeMap::new(),
            ike_sas: BTreeMap::new(),
            child_rekeys: 0,
            ike_rekeys: 0,
            expired: 0,
            lost: 0,
            gaps: 0,
            gap: Duration::ZERO,
            oldest_child: Duration::ZERO,
            oldest_ike: Duration::ZERO,
        }
    }

    /// Children that have a pair.
    pub(crate) fn up(&self) -> usize {
        self.pairs.len()
    }

    pub(crate) fn output(&mut self, now: Instant, output: &Output) {
        match output {
            Output::Sa(SaOperation::Install { pair, .. }) => self.installed(now, pair.child, pair.spi_in),
            Output::Sa(SaOperation::Remove { spi_in, .. }) => self.removed(now, *spi_in),
            Output::Event(Event::IkeUp { connection, .. }) => {
                self.ike_sas.insert(*connection, now);
            }
            Output::Event(Event::IkeRekeyed { connection, .. }) => {
                self.ike_rekeys += 1;
                if let Some(since) = self.ike_sas.insert(*connection, now) {
                    self.oldest_ike = self.oldest_ike.max(now - since);
                }
            }
            Output::Event(Event::ChildRekeyed { .. }) => self.child_rekeys += 1,
            Output::Event(Event::IkeDown { cause, .. } | Event::ChildDown { cause, .. }) => {
                if *cause == Cause::Expired {
                    self.expired += 1;
                } else {
                    self.lost += 1;
                }
            }
            _ => {}
        }
    }

    fn installed(&mut self, now: Instant, child: ChildId, spi_in: u32) {
        let pairs = self.pairs.entry(child).or_default();
        if let Some(since) = pairs.values().max() {
            // Of several, as when both ends rekey at once, the youngest is the one that must not grow old.
            self.oldest_child = self.oldest_child.max(now - *since);
        }
        pairs.insert(spi_in, now);
        self.children.insert(spi_in, child);
        if let Some(since) = self.bare.remove(&child) {
            self.gap += now - since;
        }
    }

    fn removed(&mut self, now: Instant, spi_in: u32) {
        let Some(child) = self.children.remove(&spi_in) else { return };
        let Some(pairs) = self.pairs.get_mut(&child) else { return };
        pairs.remove(&spi_in);
        if pairs.is_empty() {
            self.pairs.remove(&child);
            self.bare.insert(child, now);
            self.gaps += 1;
        }
    }

    /// All of it since the start, in one line of JSON.
    pub(crate) fn report(&self, now: Instant, engine: &Engine) -> String {
        let counter = |name: &str| engine.counters().get(name).copied().unwrap_or(0);
        let gap = self.bare.values().fold(self.gap, |sum, since| sum + (now - *since));
        let part = |age: Duration, of: Duration| age.as_secs_f64() / of.as_secs_f64();
        format!(
            "{{\"up\":{},\"ike_sas\":{},\"child_rekeys\":{},\"ike_rekeys\":{},\"expired\":{},\"lost\":{},\
             \"gaps\":{},\"gap_seconds\":{:.3},\"oldest_child\":{:.4},\"oldest_ike\":{:.4},\
             \"collisions\":{},\"ike_collisions\":{},\"retransmissions\":{},\"panics\":{},\
             \"messages_in\":{},\"cookies_demanded\":{},\"key_exchanges_answered\":{},\"unknown_peer\":{}}}",
            self.up(),
            engine.isakmp_sas(now).len(),
            self.child_rekeys,
            self.ike_rekeys,
            self.expired,
            self.lost,
            self.gaps,
            gap.as_secs_f64(),
            part(self.oldest_child, self.terms.child_soft()),
            part(self.oldest_ike, self.terms.ike),
            counter("rekey_collisions"),
            counter("ike_rekey_collisions"),
            counter("retransmissions"),
            counter("panics"),
            counter("messages_in"),
            counter("cookies_demanded"),
            counter("key_exchanges_answered"),
            counter("unknown_peer"),
        )
    }
}

/// Whether somebody asked for a report: by a line on standard input.
pub(crate) struct Asked(Arc<AtomicBool>);

impl Asked {
    pub(crate) fn listen() -> Self {
        let asked = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
                heard.store(true, Ordering::Release);
            }
        });
        Self(asked)
    }

    /// True once for each time.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}
