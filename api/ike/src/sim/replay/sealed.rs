//! Messages under keys that the input's author holds: pieces of any number and order, and an authentic peer that says
//! anything.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{assert_sane, codec, path, simulation};
use crate::crypto::{IkeCipher, IkeKeys, IkeSuite, MAX_FRAGMENTS, Random, Spis};
use crate::kept::Kept;
use crate::v1::fragment::Assembly;
use crate::v2::fragments::Fragments;
use crate::v2::sa::Inbound;
use crate::wire::{Exchange, Header, MAX_MESSAGE_BYTES, Message};
use crate::{Classified, Group, Hash, Resumable};

const SPIS: Spis = Spis { initiator: 1, responder: 2 };

fn keys(cipher: IkeCipher, initiator: bool) -> IkeKeys {
    let suite = IkeSuite { cipher, prf: Hash::Sha2_256, group: Group::Curve25519, additional: [None; 7] };
    IkeKeys::first(suite, initiator, &[7; 32], (&[1; 32], &[2; 32]), SPIS)
}

fn cipher(choice: u8) -> IkeCipher {
    match choice % 4 {
        0 if choice >= 128 => IkeCipher::ChaCha20Poly1305,
        0 => IkeCipher::Aes256Gcm16,
        1 => IkeCipher::Aes128Gcm16,
        2 => IkeCipher::Aes128Cbc(Hash::Sha2_256),
        _ => IkeCipher::TripleDesCbc(Hash::Sha1),
    }
}

/// Pieces of messages, as `Piece` reads them: both ways of putting together do what their model does, and what a
/// stranger changed is never part of it.
pub fn fragments(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let mut sender = keys(cipher(*choice), true);
    let receiver = keys(cipher(*choice), false);
    let mut fragments = Fragments::new(true);
    let mut models = [None, None];
    let (mut assembly, mut assembly_model) = (Assembly::default(), CiscoModel::default());
    while let Some(piece) = Piece::next(&mut rest) {
        let header = Header {
            spi_i: SPIS.initiator,
            spi_r: SPIS.responder,
            first: 0,
            exchange: Exchange::Informational,
            initiator: true,
            response: piece.response,
            message_id: u32::from(piece.message),
        };
        let place = Some((piece.number, piece.total));
        let mut random = Random::new([5; 32]);
        let sealed = sender.sealing.seal_piece(header, piece.first(), place, piece.content, &mut random);
        let Ok(mut datagram) = sealed else { return };
        if let Some(byte) = datagram.last_mut().filter(|_| piece.forged) {
            *byte ^= 1;
        }
        if let Ok(message) = Message::decode(&datagram) {
            let inbound = Inbound { path: path(1, 500), bytes: &datagram, message: &message };
            let found = fragments
                .open(&receiver.opening, &inbound)
                .map(|opened| opened.map(|opened| opened.plain.to_vec()));
            let model = &mut models[usize::from(piece.response)];
            assert_eq!(found.ok(), expected(model, &piece), "{piece:?}");
        }
        let body = [&[0, 0][..], &piece.cisco_len().to_be_bytes()[..], &piece.cisco()].concat();
        assert_eq!(assembly.add(&body).ok(), assembly_model.add(&piece), "{piece:?}");
    }
}

/// One piece of an input: nine octets that say what it is, and its content.
#[derive(Debug)]
struct Piece<'a> {
    number: u16,
    total: u16,
    message: u8,
    response: bool,
    forged: bool,
    last: bool,
    content: &'a [u8],
}

impl<'a> Piece<'a> {
    fn next(rest: &mut &'a [u8]) -> Option<Self> {
        let (head, tail) = rest.split_first_chunk::<5>()?;
        let [number, total, message, flags, len] = *head;
        let (content, tail) = tail.split_at(usize::from(len).min(tail.len()));
        *rest = tail;
        // Large numbers are rare, and there.
        let wide = |low: u8| u16::from(low) | if flags & 8 != 0 { 0xff00 } else { 0 };
        Some(Self {
            number: wide(number),
            total: wide(total),
            message: message % 4,
            response: flags & 1 != 0,
            forged: flags & 2 != 0,
            last: flags & 4 != 0,
            content,
        })
    }

    fn first(&self) -> u8 {
        if self.number == 1 { 41 } else { 0 }
    }

    /// As the body of a piece of version 1.
    fn cisco(&self) -> Vec<u8> {
        let number = self.number.to_be_bytes()[1];
        [&[0, self.message, number, u8::from(self.last)][..], self.content].concat()
    }

    fn cisco_len(&self) -> u16 {
        u16::try_from(self.cisco().len() + 4).unwrap_or(u16::MAX)
    }
}

/// What is put together of a message of version 2: its id, its total, and the pieces.
type Partial<'a> = Option<(u8, u16, BTreeMap<u16, &'a [u8]>)>;

/// RFC 7383 section 2.6 in few words. `None`: refused; `Some(None)`: kept.
fn expected<'a>(partial: &mut Partial<'a>, piece: &Piece<'a>) -> Option<Option<Vec<u8>>> {
    if piece.forged || usize::from(piece.total) > MAX_FRAGMENTS {
        return None;
    }
    let same_message = partial.as_ref().filter(|(message, ..)| *message == piece.message);
    if same_message.is_some_and(|(_, total, pieces)| {
        piece.total < *total || piece.total == *total && pieces.contains_key(&piece.number)
    }) {
        return None;
    }
    if same_message.is_none_or(|(_, total, _)| *total != piece.total) {
        *partial = Some((piece.message, piece.total, BTreeMap::new()));
    }
    let (_, total, pieces) = partial.as_mut()?;
    pieces.insert(piece.number, piece.content);
    if pieces.len() < usize::from(*total) {
        return Some(None);
    }
    let (.., pieces) = partial.take()?;
    Some(Some(pieces.into_values().flatten().copied().collect()))
}

