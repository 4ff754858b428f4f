//! NAT traversal: who believes in which NAT, true or not, and what passes then (RFC 7296 section 2.23, RFC 3947).

use anyhow::{Result, ensure};
use ike::sim::setup;
use ike::{
    Cause, Command, Connection, EspEncryption, EspProposal, Event, Group, Hash, IkeEncryption, IkeProposal,
    Ikev1, NatTraversal, Version,
};
use integration::interop::Role;
use integration::namespace::Namespace;

use crate::cable::{Cable, connection, scenario};
use crate::charon::Settings;
use crate::datagram;
use crate::ours::{CHILD, Ours};
use crate::relay::{Action, Direction};

const NAT_DETECTION_SOURCE_IP: u16 = 16388;
/// Of IKEv1, by RFC 3947.
const NAT_D: u8 = 20;
const UDP_TUNNEL_DRAFT: u16 = 61_443;
/// Vendor IDs: MD5 of "RFC 3947" and of "draft-ietf-ipsec-nat-t-ike-03".
const RFC_3947: [u8; 16] = *b"\x4a\x13\x1c\x81\x07\x03\x58\x45\x5c\x57\x28\xf2\x0e\x95\x45\x2f";
const DRAFT_03: [u8; 16] = *b"\x7d\x94\x19\xa6\x53\x10\xca\x6f\x2c\x17\x9d\x92\x15\x52\x9d\x56";
/// What charon's log says of us.
const BEHIND_NAT: &str = "remote host is behind NAT";

/// Either version: our connection, and charon's side, which is not told to feign a NAT.
pub(crate) fn version(number: u8) -> (Connection, Settings) {
    let mut ours = connection();
    let mut theirs = Settings { version: number, connection: "encap = no", ..Settings::default() };
    if number == 1 {
        ours.version = Version::V1(Ikev1::default());
        ours.proposals = vec![IkeProposal {
            encryption: vec![IkeEncryption::Aes256Cbc],
            integrity: vec![Hash::Sha2_256],
            prf: vec![Hash::Sha2_256],
            groups: vec![Group::Modp2048],
            ..setup::modern()
        }];
        for child in &mut ours.children {
            child.proposals = vec![EspProposal {
                encryption: vec![EspEncryption::Aes256Gcm16],
                integrity: vec![],
                groups: vec![],
                esn: vec![false],
            }];
        }
        theirs.ike = "aes256-sha256-modp2048";
    }
    (ours, theirs)
}

/// IKE is at port 4500 at both ends, ESP goes in UDP, and charon says so too.
fn encapsulated(cable: &Cable, ours: &Ours) -> Result<()> {
    let state = ours.state();
    for pair in state.installed.values() {
        ensure!(pair.udp_encapsulation && pair.path.local.port() == 4500, "{:?}", pair.path);
    }
    drop(state);
    let sas = cable.charon.swanctl("--list-sas")?;
    ensure!(sas.contains("INSTALLED") && sas.contains("in-UDP"), "{sas}");
    Ok(())
}

/// New keys, asked for by either side.
fn rekeys(cable: &Cable, ours: &Ours) -> Result<()> {
    let rekeyed = |count: usize| {
        ours.until("another rekey of the child", |state| {
            let seen =
                state.events.iter().filter(|event| matches!(event, Event::ChildRekeyed { .. })).count();
            ensure!(seen >= count, "{seen}");
            Ok(())
        })
    };
    ours.command(Command::RekeyChild(CHILD));
    rekeyed(1)?;
    cable.charon.swanctl("--rekey --child net")?;
    rekeyed(2)
}

/// charon's user space wants ESP in UDP whatever we say, and feigns a NAT of its own. That there is one before us too it
/// believes only where we make it.
#[test]
fn a_forced_end_has_esp_in_udp_without_any_nat() -> Result<()> {
    let what = [
        "no NAT, nat_traversal force, IKEv1 (RFC 3947): ESP in UDP",
        "no NAT, nat_traversal force: ESP in UDP",
    ];
    for (number, what) in [1, 2].into_iter().zip(what) {
        let cable = Cable::new()?;
        for role in [Role::Initiator, Role::Responder] {
            let (mut ours, theirs) = version(number);
            ours.nat_traversal = NatTraversal::Force;
            scenario(27, what, role).judge(|| {
                let before = cable.charon.log()?.len();
                let ours = cable.up(role, ours, &theirs)?;
                cable.charon.logs_after(before, BEHIND_NAT)?;
                encapsulated(&cable, &ours)?;
                rekeys(&cable, &ours)?;
                cable.ends(ours)
            })?;
        }
    }
    for number in [1, 2] {
        let (ours, theirs) = version(number);
        let cable = Cable::new()?;
        let _ours = cable.up(Role::Initiator, ours, &theirs)?;
        ensure!(!cable.charon.log()?.contains(BEHIND_NAT), "behind a NAT all the same");
    }
    Ok(())
}

