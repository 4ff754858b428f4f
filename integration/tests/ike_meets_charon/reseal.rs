//! Who holds the keys of an IKE SA can change what is inside its messages: they are opened, changed and sealed again
//! (RFC 7296 section 3.14, RFC 5282) by another library than the engine's. AES-256-GCM alone.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ike::key_log::KeyRecord;
use integration::wait;

use crate::datagram::{self, CREATE_CHILD_SA, HEADER, Payload};
use crate::ours::{Ours, PATIENCE};

const ENCRYPTED: u8 = 46;
const PAYLOAD_HEADER: usize = 4;
/// Number and total of a piece.
const PLACE: usize = 4;
const IV: usize = 8;
const ICV: usize = 16;
const SALT: usize = 4;
/// Flag of what the initiator of the IKE SA sends.
const FROM_INITIATOR: u8 = 0x08;

/// The payloads inside a message of an IKE SA whose keys are among these.
pub(crate) fn open(keys: &[KeyRecord], datagram: &[u8]) -> Result<Vec<Payload>> {
    let (message, key, salt) = parts(keys, datagram)?;
    ensure!(message.get(16) == Some(&ENCRYPTED), "it is not encrypted, or a fragment");
    let (head, body) = message.split_at_checked(HEADER + PAYLOAD_HEADER).context("short")?;
    let (iv, sealed) = body.split_at_checked(IV).context("no IV")?;
    let mut plain = sealed.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(&[salt.as_slice(), iv].concat())?;
    let plain = key.open_in_place(nonce, Aad::from(head), &mut plain).context("another key")?;
    let (padding, plain) = plain.split_last().context("nothing inside")?;
    let plain = plain.get(..plain.len() - usize::from(*padding)).context("padding")?;
    datagram::chain(head[HEADER], plain).context("cut off inside")
}

/// Changes the payloads inside a message.
pub(crate) fn edit(
    keys: &[KeyRecord],
    datagram: &mut Vec<u8>,
    edit: impl FnOnce(&mut Vec<Payload>),
) -> Result<()> {
    let mut payloads = open(keys, datagram)?;
    edit(&mut payloads);
    fill(keys, datagram, &payloads)
}

/// Puts these payloads inside a message, in place of what is there.
pub(crate) fn fill(keys: &[KeyRecord], datagram: &mut Vec<u8>, payloads: &[Payload]) -> Result<()> {
    let (message, key, salt) = parts(keys, datagram)?;
    let (first, mut plain) = datagram::encode(payloads);
    plain.push(0);
    let length = PAYLOAD_HEADER + IV + plain.len() + ICV;
    let (header, rest) = message.split_at_checked(HEADER).context("short")?;
    let iv = rest.get(PAYLOAD_HEADER..PAYLOAD_HEADER + IV).context("no IV")?;
    let mut head = header.to_vec();
    head[24..].copy_from_slice(&u32::try_from(HEADER + length)?.to_be_bytes());
    head.extend([first, 0]);
    head.extend(u16::try_from(length)?.to_be_bytes());
    let nonce = Nonce::try_assume_unique_for_key(&[salt.as_slice(), iv].concat())?;
    key.seal_in_place_append_tag(nonce, Aad::from(&head), &mut plain)?;
    let marker = &datagram[..datagram.len() - message.len()];
    *datagram = [marker, &head, iv, &plain].concat();
    Ok(())
}

/// A piece of a message (RFC 7383 section 2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Type of the message's first payload; 0 in all pieces but the first.
    pub(crate) first: u8,
    pub(crate) number: u16,
    pub(crate) total: u16,
    pub(crate) content: Vec<u8>,
}

/// A piece of a message of an IKE SA whose keys are among these.
pub(crate) fn open_piece(keys: &[KeyRecord], datagram: &[u8]) -> Result<Piece> {
    let (message, key, salt) = parts(keys, datagram)?;
    let (number, total) = datagram::place(datagram).context("no piece")?;
    let (head, body) = message.split_at_checked(HEADER + PAYLOAD_HEADER + PLACE).context("short")?;
    let (iv, sealed) = body.split_at_checked(IV).context("no IV")?;
    let mut plain = sealed.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(&[salt.as_slice(), iv].concat())?;
    let plain = key.open_in_place(nonce, Aad::from(head), &mut plain).context("another key")?;
    let (padding, plain) = plain.split_last().context("nothing inside")?;
    let content = plain.get(..plain.len() - usize::from(*padding)).context("padding")?.to_vec();
    Ok(Piece { first: head[HEADER], number, total, content })
}

