//! Into a tunnel: MTU, MSS, and the first pass of sealing: all headers and the trailer.

use esp::framing::{self, Aad, TRAILER_BYTES};
use packet::header::ethernet::{self, ethertype};
use packet::header::icmp::IcmpError;
use packet::header::icmpv6::Icmpv6Error;
use packet::header::ipv4::{self, Ipv4};
use packet::header::ipv6::{self, Ipv6};
use packet::header::{protocol, tcp};
use packet::{Classifier, Frame, RouteLookup, Twin, checksum};
use shm::{Counter, Drop, EventKind, EventRecord};

use crate::fragment::fragment;
use crate::outcome::Outcome;
use crate::pipeline::{Pipeline, reason};
use crate::plan::{Action, Plan, TEMPLATE_BYTES};
use crate::seal::take_sequence;
use crate::tunnel::{DontFragment, Tunnel};
use crate::work::{Origin, Passenger, Sealing};

/// Least time between two requests for an SA, in milliseconds.
const ACQUIRE_INTERVAL_MS: u64 = 1000;

/// What the headers around a passenger take from it.
#[derive(Clone, Copy)]
struct Traits {
    ethertype: u16,
    tos: u8,
    dont_fragment: bool,
}

impl<F: Frame, R: RouteLookup, C: Classifier> Pipeline<F, R, C> {
    /// A packet that the host routed into a tunnel.
    pub(crate) fn send_host_passenger(&mut self, mut frame: F, from: Twin, outcome: &mut Outcome<F>) {
        let bytes = frame.bytes();
        let version = bytes.first().map_or(0, |first| first >> 4);
        let total = match version {
            4 => Ipv4::checked(bytes).map(Ipv4::total_len_bytes),
            6 => Ipv6::checked(bytes).map(Ipv6::total_len_bytes),
            _ => return self.shared.drop_one(Drop::UnsupportedProtocol),
        };
        let excess = match total {
            Ok(total) => bytes.len() - total,
            Err(malformed) => return self.shared.drop_one(reason(malformed)),
        };
        if !frame.trim_back(excess) {
            return self.shared.drop_one(Drop::Truncated);
        }
        let passenger = Passenger { frame, from, origin: Origin::Host };
        if version == 4 {
            self.encapsulate_v4(passenger, from.slot, outcome);
        } else {
            self.encapsulate_v6(passenger, from.slot, outcome);
        }
    }

    /// An IPv4 passenger.
    #[inline]
    pub(crate) fn encapsulate_v4(
        &mut self,
        mut passenger: Passenger<F>,
        slot: u32,
        outcome: &mut Outcome<F>,
    ) {
        let Some(tunnel) = self.current_tunnel(slot) else { return self.shared.drop_one(Drop::TunnelDown) };
        let (mtu, mss) = (usize::from(tunnel.plan.mtu_bytes), tunnel.mss_v4_bytes);
        let Some(header) = Ipv4::parse(passenger.frame.bytes()) else {
            return self.shared.drop_one(Drop::Truncated);
        };
        let traits =
            Traits { ethertype: ethertype::IPV4, tos: header.tos(), dont_fragment: header.dont_fragment() };
        if header.protocol() == protocol::TCP && mss != 0 && header.fragment_word() & ipv4::OFFSET_MASK == 0 {
            let at = header.len_bytes();
            self.clamp(&mut passenger.frame, at, mss);
        }
        if passenger.frame.bytes().len() > mtu {
            return self.oversized_v4(passenger, slot, mtu, traits, outcome);
        }
        self.encapsulate(passenger.frame, slot, traits, passenger.origin, outcome);
    }

    /// An IPv6 passenger.
    #[inline]
    pub(crate) fn encapsulate_v6(
        &mut self,
        mut passenger: Passenger<F>,
        slot: u32,
        outcome: &mut Outcome<F>,
    ) {
        let Some(tunnel) = self.current_tunnel(slot) else { return self.shared.drop_one(Drop::TunnelDown) };
        let (mtu, mss) = (usize::from(tunnel.plan.mtu_bytes), tunnel.mss_v6_bytes);
        let Some(header) = Ipv6::parse(passenger.frame.bytes()) else {
            return self.shared.drop_one(Drop::Truncated);
        };
        let traits = Traits {
            ethertype: ethertype::IPV6,
            tos: header.traffic_class(),
            // IPv6 is never fragmented on its way: its carrier needs no identification either.
            dont_fragment: true,
        };
        if header.next_header() == protocol::TCP && mss != 0 {
            self.clamp(&mut passenger.frame, ipv6::LEN_BYTES, mss);
        }
        if passenger.frame.bytes().len() > mtu {
            let error = Icmpv6Error::PacketTooBig(mtu as u32);
            return self.refuse_v6(&passenger, error, Drop::TooBig, outcome);
        }
        self.encapsulate(passenger.frame, slot, traits, passenger.origin, outcome);
    }

