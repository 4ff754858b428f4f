//! Fragments that come late, twice, out of order, forged or with numbers that make no sense.

use proptest::prelude::*;

use super::*;
use crate::crypto::{IkeCipher, IkeKeys, IkeSuite, Random, Spis};
use crate::wire::registry::payload;
use crate::wire::{Exchange, Message, Notify, decode_payloads};
use crate::{Group, Hash, Path};

const CIPHERS: [IkeCipher; 3] =
    [IkeCipher::Aes256Gcm16, IkeCipher::ChaCha20Poly1305, IkeCipher::Aes128Cbc(Hash::Sha2_256)];

fn keys(cipher: IkeCipher, initiator: bool) -> IkeKeys {
    let suite = IkeSuite { cipher, prf: Hash::Sha2_256, group: Group::Curve25519, additional: [None; 7] };
    IkeKeys::first(suite, initiator, &[7; 32], (&[1; 32], &[2; 32]), Spis { initiator: 1, responder: 2 })
}

fn header(message_id: u32) -> Header {
    Header {
        spi_i: 1,
        spi_r: 2,
        first: 0,
        exchange: Exchange::IkeAuth,
        initiator: true,
        response: false,
        message_id,
    }
}

fn payloads(len: usize) -> Vec<Payload> {
    vec![
        Payload::Notify(Notify::new(16_400, (0..len).map(|index| index as u8).collect())),
        Payload::Nonce(vec![3; 32]),
    ]
}

/// A receiver, and what became of each datagram.
struct Receiver {
    keys: IkeKeys,
    fragments: Fragments,
}

impl Receiver {
    fn new(cipher: IkeCipher) -> Self {
        Self { keys: keys(cipher, false), fragments: Fragments::new(true) }
    }

    fn take(&mut self, datagram: &[u8]) -> Result<Option<Opened>, &'static str> {
        let message = Message::decode(datagram).map_err(|error| error.name())?;
        let end = std::net::SocketAddr::from(([192, 0, 2, 1], 500));
        let inbound = Inbound { path: Path { local: end, remote: end }, bytes: datagram, message: &message };
        self.fragments.open(&self.keys.opening, &inbound)
    }

    fn kept(&self) -> usize {
        self.fragments.request.as_ref().map_or(0, |partial| partial.len_bytes)
    }
}

fn cut(keys: &mut IkeKeys, id: u32, len: usize, limit: usize) -> Vec<Vec<u8>> {
    keys.sealing.seal(header(id), &payloads(len), Some(limit), &mut Random::new([5; 32])).unwrap()
}

/// Seals one piece with any number and total, authentic all the same.
fn piece(keys: &mut IkeKeys, number: u16, total: u16, first: u8, content: &[u8]) -> Vec<u8> {
    keys.sealing.seal_fragment_for_test(header(1), first, (number, total), content)
}

proptest! {
    /// In whatever order and however often they come: one message, once, and the same; and no datagram is too long.
    #[test]
    fn fragments_make_the_message(
        len in 0usize..6000,
        limit in 200usize..1300,
        order in any::<u64>(),
        cipher in 0usize..2,
    ) {
        let mut sender = keys(CIPHERS[cipher], true);
        let datagrams = cut(&mut sender, 1, len, limit);
        prop_assert!(datagrams.iter().all(|datagram| datagram.len() <= limit));
        let mut receiver = Receiver::new(CIPHERS[cipher]);
        let mut random = Random::new([order as u8; 32]);
        let mut shuffled: Vec<&Vec<u8>> = datagrams.iter().chain(&datagrams).collect();
        for index in (1..shuffled.len()).rev() {
            shuffled.swap(index, random.u32() as usize % (index + 1));
        }
        let mut whole = Vec::new();
        for datagram in shuffled {
            if let Ok(Some(opened)) = receiver.take(datagram) {
                whole.push(decode_payloads(opened.first, &opened.plain).unwrap());
                if whole.len() == 1 && datagrams.len() > 1 {
                    // What comes after the message is complete is the window's business.
                    break;
                }
            }
        }
        prop_assert!(!whole.is_empty() && whole.iter().all(|found| *found == payloads(len)));
    }
}

#[test]
fn a_message_that_fits_stays_whole_and_one_that_does_not_is_cut_evenly() {
    for cipher in CIPHERS {
        let mut sender = keys(cipher, true);
        let whole = cut(&mut sender, 1, 400, 1000);
        assert_eq!(whole.len(), 1);
        assert_eq!(Message::decode(&whole[0]).unwrap().header.first, payload::ENCRYPTED);
        let exact = whole[0].len();
        assert_eq!(cut(&mut sender, 1, 400, exact).len(), 1);
        assert_eq!(cut(&mut sender, 1, 400, exact - 1).len(), 2);
    }
}

#[test]
fn a_path_however_narrow_gets_no_more_pieces_than_a_peer_keeps() {
    for cipher in CIPHERS {
        let datagrams = cut(&mut keys(cipher, true), 1, 8000, 100);
        assert_eq!(datagrams.len(), MAX_FRAGMENTS);
        let mut receiver = Receiver::new(cipher);
        assert!(datagrams.iter().filter_map(|datagram| receiver.take(datagram).unwrap()).count() == 1);
    }
}

