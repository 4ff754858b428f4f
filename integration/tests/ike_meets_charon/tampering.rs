//! Somebody on the way changes IKE_SA_INIT, which nothing protects: AUTH covers it (RFC 7296 section 2.15), so the two ends
//! do not come up, whatever was changed and in whichever direction.

use std::time::Duration;

use anyhow::{Result, ensure};
use ike::{Cause, Connection, IkeEncryption, KeyEncapsulation, Limits};
use integration::interop::Role;

use crate::cable::{Cable, connection, limits, scenario};
use crate::charon::Settings;
use crate::datagram::{self, KEY_EXCHANGE, NONCE, Payload, SA};
use crate::ours::{CHILD, Ours};
use crate::relay::{Action, Direction};

const FRAGMENTATION_SUPPORTED: u16 = 16430;
const SIGNATURE_HASH_ALGORITHMS: u16 = 16431;
const INTERMEDIATE_SUPPORTED: u16 = 16438;

const PROPOSAL: &str = "aes256gcm16-aes128gcm16-prfsha256-x25519";
/// One more try, and late: it goes by unchanged, and must not be the first that is answered. Nor is a cookie, which charon asks
/// for when some that were changed are half open.
const IMPATIENT: &str = "retransmit_timeout = 1.5\nretransmit_tries = 1\ndos_protection = no";

type Edit = fn(&mut Vec<Payload>);

/// Changes after which both ends have the same keys, and AUTH alone tells.
const SIGNED: &[(&str, Edit)] = &[
    ("RFC 7383 stripped from the peer's message", |payloads| strip(payloads, FRAGMENTATION_SUPPORTED)),
    ("a notification put into the peer's message", |payloads| {
        payloads.push(Payload::notify(0, &[], 40_000, b"not the peer's"));
    }),
];

/// Of the initiator's message alone.
const OFFER: &[(&str, Edit)] = &[
    ("the hashes of RFC 7427 taken from the offer", |payloads| strip(payloads, SIGNATURE_HASH_ALGORITHMS)),
    ("the order of the offered ciphers reversed", |payloads| swap_ciphers(payloads)),
    ("the best of the offered ciphers taken out", |payloads| drop_first_cipher(payloads)),
];

/// Changes after which the two ends have other keys.
const KEYED: &[(&str, Edit)] = &[
    ("the nonce changed", |payloads| flip(payloads, NONCE, 0)),
    ("the key exchange value changed", |payloads| flip(payloads, KEY_EXCHANGE, 4)),
];

fn strip(payloads: &mut Vec<Payload>, kind: u16) {
    payloads.retain(|payload| payload.notified() != Some(kind));
}

fn flip(payloads: &mut [Payload], kind: u8, at: usize) {
    if let Some(payload) = datagram::find(payloads, kind) {
        payload.body[at] ^= 1;
    }
}

/// Where the first two transforms of the first proposal begin and end: header, kind, id, key length.
const FIRST: std::ops::Range<usize> = 8..20;
const SECOND: std::ops::Range<usize> = 20..32;

fn swap_ciphers(payloads: &mut [Payload]) {
    if let Some(sa) = datagram::find(payloads, SA) {
        let second = sa.body[SECOND].to_vec();
        sa.body.copy_within(FIRST, SECOND.start);
        sa.body[FIRST].copy_from_slice(&second);
    }
}

fn drop_first_cipher(payloads: &mut [Payload]) {
    if let Some(sa) = datagram::find(payloads, SA) {
        sa.body.drain(FIRST);
        sa.body[3] -= 12;
        sa.body[7] -= 1;
    }
}

/// Two ciphers, so that there is an order; nothing begins by itself.
fn offering() -> Connection {
    let mut connection = connection();
    for proposal in &mut connection.proposals {
        proposal.encryption = vec![IkeEncryption::Aes256Gcm16, IkeEncryption::Aes128Gcm16];
    }
    for child in &mut connection.children {
        child.start = false;
    }
    connection
}

fn begin(cable: &Cable, role: Role, connection: Connection, lane: Direction, edit: Edit) -> Result<Ours> {
    let hasty = Limits { retransmit_base: Duration::from_millis(1500), retransmit_tries: 1, ..limits() };
    let engine = Ours::start(&cable.ours, hasty, connection)?;
    let change = Action::Change(Box::new(move |bytes: &mut Vec<u8>| {
        let before = bytes.clone();
        datagram::edit(bytes, edit);
        assert_ne!(before, *bytes, "nothing was changed");
    }));
    match lane {
        Direction::Out => engine.state().out.script(0, change),
        Direction::In => engine.state().inward.script(0, change),
    }
    match role {
        Role::Initiator => engine.command(ike::Command::InitiateChild(CHILD)),
        Role::Responder => drop(cable.charon.try_swanctl("--initiate --child net --timeout 10")?),
    }
    Ok(engine)
}

