//! ML-KEM beside the Diffie-Hellman exchange (RFC 9370, in IKE_INTERMEDIATE of RFC 9242), as strongSwan 6 judges it.

use anyhow::{Result, ensure};
use ike::{Cause, Connection, KeyEncapsulation, Limits};
use integration::interop::{Role, Scenario};

use crate::cable::{Cable, connection, judged_by, limits};
use crate::charon::{Release, Settings};
use crate::keys::{same_esp_keys, same_ike_keys};
use crate::ours::Ours;
use crate::relay::Direction;

pub(crate) const ML_KEM_768: KeyEncapsulation = KeyEncapsulation::MlKem768;
pub(crate) const ML_KEM_1024: KeyEncapsulation = KeyEncapsulation::MlKem1024;
/// What the additional key exchanges come after.
const PLAIN: &str = "aes256gcm16-prfsha256-x25519";
const IKE_INTERMEDIATE: u8 = 43;
const FRAGMENT_PAYLOAD: u8 = 53;

pub(crate) fn judged(what: &'static str, role: Role) -> Scenario {
    judged_by(Release::Six, 33, what, role)
}

/// Our side with additional key exchanges, any of each list.
pub(crate) fn offering(methods: &[&[KeyEncapsulation]], required: bool) -> Connection {
    let mut connection = connection();
    for proposal in &mut connection.proposals {
        proposal.additional_key_exchanges = methods.iter().map(|methods| methods.to_vec()).collect();
        proposal.additional_required = required;
    }
    connection
}

pub(crate) fn told(ike: &'static str) -> Settings {
    Settings { ike, ..Settings::default() }
}

/// Our engine goes without a word, and charon forgets it.
pub(crate) fn ends(cable: &Cable, ours: Ours) -> Result<()> {
    drop(ours);
    cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
}

/// Up in both roles, with these additional key exchanges in charon's words and ours, and with the same keys.
fn agrees(
    what: &'static str,
    ours: &Connection,
    theirs: &'static str,
    shown: &str,
    named: &str,
) -> Result<()> {
    agrees_as(&Role::BOTH, what, ours, theirs, [shown, named])
}

fn agrees_as(
    roles: &[Role],
    what: &'static str,
    ours: &Connection,
    theirs: &'static str,
    [shown, named]: [&str; 2],
) -> Result<()> {
    let cable = Cable::to(Release::Six, "")?;
    for &role in roles {
        judged(what, role).judge(|| {
            let before = cable.charon.log()?.len();
            let engine = cable.up(role, ours.clone(), &told(theirs))?;
            let selected =
                format!("selected proposal: IKE:AES_GCM_16_256/PRF_HMAC_SHA2_256/CURVE_25519{shown}\n");
            cable.charon.logs_after(before, &selected)?;
            let suite = engine.settles(1)?.suite;
            ensure!(suite.ends_with(&format!("group 31{named}")), "{suite}");
            same_ike_keys(&cable.charon, &engine, 1 + named.matches('+').count())?;
            same_esp_keys(&cable.charon, &engine)?;
            ends(&cable, engine)
        })?;
    }
    Ok(())
}

#[test]
fn with_ml_kem_768() -> Result<()> {
    agrees(
        "X25519, then ML-KEM-768: all keys compared",
        &offering(&[&[ML_KEM_768]], true),
        "aes256gcm16-prfsha256-x25519-ke1_mlkem768",
        "/KE1_ML_KEM_768",
        " + ml-kem-768",
    )
}

#[test]
fn with_ml_kem_1024() -> Result<()> {
    agrees(
        "X25519, then ML-KEM-1024: all keys compared",
        &offering(&[&[ML_KEM_1024]], true),
        "aes256gcm16-prfsha256-x25519-ke1_mlkem1024",
        "/KE1_ML_KEM_1024",
        " + ml-kem-1024",
    )
}

#[test]
fn with_two_additional_key_exchanges() -> Result<()> {
    agrees(
        "X25519, then ML-KEM-768, then ML-KEM-1024: all keys compared",
        &offering(&[&[ML_KEM_768], &[ML_KEM_1024]], true),
        "aes256gcm16-prfsha256-x25519-ke1_mlkem768-ke2_mlkem1024",
        "/KE1_ML_KEM_768/KE2_ML_KEM_1024",
        " + ml-kem-768 + ml-kem-1024",
    )
}

#[test]
fn with_one_of_several_methods() -> Result<()> {
    agrees(
        "the peer takes ML-KEM-512, 768 or 1024, or none: 768, which we have",
        &offering(&[&[ML_KEM_768]], false),
        "aes256gcm16-prfsha256-x25519-ke1_mlkem512-ke1_mlkem1024-ke1_mlkem768-ke1_none",
        "/KE1_ML_KEM_768",
        " + ml-kem-768",
    )
}

/// RFC 9370 section 2.2.1: of each kind one, and none twice.
#[test]
fn with_no_method_twice() -> Result<()> {
    agrees(
        "ML-KEM-768 or 1024, then ML-KEM-768 or 1024: none is done twice",
        &offering(&[&[ML_KEM_768, ML_KEM_1024], &[ML_KEM_768, ML_KEM_1024]], true),
        "aes256gcm16-prfsha256-x25519-ke1_mlkem768-ke1_mlkem1024-ke2_mlkem768-ke2_mlkem1024",
        "/KE1_ML_KEM_768/KE2_ML_KEM_1024",
        " + ml-kem-768 + ml-kem-1024",
    )?;
    // The first of the first list is the wrong one. charon offers that, but does not find the way when it chooses.
    agrees_as(
        &[Role::Responder],
        "ML-KEM-768 or 1024, then ML-KEM-768: the one that leaves the other is chosen",
        &offering(&[&[ML_KEM_768, ML_KEM_1024], &[ML_KEM_768]], true),
        "aes256gcm16-prfsha256-x25519-ke1_mlkem768-ke1_mlkem1024-ke2_mlkem768",
        ["/KE1_ML_KEM_1024/KE2_ML_KEM_768", " + ml-kem-1024 + ml-kem-768"],
    )
}

