//! Messages in pieces (RFC 7383) that come lost, twice, in another order, or with more among them: by the weather, by
//! somebody without the keys, or by somebody who has them. The true message is read, all else is dropped by name.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ike::key_log::KeyRecord;
use ike::{Command, Event, Limits, Path, RsaPadding};
use integration::interop::Role;
use rcgen::{CertificateParams, SanType};

use crate::cable::{Cable, connection, limits, scenario};
use crate::certificates::{OURS, THEIRS, Theirs, ours};
use crate::charon::Settings;
use crate::datagram::{self, CREATE_CHILD_SA, IKE_AUTH};
use crate::ours::{CHILD, CONNECTION, Ours, State};
use crate::pki::{Ca, params, remote};
use crate::relay::{Direction, Lane};
use crate::reseal::{self, Piece};

/// Longest IP packet of either end: all messages with payloads of some size are in pieces.
const NARROW_BYTES: usize = 200;
/// IPv4 and UDP.
const AROUND_BYTES: usize = 28;

/// The pieces of a message as their sender made them, and keys to make more.
struct True<'a> {
    pieces: &'a [Vec<u8>],
    keys: &'a [KeyRecord],
}

impl True<'_> {
    /// The first piece, then `more`, then the others.
    fn with(&self, more: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let (first, others) = self.pieces.split_at(1);
        [first, &more, others].concat()
    }

    /// An authentic piece of this message.
    fn piece(&self, first: u8, number: u16, total: u16, content: &[u8]) -> Result<Vec<u8>> {
        let piece = Piece { first, number, total, content: content.to_vec() };
        reseal::seal_piece(self.keys, &self.pieces[0], &piece)
    }

    fn total(&self) -> u16 {
        datagram::place(&self.pieces[0]).map_or(0, |(_, total)| total)
    }

    /// The same message in this many pieces.
    fn cut_anew(&self, total: u16) -> Result<Vec<Vec<u8>>> {
        let opened: Vec<Piece> =
            self.pieces.iter().map(|piece| reseal::open_piece(self.keys, piece)).collect::<Result<_>>()?;
        let whole: Vec<u8> = opened.iter().flat_map(|piece| piece.content.clone()).collect();
        let size = whole.len().div_ceil(usize::from(total));
        let cut = whole.chunks(size).zip(1..);
        cut.map(|(content, number)| {
            self.piece(if number == 1 { opened[0].first } else { 0 }, number, total, content)
        })
        .collect()
    }
}

/// What becomes of the pieces of one message.
struct Case {
    what: &'static str,
    /// Who does it has the keys.
    sealed: bool,
    change: fn(&True<'_>) -> Result<Vec<Vec<u8>>>,
    /// What of it our engine drops, and why.
    dropped: &'static [&'static str],
}

/// What may happen to pieces on any way, to either end.
const WEATHER: &[Case] = &[
    Case {
        what: "pieces in reverse order",
        sealed: false,
        change: |of| Ok(of.pieces.iter().rev().cloned().collect()),
        dropped: &[],
    },
    Case {
        what: "each piece twice",
        sealed: false,
        change: |of| Ok(of.pieces.iter().flat_map(|piece| [piece.clone(), piece.clone()]).collect()),
        dropped: &["fragment_repeated"],
    },
    Case {
        what: "the first piece lost",
        sealed: false,
        change: |of| Ok(of.pieces[1..].to_vec()),
        dropped: &[],
    },
    Case {
        what: "the last piece lost",
        sealed: false,
        change: |of| Ok(of.pieces[..of.pieces.len() - 1].to_vec()),
        dropped: &["fragment_repeated"],
    },
];

