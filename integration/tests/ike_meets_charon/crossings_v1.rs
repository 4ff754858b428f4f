//! Both ends begin IKEv1 before either hears of the other, and their messages arrive in any order. Version 1 has no word
//! for which phase 1 and which pair stays: whatever each end makes of it, neither may send for long on a pair that the
//! other does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ike::sim::setup;
use ike::{
    Command, Connection, EspEncryption, EspProposal, Group, Hash, IkeEncryption, IkeProposal, Ikev1, Limits,
    Version,
};
use integration::interop::Role;

use crate::cable::{Cable, connection, limits, scenario};
use crate::charon::{Charon, Settings};
use crate::ours::{CHILD, Ours, State};
use crate::relay::Direction;

/// A part of what one end begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Messages 1 to 4 of main mode.
    Keys,
    /// Messages 5 and 6, in which the two prove themselves.
    Proofs,
    /// Quick mode.
    Quick,
}

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    Here,
    There,
}

use Begun::{Here, There};
use Part::{Keys, Proofs, Quick};

/// What passes while something of it waits: the first group, then the second, and so on; inside a group as it comes.
pub(crate) type Order = &'static [&'static [(Part, Begun)]];

/// How long an answer may take on a busy machine, where there is one.
const ANSWERED: Duration = Duration::from_millis(400);
/// How often is looked whether something waits.
const STEP: Duration = Duration::from_millis(10);
/// How long the ends may differ: a DELETE is on its way, or what is late is still taken.
const MAY_DIFFER: Duration = Duration::from_secs(8);
/// How long messages are held back.
const HELD_FOR: Duration = Duration::from_secs(10);
/// How long both ends are watched at most after the last message was held back, and how long they must agree.
const WATCH: Duration = Duration::from_secs(60);
const MUST_AGREE: Duration = Duration::from_secs(5);

/// What both have to offer for either phase.
pub(crate) fn offers() -> (Connection, Settings) {
    let mut ours = connection();
    ours.version = Version::V1(Ikev1::default());
    ours.proposals = vec![IkeProposal {
        encryption: vec![IkeEncryption::Aes128Cbc],
        integrity: vec![Hash::Sha2_256],
        prf: vec![Hash::Sha2_256],
        groups: vec![Group::EcpP256],
        ..setup::modern()
    }];
    for child in &mut ours.children {
        child.start = false;
        child.proposals = vec![EspProposal {
            encryption: vec![EspEncryption::Aes128Gcm16, EspEncryption::Aes256Gcm16],
            integrity: vec![],
            groups: vec![],
            esn: vec![false],
        }];
    }
    // Each end prefers another one: the two pairs differ, and strongSwan takes neither for the other's rekey.
    let esp = "aes256gcm16-noesn,aes128gcm16-noesn";
    (ours, Settings { version: 1, ike: "aes128-sha256-ecp256", esp, ..Settings::default() })
}

/// Chooses what passes.
pub(crate) struct Gate {
    order: Order,
    /// Who began the quick mode with this message id.
    quicks: BTreeMap<[u8; 4], Begun>,
    passed: BTreeSet<Vec<u8>>,
}

/// What the gate did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    Nothing,
    /// What had passed before: nobody answers it with anything new.
    Again,
    New,
}

impl Gate {
    fn what(&mut self, state: &State, direction: Direction, datagram: &[u8]) -> Option<(Part, Begun)> {
        const MAIN: u8 = 2;
        const QUICK: u8 = 32;
        const ENCRYPTED: u8 = 1;
        let message = datagram.strip_prefix(&[0; 4]).unwrap_or(datagram);
        let cookie = message.get(..8)?;
        let (exchange, flags) = (*message.get(18)?, *message.get(19)?);
        match exchange {
            MAIN => {
                let begins =
                    |known: &Vec<u8>| known.get(..8) == Some(cookie) && known.get(8..16) == Some(&[0; 8]);
                let begun = if state.out.known().iter().any(begins) { Here } else { There };
                Some((if flags & ENCRYPTED == 0 { Keys } else { Proofs }, begun))
            }
            QUICK => {
                let id = <[u8; 4]>::try_from(message.get(20..24)?).ok()?;
                // The first with this id that is seen is from who begins: the other end knows it not yet.
                let first = if direction == Direction::Out { Here } else { There };
                Some((Quick, *self.quicks.entry(id).or_insert(first)))
            }
            _ => None,
        }
    }