/// NAT-D payloads of main mode are covered by no hash: whoever is on the way may have the two float, and no more.
#[test]
fn version_1_floats_by_a_forged_nat_d_and_is_up_all_the_same() -> Result<()> {
    let cable = Cable::new()?;
    scenario(27, "no NAT, NAT-D forged on the way, IKEv1: ESP in UDP, up", Role::Initiator).judge(|| {
        let (ours, theirs) = version(1);
        cable.charon.load(&theirs)?;
        let mut ours = ours;
        ours.children.iter_mut().for_each(|child| child.start = false);
        let ours = cable.engine(ours)?;
        // Message 4 is charon's second.
        let forge = |bytes: &mut Vec<u8>| datagram::fill(bytes, NAT_D, 0, 0x5a);
        ours.state().inward.script(1, Action::Change(Box::new(forge)));
        ours.command(Command::InitiateChild(CHILD));
        ours.settles(1)?;
        encapsulated(&cable, &ours)
    })
}

/// IKEv2 signs the message that tells of NATs.
#[test]
fn version_2_refuses_what_was_forged_on_the_way() -> Result<()> {
    let cable = Cable::new()?;
    scenario(27, "no NAT, NAT_DETECTION_SOURCE_IP forged on the way: refused by AUTH", Role::Initiator).judge(
        || {
            let (mut ours, theirs) = version(2);
            cable.charon.load(&theirs)?;
            ours.children.iter_mut().for_each(|child| child.start = false);
            let ours = cable.engine(ours)?;
            let forge = |bytes: &mut Vec<u8>| {
                datagram::edit(bytes, |payloads| {
                    let of_source = |payload: &&mut datagram::Payload| {
                        payload.notified() == Some(NAT_DETECTION_SOURCE_IP)
                    };
                    for payload in payloads.iter_mut().filter(of_source) {
                        payload.body.iter_mut().skip(4).for_each(|byte| *byte ^= 0x5a);
                    }
                });
            };
            ours.state().out.script(0, Action::Change(Box::new(forge)));
            ours.command(Command::InitiateChild(CHILD));
            let cause = ours.ike_down()?;
            ensure!(matches!(cause, Cause::AuthenticationFailed { .. }), "{cause}");
            Ok(())
        },
    )
}

/// After the first exchanges nothing passes by port 500 any more: all else has floated.
#[test]
fn nothing_needs_port_500_once_a_nat_is_known() -> Result<()> {
    let what = ["port 500 blocked after main mode's float, IKEv1", "port 500 blocked after IKE_SA_INIT"];
    // Exchange type, 18 octets into the IKE header, behind UDP's 8: IKE_SA_INIT, or main mode.
    for (number, what, first) in [(1, what[0], 2), (2, what[1], 34)] {
        let cable = Cable::new()?;
        cable.ours.run("nft add table ip wall")?;
        for hook in ["input", "output"] {
            let chain =
                format!("add chain ip wall {hook} {{ type filter hook {hook} priority 0; policy accept; }}");
            cable.ours.run(&format!("nft {chain}"))?;
            for port in ["sport", "dport"] {
                let rule = format!("add rule ip wall {hook} udp {port} 500 @th,208,8 != {first} drop");
                cable.ours.run(&format!("nft {rule}"))?;
            }
        }
        for role in [Role::Initiator, Role::Responder] {
            let (ours, theirs) = version(number);
            let theirs = Settings { connection: "", ..theirs };
            scenario(27, what, role).judge(|| {
                let ours = cable.up(role, ours, &theirs)?;
                encapsulated(&cable, &ours)?;
                rekeys(&cable, &ours)?;
                if number == 2 {
                    cable.charon.swanctl("--rekey --ike far")?;
                    let rekeyed = |event: &Event| matches!(event, Event::IkeRekeyed { .. }).then_some(());
                    ours.event("the IKE SA's rekey", rekeyed)?;
                    // Until charon deletes the old one it may not have read that there is a new one.
                    ours.settles(1)?;
                }
                cable.ends(ours)
            })?;
        }
    }
    Ok(())
}

/// Each end sends from an address that the other one does not know it by.
#[test]
fn both_ends_may_be_behind_nats() -> Result<()> {
    for (number, what) in [(1, "both behind NATs, IKEv1 (RFC 3947)"), (2, "both behind NATs")] {
        let cable = Cable::new()?;
        hide(&cable.ours, "192.0.2.1", "192.0.2.51")?;
        hide(&cable.theirs, "192.0.2.2", "192.0.2.52")?;
        for role in [Role::Initiator, Role::Responder] {
            let (mut ours, theirs) = version(number);
            ours.remote = [192, 0, 2, 52].into();
            let theirs = Settings { connection: "encap = no\n remote_addrs = 192.0.2.51", ..theirs };
            scenario(27, what, role).judge(|| {
                let ours = cable.up(role, ours, &theirs)?;
                encapsulated(&cable, &ours)?;
                let sas = cable.charon.swanctl("--list-sas")?;
                ensure!(sas.contains("192.0.2.51[4500]"), "{sas}");
                rekeys(&cable, &ours)?;
                cable.ends(ours)
            })?;
        }
    }
    Ok(())
}

