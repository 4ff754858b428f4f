//! From the wire: who is each frame for?

use packet::header::ethernet::{self, Ethernet, ethertype};
use packet::header::ipv4::{self, Ipv4};
use packet::header::ipv6::{self, Ipv6};
use packet::header::udp::{self, NatPayload, Udp};
use packet::header::{gre, protocol};
use packet::{Classifier, Frame, RouteLookup, Twin};
use shm::Drop;

use crate::outcome::Outcome;
use crate::pipeline::{Pipeline, reason};
use crate::work::{Origin, Passenger};

/// How many frames ahead the first bytes are asked for.
const PREFETCH_FRAMES: usize = 4;

impl<F: Frame, R: RouteLookup, C: Classifier> Pipeline<F, R, C> {
    /// Sorts the arrivals of a port.
    pub(crate) fn receive(&mut self, port: u32, outcome: &mut Outcome<F>) {
        let mut arrivals = std::mem::take(&mut self.lists.arrivals);
        let Some(mac) = self.tables.port(port).filter(|port| port.enabled).map(|port| port.mac) else {
            self.shared.worker().count_drops(Drop::PortDown, arrivals.len() as u64);
            arrivals.clear();
            self.lists.arrivals = arrivals;
            return;
        };
        let (packets, mut bytes) = (arrivals.len() as u64, 0);
        let mut frames = arrivals.drain(..);
        for frame in frames.as_slice().iter().take(PREFETCH_FRAMES) {
            frame.prefetch();
        }
        while let Some(frame) = frames.next() {
            if let Some(later) = frames.as_slice().get(PREFETCH_FRAMES - 1) {
                later.prefetch();
            }
            bytes += frame.bytes().len() as u64;
            self.receive_one(frame, port, mac, outcome);
        }
        drop(frames);
        self.lists.arrivals = arrivals;
        if let Some(counters) = self.shared.port(port) {
            counters.count_rx(packets, bytes);
        }
    }

    #[inline]
    fn receive_one(&mut self, frame: F, port: u32, mac: ethernet::Mac, outcome: &mut Outcome<F>) {
        let Some(link) = Ethernet::parse(frame.bytes()) else {
            return self.shared.drop_one(Drop::Truncated);
        };
        if link.destination() != mac {
            // Groups are the host's: ARP, neighbour discovery, hellos of routing protocols.
            return if link.is_group() {
                self.receive_group(frame, port, outcome);
            } else {
                self.shared.drop_one(Drop::NotForUs);
            };
        }
        match link.ethertype() {
            ethertype::IPV4 => self.receive_v4(frame, port, outcome),
            ethertype::IPV6 => self.receive_v6(frame, port, outcome),
            _ => self.punt_frame(frame, Twin::tap(port), outcome),
        }
    }

    fn receive_group(&mut self, frame: F, port: u32, outcome: &mut Outcome<F>) {
        let refusal = frame
            .bytes()
            .split_at_checked(ethernet::LEN_BYTES)
            .and_then(|(link, packet)| self.clear_refusal(port, Ethernet::parse(link)?.ethertype(), packet));
        match refusal {
            Some(reason) => self.shared.drop_one(reason),
            None => self.punt_frame(frame, Twin::tap(port), outcome),
        }
    }

    #[inline]
    fn receive_v4(&mut self, mut frame: F, port: u32, outcome: &mut Outcome<F>) {
        let packet = frame.bytes().get(ethernet::LEN_BYTES..).unwrap_or_default();
        let header = match Ipv4::checked(packet) {
            Ok(header) => header,
            Err(malformed) => return self.shared.drop_one(reason(malformed)),
        };
        let (protocol, destination) = (header.protocol(), header.destination());
        if is_martian(header.source(), destination) {
            return self.shared.drop_one(Drop::Martian);
        }
        let (has_options, is_fragment) = (header.has_options(), header.is_fragment());
        let excess = packet.len() - header.total_len_bytes();
        if excess != 0 && !frame.trim_back(excess) {
            return self.shared.drop_one(Drop::Truncated);
        }
        if has_options {
            return self.receive_options(frame, port, protocol, destination, outcome);
        }
        if !is_fragment {
            let esp_at = match protocol {
                protocol::ESP => Some(ethernet::LEN_BYTES + ipv4::LEN_BYTES),
                protocol::UDP => esp_in_udp(frame.bytes()),
                protocol::GRE => return self.receive_gre(frame, port, outcome),
                _ => None,
            };
            if let Some(esp_at) = esp_at {
                match self.take_esp(frame, port, esp_at) {
                    None => return,
                    Some(back) => frame = back,
                }
            }
        }
        self.pass_on(frame, port, outcome);
    }