/// Cisco's pieces: one message at a time, the latest of each number and the latest that says that it is the last count.
#[derive(Default)]
struct CiscoModel {
    message: u8,
    last: Option<u8>,
    pieces: BTreeMap<u8, Vec<u8>>,
}

impl CiscoModel {
    fn add(&mut self, piece: &Piece<'_>) -> Option<Option<Vec<u8>>> {
        let number = piece.number.to_be_bytes()[1];
        if !(1..=64).contains(&number) || piece.content.is_empty() {
            return None;
        }
        if piece.message != self.message {
            *self = Self { message: piece.message, ..Self::default() };
        }
        if piece.last {
            self.last = Some(number);
        }
        self.pieces.remove(&number);
        let held: usize = self.pieces.values().map(Vec::len).sum();
        if held + piece.content.len() > MAX_MESSAGE_BYTES {
            *self = Self::default();
            return None;
        }
        self.pieces.insert(number, piece.content.to_vec());
        let numbers = 1..=self.last.unwrap_or(u8::MAX);
        let whole: Option<Vec<&Vec<u8>>> = numbers.map(|number| self.pieces.get(&number)).collect();
        let Some(whole) = whole.map(|pieces| pieces.into_iter().flatten().copied().collect()) else {
            return Some(None);
        };
        *self = Self::default();
        Some(Some(whole))
    }
}

/// A chain of payloads under known keys: it opens as it was sealed, changed nowhere; and an engine whose peer says it
/// under the keys of their IKE SA neither panics nor keeps the two from agreeing again. The first three octets choose
/// cipher, first payload, exchange and flags.
pub fn opened(data: &[u8]) {
    let Some((&[choice, first, kind], chain)) = data.split_first_chunk::<3>() else { return };
    codec::payloads_v2(first, chain);
    let mut sender = keys(cipher(choice), true);
    let receiver = keys(cipher(choice), false);
    let header = header(SPIS, kind, true, 7);
    let limit = (choice & 4 != 0).then_some(200);
    let sealed = sender.sealing.seal_chain(header, first, chain, limit, &mut Random::new([5; 32]));
    let mut fragments = Fragments::new(true);
    let mut whole = None;
    for datagram in sealed.unwrap_or_default() {
        let flipped = usize::from(choice) * 7 % datagram.len();
        let mut changed = datagram.clone();
        changed[flipped] ^= 1;
        for (datagram, is_true) in [(&changed, false), (&datagram, true)] {
            let Ok(message) = Message::decode(datagram) else { continue };
            let inbound = Inbound { path: path(1, 500), bytes: datagram, message: &message };
            let found = fragments.open(&receiver.opening, &inbound);
            assert!(is_true || found.is_err(), "octet {flipped} is not protected");
            whole = whole.or(found.ok().flatten());
        }
    }
    // A chain that is too long for its pieces is not sent.
    if let Some(whole) = whole {
        assert_eq!(whole.plain.as_slice(), chain);
    }
    said_by_a_peer(first, kind, chain);
}

fn header(spis: Spis, kind: u8, initiator: bool, message_id: u32) -> Header {
    const EXCHANGES: [Exchange; 8] = [
        Exchange::CreateChildSa,
        Exchange::Informational,
        Exchange::IkeFollowupKe,
        Exchange::IkeAuth,
        Exchange::IkeIntermediate,
        Exchange::IkeSaInit,
        Exchange::CreateChildSa,
        Exchange::Other(38),
    ];
    Header {
        spi_i: spis.initiator,
        spi_r: spis.responder,
        first: 0,
        exchange: EXCHANGES[usize::from(kind % 8)],
        initiator,
        response: kind & 8 != 0,
        message_id,
    }
}

/// End 0's keys say it to end 1, as the next request or the answer that is waited for.
fn said_by_a_peer(first: u8, kind: u8, chain: &[u8]) {
    let mut sim = simulation();
    sim.tell_time();
    sim.drain(0);
    sim.run(Duration::from_secs(1));
    let Some(kept) = sim.hosts[0].vault.any() else { return };
    let Ok(Resumable(Kept::IkeSa(kept))) = Resumable::read(kept) else { return };
    let mut voice = kept.voice();
    if kind & 8 != 0 {
        // Something to answer.
        sim.link.cut = true;
        sim.command(1, crate::Command::RekeyChild(crate::ChildId(1)));
    }
    let message_id = if kind & 8 != 0 { voice.awaited_id } else { voice.next_id };
    let header = header(voice.spis, kind, voice.initiator, message_id);
    let sealed = voice.keys.sealing.seal_chain(header, first, chain, None, &mut Random::new([6; 32]));
    for datagram in sealed.unwrap_or_default() {
        let classified = sim.inject(1, path(1, 500), &datagram);
        assert!(!matches!(classified, Classified::Dropped("integrity" | "unknown_spi")), "{classified:?}");
        assert_sane(&sim);
    }
    sim.link.cut = false;
    sim.run(Duration::from_secs(700));
    for side in 0..2 {
        sim.command(side, crate::Command::Initiate(crate::ConnectionId(1)));
    }
    sim.run(Duration::from_secs(400));
    assert_eq!(sim.disagreement(crate::ChildId(1)), None);
    assert_sane(&sim);
}
