//! IKE SAs that outlive their engine: what one keeps, and how the next one goes on.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::Engine;
use crate::kept::Kept;
use crate::v2::core::Followup;
use crate::v2::sa::IkeSa;
use crate::{Connection, Keeping, Output, Resumable};

impl Engine {
    /// Adds a connection that an engine before this one had, and goes on with IKE SAs of it. The pairs of each are in the
    /// dataplane, and [`Resumable::fits`] was asked; what that engine kept is never used again. Those that the peer does
    /// not confirm end soon, with [`crate::SaOperation::Release`] for their pairs, and are negotiated anew.
    ///
    /// The time of day must have been told. A connection that is there already is only replaced.
    pub fn resume(&mut self, now: Instant, connection: Connection, mut resumables: Vec<Resumable>) {
        let id = connection.id;
        if self.core.connections.get(id).is_some() || resumables.is_empty() {
            self.set_connection(now, connection);
            return;
        }
        let config = Arc::new(connection);
        self.core.connections.set(&config);
        // The oldest first: ids grow with age everywhere else.
        resumables.sort_by_key(|resumable| std::cmp::Reverse(resumable.age()));
        self.configure_v1(now, None, &config);
        for Resumable(kept) in resumables {
            match kept {
                Kept::PhaseOne(kept) => self.resume_phase_one(now, *kept),
                Kept::IkeSa(kept) => {
                    let sa = kept.revive(&mut self.core, now, &config);
                    self.store(now, sa);
                }
            }
        }
        self.core.followups.push_back(Followup::Ensure(id));
        self.settle(now);
    }

    /// Notes what is to be kept of an SA after a step of it.
    pub(crate) fn keep(&mut self, now: Instant, sa: &IkeSa) {
        let id = sa.ends.id;
        let name = sa.ends.our_spi();
        let established = sa.established();
        let marked = established.and_then(|found| Some((found, found.mark(&sa.ends)?)));
        // Without a clock nobody could tell later how much of its lifetime is left.
        let marked = marked.zip(self.core.unix_secs(now));
        let Some(((found, mark), unix_secs)) = marked else {
            if self.kept.remove(&id).is_some() {
                self.core.keepings.insert(name, None);
            }
            return;
        };
        if self.kept.get(&id) != Some(&mark) {
            self.kept.insert(id, mark);
            self.core.keepings.insert(name, Some(found.keep(&sa.ends, now, unix_secs)));
        }
    }

    /// What is to be kept goes before everything that rests on it.
    pub(crate) fn next_keepings(&mut self) -> Option<Output> {
        let keepings = std::mem::take(&mut self.core.keepings);
        let keepings: Vec<_> = keepings.into_iter().map(|(name, state)| Keeping { name, state }).collect();
        (!keepings.is_empty()).then_some(Output::Keep(keepings))
    }
}