    /// The tunnel in a slot, with a plan of this epoch.
    #[inline]
    fn current_tunnel(&mut self, slot: u32) -> Option<&Tunnel> {
        if self.tables.tunnel(slot)?.plan.epoch != self.tables.epoch {
            self.plan_anew(slot);
        }
        self.tables.tunnel(slot)
    }

    #[cold]
    fn plan_anew(&mut self, slot: u32) {
        let Some(tunnel) = self.tables.tunnel(slot) else { return };
        let plan = Plan::make(&self.tables, tunnel);
        if let Some(tunnel) = self.tables.tunnel_mut(slot) {
            tunnel.plan = plan;
        }
    }

    #[inline]
    fn clamp(&mut self, frame: &mut F, segment_at: usize, mss_bytes: u16) {
        if frame.bytes_mut().get_mut(segment_at..).is_some_and(|segment| tcp::clamp_mss(segment, mss_bytes)) {
            self.shared.count(Counter::MssClamped, 1);
        }
    }

    /// A passenger over the MTU: its source is told, or it is fragmented before it is encapsulated, so that the peer
    /// need not reassemble what it can't see into.
    #[cold]
    fn oversized_v4(
        &mut self,
        passenger: Passenger<F>,
        slot: u32,
        mtu: usize,
        traits: Traits,
        outcome: &mut Outcome<F>,
    ) {
        if traits.dont_fragment {
            let error = IcmpError::FragmentationNeeded(mtu as u16);
            return self.refuse_v4(&passenger, error, Drop::TooBig, outcome);
        }
        match fragment(passenger.frame, 0, mtu) {
            Ok(pieces) => {
                self.shared.count(Counter::Fragmented, 1);
                for piece in pieces {
                    self.encapsulate(piece, slot, traits, passenger.origin, outcome);
                }
            }
            Err(reason) => self.shared.drop_at_tunnel(reason, slot),
        }
    }

    /// First pass for one packet that fits.
    #[inline]
    fn encapsulate(
        &mut self,
        mut frame: F,
        slot: u32,
        traits: Traits,
        origin: Origin,
        outcome: &mut Outcome<F>,
    ) {
        let Some(tunnel) = self.tables.tunnel(slot) else { return self.shared.drop_one(Drop::TunnelDown) };
        let plan = &tunnel.plan;
        let len = frame.bytes().len();
        let port = plan.port;
        let fragment_word = match tunnel.dont_fragment {
            DontFragment::Set => ipv4::DONT_FRAGMENT,
            DontFragment::Copy if traits.dont_fragment => ipv4::DONT_FRAGMENT,
            DontFragment::Copy | DontFragment::Clear => 0,
        };
        let sealing = match plan.action {
            Action::Seal(slot) => self.tables.sa(slot),
            Action::Clear => None,
            refusal => return self.refuse_by_plan(slot, refusal, outcome),
        };
        let Some(sa) = sealing else {
            if plan.action != Action::Clear {
                return self.shared.drop_at_tunnel(Drop::NoSa, slot);
            }
            let identification = self.identification;
            let fields = Fields { passenger_len: len, sequence: 0, identification, fragment_word };
            if !write_headers(&mut frame, plan, traits, &fields) {
                return self.shared.drop_at_tunnel(Drop::NoHeadroom, slot);
            }
            self.identification = identification.wrapping_add(1);
            self.count_tunnel(slot, len, origin);
            return self.transmit(port, frame, outcome);
        };
        let inner = TEMPLATE_BYTES - usize::from(plan.payload_at);
        let pad = plan.framing.pad_len(inner + len);
        let next_header = if plan.carrier_at != 0 { protocol::IPV4 } else { protocol::GRE };
        match frame.append(pad + TRAILER_BYTES + plan.framing.icv_bytes()) {
            Some(tail) => framing::write_trailer(tail, pad, next_header),
            None => return self.refuse_room(sa.slot, slot),
        }
        let sequence = match take_sequence(sa, inner + len, outcome) {
            Ok(sequence) => sequence,
            Err(reason) => return self.shared.drop_at_tunnel(reason, slot),
        };
        let (nonce, aad) = (framing::nonce(sa.salt, sequence), Aad::new(sa.spi, sequence, sa.esn));
        let text_at = u16::from(plan.esp_at - plan.start) + plan.framing.operation_at() as u16;
        let sa = sa.slot;
        let fields = Fields { passenger_len: len, sequence, identification: sequence as u16, fragment_word };
        if !write_headers(&mut frame, plan, traits, &fields) {
            return self.refuse_room(sa, slot);
        }
        self.count_tunnel(slot, len, origin);
        self.push_sealing(Sealing { frame, nonce, aad, sa, text_at, port, fragment_to_bytes: 0 }, outcome);
    }

    #[inline]
    fn count_tunnel(&self, slot: u32, len: usize, origin: Origin) {
        if let Some(counters) = self.shared.tunnel(slot) {
            counters.count_tx(1, len as u64);
        }
        self.shared.worker().count(Counter::GreEncapsulated, 1);
        self.count_forwarded(origin);
    }

