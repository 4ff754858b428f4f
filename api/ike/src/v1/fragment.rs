//! Messages in pieces (Cisco's IKEv1 fragmentation, payload 132).
//!
//! Pieces are not authenticated: their number and size are bounded, and one message at a time is put together per SA. Of two
//! with one number the later one counts: peers give all their messages the same id, and what is left of the one before, or
//! what somebody forged, must not stand in the next one's way for longer than until it is said again.

use std::collections::BTreeMap;

use crate::wire::isakmp::{Exchange, Header, Payload, decode_chain, encode_chain, registry::payload as kind};
use crate::wire::{MAX_MESSAGE_BYTES, Reader, WireError, Writer};

const MAX_FRAGMENTS: usize = 64;
const LAST: u8 = 1;
/// Longest message that is sent whole to a peer that takes pieces: what passes where IPv6 must.
const WHOLE_LEN_BYTES: usize = 1200;

/// The pieces of the message that is being put together.
#[derive(Default)]
pub(crate) struct Assembly {
    id: u16,
    last: Option<u8>,
    pieces: BTreeMap<u8, Vec<u8>>,
}

impl Assembly {
    /// Takes in the body of a message whose first payload is a piece; gives the whole message with its last piece.
    pub(crate) fn add(&mut self, body: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        let (payloads, _) = decode_chain(kind::FRAGMENT, body)?;
        let piece = payloads.first().ok_or(WireError::Truncated)?;
        let mut reader = Reader::new(&piece.body);
        let id = reader.u16()?;
        let number = reader.u8()?;
        let flags = reader.u8()?;
        let data = reader.rest();
        if number == 0 || usize::from(number) > MAX_FRAGMENTS || data.is_empty() {
            return Err(WireError::BadValue);
        }
        if id != self.id {
            *self = Self { id, ..Self::default() };
        }
        if flags & LAST != 0 {
            self.last = Some(number);
        }
        self.pieces.remove(&number);
        let held: usize = self.pieces.values().map(Vec::len).sum();
        if held.saturating_add(data.len()) > MAX_MESSAGE_BYTES {
            *self = Self::default();
            return Err(WireError::TooLong);
        }
        self.pieces.insert(number, data.to_vec());
        let complete = |last: &u8| (1..=*last).all(|number| self.pieces.contains_key(&number));
        let Some(last) = self.last.filter(complete) else { return Ok(None) };
        let pieces = std::mem::take(self).pieces;
        Ok(Some(
            pieces.into_iter().filter(|(number, _)| *number <= last).flat_map(|(_, data)| data).collect(),
        ))
    }
}

/// A message as it goes out to a peer that takes pieces.
pub(super) fn split(header: &Header, id: u16, message: &[u8]) -> Vec<Vec<u8>> {
    if message.len() <= WHOLE_LEN_BYTES {
        return vec![message.to_vec()];
    }
    let count = message.chunks(WHOLE_LEN_BYTES).count();
    message
        .chunks(WHOLE_LEN_BYTES)
        .zip(1u8..)
        .map(|(data, number)| {
            let mut writer = Writer::default();
            writer.u16(id);
            writer.u8(number);
            writer.u8(if usize::from(number) == count { LAST } else { 0 });
            writer.bytes(data);
            let (first, body) = encode_chain(&[Payload::new(kind::FRAGMENT, writer.into_bytes())]);
            Header { first, encrypted: false, ..*header }.encode(&body)
        })
        .collect()
}

/// Whether a header is that of a piece.
pub(super) fn is_piece(header: &Header) -> bool {
    header.first == kind::FRAGMENT && !header.encrypted && !matches!(header.exchange, Exchange::Other(_))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn header() -> Header {
        let (cookie_i, cookie_r) = (1, 2);
        Header { cookie_i, cookie_r, first: 5, exchange: Exchange::MainMode, encrypted: true, message_id: 0 }
    }

    #[test]
    fn pieces_in_any_order_make_the_message() {
        let message: Vec<u8> = (0..5000u32).map(|at| at as u8).collect();
        let mut pieces = split(&header(), 7, &message);
        assert_eq!(pieces.len(), 5);
        pieces.reverse();
        pieces.insert(2, pieces[0].clone());
        let mut assembly = Assembly::default();
        let mut whole = None;
        for piece in &pieces {
            let (header, body) = Header::decode(piece).unwrap();
            assert!(is_piece(&header));
            whole = whole.or(assembly.add(body).unwrap());
        }
        assert_eq!(whole.unwrap(), message);
    }

    fn piece(id: u16, number: u8, flags: u8, data: &[u8]) -> Vec<u8> {
        let body = [&id.to_be_bytes(), [number, flags].as_slice(), data].concat();
        encode_chain(&[Payload::new(kind::FRAGMENT, body)]).1
    }

    /// The wholes that come of these pieces.
    fn wholes(assembly: &mut Assembly, pieces: &[(u8, u8, &[u8])]) -> Vec<Vec<u8>> {
        let added = pieces
            .iter()
            .map(|(number, flags, data)| assembly.add(&piece(1, *number, *flags, data)).unwrap());
        added.flatten().collect()
    }

    /// With one id for all messages, as strongSwan has it.
    #[test]
    fn what_is_left_of_a_message_does_not_keep_the_next_one_out() {
        let mut assembly = Assembly::default();
        let twice: [(u8, u8, &[u8]); 4] = [(1, 0, b"a"), (1, 0, b"a"), (2, LAST, b"b"), (2, LAST, b"b")];
        assert_eq!(wholes(&mut assembly, &twice), [b"ab"]);
        let longer: [(u8, u8, &[u8]); 3] = [(1, 0, b"c"), (2, 0, b"d"), (3, LAST, b"e")];
        let again = [longer, longer].concat();
        assert!(wholes(&mut assembly, &again).contains(&b"cde".to_vec()));
    }

    #[test]
    fn forged_pieces_do_not_outlive_the_true_ones_that_come_again() {
        let longer: [(u8, u8, &[u8]); 3] = [(1, 0, b"c"), (2, 0, b"d"), (3, LAST, b"e")];
        for forged in [(1, 0), (2, 0), (3, 0), (9, 0), (1, LAST), (2, LAST), (9, LAST)] {
            for at in 0..=longer.len() {
                let mut pieces = longer.to_vec();
                pieces.insert(at, (forged.0, forged.1, b"x"));
                pieces.extend(longer);
                let found = wholes(&mut Assembly::default(), &pieces);
                assert!(found.contains(&b"cde".to_vec()), "{forged:?} at {at}: {found:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_piece_is_refused_and_memory_is_bounded() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.add(&piece(1, 0, 0, b"x")), Err(WireError::BadValue));
        assert_eq!(assembly.add(&piece(1, 65, 0, b"x")), Err(WireError::BadValue));
        assert_eq!(assembly.add(&piece(1, 1, 0, b"")), Err(WireError::BadValue));
        assert_eq!(assembly.add(&piece(1, 3, LAST, b"x")), Ok(None));
        assert_eq!(assembly.add(&piece(2, 1, 0, &[0; 9000])), Ok(None));
        assert_eq!(assembly.add(&piece(2, 1, 0, &[0; 9000])), Ok(None));
        assert_eq!(assembly.add(&piece(2, 2, 0, &[0; 2000])), Err(WireError::TooLong));
    }
}