    /// Lets the next one pass.
    fn pass(&mut self, state: &mut State) -> Passed {
        let mut best: Option<(usize, Direction, usize, Vec<u8>)> = None;
        for direction in [Direction::Out, Direction::In] {
            let held: Vec<Vec<u8>> = match direction {
                Direction::Out => state.out.held().map(<[u8]>::to_vec).collect(),
                Direction::In => state.inward.held().map(<[u8]>::to_vec).collect(),
            };
            for (index, datagram) in held.iter().enumerate() {
                let rank = match self.what(state, direction, datagram) {
                    Some(what) => {
                        self.order.iter().position(|group| group.contains(&what)).unwrap_or(usize::MAX)
                    }
                    None => 0,
                };
                if best.as_ref().is_none_or(|(known, ..)| rank < *known) {
                    best = Some((rank, direction, index, datagram.clone()));
                }
            }
        }
        let now = Instant::now();
        let Some((_, direction, index, datagram)) = best else { return Passed::Nothing };
        match direction {
            Direction::Out => state.out.release_one(now, index),
            Direction::In => state.inward.release_one(now, index),
        }
        if self.passed.insert(datagram) { Passed::New } else { Passed::Again }
    }
}

/// What charon has: its inbound SPIs, its outbound ones, and how many IKE SAs.
fn of_charon(charon: &Charon) -> Result<(BTreeSet<u32>, BTreeSet<u32>, usize)> {
    let shown = charon.swanctl("--list-sas")?;
    let spis = |word: &str| {
        shown
            .lines()
            .filter_map(|line| line.trim().strip_prefix(word))
            .filter_map(|rest| u32::from_str_radix(rest.trim_start().get(..8)?, 16).ok())
            .collect()
    };
    Ok((spis("in "), spis("out "), shown.matches("IKEv1,").count()))
}

/// How the two ends differ, and whether all is settled where they do not.
fn compare(cable: &Cable, engine: &Ours) -> Result<(Option<String>, bool)> {
    let (inward, outward, ike_sas) = of_charon(&cable.charon)?;
    let state = engine.state();
    let sends = state.sending.and_then(|spi_in| state.installed.get(&spi_in)).map(|pair| pair.spi_out);
    let ours: BTreeSet<u32> = state.installed.keys().copied().collect();
    let theirs: BTreeSet<u32> = state.installed.values().map(|pair| pair.spi_out).collect();
    let sas = state.engine.isakmp_sas(Instant::now());
    let settled = sas.len() == 1 && ike_sas == 1 && ours == outward && theirs == inward;
    let differs = match sends {
        None => Some("we have nothing to send on".to_owned()),
        Some(spi) if !inward.contains(&spi) => {
            Some(format!("we send on {spi:08x}, charon has {inward:08x?}"))
        }
        // Which of them its kernel takes is not ours to know.
        Some(_) if !outward.is_subset(&ours) => {
            Some(format!("charon has {outward:08x?} to send on, we {ours:08x?}"))
        }
        Some(_) => None,
    };
    Ok((differs, settled))
}

fn crossed(what: &'static str, order: Order) -> Result<()> {
    scenario(17, what, Role::Initiator).judge(|| {
        let cable = Cable::new()?;
        let (ours, theirs) = offers();
        cable.charon.load(&theirs)?;
        let limits = Limits { phase_one_linger: Duration::from_secs(5), ..limits() };
        let engine = Ours::start(&cable.ours, limits, ours)?;
        {
            let mut state = engine.state();
            state.out.hold();
            state.inward.hold();
        }
        engine.command(Command::InitiateChild(CHILD));
        cable.charon.try_swanctl("--initiate --child net --timeout -1")?;
        engine.until("both beginnings", |state| {
            ensure!(state.out.holding() > 0 && state.inward.holding() > 0);
            Ok(())
        })?;
        let gate = gated(&engine, order, HELD_FOR, || Ok(()))?;
        ensure!(gate.quicks.values().any(|begun| *begun == There), "charon began no quick mode");
        watch(&cable, &engine)
    })
}

/// What waits passes in this order, and after that time as it comes. Looks on after each message.
pub(crate) fn gated(
    engine: &Ours,
    order: Order,
    held_for: Duration,
    mut look: impl FnMut() -> Result<()>,
) -> Result<Gate> {
    let mut gate = Gate { order, quicks: BTreeMap::new(), passed: BTreeSet::new() };
    let held_until = Instant::now() + held_for;
    let said = |state: &State| state.out.count() + state.inward.count();
    while Instant::now() < held_until {
        let (before, passed) = {
            let mut state = engine.state();
            (said(&state), gate.pass(&mut state))
        };
        // What the answer to it is decides what passes next.
        let answered_by = Instant::now() + ANSWERED;
        while passed == Passed::New && said(&engine.state()) == before && Instant::now() < answered_by {
            std::thread::sleep(STEP);
        }
        if passed == Passed::Nothing {
            std::thread::sleep(STEP);
        } else {
            look()?;
        }
    }
    let mut state = engine.state();
    let now = Instant::now();
    state.out.release(now);
    state.inward.release(now);
    Ok(gate)
}

