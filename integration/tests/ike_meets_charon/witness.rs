//! Independent eyes on every scenario: what our engine said is decoded by tshark, its keys are compared with charon's.
//!
//! Each engine leaves its testimony with the thread of its test when it ends; the guard in the cable judges it all when
//! the last cable goes, and no test can forget that. What is expected follows from what the engine did: as many
//! protected messages must open as it sent, and as many sets of keys must be charon's too as SAs came up.

mod charon_keys;
mod doubts;
mod foreign_hand;
mod message;
mod tshark;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use ike::ChildPair;
use ike::key_log::Made;
use integration::leftovers::KEEP_FILES;
use integration::pcap;

use crate::relay::Direction;
use message::Message;

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
        let capture = dir.join("engine.pcap");
        let messages: Vec<_> = self.engines.iter().flat_map(|engine| &engine.messages).collect();
        let keys: Vec<_> = self.engines.iter().map(|engine| &engine.keys).collect();
        let (messages, by_hand) =
            foreign_hand::opened(&messages, &keys, dir).context("Python's cryptography and our messages")?;
        let messages: Vec<_> = messages.iter().collect();
        let datagrams = apart(&messages);
        pcap::write(&capture, &datagrams)?;
        let decoded = tshark::decode(&capture, &messages, &keys).context("tshark and our messages")?;
        let established: usize = self.engines.iter().map(|engine| engine.established.len()).sum();
        ensure!(decoded.opened + by_hand >= established, "{established} SAs, and {decoded}");
        let compared = charon_keys::compare(&self.logs, &self.engines).context("charon's keys and ours")?;
        if by_hand > 0 {
            println!(
                "witness: tshark cannot open chacha20-poly1305; Python's cryptography opened {by_hand} messages of ours"
            );
        }
        println!("witness: {decoded}; {compared}");
        Ok(())
    }
}

/// The messages with addresses of its own for each IKE SA, and for the requests of each end: tshark puts the pieces of
/// messages together by addresses and message id alone.
fn apart(messages: &[&(Direction, pcap::Datagram)]) -> Vec<pcap::Datagram> {
    let mut places = BTreeMap::new();
    let mut moved = Vec::new();
    for (direction, datagram) in messages {
        // In version 1, which has one chain of IVs for both ends, tshark knows the initiator by its address.
        let key = Message::of(datagram).map(|message| {
            let answers = message.version == 2 && message.response;
            (message.spis.0, answers == (*direction == Direction::Out) && message.version == 2)
        });
        let next = places.len();
        let [.., high, low] = places.entry(key).or_insert(next).to_be_bytes();
        let (ours, theirs) = (IpAddr::from([10, high, low, 1]), IpAddr::from([10, high, low, 2]));
        let (source, destination) = match direction {
            Direction::Out => (ours, theirs),
            Direction::In => (theirs, ours),
        };
        moved.push(pcap::Datagram {
            source: SocketAddr::new(source, datagram.source.port()),
            destination: SocketAddr::new(destination, datagram.destination.port()),
            payload: datagram.payload.clone(),
        });
    }
    moved
}
