//! What protects today's traffic from tomorrow's quantum computers, as far as charon 5.9 can judge it: PPKs, and that a
//! peer without ML-KEM is taken or refused as we were told. The messages that grow by it go in fragments.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use ike::sim::setup;
use ike::{Cause, Command, Connection, Event, IkeEncryption, KeyEncapsulation, Limits, Ppk, PreSharedKey};
use integration::interop::Role;

use crate::cable::{Cable, connection, limits, scenario};
use crate::charon::Settings;
use crate::ours::{CHILD, CONNECTION, Ours};
use crate::rekeys::{agree, pairs};
use crate::relay::Direction;

const PPK: &str = "0123456789abcdef0123456789abcdef";
/// charon's copy of it.
const SECRET: &str = "ppk-grove { id = grove
                        secret = \"0123456789abcdef0123456789abcdef\" }";
/// charon takes a PPK of this name, and does without.
const THEIRS: &str = "ppk_id = grove
                      ppk_required = no";
/// charon takes a PPK of this name only.
const THEIRS_REQUIRED: &str = "ppk_id = grove
                               ppk_required = yes";
const FRAGMENT_PAYLOAD: u8 = 53;

fn with_ppk(id: &str, required: bool) -> Connection {
    let key = PreSharedKey(PPK.as_bytes().to_vec().into());
    Connection { ppk: Some(Ppk { id: id.as_bytes().to_vec(), key, required }), ..connection() }
}

fn offering_ml_kem(required: bool) -> Connection {
    let mut connection = connection();
    for proposal in &mut connection.proposals {
        proposal.additional_key_exchanges = vec![vec![KeyEncapsulation::MlKem768]];
        proposal.additional_required = required;
    }
    connection
}

fn ends(cable: &Cable, ours: Ours) -> Result<()> {
    drop(ours);
    cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
}

#[test]
fn a_ppk_is_used_by_both() -> Result<()> {
    let cable = Cable::new()?;
    for role in Role::BOTH {
        scenario(33, "PPK (RFC 8784), required by both", role).judge(|| {
            let settings = Settings { connection: THEIRS_REQUIRED, secrets: SECRET, ..Settings::default() };
            let log = cable.charon.log()?.len();
            let ours = cable.up(role, with_ppk("grove", true), &settings)?;
            cable.charon.logs_after(log, "using PPK for PPK_ID 'grove'")?;
            ensure!(cable.charon.swanctl("--list-sas")?.contains("INSTALLED"), "no child");
            // New keys come of those that it was mixed into: both ends have the same, or nothing opens any more.
            ours.command(Command::RekeyIke(CONNECTION));
            ours.event("the IKE SA's rekey", |event| {
                matches!(event, Event::IkeRekeyed { .. }).then_some(())
            })?;
            ours.command(Command::RekeyChild(CHILD));
            ours.event("the child's rekey", |event| {
                matches!(event, Event::ChildRekeyed { .. }).then_some(())
            })?;
            ours.settles(1)?;
            ends(&cable, ours)
        })?;
    }
    Ok(())
}

#[test]
fn a_ppk_that_one_end_lacks_is_done_without_or_refused() -> Result<()> {
    let cable = Cable::new()?;
    for role in Role::BOTH {
        scenario(33, "PPK optional here, unknown there", role).judge(|| {
            let ours = cable.up(role, with_ppk("grove", false), &Settings::default())?;
            ends(&cable, ours)
        })?;
        scenario(33, "PPK required here, unknown there", role).judge(|| {
            let ours = cable.begin(role, with_ppk("grove", true), &Settings::default())?;
            let cause = ours.ike_down()?;
            let named = cause.to_string().contains("PPK");
            ensure!(named, "{cause}");
            ensure!(ours.state().pairs.is_empty(), "a child is up");
            ends(&cable, ours)
        })?;
        scenario(33, "PPK unknown here, required there", role).judge(|| {
            let settings = Settings { connection: THEIRS_REQUIRED, secrets: SECRET, ..Settings::default() };
            let log = cable.charon.log()?.len();
            let ours = cable.begin(role, connection(), &settings)?;
            cable.charon.logs_after(log, "PPK required but")?;
            // As initiator charon goes without a word.
            if role == Role::Initiator {
                let cause = ours.ike_down()?;
                ensure!(matches!(cause, Cause::AuthenticationFailed { .. }), "{cause}");
            }
            ensure!(!cable.charon.try_swanctl("--list-sas")?.contains("INSTALLED"), "a child is up");
            ensure!(ours.state().pairs.is_empty(), "a child is up");
            ends(&cable, ours)
        })?;
    }
    // As responder charon wants the very name that it was told, whatever the initiator could do without.
    scenario(33, "PPK of another name here, optional there", Role::Responder).judge(|| {
        let settings = Settings { connection: THEIRS, secrets: SECRET, ..Settings::default() };
        let ours = cable.up(Role::Responder, with_ppk("thicket", false), &settings)?;
        ends(&cable, ours)
    })
}

