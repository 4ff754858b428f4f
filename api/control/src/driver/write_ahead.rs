//! What is kept of IKE SAs is stored before the datagrams that rest on it leave.
//!
//! ```text
//!   Keep ──► waiting ──► under way ──► stored
//!   datagram ─► behind_waiting ─► behind_batch ─► sent
//! ```
//! One batch is under way at a time, and what is waiting becomes the next: many changes cost one write. While nothing can
//! be stored, datagrams leave all the same. A restart may then find a state that is behind: the peer does not confirm it,
//! and no nonce is used twice, for each engine has IVs of its own.

use std::collections::{BTreeMap, BTreeSet};

use ike::{Keeping, Path};
use tokio::sync::mpsc;

use crate::keeper::{KeptChanges, KeptState, Stored};

/// A datagram that is to leave.
pub(super) type Outgoing = (Path, Vec<u8>);

/// See the module's documentation.
pub(super) struct WriteAhead {
    batches: mpsc::UnboundedSender<KeptChanges>,
    waiting: BTreeMap<u64, Option<KeptState>>,
    under_way: bool,
    behind_batch: Vec<Outgoing>,
    behind_waiting: Vec<Outgoing>,
    /// Names of which a state is kept.
    kept: BTreeSet<u64>,
    /// Why the last batch was not stored.
    failure: Option<String>,
}

impl WriteAhead {
    pub(super) fn new(batches: mpsc::UnboundedSender<KeptChanges>) -> Self {
        Self {
            batches,
            waiting: BTreeMap::new(),
            under_way: false,
            behind_batch: Vec::new(),
            behind_waiting: Vec::new(),
            kept: BTreeSet::new(),
            failure: None,
        }
    }

    /// Takes in what the engine wants to be kept; [`WriteAhead::begin`] stores it.
    pub(super) fn keep(&mut self, keepings: Vec<Keeping>) {
        for Keeping { name, state } in keepings {
            match &state {
                Some(_) => self.kept.insert(name),
                None => self.kept.remove(&name),
            };
            self.waiting.insert(name, state);
        }
    }

    /// Nobody has the SAs any more.
    pub(super) fn forget_all(&mut self) {
        for name in std::mem::take(&mut self.kept) {
            self.waiting.insert(name, None);
        }
    }

    /// The datagram, if nothing stands before it.
    pub(super) fn pass(&mut self, datagram: Outgoing) -> Option<Outgoing> {
        if self.failure.is_some() || (self.waiting.is_empty() && !self.under_way) {
            return Some(datagram);
        }
        if self.waiting.is_empty() {
            self.behind_batch.push(datagram);
        } else {
            self.behind_waiting.push(datagram);
        }
        None
    }

    /// Has what is waiting stored, unless a batch is under way.
    pub(super) fn begin(&mut self) {
        if self.under_way || self.waiting.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.waiting).into_iter().collect();
        self.behind_batch.append(&mut self.behind_waiting);
        // Without a receiver this process is ending: what was not stored is not sent either.
        self.under_way = self.batches.send(batch).is_ok();
    }

    /// Takes in what became of the batch; gives what may leave now.
    pub(super) fn stored(&mut self, stored: Stored) -> Vec<Outgoing> {
        self.under_way = false;
        let mut leaving = std::mem::take(&mut self.behind_batch);
        match stored {
            Stored::Done => self.failure = None,
            Stored::Failed(changes, why) => {
                if self.failure.is_none() {
                    tracing::error!(why, "the state of IKE SAs cannot be stored");
                }
                self.failure = Some(format!(
                    "the state of IKE SAs cannot be stored, so that a restart negotiates them anew: {why}"
                ));
                for (name, state) in changes {
                    self.waiting.entry(name).or_insert(state);
                }
                leaving.append(&mut self.behind_waiting);
            }
        }
        self.begin();
        leaving
    }

    /// Why nothing can be stored, as a sentence.
    pub(super) fn complaint(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(number: u8) -> Outgoing {
        let address = std::net::SocketAddr::from(([192, 0, 2, number], 500));
        (Path { local: address, remote: address }, vec![number])
    }

    fn state(name: u64, text: &str) -> Keeping {
        Keeping { name, state: Some(text.as_bytes().to_vec().into()) }
    }

    fn numbers(datagrams: &[Outgoing]) -> Vec<u8> {
        datagrams.iter().map(|(_, bytes)| bytes[0]).collect()
    }

    #[test]
    fn a_datagram_leaves_after_what_it_rests_on_is_stored() {
        let (sender, mut batches) = mpsc::unbounded_channel();
        let mut ahead = WriteAhead::new(sender);
        assert!(ahead.pass(datagram(1)).is_some(), "nothing stands before it");
        ahead.keep(vec![state(7, "first")]);
        assert!(ahead.pass(datagram(2)).is_none());
        ahead.begin();
        assert_eq!(batches.try_recv().map(|batch| batch.len()).ok(), Some(1));
        assert!(ahead.pass(datagram(3)).is_none());
        ahead.keep(vec![state(7, "second"), state(8, "other")]);
        assert!(ahead.pass(datagram(4)).is_none());
        ahead.begin();
        assert!(batches.try_recv().is_err(), "one batch at a time");
        assert_eq!(numbers(&ahead.stored(Stored::Done)), [2, 3]);
        assert_eq!(batches.try_recv().map(|batch| batch.len()).ok(), Some(2));
        assert_eq!(numbers(&ahead.stored(Stored::Done)), [4]);
        assert!(ahead.pass(datagram(5)).is_some());
    }

    #[test]
    fn what_cannot_be_stored_holds_nothing_up_and_is_tried_again() {
        let (sender, mut batches) = mpsc::unbounded_channel();
        let mut ahead = WriteAhead::new(sender);
        ahead.keep(vec![state(7, "first"), state(8, "other")]);
        assert!(ahead.pass(datagram(1)).is_none());
        ahead.begin();
        let batch = batches.try_recv().expect("a batch");
        ahead.keep(vec![state(7, "second")]);
        assert!(ahead.pass(datagram(2)).is_none());
        assert_eq!(numbers(&ahead.stored(Stored::Failed(batch, "full".to_owned()))), [1, 2]);
        assert!(ahead.complaint().is_some_and(|complaint| complaint.contains("full")));
        assert!(ahead.pass(datagram(3)).is_some());
        let again = batches.try_recv().expect("it is tried again");
        let texts: Vec<_> =
            again.iter().map(|(_, state)| state.as_ref().map(|state| state.to_vec())).collect();
        assert_eq!(texts, [Some(b"second".to_vec()), Some(b"other".to_vec())], "the newer state is");
        ahead.stored(Stored::Done);
        assert_eq!(ahead.complaint(), None);
        ahead.forget_all();
        ahead.begin();
        assert!(batches.try_recv().expect("a batch").iter().all(|(_, state)| state.is_none()));
    }
}