/// Neither end has an IKE SA.
fn nothing_is_up(cable: &Cable, engine: &Ours) -> Result<()> {
    engine.until("the end of all", |state| {
        let up = state.engine.isakmp_sas(std::time::Instant::now());
        let up: Vec<_> = up.iter().filter(|sa| sa.state == "established").collect();
        let shown = cable.charon.swanctl("--list-sas")?;
        ensure!(up.is_empty() && !shown.contains("ESTABLISHED"), "{up:?} {shown}");
        ensure!(state.installed.is_empty(), "a pair is left");
        Ok(())
    })
}

fn tidy(cable: &Cable, engine: Ours) -> Result<()> {
    drop(engine);
    cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
}

fn cable() -> Result<Cable> {
    let cable = Cable::with(IMPATIENT)?;
    cable.charon.load(&Settings { ike: PROPOSAL, ..Settings::default() })?;
    Ok(cable)
}

/// The peer's message is changed before we have it: we refuse the peer's AUTH.
#[test]
fn of_what_the_peer_says_is_seen_here() -> Result<()> {
    let cable = cable()?;
    for role in Role::BOTH {
        let more = if role == Role::Responder { OFFER } else { &[] };
        for (what, edit) in SIGNED.iter().chain(more) {
            scenario(34, what, role).judge(|| {
                let engine = begin(&cable, role, offering(), Direction::In, *edit)?;
                let cause = engine.ike_down()?;
                let refused =
                    matches!(&cause, Cause::AuthenticationFailed { side: "we refused the peer", .. });
                ensure!(refused, "{cause}");
                nothing_is_up(&cable, &engine)?;
                tidy(&cable, engine)
            })?;
        }
    }
    Ok(())
}

/// Our message is changed before the peer has it: the peer refuses our AUTH.
#[test]
fn of_what_we_say_is_seen_there() -> Result<()> {
    const OURS: &[(&str, Edit)] = &[
        ("RFC 7383 stripped from our message", |payloads| strip(payloads, FRAGMENTATION_SUPPORTED)),
        ("RFC 9242 stripped from our message", |payloads| strip(payloads, INTERMEDIATE_SUPPORTED)),
    ];
    let cable = cable()?;
    for role in Role::BOTH {
        let (ours, more) = match role {
            // The first is in nobody's offer who has a pre-shared key.
            Role::Initiator => (OURS, &OFFER[1..]),
            Role::Responder => (&OURS[..1], &[][..]),
        };
        for (what, edit) in ours.iter().chain(more) {
            scenario(34, what, role).judge(|| {
                let mut connection = offering();
                for proposal in &mut connection.proposals {
                    proposal.additional_key_exchanges = vec![vec![KeyEncapsulation::MlKem768]];
                }
                let log = cable.charon.log()?.len();
                let engine = begin(&cable, role, connection, Direction::Out, *edit)?;
                let cause = engine.ike_down()?;
                cable.charon.logs_after(log, "MAC mismatched")?;
                ensure!(matches!(&cause, Cause::AuthenticationFailed { .. }), "{cause}");
                nothing_is_up(&cable, &engine)?;
                tidy(&cable, engine)
            })?;
        }
    }
    Ok(())
}

/// Neither end can read what the other says under keys of its own: both give up.
#[test]
fn of_what_the_keys_are_made_of_leaves_both_without_an_answer() -> Result<()> {
    let cable = cable()?;
    for role in Role::BOTH {
        for (what, edit) in KEYED {
            scenario(34, what, role).judge(|| {
                for lane in [Direction::In, Direction::Out] {
                    let engine = begin(&cable, role, offering(), lane, *edit)?;
                    if role == Role::Initiator {
                        let cause = engine.ike_down()?;
                        ensure!(matches!(cause, Cause::NoAnswer { .. }), "{cause}");
                    }
                    nothing_is_up(&cable, &engine)?;
                    let up = |event: &ike::Event| matches!(event, ike::Event::IkeUp { .. });
                    ensure!(!engine.state().events.iter().any(up), "it was up");
                    tidy(&cable, engine)?;
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}
