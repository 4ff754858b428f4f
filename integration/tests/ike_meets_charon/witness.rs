//! Independent eyes on every scenario: what our engine said is decoded by tshark, its keys are compared with charon's.
//!
//! Each engine leaves its testimony with the thread of its test when it ends; the guard in the cable judges it all when
//! the last cable goes, and no test can forget that. What is expected follows from what the engine did: as many
//! protected messages must open as it sent, and as many sets of keys must be charon's too as SAs came up.

mod charon_keys;
mod doubts;

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use ike::ChildPair;
use ike::key_log::Made;
use integration::leftovers::KEEP_FILES;
use integration::pcap;
use integration::witness::keys::Keys;
use integration::witness::{self, Direction};

/// What an engine leaves behind.
#[derive(Clone, Default)]
pub(crate) struct Testimony {
    /// What it said, before the relay touched it, and what it heard, after; each message once.
    pub(crate) messages: Vec<(Direction, pcap::Datagram)>,
    /// The same to look up: ours, and its octets.
    known: HashSet<(bool, Vec<u8>)>,
    /// The keys that it made.
    pub(crate) keys: Made,
    /// SPIs or cookies of the IKE SAs that were established.
    pub(crate) established: Vec<(u64, u64)>,
    /// The children that were installed.
    pub(crate) pairs: Vec<ChildPair>,
}

impl Testimony {
    /// A message, unless it was there already: a retransmission tells nothing new, and a decoder of IKEv1 would take it
    /// for the next in the chain of IVs.
    pub(crate) fn message(&mut self, direction: Direction, path: ike::Path, bytes: &[u8]) {
        if !self.known.insert((direction == Direction::Out, bytes.to_vec())) {
            return;
        }
        let (source, destination) = match direction {
            Direction::Out => (path.local, path.remote),
            Direction::In => (path.remote, path.local),
        };
        self.messages.push((direction, pcap::Datagram { source, destination, payload: bytes.to_vec() }));
    }

    /// A message that arrives in these pieces, among which are others' too, is looked at whole, as its sender meant it: tshark
    /// puts pieces of version 1 together as they come, whatever their numbers.
    pub(crate) fn heard_in_pieces(&mut self, path: ike::Path, pieces: &[Vec<u8>], whole: &[u8]) {
        self.known.extend(pieces.iter().map(|piece| (false, piece.clone())));
        self.message(Direction::In, path, whole);
    }
}

#[derive(Clone, Default)]
struct Seen {
    guards: usize,
    engines: Vec<Testimony>,
    logs: Vec<PathBuf>,
}

thread_local! {
    static SEEN: RefCell<Seen> = RefCell::default();
}

/// The guard: judges when it is dropped, and panics if somebody disagrees with us.
pub(crate) struct Witness {
    dir: PathBuf,
}

impl Witness {
    /// From now on engines may start on this thread; files go to this directory.
    pub(crate) fn new(dir: &Path) -> Self {
        SEEN.with_borrow_mut(|seen| seen.guards += 1);
        Self { dir: dir.to_owned() }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let seen = SEEN.with_borrow_mut(|seen| {
            seen.guards -= 1;
            (seen.guards == 0).then(|| std::mem::take(seen))
        });
        let Some(seen) = seen.filter(|_| !std::thread::panicking()) else { return };
        let Err(error) = seen.judge(&self.dir) else { return };
        // A scenario that failed has its own words, and what it broke off proves nothing.
        let failed_before = KEEP_FILES.load(Ordering::Acquire);
        assert!(failed_before, "the witness: {error:#}");
        eprintln!("besides, the witness: {error:#}");
    }
}

/// An engine whose testimony nobody would hear must not start.
pub(crate) fn ensure_present() -> Result<()> {
    ensure!(SEEN.with_borrow(|seen| seen.guards > 0), "no witness on this thread: lay a cable first");
    Ok(())
}

/// An engine has ended.
pub(crate) fn hear(testimony: Testimony) {
    let heard = SEEN.with_borrow_mut(|seen| {
        seen.engines.push(testimony);
        seen.guards > 0
    });
    assert!(heard || std::thread::panicking(), "an engine outlived its cable, or went to another thread");
}

/// A charon writes here.
pub(crate) fn log(path: PathBuf) {
    SEEN.with_borrow_mut(|seen| {
        if !seen.logs.contains(&path) {
            seen.logs.push(path);
        }
    });
}

impl Seen {
    fn judge(&self, dir: &Path) -> Result<()> {
        let messages: Vec<_> = self.engines.iter().flat_map(|engine| engine.messages.clone()).collect();
        let told: String = self.engines.iter().map(|engine| engine.keys.wireshark_rows()).collect();
        let read = witness::read(&dir.join("engine.pcap"), &messages, &Keys::parse(&told)?)?;
        let established: usize = self.engines.iter().map(|engine| engine.established.len()).sum();
        ensure!(read.opened + read.by_hand >= established, "{established} SAs, and {read}");
        let compared = charon_keys::compare(&self.logs, &self.engines).context("charon's keys and ours")?;
        println!("witness: {read}; {compared}");
        Ok(())
    }
}
