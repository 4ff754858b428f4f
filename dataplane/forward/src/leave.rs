//! Out by a port: packets in transit, packets of the host, and the question whether they must be protected.

use packet::header::ethernet::{self, Ethernet, ethertype};
use packet::header::icmp::IcmpError;
use packet::header::icmpv6::Icmpv6Error;
use packet::header::ipv4::{self, Ipv4};
use packet::header::ipv6::{self, Ipv6};
use packet::header::protocol;
use packet::header::udp::{self, Udp};
use packet::{Classifier, FiveTuple, Frame, NO_MATCH, RouteLookup, Twin};
use shm::Drop;

use crate::adjacency::Adjacency;
use crate::outcome::Outcome;
use crate::pipeline::{Pipeline, reason};
use crate::plan::Exit;
use crate::work::{Classifying, LIST_CAPACITY, Origin, Passenger};

impl<F: Frame, R: RouteLookup, C: Classifier> Pipeline<F, R, C> {
    /// An IPv4 packet to a next hop. `row` is the exit of the packet before it: packets come in rows.
    #[inline]
    pub(crate) fn leave_v4(
        &mut self,
        passenger: Passenger<F>,
        next_hop: u32,
        row: &mut Option<(u32, Exit)>,
        outcome: &mut Outcome<F>,
    ) {
        let exit = match row {
            Some((known, exit)) if *known == next_hop => exit,
            _ => match Exit::by_next_hop(&self.tables, next_hop, ethertype::IPV4) {
                Ok(exit) => &mut row.insert((next_hop, exit)).1,
                Err(Drop::NoNeighbour) => return self.glean(passenger, outcome),
                Err(reason) => return self.shared.drop_one(reason),
            },
        };
        self.leave_by(passenger, exit, outcome);
    }

    /// An IPv6 packet to a next hop.
    pub(crate) fn leave_v6(&mut self, passenger: Passenger<F>, next_hop: u32, outcome: &mut Outcome<F>) {
        let exit = match Exit::by_next_hop(&self.tables, next_hop, ethertype::IPV6) {
            Ok(exit) => exit,
            Err(Drop::NoNeighbour) => return self.glean(passenger, outcome),
            Err(reason) => return self.shared.drop_one(reason),
        };
        if exit.has_crypto_map && !self.may_leave_v6(exit.port, passenger.frame.bytes()) {
            return self.shared.drop_one(Drop::Unprotected);
        }
        if passenger.frame.bytes().len() > exit.mtu_bytes {
            let error = Icmpv6Error::PacketTooBig(exit.mtu_bytes as u32);
            return self.refuse_v6(&passenger, error, Drop::TooBig, outcome);
        }
        self.count_forwarded(passenger.origin);
        self.send(passenger.frame, &exit, outcome);
    }

    /// A frame that the host sent by a port: as it is, but for what the crypto map says.
    pub(crate) fn send_host_frame(&mut self, mut frame: F, port: u32, outcome: &mut Outcome<F>) {
        let Some(out) = self.tables.port(port).filter(|out| out.enabled) else {
            return self.shared.drop_one(Drop::PortDown);
        };
        let (mtu_bytes, has_crypto_map) = (out.mtu_bytes, out.has_crypto_map);
        let Some((link, packet)) = frame.bytes().split_first_chunk::<{ ethernet::LEN_BYTES }>() else {
            return self.shared.drop_one(Drop::Truncated);
        };
        let ethertype = Ethernet::parse(link).map_or(0, Ethernet::ethertype);
        if ethertype == ethertype::IPV6 && has_crypto_map && !self.may_leave_v6(port, packet) {
            return self.shared.drop_one(Drop::Unprotected);
        }
        if ethertype != ethertype::IPV4 {
            return self.transmit(port, frame, outcome);
        }
        let header = match Ipv4::checked(packet) {
            Ok(header) => header,
            Err(malformed) => return self.shared.drop_one(reason(malformed)),
        };
        if self.is_ike(header, packet) {
            return self.transmit(port, frame, outcome);
        }
        let excess = packet.len() - header.total_len_bytes();
        let exit = Exit { port, ethernet: *link, mtu_bytes, has_crypto_map };
        if frame.trim_back(excess) && frame.trim_front(ethernet::LEN_BYTES) {
            let passenger = Passenger { frame, from: Twin::tap(port), origin: Origin::Host };
            self.leave_by(passenger, &exit, outcome);
        }
    }

