//! Packets that a crypto map protects, other than the GRE of our tunnels.

use std::sync::atomic::Ordering::Relaxed;

use esp::framing::{self, Aad, TRAILER_BYTES};
use packet::header::icmp::IcmpError;
use packet::header::ipv4::{self, Ipv4};
use packet::header::{ethernet, protocol};
use packet::{Classifier, Frame, RouteLookup};
use shm::{Counter, Drop, EventKind, EventRecord};

use crate::fragment::fragment;
use crate::outcome::Outcome;
use crate::pipeline::Pipeline;
use crate::plan::Exit;
use crate::sa::Sa;
use crate::seal::take_sequence;
use crate::work::{Classifying, Passenger, Sealing};

/// Time to live of the outer header in tunnel mode (RFC 4301 section 5.1.2.1: it is ours to choose).
const OUTER_TTL: u8 = 64;
/// Least time between two requests for an SA, in milliseconds.
const ACQUIRE_INTERVAL_MS: u64 = 1000;

impl<F: Frame, R: RouteLookup, C: Classifier> Pipeline<F, R, C> {
    /// Seals a packet with the SA of its policy.
    pub(crate) fn protect(&mut self, packet: Classifying<F>, policy: u32, outcome: &mut Outcome<F>) {
        let Some(sa) = self.tables.policy_sa(policy) else {
            return self.acquire_for_policy(policy, outcome);
        };
        let Classifying { frame, key, exit, from, origin } = packet;
        let Some(header) = Ipv4::parse(frame.bytes()) else { return self.shared.drop_one(Drop::Truncated) };
        let (is_fragment, dont_fragment) = (header.is_fragment(), header.dont_fragment());
        let later_fragment = header.fragment_word() & ipv4::OFFSET_MASK != 0;
        if !sa.selectors.carry(&key, later_fragment) {
            self.count_mismatch(sa.slot);
            return self.shared.drop_one(Drop::SelectorMismatch);
        }
        let refusal = match sa.tunnel_mode {
            true => None,
            false if (sa.local, sa.peer) != (header.source(), header.destination()) => Some(Drop::NoSa),
            // Transport mode is for whole packets (RFC 4303 section 3.3.4).
            false if is_fragment => Some(Drop::Fragment),
            false if header.has_options() => Some(Drop::IpOptions),
            false => None,
        };
        if let Some(reason) = refusal {
            return self.shared.drop_one(reason);
        }
        // A peer behind a NAT may be elsewhere than where the packet was routed to.
        let elsewhere = sa.tunnel_mode || sa.remote != header.destination();
        let exit = if elsewhere { Exit::find(&self.tables, sa.remote) } else { Ok(exit) };
        let exit = match exit {
            Ok(exit) => exit,
            Err(reason) => return self.shared.drop_one(reason),
        };
        let taken_off = if sa.tunnel_mode { 0 } else { ipv4::LEN_BYTES };
        let most = sa.payload_that_fits(exit.mtu_bytes).unwrap_or(0) + taken_off;
        let (slot, tunnel_mode) = (sa.slot, sa.tunnel_mode);
        self.count_forwarded(origin);
        if frame.bytes().len() <= most {
            return self.seal_packet(frame, slot, &exit, false, outcome);
        }
        if dont_fragment {
            let error = IcmpError::FragmentationNeeded(most as u16);
            return self.refuse_v4(&Passenger { frame, from, origin }, error, Drop::TooBig, outcome);
        }
        if !tunnel_mode {
            return self.seal_packet(frame, slot, &exit, true, outcome);
        }
        match fragment(frame, 0, most) {
            Ok(pieces) => {
                self.shared.count(Counter::Fragmented, 1);
                for piece in pieces {
                    self.seal_packet(piece, slot, &exit, false, outcome);
                }
            }
            Err(reason) => self.shared.drop_one(reason),
        }
    }

