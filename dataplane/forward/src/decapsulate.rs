//! Out of GRE: the passenger, checked and handed to routing.

use packet::header::ethernet::{self, ethertype};
use packet::header::gre::Gre;
use packet::header::ipv4::{self, Ipv4};
use packet::header::ipv6::{self, Ipv6};
use packet::header::{protocol, tcp};
use packet::{Classifier, Frame, RouteLookup, Twin};
use shm::{Counter, Drop};

use crate::outcome::Outcome;
use crate::pipeline::{Pipeline, reason};
use crate::receive::is_martian;
use crate::tunnel::Protection;
use crate::work::{Origin, Passenger};

impl<F: Frame, R: RouteLookup, C: Classifier> Pipeline<F, R, C> {
    /// GRE that came in clear: only a tunnel without protection takes it, and only if no crypto map asks for more.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "the GRE header's fields, in registers")]
    pub(crate) fn decapsulate_clear(
        &mut self,
        frame: F,
        port: u32,
        gre_at: usize,
        gre: Gre,
        slot: u32,
        tos: u8,
        outcome: &mut Outcome<F>,
    ) {
        match self.tables.tunnel(slot) {
            Some(tunnel) if tunnel.protection == Protection::None => {
                let packet = frame.bytes().get(ethernet::LEN_BYTES..).unwrap_or_default();
                if let Some(reason) = self.clear_refusal(port, ethertype::IPV4, packet) {
                    return self.shared.drop_at_tunnel(reason, slot);
                }
                self.decapsulate(frame, gre_at, 0, gre, slot, tos, outcome);
            }
            Some(_) => self.shared.drop_at_tunnel(Drop::GreInClear, slot),
            None => self.shared.drop_one(Drop::GreUnknownTunnel),
        }
    }

    /// Takes headers and trailer off, checks the passenger, takes over ECN, clamps the MSS and puts it into the list of
    /// passengers. `behind` bytes follow the GRE payload; `carrier_tos` is that of the header around GRE.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "the GRE header's fields, in registers")]
    pub(crate) fn decapsulate(
        &mut self,
        mut frame: F,
        gre_at: usize,
        behind: usize,
        gre: Gre,
        slot: u32,
        carrier_tos: u8,
        outcome: &mut Outcome<F>,
    ) {
        let Some(tunnel) = self.tables.tunnel(slot) else {
            return self.shared.drop_one(Drop::GreUnknownTunnel);
        };
        if !tunnel.enabled {
            return self.shared.drop_at_tunnel(Drop::TunnelDown, slot);
        }
        let (mss_v4, mss_v6) = (tunnel.mss_v4_bytes, tunnel.mss_v6_bytes);
        if !(frame.trim_back(behind) && frame.trim_front(gre_at + gre.len_bytes)) {
            return self.shared.drop_at_tunnel(Drop::Truncated, slot);
        }
        let checked = match gre.protocol_type {
            ethertype::IPV4 => check_v4(&mut frame, carrier_tos, mss_v4),
            ethertype::IPV6 => check_v6(&mut frame, carrier_tos, mss_v6),
            _ => Err(Drop::UnsupportedProtocol),
        };
        match checked {
            Ok(clamped) => {
                self.shared.count(Counter::MssClamped, u64::from(clamped));
                if let Some(counters) = self.shared.tunnel(slot) {
                    counters.count_rx(1, frame.bytes().len() as u64);
                }
                self.shared.worker().count(Counter::GreDecapsulated, 1);
                let passenger = Passenger { frame, from: Twin::tun(slot), origin: Origin::Decapsulated };
                if gre.protocol_type == ethertype::IPV4 {
                    self.push_v4(passenger, outcome);
                } else {
                    self.push_v6(passenger, outcome);
                }
            }
            Err(reason) => self.shared.drop_at_tunnel(reason, slot),
        }
    }
}

/// Checks an IPv4 passenger and trims what is behind it; whether its MSS was lowered.
#[inline]
fn check_v4<F: Frame>(frame: &mut F, carrier_tos: u8, mss_bytes: u16) -> Result<bool, Drop> {
    let bytes = frame.bytes();
    let header = Ipv4::checked(bytes).map_err(reason)?;
    if is_martian(header.source(), header.destination()) {
        return Err(Drop::Martian);
    }
    let (len, protocol) = (header.len_bytes(), header.protocol());
    let later_fragment = header.fragment_word() & ipv4::OFFSET_MASK != 0;
    let excess = bytes.len() - header.total_len_bytes();
    if (excess != 0 && !frame.trim_back(excess)) || !take_over_ecn(frame, carrier_tos) {
        return Err(Drop::BadHeader);
    }
    if protocol != protocol::TCP || mss_bytes == 0 || later_fragment {
        return Ok(false);
    }
    Ok(frame.bytes_mut().get_mut(len..).is_some_and(|segment| tcp::clamp_mss(segment, mss_bytes)))
}

/// Checks an IPv6 passenger and trims what is behind it; whether its MSS was lowered.
#[inline]
fn check_v6<F: Frame>(frame: &mut F, carrier_tos: u8, mss_bytes: u16) -> Result<bool, Drop> {
    let bytes = frame.bytes();
    let header = Ipv6::checked(bytes).map_err(reason)?;
    if ipv6::is_multicast(&header.source()) {
        return Err(Drop::Martian);
    }
    let next_header = header.next_header();
    let excess = bytes.len() - header.total_len_bytes();
    if !frame.trim_back(excess) || !take_over_ecn(frame, carrier_tos) {
        return Err(Drop::BadHeader);
    }
    if next_header != protocol::TCP || mss_bytes == 0 {
        return Ok(false);
    }
    let segment = frame.bytes_mut().get_mut(ipv6::LEN_BYTES..);
    Ok(segment.is_some_and(|segment| tcp::clamp_mss(segment, mss_bytes)))
}

/// Marks the packet when the header around it says "congestion experienced"; `false` when it does not take part in ECN
/// and must be dropped (RFC 6040 section 4.2).
#[inline]
pub(crate) fn take_over_ecn<F: Frame>(frame: &mut F, outer_tos: u8) -> bool {
    if outer_tos & 3 != 3 { true } else { mark(frame) }
}

#[cold]
fn mark<F: Frame>(frame: &mut F) -> bool {
    let bytes = frame.bytes_mut();
    if bytes.first().is_some_and(|first| first >> 4 == 4) {
        let Some(header) = bytes.first_chunk_mut::<{ ipv4::LEN_BYTES }>() else { return false };
        let tos = header[1];
        if tos & 3 == 0 {
            return false;
        }
        ipv4::set_tos(header, tos | 3);
        return true;
    }
    let Some(header) = bytes.first_chunk_mut::<{ ipv6::LEN_BYTES }>() else { return false };
    let class = Ipv6::parse(header).map_or(0, Ipv6::traffic_class);
    if class & 3 == 0 {
        return false;
    }
    ipv6::set_traffic_class(header, class | 3);
    true
}
