//! In by a port with a crypto map: what its rules protect on the way out must not come in clear (RFC 4301 section 5.2).

use packet::header::ethernet::ethertype;
use packet::header::ipv4::Ipv4;
use packet::header::ipv6::Ipv6;
use packet::header::protocol;
use packet::header::udp::{self, Udp};
use packet::{Classifier, FiveTuple, Frame, NO_MATCH, RouteLookup};
use shm::Drop;

use crate::adjacency::Adjacency;
use crate::leave::{five_tuple, is_neighbour_discovery};
use crate::pipeline::Pipeline;

impl<F: Frame, R: RouteLookup, C: Classifier> Pipeline<F, R, C> {
    /// Why a packet that came in clear by this port must not pass, if so. Most ports have no crypto map.
    #[inline]
    pub(crate) fn clear_refusal(&self, port: u32, ethertype: u16, packet: &[u8]) -> Option<Drop> {
        let guarded = self.tables.port(port).is_some_and(|port| port.has_crypto_map);
        if guarded { self.judge_clear(port, ethertype, packet) } else { None }
    }

    #[inline(never)]
    fn judge_clear(&self, port: u32, ethertype: u16, packet: &[u8]) -> Option<Drop> {
        match ethertype {
            ethertype::IPV4 => self.judge_clear_v4(port, packet),
            ethertype::IPV6 => self.judge_clear_v6(port, packet),
            _ => None,
        }
    }

    fn judge_clear_v4(&self, port: u32, packet: &[u8]) -> Option<Drop> {
        let header = Ipv4::parse(packet)?;
        if self.is_key_exchange_or_esp(header, packet) {
            return None;
        }
        // The rules are on their way.
        let Some(map) = self.tables.crypto_map(port) else { return Some(Drop::UnprotectedInbound) };
        let key = mirrored(five_tuple(header, packet));
        let mut verdict = [NO_MATCH];
        map.compiled.classify(&[key], &mut verdict);
        if verdict != [NO_MATCH] {
            return Some(Drop::UnprotectedInbound);
        }
        (header.is_fragment() && map.may_cover_fragment(&key)).then_some(Drop::Fragment)
    }

    /// What makes SAs, and what is protected but bears no SPI of ours: that is told by another name.
    fn is_key_exchange_or_esp(&self, header: Ipv4<'_>, packet: &[u8]) -> bool {
        let candidate = match header.protocol() {
            protocol::ESP => true,
            protocol::UDP if !header.is_fragment() => {
                let segment = packet.get(header.len_bytes()..).unwrap_or_default();
                Udp::parse(segment)
                    .is_some_and(|udp| matches!(udp.destination_port(), udp::IKE_PORT | udp::NAT_PORT))
            }
            _ => false,
        };
        candidate && self.tables.route_one_v4(header.destination()) == Adjacency::Local
    }

    fn judge_clear_v6(&self, port: u32, packet: &[u8]) -> Option<Drop> {
        let header = Ipv6::parse(packet)?;
        if is_neighbour_discovery(header, packet) {
            return None;
        }
        let protects = match self.tables.crypto_map(port) {
            Some(map) => map.covers_v6(&header.destination(), &header.source(), header.next_header()),
            None => true,
        };
        protects.then_some(Drop::UnprotectedInbound)
    }
}

/// The packet as the answer to it would look: rules are written for the way out.
fn mirrored(key: FiveTuple) -> FiveTuple {
    FiveTuple {
        source: key.destination,
        destination: key.source,
        source_port: key.destination_port,
        destination_port: key.source_port,
        ..key
    }
}
