//! ESP inbound, in two passes over the burst: first SA, replay window, nonce and AAD of every packet, then all ciphers;
//! then each authentic packet is judged and unwrapped.

use std::sync::atomic::Ordering::Relaxed;

use esp::framing::{self, Aad, Framing};
use esp::{CipherEngine, OpenOp, Verdict};
use packet::header::ipv4::{self, Ipv4};
use packet::header::ipv6::{self, Ipv6};
use packet::header::{esp::Esp, ethernet, gre, protocol};
use packet::{Classifier, FiveTuple, Frame, RouteLookup, Twin};
use shm::{Counter, Drop, EventKind};

use crate::natted;
use crate::outcome::Outcome;
use crate::peer_move;
use crate::pipeline::Pipeline;
use crate::sa::{Limit, Owner, Sa};
use crate::tunnel::{Protection, lookup_key};
use crate::work::{Candidate, LIST_CAPACITY, Opening, Origin, Passenger};

/// What is known of an opened packet.
struct Opened {
    /// Slot of the SA.
    sa: u32,
    port: u32,
    /// Where the payload begins and how long it is.
    payload_at: usize,
    payload_len: usize,
    next_header: u8,
}

impl<F: Frame, R: RouteLookup, C: Classifier> Pipeline<F, R, C> {
    /// Takes ESP whose SPI one of our SAs has; gives any other frame back: it may be in transit.
    #[inline]
    pub(crate) fn take_esp(&mut self, frame: F, port: u32, esp_at: usize) -> Option<F> {
        let header = frame.bytes().get(esp_at..).and_then(Esp::parse);
        let Some(sa) = header.and_then(|header| self.tables.spis.find(header.spi())) else {
            return Some(frame);
        };
        if self.lists.candidates.len() == LIST_CAPACITY {
            // An entry takes no more frames than the list has room for.
            return Some(frame);
        }
        self.lists.candidates.push(Candidate { frame, sa, esp_at: esp_at as u16, port });
        None
    }

    /// First pass: replay window, nonce and AAD of each packet.
    fn prepare_all(&mut self, outcome: &mut Outcome<F>) {
        let mut candidates = std::mem::take(&mut self.lists.candidates);
        self.touch_sas(&candidates);
        for candidate in candidates.drain(..) {
            self.prepare(candidate, outcome);
        }
        self.lists.candidates = candidates;
    }

    /// Reads a word of everything that the burst will need of its SAs: the cache misses overlap here instead of
    /// following one another.
    #[inline]
    fn touch_sas(&self, candidates: &[Candidate<F>]) {
        let (mut sum, mut last) = (0, u32::MAX);
        for candidate in candidates {
            // Packets of one flow come in rows.
            if candidate.sa == last {
                continue;
            }
            last = candidate.sa;
            let low = candidate.frame.bytes().get(usize::from(candidate.esp_at)..).and_then(Esp::parse);
            if let (Some(sa), Some(header)) = (self.tables.sa(last), low) {
                sum ^= sa.touch() ^ sa.touch_window(header.sequence_low());
                if let Owner::Tunnel(slot) = sa.owner {
                    sum ^= self.tables.tunnel(slot).map_or(0, |tunnel| u64::from(tunnel.ttl));
                }
            }
        }
        std::hint::black_box(sum);
    }

