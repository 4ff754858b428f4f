//! Messages of IKEv1 in pieces, as Cisco cuts them: nothing proves who made one. Whatever comes among charon's, the true
//! message is read, at the latest when it is said again.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ike::{Command, Event};
use integration::interop::Role;

use crate::cable::{Cable, scenario};
use crate::charon::Settings;
use crate::datagram::HEADER;
use crate::ikev1::classic;
use crate::ours::{CHILD, Ours};
use crate::relay::Direction;

const FRAGMENT: u8 = 132;
const LAST: u8 = 1;

/// What becomes of the pieces of one message.
struct Case {
    what: &'static str,
    change: fn(&[Vec<u8>]) -> Vec<Vec<u8>>,
    /// How many of them our engine cannot have.
    refused: usize,
}

const CASES: &[Case] = &[
    Case {
        what: "IKEv1, pieces in reverse order",
        change: |pieces| pieces.iter().rev().cloned().collect(),
        refused: 0,
    },
    Case {
        what: "IKEv1, each piece twice",
        change: |pieces| pieces.iter().flat_map(|piece| [piece.clone(), piece.clone()]).collect(),
        refused: 0,
    },
    Case { what: "IKEv1, the first piece lost", change: |pieces| pieces[1..].to_vec(), refused: 0 },
    Case {
        what: "IKEv1, the last piece lost",
        change: |pieces| pieces[..pieces.len() - 1].to_vec(),
        refused: 0,
    },
    Case {
        what: "IKEv1, pieces with number 0 and with the greatest number",
        change: |pieces| among(pieces, &[(ID, 0, 0), (ID, 255, 0), (ID, 255, LAST)]),
        refused: 3,
    },
    Case {
        what: "IKEv1, a piece above the last",
        change: |pieces| {
            let above = made(&pieces[0], (ID, 9, 0));
            [pieces, &[above]].concat().into_iter().rev().collect()
        },
        refused: 0,
    },
    Case {
        what: "IKEv1, two pieces that say that they are the last",
        change: |pieces| among(pieces, &[(ID, 9, LAST)]),
        refused: 0,
    },
    Case {
        what: "IKEv1, the same numbers with other content before the true pieces",
        change: |pieces| {
            let forged =
                (1..pieces.len()).map(|number| made(&pieces[0], (ID, u8::try_from(number).unwrap_or(0), 0)));
            forged.chain(pieces.iter().cloned()).collect()
        },
        refused: 0,
    },
    Case {
        what: "IKEv1, a piece of another message midway",
        change: |pieces| among(pieces, &[(ID + 6, 1, 0)]),
        refused: 0,
    },
];

/// charon's only id of messages in pieces.
const ID: u16 = 1;

/// The first piece, then what somebody makes of it, then the others.
fn among(pieces: &[Vec<u8>], made_up: &[(u16, u8, u8)]) -> Vec<Vec<u8>> {
    let (first, others) = pieces.split_at(1);
    let made_up: Vec<Vec<u8>> = made_up.iter().map(|place| made(&pieces[0], *place)).collect();
    [first, &made_up, others].concat()
}

/// A piece with this id, number and flags, and other content.
fn made(of: &[u8], (id, number, flags): (u16, u8, u8)) -> Vec<u8> {
    let mut piece = of.to_vec();
    let at = of.len() - of.strip_prefix(&[0; 4]).unwrap_or(of).len() + HEADER + 4;
    piece[at..at + 2].copy_from_slice(&id.to_be_bytes());
    (piece[at + 2], piece[at + 3]) = (number, flags);
    piece[at + 4..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    piece
}

/// Number and flags of a piece: strongSwan gives all of them main mode's exchange, and no message id.
fn place(datagram: &[u8]) -> Option<(u8, u8)> {
    let message = datagram.strip_prefix(&[0; 4]).unwrap_or(datagram);
    let place = message.get(HEADER + 6..HEADER + 8).filter(|_| message[16] == FRAGMENT)?;
    Some((place[0], place[1]))
}

/// The message that was cut into these pieces.
fn whole(pieces: &[Vec<u8>]) -> Vec<u8> {
    let marker = if pieces[0].starts_with(&[0; 4]) { 4 } else { 0 };
    let contents = pieces.iter().flat_map(|piece| &piece[marker + HEADER + 8..]);
    pieces[0][..marker].iter().chain(contents).copied().collect()
}

/// charon's next message in pieces comes as the case has it.
fn change(engine: &Ours, case: &Case) -> Result<()> {
    let refused = |dropped: &[&str]| dropped.iter().filter(|why| **why == "bad_fragment").count();
    let before = engine.until("all pieces of a message", |state| {
        loop {
            let other = state.inward.held().position(|bytes| place(bytes).is_none());
            let Some(other) = other else { break };
            state.inward.release_one(Instant::now(), other);
        }
        let held = state.inward.held().filter_map(|bytes| Some((place(bytes)?, bytes.to_vec())));
        let pieces: BTreeMap<u8, (u8, Vec<u8>)> =
            held.map(|((number, flags), bytes)| (number, (flags, bytes))).collect();
        let last = pieces.iter().find(|(_, (flags, _))| flags & LAST != 0).map(|(number, _)| *number);
        ensure!(last.is_some_and(|last| last > 1 && pieces.len() == usize::from(last)), "{last:?}");
        let pieces: Vec<Vec<u8>> = pieces.into_values().map(|(_, bytes)| bytes).collect();
        let changed = (case.change)(&pieces);
        let last = state.wire.iter().rev().find(|datagram| datagram.direction == Direction::In);
        let path = last.context("nothing was heard")?.path;
        state.testimony.heard_in_pieces(path, &[pieces.as_slice(), &changed].concat(), &whole(&pieces));
        state.inward.release_as(Instant::now(), changed);
        Ok(refused(&state.dropped))
    })?;
    engine.until("the refusals", |state| {
        let found = refused(&state.dropped) - before;
        ensure!(found >= case.refused, "{found} in {:?}", state.dropped);
        Ok(())
    })
}

#[test]
fn of_charons_are_put_together_whatever_comes_among_them() -> Result<()> {
    let cable = Cable::with("fragment_size = 200")?;
    let (mut ours, theirs) = classic();
    ours.children.iter_mut().for_each(|child| child.start = false);
    cable.charon.load(&Settings { connection: "fragmentation = yes", ..theirs })?;
    for role in Role::BOTH {
        for case in CASES {
            scenario(30, case.what, role).judge(|| {
                let engine = cable.engine(ours.clone())?;
                engine.state().inward.hold();
                match role {
                    Role::Initiator => engine.command(Command::InitiateChild(CHILD)),
                    Role::Responder => drop(cable.charon.swanctl("--initiate --child net --timeout -1")?),
                }
                // Keys and nonce of main mode, then quick mode.
                change(&engine, case)?;
                engine.settles(1)?;
                engine.state().inward.hold();
                match role {
                    Role::Initiator => engine.command(Command::RekeyChild(CHILD)),
                    Role::Responder => drop(cable.charon.swanctl("--rekey --child net")?),
                }
                change(&engine, case)?;
                engine
                    .event("the rekey", |event| matches!(event, Event::ChildRekeyed { .. }).then_some(()))?;
                cable.ends(engine)
            })?;
        }
    }
    Ok(())
}