/// A proposal of one method alone, twice, can be fulfilled by nobody.
#[test]
fn the_same_method_twice_is_refused() -> Result<()> {
    let cable = Cable::to(Release::Six, "")?;
    let ours = offering(&[&[ML_KEM_768], &[ML_KEM_768]], true);
    let theirs = told("aes256gcm16-prfsha256-x25519-ke1_mlkem768-ke2_mlkem768");
    judged("ML-KEM-768 twice, and nothing else", Role::Initiator).judge(|| {
        let engine = cable.begin(Role::Initiator, ours.clone(), &theirs)?;
        let cause = engine.ike_down()?;
        ensure!(matches!(cause, Cause::PostQuantumRequired { .. }), "{cause}");
        ensure!(engine.state().pairs.is_empty(), "a child is up");
        ends(&cable, engine)
    })?;
    judged("ML-KEM-768 twice, and nothing else", Role::Responder).judge(|| {
        let engine = cable.begin(Role::Responder, ours.clone(), &theirs)?;
        cable.charon.logs("received NO_PROPOSAL_CHOSEN")?;
        ensure!(engine.state().pairs.is_empty(), "a child is up");
        ends(&cable, engine)
    })
}

#[test]
fn a_peer_that_is_told_to_do_without_is_taken_or_refused() -> Result<()> {
    agrees(
        "ML-KEM offered by the one, not taken by the other: without",
        &offering(&[&[ML_KEM_768]], false),
        PLAIN,
        "",
        "",
    )?;
    agrees(
        "ML-KEM optional there, unknown here: without",
        &connection(),
        "aes256gcm16-prfsha256-x25519-ke1_mlkem768,aes256gcm16-prfsha256-x25519",
        "",
        "",
    )?;
    let cable = Cable::to(Release::Six, "")?;
    let ours = offering(&[&[ML_KEM_768]], true);
    judged("ML-KEM required of a peer that is told to do without", Role::Initiator).judge(|| {
        let engine = cable.begin(Role::Initiator, ours.clone(), &told(PLAIN))?;
        let cause = engine.ike_down()?;
        ensure!(matches!(cause, Cause::PostQuantumRequired { .. }), "{cause}");
        ends(&cable, engine)
    })?;
    judged("ML-KEM required of a peer that is told to do without", Role::Responder).judge(|| {
        let engine = cable.begin(Role::Responder, ours.clone(), &told(PLAIN))?;
        cable.charon.logs("received NO_PROPOSAL_CHOSEN")?;
        let refused = engine.state().dropped.contains(&"post_quantum_required");
        ensure!(refused, "{:?}", engine.state().dropped);
        ends(&cable, engine)
    })?;
    for role in Role::BOTH {
        judged("ML-KEM required there, unknown here", role).judge(|| {
            let before = cable.charon.log()?.len();
            let theirs = told("aes256gcm16-prfsha256-x25519-ke1_mlkem768");
            let engine = cable.begin(role, connection(), &theirs)?;
            match role {
                Role::Initiator => {
                    let cause = engine.ike_down()?;
                    ensure!(matches!(cause, Cause::NoProposalChosen { .. }), "{cause}");
                }
                Role::Responder => cable.charon.logs_after(before, "received NO_PROPOSAL_CHOSEN")?,
            }
            ensure!(engine.state().pairs.is_empty(), "a child is up");
            ends(&cable, engine)
        })?;
    }
    Ok(())
}

/// RFC 9242 section 3.3.1: the keys of ML-KEM are larger than most paths take in one datagram.
#[test]
fn its_messages_go_in_fragments_both_ways() -> Result<()> {
    let cable = Cable::to(Release::Six, "fragment_size = 400")?;
    for role in Role::BOTH {
        judged_by(
            Release::Six,
            29,
            "ML-KEM-1024 on a path of 400 octets: RFC 7383 in IKE_INTERMEDIATE",
            role,
        )
        .judge(|| {
            let settings = Settings {
                connection: "fragmentation = yes",
                ..told("aes256gcm16-prfsha256-x25519-ke1_mlkem1024")
            };
            cable.charon.load(&settings)?;
            let mut connection = offering(&[&[ML_KEM_1024]], true);
            connection.children.iter_mut().for_each(|child| child.start = role == Role::Initiator);
            let narrow = Limits { fragment_ipv4_bytes: 400, ..limits() };
            let ours = Ours::start(&cable.ours, narrow, connection)?;
            if role == Role::Responder {
                cable.charon.try_swanctl("--initiate --child net --timeout 10")?;
            }
            ours.settles(1)?;
            let wire = ours.state().wire.clone();
            for direction in [Direction::In, Direction::Out] {
                let fragments = wire.iter().filter(|datagram| {
                    // Behind the non-ESP marker.
                    let header = (datagram.bytes.get(20), datagram.bytes.get(22));
                    datagram.direction == direction
                        && header == (Some(&FRAGMENT_PAYLOAD), Some(&IKE_INTERMEDIATE))
                });
                let count = fragments.count();
                ensure!(count >= 4, "{count} fragments {direction:?}");
            }
            same_ike_keys(&cable.charon, &ours, 2)?;
            ends(&cable, ours)
        })?;
    }
    Ok(())
}