fn watch(cable: &Cable, engine: &Ours) -> Result<()> {
    let begin = Instant::now();
    let (mut differ_since, mut settled_since) = (None, None);
    while begin.elapsed() < WATCH {
        let (differs, settled) = compare(cable, engine)?;
        match differs {
            None => differ_since = None,
            Some(how) => {
                let since = *differ_since.get_or_insert_with(Instant::now);
                if since.elapsed() > MAY_DIFFER {
                    let (shown, log) = (cable.charon.swanctl("--list-sas")?, cable.charon.log()?);
                    let told =
                        |line: &&str| line.contains("[IKE]") && !line.contains("=>") && !line.contains("   ");
                    let log: Vec<&str> = log.lines().filter(told).collect();
                    bail!(
                        "{how} for {:?}; {:?}; {shown} {}",
                        since.elapsed(),
                        engine.state().events,
                        log.join("\n")
                    );
                }
            }
        }
        if !settled {
            settled_since = None;
        } else if settled_since.get_or_insert_with(Instant::now).elapsed() > MUST_AGREE {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    let sas = engine.state().engine.isakmp_sas(Instant::now());
    bail!("not settled: {sas:?}; {}", cable.charon.swanctl("--list-sas").context("charon is gone")?)
}

#[test]
fn in_step() -> Result<()> {
    crossed(
        "IKEv1, both begin at once, in step",
        &[
            &[(Keys, Here), (Keys, There)],
            &[(Proofs, Here), (Proofs, There)],
            &[(Quick, Here), (Quick, There)],
        ],
    )
}

#[test]
fn one_after_the_other() -> Result<()> {
    crossed(
        "IKEv1, both begin at once, ours is through before the peer's arrives",
        &[
            &[(Keys, Here)],
            &[(Proofs, Here)],
            &[(Quick, Here)],
            &[(Keys, There), (Proofs, There), (Quick, There)],
        ],
    )?;
    crossed(
        "IKEv1, both begin at once, the peer's is through before ours arrives",
        &[
            &[(Keys, There)],
            &[(Proofs, There)],
            &[(Quick, There)],
            &[(Keys, Here), (Proofs, Here), (Quick, Here)],
        ],
    )
}

#[test]
fn with_one_proof_late() -> Result<()> {
    crossed(
        "IKEv1, both begin at once, our proof arrives when the peer's pair is there",
        &[
            &[(Keys, Here), (Keys, There)],
            &[(Proofs, There)],
            &[(Quick, There)],
            &[(Proofs, Here)],
            &[(Quick, Here)],
        ],
    )?;
    crossed(
        "IKEv1, both begin at once, the peer's proof arrives when our pair is there",
        &[
            &[(Keys, Here), (Keys, There)],
            &[(Proofs, Here)],
            &[(Quick, Here)],
            &[(Proofs, There)],
            &[(Quick, There)],
        ],
    )?;
    crossed(
        "IKEv1, both begin at once, our proof is on the way before the peer's beginning arrives, and comes last",
        &[
            &[(Keys, Here)],
            &[(Keys, There)],
            &[(Proofs, There)],
            &[(Quick, There)],
            &[(Proofs, Here)],
            &[(Quick, Here)],
        ],
    )
}

#[test]
fn with_both_phases_1_before_any_pair() -> Result<()> {
    crossed(
        "IKEv1, both begin at once, our phase 1 first, then the peer's, then its pair before ours",
        &[
            &[(Keys, Here)],
            &[(Proofs, Here)],
            &[(Keys, There)],
            &[(Proofs, There)],
            &[(Quick, There)],
            &[(Quick, Here)],
        ],
    )?;
    crossed(
        "IKEv1, both begin at once, the peer's phase 1 first, then ours, then our pair before its",
        &[
            &[(Keys, There)],
            &[(Proofs, There)],
            &[(Keys, Here)],
            &[(Proofs, Here)],
            &[(Quick, Here)],
            &[(Quick, There)],
        ],
    )
}
