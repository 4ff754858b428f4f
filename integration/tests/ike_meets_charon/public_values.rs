//! Public values and nonces that no honest end sends (RFC 6989 section 2, RFC 7748 section 6.1, RFC 7296 section 3.9): no secret is
//! made of them.

use anyhow::{Result, ensure};
use ike::{Cause, Command, Connection, Group};
use integration::interop::Role;

use crate::cable::{Cable, connection, scenario};
use crate::charon::Settings;
use crate::datagram::{self, KEY_EXCHANGE, NONCE, Payload};
use crate::ours::CHILD;
use crate::relay::Action;
use crate::reseal;

const INVALID_SYNTAX: u16 = 7;
/// A peer that is refused without a word asks again soon, and not for long.
const IMPATIENT: &str = "retransmit_timeout = 0.1\nretransmit_tries = 2";

type Edit = fn(&mut Vec<Payload>);

/// A group as the engine and charon call it, and values that are none.
struct Values {
    group: Group,
    ike: &'static str,
    esp: &'static str,
    bad: &'static [(&'static str, Edit)],
}

const VALUES: [Values; 3] = [
    Values {
        group: Group::Modp2048,
        ike: "aes256gcm16-prfsha256-modp2048",
        esp: "aes256gcm16-modp2048-noesn",
        bad: &[
            ("a MODP value of 0", |payloads| value(payloads, &[0; 256])),
            ("a MODP value of 1", |payloads| value(payloads, &small(1))),
            ("a MODP value of p - 1", |payloads| value(payloads, &prime(1))),
            ("a MODP value of p", |payloads| value(payloads, &prime(0))),
            ("a MODP value above p", |payloads| value(payloads, &[0xff; 256])),
            ("a MODP value that is too short", |payloads| value(payloads, &[2; 255])),
            ("a MODP value that is too long", |payloads| value(payloads, &[2; 257])),
        ],
    },
    Values {
        group: Group::EcpP256,
        ike: "aes256gcm16-prfsha256-ecp256",
        esp: "aes256gcm16-ecp256-noesn",
        bad: &[
            ("a point that is not on P-256", |payloads| value(payloads, &[1; 64])),
            ("a point of P-256 of zeros", |payloads| value(payloads, &[0; 64])),
            ("coordinates of P-256 above p", |payloads| value(payloads, &[0xff; 64])),
        ],
    },
    Values {
        group: Group::Curve25519,
        ike: "aes256gcm16-prfsha256-x25519",
        esp: "aes256gcm16-x25519-noesn",
        bad: &[
            ("an X25519 value of zeros", |payloads| value(payloads, &[0; 32])),
            ("an X25519 value of order one", |payloads| {
                let mut one = [0; 32];
                one[0] = 1;
                value(payloads, &one);
            }),
            ("an X25519 value that is too long", |payloads| value(payloads, &[9; 33])),
        ],
    },
];

const NONCES: &[(&str, Edit)] = &[
    ("a nonce of 15 bytes", |payloads| nonce(payloads, 15)),
    ("a nonce of 257 bytes", |payloads| nonce(payloads, 257)),
];

fn value(payloads: &mut [Payload], data: &[u8]) {
    if let Some(payload) = datagram::find(payloads, KEY_EXCHANGE) {
        payload.body.truncate(4);
        payload.body.extend(data);
    }
}

fn nonce(payloads: &mut [Payload], length: usize) {
    if let Some(payload) = datagram::find(payloads, NONCE) {
        payload.body = vec![0x5a; length];
    }
}

fn small(value: u8) -> [u8; 256] {
    let mut bytes = [0; 256];
    bytes[255] = value;
    bytes
}

/// The prime of group 14 (RFC 3526 section 3), less this.
fn prime(less: u8) -> Vec<u8> {
    const MIDDLE: &str = "\
        c90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
        4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7edee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3d\
        c2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804\
        f1746c08ca18217c32905e462e36ce3be39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae5\
        15d2261898fa051015728e5a8aacaa68";
    let digits: Vec<u8> = MIDDLE.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte =
        |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or_default(), 16).unwrap_or(0);
    let mut bytes = vec![0xff; 8];
    bytes.extend(digits.chunks(2).map(byte));
    bytes.extend([0xff; 8]);
    assert_eq!(bytes.len(), 256);
    bytes[255] -= less;
    bytes
}

fn with_group(group: Group) -> Connection {
    let mut connection = connection();
    for proposal in &mut connection.proposals {
        proposal.groups = vec![group];
    }
    for child in &mut connection.children {
        child.start = false;
        for proposal in &mut child.proposals {
            proposal.groups = vec![group];
        }
    }
    connection
}

fn tidy(cable: &Cable) -> Result<()> {
    cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
}

