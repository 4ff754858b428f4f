//! tshark reads what our engine said, with the keys that the engine had: every message must decode without a mark, and
//! every encrypted one must open.
//!
//! tshark 4.0 opens all ciphers of our IKE SAs but ChaCha20-Poly1305, and checks the integrity of IKEv2. What it lacks was
//! opened before, by `foreign_hand`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::keys::Keys;
use super::message::{Form, Message};
use super::{Direction, all_at_once};
use crate::command::finish;
use crate::pcap::Datagram;

/// The fields that are asked for, in [`Row`]'s order.
const FIELDS: [&str; 8] = [
    "frame.number",
    "isakmp.exchangetype",
    "isakmp.typepayload",
    "isakmp.nextpayload",
    "isakmp.enc.decrypted",
    "_ws.malformed",
    "_ws.expert.severity",
    "_ws.expert.message",
];
/// From this severity on a mark is an objection: "warning" and "error".
const WARNING: u32 = 0x0060_0000;

/// How many messages of ours were read.
#[derive(Default)]
pub(super) struct Decoded {
    /// In clear.
    pub(super) clear: usize,
    /// Decrypted.
    pub(super) opened: usize,
}

/// What tshark says of a frame.
struct Row {
    /// Of the message, and of the one that its piece completed.
    exchanges: Vec<u8>,
    /// Types of all payloads, nested ones too.
    payloads: Vec<u8>,
    /// Whether the last chain of payloads ended as it should.
    ended: bool,
    /// Whether an Encrypted payload of IKEv2 was opened.
    opened: bool,
    /// What it objects to.
    marks: Option<String>,
}

/// Has the capture read, in which the messages stand in this order.
pub(super) fn decode(capture: &Path, messages: &[(Direction, Datagram)], keys: &Keys) -> Result<Decoded> {
    let Keys { ike_sas, phase_ones } = keys;
    // tshark has one set of keys for an SA. Where IKE_INTERMEDIATE changed them, it reads all once more for each set, and
    // a message must open with one of them.
    let generations = ike_sas.values().map(Vec::len).max().unwrap_or(1);
    let reading = |generation: usize| {
        let table: String = ike_sas
            .values()
            .filter_map(|records| records.get(generation.min(records.len() - 1)))
            .filter(|record| record.is_known_to_tshark())
            .map(|record| record.line())
            .collect();
        read(capture, generation, &table, phase_ones)
    };
    let readings = all_at_once(generations, reading)?;
    let mut decoded = Decoded::default();
    for (index, (_, datagram)) in messages.iter().enumerate().filter(|(_, (from, _))| *from == Direction::Out)
    {
        let Some(message) = Message::of(datagram) else { continue };
        if message.version == 2 && message.form != Form::Clear {
            ensure!(ike_sas.contains_key(&message.spis), "no keys for {message:x?}");
        }
        let number = index + 1;
        let mut objections = Vec::new();
        for rows in &readings {
            let row = rows.get(&number).with_context(|| format!("frame {number} was not read"))?;
            objections.extend(judge(&message, row).err().map(|error| format!("{error:#}")));
        }
        let opened = objections.len() < readings.len();
        ensure!(opened, "frame {number} of {}: {message:x?}: {objections:?}", capture.display());
        match message.form {
            Form::Clear | Form::Piece { last: false } => decoded.clear += 1,
            Form::Sealed | Form::SealedPiece { .. } | Form::Piece { last: true } => decoded.opened += 1,
        }
    }
    Ok(decoded)
}

/// Whether a message of ours was read as what it is.
fn judge(message: &Message, row: &Row) -> Result<()> {
    if let Some(marks) = &row.marks {
        bail!("{marks}");
    }
    let Row { exchanges, payloads, ended, opened, .. } = row;
    ensure!(exchanges.first() == Some(&message.exchange), "exchange {exchanges:?}");
    let bears_nothing = message.first == 0;
    ensure!(payloads.first() == Some(&message.first) || bears_nothing, "payloads {payloads:?}");
    // Of a message in pieces the first names what the last one ends.
    let more_comes = message.form == Form::SealedPiece { last: false };
    ensure!(*ended || more_comes, "a chain of payloads has no end: {payloads:?}");
    match message.form {
        Form::Clear | Form::Piece { last: false } => {}
        // An empty informational message has no payload inside.
        Form::Sealed if message.version == 2 => ensure!(*opened, "not decrypted"),
        Form::Sealed => ensure!(!payloads.is_empty(), "not decrypted"),
        Form::SealedPiece { last } => {
            ensure!(*opened, "not decrypted");
            ensure!(!last || payloads.len() > 1, "not put together");
        }
        Form::Piece { last: true } => ensure!(payloads.len() > 1, "not put together"),
    }
    Ok(())
}

/// One run of tshark, with a number of its own, and with these lines as its tables of keys.
fn read(capture: &Path, number: usize, ikev2: &str, ikev1: &str) -> Result<BTreeMap<usize, Row>> {
    let home = capture.with_extension(format!("wireshark-{number}"));
    fs::create_dir_all(&home)?;
    fs::write(home.join("ikev1_decryption_table"), ikev1)?;
    fs::write(home.join("ikev2_decryption_table"), ikev2)?;
    let mut tshark = Command::new("tshark");
    tshark.env("WIRESHARK_CONFIG_DIR", &home).arg("-n").arg("-r").arg(capture).args(["-T", "fields"]);
    tshark.args(FIELDS.iter().flat_map(|field| ["-e", *field]));
    let said = finish(&mut tshark)?;
    said.lines().map(|line| row(line).with_context(|| format!("tshark said {line:?}"))).collect()
}

fn row(line: &str) -> Result<(usize, Row)> {
    let cells: Vec<&str> = line.split('\t').collect();
    let [number, exchanges, payloads, nexts, decrypted, malformed, severities, texts] = cells.as_slice()
    else {
        bail!("{} fields", cells.len());
    };
    let severe = numbers::<u32>(severities)?.into_iter().any(|severity| severity >= WARNING);
    let marks = (severe || !malformed.is_empty()).then(|| format!("{malformed} {texts}"));
    let row = Row {
        exchanges: numbers(exchanges)?,
        payloads: numbers(payloads)?,
        ended: numbers::<u8>(nexts)?.last() == Some(&0),
        opened: !decrypted.is_empty(),
        marks,
    };
    Ok((number.parse()?, row))
}

fn numbers<T: std::str::FromStr<Err = std::num::ParseIntError>>(cell: &str) -> Result<Vec<T>> {
    cell.split(',').filter(|text| !text.is_empty()).map(|text| Ok(text.parse()?)).collect()
}