    /// First pass for one packet.
    fn seal_packet(
        &mut self,
        mut frame: F,
        slot: u32,
        exit: &Exit,
        fragment_after: bool,
        outcome: &mut Outcome<F>,
    ) {
        let Some(sa) = self.tables.sa(slot) else { return self.shared.drop_one(Drop::NoSa) };
        let Some(header) = frame.bytes().first_chunk::<{ ipv4::LEN_BYTES }>().copied() else {
            return self.shared.drop_one(Drop::Truncated);
        };
        let next_header = if sa.tunnel_mode { protocol::IPV4 } else { header[9] };
        if !sa.tunnel_mode && !frame.trim_front(ipv4::LEN_BYTES) {
            return self.shared.drop_one(Drop::Truncated);
        }
        let payload_len = frame.bytes().len();
        let pad = sa.framing().pad_len(payload_len);
        match frame.append(pad + TRAILER_BYTES + sa.framing().icv_bytes()) {
            Some(tail) => framing::write_trailer(tail, pad, next_header),
            None => return self.shared.drop_one(Drop::NoHeadroom),
        }
        let sequence = match take_sequence(sa, payload_len, outcome) {
            Ok(sequence) => sequence,
            Err(reason) => return self.shared.drop_one(reason),
        };
        let headers_len = ethernet::LEN_BYTES + sa.headers_len();
        let total = sa.headers_len() + frame.bytes().len();
        let Some(room) = frame.prepend(headers_len) else { return self.shared.drop_one(Drop::NoHeadroom) };
        write_front(room, sa, exit, &header, sequence, total as u16);
        let sealing = Sealing {
            frame,
            nonce: framing::nonce(sa.salt, sequence),
            aad: Aad::new(sa.spi, sequence, sa.esn),
            sa: slot,
            text_at: (ethernet::LEN_BYTES + sa.outer_len() + sa.framing().operation_at()) as u16,
            port: exit.port,
            fragment_to_bytes: if fragment_after { exit.mtu_bytes as u16 } else { 0 },
        };
        self.push_sealing(sealing, outcome);
    }

    /// A packet that leaves is not what its SA may carry (RFC 4301 section 5.1).
    #[cold]
    pub(crate) fn count_mismatch(&self, sa: u32) {
        if let Some(sa) = self.tables.sa(sa) {
            let cell = &sa.runtime.selector_mismatch;
            cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    #[cold]
    fn acquire_for_policy(&mut self, policy: u32, outcome: &mut Outcome<F>) {
        self.shared.drop_one(Drop::NoSa);
        let now_unix_ms = self.now_unix_ms;
        if let Some(Some(entry)) = self.tables.policies.get_mut(policy as usize)
            && (entry.acquire_told_ms == 0
                || now_unix_ms.saturating_sub(entry.acquire_told_ms) >= ACQUIRE_INTERVAL_MS)
            && outcome.raise(EventRecord::new(EventKind::AcquirePolicy, policy))
        {
            entry.acquire_told_ms = now_unix_ms.max(1);
        }
    }
}

/// Writes all that stands in front of the ciphertext: `room` is just as long. Where the IV is not the sequence number, the
/// engine writes it.
fn write_front(
    room: &mut [u8],
    sa: &Sa,
    exit: &Exit,
    original: &[u8; ipv4::LEN_BYTES],
    sequence: u64,
    total_len_bytes: u16,
) {
    let mut header = *original;
    if sa.tunnel_mode {
        let inner = Ipv4::parse(original);
        header = ipv4::Repr {
            tos: original[1],
            total_len_bytes,
            identification: sequence as u16,
            fragment_word: if inner.is_some_and(Ipv4::dont_fragment) { ipv4::DONT_FRAGMENT } else { 0 },
            ttl: OUTER_TTL,
            protocol: sa.outer_protocol(),
            source: sa.local,
            destination: sa.remote,
        }
        .to_bytes();
    } else {
        ipv4::set_payload(&mut header, sa.outer_protocol(), total_len_bytes);
        ipv4::set_destination(&mut header, sa.remote);
    }
    let mut udp_header = sa.udp_header();
    udp_header[4..6].copy_from_slice(&(total_len_bytes - ipv4::LEN_BYTES as u16).to_be_bytes());
    let udp_header: &[u8] = if sa.udp { &udp_header } else { &[] };
    let mut rest = room;
    for part in [
        &exit.ethernet[..],
        &header,
        udp_header,
        &sa.spi.to_be_bytes(),
        &(sequence as u32).to_be_bytes(),
        &sequence.to_be_bytes(),
    ] {
        let Some((field, behind)) = rest.split_at_mut_checked(part.len()) else { return };
        field.copy_from_slice(part);
        rest = behind;
    }
}