#[test]
fn a_peer_without_ml_kem_is_taken_or_refused() -> Result<()> {
    let cable = Cable::new()?;
    for role in Role::BOTH {
        scenario(33, "ML-KEM offered to a peer without it", role).judge(|| {
            let ours = cable.up(role, offering_ml_kem(false), &Settings::default())?;
            ensure!(ours.settles(1)?.suite.ends_with("group 31"), "not the group alone");
            ends(&cable, ours)
        })?;
    }
    scenario(33, "ML-KEM required of a peer without it", Role::Initiator).judge(|| {
        let ours = cable.begin(Role::Initiator, offering_ml_kem(true), &Settings::default())?;
        let cause = ours.ike_down()?;
        ensure!(matches!(cause, Cause::PostQuantumRequired { .. }), "{cause}");
        ends(&cable, ours)
    })?;
    scenario(33, "ML-KEM required of a peer without it", Role::Responder).judge(|| {
        let log = cable.charon.log()?.len();
        let ours = cable.begin(Role::Responder, offering_ml_kem(true), &Settings::default())?;
        cable.charon.logs_after(log, "received NO_PROPOSAL_CHOSEN")?;
        let refused = ours.state().dropped.contains(&"post_quantum_required");
        ensure!(refused, "{:?}", ours.state().dropped);
        ends(&cable, ours)
    })
}

#[test]
fn messages_go_in_fragments_both_ways() -> Result<()> {
    for (what, cipher, ike) in [
        (
            "RFC 7383 on a path of 200 octets, AES-128-GCM",
            IkeEncryption::Aes128Gcm16,
            "aes128gcm16-prfsha256-x25519",
        ),
        ("RFC 7383 on a path of 200 octets", IkeEncryption::Aes256Gcm16, "aes256gcm16-prfsha256-x25519"),
        (
            "RFC 7383 on a path of 200 octets, ChaCha20-Poly1305",
            IkeEncryption::ChaCha20Poly1305,
            "chacha20poly1305-prfsha256-x25519",
        ),
    ] {
        let cable = Cable::with("fragment_size = 200")?;
        for role in Role::BOTH {
            scenario(29, what, role).judge(|| {
                let settings = Settings { ike, connection: "fragmentation = yes", ..Settings::default() };
                cable.charon.load(&settings)?;
                let mut connection = setup::sealed_by(cipher, connection());
                connection.children.iter_mut().for_each(|child| child.start = role == Role::Initiator);
                let narrow = Limits { fragment_ipv4_bytes: 200, ..limits() };
                let ours = Ours::start(&cable.ours, narrow, connection)?;
                if role == Role::Responder {
                    cable.charon.try_swanctl("--initiate --child net --timeout 10")?;
                }
                agree(&cable, &ours, &BTreeSet::new())?;
                both_ways(&ours, 0)?;
                // Those of the IKE SA that takes its place have other keys and numbers.
                let before = ours.state().wire.len();
                match role {
                    Role::Initiator => ours.command(Command::RekeyIke(CONNECTION)),
                    Role::Responder => drop(cable.charon.swanctl("--rekey --ike far")?),
                }
                ours.event("the IKE SA's rekey", |event| {
                    matches!(event, Event::IkeRekeyed { .. }).then_some(())
                })?;
                let old = pairs(&ours);
                ours.command(Command::RekeyChild(CHILD));
                agree(&cable, &ours, &old)?;
                both_ways(&ours, before)?;
                ends(&cable, ours)
            })?;
        }
    }
    Ok(())
}

/// Of what was on the wire since `before`, some messages of either end were in pieces.
fn both_ways(ours: &Ours, before: usize) -> Result<()> {
    let wire = ours.state().wire.clone();
    for direction in [Direction::In, Direction::Out] {
        let since = wire.iter().skip(before).filter(|datagram| datagram.direction == direction);
        // Behind the non-ESP marker.
        let count = since.filter(|datagram| datagram.bytes.get(20) == Some(&FRAGMENT_PAYLOAD)).count();
        ensure!(count > 1, "{count} fragments {direction:?}");
    }
    Ok(())
}