    #[inline]
    fn prepare(&mut self, candidate: Candidate<F>, outcome: &mut Outcome<F>) {
        let Candidate { frame, sa: slot, esp_at, port } = candidate;
        let bytes = frame.bytes();
        let esp_at = usize::from(esp_at);
        let destination = bytes.get(ethernet::LEN_BYTES..).and_then(Ipv4::parse).map(Ipv4::destination);
        let Some(sa) = self.tables.sa(slot).filter(|sa| Some(sa.local) == destination) else {
            return self.pass_on(frame, port, outcome);
        };
        let framing = sa.framing();
        let esp = bytes.get(esp_at..).unwrap_or_default();
        let front: Option<&[u8; Framing::COMBINED.payload_at()]> = esp.first_chunk();
        let (Some(front), true) = (front, framing.fits(esp.len())) else {
            return self.refuse_malformed(slot);
        };
        let [.., l0, l1, l2, l3, i0, i1, i2, i3, i4, i5, i6, i7] = *front;
        let (low, iv) =
            (u32::from_be_bytes([l0, l1, l2, l3]), u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]));
        let window = sa.window();
        let sequence = if sa.esn {
            esp::infer(low, window.highest(), sa.inference_window())
        } else {
            Some(u64::from(low))
        };
        let verdict = sequence.map_or(Verdict::Late, |sequence| window.check(sequence));
        let Some(sequence) = sequence.filter(|_| verdict == Verdict::New) else {
            return self.refuse_replay(slot, verdict);
        };
        self.lists.opening.push(Opening {
            nonce: framing::nonce(sa.salt, iv),
            aad: Aad::new(sa.spi, sequence, sa.esn),
            sequence,
            sa: slot,
            text_at: (esp_at + framing.operation_at()) as u16,
            port,
            frame,
        });
    }

    #[cold]
    fn refuse_replay(&self, slot: u32, verdict: Verdict) {
        let late = verdict == Verdict::Late;
        if let Some(sa) = self.tables.sa(slot) {
            count(if late { &sa.runtime.late } else { &sa.runtime.replayed });
        }
        self.shared.drop_one(if late { Drop::EspLate } else { Drop::EspReplayed });
    }

    /// Both passes, and what follows from them.
    pub(crate) fn open_all(&mut self, outcome: &mut Outcome<F>) {
        if self.lists.candidates.is_empty() {
            return;
        }
        self.prepare_all(outcome);
        let mut batch = std::mem::take(&mut self.lists.opening);
        let (tables, no_key) = (&self.tables, &self.no_key);
        let authentic = self.lanes.open(batch.iter_mut().map(|packet| OpenOp {
            key: tables.sa(packet.sa).map_or(no_key, |sa| &sa.key),
            nonce: &packet.nonce,
            aad: packet.aad.as_bytes(),
            text_and_icv: packet.frame.bytes_mut().get_mut(usize::from(packet.text_at)..).unwrap_or_default(),
        }));
        self.shared.count(Counter::EspOpened, u64::from(authentic.count_ones()));
        for (at, packet) in batch.drain(..).enumerate() {
            if authentic >> at & 1 == 1 {
                self.finish(packet, outcome);
            } else {
                self.refuse_forgery(packet.sa);
            }
        }
        self.lists.opening = batch;
    }

    #[cold]
    fn refuse_forgery(&self, slot: u32) {
        if let Some(sa) = self.tables.sa(slot) {
            count(&sa.runtime.auth_failed);
        }
        self.shared.drop_one(Drop::EspAuthFailed);
    }

    /// An authentic packet: window, counts, trailer, and on by its next header.
    #[inline]
    fn finish(&mut self, packet: Opening<F>, outcome: &mut Outcome<F>) {
        let Some(sa) = self.tables.sa_mut(packet.sa) else { return self.shared.drop_one(Drop::UnknownSpi) };
        let verdict = sa.window().accept(packet.sequence);
        if verdict != Verdict::New {
            return self.refuse_replay(packet.sa, verdict);
        }
        let framing = sa.framing();
        let payload_at = usize::from(packet.text_at) + framing.payload_at() - framing.operation_at();
        let text = packet.frame.bytes().get(payload_at..).unwrap_or_default();
        let text = text.get(..text.len().saturating_sub(framing.icv_bytes())).unwrap_or_default();
        let Some(trailer) = framing::read_trailer(text) else {
            count(&sa.runtime.malformed);
            return self.shared.drop_one(Drop::EspMalformed);
        };
        let payload_len = text.len() - trailer.len_bytes;
        let runtime = sa.runtime;
        let (packets, bytes) = (runtime.packets.load(Relaxed), runtime.bytes.load(Relaxed));
        match sa.limit(packets, bytes, 0) {
            Limit::Within => {}
            limit => {
                let event =
                    sa.event(if limit == Limit::Hard { EventKind::HardLimit } else { EventKind::SoftLimit });
                let sent = if limit == Limit::Hard { &runtime.hard_sent } else { &runtime.soft_sent };
                if sent.load(Relaxed) == 0 && outcome.raise(event) {
                    sent.store(1, Relaxed);
                }
                if limit == Limit::Hard {
                    return self.shared.drop_one(Drop::SaExhausted);
                }
            }
        }
        runtime.packets.store(packets.wrapping_add(1), Relaxed);
        runtime.bytes.store(bytes.wrapping_add(payload_len as u64), Relaxed);
        runtime.last_packet_unix_ms.store(self.now_unix_ms, Relaxed);
        if self.now_unix_ms.wrapping_sub(sa.traffic_told_ms) >= 1000 {
            tell_traffic(sa, self.now_unix_ms, outcome);
        }
        peer_move::watch(sa, packet.frame.bytes(), packet.sequence, self.now_unix_ms, outcome);
        let tunnel_mode = sa.tunnel_mode;
        let opened = Opened {
            sa: packet.sa,
            port: packet.port,
            payload_at,
            payload_len,
            next_header: trailer.next_header,
        };
        match (opened.next_header, tunnel_mode) {
            (protocol::GRE, false) => self.finish_gre(packet.frame, &opened, outcome),
            (protocol::NO_NEXT_HEADER, _) => {}
            (protocol::IPV4, true) => self.finish_inner_v4(packet.frame, &opened, outcome),
            (protocol::IPV6, true) => self.finish_inner_v6(packet.frame, &opened, outcome),
            (_, false) => self.finish_transport(packet.frame, &opened, outcome),
            (_, true) => self.refuse_malformed(opened.sa),
        }
    }

    #[cold]
    fn refuse_malformed(&self, slot: u32) {
        if let Some(sa) = self.tables.sa(slot) {
            count(&sa.runtime.malformed);
        }
        self.shared.drop_one(Drop::EspMalformed);
    }

    #[cold]
    fn refuse_selector(&self, slot: u32) {
        if let Some(sa) = self.tables.sa(slot) {
            count(&sa.runtime.selector_mismatch);
        }
        self.shared.drop_one(Drop::EspSelectorMismatch);
    }

    /// GRE in transport mode. The IP header that transport mode gives back would be taken off at once: its addresses
    /// and length are used as if it had been written.
    #[inline]
    fn finish_gre(&mut self, frame: F, opened: &Opened, outcome: &mut Outcome<F>) {
        let Some(header) = frame.bytes().get(ethernet::LEN_BYTES..).and_then(Ipv4::parse) else {
            return self.refuse_malformed(opened.sa);
        };
        let Some(sa) = self.tables.sa(opened.sa) else { return self.shared.drop_one(Drop::UnknownSpi) };
        let source = sa.original_source(header.source());
        let (destination, tos) = (header.destination(), header.tos());
        self.enter_tunnel(
            frame,
            opened.sa,
            opened.payload_at,
            opened.payload_len,
            source,
            destination,
            tos,
            outcome,
        );
    }

    /// GRE out of an SA: it must be of a tunnel that this SA serves.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "the carrier's fields, in registers")]
    fn enter_tunnel(
        &mut self,
        frame: F,
        sa: u32,
        gre_at: usize,
        gre_len: usize,
        source: [u8; 4],
        destination: [u8; 4],
        tos: u8,
        outcome: &mut Outcome<F>,
    ) {
        let payload = frame.bytes().get(gre_at..gre_at + gre_len).unwrap_or_default();
        let gre = match gre::Gre::parse(payload) {
            Ok(gre) => gre,
            Err(_) => return self.shared.drop_one(Drop::GreBadHeader),
        };
        let Some(served) = self.tables.sa(sa) else { return self.shared.drop_one(Drop::UnknownSpi) };
        let slot = match served.owner {
            Owner::Tunnel(slot) => {
                let Some(tunnel) = self.tables.tunnel(slot) else { return self.refuse_selector(sa) };
                if (tunnel.local, tunnel.remote) != (destination, source) {
                    return self.refuse_selector(sa);
                }
                if tunnel.key != gre.key {
                    return self.shared.drop_at_tunnel(Drop::GreUnknownTunnel, slot);
                }
                slot
            }
            Owner::Policy(_) => {
                if !may_carry(served, &mirrored(source, destination, protocol::GRE, &[]), false) {
                    return self.refuse_selector(sa);
                }
                let found = self.tables.gre.find(lookup_key(destination, source, gre.key));
                let Some((slot, tunnel)) = found.and_then(|slot| Some((slot, self.tables.tunnel(slot)?)))
                else {
                    return self.shared.drop_one(Drop::GreUnknownTunnel);
                };
                // A tunnel with a profile takes packets of its own SA only.
                if matches!(tunnel.protection, Protection::Profile(_)) {
                    return self.refuse_selector(sa);
                }
                slot
            }
        };
        let end = frame.bytes().len() - gre_at - gre_len;
        self.decapsulate(frame, gre_at, end, gre, slot, tos, outcome);
    }

    /// Any other protocol in transport mode: the IP header is rebuilt, and the packet routed.
    fn finish_transport(&mut self, mut frame: F, opened: &Opened, outcome: &mut Outcome<F>) {
        let Some(sa) = self.tables.sa(opened.sa) else { return self.shared.drop_one(Drop::UnknownSpi) };
        let bytes = frame.bytes();
        let within = opened.payload_at..opened.payload_at + opened.payload_len;
        let payload = bytes.get(within.clone()).unwrap_or_default();
        let Some((link, rest)) = bytes.split_first_chunk::<{ ethernet::LEN_BYTES }>() else { return };
        let Some(header) = rest.first_chunk::<{ ipv4::LEN_BYTES }>() else { return };
        let view = Ipv4::parse(header).map(|ip| (ip.source(), ip.destination()));
        let Some((outer, destination)) = view else { return };
        let source = sa.original_source(outer);
        let key = mirrored(source, destination, opened.next_header, payload);
        if !may_carry(sa, &key, false) {
            return self.refuse_selector(opened.sa);
        }
        let natted = sa.udp;
        let (link, mut header) = (*link, *header);
        let total = (ipv4::LEN_BYTES + opened.payload_len) as u16;
        ipv4::set_payload(&mut header, opened.next_header, total);
        if natted {
            ipv4::set_source(&mut header, source);
            if let Some(segment) = frame.bytes_mut().get_mut(within) {
                natted::mend(segment, opened.next_header, source, destination);
            }
        }
        let bytes = frame.bytes();
        let end = bytes.len() - opened.payload_at - opened.payload_len;
        let rebuilt = frame.trim_back(end) && frame.trim_front(opened.payload_at);
        let room = frame.prepend(ethernet::LEN_BYTES + ipv4::LEN_BYTES);
        let (true, Some((front, back))) = (rebuilt, room.map(|room| room.split_at_mut(ethernet::LEN_BYTES)))
        else {
            return self.shared.drop_one(Drop::NoHeadroom);
        };
        front.copy_from_slice(&link);
        back.copy_from_slice(&header);
        if frame.trim_front(ethernet::LEN_BYTES) {
            let from = Twin::tap(opened.port);
            self.push_v4(Passenger { frame, from, origin: Origin::Wire }, outcome);
        }
    }

    /// An IPv4 packet in tunnel mode: GRE to one of our tunnels is taken out of it, anything else is routed.
    fn finish_inner_v4(&mut self, mut frame: F, opened: &Opened, outcome: &mut Outcome<F>) {
        let outer_tos = outer_tos(frame.bytes());
        let inner =
            frame.bytes().get(opened.payload_at..opened.payload_at + opened.payload_len).unwrap_or_default();
        let Ok(header) = Ipv4::checked(inner) else { return self.refuse_malformed(opened.sa) };
        let (source, destination, tos) = (header.source(), header.destination(), header.tos());
        let (header_len, total) = (header.len_bytes(), header.total_len_bytes());
        // Ports of a later fragment are in none of its bytes.
        let later_fragment = header.fragment_word() & ipv4::OFFSET_MASK != 0;
        let l4 = inner.get(header_len..).unwrap_or_default();
        let key = mirrored(source, destination, header.protocol(), if later_fragment { &[] } else { l4 });
        let is_gre = header.protocol() == protocol::GRE && !header.is_fragment() && !header.has_options();
        let Some(sa) = self.tables.sa(opened.sa) else { return self.shared.drop_one(Drop::UnknownSpi) };
        if !may_carry(sa, &key, later_fragment) {
            return self.refuse_selector(opened.sa);
        }
        let for_tunnel = is_gre
            && (matches!(sa.owner, Owner::Tunnel(_))
                || gre::Gre::parse(l4).is_ok_and(|gre| {
                    self.tables.gre.find(lookup_key(destination, source, gre.key)).is_some()
                }));
        if for_tunnel {
            let gre_at = opened.payload_at + ipv4::LEN_BYTES;
            let gre_len = total - ipv4::LEN_BYTES;
            // The passenger sees congestion of either header (RFC 6040 section 4.2).
            let tos = combined_ecn(tos, outer_tos);
            return self.enter_tunnel(frame, opened.sa, gre_at, gre_len, source, destination, tos, outcome);
        }
        // The SA of a tunnel carries that tunnel and nothing else.
        if matches!(sa.owner, Owner::Tunnel(_)) {
            return self.refuse_selector(opened.sa);
        }
        if crate::receive::is_martian(source, destination) {
            return self.shared.drop_one(Drop::Martian);
        }
        let end = frame.bytes().len() - opened.payload_at - total;
        if !(frame.trim_back(end) && frame.trim_front(opened.payload_at)) {
            return self.shared.drop_one(Drop::Truncated);
        }
        if !crate::decapsulate::take_over_ecn(&mut frame, outer_tos) {
            return self.shared.drop_one(Drop::BadHeader);
        }
        let from = Twin::tap(opened.port);
        self.push_v4(Passenger { frame, from, origin: Origin::Decapsulated }, outcome);
    }

    /// An IPv6 packet in tunnel mode.
    fn finish_inner_v6(&mut self, mut frame: F, opened: &Opened, outcome: &mut Outcome<F>) {
        let outer_tos = outer_tos(frame.bytes());
        let inner =
            frame.bytes().get(opened.payload_at..opened.payload_at + opened.payload_len).unwrap_or_default();
        let Ok(header) = Ipv6::checked(inner) else { return self.refuse_malformed(opened.sa) };
        let total = header.total_len_bytes();
        let next_header = header.next_header();
        let segment: Option<&[u8; 4]> =
            inner.get(ipv6::LEN_BYTES..).and_then(|segment| segment.first_chunk());
        let ports = segment.map(|[s0, s1, d0, d1]| [[*d0, *d1], [*s0, *s1]]);
        let ends = [header.destination(), header.source()];
        let fits = self.tables.sa(opened.sa).is_some_and(|sa| {
            matches!(sa.owner, Owner::Policy(_)) && sa.selectors.carry_v6(ends, next_header, ports)
        });
        if !fits {
            return self.refuse_selector(opened.sa);
        }
        let end = frame.bytes().len() - opened.payload_at - total;
        if !(frame.trim_back(end) && frame.trim_front(opened.payload_at)) {
            return self.shared.drop_one(Drop::Truncated);
        }
        if !crate::decapsulate::take_over_ecn(&mut frame, outer_tos) {
            return self.shared.drop_one(Drop::BadHeader);
        }
        let from = Twin::tap(opened.port);
        self.push_v6(Passenger { frame, from, origin: Origin::Decapsulated }, outcome);
    }
}