    #[cold]
    fn refuse_room(&self, sa: u32, tunnel: u32) {
        if let Some(sa) = self.tables.sa(sa) {
            let cell = &sa.runtime.no_space;
            cell.store(
                cell.load(std::sync::atomic::Ordering::Relaxed) + 1,
                std::sync::atomic::Ordering::Relaxed,
            );
        }
        self.shared.drop_at_tunnel(Drop::NoHeadroom, tunnel);
    }

    /// What the plan of the tunnel does not let out.
    #[cold]
    fn refuse_by_plan(&mut self, slot: u32, refusal: Action, outcome: &mut Outcome<F>) {
        match refusal {
            Action::Seal(_) | Action::Clear => {}
            Action::Drop(reason) => self.shared.drop_at_tunnel(reason, slot),
            Action::Mismatch(sa) => {
                self.count_mismatch(sa);
                self.shared.drop_at_tunnel(Drop::SelectorMismatch, slot);
            }
            Action::Acquire(event, about) => self.acquire(slot, event, about, outcome),
        }
    }

    /// No SA: the packet is dropped, and the control plane is asked for one, at most once a second.
    #[cold]
    fn acquire(&mut self, slot: u32, event: EventKind, about: u32, outcome: &mut Outcome<F>) {
        self.shared.drop_at_tunnel(Drop::NoSa, slot);
        let now_unix_ms = self.now_unix_ms;
        if let Some(tunnel) = self.tables.tunnel_mut(slot)
            && (tunnel.acquire_told_ms == 0
                || now_unix_ms.saturating_sub(tunnel.acquire_told_ms) >= ACQUIRE_INTERVAL_MS)
            && outcome.raise(EventRecord::new(event, about))
        {
            tunnel.acquire_told_ms = now_unix_ms.max(1);
        }
    }
}

/// What differs from packet to packet in the headers of one plan.
struct Fields {
    passenger_len: usize,
    sequence: u64,
    identification: u16,
    fragment_word: u16,
}

/// Puts the template in front of the passenger and writes what differs from packet to packet; `false` when there is no
/// room for it.
#[inline]
fn write_headers<F: Frame>(frame: &mut F, plan: &Plan, traits: Traits, fields: &Fields) -> bool {
    // A copy of constant length is a handful of wide moves; what stands before the headers proper is cut off again.
    if frame.prepend(TEMPLATE_BYTES).is_none() {
        return false;
    }
    let len = frame.bytes().len();
    let Some(head) = frame.bytes_mut().first_chunk_mut::<TEMPLATE_BYTES>() else { return false };
    *head = plan.template;
    let start = usize::from(plan.start);
    put(head, usize::from(plan.gre_at) + 2, traits.ethertype.to_be_bytes());
    let outer_at = start + ethernet::LEN_BYTES;
    put_ipv4(head, outer_at, plan.outer_sum, traits.tos, len - outer_at, fields);
    if plan.esp_at != 0 {
        let esp_at = usize::from(plan.esp_at);
        put(head, esp_at + 4, (fields.sequence as u32).to_be_bytes());
        // The IV of AES-GCM; another one is written over it when the packet is sealed.
        put(head, esp_at + 8, fields.sequence.to_be_bytes());
        if plan.udp_at != 0 {
            let udp_at = usize::from(plan.udp_at);
            put(head, udp_at + 4, ((len - udp_at) as u16).to_be_bytes());
        }
        if plan.carrier_at != 0 {
            let carrier_at = usize::from(plan.carrier_at);
            let carrier_len = TEMPLATE_BYTES - carrier_at + fields.passenger_len;
            put_ipv4(head, carrier_at, plan.carrier_sum, traits.tos, carrier_len, fields);
        }
    }
    frame.trim_front(start)
}

/// Writes the variable fields of an IPv4 header in a template, and its checksum from the sum of the rest.
#[inline]
fn put_ipv4(
    head: &mut [u8; TEMPLATE_BYTES],
    at: usize,
    sum: u32,
    tos: u8,
    total_len: usize,
    fields: &Fields,
) {
    // Identification matters to fragments only (RFC 6864).
    let identification = if fields.fragment_word == 0 { fields.identification } else { 0 };
    let (len, word) = (total_len as u16, fields.fragment_word);
    let total =
        u64::from(sum) + u64::from(tos) + u64::from(len) + u64::from(identification) + u64::from(word);
    let ([len_0, len_1], [id_0, id_1], [word_0, word_1]) =
        (len.to_be_bytes(), identification.to_be_bytes(), word.to_be_bytes());
    put(head, at, [0x45, tos, len_0, len_1, id_0, id_1, word_0, word_1]);
    put(head, at + 10, (!checksum::fold(total)).to_be_bytes());
}

#[inline]
fn put<const N: usize>(head: &mut [u8; TEMPLATE_BYTES], at: usize, bytes: [u8; N]) {
    if let Some(field) = head.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<N>()) {
        *field = bytes;
    }
}
