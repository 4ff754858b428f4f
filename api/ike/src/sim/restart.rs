//! An engine that dies at any moment, and the one that follows it.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::Simulation;
use crate::{Connection, Engine, Keeping, Limits, Resumable};

/// Seconds since 1970 when a simulation begins.
const BEGIN_UNIX_SECS: u64 = 1_800_000_000;

/// What outlives an engine, beside the dataplane.
#[derive(Default)]
pub struct Vault {
    states: BTreeMap<u64, Zeroizing<Vec<u8>>>,
    /// Changes ever made.
    pub changes: usize,
}

impl Vault {
    pub(super) fn change(&mut self, keepings: Vec<Keeping>) {
        self.changes += 1;
        for Keeping { name, state } in keepings {
            match state {
                Some(state) => self.states.insert(name, state),
                None => self.states.remove(&name),
            };
        }
    }

    /// Number of IKE SAs of which something is kept.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// What is kept of one of them.
    pub fn any(&self) -> Option<&[u8]> {
        self.states.values().next().map(|state| state.as_slice())
    }

    /// Loses everything.
    pub fn clear(&mut self) {
        self.states.clear();
    }
}

impl Simulation {
    /// Tells both ends the time of day, without which nothing is kept.
    pub fn tell_time(&mut self) {
        for side in 0..2 {
            self.tell_time_to(side);
            self.drain(side);
        }
    }

    fn tell_time_to(&mut self, side: usize) {
        let (now, unix_secs) = (self.now, self.unix_secs());
        self.hosts[side].engine.set_wall_clock(now, unix_secs);
    }

    fn unix_secs(&self) -> u64 {
        BEGIN_UNIX_SECS + self.now.duration_since(self.begin).as_secs()
    }

    /// One end's engine dies once this many outputs more were taken; its dataplane goes on.
    pub fn die_after(&mut self, side: usize, outputs: usize) {
        self.hosts[side].dies_after = Some(outputs);
    }

    /// Another engine takes the place of one end's, whether that has died or dies now, as a host starts it: it adopts the
    /// pairs of the dataplane and resumes the IKE SAs of which something was kept and which the pairs are of. Gives their
    /// number.
    pub fn restart(&mut self, side: usize, connection: Connection, limits: Limits, seed: [u8; 32]) -> usize {
        let (now, unix_secs) = (self.now, self.unix_secs());
        let host = &mut self.hosts[side];
        host.dies_after = None;
        let follows = !host.dataplane.is_empty();
        host.engine = Engine::new(Limits { initial_contact: !follows, ..limits }, seed);
        host.dataplane.adopt_all();
        // Taken, not read: whatever happens, no state serves twice.
        let states = std::mem::take(&mut host.vault.states);
        let mut resumables: Vec<Resumable> =
            states.values().filter_map(|state| Resumable::read(state).ok()).collect();
        resumables.retain(|resumable| resumable.fits(&connection, unix_secs).is_ok());
        host.dataplane.give_back(&mut resumables);
        let resumed = resumables.len();
        self.tell_time_to(side);
        self.hosts[side].engine.resume(now, connection, resumables);
        self.drain(side);
        resumed
    }
}
