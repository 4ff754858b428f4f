//! An end that says what its engine never would, under the keys of the IKE SA of version 2 that it has.

use super::reading::{Content, read_inside};
use super::{Simulation, setup};
use crate::crypto::Random;
use crate::kept::Kept;
use crate::v2::resume::Voice;
use crate::wire::{Exchange, Header, Message, Payload};
use crate::{Path, Resumable};

/// A payload as it is said, whatever it means.
#[derive(Clone, Debug)]
pub struct Word {
    kind: u8,
    critical: bool,
    body: Vec<u8>,
}

impl Word {
    /// A payload of this type.
    #[must_use]
    pub fn new(kind: u8, body: &[u8]) -> Self {
        Self { kind, critical: false, body: body.to_vec() }
    }

    /// The same, which must not be passed over by who does not know it.
    #[must_use]
    pub fn critical(self) -> Self {
        Self { critical: true, ..self }
    }

    /// A notification about nothing but the exchange.
    #[must_use]
    pub fn notify(kind: u16, data: &[u8]) -> Self {
        Self::new(41, &[&[0, 0], &kind.to_be_bytes()[..], data].concat())
    }
}

fn chain(words: &[Word]) -> Vec<u8> {
    let following = words.iter().skip(1).map(|word| word.kind).chain([0]);
    let one = |(word, next): (&Word, u8)| {
        let length = u16::try_from(word.body.len() + 4).unwrap_or(u16::MAX).to_be_bytes();
        [&[next, u8::from(word.critical) << 7][..], &length, &word.body].concat()
    };
    words.iter().zip(following).flat_map(one).collect()
}

impl Simulation {
    /// One end says this to the other as its next request; gives what that answers at once. The end's own engine does not
    /// know of it: it has nothing good to say any more. Both must have been told the time, and be between two exchanges.
    pub fn asks(&mut self, side: usize, exchange: u8, words: &[Word]) -> Vec<Content> {
        let Some(voice) = self.voice(side) else { return Vec::new() };
        let message_id = voice.next_id;
        self.says(side, voice, exchange, false, message_id, words)
    }

    /// One end answers this to what it was asked and did not hear.
    pub fn answers(&mut self, side: usize, exchange: u8, words: &[Word]) -> Vec<Content> {
        let Some(voice) = self.voice(side) else { return Vec::new() };
        let message_id = voice.awaited_id;
        self.says(side, voice, exchange, true, message_id, words)
    }

    fn voice(&self, side: usize) -> Option<Voice> {
        match Resumable::read(self.hosts[side].vault.any()?) {
            Ok(Resumable(Kept::IkeSa(kept))) => Some(kept.voice()),
            _ => None,
        }
    }

    fn says(
        &mut self,
        side: usize,
        mut voice: Voice,
        exchange: u8,
        response: bool,
        message_id: u32,
        words: &[Word],
    ) -> Vec<Content> {
        let header = Header {
            spi_i: voice.spis.initiator,
            spi_r: voice.spis.responder,
            first: 0,
            exchange: Exchange::from(exchange),
            initiator: voice.initiator,
            response,
            message_id,
        };
        let first = words.first().map_or(0, |word| word.kind);
        let said =
            voice.keys.sealing.seal_chain(header, first, &chain(words), None, &mut Random::new([6; 32]));
        let to = 1 - side;
        let path =
            Path { local: (setup::address(to), 500).into(), remote: (setup::address(side), 500).into() };
        let before = self.link.log.len();
        for datagram in said.unwrap_or_default() {
            self.inject(to, path, &datagram);
        }
        let sent = self.link.log.iter().skip(before).filter(|(from, _, _)| *from == to);
        sent.filter_map(|(_, _, bytes)| opened(&voice, bytes)).collect()
    }
}

fn opened(voice: &Voice, bytes: &[u8]) -> Option<Content> {
    let message = Message::decode(bytes).ok()?;
    let Some(Payload::Encrypted(encrypted)) = message.payloads.last() else { return None };
    let plain = voice.keys.opening.open(bytes, &encrypted.body).ok()?;
    read_inside(encrypted.first, &plain).ok()
}