/// What comes among charon's pieces.
const HOSTILE: &[Case] = &[
    Case {
        what: "the same numbers with other content before the true pieces, not authentic",
        sealed: false,
        change: |of| {
            let forged = of.pieces.iter().cloned().map(|mut piece| {
                piece.iter_mut().rev().take(20).for_each(|byte| *byte ^= 0x5a);
                piece
            });
            Ok(forged.chain(of.pieces.iter().cloned()).collect())
        },
        dropped: &["integrity", "integrity"],
    },
    Case {
        what: "a larger total on the way, not authentic",
        sealed: false,
        change: |of| {
            let mut larger = of.pieces[0].clone();
            let at = larger.len() - of.pieces[0].strip_prefix(&[0; 4]).unwrap_or(&of.pieces[0]).len();
            datagram::set(&mut larger, at + 35, 60);
            Ok(of.with(vec![larger]))
        },
        dropped: &["integrity"],
    },
    Case {
        what: "the same number with other content after the true piece, authentic",
        sealed: true,
        change: |of| Ok(of.with(vec![of.piece(41, 1, of.total(), &[0x5a; 60])?])),
        dropped: &["fragment_repeated"],
    },
    Case {
        what: "a larger total midway: the message is cut anew",
        sealed: true,
        change: |of| {
            let mut anew = of.cut_anew(of.total() + 2)?;
            let last = anew.pop();
            Ok(of.pieces[..1]
                .iter()
                .cloned()
                .chain(anew)
                .chain(of.pieces[1..].to_vec())
                .chain(last)
                .collect())
        },
        dropped: &["fragment_outdated"],
    },
    Case {
        what: "a smaller total midway, authentic",
        sealed: true,
        change: |of| Ok(of.with(vec![of.piece(41, 1, of.total() - 1, &[0x5a; 60])?])),
        dropped: &["fragment_outdated"],
    },
    Case {
        what: "number 0, a number above the total, number 2 of 1, authentic",
        sealed: true,
        change: |of| {
            let more = [(0, of.total()), (of.total() + 1, of.total()), (2, 1), (0, 0)];
            let more = more.map(|(number, total)| of.piece(0, number, total, &[0x5a; 60]));
            Ok(of.with(more.into_iter().collect::<Result<_>>()?))
        },
        dropped: &["bad_fragment"; 4],
    },
    Case {
        what: "a total of 65,535, authentic",
        sealed: true,
        change: |of| {
            let more = [(41, 1), (0, 2), (0, 65_535)];
            let more = more.map(|(first, number)| of.piece(first, number, 65_535, &[0x5a; 60]));
            Ok(of.with(more.into_iter().collect::<Result<_>>()?))
        },
        dropped: &["too_many_fragments"; 3],
    },
    Case {
        what: "more octets in pieces than a message may have, authentic",
        sealed: true,
        // The eighth is one too many, and takes the seven with it.
        change: |of| {
            let flood = (2..=9).map(|number| of.piece(0, number, 64, &[0x5a; 9000]));
            let flood = flood.collect::<Result<Vec<_>>>()?;
            Ok(flood.into_iter().chain(of.pieces.iter().cloned()).collect())
        },
        dropped: &["fragments_too_long"],
    },
];

fn lane(state: &mut State, direction: Direction) -> &mut Lane<Path> {
    match direction {
        Direction::Out => &mut state.out,
        Direction::In => &mut state.inward,
    }
}

/// The pieces of the next message of this exchange, which wait; all else passes.
fn caught(engine: &Ours, direction: Direction, exchange: u8) -> Result<Vec<Vec<u8>>> {
    let is_piece =
        |bytes: &[u8]| datagram::place(bytes).is_some() && datagram::exchange(bytes) == Some(exchange);
    engine.until("all pieces of a message", |state| {
        let lane = lane(state, direction);
        loop {
            let other = lane.held().position(|bytes| !is_piece(bytes));
            let Some(other) = other else { break };
            lane.release_one(Instant::now(), other);
        }
        let pieces: BTreeMap<u16, Vec<u8>> =
            lane.held().filter_map(|bytes| Some((datagram::place(bytes)?.0, bytes.to_vec()))).collect();
        let total = pieces.values().next().and_then(|bytes| datagram::place(bytes)).map(|(_, total)| total);
        ensure!(total.is_some_and(|total| total > 1 && pieces.len() == usize::from(total)), "{total:?}");
        Ok(pieces.into_values().collect())
    })
}

