//! The pipeline of a worker.

use esp::{Lanes, SaKey};
use packet::header::{Malformed, ethernet};
use packet::{Classifier, Frame, Meta, RouteLookup, Twin, TwinKind};
use shm::{Counter, Drop};

use crate::outcome::Outcome;
use crate::shared::Shared;
use crate::tables::Tables;
use crate::update::{Refused, Retired, Update};
use crate::work::{LIST_CAPACITY, Lists, Origin, Passenger};

/// Most ICMP errors at once, and how many come back each second (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)).
const ICMP_BURST: u64 = 100;
const ICMP_PER_SECOND: u64 = 1000;

/// Everything that a worker does to packets. One worker owns it; it is not shared.
pub struct Pipeline<F, R, C> {
    pub(crate) tables: Tables<R, C>,
    pub(crate) lanes: Lanes,
    pub(crate) shared: Shared,
    pub(crate) lists: Lists<F>,
    pub(crate) now_unix_ms: u64,
    pub(crate) icmp_left: u64,
    /// Identification of the next packet that leaves a tunnel in clear.
    pub(crate) identification: u16,
    /// Stands in for the key of an SA that is gone: it opens and seals nothing.
    pub(crate) no_key: SaKey,
}

impl<F: Frame, R: RouteLookup, C: Classifier> Pipeline<F, R, C> {
    /// A pipeline with empty tables. `lanes` are of the engine that expands the keys of SAs, `routes` is an empty route
    /// table.
    pub fn new(lanes: Lanes, shared: Shared, routes: R) -> Self {
        Self {
            tables: Tables::new(shared.capacities(), routes),
            lanes,
            shared,
            lists: Lists::new(),
            now_unix_ms: 0,
            icmp_left: ICMP_BURST,
            identification: 0,
            no_key: SaKey::default(),
        }
    }

    /// Applies one update, between bursts.
    ///
    /// # Errors
    /// The update and the reason, when it can't be: the tables are as before.
    pub fn apply(&mut self, update: Update<C>) -> Result<Retired<C>, Refused<C>> {
        self.tables.apply(update)
    }

    /// Tells the time, in milliseconds since the Unix epoch: about once a millisecond is enough. It dates the last
    /// packet of each SA, bounds how often events are raised, and refills the budget of ICMP errors.
    pub fn tick(&mut self, now_unix_ms: u64) {
        let passed_ms = now_unix_ms.saturating_sub(self.now_unix_ms);
        let refill = passed_ms.min(ICMP_PER_SECOND).saturating_mul(ICMP_PER_SECOND) / 1000;
        self.icmp_left = (self.icmp_left + refill).min(ICMP_BURST);
        self.now_unix_ms = now_unix_ms;
    }

    /// Takes the frames that one call to a port's receive queue gave (at most 64; best 32). It counts them as received by
    /// the port; what is sent is counted by who sends it.
    pub fn process_wire(&mut self, port: u32, frames: impl IntoIterator<Item = F>, outcome: &mut Outcome<F>) {
        self.lists.arrivals.extend(frames.into_iter().take(LIST_CAPACITY));
        self.receive(port, outcome);
        self.run(outcome);
    }

    /// Takes frames that the host sent by twins (at most 64), each marked with its twin in its meta.
    pub fn process_from_twin(&mut self, frames: impl IntoIterator<Item = F>, outcome: &mut Outcome<F>) {
        let mut taken = 0;
        for frame in frames.into_iter().take(LIST_CAPACITY) {
            taken += 1;
            let Meta { twin } = *frame.meta();
            match twin.kind {
                TwinKind::Tap => self.send_host_frame(frame, twin.slot, outcome),
                TwinKind::Tun => self.send_host_passenger(frame, twin, outcome),
            }
        }
        self.shared.count(Counter::FromTwin, taken);
        self.run(outcome);
    }

    /// Works off what the entry put into the lists. Errors made on the way are routed in a second turn; nothing is said
    /// about errors, so there is no third.
    fn run(&mut self, outcome: &mut Outcome<F>) {
        self.open_all(outcome);
        for _ in 0..2 {
            self.route_all(outcome);
            self.classify_all(outcome);
            if self.lists.replies.is_empty() {
                break;
            }
            let mut replies = std::mem::take(&mut self.lists.replies);
            for reply in replies.drain(..) {
                if is_v6(&reply.frame) {
                    self.push_v6(reply, outcome);
                } else {
                    self.push_v4(reply, outcome);
                }
            }
            self.lists.replies = replies;
        }
        self.seal_all(outcome);
    }

    /// Puts an IPv4 packet into its list; a full list is worked off first.
    #[inline]
    pub(crate) fn push_v4(&mut self, passenger: Passenger<F>, outcome: &mut Outcome<F>) {
        if self.lists.v4.len() == LIST_CAPACITY {
            self.route_all(outcome);
        }
        self.lists.v4.push(passenger);
    }

    /// Puts an IPv6 packet into its list; a full list is worked off first.
    #[inline]
    pub(crate) fn push_v6(&mut self, passenger: Passenger<F>, outcome: &mut Outcome<F>) {
        if self.lists.v6.len() == LIST_CAPACITY {
            self.route_all(outcome);
        }
        self.lists.v6.push(passenger);
    }

    /// Hands a packet to the host. A TAP twin gets an Ethernet header in front: the one that the packet came with, or one
    /// to our own address when that is gone.
    #[cold]
    pub(crate) fn punt(&mut self, passenger: Passenger<F>, outcome: &mut Outcome<F>) {
        let Passenger { mut frame, from, origin } = passenger;
        if from.kind == TwinKind::Tap {
            let ethertype = if is_v6(&frame) { ethernet::ethertype::IPV6 } else { ethernet::ethertype::IPV4 };
            let Some(mac) = self.tables.port(from.slot).map(|port| port.mac) else {
                return self.shared.drop_one(Drop::PortDown);
            };
            let Some(link) = frame.prepend(ethernet::LEN_BYTES) else {
                return self.shared.drop_one(Drop::NoHeadroom);
            };
            if origin != Origin::Wire {
                link.copy_from_slice(&ethernet::header(mac, mac, ethertype));
            }
        }
        self.punt_frame(frame, from, outcome);
    }

    /// Hands a frame to the host as it is.
    pub(crate) fn punt_frame(&mut self, mut frame: F, to: Twin, outcome: &mut Outcome<F>) {
        frame.meta_mut().twin = to;
        match outcome.punts.try_push(frame) {
            Ok(()) => self.shared.count(Counter::Punted, 1),
            Err(_) => self.shared.drop_one(Drop::HostRingFull),
        }
    }

    /// Puts a complete frame into the list of a port.
    #[inline]
    pub(crate) fn transmit(&mut self, port: u32, frame: F, outcome: &mut Outcome<F>) {
        if outcome.transmit(port, frame).is_err() {
            self.shared.drop_one(Drop::TxFull);
        }
    }
}

fn is_v6<F: Frame>(frame: &F) -> bool {
    frame.bytes().first().is_some_and(|first| first >> 4 == 6)
}

/// The reason of a drop for a malformed IP header.
pub(crate) fn reason(malformed: Malformed) -> Drop {
    match malformed {
        Malformed::Truncated => Drop::Truncated,
        Malformed::Field => Drop::BadHeader,
        Malformed::Checksum => Drop::BadChecksum,
    }
}
