//! A quick mode of ours that is through, of which the responder may not have the last message: what is kept of it.

use std::time::{Duration, Instant};

use super::phase_one::Up;
use super::quick::{Quick, Step};
use super::sealed::IvChain;
use crate::kept::pair::{duration, millis};
use crate::kept::sa::Clock;
use crate::v2::sa::RequestDigest;
use crate::wire::{Reader, WireError, Writer};
use crate::{ChildId, IkeSaId};

/// See the module's documentation.
pub(super) struct Conclusion {
    message_id: u32,
    child: ChildId,
    spi_in: u32,
    /// How long it may be asked for.
    left: Duration,
    /// The responder's message, which asks for it when it comes again.
    question: RequestDigest,
    answer: Vec<u8>,
}

impl Conclusion {
    /// Of a quick mode that is through.
    pub(super) fn of(quick: &Quick, now: Instant) -> Option<Self> {
        let (Step::Concluded { until, spi_in }, Some((question, answer, _))) = (&quick.step, &quick.heard)
        else {
            return None;
        };
        Some(Self {
            message_id: quick.message_id,
            child: quick.child,
            spi_in: *spi_in,
            left: until.saturating_duration_since(now),
            question: question.clone(),
            answer: answer.clone(),
        })
    }

    /// The quick mode again; the answer may be given so often.
    pub(super) fn into_quick(self, phase_one: IkeSaId, up: &Up, clock: Clock, often: u32) -> Quick {
        Quick {
            phase_one,
            message_id: self.message_id,
            child: self.child,
            begun_at: clock.now,
            chain: IvChain::exchange(&up.keys, &up.chain, self.message_id),
            step: Step::Concluded { until: clock.due(self.left), spi_in: self.spi_in },
            retransmission: None,
            heard: Some((self.question, self.answer, often)),
        }
    }

    /// More bytes than [`Conclusion::encode`] writes.
    pub(super) fn len_most_bytes(&self) -> usize {
        const BESIDE_ANSWER: usize = 80;
        self.answer.len().saturating_add(BESIDE_ANSWER)
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.u32(self.message_id);
        writer.u64(self.child.0);
        writer.u32(self.spi_in);
        writer.u64(millis(self.left));
        writer.counted(self.question.as_bytes());
        writer.counted(&self.answer);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            message_id: reader.u32()?,
            child: ChildId(reader.u64()?),
            spi_in: reader.u32()?,
            left: duration(reader)?,
            question: RequestDigest::from_bytes(reader.counted()?).ok_or(WireError::BadLength)?,
            answer: reader.counted()?.to_vec(),
        })
    }
}
