//! A dataplane that only keeps SAs.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::{ChildId, ChildPair, SaOperation};

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
                if send {
                    self.sending.insert(pair.child, pair.spi_in);
                }
                self.pairs.insert(pair.spi_in, InstalledPair { pair: *pair, received: 0 });
            }
            SaOperation::SwitchOutbound { child, spi_in } => {
                if self.pairs.contains_key(&spi_in) {
                    self.sending.insert(child, spi_in);
                } else {
                    self.strays += 1;
                }
            }
            SaOperation::Move { spi_in, path } => match self.pairs.get_mut(&spi_in) {
                Some(installed) => installed.pair.path = path,
                None => self.strays += 1,
            },
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
