//! What both ends of a phase 1 know once shares and nonces are exchanged, and the keys that come of it.

use std::time::Duration;

use super::initiate::lowest;
use super::phase_one::Keyed;
use super::proposals::PhaseOneSuite;
use super::sealed::IvChain;
use crate::crypto::{PhaseOneFacts, PhaseOneKeys, Secret, Spis};
use crate::{Authentication, Classified};

/// See the module's documentation.
pub(super) struct Agreed<'a> {
    pub(super) suite: PhaseOneSuite,
    /// By aggressive mode, not by main mode.
    pub(super) aggressive: bool,
    pub(super) lifetime: Duration,
    pub(super) cookies: Spis,
    /// Body of the initiator's SA payload.
    pub(super) sa: Vec<u8>,
    /// Initiator's and responder's.
    pub(super) publics: (&'a [u8], &'a [u8]),
    pub(super) nonces: (&'a [u8], &'a [u8]),
    pub(super) shared: &'a Secret,
}

impl Agreed<'_> {
    /// The keys, before anyone is authenticated.
    ///
    /// # Errors
    /// The configuration has no shared key any more.
    pub(super) fn keyed(self, authentication: &Authentication) -> Result<Keyed, Classified> {
        let Self { suite, aggressive, lifetime, cookies, sa, publics, nonces, shared } = self;
        let shared_key = suite.method.shared_key(authentication)?;
        let facts = PhaseOneFacts { cookies, nonces, shared };
        let keys = PhaseOneKeys::new(suite.hash, suite.cipher, shared_key, facts);
        Ok(Keyed {
            suite,
            aggressive,
            lifetime,
            chain: IvChain::phase_one(&keys, publics.0, publics.1),
            keys,
            sa,
            public_i: publics.0.to_vec(),
            public_r: publics.1.to_vec(),
            lowest_nonce: lowest(nonces.0, nonces.1),
            refused: false,
        })
    }
}
