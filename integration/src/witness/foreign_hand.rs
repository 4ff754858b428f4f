//! What tshark 4.0 cannot decrypt: messages of IKE SAs with ChaCha20-Poly1305. Python's `cryptography` opens them with the
//! engine's keys, and tshark gets them in clear.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Direction;
use super::keys::Keys;
use super::message::{Form, HEADER, Message};
use crate::command::finish;
use crate::pcap::Datagram;

const SCRIPT: &str = include_str!("chacha20_poly1305.py");
/// Generic header of a payload (RFC 7296 section 3.2).
const PAYLOAD_HEADER: usize = 4;
/// Number and total of a fragment (RFC 7383 section 2.5).
const PLACE: usize = 4;
const IV: usize = 8;
/// The flag of a header that says that the initiator of the IKE SA sent it.
const INITIATOR: u8 = 8;

/// A message, or a piece of one, that was opened.
struct Piece {
    /// Which of all messages it is.
    index: usize,
    /// Its number, and how many there are.
    place: (u16, u16),
    content: Vec<u8>,
}

/// The messages, those of ours that tshark cannot decrypt in clear and in one piece; and how many were opened for that.
pub(super) fn opened(
    messages: &[(Direction, Datagram)],
    keys: &Keys,
    capture: &Path,
) -> Result<(Vec<(Direction, Datagram)>, usize)> {
    let mut lines = String::new();
    let mut sealed = Vec::new();
    for (index, (_, datagram)) in messages.iter().enumerate().filter(|(_, (from, _))| *from == Direction::Out)
    {
        if let Some(line) = line(datagram, keys)? {
            lines += &line;
            sealed.push(index);
        }
    }
    // What stands in a message's place, if anything does.
    let mut clear: BTreeMap<usize, Option<Datagram>> = BTreeMap::new();
    for pieces in wholes(messages, &sealed, &plains(&lines, sealed.len(), capture)?)?.values() {
        let first = pieces.iter().find(|piece| piece.place.0 == 1).context("no first piece")?;
        let total = first.place.1;
        for number in 1..=total {
            let there = pieces.iter().filter(|piece| piece.place == (number, total)).count();
            ensure!(there == 1, "piece {number} of {total} is there {there} times");
        }
        ensure!(pieces.len() == usize::from(total), "{} pieces of {total}", pieces.len());
        let mut in_order: Vec<&Piece> = pieces.iter().collect();
        in_order.sort_by_key(|piece| piece.place);
        let content: Vec<u8> = in_order.iter().flat_map(|piece| piece.content.clone()).collect();
        clear.extend(pieces.iter().map(|piece| (piece.index, None)));
        clear.insert(first.index, Some(in_clear(&messages[first.index].1, &content)?));
    }
    let shown = messages.iter().enumerate().filter_map(|(index, (direction, datagram))| {
        let datagram = clear.remove(&index).unwrap_or_else(|| Some(datagram.clone()));
        Some((*direction, datagram?))
    });
    Ok((shown.collect(), sealed.len()))
}

/// What the script is told of a message; `None` of one that tshark reads.
fn line(datagram: &Datagram, keys: &Keys) -> Result<Option<String>> {
    let Some(message) = Message::of(datagram).filter(|message| message.form != Form::Clear) else {
        return Ok(None);
    };
    let records = keys.ike_sas.get(&message.spis).into_iter().flatten();
    let unread: Vec<_> = records.filter(|record| !record.is_known_to_tshark()).collect();
    if unread.is_empty() {
        return Ok(None);
    }
    let bytes = Message::bytes(datagram).context("no message")?;
    let (front, body) = bytes.split_at(HEADER + PAYLOAD_HEADER + if is_piece(&message) { PLACE } else { 0 });
    let (iv, body) = body.split_at(IV);
    let of_initiator = front[19] & INITIATOR != 0;
    let keys: Vec<&str> = unread.iter().map(|record| record.sk_e(of_initiator)).collect();
    let [iv, associated, body] = [iv, front, body].map(hex);
    Ok(Some(format!("{} {iv} {associated} {body}\n", keys.join(","))))
}

fn is_piece(message: &Message) -> bool {
    matches!(message.form, Form::SealedPiece { .. })
}

/// What the script has opened, in hexadecimal, padding included.
fn plains(lines: &str, count: usize, capture: &Path) -> Result<Vec<String>> {
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let file = capture.with_extension("chacha20");
    fs::write(&file, lines)?;
    // Debian's python, which has Debian's cryptography.
    let said = finish(Command::new("/usr/bin/python3").args(["-c", SCRIPT]).arg(&file))?;
    let plains: Vec<String> = said.lines().map(str::to_owned).collect();
    ensure!(plains.len() == count, "{} of {count} messages were opened", plains.len());
    Ok(plains)
}

/// The pieces that were opened, by the message that they are of: its SPIs, flags and id.
fn wholes(
    messages: &[(Direction, Datagram)],
    sealed: &[usize],
    plains: &[String],
) -> Result<BTreeMap<Vec<u8>, Vec<Piece>>> {
    let mut wholes: BTreeMap<Vec<u8>, Vec<Piece>> = BTreeMap::new();
    for (&index, plain) in sealed.iter().zip(plains) {
        let (_, datagram) = &messages[index];
        let bytes = Message::bytes(datagram).context("no message")?;
        let piece = Message::of(datagram).is_some_and(|message| is_piece(&message));
        let at = HEADER + PAYLOAD_HEADER;
        let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let place = if piece { (half(at), half(at + 2)) } else { (1, 1) };
        let content = content(plain).with_context(|| format!("opened, message {index} is {plain}"))?;
        let whole = [&bytes[..16], &bytes[19..24]].concat();
        wholes.entry(whole).or_default().push(Piece { index, place, content });
    }
    Ok(wholes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is before the padding.
fn content(plain: &str) -> Result<Vec<u8>> {
    let mut plain = (0..plain.len())
        .step_by(2)
        .map(|at| Ok(u8::from_str_radix(plain.get(at..at + 2).context("half an octet")?, 16)?))
        .collect::<Result<Vec<u8>>>()?;
    let padding = usize::from(plain.pop().context("no length of the padding")?);
    plain.truncate(plain.len().checked_sub(padding).context("more padding than content")?);
    Ok(plain)
}

/// The message with these payloads in place of its Encrypted payload, which names the type of the first.
fn in_clear(datagram: &Datagram, content: &[u8]) -> Result<Datagram> {
    let bytes = Message::bytes(datagram).context("no message")?;
    let marker = &datagram.payload[..datagram.payload.len() - bytes.len()];
    let mut header = bytes[..HEADER].to_vec();
    header[16] = bytes[HEADER];
    header[24..].copy_from_slice(&u32::try_from(HEADER + content.len())?.to_be_bytes());
    Ok(Datagram { payload: [marker, header.as_slice(), content].concat(), ..datagram.clone() })
}
