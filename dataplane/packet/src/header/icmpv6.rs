//! ICMPv6 errors (RFC 4443).

use super::{ipv6, protocol};
use crate::checksum;

/// Length of the header of an error, in bytes.
pub const LEN_BYTES: usize = 8;
/// Most bytes of an ICMPv6 error with its IP header: the minimum MTU (RFC 4443 section 2.4 (c)).
pub const MAX_ERROR_BYTES: usize = 1280;

/// An error about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv6Error {
    /// Hop limit exceeded in transit.
    TimeExceeded,
    /// Packet too big; the next hop's MTU in bytes.
    PacketTooBig(u32),
    /// No route to destination.
    NoRoute,
}

impl Icmpv6Error {
    fn words(self) -> [u8; LEN_BYTES] {
        match self {
            Self::TimeExceeded => [3, 0, 0, 0, 0, 0, 0, 0],
            Self::PacketTooBig(mtu) => {
                let [a, b, c, d] = mtu.to_be_bytes();
                [2, 0, 0, 0, a, b, c, d]
            }
            Self::NoRoute => [1, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// Whether an error may be sent about this packet (RFC 4443 section 2.4 (e)): not about an ICMPv6 error or redirect, nor
/// to an address that is not one host's. Packet too big answers multicast as well.
pub fn may_answer(packet: &[u8], error: Icmpv6Error) -> bool {
    let Some(header) = ipv6::Ipv6::parse(packet) else { return false };
    let source = header.source();
    if ipv6::is_multicast(&source) || source == [0; 16] {
        return false;
    }
    if ipv6::is_multicast(&header.destination()) && !matches!(error, Icmpv6Error::PacketTooBig(_)) {
        return false;
    }
    if header.next_header() != protocol::ICMPV6 {
        return true;
    }
    // Types below 128 are errors; 137 is a redirect.
    matches!(packet.get(ipv6::LEN_BYTES), Some(128..=136 | 138..))
}

/// Writes an error about `packet` from `source` into `out`, IP header included, and returns its length in bytes.
pub fn write_error(
    out: &mut [u8; MAX_ERROR_BYTES],
    error: Icmpv6Error,
    packet: &[u8],
    source: &[u8; 16],
) -> Option<usize> {
    let destination = ipv6::Ipv6::parse(packet)?.source();
    let quoted = packet.get(..packet.len().min(MAX_ERROR_BYTES - ipv6::LEN_BYTES - LEN_BYTES))?;
    let payload_len = LEN_BYTES + quoted.len();
    let (ip, rest) = out.split_first_chunk_mut::<{ ipv6::LEN_BYTES }>()?;
    *ip = ipv6::header(0xc0, payload_len as u16, protocol::ICMPV6, 64, source, &destination);
    let icmp = rest.get_mut(..payload_len)?;
    icmp[..LEN_BYTES].copy_from_slice(&error.words());
    icmp[LEN_BYTES..].copy_from_slice(quoted);
    let pseudo = checksum::pseudo_v6(source, &destination, payload_len as u32, protocol::ICMPV6);
    let sum = !checksum::fold(pseudo + checksum::sum(icmp));
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(ipv6::LEN_BYTES + payload_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
        [&ipv6::header(0, payload.len() as u16, next_header, 1, &[0x20; 16], &[0x21; 16])[..], payload]
            .concat()
    }

    #[test]
    fn an_error_quotes_the_packet_within_the_minimum_mtu() {
        let original = packet(17, &[5; 1400]);
        let mut out = [0; MAX_ERROR_BYTES];
        let len = write_error(&mut out, Icmpv6Error::PacketTooBig(1442), &original, &[0x22; 16]).unwrap();
        assert_eq!(len, 1280);
        let header = ipv6::Ipv6::checked(&out[..len]).unwrap();
        assert_eq!((header.source(), header.destination()), ([0x22; 16], [0x20; 16]));
        let pseudo = checksum::pseudo_v6(&[0x22; 16], &[0x20; 16], 1240, 58);
        assert_eq!(checksum::fold(pseudo + checksum::sum(&out[40..len])), 0xffff);
        assert_eq!(out[40..48], [2, 0, out[42], out[43], 0, 0, 5, 162]);
    }

    #[test]
    fn nothing_is_said_about_errors_and_groups() {
        let too_big = Icmpv6Error::PacketTooBig(1280);
        assert!(may_answer(&packet(17, &[]), Icmpv6Error::NoRoute));
        assert!(may_answer(&packet(58, &[128]), too_big));
        assert!(!may_answer(&packet(58, &[1]), too_big));
        assert!(!may_answer(&packet(58, &[137]), too_big));
        assert!(!may_answer(&packet(58, &[]), too_big));
        let mut group = packet(17, &[]);
        group[24] = 0xff;
        assert!(!may_answer(&group, Icmpv6Error::TimeExceeded));
        assert!(may_answer(&group, too_big));
        group[8] = 0xff;
        assert!(!may_answer(&group, too_big));
    }
}
