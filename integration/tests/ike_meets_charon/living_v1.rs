//! What IKEv1 has already is replaced by both ends before either hears of the other: a pair, or the phase 1 that it was
//! made on. Of two new ones, each end keeps what it likes for a while; but never does one send on what the other does not
//! have, and in the end one is left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ike::{Command, Limits};
use integration::interop::Role;

use crate::cable::{Cable, limits, scenario};
use crate::charon::{Charon, Settings};
use crate::crossings_v1::Begun::{Here, There};
use crate::crossings_v1::Part::{Keys, Proofs, Quick};
use crate::crossings_v1::{Order, gated, offers};
use crate::ours::{CHILD, CONNECTION, Ours};

/// How long a pair that was taken out still receives (the engine's default).
const LINGER: Duration = Duration::from_secs(5);
/// How long messages are held back, and the ends watched at most after that.
const HELD_FOR: Duration = Duration::from_secs(3);
const WATCH: Duration = Duration::from_secs(40);
const MUST_AGREE: Duration = Duration::from_secs(2);

/// Pairs and IKE SAs of charon's.
#[derive(Debug, Default)]
struct Theirs {
    /// On which it receives.
    inward: BTreeSet<u32>,
    /// On which it may send: those that it has not replaced.
    outward: BTreeSet<u32>,
    /// Of all children, replaced ones too.
    children: usize,
    ike_sas: usize,
}

impl Theirs {
    fn of(charon: &Charon) -> Result<Self> {
        let shown = charon.swanctl("--list-sas")?;
        let mut theirs = Self { ike_sas: shown.matches("IKEv1,").count(), ..Self::default() };
        let mut replaced = false;
        for line in shown.lines().map(str::trim) {
            let spi = |word: &str| {
                let rest = line.strip_prefix(word)?.trim_start();
                u32::from_str_radix(rest.get(..8)?, 16).ok()
            };
            if line.contains(", reqid ") {
                theirs.children += 1;
                replaced = line.contains("REKEYED") || line.contains("DELET");
            }
            theirs.inward.extend(spi("in "));
            theirs.outward.extend(spi("out ").filter(|_| !replaced));
        }
        Ok(theirs)
    }
}

/// What was seen of ours: pairs, and when they were last there.
#[derive(Default)]
struct Watched {
    here: BTreeMap<u32, Instant>,
}

impl Watched {
    /// Looks at both ends; whether one pair on one phase 1 is all that is there.
    fn look(&mut self, cable: &Cable, engine: &Ours) -> Result<bool> {
        let before = Theirs::of(&cable.charon)?;
        let (sends, installed, sas) = {
            let state = engine.state();
            let sends = state.sending.and_then(|spi_in| state.installed.get(&spi_in));
            let installed: BTreeSet<u32> = state.installed.keys().copied().collect();
            (sends.map(|pair| pair.spi_out), installed, state.engine.isakmp_sas(Instant::now()).len())
        };
        self.here.extend(installed.iter().map(|spi| (*spi, Instant::now())));
        let after = Theirs::of(&cable.charon)?;
        let sends = sends.context("we have nothing to send on")?;
        // What one of two looks shows may have come or gone meanwhile.
        let inward: BTreeSet<u32> = before.inward.union(&after.inward).copied().collect();
        ensure!(inward.contains(&sends), "we send on {sends:08x}, charon has {inward:08x?}");
        let receives = |spi: &&u32| self.here.get(*spi).is_some_and(|seen| seen.elapsed() < LINGER);
        let lost: Vec<&u32> =
            before.outward.intersection(&after.outward).filter(|spi| !receives(spi)).collect();
        ensure!(lost.is_empty(), "charon may send on {lost:08x?}, we have {installed:08x?}");
        ensure!(!after.outward.is_empty(), "charon has nothing to send on: {after:08x?}");
        Ok(sas == 1 && after.ike_sas == 1 && after.children == 1 && after.outward == installed)
    }