    /// Transport packets with options are not handled; all others go to the host, which handles options.
    #[cold]
    fn receive_options(
        &mut self,
        frame: F,
        port: u32,
        protocol: u8,
        destination: [u8; 4],
        outcome: &mut Outcome<F>,
    ) {
        let for_us = self.tables.route_one_v4(destination) == crate::Adjacency::Local;
        let packet = frame.bytes().get(ethernet::LEN_BYTES..).unwrap_or_default();
        if for_us && matches!(protocol, protocol::ESP | protocol::GRE) {
            self.shared.drop_one(Drop::IpOptions);
        } else if let Some(reason) = self.clear_refusal(port, ethertype::IPV4, packet) {
            self.shared.drop_one(reason);
        } else {
            self.punt_frame(frame, Twin::tap(port), outcome);
        }
    }

    fn receive_v6(&mut self, mut frame: F, port: u32, outcome: &mut Outcome<F>) {
        let packet = frame.bytes().get(ethernet::LEN_BYTES..).unwrap_or_default();
        let header = match Ipv6::checked(packet) {
            Ok(header) => header,
            Err(malformed) => return self.shared.drop_one(reason(malformed)),
        };
        if ipv6::is_multicast(&header.source()) {
            return self.shared.drop_one(Drop::Martian);
        }
        let excess = packet.len() - header.total_len_bytes();
        if let Some(reason) = self.clear_refusal(port, ethertype::IPV6, packet) {
            return self.shared.drop_one(reason);
        }
        if frame.trim_back(excess) && frame.trim_front(ethernet::LEN_BYTES) {
            self.push_v6(Passenger { frame, from: Twin::tap(port), origin: Origin::Wire }, outcome);
        }
    }

    /// GRE that did not come out of an SA: for a tunnel of ours it must be allowed to come in clear.
    fn receive_gre(&mut self, frame: F, port: u32, outcome: &mut Outcome<F>) {
        let packet = frame.bytes().get(ethernet::LEN_BYTES..).unwrap_or_default();
        let Some(header) = Ipv4::parse(packet) else { return self.shared.drop_one(Drop::Truncated) };
        let (source, destination, tos) = (header.source(), header.destination(), header.tos());
        let gre_at = ethernet::LEN_BYTES + ipv4::LEN_BYTES;
        match gre::Gre::parse(packet.get(ipv4::LEN_BYTES..).unwrap_or_default()) {
            Ok(gre) => match self.tables.gre.find(crate::tunnel::lookup_key(destination, source, gre.key)) {
                Some(tunnel) => {
                    self.decapsulate_clear(frame, port, gre_at, gre, tunnel, tos, outcome);
                }
                None => self.pass_on(frame, port, outcome),
            },
            // Whether it was for us, and what is wrong with it, is told where its route is known.
            Err(_) => self.pass_on(frame, port, outcome),
        }
    }

    /// An IPv4 frame that no SA and no tunnel took: a packet to be routed.
    #[inline]
    pub(crate) fn pass_on(&mut self, mut frame: F, port: u32, outcome: &mut Outcome<F>) {
        let packet = frame.bytes().get(ethernet::LEN_BYTES..).unwrap_or_default();
        if let Some(reason) = self.clear_refusal(port, ethertype::IPV4, packet) {
            return self.shared.drop_one(reason);
        }
        if frame.trim_front(ethernet::LEN_BYTES) {
            self.push_v4(Passenger { frame, from: Twin::tap(port), origin: Origin::Wire }, outcome);
        }
    }
}

/// Where ESP begins in a frame with UDP, if it does (RFC 3948).
#[inline]
fn esp_in_udp(frame: &[u8]) -> Option<usize> {
    let segment = frame.get(ethernet::LEN_BYTES + ipv4::LEN_BYTES..)?;
    let header = Udp::parse(segment)?;
    if header.destination_port() != udp::NAT_PORT || header.len_bytes() != segment.len() {
        return None;
    }
    (udp::nat_payload(segment.get(udp::LEN_BYTES..)?) == NatPayload::Esp)
        .then_some(ethernet::LEN_BYTES + ipv4::LEN_BYTES + udp::LEN_BYTES)
}

/// Whether a unicast packet has an address that can't be on a wire (RFC 1812 section 5.3.7): a source of "this network"
/// (but for a host that asks for its address), loopback, multicast or class E; a loopback destination.
#[inline]
pub(crate) fn is_martian(source: [u8; 4], destination: [u8; 4]) -> bool {
    (MARTIANS[usize::from(source[0])] & MARTIAN_SOURCE)
        | (MARTIANS[usize::from(destination[0])] & MARTIAN_DESTINATION)
        != 0
}

const MARTIAN_SOURCE: u8 = 1;
const MARTIAN_DESTINATION: u8 = 2;

/// By the first byte of an address.
static MARTIANS: [u8; 256] = {
    let mut table = [0; 256];
    table[0] = MARTIAN_SOURCE | MARTIAN_DESTINATION;
    table[127] = MARTIAN_SOURCE | MARTIAN_DESTINATION;
    let mut first = 224;
    while first < 256 {
        table[first] = MARTIAN_SOURCE;
        first += 1;
    }
    table
};