/// The next message of this exchange comes as the case has it.
fn change(engine: &Ours, direction: Direction, exchange: u8, case: &Case) -> Result<()> {
    let pieces = caught(engine, direction, exchange)?;
    let known = |state: &State| reseal::open_piece(&state.keys, &pieces[0]).is_ok();
    if case.sealed && !known(&engine.state()) {
        // Who answers makes the keys when the first piece is here.
        let state = &mut *engine.state();
        let lane = lane(state, direction);
        let first = lane.held().position(|bytes| bytes == pieces[0]).context("it is gone")?;
        lane.release_one(Instant::now(), first);
    }
    engine.until("keys", |state| {
        ensure!(!case.sealed || known(state), "none");
        Ok(())
    })?;
    let dropped = {
        let state = &mut *engine.state();
        let datagrams = (case.change)(&True { pieces: &pieces, keys: &state.keys })?;
        lane(state, direction).release_as(Instant::now(), datagrams);
        state.dropped.len()
    };
    if direction == Direction::Out {
        return Ok(());
    }
    engine.until("the drops", |state| {
        let since = &state.dropped[dropped..];
        let count = |words: &[&'static str], why: &str| words.iter().filter(|word| **word == why).count();
        let missing = case.dropped.iter().find(|why| count(since, why) < count(case.dropped, why));
        ensure!(missing.is_none(), "{missing:?} is not in {since:?}");
        Ok(())
    })
}

/// IKE_AUTH and the rekey of the IKE SA, both begun by the one whose role it is, with such pieces of one end.
fn up_and_rekeyed(cable: &Cable, role: Role, direction: Direction, case: &Case) -> Result<()> {
    let mut waiting = connection();
    waiting.children.iter_mut().for_each(|child| child.start = false);
    let narrow = Limits { fragment_ipv4_bytes: NARROW_BYTES, ..limits() };
    let engine = Ours::start(&cable.ours, narrow, waiting)?;
    lane(&mut engine.state(), direction).hold();
    match role {
        Role::Initiator => engine.command(Command::InitiateChild(CHILD)),
        Role::Responder => drop(cable.charon.swanctl("--initiate --child net --timeout -1")?),
    }
    change(&engine, direction, IKE_AUTH, case)?;
    let before = engine.settles(1)?;
    lane(&mut engine.state(), direction).hold();
    match role {
        Role::Initiator => engine.command(Command::RekeyIke(CONNECTION)),
        Role::Responder => drop(cable.charon.swanctl("--rekey --ike far")?),
    }
    change(&engine, direction, CREATE_CHILD_SA, case)?;
    engine.event("the IKE SA's rekey", |event| matches!(event, Event::IkeRekeyed { .. }).then_some(()))?;
    let after = engine.settles(1)?;
    ensure!(after.spi_i != before.spi_i && after.children == before.children, "{before:?} {after:?}");
    engine.until("the same at charon", |_| {
        let shown = cable.charon.swanctl("--list-sas")?;
        let alone = shown.matches("IKEv2,").count() == 1 && shown.contains(&format!("{:016x}", after.spi_i));
        ensure!(alone && shown.contains("INSTALLED"), "{shown}");
        Ok(())
    })?;
    engine.command(Command::Terminate(CONNECTION));
    engine.until("the end at both ends", |state| {
        ensure!(state.installed.is_empty() && state.engine.isakmp_sas(Instant::now()).is_empty(), "ours");
        let shown = cable.charon.swanctl("--list-sas")?;
        ensure!(shown.trim().is_empty(), "{shown}");
        Ok(())
    })
}

fn cable() -> Result<Cable> {
    let cable = Cable::with(&format!("fragment_size = {NARROW_BYTES}"))?;
    cable.charon.load(&Settings { connection: "fragmentation = yes", ..Settings::default() })?;
    Ok(cable)
}

#[test]
fn of_charons_are_put_together_whatever_comes_among_them() -> Result<()> {
    let cable = cable()?;
    for role in Role::BOTH {
        for case in WEATHER.iter().chain(HOSTILE) {
            scenario(29, case.what, role).judge(|| up_and_rekeyed(&cable, role, Direction::In, case))?;
        }
    }
    Ok(())
}

#[test]
fn of_ours_are_put_together_by_charon() -> Result<()> {
    const OUT: [&str; 4] = [
        "our pieces in reverse order",
        "each piece of ours twice",
        "our first piece lost",
        "our last piece lost",
    ];
    let cable = cable()?;
    for role in Role::BOTH {
        for (what, case) in OUT.into_iter().zip(WEATHER) {
            scenario(29, what, role).judge(|| up_and_rekeyed(&cable, role, Direction::Out, case))?;
        }
    }
    Ok(())
}

/// Chains of certificates are what grows beyond a path most often.
#[test]
fn a_chain_of_six_kilobytes_fits_through_narrow_paths() -> Result<()> {
    let long = |params: &mut CertificateParams| {
        let name = |number: u8| format!("service-{number}.of-a-rather-long-name.example").try_into();
        let names = (0..40).filter_map(|number| name(number).ok()).map(SanType::DnsName);
        params.subject_alt_names.extend(names);
    };
    let root = Ca::root("Root")?;
    let regional = root.below("Regional", long)?;
    let issuing = regional.below("Issuing", long)?;
    let below = |name| {
        let mut params = params(name)?;
        long(&mut params);
        Ok::<_, anyhow::Error>(issuing.leaf(&params)?.with_issuer(&issuing).with_issuer(&regional))
    };
    let (own, far) = (below(OURS)?, below(THEIRS)?);
    let connection = ours(own.local(RsaPadding::Pss)?, remote(root.trust())?);
    for (path, what) in [
        (576, "a chain of certificates of 6 KB on a path of 576 octets"),
        (1280, "a chain of certificates of 6 KB on a path of 1,280 octets"),
    ] {
        let cable = Cable::with(&format!("fragment_size = {path}"))?;
        Theirs::new(&far, &root).configure(&cable)?;
        for role in Role::BOTH {
            scenario(29, what, role).judge(|| {
                let mut connection = connection.clone();
                connection.children.iter_mut().for_each(|child| child.start = role == Role::Initiator);
                let narrow = Limits { fragment_ipv4_bytes: path, ..limits() };
                let engine = Ours::start(&cable.ours, narrow, connection)?;
                if role == Role::Responder {
                    cable.charon.try_swanctl("--initiate --child net --timeout 10")?;
                }
                engine.settles(1)?;
                let wire = engine.state().wire.clone();
                for direction in [Direction::In, Direction::Out] {
                    let of_end = wire.iter().filter(|datagram| datagram.direction == direction);
                    let pieces = of_end.filter(|datagram| datagram::place(&datagram.bytes).is_some());
                    let lengths: Vec<usize> = pieces.map(|datagram| datagram.bytes.len()).collect();
                    let within = lengths.iter().all(|length| length + AROUND_BYTES <= path);
                    ensure!(within && lengths.iter().sum::<usize>() > 6000, "{direction:?} {lengths:?}");
                }
                drop(engine);
                cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
            })?;
        }
    }
    Ok(())
}