    /// Our own IKE: it makes the SAs, so it can't wait for one.
    fn is_ike(&self, header: Ipv4<'_>, packet: &[u8]) -> bool {
        let segment = packet.get(header.len_bytes()..).unwrap_or_default();
        header.protocol() == protocol::UDP
            && !header.is_fragment()
            && Udp::parse(segment)
                .is_some_and(|header| matches!(header.source_port(), udp::IKE_PORT | udp::NAT_PORT))
            && self.tables.route_one_v4(header.source()) == Adjacency::Local
    }

    /// Whether an IPv6 packet may leave by a port with a crypto map: neighbour discovery always, others if no rule asks
    /// for protection, which IPv6 does not get here.
    fn may_leave_v6(&self, port: u32, packet: &[u8]) -> bool {
        let Some(map) = self.tables.crypto_map(port) else { return false };
        let Some(header) = Ipv6::parse(packet) else { return false };
        is_neighbour_discovery(header, packet)
            || !map.covers_v6(&header.source(), &header.destination(), header.next_header())
    }

    /// An IPv4 packet whose port and link-layer header are known. What most packets are leaves at once.
    #[inline(always)]
    fn leave_by(&mut self, passenger: Passenger<F>, exit: &Exit, outcome: &mut Outcome<F>) {
        let bytes = passenger.frame.bytes();
        let Some(header) = Ipv4::parse(bytes) else {
            return self.shared.drop_one(Drop::Truncated);
        };
        let is_plain = header.protocol() != protocol::GRE && !exit.has_crypto_map;
        if is_plain && bytes.len() <= exit.mtu_bytes {
            self.count_forwarded(passenger.origin);
            self.send(passenger.frame, exit, outcome);
        } else {
            self.leave_with_care(passenger, exit, outcome);
        }
    }

    /// GRE, packets that a crypto map judges, and packets that are too large.
    #[inline(never)]
    fn leave_with_care(&mut self, passenger: Passenger<F>, exit: &Exit, outcome: &mut Outcome<F>) {
        let Some(header) = Ipv4::parse(passenger.frame.bytes()) else {
            return self.shared.drop_one(Drop::Truncated);
        };
        // GRE of a protected tunnel is made here and leaves sealed. What looks like it comes from elsewhere.
        if header.protocol() == protocol::GRE
            && self.tables.is_protected_pair(header.source(), header.destination())
        {
            return self.shared.drop_one(Drop::GreInClear);
        }
        if !exit.has_crypto_map {
            return self.leave_in_clear(passenger, exit, outcome);
        }
        let key = five_tuple(header, passenger.frame.bytes());
        let Passenger { frame, from, origin } = passenger;
        if self.lists.classifying.len() == LIST_CAPACITY {
            self.classify_all(outcome);
        }
        self.lists.classifying.push(Classifying { frame, key, exit: *exit, from, origin });
    }