/// A piece of the same message as this one, authentic whatever it says.
pub(crate) fn seal_piece(keys: &[KeyRecord], of: &[u8], piece: &Piece) -> Result<Vec<u8>> {
    let (message, key, salt) = parts(keys, of)?;
    let mut plain = [piece.content.as_slice(), &[0]].concat();
    let length = PAYLOAD_HEADER + PLACE + IV + plain.len() + ICV;
    let mut head = message.get(..HEADER).context("short")?.to_vec();
    head[24..].copy_from_slice(&u32::try_from(HEADER + length)?.to_be_bytes());
    head.extend([piece.first, 0]);
    head.extend(u16::try_from(length)?.to_be_bytes());
    head.extend(piece.number.to_be_bytes());
    head.extend(piece.total.to_be_bytes());
    let at = HEADER + PAYLOAD_HEADER + PLACE;
    let iv = message.get(at..at + IV).context("no IV")?;
    let nonce = Nonce::try_assume_unique_for_key(&[salt.as_slice(), iv].concat())?;
    key.seal_in_place_append_tag(nonce, Aad::from(&head), &mut plain)?;
    let marker = &of[..of.len() - message.len()];
    Ok([marker, &head, iv, &plain].concat())
}

/// What charon says next in CREATE_CHILD_SA, because of `begin`, comes as `change` makes it. Of what went before, answers may
/// still be under way: they pass.
pub(crate) fn on_the_way(
    engine: &Ours,
    begin: impl FnOnce() -> Result<()>,
    mut change: impl FnMut(&mut Vec<Payload>),
) -> Result<()> {
    engine.state().inward.hold();
    begin()?;
    engine.until("a message of charon's", |state| {
        let is_late = |bytes: &[u8]| datagram::exchange(bytes) != Some(CREATE_CHILD_SA);
        loop {
            let late = state.inward.held().position(is_late);
            let Some(late) = late else { break };
            state.inward.release_one(Instant::now(), late);
        }
        ensure!(state.inward.holding() > 0, "none");
        Ok(())
    })?;
    let state = &mut *engine.state();
    let mut outcome = Ok(());
    state.inward.change_held(|bytes| {
        if let Err(error) = edit(&state.keys, bytes, &mut change) {
            outcome = Err(error);
        }
    });
    state.inward.release(Instant::now());
    outcome
}

/// Waits until we have said this notification alone.
pub(crate) fn answered(engine: &Ours, kind: u16) -> Result<()> {
    wait::until("our answer", PATIENCE, || {
        let said = said(engine);
        ensure!(said.iter().any(|said| said == &[kind]), "{said:?}");
        Ok::<(), anyhow::Error>(())
    })
}

/// The types of the notifications in each protected message of ours, oldest first.
pub(crate) fn said(engine: &Ours) -> Vec<Vec<u16>> {
    let state = engine.state();
    let opened = state.out.known().iter().filter_map(|bytes| open(&state.keys, bytes).ok());
    opened.map(|payloads| payloads.iter().filter_map(Payload::notified).collect()).collect()
}

/// The message without the non-ESP marker, its sender's key, and the salt.
fn parts<'a>(keys: &[KeyRecord], datagram: &'a [u8]) -> Result<(&'a [u8], LessSafeKey, Vec<u8>)> {
    let message = datagram.strip_prefix(&[0; 4]).unwrap_or(datagram);
    let spi = |at| message.get(at..at + 8).and_then(|spi| spi.try_into().ok()).map(u64::from_be_bytes);
    let known = keys.iter().rev().find(|keys| (Some(keys.spi_i), Some(keys.spi_r)) == (spi(0), spi(8)));
    let [initiator, responder] = &known.context("no keys of this SA")?.sk_e;
    let from_initiator = message.get(19).is_some_and(|flags| flags & FROM_INITIATOR != 0);
    let secret = if from_initiator { initiator } else { responder };
    let (key, salt) = secret.split_at(secret.len() - SALT);
    Ok((message, LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?), salt.to_vec()))
}
