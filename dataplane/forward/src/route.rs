//! Routing of passengers: one bulk lookup for each IP version, then each by its adjacency.

use packet::header::ipv4::{self, Ipv4};
use packet::header::ipv6::{self, Ipv6};
use packet::header::udp::{self, NatPayload, Udp};
use packet::header::{gre, icmp::IcmpError, icmpv6::Icmpv6Error, protocol};
use packet::{Classifier, Frame, MISS, RouteLookup, Twin};
use shm::{Counter, Drop};

use crate::adjacency::Adjacency;
use crate::outcome::Outcome;
use crate::pipeline::Pipeline;
use crate::plan::Exit;
use crate::work::{LIST_CAPACITY, Origin, Passenger};

impl<F: Frame, R: RouteLookup, C: Classifier> Pipeline<F, R, C> {
    /// Works off both lists of passengers.
    pub(crate) fn route_all(&mut self, outcome: &mut Outcome<F>) {
        if !self.lists.v4.is_empty() {
            let mut batch = std::mem::take(&mut self.lists.v4);
            self.route_batch_v4(&mut batch, outcome);
            self.lists.v4 = batch;
        }
        if !self.lists.v6.is_empty() {
            let mut batch = std::mem::take(&mut self.lists.v6);
            self.route_batch_v6(&mut batch, outcome);
            self.lists.v6 = batch;
        }
    }

    fn route_batch_v4(&mut self, batch: &mut Vec<Passenger<F>>, outcome: &mut Outcome<F>) {
        let mut destinations = [0u32; LIST_CAPACITY];
        let mut adjacencies = [MISS; LIST_CAPACITY];
        for (destination, passenger) in destinations.iter_mut().zip(batch.iter()) {
            let header = Ipv4::parse(passenger.frame.bytes());
            *destination = header.map_or(0, |header| u32::from_be_bytes(header.destination()));
        }
        let len = batch.len().min(LIST_CAPACITY);
        if let (Some(destinations), Some(adjacencies)) = (destinations.get(..len), adjacencies.get_mut(..len))
        {
            self.tables.route_v4(destinations, adjacencies);
        }
        self.touch_tunnels(&adjacencies, len);
        let mut row = None;
        for (passenger, adjacency) in batch.drain(..).zip(&adjacencies) {
            self.forward_v4(passenger, Adjacency::from_number(*adjacency), &mut row, outcome);
        }
    }

    fn route_batch_v6(&mut self, batch: &mut Vec<Passenger<F>>, outcome: &mut Outcome<F>) {
        let mut destinations = [[0u8; 16]; LIST_CAPACITY];
        let mut adjacencies = [MISS; LIST_CAPACITY];
        for (destination, passenger) in destinations.iter_mut().zip(batch.iter()) {
            *destination = Ipv6::parse(passenger.frame.bytes()).map_or([0; 16], Ipv6::destination);
        }
        let len = batch.len().min(LIST_CAPACITY);
        if let (Some(destinations), Some(adjacencies)) = (destinations.get(..len), adjacencies.get_mut(..len))
        {
            self.tables.route_v6(destinations, adjacencies);
        }
        self.touch_tunnels(&adjacencies, len);
        for (passenger, adjacency) in batch.drain(..).zip(&adjacencies) {
            self.forward_v6(passenger, Adjacency::from_number(*adjacency), outcome);
        }
    }

    /// Reads a word of each tunnel and SA that the burst will need: their cache misses overlap here instead of following
    /// one another.
    #[inline]
    fn touch_tunnels(&self, adjacencies: &[u64; LIST_CAPACITY], len: usize) {
        let mut sum = 0;
        let mut last = MISS;
        for adjacency in adjacencies.iter().take(len) {
            // Packets of one flow come in rows.
            if *adjacency == last {
                continue;
            }
            last = *adjacency;
            if let Adjacency::Tunnel(slot) = Adjacency::from_number(*adjacency)
                && let Some(tunnel) = self.tables.tunnel(slot)
            {
                sum ^= tunnel.plan.touch();
                if let crate::plan::Action::Seal(sa) = tunnel.plan.action
                    && let Some(sa) = self.tables.sa(sa)
                {
                    sum ^= sa.touch();
                }
            }
        }
        std::hint::black_box(sum);
    }

