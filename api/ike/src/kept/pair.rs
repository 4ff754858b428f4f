//! What is kept of a pair of ESP SAs, whichever version of IKE made it.

use std::time::{Duration, Instant};

use super::terms::child_terms;
use crate::crypto::Secret;
use crate::wire::{Reader, WireError, Writer};
use crate::{ChildConfig, ChildId, ResumablePair};

/// See the module's documentation.
pub(crate) struct KeptPair {
    pub(crate) pair: ResumablePair,
    pub(crate) terms: Secret,
    pub(crate) lowest_nonce: Vec<u8>,
    /// We asked for it.
    pub(crate) ours: bool,
    pub(crate) soft_in: Duration,
    pub(crate) hard_in: Duration,
    /// The pair that it replaces, and the one that took its place; version 1 keeps none that has been replaced.
    pub(crate) replaces: Option<u32>,
    pub(crate) replaced_by: Option<u32>,
    /// Time since both ends had it, and whether the phase 1 that is kept made it: version 2 does not ask.
    pub(crate) age: Duration,
    pub(crate) made_here: bool,
}

impl KeptPair {
    /// More bytes than one takes.
    pub(super) const LEN_MOST_BYTES: usize = 512;

    /// A pair under these terms.
    pub(crate) fn new(key: &Secret, config: &ChildConfig, spi_in: u32, spi_out: u32) -> Self {
        Self {
            pair: ResumablePair { child: config.id, spi_in, spi_out, sends: false },
            terms: child_terms(key, config),
            lowest_nonce: Vec::new(),
            ours: false,
            soft_in: Duration::ZERO,
            hard_in: Duration::ZERO,
            replaces: None,
            replaced_by: None,
            age: Duration::ZERO,
            made_here: true,
        }
    }

    /// Its lifetimes, as they are left.
    pub(crate) fn living(self, now: Instant, soft_at: Instant, hard_at: Instant) -> Self {
        let left = |at: Instant| at.saturating_duration_since(now);
        Self { soft_in: left(soft_at), hard_in: left(hard_at), ..self }
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.u64(self.pair.child.0);
        writer.counted(&self.terms);
        writer.u32(self.pair.spi_in);
        writer.u32(self.pair.spi_out);
        writer.counted(&self.lowest_nonce);
        writer.u8(u8::from(self.ours));
        // No pair has SPI 0 (RFC 4303 section 2.1).
        writer.u32(self.replaces.unwrap_or(0));
        writer.u32(self.replaced_by.unwrap_or(0));
        for time in [self.soft_in, self.hard_in, self.age] {
            writer.u64(millis(time));
        }
        writer.u8(u8::from(self.made_here));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let child = ChildId(reader.u64()?);
        let terms = Secret::new(reader.counted()?.to_vec());
        let pair = ResumablePair { child, spi_in: reader.u32()?, spi_out: reader.u32()?, sends: false };
        let lowest_nonce = reader.counted()?.to_vec();
        let ours = reader.u8()? == 1;
        let mut other = || reader.u32().map(|spi| Some(spi).filter(|spi| *spi != 0));
        let (replaces, replaced_by) = (other()?, other()?);
        let [soft_in, hard_in, age] = [duration(reader)?, duration(reader)?, duration(reader)?];
        let made_here = reader.u8()? == 1;
        Ok(Self { pair, terms, lowest_nonce, ours, soft_in, hard_in, replaces, replaced_by, age, made_here })
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn duration(reader: &mut Reader<'_>) -> Result<Duration, WireError> {
    reader.u64().map(Duration::from_millis)
}
