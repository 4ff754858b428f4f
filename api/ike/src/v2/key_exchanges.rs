//! The key exchanges of one CREATE_CHILD_SA: its own, and those that follow it (RFC 9370 section 2.2.4).

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::collision::lowest;
use crate::KeyEncapsulation;
use crate::crypto::{AdditionalKeyExchanges, Secret};

/// What goes into keys: the nonces and all secrets as far as they are there.
pub(crate) struct KeyExchanges {
    /// The initiator's and the responder's.
    nonces: (Vec<u8>, Vec<u8>),
    /// Of the Diffie-Hellman exchange; empty without one.
    shared: Secret,
    /// Of the additional ones, one behind the other.
    added: Secret,
    rest: VecDeque<KeyEncapsulation>,
}

impl KeyExchanges {
    pub(super) fn new(
        nonces: (Vec<u8>, Vec<u8>),
        shared: Secret,
        additional: AdditionalKeyExchanges,
    ) -> Self {
        let rest = additional.into_iter().flatten().collect();
        Self { nonces, shared, added: Zeroizing::new(Vec::new()), rest }
    }

    /// The method of the next one; `None` when all are done.
    pub(super) fn next(&self) -> Option<KeyEncapsulation> {
        self.rest.front().copied()
    }

    /// None is left to be done.
    pub(super) fn are_complete(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next one is done, and this is its secret.
    pub(super) fn add(&mut self, secret: &[u8]) {
        // Never grown in place: no copy of a secret is left behind.
        self.added = Zeroizing::new([self.added.as_slice(), secret].concat());
        self.rest.pop_front();
    }

    pub(super) fn nonces(&self) -> (&[u8], &[u8]) {
        (&self.nonces.0, &self.nonces.1)
    }

    /// That of the Diffie-Hellman exchange, and those of the others.
    pub(super) fn secrets(&self) -> (&[u8], &[u8]) {
        (&self.shared, &self.added)
    }

    /// By this, collisions are decided (RFC 7296 section 2.8.1).
    pub(super) fn lowest_nonce(&self) -> Vec<u8> {
        lowest(&self.nonces.0, &self.nonces.1)
    }
}
