//! What the two ends do not have in common: who refuses what, and what our side tells of it.

use anyhow::{Context, Result, ensure};
use ike::{
    Authentication, Cause, Command, Connection, EspEncryption, Event, Group, Hash, IkeEncryption,
    IkeProposal, Mode, Phase, PreSharedKey,
};
use integration::interop::Role;
use zeroize::Zeroizing;

use crate::cable::{Cable, connection, host, scenario};
use crate::charon::{Charon, Settings};
use crate::datagram;
use crate::ours::CHILD;
use crate::rekeys::{agree, pairs};
use crate::relay::Action;

fn offering(encryption: IkeEncryption, integrity: Hash, prf: Hash, groups: &[Group]) -> Connection {
    let proposal = IkeProposal {
        encryption: vec![encryption],
        integrity: vec![integrity],
        prf: vec![prf],
        groups: groups.to_vec(),
        ..IkeProposal::default()
    };
    Connection { proposals: vec![proposal], ..connection() }
}

fn no_ike_sa(charon: &Charon) -> Result<()> {
    let sas = charon.swanctl("--list-sas")?;
    ensure!(!sas.contains("ESTABLISHED"), "{sas}");
    Ok(())
}

/// charon has `ike` alone, we have AES-256-CBC, SHA2-256 and group 14.
fn no_ike_proposal(what: &'static str, ike: &'static str) -> Result<()> {
    let cable = Cable::new()?;
    let ours = offering(IkeEncryption::Aes256Cbc, Hash::Sha2_256, Hash::Sha2_256, &[Group::Modp2048]);
    let settings = Settings { ike, ..Settings::default() };
    scenario(4, what, Role::Initiator).judge(|| {
        let engine = cable.begin(Role::Initiator, ours.clone(), &settings)?;
        let cause = engine.ike_down()?;
        let named = matches!(&cause, Cause::NoProposalChosen { phase: Phase::IkeSaInit, ours, .. } if ours.contains("aes-256-cbc"));
        ensure!(named, "{cause}");
        cable.charon.logs("N(NO_PROP)")?;
        no_ike_sa(&cable.charon)
    })?;
    scenario(4, what, Role::Responder).judge(|| {
        let engine = cable.begin(Role::Responder, ours.clone(), &settings)?;
        cable.charon.logs("received NO_PROPOSAL_CHOSEN notify error")?;
        ensure!(engine.state().dropped.contains(&"no_proposal_chosen"), "{:?}", engine.state().dropped);
        no_ike_sa(&cable.charon)
    })
}

#[test]
fn no_cipher_in_common() -> Result<()> {
    no_ike_proposal("IKE proposals differ in ENCR", "aes128-sha256-prfsha256-modp2048")
}

#[test]
fn no_integrity_in_common() -> Result<()> {
    no_ike_proposal("IKE proposals differ in INTEG", "aes256-sha384-prfsha256-modp2048")
}

#[test]
fn no_prf_in_common() -> Result<()> {
    no_ike_proposal("IKE proposals differ in PRF", "aes256-sha256-prfsha384-modp2048")
}

#[test]
fn no_group_in_common() -> Result<()> {
    no_ike_proposal("IKE proposals differ in KE", "aes256-sha256-prfsha256-ecp256")
}

#[test]
fn weak_algorithms_that_nobody_allowed() -> Result<()> {
    let cable = Cable::new()?;
    let settings = Settings { ike: "aes128-sha1-modp2048", ..Settings::default() };
    scenario(3, "AES-CBC-128, SHA1, group 14 where nobody allowed SHA1", Role::Responder).judge(|| {
        let engine = cable.begin(Role::Responder, connection(), &settings)?;
        cable.charon.logs("received NO_PROPOSAL_CHOSEN notify error")?;
        ensure!(engine.state().dropped.contains(&"no_proposal_chosen"), "{:?}", engine.state().dropped);
        no_ike_sa(&cable.charon)
    })
}