#[test]
fn nothing_is_kept_that_is_not_authentic() {
    let mut sender = keys(CIPHERS[0], true);
    let datagrams = cut(&mut sender, 1, 2000, 548);
    let mut receiver = Receiver::new(CIPHERS[0]);
    for datagram in &datagrams {
        for index in 28..datagram.len() {
            let mut changed = datagram.clone();
            changed[index] ^= 1;
            assert!(receiver.take(&changed).is_err());
            assert_eq!(receiver.kept(), 0);
        }
    }
    assert!(keys(CIPHERS[0], true).sealing.seal(header(1), &[], None, &mut Random::new([0; 32])).is_ok());
}

#[test]
fn numbers_that_make_no_sense_are_refused_by_name() {
    let mut sender = keys(CIPHERS[0], true);
    let mut receiver = Receiver::new(CIPHERS[0]);
    for (number, total, why) in [
        (0, 0, "bad_fragment"),
        (0, 3, "bad_fragment"),
        (2, 1, "bad_fragment"),
        (4, 3, "bad_fragment"),
        (65_535, 2, "bad_fragment"),
        (1, 65, "too_many_fragments"),
        (1, 65_535, "too_many_fragments"),
        (65_535, 65_535, "bad_fragment"),
    ] {
        let first = if number == 0 || number == 65_535 { payload::NOTIFY } else { 0 };
        let datagram = piece(&mut sender, number, total, first, &[0; 40]);
        assert_eq!(receiver.take(&datagram).err(), Some(why), "{number} of {total}");
        assert_eq!(receiver.kept(), 0);
    }
    let late_first = piece(&mut sender, 2, 3, payload::NOTIFY, &[0; 40]);
    assert_eq!(receiver.take(&late_first).err(), Some("bad_fragment"));
}

#[test]
fn the_total_is_the_first_ones_unless_the_message_was_cut_anew_into_more() {
    let mut sender = keys(CIPHERS[0], true);
    let mut receiver = Receiver::new(CIPHERS[0]);
    let (coarse, fine) = (cut(&mut sender, 1, 1500, 1000), cut(&mut sender, 1, 1500, 548));
    assert!(coarse.len() < fine.len());
    assert!(receiver.take(&coarse[0]).unwrap().is_none());
    assert_eq!(receiver.take(&coarse[0]).err(), Some("fragment_repeated"));
    assert!(receiver.take(&fine[0]).unwrap().is_none());
    assert_eq!(receiver.take(&coarse[1]).err(), Some("fragment_outdated"));
    let mut whole = None;
    for datagram in &fine[1..] {
        whole = receiver.take(datagram).unwrap();
    }
    let whole = whole.unwrap();
    assert_eq!(decode_payloads(whole.first, &whole.plain).unwrap(), payloads(1500));
    assert_eq!(receiver.kept(), 0);
}

#[test]
fn an_authentic_flood_of_pieces_stays_within_bounds() {
    let mut sender = keys(CIPHERS[0], true);
    let mut receiver = Receiver::new(CIPHERS[0]);
    let mut refused = false;
    for number in 2..=64 {
        let datagram = piece(&mut sender, number, 64, 0, &[0; 9_000]);
        refused |= receiver.take(&datagram).err() == Some("fragments_too_long");
        assert!(receiver.kept() <= MAX_REASSEMBLED_BYTES);
    }
    assert!(refused);
}

#[test]
fn fragments_that_were_not_agreed_are_refused() {
    let mut sender = keys(CIPHERS[0], true);
    let mut receiver = Receiver::new(CIPHERS[0]);
    receiver.fragments.agreed = false;
    let datagrams = cut(&mut sender, 1, 2000, 548);
    assert_eq!(receiver.take(&datagrams[0]).err(), Some("fragment_not_agreed"));
}

#[test]
fn only_the_first_fragment_asks_for_the_answer_again() {
    let mut sender = keys(CIPHERS[0], true);
    let receiver = Receiver::new(CIPHERS[0]);
    let (coarse, fine) = (cut(&mut sender, 1, 1500, 1000), cut(&mut sender, 1, 1500, 548));
    let known = RequestDigest::new(&coarse[0]);
    let asks = |datagram: &[u8]| {
        let message = Message::decode(datagram).unwrap();
        let end = std::net::SocketAddr::from(([192, 0, 2, 1], 500));
        let inbound = Inbound { path: Path { local: end, remote: end }, bytes: datagram, message: &message };
        asks_again(Some(&known), &receiver.keys.opening, &inbound, true)
    };
    assert!(asks(&coarse[0]));
    assert!(coarse[1..].iter().all(|datagram| !asks(datagram)));
    assert!(asks(&fine[0]), "cut anew, but authentic");
    assert!(fine[1..].iter().all(|datagram| !asks(datagram)));
    let mut forged = fine[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(!asks(&forged));
}