    #[inline]
    fn forward_v4(
        &mut self,
        mut passenger: Passenger<F>,
        adjacency: Adjacency,
        row: &mut Option<(u32, Exit)>,
        outcome: &mut Outcome<F>,
    ) {
        let Some(header) = Ipv4::parse(passenger.frame.bytes()) else {
            return self.shared.drop_one(Drop::Truncated);
        };
        let multicast = header.destination()[0] >= 224;
        if adjacency == Adjacency::Local || multicast || header.has_options() {
            return self.deliver_v4(passenger, adjacency, outcome);
        }
        let transit = passenger.origin != Origin::Local;
        if transit {
            if header.ttl() <= 1 {
                return self.refuse_v4(&passenger, IcmpError::TimeExceeded, Drop::TtlExpired, outcome);
            }
            if let Adjacency::Tunnel(_) | Adjacency::NextHop(_) = adjacency
                && let Some(header) = passenger.frame.bytes_mut().first_chunk_mut::<{ ipv4::LEN_BYTES }>()
            {
                ipv4::decrement_ttl(header);
            }
        }
        match adjacency {
            Adjacency::Tunnel(slot) if passenger.from == Twin::tun(slot) && transit => {
                self.shared.drop_at_tunnel(Drop::Recursion, slot);
            }
            Adjacency::Tunnel(slot) => self.encapsulate_v4(passenger, slot, outcome),
            Adjacency::NextHop(index) => self.leave_v4(passenger, index, row, outcome),
            Adjacency::Glean(_) => self.glean(passenger, outcome),
            Adjacency::Local | Adjacency::Miss => {
                self.refuse_v4(&passenger, IcmpError::NetworkUnreachable, Drop::NoRoute, outcome);
            }
            Adjacency::Unreachable => {
                self.refuse_v4(&passenger, IcmpError::NetworkUnreachable, Drop::Blackhole, outcome);
            }
            Adjacency::Blackhole => self.shared.drop_one(Drop::Blackhole),
        }
    }

    #[inline]
    fn forward_v6(&mut self, mut passenger: Passenger<F>, adjacency: Adjacency, outcome: &mut Outcome<F>) {
        let Some(header) = Ipv6::parse(passenger.frame.bytes()) else {
            return self.shared.drop_one(Drop::Truncated);
        };
        let destination = header.destination();
        let stays = ipv6::is_multicast(&destination)
            || ipv6::is_link_local(&destination)
            || ipv6::is_link_local(&header.source())
            || header.next_header() == protocol::HOP_BY_HOP;
        if adjacency == Adjacency::Local || stays {
            return if passenger.origin == Origin::Local {
                self.shared.drop_one(Drop::NoRoute);
            } else {
                self.punt(passenger, outcome);
            };
        }
        let transit = passenger.origin != Origin::Local;
        if transit {
            if header.hop_limit() <= 1 {
                return self.refuse_v6(&passenger, Icmpv6Error::TimeExceeded, Drop::TtlExpired, outcome);
            }
            if let Adjacency::Tunnel(_) | Adjacency::NextHop(_) = adjacency
                && let Some(hop_limit) = passenger.frame.bytes_mut().get_mut(7)
            {
                *hop_limit -= 1;
            }
        }
        match adjacency {
            Adjacency::Tunnel(slot) if passenger.from == Twin::tun(slot) && transit => {
                self.shared.drop_at_tunnel(Drop::Recursion, slot);
            }
            Adjacency::Tunnel(slot) => self.encapsulate_v6(passenger, slot, outcome),
            Adjacency::NextHop(index) => self.leave_v6(passenger, index, outcome),
            Adjacency::Glean(_) => self.glean(passenger, outcome),
            Adjacency::Local | Adjacency::Miss => {
                self.refuse_v6(&passenger, Icmpv6Error::NoRoute, Drop::NoRoute, outcome);
            }
            Adjacency::Unreachable => {
                self.refuse_v6(&passenger, Icmpv6Error::NoRoute, Drop::Blackhole, outcome);
            }
            Adjacency::Blackhole => self.shared.drop_one(Drop::Blackhole),
        }
    }

