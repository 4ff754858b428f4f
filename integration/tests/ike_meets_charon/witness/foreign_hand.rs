//! What tshark 4.0 cannot decrypt: messages of IKE SAs with ChaCha20-Poly1305. Python's `cryptography` opens them with the
//! engine's keys, and tshark gets them in clear.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ike::IkeEncryption;
use ike::key_log::Made;
use integration::command::finish;
use integration::pcap::Datagram;

use super::message::{Form, HEADER, Message};
use super::tshark;
use crate::relay::Direction;

const SCRIPT: &str = include_str!("chacha20_poly1305.py");
/// Generic header of a payload (RFC 7296 section 3.2).
const PAYLOAD_HEADER: usize = 4;
const IV: usize = 8;
/// The flag of a header that says that the initiator of the IKE SA sent it.
const INITIATOR: u8 = 8;

/// The messages, those of ours that tshark cannot decrypt in clear; and how many those are.
pub(super) fn opened(
    messages: &[&(Direction, Datagram)],
    keys: &[&Made],
    dir: &Path,
) -> Result<(Vec<(Direction, Datagram)>, usize)> {
    let mut messages: Vec<(Direction, Datagram)> =
        messages.iter().map(|message| (*message).clone()).collect();
    let mut lines = String::new();
    let mut sealed = Vec::new();
    for (index, (_, datagram)) in messages.iter().enumerate().filter(|(_, (from, _))| *from == Direction::Out)
    {
        let Some(message) = Message::of(datagram).filter(|message| message.form != Form::Clear) else {
            continue;
        };
        let records = keys.iter().flat_map(|made| &made.ike_sas);
        let records = records.filter(|record| (record.spi_i, record.spi_r) == message.spis);
        let unread: Vec<_> = records.filter(|record| tshark::cipher(record.encryption()).is_none()).collect();
        let Some(record) = unread.first() else { continue };
        let name = record.encryption();
        ensure!(name == IkeEncryption::ChaCha20Poly1305, "nobody here opens {name:?}");
        ensure!(message.form == Form::Sealed, "nobody here puts pieces of {name:?} together: {message:x?}");
        let bytes = Message::bytes(datagram).context("no message")?;
        let (front, body) = bytes.split_at(HEADER + PAYLOAD_HEADER);
        let (iv, body) = body.split_at(IV);
        let of_initiator = usize::from(front[19] & INITIATOR == 0);
        let keys: Vec<String> = unread.iter().map(|record| tshark::hex(&record.sk_e[of_initiator])).collect();
        let [iv, associated, body] = [iv, front, body].map(tshark::hex);
        lines += &format!("{} {iv} {associated} {body}\n", keys.join(","));
        sealed.push(index);
    }
    if sealed.is_empty() {
        return Ok((messages, 0));
    }
    let file = dir.join("engine.chacha20");
    fs::write(&file, lines)?;
    // Debian's python, which has Debian's cryptography.
    let said = finish(Command::new("/usr/bin/python3").args(["-c", SCRIPT]).arg(&file))?;
    let plains: Vec<&str> = said.lines().collect();
    ensure!(plains.len() == sealed.len(), "{} of {} messages were opened", plains.len(), sealed.len());
    for (index, plain) in sealed.iter().zip(&plains) {
        let (_, datagram) = messages.get_mut(*index).context("no such message")?;
        *datagram =
            in_clear(datagram, plain).with_context(|| format!("opened, message {index} is {plain}"))?;
    }
    Ok((messages, sealed.len()))
}

/// The message with the payloads of its Encrypted payload in that one's place.
fn in_clear(datagram: &Datagram, plain: &str) -> Result<Datagram> {
    let mut plain = (0..plain.len())
        .step_by(2)
        .map(|at| Ok(u8::from_str_radix(plain.get(at..at + 2).context("half an octet")?, 16)?))
        .collect::<Result<Vec<u8>>>()?;
    let padding = usize::from(plain.pop().context("no length of the padding")?);
    plain.truncate(plain.len().checked_sub(padding).context("more padding than content")?);
    let bytes = Message::bytes(datagram).context("no message")?;
    let marker = &datagram.payload[..datagram.payload.len() - bytes.len()];
    let mut header = bytes[..HEADER].to_vec();
    header[16] = bytes[HEADER];
    header[24..].copy_from_slice(&u32::try_from(HEADER + plain.len())?.to_be_bytes());
    Ok(Datagram { payload: [marker, header.as_slice(), plain.as_slice()].concat(), ..datagram.clone() })
}