/// The child fails, the IKE SA stays.
#[test]
fn no_esp_proposal_in_common() -> Result<()> {
    let cable = Cable::new()?;
    let settings = Settings { esp: "aes128gcm16-noesn", ..Settings::default() };
    let mut ours = connection();
    for child in &mut ours.children {
        for proposal in &mut child.proposals {
            proposal.encryption = vec![EspEncryption::Aes256Gcm16];
        }
    }
    for role in Role::BOTH {
        scenario(4, "ESP proposals differ: no child, the IKE SA stays", role).judge(|| {
            let engine = cable.begin(role, ours.clone(), &settings)?;
            engine.event("an IKE SA", |event| matches!(event, Event::IkeUp { .. }).then_some(()))?;
            match role {
                Role::Initiator => {
                    let cause = engine.child_down()?;
                    ensure!(matches!(cause, Cause::NoProposalChosen { .. }), "{cause}");
                }
                Role::Responder => {
                    cable.charon.logs("received NO_PROPOSAL_CHOSEN notify, no CHILD_SA built")?
                }
            }
            let sas = cable.charon.swanctl("--list-sas")?;
            ensure!(sas.contains("ESTABLISHED") && !sas.contains("INSTALLED"), "{sas}");
            ensure!(engine.state().installed.is_empty(), "a pair was installed");
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn another_group_than_the_first_guess() -> Result<()> {
    let cable = Cable::new()?;
    let gcm = |groups| offering(IkeEncryption::Aes256Gcm16, Hash::Sha2_256, Hash::Sha2_256, groups);
    scenario(5, "INVALID_KE_PAYLOAD, then the group that both have", Role::Initiator).judge(|| {
        let settings = Settings { ike: "aes256gcm16-prfsha256-ecp256", ..Settings::default() };
        let ours = cable.up(Role::Initiator, gcm(&[Group::Curve25519, Group::EcpP256]), &settings)?;
        cable.charon.logs("N(INVAL_KE)")?;
        ensure!(ours.settles(1)?.suite.contains("group 19"), "{:?}", ours.settles(1)?);
        drop(ours);
        cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
    })?;
    scenario(5, "INVALID_KE_PAYLOAD, then the group that both have", Role::Responder).judge(|| {
        let settings = Settings { ike: "aes256gcm16-prfsha256-x25519-ecp256", ..Settings::default() };
        let ours = cable.up(Role::Responder, gcm(&[Group::EcpP256]), &settings)?;
        cable.charon.logs("it requested ECP_256")?;
        ensure!(ours.settles(1)?.suite.contains("group 19"), "{:?}", ours.settles(1)?);
        Ok(())
    })
}

/// Somebody on the way asks for a weaker group in the peer's name (RFC 7296 section 2.7): no effect.
#[test]
fn a_group_that_was_not_offered() -> Result<()> {
    let cable = Cable::new()?;
    scenario(5, "INVALID_KE_PAYLOAD forged for a group that was not offered", Role::Initiator).judge(|| {
        cable.charon.load(&Settings::default())?;
        // Not started yet: the script must stand before the first message.
        let mut ours = connection();
        for child in &mut ours.children {
            child.start = false;
        }
        let engine = cable.engine(ours)?;
        let forge = |bytes: &mut Vec<u8>| *bytes = datagram::with_notify(bytes, 17, &14_u16.to_be_bytes());
        engine.state().inward.script(0, Action::Change(Box::new(forge)));
        engine.command(ike::Command::InitiateChild(crate::ours::CHILD));
        let sa = engine.settles(1)?;
        ensure!(sa.suite.contains("group 31"), "{}", sa.suite);
        ensure!(engine.state().dropped.contains(&"invalid_ke_not_offered"), "{:?}", engine.state().dropped);
        Ok(())
    })
}

fn with_key(key: &[u8]) -> Connection {
    let key = PreSharedKey(Zeroizing::new(key.to_vec()));
    Connection { authentication: Authentication::pre_shared_key(key), ..connection() }
}

#[test]
fn another_key() -> Result<()> {
    let cable = Cable::new()?;
    scenario(6, "another pre-shared key", Role::Initiator).judge(|| {
        let engine =
            cable.begin(Role::Initiator, with_key(b"not what the peer has"), &Settings::default())?;
        let cause = engine.ike_down()?;
        ensure!(matches!(cause, Cause::AuthenticationFailed { side: "the peer refused us", .. }), "{cause}");
        cable.charon.logs("N(AUTH_FAILED)")?;
        no_ike_sa(&cable.charon)
    })?;
    scenario(6, "another pre-shared key", Role::Responder).judge(|| {
        let engine =
            cable.begin(Role::Responder, with_key(b"not what the peer has"), &Settings::default())?;
        cable.charon.logs("received AUTHENTICATION_FAILED notify error")?;
        let cause = engine.ike_down()?;
        ensure!(matches!(cause, Cause::AuthenticationFailed { side: "we refused the peer", .. }), "{cause}");
        no_ike_sa(&cable.charon)
    })
}

#[test]
fn another_identity() -> Result<()> {
    let cable = Cable::new()?;
    scenario(6, "the peer has another identity", Role::Initiator).judge(|| {
        let settings = Settings { own_id: "someone.else.example", ..Settings::default() };
        let engine = cable.begin(Role::Initiator, connection(), &settings)?;
        let cause = engine.ike_down()?;
        ensure!(matches!(cause, Cause::AuthenticationFailed { .. }), "{cause}");
        ensure!(engine.state().installed.is_empty(), "a pair was installed");
        Ok(())
    })?;
    scenario(6, "the peer has another identity", Role::Responder).judge(|| {
        let settings = Settings { own_id: "someone.else.example", ..Settings::default() };
        let log = cable.charon.log()?.len();
        let engine = cable.begin(Role::Responder, connection(), &settings)?;
        cable.charon.logs_after(log, "received AUTHENTICATION_FAILED notify error")?;
        let cause = engine.ike_down()?;
        ensure!(matches!(cause, Cause::AuthenticationFailed { .. }), "{cause}");
        no_ike_sa(&cable.charon)
    })
}

/// Wrong key, unknown identity, or both: who asks learns nothing of which it was.
#[test]
fn one_answer_to_every_false_credential() -> Result<()> {
    let cable = Cable::new()?;
    scenario(6, "wrong key, wrong identity, both: the same answer", Role::Responder).judge(|| {
        let mut answers = Vec::new();
        for (key, own_id) in [
            ("correct horse battery staple", "someone.else.example"),
            ("not what the other has", "192.0.2.2"),
            ("not what the other has", "someone.else.example"),
        ] {
            let settings = Settings { secret: key, own_id, ..Settings::default() };
            let engine = cable.begin(Role::Responder, connection(), &settings)?;
            engine.ike_down()?;
            let state = engine.state();
            let answer = state.out.known().last().context("no answer")?;
            // Protected alike, so alike in length; and nothing went out after it.
            ensure!(state.out.count() == 2, "{} answers", state.out.count());
            answers.push(answer.len());
        }
        ensure!(answers.iter().all(|len| Some(len) == answers.first()), "{answers:?}");
        Ok(())
    })
}

/// Whatever the responder has wrong: nothing is installed, and it hears no more than that its proof, or ours, failed.
#[test]
fn no_false_credential_of_a_responder_is_taken() -> Result<()> {
    let cable = Cable::new()?;
    scenario(6, "wrong key, wrong identity, both: none is taken", Role::Initiator).judge(|| {
        let right = Settings::default();
        for (key, own_id) in [
            ("not what we have", right.own_id),
            (right.secret, "someone.else.example"),
            ("not what we have", "someone.else.example"),
        ] {
            let settings = Settings { secret: key, own_id, ..Settings::default() };
            let engine = cable.begin(Role::Initiator, connection(), &settings)?;
            let cause = engine.ike_down()?;
            ensure!(matches!(cause, Cause::AuthenticationFailed { .. }), "{cause}");
            let up = |event: &Event| matches!(event, Event::IkeUp { .. } | Event::ChildUp { .. });
            let state = engine.state();
            ensure!(!state.events.iter().any(up) && state.pairs.is_empty(), "{:?}", state.events);
            drop(state);
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1")?;
        }
        Ok(())
    })
}

#[test]
fn traffic_selectors_without_overlap() -> Result<()> {
    let cable = Cable::new()?;
    let mut ours = connection();
    for child in &mut ours.children {
        child.local_selectors = vec![host("10.1.9.9")];
    }
    for role in Role::BOTH {
        scenario(25, "disjoint traffic selectors: TS_UNACCEPTABLE, the IKE SA stays", role).judge(|| {
            let engine = cable.begin(role, ours.clone(), &Settings::default())?;
            engine.event("an IKE SA", |event| matches!(event, Event::IkeUp { .. }).then_some(()))?;
            match role {
                Role::Initiator => {
                    let cause = engine.child_down()?;
                    ensure!(matches!(cause, Cause::TsUnacceptable { .. }), "{cause}");
                }
                Role::Responder => cable.charon.logs("received TS_UNACCEPTABLE notify, no CHILD_SA built")?,
            }
            let sas = cable.charon.swanctl("--list-sas")?;
            ensure!(sas.contains("ESTABLISHED") && !sas.contains("INSTALLED"), "{sas}");
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn tunnel_mode_where_transport_mode_is_required() -> Result<()> {
    let cable = Cable::new()?;
    let mut ours = connection();
    for child in &mut ours.children {
        child.mode = Mode::Transport;
    }
    scenario(26, "the peer answers transport mode with tunnel mode", Role::Initiator).judge(|| {
        let engine = cable.begin(Role::Initiator, ours.clone(), &Settings::default())?;
        let cause = engine.child_down()?;
        let expected = Cause::ModeMismatch { ours: Mode::Transport, theirs: Mode::Tunnel };
        ensure!(cause == expected, "{cause}");
        ensure!(engine.state().installed.is_empty(), "a pair was installed");
        Ok(())
    })
}

#[test]
fn tunnel_mode_where_transport_mode_is_preferred() -> Result<()> {
    let cable = Cable::new()?;
    let mut ours = connection();
    for child in &mut ours.children {
        (child.mode, child.tunnel_fallback) = (Mode::Transport, true);
    }
    for (role, what) in [
        (Role::Initiator, "the peer answers transport mode with tunnel mode, which is allowed"),
        (Role::Responder, "the peer asks for tunnel mode where transport mode is preferred"),
    ] {
        scenario(26, what, role).judge(|| {
            let engine = cable.up(role, ours.clone(), &Settings::default())?;
            // A rekey asks for transport mode again, and takes what it gets.
            for rekeyed in [false, true] {
                let old = pairs(&engine);
                if rekeyed {
                    engine.command(Command::RekeyChild(CHILD));
                    agree(&cable, &engine, &old)?;
                }
                let tunnel = engine.state().installed.values().all(|pair| pair.mode == Mode::Tunnel);
                let sas = cable.charon.swanctl("--list-sas")?;
                ensure!(tunnel && sas.contains("INSTALLED, TUNNEL"), "{sas}");
            }
            drop(engine);
            cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
        })?;
    }
    Ok(())
}
