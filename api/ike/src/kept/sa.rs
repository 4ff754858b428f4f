//! What is kept of an IKE SA, whichever version it is of, and whether it still fits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pair::{KeptPair, duration, millis};
use super::terms::{child_terms, terms};
use crate::cert::PeerCertificates;
use crate::crypto::{Secret, Spis};
use crate::exchange::after;
use crate::v2::nat::Nat;
use crate::wire::{Reader, WireError, Writer};
use crate::{Connection, ConnectionId, NotResumed, Path, RemoteProof};

/// See the module's documentation.
pub(crate) struct KeptSa {
    pub(crate) connection: ConnectionId,
    pub(crate) kept_unix_secs: u64,
    pub(crate) terms: Secret,
    pub(crate) initiator: bool,
    /// SPIs or cookies.
    pub(crate) spis: Spis,
    pub(crate) path: Path,
    pub(crate) nat: Nat,
    pub(crate) peer_certificates: Option<Arc<PeerCertificates>>,
    pub(crate) lowest_nonce: Vec<u8>,
    pub(crate) age: Duration,
    pub(crate) rekey_in: Duration,
    pub(crate) expires_in: Duration,
    pub(crate) pairs: Vec<KeptPair>,
}

impl KeptSa {
    /// What it is kept under: our SPI.
    pub(crate) fn name(&self) -> u64 {
        if self.initiator { self.spis.initiator } else { self.spis.responder }
    }

    /// Whether it may go on; `key` is the one of its terms.
    pub(super) fn fits(
        &self,
        key: &Secret,
        connection: &Connection,
        unix_secs: u64,
    ) -> Result<(), NotResumed> {
        if terms(key, connection) != self.terms {
            return Err(NotResumed::Connection);
        }
        let same = |kept: &KeptPair| {
            let config = connection.children.iter().find(|config| config.id == kept.pair.child);
            config.is_some_and(|config| child_terms(key, config) == kept.terms)
        };
        if !self.pairs.iter().all(same) {
            return Err(NotResumed::Connection);
        }
        let elapsed = self.elapsed(unix_secs);
        let over = |left: &Duration| *left <= elapsed;
        if over(&self.expires_in) || self.pairs.iter().any(|kept| over(&kept.hard_in)) {
            return Err(NotResumed::Expired);
        }
        match (&connection.authentication.remote, &self.peer_certificates) {
            (RemoteProof::PreSharedKey(_), None) => Ok(()),
            (RemoteProof::Certificate(trust), Some(certificates)) => {
                certificates.judge_again(trust, Some(unix_secs)).map_err(NotResumed::Certificate)
            }
            _ => Err(NotResumed::Connection),
        }
    }

    /// Time since it was kept. A clock that was set back meanwhile counts as none.
    fn elapsed(&self, unix_secs: u64) -> Duration {
        Duration::from_secs(unix_secs.saturating_sub(self.kept_unix_secs))
    }

    /// What its times are now; `unix_secs` is `None` where nobody knows how long ago it was kept.
    pub(crate) fn clock(&self, now: Instant, unix_secs: Option<u64>) -> Clock {
        Clock { now, elapsed: self.elapsed(unix_secs.unwrap_or(self.kept_unix_secs)) }
    }

    /// More bytes than [`KeptSa::encode`] writes: the buffer with the keys must not grow by moving.
    pub(crate) fn len_most_bytes(&self) -> usize {
        const FIXED: usize = 2048;
        let certificates = self.peer_certificates.as_ref().map_or(0, |found| found.kept_len_most_bytes());
        FIXED
            .saturating_add(self.pairs.len().saturating_mul(KeptPair::LEN_MOST_BYTES))
            .saturating_add(certificates)
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.u64(self.connection.0);
        writer.u64(self.kept_unix_secs);
        writer.counted(&self.terms);
        writer.u8(u8::from(self.initiator));
        writer.u64(self.spis.initiator);
        writer.u64(self.spis.responder);
        for address in [self.path.local, self.path.remote] {
            writer.counted(address.to_string().as_bytes());
        }
        let Nat { local, remote, forced } = self.nat;
        for flag in [local, remote, forced] {
            writer.u8(u8::from(flag));
        }
        match &self.peer_certificates {
            Some(certificates) => certificates.keep(writer),
            None => writer.u32(0),
        }
        writer.counted(&self.lowest_nonce);
        for time in [self.age, self.rekey_in, self.expires_in] {
            writer.u64(millis(time));
        }
        writer.u32(u32::try_from(self.pairs.len()).unwrap_or(u32::MAX));
        for kept in &self.pairs {
            kept.encode(writer);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let connection = ConnectionId(reader.u64()?);
        let kept_unix_secs = reader.u64()?;
        let terms = Secret::new(reader.counted()?.to_vec());
        let initiator = reader.u8()? == 1;
        let spis = Spis { initiator: reader.u64()?, responder: reader.u64()? };
        let mut address = || -> Result<SocketAddr, WireError> {
            let text = std::str::from_utf8(reader.counted()?).map_err(|_| WireError::BadValue)?;
            text.parse().map_err(|_| WireError::BadValue)
        };
        let path = Path { local: address()?, remote: address()? };
        let mut flag = || reader.u8().map(|flag| flag == 1);
        let nat = Nat { local: flag()?, remote: flag()?, forced: flag()? };
        let peer_certificates = PeerCertificates::resume(reader)?.map(Arc::new);
        let lowest_nonce = reader.counted()?.to_vec();
        let [age, rekey_in, expires_in] = [duration(reader)?, duration(reader)?, duration(reader)?];
        let pairs: Result<_, WireError> = (0..reader.u32()?).map(|_| KeptPair::decode(reader)).collect();
        Ok(Self {
            connection,
            kept_unix_secs,
            terms,
            initiator,
            spis,
            path,
            nat,
            peer_certificates,
            lowest_nonce,
            age,
            rekey_in,
            expires_in,
            pairs: pairs?,
        })
    }
}

/// The times of an SA that was kept, for the engine that goes on with it.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) now: Instant,
    elapsed: Duration,
}

impl Clock {
    /// When what was due in so long is due.
    pub(crate) fn due(self, left: Duration) -> Instant {
        after(self.now, left.saturating_sub(self.elapsed))
    }

    /// When what was so old began; the clock may not go back that far.
    pub(crate) fn began(self, age: Duration) -> Instant {
        self.now.checked_sub(age.saturating_add(self.elapsed)).unwrap_or(self.now)
    }
}