    /// For this machine, a group, or with options: the host's. ESP and GRE for us that no SA and no tunnel took are
    /// dropped by name.
    #[cold]
    fn deliver_v4(&mut self, passenger: Passenger<F>, adjacency: Adjacency, outcome: &mut Outcome<F>) {
        if passenger.origin == Origin::Local {
            return self.shared.drop_one(Drop::NoRoute);
        }
        if adjacency == Adjacency::Local {
            let bytes = passenger.frame.bytes();
            let Some(header) = Ipv4::parse(bytes) else { return self.shared.drop_one(Drop::Truncated) };
            if let Some(reason) = transport_refusal(header, bytes.get(ipv4::LEN_BYTES..).unwrap_or_default())
            {
                return self.shared.drop_one(reason);
            }
        }
        self.punt(passenger, outcome);
    }

    /// The host resolves the neighbour: it routes the packet as we would, and asks for the address.
    #[cold]
    pub(crate) fn glean(&mut self, passenger: Passenger<F>, outcome: &mut Outcome<F>) {
        match passenger.origin {
            Origin::Local | Origin::Host => self.shared.drop_one(Drop::NoNeighbour),
            Origin::Wire | Origin::Decapsulated => self.punt(passenger, outcome),
        }
    }

    /// Drops, counts, and tells the source.
    #[cold]
    pub(crate) fn refuse_v4(
        &mut self,
        passenger: &Passenger<F>,
        error: IcmpError,
        reason: Drop,
        outcome: &mut Outcome<F>,
    ) {
        self.shared.drop_one(reason);
        self.answer_v4(&passenger.frame, error, passenger.from, passenger.origin, outcome);
    }

    /// Drops, counts, and tells the source.
    #[cold]
    pub(crate) fn refuse_v6(
        &mut self,
        passenger: &Passenger<F>,
        error: Icmpv6Error,
        reason: Drop,
        outcome: &mut Outcome<F>,
    ) {
        self.shared.drop_one(reason);
        self.answer_v6(&passenger.frame, error, passenger.from, passenger.origin, outcome);
    }

    /// Counts a packet that goes from one port or tunnel to another.
    #[inline]
    pub(crate) fn count_forwarded(&self, origin: Origin) {
        if matches!(origin, Origin::Wire | Origin::Decapsulated) {
            self.shared.worker().count(Counter::Forwarded, 1);
        }
    }
}

/// Why a transport packet for us, which nothing took, is not the host's either.
fn transport_refusal(header: Ipv4<'_>, payload: &[u8]) -> Option<Drop> {
    match header.protocol() {
        protocol::ESP | protocol::GRE if header.is_fragment() => Some(Drop::Fragment),
        protocol::ESP if payload.len() < esp::framing::LEAST_BYTES => Some(Drop::EspMalformed),
        protocol::ESP => Some(Drop::UnknownSpi),
        protocol::GRE => Some(match gre::Gre::parse(payload) {
            Ok(_) => Drop::GreUnknownTunnel,
            Err(_) => Drop::GreBadHeader,
        }),
        protocol::UDP if !header.is_fragment() => {
            let udp = Udp::parse(payload).filter(|udp| udp.destination_port() == udp::NAT_PORT)?;
            let content = payload.get(udp::LEN_BYTES..).unwrap_or_default();
            match udp::nat_payload(content) {
                NatPayload::Ike | NatPayload::Keepalive => None,
                NatPayload::Esp if udp.len_bytes() != payload.len() => Some(Drop::BadHeader),
                NatPayload::Esp => Some(Drop::UnknownSpi),
            }
        }
        _ => None,
    }
}