/// What was spoken before RFC 3947: its vendor ID is lost on the way, which nothing proves in main mode, and a draft's is left.
#[test]
fn version_1_passes_nats_by_the_drafts() -> Result<()> {
    const BETTER: &[[u8; 16]] = &[RFC_3947, DRAFT_03];
    // It logs what it reads, number by number.
    let cable = Cable::with("filelog { main { enc = 3 } }")?;
    hide(&cable.ours, "192.0.2.1", "192.0.2.51")?;
    hide(&cable.theirs, "192.0.2.2", "192.0.2.52")?;
    for (what, role, lost, spoken) in [
        ("both behind NATs, IKEv1 (draft 03)", Role::Initiator, &BETTER[..1], "ike-03"),
        ("both behind NATs, IKEv1 (draft 02)", Role::Initiator, BETTER, "ike-02\\n"),
        ("both behind NATs, IKEv1 (draft 02)", Role::Responder, BETTER, "ike-02\\n"),
    ] {
        scenario(27, what, role).judge(|| {
            let (mut ours, theirs) = version(1);
            ours.remote = [192, 0, 2, 52].into();
            ours.children.iter_mut().for_each(|child| child.start = false);
            let theirs = Settings { connection: "encap = no\n remote_addrs = 192.0.2.51", ..theirs };
            cable.charon.load(&theirs)?;
            let before = cable.charon.log()?.len();
            let ours = cable.engine(ours)?;
            let strip = Action::Change(Box::new(move |bytes: &mut Vec<u8>| {
                datagram::edit(bytes, |payloads| {
                    payloads.retain(|payload| !lost.iter().any(|id| payload.body == *id));
                });
            }));
            match role {
                Role::Initiator => {
                    ours.state().out.script(0, strip);
                    ours.command(Command::InitiateChild(CHILD));
                }
                Role::Responder => {
                    ours.state().inward.script(0, strip);
                    cable.charon.try_swanctl("--initiate --child net --timeout 10")?;
                }
            }
            ours.settles(1)?;
            cable
                .charon
                .logs_after(before, &format!("received draft-ietf-ipsec-nat-t-{spoken} vendor ID"))?;
            ensure!(
                !cable.charon.log()?[before..].contains("received NAT-T (RFC 3947)"),
                "the RFC's is left"
            );
            encapsulated(&cable, &ours)?;
            draft_numbers(&ours)?;
            // Of our quick mode: UDP-Encapsulated-Tunnel as the drafts number it.
            cable.charon.logs_after(before, &format!("=> {UDP_TUNNEL_DRAFT}"))?;
            rekeys(&cable, &ours)?;
            cable.ends(ours)
        })?;
    }
    Ok(())
}

/// All NAT-D payloads of main mode, two in each of messages 3 and 4, have the drafts' type.
fn draft_numbers(ours: &Ours) -> Result<()> {
    const MAIN_MODE: u8 = 2;
    const NAT_D_DRAFT: u8 = 130;
    let wire = ours.state().wire.clone();
    for direction in [Direction::Out, Direction::In] {
        let of_end = wire.iter().filter(|datagram| datagram.direction == direction);
        let main_mode = of_end.filter(|datagram| datagram::exchange(&datagram.bytes) == Some(MAIN_MODE));
        let payloads = main_mode.filter_map(|datagram| datagram::payloads_v1(&datagram.bytes)).flatten();
        let kinds: Vec<u8> = payloads.map(|payload| payload.kind).collect();
        let count = |kind: u8| kinds.iter().filter(|found| **found == kind).count();
        ensure!(count(NAT_D_DRAFT) == 2 && count(NAT_D) == 0, "{direction:?} {kinds:?}");
    }
    Ok(())
}

/// A NAT in the namespace itself: what its address sends is seen at another one, and found there.
pub(crate) fn hide(namespace: &Namespace, inner: &str, public: &str) -> Result<()> {
    namespace.ip(&format!("addr add {public}/24 dev eth0"))?;
    for line in [
        "add table ip nat".to_owned(),
        "add chain ip nat post { type nat hook postrouting priority 100; }".to_owned(),
        "add chain ip nat pre { type nat hook prerouting priority -100; }".to_owned(),
        format!("add rule ip nat post ip saddr {inner} ip protocol udp snat to {public}"),
        format!("add rule ip nat pre ip daddr {public} ip protocol udp dnat to {inner}"),
    ] {
        namespace.run(&format!("nft {line}"))?;
    }
    Ok(())
}
