//! The pipeline of a worker.

use std::marker::PhantomData;

use esp::Engine;
use packet::{Classifier, Frame, RouteLookup};

use crate::outcome::Outcome;
use crate::shared::Shared;
use crate::tables::Tables;
use crate::update::{Refused, Retired, Update};

/// Everything that a worker does to packets.
pub struct Pipeline<F, R, C> {
    tables: Tables<R, C>,
    engine: Engine,
    shared: Shared,
    now_unix_ms: u64,
    frames: PhantomData<F>,
}

impl<F: Frame, R: RouteLookup, C: Classifier> Pipeline<F, R, C> {
    /// A pipeline with empty tables. `routes` is an empty route table.
    pub fn new(engine: Engine, shared: Shared, routes: R) -> Self {
        let tables = Tables::new(shared.capacities(), routes);
        Self { tables, engine, shared, now_unix_ms: 0, frames: PhantomData }
    }

    /// Applies one update, between bursts.
    ///
    /// # Errors
    /// The update and the reason, when it can't be: the tables are as before.
    pub fn apply(&mut self, update: Update<C>) -> Result<Retired<C>, Refused<C>> {
        self.tables.apply(update)
    }

    /// Tells the time, in milliseconds since the Unix epoch: about once a millisecond is enough. It dates the last
    /// packet of each SA and refills the budget of ICMP errors.
    pub fn tick(&mut self, now_unix_ms: u64) {
        self.now_unix_ms = now_unix_ms;
    }

    /// Takes the frames that one call to a port's receive queue gave (at most 32). It counts them as received by the
    /// port; what is sent is counted by who sends it.
    pub fn process_wire(&mut self, port: u32, frames: impl IntoIterator<Item = F>, outcome: &mut Outcome<F>) {
        let _ = (port, frames.into_iter().count(), outcome, &self.engine, &self.shared);
    }

    /// Takes frames that the host sent by twins (at most 32), each marked with its twin in its meta.
    pub fn process_from_twin(&mut self, frames: impl IntoIterator<Item = F>, outcome: &mut Outcome<F>) {
        let _ = (frames.into_iter().count(), outcome);
    }
}