fn change(edit: Edit) -> Action {
    Action::Change(Box::new(move |bytes| datagram::edit(bytes, edit)))
}

/// In charon's answer to IKE_SA_INIT: its own, which comes again, is taken.
#[test]
fn of_answers_are_refused_and_the_true_one_is_taken() -> Result<()> {
    let cable = Cable::new()?;
    for Values { group, ike, esp, bad } in &VALUES {
        cable.charon.load(&Settings { ike, esp, ..Settings::default() })?;
        for (what, edit) in bad.iter().chain(NONCES) {
            scenario(36, what, Role::Initiator).judge(|| {
                let engine = cable.engine(with_group(*group))?;
                engine.state().inward.script(0, change(*edit));
                engine.command(Command::InitiateChild(CHILD));
                let sa = engine.settles(1)?;
                let state = engine.state();
                // And whatever came once more.
                ensure!(!state.dropped.is_empty(), "nothing was refused");
                ensure!(state.keys.len() == 1, "{} sets of keys", state.keys.len());
                let sas = cable.charon.swanctl("--list-sas")?;
                ensure!(sas.contains(&format!("{:016x}_i", sa.spi_i)) && sas.contains("INSTALLED"), "{sas}");
                drop(state);
                drop(engine);
                tidy(&cable)
            })?;
        }
    }
    Ok(())
}

/// In charon's request for an IKE SA: it ends without keys here, and charon's next try comes up.
#[test]
fn of_requests_are_refused_and_the_next_is_taken() -> Result<()> {
    let cable = Cable::with(IMPATIENT)?;
    for Values { group, ike, esp, bad } in &VALUES {
        cable.charon.load(&Settings { ike, esp, ..Settings::default() })?;
        for (what, edit) in bad.iter().chain(NONCES) {
            scenario(36, what, Role::Responder).judge(|| {
                let engine = cable.engine(with_group(*group))?;
                // Each of the first try's messages is changed, again and again.
                engine.state().inward.script(0, change(*edit));
                cable.charon.try_swanctl("--initiate --child net --timeout 5")?;
                if engine.state().keys.is_empty() {
                    tidy(&cable)?;
                    cable.charon.try_swanctl("--initiate --child net --timeout 5")?;
                }
                engine.settles(1)?;
                let state = engine.state();
                ensure!(!state.dropped.is_empty(), "nothing was refused");
                ensure!(state.keys.len() == 1, "{} sets of keys", state.keys.len());
                drop(state);
                drop(engine);
                tidy(&cable)
            })?;
        }
    }
    Ok(())
}

/// In a rekey with a key exchange of its own, changed by somebody with the keys.
#[test]
fn of_rekeys_are_refused() -> Result<()> {
    let cable = Cable::new()?;
    for Values { group, ike, esp, bad } in &VALUES {
        let settings = Settings { ike, esp, ..Settings::default() };
        for (what, edit) in bad.iter().chain(NONCES) {
            let what = format!("in CREATE_CHILD_SA: {what}");
            // The table wants what lives as long as the test.
            let what: &'static str = what.leak();
            for role in Role::BOTH {
                scenario(36, what, role).judge(|| {
                    // Begun by hand: what ends stays so.
                    cable.charon.load(&settings)?;
                    let engine = cable.engine(with_group(*group))?;
                    engine.command(Command::InitiateChild(CHILD));
                    engine.settles(1)?;
                    let log = cable.charon.log()?.len();
                    let rekey = || {
                        match role {
                            Role::Initiator => engine.command(Command::RekeyChild(CHILD)),
                            Role::Responder => drop(cable.charon.swanctl("--rekey --child net")?),
                        }
                        Ok(())
                    };
                    reseal::on_the_way(&engine, rekey, edit)?;
                    match role {
                        // Section 2.21.3: fatal at both ends.
                        Role::Responder => {
                            reseal::answered(&engine, INVALID_SYNTAX)?;
                            cable.charon.logs_after(log, "INVAL_SYN")?;
                            let cause = engine.ike_down()?;
                            ensure!(matches!(cause, Cause::Protocol { .. }), "{cause}");
                        }
                        Role::Initiator => engine.until("the refusal", |state| {
                            let failed = state.engine.counters().get("child_rekeys_failed").is_some();
                            let down = |event: &ike::Event| matches!(event, ike::Event::IkeDown { .. });
                            ensure!(failed || state.events.iter().any(down), "{:?}", state.events);
                            Ok(())
                        })?,
                    }
                    let pairs = engine.state().pairs.len();
                    ensure!(pairs == 1 || role == Role::Initiator, "{pairs} pairs");
                    drop(engine);
                    tidy(&cable)
                })?;
            }
        }
    }
    Ok(())
}
