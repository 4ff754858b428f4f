//! Independent eyes on IKE: what one of ours said, before anything on the way touched it, is decoded by tshark with the keys
//! that it made. Every message must decode without a mark, and every encrypted one must open.

mod foreign_hand;
pub mod gateways;
pub mod keys;
pub mod message;
mod tshark;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::pcap::{self, Datagram};
use keys::Keys;
use message::{Form, Message};

/// Seen from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the peer.
    Out,
    /// From the peer.
    In,
}

/// Changes a bit of the first message of ours that is borne so, at the place that is found by its length: for a lie that the
/// witness must deny.
pub fn flip(messages: &mut [(Direction, Datagram)], wanted: Form, at: impl Fn(usize) -> usize) {
    let ours = messages.iter_mut().filter(|(direction, _)| *direction == Direction::Out);
    let mut ours = ours.map(|(_, datagram)| datagram);
    let found = ours.find(|datagram| Message::of(datagram).is_some_and(|message| message.form == wanted));
    if let Some(datagram) = found {
        let at = at(datagram.payload.len());
        datagram.payload[at] ^= 1;
    }
}

/// How many messages of ours were read.
#[derive(Debug)]
pub struct Read {
    /// Those that lay open for all to see.
    pub clear: usize,
    /// Those that tshark opened.
    pub opened: usize,
    /// Those that Python's cryptography opened, for lack of the cipher in tshark.
    pub by_hand: usize,
}

impl fmt::Display for Read {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clear, opened, by_hand } = self;
        write!(formatter, "tshark read {clear} clear messages of ours and opened {opened}")?;
        if *by_hand > 0 {
            write!(
                formatter,
                ", {by_hand} more with Python's cryptography, since it lacks chacha20-poly1305"
            )?;
        }
        Ok(())
    }
}

/// Has messages of one side read, each there once; the files for that have the name of this capture. An error says which of
/// ours is not as it should be.
pub fn read(capture: &Path, messages: &[(Direction, Datagram)], keys: &Keys) -> Result<Read> {
    let (messages, by_hand) =
        foreign_hand::opened(messages, keys, capture).context("Python's cryptography and our messages")?;
    pcap::write(capture, &apart(&messages))?;
    let tshark::Decoded { clear, opened } =
        tshark::decode(capture, &messages, keys).context("tshark and our messages")?;
    Ok(Read { clear, opened, by_hand })
}

/// Does this once for each number below a count, all at the same time: what starts a tshark mostly waits for it.
fn all_at_once<T: Send>(count: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..count).map(|number| scope.spawn(move || work(number))).collect();
        let ended = started.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("it panicked")));
        ended.collect()
    })
}

/// The messages with addresses of its own for each IKE SA, and for the requests of each end: tshark puts the pieces of
/// messages together by addresses and message id alone.
fn apart(messages: &[(Direction, Datagram)]) -> Vec<Datagram> {
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
        moved.push(Datagram {
            source: SocketAddr::new(source, datagram.source.port()),
            destination: SocketAddr::new(destination, datagram.destination.port()),
            payload: datagram.payload.clone(),
        });
    }
    moved
}