/// The first authentic packet of an SA, and at most once a second that there is traffic.
#[cold]
fn tell_traffic<F>(sa: &mut Sa, now_unix_ms: u64, outcome: &mut Outcome<F>) {
    if sa.runtime.first_sent.load(Relaxed) == 0 && outcome.raise(sa.event(EventKind::FirstPacket)) {
        sa.runtime.first_sent.store(1, Relaxed);
    }
    if outcome.raise(sa.event(EventKind::Traffic)) {
        sa.traffic_told_ms = now_unix_ms;
    }
}

#[cold]
fn count(cell: &std::sync::atomic::AtomicU64) {
    cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
}

/// The five-tuple of a received packet as selectors are written: from our side.
fn mirrored(source: [u8; 4], destination: [u8; 4], protocol: u8, segment: &[u8]) -> FiveTuple {
    let has_ports = matches!(protocol, protocol::TCP | protocol::UDP);
    let ports = segment.first_chunk::<4>().filter(|_| has_ports).copied().unwrap_or_default();
    FiveTuple {
        protocol,
        reserved: [0; 3],
        source: destination,
        destination: source,
        source_port: [ports[2], ports[3]],
        destination_port: [ports[0], ports[1]],
    }
}

/// [`Selectors::carry`](crate::selectors::Selectors::carry), out of the way of tunnels with an SA of their own, which need not
/// ask.
#[inline(never)]
fn may_carry(sa: &Sa, key: &FiveTuple, later_fragment: bool) -> bool {
    sa.selectors.carry(key, later_fragment)
}

fn outer_tos(frame: &[u8]) -> u8 {
    frame.get(ethernet::LEN_BYTES..).and_then(Ipv4::parse).map_or(0, Ipv4::tos)
}

/// The carrier's type of service with "congestion experienced" of the outer header.
fn combined_ecn(tos: u8, outer_tos: u8) -> u8 {
    if outer_tos & 3 == 3 && tos & 3 != 0 { tos | 3 } else { tos }
}
