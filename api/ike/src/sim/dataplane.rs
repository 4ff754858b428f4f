//! A dataplane that only keeps SAs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::{ChildId, ChildPair, Resumable, ResumablePair, SaOperation};

/// A pair as installed.
pub struct InstalledPair {
    /// The pair.
    pub pair: ChildPair,
    /// Packets received on it.
    pub received: u64,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The sender has no SA to send on: dropped, as it must be.
    NoSa,
    /// The receiver has no SA with this SPI.
    UnknownSpi,
    /// Received, the first on its SA.
    First {
        /// The receiver's inbound SPI.
        spi_in: u32,
    },
    /// Received.
    Delivered {
        /// The receiver's inbound SPI.
        spi_in: u32,
    },
}

/// SAs by their inbound SPI.
#[derive(Default)]
pub struct Dataplane {
    pairs: BTreeMap<u32, InstalledPair>,
    sending: BTreeMap<ChildId, u32>,
    lingering: BTreeMap<u32, Instant>,
    /// Pairs that no engine holds: the next one that their child sends on takes their place.
    adopted: BTreeSet<u32>,
    /// Operations that named a pair which is not there.
    pub strays: usize,
    /// Pairs ever installed.
    pub installs: usize,
}

impl Dataplane {
    pub(super) fn apply(&mut self, now: Instant, operation: SaOperation) {
        match operation {
            SaOperation::Install { send, pair, .. } => {
                self.installs += 1;
                let (child, spi_in) = (pair.child, pair.spi_in);
                self.pairs.insert(spi_in, InstalledPair { pair: *pair, received: 0 });
                if send {
                    self.send_on(now, child, spi_in);
                }
            }
            SaOperation::SwitchOutbound { child, spi_in } => {
                if self.pairs.contains_key(&spi_in) {
                    self.send_on(now, child, spi_in);
                } else {
                    self.strays += 1;
                }
            }
            SaOperation::Move { spi_in, path, udp_encapsulation } => match self.pairs.get_mut(&spi_in) {
                Some(installed) => {
                    installed.pair.path = path;
                    installed.pair.udp_encapsulation = udp_encapsulation;
                }
                None => self.strays += 1,
            },
            SaOperation::Release { spi_in } => self.release(now, spi_in),
            SaOperation::Remove { spi_in, linger } => match self.pairs.remove(&spi_in) {
                Some(removed) => {
                    self.lingering.insert(spi_in, now + linger);
                    if self.sending.get(&removed.pair.child) == Some(&spi_in) {
                        self.sending.remove(&removed.pair.child);
                    }
                }
                None => self.strays += 1,
            },
        }
    }

    /// The child sends on this pair; those that no engine holds go, and linger.
    fn send_on(&mut self, now: Instant, child: ChildId, spi_in: u32) {
        const LINGER: Duration = Duration::from_secs(10);
        self.sending.insert(child, spi_in);
        let serves = |pairs: &BTreeMap<u32, InstalledPair>, spi: u32| {
            pairs.get(&spi).is_some_and(|installed| installed.pair.child == child)
        };
        let old: Vec<u32> = self.adopted.iter().copied().filter(|spi| serves(&self.pairs, *spi)).collect();
        for spi in old.into_iter().filter(|spi| *spi != spi_in) {
            self.adopted.remove(&spi);
            self.pairs.remove(&spi);
            self.lingering.insert(spi, now + LINGER);
        }
    }

    fn release(&mut self, now: Instant, spi_in: u32) {
        let Some(child) = self.pairs.get(&spi_in).map(|installed| installed.pair.child) else {
            self.strays += 1;
            return;
        };
        self.adopted.insert(spi_in);
        if let Some(other) = self.sending_on(child).filter(|other| !self.adopted.contains(other)) {
            self.send_on(now, child, other);
        }
    }

    /// A pair that could not be installed.
    pub(super) fn forget(&mut self, spi_in: u32) {
        self.pairs.remove(&spi_in);
        self.sending.retain(|_, sending| *sending != spi_in);
    }

    /// The engine is gone.
    pub(super) fn adopt_all(&mut self) {
        self.adopted = self.pairs.keys().copied().collect();
    }

    /// Gives the pairs of IKE SAs to the engine that is to resume them. Those of which a pair is missing go, and those with
    /// a child that has a pair beside theirs: the peer may send on it.
    pub(super) fn give_back(&mut self, resumables: &mut Vec<Resumable>) {
        loop {
            let claimed: BTreeSet<u32> =
                resumables.iter().flat_map(|each| each.pairs().map(|pair| pair.spi_in)).collect();
            let fits = |pair: &ResumablePair| {
                let found = self.pairs.get(&pair.spi_in).map(|installed| &installed.pair);
                found.is_some_and(|found| (found.child, found.spi_out) == (pair.child, pair.spi_out))
                    && self.sending_on(pair.child).is_some()
                    && self.pairs_of(pair.child).iter().all(|other| claimed.contains(&other.pair.spi_in))
            };
            let before = resumables.len();
            resumables.retain(|resumable| resumable.pairs().all(fits));
            if resumables.len() == before {
                break;
            }
        }
        for resumable in resumables {
            let pairs: Vec<ResumablePair> = resumable.pairs().copied().collect();
            for pair in pairs {
                self.adopted.remove(&pair.spi_in);
                if self.sending_on(pair.child) == Some(pair.spi_in) {
                    resumable.sends_on(pair.spi_in);
                }
            }
        }
    }

    /// The pairs of a child.
    pub fn pairs_of(&self, child: ChildId) -> Vec<&InstalledPair> {
        self.pairs.values().filter(|installed| installed.pair.child == child).collect()
    }

    /// Inbound SPI of the pair on which a child sends.
    pub fn sending_on(&self, child: ChildId) -> Option<u32> {
        self.sending.get(&child).copied()
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// No pair is installed.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(super) fn deliver(&mut self, now: Instant, child: ChildId, receiver: &mut Self) -> Delivery {
        let Some(sender) = self.sending.get(&child).and_then(|spi_in| self.pairs.get(spi_in)) else {
            return Delivery::NoSa;
        };
        let spi_in = sender.pair.spi_out;
        if let Some(found) = receiver.pairs.get_mut(&spi_in) {
            found.received += 1;
            let first = found.received == 1;
            return if first { Delivery::First { spi_in } } else { Delivery::Delivered { spi_in } };
        }
        match receiver.lingering.get(&spi_in) {
            Some(until) if now <= *until => Delivery::Delivered { spi_in },
            _ => Delivery::UnknownSpi,
        }
    }
}
