//! The keys of IKE SAs as they are made, so that a test can compare them with a peer's and hand them to a decoder. Built only
//! with the feature `key-log`, which no shipped program enables.

use std::cell::RefCell;

use crate::crypto::IkeSuite;
use crate::{Hash, IkeEncryption};

/// Keys of an IKE SA (RFC 7296 section 2.14); of each pair, the initiator's first.
#[derive(Clone)]
pub struct KeyRecord {
    /// The initiator's SPI.
    pub spi_i: u64,
    /// The responder's SPI.
    pub spi_r: u64,
    pub(crate) suite: IkeSuite,
    /// SK_d.
    pub sk_d: Vec<u8>,
    /// SK_ai and SK_ar; empty with a combined cipher.
    pub sk_a: [Vec<u8>; 2],
    /// SK_ei and SK_er, with the salt of a combined cipher.
    pub sk_e: [Vec<u8>; 2],
    /// SK_pi and SK_pr.
    pub sk_p: [Vec<u8>; 2],
}

impl KeyRecord {
    /// The cipher.
    pub fn encryption(&self) -> IkeEncryption {
        self.suite.cipher.encryption()
    }

    /// The integrity hash; `None` with a combined cipher.
    pub fn integrity(&self) -> Option<Hash> {
        self.suite.cipher.integrity()
    }
}

thread_local! {
    static RECORDS: RefCell<Vec<KeyRecord>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn record(record: KeyRecord) {
    RECORDS.with_borrow_mut(|records| records.push(record));
}

/// What was recorded on this thread since the last call.
pub fn take() -> Vec<KeyRecord> {
    RECORDS.take()
}
