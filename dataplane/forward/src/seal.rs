//! ESP outbound: the next sequence number of an SA, and the second pass over the burst, the ciphers.

use std::sync::atomic::{Ordering::Relaxed, Ordering::Release, fence};

use esp::{CipherEngine, SealOp, Sequence};
use packet::header::ethernet;
use packet::{Classifier, Frame, RouteLookup};
use shm::{Counter, Drop, EventKind, SaRuntime};

use crate::fragment::fragment;
use crate::outcome::Outcome;
use crate::pipeline::Pipeline;
use crate::sa::{Limit, Sa};
use crate::work::{LIST_CAPACITY, Sealing};

/// Takes the next sequence number of an SA for a packet of `len_bytes`, and counts the packet. The number after it stands
/// in the region before the packet is sealed: whatever happens then, it is not used again.
#[inline]
pub(crate) fn take_sequence<F>(sa: &Sa, len_bytes: usize, outcome: &mut Outcome<F>) -> Result<u64, Drop> {
    let runtime: &SaRuntime = sa.runtime;
    let number = runtime.next_sequence.load(Relaxed);
    let (packets, bytes) = (runtime.packets.load(Relaxed), runtime.bytes.load(Relaxed));
    let Sequence::Usable(sequence) = Sequence::next(number, sa.esn) else {
        return Err(stop(sa, Drop::SequenceOverflow, outcome));
    };
    match sa.limit(packets, bytes, sequence) {
        Limit::Within => {}
        Limit::Soft => warn(sa, outcome),
        Limit::Hard => return Err(stop(sa, Drop::SaExhausted, outcome)),
    }
    runtime.next_sequence.store(sequence + 1, Relaxed);
    runtime.packets.store(packets.wrapping_add(1), Relaxed);
    runtime.bytes.store(bytes.wrapping_add(len_bytes as u64), Relaxed);
    Ok(sequence)
}

#[cold]
fn warn<F>(sa: &Sa, outcome: &mut Outcome<F>) {
    if sa.runtime.soft_sent.load(Relaxed) == 0 && outcome.raise(sa.event(EventKind::SoftLimit)) {
        sa.runtime.soft_sent.store(1, Relaxed);
    }
}

#[cold]
fn stop<F>(sa: &Sa, reason: Drop, outcome: &mut Outcome<F>) -> Drop {
    if sa.runtime.hard_sent.load(Relaxed) == 0 && outcome.raise(sa.event(EventKind::HardLimit)) {
        sa.runtime.hard_sent.store(1, Relaxed);
    }
    reason
}

impl<F: Frame, R: RouteLookup, C: Classifier> Pipeline<F, R, C> {
    /// Puts a prepared packet into the list; a full list is worked off first.
    #[inline]
    pub(crate) fn push_sealing(&mut self, packet: Sealing<F>, outcome: &mut Outcome<F>) {
        if self.lists.sealing.len() == LIST_CAPACITY {
            self.seal_all(outcome);
        }
        self.lists.sealing.push(packet);
    }

    /// The second pass: all ciphers, then all packets to their ports.
    pub(crate) fn seal_all(&mut self, outcome: &mut Outcome<F>) {
        if self.lists.sealing.is_empty() {
            return;
        }
        // The stores of the sequence numbers come before whatever sends the packets.
        fence(Release);
        let mut batch = std::mem::take(&mut self.lists.sealing);
        let (tables, no_key) = (&self.tables, &self.no_key);
        let sealed = self.lanes.seal(batch.iter_mut().map(|packet| SealOp {
            key: tables.sa(packet.sa).map_or(no_key, |sa| &sa.key),
            nonce: &packet.nonce,
            aad: packet.aad.as_bytes(),
            text_and_icv: packet.frame.bytes_mut().get_mut(usize::from(packet.text_at)..).unwrap_or_default(),
        }));
        self.shared.count(Counter::EspSealed, u64::from(sealed.count_ones()));
        for (at, packet) in batch.drain(..).enumerate() {
            if sealed >> at & 1 == 0 {
                self.shared.drop_one(Drop::CryptoFailed);
            } else if packet.fragment_to_bytes != 0 {
                self.transmit_fragments(
                    packet.frame,
                    packet.port,
                    usize::from(packet.fragment_to_bytes),
                    outcome,
                );
            } else {
                self.transmit(packet.port, packet.frame, outcome);
            }
        }
        self.lists.sealing = batch;
    }

    /// Sends a frame in fragments.
    #[cold]
    pub(crate) fn transmit_fragments(
        &mut self,
        frame: F,
        port: u32,
        mtu_bytes: usize,
        outcome: &mut Outcome<F>,
    ) {
        match fragment(frame, ethernet::LEN_BYTES, mtu_bytes) {
            Ok(pieces) => {
                self.shared.count(Counter::Fragmented, 1);
                for piece in pieces {
                    self.transmit(port, piece, outcome);
                }
            }
            Err(reason) => self.shared.drop_one(reason),
        }
    }
}
