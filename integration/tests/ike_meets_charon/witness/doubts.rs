//! A witness that takes everything for true is none: each kind of lie is seen, after a scenario that was true.

use anyhow::{Context, Result, ensure};
use ike::sim::setup;
use ike::{Command, Connection, IkeEncryption, Ikev1, Limits, Version};

use integration::witness::message::{Form, HEADER, Message};
use integration::witness::{Direction, flip};

use super::{SEEN, Seen, Testimony};
use crate::cable::{Cable, connection, limits};
use crate::charon::Settings;
use crate::ours::{CONNECTION, Ours};

type Lie = (&'static str, fn(&mut Testimony));

/// What is told of a negotiation, otherwise than it was, is denied by these words.
fn is_denied(connection: Connection, settings: &Settings, lies: &[Lie]) -> Result<()> {
    is_denied_within(limits(), connection, settings, lies)
}

fn is_denied_within(limits: Limits, connection: Connection, settings: &Settings, lies: &[Lie]) -> Result<()> {
    let cable = Cable::new()?;
    cable.charon.load(settings)?;
    let engine = Ours::start(&cable.ours, limits, connection)?;
    engine.settles(1)?;
    engine.command(Command::Terminate(CONNECTION));
    cable.charon.logs("received DELETE for IKE_SA")?;
    drop(engine);
    let truth = SEEN.with_borrow(Seen::clone);
    truth.judge(&cable.dir).context("the truth")?;
    for (words, lie) in lies {
        let mut told = truth.clone();
        lie(told.engines.first_mut().context("no engine")?);
        let denied = told.judge(&cable.dir).err().with_context(|| format!("{words}: believed"))?;
        ensure!(format!("{denied:#}").contains(words), "{words}: {denied:#}");
    }
    Ok(())
}

/// Withholds the first piece of ours with this number.
fn lose(told: &mut Testimony, number: u8) {
    let lost = told.messages.iter().position(|(direction, datagram)| {
        let piece = Message::of(datagram).filter(|message| matches!(message.form, Form::SealedPiece { .. }));
        // The number's lower octet, behind the payload's generic header.
        let place = Message::bytes(datagram).and_then(|bytes| bytes.get(HEADER + 5).copied());
        *direction == Direction::Out && piece.is_some() && place == Some(number)
    });
    if let Some(lost) = lost {
        told.messages.remove(lost);
    }
}

#[test]
fn in_version_2() -> Result<()> {
    is_denied(
        connection(),
        &Settings::default(),
        &[
            ("Integrity Checksum Data is incorrect", |told| {
                flip(&mut told.messages, Form::Sealed, |len| len - 1)
            }),
            ("Integrity Checksum Data is incorrect", |told| told.keys.ike_sas[0].sk_e[0][0] ^= 1),
            // The length of the SA payload.
            ("tshark and our messages", |told| flip(&mut told.messages, Form::Clear, |_| 28 + 3)),
            ("no keys for", |told| told.keys.ike_sas.clear()),
            ("charon has other keys of", |told| told.keys.ike_sas[0].sk_p[1][0] ^= 1),
            ("charon has other keys of", |told| told.keys.ike_sas[0].sk_d[0] ^= 1),
            ("charon has other keys of the child", |told| told.pairs[0].keys_in.key[0] ^= 1),
            ("charon has other keys of the child", |told| told.pairs[0].keys_out.salt[0] ^= 1),
            ("came up without keys", |told| told.established.push((1, 2))),
        ],
    )
}

/// Nothing that Python is given instead of tshark is believed more easily.
#[test]
fn in_pieces_that_tshark_cannot_open() -> Result<()> {
    let settings = Settings {
        ike: "chacha20poly1305-prfsha256-x25519",
        connection: "fragmentation = yes",
        ..Settings::default()
    };
    is_denied_within(
        Limits { fragment_ipv4_bytes: 200, ..limits() },
        setup::sealed_by(IkeEncryption::ChaCha20Poly1305, connection()),
        &settings,
        &[
            ("none of the keys opens", |told| flip(&mut told.messages, Form::Sealed, |len| len - 1)),
            ("none of the keys opens", |told| {
                flip(&mut told.messages, Form::SealedPiece { last: false }, |len| len - 1)
            }),
            ("none of the keys opens", |told| told.keys.ike_sas[0].sk_e[0][0] ^= 1),
            ("piece 2 of", |told| lose(told, 2)),
            ("no first piece", |told| lose(told, 1)),
            ("no keys for", |told| told.keys.ike_sas.clear()),
        ],
    )
}

#[test]
fn in_version_1() -> Result<()> {
    let (ike, esp) = setup::classic();
    let mut ours =
        Connection { version: Version::V1(Ikev1::default()), proposals: vec![ike], ..connection() };
    for child in &mut ours.children {
        child.proposals = vec![esp.clone()];
    }
    let theirs =
        Settings { version: 1, ike: "aes128-sha1-modp1024", esp: "aes128-md5", ..Settings::default() };
    is_denied(
        ours,
        &theirs,
        &[
            ("tshark and our messages", |told| flip(&mut told.messages, Form::Sealed, |_| 28)),
            ("tshark and our messages", |told| told.keys.phase_ones[0].key[0] ^= 1),
            ("tshark and our messages", |told| told.keys.phase_ones.clear()),
            ("charon has other keys of", |told| told.keys.phase_ones[0].skeyid_a[0] ^= 1),
            ("charon has other keys of the child", |told| told.pairs[0].keys_out.integrity[0] ^= 1),
        ],
    )
}