    /// Classifies what leaves by ports with crypto maps, packets in a row to one port with one lookup.
    pub(crate) fn classify_all(&mut self, outcome: &mut Outcome<F>) {
        if self.lists.classifying.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.lists.classifying);
        let mut keys = [FiveTuple::default(); LIST_CAPACITY];
        let mut verdicts = [NO_MATCH; LIST_CAPACITY];
        for (key, packet) in keys.iter_mut().zip(&batch) {
            *key = packet.key;
        }
        let mut at = 0;
        for row in batch.chunk_by(|one, next| one.exit.port == next.exit.port) {
            let range = at..at + row.len();
            at = range.end;
            let port = row.first().map_or(0, |packet| packet.exit.port);
            if let (Some(map), Some(keys), Some(verdicts)) =
                (self.tables.crypto_map(port), keys.get(range.clone()), verdicts.get_mut(range))
            {
                map.compiled.classify(keys, verdicts);
            }
        }
        for (packet, verdict) in batch.drain(..).zip(verdicts) {
            match verdict.checked_sub(1) {
                Some(policy) => self.protect(packet, policy, outcome),
                None => self.leave_unmatched(packet, outcome),
            }
        }
        self.lists.classifying = batch;
    }

    /// No rule asks for protection; but there must have been rules to ask, and a fragment may hide what they look at.
    fn leave_unmatched(&mut self, packet: Classifying<F>, outcome: &mut Outcome<F>) {
        let Some(map) = self.tables.crypto_map(packet.exit.port) else {
            return self.shared.drop_one(Drop::Unprotected);
        };
        let is_fragment = Ipv4::parse(packet.frame.bytes()).is_some_and(Ipv4::is_fragment);
        if is_fragment && map.may_cover_fragment(&packet.key) {
            return self.shared.drop_one(Drop::Fragment);
        }
        let Classifying { frame, exit, from, origin, .. } = packet;
        self.leave_in_clear(Passenger { frame, from, origin }, &exit, outcome);
    }

    #[inline]
    fn leave_in_clear(&mut self, passenger: Passenger<F>, exit: &Exit, outcome: &mut Outcome<F>) {
        self.count_forwarded(passenger.origin);
        if passenger.frame.bytes().len() <= exit.mtu_bytes {
            return self.send(passenger.frame, exit, outcome);
        }
        self.leave_in_fragments(passenger, exit, outcome);
    }

    /// A packet that is larger than its port's MTU.
    #[cold]
    fn leave_in_fragments(&mut self, passenger: Passenger<F>, exit: &Exit, outcome: &mut Outcome<F>) {
        if Ipv4::parse(passenger.frame.bytes()).is_some_and(Ipv4::dont_fragment) {
            let error = IcmpError::FragmentationNeeded(exit.mtu_bytes as u16);
            return self.refuse_v4(&passenger, error, Drop::TooBig, outcome);
        }
        let mut frame = passenger.frame;
        match frame.prepend(ethernet::LEN_BYTES) {
            Some(room) => room.copy_from_slice(&exit.ethernet),
            None => return self.shared.drop_one(Drop::NoHeadroom),
        }
        self.transmit_fragments(frame, exit.port, exit.mtu_bytes, outcome);
    }

    /// Puts the link-layer header in front and the frame into the port's list.
    #[inline]
    fn send(&mut self, mut frame: F, exit: &Exit, outcome: &mut Outcome<F>) {
        match frame.prepend(ethernet::LEN_BYTES) {
            Some(room) => room.copy_from_slice(&exit.ethernet),
            None => return self.shared.drop_one(Drop::NoHeadroom),
        }
        self.transmit(exit.port, frame, outcome);
    }
}

/// Neighbour discovery (RFC 4861): without it nothing on the link can be reached, so no rule is asked about it.
pub(crate) fn is_neighbour_discovery(header: Ipv6<'_>, packet: &[u8]) -> bool {
    header.next_header() == protocol::ICMPV6 && matches!(packet.get(ipv6::LEN_BYTES), Some(133..=137))
}

/// What rules see of a packet. A fragment other than the first has no ports.
pub(crate) fn five_tuple(header: Ipv4<'_>, packet: &[u8]) -> FiveTuple {
    let has_ports = matches!(header.protocol(), protocol::TCP | protocol::UDP)
        && header.fragment_word() & ipv4::OFFSET_MASK == 0;
    let segment = packet.get(header.len_bytes()..).unwrap_or_default();
    let ports = segment.first_chunk::<4>().filter(|_| has_ports).copied().unwrap_or_default();
    FiveTuple {
        protocol: header.protocol(),
        reserved: [0; 3],
        source: header.source(),
        destination: header.destination(),
        source_port: [ports[0], ports[1]],
        destination_port: [ports[2], ports[3]],
    }
}