    fn until_one_is_left(&mut self, cable: &Cable, engine: &Ours) -> Result<()> {
        let begin = Instant::now();
        let mut settled_since = None;
        while begin.elapsed() < WATCH {
            let settled = self.look(cable, engine).with_context(|| told(cable, engine))?;
            if !settled {
                settled_since = None;
            } else if settled_since.get_or_insert_with(Instant::now).elapsed() > MUST_AGREE {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("more than one is left; {}", told(cable, engine))
    }
}

fn told(cable: &Cable, engine: &Ours) -> String {
    let state = engine.state();
    let sas = state.engine.isakmp_sas(Instant::now());
    format!("{:?}; {sas:x?}; {}", state.events, cable.charon.try_swanctl("--list-sas").unwrap_or_default())
}

/// One is up, begun by the one whose role it is; then both begin `replace`, and their messages pass in this order.
fn replaced(
    cable: &Cable,
    role: Role,
    what: &'static str,
    ours: Command,
    theirs: &str,
    order: Order,
) -> Result<()> {
    scenario(17, what, role).judge(|| {
        let (mut connection, _) = offers();
        connection.children.iter_mut().for_each(|child| child.start = role == Role::Initiator);
        let limits = Limits { phase_one_linger: Duration::from_secs(3), ..limits() };
        let engine = Ours::start(&cable.ours, limits, connection)?;
        if role == Role::Responder {
            cable.charon.try_swanctl("--initiate --child net --timeout 10")?;
        }
        let before = engine.settles(1)?;
        {
            let mut state = engine.state();
            state.out.hold();
            state.inward.hold();
        }
        engine.command(ours);
        cable.charon.swanctl(theirs)?;
        engine.until("both beginnings", |state| {
            ensure!(state.out.holding() > 0 && state.inward.holding() > 0);
            Ok(())
        })?;
        let mut watched = Watched::default();
        gated(&engine, order, HELD_FOR, || watched.look(cable, &engine).map(drop))
            .with_context(|| told(cable, &engine))?;
        watched.until_one_is_left(cable, &engine)?;
        let after = engine.settles(1)?;
        match ours {
            Command::RekeyChild(_) => ensure!(after.children != before.children, "the same pair"),
            _ => ensure!(after.spi_i != before.spi_i, "{before:x?} {after:x?}"),
        }
        drop(engine);
        cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
    })
}

fn cable() -> Result<Cable> {
    let cable = Cable::new()?;
    // Both like the same best: either end's pair replaces the other's.
    let (_, theirs) = offers();
    cable.charon.load(&Settings { esp: "aes128gcm16-noesn", ..theirs })?;
    Ok(cable)
}

/// In step whoever began what is there, late with one of them: who it was matters little, and each takes its time.
fn scenarios(
    [in_step, ours_late, theirs_late]: [(&'static str, Order); 3],
) -> [(Role, (&'static str, Order)); 4] {
    [
        (Role::Initiator, in_step),
        (Role::Responder, in_step),
        (Role::Initiator, ours_late),
        (Role::Responder, theirs_late),
    ]
}

#[test]
fn a_pair_may_be_rekeyed_by_both_at_once() -> Result<()> {
    const ORDERS: [(&str, Order); 3] = [
        ("IKEv1, a living phase 2 rekeyed by both at once, in step", &[&[(Quick, Here), (Quick, There)]]),
        (
            "IKEv1, a living phase 2 rekeyed by both at once, ours late",
            &[&[(Quick, There)], &[(Quick, Here)]],
        ),
        (
            "IKEv1, a living phase 2 rekeyed by both at once, the peer's late",
            &[&[(Quick, Here)], &[(Quick, There)]],
        ),
    ];
    let cable = cable()?;
    for (role, (what, order)) in scenarios(ORDERS) {
        replaced(&cable, role, what, Command::RekeyChild(CHILD), "--rekey --child net", order)?;
    }
    Ok(())
}

#[test]
fn a_phase_1_may_be_replaced_by_both_at_once() -> Result<()> {
    const ORDERS: [(&str, Order); 3] = [
        (
            "IKEv1, a living phase 1 replaced by both at once, in step",
            &[&[(Keys, Here), (Keys, There)], &[(Proofs, Here), (Proofs, There)]],
        ),
        (
            "IKEv1, a living phase 1 replaced by both at once, ours late",
            &[&[(Keys, There)], &[(Proofs, There)], &[(Keys, Here)], &[(Proofs, Here)]],
        ),
        (
            "IKEv1, a living phase 1 replaced by both at once, the peer's late",
            &[&[(Keys, Here)], &[(Proofs, Here)], &[(Keys, There)], &[(Proofs, There)]],
        ),
    ];
    let cable = cable()?;
    for (role, (what, order)) in scenarios(ORDERS) {
        replaced(&cable, role, what, Command::RekeyIke(CONNECTION), "--rekey --ike far", order)?;
    }
    Ok(())
}
